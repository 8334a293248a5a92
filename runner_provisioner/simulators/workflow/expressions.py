"""`${{ }}`: evaluated as GitHub documents it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.functions import FUNCTIONS, STATUS_FUNCTIONS
from runner_provisioner.simulators.workflow.syntax import Call, Index, Literal, Name, Node, Operation, parse, walk
from runner_provisioner.simulators.workflow.values import Value, equal, every, item, less, to_string, truthy

_OPEN, _CLOSE = "${{", "}}"
_COMPARISONS: Mapping[str, Callable[[Value, Value], bool]] = {
    "==": equal,
    "!=": lambda left, right: not equal(left, right),
    "<": less,
    ">": lambda left, right: less(right, left),
    "<=": lambda left, right: less(left, right) or equal(left, right),
    ">=": lambda left, right: less(right, left) or equal(left, right),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an expression can see: contexts by name, and the four status functions where they exist."""

    contexts: Mapping[str, Value]
    status: Mapping[str, bool] = field(default_factory=dict)


def evaluate(text: str, scope: Scope) -> Value:
    """The value of an expression without its `${{ }}`; WorkflowError when it has none."""
    return _value(_parsed(text), scope)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Node:
    node = parse(text)
    for part in walk(node):
        if isinstance(part, Call):
            _check_call(part)
    return node


def _check_call(call: Call) -> None:
    name = call.name.lower()
    if name not in STATUS_FUNCTIONS and name not in FUNCTIONS:
        raise WorkflowError(f"there is no function '{call.name}'")
    limits = (0, 0) if name in STATUS_FUNCTIONS else (FUNCTIONS[name].least, FUNCTIONS[name].most)
    if len(call.arguments) < limits[0] or (limits[1] is not None and len(call.arguments) > limits[1]):
        raise WorkflowError(f"{call.name}() is called with {len(call.arguments)} arguments")


def _value(node: Node, scope: Scope) -> Value:
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Name):
        return _context(node.name, scope)
    if isinstance(node, Index):
        target = _value(node.target, scope)
        return every(target) if node.key is None else item(target, _value(node.key, scope))
    return _call(node, scope) if isinstance(node, Call) else _operation(node, scope)


def _context(name: str, scope: Scope) -> Value:
    for known, value in scope.contexts.items():
        if known.lower() == name.lower():
            return value
    raise WorkflowError(f"there is no '{name}' here (known are {', '.join(sorted(scope.contexts)) or 'none'})")


def _call(call: Call, scope: Scope) -> Value:
    name = call.name.lower()
    if name not in STATUS_FUNCTIONS:
        return FUNCTIONS[name].run(*(_value(argument, scope) for argument in call.arguments))
    if name not in scope.status:
        raise WorkflowError(f"{call.name}() works in 'if' only")
    return scope.status[name]


def _operation(node: Operation, scope: Scope) -> Value:
    if node.operator == "!":
        return not truthy(_value(node.operands[0], scope))
    if node.operator in _COMPARISONS:
        left, right = (_value(operand, scope) for operand in node.operands)
        return _COMPARISONS[node.operator](left, right)
    value: Value = None
    for operand in node.operands:
        value = _value(operand, scope)
        if truthy(value) is (node.operator == "||"):
            return value
    return value


def _close(text: str, begin: int) -> int:
    """Where the expression that begins at `begin` ends; quotes hide braces."""
    quoted = False
    for position in range(begin, len(text)):
        if text[position] == "'":
            quoted = not quoted
        elif not quoted and text.startswith(_CLOSE, position):
            return position
    raise WorkflowError(f"'${{{{' without '}}}}' in: {text[:80]}")


def pieces(text: str) -> list[tuple[bool, str]]:
    """A text cut into (is an expression, content)."""
    found: list[tuple[bool, str]] = []
    position = 0
    while (begin := text.find(_OPEN, position)) >= 0:
        end = _close(text, begin + len(_OPEN))
        if begin > position:
            found.append((False, text[position:begin]))
        found.append((True, text[begin + len(_OPEN) : end]))
        position = end + len(_CLOSE)
    if position < len(text) or not found:
        found.append((False, text[position:]))
    return found


def resolve(value: Value, scope: Scope) -> Value:
    """A YAML value with its expressions evaluated; a string that is one expression takes that one's type."""
    if isinstance(value, str):
        parts = pieces(value)
        if len(parts) == 1:
            return evaluate(parts[0][1], scope) if parts[0][0] else value
        return "".join(to_string(evaluate(part, scope)) if is_code else part for is_code, part in parts)
    if isinstance(value, Mapping):
        return {to_string(key): resolve(element, scope) for key, element in value.items()}
    if isinstance(value, list):
        return [resolve(element, scope) for element in value]
    return value


def render(value: Value, scope: Scope) -> str:
    """A YAML scalar as text, with its expressions evaluated."""
    return to_string(resolve(value, scope))


def bare(condition: Value) -> str:
    """The expression of an `if`, with or without `${{ }}` around it."""
    text = to_string(condition)
    parts = pieces(text.strip())
    if len(parts) > 1:
        raise WorkflowError(f"'if' mixes text with ${{{{ }}}} and would always be true: {text.strip()}")
    return parts[0][1]


def holds(condition: Value, scope: Scope) -> bool:
    """Whether an `if` lets its job or step run; without a status function `success()` is implied."""
    text = bare(condition)
    if not text.strip():
        return scope.status["success"]
    if not asks_status(text) and not scope.status["success"]:
        return False
    return truthy(evaluate(text, scope))


def asks_status(text: str) -> bool:
    """Whether an expression calls success, failure, always or cancelled."""
    return bool(calls(text) & STATUS_FUNCTIONS)


def calls(text: str) -> set[str]:
    """The functions that an expression calls, in lower case."""
    return {part.name.lower() for part in walk(_parsed(text)) if isinstance(part, Call)}


def needed_outputs(value: Value) -> list[tuple[str, str]]:
    """Each `needs.JOB.outputs.NAME` in a text, as (job, name)."""
    expressions = [part for is_code, part in pieces(to_string(value)) if is_code]
    return [found for text in expressions for part in walk(_parsed(text)) if (found := _needed_output(part))]


def _needed_output(node: Node) -> tuple[str, str] | None:
    path: list[str] = []
    while isinstance(node, Index) and isinstance(node.key, Literal):
        path.insert(0, to_string(node.key.value))
        node = node.target
    if not isinstance(node, Name) or node.name.lower() != "needs" or len(path) != 3:  # noqa: PLR2004 - job.outputs.name
        return None
    return (path[0], path[2]) if path[1].lower() == "outputs" else None
