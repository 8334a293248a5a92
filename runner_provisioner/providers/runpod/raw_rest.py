"""Pods made by hand over REST v2, in the shapes of GraphQL, for when that is gone."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from runner_provisioner.domain.offers import GpuRequest, GpuType, Interruptible, Offer
from runner_provisioner.domain.pods import CloudType, PodId, PodSpec, PodState
from runner_provisioner.errors import CapacityUnavailable, InvalidRequest
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.inputs import DeployInput, OnDemandInput
from runner_provisioner.providers.runpod.rest_api import RestApi
from runner_provisioner.providers.runpod.rest_market import RestMarket
from runner_provisioner.providers.runpod.rest_states import state_of
from runner_provisioner.providers.runpod.rest_wire import RestGpuType, RestPod, RestPrice, RestRuntime
from runner_provisioner.providers.runpod.resuming import no_such_pod
from runner_provisioner.providers.runpod.routes import no_spot
from runner_provisioner.providers.runpod.wire import (
    WireGpuLoad,
    WireGpuType,
    WireLoad,
    WireMachine,
    WirePod,
    WirePort,
    WirePrice,
    WireRuntime,
)

_ANY_PRICE = Decimal(1_000_000)
_ENDS = {PodState.INTERRUPTED: "Exited by Runpod", PodState.STOPPED: "Exited by User"}
_NOT_ASKED = frozenset({"", "NONE"})
# What goes into the spec and the offer; whatever else is given has to be a field that REST v2 knows.
_TAKEN = frozenset(
    {
        "name",
        "image_name",
        "gpu_type_id",
        "gpu_count",
        "cloud_type",
        "container_disk_in_gb",
        "volume_in_gb",
        "volume_mount_path",
        "network_volume_id",
        "env",
        "ports",
        "start_ssh",
        "support_public_ip",
        "data_center_id",
        "country_code",
        "min_vcpu_count",
        "min_memory_in_gb",
        "min_cuda_version",
        "terminate_after",
        "deploy_cost",
        "compute_type",
    }
)


class RawRest:
    """The verbs of `RawPods` that have to be done over REST v2."""

    def __init__(self, rest: RestApi, market: RestMarket) -> None:
        self._rest = rest
        self._market = market

    async def create(self, pod: DeployInput) -> WirePod:
        """Rent the cheapest that fits, and give it back when it costs more. Raises what the port's create raises."""
        if not isinstance(pod, OnDemandInput):
            raise no_spot()
        spec = _spec(pod)
        offer = await self._cheapest(pod, spec)
        made = await self._market.create(spec, offer)
        return as_graphql(await self._rest.pod(made.id) or no_such_pod(made.id, "createPod"))

    async def _cheapest(self, pod: OnDemandInput, spec: PodSpec) -> Offer:
        if pod.gpu_type_id is None:
            raise InvalidRequest("RunPod's REST v2 rents one GPU model: give gpu_type_id")
        ceiling = _ANY_PRICE if pod.deploy_cost is None else Decimal(str(pod.deploy_cost))
        region = pod.data_center_id or pod.country_code
        request = GpuRequest(
            models=(pod.gpu_type_id,),
            count=pod.gpu_count or 1,
            interruptible=Interruptible.NEVER,
            max_price=ceiling,
            cloud=spec.cloud,
            regions=(region,) if region else (),
            cuda=spec.cuda,
            network_volume=spec.network_volume,
        )
        found = await self._market.offers(request, await self._models(pod.gpu_type_id))
        fitting = [offer for offer in found if offer.price <= ceiling]
        if not fitting:
            message = f"RunPod has no {request} to rent right now: try another GPU, another cloud, or later"
            raise CapacityUnavailable(message, service=SERVICE, operation="createPod", code="RESOURCE_UNAVAILABLE")
        return min(fitting, key=lambda offer: offer.price)

    async def _models(self, gpu_type_id: str) -> Sequence[GpuType]:
        return [gpu for gpu in await self._market.gpu_types() if gpu.id == gpu_type_id]

    async def pod(self, pod_id: str) -> WirePod | None:
        """Read one."""
        found = await self._rest.pod(pod_id)
        return as_graphql(found) if found else None

    async def my_pods(self) -> tuple[WirePod, ...]:
        """All of the account."""
        return tuple(map(as_graphql, await self._rest.pods()))

    async def stop(self, pod_id: str) -> WirePod:
        """Stop it."""
        await self._market.stop(PodId(pod_id))
        return await self.pod(pod_id) or no_such_pod(pod_id, "podAction")

    async def resume(self, pod_id: str, gpu_count: int | None) -> WirePod:
        """Start it with the GPUs it had."""
        if gpu_count is not None:
            raise InvalidRequest("RunPod's REST v2 starts a pod with the GPUs it had: leave the GPU count out")
        await self._market.resume(PodId(pod_id))
        return await self.pod(pod_id) or no_such_pod(pod_id, "podAction")

    async def gpu_prices(self, count: int) -> tuple[WireGpuType, ...]:
        """Every model with its lowest price for so many, of both clouds."""
        clouds = [await self._rest.availability(count=count, cloud=cloud) for cloud in ("SECURE", "COMMUNITY")]
        community = {gpu.id: gpu for gpu in clouds[1]}
        return tuple(_priced(gpu, community.get(gpu.id), count) for gpu in clouds[0])


