"""What the simulated market has for rent when nobody says otherwise: models, hosts and data centres."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from runner_provisioner.simulators.market.hosts import Defect, Host

__all__ = ["CENTERS", "Catalog", "Center", "Defect", "GpuModel", "Machine", "default_catalog"]


@dataclass(kw_only=True)
class GpuModel:
    """One GPU type; prices in USD per GPU and hour, None where that cloud does not have it."""

    id: str
    display_name: str
    memory_in_gb: int
    secure_price: Decimal | None
    community_price: Decimal | None
    secure_bid: Decimal | None
    community_bid: Decimal | None
    max_count: int = 8
    mig: bool = False
    manufacturer: str = "Nvidia"
    cuda_cores: int = 0

    def price(self, *, secure: bool) -> Decimal | None:
        """On demand."""
        return self.secure_price if secure else self.community_price

    def minimum_bid(self, *, secure: bool) -> Decimal | None:
        """The lowest bid that wins now."""
        return self.secure_bid if secure else self.community_bid


@dataclass(kw_only=True)
class Machine(Host):
    """A host with GPUs of one model; `taken` of them are rented."""

    gpu_type_id: str
    secure: bool
    data_center_id: str
    country: str
    vcpus_per_gpu: int = 8
    memory_per_gpu: int = 48
    disk_in_gb: int = 2000
    download_mbps: int = 1000
    upload_mbps: int = 800
    public_ip: bool = True


@dataclass(frozen=True, kw_only=True)
class Center:
    """A data centre."""

    id: str
    name: str
    location: str
    country: str


@dataclass(kw_only=True)
class Catalog:
    """Everything for rent."""

    models: list[GpuModel] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)
    centers: list[Center] = field(default_factory=list)


CENTERS = (
    Center(id="US-TX-3", name="US-TX-3", location="United States", country="US"),
    Center(id="EU-RO-1", name="EU-RO-1", location="Romania", country="RO"),
    Center(id="CA-MTL-1", name="CA-MTL-1", location="Canada", country="CA"),
)

# id, shown as, GB, secure, community, lowest bid secure, lowest bid community (USD per GPU and hour)
_ROWS = (
    ("NVIDIA RTX A4000", "RTX A4000", 16, "0.25", "0.17", "0.16", "0.09"),
    ("NVIDIA RTX A5000", "RTX A5000", 24, "0.27", "0.16", "0.18", "0.11"),
    ("NVIDIA GeForce RTX 4090", "RTX 4090", 24, "0.59", "0.34", "0.34", "0.20"),
    ("NVIDIA GeForce RTX 4080 SUPER", "RTX 4080 SUPER", 16, "0.50", "0.28", "0.29", "0.17"),
    ("NVIDIA GeForce RTX 3090", "RTX 3090", 24, "0.46", "0.22", "0.24", "0.12"),
    ("NVIDIA A40", "A40", 48, "0.40", None, "0.24", None),
    ("NVIDIA L4", "L4", 24, "0.39", None, "0.22", None),
    ("NVIDIA L40S", "L40S", 48, "0.86", "0.79", "0.50", "0.40"),
    ("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, "1.39", "1.19", "0.82", "0.60"),
    ("NVIDIA H100 80GB HBM3", "H100 SXM", 80, "2.69", "2.69", "1.75", "1.50"),
    ("NVIDIA H200", "H200 SXM", 141, "3.59", None, "2.29", None),
    # Listed, but never rentable.
    ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "A100 SXM MIG 1g.10gb", 10, "0.35", None, "0.20", None),
)


def _price(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def default_models() -> list[GpuModel]:
    """A dozen models with prices of the right size."""
    return [
        GpuModel(
            id=key,
            display_name=shown,
            memory_in_gb=memory,
            secure_price=_price(secure),
            community_price=_price(community),
            secure_bid=_price(secure_bid),
            community_bid=_price(community_bid),
            mig=" MIG " in key,
        )
        for key, shown, memory, secure, community, secure_bid, community_bid in _ROWS
    ]


def _hosts(model: GpuModel) -> list[Machine]:
    stem = "".join(each for each in model.display_name.lower() if each.isalnum())
    clouds = [cloud for cloud in (True, False) if model.price(secure=cloud) is not None]
    return [
        Machine(
            id=f"{stem}{'s' if secure else 'c'}{number}",
            gpu_type_id=model.id,
            secure=secure,
            data_center_id=center.id,
            country=center.country,
            gpus=model.max_count if secure else 4,
        )
        for secure in clouds
        for number, center in enumerate(CENTERS[:2])
    ]


def default_catalog() -> Catalog:
    """Two hosts of every model in each of its clouds."""
    models = default_models()
    return Catalog(models=models, machines=[host for model in models for host in _hosts(model)], centers=list(CENTERS))
