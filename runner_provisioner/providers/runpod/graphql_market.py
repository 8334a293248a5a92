"""RunPod as a market of machines over GraphQL: everything but logs, billing and templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from runner_provisioner.domain.offers import GpuRequest, GpuType, Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec
from runner_provisioner.errors import CreateOutcomeUnknown, NotFound, about
from runner_provisioner.logging import get_logger
from runner_provisioner.providers.runpod.api import RunPodApi
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.inputs import StopInput
from runner_provisioner.providers.runpod.requests import on_demand_input, price_input, rent_input
from runner_provisioner.providers.runpod.resuming import no_such_pod, resume
from runner_provisioner.providers.runpod.states import PROVIDER, to_pod
from runner_provisioner.providers.runpod.wire import WireGpuType, WirePod, WirePrice

_NO_STOCK = frozenset({"", "none"})  # Low can be rented, none and null cannot (gpuhunt)

log = get_logger(__name__)


class GraphQLMarket:
    """The provider's verbs as GraphQL does them."""

    def __init__(self, api: RunPodApi, *, stopped: set[str]) -> None:
        """`stopped` holds the ids of pods that this program stopped, so that their EXITED is no interruption."""
        self._api = api
        self._stopped = stopped

    async def offers(self, request: GpuRequest, models: Sequence[GpuType]) -> Sequence[Offer]:
        """Both kinds for each model and region, priced for the whole count; see the port."""
        found: list[Offer] = []
        for region in await self._places(request):
            answers = await self._api.gpu_prices_of([gpu.id for gpu in models], price_input(request, region))
            found += [offer for answer in answers for offer in _offers_of(answer, request.count, region)]
        return found

    async def rent(self, spec: PodSpec, offer: Offer) -> Pod:
        """On demand, with the offer's price as the ceiling; see the port's create."""
        return self._rented(await self._api.pod_find_and_deploy_on_demand(on_demand_input(spec, offer)), spec)

    async def bid(self, spec: PodSpec, offer: Offer) -> Pod:
        """At a bid: the offer's price for the whole pod; see the port's create."""
        return self._rented(await self._api.pod_rent_interruptable(rent_input(spec, offer)), spec)

    async def get(self, pod_id: PodId) -> Pod | None:
        """See the port."""
        found = await self._api.pod(pod_id)
        return self._pod(found) if found else None

    async def get_many(self, pod_ids: Sequence[PodId]) -> Mapping[PodId, Pod | None]:
        """See ReadsMany; fifty pods a request."""
        found = await self._api.pods(pod_ids)
        return {pod_id: self._pod(pod) if (pod := found[pod_id]) else None for pod_id in pod_ids}

    async def list(self) -> Sequence[Pod]:
        """Every pod of the account."""
        return [pod for pod in map(self._pod, await self._api.my_pods()) if pod]

    async def terminate(self, pod_id: PodId) -> None:
        """End it; raises NotFound when it is gone already."""
        await self._api.pod_terminate(pod_id)

    async def stop(self, pod_id: PodId) -> Pod:
        """See Pausable."""
        stopped = await self._api.pod_stop(StopInput(pod_id=pod_id))
        self._stopped.add(pod_id)
        return self._existing(stopped, "podStop")

    async def resume(self, pod_id: PodId, *, gpu_count: int | None = None, bid_per_gpu: Decimal | None = None) -> Pod:
        """See Pausable. The count of a bid is the pod's own unless given."""
        resumed = await resume(self._api, pod_id, gpu_count=gpu_count, bid_per_gpu=bid_per_gpu)
        self._stopped.discard(pod_id)
        return self._existing(resumed, "podResume")

    async def gpu_types(self) -> Sequence[GpuType]:
        """See HasGpuTypes."""
        return tuple(_gpu_type(gpu) for gpu in await self._api.gpu_types())

    async def ssh_keys(self) -> Sequence[str]:
        """See HasAccountKeys."""
        lines = (await self._api.pub_key()).splitlines()
        return [line.strip() for line in lines if line.strip()]

    async def _places(self, request: GpuRequest) -> Sequence[str | None]:
        """Where to ask: where the network volume lies, else in the wanted regions, else anywhere."""
        wanted = request.network_volume
        if wanted is None:
            return request.regions or (None,)
        known = {volume.id: volume.data_center_id for volume in await self._api.network_volumes()}
        if wanted not in known:
            there = ", ".join(sorted(known)) or "none"
            message = (
                f"RunPod has no network volume '{wanted}' in this account: give --network-volume one of them ({there})"
            )
            raise about("network-volume", NotFound(message, service=SERVICE, operation="networkVolumes"))
        return (known[wanted],)

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


def _offers_of(gpu: WireGpuType, count: int, region: str | None) -> Sequence[Offer]:
    price = gpu.lowest_price or WirePrice()
    if (price.stock_status or "").strip().lower() in _NO_STOCK:
        return []
    found = (
        _offer(gpu, count, price, price.uninterruptable_price, interruptible=False),
        _offer(gpu, count, price, price.minimum_bid_price, interruptible=True),
    )
    if region is None:
        return [offer for offer in found if offer]
    return [replace(offer, region=region, id=f"{offer.id}:{region}") for offer in found if offer]


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
