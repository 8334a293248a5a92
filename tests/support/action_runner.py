"""A small runner of workflow steps and composite actions, from their YAML, as GitHub's runner does it.

It knows `run` steps, composite actions of the project (`uses: ./`, or its slug) and stand-ins for a few actions of
others. What it does not know is a WorkflowError by name.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from support.action_files import StepFiles
from support.action_log import Log
from support.action_process import TRACKING, Script, orphans

from runner_provisioner.simulators.workflow import WorkflowError
from runner_provisioner.simulators.workflow.expressions import Scope, holds, render, resolve
from runner_provisioner.simulators.workflow.model import StepSpec
from runner_provisioner.simulators.workflow.reading import read_yaml
from runner_provisioner.simulators.workflow.steps import environment_of, resolved_env
from runner_provisioner.simulators.workflow.values import Value, to_string, truthy

_STEP_KEYS = "name id if run env continue-on-error working-directory shell uses with timeout-minutes"
# The schema of an action has neither timeouts nor the rest (Runner.Worker/action_yaml.json).
_ACTION_STEP_KEYS = "name id if run env continue-on-error working-directory shell uses with"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """How one step ended."""

    name: str
    outcome: str
    conclusion: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    code: int | None = None
    signals: tuple[str, ...] = ()
    seconds: float = 0.0
    steps: tuple[StepEnd, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeAction:
    """An action.yml that was read."""

    folder: Path
    inputs: Mapping[str, Mapping[str, Value]]
    outputs: Mapping[str, Mapping[str, Value]]
    steps: tuple[StepSpec, ...]

    @classmethod
    def load(cls, folder: Path, *, text: str | None = None) -> CompositeAction:
        """Read it; WorkflowError for what GitHub would refuse."""
        raw: Any = read_yaml(text if text is not None else (folder / "action.yml").read_text("utf-8"))
        if raw["runs"]["using"] != "composite":
            raise WorkflowError("the action is no composite one")
        steps = tuple(step_of(number, one, in_action=True) for number, one in enumerate(raw["runs"]["steps"], 1))
        return cls(folder=folder, inputs=raw.get("inputs") or {}, outputs=raw.get("outputs") or {}, steps=steps)


def step_of(number: int, raw: Mapping[str, Value], *, in_action: bool = False) -> StepSpec:
    """One step as written; WorkflowError for what has no place in it."""
    known = (_ACTION_STEP_KEYS if in_action else _STEP_KEYS).split()
    unknown = [key for key in raw if key not in known]
    if unknown or (in_action and "run" in raw and "shell" not in raw):
        raise WorkflowError(f"step {number}: {unknown or 'a run step of an action needs its shell'}")

    def text(key: str) -> str | None:
        return to_string(raw[key]) if key in raw else None

    return StepSpec(
        number=number,
        id=text("id"),
        name=text("name"),
        condition=raw.get("if"),
        run=text("run"),
        uses=text("uses"),
        inputs=raw.get("with") or {},
        env=raw.get("env"),
        shell=text("shell"),
        working_directory=text("working-directory"),
        timeout_minutes=raw.get("timeout-minutes"),
        continue_on_error=raw.get("continue-on-error"),
    )


@dataclass(kw_only=True)
class Frame:
    """The steps of one level: a job's, or those of an action inside it."""

    contexts: dict[str, Value]
    env: dict[str, str]
    embedded: bool = False
    deadline: float | None = None
    failed: bool = False
    steps: dict[str, dict[str, Value]] = field(default_factory=dict)

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline


StandIn = Callable[["HostedJob", Mapping[str, str]], Mapping[str, str]]


