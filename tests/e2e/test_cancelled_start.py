"""`start` is cancelled as GitHub's runner does it: SIGINT to the direct child, then SIGTERM, then SIGKILL."""

from __future__ import annotations

import pytest
from support.e2e import SetUp, Stage
from support.e2e_steps import AFTER_INT, Step, until

from runner_provisioner.errors import Cancelled
from runner_provisioner.simulators.faults import ANY, Fault, FaultKind
from runner_provisioner.simulators.world import WorldPlan

CREATE = "podFindAndDeployOnDemand"
WINDOW = 7.0


def during_create(stage: Stage, _start: Step) -> None:
    """The pod is rented, the answer still out."""
    held = stage.strike("runpod", Fault(operation=CREATE, kind=FaultKind.HOLD_AFTER))
    until(lambda: held.reached.is_set() and stage.live, "the create is done")


def during_boot(stage: Stage, start: Step) -> None:
    """The answer is there, the pod has no runtime."""
    until(lambda: f"pod {stage.live[0].id} boots" in said(start) if stage.live else False, "start waits for the pod")


def during_settle(stage: Stage, start: Step) -> None:
    """The runner is online, and `start` waits for the look that shows its pod to be the only one."""
    until(lambda: "runner is online" in said(start), "start sees the runner")


def said(start: Step) -> str:
    """What it has told so far."""
    return (start.folder / "stderr").read_text()


@pytest.mark.parametrize(
    "moment", [during_create, *(pytest.param(one, marks=pytest.mark.full) for one in (during_boot, during_settle))]
)
def test_a_cancelled_start_ends_what_is_known_in_time(set_up: SetUp, moment: object) -> None:
    """One signal is enough: within 7 s it is over and no pod lives; the always() step finds nothing more to do."""
    stage = set_up(WorldPlan(boot_seconds=30.0 if moment is during_boot else 0.2))
    if moment is during_settle:
        stage.pace["RUNNER_PROVISIONER_SETTLE"] = "30"
    place = stage.job(stage.queue("true"))
    start = place.begin_start()
    assert callable(moment)
    moment(stage, start)
    done = start.cancel()
    assert done.signals == ("SIGINT",), done.told
    assert done.code == Cancelled.exit_code, done.told
    assert done.seconds < WINDOW
    assert stage.live == [], done.told
    stage.world.runpod.faults.clear()
    place.environ |= stage.pace | {"RUNNER_PROVISIONER_SETTLE": "0.3"}
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.full
def test_a_create_that_arrives_after_the_cancellation_is_ended_by_stop(stage: Stage) -> None:
    """It was under way when the step ended: the next step of the action ends what came of it."""
    held = stage.strike("runpod", Fault(operation=CREATE, kind=FaultKind.HOLD_BEFORE))
    place = stage.job(stage.queue("true"))
    start = place.begin_start()
    until(held.reached.is_set, "the create is under way")
    done = start.cancel()
    assert done.code == Cancelled.exit_code, done.told
    assert done.seconds < AFTER_INT
    held.release.set()
    until(lambda: stage.live, "it rents a pod")
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.full
def test_a_cancellation_that_nobody_answers_still_ends_in_time(set_up: SetUp) -> None:
    """Both services hang: the step is over before GitHub would kill it, and `stop` ends the pod afterwards."""
    stage = set_up(WorldPlan(boot_seconds=30.0))
    place = stage.job(stage.queue("true"))
    start = place.begin_start()
    during_boot(stage, start)
    for service in ("runpod", "github"):
        stage.strike(service, Fault(operation=ANY, kind=FaultKind.HANG, times=None))
    done = start.cancel()
    assert done.signals == ("SIGINT",), done.told
    assert done.code == Cancelled.exit_code, done.told
    stage.world.runpod.faults.clear()
    stage.world.github.faults.clear()
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.full
def test_a_second_signal_does_not_cut_the_giving_back_short(set_up: SetUp) -> None:
    """SIGTERM follows while the pod is being ended: it is ended all the same."""
    stage = set_up(WorldPlan(boot_seconds=30.0))
    place = stage.job(stage.queue("true"))
    start = place.begin_start()
    during_boot(stage, start)
    slow = stage.strike("runpod", Fault(operation="podTerminate", kind=FaultKind.HOLD_BEFORE))
    start.process.send_signal(2)
    until(slow.reached.is_set, "the end is asked for")
    start.process.send_signal(15)
    slow.release.set()
    assert start.wait(WINDOW).code == Cancelled.exit_code
    assert stage.live == []
    stage.gone(pods=1)
