"""The create of `/api/v1/pods`: its body, and what it means to each provider."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import AfterValidator, AliasGenerator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
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
    without_nulls,
)
from runner_provisioner.controller.parts import Parts, parts_of
from runner_provisioner.domain.gpu_names import on_socket, same_models
from runner_provisioner.domain.markets import PodTemplate
from runner_provisioner.domain.offers import ANY_VRAM, GpuRequest, GpuType, Interruptible, Offer
from runner_provisioner.domain.pods import CloudType, PodSpec
from runner_provisioner.domain.served import Contract
from runner_provisioner.errors import InvalidRequest, NotFound, OfferUnfit
from runner_provisioner.ports import GpuProvider, HasGpuTypes
from runner_provisioner.services.asking import LIMIT, ask_all
from runner_provisioner.services.orders import Wish

PRIME = "prime"
BARE = "ubuntu_22_cuda_12"
CUSTOM = "custom_template"
STOCK_IMAGE = "runpod/pytorch:2.4.0-py3.11-cuda12.4.1-devel-ubuntu22.04"
"""What a bare system with CUDA is where images are containers: it has an SSH server, too."""
_TEMPLATE = ("body", "pod", "customTemplateId")
_CENTER = re.compile(r"[A-Za-z]{2,3}-[A-Za-z]{2,3}-\d+")
_CLOUDS = {"secure_cloud": CloudType.SECURE, "community_cloud": CloudType.COMMUNITY}


Password = Annotated[str, Field(max_length=200), AfterValidator(unseen)]
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
    nulls = model_validator(mode="before")(without_nulls)


def _unlimited(value: object) -> object:
    return None if not isinstance(value, bool) and value in (0, "0") else value


class EnvVar(Camel):
    """One environment variable."""

    key: Variable
    value: Hidden = Field(repr=False)


class PodWish(Camel):
    """What is to be rented. Sizes are GB, `maxPrice` US dollars per hour for the whole pod."""

    name: Line | Literal[""] = Field(default="", description="By default the name that the pod has at its provider.")
    cloud_id: Line | None = Field(default=None, description="An offer; by default the cheapest that fits.")
    gpu_type: Line | None = Field(
        default=None,
        description="In any provider's spelling: H100_80GB, NVIDIA H100 PCIe. Needed unless a cloudId or a "
        "customTemplateId says what is meant; then any by default, the cheapest.",
    )
    socket: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,20}$")] | None = None
    gpu_count: Count = 1
    image: Line = BARE
    custom_template_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,80}$")] | None = None
    data_center_id: Line | None = None
    country: Annotated[str, Field(pattern=r"^[A-Za-z]{2}$")] | None = None
    security: Literal["secure_cloud", "community_cloud"] | None = None
    disk_size: Annotated[Gigabytes, Field(ge=1)] | None = None
    vcpus: Annotated[int, Field(ge=1, le=4096, strict=True)] | None = None
    memory: Annotated[Gigabytes, Field(ge=1)] | None = None
    max_price: Annotated[Dollars | None, BeforeValidator(_unlimited)] = Field(
        default=None, description="0 is none of one's own: SkyPilot sends that."
    )
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
    template = await _template(parts, body, providers)
    if template is not None:
        providers = (template.provider,)
    elif pod.custom_template_id is not None:
        providers = (PRIME,)  # its templates are made in its dashboard, and nobody can list them
    _check_at(body, prime=providers == (PRIME,))
    chosen = {name: one for name, one in parts.providers.items() if not providers or name in providers}
    price = pod.max_price if pod.max_price is not None else parts.max_price
    return Wish(
        contract=Contract.PODS,
        label=pod.name,
        spec=_spec(body, template, prime=providers == (PRIME,)),
        request=GpuRequest(
            models=await _models(chosen, pod),
            count=pod.gpu_count,
            interruptible=Interruptible.NEVER,
            max_price=price,
            cloud=_CLOUDS.get(pod.security or "", CloudType.ALL),
            min_vram_gb=None if pod.gpu_type is not None else ANY_VRAM,
            regions=_regions(pod),
            disk_gb=pod.disk_size,
            min_vcpus=pod.vcpus,
            min_memory_gb=pod.memory,
            network_volume=body.disks[0] if body.disks else None,
        ),
        providers=providers,
        offer=_offer(pod, upstream),
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
    if {body.pod.gpu_type, body.pod.cloud_id, body.pod.custom_template_id} == {None}:
        raise FieldRefused("give a GPU, a cloudId or a customTemplateId", place=("body", "pod", "gpuType"))
    if body.disks and len(body.disks) > 1:
        raise FieldRefused("a pod takes one disk", place=("body", "disks"))


def _check_at(body: PodCreate, *, prime: bool) -> None:
    """Refuse what the providers that may serve it cannot do: it would be paid for, and missing."""
    pod = body.pod
    if prime and pod.env_vars and pod.image == BARE and pod.custom_template_id is None:
        raise FieldRefused(
            f"Prime Intellect passes no variables to image '{BARE}': leave them out, or use a custom template",
            place=("body", "pod", "envVars"),
        )
    if prime:
        return
    if pod.auto_restart:
        raise FieldRefused(
            "only Prime Intellect restarts pods: leave it out, or name provider.type prime",
            place=("body", "pod", "autoRestart"),
        )
    if body.team is not None and body.team.team_id is not None:
        raise FieldRefused(
            "only Prime Intellect has teams: leave it out, or name provider.type prime", place=("body", "team")
        )


async def _template(parts: Parts, body: PodCreate, providers: tuple[str, ...]) -> PodTemplate | None:
    """The template that is named, where a provider tells of its templates. Raises FieldRefused, RemoteError."""
    template_id = body.pod.custom_template_id
    if template_id is None or providers == (PRIME,):
        return None
    try:
        found = await parts.shelf.template(template_id)
    except (NotFound, InvalidRequest) as error:
        if not providers and PRIME in parts.providers:
            return None
        raise FieldRefused(str(error), place=_TEMPLATE) from error
    if providers and found.provider not in providers:
        raise FieldRefused(f"template '{template_id}' is one of {found.provider}", place=_TEMPLATE)
    return found


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


def _offer(pod: PodWish, upstream: str | None) -> Callable[[Offer], None]:
    """Raises OfferUnfit for an offer that is not meant, with the option that keeps it out."""

    def check(offer: Offer) -> None:
        for meant, option in (
            (_is_behind(offer, upstream), f"--provider {upstream}"),
            (_is_offer(offer, pod.cloud_id), f"--cloud-id {pod.cloud_id}"),
            (_sits_on(offer, pod.socket), f"--socket {pod.socket}"),
            (_is_in(offer, pod.country), f"--region {pod.country}"),
        ):
            if not meant:
                raise OfferUnfit(f"not with {option}", option=option)

    return check


def _is_behind(offer: Offer, upstream: str | None) -> bool:
    """Whether it is that provider's: Prime Intellect's offers begin with the one behind it."""
    return upstream is None or offer.provider != PRIME or offer.id.partition(":")[0] == upstream


def _is_offer(offer: Offer, cloud_id: str | None) -> bool:
    """Whether it is that very one: in Prime Intellect's the cloudId comes second."""
    if cloud_id is None or offer.provider != PRIME:
        return cloud_id in {None, offer.id}
    return offer.id.partition(":")[2].startswith(f"{cloud_id}:")


