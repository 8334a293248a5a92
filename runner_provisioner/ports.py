"""What the use cases need from the world; adapters keep these promises, contract suites check them.

Common to all: "does not exist" is `None` or an empty sequence; "could not find out" is an exception, never `None`.
Every method may raise any `RemoteError`; where a narrower one has a meaning of its own it is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from runner_provisioner.domain.bare import Inside
    from runner_provisioner.domain.events import Event
    from runner_provisioner.domain.history import BadMachine, Ending, Memory, PodRecord, Refused
    from runner_provisioner.domain.leases import Lease, PodRef
    from runner_provisioner.domain.markets import LeftTemplate, LogLine, PastPod, PodTemplate, TemplateSpec
    from runner_provisioner.domain.offers import GpuRequest, GpuType, Offer
    from runner_provisioner.domain.pods import Pod, PodId, PodSpec, SshEndpoint
    from runner_provisioner.domain.runners import Job, Registration, Runner, RunnerDownload, RunnerId, RunStatus
    from runner_provisioner.domain.stuck import QueuedJob


class Clock(Protocol):
    """Time, so that a test can own it."""

    def now(self) -> datetime:
        """The wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        ...


class EventSink(Protocol):
    """Somebody who is told what happened."""

    def emit(self, event: Event) -> None:
        """Take note; never raises."""
        ...


class GpuProvider(Protocol):
    """A market of machines. Everything beyond these five verbs is a capability below."""

    name: str

    async def offers(self, request: GpuRequest) -> Sequence[Offer]:
        """What is for rent now for these models and this count, at any price, in no promised order.

        Empty is not an error. Interruptible and on-demand offers are both listed, whatever the request prefers.
        Raises UnknownGpu when no GPU of the market has that id or name; the message names the nearest.
        """
        ...

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """Rent it. Sent again only when it provably never arrived.

        Raises CapacityUnavailable, BidTooLow, InsufficientFunds, SpotDiscontinued, InvalidRequest when surely nothing
        was rented, and CreateOutcomeUnknown when a pod may exist (timeout, cut connection, 5xx, nonsense).
        """
        ...

    async def get(self, pod_id: PodId) -> Pod | None:
        """Read one pod; None = the provider says that it does not exist."""
        ...

    async def list(self, owner8: str | None) -> Sequence[Pod]:
        """Everything of this owner that may still cost money, by name or by tag; None = of the whole account.

        May lag behind: a new pod can be missing and an ended one still there.
        """
        ...

    async def terminate(self, pod_id: PodId) -> None:
        """End it for good. Gone already is success."""
        ...


@runtime_checkable
class Closable(Protocol):
    """A provider that holds connections."""

    async def aclose(self) -> None:
        """Give them back; nothing can be asked of it afterwards."""
        ...


@runtime_checkable
class ReadsMany(Protocol):
    """A provider that reads several pods in one request."""

    async def get_many(self, pod_ids: Sequence[PodId]) -> Mapping[PodId, Pod | None]:
        """Read each of them as `get` does, in as few requests as possible; an error is one of them all."""
        ...


@runtime_checkable
class Pausable(Protocol):
    """A provider whose pods can be stopped and resumed (a stopped pod still bills its disk)."""

    async def stop(self, pod_id: PodId) -> Pod:
        """Stop it; NotFound when there is no such pod."""
        ...

    async def resume(self, pod_id: PodId, *, gpu_count: int | None = None, bid_per_gpu: Decimal | None = None) -> Pod:
        """Start it again, as a bid when `bid_per_gpu` (USD per GPU and hour) is given."""
        ...


@runtime_checkable
class HasBalance(Protocol):
    """A provider that tells what is left on the account."""

    async def balance(self) -> Decimal:
        """US dollars; also the cheapest check of the credential. ApiRetired once the provider has stopped telling."""
        ...


@runtime_checkable
class BillsPerPod(Protocol):
    """A provider that tells what each pod has cost."""

    async def billed(self, pods: Sequence[PodId], since: datetime) -> Mapping[PodId, Decimal]:
        """US dollars billed for each of these pods since then; one that is left out was not billed."""
        ...


@runtime_checkable
class HasSpend(Protocol):
    """A provider that tells what the whole account has spent."""

    async def spent(self, since: datetime) -> Decimal:
        """US dollars since then, whoever spent them, up to now."""
        ...


@runtime_checkable
class HasGpuTypes(Protocol):
    """A provider that lists the GPU models it knows."""

    async def gpu_types(self) -> Sequence[GpuType]:
        """All of them, rentable or not."""
        ...


@runtime_checkable
class HasAccountKeys(Protocol):
    """A provider that keeps the user's public SSH keys."""

    async def ssh_keys(self) -> Sequence[str]:
        """One OpenSSH public key line each."""
        ...


