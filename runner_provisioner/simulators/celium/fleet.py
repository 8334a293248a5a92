"""What Lium's pods do beyond those of every market: pass the node's shell, fail to be made, reboot."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from runner_provisioner.simulators.celium.node import NodeRefused
from runner_provisioner.simulators.celium.pods import CeliumPod
from runner_provisioner.simulators.celium.settings import Settings
from runner_provisioner.simulators.market import fleet as market
from runner_provisioner.simulators.market.pods import RUNNING

SCHEDULED = "terminateAfter"


class Fleet(market.Fleet[CeliumPod]):
    """All pods of the account."""

    provider = "Lium"
    settings: Settings

    def __init__(
        self, settings: Settings, now: Callable[[], datetime], deposit: Decimal, prepare: Callable[[CeliumPod], None]
    ) -> None:
        """`prepare` hands a pod's command line to its node and fills `pod.docker`; NodeRefused."""
        super().__init__(settings, now, deposit)
        self._prepare = prepare
        self.on_gone: Callable[[CeliumPod], None] = lambda _pod: None
        """Called with each pod that is gone."""

    def delete(self, pod: CeliumPod, at: datetime) -> None:
        """The user's wish; it is gone at once or after a while."""
        if pod.deleting_since is not None:
            return
        if not self.settings.deletion_seconds:
            self.terminate(pod, at)
            return
        pod.deleting_since = at
        pod.note(at, "deleting")
        pod.terminate_after = at + timedelta(seconds=self.settings.deletion_seconds)

    def _remove(self, pod: CeliumPod, at: datetime, what: str, grace: float | None) -> None:
        super()._remove(pod, at, what, grace)
        self.on_gone(pod)

    def boot(self, pod: CeliumPod, at: datetime) -> None:
        """The node's shell has its say first; a restart is docker's alone."""
        if pod.docker is None:
            try:
                self._prepare(pod)
            except NodeRefused as error:
                pod.booted = True
                pod.incarnation += 1
                self.failed(pod, pod.incarnation, str(error), at)
                return
            finally:
                for said in pod.on_node:
                    pod.note(at, f"the node's shell: {said}")
        super().boot(pod, at)

    def running(self, pod: CeliumPod, incarnation: int, at: datetime) -> None:
        """Its command runs."""
        super().running(pod, incarnation, at)
        if pod.running_since is not None:
            pod.rebooting = False

    def exited(self, pod: CeliumPod, incarnation: int, code: int, at: datetime) -> None:
        """Its command ended: docker starts it again, unless it was not even up when the node looked."""
        if pod.status != RUNNING or pod.incarnation != incarnation:
            return
        up = 0.0 if pod.running_since is None else (at - pod.running_since).total_seconds()
        if not pod.settled and up < self.settings.up_seconds:
            self.failed(pod, incarnation, f"container exited with {code} right after its start", at)
            return
        pod.settled = True
        super().exited(pod, incarnation, code, at)

    def failed(self, pod: CeliumPod, incarnation: int, reason: str, at: datetime) -> None:
        """Its creation failed: it bills no more, and its row goes after a while."""
        if pod.incarnation != incarnation or pod.failure:
            return
        super().failed(pod, incarnation, reason, at)
        pod.running_since = pod.restart_at = None
        pod.incarnation += 1
        pod.meter.switch(pod.rates(), at)
        pod.terminate_after = at + timedelta(seconds=self.settings.failed_seconds)
        if self.processes is not None:
            self.processes.stop(pod, self.settings.terminate_grace, discard=True)

    def reboot(self, pod: CeliumPod, at: datetime) -> None:
        """Its container is stopped and started."""
        pod.note(at, "reboot requested")
        pod.rebooting, pod.booted, pod.settled = True, False, True
        pod.running_since = pod.restart_at = None
        pod.looks = 0
        pod.last_started_at = at
        pod.incarnation += 1
        if self.processes is not None:
            self.processes.stop(pod, self.settings.terminate_grace, discard=False)
