"""The end of a performance: the table, the sums, and what they come to as an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner_provisioner.simulators.demo.play import Outcome

PASSED = 0
JOB_FAILED = 50
LEFT_BEHIND = 30  # as `cleanup` and `stop` end when something is left


def exit_code(outcome: Outcome) -> int:
    """0 when all is well; 30 when something is left, else the code of a failed start or stop, else 50."""
    if not outcome.clean:
        return LEFT_BEHIND
    for code in (outcome.start_code, outcome.stop_code):
        if code:
            return code
    return PASSED if outcome.passed else JOB_FAILED


def lines(outcome: Outcome) -> list[str]:
    """For a person."""
    first = outcome.moments[0].at if outcome.moments else None
    rows = [
        (f"{(moment.at - first).total_seconds():7.2f} s", moment.what, moment.who)
        for moment in outcome.moments
        if first is not None
    ]
    return [*_columns([("when", "what", "who"), *rows]), "", *_columns(_sums(outcome))]


def _sums(outcome: Outcome) -> list[tuple[str, str]]:
    rows = [(f"job {job}", conclusion) for job, conclusion in outcome.jobs.items()]
    rows += [(f"job {job}", "not played") for job in outcome.not_played]
    rows += [
        ("cost", f"{outcome.cost} USD for {outcome.gpu_seconds} s of GPU (simulated)"),
        ("pods left", _count(outcome.pods_left)),
        ("runners left", _count(outcome.runners_left)),
        ("pod mode", f"{outcome.mode}: {outcome.note}" if outcome.note else outcome.mode),
    ]
    rows += [("problem", problem) for problem in outcome.problems]
    return rows + [("outside GitHub's schema", violation) for violation in outcome.violations]


def _count(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "0"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def data(outcome: Outcome) -> dict[str, Any]:
    """For a program."""
    return {
        "moments": [
            {"at": moment.at.isoformat(), "what": moment.what, "who": moment.who} for moment in outcome.moments
        ],
        "jobs": dict(outcome.jobs),
        "not_played": list(outcome.not_played),
        "cost_usd": outcome.cost,
        "gpu_seconds": outcome.gpu_seconds,
        "pods_left": outcome.pods_left,
        "runners_left": outcome.runners_left,
        "pod_mode": outcome.mode,
        "pod_mode_note": outcome.note,
        "problems": outcome.problems,
        "violations": outcome.violations,
        "exit_code": exit_code(outcome),
    }
