"""What becomes of the pods over time. Everything here happens under the simulator's lock."""

from __future__ import annotations

import socket
from collections.abc import Callable
from copy import copy
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.money import SECONDS_PER_HOUR, Bill, total_rate
from runner_provisioner.simulators.runpod.pods import EXITED, INTERRUPTABLE, RUNNING, TERMINATED, SimPod
from runner_provisioner.simulators.runpod.settings import Settings
from runner_provisioner.simulators.runpod.texts import Refused


class Processes(Protocol):
    """Who runs the pods' processes."""

    def launch(self, pod: SimPod) -> None:
        """Start the container that `pod.incarnation` counts."""

    def stop(self, pod: SimPod, grace: float, *, discard: bool) -> None:
        """End it."""


Due = tuple[datetime, int, Callable[[datetime], None]]


def spoken_time(at: datetime) -> str:
    """As RunPod writes it in `lastStatusChange`."""
    return at.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Fleet:
    """All pods there ever were, and the account's money.

    Time-dependent changes happen in `catch_up`, which every look calls first: in the order and at the moments they
    were due, however late the look comes.
    """

    def __init__(self, settings: Settings, now: Callable[[], datetime], deposit: Decimal) -> None:
        self.settings = settings
        self.now = now
        self.deposit = deposit
        self.pods: dict[str, SimPod] = {}
        self.processes: Processes | None = None
        self._current: dict[str, SimPod] = {}
        self._settled = now()

    # -- looking

    def find(self, pod_id: str) -> SimPod | None:
        """A pod that was not terminated."""
        return self._current.get(pod_id)

    def current(self) -> list[SimPod]:
        """Every pod that was not terminated, in the order of their creation."""
        return list(self._current.values())

    def listed(self) -> list[SimPod]:
        """What `myself.pods` shows: late by `list_lag`."""
        lag = timedelta(seconds=self.settings.list_lag)
        now = self.now()
        if not lag:
            return self.current()
        return [
            pod.ghost or pod
            for pod in self.pods.values()
            if pod.created_at + lag <= now and (pod.ended_at is None or now < pod.ended_at + lag)
        ]

    def look(self, pod: SimPod) -> None:
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

    def afford(self, price: Decimal) -> None:
        """Refuse what the account cannot pay for one hour (USD per hour), or is not allowed to spend."""
        if self.balance() < price:
            raise Refused(texts.LOW_BALANCE)
        if self.spend() + price > self.settings.spend_limit:
            raise Refused(texts.SPEND_LIMIT)

    # -- changing

    def add(self, pod: SimPod) -> None:
        """A new pod; its GPUs are taken and billed from now on."""
        self.pods[pod.id] = self._current[pod.id] = pod
        pod.last_status_change = pod.last_status_change or f"Rented by User: {spoken_time(pod.created_at)}"
        pod.note(pod.created_at, "created")
        if pod.status == RUNNING:
            pod.machine.taken += pod.gpu_count
        pod.meter.switch(pod.rates(), pod.created_at)

    def stop(self, pod: SimPod, at: datetime, *, by: str = "User", grace: float | None = None) -> None:
        """It keeps its volume, and loses its GPUs and its process."""
        if pod.status != RUNNING:
            return
        self._leave(pod, at, EXITED, f"stopped by {by}", grace)
        pod.last_status_change = f"Exited by {by}: {spoken_time(at)}"

    def interrupt(self, pod: SimPod, at: datetime, reason: str = "") -> None:
        """RunPod takes it: SIGTERM, SIGKILL five seconds later, stopped but not deleted."""
        pod.interrupt_at = None
        if pod.status != RUNNING:
            return
        self._leave(pod, at, EXITED, "interrupted", self.settings.interruption_grace)
        pod.last_status_change = f"Exited by Runpod: {reason or spoken_time(at)}"

    def terminate(self, pod: SimPod, at: datetime, *, by: str = "User") -> None:
        """End it for good."""
        pod.ghost = copy(pod)
        self._leave(pod, at, TERMINATED, f"terminated by {by}", None)
        pod.ended_at = at
        del self._current[pod.id]

    def resume(self, pod: SimPod, at: datetime, *, count: int | None = None, bid: Decimal | None = None) -> None:
        """Start a stopped pod again on its host; `bid` in USD per GPU and hour. Raises Refused."""
        wanted = count or pod.gpu_count
        if pod.machine.free < wanted:
            raise Refused(texts.HOST_FULL)
        price = pod.price_per_gpu if bid is None else bid
        self.afford(price * max(1, wanted))
        pod.gpu_count, pod.price_per_gpu = wanted, price
        pod.machine.taken += wanted
        pod.status, pod.booted, pod.looks = RUNNING, False, 0
        pod.exited_at = pod.exit_code = pod.stop_after = pod.interrupt_at = None
        pod.last_started_at = at
        pod.last_status_change = f"Resumed by User: {spoken_time(at)}"
        pod.note(at, "resumed")
        pod.meter.switch(pod.rates(), at)

    def edit(self, pod: SimPod, at: datetime) -> None:
        """Its container is replaced by one with the pod's new settings."""
        pod.version += 1
        pod.note(at, "edited")
        pod.meter.switch(pod.rates(), at)
        if pod.status != RUNNING:
            return
        pod.booted, pod.running_since, pod.restart_at = False, None, None
        pod.last_started_at = at
        pod.incarnation += 1
        if self.processes is not None:
            self.processes.stop(pod, self.settings.terminate_grace, discard=False)

    def _leave(self, pod: SimPod, at: datetime, status: str, what: str, grace: float | None) -> None:
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

    # -- containers

    def boot(self, pod: SimPod, at: datetime) -> None:
        """Start its container; without processes it runs at once."""
        pod.booted = True
        pod.restart_at = None
        pod.incarnation += 1
        if self.processes is not None:
            self.processes.launch(pod)
            return
        self.running(pod, pod.incarnation, at)

    def running(self, pod: SimPod, incarnation: int, at: datetime) -> None:
        """Its command runs."""
        if pod.status != RUNNING or pod.incarnation != incarnation:
            return
        pod.running_since = at
        pod.note(at, "container running")

    def exited(self, pod: SimPod, incarnation: int, code: int, at: datetime) -> None:
        """Its command ended; the service starts it again after a while, or leaves it."""
        if pod.status != RUNNING or pod.incarnation != incarnation:
            return
        pod.running_since = None
        pod.exited_at, pod.exit_code = at, code
        pod.note(at, f"container exited with {code}")
        if self.settings.restart:
            pod.restart_at = at + timedelta(seconds=self.settings.restart_delay)

    def failed(self, pod: SimPod, incarnation: int, reason: str, at: datetime) -> None:
        """Its container could not be made."""
        if pod.incarnation == incarnation:
            pod.last_status_change = f"error creating container: {reason}"
            pod.note(at, pod.last_status_change)

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
        dues = [due for pod in self._current.values() for due in self._pod_dues(pod)]
        broke = self._broke_at()
        if broke is not None:
            dues.append((broke, 0, self._close_account))
        return dues

    def _pod_dues(self, pod: SimPod) -> list[Due]:
        dues: list[Due] = []
        if pod.terminate_after is not None:
            dues.append((pod.terminate_after, 1, lambda at: self.terminate(pod, at, by="terminateAfter")))
        if pod.status != RUNNING:
            return dues
        if pod.stop_after is not None:
            dues.append((pod.stop_after, 2, lambda at: self.stop(pod, at, by="stopAfter")))
        if pod.interrupt_at is not None:
            dues.append((pod.interrupt_at, 3, lambda at: self.interrupt(pod, at)))
        boot_at = self._boot_at(pod)
        if boot_at is not None:
            dues.append((boot_at, 4, lambda at: self.boot(pod, at)))
        if pod.restart_at is not None:
            dues.append((pod.restart_at, 5, lambda at: self._restart(pod, at)))
        return [(max(at, pod.created_at), order, act) for at, order, act in dues]

    def _boot_at(self, pod: SimPod) -> datetime | None:
        progress = self.settings.progress
        unseen = progress.polls and pod.looks <= progress.polls
        if pod.booted or unseen or pod.image in self.settings.unpullable:
            return None
        earliest = pod.last_started_at + timedelta(seconds=progress.seconds)
        # A look that completes the count happens later than the start it is counted from.
        return max(earliest, self._settled) if progress.polls else earliest

    def _restart(self, pod: SimPod, at: datetime) -> None:
        pod.restarts += 1
        pod.note(at, "restarted")
        self.boot(pod, at)

    def _broke_at(self) -> datetime | None:
        rate = self.spend()
        if rate <= 0 or not any(pod.status == RUNNING or not pod.network_volume_id for pod in self._current.values()):
            return None
        left = max(Decimal(0), self.balance(self._settled))
        return self._settled + timedelta(seconds=float(left / rate * SECONDS_PER_HOUR))

    def _close_account(self, at: datetime) -> None:
        for pod in self.current():
            if not pod.network_volume_id:
                self.terminate(pod, at, by="Runpod: balance is used up")
            else:
                self.stop(pod, at, by="Runpod: balance is used up")

    def resumable(self, pod: SimPod, *, as_bid: bool) -> None:
        """Refuse the wrong one of the two resume calls."""
        spot = pod.pod_type == INTERRUPTABLE
        if spot and not as_bid:
            raise Refused(texts.WRONG_RESUME)
        if as_bid and not spot:
            raise Refused(texts.WRONG_BID_RESUME)
