"""The library face of the guides, against the simulator on loopback, as a user would call it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

import runner_provisioner
from runner_provisioner import runpod
from runner_provisioner.domain.names import ManualName, Scope
from runner_provisioner.errors import CreateOutcomeUnknown, MissingCredential, NotFound, UnknownGpu
from runner_provisioner.runpod import RunPodAPIClient, RunPodAPIError, RunPodError
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod import RunPodSimulator

GPU = "NVIDIA RTX A4000"
IMAGE = "runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel"


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RunPodSimulator]:
    """RunPod on loopback, and an environment that leads to it and to nothing else."""
    monkeypatch.setattr("os.environ", {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    monkeypatch.chdir(tmp_path)
    with RunPodSimulator() as made, made.serve() as server:
        monkeypatch.setenv("RUNPOD_API_URL", f"{server.url}/graphql")
        monkeypatch.setenv("RUNPOD_API_KEY", made.key)
        yield made


async def test_the_async_functions_carry_a_pod_through_its_life(simulator: RunPodSimulator) -> None:
    """The example of the HTTP guide's library."""
    pod = await runpod.create_pod(name="my-pod", image_name=IMAGE, gpu_type_id=GPU, env={"JUPYTER_TOKEN": "t"})
    assert pod["name"] == "my-pod"
    assert pod["terminateAfter"]
    assert (await runpod.get_pod(pod_id=pod["id"]))["desiredStatus"] == "RUNNING"
    assert (await runpod.stop_pod(pod_id=pod["id"]))["desiredStatus"] == "STOPPED"
    assert (await runpod.get_pod(pod["id"]))["desiredStatus"] == "STOPPED"
    assert (await runpod.resume_pod(pod_id=pod["id"]))["desiredStatus"] == "RUNNING"
    assert [each["id"] for each in await runpod.list_pods()] == [pod["id"]]
    assert await runpod.terminate_pod(pod_id=pod["id"]) == {"success": True, "podId": pod["id"]}
    assert simulator.live() == []


def test_the_blocking_client_carries_a_pod_through_its_life(simulator: RunPodSimulator) -> None:
    """The example of the direct usage guide, env as a list."""
    client = RunPodAPIClient()
    pod = client.create_pod(
        name="my-training-pod",
        gpu_type_id=GPU,
        image_name=IMAGE,
        gpu_count=1,
        volume_in_gb=50,
        container_disk_in_gb=30,
        volume_mount_path="/workspace",
        env=[{"key": "PYTHONUNBUFFERED", "value": "1"}],
    )
    pod_info = client.get_pod(pod["id"])
    assert pod_info["desiredStatus"] == "RUNNING"
    assert pod_info.get("runtime", {}).get("gpus", [])
    assert client.stop_pod(pod["id"])["desiredStatus"] == "STOPPED"
    assert client.start_pod(pod["id"], gpu_count=1)["desiredStatus"] == "RUNNING"
    assert [each["id"] for each in client.list_pods()] == [pod["id"]]
    assert GPU in {gpu["id"] for gpu in client.gpu_types()}
    client.terminate_pod(pod["id"])
    client.close()
    assert simulator.live() == []
    assert simulator.key not in repr(client)


def test_a_spot_pod_is_bid_for_and_resumed_with_a_bid(simulator: RunPodSimulator) -> None:
    """As long as somebody sells them."""
    simulator.market.spot = True
    with RunPodAPIClient() as client:
        pod = client.create_pod(gpu_type_id=GPU, image_name=IMAGE, bid_per_gpu=0.5)
        client.stop_pod(pod["id"])
        assert client.start_pod(pod["id"], bid_per_gpu=0.5)["status"] == "starting"
        simulator.market.spot = False
        with pytest.raises(RunPodAPIError, match="no longer offers"):
            client.create_pod(gpu_type_id=GPU, image_name=IMAGE, bid_per_gpu=0.5)


