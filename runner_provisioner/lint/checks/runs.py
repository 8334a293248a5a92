"""What cancellation, strangers, re-runs and the clock do to a workflow that rents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from runner_provisioner.lint.conditions import FOREIGN, keeps_out
from runner_provisioner.lint.expressions import mentions
from runner_provisioner.lint.findings import (
    CLEANUP_ENVIRONMENT,
    NO_CLEANUP,
    NO_EXEC,
    PULL_REQUEST_TARGET,
    RERUN_FAILED,
    STEP_TIMEOUT,
    STRANGER_TRIGGER,
    Finding,
)
from runner_provisioner.lint.model import RENTING, Call, Job, Mode, Repository, Workflow

_RUN: Final = "github.event.workflow_run."
_ISSUE: Final = "github.event.issue."
# By event: why a start on it is risky, what is so in each of the ways in which a stranger causes it, and a condition
# that keeps that out.
_SHAPED: Final = {
    "workflow_run": (
        "workflow_run also follows the runs of forks",
        [
            {
                "github.event_name": "'workflow_run'",
                f"{_RUN}event": f"'{event}'",
                f"{_RUN}head_repository": FOREIGN,
                f"{_RUN}head_repository.fork": "true",
                **{f"{_RUN}head_repository.{one}": FOREIGN for one in ("full_name", "id", "owner.login")},
            }
            for event in ("pull_request", "pull_request_target")
        ],
        "github.event.workflow_run.head_repository.full_name == github.repository",
    ),
    "issue_comment": (
        "anybody may comment, on pull requests too",
        [
            {
                "github.event_name": "'issue_comment'",
                f"{_ISSUE}pull_request": FOREIGN,
                f"{_ISSUE}pull_request.url": FOREIGN,
                "github.event.comment.author_association": f"'{association}'",
            }
            for association in ("none", "contributor", "first_time_contributor", "first_timer")
        ],
        "'!github.event.issue.pull_request'",
    ),
}


def check(workflow: Workflow, repository: Repository) -> Iterator[Finding]:
    """All checks of how a workflow is run."""
    for call in workflow.calls(*Mode):
        yield from _cancellation(workflow, call)
    yield from _strangers(workflow)
    yield from _clock(workflow, repository)
    yield from _credentials(workflow, repository)
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
    if call.mode in RENTING and not call.hears_cancel:
        yield workflow.finding(
            NO_EXEC,
            f"the runner signals the shell of a step alone, so this {call.mode} would not hear of a cancellation: "
            "write 'exec' before it, as the last command of its step",
            call.line,
        )


def _strangers(workflow: Workflow) -> Iterator[Finding]:
    trigger = workflow.triggers.get("pull_request_target")
    risky = [call for call in workflow.calls(*RENTING) if not _is_approved(workflow, call)]
    if trigger is not None and risky:
        yield workflow.finding(
            PULL_REQUEST_TARGET,
            f"anybody can cause pull_request_target, and it has the secrets, so the start on line {risky[0].line} is "
            "refused: use pull_request, or an environment with reviewers on the start job and allow-untrusted",
            trigger.line,
        )

    for name, (why, ways, example) in _SHAPED.items():
        shaped = workflow.triggers.get(name)
        open_to_them = [call for call in risky if not all(_keeps_out(workflow, call, facts) for facts in ways)]
        if shaped is not None and open_to_them:
            yield workflow.finding(
                STRANGER_TRIGGER,
                f"{why}, so the start on line {open_to_them[0].line} is refused then: give its job 'if: {example}', or "
                "an environment with reviewers and allow-untrusted",
                shaped.line,
            )


def _keeps_out(workflow: Workflow, call: Call, facts: Mapping[str, str]) -> bool:
    """Whether the start is surely skipped where `facts` hold, by a condition of its own or of a job it waits for."""
    jobs = [
        one
        for one in workflow.jobs.values()
        if one.id == call.job or workflow.waits_for(workflow.jobs[call.job], one.id)
    ]
    conditions = [one.condition for one in jobs]
    if call.step is not None:
        conditions.append(call.step.condition)
    return any(keeps_out(condition, facts) for condition in conditions)


def _is_approved(workflow: Workflow, call: Call) -> bool:
    job = workflow.jobs[call.job]
    return call.allows_untrusted and (job.environment.given or job.node.get("with").get("environment").given)


def _clock(workflow: Workflow, repository: Repository) -> Iterator[Finding]:
    # The whole repository lacks one thing: said once, in the first file that rents.
    renting = [one for one in repository.checked_workflows if any(one.calls(*RENTING))]
    if repository.has_cleanup or not renting or renting[0] is not workflow:
        return
    first = next(workflow.calls(*RENTING))
    yield workflow.finding(
        NO_CLEANUP,
        "no workflow here runs cleanup on a schedule, which ends what a stop could not: add one",
        first.line,
    )


def _credentials(workflow: Workflow, repository: Repository) -> Iterator[Finding]:
    # A stop has an environment for its secrets alone, so the repository has none for a clean-up either.
    kept = _has_environment(repository, Mode.STOP, Mode.GPU_JOB)
    if not workflow.is_scheduled or not kept or _has_environment(repository, Mode.CLEANUP):
        return
    for call in workflow.calls(Mode.CLEANUP):
        yield workflow.finding(
            CLEANUP_ENVIRONMENT,
            "stops here take their secrets from an environment and this clean-up has none, so it may find no "
            "credentials and skip: give it an environment without reviewers, such as the stops'",
            call.line,
        )


def _has_environment(repository: Repository, *modes: Mode) -> bool:
    """Whether one of these calls has an environment of its own; the one that a start of `gpu-job.yml` has is none."""
    name = "stop-environment" if Mode.STOP in modes else "environment"
    jobs = [one.jobs[call.job] for one in repository.workflows for call in one.calls(*modes)]
    return any(job.environment.given or job.node.get("with").get(name).given for job in jobs)


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
