"""The simulated market: who may have which GPUs at which price."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.catalog import Catalog, GpuModel, Machine, default_catalog
from runner_provisioner.simulators.runpod.texts import HttpRefused, Refused

_HIGH, _MEDIUM = 8, 4


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody asks the market for; None and 0 ask for nothing."""

    gpu_type_ids: tuple[str, ...]
    count: int = 1
    secure: bool | None = None
    data_centers: tuple[str, ...] = ()
    country: str = ""
    min_vcpus: int = 0
    min_memory: int = 0
    min_disk: int = 0
    min_download: int = 0
    min_upload: int = 0
    cuda: tuple[str, ...] = ()
    min_cuda: str = ""
    public_ip: bool = False

    @classmethod
    def read(cls, gpu_type_ids: Iterable[str], given: dict[str, Any], *, secure: bool | None) -> Wish:
        """From an input of `lowestPrice` or of a creation; null and empty strings mean nothing there."""
        allowed = [each for each in given.get("allowedCudaVersions") or () if each]
        exact = given.get("cudaVersion")
        return cls(
            gpu_type_ids=tuple(gpu_type_ids),
            count=given.get("gpuCount") or 1,
            secure=secure,
            data_centers=tuple(each.strip() for each in (given.get("dataCenterId") or "").split(",") if each.strip()),
            country=given.get("countryCode") or "",
            min_vcpus=given.get("minVcpuCount") or 0,
            min_memory=given.get("minMemoryInGb") or 0,
            min_disk=max(given.get("minDisk") or 0, given.get("totalDisk") or 0),
            min_download=given.get("minDownload") or 0,
            min_upload=given.get("minUpload") or 0,
            cuda=tuple(allowed or ([exact] if exact else [])),
            min_cuda=given.get("minCudaVersion") or "",
            public_ip=bool(given.get("supportPublicIp")),
        )


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a pod goes, and its price in USD per GPU and hour."""

    model: GpuModel
    machine: Machine
    price: Decimal


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


class Market:
    """Models, hosts and prices; changed by tests at will, under the simulator's lock."""

    def __init__(self, catalog: Catalog | None = None) -> None:
        """With the default catalogue when none is given."""
        self.catalog = catalog or default_catalog()
        self.spot = False
        """Whether spot pods are offered; RunPod ended them in September 2026."""
        self.bids_listed = True
        """Whether `minimumBidPrice` is still shown while they are not."""

    def model(self, gpu_type_id: str) -> GpuModel | None:
        """By id."""
        return next((each for each in self.catalog.models if each.id == gpu_type_id), None)

    def machine(self, machine_id: str) -> Machine:
        """By id; KeyError."""
        found = next((each for each in self.catalog.machines if each.id == machine_id), None)
        if found is None:
            raise KeyError(machine_id)
        return found

    def hosts(self, gpu_type_id: str, *, secure: bool | None = None) -> list[Machine]:
        """Machines with that model, of one cloud or of both."""
        return [
            each for each in self.catalog.machines if each.gpu_type_id == gpu_type_id and secure in (None, each.secure)
        ]

    def set_stock(self, gpu_type_id: str, count: int, *, secure: bool | None = None) -> None:
        """Leave exactly `count` GPUs free (per cloud), spread over the hosts in their order."""
        for cloud in (True, False) if secure is None else (secure,):
            left = count
            hosts = self.hosts(gpu_type_id, secure=cloud)
            for host in hosts:
                share = left if host is hosts[-1] else min(left, self._largest(gpu_type_id))
                host.gpus = host.taken + share
                left -= share

    def _largest(self, gpu_type_id: str) -> int:
        model = self.model(gpu_type_id)
        return model.max_count if model else 8

    def set_price(
        self, gpu_type_id: str, *, on_demand: Decimal | None = None, bid: Decimal | None = None, secure: bool = False
    ) -> None:
        """Change the price and the lowest bid of one cloud (USD per GPU and hour); KeyError for an unknown model."""
        model = self.model(gpu_type_id)
        if model is None:
            raise KeyError(gpu_type_id)
        cloud = "secure" if secure else "community"
        if on_demand is not None:
            setattr(model, f"{cloud}_price", on_demand)
        if bid is not None:
            setattr(model, f"{cloud}_bid", bid)

    def place(self, wish: Wish, *, bid: Decimal | None = None, ceiling: Decimal | None = None) -> Placement:
        """Choose the cheapest fitting host, models in the wish's order.

        `bid` is per GPU, `ceiling` for the whole pod, in USD per hour. Raises Refused with the service's text.
        """
        models = [model for each in wish.gpu_type_ids if (model := self.model(each)) is not None]
        if models and all(model.mig for model in models):
            raise HttpRefused(400, texts.NO_MIG.format(models[0].display_name))
        if not models:
            raise Refused(texts.OVER_CONSTRAINED)
        refusal = texts.NO_STOCK if bid is None else texts.NO_STOCK_SPOT
        for model in models:
            placements, why = self._placements(model, wish, bid, ceiling)
            if placements:
                return min(placements, key=lambda each: each.price)
            refusal = why or refusal
        raise Refused(refusal)

    def _placements(
        self, model: GpuModel, wish: Wish, bid: Decimal | None, ceiling: Decimal | None
    ) -> tuple[list[Placement], str | None]:
        stocked = [each for each in self.hosts(model.id, secure=wish.secure) if each.free >= wish.count]
        if not stocked:
            return [], None
        fitting = [each for each in stocked if _fits(each, wish)]
        if not fitting:
            return [], texts.OVER_CONSTRAINED
        roomy = [each for each in fitting if each.disk_in_gb >= wish.min_disk]
        if not roomy:
            return [], texts.NO_DISK
        found = [_placement(model, each, bid) for each in roomy]
        return [each for each in found if each and (ceiling is None or each.price * wish.count <= ceiling)], None

    def lowest_price(self, model: GpuModel, wish: Wish) -> dict[str, Any]:
        """The answer of `lowestPrice`: prices for the whole count, null where nothing is free."""
        hosts = [each for each in self.hosts(model.id, secure=wish.secure) if _fits(each, wish)]
        roomy = [each for each in hosts if each.free >= wish.count and each.disk_in_gb >= wish.min_disk]
        total = sum(each.gpus for each in hosts)
        taken = sum(each.taken for each in hosts)
        largest = max((each.free for each in hosts), default=0)
        return {
            "minimumBidPrice": self._cheapest_bid(model, roomy, wish.count),
            "uninterruptablePrice": _least((model.price(secure=each.secure) for each in roomy), wish.count),
            "stockStatus": stock_status(sum(each.free for each in roomy)),
            "gpuName": model.display_name,
            "gpuTypeId": model.id,
            "minMemory": min((each.memory_per_gpu for each in roomy), default=None),
            "minVcpu": min((each.vcpus_per_gpu for each in roomy), default=None),
            "minDisk": wish.min_disk or None,
            "minDownload": min((each.download_mbps for each in roomy), default=None),
            "minUpload": min((each.upload_mbps for each in roomy), default=None),
            "rentalPercentage": taken / total if total else 0.0,
            "rentedCount": taken,
            "totalCount": total,
            "countryCode": wish.country or None,
            "supportPublicIp": any(each.public_ip for each in roomy),
            "compliance": [],
            "maxGpuCount": model.max_count,
            "maxUnreservedGpuCount": largest,
            "availableGpuCounts": list(range(1, largest + 1)),
            "gpuTypeCudaVersions": [
                {"cudaVersion": version, "availability": "HIGH"} for version in sorted({each.cuda for each in roomy})
            ],
        }

    def _cheapest_bid(self, model: GpuModel, hosts: Sequence[Machine], count: int) -> float | None:
        if not (self.spot or self.bids_listed):
            return None
        return _least((model.minimum_bid(secure=each.secure) for each in hosts), count)


