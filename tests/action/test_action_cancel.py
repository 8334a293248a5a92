"""A run is cancelled while the action starts a machine: the signals of GitHub's runner, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.action_process import AFTER_INT, orphans
from support.action_stage import INSTALL, PROGRAM, ROOT, SETTLE, ActionStage, SetUpAction, Use, queue
from support.e2e_steps import until

from runner_provisioner.errors import Cancelled
from runner_provisioner.simulators.faults import Fault, FaultKind

CREATE = "podFindAndDeployOnDemand"
WINDOW = 7.0  # seconds within which `start` promises to have ended what it knows of


def before_anything(_stage: ActionStage, use: Use) -> None:
    """The program has only just begun."""
    until(lambda: "as it is called" in use.job.log.text, "the program is called")


def while_created(stage: ActionStage, use: Use) -> None:
    """The pod is rented, the answer still out."""
    held = stage.stage.strike("runpod", Fault(operation=CREATE, kind=FaultKind.HOLD_AFTER))
    use.begin()
    until(lambda: held.reached.is_set() and stage.stage.live, "the create is done")


def while_booting(_stage: ActionStage, use: Use) -> None:
    """The pod is known and has no runtime yet."""
    until(lambda: "boots" in use.job.log.text, "start waits for the pod")


def cancelled_as_it_should_be(stage: ActionStage, use: Use) -> None:
    """One signal was enough, in time; nothing of the step lives on, and nothing is rented."""
    program = use.step(PROGRAM)
    assert program.outcome == "cancelled", use.told
    assert program.signals == ("SIGINT",), use.told
    assert program.code == Cancelled.exit_code, use.told
    assert program.seconds < WINDOW
    assert use.conclusion == "cancelled"
    assert use.job.orphans == {}
    assert use.step(SETTLE).outcome == "success", use.told
    stage.world.runpod.faults.clear()
    assert stage.stage.live == []


@pytest.mark.parametrize("moment", [while_created, pytest.param(while_booting, marks=pytest.mark.full)])
def test_a_cancelled_start_leaves_nothing(
    set_up_action: SetUpAction, moment: Callable[[ActionStage, Use], None]
) -> None:
    """What is known is ended in the step itself, the step after it ends what was not."""
    stage = set_up_action(inert=True, boot_seconds=30.0)
    run_id = queue(stage.stage)
    use = stage.use(run_id)
    if moment is not while_created:
        use.begin()
    moment(stage, use)
    use.cancel()
    cancelled_as_it_should_be(stage, use)
    stage.stage.gone(pods=1)


def test_a_start_cancelled_before_it_rented_ends_well(set_up_action: SetUpAction) -> None:
    """Whatever it was about to do: it is over at once, and there is neither pod nor runner."""
    stage = set_up_action(inert=True, boot_seconds=30.0)
    use = stage.use(queue(stage.stage)).begin()
    before_anything(stage, use)
    use.cancel()
    assert use.step(PROGRAM).seconds < WINDOW
    assert use.conclusion == "cancelled"
    assert use.job.orphans == {}
    stage.stage.gone()


@pytest.mark.full
def test_a_create_that_arrives_after_the_cancellation_is_settled(set_up_action: SetUpAction) -> None:
    """The step that runs always ends the pod of a create that was under way."""
    stage = set_up_action(inert=True)
    held = stage.stage.strike("runpod", Fault(operation=CREATE, kind=FaultKind.HOLD_BEFORE))
    stage.stage.pace["RUNNER_PROVISIONER_SETTLE"] = "3"
    use = stage.use(queue(stage.stage)).begin()
    until(held.reached.is_set, "the create is under way")
    use.job.cancel()
    until(lambda: "Settle" in use.job.log.step, "the step after it begins")
    held.release.set()
    use.join()
    assert use.step(PROGRAM).outcome == "cancelled"
    assert use.step(SETTLE).outcome == "success", use.told
    stage.stage.gone(pods=1)


@pytest.mark.full
def test_without_exec_the_same_test_fails(set_up_action: SetUpAction) -> None:
    """A step whose shell stays in front never hears of it: it is killed, and the program lives on as an orphan."""
    stage = set_up_action(inert=True, boot_seconds=30.0)
    text = (ROOT / "action.yml").read_text()
    good, bad = (
        'run: exec bash "$GITHUB_ACTION_PATH/action/run.sh"',
        'run: bash "$GITHUB_ACTION_PATH/action/run.sh"; true',
    )
    assert text.count(good) == 1
    stage.changed = text.replace(good, bad)
    use = stage.use(queue(stage.stage)).begin()
    while_booting(stage, use)
    use.job.cancel()
    until(lambda: "Settle" in use.job.log.step, "the step is over")
    lives_on = " ".join(orphans(use.job.mark).values())
    use.join()
    with pytest.raises(AssertionError):
        cancelled_as_it_should_be(stage, use)
    assert use.step(PROGRAM).signals[:2] == ("SIGINT", "SIGTERM")
    assert use.step(PROGRAM).seconds > AFTER_INT
    assert "runner_provisioner" in lives_on


@pytest.mark.full
def test_cancelled_while_it_installs(set_up_action: SetUpAction) -> None:
    """Nothing was begun, so nothing is settled."""
    stage = set_up_action(inert=True)
    stage.machine["PATH"] = slow_tools(stage)
    use = stage.use(queue(stage.stage), ready=False).begin()
    until(lambda: use.job.log.step == INSTALL and use.job.log.open_groups, "it installs")
    use.cancel()
    assert use.step(INSTALL).outcome == "cancelled"
    assert use.step(PROGRAM).outcome == "skipped"
    assert use.step(SETTLE).outcome == "skipped"
    stage.stage.gone(pods=0)


def slow_tools(stage: ActionStage) -> str:
    """A PATH whose uv takes its time."""
    folder = stage.stage.folder / "slow"
    folder.mkdir()
    (folder / "uv").write_text("#!/bin/sh\nexec sleep 30\n")
    (folder / "uv").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"
