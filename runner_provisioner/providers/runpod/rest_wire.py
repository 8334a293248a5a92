"""What RunPod's REST v2 answers, read as leniently as the GraphQL answers (docs.runpod.io/api-reference-v2)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator

from runner_provisioner.domain.pods import GpuLoad, PublicPort, SshEndpoint, Telemetry
from runner_provisioner.providers.runpod.wire import SSH_PORT, Moment, Money, Whole, Wire


def _percent(value: object) -> object:
    return value.get("util") if isinstance(value, dict) else value  # {"util": 45}


Percent = Annotated[float | None, BeforeValidator(_percent)]


class RestPort(Wire):
    """A port of a running container; without a public one it is reached through RunPod's proxy."""

    private: Whole = None
    public: Whole = None
    type: str | None = None
    ip: str | None = None


class RestGpuLoad(Wire):
    """How busy one GPU is, in percent."""

    util: float | None = None
    memory_util: float | None = None


class RestRuntime(Wire):
    """The container, once it runs."""

    uptime: Whole = None
    ports: tuple[RestPort, ...] | None = None
    gpus: tuple[RestGpuLoad, ...] | None = None
    cpu: Percent = None
    memory: Percent = None


class RestSshEndpoint(Wire):
    """One way in."""

    host: str | None = None
    port: Whole = None
    username: str | None = None

    def endpoint(self) -> SshEndpoint | None:
        """The same in our words; None when a part of it is missing."""
        if not (self.host and self.port):
            return None
        return SshEndpoint(host=self.host, port=self.port, user=self.username or "root")


class RestSsh(Wire):
    """Both ways in."""

    proxy: RestSshEndpoint | None = None
    direct: RestSshEndpoint | None = None


class RestGpu(Wire):
    """The GPUs of a pod."""

    id: str | None = None
    count: Whole = None


class RestPod(Wire):
    """A pod; `status` is observed. `args` is never read: it may carry the registration token."""

    id: str
    name: str | None = None
    status: str | None = None
    image: str | None = None
    disk: Whole = None
    ports: tuple[str, ...] | None = None
    env: dict[str, str | None] | None = None
    cloud: str | None = None
    data_center_id: str | None = None
    gpu: RestGpu | None = None
    ssh: RestSsh | None = None
    cost: Money = None
    runtime: RestRuntime | None = None
    created_at: Moment = None
    started_at: Moment = None

    def environment(self) -> Mapping[str, str]:
        """The environment the pod was made with."""
        return {name: value for name, value in (self.env or {}).items() if value is not None}

    @property
    def price(self) -> Decimal | None:
        """US dollars per hour for the whole pod; None while it is not told (0 is what a pod that is off costs)."""
        return self.cost or None

    @property
    def wants_ssh(self) -> bool:
        """Whether 22/tcp was asked for."""
        return f"{SSH_PORT}/tcp" in (self.ports or ())

    def endpoint(self) -> SshEndpoint | None:
        """Where the pod's SSH server answers on a public address."""
        direct = self.ssh.direct.endpoint() if self.ssh and self.ssh.direct else None
        return direct or self._public_ssh()

    def _public_ssh(self) -> SshEndpoint | None:
        for port in (self.runtime.ports if self.runtime else None) or ():
            if port.private == SSH_PORT and port.type in {"tcp", None} and port.ip and port.public:
                return SshEndpoint(host=port.ip, port=port.public)
        return None

    def open_ports(self) -> tuple[PublicPort, ...]:
        """Every port with a public address."""
        ports = (self.runtime.ports if self.runtime else None) or ()
        return tuple(
            PublicPort(private=one.private, public=one.public, host=one.ip, protocol=one.type or "tcp")
            for one in ports
            if one.ip and one.private and one.public
        )

    def proxy(self) -> SshEndpoint | None:
        """RunPod's own way in, for a terminal only."""
        return self.ssh.proxy.endpoint() if self.ssh and self.ssh.proxy else None

    def telemetry(self) -> Telemetry | None:
        """How busy the pod is."""
        runtime = self.runtime
        if runtime is None:
            return None
        loads = enumerate(runtime.gpus or ())
        return Telemetry(
            cpu_percent=runtime.cpu,
            memory_percent=runtime.memory,
            gpus=tuple(GpuLoad(id=str(n), gpu_percent=one.util, memory_percent=one.memory_util) for n, one in loads),
        )


class RestPrice(Wire):
    """US dollars per hour for one GPU."""

    secure: Money = None
    community: Money = None


class RestMost(Wire):
    """How many GPUs one pod can have."""

    secure: Whole = None
    community: Whole = None


class RestPlace(Wire):
    """What is free in one data centre."""

    id: str
    availability: str | None = None


class RestGpuType(Wire):
    """A GPU model of the catalogue; the last two fields are there when they were asked for."""

    id: str
    name: str | None = None
    memory: Whole = None
    secure: bool | None = None
    community: bool | None = None
    price: RestPrice | None = None
    max_count: RestMost | None = None
    availability: str | None = None
    data_centers: tuple[RestPlace, ...] | None = None


class RestVolume(Wire):
    """A network volume and where it lies."""

    id: str
    data_center: str | None = None


class RestBill(Wire):
    """What one pod was billed in one span of time, in US dollars."""

    pod_id: str
    start_time: Moment = None
    end_time: Moment = None
    total_amount: Decimal


class RestTemplate(Wire):
    """A template; its environment and arguments are nobody's business here."""

    id: str
    name: str = ""
    image: str | None = None
    serverless: bool | None = None


class RestLog(Wire):
    """The payload of one event of a log stream."""

    line: str = ""
    source: str | None = None
    ts: Moment = None
