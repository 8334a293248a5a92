"""What Prime Intellect answers, read leniently: unknown fields are ignored, wrong shapes are not.

Statuses, sockets, providers and images are open lists: new words arrive without notice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, ClassVar, TypeVar

from pydantic import AliasGenerator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from runner_provisioner.domain.addresses import checked, parse_ssh
from runner_provisioner.domain.pods import Hardware, PublicPort, SshEndpoint
from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.logging import get_logger
from runner_provisioner.providers.prime.failures import SERVICE, malformed

SSH_PORT = 22

log = get_logger(__name__)


def moment(value: object) -> datetime | None:
    """Read RFC 3339, also without a zone, as UTC; None when it is something else."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.strip())
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and math.isfinite(value) else value


def several(value: object) -> object:
    """One text or a list of them, with null among them for nodes that are not known yet."""
    items = value if isinstance(value, list) else [value]
    if not all(item is None or isinstance(item, str) for item in items):
        raise ValueError("neither a text nor a list of texts")
    return tuple(item.strip() for item in items if isinstance(item, str) and item.strip())


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _mapping(value: object) -> object:
    return value if isinstance(value, Mapping) else {}


Money = Decimal | None
Whole = Annotated[int | None, BeforeValidator(_whole)]
Moment = Annotated[datetime | None, BeforeValidator(moment)]  # unreadable is "not known": it must not hide a pod
Several = Annotated[tuple[str, ...], BeforeValidator(several)]
Text = Annotated[str | None, BeforeValidator(_text)]


class Wire(BaseModel):
    """What all answers share: camelCase outside, snake_case inside."""

    # Most commands use few of them, and building all takes as long as a request.
    model_config = ConfigDict(
        defer_build=True,
        alias_generator=AliasGenerator(alias=to_camel),
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )
    needed: ClassVar[frozenset[str]] = frozenset()
    """The fields without which it is of no use, as they are called outside; empty where each has to fit."""


# -- offers


class WireAmount(Wire):
    """How much of something (GB, CPUs) an offer can have; a unit costs `price_per_unit` USD per hour."""

    min_count: Whole = None
    default_count: Whole = None
    max_count: Whole = None
    price_per_unit: Money = None
    step: Whole = None
    default_included_in_price: bool | None = None


class WirePrices(Wire):
    """USD per hour for all GPUs of the offer."""

    on_demand: Money = None
    community_price: Money = None


class WireOffer(Wire):
    """One configuration of one upstream provider."""

    cloud_id: str
    gpu_type: str
    gpu_count: Whole = None
    socket: str | None = None
    provider: str
    region: str | None = None
    data_center: str | None = None
    country: str | None = None
    gpu_memory: Whole = None
    stock_status: str | None = None
    security: str | None = None
    images: tuple[str, ...] | None = None
    is_spot: bool | None = None
    prepaid_time: float | None = None
    disk: WireAmount | None = None
    vcpu: WireAmount | None = None
    memory: WireAmount | None = None
    prices: WirePrices | None = None

    @property
    def key(self) -> str:
        """What tells it from every other offer."""
        kind = "spot" if self.is_spot else "on-demand"
        places = (self.data_center or self.country, self.socket, self.security)
        parts = [
            self.provider,
            self.cloud_id,
            self.gpu_type,
            str(self.gpu_count),
            kind,
            *(part or "-" for part in places),
        ]
        return ":".join(parts)


# -- pods


class WirePort(Wire):
    """A port of a pod that is reachable; both numbers come as texts."""

    internal: Text = None
    external: Text = None
    protocol: str | None = None
    used_by: str | None = None


class Connected(Wire):
    """What a pod and its status share: how far it is, and the way in."""

    status: str | None = None
    installation_status: str | None = None
    installation_failure: str | None = None
    installation_progress: Whole = None
    ssh_connection: Several = ()
    ip: Several = ()
    prime_port_mapping: tuple[WirePort, ...] | None = None
    price_hr: Money = None

    def endpoint(self) -> SshEndpoint | None:
        """Where the first node's SSH server answers; None = nowhere yet.

        Raises ProtocolViolation when what stands there is no address: it must never reach what connects.
        """
        if not self.ssh_connection:
            return self._mapped()
        # Always `user@ip -p port`: a bare word, such as one that says why there is no address, is no host.
        if "@" not in self.ssh_connection[0]:
            raise malformed("pod", "its sshConnection names no user and host")
        return parse_ssh(self.ssh_connection[0])

    def _mapped(self) -> SshEndpoint | None:
        for port in self.prime_port_mapping or ():
            if port.internal == str(SSH_PORT) and (port.protocol or "TCP").upper() == "TCP" and self.ip:
                return checked(SshEndpoint(host=self.ip[0], port=_port(port.external)))
        return None