def _is_in(offer: Offer, country: str | None) -> bool:
    """Whether it may be there, also where a data centre is named, too, whose id may tell its country (EU-RO-1)."""
    if country is None:
        return True
    if offer.country is None and _CENTER.fullmatch(offer.region or ""):
        return country.upper() in str(offer.region).upper().split("-")
    return offer.country is None or country.casefold() == offer.country.casefold()


def _sits_on(offer: Offer, socket: str | None) -> bool:
    """Whether its GPUs are on that socket: Prime Intellect says so at the end of an offer's id, others by the model."""
    if socket is None:
        return True
    if offer.provider == PRIME:
        return offer.id.split(":")[-2:-1] == [socket]
    return on_socket(offer.gpu_model, socket)


async def _models(providers: Mapping[str, GpuProvider], pod: PodWish) -> tuple[str, ...]:
    """The providers' own names of the GPU; the caller's where none has one, so that the error names the nearest."""
    if pod.gpu_type is None:
        return ()
    name = f"{pod.gpu_type} {pod.socket}" if pod.socket else pod.gpu_type
    asked = {key: one.gpu_types for key, one in providers.items() if key != PRIME and isinstance(one, HasGpuTypes)}
    replies = await ask_all(asked, limit=LIMIT)
    found = [model for types in replies.answers.values() for model in same_models(name, types)]
    own = [pod.gpu_type] if PRIME in providers else []
    if pod.socket is not None and not own and not replies.errors:
        _check_socket(pod.gpu_type, pod.socket, found or _of_any_socket(pod.gpu_type, replies.answers))
    return tuple(dict.fromkeys([*own, *found])) or (pod.gpu_type,)


def _of_any_socket(gpu_type: str, answers: Mapping[str, Sequence[GpuType]]) -> list[str]:
    return [model for types in answers.values() for model in same_models(gpu_type, types)]


def _check_socket(gpu_type: str, socket: str, models: Sequence[str]) -> None:
    if models and not any(on_socket(model, socket) for model in models):
        message = f"no {gpu_type} is on a socket '{socket}': leave it out to get any"
        raise FieldRefused(message, place=("body", "pod", "socket"))


def _regions(pod: PodWish) -> tuple[str, ...]:
    place = pod.data_center_id or pod.country
    return (place,) if place is not None else ()


def _spec(body: PodCreate, template: PodTemplate | None, *, prime: bool) -> PodSpec:
    pod = body.pod
    env = {one.key: one.value for one in pod.env_vars}
    options: dict[str, Any] = {}
    if pod.custom_template_id is not None:
        options["customTemplateId" if prime else "template_id"] = pod.custom_template_id
    if prime:
        options |= {"jupyterPassword": pod.jupyter_password} if pod.jupyter_password else {}
        options |= {"autoRestart": True} if pod.auto_restart else {}
        options |= {"teamId": body.team.team_id} if body.team is not None and body.team.team_id is not None else {}
    elif pod.jupyter_password:
        env["JUPYTER_PASSWORD"] = pod.jupyter_password
    return PodSpec(
        name="",
        image=_image(pod, prime=prime) if template is None else template.image or "",
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
