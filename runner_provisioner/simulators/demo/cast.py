"""Who plays which job of a workflow."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner_provisioner.simulators.workflow import JobSpec, Workflow, WorkflowError
from runner_provisioner.simulators.workflow.expressions import needed_outputs, pieces
from runner_provisioner.simulators.workflow.values import to_string

KEY_LENGTH = 24
_STOP = re.compile(r"\brunner-provisioner\s+stop\b")
_ALPHABET = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRole:
    """A job that rents a pod, and the one GPU job that runs there; `key` is what its pod is named after."""

    job: str
    key: str
    gpu_job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The jobs by who plays them: `start` runs, the simulated pod runs, `stop` runs, nobody does."""

    starts: tuple[StartRole, ...]
    stops: tuple[str, ...]
    hosted: tuple[str, ...]

    @property
    def gpu_jobs(self) -> tuple[str, ...]:
        """The jobs that really run, by id."""
        return tuple(role.gpu_job for role in self.starts)


def cast(workflow: Workflow) -> Cast:
    """Find the start, GPU and stop jobs of a workflow.

    A job whose `runs-on` takes an output of another one is a GPU job, and that other one is its start job. Raises
    WorkflowError, by name, when there is no GPU job, when two want one start's label (an ephemeral runner takes one
    job), and for everything in a GPU job that cannot be played.
    """
    starts: dict[str, StartRole] = {}
    for spec in workflow.jobs.values():
        if not (start := _start_of(spec, workflow)):
            continue
        spec.check_playable()
        if start in starts:
            other = starts[start].gpu_job
            raise WorkflowError(
                f"it runs on the label of '{start}', and so does '{other}': an ephemeral runner takes one job, "
                "give each a start job of its own",
                job=spec.id,
            )
        starts[start] = StartRole(job=start, key=_key(start, starts), gpu_job=spec.id)
    if not starts:
        raise WorkflowError(
            "no job runs on a rented GPU: write 'runs-on: ${{ needs.START.outputs.label }}', START being the job that "
            "calls runner-provisioner start"
        )
    return _with_others(workflow, starts)


def _start_of(spec: JobSpec, workflow: Workflow) -> str | None:
    """The job whose label this one waits for; None for a hosted job."""
    wanted = dict.fromkeys(_asked(spec.runs_on))
    if not wanted:
        return None
    if len(wanted) > 1:
        raise WorkflowError("its runs-on takes more than one job's output", job=spec.id)
    start, output = next(iter(wanted))
    if start not in spec.needs:
        raise WorkflowError(f"its runs-on takes an output of '{start}', which it does not need", job=spec.id)
    legs = workflow.legs(start)
    if len(legs) > 1:
        raise WorkflowError("it starts a GPU and has a matrix: its legs would overwrite each other's label", job=start)
    if output.lower() not in (name.lower() for name in legs[0].outputs):
        raise WorkflowError(f"'{spec.id}' takes its output '{output}', which it does not have", job=start)
    if _asked(legs[0].runs_on):
        raise WorkflowError("it starts a GPU and runs on one: start jobs run on GitHub's machines", job=start)
    return start


def _asked(runs_on: object) -> list[tuple[str, str]]:
    if isinstance(runs_on, dict):
        return [found for element in runs_on.values() for found in _asked(element)]
    if isinstance(runs_on, list):
        return [found for element in runs_on for found in _asked(element)]
    return needed_outputs(to_string(runs_on))


def _key(job: str, taken: dict[str, StartRole]) -> str:
    """The job's id as a key: lower case letters, digits and inner dashes, each once."""
    used = {role.key for role in taken.values()}
    word = _ALPHABET.sub("-", job.lower()).strip("-")[:KEY_LENGTH].strip("-") or "start"
    candidates = [word, *(f"{word}-{number}" for number in range(2, len(used) + 3))]
    return next(key for key in candidates if key not in used)


def _with_others(workflow: Workflow, starts: dict[str, StartRole]) -> Cast:
    playing = {*starts, *(workflow.jobs[role.gpu_job].base for role in starts.values())}
    others = [spec for spec in workflow.jobs.values() if spec.base not in playing]
    stops = dict.fromkeys(spec.base for spec in others if _stops(spec))
    hosted = dict.fromkeys(spec.base for spec in others if spec.base not in stops)
    return Cast(starts=tuple(starts.values()), stops=tuple(stops), hosted=tuple(hosted))


def _stops(spec: JobSpec) -> bool:
    """Whether a job ends pods: by the command, or by an action that is told to stop."""
    words = {to_string(value).lower() for step in spec.steps if step.uses for value in step.inputs.values()}
    return "stop" in words or any(_STOP.search(_plain(step.run)) for step in spec.steps if step.run)


def _plain(script: str) -> str:
    return "".join(part for is_code, part in pieces(script) if not is_code)
