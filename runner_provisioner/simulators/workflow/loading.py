"""Reading a workflow file, with everything checked that can be known before a job runs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.expressions import bare, calls
from runner_provisioner.simulators.workflow.matrix import expand, title
from runner_provisioner.simulators.workflow.model import JobSpec, StepSpec, Workflow, functions_in
from runner_provisioner.simulators.workflow.reading import read_yaml
from runner_provisioner.simulators.workflow.values import Value, to_string

_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WORKFLOW_KEYS = "name run-name on permissions env defaults concurrency jobs"
_JOB_KEYS = (
    "name needs permissions environment concurrency outputs env defaults if runs-on steps timeout-minutes strategy "
    "continue-on-error container services uses with secrets snapshot"
)
_STEP_KEYS = "id name if run uses with env shell working-directory continue-on-error timeout-minutes"


def load_workflow(text: str) -> Workflow:
    """Read a workflow file.

    Raises WorkflowError, naming job and step, for bad YAML, unknown keys, unknown needs and bad expressions. What
    merely cannot be played here is left for JobSpec.check_playable.
    """
    content = _mapping(read_yaml(text), "the workflow", _WORKFLOW_KEYS)
    jobs = _mapping(content.get("jobs"), "jobs")
    if not jobs:
        raise WorkflowError("the workflow has no jobs")
    functions_in(content.get("env"))
    defaults = content.get("defaults")
    specs = [spec for job_id, raw in jobs.items() for spec in _job(job_id, raw, defaults)]
    workflow = Workflow(
        name=to_string(content.get("name")) or "workflow",
        env=content.get("env"),
        jobs={spec.id: spec for spec in specs},
        triggers=content.get("on"),
    )
    if len(workflow.jobs) != len(specs):
        raise WorkflowError("two legs of a matrix are alike")
    _check_needs(workflow, set(jobs))
    return workflow


def _mapping(value: Value, place: str, known: str | None = None) -> dict[str, Value]:
    if not isinstance(value, Mapping):
        raise WorkflowError(f"{place} is no mapping")
    for key in value:
        if not isinstance(key, str) or (known is not None and key not in known.split()):
            raise WorkflowError(f"{place} has no '{to_string(key)}'")
    return dict(value)


def _job(job_id: str, raw: Value, defaults: Value) -> list[JobSpec]:
    try:
        return _legs(job_id, _mapping(raw, "the job", _JOB_KEYS), defaults)
    except WorkflowError as error:
        raise error.at(job=job_id) from None


def _legs(job_id: str, raw: dict[str, Value], defaults: Value) -> list[JobSpec]:
    if not _ID.fullmatch(job_id):
        raise WorkflowError("a job id holds letters, digits, - and _ only")
    for key, value in raw.items():
        if key not in ("steps", "if"):
            functions_in(value)
    obstacles = _obstacles(raw)
    strategy = _mapping(raw.get("strategy") or {}, "strategy", "matrix fail-fast max-parallel")
    matrix = strategy.get("matrix")
    if matrix is None or _has_expression(matrix):
        legs: list[tuple[str, Mapping[str, Value]]] = [(job_id, {})]
        obstacles += ("a matrix made by an expression is not supported",) if matrix is not None else ()
    else:
        legs = [(title(job_id, leg), leg) for leg in expand(matrix)]
    return [_spec(job_id, leg_id, leg, raw, defaults, obstacles) for leg_id, leg in legs]


def _obstacles(raw: Mapping[str, Value]) -> tuple[str, ...]:
    if "uses" in raw:
        return (f"a reusable workflow ('uses: {to_string(raw['uses'])}') is not supported",)
    if "runs-on" not in raw:
        raise WorkflowError("it has no runs-on")
    return tuple(f"'{key}' is not supported" for key in ("container", "services") if raw.get(key))


def _spec(
    base: str,
    leg_id: str,
    leg: Mapping[str, Value],
    raw: Mapping[str, Value],
    defaults: Value,
    obstacles: tuple[str, ...],
) -> JobSpec:
    return JobSpec(
        id=leg_id,
        base=base,
        name=raw.get("name"),
        needs=tuple(_names(raw.get("needs"))),
        runs_on=raw.get("runs-on"),
        condition=_condition(raw.get("if")),
        env=raw.get("env"),
        outputs=_mapping(raw.get("outputs") or {}, "outputs"),
        steps=tuple(_steps(raw.get("steps"), needed="uses" not in raw)),
        defaults=_run_defaults(defaults) | _run_defaults(raw.get("defaults")),
        timeout_minutes=raw.get("timeout-minutes"),
        continue_on_error=raw.get("continue-on-error"),
        matrix=leg,
        strategy=dict(raw.get("strategy") or {}),
        obstacles=obstacles,
    )


def _run_defaults(defaults: Value) -> dict[str, Value]:
    outer = _mapping(defaults or {}, "defaults", "run")
    return _mapping(outer.get("run") or {}, "defaults.run", "shell working-directory")


def _names(value: Value) -> list[str]:
    names = value if isinstance(value, list) else [] if value is None else [value]
    return [to_string(name) for name in names]


def _steps(raw: Value, *, needed: bool) -> list[StepSpec]:
    if not isinstance(raw, list) or not raw:
        if needed:
            raise WorkflowError("it has no steps")
        return []
    steps = [_step(number, step) for number, step in enumerate(raw, 1)]
    named = [step.id.lower() for step in steps if step.id]
    for name in named:
        if named.count(name) > 1:
            raise WorkflowError(f"two steps have the id '{name}'")
    return steps


def _step(number: int, raw: Value) -> StepSpec:
    try:
        return _step_spec(number, _mapping(raw, "the step", _STEP_KEYS))
    except WorkflowError as error:
        name = to_string(raw.get("name") or raw.get("id")) if isinstance(raw, Mapping) else ""
        raise error.at(step=name or f"number {number}") from None


def _step_spec(number: int, raw: dict[str, Value]) -> StepSpec:
    if ("run" in raw) == ("uses" in raw):
        raise WorkflowError("a step has either 'run' or 'uses'")
    for key, value in raw.items():
        if key != "if":
            functions_in(value)
    if raw.get("id") is not None and not _ID.fullmatch(to_string(raw["id"])):
        raise WorkflowError("a step id holds letters, digits, - and _ only")
    return StepSpec(
        number=number,
        id=_text(raw, "id"),
        name=_text(raw, "name"),
        condition=_condition(raw.get("if")),
        run=_text(raw, "run"),
        uses=_text(raw, "uses"),
        inputs=_mapping(raw.get("with") or {}, "with"),
        env=raw.get("env"),
        shell=_text(raw, "shell"),
        working_directory=_text(raw, "working-directory"),
        timeout_minutes=raw.get("timeout-minutes"),
        continue_on_error=raw.get("continue-on-error"),
    )


def _text(raw: Mapping[str, Value], key: str) -> str | None:
    value = raw.get(key)
    if isinstance(value, (list, Mapping)):
        raise WorkflowError(f"'{key}' is no text")
    if key not in raw:
        return None
    if key in ("run", "uses") and value is None:
        raise WorkflowError(f"'{key}' is empty")
    return to_string(value)


def _condition(value: Value) -> Value:
    if value is not None:
        calls(bare(value) or "true")
    return value


def _has_expression(value: Value) -> bool:
    if isinstance(value, Mapping):
        return any(_has_expression(element) for element in value.values())
    if isinstance(value, list):
        return any(_has_expression(element) for element in value)
    return isinstance(value, str) and "${{" in value


def _check_needs(workflow: Workflow, known: set[str]) -> None:
    needs = {job.base: job.needs for job in workflow.jobs.values()}
    for base, wanted in needs.items():
        for name in wanted:
            if name not in known:
                raise WorkflowError(f"it needs '{name}', which is no job", job=base)
    done: set[str] = set()
    while waiting := [base for base in needs if base not in done]:
        free = [base for base in waiting if done.issuperset(needs[base])]
        if not free:
            raise WorkflowError(f"it needs itself ({' -> '.join(waiting)})", job=waiting[0])
        done.update(free)
