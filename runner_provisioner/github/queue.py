"""Jobs that wait for a runner, read by PyGithub over all active runs of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner_provisioner._http import Retry
from runner_provisioner.domain.stuck import QueuedJob
from runner_provisioner.errors import GitHubError, PermissionDenied
from runner_provisioner.github.addresses import repository_path
from runner_provisioner.github.credentials import run_access
from runner_provisioner.github.errors import ABSENT
from runner_provisioner.github.library import Errand

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from github.Requester import Requester
    from github.WorkflowJob import WorkflowJob

    from runner_provisioner.github.credentials import Credential
    from runner_provisioner.github.runs import GitHubRuns
    from runner_provisioner.github.wire import GitHubApi

_ACTIVE = ("queued", "in_progress", "waiting")  # waiting: another job of the run is for a reviewer
_NAME = 100


class GitHubQueue:
    """`ports.JobQueue`."""

    def __init__(self, *, api: GitHubApi, credential: Credential, runs: GitHubRuns) -> None:
        """Cancels through `runs`."""
        self._api = api
        self._credential = credential
        self._runs = runs

    async def queued_jobs(self, repository: str) -> Sequence[QueuedJob]:
        """See the port. Three lists, and one request more for each run that is active."""
        path = f"{repository_path(repository)}/actions/runs"
        found: list[QueuedJob] = []
        for run_id in await self._active(repository, path):
            found += await self._of_run(repository, f"{path}/{run_id:d}/jobs", run_id)
        return found

    async def cancel_if_active(self, repository: str, run_id: int) -> bool:
        """See the port; needs the permission actions: write."""
        try:
            await self._runs.cancel(repository, run_id)
        except GitHubError as error:
            if error.code == "CONFLICT":
                return False
            raise
        return True

    async def _active(self, repository: str, path: str) -> list[int]:
        def work(requester: Requester) -> list[int]:
            from github.PaginatedList import PaginatedList  # noqa: PLC0415 - heavy, see library.py
            from github.WorkflowRun import WorkflowRun  # noqa: PLC0415 - likewise

            runs = [
                run
                for status in _ACTIVE
                for run in PaginatedList(WorkflowRun, requester, path, {"status": status}, list_item="workflow_runs")
            ]
            # A run may go from one list to the next meanwhile.
            return list(dict.fromkeys(run.id for run in runs))

        return await (await self._errand("listActiveRuns", repository)).run(work)

    async def _of_run(self, repository: str, path: str, run_id: int) -> list[QueuedJob]:
        def work(requester: Requester) -> list[QueuedJob]:
            from github.PaginatedList import PaginatedList  # noqa: PLC0415 - heavy, see library.py
            from github.WorkflowJob import WorkflowJob  # noqa: PLC0415 - likewise

            jobs = PaginatedList(WorkflowJob, requester, path, list_item="jobs")
            return [_queued(job, run_id) for job in jobs if job.status == "queued"]

        errand = await self._errand("listQueuedJobs", repository)
        try:
            return await errand.run(work)
        except PermissionDenied as error:
            # Deleted since it was listed.
            if error.code == ABSENT:
                return []
            raise

    async def _errand(self, operation: str, repository: str) -> Errand:
        bearer = await self._credential.bearer(run_access(repository))
        return Errand(operation=operation, api=self._api, bearer=bearer, retry=Retry.IDEMPOTENT)


def _queued(job: WorkflowJob, run_id: int) -> QueuedJob:
    times: list[datetime | None] = [job.created_at, job.started_at]
    known = [moment for moment in times if moment is not None]
    if not known:
        raise ValueError("a queued job without a time")
    # In a re-run `created_at` may be that of the first attempt.
    return QueuedJob(
        id=job.id, run_id=run_id, name=_one_line(job.name), labels=tuple(job.labels or ()), queued_at=max(known)
    )


def _one_line(name: str) -> str:
    """A job's name, which whoever writes a workflow chooses, so that it is no command in somebody's log."""
    words = " ".join(name.split())
    return "".join(letter if letter.isprintable() else "?" for letter in words)[:_NAME]
