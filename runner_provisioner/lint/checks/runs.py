"""What cancellation, strangers, re-runs and the clock do to a workflow that rents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from runner_provisioner.lint.expressions import mentions
from runner_provisioner.lint.findings import (
    NO_CLEANUP,
    NO_EXEC,
    PULL_REQUEST_TARGET,
    RERUN_FAILED,
    STEP_TIMEOUT,
    STRANGER_TRIGGER,
    Finding,
)
from runner_provisioner.lint.model import Call, Job, Mode, Repository, Workflow

# By event: why a start on it is risky, what a condition may ask, and an example of one.
_SHAPED: Final = {
    "workflow_run": (
        "workflow_run also follows the runs of forks",
        ("head_repository", "workflow_run.event"),
        "github.event.workflow_run.head_repository.full_name == github.repository",
    ),
    "issue_comment": (
        "anybody may comment, on pull requests too",
        ("issue.pull_request", "author_association"),
        "'!github.event.issue.pull_request'",
    ),
}


def check(workflow: Workflow, repository: Repository) -> Iterator[Finding]:
    """All checks of how a workflow is run."""
    for call in workflow.calls(Mode.START, Mode.STOP, Mode.CLEANUP):
        yield from _cancellation(workflow, call)
    yield from _strangers(workflow)
    yield from _clock(workflow, repository)
    yield from _reruns(workflow, repository)


def _cancellation(workflow: Workflow, call: Call) -> Iterator[Finding]:
    timeout = call.step.node.get("timeout-minutes") if call.step is not None else None
    if call.by_action and timeout is not None and timeout.given:
        yield workflow.finding(
            STEP_TIMEOUT,
            "the runner gives all steps inside an action the same deadline, so nothing is settled once it has passed: "
            "use start-timeout, or timeout-minutes of the job",
            timeout.line,
        )
    if call.mode is Mode.START and not call.hears_cancel:
        yield workflow.finding(
            NO_EXEC,
            "the runner signals the shell of a step alone, so this start would not hear of a cancellation: write "
            "'exec' before it, as the last command of its step",
            call.line,
        )


def _strangers(workflow: Workflow) -> Iterator[Finding]:
    trigger = workflow.triggers.get("pull_request_target")
    risky = [call for call in workflow.calls(Mode.START, Mode.GPU_JOB) if not _is_approved(workflow, call)]
    if trigger is not None and risky:
        yield workflow.finding(
            PULL_REQUEST_TARGET,
            f"anybody can cause pull_request_target, and it has the secrets, so the start on line {risky[0].line} is "
            "refused: use pull_request, or an environment with reviewers on the start job and allow-untrusted",
            trigger.line,
        )

    for name, (why, told_by, example) in _SHAPED.items():
        shaped = workflow.triggers.get(name)
        open_to_them = [call for call in risky if not _asks(workflow, call, told_by)]
        if shaped is not None and open_to_them:
            yield workflow.finding(
                STRANGER_TRIGGER,
                f"{why}, so the start on line {open_to_them[0].line} is refused then: give its job 'if: {example}', or "
                "an environment with reviewers and allow-untrusted",
                shaped.line,
            )


def _asks(workflow: Workflow, call: Call, told_by: tuple[str, ...]) -> bool:
    """Whether the start is skipped by a condition on what the event says, of its own or of a job it waits for."""
    jobs = [
        one
        for one in workflow.jobs.values()
        if one.id == call.job or workflow.waits_for(workflow.jobs[call.job], one.id)
    ]
    conditions = [one.condition for one in jobs]
    if call.step is not None:
        conditions.append(call.step.condition)
    return any(word in condition for condition in conditions for word in (*told_by, "github.event_name"))


def _is_approved(workflow: Workflow, call: Call) -> bool:
    job = workflow.jobs[call.job]
    return call.allows_untrusted and (job.environment.given or job.node.get("with").get("environment").given)


def _clock(workflow: Workflow, repository: Repository) -> Iterator[Finding]:
    # The whole repository lacks one thing: said once, in the first file that rents.
    renting = [one for one in repository.checked_workflows if any(one.calls(Mode.START, Mode.GPU_JOB))]
    if repository.has_cleanup or not renting or renting[0] is not workflow:
        return
    first = next(workflow.calls(Mode.START, Mode.GPU_JOB))
    yield workflow.finding(
        NO_CLEANUP,
        "no workflow here runs cleanup on a schedule, which ends what a stop could not: add one",
        first.line,
    )


def _reruns(workflow: Workflow, repository: Repository) -> Iterator[Finding]:
    for call in workflow.calls(Mode.START):
        yield from _first_attempt_only(workflow, call)
    if repository.has_cleanup:
        return
    for job in _left_waiting(workflow):
        yield workflow.finding(
            RERUN_FAILED,
            f"'Re-run failed jobs' would run '{job.id}' again but not its start, which had succeeded, so it would wait "
            "for a runner that is gone: use 'Re-run all jobs', and schedule a clean-up, which cancels such a run",
            job.line,
        )


def _left_waiting(workflow: Workflow) -> Iterator[Job]:
    for gpu in workflow.gpu_jobs:
        if gpu.starts:
            yield gpu.job
    for call in workflow.calls(Mode.GPU_JOB):
        yield workflow.jobs[call.job]


def _first_attempt_only(workflow: Workflow, call: Call) -> Iterator[Finding]:
    conditions = [workflow.jobs[call.job].node.get("if")]
    if call.step is not None:
        conditions.append(call.step.node.get("if"))
    for condition in conditions:
        # An `if` is an expression with or without its braces.
        if mentions("${{" + condition.text.replace("${{", "").replace("}}", "") + "}}", "github.run_attempt"):
            yield workflow.finding(
                RERUN_FAILED,
                "this start is skipped in some attempts, and a re-run would wait for a runner that is gone: let it run "
                "in each attempt",
                condition.line,
            )