def stock_status(free: int) -> str | None:
    """The word for so many free GPUs; null is not rentable."""
    if free <= 0:
        return None
    return "High" if free >= _HIGH else "Medium" if free >= _MEDIUM else "Low"


def _least(prices: Iterable[Decimal | None], count: int) -> float | None:
    known = [price for price in prices if price is not None]
    return float(min(known) * count) if known else None


def _fits(machine: Machine, wish: Wish) -> bool:
    return all(
        (
            not wish.data_centers or machine.data_center_id in wish.data_centers,
            not wish.country or machine.country == wish.country,
            machine.vcpus_per_gpu * wish.count >= wish.min_vcpus,
            machine.memory_per_gpu * wish.count >= wish.min_memory,
            machine.download_mbps >= wish.min_download,
            machine.upload_mbps >= wish.min_upload,
            not wish.cuda or machine.cuda in wish.cuda,
            _version(machine.cuda) >= _version(wish.min_cuda),
            machine.public_ip or not wish.public_ip,
        )
    )


def _placement(model: GpuModel, machine: Machine, bid: Decimal | None) -> Placement | None:
    """None when the cloud does not sell it, or not at that bid."""
    if bid is None:
        price = model.price(secure=machine.secure)
        return None if price is None else Placement(model=model, machine=machine, price=price)
    least = model.minimum_bid(secure=machine.secure)
    if least is None or bid < least:
        return None
    return Placement(model=model, machine=machine, price=bid)
