"""What can be rented, and for how much."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from runner_provisioner.domain.bids import Bid
from runner_provisioner.domain.pods import CloudType

ANY_VRAM = 1
"""GB that every GPU has: a request for so much asks for any."""


class Interruptible(StrEnum):
    """Whether a pod may be one that the provider can take back."""

    REQUIRE = "require"
    PREFER = "prefer"
    NEVER = "never"


class Ranking(StrEnum):
    """What decides which offer is tried first."""

    PRICE = "price"  # the effective price; the order of the models among nearly equal ones
    LISTED = "listed"  # the order of the models, then the effective price


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRequest:
    """Which GPUs, in order of preference, and what they may cost.

    Prices are US dollars per hour for the whole pod, in the `cloud` that the pod will be asked for in. `bid` None
    means: the smaller of the cap and 1.1 times the market's minimum. No `models` means every model of at least
    `min_vram_gb` (of one GPU). `regions` are data centres or two-letter countries; none means anywhere. `cuda` is the
    lowest version that the host's driver must serve; sizes are GB, speeds Mbit/s; None asks for nothing.
    `network_volume` is the id of one that the pod wants: only offers where it lies fit.
    """

    models: tuple[str, ...]
    count: int
    interruptible: Interruptible
    max_price: Decimal
    bid: Bid | None = None
    cloud: CloudType = CloudType.ALL
    rank: Ranking = Ranking.PRICE
    min_vram_gb: int | None = None
    regions: tuple[str, ...] = ()
    cuda: str | None = None
    disk_gb: int | None = None
    min_vcpus: int | None = None
    min_memory_gb: int | None = None
    min_download: int | None = None
    min_upload: int | None = None
    network_volume: str | None = None

    def __str__(self) -> str:
        """What is wanted, in a few words."""
        memory = f" of {self.min_vram_gb} GB" if (self.min_vram_gb or 0) > ANY_VRAM else ""
        return f"{self.count} x {' or '.join(self.models) or f'any GPU{memory}'}"


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
    the bid, once there is one). `minimum_bid`, in the same unit, is the market's floor for interruptible offers,
    `on_demand` what the same costs where nobody can take it away, None where nobody names that.
    `gpu_name` is how the model is displayed, `raises` how often its bid has been raised, `cloud` the one of the
    provider's clouds that it belongs to, where an offer belongs to one; `region` is the place that it is rented in, as
    `--region` may name it, and `country` the one around it where the market told that. Where `bids` is False nobody
    bids for an interruptible offer: its floor is its price, and no raise of it is tried.
    """

    provider: str
    id: str
    gpu_model: str
    gpu_count: int
    price: Decimal
    interruptible: bool
    minimum_bid: Decimal | None = None
    on_demand: Decimal | None = None
    memory_gb: int | None = None
    region: str | None = None
    country: str | None = None
    stock: str | None = None
    gpu_name: str | None = None
    raises: int = 0
    cloud: CloudType | None = None
    bids: bool = True

    @property
    def list_price(self) -> Decimal:
        """What is asked of everybody, USD per hour: a bid is nobody's price but the bidder's."""
        if not self.interruptible:
            return self.price
        return self.on_demand or self.minimum_bid or self.price

    def is_model(self, name: str) -> bool:
        """Whether that is its id or its displayed name, in any case."""
        wanted = name.casefold()
        return wanted in {self.gpu_model.casefold(), (self.gpu_name or self.gpu_model).casefold()}

    def __str__(self) -> str:
        """Say it in one line for a log or a table."""
        kind = "interruptible" if self.interruptible else "on-demand"
        where = f"{self.provider}, {self.region}" if self.region else self.provider
        return f"{self.gpu_count} x {self.gpu_model} {kind} at {self.price} USD/h ({where})"
