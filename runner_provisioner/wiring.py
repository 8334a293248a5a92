"""The composition root: everything is built here, from settings, and nowhere else."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from runner_provisioner import accounts
from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.bootstrap.host_key import HostKey, login_key, new_host_key
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.kill_layers import QUIET
from runner_provisioner.domain.leases import Lease, Limits, Phase
from runner_provisioner.domain.names import RunKey, Scope
from runner_provisioner.domain.pods import PodClass, PodTags
from runner_provisioner.domain.request import Gate, HowRegistered, StartRequest
from runner_provisioner.drafts import Draftsman, letters
from runner_provisioner.errors import InvalidRequest
from runner_provisioner.ports import Closable, HasAccountKeys, starts_over_ssh
from runner_provisioner.services.asking import ask_all
from runner_provisioner.services.ending import Ending
from runner_provisioner.services.foresee import Foresight
from runner_provisioner.services.jit import JitHandOver
from runner_provisioner.services.outlast import Outlast
from runner_provisioner.services.over_ssh import OverSsh
from runner_provisioner.services.provision import Order, Start
from runner_provisioner.services.reconcile import Polls
from runner_provisioner.services.stuck import StuckRuns
from runner_provisioner.services.sweep import Sweep
from runner_provisioner.storage.state_file import PinnedKeys, Record, StateFile, resume

if TYPE_CHECKING:
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.github.connect import GitHub
    from runner_provisioner.logging import Redactor
    from runner_provisioner.ports import (
        Clock,
        EventSink,
        GpuProvider,
        History,
        HostKeys,
        LeaseStore,
        RunAttempts,
        RunFiles,
    )
    from runner_provisioner.service_ports import ServiceState
    from runner_provisioner.services.keys import KeyRing
    from runner_provisioner.settings import Settings
    from runner_provisioner.storage.history import HistoryFile
    from runner_provisioner.storage.service import ServiceDatabase

LABEL_LETTERS = 26
LOCAL_RUN_LETTERS = 8
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_ACCOUNT = "account"  # in place of a pod's nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where runners are registered and whose they are."""

    scope: Scope
    owner8: str
    repository: str | None

    @classmethod
    def of(cls, settings: Settings, *, repository: str | None, organization: str | None, owner: str | None) -> Place:
        """From options first, then from what Actions says. Raises InvalidRequest when neither names a place."""
        repository = repository or settings.repository
        path = organization or repository
        if path is None:
            raise InvalidRequest("no place to register runners: give --repository OWNER/NAME or --organization NAME")
        if repository and not _REPOSITORY.fullmatch(repository):
            raise InvalidRequest(f"--repository {repository}: write OWNER/NAME")
        scope = Scope.parse(path, server_url=settings.github_server_url)
        if organization and scope.repository:
            raise InvalidRequest(f"--organization {organization}: give the name of an organisation alone")
        return cls(scope=scope, owner8=scope.owner8_of(owner), repository=repository)


