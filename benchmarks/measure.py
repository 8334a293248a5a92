"""Figures, their goals, and the table they are shown in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure. `binding` says whether missing the goal is a failure: counts are, times vary by machine."""

    name: str
    value: float
    goal: float
    unit: str
    detail: str = ""
    binding: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.value <= self.goal


def alternating(works: Sequence[Callable[[], None]], rounds: int) -> list[float]:
    """The median seconds of each, over `rounds` in which they take turns, so that a busy moment meets all of them."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, taken in zip(works, times, strict=True):
            begin = time.perf_counter()
            work()
            taken.append(time.perf_counter() - begin)
    return [median(taken) for taken in times]


def table(figures: Sequence[Figure]) -> list[str]:
    """One line for each, as wide as it must be."""
    rows = [("what", "measured", "goal", "", "how")]
    for one in figures:
        shown = f"{one.value:g}" if one.binding else f"{one.value:.2f}"
        verdict = "OK" if one.met else "over"
        rows.append((one.name, f"{shown} {one.unit}", f"<= {one.goal:g} {one.unit}", verdict, one.detail))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
