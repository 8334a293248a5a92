"""The documentation's programs, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner_provisioner.simulators.world import SimulatedWorld, WorldPlan

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/use-as-a-library.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES, ids=["blocking", "async"])
def test_library_examples_rent_and_end_a_pod(code: str, tmp_path: Path) -> None:
    """Each example works against the simulated service and leaves no pod there."""
    with SimulatedWorld(tmp_path, plan=WorldPlan(boot_seconds=0)) as world:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **world.environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        left, bill = world.pods_left(), world.bill
    assert (done.returncode, done.stderr) == (0, "")
    assert "rror" not in done.stdout
    assert left == []
    assert len(bill.pods) == 1
