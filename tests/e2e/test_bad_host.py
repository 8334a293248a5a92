"""Real pods on machines that are not what was rented, and on machines that are taken back."""

from __future__ import annotations

import shlex

import pytest
from support.e2e import Stage
from support.e2e_pods import listener
from support.e2e_steps import until

from runner_provisioner.domain.pods import Pod
from runner_provisioner.errors import ProvisioningFailed
from runner_provisioner.providers.runpod.states import to_pod
from runner_provisioner.providers.runpod.wire import WirePod
from runner_provisioner.simulators.runpod.catalog import Defect

A4000 = "NVIDIA RTX A4000"


def spoil(stage: Stage, gpu: str, defect: Defect) -> None:
    """Every machine with that model has this defect."""
    for machine in stage.world.runpod.market.hosts(gpu):
        machine.defect = defect


@pytest.mark.parametrize(
    ("defect", "reason"),
    [
        pytest.param(Defect.NO_GPU_TOOL, "nvidia-smi fails", id="no-nvidia-smi", marks=pytest.mark.full),
        pytest.param(Defect.ONE_GPU_LESS, "0 GPUs instead of 1", id="count", marks=pytest.mark.full),
        pytest.param(Defect.LITTLE_VRAM, "8192 MiB of VRAM instead of 14745", id="vram", marks=pytest.mark.full),
        pytest.param(Defect.OLD_DRIVER, "driver 470.57.02 instead of 500", id="driver", marks=pytest.mark.full),
        pytest.param(Defect.OTHER_MODEL, "GTX 1060 instead of RTX A4000", id="model", marks=pytest.mark.full),
    ],
)
def test_a_job_never_sees_a_bad_host(stage: Stage, defect: Defect, reason: str) -> None:
    """Its pod ends itself, its machine is quarantined, and the job runs on the next one."""
    spoil(stage, A4000, defect)
    run = stage.queue("nvidia-smi -L")
    place = stage.job(run)
    models = ("--rank", "listed", "--gpu", A4000, "--gpu", "NVIDIA RTX A5000")
    step = place.begin_start("--json", "--interruptible", "never", "--min-driver", "500", *models)
    done = step.wait().well()
    first, second = stage.pods
    assert (first.gpu_type_id, second.id) == (A4000, done.data["pod-id"])
    assert reason in stage.world.runpod.log(first.id)
    assert first.ended_at is not None
    told = [event for event in done.data["timeline"] if event["event"] == "machine_quarantined"]
    assert [(event["provider"], event["machine"]) for event in told] == [("runpod", first.machine.id)]
    place.provide(done.data["label"])
    assert stage.job_ended(run) == "success"
    place.call("stop").well()
    stage.gone(pods=2)


@pytest.mark.full
def test_when_the_only_offers_are_bad_the_start_says_why(stage: Stage) -> None:
    """One line, no runner, and nothing left."""
    spoil(stage, A4000, Defect.OLD_DRIVER)
    place = stage.job(stage.queue("true"))
    done = place.begin_start("--gpu", A4000, "--interruptible", "never", "--min-driver", "525").wait()
    assert done.code == ProvisioningFailed.exit_code, done.told
    assert "ended itself before its runner was registered" in done.stderr
    assert "container log" in done.stderr
    assert not stage.runners
    stage.gone(pods=1)


@pytest.mark.full
def test_without_the_gate_the_same_host_serves(stage: Stage) -> None:
    """`--gate off` is the user's own choice."""
    spoil(stage, A4000, Defect.NO_GPU_TOOL)
    place = stage.job(stage.queue("true"))
    place.start("--gpu", A4000, "--interruptible", "never", "--gate", "off")
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.parametrize(
    ("step", "seconds", "saved"),
    [
        pytest.param("bash -c {child}; true", 3, b"saved", id="child-of-the-step", marks=pytest.mark.full),
        pytest.param("exec bash -c {child}", 3, b"saved", id="in-place-of-the-step"),
        pytest.param("exec bash -c {child}", 9, b"", id="too-slow", marks=pytest.mark.full),
    ],
)
def test_an_interrupted_job_has_five_seconds_for_its_checkpoint(
    stage: Stage, step: str, seconds: float, saved: bytes
) -> None:
    """It hears TERM at once, and is killed with everything else five seconds later.

    Its step's shell stays for so long: GitHub's runner ends what a step leaves behind when its shell has ended.
    """
    with listener() as door:
        child = f"trap 'sleep {seconds}; printf saved >&3; exit' TERM; trap '' INT; exec 3<>{door.device}; "
        child += "echo ready; while :; do sleep 0.05; done"
        run = stage.queue(step.format(child=shlex.quote(child)))
        place = stage.job(run)
        written = place.start("--interruptible", "never")
        place.provide(written["label"])
        until(door.arrived.is_set, "the child runs")
        stage.world.runpod.interrupt(written["pod-id"])
        assert door.taken(20) == saved
        stage.world.runpod.wait_quiet()
        assert not stage.world.runpod.processes()


def test_a_pods_machine_is_read_from_the_service() -> None:
    """It is what a quarantine is kept by."""
    found = to_pod(WirePod.model_validate({"id": "p1", "desiredStatus": "RUNNING", "machineId": "abc123"}))
    assert isinstance(found, Pod)
    assert found.machine == "abc123"