@dataclass(kw_only=True)
class HostedJob:
    """A job on a machine of GitHub's.

    `contexts` are those of the job (github, secrets, needs, matrix, inputs, vars, ...); `environ` is what the machine
    itself has. `ours` is the folder of the action that `./` and names ending in runner_provisioner mean; `changed` is
    another text for its action.yml.
    """

    folder: Path
    contexts: Mapping[str, Value] = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    ours: Path
    env: Value = None
    changed: str | None = None
    stand_ins: Mapping[str, StandIn] = field(default_factory=dict)
    log: Log = field(default_factory=Log)
    ended: list[StepEnd] = field(default_factory=list)
    orphans: dict[int, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the machine's folders and hide the secrets."""
        self.mark = f"github_{uuid.uuid4()}"
        self._cancelled = threading.Event()
        for name in ("temp", "workspace", "home"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.temp, self.workspace = self.folder / "temp", self.folder / "workspace"
        for value in (self.contexts.get("secrets") or {}).values():
            self.log.mask(str(value))

    # --- the job -----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancel the run, from whatever thread."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether that was done."""
        return self._cancelled.is_set()

    def run(self, steps: Sequence[StepSpec | Mapping[str, Value]]) -> str:
        """Run the steps; the job's conclusion. What they leave running is noted and killed, as GitHub does."""
        specs = [one if isinstance(one, StepSpec) else step_of(number, one) for number, one in enumerate(steps, 1)]
        contexts: dict[str, Value] = {name: {} for name in ("needs", "matrix", "strategy", "vars", "inputs", "secrets")}
        runner = {"name": "GitHub Actions 1", "os": "Linux", "arch": "X64", "temp": str(self.temp)}
        github = {**(self.contexts.get("github") or {}), "workspace": str(self.workspace)}
        contexts |= {**self.contexts, "github": github, "runner": runner}
        env = resolved_env(self.env, Scope(contexts=contexts))
        self.frame = Frame(contexts=contexts, env=env)
        self.ended = self._run_steps(specs, self.frame)
        self.orphans = orphans(self.mark)
        for number in self.orphans:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return self._status(self.frame)

    def outputs(self, wanted: Mapping[str, Value]) -> dict[str, str]:
        """The job's outputs; one that holds a masked value is left out, as at GitHub."""
        scope = self._scope(self.frame, self.frame.env)
        found = {}
        for name, value in wanted.items():
            text = render(value, scope)
            if self.log.hides(text):
                self.log.annotate("warning", f"Skip output '{name}' since it may contain secret.")
            else:
                found[name] = text
        return found

    @property
    def summary(self) -> str:
        """The pages of all steps, masked."""
        return self.log.masked("\n".join(text for one in self.ended for text in _summaries(one)))

    def step(self, name: str) -> StepEnd:
        """How a step ended, in whatever action it is."""
        return next(one for one in _flat(self.ended) if one.name == name)

    # --- steps -------------------------------------------------------------------------------------------------------

    def _status(self, frame: Frame) -> str:
        if self.cancelled:
            return "cancelled"
        return "failure" if frame.failed else "success"

    def _scope(self, frame: Frame, env: Mapping[str, str]) -> Scope:
        status = self._status(frame)
        contexts = {**frame.contexts, "env": env, "steps": frame.steps, "job": {"status": status}}
        words = {word: status == word for word in ("success", "failure", "cancelled")}
        return Scope(contexts=contexts, status={**words, "always": True})

    def _run_steps(self, specs: Sequence[StepSpec], frame: Frame) -> list[StepEnd]:
        return [self._run_step(spec, frame) for spec in specs]

    def _run_step(self, spec: StepSpec, frame: Frame) -> StepEnd:
        try:
            env = frame.env | resolved_env(spec.env, self._scope(frame, frame.env))
            scope = self._scope(frame, env)
            if not holds(spec.condition, scope):
                end = StepEnd(name=spec.title, outcome="skipped", conclusion="skipped")
            elif frame.late:
                end = StepEnd(name=spec.title, outcome="failure", conclusion="failure")
            else:
                end = self._begin(spec, frame, env, scope)
        except WorkflowError as error:
            self.log.annotate("error", str(error))
            end = StepEnd(name=spec.title, outcome="failure", conclusion="failure")
        if end.outcome == "failure" and truthy(resolve(spec.continue_on_error, self._scope(frame, frame.env))):
            end = replace(end, conclusion="success")
        frame.failed = frame.failed or end.conclusion in ("failure", "cancelled")
        if spec.id:
            frame.steps[spec.id] = {
                "outputs": dict(end.outputs),
                "outcome": end.outcome,
                "conclusion": end.conclusion,
            }
        return end

    def _begin(self, spec: StepSpec, frame: Frame, env: dict[str, str], scope: Scope) -> StepEnd:
        minutes = resolve(spec.timeout_minutes, scope)
        deadline = frame.deadline
        if minutes is not None:
            own = time.monotonic() + float(minutes) * 60
            deadline = own if deadline is None else min(own, deadline)
        if spec.uses is None:
            return self._script(spec, frame, env, scope, deadline)
        inputs = {name: render(value, scope) for name, value in spec.inputs.items()}
        self.log.say(f"##[group]Run {spec.uses}")
        for name, value in inputs.items():
            self.log.say(f"  {name}: {value}")
        self.log.say("##[endgroup]")
        if _is_ours(spec.uses):
            return self._action(spec, frame, env, inputs, deadline)
        name = spec.uses.partition("@")[0].lower()
        if name not in self.stand_ins:
            raise WorkflowError(f"'uses: {spec.uses}' has no stand-in")
        outputs = self.stand_ins[name](self, inputs)
        return StepEnd(name=spec.title, outcome="success", conclusion="success", outputs=outputs)

    # --- an action ---------------------------------------------------------------------------------------------------

    def _action(
        self, spec: StepSpec, frame: Frame, env: dict[str, str], given: Mapping[str, str], deadline: float | None
    ) -> StepEnd:
        action = CompositeAction.load(self.ours, text=self.changed)
        unknown = sorted(set(given) - set(action.inputs))
        if unknown:
            valid = ", ".join(f"'{name}'" for name in action.inputs)
            self.log.annotate("warning", f"Unexpected input(s) '{', '.join(unknown)}', valid inputs are [{valid}]")
        github = {**frame.contexts["github"], "action_path": str(action.folder)}
        scope = Scope(contexts={**frame.contexts, "github": github, "env": env})
        defaults = {name: render(one.get("default"), scope) for name, one in action.inputs.items()}
        # An action sees neither the secrets nor the needs of its job.
        contexts = {name: frame.contexts[name] for name in ("matrix", "strategy", "runner")}
        contexts |= {"github": github, "inputs": {**defaults, **given}}
        inner = Frame(contexts=contexts, env=dict(env), embedded=True, deadline=deadline)
        steps = self._run_steps(action.steps, inner)
        # What a step of the action has set for later ones holds for the job as well.
        frame.env |= {name: value for name, value in inner.env.items() if env.get(name) != value}
        inner_scope = self._scope(inner, inner.env)
        outputs = {name: render(one["value"], inner_scope) for name, one in action.outputs.items()}
        outcome = self._outcome(steps)
        return StepEnd(name=spec.title, outcome=outcome, conclusion=outcome, outputs=outputs, steps=tuple(steps))

    @staticmethod
    def _outcome(steps: Sequence[StepEnd]) -> str:
        ends = {one.conclusion for one in steps}
        return next((word for word in ("cancelled", "failure") if word in ends), "success")

    # --- a script ----------------------------------------------------------------------------------------------------

    def _script(
        self, spec: StepSpec, frame: Frame, env: dict[str, str], scope: Scope, deadline: float | None
    ) -> StepEnd:
        if (spec.shell or "bash") != "bash":
            raise WorkflowError(f"the shell '{spec.shell}' is not supported")
        text = render(spec.run, scope)
        mark = uuid.uuid4().hex
        file = self.temp / f"{mark}.sh"
        file.write_text(text, "utf-8")
        files = StepFiles.make(self.temp / "_runner_file_commands", mark)
        self.log.step = spec.title
        self._announce(text, env)
        asked = frame.embedded or spec.shell

        def interrupted() -> bool:
            if deadline is not None and time.monotonic() >= deadline:
                return True
            # A step whose condition holds in a cancelled run goes on.
            return self.cancelled and not holds(spec.condition, self._scope(frame, env))

        ran = Script(
            file=file,
            env=self._environment(frame, env, files),
            folder=self.workspace / (render(spec.working_directory, scope) or "."),
            write=self.log.write,
            interrupted=interrupted,
            **({} if asked else {"shell": ("bash", "-e")}),
        ).run()
        file.unlink()
        return self._end(spec, frame, ran.code, files, ran.signals, ran.seconds)

    def _end(
        self, spec: StepSpec, frame: Frame, code: int, files: StepFiles, signals: tuple[str, ...], seconds: float
    ) -> StepEnd:
        outcome = "success" if code == 0 else "failure"
        if signals:
            late = not self.cancelled
            outcome = "failure" if late else "cancelled"
            self.log.annotate("error", "The action has timed out." if late else "The operation was canceled.")
        elif code:
            self.log.annotate("error", f"Process completed with exit code {code}.")
        outputs: dict[str, str] = {}
        try:
            outputs = files.outputs
            frame.env |= files.env
            self.path[:0] = files.path
        except ValueError as error:
            self.log.annotate("error", f"Unable to process a file command successfully: {error}")
            outcome = "failure"
        return StepEnd(
            name=spec.title,
            outcome=outcome,
            conclusion=outcome,
            outputs=outputs,
            summary=files.summary,
            code=code,
            signals=signals,
            seconds=seconds,
        )

    def _announce(self, text: str, env: Mapping[str, str]) -> None:
        self.log.say(f"##[group]Run {text.strip().splitlines()[0] if text.strip() else ''}")
        for line in text.splitlines():
            self.log.say(line)
        self.log.say("env:")
        for name, value in env.items():
            self.log.say(f"  {name}: {value}")
        self.log.say("##[endgroup]")

    def _environment(self, frame: Frame, env: Mapping[str, str], files: StepFiles) -> dict[str, str]:
        github = frame.contexts["github"]
        path = os.pathsep.join([*self.path, self.environ["PATH"]])
        action = {"GITHUB_ACTION_PATH": github["action_path"]} if frame.embedded else {}
        return {
            **self.environ,
            "HOME": str(self.folder / "home"),
            **environment_of(github, {**frame.contexts["runner"], "environment": "github-hosted"}),
            **action,
            **env,
            **files.environment,
            TRACKING: self.mark,
            "PATH": path,
        }


def _is_ours(uses: str) -> bool:
    name = uses.partition("@")[0]
    return name in {"./", "."} or name.endswith(("/runner_provisioner", "/runner-provisioner"))


def _flat(steps: Sequence[StepEnd]) -> list[StepEnd]:
    return [found for one in steps for found in (one, *_flat(one.steps))]


def _summaries(step: StepEnd) -> list[str]:
    return [one.summary for one in _flat([step]) if one.summary]
