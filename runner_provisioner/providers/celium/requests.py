"""What is sent to rent a pod: a template with its image, start command and environment, and the rent itself."""

from __future__ import annotations

import base64
import difflib
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from runner_provisioner.domain.markets import TemplateSpec
from runner_provisioner.domain.pods import PodSpec
from runner_provisioner.errors import InvalidRequest, about
from runner_provisioner.providers.celium.start_command import PLACES, StartLine, bare_environment, start_line

LONGEST_HOURS = 720
TEMPLATE_NAME = "runner-provisioner-"
REMOVED = f"{TEMPLATE_NAME}removed"
_KEYS = "PUBLIC_KEY"  # the variable in which a pod's keys come
_SSH = 22
_HIGHEST_PORT = 65535
# Words of the Celium service's specification, and of other providers, for the same things.
_SYNONYMS = {"ssh_key": "user_public_key", "port_mapping": "internal_ports", "dockerArgs": "startup_commands"}
_FIXED = frozenset({"name", "pod_name", "executor_id", "docker_image", "gpu_count", "environment", "termination_hours"})
# All of these are spliced bare into a line for the node's shell.
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
_PATH = re.compile(r"/[A-Za-z0-9._+@/-]*")
_WORD = re.compile(r"[A-Za-z0-9._+@/-]*")
_DIGEST = re.compile(r"[A-Za-z0-9._+:-]*")
_KEY = re.compile(r"([a-z0-9@.-]+) ([A-Za-z0-9+/]+=*)(?:\s+\S.*)?")


def _listed(value: object) -> object:
    return [value] if isinstance(value, (str, int)) else value


def _lines(value: object) -> object:
    return [line for line in value.splitlines() if line.strip()] if isinstance(value, str) else value


class Options(BaseModel):
    """Lium's further fields, which a user may give under their names there."""

    # Most commands use few of them, and building all takes as long as a request.
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    # of the template
    category: str | None = None
    docker_image_tag: str | None = None
    docker_image_digest: str | None = None
    entrypoint: str | None = None
    internal_ports: Annotated[tuple[int, ...] | None, BeforeValidator(_listed)] = None
    startup_commands: str | None = None
    volumes: Annotated[tuple[str, ...] | None, BeforeValidator(_listed)] = None
    # of the rent
    backup_log_id: str | None = None
    build_context_sha256: str | None = None
    dockerfile_content: str | None = None
    enable_backups: bool | None = None
    enable_volume_encryption: bool | None = None
    initial_port_count: int | None = None
    restore_path: str | None = None
    template_id: str | None = None
    user_public_key: Annotated[tuple[str, ...] | None, BeforeValidator(_lines)] = None
    volume_id: str | None = None


