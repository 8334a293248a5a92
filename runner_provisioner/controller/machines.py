"""`/machines`: templates, machines and pods in the words of Celium, over every provider."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from runner_provisioner.controller.cloud import Image
from runner_provisioner.controller.failures import FieldRefused
from runner_provisioner.controller.inputs import (
    Body,
    Count,
    Dollars,
    Hidden,
    Hours,
    Id,
    Key,
    Line,
    Port,
    Sent,
    TemplateId,
    answer_of,
    identity_of,
    provider_named,
    rented,
)
from runner_provisioner.controller.parts import Parts, parts_of
from runner_provisioner.controller.route import ContractRoute
from runner_provisioner.domain.markets import PodTemplate, TemplateSpec
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import Pod, PodSpec, PodState
from runner_provisioner.domain.served import Answer, Contract
from runner_provisioner.errors import InvalidRequest, OfferUnfit
from runner_provisioner.services.orders import Made, Wish
from runner_provisioner.services.served import Known
from runner_provisioner.services.shelf import Machine, any_gpu

router = APIRouter(
    prefix="/machines",
    tags=["machines"],
    route_class=ContractRoute,
)
Row = dict[str, Any]
STATES = {
    PodState.STARTING: "PENDING",
    PodState.RUNNING: "RUNNING",
    PodState.STOPPED: "STOPPED",
    PodState.INTERRUPTED: "STOPPED",
    PodState.FAILED: "FAILED",
}
CREATED, PENDING, SUCCESS, FAILED = "CREATED", "VERIFY_PENDING", "VERIFY_SUCCESS", "VERIFY_FAILED"


def _key(value: str) -> str:
    if len(value.split()) < 2:  # noqa: PLR2004 - kind and key
        raise ValueError("a public key of OpenSSH's form, like 'ssh-ed25519 AAAA...'")
    return value


class TemplateCreate(Body):
    """A template: an image, and what to start in it."""

    docker_image: Image
    docker_image_tag: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    docker_image_digest: Annotated[str, Field(max_length=128, pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    startup_commands: Hidden = ""
    port_mapping: Annotated[list[Port], Field(max_length=50)] = Field(default_factory=lambda: [22])
    name: Line

    @field_validator("docker_image_tag", "docker_image_digest")
    @classmethod
    def _once(cls, value: str, info: ValidationInfo) -> str:
        """An image with a tag of its own takes no second one."""
        image = str(info.data.get("docker_image", ""))
        tagged = "@" in image or ":" in image.rpartition("/")[2]
        if value and tagged:
            raise ValueError("docker_image has a tag or a digest already: give it once")
        return value

    @property
    def image(self) -> str:
        """As docker takes it."""
        tag = f":{self.docker_image_tag}" if self.docker_image_tag else ""
        digest = f"@{self.docker_image_digest}" if self.docker_image_digest else ""
        return f"{self.docker_image}{tag}{digest}"


class MachineRent(Body):
    """A pod on a machine of the list, from a template."""

    template_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,80}$")]
    executor_id: Line
    ssh_key: Annotated[Line, Field(max_length=4000), AfterValidator(_key)]
    name: Line
    gpu_count: Count | None = Field(default=None, description="By default as many as the list shows.")
    lifetime_hours: Hours = Field(default=24, description="After so many hours the pod is ended.")
    max_price: Dollars | None = Field(default=None, description="Most that the pod may cost per hour, US dollars.")


@router.post("/template")
@router.post("/template/", include_in_schema=False)
async def create_template(request: Request, body: TemplateCreate, idempotency_key: Key = None) -> Response:
    """Make a template; whether a pod can be made of it its status tells."""
    parts = parts_of(request)
    spec = TemplateSpec(
        name=body.name,
        image=body.image,
        command=body.startup_commands or None,
        ports=tuple(f"{port}/tcp" for port in body.port_mapping),
    )
    identity = identity_of(request, body, idempotency_key, operation="template")
    request.state.target = parts.redact(body.name)

    def render(made: PodTemplate) -> Answer:
        request.state.target, request.state.provider = made.id, made.provider
        return answer_of({"id": made.id, "status": CREATED})

    try:
        answer = await parts.shelf.make(spec, render, identity=identity)
    except InvalidRequest as error:
        place = {"image": ("docker_image",)}.get(error.about, ())
        raise FieldRefused(str(error), place=("body", *place)) from error
    return Response(answer.body, status_code=answer.status, media_type="application/json")


@router.get("/template/{template_id}")
@router.get("/template/{template_id}/", include_in_schema=False)
async def template_status(request: Request, template_id: TemplateId) -> Row:
    """How far a template is."""
    found = await parts_of(request).shelf.template(template_id)
    return {"id": found.id, "status": _status(found)}


def _status(template: PodTemplate) -> str:
    """Today's services leave a template that can be used at CREATED; nothing verifies it any more."""
    if template.usable:
        return SUCCESS
    return FAILED if template.status.upper() == FAILED else PENDING


