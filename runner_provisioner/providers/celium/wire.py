"""What Lium's API answers, read leniently: unknown fields are ignored, wrong shapes are not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from runner_provisioner.domain.pods import Hardware, PublicPort, SshEndpoint
from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.logging import get_logger
from runner_provisioner.providers.celium.addresses import ssh_endpoint
from runner_provisioner.providers.celium.failures import SERVICE

SPOT = "spot"

log = get_logger(__name__)


def _moment(value: object) -> datetime | None:
    """Lium writes UTC without an offset."""
    try:
        found = datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
        return found and (found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and math.isfinite(value) else value


def _environment(value: object) -> object:
    """Names and values; anything else is no environment."""
    if not isinstance(value, Mapping):
        return None
    return {str(name): str(text) for name, text in value.items() if isinstance(text, (str, int, float))}


def _mapping(value: object) -> object:
    return value if isinstance(value, Mapping) else None


def _word(value: object) -> object:
    return value if isinstance(value, str) else None


def _numbers(value: object) -> object:
    return [one for one in value if isinstance(one, int)] if isinstance(value, (list, tuple)) else None


def _amount(value: object) -> object:
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


Money = Decimal | None
Word = Annotated[str | None, BeforeValidator(_word)]  # shown and no more: an odd one must not hide a pod
Amount = Annotated[int | None, BeforeValidator(_amount)]
Whole = Annotated[int | None, BeforeValidator(_whole)]
Moment = Annotated[datetime | None, BeforeValidator(_moment)]  # unreadable is "not known": it must not hide a pod
Ports = Annotated[tuple[int, ...] | None, BeforeValidator(_numbers)]
Specs = Annotated[Mapping[str, Any] | None, BeforeValidator(_mapping)]


class Wire(BaseModel):
    """What all answers share."""

    # Most commands use few of them, and building all takes as long as a request.
    model_config = ConfigDict(defer_build=True, extra="ignore", frozen=True, hide_input_in_errors=True)
    needed: ClassVar[frozenset[str]] = frozenset()
    """The fields without which it is of no use, as they are called outside; empty where each has to fit."""


class WireExecutor(Wire):
    """A node; `specs` is what its provider's software found there, so every part of it may be missing or odd."""

    id: str
    machine_name: str | None = None
    price_per_gpu: Money = None
    gpu_count: Whole = None
    available_gpu_count: Whole = None
    min_gpu_count_for_rental: Whole = None
    location: Specs = None
    specs: Specs = None
    effective_upload_speed_mbps: float | None = None
    effective_download_speed_mbps: float | None = None
    max_cuda_version: float | None = None
    tier: str | None = None
    frequent_rent_failures: bool | None = None

    @property
    def interruptible(self) -> bool | None:
        """Whether its provider may take it back at any time; None when nobody says."""
        return self.tier.lower() == SPOT if self.tier else None

    def spec(self, *path: str) -> float | None:
        """A number out of `specs`, which may come as text."""
        found: object = self.specs
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return _number(found)

    @property
    def vram_mib(self) -> float | None:
        """Memory of one GPU."""
        gpu = (self.specs or {}).get("gpu")
        details = gpu.get("details") if isinstance(gpu, Mapping) else None
        first = details[0] if isinstance(details, list) and details else None
        return _number(first.get("capacity")) if isinstance(first, Mapping) else None


class WireTemplate(Wire):
    """A template. Its start command is never shown: it may carry the registration token."""

    id: str
    name: str = ""
    docker_image: str | None = None
    docker_image_tag: str | None = None
    docker_image_digest: str | None = None
    environment: Annotated[Mapping[str, str] | None, BeforeValidator(_environment)] = Field(default=None, repr=False)
    entrypoint: Word = None
    startup_commands: Annotated[Word, Field(repr=False)] = None
    internal_ports: Ports = None
    status: str | None = None
    user_id: str | None = None
    is_private: bool | None = None

    @property
    def image(self) -> str | None:
        """As docker takes it."""
        if not self.docker_image:
            return None
        tag = f":{self.docker_image_tag}" if self.docker_image_tag else ""
        digest = f"@{self.docker_image_digest}" if self.docker_image_digest else ""
        return f"{self.docker_image}{tag}{digest}"


