"""What is sent to rent a pod over REST v2: from the neutral spec and offer to the fields of CreatePodRequest."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from runner_provisioner.domain.markets import TemplateSpec
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import CloudType, PodSpec
from runner_provisioner.errors import InvalidRequest
from runner_provisioner.providers.runpod.inputs import Input, build, check_count, named

_LEAST_VOLUME = 10  # GB
_FIXED = frozenset({"name", "gpu", "cloud"})
# Options under the names that GraphQL has for the same things: a user need not know which API serves.
_SYNONYMS = {
    "imageName": "image",
    "dockerArgs": "args",
    "containerDiskInGb": "disk",
    "containerRegistryAuthId": "registry",
    "globalNetwork": "globalNetworking",
    "dataCenterId": "dataCenterIds",
}
_OF_GPU = {"allowedCudaVersions": "allowed_cuda_versions", "minCudaVersion": "min_cuda_version"}


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class GpuWish(Input):
    """`gpu` of a create. Without the count no machine matches, whatever the documentation says (mcp-4.0.0)."""

    id: str
    count: int
    allowed_cuda_versions: Listed | None = None
    min_cuda_version: str | None = None
    min_ram_per_gpu: int | None = None
    min_vcpu_count_per_gpu: int | None = None


class Persistent(Input):
    """A volume on the pod's host."""

    size: int
    path: str


class Network(Input):
    """A network volume."""

    volume_id: str
    path: str


class Mounts(Input):
    """One of them, or none."""

    persistent: Persistent | None = None
    network: tuple[Network, ...] | None = None


class CreateInput(Input):
    """`CreatePodRequest` for a GPU pod. The command is `entrypoint` and `cmd`, or `args` where those are refused."""

    name: str
    image: str | None = None
    cloud: str = "SECURE"
    gpu: GpuWish
    args: str | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    disk: int | None = None
    ports: Listed | None = None
    env: Mapping[str, str] = Field(default_factory=dict)
    registry: str | None = None
    data_center_ids: Listed | None = None
    global_networking: bool | None = None
    template_id: str | None = None
    start_ssh: bool | None = None
    start_jupyter: bool | None = None
    mounts: Mounts | None = None

    def __repr__(self) -> str:
        return f"CreateInput({self.name})"  # the command and the environment carry secrets

    __str__ = __repr__


class TemplateInput(Input):
    """`CreateTemplateRequest`."""

    name: str
    image: str
    args: str | None = None
    disk: int | None = None
    ports: Listed | None = None
    env: Mapping[str, str] = Field(default_factory=dict)
    start_jupyter: bool = False

    def __repr__(self) -> str:
        return f"TemplateInput({self.name})"

    __str__ = __repr__


def create_input(spec: PodSpec, offer: Offer, *, whole_command: bool) -> CreateInput:
    """Rent at the market's price. `whole_command` replaces the image's entrypoint too; else the command follows it.

    Raises InvalidRequest for an option that does not fit.
    """
    fields: dict[str, object] = {
        "name": spec.name,
        "image": spec.image or None,
        "cloud": cloud_of(spec, offer).value.upper(),
        "gpu": _gpu(spec, offer),
        "disk": spec.disk_gb,
        "ports": spec.ports,
        "env": _environment(spec),
        "start_ssh": spec.start_ssh,
        "mounts": _mounts(spec),
        "data_center_ids": [offer.region] if offer.region else None,
        **_command(spec.command, whole=whole_command),
    }
    return _checked(build(CreateInput, _with_options(fields, spec)))


def template_input(spec: TemplateSpec) -> TemplateInput:
    """A template of the account's own, for pods."""
    args = None if spec.command is None else shell_words(spec.command)
    fields: dict[str, object] = {
        "name": spec.name,
        "image": spec.image,
        "args": args,
        "disk": spec.disk_gb,
        "ports": spec.ports,
        "env": dict(spec.env),
    }
    return build(TemplateInput, {name: value for name, value in fields.items() if value is not None})


def cloud_of(spec: PodSpec, offer: Offer) -> CloudType:
    """The offer's, else the wanted one; REST v2 takes one of the two and has no ALL."""
    chosen = offer.cloud or spec.cloud
    return CloudType.SECURE if chosen is CloudType.ALL else chosen


def cuda_floor(version: str | None) -> str | None:
    """`major.minor`, as a create wants it."""
    return version if version is None or "." in version else f"{version}.0"


def shell_words(command: str) -> str:
    """The command as arguments of an image without an entrypoint."""
    return shlex.join(["bash", "-c", command])


def _gpu(spec: PodSpec, offer: Offer) -> dict[str, object]:
    per_gpu = {
        "min_ram_per_gpu": math.ceil(spec.min_memory_gb / offer.gpu_count),
        "min_vcpu_count_per_gpu": math.ceil(spec.min_vcpus / offer.gpu_count),
    }
    wish: dict[str, object] = {"id": offer.gpu_model, "count": offer.gpu_count}
    wish |= {name: least for name, least in per_gpu.items() if least > 0}
    if spec.cuda is not None:
        wish["min_cuda_version"] = cuda_floor(spec.cuda)
    return wish


def _mounts(spec: PodSpec) -> dict[str, object] | None:
    if spec.network_volume is not None:
        return {"network": [{"volume_id": spec.network_volume, "path": spec.volume_mount}]}
    if not spec.volume_gb:
        return None
    if spec.volume_gb < _LEAST_VOLUME:
        message = f"a volume of {spec.volume_gb} GB is less than RunPod's least of {_LEAST_VOLUME} GB: ask for that"
        raise InvalidRequest(message)
    return {"persistent": {"size": spec.volume_gb, "path": spec.volume_mount}}


def _command(command: str | None, *, whole: bool) -> dict[str, object]:
    if command is None:
        return {}
    if whole:
        return {"entrypoint": ["bash", "-c"], "cmd": [command]}
    return {"args": shell_words(command)}


def _environment(spec: PodSpec) -> dict[str, str]:
    return {**spec.env, **(spec.tags.to_env() if spec.tags else {})}


def _with_options(fields: Mapping[str, object], spec: PodSpec) -> dict[str, object]:
    """The fields with the user's options over them; None is left out."""
    given = dict(spec.options)
    gpu = {_OF_GPU[name]: given.pop(name) for name in list(given) if name in _OF_GPU}
    options = named(CreateInput, {_SYNONYMS.get(name, name): value for name, value in given.items()})
    fixed = _FIXED | ({"args", "entrypoint", "cmd"} if spec.command is not None else set())
    for name in options:
        if name in fixed:
            raise InvalidRequest(f"'{name}' is no option: it is set by the request itself")
    if "env" in options:
        # Tags and start settings win: without them nobody knows whose pod it is.
        options["env"] = {**_mapping(options["env"]), **_environment(spec)}
    wish = fields["gpu"]
    assert isinstance(wish, dict)  # noqa: S101 - made above
    return {name: value for name, value in {**fields, **options, "gpu": {**wish, **gpu}}.items() if value is not None}


def _mapping(env: object) -> dict[str, object]:
    """Names and values, also as the list of pairs that GraphQL takes."""
    if isinstance(env, Mapping):
        return dict(env)
    found: dict[str, object] = {}
    for pair in env if isinstance(env, (list, tuple)) else [None]:
        if not (isinstance(pair, Mapping) and {"key", "value"} <= set(pair)):
            raise InvalidRequest("RunPod field 'env' does not fit: give names and values")
        found[str(pair["key"])] = pair["value"]
    return found


def _checked(pod: CreateInput) -> CreateInput:
    check_count(pod.env)
    return pod
