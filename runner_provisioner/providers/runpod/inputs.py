"""Every input field of RunPod's pod mutations, under its exact name on the wire."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from pydantic import AliasGenerator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel

from runner_provisioner.errors import InvalidRequest, about
from runner_provisioner.providers.runpod.moments import stamp

ENV_LIMIT = 50  # variables for one pod (docs)
Cloud = Literal["SECURE", "COMMUNITY", "ALL"]
Compute = Literal["CPU", "GPU"]
Compliance = Literal[
    "GDPR",
    "ISO_IEC_27001",
    "ISO_14001",
    "PCI_DSS",
    "HITRUST",
    "SOC_1_TYPE_2",
    "SOC_2_TYPE_2",
    "SOC_3_TYPE_2",
    "ITAR",
    "FISMA_HIGH",
    "HIPAA",
]
# The GraphQL integration specification writes the field in another case than the API.
_SYNONYMS = {"startSSH": "start_ssh"}


def _joined(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _pairs(value: object) -> object:
    return [{"key": key, "value": item} for key, item in value.items()] if isinstance(value, Mapping) else value


def _parts(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_parts)]
Ports = Annotated[str, BeforeValidator(_joined)]
When = Annotated[datetime, PlainSerializer(stamp)]


class Input(BaseModel):
    """What all inputs share: unknown names are refused, nothing is sent that was not given."""

    # Most commands use few of them, and building all takes as long as a request.
    model_config = ConfigDict(
        defer_build=True,
        alias_generator=AliasGenerator(alias=to_camel),
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    def to_wire(self) -> dict[str, object]:
        """What is sent as the GraphQL variable."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class EnvPair(Input):
    """One environment variable."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    key: str
    value: str

    def __repr__(self) -> str:
        return f"EnvPair({self.key})"


Env = Annotated[tuple[EnvPair, ...], BeforeValidator(_pairs)]


class SavingsPlan(Input):
    """A commitment in exchange for a lower price."""

    plan_length: str | None = None
    upfront_cost: float | None = None


class DeployInput(Input):
    """What both ways to rent take."""

    name: str | None = None
    image_name: str | None = None
    gpu_type_id: str | None = None
    gpu_count: int | None = None
    cloud_type: Annotated[Cloud | None, BeforeValidator(_upper)] = None
    container_disk_in_gb: int | None = None
    volume_in_gb: int | None = None
    volume_mount_path: str | None = None
    volume_key: str | None = None
    network_volume_id: str | None = None
    docker_args: str | None = None
    env: Env | None = None
    ports: Ports | None = None
    port: int | None = None
    template_id: str | None = None
    container_registry_auth_id: str | None = None
    start_ssh: bool | None = None
    start_jupyter: bool | None = None
    support_public_ip: bool | None = None
    data_center_id: str | None = None
    country_code: str | None = None
    min_vcpu_count: int | None = None
    min_memory_in_gb: int | None = None
    min_disk: int | None = None
    min_download: int | None = None
    min_upload: int | None = None
    cuda_version: str | None = None
    allowed_cuda_versions: Names | None = None
    min_cuda_version: str | None = None
    stop_after: When | None = None
    terminate_after: When | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"  # dockerArgs and env carry secrets

    __str__ = __repr__


class RentInput(DeployInput):
    """`PodRentInterruptableInput`; `bid_per_gpu` is in US dollars per GPU and hour."""

    bid_per_gpu: float | None = None


class OnDemandInput(DeployInput):
    """`PodFindAndDeployOnDemandInput`; `deploy_cost` is a ceiling in US dollars per hour."""

    deploy_cost: float | None = None
    gpu_type_id_list: Names | None = None
    ai_api_id: str | None = None
    instance_ids: Names | None = None
    compute_type: Annotated[Compute | None, BeforeValidator(_upper)] = None
    savings_plan: SavingsPlan | None = None
    global_network: bool | None = None
    compliance: Annotated[tuple[Compliance, ...], BeforeValidator(_parts)] | None = None


class ResumeInput(Input):
    """`PodResumeInput`."""

    pod_id: str
    gpu_count: int | None = None
    sync_machine: bool | None = None
    compute_type: Annotated[Compute | None, BeforeValidator(_upper)] = None
    allowed_cuda_versions: Names | None = None


class BidResumeInput(Input):
    """`PodBidResumeInput`; without the count the API answers 400."""

    pod_id: str
    bid_per_gpu: float
    gpu_count: int


class StopInput(Input):
    """`PodStopInput`."""

    pod_id: str
    increment_version: bool | None = None


class PriceInput(Input):
    """`GpuLowestPriceInput`."""

    gpu_count: int | None = None
    secure_cloud: bool | None = None
    data_center_id: str | None = None
    country_code: str | None = None
    support_public_ip: bool | None = None
    include_ai_api: bool | None = None
    min_disk: int | None = None
    total_disk: int | None = None
    min_download: int | None = None
    min_upload: int | None = None
    min_memory_in_gb: int | None = None
    min_vcpu_count: int | None = None
    cuda_version: str | None = None
    allowed_cuda_versions: Names | None = None
    min_cuda_version: str | None = None
    compliance: Annotated[tuple[Compliance, ...], BeforeValidator(_parts)] | None = None
    global_network: bool | None = None


InputT = TypeVar("InputT", bound=Input)


def build(model: type[InputT], fields: Mapping[str, object]) -> InputT:
    """Make an input of fields under their wire or Python names.

    Raises InvalidRequest for an unknown field (with the nearest name), one given twice, or a value that does not fit.
    """
    return _validated(model, named(model, fields))


def named(model: type[Input], fields: Mapping[str, object]) -> dict[str, object]:
    """The same fields under their Python names."""
    names = _names(model)
    found: dict[str, object] = {}
    for name, value in fields.items():
        if name not in names:
            raise InvalidRequest(f"RunPod knows no field '{name}'{_nearest(name, names)}")
        if names[name] in found:
            raise InvalidRequest(f"field '{name}' is given twice: give it once")
        found[names[name]] = value
    return found


def _names(model: type[Input]) -> dict[str, str]:
    names = {field.alias or name: name for name, field in model.model_fields.items()}
    known = {**names, **{name: name for name in model.model_fields}}
    return {**known, **{name: field for name, field in _SYNONYMS.items() if field in model.model_fields}}


def _nearest(name: str, names: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f": did you mean '{near[0]}'?" if near else ": see the list of input fields in the documentation"


def _validated(model: type[InputT], fields: Mapping[str, object]) -> InputT:
    try:
        made = model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(to_camel(part) if isinstance(part, str) else str(part) for part in first["loc"])
        raise InvalidRequest(f"RunPod field '{place}' does not fit: {first['msg']}") from None
    check_count(getattr(made, "env", None) or ())
    return made


def check_count(env: Collection[object]) -> None:
    """Raises InvalidRequest about `env` when these are more variables than a pod may have."""
    if len(env) > ENV_LIMIT:
        message = f"RunPod takes {ENV_LIMIT} environment variables, this program's own included: these are {len(env)}"
        raise about("env", InvalidRequest(f"{message}: give fewer"))
