"""What goes wrong while `start` works: lost answers, second starts, pods that do not become runners."""

from __future__ import annotations

import time

import pytest
from support.e2e import SetUp, Stage
from support.e2e_pods import Ends, idles
from support.e2e_steps import Done, until

from runner_provisioner.errors import BootTimeout
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.pods.host import Image
from runner_provisioner.simulators.world import WorldPlan

CREATE = "podFindAndDeployOnDemand"
ONE_OFFER = ("--gpu", "NVIDIA RTX A4000", "--interruptible", "never")


@pytest.mark.full
def test_a_create_whose_answer_is_lost_is_found_and_adopted(stage: Stage) -> None:
    """The pod was rented, the connection cut: one create, one pod, one bill."""
    place = stage.job(stage.queue("true"))
    stage.strike("runpod", Fault(operation=CREATE, kind=FaultKind.DROP_AFTER))
    written = place.start(*ONE_OFFER)
    assert stage.creates() == 1
    assert [pod.id for pod in stage.live] == [written["pod-id"]]
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.full
def test_a_lost_answer_under_list_lag_is_waited_for(stage: Stage) -> None:
    """While lists do not show the pod yet no other one is rented."""
    stage.world.runpod.settings.list_lag = 1.0
    stage.pace["RUNNER_PROVISIONER_SETTLE"] = "1.6"
    place = stage.job(stage.queue("true"))
    stage.strike("runpod", Fault(operation=CREATE, kind=FaultKind.DROP_AFTER))
    place.start()
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.parametrize(
    "boot",
    [
        pytest.param(2.5, id="slow boot", marks=pytest.mark.full),
        pytest.param(0.0, id="quick boot", marks=pytest.mark.full),
    ],
)
def test_of_two_starts_at_once_one_pod_lives(set_up: SetUp, boot: float) -> None:
    """Same key, same state file, lists that lag, both creates done: at least one succeeds, exactly one pod lives.

    Where pods boot quicker than lists know them, the younger pod may take the name at GitHub: the older one then ends
    itself, the younger is ended as surplus, and a next offer serves.
    """
    stage = set_up(WorldPlan(boot_seconds=boot))
    stage.world.runpod.settings.list_lag = 1.0
    stage.pace["RUNNER_PROVISIONER_SETTLE"] = "1.6"
    place = stage.job(stage.queue("true"))
    held = stage.strike("runpod", Fault(operation=CREATE, kind=FaultKind.HOLD_BEFORE, times=2))
    starts = [place.begin_start("--json", "--interruptible", "never") for _ in range(2)]
    until(lambda: stage.world.runpod.faults.count(CREATE) == 2, "both want to rent")
    held.release.set()
    done = [start.wait() for start in starts]
    check_winners(stage, done)
    place.call("stop").well()
    stage.gone()


def check_winners(stage: Stage, done: list[Done]) -> None:
    """Whoever succeeded did so with the one pod that lives, and with one label."""
    winners = [one.data for one in done if one.code == 0]
    assert winners, [one.told for one in done]
    assert {one["pod-id"] for one in winners} == {pod.id for pod in stage.live}, [one.told for one in done]
    assert len({one["label"] for one in winners}) == 1
    assert len(stage.live) == 1


@pytest.mark.full
def test_after_a_boot_timeout_the_second_offer_survives(set_up: SetUp) -> None:
    """The first pod's runner never comes; under list lag the second pod is not taken for the first."""
    stage = set_up(acts=[idles])
    stage.world.runpod.settings.list_lag = 1.0
    stage.pace["RUNNER_PROVISIONER_SETTLE"] = "1.6"
    run_id = stage.queue("true")
    place = stage.job(run_id)
    written = place.start("--boot-timeout", "5s", "--interruptible", "never")
    assert [pod.id for pod in stage.live] == [written["pod-id"]] == [stage.pods[1].id]
    place.provide(written["label"])
    assert stage.job_ended(run_id) == "success"
    place.call("stop").well()
    stage.gone(pods=2)


@pytest.mark.full
def test_a_pod_that_never_gets_a_runtime_is_given_back(stage: Stage) -> None:
    """An image that cannot be pulled: boot timeout, nothing left, nothing else tried."""
    stage.world.runpod.settings.unpullable.add("sim/nowhere")
    place = stage.job(stage.queue("true"))
    done = place.begin_start("--image", "sim/nowhere", "--boot-timeout", "2s", *ONE_OFFER).wait()
    assert done.code == BootTimeout.exit_code, done.told
    stage.gone(pods=1)


@pytest.mark.full
def test_an_image_without_an_https_client_sleeps_and_is_given_back(stage: Stage, confined: None) -> None:
    """Its pod cannot end itself and says so; `start` ends it when the boot timeout is over."""
    hidden = ("curl", "wget", "python3*", "openssl", "apt*")
    stage.world.runpod.images["sim/bare"] = Image(name="sim/bare", hide=hidden)
    place = stage.job(stage.queue("true"))
    done = place.begin_start("--image", "sim/bare", "--boot-timeout", "8s", *ONE_OFFER).wait()
    assert done.code == BootTimeout.exit_code, done.told
    log = stage.world.runpod.log(stage.pods[0].id)
    assert log.count("cannot end this pod") == 1, log
    assert not stage.pods[0].happened("container exited")
    stage.gone(pods=1)


def test_an_interrupted_pod_is_followed_by_the_next_offer(set_up: SetUp) -> None:
    """The provider takes the spot pod back while it boots."""
    stage = set_up(WorldPlan(spot=True, interrupt_after=0.6, boot_seconds=1.0))
    place = stage.job(stage.queue("true"))
    written = place.start()
    first, second = stage.pods
    assert first.happened("interrupted")
    assert first.ended_at is not None
    assert second.id == written["pod-id"]
    place.call("stop").well()
    stage.gone(pods=2)


@pytest.mark.parametrize(
    "restart",
    [
        pytest.param(False, id="exited", marks=pytest.mark.full),
        pytest.param(True, id="restarted", marks=pytest.mark.full),
    ],
)
def test_a_container_that_ends_is_not_waited_for(set_up: SetUp, *, restart: bool) -> None:
    """Its pod is given back long before any timeout, and the next offer serves."""
    act = Ends()
    stage = set_up(acts=[act])
    stage.world.runpod.settings.restart = restart
    stage.world.runpod.settings.restart_delay = 0.0
    place = stage.job(stage.queue("true"))
    start = place.begin_start()
    until(lambda: act.container, "the container runs")
    seen = stage.world.runpod.faults.count("pod")
    until(lambda: stage.world.runpod.faults.count("pod") >= seen + 2, "start sees that it runs")
    # An uptime of whole seconds shows a restart only after the first one.
    time.sleep(1.2 if restart else 0)
    act.finish()
    start.wait(30).well()
    assert len(stage.live) == 1
    place.call("stop").well()
    stage.gone(pods=2)


@pytest.mark.full
def test_a_refused_registration_ends_the_pod_from_inside(stage: Stage) -> None:
    """GitHub refuses the runner: its pod ends itself, and `start` goes on to the next offer without waiting."""
    stage.strike("github", Fault(operation="_runner.register", kind=FaultKind.ERROR, status=403, body="{}"))
    place = stage.job(stage.queue("true"))
    done = place.begin_start("--interruptible", "never").wait().well()
    assert done.seconds < 30
    assert stage.pods[0].ended_at is not None
    place.call("stop").well()
    stage.gone(pods=2)
