"""The legs of a matrix, as far as a file says them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice, product
from typing import Final

from runner_provisioner.lint.document import Node

LEGS: Final = 256  # GitHub runs no more (docs: usage limits)
_SPECIAL: Final = frozenset({"include", "exclude"})


def legs(matrix: Node) -> list[dict[str, Node]]:
    """Its legs, at most 256; a list that only a run can tell counts as one value, and leaves `include` out."""
    lists = {name: node for name, node in matrix.entries.items() if name not in _SPECIAL}
    axes = {name: node.items for name, node in lists.items() if node.items}
    left_out = [one.entries for one in matrix.get("exclude").items]
    found: list[dict[str, Node]] = []
    for values in islice(product(*axes.values()), LEGS):
        leg = dict(zip(axes, values, strict=True))
        if leg and not any(_covers(leg, one) for one in left_out):
            found.append(leg)
    return _with_included(found, matrix, axes) if len(axes) == len(lists) else found


def _with_included(found: list[dict[str, Node]], matrix: Node, axes: Mapping[str, object]) -> list[dict[str, Node]]:
    """What fits legs extends them, the rest are legs of their own (GitHub docs, expanding matrix configurations)."""
    own: list[dict[str, Node]] = []
    for one in matrix.get("include").items:
        fitting = [leg for leg in found if _fits(leg, one.entries, axes)]
        for leg in fitting:
            leg.update(one.entries)
        if not fitting:
            own.append(dict(one.entries))
    return [*found, *own][:LEGS]


def alike(matrix: Node, paths: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The names of the matrix in which two legs differ that have the same values at `paths`; empty for none."""
    seen: dict[tuple[object, ...], Mapping[str, Node]] = {}
    for leg in legs(matrix):
        first = seen.setdefault(tuple(_plain(_at(leg, path)) for path in paths), leg)
        if first is not leg:
            names = dict.fromkeys((*first, *leg))
            return tuple(name for name in names if _plain(first.get(name)) != _plain(leg.get(name)))
    return ()


def _covers(leg: Mapping[str, Node], left_out: Mapping[str, Node]) -> bool:
    return bool(left_out) and all(_plain(leg.get(name)) == _plain(value) for name, value in left_out.items())


def _fits(leg: Mapping[str, Node], more: Mapping[str, Node], axes: Mapping[str, object]) -> bool:
    return all(_plain(leg.get(name)) == _plain(value) for name, value in more.items() if name in axes)


def _at(leg: Mapping[str, Node], path: Sequence[str]) -> Node | None:
    node = leg.get(path[0])
    for name in path[1:]:
        node = node.get(name) if node is not None else None
    return node


def _plain(node: Node | None) -> object:
    """The value alone, without its place in the file."""
    if node is None:
        return None
    return (
        node.text,
        tuple(map(_plain, node.items)),
        tuple((name, _plain(one)) for name, one in sorted(node.entries.items())),
    )
