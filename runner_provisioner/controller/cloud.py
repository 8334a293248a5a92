"""`/api/cloud`: pods in the words of RunPod, each answer in an envelope of `data` and `message`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BeforeValidator, Field

from runner_provisioner.controller.failures import FieldRefused
from runner_provisioner.controller.inputs import (
    Body,
    Count,
    Dollars,
    Environment,
    Gigabytes,
    Hidden,
    Hours,
    Id,
    Key,
    Line,
    Sent,
    answer_of,
    provider_named,
    rented,
)
from runner_provisioner.controller.parts import parts_of
from runner_provisioner.controller.route import ContractRoute
from runner_provisioner.domain.containers import check_image, check_mount, check_ports
from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.domain.pods import CloudType, Pod, PodSpec, PodState
from runner_provisioner.domain.served import Answer, Contract
from runner_provisioner.errors import InvalidRequest
from runner_provisioner.ports import GpuProvider, Pausable
from runner_provisioner.services.orders import Made, Wish
from runner_provisioner.services.served import Known

router = APIRouter(
    prefix="/api/cloud",
    tags=["cloud"],
    route_class=ContractRoute,
)
Row = dict[str, Any]
WORDS = {
    PodState.STARTING: "RUNNING",  # RunPod's wish, from the creation on; `runtime` is null until a container runs
    PodState.RUNNING: "RUNNING",
    PodState.STOPPED: "STOPPED",
    PodState.INTERRUPTED: "EXITED",
    PodState.FAILED: "EXITED",
}
UNKNOWN = "UNKNOWN"  # of a pod that nobody here can look at


def _ports(value: str) -> str:
    try:
        return ",".join(check_ports("ports", (value,)))
    except InvalidRequest as error:
        raise ValueError(str(error)) from None


def _image(value: str) -> str:
    try:
        check_image("image_name", value)
    except InvalidRequest as error:
        raise ValueError(str(error)) from None
    return value


def _mount(value: str) -> str:
    try:
        return check_mount("volume_mount_path", value)
    except InvalidRequest as error:
        raise ValueError(str(error)) from None


Image = Annotated[Line, AfterValidator(_image)]
Ports = Annotated[Line, AfterValidator(_ports)]
Cloud = Annotated[Literal["ALL", "SECURE", "COMMUNITY"], BeforeValidator(lambda text: str(text).upper())]


class PodCreate(Body):
    """A pod on demand. Sizes are GB, prices US dollars per hour for the whole pod."""

    name: Line
    image_name: Image
    gpu_type_id: Line = Field(description="Id or displayed name of the GPU model, at whatever provider.")
    gpu_count: Count = 1
    cloud_type: Cloud = "ALL"
    volume_in_gb: Gigabytes = 0
    container_disk_in_gb: Annotated[Gigabytes, Field(ge=1)] = 40
    volume_mount_path: Annotated[Line, AfterValidator(_mount)] = "/workspace"
    ports: Ports = "22/tcp"
    env: Environment = Field(default_factory=dict)
    docker_args: Hidden | None = Field(default=None, description="Replaces the image's command.")
    min_vcpu_count: Annotated[int, Field(ge=1, le=1024, strict=True)] = 1
    min_memory_in_gb: Annotated[Gigabytes, Field(ge=1)] = 4
    max_price: Dollars | None = Field(default=None, description="Most that the pod may cost.")
    lifetime_hours: Hours = Field(default=24, description="After so many hours the pod is ended.")
    provider: Line | None = Field(default=None, description="Only there; by default wherever pods can be stopped.")


@router.post("/pods")
@router.post("/pods/", include_in_schema=False)
async def create_pod(request: Request, body: PodCreate, idempotency_key: Key = None) -> Response:
    """Rent a pod: the cheapest offer of that GPU."""
    sent = Sent(contract=Contract.CLOUD, label=body.name, body=body, key=idempotency_key, hours=body.lifetime_hours)
    return await rented(request, sent, partial(_wish, request, body), _created)


async def _wish(request: Request, body: PodCreate) -> Wish:
    parts = parts_of(request)
    named = provider_named(request, body.provider, "body", "provider")
    _check(body, [parts.providers[name] for name in named])
    able = tuple(name for name, one in parts.providers.items() if isinstance(one, Pausable))
    if not (named or able):
        others = ", ".join(parts.providers)
        message = f"no provider of this service stops and resumes pods: name one that does not ({others})"
        raise FieldRefused(message, place=("body", "provider"))
    return Wish(
        contract=Contract.CLOUD,
        label=body.name,
        spec=_spec(body),
        request=GpuRequest(
            models=(body.gpu_type_id,),
            count=body.gpu_count,
            interruptible=Interruptible.NEVER,
            max_price=body.max_price if body.max_price is not None else parts.max_price,
            cloud=CloudType(body.cloud_type.lower()),
            min_vcpus=body.min_vcpu_count,
            min_memory_gb=body.min_memory_in_gb,
        ),
        providers=named or able,
        accept_no_kill_time=body.provider is not None,
    )


def _check(body: PodCreate, named: Sequence[GpuProvider]) -> None:
    """Refuse what a provider that is named by the caller cannot do; those that are not named can do all of it."""
    for one in named:
        if isinstance(one, Pausable):
            continue
        if body.volume_in_gb:
            raise FieldRefused(f"{one.name} has no volumes of a size: leave it out", place=("body", "volume_in_gb"))
        if "volume_mount_path" in body.model_fields_set:
            raise FieldRefused(f"{one.name} has no volume to mount: leave it out", place=("body", "volume_mount_path"))
        if "/http" in body.ports:
            raise FieldRefused(f"{one.name} has no proxy for HTTP: write NUMBER/tcp", place=("body", "ports"))


def _spec(body: PodCreate) -> PodSpec:
    return PodSpec(
        name="",
        image=body.image_name,
        env=dict(body.env),
        disk_gb=body.container_disk_in_gb,
        volume_gb=body.volume_in_gb,
        volume_mount=body.volume_mount_path,
        ports=tuple(body.ports.split(",")),
        min_vcpus=body.min_vcpu_count,
        min_memory_gb=body.min_memory_in_gb,
        cloud=CloudType(body.cloud_type.lower()),
        options={"dockerArgs": body.docker_args} if body.docker_args else {},
    )


def _created(made: Made) -> Answer:
    return answer_of(_enveloped(row_of(Known(pod=made.pod, served=made.served), new=True), "Pod created successfully"))


@router.get("/pods")
@router.get("/pods/", include_in_schema=False)
async def list_pods(request: Request) -> Row:
    """Every pod of every account; an error while a provider cannot be looked at, lest its pods be taken for gone."""
    found, errors = await parts_of(request).served.all()
    for error in errors.values():
        raise error
    rows = [row_of(one) for one in found]
    return _enveloped({"pods": rows, "count": len(rows)}, f"Retrieved {len(rows)} pod(s)")


@router.get("/pods/{pod_id}")
@router.get("/pods/{pod_id}/", include_in_schema=False)
async def get_pod(request: Request, pod_id: Id) -> Row:
    """One pod, and how busy it is."""
    return _enveloped(row_of(await parts_of(request).served.get(pod_id)), "Pod details retrieved successfully")


@router.post("/pods/{pod_id}/stop")
@router.post("/pods/{pod_id}/stop/", include_in_schema=False)
async def stop_pod(request: Request, pod_id: Id) -> Row:
    """Stop a pod; its volume goes on billing."""
    known = await parts_of(request).served.stop(pod_id)
    request.state.provider = known.pod.provider
    return _enveloped({**row_of(known), "desiredStatus": "STOPPED"}, "Pod stopped successfully")


@router.post("/pods/{pod_id}/resume")
@router.post("/pods/{pod_id}/resume/", include_in_schema=False)
async def resume_pod(request: Request, pod_id: Id) -> Row:
    """Start a stopped pod again."""
    known = await parts_of(request).served.resume(pod_id)
    request.state.provider = known.pod.provider
    return _enveloped(row_of(known), "Pod resumed successfully")


@router.delete("/pods/{pod_id}")
@router.delete("/pods/{pod_id}/", include_in_schema=False)
async def terminate_pod(request: Request, pod_id: Id) -> Row:
    """End a pod for good, and look that it is gone."""
    known = await parts_of(request).served.end(pod_id)
    request.state.provider = known.pod.provider
    return _enveloped({"success": True, "podId": pod_id}, "Pod terminated successfully")


def _enveloped(data: Row, message: str) -> Row:
    return {"data": data, "message": message}


def row_of(known: Known, *, new: bool = False) -> Row:
    """A pod as RunPod shows it; a new one has a runtime of nothing yet, as the contract's example has."""
    pod = known.pod
    return {
        "id": pod.id,
        "name": known.label,
        "imageName": pod.image or (known.served.image if known.served is not None else None),
        "desiredStatus": UNKNOWN if known.unseen else WORDS[pod.state],
        "status": UNKNOWN.lower() if known.unseen else pod.state.value,
        "costPerHr": _money(pod.price),
        "gpuCount": pod.gpu_count,
        "gpuTypeId": pod.gpu_model,
        "machineId": pod.machine,
        "createdAt": when(pod.created_at),
        "expiresAt": when(known.expires_at),
        "provider": pod.provider,
        "runtime": _runtime(pod, new=new),
    }


def _runtime(pod: Pod, *, new: bool) -> Row | None:
    running = pod.state is PodState.RUNNING
    if not running and not new:
        return None
    load = pod.telemetry
    gpus = load.gpus if load is not None else ()
    return {
        "uptimeInSeconds": pod.uptime_seconds or 0,
        "ports": [
            {
                "ip": one.host,
                "isIpPublic": True,
                "privatePort": one.private,
                "publicPort": one.public,
                "type": one.protocol,
            }
            for one in pod.open_ports
        ],
        "gpus": [
            {"id": one.id, "gpuUtilPercent": one.gpu_percent, "memoryUtilPercent": one.memory_percent} for one in gpus
        ],
    }


def _money(price: Decimal | None) -> str | None:
    """As the contract writes it: text, two decimals at least."""
    if price is None:
        return None
    text = f"{price.normalize():f}"
    return text if len(text.partition(".")[2]) > 1 else f"{price:.2f}"


def when(moment: datetime | None) -> str | None:
    """RFC 3339, UTC, whole seconds."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else None
