"""With which options a workflow calls `start`, as far as they can be known without running its steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runner_provisioner.lint.shell import commands, with_variables
from runner_provisioner.simulators.workflow import JobSpec, StepSpec, Workflow, WorkflowError
from runner_provisioner.simulators.workflow.expressions import Scope, render
from runner_provisioner.simulators.workflow.values import Value, to_string

FLAGS = frozenset({"--allow-untrusted", "--json", "--debug"})
# The simulated world has its own repository, run, keys and folders.
ELSEWHERE = frozenset({"--repository", "--organization", "--owner", "--run-id", "--runner-group", "--ssh-key"})
UNSAID = frozenset({"mode", "runpod-api-key", "github-app-id", "github-app-private-key", "github-token"})
_ACTION = re.compile(r"\./?|\./(?:.*/)?runner[-_]provisioner/?|[^/@]+/runner[-_]provisioner(?:/?@.*)?", re.IGNORECASE)
_REDIRECTION = re.compile(r"[<>&]+")
_LABELS = "extra-labels"


@dataclass(kw_only=True)
class StartLine:
    """The options to play, the key among them by itself; `unplayed` names each part that is not played, and why."""

    options: list[str] = field(default_factory=list)
    key: str | None = None
    unplayed: list[str] = field(default_factory=list)


def start_line(workflow: Workflow, spec: JobSpec, github: Mapping[str, Value]) -> StartLine:
    """What the first call of `start` among a job's steps says; raises nothing."""
    scope = Scope(contexts={"github": dict(github), "inputs": _defaults(workflow.triggers)})
    for step in spec.steps:
        if (pairs := _call(step)) is not None:
            variables = _variables((workflow.env, spec.env, step.env), scope)
            return _line(pairs, scope, variables)
    return StartLine(unplayed=["no step calls start where the demo can see it: its defaults are played"])


def _call(step: StepSpec) -> list[tuple[str, str | None]] | None:
    """The options of a step's call of `start`; None when it has none."""
    if step.run is not None:
        found = next((one for one in commands(step.run, pipefail=True) if one.mode == "start"), None)
        return None if found is None else list(_pairs(found.words))
    if step.uses is None or not _ACTION.fullmatch(step.uses.strip()):
        return None
    inputs = {name.lower(): to_string(value) for name, value in step.inputs.items()}
    return list(_of_action(inputs)) if inputs.get("mode", "").strip() in {"", "start"} else None


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    rest = list(words)
    while rest and not _REDIRECTION.fullmatch(word := rest.pop(0)):
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            yield "", word
        elif equals:
            yield name, value
        else:
            has_value = word not in FLAGS and rest and not rest[0].startswith("--")
            yield word, rest.pop(0) if has_value else None


def _of_action(inputs: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    for name, text in inputs.items():
        option = "--label" if name == _LABELS else f"--{name}"
        if name in UNSAID:
            continue
        if option in FLAGS:
            yield from [(option, None)] if text == "true" else []
        else:
            yield from ((option, line.strip()) for line in text.splitlines() if line.strip())


def _line(pairs: Sequence[tuple[str, str | None]], scope: Scope, variables: Mapping[str, str]) -> StartLine:
    line = StartLine()
    for name, raw in pairs:
        written = " ".join(part for part in (name, raw) if part)
        value = None if raw is None else _value(raw, scope, variables)
        if name in ELSEWHERE:
            line.unplayed.append(f"'{written}': the simulated world has its own")
        elif not name or (raw is not None and value is None):
            line.unplayed.append(f"'{written}': its value is not known here")
        elif name == "--key":
            line.key = value
        else:
            line.options.append(name if value is None else f"{name}={value}")
    return line


def _value(text: str, scope: Scope, variables: Mapping[str, str]) -> str | None:
    """The text with its variables and expressions put in; None when one is not known."""
    known = with_variables(text, variables)
    try:
        value = None if known is None else render(known, scope)
    except WorkflowError:
        return None
    # What a context lacks is empty: whether it would be at GitHub nobody knows here.
    return value or None


def _variables(levels: Sequence[Value], scope: Scope) -> dict[str, str]:
    found: dict[str, str | None] = {}
    for level in levels:
        if isinstance(level, Mapping):
            found.update({name: _value(to_string(value), scope, {}) for name, value in level.items()})
    return {name: value for name, value in found.items() if value is not None}


def _defaults(triggers: Value) -> dict[str, Value]:
    """The inputs of a run that somebody starts by hand without changing any."""
    by_hand = triggers.get("workflow_dispatch") if isinstance(triggers, Mapping) else None
    inputs = by_hand.get("inputs") if isinstance(by_hand, Mapping) else None
    if not isinstance(inputs, Mapping):
        return {}
    return {name: one.get("default") for name, one in inputs.items() if isinstance(one, Mapping)}
