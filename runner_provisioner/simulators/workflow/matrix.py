"""`strategy.matrix` as the legs of a job."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.values import Value, to_string

LEG_LIMIT = 256  # docs: a matrix makes at most 256 jobs in a run
Combination = dict[str, Value]


def expand(matrix: Value) -> list[Combination]:
    """Every combination, `exclude` taken away and `include` added or merged; WorkflowError when it is no matrix."""
    if not isinstance(matrix, Mapping):
        raise WorkflowError("the matrix is no mapping")
    vectors = {to_string(key): value for key, value in matrix.items() if key not in ("include", "exclude")}
    for name, vector in vectors.items():
        if not isinstance(vector, list) or not vector:
            raise WorkflowError(f"matrix.{name} is no list of values")
    size = 1
    for vector in vectors.values():
        size *= len(vector)
    if size > LEG_LIMIT:
        raise WorkflowError(f"the matrix makes more than {LEG_LIMIT} jobs")
    product = itertools.product(*vectors.values()) if vectors else []
    originals = [dict(zip(vectors, values, strict=True)) for values in product]
    kept = [leg for leg in originals if not any(_covers(leg, pattern) for pattern in _patterns(matrix, "exclude"))]
    legs = _included(kept, _patterns(matrix, "include"), set(vectors))
    if not legs:
        raise WorkflowError("the matrix makes no job at all")
    return legs


def _patterns(matrix: Mapping[Value, Value], key: str) -> list[Combination]:
    patterns = matrix.get(key) or []
    if not isinstance(patterns, list) or not all(isinstance(pattern, Mapping) for pattern in patterns):
        raise WorkflowError(f"matrix.{key} is no list of mappings")
    return [{to_string(name): value for name, value in pattern.items()} for pattern in patterns]


def _covers(leg: Combination, pattern: Combination) -> bool:
    return bool(pattern) and all(name in leg and leg[name] == value for name, value in pattern.items())


def _included(kept: list[Combination], includes: list[Combination], own: set[str]) -> list[Combination]:
    """Add each inclusion to the legs whose own values it does not change, else as a leg of its own."""
    legs = [dict(leg) for leg in kept]
    extra: list[Combination] = []
    for include in includes:
        fitting = [
            leg
            for leg, original in zip(legs, kept, strict=True)
            if all(original[name] == value for name, value in include.items() if name in own)
        ]
        for leg in fitting:
            leg.update(include)
        if not fitting:
            extra.append(dict(include))
    if len(legs) + len(extra) > LEG_LIMIT:
        raise WorkflowError(f"the matrix makes more than {LEG_LIMIT} jobs")
    return legs + extra


def title(job: str, leg: Combination) -> str:
    """`job (a, b)`."""
    return f"{job} ({', '.join(_scalars(list(leg.values())))})"


def _scalars(value: Value) -> Iterator[str]:
    if isinstance(value, (Mapping, list)):
        for element in value.values() if isinstance(value, Mapping) else value:
            yield from _scalars(element)
    else:
        yield to_string(value)
