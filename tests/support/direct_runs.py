"""Workflow runs over the wire of the in-process world, without PyGithub and its thread."""

from __future__ import annotations

from datetime import datetime

from runner_provisioner import wiring
from runner_provisioner._http import Retry
from runner_provisioner.domain.runners import Job, RunStatus
from runner_provisioner.domain.stuck import QueuedJob
from runner_provisioner.errors import PermissionDenied


class DirectRuns:
    """RunAttempts that ask over the same wire, without PyGithub."""

    def __init__(self, program: wiring.Program) -> None:
        """Borrow the session and the credential."""
        assert program.github is not None
        self._runs = program.github.runs

    async def attempt(self, repository: str, run_id: int, attempt: int) -> RunStatus | None:
        """How far it is."""
        errand = await self._runs._errand("getRun", repository)
        path = f"/repos/{repository}/actions/runs/{run_id}"
        try:
            answer = await errand.api.call("getRun", "GET", path, bearer=errand.bearer, retry=errand.retry)
        except PermissionDenied:
            return None
        run = answer.json()
        if run["run_attempt"] < attempt:
            return None
        over = run["run_attempt"] > attempt or run["status"] == "completed"
        return RunStatus.COMPLETED if over else RunStatus.ACTIVE

    async def jobs(self, repository: str, run_id: int, attempt: int | None = None) -> list[Job]:
        """Those of an attempt."""
        errand = await self._runs._errand("listJobs", repository)
        path = f"/repos/{repository}/actions/runs/{run_id}/attempts/{attempt}/jobs?per_page=100"
        answer = await errand.api.call("listJobs", "GET", path, bearer=errand.bearer, retry=errand.retry)
        return [
            Job(
                id=one["id"],
                name=one["name"],
                status=one["status"],
                conclusion=one["conclusion"],
                labels=tuple(one["labels"]),
                runner_name=one["runner_name"],
                completed_at=datetime.fromisoformat(one["completed_at"]) if one["completed_at"] else None,
            )
            for one in answer.json()["jobs"]
        ]

    async def queued_jobs(self, repository: str) -> list[QueuedJob]:
        """Of the runs that are under way."""
        errand = await self._runs._errand("listRuns", repository)
        path = f"/repos/{repository}/actions/runs?status=in_progress"
        answer = await errand.api.call("listRuns", "GET", path, bearer=errand.bearer, retry=errand.retry)
        return [
            QueuedJob(
                id=job.id,
                run_id=run["id"],
                name=job.name,
                labels=job.labels,
                queued_at=datetime.fromisoformat(run["created_at"]),
            )
            for run in answer.json()["workflow_runs"]
            for job in await self.jobs(repository, run["id"], run["run_attempt"])
            if job.status == "queued"
        ]

    async def rerun_failed_jobs(self, repository: str, run_id: int) -> None:
        """Ask for them."""
        errand = await self._runs._errand("rerunFailedJobs", repository, "write", Retry.NEVER)
        path = f"/repos/{repository}/actions/runs/{run_id}/rerun-failed-jobs"
        await errand.api.call("rerunFailedJobs", "POST", path, bearer=errand.bearer, retry=errand.retry)
