"""Clean-up: find what nobody owns, end it, look again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial

from runner_provisioner.domain.leases import Lease, Outcome, Phase, Unknown, ref
from runner_provisioner.domain.names import RunKey, Scope
from runner_provisioner.domain.orphans import Attempt, Finding, Verdict, judge_pod, judge_runner, judge_template
from runner_provisioner.domain.pods import Pod, PodId
from runner_provisioner.domain.runners import Runner
from runner_provisioner.errors import InvalidRequest, LeftBehind, RemoteError
from runner_provisioner.ports import Clock, GpuProvider, LeavesTemplates, RunnerRegistry, WorkflowRuns
from runner_provisioner.services.asking import ask_all
from runner_provisioner.services.ending import Ending
from runner_provisioner.services.observe import PodSight, read_pods

TEMPLATE = "template"
ROUNDS = 3  # a sweep that finds new orphans after so many rounds reports them as left


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One pod, runner or left template of ours and what is to be said of it; `price` is USD per hour.

    `at` is where a runner says that its pod is.
    """

    kind: str
    name: str
    id: str
    provider: str
    finding: Finding
    pod: Pod | None = None
    price: Decimal | None = None
    at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All of ours at one moment; `errors` are the looks that failed."""

    entries: tuple[Entry, ...]
    errors: tuple[RemoteError, ...] = ()

    @property
    def orphans(self) -> tuple[Entry, ...]:
        """What nobody owns."""
        return tuple(entry for entry in self.entries if entry.finding.verdict is Verdict.ORPHAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a clean-up did: `ended` is gone, `kept` is everything else that was seen, `errors` are looks that failed.

    `refusals` say why a template could not be removed, one line for each.
    """

    ended: tuple[Entry, ...]
    kept: tuple[Entry, ...]
    errors: tuple[RemoteError, ...]
    left: tuple[str, ...]
    refusals: tuple[str, ...] = ()


