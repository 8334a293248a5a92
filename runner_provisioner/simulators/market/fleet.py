"""What becomes of the pods over time. Everything here happens under the simulator's lock."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Generic, Protocol, TypeVar

from runner_provisioner.simulators.market.money import SECONDS_PER_HOUR, Bill, total_rate
from runner_provisioner.simulators.market.pods import EXITED, RUNNING, TERMINATED, RentedPod
from runner_provisioner.simulators.market.settings import Settings

P = TypeVar("P", bound=RentedPod)
P_contra = TypeVar("P_contra", bound=RentedPod, contravariant=True)
Due = tuple[datetime, int, Callable[[datetime], None]]


class Processes(Protocol[P_contra]):
    """Who runs the pods' processes."""

    def launch(self, pod: P_contra) -> None:
        """Start the container that `pod.incarnation` counts."""

    def stop(self, pod: P_contra, grace: float, *, discard: bool) -> None:
        """End it."""


class Fleet(Generic[P]):
    """All pods there ever were, and the account's money.

    Time-dependent changes happen in `catch_up`, which every look calls first: in the order and at the moments they
    were due, however late the look comes.
    """

    provider = "the provider"
    """How it is called in a pod's events."""

    def __init__(self, settings: Settings, now: Callable[[], datetime], deposit: Decimal) -> None:
        self.settings = settings
        self.now = now
        self.deposit = deposit
        self.pods: dict[str, P] = {}
        self.processes: Processes[P] | None = None
        self.interrupt_new: list[float] = []
        """For each of the next new pods the seconds after its creation at which it is interrupted."""
        self._current: dict[str, P] = {}
        self._settled = now()

    # -- looking

    def find(self, pod_id: str) -> P | None:
        """A pod that was not terminated."""
        return self._current.get(pod_id)

    def current(self) -> list[P]:
        """Every pod that was not terminated, in the order of their creation."""
        return list(self._current.values())

    def listed(self) -> list[P]:
        """What the list of pods shows: late by `list_lag`."""
        lag = timedelta(seconds=self.settings.list_lag)
        now = self.now()
        if not lag:
            return self.current()
        return [
            pod.ghost or pod
            for pod in self.pods.values()
            if pod.created_at + lag <= now and (pod.ended_at is None or now < pod.ended_at + lag)
        ]

    def look(self, pod: P) -> None:
        """Somebody reads this pod."""
        pod.looks += 1
        self.catch_up()

    def bill(self) -> Bill:
        """Of every pod there ever was."""
        now = self.now()
        return Bill({pod.id: pod.bill(now) for pod in self.pods.values()})

    def balance(self, at: datetime | None = None) -> Decimal:
        """What is left on the account, in USD."""
        moment = at or self.now()
        return self.deposit - sum((pod.meter.cost(moment) for pod in self.pods.values()), Decimal(0))

    def spend(self) -> Decimal:
        """USD per hour now."""
        return total_rate(pod.meter for pod in self._current.values())

    # -- changing

    def rent(self, pod: P) -> None:
        """A new pod that a call asked for; it may be one of those that are to be interrupted."""
        if self.interrupt_new:
            pod.interrupt_at = pod.created_at + timedelta(seconds=self.interrupt_new.pop(0))
        self.add(pod)

    def add(self, pod: P) -> None:
        """A new pod; its GPUs are taken and billed from now on."""
        self.pods[pod.id] = self._current[pod.id] = pod
        pod.note(pod.created_at, "created")
        if pod.status == RUNNING:
            pod.machine.taken += pod.gpu_count
        pod.meter.switch(pod.rates(), pod.created_at)

    def stop(self, pod: P, at: datetime, *, by: str = "User", grace: float | None = None) -> None:
        """It keeps its volume, and loses its GPUs and its process."""
        if pod.status == RUNNING:
            self._leave(pod, at, EXITED, f"stopped by {by}", grace)

    def interrupt(self, pod: P, at: datetime, reason: str = "") -> None:
        """The provider takes it: SIGTERM, SIGKILL a little later; it stays as a stopped one, or is gone."""
        pod.interrupt_at = None
        if pod.status != RUNNING:
            return
        what = f"interrupted: {reason}" if reason else "interrupted"
        if self.settings.interruption_removes:
            self._remove(pod, at, what, self.settings.interruption_grace)
        else:
            self._leave(pod, at, EXITED, what, self.settings.interruption_grace)

    def terminate(self, pod: P, at: datetime, *, by: str = "User") -> None:
        """End it for good."""
        self._remove(pod, at, f"terminated by {by}", None)

    def _remove(self, pod: P, at: datetime, what: str, grace: float | None) -> None:
        pod.ghost = copy(pod)
        self._leave(pod, at, TERMINATED, what, grace)
        pod.ended_at = at
        del self._current[pod.id]

    def _leave(self, pod: P, at: datetime, status: str, what: str, grace: float | None) -> None:
        if pod.status == RUNNING:
            pod.machine.taken -= pod.gpu_count
        pod.status = status
        pod.running_since = pod.restart_at = None
        pod.incarnation += 1
        pod.note(at, what)
        pod.meter.switch(pod.rates(), at)
        if self.processes is not None:
            patience = self.settings.terminate_grace if grace is None else grace
            self.processes.stop(pod, patience, discard=status == TERMINATED)

    def keeps_when_broke(self, pod: P) -> bool:  # noqa: ARG002 - for markets that do
        """Whether a pod is only stopped when the balance is used up."""
        return False

    # -- containers

    def restarts(self, pod: P) -> bool:  # noqa: ARG002 - for markets where it depends
        """Whether a container whose command ended is started again."""
        return self.settings.restart

    def boot(self, pod: P, at: datetime) -> None:
        """Start its container; without processes it runs at once."""
        pod.booted = True
        pod.restart_at = None
        pod.incarnation += 1
        if self.processes is not None:
            self.processes.launch(pod)
            return
        self.running(pod, pod.incarnation, at)

    def running(self, pod: P, incarnation: int, at: datetime) -> None:
        """Its command runs."""
        if pod.status != RUNNING or pod.incarnation != incarnation:
            return
        pod.running_since = at
        pod.note(at, "container running")

    def exited(self, pod: P, incarnation: int, code: int, at: datetime) -> None:
        """Its command ended; the service starts it again after a while, or leaves it."""
        if pod.status != RUNNING or pod.incarnation != incarnation:
            return
        pod.running_since = None
        pod.exited_at, pod.exit_code = at, code
        pod.note(at, f"container exited with {code}")
        if self.restarts(pod):
            pod.restart_at = at + timedelta(seconds=self.settings.restart_delay)

    def failed(self, pod: P, incarnation: int, reason: str, at: datetime) -> None:
        """Its container could not be made."""
        if pod.incarnation == incarnation:
            pod.failure = f"error creating container: {reason}"
            pod.note(at, pod.failure)

    # -- time

    def catch_up(self) -> None:
        """Let everything happen that was due by now."""
        now = self.now()
        while True:
            due = min(self._dues(), key=lambda each: each[:2], default=None)
            if due is None or due[0] > now:
                break
            due[2](due[0])
            self._settled = max(self._settled, due[0])
        self._settled = max(self._settled, now)

    def _dues(self) -> list[Due]:
        dues = [
            (max(at, pod.created_at), order, act) for pod in self.current() for at, order, act in self.pod_dues(pod)
        ]
        broke = self._broke_at()
        if broke is not None:
            dues.append((broke, 0, self._close_account))
        return dues

    def pod_dues(self, pod: P) -> list[Due]:
        """What is going to happen to this pod: when, its rank among things of one moment, and the act."""
        dues: list[Due] = []
        if pod.terminate_after is not None:
            dues.append((pod.terminate_after, 1, lambda at: self.terminate(pod, at, by="terminateAfter")))
        if pod.status != RUNNING:
            return dues
        if pod.interrupt_at is not None:
            dues.append((pod.interrupt_at, 3, lambda at: self.interrupt(pod, at)))
        boot_at = self._boot_at(pod)
        if boot_at is not None:
            dues.append((boot_at, 4, lambda at: self.boot(pod, at)))
        if pod.restart_at is not None:
            dues.append((pod.restart_at, 5, lambda at: self._restart(pod, at)))
        return dues

    def _boot_at(self, pod: P) -> datetime | None:
        progress = self.settings.progress
        unseen = progress.polls and pod.looks <= progress.polls
        if pod.booted or unseen or pod.image in self.settings.unpullable:
            return None
        earliest = pod.last_started_at + timedelta(seconds=progress.seconds)
        # A look that completes the count happens later than the start it is counted from.
        return max(earliest, self._settled) if progress.polls else earliest

    def _restart(self, pod: P, at: datetime) -> None:
        pod.restarts += 1
        pod.note(at, "restarted")
        self.boot(pod, at)

    def _broke_at(self) -> datetime | None:
        rate = self.spend()
        if rate <= 0 or all(pod.status != RUNNING and self.keeps_when_broke(pod) for pod in self._current.values()):
            return None
        left = max(Decimal(0), self.balance(self._settled))
        return self._settled + timedelta(seconds=float(left / rate * SECONDS_PER_HOUR))

    def _close_account(self, at: datetime) -> None:
        for pod in self.current():
            if self.keeps_when_broke(pod):
                self.stop(pod, at, by=f"{self.provider}: balance is used up")
            else:
                self.terminate(pod, at, by=f"{self.provider}: balance is used up")
