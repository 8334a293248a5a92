"""What RunPod's pods can do beyond those of every market: be stopped on a date, resumed, edited."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from runner_provisioner.simulators.market import fleet as market
from runner_provisioner.simulators.market.fleet import Due
from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.pods import INTERRUPTABLE, RUNNING, SimPod
from runner_provisioner.simulators.runpod.settings import Settings
from runner_provisioner.simulators.runpod.texts import Refused


def spoken_time(at: datetime) -> str:
    """As RunPod writes it in `lastStatusChange`."""
    return at.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)")


class Fleet(market.Fleet[SimPod]):
    """All pods of the account; tells in `lastStatusChange` what became of them."""

    provider = "Runpod"
    settings: Settings

    def afford(self, price: Decimal) -> None:
        """Refuse what the account cannot pay for one hour (USD per hour), or is not allowed to spend."""
        if self.balance() < price:
            raise Refused(texts.LOW_BALANCE)
        if self.spend() + price > self.settings.spend_limit:
            raise Refused(texts.SPEND_LIMIT)

    def add(self, pod: SimPod) -> None:
        """A new pod; its GPUs are taken and billed from now on."""
        pod.last_status_change = pod.last_status_change or f"Rented by User: {spoken_time(pod.created_at)}"
        super().add(pod)

    def stop(self, pod: SimPod, at: datetime, *, by: str = "User", grace: float | None = None) -> None:
        """It keeps its volume, and loses its GPUs and its process."""
        if pod.status == RUNNING:
            super().stop(pod, at, by=by, grace=grace)
            pod.last_status_change = f"Exited by {by}: {spoken_time(at)}"

    def interrupt(self, pod: SimPod, at: datetime, reason: str = "") -> None:
        """RunPod takes it: SIGTERM, SIGKILL five seconds later, stopped but not deleted."""
        was_running = pod.status == RUNNING
        super().interrupt(pod, at)
        if was_running:
            pod.last_status_change = f"Exited by Runpod: {reason or spoken_time(at)}"

    def keeps_when_broke(self, pod: SimPod) -> bool:
        """Pods with a network volume are only stopped."""
        return bool(pod.network_volume_id)

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

    def resumable(self, pod: SimPod, *, as_bid: bool) -> None:
        """Refuse the wrong one of the two resume calls."""
        spot = pod.pod_type == INTERRUPTABLE
        if spot and not as_bid:
            raise Refused(texts.WRONG_RESUME)
        if as_bid and not spot:
            raise Refused(texts.WRONG_BID_RESUME)

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

    def failed(self, pod: SimPod, incarnation: int, reason: str, at: datetime) -> None:
        """Its container could not be made."""
        super().failed(pod, incarnation, reason, at)
        if pod.incarnation == incarnation:
            pod.last_status_change = pod.failure

    def pod_dues(self, pod: SimPod) -> list[Due]:
        """Also its `stopAfter`."""
        dues = super().pod_dues(pod)
        if pod.stop_after is not None and pod.status == RUNNING:
            dues.append((pod.stop_after, 2, lambda at: self.stop(pod, at, by="stopAfter")))
        return dues