@runtime_checkable
class HasKillTime(Protocol):
    """A provider that can end a pod by itself at `PodSpec.terminate_after`, though nobody else is left to do it.

    Ask `has_kill_time`: a provider may be able to by its kind and not at the moment (RunPod without its GraphQL API).
    """

    @property
    def kill_time(self) -> bool:
        """Whether a pod rented now would be ended so, by what is known without asking."""
        ...


@runtime_checkable
class MovesKillTime(Protocol):
    """A provider that is told the exact kill time after the rent: who dies in between leaves a rough one."""

    async def end_at(self, pod_id: PodId, at: datetime) -> None:
        """End the pod by itself then. Raises RemoteError, InvalidRequest."""
        ...


@runtime_checkable
class EndsFromInside(Protocol):
    """A provider whose pods can end themselves: each holds a credential that is good for itself alone."""

    @property
    def ends_from_inside(self) -> bool:
        """Whether a pod rented now could."""
        ...


@runtime_checkable
class StartsOverSsh(Protocol):
    """A provider whose pods boot bare: it takes no command, and lets `PodSpec.login_key` in to start one.

    Ask `starts_over_ssh`.
    """

    @property
    def starts_over_ssh(self) -> bool:
        """Whether a pod rented now would be started so."""
        ...


@runtime_checkable
class HasLogs(Protocol):
    """A provider that gives the output of a pod's container."""

    def logs(self, pod_id: PodId, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[LogLine]:
        """Iterate over the last `tail` lines (None: all that is kept), oldest first; raises NotFound on the first step.

        With `follow` new lines come as they are written, each once also when the connection breaks in between, until
        the pod ends; an iteration that is given up must be closed (`aclose`).
        """
        ...


@runtime_checkable
class HasHistory(Protocol):
    """A provider that remembers pods that have ended."""

    async def history(self, *, limit: int = 100) -> Sequence[PastPod]:
        """The account's last ones, the latest first."""
        ...


@runtime_checkable
class HasTemplates(Protocol):
    """A provider that keeps templates of pods: image, start command, environment, ports."""

    async def templates(self) -> Sequence[PodTemplate]:
        """Those of the account."""
        ...

    async def create_template(self, spec: TemplateSpec, *, wait: bool = True) -> PodTemplate:
        """Make one, and `wait` until a pod can be made of it. InvalidRequest when it never will be."""
        ...

    async def delete_template(self, template_id: str) -> None:
        """Remove it. Gone already is success."""
        ...


@runtime_checkable
class LeavesTemplates(Protocol):
    """A provider where a create that is cut off can leave a template without its pod."""

    async def left_templates(self, owner8: str) -> Sequence[LeftTemplate]:
        """Those of this owner that no pod runs from; a create that is under way may still come to its pod."""
        ...

    async def delete_template(self, template_id: str) -> None:
        """As of HasTemplates; InvalidRequest when a pod runs from it after all."""
        ...


@runtime_checkable
class HasSshEndpoint(Protocol):
    """A provider whose pods can be logged in to."""

    async def ssh_endpoint(self, pod_id: PodId) -> SshEndpoint | None:
        """Where the pod's own SSH server answers; None = nowhere yet. NotFound when there is no such pod."""
        ...


def has_kill_time(provider: object) -> bool:
    """Whether the provider would end a pod that is rented now by itself, at `PodSpec.terminate_after`."""
    return isinstance(provider, HasKillTime) and provider.kill_time


def ends_from_inside(provider: object) -> bool:
    """Whether a pod that is rented there now could end itself."""
    return isinstance(provider, EndsFromInside) and provider.ends_from_inside


def starts_over_ssh(provider: object) -> bool:
    """Whether the provider's pods boot bare, and what is to run in them is started over SSH."""
    return isinstance(provider, StartsOverSsh) and provider.starts_over_ssh


class RunnerRegistry(Protocol):
    """Where runners are registered: one repository or one organisation."""

    async def check(self) -> None:
        """Fail before anything is rented: credential, permission, runner group (RunnerGroupInvisible)."""
        ...

    async def register(self) -> Registration:
        """A token for one runner, kept out of every log; may be one made within the last minutes."""
        ...

    async def jit_config(self, name: str, labels: Sequence[str]) -> str:
        """Register this one runner and give its configuration, a secret that is good for minutes.

        Never sent twice. RunnerNameTaken when a runner of the name exists, as after an answer that was lost.
        """
        ...

    async def download(self, architecture: str = "x64") -> RunnerDownload:
        """The runner's program for Linux on this architecture, a pinned one when GitHub does not say."""
        ...

    async def find(self, name: str) -> Runner | None:
        """The runner of exactly this name."""
        ...

    async def get(self, runner_id: RunnerId) -> Runner | None:
        """Read one by id."""
        ...

    async def list(self, prefix: str = "") -> Sequence[Runner]:
        """All whose name begins so, over all pages."""
        ...

    async def remove(self, runner_id: RunnerId) -> None:
        """Delete the registration. Gone already is success; RunnerBusy."""
        ...


class HandOver(Protocol):
    """A way into a pod that waits for its runner's configuration, its host key checked."""

    async def waits(self, pod: Pod) -> bool:
        """Whether it waits for one now; False also while nobody can log in yet."""
        ...

    async def give(self, pod: Pod, config: str) -> None:
        """Hand it over: never in an argument, an environment, a log or a file."""
        ...


class BareDoor(Protocol):
    """A way into a pod that booted bare; the host key that it shows first is pinned."""

    async def look(self, pod: Pod) -> Inside:
        """How far it is. Raises HostKeyChanged, LoginRefused, and RemoteError where that cannot be told."""
        ...

    async def begin(self, pod: Pod, spec: PodSpec) -> None:
        """Start the spec's command with its environment, apart from the connection; at most once in a pod's life.

        Never in an argument, a log or a file that stays. After any error it may have begun; `look` tells.
        """
        ...


class HostKeys(Protocol):
    """The host keys that pods showed at first sight. Raises StoreError."""

    def known(self, pod: Pod) -> str | None:
        """The pod's, where one was pinned."""
        ...

    def pin(self, pod: Pod, host_key: str) -> str:
        """Keep it, unless another was kept meanwhile; gives the one that is kept."""
        ...


class WorkflowRuns(Protocol):
    """What GitHub knows of workflow runs."""

    async def attempt(self, repository: str, run_id: int, attempt: int) -> RunStatus | None:
        """How far `owner/repository`'s run attempt is; None = GitHub says that there is none (404)."""
        ...


class RunAttempts(WorkflowRuns, Protocol):
    """What GitHub knows of the jobs of a run's attempt, and the order to repeat those that failed."""

    async def jobs(self, repository: str, run_id: int, attempt: int | None = None) -> Sequence[Job]:
        """The jobs of an attempt, by default of the latest; PermissionDenied (NOT_FOUND) when there is no such run."""
        ...

    async def rerun_failed_jobs(self, repository: str, run_id: int) -> None:
        """Begin a new attempt of the jobs that failed and of those that need them; never sent twice.

        Raises JobStillRunning while the attempt has not ended. After any error the attempt may have begun.
        """
        ...


class RunFiles(Protocol):
    """What jobs of a run have left behind, whoever they are: to be taken for hints."""

    async def small_files(self, repository: str, run_id: int, prefix: str) -> Sequence[bytes]:
        """The one file of each small upload, of every attempt, whose name begins so; others are left out."""
        ...


class JobQueue(Protocol):
    """The jobs of workflow runs that wait for a runner."""

    async def queued_jobs(self, repository: str) -> Sequence[QueuedJob]:
        """Every job of `owner/repository` that is queued now, in the latest attempts of its active runs."""
        ...

    async def cancel_if_active(self, repository: str, run_id: int) -> bool:
        """Ask for the run's cancellation; False when it has ended meanwhile."""
        ...


class LeaseStore(Protocol):
    """Where a lease is kept before the world is changed."""

    def save(self, lease: Lease) -> Lease:
        """Keep it; gives it back with the ends that others who share the store have asked for, and with their pods.

        Raises StoreError, and Stopped when somebody has ended what the lease is for.
        """
        ...


class History(Protocol):
    """What the installation remembers; see `domain.history`.

    Writing again what is known already changes nothing. Raises StoreError; who rents or ends something notes the error
    and goes on, since losing a record must never keep a machine alive.
    """

    async def refused(self, refused: Refused) -> None:
        """An offer was asked for and not rented."""
        ...

    async def rented(self, record: PodRecord) -> None:
        """A pod exists; fields that were None may be filled in by writing it again."""
        ...

    async def online(self, pod: PodRef, at: datetime) -> None:
        """Its runner is online."""
        ...

    async def worked(self, pod: PodRef, began: datetime | None, ended: datetime | None) -> None:
        """When its job began and was over, where that is known."""
        ...

    async def ended(self, pod: PodRef, at: datetime, ending: Ending) -> None:
        """Its end is confirmed; the first end stays."""
        ...

    async def bad(self, machine: BadMachine) -> None:
        """A machine is to be avoided for a while."""
        ...

    async def forget(self, machine: str | None = None) -> int:
        """Forget the failures of this machine, at whatever provider, or of all; gives how many machines had some."""
        ...

    async def memory(self, now: datetime) -> Memory:
        """What ranking needs."""
        ...

    async def pods(self, since: datetime) -> Sequence[PodRecord]:
        """Every pod that was not known to have ended before `since`, oldest first."""
        ...

    async def begin(self, at: datetime) -> None:
        """Somebody who keeps to a budget takes it that nothing unknown was spent before; the first moment stays."""
        ...

    async def began(self, since: datetime) -> datetime | None:
        """From when on what was spent is known: `since` or before where a pod is older, else what `begin` was told.

        None where nothing proves that anything is known: a new history, or one that was lost with its cache.
        """
        ...
