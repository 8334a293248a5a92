"""One attempt of a run: which jobs may begin, and how the whole ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.expressions import Scope, asks_status, bare, holds, render, resolve
from runner_provisioner.simulators.workflow.model import JobSpec, Workflow
from runner_provisioner.simulators.workflow.plan import JobProgress, Status, StepPlan, StepProgress, StepResult
from runner_provisioner.simulators.workflow.steps import JobRun, minutes
from runner_provisioner.simulators.workflow.values import Value, to_number, to_string, truthy

DEFAULT_JOB_MINUTES = 360.0  # docs: jobs.<job_id>.timeout-minutes
_FAILED = ("failure", "timed_out", "startup_failure")


@dataclass(slots=True)
class _Job:
    spec: JobSpec
    status: Status = "waiting"
    conclusion: str | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    timeout_minutes: float = DEFAULT_JOB_MINUTES
    forgiven: bool = False
    cancelled: bool = False
    run: JobRun | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def result(self) -> str:
        """What `needs` sees of it."""
        if self.conclusion in _FAILED:
            return "success" if self.forgiven else "failure"
        return self.conclusion or ""

    def conclude(self, conclusion: str) -> None:
        self.status, self.conclusion = "completed", conclusion
        if self.run:
            self.run.close(conclusion)


class RunEngine:
    """A state machine that knows no clock, no network and no processes.

    `provided` names jobs (ids of the file) that somebody else plays: they succeed, with these outputs, as soon as their
    turn comes. Methods that take a job id take the id of a leg (`job (a, b)`) where there is a matrix; an unknown id is
    a KeyError, a call out of turn a WorkflowError.
    """

    def __init__(
        self,
        workflow: Workflow,
        *,
        github: Mapping[str, object],
        inputs: Mapping[str, object] | None = None,
        vars: Mapping[str, object] | None = None,  # noqa: A002 - the name of the context
        secrets: Mapping[str, object] | None = None,
        provided: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Begin with every job waiting."""
        self.workflow = workflow
        self.cancelled = False
        self._shared: dict[str, Value] = {
            "github": {**github, "workflow": workflow.name},
            "inputs": dict(inputs or {}),
            "vars": dict(vars or {}),
            "secrets": dict(secrets or {}),
        }
        self._provided = dict(provided or {})
        self._jobs = {job_id: _Job(spec) for job_id, spec in workflow.jobs.items()}

    # --- the run -----------------------------------------------------------------------------------------------------

    @property
    def completed(self) -> bool:
        """Whether every job has ended."""
        return all(job.status == "completed" for job in self._jobs.values())

    @property
    def conclusion(self) -> str | None:
        """How the run ended; None while it goes on."""
        if not self.completed:
            return None
        results = {job.result for job in self._jobs.values()}
        for word in ("failure", "cancelled", "success"):
            if word in results:
                return word
        return "skipped"

    def advance(self) -> list[str]:
        """Let every job begin whose turn it is; the ids of those that were queued by this call."""
        ready: list[str] = []
        while job := next(filter(self._may_begin, self._jobs.values()), None):
            if self._begin(job):
                ready.append(job.spec.id)
        return ready

    def cancel(self) -> None:
        """Cancel the run, as the API does: jobs whose `if` holds in a cancelled run go on or may still begin."""
        self.cancelled = True
        for job in self._jobs.values():
            if job.status in ("queued", "in_progress") and not self._survives(job):
                self._cancel(job)

    def _survives(self, job: _Job) -> bool:
        condition = job.spec.condition
        return condition is not None and asks_status(bare(condition)) and holds(condition, self._job_scope(job.spec))

    @staticmethod
    def _cancel(job: _Job) -> None:
        if job.run is None:
            job.conclude("cancelled")
            return
        job.cancelled = job.run.cancelled = True

    # --- a job's turn ------------------------------------------------------------------------------------------------

    def _legs(self, base: str) -> list[_Job]:
        return [job for job in self._jobs.values() if job.spec.base == base]

    def _may_begin(self, job: _Job) -> bool:
        needed = (leg for base in job.spec.needs for leg in self._legs(base))
        if job.status != "waiting" or any(leg.status != "completed" for leg in needed):
            return False
        most = to_number(job.spec.strategy.get("max-parallel"))
        active = [leg for leg in self._legs(job.spec.base) if leg.status in ("queued", "in_progress")]
        return not most > 0 or len(active) < most

    def _begin(self, job: _Job) -> bool:
        """Queue, skip, provide or fail a job; whether it waits for a runner now."""
        try:
            if not holds(job.spec.condition, self._job_scope(job.spec)):
                job.conclude("cancelled" if self.cancelled else "skipped")
                return False
            if job.spec.base in self._provided:
                job.outputs = dict(self._provided[job.spec.base])
                job.conclude("success")
                return False
            self._prepare(job)
        except WorkflowError as error:
            job.problems.append(str(error.at(job=job.spec.id)))
            job.conclude("failure")
            return False
        job.status = "queued"
        return True

    def _prepare(self, job: _Job) -> None:
        scope = Scope(contexts=self._contexts(job.spec))
        job.labels = _labels(resolve(job.spec.runs_on, scope))
        job.timeout_minutes = minutes(job.spec.timeout_minutes, scope) or DEFAULT_JOB_MINUTES
        job.forgiven = truthy(resolve(job.spec.continue_on_error, scope))

    def _needs(self, bases: tuple[str, ...]) -> dict[str, Value]:
        return {base: {"outputs": self._outputs(base), "result": self._result(base)} for base in bases}

    def _outputs(self, base: str) -> dict[str, str]:
        merged: dict[str, str] = {}
        for leg in self._legs(base):
            merged |= {name: value for name, value in leg.outputs.items() if value or name not in merged}
        return merged

    def _result(self, base: str) -> str:
        results = {leg.result for leg in self._legs(base)}
        return next((word for word in ("failure", "cancelled", "success") if word in results), "skipped")

    def _ancestors(self, spec: JobSpec) -> set[str]:
        found: set[str] = set()
        waiting = [*spec.needs]
        while waiting:
            base = waiting.pop()
            if base not in found:
                found.add(base)
                waiting += self._legs(base)[0].spec.needs
        return found

    def _contexts(self, spec: JobSpec) -> dict[str, Value]:
        legs = self._legs(spec.base)
        place = next(number for number, leg in enumerate(legs) if leg.spec is spec)
        strategy = {
            "fail-fast": spec.strategy.get("fail-fast", True),
            "job-index": place,
            "job-total": len(legs),
            "max-parallel": spec.strategy.get("max-parallel", len(legs)),
        }
        return {**self._shared, "needs": self._needs(spec.needs), "matrix": dict(spec.matrix), "strategy": strategy}

    def _job_scope(self, spec: JobSpec) -> Scope:
        """What a job's `if` sees; the status functions look at every ancestor, not at `needs` alone (runner#491)."""
        results = [self._result(base) for base in self._ancestors(spec)]
        status = {
            "always": True,
            "cancelled": self.cancelled,
            "failure": "failure" in results,
            "success": not self.cancelled and all(result == "success" for result in results),
        }
        contexts = {name: self._shared[name] for name in ("github", "inputs", "vars")}
        return Scope(contexts={**contexts, "needs": self._needs(spec.needs)}, status=status)

    # --- one job -----------------------------------------------------------------------------------------------------

    def labels(self, job_id: str) -> tuple[str, ...]:
        """The labels that the job asks for; empty before its turn."""
        return self._jobs[job_id].labels

    def job(self, job_id: str) -> JobProgress:
        """How a job stands."""
        job = self._jobs[job_id]
        unbegun = (StepProgress(name=step.title, number=step.number) for step in job.spec.steps)
        return JobProgress(
            id=job_id,
            name=self._display_name(job),
            status=job.status,
            conclusion=job.conclusion,
            outputs=dict(job.outputs),
            steps=tuple(job.run.steps) if job.run else tuple(unbegun) if job.status != "completed" else (),
            labels=job.labels,
            cancelled=job.cancelled,
            timeout_minutes=job.timeout_minutes,
            problems=(*job.problems, *(job.run.problems if job.run else ())),
        )

    def _display_name(self, job: _Job) -> str:
        raw = to_string(job.spec.name)
        if not raw:
            return job.spec.id
        if "${{" not in raw:
            return raw + job.spec.id.removeprefix(job.spec.base)
        if job.status == "waiting":
            return raw
        try:
            return render(raw, Scope(contexts=self._contexts(job.spec)))
        except WorkflowError:
            return raw

    def hand_over(self, job_id: str) -> None:
        """Somebody else plays this queued job: it is in progress until `provide`."""
        self._expect(job_id, "queued").status = "in_progress"

    def provide(self, job_id: str, outputs: Mapping[str, str], *, conclusion: str = "success") -> None:
        """How a job ended that somebody else has played."""
        job = self._expect(job_id, "waiting", "queued", "in_progress")
        job.outputs = dict(outputs)
        job.conclude(conclusion)
        self._fail_fast(job)

    def start(self, job_id: str, *, runner: Mapping[str, object]) -> None:
        """A runner has taken the job; WorkflowError, and a failed job, when it holds what cannot be played.

        `runner` is the runner context (name, os, arch, temp, tool_cache); its `workspace` becomes github.workspace.
        """
        job = self._expect(job_id, "queued")
        try:
            job.run = JobRun(
                job.spec, workflow_env=self.workflow.env, contexts=self._contexts(job.spec), runner=dict(runner)
            )
        except WorkflowError as error:
            job.problems.append(str(error))
            job.conclude("failure")
            self._fail_fast(job)
            raise
        job.status = "in_progress"

    def next_step(self, job_id: str, previous: StepResult | None) -> StepPlan | None:
        """Tell how the last step ended (None at first) and get the next; None when there is none left."""
        return self._running(job_id).next_step(previous)

    def finish(self, job_id: str, *, forced: str | None = None) -> str:
        """The job is over; `forced` when nobody ran it to its end. Its conclusion."""
        job = self._expect(job_id, "queued", "in_progress")
        if job.run is None or forced is not None:
            job.conclude(forced or "failure")
        else:
            if job.run.unfinished:
                job.run.cancelled = True
            job.outputs = job.run.outputs()
            job.conclude(job.run.status)
        self._fail_fast(job)
        return job.conclusion or ""

    def _fail_fast(self, job: _Job) -> None:
        if job.result != "failure" or job.spec.strategy.get("fail-fast", True) is False:
            return
        for leg in self._legs(job.spec.base):
            if leg.status in ("waiting", "queued", "in_progress"):
                self._cancel(leg)

    def _running(self, job_id: str) -> JobRun:
        run = self._expect(job_id, "in_progress").run
        if run is None:
            raise WorkflowError("it is played elsewhere", job=job_id)
        return run

    def _expect(self, job_id: str, *allowed: Status) -> _Job:
        job = self._jobs[job_id]
        if job.status not in allowed:
            raise WorkflowError(f"it is {job.status}", job=job_id)
        return job


def _labels(value: Value) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        value = value.get("labels") or []
    labels = tuple(to_string(label) for label in (value if isinstance(value, list) else [value]))
    if not labels or not all(labels):
        raise WorkflowError("runs-on is empty")
    return labels
