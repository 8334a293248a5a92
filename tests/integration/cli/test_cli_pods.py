"""Pods made by hand, with the flags of RunPod's guide."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from runner_provisioner.simulators.faults import Fault, FaultKind

if TYPE_CHECKING:
    from integration.cli.conftest import Result, Services

GUIDE = (
    *("--name", "training-pod"),
    *("--gpu-type", "NVIDIA GeForce RTX 4090"),
    *("--image", "runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel-ubuntu22.04"),
    *("--gpu-count", "1"),
    *("--volume-gb", "50"),
)


def _create(services: Services, *more: str) -> Result:
    result = services.run("pods", "create", *GUIDE, *more)
    assert result.code == 0, result.err
    return result


def test_a_pod_is_created_as_the_guide_does(services: Services) -> None:
    """With its flags; class manual, 24 hours, both shown."""
    result = _create(services)
    (pod,) = services.runpod.live()
    assert (pod.name, pod.gpu_type_id, pod.volume) == ("training-pod", "NVIDIA GeForce RTX 4090", 50)
    assert pod.env["RP_CLASS"] == "manual"
    shown = dict(line.split(": ", 1) for line in result.out.splitlines())
    assert (shown["id"], shown["class"]) == (pod.id, "manual")
    expires = datetime.fromisoformat(shown["expires-at"])
    assert abs(expires - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=1)
    assert f"it ends by itself after 1d; earlier: runner-provisioner pods terminate {pod.id}" in result.err


def test_every_further_flag_reaches_the_pod(services: Services) -> None:
    """Environment, command, disks, ports, lifetime."""
    more = (
        *("--env", "PYTHONUNBUFFERED=1", "--env", "MODE=fast", "--docker-args", "bash /workspace/train.sh"),
        *("--container-disk-gb", "30", "--volume-mount-path", "/data", "--port", "22/tcp", "--port", "8888/http"),
        *("--lifetime", "2h", "--cloud", "secure", "--max-price", "2", "--owner", "me"),
    )
    data = services.run("pods", "create", *GUIDE, *more, "--json").data
    (pod,) = services.runpod.live()
    assert pod.env.items() >= {"PYTHONUNBUFFERED": "1", "MODE": "fast"}.items()
    assert (pod.docker_args, pod.volume_mount, pod.ports) == ("bash /workspace/train.sh", "/data", "22/tcp,8888/http")
    expires = datetime.fromisoformat(data["expires-at"])
    assert abs(expires - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)


def test_without_a_name_the_name_says_whose_it_is(services: Services) -> None:
    """And when it ends."""
    result = services.run("pods", "create", "--gpu-type", "RTX 4090", "--image", "x")
    assert re.search(r"^name: rpm-[0-9a-f]{8}-[0-9a-z]+-[a-z]{8}$", result.out, re.MULTILINE)


def test_a_pod_is_stopped_and_started_again(services: Services) -> None:
    """STOPPED is shown, as the guide has it."""
    _create(services)
    (pod,) = services.runpod.live()
    assert services.run("pods", "get", pod.id, "--json").data["status"] == "RUNNING"
    assert "status: STOPPED" in services.run("pods", "stop", pod.id).out
    assert "STOPPED" in services.run("pods", "list").out
    assert services.run("pods", "get", pod.id, "--json").data["status"] == "STOPPED"
    assert services.run("pods", "start", pod.id).code == 0
    assert services.run("pods", "stop", pod.id).code == 0
    assert services.run("pods", "resume", pod.id, "--gpu-count", "1").code == 0
    assert services.run("pods", "get", pod.id, "--json").data["state"] in {"starting", "running"}


def test_a_pod_tells_how_busy_it_is(services: Services) -> None:
    """GPU, CPU and memory."""
    _create(services)
    (pod,) = services.runpod.live()
    text = services.run("pods", "get", pod.id).out
    assert re.search(r"^load: CPU \d+ %, memory \d+ %$", text, re.MULTILINE)
    assert re.search(r"^load of GPU \S+: \d+ %, memory \d+ %$", text, re.MULTILINE)
    telemetry = services.run("pods", "get", pod.id, "--json").data["telemetry"]
    assert telemetry.keys() == {"cpu-percent", "memory-percent", "gpus"}


def test_terminate_looks_that_the_pod_is_gone(services: Services) -> None:
    """A terminate that is ignored once is asked again; one more is no error."""
    _create(services)
    (pod,) = services.runpod.live()
    services.runpod.faults.add(Fault(operation="podTerminate", kind=FaultKind.IGNORED))
    assert services.run("pods", "terminate", pod.id).out == f"{pod.id}: ended\n"
    assert services.runpod.live() == []
    again = services.run("pods", "terminate", pod.id, "--json")
    assert (again.code, again.data["existed"]) == (0, False)


def test_a_lost_answer_is_looked_up_by_name(services: Services) -> None:
    """One pod, not two, and the user learns of it."""
    services.runpod.faults.add(Fault(operation="podFindAndDeployOnDemand", kind=FaultKind.DROP_AFTER))
    result = _create(services)
    (pod,) = services.runpod.pods()
    assert f"id: {pod.id}" in result.out


@pytest.mark.parametrize("stock", [0, 1], ids=["none", "one"])
def test_the_list_is_a_table_or_says_that_there_is_nothing(services: Services, stock: int) -> None:
    """A stranger must not wonder whether an empty answer is an error."""
    if stock:
        _create(services)
    lines = services.run("pods", "list").out.splitlines()
    assert lines[0].split() == (
        ["id", "name", "provider", "status", "GPU", "USD/h", "ends"] if stock else ["no", "pods"]
    )
    assert len(lines) == 1 + stock
