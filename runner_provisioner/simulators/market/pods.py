"""One rented pod of a simulated market: what was asked for, what became of it, what it owes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from runner_provisioner.simulators.market.hosts import Host
from runner_provisioner.simulators.market.money import Meter, PodBill

RUNNING = "RUNNING"
EXITED = "EXITED"
TERMINATED = "TERMINATED"


@dataclass(frozen=True)
class PodEvent:
    """Something that happened to a pod."""

    at: datetime
    what: str


@dataclass(kw_only=True, eq=False)
class RentedPod(ABC):
    """The state of one pod; times are the simulator's.

    `status` is what its owner last wished and the market granted, whatever words the market itself has: RUNNING from
    the creation on, EXITED when it was stopped or taken away and still exists, TERMINATED.
    """

    id: str
    name: str
    image: str
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """As the creator gave it."""
    gpu_count: int = 1
    machine: Host
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The whole input of the creation."""
    foreign: bool = False
    """Put there by a test, not by a call."""

    status: str = RUNNING
    created_at: datetime
    last_started_at: datetime
    terminate_after: datetime | None = None
    interrupt_at: datetime | None = None
    restart_at: datetime | None = None
    ended_at: datetime | None = None
    """When it was terminated."""
    ghost: Self | None = None
    """Its last state before it was terminated, which late lists still show."""
    looks: int = 0
    """How often a client has read it since it was started last."""
    booted: bool = False
    """Whether its container was started since the pod was started last."""
    running_since: datetime | None = None
    """Since when the present container runs; None without one."""
    exited_at: datetime | None = None
    exit_code: int | None = None
    failure: str = ""
    """Why its container could not be made."""
    restarts: int = 0
    incarnation: int = 0
    """Counts the containers, so that news of an older one is told from news of the present one."""
    ssh_port: int | None = None
    meter: Meter = field(default_factory=Meter)
    events: list[PodEvent] = field(default_factory=list)

    @property
    @abstractmethod
    def price(self) -> Decimal:
        """USD per hour for all GPUs."""

    @property
    @abstractmethod
    def gpu_name(self) -> str:
        """What the market calls its GPUs."""

    @property
    @abstractmethod
    def spot(self) -> bool:
        """Whether the provider may take it at any time."""

    @abstractmethod
    def rates(self) -> dict[str, Decimal]:
        """What it is billed for in its present state (kind -> USD per hour); the GPUs are the kind `gpu`."""

    @abstractmethod
    def told(self) -> dict[str, Any]:
        """What the control interface says of it beyond what every pod has."""

    @property
    def wants_ssh(self) -> bool:
        """Whether it asked for its port 22 to be reachable."""
        return True

    @property
    def live(self) -> bool:
        """Whether it may still bill."""
        return self.status != TERMINATED

    def note(self, at: datetime, what: str) -> None:
        """Write down what happened."""
        self.events.append(PodEvent(at, what))

    def happened(self, what: str) -> bool:
        """Whether an event begins so."""
        return any(event.what.startswith(what) for event in self.events)

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
