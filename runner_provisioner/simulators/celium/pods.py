"""What a pod of Lium is beyond a pod of any market."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.celium.account import Template
from runner_provisioner.simulators.celium.catalog import SPOT, Executor
from runner_provisioner.simulators.celium.node import DockerRun
from runner_provisioner.simulators.market.pods import RUNNING, RentedPod


@dataclass(kw_only=True, eq=False)
class CeliumPod(RentedPod):
    """The state of one pod. `env` is what its template says; what the container got is in `docker`."""

    machine: Executor
    template: Template
    price_per_gpu: Decimal
    keys: tuple[str, ...] = ()
    """Who may log in."""
    volume_id: str | None = None
    dockerfile: str | None = field(default=None, repr=False)
    rented_with: str = field(default="", repr=False)
    """The credential."""
    docker: DockerRun | None = None
    """What the node's shell made of the command line; None before."""
    on_node: list[str] = field(default_factory=list)
    """What the node's shell said: words of the command line that it took for commands of its own."""
    line: str = field(default="", repr=False)
    """What was given to the node's shell."""
    settled: bool = False
    """Whether its first container stayed up."""
    rebooting: bool = False
    forced: str | None = None
    """A status that a test gave it, whatever it really is."""
    deleting_since: datetime | None = None

    @property
    def gpu_name(self) -> str:
        """What the market calls its GPUs."""
        return self.machine.machine_name

    @property
    def spot(self) -> bool:
        """Whether the provider may take it at any time."""
        return self.machine.tier == SPOT

    @property
    def price(self) -> Decimal:
        """USD per hour for all GPUs."""
        return self.price_per_gpu * self.gpu_count

    def rates(self) -> dict[str, Decimal]:
        """What it is billed for: its GPUs, until it is gone or could not be made."""
        return {"gpu": self.price} if self.status == RUNNING and not self.failure else {}

    def told(self) -> dict[str, Any]:
        """What the control interface says of it beyond what every pod has."""
        return {
            "executorId": self.machine.id,
            "tier": self.machine.tier,
            "image": self.image,
            "templateId": self.template.id,
            "argv": list(self.docker.argv) if self.docker else None,
            "onNode": list(self.on_node),
        }
