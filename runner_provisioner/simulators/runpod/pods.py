"""One simulated pod: what was asked for, what became of it, what it owes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.runpod.catalog import Machine
from runner_provisioner.simulators.runpod.command import parse_ports
from runner_provisioner.simulators.runpod.money import (
    CONTAINER_DISK,
    VOLUME_RUNNING,
    VOLUME_STOPPED,
    Meter,
    PodBill,
    disk_rate,
)

RUNNING = "RUNNING"
EXITED = "EXITED"
TERMINATED = "TERMINATED"
INTERRUPTABLE = "INTERRUPTABLE"
RESERVED = "RESERVED"


@dataclass(frozen=True)
class PodEvent:
    """Something that happened to a pod."""

    at: datetime
    what: str


@dataclass(kw_only=True, eq=False)
class SimPod:
    """The state of one pod; times are the simulator's."""

    id: str
    name: str
    image: str
    docker_args: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """As the creator gave it."""
    ports: str = ""
    gpu_type_id: str | None = None
    gpu_count: int = 1
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
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The whole input of the creation."""
    key: str = field(default="", repr=False)
    """The pod-scoped credential."""
    foreign: bool = False
    """Put there by a test, not by a call."""

    status: str = RUNNING
    """`desiredStatus`."""
    created_at: datetime
    last_started_at: datetime
    last_status_change: str = ""
    terminate_after: datetime | None = None
    stop_after: datetime | None = None
    interrupt_at: datetime | None = None
    restart_at: datetime | None = None
    ended_at: datetime | None = None
    """When it was terminated."""
    ghost: SimPod | None = None
    """Its last state before it was terminated, which late lists still show."""
    looks: int = 0
    """How often a client has read it since it was started last."""
    booted: bool = False
    """Whether its container was started since the pod was started last."""
    running_since: datetime | None = None
    """Since when the present container runs; None without one."""
    exited_at: datetime | None = None
    exit_code: int | None = None
    restarts: int = 0
    version: int = 1
    incarnation: int = 0
    """Counts the containers, so that news of an older one is told from news of the present one."""
    ssh_port: int | None = None
    meter: Meter = field(default_factory=Meter)
    events: list[PodEvent] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether it may still bill: running, or stopped with a disk."""
        return self.status != TERMINATED

    @property
    def price(self) -> Decimal:
        """USD per hour for all GPUs; disks come on top."""
        return self.price_per_gpu * max(1, self.gpu_count)

    @property
    def port_list(self) -> list[tuple[int, str]]:
        """What it exposes."""
        return parse_ports(self.ports)

    def note(self, at: datetime, what: str) -> None:
        """Write down what happened."""
        self.events.append(PodEvent(at, what))

    def happened(self, what: str) -> bool:
        """Whether an event begins so."""
        return any(event.what.startswith(what) for event in self.events)

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

    def bill(self, now: datetime) -> PodBill:
        """What it owes."""
        gpu = self.meter.cost(now, "gpu")
        return PodBill(
            pod_id=self.id,
            name=self.name,
            gpu=gpu,
            disk=self.meter.cost(now) - gpu,
            gpu_seconds=self.meter.seconds(now),
            running=self.meter.rate > 0,
        )