@dataclass(kw_only=True)
class Program:
    """The parts of one running program; the sessions close with `assemble`.

    `workflow` is GitHub as the workflow's own token sees it, where there is one.
    """

    settings: Settings
    clock: Clock
    tempo: Tempo
    metrics: CallMetrics
    redactor: Redactor
    events: EventSink
    plumbing: Plumbing
    providers: Mapping[str, GpuProvider] = field(default_factory=dict)
    place: Place | None = None
    github: GitHub | None = None
    history: History | None = None
    workflow: GitHub | None = None
    _asking: anyio.Lock = field(default_factory=anyio.Lock, repr=False)
    _cleaned: bool | None = None

    @property
    def polls(self) -> Polls:
        """How often to look."""
        return Polls(booting=self.settings.poll_booting, running=self.settings.poll_running)

    def limits(self, request: StartRequest | None = None) -> Limits:
        """How long things may take."""
        request = request or StartRequest()
        return Limits(
            settle=timedelta(seconds=self.settings.settle), boot=request.boot_timeout, lifetime=request.lifetime
        )

    def start(self, request: StartRequest, store: StateFile) -> Start:
        """The use case that rents."""
        return Start(
            providers=self.providers,
            registry=self._github().runners,
            clock=self.clock,
            store=store,
            events=self.events,
            limits=self.limits(request),
            polls=self.polls,
            hurry=self.tempo.hurry,
            history=self.history,
            cleaned=self.cleaned,
            patience=self.tempo.request_timeout,
            rent_from=request.provider,
        )

    def foresight(self) -> Foresight:
        """The use case of `plan`."""
        return Foresight(
            providers=self.providers,
            registry=self._github().runners,
            clock=self.clock,
            events=self.events,
            history=self.history,
            cleaned=self.cleaned,
            patience=self.tempo.request_timeout,
        )

    async def cleaned(self) -> bool | None:
        """Whether a scheduled clean-up of the repository has succeeded in the last day; None = nobody can tell.

        GitHub is asked once. Raises RemoteError.
        """
        async with self._asking:
            if self._cleaned is None and self.github is not None and self.place is not None and self.place.repository:
                since = self.clock.now() - QUIET
                self._cleaned = await self.github.runs.cleaned_up(self.place.repository, since)
            return self._cleaned

    def ending(self, store: LeaseStore | None = None) -> Ending:
        """The use case that ends a key; `store` is told of each lease before its pod is asked to end."""
        return Ending(
            providers=self.providers,
            registry=self._github().runners,
            clock=self.clock,
            events=self.events,
            limits=self.limits(),
            polls=self.polls,
            store=store,
        )

    def outlast(self) -> Outlast:
        """The use case that ends what a start elsewhere rents after a stop."""
        return Outlast(
            ending=self.ending(),
            providers=self.providers,
            owner8=self._place().owner8,
            clock=self.clock,
            events=self.events,
            limits=self.limits(),
            polls=self.polls,
        )

    def sweep(self, *, whole: bool = True) -> Sweep:
        """The use case that cleans up; not `whole` where the program is narrowed to some providers."""
        place = self._place()
        return Sweep(
            scope=place.scope,
            owner8=place.owner8,
            repository=place.repository,
            providers=self.providers,
            registry=self._github().runners,
            runs=self._github().runs,
            clock=self.clock,
            ending=self.ending(),
            settle=timedelta(seconds=self.settings.settle),
            lifetime=StartRequest().lifetime,
            whole=whole,
        )

    def stuck_runs(self) -> StuckRuns:
        """The use case that cancels runs whose machine will never come. InvalidRequest without a repository."""
        place = self._place()
        if place.repository is None:
            raise InvalidRequest("--cancel-stuck looks at the runs of one repository: give --repository OWNER/NAME")
        return StuckRuns(
            repository=place.repository,
            owner8=place.owner8,
            providers=self.providers,
            registry=self._github().runners,
            queue=self._github().queue,
            clock=self.clock,
            settle=timedelta(seconds=self.settings.settle),
        )

    @property
    def runs(self) -> RunAttempts:
        """Runs and their jobs, by the workflow's own token where there is one."""
        return (self.workflow or self._github()).runs

    @property
    def files(self) -> RunFiles:
        """What jobs have uploaded, by the workflow's own token where there is one."""
        return (self.workflow or self._github()).artifacts

    async def public_keys(self, request: StartRequest, own: tuple[str, ...]) -> tuple[str, ...]:
        """The user's keys for a pod: `own`, or where there are none and it matters, those of the provider's account.

        A provider adds the account's keys by itself, except where `PUBLIC_KEY` is set, as it is for a pod that waits
        for its configuration, and where a pod has to let our own key in. Raises RemoteError when no provider tells.
        """
        bare = self._account_logins()
        waits = request.registration is HowRegistered.JIT
        if own or not (waits or bare):
            return own
        asked = {name: one.ssh_keys for name, one in self.providers.items() if isinstance(one, HasAccountKeys)}
        replies = await ask_all(asked, patience=self.tempo.request_timeout)
        if not replies.answers and waits:
            for error in replies.errors.values():
                raise error
        ours = {tuple(login.public.split()[:2]) for login in bare.values()}
        found = [key for keys in replies.answers.values() for key in keys if tuple(key.split()[:2]) not in ours]
        return tuple(dict.fromkeys(found))

    def order(
        self,
        request: StartRequest,
        key: RunKey,
        *,
        state: Path,
        ssh_keys: tuple[str, ...],
        label: str | None = None,
    ) -> tuple[Order, StateFile]:
        """Draw up a start: its state file, made or found, and the lease that goes on from it.

        `label` is the unique one that a job waits for already; by default a new one. Raises StoreError.
        """
        place = self._place()
        creator = letters(LOCAL_RUN_LETTERS)
        fresh = Record(
            name=key.name,
            scope=place.scope.url,
            label=label or "rp-" + letters(LABEL_LETTERS),
            nonce=secrets.token_hex(16),
        )
        store, record, _found = StateFile.begin(state, fresh, creator=creator)
        if label not in {None, record.label}:
            raise InvalidRequest(
                f"an earlier start of {key.name} has the label {record.label}, not {label}: end it with 'stop' first"
            )
        now = self.clock.now()
        lease = resume(
            record,
            creator=creator,
            deadline=now + request.start_timeout,
            lease=Lease(name=key.name, phase=Phase.REQUESTED, cap=request.max_price),
        )
        host_key = new_host_key()
        self.redactor.add(host_key.private)
        jit = None
        host_keys = PinnedKeys(state.parent)
        if request.registration is HowRegistered.JIT:
            ssh_keys = (*ssh_keys, self._login(record.nonce).public)
            jit = self.jit(record.nonce, labels=(record.label, *request.label), host_keys=host_keys)
        over_ssh = self._over_ssh(host_keys)
        draftsman = Draftsman(
            settings=self.settings,
            clock=self.clock,
            scope=place.scope,
            owner8=place.owner8,
            repository=place.repository,
            request=request,
            key=key,
            record=record,
            creator=creator,
            host_key=host_key,
            ssh_keys=ssh_keys,
            bare=frozenset(over_ssh.public_keys if over_ssh is not None else ()),
        )
        order = Order(
            owner8=place.owner8,
            key=key.key,
            label=record.label,
            request=request.gpus,
            lease=lease,
            draw_up=draftsman.draw_up,
            jit=jit,
            over_ssh=over_ssh,
            terms=request.terms,
            budget=request.budgets(day=self.settings.budget_day, month=self.settings.budget_month),
            lenient=request.gate is Gate.OFF,
            accept_no_kill_time=request.accept_no_kill_time,
        )
        return order, store

    def jit(self, nonce: str, *, labels: tuple[str, ...], host_keys: HostKeys | None = None) -> JitHandOver:
        """The use case that hands a runner's configuration over to the pod of this nonce."""
        from runner_provisioner.ssh.hand_over import SshHandOver  # noqa: PLC0415 - asyncssh is slow to import

        way_in = SshHandOver(self._login(nonce).private, clock=self.clock, host_keys=host_keys or self.host_keys)
        return JitHandOver(registry=self._github().runners, way_in=way_in, labels=labels)

    @property
    def host_keys(self) -> PinnedKeys:
        """The host keys that pods of this machine's starts showed at first sight."""
        return PinnedKeys(self.settings.state_dir)

    def remembered(self, pod: Pod) -> Pod:
        """The pod with what its start has kept of it, where the provider returns no tags. Raises StoreError."""
        record = self.host_keys.record_of(pod) if pod.tags is None else None
        key = RunKey.parse(pod.name)
        if record is None or key is None:
            return pod
        tags = PodTags(owner=key.owner8, cls=PodClass.RUNNER, label=record.label, nonce=record.nonce)
        return replace(pod, tags=tags, pinned=record.host_keys.get(pod.id))

    def _over_ssh(self, host_keys: HostKeys) -> OverSsh | None:
        """The use case that starts pods that boot bare; None where no provider has such."""
        logins = self._account_logins()
        if not logins:
            return None
        from runner_provisioner.ssh.bare_door import SshBareDoor  # noqa: PLC0415 - asyncssh is slow to import

        doors = {
            name: SshBareDoor(login.private, clock=self.clock, host_keys=host_keys) for name, login in logins.items()
        }
        return OverSsh(doors=doors, public_keys={name: login.public for name, login in logins.items()})

    def _account_logins(self) -> Mapping[str, HostKey]:
        """For each provider whose pods boot bare the one key of the account: nothing piles up there."""
        bare = [name for name, one in self.providers.items() if starts_over_ssh(one)]
        return {name: self._login(_ACCOUNT, accounts.secret_of(self.settings, name)) for name in bare}

    def _login(self, nonce: str, secret: str | None = None) -> HostKey:
        login = login_key(secret or accounts.secret_of(self.settings), nonce)
        self.redactor.add(login.private)
        return login

    def _github(self) -> GitHub:
        if self.github is None:
            raise InvalidRequest("this command needs GitHub")  # a command asked for less than it uses
        return self.github

    def _place(self) -> Place:
        if self.place is None:
            raise InvalidRequest("this command needs a place to register runners")
        return self.place


