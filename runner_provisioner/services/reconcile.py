"""The pass: observe, decide, save, act. It takes no input, has one path and does not retry: the next pass does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from runner_provisioner.domain.decisions import decide
from runner_provisioner.domain.leases import (
    RETRIED,
    CreatePod,
    Decision,
    Lease,
    Limits,
    Observation,
    Phase,
    PodRef,
    Unknown,
    ref,
)
from runner_provisioner.domain.pods import PodState
from runner_provisioner.domain.runners import Runner
from runner_provisioner.errors import ApiRetired, AuthenticationFailed, LeftBehind, PermissionDenied, RemoteError
from runner_provisioner.ports import Clock, LeaseStore
from runner_provisioner.services.act import Hands
from runner_provisioner.services.observe import Looks
from runner_provisioner.services.quarantine import Warden

REFUSED_PATIENCE = 10.0  # seconds: a credential that was refused will be refused again
_HASTY = frozenset({Phase.DRAINING, Phase.PLACING})  # what follows is due at once
_SERVING = frozenset({Phase.BOOTING, Phase.READY, Phase.BUSY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Polls:
    """Seconds between two looks at a pod that boots, at a runner whose pod runs, and how long an end may take."""

    booting: float = 5.0
    running: float = 1.0
    patience: float = 120.0


class _SteadyTime:
    """The wall time when it was made and, from then on, seconds that never jump.

    A wall clock that is set while a lease waits would make two looks of the same second seem far apart, and a clock
    that is set back would make the wait endless.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.now()
        self._began = clock.monotonic()

    def now(self) -> datetime:
        """Aware, in UTC."""
        return self._since + timedelta(seconds=self._clock.monotonic() - self._began)


class Reconciler:
    """Moves one lease along, pass by pass, until a condition holds."""

    def __init__(
        self,
        lease: Lease,
        *,
        lookout: Looks,
        hands: Hands,
        store: LeaseStore,
        clock: Clock,
        limits: Limits,
        polls: Polls,
        warden: Warden | None = None,
    ) -> None:
        self.lease = lease
        self._warden = warden
        self.seen: Observation | None = None
        self._lookout = lookout
        self._hands = hands
        self.store = store
        self._clock = clock
        self._time = _SteadyTime(clock)
        self._limits = limits
        self._polls = polls
        self._looked_at: datetime | None = None
        self._still_true = False
        self._hasty = False
        self._draining_since: datetime | None = None
        self._runs: PodRef | None = None
        self._failed_looks = 0

    async def run_until(self, done: Callable[[Lease], bool]) -> Lease:
        """Run passes until `done`.

        Raises LeftBehind when a drain has lasted longer than `Polls.patience`: what is left is for clean-up.
        """
        while True:
            await self.run_once()
            if done(self.lease):
                return self.lease
            self._check_patience()
            await self._clock.sleep(self._pause())

    def _check_patience(self) -> None:
        now = self._time.now()
        if self.lease.phase is not Phase.DRAINING:
            self._draining_since = None
            return
        self._draining_since = self._draining_since or now
        lasted = (now - self._draining_since).total_seconds()
        refusal = _refusal(self.seen)
        if lasted < (REFUSED_PATIENCE if refusal else self._polls.patience + self._limits.settle.total_seconds()):
            return
        what = left_behind(self.lease, self.seen)
        if refusal is not None and not what:
            raise refusal
        trouble = refusal or next(_failures(self.seen), None) or next(iter(self._hands.troubles.values()), None)
        because = f" ({cause_of(trouble)})" if trouble else ""
        things = ", ".join(what) or _unseen(self.lease, self.seen)
        raise LeftBehind(
            f"still there: {things}{because}: run cleanup, or look at the provider", what=what or (things,)
        ) from trouble

    async def run_once(self) -> Lease:
        """One pass. Raises StoreError when the lease could not be saved; then nothing was done."""
        return await self.advance(await self._look())

    async def advance(self, seen: Observation) -> Lease:
        """The rest of a pass, after a look of this moment; see `run_once`."""
        before = self.lease
        self._still_true = False  # a create that is cut off half-way makes it untrue
        decision = decide(before, seen, now=self._time.now(), limits=self._limits)
        self.seen = seen
        if self._warden is not None:
            self._warden.look(seen)
        self._note_failures(before, decision.lease)
        self._tell_running()
        self.lease = self.store.save(decision.lease)
        if _creates(decision) and self.lease.siblings - before.siblings:
            # Another process with the same state file has rented since this look, maybe where it was not looked at.
            self.lease = self.store.save(replace(before, siblings=self.lease.siblings, ended=self.lease.ended))
            return self.lease
        self._tell_phase(before, self.lease)
        if decision.actions:
            acted = await self._hands.perform(self.lease, decision.actions)
            if acted.phase is Phase.DRAINING:
                self._tell_phase(self.lease, acted)  # the pod itself has told that it will never serve
            self.lease = self.store.save(acted)
        await self._hands.follow(before, self.lease, seen)
        if self._warden is not None:
            self.lease = await self._warden.follow(before, self.lease)
        self._hasty = self.lease.phase is not before.phase and self.lease.phase in _HASTY
        # After a create that surely rented nothing the next offer needs no new look.
        placed = decision.lease.phase is Phase.PLACING and self.lease.phase is Phase.REQUESTED
        self._still_true = placed and self.lease.rung != before.rung
        return self.lease

    @property
    def sight_holds(self) -> bool:
        """Whether what was seen is still true after the last pass, so that the next needs no look."""
        return self._still_true

    def _note_failures(self, before: Lease, after: Lease) -> None:
        failures = list(_failures(self.seen))
        self._failed_looks = self._failed_looks + 1 if failures else 0
        draining = after.phase is Phase.DRAINING
        for error in failures:
            self._hands.tell_failed_look(error, self._polls.patience if draining else None)
            if draining and before.phase is not Phase.DRAINING:
                # A lease that is given up while nobody could look was most likely given up because of that.
                self._hands.troubles[error.service or "look"] = error

    def _tell_running(self) -> None:
        """Tell once of each pod that its container runs."""
        pod = self.lease.pod
        if self.lease.phase in _SERVING and pod is not None and pod != self._runs and self._pod_runs():
            self._runs = pod
            self._hands.tell("pod_runs", pod=pod.id)

    def _tell_phase(self, before: Lease, after: Lease) -> None:
        if before.phase is after.phase:
            return
        self._hands.tell(
            "lease_" + after.phase.value,
            lease=after.name,
            pod=after.pod.id if after.pod else None,
            outcome=after.outcome.value if after.outcome else None,
        )
        if after.phase is Phase.DRAINING and after.outcome in RETRIED:
            why = self._hands.why_lost or (self._warden.why(after) if self._warden is not None else None)
            self._hands.why_lost = None
            self._hands.note_failed_placement(after, why)

    async def _look(self) -> Observation:
        now = self._time.now()
        if self.seen is not None and self._still_true:
            return self.seen
        if self.seen is not None and not self._pods_due(now):
            return await self._lookout.look_at_runner(self.lease, self.seen)
        self._looked_at = now
        seen = await self._lookout.look(self.lease)
        # One part of a look that was waited for long may be older than what the other part shows.
        slow = self._time.now() - now > max(self._limits.settle, timedelta(seconds=self._polls.booting))
        return replace(seen, fresh=False) if slow else seen

    def _pods_due(self, now: datetime) -> bool:
        """Whether the pods are to be looked at as well; a pod that runs need not be each second."""
        lease, seen = self.lease, self.seen
        if lease.phase not in _SERVING or seen is None or isinstance(seen.pods, Unknown) or not seen.pods:
            return True
        if self._looked_at is None or now - self._looked_at >= timedelta(seconds=self._polls.booting):
            return True
        return not lease.settled and self._settles_at() <= now

    def _settles_at(self) -> datetime:
        return (self.lease.placed_at or self._time.now()) + self._limits.settle

    def _pause(self) -> float:
        lease = self.lease
        if self._hasty or self._still_true:
            return 0.0
        if self._failed_looks:
            return self._pause_after_failure()
        if lease.phase is Phase.DRAINING and lease.quiet_since is not None:
            rest = (lease.quiet_since + self._limits.settle - self._time.now()).total_seconds()
            # A pod of an unanswered create may show up at any moment, and a cancelled start has little time.
            return max(0.0, min(rest, self._polls.running) if lease.unsure else rest)
        if lease.phase in {Phase.READY, Phase.BUSY, Phase.DRAINING} or self._pod_runs():
            return self._polls.running
        return self._polls.booting

    def _pause_after_failure(self) -> float:
        if _refusal(self.seen) is not None:
            return self._polls.booting
        # Short at first: a cancelled start has seconds, not minutes.
        pause = self._polls.running * 2.0 ** min(self._failed_looks - 1, 10)
        return min(pause, max(self._polls.booting, self._polls.running))

    def _pod_runs(self) -> bool:
        seen = self.seen
        if seen is None or isinstance(seen.pods, Unknown):
            return False
        return any(pod.state is PodState.RUNNING for pod in seen.pods)


