"""The life of one request for a runner: what is remembered, what is seen, what can be done.

```
REQUESTED --intent stored--> PLACING --pod seen--> BOOTING <--runner online--> READY <--> BUSY
    ^  |                        |                     |                         |
    |  +------------------------+----------+----------+-------------------------+
    |                                      v   cancelled | expired | boot-timeout | interrupted | lost | ...
    +---- next offer ---------------- DRAINING --neither pod nor runner seen--> RELEASED
```

`decisions.decide` moves a lease along; what could not be looked at is `Unknown` and never counts as absent.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from runner_provisioner.domain.pods import Pod, PodId
from runner_provisioner.domain.runners import Runner, RunnerId
from runner_provisioner.errors import RemoteError


class PodRef(NamedTuple):
    """A pod's id together with whose id it is."""

    provider: str
    id: PodId


class Phase(StrEnum):
    """How far a lease has come."""

    REQUESTED = "requested"
    PLACING = "placing"
    BOOTING = "booting"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    RELEASED = "released"


class Outcome(StrEnum):
    """Why a lease is drained; the path is the same for all."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    BOOT_TIMEOUT = "boot-timeout"
    NO_CAPACITY = "no-capacity"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    OVERPRICED = "overpriced"
    GATE_FAILED = "gate-failed"  # it ended itself before its runner was seen, as where its machine is not as rented
    SHUNNED = "shunned"  # it landed on a machine that is kept out
    CONFLICT = "conflict"  # another start's pod bears the name


RETRIED = frozenset(
    {
        Outcome.BOOT_TIMEOUT,
        Outcome.INTERRUPTED,
        Outcome.LOST,
        Outcome.OVERPRICED,
        Outcome.GATE_FAILED,
        Outcome.SHUNNED,
    }
)
CLOCKS_DIFFER = timedelta(minutes=1)
"""By how much a provider's clock may be behind ours."""
ASKED_AGAIN = 2
"""How often an offer is asked once more whose pod landed on a machine that is kept out: a provider has several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A look that failed: neither there nor gone; `error` is why, where it was a remote service's."""

    reason: str
    error: RemoteError | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long things may take.

    `settle` is how far apart two looks at a list must be to believe it; `boot` is what one pod gets until its runner
    is online; `lifetime` is the longest that a pod may live.
    """

    settle: timedelta
    boot: timedelta
    lifetime: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One request for a runner, and all that must be remembered between two passes.

    `nonce` None: every pod of the name is this lease's to end (stop); otherwise only pods that carry the nonce or were
    made by this process (`made`) or by an earlier one with the same state file (`inherited`). `siblings` are
    those of processes that share it beside this one: where a pod has no tags nothing else tells. `ended` are the pods
    that this installation has asked to end. `shunned` are the (provider, machine) pairs not to serve on; `landed` is
    how often the pod of this rung was on one. `unsure` is True from before a create is sent until its answer is known.
    `quiet_since` is the first of a row of looks that saw nothing, `crowded_at` the last look that saw several pods of
    ours. `hands_over`: the pod may wait for something from us, its start or its runner's configuration. `cap` (USD per
    hour) is what the pod of this rung may really cost; one that another process of this start has made may cost
    `max_price` (USD per hour), and until its end `worth` (USD).
    """

    name: str
    phase: Phase
    nonce: str | None = None
    creator: str | None = None
    outcome: Outcome | None = None
    rungs: int = 0
    rung: int = 0
    deadline: datetime | None = None
    cap: Decimal | None = None
    max_price: Decimal | None = None
    worth: Decimal | None = None
    shunned: frozenset[tuple[str, str]] = frozenset()
    landed: int = 0
    pod: PodRef | None = None
    made: frozenset[PodRef] = frozenset()
    inherited: frozenset[PodRef] = frozenset()
    siblings: frozenset[PodRef] = frozenset()
    ended: frozenset[PodRef] = frozenset()
    placed_at: datetime | None = None
    crowded_at: datetime | None = None
    unsure: bool = False
    quiet_since: datetime | None = None
    settled: bool = False
    uptime: int | None = None
    hands_over: bool = False

    @property
    def known(self) -> frozenset[PodRef]:
        """Every pod that it has had a part in."""
        return self.made | self.inherited | self.ended | ({self.pod} if self.pod else set())

    @property
    def looked_for(self) -> frozenset[PodRef]:
        """Every pod to read by id at each look."""
        return self.known | self.siblings


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one look saw.

    `pods` are those of the name that a read by id shows to exist, `gone` the ids that a read by id says do not;
    `fresh` is False where the pods are those of the look before (between two looks at a pod that runs).
    """

    pods: tuple[Pod, ...] | Unknown
    runner: Runner | Unknown | None
    gone: frozenset[PodRef] = frozenset()
    fresh: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePod:
    """Rent the offer of this rung."""

    rung: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndPod:
    """Terminate this pod."""

    pod: PodRef


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRunner:
    """Delete this registration."""

    runner: RunnerId


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveConfig:
    """Start this pod, if it booted bare; hand the runner's configuration over, if it waits for one."""

    pod: Pod