def lease_of(program: Program, name: str) -> Lease:
    """What a start of that name would begin with, nothing being changed. Raises StoreError."""
    record = StateFile(program.settings.state_dir / f"{name}.json", creator="").read()
    lease = Lease(name=name, phase=Phase.REQUESTED, nonce="")  # a nonce that no pod bears: all are of other starts
    return lease if record is None else resume(record, creator="", deadline=program.clock.now(), lease=lease)


@asynccontextmanager
async def assemble(  # noqa: PLR0913 - what a program is made of, by keyword
    settings: Settings,
    *,
    events: EventSink,
    redactor: Redactor,
    place: Place | None = None,
    runner_group: str | None = None,
    needs_github: bool = True,
    clock: Clock | None = None,
    providers: Sequence[str] = (),
    required: Sequence[str] = (),
    metrics: CallMetrics | None = None,
) -> AsyncIterator[Program]:
    """Build the program and close it. Raises a ConfigurationError before anything is sent.

    `providers` are those that take part; by default all whose credential is there, which have to be all `required`.
    `metrics` counts the remote calls.
    """
    clock = clock or SystemClock()
    tempo = Tempo(request_timeout=settings.request_timeout, retry_base=settings.retry_base)
    plumbing = Plumbing(
        clock=clock,
        redactor=redactor,
        tempo=tempo,
        metrics=metrics or CallMetrics(),
        user_agent=user_agent(),
        pins=settings.spki_pins,
        proxy=settings.https_proxy.get_secret_value() if settings.https_proxy else None,
        no_proxy=settings.proxy_exceptions,
    )
    program = Program(
        settings=settings,
        clock=clock,
        tempo=tempo,
        metrics=plumbing.metrics,
        redactor=redactor,
        events=events,
        plumbing=plumbing,
        place=place,
    )
    async with AsyncExitStack() as stack:
        if required:
            accounts.markets(settings, required)
        program.providers = providers_of(settings, plumbing, providers)
        stack.push_async_callback(close, program.providers)
        program.history = history = history_of(settings, clock)
        if history is not None:
            stack.push_async_callback(history.aclose)
        if needs_github and place is not None:
            program.github = accounts.github(
                settings, plumbing, place.scope, repository=place.repository, runner_group=runner_group
            )
            stack.push_async_callback(program.github.aclose)
            program.workflow = accounts.workflow_github(settings, plumbing, place.repository)
            if program.workflow is not None:
                stack.push_async_callback(program.workflow.aclose)
        yield program


