"""What a user can ask of a start, declared once.

The command line, the action's inputs and the documentation are made from, or checked against, these fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from runner_provisioner.domain.bids import Bid
from runner_provisioner.domain.budget import Budget, Strictness, Terms
from runner_provisioner.domain.containers import check_image, check_mount, check_ports
from runner_provisioner.domain.cuda import cuda_floor
from runner_provisioner.domain.durations import show_duration
from runner_provisioner.domain.gate import check_version
from runner_provisioner.domain.ladder import check_bid
from runner_provisioner.domain.money import check_amount
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Ranking
from runner_provisioner.domain.pods import CloudType
from runner_provisioner.domain.variables import check_variables
from runner_provisioner.errors import InvalidRequest

DEFAULT_GPUS = ("NVIDIA RTX A4000", "NVIDIA RTX A5000", "NVIDIA GeForce RTX 4090")
DEFAULT_IMAGE = "runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel-ubuntu22.04"
_VOLUME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_REGION = re.compile(r"[A-Za-z]{2}|[A-Za-z]{2,16}(?:[-_][A-Za-z0-9]{1,16}){1,4}", re.ASCII)
LONGEST_START = timedelta(minutes=50)  # a registration token lives for 60 minutes


class RunAs(StrEnum):
    """Whom the job runs as in the pod.

    `USER`: an unprivileged user that the start script makes; a container that does not start as root registers nothing.
    `ROOT`: root, who can read every secret of the pod. `SAME`: like `USER`, and where the container does not start as
    root, its own user, who may be able to get at the pod-scoped key.
    """

    USER = "user"
    ROOT = "root"
    SAME = "same"


class Gate(StrEnum):
    """Whether the machine is looked at before a runner is registered on it."""

    ON = "on"
    OFF = "off"


class HowRegistered(StrEnum):
    """How the pod's runner becomes one of GitHub's.

    `TOKEN`: by a registration token in the start command. `JIT`: by a configuration for this one runner, handed over by
    SSH once the pod is up; the start command holds nothing that registers.
    """

    TOKEN = "token"  # noqa: S105 - a way, not a secret
    JIT = "jit"


def option(help_text: str, *, metavar: str = "", many: bool = False, default: Any = None) -> Any:  # noqa: ANN401 - a field can be of any type, as with dataclasses.field
    """A field that is an option of the command line; its name with dashes is the option's, `many` may be repeated."""
    metadata = {"help": help_text, "metavar": metavar, "many": many}
    if isinstance(default, Mapping):
        return field(default_factory=dict, metadata=metadata, repr=False)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """Everything about one runner that a user may choose. Prices are USD per hour for the whole pod, sizes GB."""

    provider: tuple[str, ...] = option(
        "Provider to rent from; may be repeated; default: every one whose key is there.",
        metavar="NAME",
        many=True,
        default=(),
    )
    gpu: tuple[str, ...] = option(
        "GPU model (id or name); repeat it in order of preference.", metavar="MODEL", many=True, default=DEFAULT_GPUS
    )
    min_vram: int | None = option(
        "Least memory of one GPU; without --gpu any model that has it may be rented.", metavar="GB"
    )
    rank: Ranking = option(
        "Which offer is tried first: 'price' the one whose useful hour costs the least, the order of the models among "
        "those within 5 %; 'listed' goes by the order of the models.",
        default=Ranking.PRICE,
    )
    gpu_count: int = option("How many GPUs the pod has.", metavar="N", default=1)
    interruptible: Interruptible = option(
        "Whether the provider may take the pod back: 'prefer' falls back to on-demand.", default=Interruptible.PREFER
    )
    max_price: Decimal = option(
        "What the whole pod may cost at most, in USD per hour.", metavar="USD", default=Decimal("1.00")
    )
    max_cost: Decimal | None = option(
        "What the job's pods may cost at most, in USD: a pod lives as long as that buys, less what earlier pods of the "
        "job have cost (those of earlier attempts as far as the history knows).",
        metavar="USD",
    )
    budget_day: Decimal | None = option(
        "What all pods of this installation may cost in a day (UTC), in USD; default: RUNNER_PROVISIONER_BUDGET_DAY.",
        metavar="USD",
    )
    budget_month: Decimal | None = option(
        "The same for a calendar month; default: RUNNER_PROVISIONER_BUDGET_MONTH.", metavar="USD"
    )
    budget: Strictness = option(
        "Whether a budget that is used up, or cannot be reckoned, refuses the start or is only told.",
        default=Strictness.ENFORCE,
    )
    bid: Bid | None = option(
        "Bid for an interruptible pod: USD per hour for the whole pod, 'min+N%', or 'N% of on-demand'; default 1.1 "
        "times the minimum. Without stock it is raised, at most to the max price.",
        metavar="BID",
    )
    image: str = option(
        "Container image; it needs bash, glibc, CA certificates and an HTTPS client.", default=DEFAULT_IMAGE
    )
    disk: int = option("Container disk.", metavar="GB", default=40)
    volume: int = option("Volume disk, 0 for none.", metavar="GB", default=0)
    volume_mount: str = option("Where the volume is mounted.", metavar="PATH", default="/workspace")
    port: tuple[str, ...] = option(
        "Exposed port such as 22/tcp; may be repeated.", metavar="PORT", many=True, default=("22/tcp",)
    )
    cloud: CloudType = option("Which of the provider's clouds may be used.", default=CloudType.ALL)
    min_vcpus: int = option("Fewest vCPUs the machine may have.", metavar="N", default=1)
    min_memory: int = option("Least memory the machine may have.", metavar="GB", default=4)
    region: tuple[str, ...] = option(
        "Data centre (EU-RO-1) or country (RO) that the pod may be in; may be repeated; default: anywhere.",
        metavar="REGION",
        many=True,
        default=(),
    )
    network_volume: str | None = option(
        "Network volume, by its id: the pod is rented where it lies and has it at the volume mount.", metavar="ID"
    )
    cuda: str | None = option(
        "Lowest CUDA version that the host must serve, or 'any'; default: what the image's tag names.",
        metavar="VERSION",
    )
    min_download: int | None = option("Least download speed of the machine, in Mbit/s.", metavar="MBIT")
    min_upload: int | None = option("Least upload speed of the machine, in Mbit/s.", metavar="MBIT")
    label: tuple[str, ...] = option(
        "Further label for the runner, beside its unique one; any job that asks for it alone may land here.",
        metavar="LABEL",
        many=True,
        default=(),
    )
    env: Mapping[str, str] = option(
        "Environment of the job as NAME=VALUE; may be repeated. Not for secrets: the provider stores it.",
        metavar="NAME=VALUE",
        many=True,
        default={},
    )
    run_as: RunAs = option(
        "Account of the job in the pod; the documentation says what root and same risk.", default=RunAs.USER
    )
    registration: HowRegistered = option(
        "How the runner is registered: by a token in the start command, or by a one-time configuration over SSH (jit).",
        default=HowRegistered.TOKEN,
    )
    min_driver: str | None = option("Lowest version of the NVIDIA driver, such as 550.54.", metavar="VERSION")
    gate: Gate = option(
        "Whether the pod looks at its GPUs, driver, disk and download before its runner registers; a machine that is "
        "not as rented is given back and kept out for a while. 'off' does neither.",
        default=Gate.ON,
    )
    runner_group: str | None = option("Runner group of the organisation.", metavar="NAME")
    ssh_key: str | None = option(
        "Public SSH key, or its file, that may log in; default: the agent's keys, else the account's.",
        metavar="KEY",
    )
    accept_no_kill_time: bool = option(
        "Rent also where the provider ends no forgotten pod by itself, though no scheduled clean-up is known to have "
        "succeeded in the last 24 hours.",
        default=False,
    )
    idle: timedelta = option(
        "End the pod when no job came within this time.", metavar="TIME", default=timedelta(minutes=10)
    )
    start_timeout: timedelta = option(
        "Give up when no runner is online by then; at most 50m.", metavar="TIME", default=timedelta(minutes=20)
    )
    boot_timeout: timedelta = option(
        "Give one pod back and try the next offer when its runner is not online by then.",
        metavar="TIME",
        default=timedelta(minutes=8),
    )
    lifetime: timedelta = option(
        "End the pod after this time whatever happens.", metavar="TIME", default=timedelta(hours=6, minutes=15)
    )

    def __post_init__(self) -> None:
        """Refuse what can never work, and bring ports and mount point into their plain form."""
        self._check_times()
        for name, value, least in (
            ("disk", self.disk, 1),
            ("volume", self.volume, 0),
            ("gpu-count", self.gpu_count, 1),
            ("min-vcpus", self.min_vcpus, 1),
            ("min-memory", self.min_memory, 1),
            ("min-vram", self.min_vram, 1),
            ("min-download", self.min_download, 1),
            ("min-upload", self.min_upload, 1),
        ):
            if value is not None and value < least:
                raise InvalidRequest(f"--{name} {value}: give at least {least}")
        self._check_money()
        self._check_volumes()
        _check_regions(self.region)
        _check_labels(self.label)
        check_variables("--env", self.env)
        check_version("--min-driver", self.min_driver)
        if self.gate is Gate.OFF and self.min_driver is not None:
            raise InvalidRequest(f"--min-driver {self.min_driver}: only the gate looks at it, and --gate is off")
        check_image("--image", self.image)
        object.__setattr__(self, "port", check_ports("--port", self.port))
        if self.registration is HowRegistered.JIT and "22/tcp" not in self.port:
            raise InvalidRequest("--registration jit hands over by SSH: leave 22/tcp among the ports (--port)")
        object.__setattr__(self, "volume_mount", check_mount("--volume-mount", self.volume_mount))

    def _check_times(self) -> None:
        start = show_duration(self.start_timeout)
        if not timedelta() < self.start_timeout <= LONGEST_START:
            raise InvalidRequest(f"--start-timeout {start}: give 1s to 50m; a registration token lives for 60m")
        if self.lifetime <= self.start_timeout:
            given = show_duration(self.lifetime)
            raise InvalidRequest(f"--lifetime {given}: give more than the --start-timeout, which is {start}")
        if self.idle >= self.lifetime:
            end = show_duration(self.lifetime)
            raise InvalidRequest(f"--idle {show_duration(self.idle)}: give less than the --lifetime, which is {end}")
        for name, value in (("idle", self.idle), ("boot-timeout", self.boot_timeout)):
            if value <= timedelta():
                raise InvalidRequest(f"--{name} {show_duration(value)}: give more than 0s")

    def _check_money(self) -> None:
        for name, value in (
            ("max-price", self.max_price),
            ("max-cost", self.max_cost),
            ("budget-day", self.budget_day),
            ("budget-month", self.budget_month),
        ):
            if value is not None:
                check_amount(f"--{name}", value)
        cuda_floor(self.cuda, self.image)
        check_bid(self.bid, self.interruptible, self.max_price)

    def _check_volumes(self) -> None:
        wanted = self.network_volume
        if wanted is not None and not _VOLUME.fullmatch(wanted):
            raise InvalidRequest(f"--network-volume {wanted}: give its id, as the provider shows it")
        if wanted is not None and self.volume:
            raise InvalidRequest(f"--network-volume {wanted}: a pod has this or a --volume of its own, remove one")

    @property
    def terms(self) -> Terms:
        """What its pod may cost."""
        return Terms(lifetime=self.lifetime, least=self.start_timeout, max_price=self.max_price, max_cost=self.max_cost)

    def budgets(self, *, day: Decimal | None = None, month: Decimal | None = None) -> Budget:
        """What the installation may spend; `day` and `month` hold where the request names nothing."""
        return Budget(
            day=self.budget_day if self.budget_day is not None else day,
            month=self.budget_month if self.budget_month is not None else month,
            strictness=self.budget,
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The models that may be rented; none where memory alone counts."""
        return () if self.min_vram is not None and self.gpu == DEFAULT_GPUS else self.gpu

    @property
    def gpus(self) -> GpuRequest:
        """The part of it that a market is asked for."""
        return GpuRequest(
            models=self.models,
            count=self.gpu_count,
            interruptible=self.interruptible,
            max_price=self.max_price,
            bid=self.bid,
            cloud=self.cloud,
            rank=self.rank,
            min_vram_gb=self.min_vram,
            regions=self.region,
            network_volume=self.network_volume,
            cuda=cuda_floor(self.cuda, self.image),
            disk_gb=self.disk + self.volume,
            min_vcpus=self.min_vcpus,
            min_memory_gb=self.min_memory,
            min_download=self.min_download,
            min_upload=self.min_upload,
        )


def options(cls: type) -> tuple[Field[Any], ...]:
    """The fields of a request that are options, in the order they are declared."""
    return tuple(one for one in fields(cls) if "help" in one.metadata)


def _check_regions(regions: tuple[str, ...]) -> None:
    for region in regions:
        if not _REGION.fullmatch(region):
            raise InvalidRequest(f"--region {region}: write a data centre such as EU-RO-1, or a country such as RO")


def _check_labels(labels: tuple[str, ...]) -> None:
    for label in labels:
        if not label or "," in label or label != label.strip() or not label.isprintable():
            raise InvalidRequest(f"--label '{label}': labels are printable, without commas or outer blanks")
