"""Pods that boot bare: nothing of ours runs in them before somebody has logged in and started it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runner_provisioner.domain.gate import PodPhase, PodReport


class Stage(StrEnum):
    """How far such a pod is."""

    SHUT = "shut"  # nobody can log in yet
    BARE = "bare"  # nothing of ours has begun
    BEGUN = "begun"
    OVER = "over"  # what had begun runs no more, as after a restart of the machine; it never begins again


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What a look into it has shown.

    `report` is the start script's, `pinned` the fingerprint of its host key where that was pinned just now.
    """

    stage: Stage
    report: PodReport | None = None
    pinned: str | None = None

    @property
    def failure(self) -> str | None:
        """Why its gate failed, in the pod's own words."""
        failed = self.report is not None and self.report.phase is PodPhase.GATE_FAILED
        return self.report.reason or "no reason" if failed and self.report else None