def as_graphql(pod: RestPod) -> WirePod:
    """A pod of REST v2 as GraphQL would have answered it."""
    state = state_of(pod)
    running = (pod.status or "").upper() == "RUNNING"
    return WirePod(
        id=pod.id,
        name=pod.name,
        image_name=pod.image,
        desired_status=_wished(state),
        last_status_change=_ENDS.get(state) if state else None,
        last_started_at=pod.started_at,
        created_at=pod.created_at,
        cost_per_hr=pod.cost,
        env=tuple(f"{name}={value}" for name, value in pod.environment().items()),
        ports=",".join(pod.ports or ()),
        gpu_count=pod.gpu.count if pod.gpu else None,
        container_disk_in_gb=pod.disk,
        machine=WireMachine(
            pod_host_id=pod.ssh.proxy.username if pod.ssh and pod.ssh.proxy else None,
            gpu_type_id=pod.gpu.id if pod.gpu else None,
        ),
        runtime=_runtime(pod.runtime) if running and pod.runtime else None,
    )


def _wished(state: PodState | None) -> str:
    if state is None:
        return "TERMINATED"
    if state is PodState.FAILED:
        return "DEAD"
    return "EXITED" if state in _ENDS else "RUNNING"


def _runtime(runtime: RestRuntime) -> WireRuntime:
    ports = [
        WirePort(
            ip=port.ip,
            is_ip_public=port.public is not None,
            private_port=port.private,
            public_port=port.public,
            type=port.type,
        )
        for port in runtime.ports or ()
    ]
    loads = enumerate(runtime.gpus or ())
    return WireRuntime(
        uptime_in_seconds=runtime.uptime,
        container=WireLoad(cpu_percent=runtime.cpu, memory_percent=runtime.memory),
        gpus=tuple(
            WireGpuLoad(id=str(n), gpu_util_percent=one.util, memory_util_percent=one.memory_util) for n, one in loads
        ),
        ports=tuple(ports),
    )


def _spec(pod: OnDemandInput) -> PodSpec:
    options = pod.model_dump(by_alias=True, exclude_none=True, exclude=set(_TAKEN))
    return PodSpec(
        name=pod.name or "",
        image=pod.image_name or "",
        env={pair.key: pair.value for pair in pod.env or ()},
        disk_gb=pod.container_disk_in_gb or 1,
        volume_gb=pod.volume_in_gb or 0,
        volume_mount=pod.volume_mount_path or "/workspace",
        ports=tuple(port.strip() for port in (pod.ports or "").split(",") if port.strip()),
        min_vcpus=pod.min_vcpu_count or 0,
        min_memory_gb=pod.min_memory_in_gb or 0,
        cuda=pod.min_cuda_version,
        network_volume=pod.network_volume_id,
        cloud=CloudType((pod.cloud_type or "ALL").lower()),
        start_ssh=bool(pod.start_ssh),
        options=options,
    )


def _priced(secure: RestGpuType, community: RestGpuType | None, count: int) -> WireGpuType:
    list_price = secure.price or RestPrice()
    offered = [(list_price.secure, secure.availability)]
    if community is not None:
        offered.append(((community.price or RestPrice()).community, community.availability))
    there = [
        (price * count, stock or "") for price, stock in offered if price and (stock or "").upper() not in _NOT_ASKED
    ]
    cheapest = min(there, default=None)
    return WireGpuType(
        id=secure.id,
        display_name=secure.name,
        memory_in_gb=secure.memory,
        secure_cloud=secure.secure,
        community_cloud=secure.community,
        lowest_price=WirePrice(
            uninterruptable_price=cheapest[0] if cheapest else None,
            stock_status=cheapest[1].capitalize() if cheapest else None,
        ),
    )
