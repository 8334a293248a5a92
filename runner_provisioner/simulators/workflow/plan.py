"""What the engine hands out and takes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["waiting", "queued", "in_progress", "completed"]
Outcome = Literal["success", "failure", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """One step, ready to be run: every expression is evaluated.

    `shell` is the command line with `{0}` for the script's file. `path` goes in front of PATH, first entry first.
    `inputs` are the `with` values of a checkout. `working_directory` is relative to the workspace, None being it.
    """

    number: int
    name: str
    kind: Literal["run", "checkout"]
    script: str
    shell: str
    env: Mapping[str, str]
    working_directory: str | None = None
    timeout_minutes: float | None = None
    continue_on_error: bool = False
    path: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How a step ended, and what it wrote to GITHUB_OUTPUT, GITHUB_ENV and GITHUB_PATH."""

    outcome: Outcome
    outputs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    path: tuple[str, ...] | list[str] = ()


@dataclass(slots=True, kw_only=True)
class StepProgress:
    """A step as the jobs API shows it."""

    name: str
    number: int
    status: Status = "queued"
    conclusion: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """A job as the jobs API shows it; `cancelled` asks its runner to stop, `problems` say why it failed early."""

    id: str
    name: str
    status: Status
    conclusion: str | None
    outputs: Mapping[str, str]
    steps: tuple[StepProgress, ...]
    labels: tuple[str, ...]
    cancelled: bool
    timeout_minutes: float
    problems: tuple[str, ...]
