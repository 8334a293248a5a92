"""The create of `/api/v1/pods`: its body, and what it means to each provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import AfterValidator, AliasGenerator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from runner_provisioner.controller.failures import FieldRefused
from runner_provisioner.controller.inputs import (
    MOST_VARIABLES,
    Count,
    Dollars,
    Gigabytes,
    Hidden,
    Hours,
    Line,
    Variable,
    unseen,
)
from runner_provisioner.controller.parts import parts_of
from runner_provisioner.domain.gpu_names import same_models
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer
from runner_provisioner.domain.pods import CloudType, PodSpec
from runner_provisioner.domain.served import Contract
from runner_provisioner.ports import GpuProvider, HasGpuTypes
from runner_provisioner.services.asking import ask_all
from runner_provisioner.services.orders import Wish

PRIME = "prime"
CUSTOM = "custom_template"
STOCK_IMAGE = "runpod/pytorch:2.4.0-py3.11-cuda12.4.1-devel-ubuntu22.04"
"""What a bare system with CUDA is where images are containers: it has an SSH server, too."""
_CLOUDS = {"secure_cloud": CloudType.SECURE, "community_cloud": CloudType.COMMUNITY}


Password = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(unseen)]
Disk = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,80}$")]


class Camel(BaseModel):
    """What all parts of the body share."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(alias=to_camel),
        validate_by_name=False,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )


class EnvVar(Camel):
    """One environment variable."""

    key: Variable
    value: Hidden = Field(repr=False)


class PodWish(Camel):
    """What is to be rented. Sizes are GB, `maxPrice` US dollars per hour for the whole pod."""

    name: Line
    cloud_id: Line | None = Field(default=None, description="An offer; by default the cheapest that fits.")
    gpu_type: Line = Field(description="In any provider's spelling: H100_80GB, NVIDIA H100 PCIe.")
    socket: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,20}$")] | None = None
    gpu_count: Count = 1
    image: Line = "ubuntu_22_cuda_12"
    custom_template_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,80}$")] | None = None
    data_center_id: Line | None = None
    country: Annotated[str, Field(pattern=r"^[A-Za-z]{2}$")] | None = None
    security: Literal["secure_cloud", "community_cloud"] | None = None
    disk_size: Annotated[Gigabytes, Field(ge=1)] | None = None
    vcpus: Annotated[int, Field(ge=1, le=4096, strict=True)] | None = None
    memory: Annotated[Gigabytes, Field(ge=1)] | None = None
    max_price: Dollars | None = None
    env_vars: Annotated[list[EnvVar], Field(max_length=MOST_VARIABLES)] = Field(default_factory=list)
    jupyter_password: Password | None = Field(default=None, repr=False)
    auto_restart: bool = False
    lifetime_hours: Hours = Field(default=24, description="After so many hours the pod is ended.")


class ProviderWish(Camel):
    """Where: a provider of this service, or one of those behind Prime Intellect."""

    type: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")]


class TeamWish(Camel):
    """Who pays at Prime Intellect."""

    team_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,80}$")] | None = None


class PodCreate(Camel):
    """The whole body."""

    pod: PodWish
    provider: ProviderWish | None = None
    disks: Annotated[list[Disk], Field(max_length=10)] | None = None
    team: TeamWish | None = None


async def wish_of(request: Request, body: PodCreate) -> Wish:
    """What the body asks for, in words that hold for every provider. Raises FieldRefused, RemoteError."""
    parts = parts_of(request)
    pod = body.pod
    _check(body)
    providers, upstream = _where(parts.providers, body)
    chosen = {name: one for name, one in parts.providers.items() if not providers or name in providers}
    price = pod.max_price if pod.max_price is not None else parts.max_price
    return Wish(
        contract=Contract.PODS,
        label=pod.name,
        spec=_spec(body, prime=providers == (PRIME,)),
        request=GpuRequest(
            models=await _models(chosen, pod),
            count=pod.gpu_count,
            interruptible=Interruptible.NEVER,
            max_price=price,
            cloud=_CLOUDS.get(pod.security or "", CloudType.ALL),
            regions=_regions(pod),
            disk_gb=pod.disk_size,
            min_vcpus=pod.vcpus,
            min_memory_gb=pod.memory,
            network_volume=body.disks[0] if body.disks else None,
        ),
        providers=providers,
        offer=_offer(pod.cloud_id, upstream),
        accept_no_kill_time=bool(providers),  # who names a provider has chosen it for what it is
        facts={
            "gpu_type": pod.gpu_type,
            "socket": pod.socket,
            "image": pod.image,
            "disk": pod.disk_size,
            "auto_restart": pod.auto_restart,
        },
    )


