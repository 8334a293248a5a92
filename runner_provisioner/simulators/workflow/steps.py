"""One job on its runner: which step comes next, with what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.expressions import Scope, holds, render, resolve
from runner_provisioner.simulators.workflow.model import JobSpec, StepSpec
from runner_provisioner.simulators.workflow.plan import StepPlan, StepProgress, StepResult
from runner_provisioner.simulators.workflow.values import Value, is_primitive, to_number, to_string, truthy

# docs: jobs.<job_id>.steps[*].shell; a step without one is not given pipefail
_SHELLS = {
    "": "bash -e {0}",
    "bash": "bash --noprofile --norc -eo pipefail {0}",
    "sh": "sh -e {0}",
    "python": "python {0}",
}
_GITHUB_VARIABLES = (
    "action actor actor_id api_url base_ref event_name event_path graphql_url head_ref job ref ref_name ref_protected "
    "ref_type repository repository_id repository_owner repository_owner_id retention_days run_attempt run_id "
    "run_number server_url sha triggering_actor workflow workflow_ref workflow_sha workspace"
)


def environment_of(github: Mapping[str, Value], runner: Mapping[str, Value]) -> dict[str, str]:
    """The variables that every step gets, as far as the two contexts tell them."""
    variables = {"CI": "true", "GITHUB_ACTIONS": "true"}
    for name in _GITHUB_VARIABLES.split():
        if is_primitive(github.get(name)) and github.get(name) is not None:
            variables[f"GITHUB_{name.upper()}"] = to_string(github[name])
    for name, value in runner.items():
        if is_primitive(value) and name != "workspace":
            variables[f"RUNNER_{name.upper()}"] = to_string(value)
    return variables


def resolved_env(raw: Value, scope: Scope) -> dict[str, str]:
    """An `env` mapping with its expressions evaluated."""
    value = resolve(raw, scope)
    if not isinstance(value, Mapping | None):
        raise WorkflowError("'env' is no mapping")
    return {to_string(name): to_string(element) for name, element in (value or {}).items()}


class JobRun:
    """The steps of one job, in order.

    `contexts` holds github, needs, strategy, matrix, vars, secrets and inputs; `runner` is the runner context, of which
    `workspace` becomes github.workspace. Raises WorkflowError when the job cannot be played.
    """

    def __init__(
        self, spec: JobSpec, *, workflow_env: Value, contexts: Mapping[str, Value], runner: Mapping[str, Value]
    ) -> None:
        """Check the job and evaluate its `env`."""
        spec.check_playable()
        self.spec = spec
        self.cancelled = False
        self.problems: list[str] = []
        self.steps = [StepProgress(name=step.title, number=step.number) for step in spec.steps]
        self._runner = {name: value for name, value in runner.items() if name != "workspace"}
        github = {**contexts["github"], "job": spec.base}
        if "workspace" in runner:
            github["workspace"] = runner["workspace"]
        self._contexts = {**contexts, "github": github}
        self._failed = False
        self._results: dict[str, dict[str, Any]] = {}
        self._path: list[str] = []
        self._current: StepPlan | None = None
        self._begun = 0
        try:
            self._env = self._initial_env(workflow_env)
        except WorkflowError as error:
            raise error.at(job=spec.id) from None

    def _initial_env(self, workflow_env: Value) -> dict[str, str]:
        outer = {name: self._contexts[name] for name in ("github", "secrets", "inputs", "vars")}
        return resolved_env(workflow_env, Scope(contexts=outer)) | resolved_env(
            self.spec.env, Scope(contexts=self._contexts)
        )

    @property
    def status(self) -> str:
        """`job.status`: success, failure or cancelled so far."""
        if self.cancelled:
            return "cancelled"
        return "failure" if self._failed else "success"

    def scope(self, env: Mapping[str, str] | None = None) -> Scope:
        """What expressions of a step see."""
        contexts = {
            **self._contexts,
            "env": self._env if env is None else env,
            "job": {"status": self.status},
            "runner": self._runner,
            "steps": self._results,
        }
        status = {name: self.status == word for name, word in _STATUS_WORDS.items()} | {"always": True}
        return Scope(contexts=contexts, status=status)

    def next_step(self, previous: StepResult | None) -> StepPlan | None:
        """Take how the current step ended and give the next one; the same again when nothing is told."""
        if self._current is not None:
            if previous is None:
                return self._current
            self._record(self._current, previous)
        while self._begun < len(self.spec.steps):
            step = self.spec.steps[self._begun]
            self._begun += 1
            plan = self._planned(step)
            if plan:
                self._current = plan
                self.steps[step.number - 1].status = "in_progress"
                return plan
        return None

    def _record(self, plan: StepPlan, result: StepResult) -> None:
        self._current = None
        self._env.update(result.env)
        self._path = [*reversed(result.path), *self._path]
        forgiven = result.outcome == "failure" and plan.continue_on_error
        conclusion = "success" if forgiven else result.outcome
        self._conclude(self.spec.steps[plan.number - 1], conclusion, outcome=result.outcome, outputs=result.outputs)

    def _conclude(
        self, step: StepSpec, conclusion: str, *, outcome: str | None = None, outputs: Mapping[str, str] | None = None
    ) -> None:
        progress = self.steps[step.number - 1]
        progress.status, progress.conclusion = "completed", conclusion
        self._failed = self._failed or conclusion in ("failure", "cancelled")
        if step.id:
            self._results[step.id] = {
                "outputs": dict(outputs or {}),
                "outcome": outcome or conclusion,
                "conclusion": conclusion,
            }

    def _planned(self, step: StepSpec) -> StepPlan | None:
        """The step when its `if` holds; a step that cannot be evaluated has failed, as at GitHub."""
        try:
            env = self._env | resolved_env(step.env, self.scope())
            scope = self.scope(env)
            if not holds(step.condition, scope):
                self._conclude(step, "skipped")
                return None
            return self._plan(step, env, scope)
        except WorkflowError as error:
            self.problems.append(str(error.at(job=self.spec.id, step=step.title)))
            self._conclude(step, "failure")
            return None

    def _plan(self, step: StepSpec, env: Mapping[str, str], scope: Scope) -> StepPlan:
        # the expressions of defaults.run see the job's env as well
        directory = step.working_directory or self.spec.defaults.get("working-directory")
        self.steps[step.number - 1].name = name = render(step.title, scope)
        variables = environment_of(scope.contexts["github"], self._runner)
        return StepPlan(
            number=step.number,
            name=name,
            kind="checkout" if step.is_checkout else "run",
            script=render(step.run or "", scope),
            shell=_shell(render(step.shell or self.spec.defaults.get("shell"), scope)),
            env={**env, **variables},
            working_directory=render(directory, scope) or None,
            timeout_minutes=minutes(step.timeout_minutes, scope),
            continue_on_error=truthy(resolve(step.continue_on_error, scope)),
            path=tuple(self._path),
            inputs={key: render(value, scope) for key, value in step.inputs.items()},
        )

    def outputs(self) -> dict[str, str]:
        """The job's outputs; one that cannot be evaluated fails the job."""
        found: dict[str, str] = {}
        for name, value in self.spec.outputs.items():
            try:
                found[name] = render(value, self.scope())
            except WorkflowError as error:
                self._failed = True
                self.problems.append(str(error.at(job=self.spec.id)))
        return found

    def close(self, conclusion: str) -> None:
        """Nothing more will run: the current step ends so, what never began is skipped."""
        for progress in self.steps:
            if progress.status != "completed":
                progress.conclusion = conclusion if progress.status == "in_progress" else "skipped"
                progress.status = "completed"
        self._current = None
        self._begun = len(self.spec.steps)

    @property
    def unfinished(self) -> bool:
        """Whether a step runs or is still to come."""
        return self._current is not None or self._begun < len(self.spec.steps)


_STATUS_WORDS = {"success": "success", "failure": "failure", "cancelled": "cancelled"}


def minutes(raw: Value, scope: Scope) -> float | None:
    """`timeout-minutes` as a number; None when there is none."""
    value = resolve(raw, scope)
    if value is None or value == "":
        return None
    number = to_number(value)
    if not number > 0:
        raise WorkflowError(f"timeout-minutes is no positive number: {to_string(value)}")
    return number


def _shell(name: str) -> str:
    if name in _SHELLS:
        return _SHELLS[name]
    if "{0}" in name:
        return name
    raise WorkflowError(f"the shell '{name}' is not supported")
