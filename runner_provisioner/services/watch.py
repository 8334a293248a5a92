"""Watch: follow a pod by what its provider says, and notice within one pass that it was taken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.history import Ending as HowEnded
from runner_provisioner.domain.interruptions import (
    RUNTIME_GONE,
    Interruption,
    Loss,
    intended,
    interrupted,
    job_of,
    lost,
)
from runner_provisioner.domain.leases import Lease, Observation, Outcome, Phase, PodRef, Unknown, ref
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.pods import Pod, PodState
from runner_provisioner.domain.runners import Job, Runner
from runner_provisioner.errors import (
    ApiRetired,
    AuthenticationFailed,
    PermissionDenied,
    RemoteError,
    RunnerProvisionerError,
    StoreError,
)
from runner_provisioner.ports import (
    Clock,
    EventSink,
    GpuProvider,
    History,
    RunAttempts,
    RunnerRegistry,
    ends_from_inside,
)
from runner_provisioner.services.ending import Ended, Ending
from runner_provisioner.services.observe import Lookout
from runner_provisioner.services.reconcile import REFUSED_PATIENCE, Polls

GITHUB_EVERY = 30.0  # seconds between looks at a runner whose pod is unchanged: an App has 5,000 requests an hour


class Over(StrEnum):
    """Why there is nothing left to watch."""

    JOB = "its job is over"
    POD = "its pod is gone"
    END = "its pod came to its own end (--lifetime, --max-cost): its job is not repeated"
    STOPPED = "its pod was stopped by its user, and has been ended: its job is not repeated"


@dataclass
class _Memory:
    """What the passes so far have seen."""

    known: set[PodRef] = field(default_factory=set)
    ran: set[PodRef] = field(default_factory=set)
    before: Observation | None = None
    asked_github: float = 0.0
    absent_since: datetime | None = None
    refused_since: datetime | None = None
    told: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """How a watch ended: with an interruption, or `over`; `error` is why something of it is still there."""

    interruption: Interruption | None = None
    over: Over = Over.JOB
    ended: tuple[Ended, ...] = ()
    error: RunnerProvisionerError | None = None


class Watch:
    """The use case. It ends a pod that is dead, or whose container is, or that cannot end itself after its job."""

    def __init__(  # noqa: PLR0913 - the collaborators of a use case, by keyword
        self,
        *,
        repository: str | None,
        providers: Mapping[str, GpuProvider],
        registry: RunnerRegistry,
        runs: RunAttempts,
        ending: Ending,
        clock: Clock,
        events: EventSink,
        polls: Polls,
        settle: timedelta,
        history: History | None = None,
        hand_over: Callable[[Pod], Awaitable[bool]] | None = None,
    ) -> None:
        """`repository` (owner/name) is the one whose run it is, where that is known.

        `hand_over` gives a pod another configuration of its runner if it waits for one and its job is queued.
        """
        self._repository = repository
        self._providers = providers
        self._registry = registry
        self._runs = runs
        self._ending = ending
        self._clock = clock
        self._events = events
        self._polls = polls
        self._settle = settle
        self._history = history
        self._hand_over = hand_over

    async def follow(self, key: RunKey) -> Watched:
        """Look once in `Polls.booting` seconds until the job is over or its pod is lost.

        GitHub is asked when the pod has changed, and else every thirty seconds. A lost pod is ended in the pass that
        saw it. A pod whose runner GitHub has removed gets another, if it can be handed over. Looks that fail are
        repeated without end, but for a credential that is refused: that RemoteError is raised after ten seconds.
        """
        memory = _Memory()
        lookout = Lookout(providers=self._providers, registry=self._registry, owner8=key.owner8)
        while True:
            seen = await self._look(lookout, key, memory)
            self._note_failures(seen, memory)
            loss = await self._loss(seen, memory)
            if loss is not None:
                watched = await self._lost(key, loss, seen, frozenset(memory.known))
                if watched is not None:
                    return watched
            elif seen.fresh and not _may_serve(seen):
                if seen.runner is None and await self._job_is_over(key):
                    return await self._job_over(key, frozenset(memory.known))
                await self._hand_over_again(seen, memory)
            await self._clock.sleep(self._polls.booting)

    # --- one look

    async def _look(self, lookout: Lookout, key: RunKey, memory: _Memory) -> Observation:
        """See the pod, and the runner when that is due; `fresh` is whether GitHub was asked."""
        lease = Lease(name=key.name, phase=Phase.READY, made=frozenset(memory.known))
        before, now = memory.before, self._clock.monotonic()
        due = before is None or isinstance(before.runner, Unknown) or now - memory.asked_github >= GITHUB_EVERY
        if before is None or due:
            seen = await lookout.look(lease)
        else:
            seen = await lookout.look_at_pods(lease, before)
            if _outline(seen) != _outline(before):
                seen = replace(await lookout.look_at_runner(lease, seen), fresh=True)
        if seen.fresh:
            memory.asked_github = now
        memory.before = seen
        return seen

    async def _loss(self, seen: Observation, memory: _Memory) -> Loss | None:
        if isinstance(seen.pods, Unknown):
            return None
        found = lost(seen)
        if found is not None and found.pod is None and not self._surely_absent(seen, memory):
            return None
        stalled = next((pod for pod in seen.pods if ref(pod) in memory.ran and _idle(pod)), None)
        if found is None and stalled is not None and await self._is_stalled(stalled):
            found = Loss(reason=RUNTIME_GONE, pod=stalled)
        memory.known |= {ref(pod) for pod in seen.pods}
        memory.ran |= {ref(pod) for pod in seen.pods if pod.uptime_seconds is not None}
        return found

    def _surely_absent(self, seen: Observation, memory: _Memory) -> bool:
        """A pod that was known is gone when a read by id says so; one never seen when two looks, apart, say so."""
        if memory.known:
            return memory.known <= seen.gone
        memory.absent_since = memory.absent_since or self._clock.now()
        return self._clock.now() - memory.absent_since >= self._settle

    async def _is_stalled(self, pod: Pod) -> bool:
        """Whether a second read says too that its container is gone: a pod that lives is about to be ended."""
        try:
            again = await self._providers[pod.provider].get(pod.id)
        except RemoteError:
            return False
        return again is None or _idle(again)

    async def _job_is_over(self, key: RunKey) -> bool:
        """Whether this runner's job has ended; that it is registered no more does not say so (actions/runner#4726)."""
        jobs = await self._jobs(key)
        return any(job.runner_name == key.name and job.conclusion is not None for job in jobs or ())

    async def _hand_over_again(self, seen: Observation, memory: _Memory) -> None:
        """GitHub removes a runner of --registration jit that waits long for its job (actions/runner#4726)."""
        pods = () if isinstance(seen.pods, Unknown) else seen.pods
        pod = next((one for one in pods if one.alive and one.ssh is not None), None)
        if self._hand_over is None or pod is None:
            return
        try:
            given = await self._hand_over(pod)
        except RunnerProvisionerError as error:
            if str(error) not in memory.told:
                memory.told.add(str(error))
                self._tell("hand_over_failed", pod=pod.id, error=str(error))
            return
        if given:
            self._tell("hand_over_done", pod=pod.id)

    def _note_failures(self, seen: Observation, memory: _Memory) -> None:
        errors = [look.error for look in (seen.pods, seen.runner) if isinstance(look, Unknown) and look.error]
        for error in errors:
            if error.service not in memory.told:
                memory.told.add(error.service)
                self._tell("look_failed", service=error.service or None, error=str(error))
        refusals = [one for one in errors if isinstance(one, AuthenticationFailed | PermissionDenied | ApiRetired)]
        memory.refused_since = (memory.refused_since or self._clock.now()) if refusals else None
        since = memory.refused_since
        if since is not None and (self._clock.now() - since).total_seconds() >= REFUSED_PATIENCE:
            raise refusals[0]

    # --- a pod that was lost

    async def _lost(self, key: RunKey, loss: Loss, seen: Observation, known: frozenset[PodRef]) -> Watched | None:
        """End what is left of it and judge; None when it cannot be told yet whether the job was over before."""
        if loss.pod is None and isinstance(seen.runner, Unknown):
            return None
        if loss.pod is None and seen.runner is None:
            return self._end(key, Over.JOB if await self._job_is_over(key) else Over.POD)
        at = self._clock.now()
        if loss.pod is not None:
            await self._end_at_once(loss.pod)
        jobs = await self._jobs(key)
        if loss.pod is None and jobs is None:
            return None
        found = self._judge(key, loss, seen, jobs, at, followed=bool(known))
        if found is not None:
            self._tell("pod_interrupted", pod=found.pod, lease=key.name, reason=found.reason)
            await self._remember(loss)
        ended, error = await self._drain(key, known)
        over = _over(key, loss, seen, jobs, at)
        return Watched(interruption=found, over=over, ended=ended, error=error)

    def _judge(
        self, key: RunKey, loss: Loss, seen: Observation, jobs: list[Job] | None, at: datetime, *, followed: bool
    ) -> Interruption | None:
        if loss.pod is None and isinstance(seen.runner, Runner):
            job = job_of(key.name, None, jobs or ())
            if job is not None and job.conclusion is not None:
                return None  # its end was on its way when we looked
            # What GitHub still shows as connected is not: the pod is gone.
            seen = replace(seen, runner=replace(seen.runner, online=False))
        return interrupted(key.name, loss, seen, jobs, at, followed=followed)

    def _end(self, key: RunKey, over: Over) -> Watched:
        self._tell("watch_over", lease=key.name)
        return Watched(over=over)

    async def _job_over(self, key: RunKey, known: frozenset[PodRef]) -> Watched:
        """Its pod ends itself; one that cannot is ended."""
        watched = self._end(key, Over.JOB)
        if all(ends_from_inside(self._providers.get(pod.provider)) for pod in known):
            return watched
        ended, error = await self._drain(key, known, Outcome.COMPLETED)
        return replace(watched, ended=ended, error=error)

    async def _end_at_once(self, pod: Pod) -> None:
        try:
            await self._providers[pod.provider].terminate(pod.id)
        except RemoteError as error:
            self._tell("pod_end_failed", pod=pod.id, error=str(error))
        else:
            self._tell("pod_end_asked", pod=pod.id, provider=pod.provider)

    async def _drain(
        self, key: RunKey, known: frozenset[PodRef], outcome: Outcome = Outcome.INTERRUPTED
    ) -> tuple[tuple[Ended, ...], RunnerProvisionerError | None]:
        lease = Lease(name=key.name, phase=Phase.DRAINING, outcome=outcome, made=known)
        try:
            return tuple(await self._ending.drain([lease], key.owner8)), None
        except RunnerProvisionerError as error:
            return (), error

    async def _jobs(self, key: RunKey) -> list[Job] | None:
        if self._repository is None or key.run_id is None:
            return []
        try:
            return list(await self._runs.jobs(self._repository, key.run_id, key.attempt))
        except RemoteError as error:
            self._tell("look_failed", service=error.service or None, error=str(error))
            return None

    async def _remember(self, loss: Loss) -> None:
        if self._history is None or loss.pod is None:
            return
        try:
            await self._history.ended(ref(loss.pod), self._clock.now(), HowEnded.INTERRUPTED)
        except StoreError as error:
            self._tell("history_not_written", error=str(error))

    def _tell(self, name: str, **fields: str | float | bool | None) -> None:
        self._events.emit(Event(name=name, at=self._clock.now(), fields=fields))


def _over(key: RunKey, loss: Loss, seen: Observation, jobs: list[Job] | None, at: datetime) -> Over:
    job = job_of(key.name, None, jobs or ())
    runner = seen.runner if isinstance(seen.runner, Runner) else None
    if job is not None and job.conclusion is not None:
        return Over.JOB
    if not intended(loss, runner, job, at):
        return Over.POD
    return Over.STOPPED if loss.pod is not None and loss.pod.state is PodState.STOPPED else Over.END


def _may_serve(seen: Observation) -> bool:
    """Whether its runner is connected, or nobody can say."""
    return isinstance(seen.runner, Unknown) or (seen.runner is not None and seen.runner.online)


def _outline(seen: Observation) -> object:
    """What must change of the pods before GitHub is asked out of turn."""
    if isinstance(seen.pods, Unknown):
        return None
    return {(ref(pod), pod.state, _idle(pod)) for pod in seen.pods}


def _idle(pod: Pod) -> bool:
    """Whether a pod that is alive has no container."""
    return pod.alive and pod.uptime_seconds is None
