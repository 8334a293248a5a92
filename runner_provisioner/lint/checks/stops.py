"""Whether everything that is started is also stopped, and whether anybody would notice if not."""

from __future__ import annotations

from collections.abc import Iterator

from runner_provisioner.lint.expressions import mentions, runs_always, same
from runner_provisioner.lint.findings import (
    NO_STOP,
    STOP_ENVIRONMENT,
    STOP_KEY,
    STOP_NOT_ALWAYS,
    STOP_SWALLOWED,
    STOP_TOO_EARLY,
    Finding,
)
from runner_provisioner.lint.model import Call, Job, Mode, Repository, Step, Workflow


def check(workflow: Workflow, _repository: Repository) -> Iterator[Finding]:
    """All checks of stops."""
    starts, stops = list(workflow.calls(Mode.START)), list(workflow.calls(Mode.STOP))
    lost = [stop for stop in stops if starts and not any(stop.fits(start) for start in starts)]
    yield from (_wrong_key(workflow, stop, starts) for stop in lost)
    spare = len([stop for stop in lost if not _in_start_job(workflow, stop)])
    # Two starts with one key are a fault of their own, and one stop ends both.
    for start in {start.key or place: start for place, start in reversed(list(enumerate(starts)))}.values():
        able = [stop for stop in stops if stop.fits(start) and _comes_after(workflow, start, stop)]
        if able:
            yield from _dependable(workflow, start, able)
        elif spare:
            spare -= 1  # its stop is the one with the wrong key: one finding is enough
        elif not _hands_over(workflow):
            yield _no_stop(workflow, start, stops)
    for stop in stops:
        yield from _elsewhere(workflow, stop, [start for start in starts if stop.fits(start)])
        yield from _noticed(workflow, stop)
        yield from _leg(workflow, stop)
    yield from _environments(workflow)


def _in_start_job(workflow: Workflow, stop: Call) -> bool:
    return any(call.mode is Mode.START for call in workflow.jobs[stop.job].calls)


def _comes_after(workflow: Workflow, start: Call, stop: Call) -> bool:
    """Whether a stop can be the one that ends a start: not the settling of the start itself, not on the machine."""
    if stop.job != start.job:
        return all(stop.job != gpu.job.id for gpu in workflow.gpu_jobs)
    if workflow.users(start) or start.step is None or stop.step is None:
        return False
    # A condition on how a step ended: it settles a start that failed, and is skipped after one that did not.
    return start.step.index < stop.step.index and "steps." not in stop.step.condition


def _dependable(workflow: Workflow, start: Call, stops: list[Call]) -> Iterator[Finding]:
    always = [stop for stop in stops if _runs_always(workflow, stop, start)]
    if not always:
        yield workflow.finding(
            STOP_NOT_ALWAYS,
            f"this stop of key '{start.key or '?'}' is skipped when something before it failed or was cancelled, and "
            "the machine bills on: give it 'if: always()'",
            stops[0].line,
        )
    for stop in always or stops:
        if stop.job != start.job:
            yield from _waits(workflow, start, stop)


def _runs_always(workflow: Workflow, stop: Call, start: Call) -> bool:
    job = workflow.jobs[stop.job]
    if stop.job != start.job and not _job_runs_always(job):
        return False
    condition = stop.step.condition if stop.step is not None else ""
    return runs_always(condition) or (not condition and stop.job != start.job and not _may_be_skipped(job, stop.step))


def _may_be_skipped(job: Job, step: Step | None) -> bool:
    """Whether a step without a condition comes after one that can fail."""
    before = job.steps[: step.index] if step is not None else ()
    return any(one.node.get("continue-on-error").text.lower() != "true" for one in before)


def _job_runs_always(job: Job) -> bool:
    return runs_always(job.condition) or (not job.condition and not job.needs)


def _waits(workflow: Workflow, start: Call, stop: Call) -> Iterator[Finding]:
    job = workflow.jobs[stop.job]
    users = [one.id for one in workflow.users(start)]
    missing = [name for name in users or [start.job] if not workflow.waits_for(job, name)]
    if missing:
        names = ", ".join(f"'{name}'" for name in missing)
        wanted = ", ".join(dict.fromkeys([start.job, *users]))
        yield workflow.finding(
            STOP_TOO_EARLY,
            f"job '{job.id}' stops without waiting for {names}: it would take the machine away too early, or find "
            f"nothing to stop yet; write 'needs: [{wanted}]'",
            stop.line,
        )