def history_of(settings: Settings, clock: Clock) -> HistoryFile | None:
    """The installation's history, not opened yet; None when it is off."""
    from runner_provisioner.settings import DATABASE  # noqa: PLC0415 - pydantic-settings is slow to import
    from runner_provisioner.storage.history import HistoryDatabase, HistoryFile  # noqa: PLC0415 - beside its one use

    if settings.history_url is not None:
        return HistoryDatabase(settings.history_url, variable=DATABASE, clock=clock)
    path = settings.history_file
    return HistoryFile(path, clock=clock) if path is not None else None


def service_state_of(settings: Settings, clock: Clock) -> ServiceDatabase:
    """All that the service keeps, not opened yet."""
    from runner_provisioner.settings import DATABASE  # noqa: PLC0415 - pydantic-settings is slow to import
    from runner_provisioner.storage.service import ServiceDatabase  # noqa: PLC0415 - SQLAlchemy is slow to import

    return ServiceDatabase.at(settings.service_database, variable=DATABASE, clock=clock)


def key_ring_of(state: ServiceState, clock: Clock) -> KeyRing:
    """The service's own keys, of this machine's randomness."""
    from runner_provisioner.services.keys import KeyRing  # noqa: PLC0415 - beside its one use

    return KeyRing(state.keys, clock=clock, random=secrets.token_bytes)


def providers_of(settings: Settings, plumbing: Plumbing, chosen: Sequence[str] = ()) -> dict[str, GpuProvider]:
    """The providers that take part, by name; their credentials are kept out of every log from here on.

    Raises MissingCredential, UnknownProvider, and ConfigurationError for a plug-in or an address that is broken.
    """
    found = accounts.markets(settings, chosen)
    for one in found:
        plumbing.redactor.add(one.account.credential)
    return {one.plugin.name: accounts.build(one, plumbing) for one in found}


async def close(providers: Mapping[str, GpuProvider]) -> None:
    """Give back the connections of those that hold some."""
    for one in providers.values():
        if isinstance(one, Closable):
            await one.aclose()


def user_agent() -> str:
    """How the program introduces itself."""
    from importlib.metadata import version  # noqa: PLC0415 - slow to import

    return f"runner-provisioner/{version('runner-provisioner')}"


def local_run() -> str:
    """A random run part for a start outside Actions; letters only, so that it is never taken for a run's number."""
    return letters(LOCAL_RUN_LETTERS)


def manual_owner8(settings: Settings, owner: str | None) -> str:
    """Whose a pod made by hand is: who was named, else this repository, else nobody in particular ('manual')."""
    if owner is None and settings.repository:
        return Scope.parse(settings.repository, server_url=settings.github_server_url).owner8
    return Scope(server_url="", owner="").owner8_of(owner or "manual")
