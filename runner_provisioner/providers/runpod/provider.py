"""RunPod as a market of machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from runner_provisioner.domain.offers import GpuRequest, GpuType, Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec
from runner_provisioner.errors import ApiRetired, CreateOutcomeUnknown, NotFound, SpotDiscontinued
from runner_provisioner.logging import get_logger
from runner_provisioner.ports import Clock
from runner_provisioner.providers.runpod.api import RunPodApi
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.gpu_cache import GpuCache
from runner_provisioner.providers.runpod.inputs import StopInput
from runner_provisioner.providers.runpod.models import find, refuse
from runner_provisioner.providers.runpod.requests import on_demand_input, price_input, rent_input
from runner_provisioner.providers.runpod.resuming import no_such_pod, resume
from runner_provisioner.providers.runpod.states import PROVIDER, to_pod
from runner_provisioner.providers.runpod.wire import WireGpuType, WirePod, WirePrice

_NO_STOCK = frozenset({"", "none"})  # Low can be rented, none and null cannot (gpuhunt)

log = get_logger(__name__)


class RunPodProvider:
    """Keeps the promises of GpuProvider, ReadsMany, Pausable, HasBalance, HasGpuTypes and HasAccountKeys.

    It remembers for its own lifetime which pods it stopped, so that their EXITED is no interruption, and that
    RunPod no longer offers interruptible pods.
    """

    name = PROVIDER

    def __init__(self, api: RunPodApi, *, clock: Clock, cache_dir: Path | None = None) -> None:
        """`cache_dir` holds the GPU models for an hour; None keeps none."""
        self._api = api
        self._cache = GpuCache(cache_dir, url=api.url, clock=clock)
        self._stopped: set[str] = set()
        self._spot_gone = False

    def __repr__(self) -> str:
        return f"RunPodProvider({self._api.url})"

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._api.aclose()

    async def offers(self, request: GpuRequest) -> Sequence[Offer]:
        """Both kinds for each model and region, priced for the whole count; see the port."""
        models = await self._wanted(request)
        found: list[Offer] = []
        for region in await self._places(request):
            answers = await self._api.gpu_prices_of([gpu.id for gpu in models], price_input(request, region))
            found += [offer for answer in answers for offer in self._offers_of(answer, request.count, region)]
        return found

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """See the port. The price of an interruptible offer is the bid for the whole pod."""
        if offer.interruptible:
            return self._rented(await self._rent(spec, offer), spec)
        return self._rented(await self._api.pod_find_and_deploy_on_demand(on_demand_input(spec, offer)), spec)

    async def get(self, pod_id: PodId) -> Pod | None:
        """See the port."""
        found = await self._api.pod(pod_id)
        return self._pod(found) if found else None

    async def get_many(self, pod_ids: Sequence[PodId]) -> Mapping[PodId, Pod | None]:
        """See ReadsMany; fifty pods a request."""
        found = await self._api.pods(pod_ids)
        return {pod_id: self._pod(pod) if (pod := found[pod_id]) else None for pod_id in pod_ids}

    async def list(self, owner8: str | None) -> Sequence[Pod]:
        """See the port."""
        pods = [pod for pod in map(self._pod, await self._api.my_pods()) if pod]
        return pods if owner8 is None else [pod for pod in pods if _belongs(pod, owner8)]

    async def terminate(self, pod_id: PodId) -> None:
        """See the port. REST v2 is used where GraphQL has been switched off."""
        try:
            await self._end(pod_id)
        except NotFound:
            log.debug("pod_gone_already", pod_id=pod_id)
        self._stopped.discard(pod_id)

    async def stop(self, pod_id: PodId) -> Pod:
        """See the port."""
        stopped = await self._api.pod_stop(StopInput(pod_id=pod_id))
        self._stopped.add(pod_id)
        return self._existing(stopped, "podStop")

    async def resume(self, pod_id: PodId, *, gpu_count: int | None = None, bid_per_gpu: Decimal | None = None) -> Pod:
        """See the port. The count of a bid is the pod's own unless given."""
        resumed = await resume(self._api, pod_id, gpu_count=gpu_count, bid_per_gpu=bid_per_gpu)
        self._stopped.discard(pod_id)
        return self._existing(resumed, "podResume")

    async def balance(self) -> Decimal:
        """See HasBalance."""
        return await self._api.client_balance()

    async def gpu_types(self) -> Sequence[GpuType]:
        """See HasGpuTypes; at most an hour old."""
        cached = self._cache.load()
        return cached if cached is not None else await self._fetch_gpu_types()

    async def ssh_keys(self) -> Sequence[str]:
        """See HasAccountKeys."""
        lines = (await self._api.pub_key()).splitlines()
        return [line.strip() for line in lines if line.strip()]

    async def _rent(self, spec: PodSpec, offer: Offer) -> WirePod:
        wanted = rent_input(spec, offer)
        if self._spot_gone:
            raise SpotDiscontinued(
                "RunPod no longer offers interruptible pods: use --interruptible prefer or never",
                service=SERVICE,
                operation="podRentInterruptable",
            )
        try:
            return await self._api.pod_rent_interruptable(wanted)
        except SpotDiscontinued:
            self._spot_gone = True
            raise

    async def _end(self, pod_id: PodId) -> None:
        try:
            await self._api.pod_terminate(pod_id)
        except ApiRetired:
            await self._api.delete_pod(pod_id)

    async def _places(self, request: GpuRequest) -> Sequence[str | None]:
        """Where to ask: where the network volume lies, else in the wanted regions, else anywhere."""
        wanted = request.network_volume
        if wanted is None:
            return request.regions or (None,)
        known = {volume.id: volume.data_center_id for volume in await self._api.network_volumes()}
        if wanted not in known:
            there = ", ".join(sorted(known)) or "none"
            raise NotFound(
                f"RunPod has no network volume '{wanted}' in this account: give --network-volume one of them ({there})",
                service=SERVICE,
                operation="networkVolumes",
            )
        return (known[wanted],)

    async def _wanted(self, request: GpuRequest) -> Sequence[GpuType]:
        """The named models, or all that have the memory; MIG slices are listed and never rented (gpuhunt)."""
        if request.models:
            return await self.resolve(request.models)
        least = request.min_vram_gb or 0
        return [gpu for gpu in await self.gpu_types() if gpu.memory_gb >= least and " MIG " not in f" {gpu.id} "]

    async def resolve(self, names: Sequence[str]) -> Sequence[GpuType]:
        """The models of these ids or displayed names, in any case, each once; raises UnknownGpu."""
        known = await self.gpu_types()
        if any(find(name, known) is None for name in names):
            known = await self._fetch_gpu_types()  # a model may be newer than the cache
        found = {gpu.id: gpu for gpu in (find(name, known) or refuse(name, known) for name in names)}
        return list(found.values())

    async def _fetch_gpu_types(self) -> tuple[GpuType, ...]:
        found = tuple(_gpu_type(gpu) for gpu in await self._api.gpu_types())
        self._cache.save(found)
        return found

    def _offers_of(self, gpu: WireGpuType, count: int, region: str | None) -> Sequence[Offer]:
        price = gpu.lowest_price or WirePrice()
        if (price.stock_status or "").strip().lower() in _NO_STOCK:
            return []
        found = [_offer(gpu, count, price, price.uninterruptable_price, interruptible=False)]
        if not self._spot_gone:
            found.append(_offer(gpu, count, price, price.minimum_bid_price, interruptible=True))
        if region is None:
            return [offer for offer in found if offer]
        return [replace(offer, region=region, id=f"{offer.id}:{region}") for offer in found if offer]

    def _pod(self, pod: WirePod) -> Pod | None:
        return to_pod(pod, asked_to_stop=self._stopped)

    def _rented(self, pod: WirePod, spec: PodSpec) -> Pod:
        made = self._pod(pod)
        if made is None:
            message = f"RunPod ended pod {pod.id} at once: look '{spec.name}' up before renting again"
            raise CreateOutcomeUnknown(message, service=SERVICE, operation="create")
        log.info("pod_rented", provider=PROVIDER, pod_id=made.id, pod=spec.name)
        return made

    def _existing(self, pod: WirePod, operation: str) -> Pod:
        return self._pod(pod) or no_such_pod(pod.id, operation)


def _belongs(pod: Pod, owner8: str) -> bool:
    if pod.tags is not None:
        return pod.tags.owner == owner8  # a name can be anybody's choice
    return pod.name.startswith((f"rp-{owner8}-", f"rpm-{owner8}-"))


def _offer(
    gpu: WireGpuType, count: int, price: WirePrice, amount: Decimal | None, *, interruptible: bool
) -> Offer | None:
    if not amount or amount < 0:
        return None
    return Offer(
        provider=PROVIDER,
        id=f"{gpu.id}:{count}:{'interruptible' if interruptible else 'on-demand'}",
        gpu_model=gpu.id,
        gpu_count=count,
        price=amount,
        interruptible=interruptible,
        minimum_bid=amount if interruptible else None,
        memory_gb=gpu.memory_in_gb,
        stock=price.stock_status,
        gpu_name=gpu.display_name,
    )


def _gpu_type(gpu: WireGpuType) -> GpuType:
    return GpuType(
        id=gpu.id,
        name=gpu.display_name or gpu.id,
        memory_gb=gpu.memory_in_gb or 0,
        secure=bool(gpu.secure_cloud),
        community=bool(gpu.community_cloud),
    )
