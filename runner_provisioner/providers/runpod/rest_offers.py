"""What REST v2's catalogue has for rent: one offer for each model, cloud and place, all on demand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from runner_provisioner.domain.offers import GpuRequest, GpuType, Offer
from runner_provisioner.domain.pods import CloudType
from runner_provisioner.errors import NotFound, about
from runner_provisioner.logging import get_logger
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.rest_api import RestApi
from runner_provisioner.providers.runpod.rest_requests import cuda_floor
from runner_provisioner.providers.runpod.rest_wire import RestGpuType, RestMost, RestPrice
from runner_provisioner.providers.runpod.states import PROVIDER

_COUNTRY = 2  # letters
_NOTHING = frozenset({"", "NONE"})

log = get_logger(__name__)


@dataclass(frozen=True)
class _Place:
    """Where to ask: anywhere, in a country, or in a data centre."""

    country: str | None = None
    center: str | None = None


async def rest_offers(rest: RestApi, request: GpuRequest, models: Sequence[GpuType]) -> Sequence[Offer]:
    """See the port. A country is answered by its data centres, since a create takes nothing larger.

    Raises NotFound for a network volume that is not there.
    """
    if request.min_download or request.min_upload:
        # The checks in a runner's pod measure the download; nothing else of REST v2 can ask for a speed.
        log.warning("runpod_speed_not_asked_for", reason="REST v2 has no such filter")
    found: list[Offer] = []
    for place in await _places(rest, request):
        for cloud in _clouds(request.cloud):
            answers = await rest.availability(
                count=request.count, cloud=cloud.value.upper(), country=place.country, min_cuda=cuda_floor(request.cuda)
            )
            by_id = {gpu.id: gpu for gpu in answers}
            for model in models:
                found += _offers(by_id.get(model.id), request.count, cloud, place)
    return list({offer.id: offer for offer in found}.values())


def _clouds(wanted: CloudType) -> Sequence[CloudType]:
    return (CloudType.SECURE, CloudType.COMMUNITY) if wanted is CloudType.ALL else (wanted,)


async def _places(rest: RestApi, request: GpuRequest) -> Sequence[_Place]:
    if request.network_volume is not None:
        return [_Place(center=await _place_of(rest, request.network_volume))]
    regions = [region.upper() for region in request.regions]
    countries = [_Place(country=region) for region in regions if len(region) == _COUNTRY]
    centers = [_Place(center=region) for region in regions if len(region) != _COUNTRY]
    return [*countries, *centers] or [_Place()]


async def _place_of(rest: RestApi, volume: str) -> str | None:
    known = {one.id: one.data_center for one in await rest.network_volumes()}
    if volume not in known:
        there = ", ".join(sorted(known)) or "none"
        message = (
            f"RunPod has no network volume '{volume}' in this account: give --network-volume one of them ({there})"
        )
        raise about("network-volume", NotFound(message, service=SERVICE, operation="networkVolumes", code="NOT_FOUND"))
    return known[volume]


def _offers(gpu: RestGpuType | None, count: int, cloud: CloudType, place: _Place) -> Iterable[Offer]:
    if gpu is None or _none(gpu.availability) or count > (_of(gpu.max_count or RestMost(), cloud) or count):
        return []
    price = _price(gpu, cloud)
    if price is None:
        return []
    found = [_offer(gpu, count, cloud, price, region, stock) for region, stock in _regions(gpu, place)]
    return [replace(offer, country=place.country) for offer in found]


def _regions(gpu: RestGpuType, place: _Place) -> Sequence[tuple[str | None, str | None]]:
    """Each place to rent in, with its stock; None = wherever RunPod chooses."""
    if place.country is None and place.center is None:
        return [(None, gpu.availability)]
    centers = [one for one in gpu.data_centers or () if not _none(one.availability)]
    return [(one.id, one.availability) for one in centers if place.center in {None, one.id}]


def _none(availability: str | None) -> bool:
    return (availability or "").strip().upper() in _NOTHING


def _of(both: RestMost, cloud: CloudType) -> int | None:
    return both.secure if cloud is CloudType.SECURE else both.community


def _price(gpu: RestGpuType, cloud: CloudType) -> Decimal | None:
    prices = gpu.price or RestPrice()
    price = prices.secure if cloud is CloudType.SECURE else prices.community
    sold = gpu.secure if cloud is CloudType.SECURE else gpu.community
    return price if price and price > 0 and sold is not False else None


def _offer(
    gpu: RestGpuType, count: int, cloud: CloudType, price: Decimal, region: str | None, stock: str | None
) -> Offer:
    parts = [gpu.id, str(count), "on-demand", cloud.value, *([region] if region else [])]
    return Offer(
        provider=PROVIDER,
        id=":".join(parts),
        gpu_model=gpu.id,
        gpu_count=count,
        price=price * count,
        interruptible=False,
        memory_gb=gpu.memory,
        region=region,
        stock=stock,
        gpu_name=gpu.name,
        cloud=cloud,
    )
