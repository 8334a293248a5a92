"""A machine that is rented: what is asked for, and what a provider says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import NewType, Self

PodId = NewType("PodId", str)
SSH_PORT = 22


class PodState(StrEnum):
    """What a pod is doing, in words that hold for every provider.

    A pod that does not exist has no state: it is `None` where a pod could be.
    """

    STARTING = "starting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"  # the provider took the machine back
    STOPPED = "stopped"  # exists, does not run, may still bill its disk
    FAILED = "failed"  # its container ended or restarts, or the provider says error


class PodClass(StrEnum):
    """Who a pod is for."""

    RUNNER = "runner"  # one job; ended by stop, by clean-up, by itself
    MANUAL = "manual"  # made by hand, by the library or over HTTP; ended past its lifetime


class CloudType(StrEnum):
    """Which of a provider's data centres may be used."""

    ALL = "all"
    SECURE = "secure"
    COMMUNITY = "community"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTags:
    """What a pod carries in its environment so that anybody with the account can tell whose it is.

    Nothing in here is secret. `owner` is the eight hexadecimal digits of the registration scope.
    """

    owner: str
    cls: PodClass
    repository: str | None = None
    label: str | None = None
    nonce: str | None = None
    creator: str | None = None
    expires_at: datetime | None = None
    host_key: str | None = None

    def to_env(self) -> dict[str, str]:
        """The environment variables that say this."""
        pairs = {
            "RP_OWNER": self.owner,
            "RP_CLASS": self.cls.value,
            "RP_REPOSITORY": self.repository,
            "RP_LABEL": self.label,
            "RP_NONCE": self.nonce,
            "RP_CREATOR": self.creator,
            "RP_EXPIRES": self.expires_at and self.expires_at.astimezone(UTC).isoformat(),
            "RP_HOST_KEY": self.host_key,
        }
        return {name: value for name, value in pairs.items() if value}

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self | None:
        """Read the tags back; None when the environment is not one of ours."""
        owner, klass = env.get("RP_OWNER"), env.get("RP_CLASS")
        if not owner or klass not in set(PodClass):
            return None
        return cls(
            owner=owner,
            cls=PodClass(klass),
            repository=env.get("RP_REPOSITORY"),
            label=env.get("RP_LABEL"),
            nonce=env.get("RP_NONCE"),
            creator=env.get("RP_CREATOR"),
            expires_at=_moment(env.get("RP_EXPIRES")),
            host_key=env.get("RP_HOST_KEY"),
        )


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshEndpoint:
    """Where a pod's SSH server answers."""

    host: str
    port: int
    user: str = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicPort:
    """A port of the container, and where it answers."""

    private: int
    public: int
    host: str | None
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a pod has beside its GPUs; `socket` is what they sit on, `template` what the pod was made of."""

    cpu: str | None = None
    vcpus: int | None = None
    memory_kib: int | None = None
    disk_gb: int | None = None
    socket: str | None = None
    address: str | None = None
    template: str | None = None
    template_name: str | None = None
    template_image: str | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """How busy one GPU is, in percent."""

    id: str
    gpu_percent: float | None
    memory_percent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """How busy a pod is, in percent."""

    cpu_percent: float | None
    memory_percent: float | None
    gpus: tuple[GpuLoad, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod as its provider describes it.

    `price` is US dollars per hour for the whole pod; `uptime_seconds` counts from the start of the container, so it
    goes back when the container restarted; `stopped_at` is since when a pod that is stopped or was taken back does not
    run, None where nobody says; `deleting` is whether it is being deleted and the provider does not say at whose wish;
    `machine` is the provider's id of the host; `tags` is None where the
    environment could not be read or is not ours; `status` is the provider's own word and `detail` its free text;
    `ssh_proxy` is where the provider itself gives a terminal, with a host key of its own; `pinned` is the host key that
    this installation saw first, where the pod was given none; `public_ports` and `hardware` are told as far as the
    provider tells them.
    """

    provider: str
    id: PodId
    name: str
    state: PodState
    price: Decimal | None = None
    created_at: datetime | None = None
    tags: PodTags | None = None
    image: str | None = None
    gpu_model: str | None = None
    gpu_count: int | None = None
    interruptible: bool | None = None
    ssh: SshEndpoint | None = None
    ssh_proxy: SshEndpoint | None = None
    pinned: str | None = None
    uptime_seconds: int | None = None
    stopped_at: datetime | None = None
    deleting: bool = False
    machine: str | None = None
    telemetry: Telemetry | None = None
    public_ports: tuple[PublicPort, ...] = ()
    hardware: Hardware = field(default_factory=Hardware)
    status: str = ""
    detail: str = ""

    @property
    def open_ports(self) -> tuple[PublicPort, ...]:
        """Those that are told, else that of its SSH server."""
        if self.public_ports or self.ssh is None:
            return self.public_ports
        return (PublicPort(private=SSH_PORT, public=self.ssh.port, host=self.ssh.host),)

    @property
    def alive(self) -> bool:
        """Whether a job may still come of it."""
        return self.state in {PodState.STARTING, PodState.RUNNING}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """What to rent; the offer says which machine and price.

    `command` is a bash command line that replaces the image's own; None leaves the image alone. Sizes are in GB.
    `cuda` is the lowest version that the host must serve, speeds are Mbit/s; None asks for nothing.
    `terminate_after` is the moment at which a provider that can do so ends the pod by itself; with `needs_kill_time`
    one that cannot (any more) refuses with OfferUnfit instead of renting. `login_key` is a public key that has to be
    let in to a pod that boots bare. `options` are the provider's further fields under its own names, checked by the
    adapter.
    """

    name: str
    image: str
    tags: PodTags | None = None
    command: str | None = field(default=None, repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    disk_gb: int = 40
    volume_gb: int = 0
    volume_mount: str = "/workspace"
    ports: tuple[str, ...] = ("22/tcp",)
    min_vcpus: int = 1
    min_memory_gb: int = 4
    min_disk_gb: int | None = None
    min_download: int | None = None
    min_upload: int | None = None
    cuda: str | None = None
    network_volume: str | None = None
    cloud: CloudType = CloudType.ALL
    start_ssh: bool = True
    terminate_after: datetime | None = None
    needs_kill_time: bool = False
    login_key: str | None = None
    options: Mapping[str, object] = field(default_factory=dict, repr=False)

    def bare(self, login_key: str) -> PodSpec:
        """The same pod without what is to run in it, for a provider whose pods are started over SSH."""
        return replace(self, image="", command=None, env={}, login_key=login_key)
