"""What clean-up ends, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from runner_provisioner.domain.leases import Unknown
from runner_provisioner.domain.names import manual_name
from runner_provisioner.domain.orphans import Attempt, Verdict, judge_pod, judge_runner
from runner_provisioner.domain.pods import Pod, PodClass, PodId, PodState, PodTags
from runner_provisioner.domain.runners import Runner, RunnerId, RunnerState, RunStatus, provider_label

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
LIFETIME = timedelta(hours=6)
DOWN = Unknown(reason="GitHub is down")
RUNNER = Runner(id=RunnerId(1), name="rp-0123abcd-zz-1-a", state=RunnerState.IDLE)
WORKING = replace(RUNNER, state=RunnerState.BUSY)
TAGS = PodTags(owner="0123abcd", cls=PodClass.RUNNER, repository="o/r", expires_at=NOW + timedelta(hours=5))


def pod(*, age: float = 10, tags: PodTags | None = TAGS, name: str = "rp-0123abcd-zz-1-a") -> Pod:
    """A pod, some minutes old."""
    return Pod(
        provider="runpod",
        id=PodId("p"),
        name=name,
        state=PodState.RUNNING,
        created_at=NOW - timedelta(minutes=age),
        tags=tags,
    )


def taken(*, age: float = 56) -> Pod:
    """One that the provider has taken back, and that tells nothing of its run."""
    return replace(pod(age=age, tags=None), state=PodState.INTERRUPTED)


@pytest.mark.parametrize(
    ("one", "attempt", "runner", "verdict"),
    [
        pytest.param(pod(), RunStatus.ACTIVE, RUNNER, Verdict.OWNED, id="its-run-is-active"),
        pytest.param(pod(), RunStatus.COMPLETED, RUNNER, Verdict.ORPHAN, id="its-run-is-over"),
        pytest.param(pod(), RunStatus.COMPLETED, WORKING, Verdict.ORPHAN, id="its-run-is-over-and-its-job-hangs"),
        pytest.param(pod(age=400, tags=None), RunStatus.ACTIVE, WORKING, Verdict.ORPHAN, id="works-past-its-lifetime"),
        pytest.param(pod(tags=None), RunStatus.COMPLETED, RUNNER, Verdict.OWNED, id="over-but-whose-run-is-not-known"),
        pytest.param(pod(), None, RUNNER, Verdict.OWNED, id="a-404-is-no-ground"),
        pytest.param(pod(), DOWN, RUNNER, Verdict.UNKNOWN, id="run-could-not-be-looked-up"),
        pytest.param(pod(age=54), None, None, Verdict.OWNED, id="young-without-runner"),
        pytest.param(pod(age=56), None, None, Verdict.ORPHAN, id="old-without-runner"),
        pytest.param(pod(age=56), None, RUNNER, Verdict.OWNED, id="old-with-runner"),
        pytest.param(taken(), None, RUNNER, Verdict.ORPHAN, id="taken-and-its-runner-waits"),
        pytest.param(taken(), None, WORKING, Verdict.OWNED, id="taken-and-its-job-is-not-over-yet"),
        pytest.param(taken(), RunStatus.ACTIVE, RUNNER, Verdict.OWNED, id="taken-and-its-run-is-active"),
        pytest.param(taken(age=54), None, RUNNER, Verdict.OWNED, id="young-and-taken"),
        pytest.param(pod(age=56), None, DOWN, Verdict.UNKNOWN, id="old-and-runners-not-seen"),
        pytest.param(pod(age=400, tags=None), None, RUNNER, Verdict.ORPHAN, id="past-the-default-lifetime"),
        pytest.param(
            pod(tags=PodTags(owner="0123abcd", cls=PodClass.RUNNER, expires_at=NOW)),
            None,
            RUNNER,
            Verdict.ORPHAN,
            id="past-its-own-lifetime",
        ),
        pytest.param(
            Pod(provider="runpod", id=PodId("p"), name="rp-0123abcd-zz-1-a", state=PodState.RUNNING),
            None,
            None,
            Verdict.OWNED,
            id="of-unknown-age",
        ),
    ],
)
def test_runner_pods(one: Pod, attempt: Attempt, runner: Runner | Unknown | None, verdict: Verdict) -> None:
    """Only what is known counts."""
    finding = judge_pod(one, now=NOW, lifetime=LIFETIME, attempt=attempt, runner=runner)
    assert finding.verdict is verdict
    assert finding.reason


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        pytest.param(
            pod(tags=PodTags(owner="0", cls=PodClass.MANUAL, expires_at=NOW), name="mine"),
            Verdict.ORPHAN,
            id="tagged-past",
        ),
        pytest.param(
            pod(tags=PodTags(owner="0", cls=PodClass.MANUAL, expires_at=NOW + LIFETIME), name="mine"),
            Verdict.OWNED,
            id="tagged-in-time",
        ),
        pytest.param(
            pod(tags=PodTags(owner="0", cls=PodClass.MANUAL), name="mine"), Verdict.ENDLESS, id="tagged-endless"
        ),
        pytest.param(
            pod(tags=None, name=manual_name("0123abcd", NOW - LIFETIME, "abcd")), Verdict.ORPHAN, id="named-past"
        ),
        pytest.param(
            pod(tags=None, name=manual_name("0123abcd", NOW + LIFETIME, "abcd")), Verdict.OWNED, id="named-in-time"
        ),
        pytest.param(pod(tags=None, name="my-training", age=10_000), Verdict.ENDLESS, id="users-own-name-unreadable"),
    ],
)
def test_pods_made_by_hand_end_only_past_their_lifetime(one: Pod, verdict: Verdict) -> None:
    """Whatever the runs say."""
    finding = judge_pod(one, now=NOW, lifetime=LIFETIME, attempt=RunStatus.COMPLETED, runner=None)
    assert finding.verdict is verdict


@pytest.mark.parametrize(
    ("state", "attempt", "known", "has_pod", "verdict"),
    [
        pytest.param(RunnerState.BUSY, RunStatus.COMPLETED, True, False, Verdict.OWNED, id="busy"),
        pytest.param(RunnerState.IDLE, RunStatus.COMPLETED, True, True, Verdict.OWNED, id="its-pod-is-there"),
        pytest.param(RunnerState.IDLE, RunStatus.COMPLETED, False, False, Verdict.UNKNOWN, id="provider-not-seen"),
        pytest.param(RunnerState.IDLE, DOWN, True, False, Verdict.UNKNOWN, id="run-not-seen"),
        pytest.param(RunnerState.OFFLINE, RunStatus.COMPLETED, True, False, Verdict.ORPHAN, id="orphan"),
        pytest.param(RunnerState.OFFLINE, RunStatus.ACTIVE, True, False, Verdict.OWNED, id="run-active"),
        pytest.param(RunnerState.OFFLINE, None, True, False, Verdict.OWNED, id="no-run"),
    ],
)
def test_runners(state: RunnerState, attempt: Attempt, known: bool, has_pod: bool, verdict: Verdict) -> None:  # noqa: FBT001 - a table
    """A runner is an orphan only when all is known of it."""
    one = Runner(id=RunnerId(1), name="rp-0123abcd-zz-1-a", state=state)
    assert judge_runner(one, attempt=attempt, pods_known=known, has_pod=has_pod, asked=()).verdict is verdict


@pytest.mark.parametrize(("asked", "verdict"), [(["runpod"], Verdict.UNKNOWN), (["prime"], Verdict.ORPHAN)])
def test_a_runner_whose_pod_nobody_could_look_at_is_no_orphan(asked: list[str], verdict: Verdict) -> None:
    """Its label says which provider would have had to be asked."""
    one = Runner(id=RunnerId(1), name="rp-0123abcd-zz-1-a", state=RunnerState.IDLE, labels=(provider_label("prime"),))
    finding = judge_runner(one, attempt=RunStatus.COMPLETED, pods_known=True, has_pod=False, asked=asked)
    assert finding.verdict is verdict
    assert ("prime" in finding.reason) is (verdict is Verdict.UNKNOWN)
