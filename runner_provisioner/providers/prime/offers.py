"""What Prime Intellect has for rent, in the words of the domain: on demand and spot, each configuration an offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.pods import CloudType
from runner_provisioner.errors import NotFound, OfferUnfit, about
from runner_provisioner.logging import get_logger
from runner_provisioner.providers.prime import gpu_models
from runner_provisioner.providers.prime.amounts import Wanted, sizes
from runner_provisioner.providers.prime.api import OfferFilter, PrimeApi
from runner_provisioner.providers.prime.failures import SERVICE
from runner_provisioner.providers.prime.states import PROVIDER
from runner_provisioner.providers.prime.wire import WireOffer

REGIONS = frozenset(
    {
        "africa", "asia_south", "asia_northeast", "australia", "canada", "eu_east", "eu_north", "eu_west",
        "middle_east", "south_america", "united_states",
    }
)  # fmt: skip
_SOLD_OUT = frozenset({"", "UNAVAILABLE"})
_SECURITY = {CloudType.SECURE: "secure_cloud", CloudType.COMMUNITY: "community_cloud"}
_CLOUDS = {security: cloud for cloud, security in _SECURITY.items()}

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An offer with the row of the wire that a create must repeat."""

    offer: Offer
    row: WireOffer


async def find(api: PrimeApi, request: GpuRequest) -> Sequence[Found]:
    """What is for rent now; see the port. The cheapest where one configuration is listed twice.

    Raises UnknownGpu, and NotFound for a disk that is not there.
    """
    _note_unasked(request)
    rows = await _rows(api, request)
    await _check_known(api, request.models, {row.gpu_type for row in rows})
    found: dict[str, Found] = {}
    for one in sorted(_fitting(rows, request), key=lambda one: one.offer.price):
        found.setdefault(one.offer.id, one)
    return list(found.values())


async def find_again(api: PrimeApi, offer: Offer) -> WireOffer | None:
    """The row of an offer that another process was told of; None when it is gone."""
    rows = await api.offers(OfferFilter(gpu_count=offer.gpu_count, gpu_type=offer.gpu_model))
    return next((row for row in rows if row.key == offer.id and _for_rent(row)), None)


async def _rows(api: PrimeApi, request: GpuRequest) -> Sequence[WireOffer]:
    """The service's own filters where it has them; countries and data centres are looked at here."""
    regions = tuple(region.casefold() for region in request.regions)
    asked = OfferFilter(
        gpu_count=request.count,
        security=_SECURITY.get(request.cloud),
        regions=regions if REGIONS.issuperset(regions) else (),
        disks=(request.network_volume,) if request.network_volume is not None else (),
    )
    try:
        return await api.offers(asked)
    except NotFound as error:
        if request.network_volume is None:
            raise
        raise await _no_disk(api, request.network_volume) from error


async def _no_disk(api: PrimeApi, volume: str) -> NotFound:
    there = ", ".join(sorted(disk.id for disk in await api.disks())) or "none"
    message = f"Prime Intellect has no disk '{volume}' in this account: give --network-volume one of them ({there})"
    return about("network-volume", NotFound(message, service=SERVICE, operation="availability", code="NOT_FOUND"))


async def _check_known(api: PrimeApi, names: Sequence[str], listed: Iterable[str]) -> None:
    types = {*gpu_models.KNOWN, *listed}
    if not gpu_models.unknown(names, types):
        return
    types |= await api.gpu_types()
    strange = gpu_models.unknown(names, types)
    if strange:
        raise gpu_models.refusal(strange[0], types)


def _fitting(rows: Iterable[WireOffer], request: GpuRequest) -> Iterable[Found]:
    wanted = Wanted(disk_gb=request.disk_gb, vcpus=request.min_vcpus, memory_gb=request.min_memory_gb)
    for row in rows:
        name = gpu_models.named(row.gpu_type, row.socket, request.models)
        region = _region(row, request.regions)
        if not _is_wanted(row, request, name) or region is _ELSEWHERE or not _for_rent(row):
            continue
        try:
            chosen = sizes(row, wanted)
        except OfferUnfit as unfit:
            log.debug("prime_offer_left_out", offer=row.key, reason=str(unfit))
            continue
        yield Found(
            row=row,
            offer=Offer(
                provider=PROVIDER,
                id=row.key,
                gpu_model=row.gpu_type,
                gpu_count=request.count,
                price=chosen.price,
                interruptible=bool(row.is_spot),
                # Nobody bids: what is asked is the least that buys it, and more buys no more.
                minimum_bid=chosen.price if row.is_spot else None,
                bids=False,
                memory_gb=_memory(row) or None,
                region=region,
                country=row.country,
                stock=row.stock_status,
                gpu_name=name,
                cloud=_CLOUDS.get(row.security or ""),
            ),
        )


def _is_wanted(row: WireOffer, request: GpuRequest, name: str | None) -> bool:
    least = request.min_vram_gb or 0
    known = _memory(row) >= least
    cloud = request.cloud is CloudType.ALL or row.security == _SECURITY[request.cloud]
    return row.gpu_count == request.count and cloud and (name is not None if request.models else known)


def _memory(row: WireOffer) -> int:
    """GB of one GPU. The type says it; `gpuMemory` has been seen to be that of all GPUs together."""
    return gpu_models.memory_of(row.gpu_type) or (row.gpu_memory or 0) // max(1, row.gpu_count or 1)


def _for_rent(row: WireOffer) -> bool:
    """Whether it is there by the hour: what must be paid for in advance is not."""
    return (row.stock_status or "").strip().upper() not in _SOLD_OUT and not row.prepaid_time


_ELSEWHERE = "(elsewhere)"


def _region(row: WireOffer, wanted: Sequence[str]) -> str | None:
    """Where it is, in the words of the request where there are any."""
    places = [place for place in (row.data_center, row.country, row.region) if place]
    if not wanted:
        return next(iter(places), None)
    asked = {region.casefold() for region in wanted}
    return next((place for place in places if place.casefold() in asked), _ELSEWHERE)


def _note_unasked(request: GpuRequest) -> None:
    """Say what the market cannot be asked for: the checks in the pod look at it where they can."""
    asked: Mapping[str, object] = {
        "cuda": request.cuda,
        "min_download": request.min_download,
        "min_upload": request.min_upload,
    }
    names = [name for name, value in asked.items() if value]
    if names:
        log.warning("prime_not_asked_for", what=names, reason="Prime Intellect has no such filter")
