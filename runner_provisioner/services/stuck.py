"""Cancel runs that wait for a machine that will never come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from runner_provisioner.domain.pods import Pod
from runner_provisioner.domain.stuck import QueuedJob, is_served, waits_too_long
from runner_provisioner.errors import RemoteError
from runner_provisioner.ports import Clock, GpuProvider, JobQueue, RunnerRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The jobs that wait in vain; none of them where `error` says why that could not be found out."""

    jobs: tuple[QueuedJob, ...] = ()
    error: RemoteError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was done: one job of each run that was cancelled, and of each that could not be."""

    cancelled: tuple[QueuedJob, ...] = ()
    left: tuple[QueuedJob, ...] = ()
    errors: tuple[RemoteError, ...] = ()


class StuckRuns:
    """The use case; it looks twice, `settle` apart, since a list may lack what is new."""

    def __init__(
        self,
        *,
        repository: str,
        owner8: str,
        providers: Mapping[str, GpuProvider],
        registry: RunnerRegistry,
        queue: JobQueue,
        clock: Clock,
        settle: timedelta,
    ) -> None:
        """`repository` (owner/name) is the one whose runs are looked at."""
        self._repository = repository
        self._owner8 = owner8
        self._providers = providers
        self._registry = registry
        self._queue = queue
        self._clock = clock
        self._settle = settle

    async def survey(self) -> Waiting:
        """Look once. A look that fails makes everything unknown."""
        try:
            queued = await self._queue.queued_jobs(self._repository)
            late = [job for job in queued if waits_too_long(job, self._clock.now())]
            return Waiting(jobs=await self._unserved(late))
        except RemoteError as error:
            return Waiting(error=error)

    async def run(self) -> Freed:
        """Cancel the runs of the jobs that two looks have found waiting in vain."""
        first = await self.survey()
        if not first.jobs:
            return _nothing(first)
        await self._clock.sleep(self._settle.total_seconds())
        second = await self.survey()
        known = {job.id for job in first.jobs}
        by_run = {job.run_id: job for job in second.jobs if job.id in known}
        if not by_run:
            return _nothing(second)
        return await self._cancel(by_run)

    async def _unserved(self, jobs: list[QueuedJob]) -> tuple[QueuedJob, ...]:
        if not jobs:
            return ()
        pods: list[Pod] = []
        for provider in self._providers.values():
            # Of every owner: a job does not say which one rented for it.
            pods += await provider.list(None)
        runners = await self._registry.list()
        return tuple(job for job in jobs if not is_served(job, pods, runners, self._owner8))

    async def _cancel(self, by_run: Mapping[int, QueuedJob]) -> Freed:
        cancelled: list[QueuedJob] = []
        left: list[QueuedJob] = []
        errors: list[RemoteError] = []
        for run_id, job in by_run.items():
            try:
                asked = await self._queue.cancel_if_active(self._repository, run_id)
            except RemoteError as error:
                errors.append(error)
                left.append(job)
                continue
            if asked:
                cancelled.append(job)
        return Freed(cancelled=tuple(cancelled), left=tuple(left), errors=tuple(errors))


def _nothing(looked: Waiting) -> Freed:
    return Freed(errors=(looked.error,) if looked.error else ())