def _creates(decision: Decision) -> bool:
    return any(isinstance(action, CreatePod) for action in decision.actions)


def cause_of(error: BaseException | None) -> str:
    """The text of an error with the service that it is about; nothing for none."""
    service = error.service if isinstance(error, RemoteError) else ""
    return f"{service}: {error}" if service else str(error or "")


def _failures(seen: Observation | None) -> Iterator[RemoteError]:
    """Why parts of a look failed."""
    for look in (seen.pods, seen.runner) if seen else ():
        if isinstance(look, Unknown) and look.error is not None:
            yield look.error


def _refusal(seen: Observation | None) -> RemoteError | None:
    """The refused credential that keeps a look from succeeding."""
    refusals = (AuthenticationFailed, PermissionDenied, ApiRetired)
    return next((error for error in _failures(seen) if isinstance(error, refusals)), None)


def _unseen(lease: Lease, seen: Observation | None) -> str:
    """What may be left where nothing is known to be."""
    pods_seen = seen is not None and (
        not isinstance(seen.pods, Unknown) or bool(lease.known and lease.known <= seen.gone)
    )
    what = f"the runner {lease.name} (its pod is gone)" if pods_seen else f"something named {lease.name}"
    return f"perhaps {what}, which could not be looked up"


def left_behind(lease: Lease, seen: Observation | None) -> tuple[str, ...]:
    """One line for each thing of a lease that is not known to be gone."""
    gone = seen.gone if seen else frozenset()
    there = seen.pods if seen and not isinstance(seen.pods, Unknown) else ()
    pods = {one for one in lease.known if one not in gone} | {ref(pod) for pod in there}
    lines = [f"pod {one.id} at {one.provider}" for one in sorted(pods)]
    if lease.unsure and not lines:
        lines.append(f"perhaps a pod named {lease.name}: the provider never answered")
    if seen is not None and isinstance(seen.runner, Runner):
        lines.append(f"runner {lease.name}")
    return tuple(lines)
