"""Workflow runs: their attempts and jobs, who gets which job, and how they end.

The order of jobs, their conditions and outputs belong to the RunEngine; here is what GitHub's service adds: ids, the
queue, the lock a runner holds on its job, cancellation and re-runs. Callers hold `World.lock`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runner_provisioner.simulators.github.artifacts import Shelf
from runner_provisioner.simulators.github.entities import ApiError, Repository, RunnerRecord, not_found
from runner_provisioner.simulators.github.state import World
from runner_provisioner.simulators.workflow import (
    RunEngine,
    StepPlan,
    StepResult,
    Workflow,
    WorkflowError,
    load_workflow,
)

LogListener = Callable[["Job", str], None]
LOST = "lost communication with the server. Verify the machine is running and has a healthy network connection."


@dataclass(kw_only=True, eq=False)
class Job:
    """A job of one attempt, from the moment it is queued; `key` is its id in the workflow file."""

    id: int
    key: str
    run: Run = field(repr=False)
    attempt: Attempt = field(repr=False)
    created_at: datetime
    status: str = "queued"
    conclusion: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    runner: RunnerRecord | None = None
    renewed_at: datetime | None = None
    forced: str | None = None
    told_to_stop: bool = False
    at_step: int = 0
    log: list[str] = field(default_factory=list, repr=False)
    summary: str = ""

    @property
    def name(self) -> str:
        """As shown to people."""
        return self.attempt.engine.job(self.key).name

    @property
    def labels(self) -> tuple[str, ...]:
        """What it asks of a runner."""
        return self.attempt.engine.labels(self.key)


@dataclass(kw_only=True, eq=False)
class Attempt:
    """One try of a run."""

    number: int
    engine: RunEngine
    created_at: datetime
    updated_at: datetime
    jobs: dict[str, Job] = field(default_factory=dict)
    status: str = "queued"
    conclusion: str | None = None
    forced: str | None = None


@dataclass(kw_only=True, eq=False)
class Run:
    """A workflow run."""

    id: int
    number: int
    repository: Repository
    workflow: Workflow
    provided: Mapping[str, Mapping[str, str]]
    context: Mapping[str, object]
    secrets: Mapping[str, str] = field(repr=False)
    token: str = field(repr=False)
    created_at: datetime
    given: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def latest(self) -> Attempt:
        """The attempt that counts."""
        return self.attempts[-1]

    def attempt(self, number: int) -> Attempt:
        """By number from 1; 404."""
        if not 1 <= number <= len(self.attempts):
            raise not_found()
        return self.attempts[number - 1]


class Runs:
    """All runs of the simulated GitHub."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._runs: dict[int, Run] = {}
        self.listeners: list[LogListener] = []
        self.shelf = Shelf()

    # ------------------------------------------------------------------ looking
    def run(self, run_id: int, repository: Repository | None = None) -> Run:
        """By id, of this repository when one is named; 404."""
        run = self._runs.get(run_id)
        if run is None or (repository is not None and run.repository is not repository):
            raise not_found()
        return run

    def of(self, repository: Repository) -> list[Run]:
        """The repository's, newest first."""
        return [run for run in reversed(self._runs.values()) if run.repository is repository]

    def jobs(self) -> Iterable[Job]:
        """Every job of every attempt, oldest first."""
        for run in self._runs.values():
            for attempt in run.attempts:
                yield from attempt.jobs.values()

    def job(self, job_id: int, repository: Repository | None = None) -> Job:
        """By id; 404."""
        for job in self.jobs():
            if job.id == job_id and (repository is None or job.run.repository is repository):
                return job
        raise not_found()

    # ------------------------------------------------------------------ beginning
    def queue(
        self,
        repository: Repository,
        text: str,
        *,
        provided: Mapping[str, Mapping[str, str]],
        context: Mapping[str, object],
        secrets: Mapping[str, str],
        given: Mapping[str, Mapping[str, object]] | None = None,
    ) -> Run:
        """Start the first attempt; `given` may hold `inputs` and `vars`. WorkflowError when the file cannot be read."""
        workflow = load_workflow(text)
        run = Run(
            id=7_000_000_000 + self._world.next_id(),
            number=len(self.of(repository)) + 1,
            repository=repository,
            workflow=workflow,
            provided=provided,
            context=context,
            secrets=secrets,
            token=self._world.credentials.issue_job_token(repository),
            created_at=self._world.clock.now(),
            given=given or {},
        )
        self._runs[run.id] = run
        self._begin(run, {})
        return run

    def _begin(self, run: Run, kept: Mapping[str, Mapping[str, str]]) -> Attempt:
        now = self._world.clock.now()
        number = len(run.attempts) + 1
        context = self.context(run, number)
        secrets = {"GITHUB_TOKEN": run.token, **run.secrets}
        engine = RunEngine(run.workflow, github=context, secrets=secrets, provided=run.provided, **run.given)
        for key, outputs in kept.items():
            engine.provide(key, outputs)
        attempt = Attempt(number=number, engine=engine, created_at=now, updated_at=now)
        run.attempts.append(attempt)
        self._settle(run, attempt)
        return attempt

    def context(self, run: Run, number: int) -> dict[str, object]:
        """The `github` context of an attempt."""
        repository = run.repository
        return {
            "token": run.token,
            "repository": repository.full_name,
            "repository_id": str(repository.id),
            "repository_owner": repository.owner.login,
            "run_id": str(run.id),
            "run_number": str(run.number),
            "run_attempt": str(number),
            "actor": repository.owner.login,
            "triggering_actor": repository.owner.login,
            "server_url": self._world.origin,
            "api_url": self._world.origin,
            "event_name": "workflow_dispatch",
            "event": {},
            "ref": "refs/heads/main",
            "ref_name": "main",
            "ref_type": "branch",
            "sha": commit_of(run),
            **run.context,
        }

    # ------------------------------------------------------------------ keeping engine and records in step
    def _settle(self, run: Run, attempt: Attempt) -> None:
        """Let the engine go on, and note what became of each job."""
        engine, now = attempt.engine, self._world.clock.now()
        engine.advance()
        for key in run.workflow.jobs:
            progress = engine.job(key)
            if progress.status == "waiting":
                continue
            job = attempt.jobs.get(key) or self._record(run, attempt, key)
            if job.status != progress.status:
                job.status = progress.status
                job.conclusion = progress.conclusion
                job.completed_at = now if progress.status == "completed" else None
            if progress.cancelled and job.status == "in_progress":
                self._stop(job)
        self._conclude(attempt, now)

    def _record(self, run: Run, attempt: Attempt, key: str) -> Job:
        job = Job(
            id=self._world.next_id() + 40_000, key=key, run=run, attempt=attempt, created_at=self._world.clock.now()
        )
        attempt.jobs[key] = job
        return job

    @staticmethod
    def _conclude(attempt: Attempt, now: datetime) -> None:
        attempt.updated_at = now
        if attempt.engine.completed:
            attempt.status = "completed"
            attempt.conclusion = attempt.forced or attempt.engine.conclusion
        elif any(job.status == "in_progress" for job in attempt.jobs.values()):
            attempt.status = "in_progress"

    @staticmethod
    def _stop(job: Job) -> None:
        if job.told_to_stop:
            return
        job.told_to_stop = True
        if job.runner is not None and job.runner.session is not None:
            job.runner.session.tell("cancel")

    # ------------------------------------------------------------------ the runners' side
    def assign(self, runner: RunnerRecord) -> Job | None:
        """Give an idle, connected runner the oldest job that it may run, if there is one."""
        if runner.busy or not runner.online:
            return None
        for job in self.jobs():
            fits = job.status == "queued" and runner.accepts(job.labels)
            if fits and self._world.sees(runner, job.run.repository) and self._start(job, runner):
                return job
        return None

    def _start(self, job: Job, runner: RunnerRecord) -> bool:
        context = runner_context(runner, job.run.repository)
        try:
            job.attempt.engine.start(job.key, runner=context)
        except WorkflowError as error:
            self.write(job, f"##[error]{error}")
            self._settle(job.run, job.attempt)
            return False
        job.runner, runner.job = runner, job
        job.started_at = job.renewed_at = self._world.clock.now()
        self._settle(job.run, job.attempt)
        return True

    def step(self, job: Job, previous: StepResult | None) -> StepPlan | None:
        """The next step of a job that runs; None when it has none left or has been ended from outside."""
        self.renew(job)
        if job.status != "in_progress" or job.forced is not None:
            return None
        plan = job.attempt.engine.next_step(job.key, previous)
        job.at_step = 0 if plan is None else plan.number
        return plan

    def renew(self, job: Job) -> None:
        """Its runner is alive."""
        job.renewed_at = self._world.clock.now()

    def write(self, job: Job, line: str) -> None:
        """Append to the job's log."""
        job.log.append(line)
        for listener in self.listeners:
            listener(job, line)

    def finish(self, job: Job, forced: str | None = None) -> str:
        """End a job, for its runner too; an ephemeral runner that has run its job is removed. The conclusion."""
        conclusion = self._end(job, forced if job.forced is None else job.forced)
        runner = job.runner
        if runner is not None and runner.job is job:
            self._release(runner)
        return conclusion

    def _end(self, job: Job, forced: str | None) -> str:
        if job.status != "completed":
            job.attempt.engine.finish(job.key, forced=forced)
            for problem in job.attempt.engine.job(job.key).problems:
                self.write(job, f"##[error]{problem}")
            self._settle(job.run, job.attempt)
        return job.conclusion or ""

    def _release(self, runner: RunnerRecord) -> None:
        runner.job = None
        if runner.ephemeral:
            runner.release_at = self._world.clock.now() + timedelta(seconds=self._world.settings.release_lag)
            self._world.lapse()

    def lapse(self) -> None:
        """Fail jobs whose runner is lost for longer than the lock lasts, and stop those that exceed their time."""
        now = self._world.clock.now()
        lock = timedelta(minutes=self._world.settings.lock_minutes)
        for runner in list(self._world.runners.values()):
            job = runner.job
            if job is None:
                continue
            if not runner.online and now >= (job.renewed_at or now) + lock:
                self._lose(runner, job)
            elif job.started_at and now >= job.started_at + _time_limit(job):
                job.forced = job.forced or "cancelled"
                self._stop(job)
        self._world.lapse()

    def _lose(self, runner: RunnerRecord, job: Job) -> None:
        # The lock is good for ten minutes without renewal (runner#3539); the registration stays behind, offline.
        if job.status != "completed":
            self.write(job, f"##[error]The self-hosted runner: {runner.name} {LOST}")
        # Told to stop before: the server ends it as cancelled (docs.github.com, "Workflow cancellation reference").
        self._end(job, "cancelled" if job.told_to_stop else "failure")
        runner.job = None

    # ------------------------------------------------------------------ jobs that somebody else plays
    def hand_over(self, run: Run, key: str) -> None:
        """A queued job of the latest attempt is in progress elsewhere, until `provide`."""
        run.latest.engine.hand_over(key)
        self._settle(run, run.latest)

    def provide(self, run: Run, key: str, outputs: Mapping[str, str], conclusion: str = "success") -> None:
        """How a job of the latest attempt ended that somebody else has played."""
        run.latest.engine.provide(key, outputs, conclusion=conclusion)
        self._settle(run, run.latest)

    # ------------------------------------------------------------------ ending and starting again
    def cancel(self, run: Run) -> None:
        """Ask every job to stop; 409 when the run is over."""
        if run.latest.status == "completed":
            raise ApiError(409, "Cannot cancel a workflow run that is completed.")
        run.latest.engine.cancel()
        self._settle(run, run.latest)

    def complete(self, run: Run, attempt: Attempt, conclusion: str) -> None:
        """End an attempt from outside, whatever its jobs are doing; a runner that is there is told to stop."""
        attempt.forced = attempt.forced or conclusion
        for key in run.workflow.jobs:
            status = attempt.engine.job(key).status
            if status == "waiting":
                attempt.engine.provide(key, {}, conclusion=conclusion)
            elif status != "completed":
                attempt.engine.finish(key, forced=conclusion)
        self._settle(run, attempt)
        for job in attempt.jobs.values():
            if job.runner is None or job.runner.job is not job:
                continue
            if job.runner.online and not job.runner.played:
                self._stop(job)
            else:
                self._release(job.runner)

    def rerun(self, run: Run, chosen: Callable[[Job], bool] | None = None) -> Attempt:
        """Start another attempt of the jobs that are `chosen` and those that need them; 403 while one is running.

        Everything is run again without `chosen`. 403 as well when nothing is chosen.
        """
        last = run.latest
        if last.status != "completed":
            raise ApiError(403, "This workflow run cannot be re-run: the workflow is already running")
        again = set(run.workflow.jobs)
        if chosen is not None:
            again = self._with_dependents(run, {key for key, job in last.jobs.items() if chosen(job)})
            if not again:
                raise ApiError(403, "This workflow run cannot be retried: there are no failed jobs")
        kept = {
            key: dict(last.engine.job(key).outputs)
            for key in run.workflow.jobs
            if key not in again and last.engine.job(key).conclusion == "success"
        }
        return self._begin(run, kept)

    @staticmethod
    def _with_dependents(run: Run, keys: set[str]) -> set[str]:
        found = set(keys)
        while True:
            bases = {run.workflow.jobs[key].base for key in found}
            more = {key for key, spec in run.workflow.jobs.items() if bases & set(spec.needs)} - found
            if not more:
                return found
            found |= more


def runner_context(runner: RunnerRecord, repository: Repository) -> dict[str, object]:
    """The `runner` context of a job of this repository; its `workspace` is github.workspace."""
    return {
        "name": runner.name,
        "os": "Linux",
        "arch": "X64",
        "environment": "self-hosted",
        "temp": f"{runner.work_root}/_temp",
        "tool_cache": f"{runner.work_root}/_tool",
        "workspace": f"{runner.work_root}/{repository.name}/{repository.name}",
    }


def commit_of(run: Run) -> str:
    """A commit hash that is the same for the same run."""
    return hashlib.sha1(f"{run.repository.full_name}/{run.id}".encode(), usedforsecurity=False).hexdigest()


def _time_limit(job: Job) -> timedelta:
    return timedelta(minutes=job.attempt.engine.job(job.key).timeout_minutes)
