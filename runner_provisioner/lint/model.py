"""A workflow as the checks see it: jobs, steps, and where they call this program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from runner_provisioner.lint.document import Node
from runner_provisioner.lint.expressions import needed, words_of_list
from runner_provisioner.lint.findings import Check, Finding

# Beside the key, these say whose pod it is.
SCOPE_OPTIONS: Final = ("owner", "organization", "repository", "run-id")

# The variables that hold each provider's key; the first one is also the secret of the reusable workflows, and the
# action's inputs are named alike.
MARKETS: Final = {
    "runpod": ("RUNPOD_API_KEY", "RUNPOD_KEY"),
    "prime": ("PRIME_API_KEY",),
    "celium": ("CELIUM_API_KEY", "LIUM_API_KEY"),
}


# A stop may name the run of a start that knows its own.
_RUN: Final = "run-id"


class Mode(StrEnum):
    """What a call does; a `GPU_JOB` starts, runs and stops, all by itself, a `RERUN` rents for jobs that have stops."""

    START = "start"
    STOP = "stop"
    CLEANUP = "cleanup"
    RERUN = "rerun"
    WATCH = "watch"
    GPU_JOB = "gpu-job"


RENTING: Final = (Mode.START, Mode.GPU_JOB, Mode.RERUN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a job; `index` counts from 0."""

    index: int
    node: Node

    @property
    def id(self) -> str:
        """What expressions call it; empty for none."""
        return self.node.get("id").text

    @property
    def condition(self) -> str:
        """Its `if`."""
        return self.node.get("if").text

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.node.line


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of this program: by a command, by the action (`step`), or by a reusable workflow (no step).

    `key` is its text, blanks taken out of expressions, None when it cannot be known; so are `labels`, the further ones,
    and `lifetime`, empty for the default. `options` are those of SCOPE_OPTIONS that the file gives, None for a value
    that cannot be known; None altogether for a call in another file. `held` are the providers whose key the file gives
    it, by their names here, `markets` those that it is narrowed to; empty also where none is seen.
    """

    mode: Mode
    job: str
    line: int
    key: str | None
    step: Step | None = None
    labels: frozenset[str] | None = frozenset()
    options: tuple[tuple[str, str | None], ...] | None = ()
    lifetime: str | None = ""
    markets: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    by_action: bool = False
    swallowed: bool = False
    hears_cancel: bool = True
    allows_untrusted: bool = False

    @property
    def ends_at(self) -> frozenset[str]:
        """Where it can end machines, empty where that is not seen: a `GPU_JOB` narrows what it rents alone."""
        return self.held if self.mode is Mode.GPU_JOB else self.markets

    def fits(self, other: Call) -> bool:
        """Whether both may have the same key."""
        return self.key is None or other.key is None or self.key == other.key

    def differs(self, other: Call) -> str:
        """The first option that says something else in the other, or that only one of them has; empty for none."""
        if self.options is None or other.options is None:
            return ""
        ours, theirs = dict(self.options), dict(other.options)
        both = ours.keys() & theirs.keys()
        names = [name for name in SCOPE_OPTIONS if name != _RUN or name in both]
        return next((name for name in names if _differ(ours.get(name, ""), theirs.get(name, ""))), "")


def _differ(one: str | None, other: str | None) -> bool:
    """Whether two values are never the same: what cannot be known may be any word, and not nothing at all."""
    if one is None or other is None:
        return "" in {one, other}
    return one != other


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job."""

    id: str
    node: Node
    steps: tuple[Step, ...] = ()
    calls: tuple[Call, ...] = ()

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.node.line

    @property
    def needs(self) -> tuple[str, ...]:
        """The jobs it waits for."""
        return tuple(one.text for one in self.node.get("needs").texts)

    @property
    def condition(self) -> str:
        """Its `if`."""
        return self.node.get("if").text

    @property
    def has_matrix(self) -> bool:
        """Whether it has several legs."""
        return self.node.get("strategy").get("matrix").given

    @property
    def labels(self) -> tuple[Node, ...]:
        """What it asks for with `runs-on`."""
        runs_on = self.node.get("runs-on")
        texts = runs_on.get("labels").texts if runs_on.entries else runs_on.texts
        return tuple(label for one in texts for label in _labels(one))

    @property
    def environment(self) -> Node:
        """The name of its environment; not `given` for none."""
        environment = self.node.get("environment")
        return environment.get("name") if environment.entries else environment


def _labels(node: Node) -> Iterator[Node]:
    """What a text asks for: a list that an expression makes is its plain words, and itself where it fills some in."""
    words = words_of_list(node.text)
    if words is None or needed(node.text):
        yield node
    for word in words or ():
        yield replace(node, text=word)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuJob:
    """A job that runs on a rented machine: whose label it waits for; nobody's for one with a fixed label."""

    job: Job
    starts: tuple[Call, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """One file."""

    file: str
    node: Node
    triggers: Mapping[str, Node]
    jobs: Mapping[str, Job]
    gpu_jobs: tuple[GpuJob, ...] = ()

    def calls(self, *modes: Mode) -> Iterator[Call]:
        """The calls of these modes, in the order of the file."""
        return (call for job in self.jobs.values() for call in job.calls if call.mode in modes)

    @property
    def is_scheduled(self) -> bool:
        """Whether it runs by the clock."""
        return "schedule" in self.triggers

    def users(self, start: Call) -> list[Job]:
        """The GPU jobs that wait for a start's label."""
        return [gpu.job for gpu in self.gpu_jobs if start in gpu.starts]

    def waits_for(self, job: Job, other: str) -> bool:
        """Whether a job begins only after another has ended."""
        seen: set[str] = set()
        todo = list(job.needs)
        while todo:
            name = todo.pop()
            if name == other:
                return True
            if name not in seen and name in self.jobs:
                seen.add(name)
                todo.extend(self.jobs[name].needs)
        return False

    def finding(self, check: Check, message: str, line: int) -> Finding:
        """A finding in this file; what the file says in the message is made one line that a terminal can show."""
        shown = "".join(letter if letter.isprintable() else "?" for letter in " ".join(message.split()))
        return Finding(check=check, message=shown, file=self.file, line=max(line, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """All workflows that are known; the `checked` ones are asked about, the others only looked at."""

    workflows: tuple[Workflow, ...]
    checked: frozenset[str]

    @property
    def checked_workflows(self) -> list[Workflow]:
        """Those that are asked about."""
        return [one for one in self.workflows if one.file in self.checked]

    @property
    def extra_labels(self) -> frozenset[str]:
        """Every further label that a start gives its runner."""
        calls = (call for one in self.workflows for call in one.calls(*RENTING))
        return frozenset(label for call in calls for label in call.labels or ())

    @property
    def has_cleanup(self) -> bool:
        """Whether a clean-up runs by the clock."""
        return any(one.is_scheduled and any(one.calls(Mode.CLEANUP)) for one in self.workflows)
