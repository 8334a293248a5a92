"""What a pod of Prime Intellect is beyond a pod of any market."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.market.pods import EXITED, TERMINATED, RentedPod
from runner_provisioner.simulators.prime.catalog import Offer


@dataclass(kw_only=True, eq=False)
class PrimePod(RentedPod):
    """The state of one pod. `image` is what runs in it, `environment` the word that the creation used."""

    machine: Offer
    environment: str
    template_id: str | None = None
    price_hr: Decimal
    """USD per hour for everything it has."""
    stopped_price_hr: Decimal = Decimal(0)
    disk_size: int
    vcpus: int
    memory: int
    disks: tuple[str, ...] = ()
    team_id: str | None = None
    keys: tuple[str, ...] = ()
    """Who may log in."""
    auto_restart: bool = False
    forced: str | None = None
    """A status that a test gave it, whatever it really is."""
    deleting_since: datetime | None = None

    @property
    def gpu_name(self) -> str:
        """What the market calls its GPUs."""
        return self.machine.gpu_type

    @property
    def spot(self) -> bool:
        """Whether the provider may take it at any time."""
        return self.machine.spot

    @property
    def price(self) -> Decimal:
        """USD per hour while it is not stopped."""
        return self.price_hr

    def rates(self) -> dict[str, Decimal]:
        """What it is billed for in its present state (USD per hour)."""
        if self.status == TERMINATED:
            return {}
        return {"stopped": self.stopped_price_hr} if self.status == EXITED else {"gpu": self.price_hr}

    def told(self) -> dict[str, Any]:
        """What the control interface says of it beyond what every pod has."""
        return {
            "cloudId": self.machine.cloud_id,
            "isSpot": self.spot,
            "image": self.environment,
            "templateId": self.template_id,
            "teamId": self.team_id,
        }