def _no_stop(workflow: Workflow, start: Call, stops: list[Call]) -> Finding:
    inside = [stop for stop in stops if any(stop.job == gpu.job.id for gpu in workflow.gpu_jobs)]
    why = "is stopped only from the machine itself" if inside else "is stopped nowhere in this workflow"
    return workflow.finding(
        NO_STOP,
        f"what is started with key '{start.key or '?'}' {why}, and bills until its lifetime ends: add a job on a "
        "hosted runner that stops this key, with 'if: always()'",
        start.line,
    )


def _hands_over(workflow: Workflow) -> bool:
    """Whether the workflow is called by another one, which gets the label and is checked for the stop."""
    return workflow.triggers.keys() == {"workflow_call"} and workflow.triggers["workflow_call"].get("outputs").given


def _wrong_key(workflow: Workflow, stop: Call, starts: list[Call]) -> Finding:
    keys = ", ".join(dict.fromkeys(f"'{start.key}'" for start in starts))
    return workflow.finding(
        STOP_KEY,
        f"this stop has key '{stop.key}', and what is started here has {keys}: give both the same text",
        stop.line,
    )


def _elsewhere(workflow: Workflow, stop: Call, starts: list[Call]) -> Iterator[Finding]:
    """What has the right key and looks in another place."""
    others = [stop.differs(start) for start in starts]
    if others and all(others):
        name = others[0]
        yield workflow.finding(
            STOP_KEY,
            f"this stop has {_said(stop, name)}, and what is started here has {_said(starts[0], name)}, so nothing "
            f"would be found: give both the same {name}",
            stop.line,
        )


def _said(call: Call, name: str) -> str:
    options = dict(call.options or ())
    if name not in options:
        return f"no {name}"
    return f"{name} '{options[name]}'" if options[name] is not None else f"a {name}"


def _leg(workflow: Workflow, stop: Call) -> Iterator[Finding]:
    if stop.key and mentions(stop.key, "matrix") and not workflow.jobs[stop.job].has_matrix:
        yield workflow.finding(
            STOP_KEY,
            f"the key '{stop.key}' is empty in job '{stop.job}', which has no matrix: give the job the start's matrix",
            stop.line,
        )


def _noticed(workflow: Workflow, stop: Call) -> Iterator[Finding]:
    job = workflow.jobs[stop.job]
    goes_on = [job.node.get("continue-on-error")]
    if stop.step is not None:
        goes_on.append(stop.step.node.get("continue-on-error"))
    tolerant = [node for node in goes_on if node.text and node.text.lower() != "false"]
    if tolerant or stop.swallowed:
        yield workflow.finding(
            STOP_SWALLOWED,
            "nobody would notice that this stop failed and the machine bills on: let its failure fail the job (no "
            "continue-on-error, no '|| true', no pipe without pipefail)",
            tolerant[0].line if tolerant else stop.line,
        )


def _environments(workflow: Workflow) -> Iterator[Finding]:
    named = [workflow.jobs[call.job].environment.text for call in workflow.calls(Mode.START)]
    for job in workflow.jobs.values():
        modes = {call.mode for call in job.calls}
        used = job.environment.text
        if Mode.STOP in modes and Mode.START not in modes and used and any(same(used, name) for name in named):
            yield _same_environment(workflow, job.environment.text, job.environment.line)
        inputs = job.node.get("with")
        name = inputs.get("stop-environment")
        if Mode.GPU_JOB in modes and name.text and same(name.text, inputs.get("environment").text):
            yield _same_environment(workflow, name.text, name.line)


def _same_environment(workflow: Workflow, name: str, line: int) -> Finding:
    return workflow.finding(
        STOP_ENVIRONMENT,
        f"the stop uses the start's environment '{name}': with reviewers or a wait timer the machine bills while the "
        "stop waits; give the stop an environment without them, or the repository's secrets",
        line,
    )
