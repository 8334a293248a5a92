"""What RunPod's GraphQL API answers, read leniently: unknown fields are ignored, wrong shapes are not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, TypeVar

from pydantic import (
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from runner_provisioner.domain.pods import GpuLoad, Hardware, PublicPort, SshEndpoint, Telemetry
from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.moments import moment

SSH_PORT = 22
SSH_PROXY = "ssh.runpod.io"


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and math.isfinite(value) else value


Money = Annotated[Decimal | None, PlainSerializer(_number)]
Whole = Annotated[int | None, BeforeValidator(_whole)]
Moment = Annotated[datetime | None, BeforeValidator(moment)]  # unreadable is "not known": it must not hide a pod


class Wire(BaseModel):
    """What all answers share: camelCase outside, snake_case inside."""

    # Most commands use few of them, and building all takes as long as a request.
    model_config = ConfigDict(
        defer_build=True,
        alias_generator=AliasGenerator(alias=to_camel),
        populate_by_name=True,
        extra="ignore",
        frozen=True,
    )


class WirePort(Wire):
    """A port of a running container."""

    ip: str | None = None
    is_ip_public: bool | None = None
    private_port: Whole = None
    public_port: Whole = None
    type: str | None = None


class WireLoad(Wire):
    """How busy the container is, in percent."""

    cpu_percent: float | None = None
    memory_percent: float | None = None


class WireGpuLoad(Wire):
    """How busy one GPU is, in percent."""

    id: str = ""
    gpu_util_percent: float | None = None
    memory_util_percent: float | None = None


class WireRuntime(Wire):
    """The container, once it runs."""

    uptime_in_seconds: Whole = None
    container: WireLoad | None = None
    gpus: tuple[WireGpuLoad, ...] | None = None
    ports: tuple[WirePort, ...] | None = None


class WireTelemetry(Wire):
    """The last report of the pod's host."""

    state: str | None = None
    time: Moment = None
    last_state_transition_timestamp: Moment = None
    cpu_utilization: float | None = None
    memory_utilization: float | None = None


class WireMachine(Wire):
    """The host of a pod."""

    pod_host_id: str | None = None
    gpu_type_id: str | None = None
    gpu_display_name: str | None = None


class WirePod(Wire):
    """A pod; `desired_status` is the wish, not the observation."""

    id: str
    name: str | None = None
    image_name: str | None = None
    desired_status: str | None = None
    last_status_change: str | None = None
    last_started_at: Moment = None
    created_at: Moment = None
    pod_type: str | None = None
    cost_per_hr: Money = None
    env: tuple[str, ...] | None = None
    ports: str | None = None
    gpu_count: Whole = None
    vcpu_count: float | None = None
    memory_in_gb: float | None = None
    container_disk_in_gb: Whole = None
    volume_in_gb: float | None = None
    volume_mount_path: str | None = None
    machine_id: str | None = None
    machine: WireMachine | None = None
    runtime: WireRuntime | None = None
    latest_telemetry: WireTelemetry | None = None

    def environment(self) -> Mapping[str, str]:
        """The environment the pod was made with; RunPod answers it as "K=V" strings."""
        return dict(line.split("=", 1) for line in self.env or () if "=" in line)

    @property
    def wants_ssh(self) -> bool:
        """Whether 22/tcp was asked for."""
        asked = [port.strip() for port in (self.ports or "").split(",")]
        return f"{SSH_PORT}/tcp" in asked

    def ssh(self) -> SshEndpoint | None:
        """Where the pod's SSH server answers on a public address."""
        ports = self.runtime.ports if self.runtime else None
        for port in ports or ():
            if port.is_ip_public and port.private_port == SSH_PORT and port.type in {"tcp", None}:
                return SshEndpoint(host=port.ip, port=port.public_port) if port.ip and port.public_port else None
        return None

    def open_ports(self) -> tuple[PublicPort, ...]:
        """Every port with a public address."""
        ports = (self.runtime.ports if self.runtime else None) or ()
        return tuple(
            PublicPort(private=one.private_port, public=one.public_port, host=one.ip, protocol=one.type or "tcp")
            for one in ports
            if one.is_ip_public and one.private_port and one.public_port
        )

    def hardware(self) -> Hardware:
        """What it has beside its GPUs."""
        return Hardware(
            vcpus=int(self.vcpu_count) if self.vcpu_count else None,
            memory_kib=int(self.memory_in_gb * 1024 * 1024) if self.memory_in_gb else None,
            disk_gb=self.container_disk_in_gb,
        )

    def ssh_proxy(self) -> SshEndpoint | None:
        """RunPod's own way in, for a terminal only (docs.runpod.io/pods/configuration/use-ssh)."""
        host_id = self.machine.pod_host_id if self.machine else None
        return SshEndpoint(host=SSH_PROXY, port=SSH_PORT, user=host_id) if host_id else None

    def telemetry(self) -> Telemetry | None:
        """How busy the pod is: of the container where it is told, else of the host's last report."""
        if self.runtime is None and self.latest_telemetry is None:
            return None
        load = (self.runtime.container if self.runtime else None) or WireLoad()
        last = self.latest_telemetry or WireTelemetry()
        gpus = (self.runtime.gpus if self.runtime else None) or ()
        return Telemetry(
            cpu_percent=last.cpu_utilization if load.cpu_percent is None else load.cpu_percent,
            memory_percent=last.memory_utilization if load.memory_percent is None else load.memory_percent,
            gpus=tuple(
                GpuLoad(id=gpu.id, gpu_percent=gpu.gpu_util_percent, memory_percent=gpu.memory_util_percent)
                for gpu in gpus
            ),
        )


class WirePrice(Wire):
    """What a GPU model costs now; both prices are for all GPUs asked for (go-sdk)."""

    minimum_bid_price: Money = None
    uninterruptable_price: Money = None
    stock_status: str | None = None


class WireGpuType(Wire):
    """A GPU model."""

    id: str
    display_name: str | None = None
    memory_in_gb: Whole = None
    secure_cloud: bool | None = None
    community_cloud: bool | None = None
    lowest_price: WirePrice | None = None


class WireVolume(Wire):
    """A network volume."""

    id: str
    data_center_id: str | None = None


class WireUser(Wire):
    """The account."""

    id: str | None = None
    email: str | None = None
    client_balance: Money = None
    current_spend_per_hr: Money = None
    spend_limit: Money = None
    under_balance: bool | None = None
    pub_key: str | None = None
    pods: tuple[WirePod, ...] | None = None
    network_volumes: tuple[WireVolume, ...] | None = None


ModelT = TypeVar("ModelT", bound=Wire)


def parse(model: type[ModelT], value: object, operation: str) -> ModelT:
    """Read one answer; ProtocolViolation names the fields that do not fit, and none of their values."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        places = sorted({".".join(map(str, part["loc"])) or "(all)" for part in error.errors(include_input=False)})
    message = f"RunPod's answer has another shape than documented at {', '.join(places)[:120]}: try again later"
    raise ProtocolViolation(message, service=SERVICE, operation=operation, code="MALFORMED_ANSWER")


def parse_all(model: type[ModelT], values: object, operation: str) -> tuple[ModelT, ...]:
    """Read a list of answers; ProtocolViolation when it is none."""
    if not isinstance(values, list):
        message = "RunPod's answer has no list where one is documented: try again later"
        raise ProtocolViolation(message, service=SERVICE, operation=operation, code="MALFORMED_ANSWER")
    return tuple(parse(model, value, operation) for value in values)
