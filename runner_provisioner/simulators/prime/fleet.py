"""What Prime Intellect's pods do beyond those of every market: linger while they are deleted, restart if asked to."""

from __future__ import annotations

from datetime import datetime, timedelta

from runner_provisioner.simulators.market import fleet as market
from runner_provisioner.simulators.prime.pods import PrimePod
from runner_provisioner.simulators.prime.settings import Settings


class Fleet(market.Fleet[PrimePod]):
    """All pods of the account."""

    provider = "Prime Intellect"
    settings: Settings

    def delete(self, pod: PrimePod, at: datetime) -> None:
        """The user's wish; it is gone at once or after a while."""
        if pod.deleting_since is not None:
            return
        if self.settings.deletion_seconds:
            pod.deleting_since = at
            pod.note(at, "deleting")
            pod.terminate_after = at + timedelta(seconds=self.settings.deletion_seconds)
        else:
            self.terminate(pod, at)

    def restarts(self, pod: PrimePod) -> bool:
        """Only with `autoRestart`."""
        return self.settings.restart and pod.auto_restart
