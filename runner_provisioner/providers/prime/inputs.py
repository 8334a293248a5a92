"""Every field of a create, under its name on the wire."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated

from pydantic import AliasGenerator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from runner_provisioner.errors import InvalidRequest

_NAME = r"^[A-Za-z0-9-]+$"


def _pairs(value: object) -> object:
    return [{"key": key, "value": item} for key, item in value.items()] if isinstance(value, Mapping) else value


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _team(value: object) -> object:
    return {"teamId": value} if isinstance(value, str) else value


Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Input(BaseModel):
    """What all inputs share: unknown names are refused."""

    # Most commands use few of them, and building all takes as long as a request.
    model_config = ConfigDict(
        defer_build=True,
        alias_generator=AliasGenerator(alias=to_camel),
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        coerce_numbers_to_str=True,
    )


class EnvPair(Input):
    """One environment variable."""

    key: str
    value: str

    def __repr__(self) -> str:
        return f"EnvPair({self.key})"


class PodInput(Input):
    """`pod` of a create; `max_price` is in USD per hour, sizes are GB."""

    name: str = Field(pattern=_NAME)
    cloud_id: str
    gpu_type: str
    socket: str | None = None
    gpu_count: int
    max_price: float
    image: str | None = None
    custom_template_id: str | None = None
    data_center_id: str | None = None
    country: str | None = None
    security: str | None = None
    disk_size: int | None = None
    vcpus: int | None = None
    memory: int | None = None
    env_vars: Annotated[tuple[EnvPair, ...], BeforeValidator(_pairs)] | None = None
    jupyter_password: str | None = Field(default=None, repr=False)
    ssh_key_id: str | None = None
    auto_restart: bool = False

    def __repr__(self) -> str:
        return f"PodInput({self.name})"  # the environment and the password are secrets

    __str__ = __repr__


class ProviderInput(Input):
    """`provider` of a create: the upstream provider of the offer."""

    type: str


class TeamInput(Input):
    """`team` of a create: who pays."""

    team_id: str


class CreateInput(Input):
    """The whole body."""

    pod: PodInput
    provider: ProviderInput
    disks: Listed | None = None
    team: Annotated[TeamInput | None, BeforeValidator(_team)] = None
    shared_with_team: bool | None = None
    team_member_ids: Listed | None = None

    def to_wire(self) -> dict[str, object]:
        """What is sent: `maxPrice` always (prime#141), nothing that was not given."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def shown(self) -> dict[str, object]:
        """What may be logged: of the environment only the names, no password."""
        wire = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"pod": {"jupyter_password"}})
        pod = wire["pod"]
        if isinstance(pod, dict) and self.pod.env_vars is not None:
            pod["envVars"] = [pair.key for pair in self.pod.env_vars]
        return wire


# Set by the offer, the name and the request: an option must not bend them.
FIXED = frozenset(
    {"name", "cloud_id", "gpu_type", "gpu_count", "socket", "data_center_id", "country", "security", "provider", "pod"}
)

_COMMANDS = frozenset({"dockerArgs", "docker_args"})


def options_of(given: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """The user's options under their Python names: those of `pod`, and those beside it.

    Raises InvalidRequest for a name that is unknown (with the nearest), given twice, or no option.
    """
    names = {**_names(CreateInput), **_names(PodInput), "teamId": "team", "team_id": "team"}
    found: dict[str, object] = {}
    for name, value in given.items():
        if name in _COMMANDS:
            raise InvalidRequest(
                "Prime Intellect has no start command (--docker-args): give the option customTemplateId of a template "
                "whose image starts it"
            )
        if name not in names:
            raise InvalidRequest(f"Prime Intellect knows no field '{name}'{_nearest(name, names)}")
        field = names[name]
        if field in FIXED:
            raise InvalidRequest(f"'{name}' is no option: it is set by the request itself")
        if field in found:
            raise InvalidRequest(f"field '{name}' is given twice: give it once")
        found[field] = value
    beside = {name: found.pop(name) for name in list(found) if name in CreateInput.model_fields}
    return found, beside


def _names(model: type[Input]) -> dict[str, str]:
    return {each: name for name in model.model_fields for each in (name, to_camel(name))}


def _nearest(name: str, names: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f": did you mean '{near[0]}'?" if near else ": see the list of create fields in the documentation"


def build(fields: Mapping[str, object]) -> CreateInput:
    """Make the body; InvalidRequest names the field whose value does not fit, never the value."""
    try:
        return CreateInput.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(to_camel(part) if isinstance(part, str) else str(part) for part in first["loc"])
    if place == "pod.name":
        raise InvalidRequest("Prime Intellect takes letters, digits and dashes in a pod's name: choose another name")
    raise InvalidRequest(f"Prime Intellect field '{place}' does not fit: {first['msg']}")
