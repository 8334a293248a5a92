"""Workflow runs and their jobs, read by PyGithub."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner_provisioner._http import Retry
from runner_provisioner.domain.runners import Job, RunStatus
from runner_provisioner.errors import PermissionDenied
from runner_provisioner.github.addresses import repository_path
from runner_provisioner.github.credentials import run_access
from runner_provisioner.github.errors import ABSENT
from runner_provisioner.github.library import Errand
from runner_provisioner.github.wire import read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from github.Requester import Requester
    from github.WorkflowJob import WorkflowJob

    from runner_provisioner.github.credentials import Credential
    from runner_provisioner.github.fields import Fields
    from runner_provisioner.github.wire import GitHubApi

__all__ = ["GitHubRuns", "Job"]

# Many a repository has a clean-up of something else, such as of caches.
_CLEANUP = re.compile(r"(?=.*clean[-_ ]?up)(?=.*(?:gpu|runner)).*|(?:scheduled[-_])?clean[-_]?up\.ya?ml")
_NEWEST = 30  # a run is some 15 KB of JSON
# The step of our cleanup.yml that is skipped where there are no credentials, in a run that succeeds.
CLEANING_STEP = "End what nothing owns"


class GitHubRuns:
    """`ports.WorkflowRuns`, and what a rerun needs besides."""

    def __init__(self, *, api: GitHubApi, credential: Credential) -> None:
        """Asks `credential` anew for each repository."""
        self._api = api
        self._credential = credential

    async def attempt(self, repository: str, run_id: int, attempt: int) -> RunStatus | None:
        """How far that attempt is; None when GitHub has no such run (404), or not yet that attempt."""
        path = _run_path(repository, run_id)

        def work(requester: Requester) -> tuple[int, str]:
            from github.WorkflowRun import WorkflowRun  # noqa: PLC0415 - heavy, see library.py

            run = WorkflowRun(requester, url=path)
            return _whole(run.run_attempt), _text(run.status)

        errand = await self._errand("getRun", repository)
        try:
            latest, status = await errand.run(work)
        except PermissionDenied as error:
            if error.code == ABSENT:
                return None
            raise
        if latest < attempt:
            return None
        # A new attempt begins only when the one before has ended.
        return RunStatus.COMPLETED if latest > attempt or status == "completed" else RunStatus.ACTIVE

    async def jobs(self, repository: str, run_id: int, attempt: int | None = None) -> Sequence[Job]:
        """The jobs of an attempt, by default of the latest; PermissionDenied (NOT_FOUND) when there is no such run."""
        which = "" if attempt is None else f"/attempts/{attempt:d}"
        path = f"{_run_path(repository, run_id)}{which}/jobs"

        def work(requester: Requester) -> list[Job]:
            from github.PaginatedList import PaginatedList  # noqa: PLC0415 - heavy, see library.py
            from github.WorkflowJob import WorkflowJob  # noqa: PLC0415 - likewise

            # PyGithub knows no jobs of an attempt, and would read the run first for those of the latest.
            return [_job(job) for job in PaginatedList(WorkflowJob, requester, path, list_item="jobs")]

        errand = await self._errand("listJobs", repository)
        return await errand.run(work)

    async def cleaned_up(self, repository: str, since: datetime) -> bool | None:
        """Whether a scheduled clean-up of GPUs, told by its name or file, that began since then has cleaned.

        One request for the newest thirty runs, and one for the newest of each clean-up among them; None when all of
        them are that new and none is one.
        """
        bearer = await self._credential.bearer(run_access(repository))
        # `created=>=...` works too, but GitHub's own schema calls it invalid.
        params: dict[str, str | int] = {"event": "schedule", "status": "success", "per_page": _NEWEST}
        path = f"{repository_path(repository)}/actions/runs"
        operation = "listScheduledRuns"
        answer = await self._api.call(operation, "GET", path, bearer=bearer, params=params, retry=Retry.NEVER)
        runs = read(operation, answer).objects("workflow_runs")
        recent = [run for run in runs if run.time("created_at") >= since]
        newest: dict[str | None, int] = {}
        for one in filter(_cleans_up, recent):
            newest.setdefault(one.text_or_none("path"), one.number("id"))
        for run_id in newest.values():
            if await self._has_cleaned(repository, run_id):
                return True
        return None if len(recent) >= _NEWEST and not newest else False

    async def _has_cleaned(self, repository: str, run_id: int) -> bool:
        bearer = await self._credential.bearer(run_access(repository))
        operation = "listCleanupJobs"
        path = f"{_run_path(repository, run_id)}/jobs"
        answer = await self._api.call(operation, "GET", path, bearer=bearer, retry=Retry.NEVER)
        steps = [step for job in read(operation, answer).objects("jobs") for step in job.objects("steps")]
        ends = {step.text_or_none("conclusion") for step in steps if step.text("name") == CLEANING_STEP}
        return not ends or "success" in ends

    async def rerun_failed_jobs(self, repository: str, run_id: int) -> None:
        """Begin a new attempt of the jobs that failed; JobStillRunning until the whole attempt has ended (403)."""
        await self._order("rerunFailedJobs", repository, f"{_run_path(repository, run_id)}/rerun-failed-jobs")

    async def cancel(self, repository: str, run_id: int) -> None:
        """Ask GitHub to cancel the run; GitHubError (CONFLICT) when it cannot be, such as once it has ended."""
        await self._order("cancelRun", repository, f"{_run_path(repository, run_id)}/cancel")

    async def _order(self, operation: str, repository: str, path: str) -> None:
        def work(requester: Requester) -> None:
            # PyGithub's own method for cancelling would read the run first, to learn this address.
            requester.requestJsonAndCheck("POST", path)

        errand = await self._errand(operation, repository, "write", Retry.NEVER)
        await errand.run(work)

    async def _errand(
        self, operation: str, repository: str, level: str = "read", retry: Retry = Retry.IDEMPOTENT
    ) -> Errand:
        bearer = await self._credential.bearer(run_access(repository, level))
        return Errand(operation=operation, api=self._api, bearer=bearer, retry=retry)


def _cleans_up(run: Fields) -> bool:
    file = (run.text_or_none("path") or "").partition("@")[0].rpartition("/")[2]
    called = (run.text_or_none("name") or "", file)
    # An Enterprise Server of before these filters lists every run.
    succeeded = run.text("event") == "schedule" and run.text_or_none("conclusion") == "success"
    return succeeded and any(_CLEANUP.fullmatch(name.lower()) for name in called)


def _run_path(repository: str, run_id: int) -> str:
    return f"{repository_path(repository)}/actions/runs/{run_id:d}"


def _job(found: WorkflowJob) -> Job:
    return Job(
        id=_whole(found.id),
        name=_text(found.name),
        status=_text(found.status),
        conclusion=found.conclusion,
        labels=tuple(found.labels or ()),
        runner_name=found.runner_name or None,
        started_at=found.started_at,
        completed_at=found.completed_at,
    )


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a number is missing")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value
