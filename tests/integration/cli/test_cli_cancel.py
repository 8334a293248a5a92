"""Cancellation as GitHub's runner does it: SIGINT, 7.5 s, SIGTERM, 2.5 s, SIGKILL, to the step's child alone."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod.settings import Progress

if TYPE_CHECKING:
    from integration.cli.conftest import Services

FIRST, SECOND = 7.5, 2.5


def _cancel_like_github(process: subprocess.Popen[str]) -> float:
    """Cancel it; how many seconds it took. Killed at the end of the second wait, as GitHub would."""
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    for wait, following in ((FIRST, signal.SIGTERM), (SECOND, signal.SIGKILL)):
        try:
            process.wait(wait)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(following)
    process.wait(5)
    return time.monotonic() - begin


def _wait_for_pod(services: Services) -> None:
    limit = time.monotonic() + 20
    while not services.runpod.live():
        assert time.monotonic() < limit, "no pod was rented"
        time.sleep(0.02)


def test_a_cancelled_start_ends_its_pod_in_time(services: Services) -> None:
    """While the pod boots: exit code 130, nothing left, well before SIGTERM; settle is the real service's."""
    services.runpod.settings.progress = Progress.timed(600)
    with services.spawn("start", environment={"RUNNER_PROVISIONER_SETTLE": "30"}) as process:
        _wait_for_pod(services)
        seconds = _cancel_like_github(process)
        err = process.communicate()[1]
    assert process.returncode == 130, err
    assert seconds < 7.4
    assert services.runpod.live() == [], err
    assert "error: cancelled by SIGINT" in err
    assert "Traceback" not in err


def test_a_service_that_hangs_does_not_keep_the_end_from_being_asked_for(services: Services) -> None:
    """GitHub and the list hang for ever; the pod's id is known and that is enough."""
    services.runpod.settings.progress = Progress.timed(600)
    with services.spawn("start") as process:
        _wait_for_pod(services)
        time.sleep(0.3)
        services.github.faults.add(Fault(operation="*", kind=FaultKind.HANG, times=None))
        services.runpod.faults.add(Fault(operation="myself.pods", kind=FaultKind.HANG, times=None))
        seconds = _cancel_like_github(process)
        err = process.communicate()[1]
    assert process.returncode == 130, err
    assert seconds < FIRST + SECOND
    assert services.runpod.live() == []


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.full),
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGHUP, id="SIGHUP", marks=pytest.mark.full),
    ],
)
def test_a_second_signal_does_not_cut_the_clean_up(services: Services, second: signal.Signals) -> None:
    """An impatient Ctrl-C, or GitHub's SIGTERM, while the end is being asked for."""
    services.runpod.settings.progress = Progress.timed(600)
    fault = services.runpod.faults.add(Fault(operation="podTerminate", kind=FaultKind.DELAY, seconds=1))
    with services.spawn("start") as process:
        _wait_for_pod(services)
        process.send_signal(signal.SIGINT)
        assert fault.reached.wait(5)
        process.send_signal(second)
        time.sleep(0.1)
        process.send_signal(second)
        err = process.communicate(timeout=15)[1]
    assert process.returncode == 130, err
    assert services.runpod.live() == []


def test_a_cancel_before_anything_is_rented_is_quick(services: Services) -> None:
    """Nothing to give back."""
    fault = services.github.faults.add(Fault(operation="*", kind=FaultKind.HANG, times=None))
    with services.spawn("start") as process:
        assert fault.reached.wait(10)
        seconds = _cancel_like_github(process)
        err = process.communicate()[1]
    assert process.returncode == 130, err
    assert seconds < 3
    assert services.runpod.pods() == []


def test_a_create_without_an_answer_is_left_to_stop(services: Services) -> None:
    """Cancelled while the create hangs, rented all the same: the next step's stop finds the pod by its name."""
    run_id = services.github.queue_job("octo/hello", ["nobody"])
    environment = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "workflow_dispatch",
        "GITHUB_RUN_ID": str(run_id),
        "GITHUB_RUN_ATTEMPT": "1",
        "RUNNER_TEMP": str(services.folder / "temp"),
    }
    fault = services.runpod.faults.add(Fault(operation="podFindAndDeployOnDemand", kind=FaultKind.HANG_AFTER))
    with services.spawn("start", "--interruptible", "never", environment=environment) as process:
        assert fault.reached.wait(20)
        _cancel_like_github(process)
        err = process.communicate()[1]
    assert process.returncode == 130, err
    assert services.run("stop", **environment).code == 0
    assert services.runpod.live() == []


def test_a_late_signal_does_not_spoil_a_start_that_was_reported(services: Services) -> None:
    """Once the label is out, somebody relies on it."""
    usher = services.usher()
    with services.spawn("start") as process:
        assert process.stdout is not None
        while not usher.online_at:
            time.sleep(0.005)
        assert process.stdout.readline().startswith("label: ")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)
    # Either the process had ended already, or it ends well.
    assert process.returncode in {0, -signal.SIGINT}
    assert len(services.runpod.live()) == 1


def test_other_commands_are_cancelled_too(services: Services) -> None:
    """Exit code 130, one line."""
    fault = services.runpod.faults.add(Fault(operation="*", kind=FaultKind.HANG, times=None))
    with services.spawn("gpu-types") as process:
        assert fault.reached.wait(10)
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=10)[1]
    assert (process.returncode, err) == (130, "error: cancelled by SIGTERM\n")
