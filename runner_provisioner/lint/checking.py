"""All checks over all files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner_provisioner.lint.checks import handing, keys, labels, machines, markets, runs, stops
from runner_provisioner.lint.findings import Finding
from runner_provisioner.lint.reading import read_repository

_GROUPS: Final = (machines, handing, stops, markets, keys, labels, runs)


def check_workflows(files: Mapping[str, str], *, context: Mapping[str, str] | None = None) -> list[Finding]:
    """What breaks or leaks in `files` (texts by file name), by file and line.

    `context` holds further workflows of the repository, which are not checked themselves: a scheduled clean-up may be
    among them, and what the files call. Any text has an answer; nothing is raised.
    """
    repository, findings = read_repository(files, context or {})
    for workflow in repository.checked_workflows:
        for group in _GROUPS:
            findings.extend(group.check(workflow, repository))
    order = {name: place for place, name in enumerate(files)}
    return sorted(findings, key=lambda one: (order[one.file], one.line))