def _port(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) <= 5 else 0  # noqa: PLR2004 - 65535


class WirePod(Connected):
    """A pod. `jupyterPassword` and the environment are nobody's business here."""

    # One that can be read in part bills all the same, and must not hide the others.
    needed: ClassVar = frozenset({"id", "name", "status"})

    id: str
    name: str | None = None
    gpu_name: str | None = None
    gpu_count: Whole = None
    socket: str | None = None
    provider_type: str | None = None
    created_at: Moment = None
    environment_type: str | None = None
    is_spot: bool | None = None
    resources: Annotated[Mapping[str, object], BeforeValidator(_mapping)] = Field(default_factory=dict)
    custom_template_id: object = None
    updated_at: Moment = None

    def open_ports(self) -> tuple[PublicPort, ...]:
        """Every port that is told; what is no number is left out."""
        host = self.ip[0] if self.ip else None
        found = ((_port(port.internal), _port(port.external), port.protocol) for port in self.prime_port_mapping or ())
        return tuple(
            PublicPort(private=inside, public=outside, host=host, protocol=(protocol or "TCP").lower())
            for inside, outside, protocol in found
            if inside and outside
        )

    def hardware(self) -> Hardware:
        """What it has beside its GPUs; `resources` are whole GB and counts, written as text."""
        memory = self._resource("memory")
        template = self.custom_template_id
        return Hardware(
            vcpus=self._resource("vcpus"),
            memory_kib=memory * 1024 * 1024 if memory is not None else None,
            disk_gb=self._resource("disk"),
            socket=self.socket,
            address=self.ip[0] if self.ip else None,
            template=template if isinstance(template, str) else None,
            updated_at=self.updated_at,
        )

    def _resource(self, name: str) -> int | None:
        text = str(self.resources.get(name, ""))
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None  # noqa: PLR2004 - digits


class WireStatus(Connected):
    """The short form; the documentation's example calls the price `costPerHr`."""

    pod_id: str
    cost_per_hr: Money = None


class WirePast(Wire):
    """A pod that has ended; `total_billed_price` is in USD."""

    id: str
    name: str | None = None
    gpu_name: str | None = None
    gpu_count: Whole = None
    price_hr: Money = None
    total_billed_price: Money = None
    created_at: Moment = None
    terminated_at: Moment = None


# -- the account


class WireKey(Wire):
    """A public SSH key of the account; the primary one is put into every new pod."""

    id: str
    name: str | None = None
    public_key: str = ""
    is_primary: bool | None = None


class WireDiskPlace(Wire):
    """Where a disk lies."""

    country: str | None = None
    data_center_id: str | None = None


class WireDisk(Wire):
    """A disk that outlives pods; `size` is in GB."""

    id: str
    name: str | None = None
    status: str | None = None
    size: Whole = None
    provider_type: str | None = None
    info: WireDiskPlace | None = None


class WireWallet(Wire):
    """The account's money, written in snake_case."""

    model_config = ConfigDict(alias_generator=None, populate_by_name=True, extra="ignore", frozen=True)

    balance_usd: Decimal


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
    message = f"Prime Intellect's answer has another shape than documented at {', '.join(places)[:120]}: try later"
    raise ProtocolViolation(message, service=SERVICE, operation=operation, code="MALFORMED_ANSWER")


def rows_of(model: type[ModelT], body: object, field: str, operation: str) -> tuple[Sequence[ModelT], int | None]:
    """The rows of one page and how many there are in all; ProtocolViolation when it is no page."""
    rows, total = page_of(body, field, operation)
    return tuple(parse(model, row, operation) for row in rows), total


def page_of(body: object, field: str, operation: str) -> tuple[Sequence[object], int | None]:
    """The rows of one page, not read yet, and how many there are in all; ProtocolViolation when it is no page."""
    rows = body.get(field) if isinstance(body, dict) else None
    if not isinstance(rows, list) or not isinstance(body, dict):
        raise malformed(operation, f"it has no list '{field}'")
    total = body.get("total_count", body.get("totalCount"))
    return rows, total if isinstance(total, int) else None
