"""Whether the keys tell the starts of a run apart, and stay what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from runner_provisioner.lint.expressions import EXPRESSION, matrix_paths, mentions
from runner_provisioner.lint.findings import BAD_KEY, KEY_VARIES, MATRIX_KEY, SAME_KEY, Finding
from runner_provisioner.lint.legs import alike
from runner_provisioner.lint.model import Call, Mode, Repository, Workflow

_GOOD = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_BY_LEG = ("matrix", "strategy", "steps", "env")
_VARYING = {
    "github.job": "each job has its own",
    "github.run_attempt": "a re-run has its own, and would not stop what an earlier attempt started",
    "runner.name": "each runner has its own",
}


def check(workflow: Workflow, _repository: Repository) -> Iterator[Finding]:
    """All checks of keys."""
    seen: dict[str, Call] = {}
    for call in workflow.calls(Mode.START, Mode.GPU_JOB):
        if call.key is None:
            continue
        yield from _matrix(workflow, call, call.key)
        first = seen.setdefault(call.key, call)
        if first is not call:
            yield workflow.finding(
                SAME_KEY,
                f"key '{call.key}' is started on line {first.line} already, and a second start with it is refused: "
                "give each its own key",
                call.line,
            )
    for call in workflow.calls(Mode.START, Mode.GPU_JOB, Mode.STOP, Mode.WATCH):
        yield from _text(workflow, call, call.key or "")


def _matrix(workflow: Workflow, call: Call, key: str) -> Iterator[Finding]:
    job = workflow.jobs[call.job]
    if not job.has_matrix:
        return
    if not mentions(key, *_BY_LEG):
        yield workflow.finding(
            MATRIX_KEY,
            f"all legs of job '{call.job}' start with key '{key}', and all but one are refused: put the leg into the "
            "key, like 'key: ${{ matrix.NAME }}'",
            call.line,
        )
        return
    paths = matrix_paths(key)
    if paths and (names := alike(job.node.get("strategy").get("matrix"), paths)):
        more = ", ".join(f"matrix.{name}" for name in names)
        yield workflow.finding(
            MATRIX_KEY,
            f"several legs of job '{call.job}' start with the same key '{key}', and all but one are refused: put what "
            f"they differ in into the key too ({more})",
            call.line,
        )


def _text(workflow: Workflow, call: Call, key: str) -> Iterator[Finding]:
    for name, why in _VARYING.items():
        if mentions(key, name):
            yield workflow.finding(
                KEY_VARIES,
                f"the key '{key}' uses {name}: {why}; use a word of your own, or the matrix",
                call.line,
            )
    if key and not EXPRESSION.search(key) and not _GOOD.fullmatch(key):
        yield workflow.finding(
            BAD_KEY,
            f"key '{key}' is refused: use a-z, 0-9 and inner dashes only",
            call.line,
        )