Action = CreatePod | EndPod | RemoveRunner | GiveConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The lease to save, then what to do, in this order."""

    lease: Lease
    actions: tuple[Action, ...] = ()


def ref(pod: Pod) -> PodRef:
    """The reference of a pod."""
    return PodRef(pod.provider, pod.id)


def counted(lease: Lease, pod: Pod) -> bool:
    """Whether the pod may be kept: alive, and not one that this installation has asked to end."""
    return pod.alive and ref(pod) not in lease.ended


def _turned_up(lease: Lease, pod: Pod) -> bool:
    """Whether the pod came of the create that was never answered, as far as a pod without tags can tell.

    Some providers return no environment: then the name and the moment have to do.
    """
    if not lease.unsure or lease.placed_at is None or pod.tags is not None or pod.created_at is None:
        return False
    if ref(pod) in lease.siblings:
        return False
    return pod.created_at >= lease.placed_at - CLOCKS_DIFFER


def ours(lease: Lease, pod: Pod) -> bool:
    """Whether the pod is this lease's own."""
    if lease.nonce is None or ref(pod) in lease.made | lease.inherited | lease.siblings or _turned_up(lease, pod):
        return True
    return pod.tags is not None and pod.tags.nonce is not None and pod.tags.nonce == lease.nonce


def made_here(lease: Lease, pod: Pod) -> bool:
    """Whether this very process created the pod, or took it over from one whose create was never answered."""
    if ref(pod) in lease.made or _turned_up(lease, pod):
        return True
    return lease.creator is not None and pod.tags is not None and pod.tags.creator == lease.creator


def runs_in(runner: Runner, pod: Pod) -> bool:
    """Whether the runner may be this pod's; only one that names another creator is surely not."""
    theirs, ours_ = runner.creator, pod.tags.creator if pod.tags else None
    return theirs is None or ours_ is None or theirs == ours_


def created(lease: Lease, pod: Pod) -> Lease:
    """The lease after an answer to create that names a pod."""
    return replace(lease, made=lease.made | {ref(pod)}, pod=ref(pod), unsure=False)


def refused(lease: Lease, *, next_rung: int) -> Lease:
    """The lease after a create that surely rented nothing."""
    landed = lease.landed if next_rung == lease.rung else 0
    return replace(lease, phase=Phase.REQUESTED, rung=next_rung, landed=landed, unsure=False, quiet_since=None)


def drain(lease: Lease, outcome: Outcome) -> Lease:
    """The lease on its way out; the first outcome stays."""
    if lease.phase in {Phase.DRAINING, Phase.RELEASED}:
        return lease
    return replace(lease, phase=Phase.DRAINING, outcome=outcome, quiet_since=None)
