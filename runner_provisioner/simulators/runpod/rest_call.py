"""One call of REST v2: what arrives, what is answered, and how a body is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from runner_provisioner.simulators.runpod.account import Caller

Row = dict[str, Any]
PROBLEM = "application/problem+json"
EMPTY = object()
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


@dataclass(frozen=True, kw_only=True)
class RestCall:
    """A request whose sender is known; `parts` are what the path names, in their order."""

    caller: Caller
    parts: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    ignored: bool = False


@dataclass(frozen=True)
class RestReply:
    """An answer: HTTP status and JSON body (`EMPTY` = none at all)."""

    status: int
    body: object = EMPTY


class Problem(Exception):
    """A refusal, answered as a problem document."""

    def __init__(self, status: int, detail: str, errors: list[str] | None = None) -> None:
        super().__init__(detail)
        self.reply = problem(status, detail, errors)


def problem(status: int, detail: str, errors: list[str] | None = None) -> RestReply:
    """An error of REST v2."""
    body: Row = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return RestReply(status, {**body, "errors": errors} if errors else body)


def checked(body: object, schema: Row) -> Row:
    """The body of a request; Problem (422) names every field that does not fit."""
    errors = _misfits(body, schema, "$")
    if errors:
        raise Problem(422, "Request validation failed.", errors)
    assert isinstance(body, dict)  # noqa: S101 - every schema here is of an object
    return body


def _misfits(value: object, schema: Row, place: str) -> list[str]:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_is(value, kind) for kind in kinds):
        return [f"{place}: expected {' or '.join(kinds)}"]
    if isinstance(value, dict):
        return _object_misfits(value, schema, place)
    if isinstance(value, list):
        most = schema.get("maxItems")
        found = [] if most is None or len(value) <= most else [f"{place}: maxItems: got {len(value)}, want {most}"]
        return found + [each for n, one in enumerate(value) for each in _misfits(one, schema["items"], f"{place}[{n}]")]
    return _value_misfits(value, schema, place)


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool) and kind == "integer":
        return False
    return isinstance(value, _TYPES[kind])


def _object_misfits(value: Row, schema: Row, place: str) -> list[str]:
    missing = [name for name in schema.get("required", ()) if name not in value]
    found = [f"{place}: missing property '{name}'" for name in missing]
    fields = schema.get("properties")
    if fields is None:
        rest = schema.get("additionalProperties", {})
        return found + [each for name, one in value.items() for each in _misfits(one, rest, f"{place}.{name}")]
    found += [f"{place}: additional properties '{name}' not allowed" for name in value if name not in fields]
    known = [name for name in value if name in fields]
    return found + [each for name in known for each in _misfits(value[name], fields[name], f"{place}.{name}")]


def _value_misfits(value: object, schema: Row, place: str) -> list[str]:
    found = []
    least = schema.get("minimum")
    if least is not None and isinstance(value, int) and value < least:
        found.append(f"{place}: minimum: got {value}, want {least}")
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            found.append(f"{place}: minLength: got {len(value)}, want {schema['minLength']}")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{place}: does not match pattern '{schema['pattern']}'")
        if "enum" in schema and value not in schema["enum"]:
            found.append(f"{place}: value must be one of {', '.join(schema['enum'])}")
    return found
