"""The end of a performance: the table, the sums, and what they come to as an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner_provisioner.errors import JobFailed, LeftBehind, OutsideSchema, RunnerProvisionerError
from runner_provisioner.simulators.demo.play import Outcome


def exit_code(outcome: Outcome) -> int:
    """0 when all is well; 30 when something is left, else the code of a failed start or stop, else 51 or 50."""
    error = failure(outcome)
    if outcome.clean and (code := outcome.start_code or outcome.stop_code):
        return code
    return error.exit_code if error is not None else 0


def failure(outcome: Outcome) -> RunnerProvisionerError | None:
    """What went wrong beside `start` and `stop`, which have said so themselves; the worst first."""
    if left := [*outcome.pods_left, *outcome.runners_left]:
        return LeftBehind(f"still there: {', '.join(left)}", what=left)
    if outcome.violations:
        return OutsideSchema("a call was outside GitHub's schema: please report it with the lines above")
    if not outcome.passed:
        return JobFailed("a job failed or was not played to its end: its lines above say why")
    return None


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
    rows += [("warning", warning) for warning in outcome.warnings]
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
        "warnings": outcome.warnings,
        "problems": outcome.problems,
        "violations": outcome.violations,
        "exit_code": exit_code(outcome),
    }