class WirePod(Wire):
    """A pod; `price` is US dollars per hour for all of it, `ram_total` KiB."""

    id: str
    # One that can be read in part bills all the same, and must not hide the others. The template tells whose it is.
    needed: ClassVar = frozenset({"id", "pod_name", "status", "template"})
    pod_name: str | None = None
    status: str | None = None
    ssh_connect_cmd: str | None = None
    created_at: Moment = None
    executor: WireExecutor | None = None
    executor_id: str | None = None
    template: WireTemplate | None = None
    gpu_name: str | None = None
    gpu_count: Whole = None
    price: Money = None
    removal_scheduled_at: Moment = None
    phase: str | None = None
    updated_at: Moment = None
    ports_mapping: Specs = None
    executor_ip_address: Word = None
    cpu_name: Word = None
    ram_total: Amount = None

    def endpoint(self) -> SshEndpoint | None:
        """Where its SSH server answers."""
        return ssh_endpoint(self.ssh_connect_cmd)

    def ports(self) -> tuple[PublicPort, ...]:
        """Its ports and where they answer; what is no number is left out."""
        ssh = self.endpoint()
        host = self.executor_ip_address or (ssh.host if ssh is not None else None)
        return tuple(
            PublicPort(private=int(inside), public=outside, host=host)
            for inside, outside in (self.ports_mapping or {}).items()
            if str(inside).isdecimal() and isinstance(outside, int)
        )

    def hardware(self) -> Hardware:
        """What its node has, and what it was made of."""
        template = self.template
        return Hardware(
            cpu=self.cpu_name,
            memory_kib=self.ram_total,
            address=self.executor_ip_address,
            template=template.id if template is not None else None,
            template_name=template.name if template is not None else None,
            template_image=template.docker_image if template is not None else None,
            updated_at=self.updated_at,
        )


class WireRented(Wire):
    """The short answer to a rent."""

    pod_id: str


class WireEvent(Wire):
    """Something that happened to a pod: a failure has an `error`, an end a `reason`."""

    pod_name: str | None = None
    error: str | None = None
    reason: str | None = None
    detail: str | None = None


class WireAccount(Wire):
    """The account; `balance` in US dollars."""

    id: str | None = None
    balance: Money = None


class WireKey(Wire):
    """A public SSH key of the account."""

    public_key: str = ""


class WireMachine(Wire):
    """A kind of GPU."""

    name: str


ModelT = TypeVar("ModelT", bound=Wire)


def parse(model: type[ModelT], value: object, operation: str) -> ModelT:
    """Read one answer; ProtocolViolation names the fields that do not fit, and none of their values.

    Where a model says what it cannot do without, the other fields that do not fit count as not given.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = [tuple(map(str, part["loc"])) for part in error.errors(include_input=False)]
    places = sorted({".".join(loc) or "(all)" for loc in found})
    odd = {loc[0] for loc in found if loc}
    if model.needed and isinstance(value, dict) and odd and not odd & model.needed:
        log.debug("pod_readable_in_part", operation=operation, unreadable=places)
        return model.model_validate({name: one for name, one in value.items() if name not in odd})
    raise malformed(operation, f"another shape at {', '.join(places)[:120]}")


def parse_all(model: type[ModelT], values: object, operation: str) -> tuple[ModelT, ...]:
    """Read a list of answers; ProtocolViolation when it is none."""
    if not isinstance(values, list):
        raise malformed(operation, "no list")
    return tuple(parse(model, value, operation) for value in values)


def malformed(operation: str, what: str) -> ProtocolViolation:
    """The error of an answer that is not as documented."""
    message = f"Lium's answer to {operation} is not as documented ({what}): try again later"
    return ProtocolViolation(message, service=SERVICE, operation=operation, code="MALFORMED_ANSWER")


def _number(value: object) -> float | None:
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except ValueError:
        return None
    return found if math.isfinite(found) else None
