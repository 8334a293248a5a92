"""How GitHub's expression language converts and compares values.

A value is None, a bool, a number, a string, a list or a mapping.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Value: TypeAlias = Any
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_RADIX = re.compile(r"0x([0-9a-fA-F]+)|0o([0-7]+)")
_INFINITE = {"Infinity": math.inf, "+Infinity": math.inf, "-Infinity": -math.inf}
_WHOLE_LIMIT = 1e15  # numbers are written with 15 digits


class Filtered(list[Value]):
    """What `.*` yields: a further index applies to each element."""


def truthy(value: Value) -> bool:
    """Everything but false, 0, NaN, '' and null."""
    if isinstance(value, float):
        return not math.isnan(value) and value != 0
    if isinstance(value, (bool, int, str)):
        return bool(value)
    return value is not None


def parse_number(text: str) -> float:
    """A string as a number: '' is 0 and what is no number is NaN."""
    text = text.strip()
    if not text:
        return 0.0
    if text in _INFINITE:
        return _INFINITE[text]
    if found := _RADIX.fullmatch(text):
        return _whole(found[1], 16) if found[1] else _whole(found[2], 8)
    return float(text) if text.isascii() and _DECIMAL.fullmatch(text) else math.nan


def _whole(digits: str, radix: int) -> float:
    try:
        return float(int(digits, radix))
    except OverflowError:
        return math.inf


def to_number(value: Value) -> float:
    """Null is 0, true 1, collections NaN."""
    if value is None:
        return 0.0
    if isinstance(value, str):
        return parse_number(value)
    if isinstance(value, int):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value if isinstance(value, float) else math.nan


def to_string(value: Value) -> str:
    """Null is '', collections are the words Array and Object."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return _number_text(to_number(value))
    return "Object" if isinstance(value, Mapping) else "Array"


def _number_text(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    if number == int(number) and abs(number) < _WHOLE_LIMIT:
        return str(int(number))
    return f"{number:.15G}"


def is_primitive(value: Value) -> bool:
    """Neither a list nor a mapping."""
    return value is None or isinstance(value, (bool, int, float, str))


def _kind(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "collection"


def _alike(left: Value, right: Value) -> tuple[Value, Value]:
    """Both sides as they are compared: unlike kinds become numbers."""
    if _kind(left) == _kind(right) and _kind(left) in ("string", "collection"):
        return left, right
    return to_number(left), to_number(right)


def equal(left: Value, right: Value) -> bool:
    """Loose equality; strings without regard to case, collections by identity."""
    left, right = _alike(left, right)
    if isinstance(left, str):
        return left.upper() == str(right).upper()
    if is_primitive(left):
        return bool(left == right)
    return left is right


def less(left: Value, right: Value) -> bool:
    """Order by number, or of two strings by letter without regard to case."""
    left, right = _alike(left, right)
    if isinstance(left, str):
        return left.upper() < str(right).upper()
    return bool(is_primitive(left) and left < right)


def item(target: Value, key: Value) -> Value:
    """`target[key]`; null when there is no such thing."""
    if isinstance(target, Filtered):
        found = [pick(element, key) for element in target]
        return Filtered(value for present in found for value in present)
    return next(iter(pick(target, key)), None)


def pick(target: Value, key: Value) -> list[Value]:
    """The element as a list of one, or an empty list."""
    if isinstance(target, Mapping) and is_primitive(key):
        wanted = to_string(key).upper()
        return [value for name, value in target.items() if to_string(name).upper() == wanted][:1]
    if isinstance(target, Sequence) and not isinstance(target, str):
        place = to_number(key)
        if math.isfinite(place) and 0 <= place < len(target):
            return [target[int(place)]]
    return []


def every(target: Value) -> Filtered:
    """`target.*`."""
    if isinstance(target, Filtered):
        return Filtered(value for element in target for value in every(element))
    if isinstance(target, Mapping):
        return Filtered(target.values())
    if isinstance(target, Sequence) and not isinstance(target, str):
        return Filtered(target)
    return Filtered()
