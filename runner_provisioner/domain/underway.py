"""Whether a start may still be waiting for the pod that somebody else's stop has ended."""

from __future__ import annotations

from datetime import datetime, timedelta

from runner_provisioner.domain.leases import Limits, Observation, Unknown
from runner_provisioner.domain.orphans import UNREGISTERED_AFTER
from runner_provisioner.domain.pods import Pod
from runner_provisioner.domain.runners import Runner, RunnerState


def may_be_under_way(found: Observation, *, now: datetime, reports_within: timedelta) -> bool:
    """Whether the start of the pod that a stop found and ended may not have reported it yet.

    A start reports a pod once its runner is online and the pod is `reports_within` old.
    """
    if isinstance(found.pods, Unknown) or not found.pods:
        return True  # it turned up later: it was too young for the list
    return any(_may_be_waited_for(pod, found, now, reports_within) for pod in found.pods)


def _may_be_waited_for(pod: Pod, found: Observation, now: datetime, reports_within: timedelta) -> bool:
    age = now - pod.created_at if pod.created_at is not None else timedelta(0)
    if age > UNREGISTERED_AFTER:
        return False  # no start takes so long
    runner = found.runner
    came = isinstance(runner, Runner) and (runner.online or runner.state is RunnerState.BUSY)
    return not came or age <= reports_within


def reports_within(limits: Limits, *, poll: float) -> timedelta:
    """How old a pod with a runner can be before its start has surely reported it; `poll` is in seconds."""
    return limits.settle + timedelta(seconds=2 * poll)


def rents_again_within(limits: Limits, *, poll: float) -> timedelta:
    """How long after the end of its pod a start may show a next one.

    It looks, believes its eyes after `settle`, and asks for the next offer some passes later; the list may hide the new
    pod for `settle`.
    """
    return 2 * limits.settle + timedelta(seconds=4 * poll)
