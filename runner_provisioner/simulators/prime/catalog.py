"""What the simulated Prime Intellect offers when nobody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from runner_provisioner.simulators.market.hosts import Host

UBUNTU = "ubuntu_22_cuda_12"
CUSTOM = "custom_template"
IMAGES = (UBUNTU, "cuda_12_4_pytorch_2_5", CUSTOM)
_HIGH, _MEDIUM = 8, 4


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much of something comes with an offer; above `included` each unit costs `price` USD per hour."""

    least: int
    included: int
    most: int
    price: Decimal = Decimal(0)
    step: int = 1

    def beyond(self, wanted: int | None) -> Decimal:
        """USD per hour for what is beyond the included."""
        return self.price * max(0, (wanted or self.included) - self.included)

    def allows(self, wanted: int | None) -> bool:
        """Whether so much can be had."""
        return wanted is None or self.least <= wanted <= self.most


@dataclass(kw_only=True)
class Offer(Host):
    """One configuration of one provider: `gpu_count` GPUs at `price` USD per hour together.

    `id` is its own; `cloud_id` is what a creation names.
    """

    cloud_id: str
    gpu_type: str
    gpu_memory: int
    gpu_count: int = 1
    socket: str = "PCIe"
    provider: str = "hyperstack"
    region: str = "united_states"
    data_center: str = "US-TX-1"
    country: str = "US"
    security: str = "secure_cloud"
    price: Decimal
    community: bool = False
    """Whether the price comes as `communityPrice`."""
    spot: bool = False
    images: tuple[str, ...] = IMAGES
    disk: Amount = field(default_factory=lambda: Amount(least=20, included=100, most=2000, price=Decimal("0.0002")))
    vcpu: Amount = field(default_factory=lambda: Amount(least=1, included=8, most=8))
    memory: Amount = field(default_factory=lambda: Amount(least=1, included=32, most=32))

    @property
    def stock(self) -> str:
        """The word for what is left."""
        units = self.free // self.gpu_count
        if units <= 0:
            return "Unavailable"
        return "High" if units >= _HIGH else "Medium" if units >= _MEDIUM else "Low"


def default_offers() -> list[Offer]:
    """On demand and spot, secure and community, one GPU and eight, and a provider that takes no environment."""
    return [
        Offer(
            id="a4000", cloud_id="a4000-1x", gpu_type="RTXA4000_16GB", gpu_memory=16, gpus=8, price=Decimal("0.17"),
            provider="datacrunch", data_center="FIN-01", country="FI", region="eu_north", socket="PCIe",
        ),
        Offer(
            id="a4000-spot", cloud_id="a4000-1x-spot", gpu_type="RTXA4000_16GB", gpu_memory=16, gpus=8,
            price=Decimal("0.07"), provider="datacrunch", data_center="FIN-01", country="FI", region="eu_north",
            spot=True,
        ),
        Offer(
            id="4090", cloud_id="n3-RTX-4090x1", gpu_type="RTX4090_24GB", gpu_memory=24, gpus=4, price=Decimal("0.44"),
        ),
        Offer(
            id="4090-spot", cloud_id="n3-RTX-4090x1-spot", gpu_type="RTX4090_24GB", gpu_memory=24, gpus=4,
            price=Decimal("0.22"), spot=True,
        ),
        Offer(
            id="4090-runpod", cloud_id="NVIDIA GeForce RTX 4090", gpu_type="RTX4090_24GB", gpu_memory=24, gpus=8,
            price=Decimal("0.34"), provider="runpod", security="community_cloud", community=True, country="CA",
            region="canada", data_center="CA-MTL-1",
        ),
        Offer(
            id="a100", cloud_id="a100-80gb-1x", gpu_type="A100_80GB", gpu_memory=80, gpus=8, price=Decimal("1.29"),
            provider="massedcompute", socket="SXM4", data_center="us-central-3",
            vcpu=Amount(least=12, included=12, most=12), memory=Amount(least=64, included=64, most=64),
        ),
        Offer(
            id="h100-8", cloud_id="gpu_8x_h100_sxm5", gpu_type="H100_80GB", gpu_memory=80, gpus=16, gpu_count=8,
            price=Decimal("19.92"), provider="lambdalabs", socket="SXM5", data_center="us-south-1",
            vcpu=Amount(least=208, included=208, most=208), memory=Amount(least=1800, included=1800, most=1800),
            disk=Amount(least=1000, included=2000, most=4000, price=Decimal("0.0001")),
        ),
    ]  # fmt: skip


class Market:
    """The offers; changed by tests at will, under the simulator's lock."""

    def __init__(self, offers: list[Offer] | None = None) -> None:
        """With the default ones when none are given."""
        self.offers = default_offers() if offers is None else offers

    def offer(self, name: str) -> Offer:
        """By its id or its cloud id; KeyError."""
        for each in self.offers:
            if name in (each.id, each.cloud_id):
                return each
        raise KeyError(name)

    def set_stock(self, name: str, count: int) -> None:
        """Leave exactly `count` of these configurations free: of one offer, or of each with that GPU type."""
        for each in self._chosen(name):
            each.gpus = each.taken + count * each.gpu_count

    def set_price(self, name: str, usd: Decimal) -> None:
        """USD per hour, of one offer or of each with that GPU type."""
        for each in self._chosen(name):
            each.price = usd

    def _chosen(self, name: str) -> list[Offer]:
        chosen = [each for each in self.offers if name in (each.id, each.cloud_id, each.gpu_type)]
        if not chosen:
            raise KeyError(name)
        return chosen
