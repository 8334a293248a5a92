"""The functions of GitHub's expression language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.values import Value, equal, is_primitive, to_string

STATUS_FUNCTIONS = frozenset({"success", "failure", "always", "cancelled"})
_PLACE = re.compile(r"\{\{|\}\}|\{(\d+)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Function:
    """What a function takes and does; `most` None means any number of arguments."""

    least: int
    most: int | None
    run: Callable[..., Value]


def _contains(search: Value, wanted: Value) -> bool:
    if is_primitive(search):
        return is_primitive(wanted) and to_string(wanted).upper() in to_string(search).upper()
    return isinstance(search, Sequence) and any(equal(element, wanted) for element in search)


def _starts_with(text: Value, start: Value) -> bool:
    return is_primitive(text) and is_primitive(start) and to_string(text).upper().startswith(to_string(start).upper())


def _ends_with(text: Value, end: Value) -> bool:
    return is_primitive(text) and is_primitive(end) and to_string(text).upper().endswith(to_string(end).upper())


def _format(template: Value, *values: Value) -> str:
    pattern = to_string(template)

    def place(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None or len(found[1]) > 3 or int(found[1]) >= len(values):  # noqa: PLR2004 - GitHub takes 255
            raise WorkflowError(f"format('{pattern}') has no argument for {found[0]}")
        return to_string(values[int(found[1])])

    return _PLACE.sub(place, pattern)


def _join(values: Value, separator: Value = ",") -> str:
    if is_primitive(values):
        return to_string(values)
    between = to_string(separator) if is_primitive(separator) else ","
    return between.join(map(to_string, values)) if isinstance(values, Sequence) else ""


def to_json(value: Value) -> str:
    """The value as GitHub prints it: indented by two blanks."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def _plain(value: Value) -> Value:
    if isinstance(value, Mapping):
        return {to_string(key): _plain(element) for key, element in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(element) for element in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _from_json(text: Value) -> Value:
    try:
        return json.loads(to_string(text))
    except (ValueError, RecursionError):
        raise WorkflowError(f"fromJSON was given what is no JSON: {to_string(text)[:60]!r}") from None


def _hash_files(*_patterns: Value) -> str:
    raise WorkflowError("hashFiles() is not supported here")


def _case(*arguments: Value) -> Value:
    if len(arguments) % 2 == 0:
        raise WorkflowError("case() needs pairs of condition and value, and a default")
    pairs = zip(arguments[:-1:2], arguments[1::2], strict=True)
    return next((value for condition, value in pairs if condition is True), arguments[-1])


FUNCTIONS: Mapping[str, Function] = {
    "contains": Function(2, 2, _contains),
    "startswith": Function(2, 2, _starts_with),
    "endswith": Function(2, 2, _ends_with),
    "format": Function(1, None, _format),
    "join": Function(1, 2, _join),
    "tojson": Function(1, 1, to_json),
    "fromjson": Function(1, 1, _from_json),
    "hashfiles": Function(1, None, _hash_files),
    "case": Function(3, None, _case),
}
