"""What can be rented, and for how much."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from runner_provisioner.domain.pods import CloudType


class Interruptible(StrEnum):
    """Whether a pod may be one that the provider can take back."""

    REQUIRE = "require"
    PREFER = "prefer"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRequest:
    """Which GPUs, in order of preference, and what they may cost.

    Prices are US dollars per hour for the whole pod, in the `cloud` that the pod will be asked for in. `bid` None
    means: the smaller of the cap and 1.1 times the market's minimum. `cuda` is the lowest version that the host's
    driver must serve, `min_download` is in Mbit/s; None asks for nothing.
    """

    models: tuple[str, ...]
    count: int
    interruptible: Interruptible
    max_price: Decimal
    bid: Decimal | None = None
    cloud: CloudType = CloudType.ALL
    cuda: str | None = None
    min_download: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuType:
    """A GPU model that a provider knows; `memory_gb` is that of one GPU."""

    id: str
    name: str
    memory_gb: int
    secure: bool
    community: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Something a provider would rent out now.

    `price` is US dollars per hour for all `gpu_count` GPUs: what the pod costs at most (for an interruptible offer
    the bid, once there is one). `minimum_bid`, in the same unit, is the market's floor for interruptible offers.
    """

    provider: str
    id: str
    gpu_model: str
    gpu_count: int
    price: Decimal
    interruptible: bool
    minimum_bid: Decimal | None = None
    memory_gb: int | None = None
    region: str | None = None
    stock: str | None = None

    def __str__(self) -> str:
        """Say it in one line for a log or a table."""
        kind = "interruptible" if self.interruptible else "on-demand"
        return f"{self.gpu_count} x {self.gpu_model} {kind} at {self.price} USD/h ({self.provider})"