@router.get("/")
@router.get("", include_in_schema=False)
async def list_machines(
    request: Request,
    response: Response,
    gpu_type: Annotated[str | None, Query(max_length=200, description="A part of the GPU's name.")] = None,
    gpu_count: Annotated[int | None, Query(ge=1, le=64)] = None,
    max_price: Annotated[Dollars | None, Query(description="USD per hour for the whole machine.")] = None,
    provider: Annotated[str | None, Query(max_length=80)] = None,
    region: Annotated[str | None, Query(max_length=80)] = None,
) -> list[Row]:
    """What is for rent now, each machine once, the cheapest first; `X-Not-Asked` names who could not be asked."""
    parts = parts_of(request)
    provider_named(request, provider, "query", "provider")
    listed = await parts.shelf.machines(count=gpu_count, provider=provider)
    if listed.unasked:
        response.headers["x-not-asked"] = ", ".join(sorted(listed.unasked))
    return [
        machine_row(one)
        for one in listed.machines
        if (gpu_type is None or gpu_type.casefold() in one.offer.gpu_model.casefold())
        and (max_price is None or one.offer.price <= max_price)
        and provider in {None, one.offer.provider}
        and (region is None or region.casefold() in _places(one.offer))
    ]


def _places(offer: Offer) -> set[str]:
    return {place.casefold() for place in (offer.region, offer.country) if place}


def machine_row(machine: Machine) -> Row:
    """A machine of the list."""
    offer = machine.offer
    return {
        "id": machine.id,
        "gpu_type": offer.gpu_model,
        "gpu_name": offer.gpu_name or offer.gpu_model,
        "gpu_count": offer.gpu_count,
        "gpu_memory_gb": offer.memory_gb,
        "price_per_hour": float(offer.price),
        "price_per_gpu": float(offer.price / offer.gpu_count),
        "interruptible": offer.interruptible,
        "region": offer.region,
        "country": offer.country,
        "provider": offer.provider,
        "status": "available",
    }


@router.post("/")
@router.post("", include_in_schema=False)
async def rent_machine(request: Request, body: MachineRent, idempotency_key: Key = None) -> Response:
    """Rent a pod on a machine of the list."""
    sent = Sent(contract=Contract.MACHINES, label=body.name, body=body, key=idempotency_key, hours=body.lifetime_hours)
    return await rented(request, sent, partial(_wish, parts_of(request), body), _rented)


async def _wish(parts: Parts, body: MachineRent) -> Wish:
    machine = await parts.shelf.machine(body.executor_id, count=body.gpu_count)
    template = await parts.shelf.template(body.template_id, provider=machine.offer.provider)
    offer = machine.offer
    return Wish(
        contract=Contract.MACHINES,
        label=body.name,
        spec=_spec(template, offer, body.ssh_key),
        request=any_gpu(
            offer.gpu_count,
            models=(offer.gpu_model,),
            max_price=body.max_price if body.max_price is not None else parts.max_price,
        ),
        providers=(offer.provider,),
        offer=partial(_check_same, offer),
        accept_no_kill_time=True,  # who names a machine has chosen its provider for what it is
        facts={"template_id": template.id, "template_name": template.name, "docker_image": template.image},
    )


def _check_same(chosen: Offer, one: Offer) -> None:
    if one.id != chosen.id:
        raise OfferUnfit("it is another machine")


def _spec(template: PodTemplate, offer: Offer, ssh_key: str) -> PodSpec:
    """A pod of the template; where that is another provider's, of what it holds."""
    login = {"PUBLIC_KEY": ssh_key}
    held = template.spec
    if template.provider == offer.provider or held is None:
        return PodSpec(name="", image=template.image or "", env=login, options={"template_id": template.id})
    return PodSpec(
        name="",
        image=held.image,
        command=held.command,
        env={**held.env, **login},
        ports=tuple(dict.fromkeys(("22/tcp", *held.ports))),
    )


def _rented(made: Made) -> Answer:
    return answer_of({"id": made.pod.id})


@router.get("/{pod_id}")
@router.get("/{pod_id}/", include_in_schema=False)
async def pod_status(request: Request, pod_id: Id) -> Row:
    """How far a pod is, what it has, and how to log in."""
    return pod_row(await parts_of(request).served.get(pod_id))


def pod_row(known: Known) -> Row:
    """A pod as Celium shows it; the GPU count is text there, and moments have no zone."""
    pod = known.pod
    has = pod.hardware
    return {
        "id": pod.id,
        "status": STATES[pod.state],
        "pod_name": known.label,
        "gpu_name": pod.gpu_model,
        "gpu_count": str(pod.gpu_count) if pod.gpu_count is not None else None,
        "cpu_name": has.cpu,
        "ram_total": has.memory_kib,
        "created_at": _naive(pod.created_at),
        "updated_at": _naive(has.updated_at or pod.created_at),
        "expires_at": _naive(known.expires_at),
        "ssh_connect_cmd": f"ssh {pod.ssh.user}@{pod.ssh.host} -p {pod.ssh.port}" if pod.ssh is not None else None,
        "ports_mapping": {str(one.private): one.public for one in pod.open_ports},
        "template": _template(known),
        "executor_ip_address": has.address or (pod.ssh.host if pod.ssh is not None else None),
        "price_per_hour": float(pod.price) if pod.price is not None else None,
        "provider": pod.provider,
    }


def _naive(moment: Any) -> str | None:  # noqa: ANN401 - a datetime or None
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") if moment is not None else None


def _template(known: Known) -> Row:
    pod: Pod = known.pod
    facts = known.served.facts if known.served is not None else {}
    return {
        "id": facts.get("template_id") or pod.hardware.template,
        "name": facts.get("template_name") or pod.hardware.template_name,
        "description": "",
        "docker_image": facts.get("docker_image") or pod.hardware.template_image or pod.image,
    }
