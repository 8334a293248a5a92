"""The composition root: everything is built here, from settings, and nowhere else."""

from __future__ import annotations

import math
import re
import secrets
import string
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from runner_provisioner import accounts
from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.bootstrap.host_key import HostKey, login_key, new_host_key
from runner_provisioner.bootstrap.render import RunnerScript, render, render_gate
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.gate import GATE, GateFloor
from runner_provisioner.domain.kill_layers import QUIET
from runner_provisioner.domain.leases import Lease, Limits, Phase
from runner_provisioner.domain.names import RunKey, Scope
from runner_provisioner.domain.pods import PodClass, PodSpec, PodTags
from runner_provisioner.domain.request import Gate, HowRegistered, StartRequest
from runner_provisioner.domain.runners import creator_label, end_label
from runner_provisioner.errors import InvalidRequest
from runner_provisioner.github.connect import AppCredential, TokenCredential, connect
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
    from runner_provisioner.domain.offers import Offer
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.domain.runners import Registration, RunnerDownload
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
        ServiceState,
    )
    from runner_provisioner.services.keys import KeyRing
    from runner_provisioner.settings import Settings
    from runner_provisioner.storage.history import HistoryFile
    from runner_provisioner.storage.service import ServiceDatabase

LABEL_LETTERS = 26
LOCAL_RUN_LETTERS = 8
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
REGISTER_MARGIN = timedelta(minutes=2)
_ACCOUNT = "account"  # in place of a pod's nonce
_LOOKS_TO_SEE = 3  # of a start at a pod that boots, before one that failed its gate ends


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
        creator = _letters(LOCAL_RUN_LETTERS)
        fresh = Record(
            name=key.name,
            scope=place.scope.url,
            label=label or "rp-" + _letters(LABEL_LETTERS),
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
            place=place,
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


@dataclass(frozen=True, kw_only=True)
class Draftsman:
    """Writes down the pod that a start asks for."""

    settings: Settings
    clock: Clock
    place: Place
    request: StartRequest
    key: RunKey
    record: Record
    creator: str
    host_key: HostKey
    ssh_keys: tuple[str, ...]
    bare: frozenset[str] = frozenset()

    def draw_up(
        self, offer: Offer, lifetime: timedelta, registration: Registration | None, download: RunnerDownload
    ) -> PodSpec:
        """The pod, with the start command that holds the registration token, or waits for a configuration.

        Pods of the `bare` providers have a host key before they are started, and keep it.
        """
        bare = offer.provider in self.bare
        wishes = self.request.gpus
        expires = self.clock.now() + lifetime
        env = {"PUBLIC_KEY": "\n".join(self.ssh_keys)} if self.ssh_keys else {}
        tags = replace(self._tags(expires), host_key=None if bare else self.host_key.public)
        floor = self._floor(offer, model="" if bare else offer.gpu_model)
        env |= {GATE: render_gate(floor, jit=registration is None)}
        return PodSpec(
            name=self.key.name,
            image=self.request.image,
            tags=tags,
            command=render(self._script(registration, download, lifetime, expires, floor, bare=bare)),
            env={**env, **tags.to_env()},
            disk_gb=self.request.disk,
            volume_gb=self.request.volume,
            volume_mount=self.request.volume_mount,
            ports=self.request.port,
            min_vcpus=self.request.min_vcpus,
            min_memory_gb=self.request.min_memory,
            min_disk_gb=wishes.disk_gb,
            min_download=wishes.min_download,
            min_upload=wishes.min_upload,
            cuda=wishes.cuda,
            network_volume=wishes.network_volume,
            cloud=self.request.cloud,
            terminate_after=expires,
        )

    def _floor(self, offer: Offer, *, model: str) -> GateFloor:
        """What the gate in the pod asks for; nothing where it is off. `model` as the driver calls it, if known."""
        if self.request.gate is Gate.OFF:
            return GateFloor()
        return GateFloor.of(
            model=model,
            count=offer.gpu_count,
            memory_gb=offer.memory_gb,
            driver=self.request.min_driver,
            cuda=self.request.gpus.cuda,
            disk_gb=self.request.disk,
            download_mbps=self.request.gpus.min_download or 0,
        )

    def _tags(self, expires: datetime) -> PodTags:
        return PodTags(
            owner=self.place.owner8,
            cls=PodClass.RUNNER,
            repository=self.place.repository,
            label=self.record.label,
            nonce=self.record.nonce,
            creator=self.creator,
            expires_at=expires,
        )

    def _script(
        self,
        registration: Registration | None,
        download: RunnerDownload,
        lifetime: timedelta,
        expires: datetime,
        floor: GateFloor,
        *,
        bare: bool,
    ) -> RunnerScript:
        request = self.request
        return RunnerScript(
            name=self.key.name,
            url=self.place.scope.url,
            token=registration.token if registration is not None else None,
            labels=(self.record.label, creator_label(self.creator), end_label(expires), *request.label),
            runner_group=request.runner_group,
            download=download,
            run_as=request.run_as,
            idle_seconds=int(request.idle.total_seconds()),
            lifetime_seconds=int(lifetime.total_seconds()),
            register_seconds=int((request.start_timeout + REGISTER_MARGIN).total_seconds()),
            volume_mount=request.volume_mount if request.volume or request.network_volume else None,
            owner=self.place.scope.owner,
            repository=self.place.repository,
            run_id=self.key.run_id,
            graphql_url=self.settings.runpod_api_url,
            rest_url=self.settings.runpod_rest_url,
            host_private_key=None if bare else self.host_key.private,
            gate=floor,
            linger_seconds=math.ceil(_LOOKS_TO_SEE * self.settings.poll_booting),
            job_env={**request.env, **self._again()},
        )

    def _again(self) -> dict[str, str]:
        """What tells a job that it is a re-run, which may go on from where the last attempt was."""
        if self.key.attempt <= 1:
            return {}
        return {"RUNNER_PROVISIONER_ATTEMPT": str(self.key.attempt), "RUNNER_PROVISIONER_RESUME": "1"}


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
            program.github = _connect(settings, plumbing, place, runner_group)
            stack.push_async_callback(program.github.aclose)
            program.workflow = _connect_workflow(settings, plumbing, place)
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


def _connect(settings: Settings, plumbing: Plumbing, place: Place, runner_group: str | None) -> GitHub:
    from runner_provisioner.settings import GitHubApp  # noqa: PLC0415 - pydantic-settings is slow to import

    found = settings.github_credential()
    credential: AppCredential | TokenCredential
    if isinstance(found, GitHubApp):
        credential = AppCredential(
            app_id=found.issuer,
            private_key=found.private_key.get_secret_value(),
            installation_id=found.installation_id,
        )
    else:
        credential = TokenCredential(token=found.token.get_secret_value(), origin=found.source)
    return connect(
        place.scope,
        credential,
        plumbing=plumbing,
        api_url=settings.github_api_url,
        runner_group=runner_group,
        repository=place.repository,
        cache_dir=settings.cache_dir,
    )


def _connect_workflow(settings: Settings, plumbing: Plumbing, place: Place) -> GitHub | None:
    """GitHub by the token that a workflow gets by itself: it may order re-runs, and cannot register runners."""
    if settings.workflow_token is None or place.repository is None:
        return None
    scope = Scope.parse(place.repository, server_url=settings.github_server_url)
    credential = TokenCredential(
        token=settings.workflow_token.get_secret_value(), origin="RUNNER_PROVISIONER_WORKFLOW_TOKEN"
    )
    return connect(scope, credential, plumbing=plumbing, api_url=settings.github_api_url)


def user_agent() -> str:
    """How the program introduces itself."""
    from importlib.metadata import version  # noqa: PLC0415 - slow to import

    return f"runner-provisioner/{version('runner-provisioner')}"


def local_run() -> str:
    """A random run part for a start outside Actions; letters only, so that it is never taken for a run's number."""
    return _letters(LOCAL_RUN_LETTERS)


def _letters(count: int) -> str:
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(count))


