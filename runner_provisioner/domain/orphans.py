"""Whether anybody still owns a pod or a runner.

Only what is known counts: what could not be looked up is a reason to leave a thing alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from runner_provisioner.domain.leases import Unknown
from runner_provisioner.domain.markets import LeftTemplate
from runner_provisioner.domain.names import ManualName, RunKey
from runner_provisioner.domain.pods import Pod, PodClass
from runner_provisioner.domain.runners import Runner, RunnerState, RunStatus

UNREGISTERED_AFTER = timedelta(minutes=55)  # the longest start timeout plus five minutes


class Verdict(StrEnum):
    """What clean-up does with a thing."""

    ORPHAN = "orphan"
    OWNED = "owned"
    UNKNOWN = "unknown"
    ENDLESS = "endless"  # made by hand and never to be ended by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A verdict and its reason, in words for a person."""

    verdict: Verdict
    reason: str


Attempt = RunStatus | Unknown | None


def judge_pod(
    pod: Pod, *, now: datetime, lifetime: timedelta, attempt: Attempt, runner: Runner | Unknown | None
) -> Finding:
    """Judge one pod of ours.

    `attempt` is how far the pod's run attempt is: None when there is none to look up or GitHub knows none, Unknown
    when the look failed. `runner` is the registration of the pod's name. `lifetime` holds for pods whose own cannot
    be read.
    """
    if _by_hand(pod):
        return _judge_manual(pod, now)
    expires = _expiry(pod, lifetime)
    if expires is not None and now >= expires:
        return Finding(verdict=Verdict.ORPHAN, reason=f"past its lifetime, which ended at {expires:%Y-%m-%d %H:%M} UTC")
    if pod.tags is not None and attempt is RunStatus.COMPLETED:
        return Finding(verdict=Verdict.ORPHAN, reason="its run attempt is completed")
    old = pod.created_at is not None and now - pod.created_at > UNREGISTERED_AFTER
    if old and runner is None:
        return Finding(verdict=Verdict.ORPHAN, reason="older than 55 minutes and no runner of its name is registered")
    if old and attempt is None and _stands_still(pod, runner):
        return Finding(verdict=Verdict.ORPHAN, reason="older than 55 minutes, and neither it nor its runner works")
    if isinstance(attempt, Unknown) or (old and isinstance(runner, Unknown)):
        return Finding(verdict=Verdict.UNKNOWN, reason=_unknown_reason(attempt, runner))
    return Finding(verdict=Verdict.OWNED, reason="its run may still need it")


def _stands_still(pod: Pod, runner: Runner | Unknown | None) -> bool:
    """Whether neither the pod nor its registered runner works, which is all there is to go by without tags and run.

    While the runner counts as working, a `stop` will come and see what it was.
    """
    return not pod.alive and isinstance(runner, Runner) and runner.state is not RunnerState.BUSY


def _unknown_reason(attempt: Attempt, runner: Runner | Unknown | None) -> str:
    failed = attempt if isinstance(attempt, Unknown) else runner
    return f"could not be looked up: {failed.reason}" if isinstance(failed, Unknown) else "could not be looked up"


def _by_hand(pod: Pod) -> bool:
    if pod.tags is not None:
        return pod.tags.cls is PodClass.MANUAL
    return RunKey.parse(pod.name) is None


def _judge_manual(pod: Pod, now: datetime) -> Finding:
    expires = pod.tags.expires_at if pod.tags is not None else _named_expiry(pod.name)
    if expires is None:
        return Finding(verdict=Verdict.ENDLESS, reason="made by hand, without an end")
    if now >= expires:
        return Finding(verdict=Verdict.ORPHAN, reason=f"made by hand, to end at {expires:%Y-%m-%d %H:%M} UTC")
    return Finding(verdict=Verdict.OWNED, reason=f"made by hand, lives until {expires:%Y-%m-%d %H:%M} UTC")


def _named_expiry(name: str) -> datetime | None:
    parsed = ManualName.parse(name)
    return parsed.expires_at if parsed else None


def _expiry(pod: Pod, lifetime: timedelta) -> datetime | None:
    if pod.tags is not None and pod.tags.expires_at is not None:
        return pod.tags.expires_at
    return pod.created_at + lifetime if pod.created_at is not None else None


def judge_template(left: LeftTemplate, *, now: datetime) -> Finding:
    """Judge a template without a pod: a start of its time may still rent from it."""
    expires = left.tags.expires_at
    if expires is None:
        return Finding(verdict=Verdict.ENDLESS, reason="made by hand, without an end")
    if now < expires:
        return Finding(verdict=Verdict.OWNED, reason="a start may still rent from it")
    return Finding(verdict=Verdict.ORPHAN, reason=f"no pod came of it until {expires:%Y-%m-%d %H:%M} UTC")


def judge_runner(
    runner: Runner, *, attempt: Attempt, pods_known: bool, has_pod: bool, asked: Collection[str]
) -> Finding:
    """Judge one registration of ours; `pods_known` is whether all that take part, the `asked`, could be looked at."""
    if runner.state is RunnerState.BUSY:
        return Finding(verdict=Verdict.OWNED, reason="it is working")
    if has_pod:
        return Finding(verdict=Verdict.OWNED, reason="its pod exists")
    if runner.provider is not None and runner.provider not in asked:
        return Finding(verdict=Verdict.UNKNOWN, reason=f"its pod is at {runner.provider}, which nobody could look at")
    if not pods_known:
        return Finding(verdict=Verdict.UNKNOWN, reason="not every provider could be looked at")
    if isinstance(attempt, Unknown):
        return Finding(verdict=Verdict.UNKNOWN, reason=f"its run could not be looked up: {attempt.reason}")
    if attempt is RunStatus.COMPLETED:
        return Finding(verdict=Verdict.ORPHAN, reason="its run attempt is completed")
    return Finding(verdict=Verdict.OWNED, reason="its run may still need it")