class Sweep:
    """The use case; it needs no stored state."""

    def __init__(  # noqa: PLR0913 - the collaborators of a use case, by keyword
        self,
        *,
        scope: Scope,
        owner8: str,
        repository: str | None,
        providers: Mapping[str, GpuProvider],
        registry: RunnerRegistry,
        runs: WorkflowRuns,
        clock: Clock,
        ending: Ending,
        settle: timedelta,
        lifetime: timedelta,
        whole: bool = True,
    ) -> None:
        """`repository` is where the run of a runner without a pod is looked up, when that is known.

        Not `whole`: there are providers besides, so that a runner whose pod is not seen may have one.
        """
        self._whole = whole
        self._owner8 = owner8
        self._repository = scope.path if scope.repository else repository
        self._providers = providers
        self._registry = registry
        self._runs = runs
        self._clock = clock
        self._ending = ending
        self._settle = settle
        self._lifetime = lifetime

    async def survey(self) -> Survey:
        """Look at every pod and runner of this owner and judge each."""
        errors: list[RemoteError] = []
        pods = await self._pods(errors)
        runners = await self._runners(errors)
        known = self._whole and not any(error for error in errors if error.service != "github")
        attempts = _Attempts(self._runs)
        entries = [await self._judge_pod(pod, runners, attempts) for pod in pods]
        names = {pod.name for pod in pods}
        entries += [
            await self._judge_runner(runner, attempts, pods_known=known, has_pod=runner.name in names)
            for runner in (runners if isinstance(runners, list) else [])
        ]
        entries += await self._templates(errors)
        return Survey(entries=tuple(entries), errors=(*errors, *attempts.errors))

    async def run(self) -> Swept:
        """End the orphans, look again after `settle`, until a look finds none."""
        ended: dict[tuple[str, str], Entry] = {}
        left: list[str] = []
        refused: dict[tuple[str, str], str] = {}
        survey = await self.survey()
        for _ in range(ROUNDS):
            if not survey.orphans:
                break
            ended |= {(entry.kind, entry.id): entry for entry in survey.orphans}
            refused = await self._erase([entry for entry in survey.orphans if entry.kind == TEMPLATE])
            left = await self._drain([entry for entry in survey.orphans if entry.kind != TEMPLATE])
            await self._clock.sleep(self._settle.total_seconds())
            survey = await self.survey()
        again = {*refused, *((entry.kind, entry.id) for entry in survey.entries)}
        left += [f"{entry.kind} {entry.name}" for entry in survey.orphans]
        return Swept(
            ended=tuple(entry for key, entry in ended.items() if key not in again),
            kept=survey.entries,
            errors=survey.errors,
            left=tuple(dict.fromkeys(left)),
            refusals=tuple(refused.values()),
        )

    async def _pods(self, errors: list[RemoteError]) -> list[Pod]:
        pods: list[Pod] = []
        replies = await ask_all({name: partial(self._sights, one) for name, one in self._providers.items()})
        errors += [error for error in replies.errors.values() if isinstance(error, RemoteError)]
        for read in replies.answers.values():
            pods += [pod for pod in read.values() if isinstance(pod, Pod)]
            failed = (sight.error for sight in read.values() if isinstance(sight, Unknown))
            errors += {(type(error), str(error)): error for error in failed if error is not None}.values()
        return sorted(pods, key=lambda pod: (pod.provider, pod.name, pod.id))

    async def _sights(self, provider: GpuProvider) -> Mapping[PodId, PodSight]:
        """A list may still show what is gone: only what a read by id shows is judged."""
        listed = await provider.list(self._owner8)
        return await read_pods(provider, {pod.id for pod in listed})

    async def _templates(self, errors: list[RemoteError]) -> list[Entry]:
        able = self._leaving()
        replies = await ask_all({name: partial(one.left_templates, self._owner8) for name, one in able.items()})
        errors += [error for error in replies.errors.values() if isinstance(error, RemoteError)]
        now = self._clock.now()
        return [
            Entry(kind=TEMPLATE, name=one.name, id=one.id, provider=name, finding=judge_template(one, now=now))
            for name, found in sorted(replies.answers.items())
            for one in found
        ]

    def _leaving(self) -> dict[str, LeavesTemplates]:
        return {name: one for name, one in self._providers.items() if isinstance(one, LeavesTemplates)}

    async def _runners(self, errors: list[RemoteError]) -> list[Runner] | Unknown:
        try:
            return list(await self._registry.list(f"rp-{self._owner8}-"))
        except RemoteError as error:
            errors.append(error)
            return Unknown(reason=str(error))

    async def _judge_pod(self, pod: Pod, runners: list[Runner] | Unknown, attempts: _Attempts) -> Entry:
        runner: Runner | Unknown | None
        if isinstance(runners, Unknown):
            runner = runners
        else:
            runner = next((one for one in runners if one.name == pod.name), None)
        attempt = await attempts.of(pod.name, pod.tags.repository if pod.tags else None)
        finding = judge_pod(pod, now=self._clock.now(), lifetime=self._lifetime, attempt=attempt, runner=runner)
        return Entry(
            kind="pod", name=pod.name, id=pod.id, provider=pod.provider, finding=finding, pod=pod, price=pod.price
        )

    async def _judge_runner(self, runner: Runner, attempts: _Attempts, *, pods_known: bool, has_pod: bool) -> Entry:
        attempt = await attempts.of(runner.name, self._repository)
        finding = judge_runner(
            runner, attempt=attempt, pods_known=pods_known, has_pod=has_pod, asked=self._providers.keys()
        )
        return Entry(
            kind="runner",
            name=runner.name,
            id=str(runner.id),
            provider="github",
            finding=finding,
            at=runner.provider,
        )

    async def _erase(self, templates: Sequence[Entry]) -> dict[tuple[str, str], str]:
        """Remove them; why not, for each that could not be."""
        refused: dict[tuple[str, str], str] = {}
        for entry in templates:
            try:
                await self._leaving()[entry.provider].delete_template(entry.id)
            except (RemoteError, InvalidRequest) as error:
                refused[entry.kind, entry.id] = f"template {entry.name} could not be removed: {error}"
        return refused

    async def _drain(self, orphans: Sequence[Entry]) -> list[str]:
        names = sorted({entry.name for entry in orphans})
        leases = []
        for name in names:
            pods = [entry.pod for entry in orphans if entry.name == name and entry.pod is not None]
            # The empty nonce matches no pod: only those judged are ended.
            leases.append(
                Lease(
                    name=name,
                    phase=Phase.DRAINING,
                    outcome=Outcome.EXPIRED,
                    nonce="",
                    made=frozenset(ref(pod) for pod in pods),
                )
            )
        try:
            await self._ending.drain(leases, self._owner8)
        except LeftBehind as error:
            return list(error.what)
        except RemoteError:
            # The look that follows says which of them are left, and why that cannot be told.
            return [f"{entry.kind} {entry.name}" for entry in orphans]
        return []


class _Attempts:
    """Looks up each run attempt once."""

    def __init__(self, runs: WorkflowRuns) -> None:
        self._runs = runs
        self._known: dict[tuple[str, int, int], Attempt] = {}
        self.errors: list[RemoteError] = []

    async def of(self, name: str, repository: str | None) -> Attempt:
        key = RunKey.parse(name)
        if key is None or key.run_id is None or repository is None:
            return None
        place = (repository, key.run_id, key.attempt)
        if place not in self._known:
            try:
                self._known[place] = await self._runs.attempt(*place)
            except RemoteError as error:
                self.errors.append(error)
                self._known[place] = Unknown(reason=str(error))
        return self._known[place]
