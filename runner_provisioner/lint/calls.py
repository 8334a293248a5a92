"""Where a job calls this program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from runner_provisioner.lint.document import Node
from runner_provisioner.lint.expressions import EXPRESSION, compact
from runner_provisioner.lint.model import MARKETS, SCOPE_OPTIONS, Call, Mode, Step
from runner_provisioner.lint.shell import MODES, Command, commands, with_variables

DEFAULT_KEY: Final = "default"

_MARKET_OF: Final = {name: market for market, names in MARKETS.items() for name in names}

# What these options are when they are left out.
_DEFAULTS: Final = {"repository": "${{github.repository}}", "run-id": "${{github.run_id}}"}

_OUR_ACTION = re.compile(r"[^/@]+/runner[-_]provisioner(?:/?@.*)?", re.IGNORECASE)
_OUR_FOLDER = re.compile(r"[.$]/(?:.*/)?runner[-_]provisioner/?", re.IGNORECASE)
_OUR_WORKFLOW = re.compile(
    r"(?:[.$]|[^/@]+/runner[-_]provisioner)/\.github/workflows/(gpu-job|cleanup)\.ya?ml(?:@.*)?", re.IGNORECASE
)
# A `./` without a mode may be anybody's action; ours is given something of this.
_OUR_INPUT = re.compile(
    r"(?:runpod|prime-|celium|gpu|github-app|app-)[\w-]*|key|mode|interruptible|max-price.*", re.IGNORECASE
)


def calls_of_step(step: Step, job: str, variables: Mapping[str, str]) -> Iterator[Call]:
    """The calls of one step; `variables` is the environment that the file gives it."""
    uses = step.node.get("uses").text
    if uses:
        yield from _action(step, uses, job)
    elif step.node.get("run").text:
        shell = step.node.get("shell").text
        for command in commands(step.node.get("run").text, pipefail=shell == "bash", errexit=_ends_on_error(shell)):
            yield _command(step, command, job, variables)


def calls_of_workflow(node: Node, job: str) -> Iterator[Call]:
    """The call of a job that uses one of our reusable workflows."""
    found = _OUR_WORKFLOW.fullmatch(node.get("uses").text)
    if found is None:
        return
    inputs = node.get("with")
    is_cleanup = found[1].lower() == "cleanup"
    held = _markets(node.get("secrets"))
    yield Call(
        mode=Mode.CLEANUP if is_cleanup else Mode.GPU_JOB,
        job=job,
        line=node.get("uses").line,
        key=_key(inputs),
        labels=_labels(inputs),
        options=None,
        lifetime=_known(inputs.get("lifetime").text),
        markets=_narrowed(held, inputs.get("provider").text),
        held=held,
        allows_untrusted=inputs.get("allow-untrusted").text == "true",
    )


def _action(step: Step, uses: str, job: str) -> Iterator[Call]:
    inputs = step.node.get("with")
    if not _is_ours(uses, inputs):
        return
    mode = inputs.get("mode").text.strip() or "start"
    if mode not in MODES:
        return
    yield Call(
        mode=Mode(mode),
        job=job,
        line=step.line,
        key=_key(inputs),
        step=step,
        labels=_labels(inputs),
        options=_given({name: inputs.get(name).text for name in SCOPE_OPTIONS}),
        lifetime=_known(inputs.get("lifetime").text),
        markets=_narrowed(_markets(inputs), "" if mode == "stop" else inputs.get("provider").text),
        by_action=True,
        allows_untrusted=inputs.get("allow-untrusted").text == "true",
    )


def _is_ours(uses: str, inputs: Node) -> bool:
    if _OUR_ACTION.fullmatch(uses) or _OUR_FOLDER.fullmatch(uses):
        return True
    if uses not in {".", "./", "$/"}:
        return False
    mode = inputs.get("mode").text
    return mode in MODES if mode else any(_OUR_INPUT.fullmatch(name) for name in inputs.entries)


def _key(inputs: Node) -> str:
    return compact(inputs.get("key").text) or DEFAULT_KEY


def _markets(given: Node) -> frozenset[str]:
    names = {name: name.upper().replace("-", "_") for name in given.entries}
    return frozenset(_MARKET_OF[one] for name, one in names.items() if one in _MARKET_OF and given.get(name).text)


def _narrowed(markets: frozenset[str], names: str) -> frozenset[str]:
    """Those of them that are named, one a line; all where none is, or where an expression may name any."""
    wanted = frozenset(names.split())
    return markets if not wanted or EXPRESSION.search(names) else markets & wanted


def _labels(inputs: Node) -> frozenset[str] | None:
    text = ",".join(inputs.get(name).text for name in ("label", "labels", "extra-labels"))
    if EXPRESSION.search(text):
        return None
    return frozenset(part.strip().lower() for part in re.split(r"[,\n]", text) if part.strip())


def _known(text: str | None) -> str | None:
    return None if text is None or EXPRESSION.search(text) else text.strip()


def _command(step: Step, command: Command, job: str, variables: Mapping[str, str]) -> Call:
    keys = command.values("--key") or [DEFAULT_KEY]
    lifetimes = command.values("--lifetime") or [""]
    labels = [with_variables(one, variables) for one in command.values("--label")]
    given = [(name, value) for name in SCOPE_OPTIONS for value in command.values(f"--{name}")]
    known = [one.lower() for one in labels if one is not None and not EXPRESSION.search(one)]
    return Call(
        mode=Mode(command.mode),
        job=job,
        line=step.node.get("run").line,
        key=with_variables(keys[-1], variables),
        step=step,
        labels=frozenset(known) if len(known) == len(labels) else None,
        options=_given({name: with_variables(value, variables) for name, value in given if value}),
        lifetime=_known(with_variables(lifetimes[-1], variables)),
        markets=_narrowed(
            frozenset(_MARKET_OF[name] for name, value in variables.items() if name in _MARKET_OF and value),
            "\n".join(with_variables(one, variables) or "${{}}" for one in command.values("--provider")),
        ),
        swallowed=command.swallowed,
        hears_cancel=command.is_exec and command.is_last,
        allows_untrusted="--allow-untrusted" in command.words,
    )


def _given(options: Mapping[str, str | None]) -> tuple[tuple[str, str | None], ...]:
    """The options with a value that is not their default; GitHub's own names are the same in any case."""
    found: list[tuple[str, str | None]] = []
    for name, value in options.items():
        text = value if value is None else compact(value)
        if text is not None and text in {"", _DEFAULTS.get(name)}:
            continue
        plain = text is not None and not EXPRESSION.search(text)
        found.append((name, (text if name == "owner" or text is None else text.lower()) if plain else None))
    return tuple(found)


def _ends_on_error(shell: str) -> bool:
    """Whether a failing command ends the script, as it does in all but a shell with a command line of its own."""
    return "{0}" not in shell or re.search(r"\s-\w*e|errexit", shell) is not None
