"""What Lium has for rent: one offer for each node that can give so many GPUs of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runner_provisioner.domain.offers import GpuRequest, GpuType, Offer
from runner_provisioner.domain.pods import CloudType
from runner_provisioner.logging import get_logger
from runner_provisioner.providers.celium.api import CeliumApi
from runner_provisioner.providers.celium.models import find, refuse, short
from runner_provisioner.providers.celium.states import PROVIDER
from runner_provisioner.providers.celium.wire import WireExecutor

_KIB_PER_GB = 1024 * 1024
_MIB_PER_GB = 1024
_SHOWN = 0.94  # a card shows less memory than it is sold with

log = get_logger(__name__)


async def market(api: CeliumApi, request: GpuRequest) -> Sequence[Offer]:
    """See the port. A node of `tier: spot` is interruptible; nobody bids, so its price is its floor.

    Raises UnknownGpu when the market knows none of the models; one of several that it does not know is no error, since
    what is free, and so what is known, changes from day to day.
    """
    machines = await _machines(api, request.models)
    filters: dict[str, str | int] = {"gpu_count_gte": request.count}
    if machines:
        filters["machine_names"] = ",".join(machines)
    if request.min_download:
        filters["min_download_mbps"] = request.min_download
    nodes = await api.executors(filters)
    return [_offer(node, request) for node in nodes if _fits(node, request, machines)]


async def kinds(api: CeliumApi) -> Sequence[GpuType]:
    """Every model; the memory of one of which no node is free is not told, and 0."""
    nodes = await api.executors({})
    names = dict.fromkeys([*await api.machines(), *(node.machine_name for node in nodes if node.machine_name)])
    return [_kind(name, [node for node in nodes if node.machine_name == name]) for name in names]


async def _machines(api: CeliumApi, wanted: Sequence[str]) -> Sequence[str]:
    """The market's names of these models; empty means any."""
    if not wanted:
        return ()
    known = await api.machines()
    found = {name: find(name, known) for name in wanted}
    if not any(found.values()):
        refuse(wanted, known)
    for name, machine in found.items():
        if machine is None:
            log.info("celium_gpu_unknown", gpu=name)
    return tuple(dict.fromkeys(machine for machine in found.values() if machine))


def _fits(node: WireExecutor, request: GpuRequest, machines: Sequence[str]) -> bool:
    if not node.machine_name or not node.price_per_gpu or node.price_per_gpu <= 0:
        return False
    return (
        (not machines or node.machine_name in machines)
        and _rentable(node, request.count)
        and (request.cloud is not CloudType.SECURE or not node.interruptible)
        and _somewhere(node, request.regions)
        and _strong_enough(node, request)
    )


def _rentable(node: WireExecutor, count: int) -> bool:
    """A node without a least count is rented whole."""
    whole = node.gpu_count or 0
    free = whole if node.available_gpu_count is None else node.available_gpu_count
    if node.min_gpu_count_for_rental is None:
        return count == whole == free
    return max(1, node.min_gpu_count_for_rental) <= count <= free


def _somewhere(node: WireExecutor, regions: Sequence[str]) -> bool:
    return not regions or _place(node, regions) is not None


def _place(node: WireExecutor, regions: Sequence[str]) -> str | None:
    """Where it is, in the words of the request where there are any."""
    asked = {region.casefold() for region in regions}
    return next((place for place in _places(node) if not asked or place.casefold() in asked), None)


def _places(node: WireExecutor) -> Iterable[str]:
    location = node.location or {}
    found = (location.get(name) for name in ("country_code", "country", "region"))
    return [place for place in found if isinstance(place, str) and place]


def _strong_enough(node: WireExecutor, request: GpuRequest) -> bool:
    vram = request.min_vram_gb and request.min_vram_gb * _MIB_PER_GB * _SHOWN
    floors = (
        (vram, node.vram_mib),
        (request.min_vcpus, node.spec("cpu", "count")),
        (request.min_memory_gb and request.min_memory_gb * _KIB_PER_GB, node.spec("ram", "total")),
        (request.disk_gb and request.disk_gb * _KIB_PER_GB, _disk(node)),
        (request.min_download, node.effective_download_speed_mbps),
        (request.min_upload, node.effective_upload_speed_mbps),
    )
    if any(floor and (has is None or has < floor) for floor, has in floors):
        return False
    return request.cuda is None or _version(str(node.max_cuda_version or 0)) >= _version(request.cuda)


def _version(text: str) -> tuple[int, ...]:
    """`12.8` told as a number; a part that is none counts as 0."""
    return tuple(int(part) if part.isdecimal() else 0 for part in f"{text}.0".split(".")[:2])


def _disk(node: WireExecutor) -> float | None:
    free = node.spec("hard_disk", "free")
    return node.spec("hard_disk", "total") if free is None else free


def _offer(node: WireExecutor, request: GpuRequest) -> Offer:
    assert node.machine_name and node.price_per_gpu  # noqa: S101, PT018 - only what fits comes here
    price = node.price_per_gpu * request.count
    interruptible = bool(node.interruptible)
    return Offer(
        provider=PROVIDER,
        id=node.id,
        gpu_model=node.machine_name,
        gpu_count=request.count,
        price=price,
        interruptible=interruptible,
        minimum_bid=price if interruptible else None,
        memory_gb=_memory(node),
        region=_place(node, request.regions),
        stock="often fails" if node.frequent_rent_failures else None,
        gpu_name=short(node.machine_name),
        bids=False,
    )


def _memory(node: WireExecutor) -> int | None:
    return round(node.vram_mib / _MIB_PER_GB) if node.vram_mib else None


def _kind(name: str, nodes: Sequence[WireExecutor]) -> GpuType:
    return GpuType(
        id=name,
        name=short(name),
        memory_gb=max((_memory(node) or 0 for node in nodes), default=0),
        secure=any(not node.interruptible for node in nodes),
        community=bool(nodes),
    )
