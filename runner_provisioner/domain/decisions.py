"""One pure function that decides what a lease does next.

It takes what was seen and gives the new lease plus what to do. It is level-triggered: deciding twice on the same sight
is harmless, and there is one path for success, failure, cancellation and interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType

from runner_provisioner.domain.leases import (
    ASKED_AGAIN,
    RETRIED,
    Action,
    CreatePod,
    Decision,
    EndPod,
    GiveConfig,
    Lease,
    Limits,
    Observation,
    Outcome,
    Phase,
    PodRef,
    RemoveRunner,
    Unknown,
    counted,
    drain,
    made_here,
    ours,
    ref,
    refused,
    runs_in,
)
from runner_provisioner.domain.money import cost
from runner_provisioner.domain.pods import Pod, PodState
from runner_provisioner.domain.runners import Runner, RunnerState

_ROUNDED = Decimal("0.001")  # USD: what is charged and what is left are rounded, each in its way
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def _seniority(pod: Pod) -> tuple[datetime, str]:
    return (pod.created_at or _EARLIEST, pod.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """An observation sorted by what it means for the lease."""

    live: tuple[Pod, ...]  # ours and countable, oldest first
    foreign: tuple[Pod, ...]  # countable, of another start
    dead: tuple[Pod, ...]  # to be ended, whoever made them
    known: bool

    @classmethod
    def of(cls, lease: Lease, seen: Observation) -> _Sight:
        if isinstance(seen.pods, Unknown):
            return cls(live=(), foreign=(), dead=(), known=False)
        countable = sorted((pod for pod in seen.pods if counted(lease, pod)), key=_seniority)
        return cls(
            live=tuple(pod for pod in countable if ours(lease, pod)),
            foreign=tuple(pod for pod in countable if not ours(lease, pod)),
            dead=tuple(pod for pod in seen.pods if not counted(lease, pod)),
            known=True,
        )


def decide(lease: Lease, seen: Observation, *, now: datetime, limits: Limits) -> Decision:
    """What to remember and what to do after this look."""
    sight = _Sight.of(lease, seen)
    mine = {ref(pod) for pod in (*sight.live, *sight.dead) if made_here(lease, pod)}
    answered = bool(mine - lease.made)  # a pod of an unanswered create has turned up
    lease = replace(lease, made=lease.made | mine, unsure=lease.unsure and not answered)
    return TRANSITIONS[lease.phase](lease, seen, sight, now, limits)


def _end(lease: Lease, pods: tuple[Pod, ...], *more: Action) -> Decision:
    refs = [ref(pod) for pod in pods]
    return Decision(lease=replace(lease, ended=lease.ended | set(refs)), actions=(*map(_end_pod, refs), *more))


def _end_pod(pod: PodRef) -> EndPod:
    return EndPod(pod=pod)


def _late(lease: Lease, now: datetime) -> bool:
    return lease.deadline is not None and now >= lease.deadline


def _requested(lease: Lease, seen: Observation, sight: _Sight, now: datetime, limits: Limits) -> Decision:
    if _late(lease, now):
        return Decision(lease=drain(lease, Outcome.BOOT_TIMEOUT))
    if not sight.known or isinstance(seen.runner, Unknown):
        return Decision(lease=lease)
    if sight.foreign:
        return Decision(lease=drain(lease, Outcome.CONFLICT))
    if sight.live:
        return _adopt(lease, seen, sight, now)
    if sight.dead:
        return _end(replace(lease, quiet_since=None), sight.dead)
    if seen.runner is not None:
        # A registration of our name would make the new pod's fail: it never replaces one.
        remove = (RemoveRunner(runner=seen.runner.id),) if not seen.runner.online else ()
        return Decision(lease=replace(lease, quiet_since=None), actions=remove)
    return _place(lease, now, limits)


def _place(lease: Lease, now: datetime, limits: Limits) -> Decision:
    if lease.unsure:
        # An earlier create may still have rented a pod that the list does not show yet.
        lease = _quiet(lease, now)
        if not _quiet_long_enough(lease, now, limits):
            return Decision(lease=lease)
    if lease.rung >= lease.rungs:
        return Decision(lease=drain(lease, Outcome.NO_CAPACITY))
    placed = replace(
        lease, phase=Phase.PLACING, placed_at=now, unsure=True, pod=None, quiet_since=None, settled=False, uptime=None
    )
    return Decision(lease=placed, actions=(CreatePod(rung=lease.rung),))


def _adopt(lease: Lease, seen: Observation, sight: _Sight, now: datetime) -> Decision:
    kept = sight.live[0]
    lease = replace(
        lease,
        phase=Phase.BOOTING,
        pod=ref(kept),
        placed_at=now if lease.phase is Phase.REQUESTED else lease.placed_at,
        crowded_at=now if len(sight.live) > 1 else None,
        # Beside a pod of another process our own create may still turn out to have rented one.
        unsure=lease.unsure and not made_here(lease, kept),
        quiet_since=None,
        uptime=kept.uptime_seconds,
    )
    if _on_shunned_machine(lease, seen, kept):
        return Decision(lease=drain(lease, Outcome.SHUNNED))
    return _end(lease, _surplus(lease, sight))


def _surplus(lease: Lease, sight: _Sight) -> tuple[Pod, ...]:
    """What each creator ends: its own pods but the one kept, and what is dead already."""
    return (*(pod for pod in sight.live[1:] if made_here(lease, pod)), *sight.dead)


def _outranked(sight: _Sight) -> bool:
    """Whether an older pod of another start bears the name."""
    if not sight.foreign:
        return False
    return not sight.live or _seniority(sight.foreign[0]) < _seniority(sight.live[0])


def _quiet(lease: Lease, now: datetime) -> Lease:
    """Note a look that saw nothing; a row of them that seems to begin later than now (a clock set back) begins now."""
    return replace(lease, quiet_since=min(lease.quiet_since or now, now))


def _quiet_long_enough(lease: Lease, now: datetime, limits: Limits) -> bool:
    return lease.quiet_since is not None and now - lease.quiet_since >= limits.settle


def _vanished(lease: Lease, now: datetime, limits: Limits) -> tuple[Lease, bool]:
    """Note that nothing was seen; True once it was seen twice, `settle` apart."""
    lease = _quiet(lease, now)
    return lease, _quiet_long_enough(lease, now, limits)


def _placing(lease: Lease, seen: Observation, sight: _Sight, now: datetime, limits: Limits) -> Decision:
    if _late(lease, now):
        return Decision(lease=drain(lease, Outcome.BOOT_TIMEOUT))
    if not sight.known:
        return Decision(lease=lease)
    if _outranked(sight):
        return Decision(lease=drain(lease, Outcome.CONFLICT))
    if sight.live:
        return _adopt(lease, seen, sight, now)
    if any(ref(pod) in lease.made for pod in sight.dead if ref(pod) not in lease.ended):
        return _end(drain(lease, _reason(sight.dead)), sight.dead)
    lease, absent = _vanished(lease, now, limits)
    if not absent:
        return _end(lease, sight.dead)
    if lease.unsure:
        # Seen absent twice: the unanswered create rented nothing.
        return Decision(lease=refused(lease, next_rung=lease.rung + 1))
    return Decision(lease=drain(lease, Outcome.LOST))


def _reason(dead: tuple[Pod, ...]) -> Outcome:
    if any(pod.state is PodState.INTERRUPTED for pod in dead):
        return Outcome.INTERRUPTED
    return Outcome.LOST


def _serving(lease: Lease, seen: Observation, sight: _Sight, now: datetime, limits: Limits) -> Decision:
    """BOOTING, READY and BUSY: a pod is kept, and the runner says which of the three it is."""
    if sight.live and ref(sight.live[0]) != lease.pod:
        # A sibling with the same state file has gone on to another pod meanwhile: its time begins anew.
        lease = replace(lease, pod=ref(sight.live[0]), placed_at=now, settled=False, uptime=None)
    if sight.live and isinstance(seen.runner, Runner) and not runs_in(seen.runner, sight.live[0]):
        # A younger pod, surplus by now, took the name at GitHub: the one that is kept has no runner yet.
        seen = replace(seen, runner=None)
        lease = replace(lease, phase=Phase.BOOTING, crowded_at=now, settled=False)
    overdue = _overdue(lease, seen, sight, now, limits)
    if overdue:
        return Decision(lease=drain(lease, overdue))
    if not sight.known:
        return Decision(lease=_by_runner(lease, seen))
    if _outranked(sight):
        return Decision(lease=drain(lease, Outcome.CONFLICT))
    if not sight.live:
        return _pod_missing(lease, seen, sight, now, limits)
    kept = sight.live[0]
    unwanted = _unwanted(lease, seen, kept, now)
    if unwanted:
        return Decision(lease=drain(lease, unwanted))
    lease = replace(lease, quiet_since=None, uptime=kept.uptime_seconds)
    lease = _settle(_by_runner(lease, seen), seen, sight, now, limits)
    if lease.phase is Phase.DRAINING:
        return Decision(lease=lease)
    return _end(lease, _surplus(lease, sight), *_give(lease, seen, kept))


def _give(lease: Lease, seen: Observation, kept: Pod) -> tuple[Action, ...]:
    """Asked in every pass without a runner that is online: the pod knows whether it waits for a configuration."""
    online = isinstance(seen.runner, Unknown) or (seen.runner is not None and seen.runner.online)
    ready = kept.state is PodState.RUNNING and kept.ssh is not None
    return (GiveConfig(pod=kept),) if lease.hands_over and ready and not online else ()


def _overdue(lease: Lease, seen: Observation, sight: _Sight, now: datetime, limits: Limits) -> Outcome | None:
    age = now - (lease.placed_at or now)
    if age >= limits.lifetime:
        return Outcome.EXPIRED
    online = isinstance(seen.runner, Runner) and seen.runner.online
    # After a look that failed or took long the pod may be another by now: a sibling's that serves.
    slow = age >= limits.boot and sight.known and seen.fresh and not isinstance(seen.runner, Unknown)
    if lease.phase is Phase.BOOTING and not online and (slow or _late(lease, now)):
        return Outcome.BOOT_TIMEOUT
    return None


def _unwanted(lease: Lease, seen: Observation, kept: Pod, now: datetime) -> Outcome | None:
    """Why our pod cannot be the one that serves."""
    if _too_dear(lease, kept, now):
        return Outcome.OVERPRICED
    if _on_shunned_machine(lease, seen, kept):
        return Outcome.SHUNNED
    return Outcome.LOST if _restarted(lease, kept) else None


def _too_dear(lease: Lease, pod: Pod, now: datetime) -> bool:
    """Whether its real price breaks a cap: that of its offer, or for a pod of another process what is left for it."""
    if pod.price is None:
        return False
    theirs = pod.tags is not None or ref(pod) in lease.siblings | lease.inherited
    if made_here(lease, pod) or not theirs:
        return lease.cap is not None and pod.price > lease.cap
    if lease.max_price is not None and pod.price > lease.max_price:
        return True
    ends = pod.tags.expires_at if pod.tags else None
    if lease.worth is None or ends is None:
        return False
    return cost(pod.price, (ends - now).total_seconds()) > lease.worth + _ROUNDED


def _restarted(lease: Lease, pod: Pod) -> bool:
    """A container that began anew registers nothing: its start script only ends it."""
    return lease.uptime is not None and pod.uptime_seconds is not None and pod.uptime_seconds < lease.uptime


def _on_shunned_machine(lease: Lease, seen: Observation, pod: Pod) -> bool:
    """Whether our new pod landed on a machine that is kept out; one whose runner is there already has passed."""
    fresh = lease.phase is Phase.BOOTING and seen.runner is None and made_here(lease, pod)
    return fresh and pod.machine is not None and (pod.provider, pod.machine) in lease.shunned


def _settle(lease: Lease, seen: Observation, sight: _Sight, now: datetime, limits: Limits) -> Lease:
    if len(sight.live) > 1:
        # The runner that is seen may be that of a pod about to be ended.
        return replace(lease, crowded_at=now, settled=False)
    since = lease.crowded_at or lease.placed_at
    if lease.settled or not seen.fresh or since is None or now - since < limits.settle:
        return lease
    return replace(lease, settled=True)


def _by_runner(lease: Lease, seen: Observation) -> Lease:
    runner = seen.runner
    if isinstance(runner, Unknown):
        return lease
    if runner is None:
        # A runner that was working and is gone has done its one job.
        return drain(lease, Outcome.COMPLETED) if lease.phase is Phase.BUSY else lease
    if runner.state is RunnerState.BUSY:
        return replace(lease, phase=Phase.BUSY)
    if runner.state is RunnerState.IDLE and lease.phase is not Phase.BUSY:
        return replace(lease, phase=Phase.READY)
    if lease.phase is Phase.READY and not lease.settled:
        # It was another pod's, which has been ended meanwhile.
        return replace(lease, phase=Phase.BOOTING)
    return lease


def _pod_missing(lease: Lease, seen: Observation, sight: _Sight, now: datetime, limits: Limits) -> Decision:
    if any(ref(pod) == lease.pod for pod in sight.dead):
        return _end(drain(lease, _reason(sight.dead)), sight.dead)
    if lease.phase is Phase.BUSY and seen.runner is None:
        return _end(drain(lease, Outcome.COMPLETED), sight.dead)
    lease, absent = _vanished(lease, now, limits)
    return _end(drain(lease, _why_vanished(lease, seen)) if absent else lease, sight.dead)


def _why_vanished(lease: Lease, seen: Observation) -> Outcome:
    """Of a pod that is gone though nobody of ours ended it.

    An interrupted pod is stopped, not deleted (docs.runpod.io): one that is gone before a runner of its name was ever
    registered has ended itself, as the start script does when the gate fails. It cannot have done so when its container
    was never seen to run, since the script waits to be seen before it ends its pod: then its host is gone, or somebody
    elsewhere has stopped the run, and that `stop` also ends what is rented next.
    """
    ran = lease.phase is Phase.BOOTING and lease.uptime is not None
    if ran and seen.runner is None and lease.pod not in lease.ended:
        return Outcome.GATE_FAILED
    return Outcome.LOST


def _draining(lease: Lease, seen: Observation, sight: _Sight, now: datetime, limits: Limits) -> Decision:
    if not sight.known:
        # Money first: what is known by id is ended even when nothing can be seen.
        blind = sorted(lease.known - seen.gone)
        ended = replace(lease, ended=lease.ended | set(blind), quiet_since=None)
        return Decision(lease=ended, actions=(*map(_end_pod, blind), *(() if _again(lease, now) else _remove(seen))))
    again = _again(lease, now)
    siblings = _siblings(lease, sight) if again else ()
    doomed = (*(pod for pod in sight.live if pod not in siblings), *sight.dead)
    # In a look that took long the runner may be that of a sibling's pod which was not there yet.
    runner_is_theirs = bool(sight.foreign or siblings) or (again and not seen.fresh)
    removal = () if runner_is_theirs else _remove(seen)
    if doomed or removal or (isinstance(seen.runner, Unknown) and not runner_is_theirs):
        return _end(replace(lease, quiet_since=None), doomed, *removal)
    lease = _quiet(lease, now)
    if not _proven(lease, seen) and not _quiet_long_enough(lease, now, limits):
        return Decision(lease=lease)
    return Decision(lease=_after_drain(lease, now))


def _again(lease: Lease, now: datetime) -> bool:
    """Whether the next offer follows."""
    return lease.outcome in RETRIED and _following(lease) < lease.rungs and not _late(lease, now)


def _following(lease: Lease) -> int:
    """The rung after this one, which is this one again while another machine may be behind it."""
    same = lease.outcome is Outcome.SHUNNED and lease.landed < ASKED_AGAIN
    return lease.rung if same else lease.rung + 1


def _siblings(lease: Lease, sight: _Sight) -> tuple[Pod, ...]:
    """What another process with the same state file has rented meanwhile: it is adopted instead of a next offer."""
    return tuple(pod for pod in sight.live if ref(pod) not in lease.known)


def _remove(seen: Observation) -> tuple[Action, ...]:
    return (RemoveRunner(runner=seen.runner.id),) if isinstance(seen.runner, Runner) else ()


def _proven(lease: Lease, seen: Observation) -> bool:
    """Whether nothing can be left without a second look: every pod that can exist was read by id and is gone."""
    if lease.unsure:
        return False
    if not lease.known:
        return lease.nonce is not None  # nothing was ever made
    return lease.known <= seen.gone


def _after_drain(lease: Lease, now: datetime) -> Lease:
    if not _again(lease, now):
        return replace(lease, phase=Phase.RELEASED, pod=None, unsure=False)
    following = _following(lease)
    return replace(refused(replace(lease, landed=lease.landed + 1), next_rung=following), outcome=None, pod=None)


def _released(lease: Lease, _seen: Observation, _sight: _Sight, _now: datetime, _limits: Limits) -> Decision:
    return Decision(lease=lease)


_Rule = Callable[[Lease, Observation, _Sight, datetime, Limits], Decision]

TRANSITIONS: Mapping[Phase, _Rule] = MappingProxyType(
    {
        Phase.REQUESTED: _requested,
        Phase.PLACING: _placing,
        Phase.BOOTING: _serving,
        Phase.READY: _serving,
        Phase.BUSY: _serving,
        Phase.DRAINING: _draining,
        Phase.RELEASED: _released,
    }
)
