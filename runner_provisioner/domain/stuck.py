"""Whether a queued job waits for a machine that will never come.

The label of a start belongs to one machine. A job that asks for it once the machine is gone ("Re-run failed jobs", a
pod that was taken back) would wait for a day. Only what is known counts: a job whose machine may come is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.pods import Pod, PodClass, PodState
from runner_provisioner.domain.runners import Runner, RunnerState

QUEUED_TOO_LONG = timedelta(minutes=5)
_OURS = re.compile(r"rp-[a-z]{26}")
_WITHOUT_RUNNER = frozenset({PodState.INTERRUPTED, PodState.STOPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job that waits for a runner; `queued_at` is the latest moment since which it can have waited."""

    id: int
    run_id: int
    name: str
    labels: tuple[str, ...]
    queued_at: datetime

    @property
    def wanted(self) -> frozenset[str]:
        """The labels among its own that only a start of this program gives out."""
        return frozenset(label.lower() for label in self.labels if _OURS.fullmatch(label.lower()))


def waits_too_long(job: QueuedJob, now: datetime) -> bool:
    """Whether a job asks for one of our machines for longer than a machine that is there would take."""
    return bool(job.wanted) and now - job.queued_at > QUEUED_TOO_LONG


def is_served(job: QueuedJob, pods: Collection[Pod], runners: Collection[Runner], owner8: str) -> bool:
    """Whether any of these may still take the job.

    `pods` are those of the whole account, `runners` all of the scope. A runner that is offline may come back, unless it
    is of this owner and no pod of its name may run: its credential was in the pod alone.
    """
    names = {pod.name for pod in pods if pod.state not in _WITHOUT_RUNNER}
    return any(_pod_may(pod, job) for pod in pods) or any(_runner_may(one, job, names, owner8) for one in runners)


def _pod_may(pod: Pod, job: QueuedJob) -> bool:
    if pod.state in _WITHOUT_RUNNER:
        return False
    if pod.tags is not None and pod.tags.cls is PodClass.MANUAL:
        return False
    if pod.tags is not None and pod.tags.label is not None:
        return pod.tags.label.lower() in job.wanted
    # Its label cannot be read: whether it is for this run, the name says, and that of a local start does not.
    key = RunKey.parse(pod.name)
    return key is not None and key.run_id in {None, job.run_id}


def _runner_may(runner: Runner, job: QueuedJob, pods: Collection[str], owner8: str) -> bool:
    if not job.wanted & {label.lower() for label in runner.labels}:
        return False
    is_ours = runner.name.startswith(f"rp-{owner8}-")
    return runner.state is not RunnerState.OFFLINE or not is_ours or runner.name in pods