def manual_spec(program: Program, values: Mapping[str, Any], *, ssh_keys: tuple[str, ...]) -> PodSpec:
    """The pod that `pods create` asks for: class manual, with an end. Raises InvalidRequest."""
    from runner_provisioner.domain.names import MANUAL_LETTERS, manual_name  # noqa: PLC0415 - beside its one use

    expires = program.clock.now() + values["lifetime"]
    owner8 = manual_owner8(program.settings, values["owner"])
    tags = PodTags(
        owner=owner8,
        cls=PodClass.MANUAL,
        repository=program.settings.repository,
        nonce=secrets.token_hex(16),
        expires_at=expires,
    )
    env = {"PUBLIC_KEY": "\n".join(ssh_keys)} if ssh_keys else {}
    options: dict[str, object] = dict(values["further"])
    if values["docker_args"]:
        options["dockerArgs"] = values["docker_args"]
    return PodSpec(
        name=values["name"] or manual_name(owner8, expires, _letters(MANUAL_LETTERS)),
        image=values["image"],
        tags=tags,
        env={**env, **dict(values["env"]), **tags.to_env()},
        disk_gb=values["container_disk_gb"],
        volume_gb=values["volume_gb"],
        volume_mount=values["volume_mount_path"],
        ports=tuple(values["ports"]),
        cloud=values["cloud"],
        terminate_after=expires,
        options=options,
    )


def manual_owner8(settings: Settings, owner: str | None) -> str:
    """Whose a pod made by hand is: who was named, else this repository, else nobody in particular ('manual')."""
    if owner is None and settings.repository:
        return Scope.parse(settings.repository, server_url=settings.github_server_url).owner8
    return Scope(server_url="", owner="").owner8_of(owner or "manual")
