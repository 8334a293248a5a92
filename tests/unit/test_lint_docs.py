"""The page on the workflow check lists what there is."""

from __future__ import annotations

import re
from pathlib import Path

from runner_provisioner.errors import WorkflowFaults
from runner_provisioner.lint.findings import CHECKS

PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/lint.md").read_text("utf-8")


def test_every_check_is_documented_as_it_is() -> None:
    """Ids, severities and titles, in the order of the code."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.*?) \| ", PAGE, re.MULTILINE)
    assert rows == [(check.id, check.severity.value, check.title) for check in CHECKS]


def test_the_exit_code_is_documented() -> None:
    """The number on the page is the one that the command ends with."""
    assert f"with {WorkflowFaults.exit_code}\nwhen there are some" in PAGE
