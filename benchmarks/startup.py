"""How long the program takes to start, as multiples of an interpreter that does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Figure, alternating

ROUNDS = 21
HELP_GOAL, IMPORT_GOAL = 6.0, 3.0


def figures(rounds: int = ROUNDS) -> list[Figure]:
    """`--help` and `import runner_provisioner` against `python -c pass`, in the same environment, bytecode cached."""
    program = Path(sys.executable).with_name("runner-provisioner")
    entry = [str(program)] if program.exists() else [sys.executable, "-m", "runner_provisioner"]
    works = [
        _runner([sys.executable, "-c", "pass"]),
        _runner([*entry, "--help"]),
        _runner([sys.executable, "-c", "import runner_provisioner"]),
    ]
    for work in works:
        work()
    nothing, help_, import_ = alternating(works, rounds)
    how = f"median of {rounds} alternating runs; python -c pass takes {1000 * nothing:.0f} ms"
    return [
        Figure(name="--help", value=help_ / nothing, goal=HELP_GOAL, unit="x", detail=how),
        Figure(name="import runner_provisioner", value=import_ / nothing, goal=IMPORT_GOAL, unit="x", detail=how),
    ]


def _runner(command: list[str]) -> Callable[[], None]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def work() -> None:
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)

    return work
