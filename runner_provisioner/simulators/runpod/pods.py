"""What a pod of RunPod is beyond a pod of any market."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.market.pods import EXITED, RUNNING, TERMINATED, PodEvent, RentedPod
from runner_provisioner.simulators.runpod.catalog import Machine
from runner_provisioner.simulators.runpod.command import parse_ports
from runner_provisioner.simulators.runpod.money import CONTAINER_DISK, VOLUME_RUNNING, VOLUME_STOPPED, disk_rate

__all__ = ["EXITED", "INTERRUPTABLE", "RESERVED", "RUNNING", "TERMINATED", "PodEvent", "SimPod"]

INTERRUPTABLE = "INTERRUPTABLE"
RESERVED = "RESERVED"
_SSH = 22


@dataclass(kw_only=True, eq=False)
class SimPod(RentedPod):
    """The state of one pod; `status` is its `desiredStatus`."""

    docker_args: str = ""
    ports: str = ""
    gpu_type_id: str | None = None
    machine: Machine
    price_per_gpu: Decimal
    """USD per GPU and hour; for a pod without GPU its whole price."""
    pod_type: str = RESERVED
    container_disk: int = 0
    volume: int = 0
    volume_mount: str | None = None
    network_volume_id: str | None = None
    public_ip: bool = True
    start_ssh: bool = False
    template_id: str | None = None
    registry_auth_id: str | None = None
    key: str = field(default="", repr=False)
    """The pod-scoped credential."""
    last_status_change: str = ""
    stop_after: datetime | None = None
    version: int = 1

    @property
    def price(self) -> Decimal:
        """USD per hour for all GPUs; disks come on top."""
        return self.price_per_gpu * max(1, self.gpu_count)

    @property
    def gpu_name(self) -> str:
        """What the market calls its GPUs."""
        return self.gpu_type_id or "no GPU"

    @property
    def spot(self) -> bool:
        """Whether the provider may take it at any time."""
        return self.pod_type == INTERRUPTABLE

    @property
    def port_list(self) -> list[tuple[int, str]]:
        """What it exposes."""
        return parse_ports(self.ports)

    @property
    def wants_ssh(self) -> bool:
        """Whether it exposes 22/tcp."""
        return (_SSH, "tcp") in self.port_list

    def rates(self) -> dict[str, Decimal]:
        """What it is billed for in its present state (USD per hour)."""
        if self.status == TERMINATED:
            return {}
        if self.status == EXITED:
            return {"volume": disk_rate(self.volume, VOLUME_STOPPED)}
        return {
            "gpu": self.price,
            "container disk": disk_rate(self.container_disk, CONTAINER_DISK),
            "volume": disk_rate(self.volume, VOLUME_RUNNING),
        }

    def told(self) -> dict[str, Any]:
        """What the control interface says of it beyond what every pod has."""
        return {"podType": self.pod_type, "gpuTypeId": self.gpu_type_id}
