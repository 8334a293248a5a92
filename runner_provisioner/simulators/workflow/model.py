"""A workflow file as jobs and steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.expressions import bare, calls, pieces
from runner_provisioner.simulators.workflow.values import Value

_CHECKOUT = re.compile(r"actions/checkout@\S+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One step as written; values may hold expressions."""

    number: int
    id: str | None
    name: str | None
    condition: Value
    run: str | None
    uses: str | None
    inputs: Mapping[str, Value]
    env: Value
    shell: str | None
    working_directory: str | None
    timeout_minutes: Value
    continue_on_error: Value

    @property
    def title(self) -> str:
        """What the step is called in messages."""
        if self.name:
            return self.name
        return f"Run {(self.uses or (self.run or '').strip().partition(chr(10))[0])}"

    @property
    def is_checkout(self) -> bool:
        """Whether this is `actions/checkout`, at whatever version."""
        return self.uses is not None and _CHECKOUT.fullmatch(self.uses.strip()) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One job, or one leg of a job with a matrix, as written; values may hold expressions.

    `id` is the id in the file, followed by ` (a, b)` for a leg; `base` is the id in the file alone.
    """

    id: str
    base: str
    name: Value
    needs: tuple[str, ...]
    runs_on: Value
    condition: Value
    env: Value
    outputs: Mapping[str, Value]
    steps: tuple[StepSpec, ...]
    defaults: Mapping[str, Value]
    timeout_minutes: Value
    continue_on_error: Value
    matrix: Mapping[str, Value] = field(default_factory=dict)
    strategy: Mapping[str, Value] = field(default_factory=dict)
    obstacles: tuple[str, ...] = ()

    def check_playable(self) -> None:
        """Raise WorkflowError, with the name of what is in the way, when the job cannot be run here."""
        for obstacle in self.obstacles:
            raise WorkflowError(obstacle, job=self.id)
        for step in self.steps:
            if step.uses is not None and not step.is_checkout:
                raise WorkflowError(
                    f"'uses: {step.uses}' is not supported (only run steps and actions/checkout are)",
                    job=self.id,
                    step=step.title,
                )
            _refuse_hash_files(self, step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow: its jobs by id, a matrix already expanded, in the order of the file."""

    name: str
    env: Value
    jobs: Mapping[str, JobSpec]
    triggers: Value = None

    def legs(self, base: str) -> list[JobSpec]:
        """The jobs that a job id of the file stands for."""
        return [job for job in self.jobs.values() if job.base == base]


def _refuse_hash_files(job: JobSpec, step: StepSpec) -> None:
    texts = [step.run, step.env, step.inputs, step.name, step.working_directory, job.env, job.outputs]
    if "hashfiles" in (functions_in(texts) | (calls(bare(step.condition)) if step.condition else set())):
        raise WorkflowError("hashFiles() is not supported here", job=job.id, step=step.title)


def functions_in(value: Value) -> set[str]:
    """Parse every expression in a YAML value; the functions they call, in lower case."""
    if isinstance(value, Mapping):
        return {name for element in value.values() for name in functions_in(element)}
    if isinstance(value, list):
        return {name for element in value for name in functions_in(element)}
    if not isinstance(value, str):
        return set()
    return {name for is_code, part in pieces(value) if is_code for name in calls(part)}