def _check(body: PodCreate) -> None:
    if body.pod.image == CUSTOM and body.pod.custom_template_id is None:
        raise FieldRefused(
            "image 'custom_template' needs a customTemplateId", place=("body", "pod", "customTemplateId")
        )
    if body.disks and len(body.disks) > 1:
        raise FieldRefused("a pod takes one disk", place=("body", "disks"))


def _where(providers: Mapping[str, GpuProvider], body: PodCreate) -> tuple[tuple[str, ...], str | None]:
    """The providers that may serve it, and the one behind Prime Intellect, where one of those is meant."""
    if body.provider is None:
        return (), None
    name = body.provider.type
    if name in providers:
        return (name,), None
    if name in {"primecompute", "primeintellect"} and PRIME in providers:
        return (PRIME,), None
    if PRIME in providers:
        return (PRIME,), name
    raise FieldRefused(
        f"no provider '{name}': this service has {', '.join(providers)}", place=("body", "provider", "type")
    )


def _offer(cloud_id: str | None, upstream: str | None) -> Callable[[Offer], bool] | None:
    """Whether an offer is meant. Prime Intellect's begin with the provider behind it and the cloudId."""
    if cloud_id is None and upstream is None:
        return None

    def meant(offer: Offer) -> bool:
        if offer.provider != PRIME:
            return cloud_id in {None, offer.id}
        behind, _, rest = offer.id.partition(":")
        same = cloud_id is None or rest.startswith(f"{cloud_id}:")
        return same and upstream in {None, behind}

    return meant


async def _models(providers: Mapping[str, GpuProvider], pod: PodWish) -> tuple[str, ...]:
    """The providers' own names of the GPU; the caller's where none has one, so that the error names the nearest."""
    name = f"{pod.gpu_type} {pod.socket}" if pod.socket else pod.gpu_type
    asked = {key: one.gpu_types for key, one in providers.items() if key != PRIME and isinstance(one, HasGpuTypes)}
    replies = await ask_all(asked)
    found = [model for types in replies.answers.values() for model in same_models(name, types)]
    own = [name] if PRIME in providers else []
    return tuple(dict.fromkeys([*own, *found])) or (pod.gpu_type,)


def _regions(pod: PodWish) -> tuple[str, ...]:
    place = pod.data_center_id or pod.country
    return (place,) if place is not None else ()


def _spec(body: PodCreate, *, prime: bool) -> PodSpec:
    pod = body.pod
    env = {one.key: one.value for one in pod.env_vars}
    options: dict[str, Any] = {}
    if pod.custom_template_id is not None:
        options["customTemplateId" if prime else "template_id"] = pod.custom_template_id
    if prime:
        options |= {"jupyterPassword": pod.jupyter_password} if pod.jupyter_password is not None else {}
        options |= {"autoRestart": True} if pod.auto_restart else {}
        options |= {"teamId": body.team.team_id} if body.team is not None and body.team.team_id is not None else {}
    elif pod.jupyter_password is not None:
        env["JUPYTER_PASSWORD"] = pod.jupyter_password
    return PodSpec(
        name="",
        image=_image(pod, prime=prime),
        env=env,
        disk_gb=pod.disk_size or 40,
        min_vcpus=pod.vcpus or 1,
        min_memory_gb=pod.memory or 4,
        cloud=_CLOUDS.get(pod.security or "", CloudType.ALL),
        network_volume=body.disks[0] if body.disks else None,
        options=options,
    )


def _image(pod: PodWish, *, prime: bool) -> str:
    """Prime Intellect has words for images; elsewhere what is no container's name is the stock one."""
    if prime:
        return "" if pod.image == CUSTOM else pod.image
    return pod.image if "/" in pod.image or ":" in pod.image else STOCK_IMAGE