_OF_RENT = frozenset(
    {
        "backup_log_id",
        "build_context_sha256",
        "dockerfile_content",
        "enable_backups",
        "enable_volume_encryption",
        "initial_port_count",
        "restore_path",
        "volume_id",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a pod needs: the contents of its template without a name, or the id of one; the rent's other fields.

    `keys` are the public keys that the request names, none when it leaves them to the account.
    """

    template: Mapping[str, object] | None = field(repr=False)
    template_id: str | None
    rent: Mapping[str, object] = field(repr=False)
    keys: tuple[str, ...]


def order_of(spec: PodSpec, *, count: int, now: datetime) -> Order:
    """Check everything before anything is made. Raises InvalidRequest."""
    options = options_of(spec.options)
    env = {**spec.env, **(spec.tags.to_env() if spec.tags else {})}
    keys = public_keys(options.user_public_key or env.pop(_KEYS, "").splitlines())
    env.pop(_KEYS, None)
    given = options.model_dump(exclude_none=True)
    rent = {name: value for name, value in given.items() if name in _OF_RENT}
    rent |= {"pod_name": spec.name, "gpu_count": count, **_hours(spec.terminate_after, now)}
    if spec.network_volume is not None:
        rent["volume_id"] = spec.network_volume
    if options.template_id or options.dockerfile_content:
        _check_own(spec, options)
        return Order(template=None, template_id=options.template_id, rent=rent, keys=keys)
    volumes = options.volumes or (spec.volume_mount,)
    # A reboot makes a new container (its host key changes, lium.io 0.32.0), and the pod's volume alone outlives that.
    # One that outlives the pod as well is its user's.
    own = () if "volume_id" in rent else volumes
    template = _contents(
        image=spec.image,
        line=_line(spec.command, env, options, own),
        ports=spec.ports,
        options=options,
        volumes=volumes,
    )
    return Order(template=template, template_id=None, rent=rent, keys=keys)


def template_of(spec: TemplateSpec) -> dict[str, object]:
    """What makes a template of the user's own; raises InvalidRequest."""
    options = Options()
    line = _line(spec.command, dict(spec.env), options, ("/workspace",) if spec.once else ())
    contents = _contents(image=spec.image, line=line, ports=spec.ports, options=options, volumes=("/workspace",))
    return {**contents, **named(spec.name), "one_time_template": spec.once}


def named(name: str) -> dict[str, object]:
    """The fields of a template that hold its name, as Lium's own client fills them."""
    return {"name": name, "description": name, "readme": name}


def emptied(image: str | None) -> dict[str, object]:
    """Contents that say nothing, for a template that the API does not let anybody remove."""
    line = StartLine(entrypoint="", startup="", environment={})
    contents = _contents(image=image or "hello-world", line=line, ports=(), options=Options(), volumes=("/workspace",))
    return {**contents, **named(REMOVED)}


def public_keys(lines: Iterable[str]) -> tuple[str, ...]:
    """OpenSSH public keys without their comments, each once; raises InvalidRequest for anything else.

    A comment is free text, and who knows through which shell it goes on the node.
    """
    found = []
    for line in filter(None, (line.strip() for line in lines)):
        key = _KEY.fullmatch(line)
        if key is None:
            raise InvalidRequest(
                "an SSH key is no public key of OpenSSH's form: give a line like 'ssh-ed25519 AAAA...'"
            )
        found.append(f"{key[1]} {key[2]}")
    return tuple(dict.fromkeys(found))


def nobodys_key(name: str) -> str:
    """A public key whose private part nobody has: Lium rents nothing without a key."""
    head = b"\0\0\0\x0bssh-ed25519\0\0\0 "
    return f"ssh-ed25519 {base64.b64encode(head + hashlib.sha256(name.encode()).digest()).decode()}"


def options_of(given: Mapping[str, object]) -> Options:
    """Raises InvalidRequest for an unknown field (with the nearest name), or a value that does not fit."""
    fields: dict[str, object] = {}
    for name, value in given.items():
        known = _SYNONYMS.get(name, name)
        if known in _FIXED:
            raise InvalidRequest(f"'{name}' is no option: it is set by the request itself")
        if known not in Options.model_fields:
            near = difflib.get_close_matches(known, Options.model_fields, n=1, cutoff=0.5)
            hint = f": did you mean '{near[0]}'?" if near else ": see the fields of a rent and of a template there"
            raise InvalidRequest(f"Lium knows no field '{name}'{hint}")
        if known in fields:
            raise InvalidRequest(f"field '{known}' is given twice: give it once")
        fields[known] = value
    return _validated(Options, fields)


ModelT = TypeVar("ModelT", bound=BaseModel)


def _validated(model: type[ModelT], fields: Mapping[str, object]) -> ModelT:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
    raise InvalidRequest(f"Lium's field '{first['loc'][0]}' does not fit: {first['msg']}")


def _hours(end: datetime | None, now: datetime) -> dict[str, int]:
    """The kill time in whole hours, rounded up: `schedule-removal` says it exactly afterwards."""
    if end is None:
        return {}
    if end <= now:
        raise InvalidRequest(f"the end of the pod, {end:%Y-%m-%d %H:%M} UTC, is over: give a longer lifetime")
    hours = math.ceil((end - now) / timedelta(hours=1))
    return {"termination_hours": hours} if hours <= LONGEST_HOURS else {}


def _check_own(spec: PodSpec, options: Options) -> None:
    """A template or a Dockerfile of the user's own says everything about the container by itself."""
    if options.template_id and options.dockerfile_content:
        raise InvalidRequest("give template_id or dockerfile_content, not both")
    what = "template_id" if options.template_id else "dockerfile_content"
    if spec.command is not None or options.startup_commands:
        raise InvalidRequest(f"'{what}' brings its own start command: leave one of the two out")
    ours = {_KEYS, *(spec.tags.to_env() if spec.tags else ())}
    if set(spec.env) - ours:
        raise about("env", InvalidRequest(f"'{what}' brings its own environment: leave the variables out"))


def _line(command: str | None, env: Mapping[str, str], options: Options, volumes: Sequence[str]) -> StartLine:
    if command is None:
        entrypoint = _shell_safe("entrypoint", options.entrypoint or "", _WORD)
        return StartLine(
            entrypoint=entrypoint, startup=options.startup_commands or "", environment=bare_environment(env)
        )
    for name in ("entrypoint", "startup_commands"):
        if getattr(options, name) is not None:
            raise InvalidRequest(f"'{name}' is no option of a pod with a start command of its own: leave it out")
    places = (*PLACES, *(_shell_safe("volumes", path, _PATH) for path in volumes))
    return start_line(command, env, places=places)


def _contents(
    *, image: str, line: StartLine, ports: Sequence[str], options: Options, volumes: Sequence[str]
) -> dict[str, object]:
    name, tag, digest = image_parts(image)
    return {
        "docker_image": name,
        "docker_image_tag": _shell_safe("docker_image_tag", options.docker_image_tag or tag, _WORD),
        "docker_image_digest": _shell_safe("docker_image_digest", options.docker_image_digest or digest, _DIGEST),
        "category": options.category or "UBUNTU",
        "internal_ports": _ports(ports, options.internal_ports or ()),
        "startup_commands": line.startup,
        "entrypoint": line.entrypoint,
        "environment": dict(line.environment),
        "volumes": [_shell_safe("volumes", path, _PATH) for path in volumes],
        "container_start_immediately": True,
        "is_private": True,
        "one_time_template": True,
        "is_temporary": False,
    }


def image_parts(image: str) -> tuple[str, str, str]:
    """Name, tag and digest. Raises InvalidRequest for what is no image's name: the node's shell would run it."""
    if not _IMAGE.fullmatch(image):
        raise about("image", InvalidRequest(_unsafe("image", image)))
    whole, _, digest = image.partition("@")
    folder, slash, last = whole.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{folder}{slash}{name}", tag or ("" if digest else "latest"), digest


def _ports(ports: Sequence[str], more: Sequence[int]) -> list[int]:
    found = [_SSH]
    for port in (*ports, *more):
        number = str(port).partition("/")[0]
        if not number.isdecimal() or not 0 < int(number) <= _HIGHEST_PORT:
            raise InvalidRequest(f"port '{port}': Lium exposes ports from 1 to 65535")
        found.append(int(number))
    return list(dict.fromkeys(found))


def _shell_safe(what: str, text: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(text):
        raise InvalidRequest(_unsafe(what, text))
    return text


def _unsafe(what: str, text: str) -> str:
    return f"{what} {text[:80]!r}: a shell on the node reads it; use letters, digits and ._/:@-"