async def test_a_pod_without_a_name_gets_one_that_tells_its_end_and_owner(
    simulator: RunPodSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner is the repository's in Actions, else nobody in particular."""
    first = await runpod.create_pod(gpu_type_id=GPU, image_name=IMAGE, lifetime=timedelta(minutes=5))
    monkeypatch.setenv("GITHUB_REPOSITORY", "O/r")
    second = await runpod.create_pod(gpu_type_id=GPU, image_name=IMAGE)
    names = [ManualName.parse(pod["name"]) for pod in (first, second)]
    nobody = Scope(server_url="", owner="").owner8_of("manual")
    assert [name.owner8 for name in names if name] == [nobody, Scope.parse("o/R").owner8]
    assert len(simulator.live()) == 2


async def test_errors_are_one_line_and_keep_their_cause(simulator: RunPodSimulator) -> None:
    """What to do is in the text; what it was is in `cause`."""
    with pytest.raises(RunPodError, match="knows no pod") as caught:
        await runpod.get_pod("neverwas")
    assert isinstance(caught.value.cause, NotFound)
    with pytest.raises(RunPodError, match="A4000") as caught:
        await runpod.create_pod(gpu_type_id="A4000x", image_name=IMAGE)
    assert isinstance(caught.value.cause, UnknownGpu)
    assert "\n" not in str(caught.value)
    assert await runpod.terminate_pod("neverwas") == {"success": True, "podId": "neverwas"}


async def test_a_pod_whose_answer_was_lost_is_found_and_returned(simulator: RunPodSimulator) -> None:
    """By its name, and not for an older one of that name."""
    older = await runpod.create_pod(name="mine", gpu_type_id=GPU, image_name=IMAGE)
    simulator.faults.add(Fault(operation="podFindAndDeployOnDemand", kind=FaultKind.DROP_AFTER))
    pod = await runpod.create_pod(name="mine", gpu_type_id=GPU, image_name=IMAGE)
    assert {each.id for each in simulator.live()} == {older["id"], pod["id"]}
    assert pod["id"] != older["id"]
    assert (pod["name"], pod["desiredStatus"]) == ("mine", "RUNNING")
    assert pod["terminateAfter"]


def test_a_lost_pod_that_is_not_listed_is_told_with_its_name(
    simulator: RunPodSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it can be looked for; the two looks are `settle` apart."""
    monkeypatch.setenv("RUNNER_PROVISIONER_SETTLE", "0.05")
    simulator.faults.add(Fault(operation="podFindAndDeployOnDemand", kind=FaultKind.DROP_AFTER))
    simulator.settings.list_lag = 3600.0
    with RunPodAPIClient() as client:
        with pytest.raises(RunPodAPIError) as caught:
            client.create_pod(gpu_type_id=GPU, image_name=IMAGE)
        assert isinstance(caught.value.cause, CreateOutcomeUnknown)
        assert client.list_pods() == []
        simulator.settings.list_lag = 0.0
        [pod] = client.list_pods()
        assert pod["name"] in str(caught.value)


def test_the_first_example_of_the_guide_works(simulator: RunPodSimulator) -> None:
    """Word for word, with its GPU."""
    client = RunPodAPIClient()
    pod = client.create_pod(
        name="my-training-pod",
        gpu_type_id="NVIDIA GeForce RTX 4080 SUPER",
        image_name="runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel-ubuntu22.04",
        gpu_count=1,
        volume_in_gb=50,
        container_disk_in_gb=30,
        volume_mount_path="/workspace",
    )
    assert client.get_pod(pod["id"])["desiredStatus"] == "RUNNING"
    assert client.stop_pod(pod["id"])["desiredStatus"] == "STOPPED"
    assert client.start_pod(pod["id"])["desiredStatus"] == "RUNNING"
    client.close()
    assert [(each.id, each.gpu_type_id) for each in simulator.live()] == [(pod["id"], "NVIDIA GeForce RTX 4080 SUPER")]


async def test_no_key_is_told_before_anything_is_sent(
    simulator: RunPodSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By both faces; a key given by hand is enough."""
    monkeypatch.delenv("RUNPOD_API_KEY")
    with pytest.raises(RunPodAPIError, match="RUNPOD_API_KEY") as caught:
        RunPodAPIClient()
    assert isinstance(caught.value.cause, MissingCredential)
    with pytest.raises(RunPodError, match="RUNPOD_API_KEY"):
        await runpod.list_pods()
    assert await runpod.list_pods(api_key=simulator.key) == []
    assert simulator.balance() == Decimal(100)


async def test_another_address_can_be_given(simulator: RunPodSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wins over the variable."""
    address = os.environ["RUNPOD_API_URL"]
    monkeypatch.setenv("RUNPOD_API_URL", "http://127.0.0.1:1/graphql")
    assert await runpod.list_pods(api_url=address) == []


def test_the_package_is_imported_in_parts() -> None:
    """Nothing heavy comes with the package or with the face itself; everything is there when asked for."""
    code = (
        "import sys, runner_provisioner, runner_provisioner.runpod as r; "
        "heavy = {'httpx', 'pydantic', 'structlog', 'github', 'cryptography', 'anyio'} & set(sys.modules); "
        "assert not heavy, heavy; print(r.create_pod.__name__, runner_provisioner.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("create_pod ")


def test_the_package_names_its_parts() -> None:
    """Lazily, and nothing else."""
    assert runner_provisioner.runpod is runpod
    assert runner_provisioner.__version__
    assert {"runpod", "errors", "__version__"} <= set(dir(runner_provisioner))
    assert runner_provisioner.__getattr__("errors").__name__ == "runner_provisioner.errors"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="nothing"):
        _ = runner_provisioner.nothing
