"""RunPod's own Python SDK, in an environment of its own, against the simulator.

It reads RUNPOD_API_BASE_URL and calls the GraphQL API below it; what it can do with a pod it must be able to do here.
"""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner_provisioner.clock import SystemClock
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator

CLIENT = "runpod"
pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]


@pytest.fixture(scope="session")
def sdk(install: Callable[[str], Path]) -> Path:
    """The interpreter of a fresh environment that has the newest SDK."""
    return install(CLIENT) / "python"


@pytest.fixture
def runpod() -> Iterator[RunPodSimulator]:
    """An account with money, and a market without spot pods, as it is today."""
    with RunPodSimulator(SystemClock()) as simulator:
        yield simulator


def _run(python: Path, runpod: RunPodSimulator, code: str, folder: Path, key: str | None = None) -> Any:  # noqa: ANN401 - JSON
    """Run code with the SDK imported; what it prints last is JSON."""
    program = "import json, os, runpod\nrunpod.api_key = os.environ['RUNPOD_API_KEY']\n" + textwrap.dedent(code)
    with runpod.serve() as server:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RUNPOD_API_BASE_URL": server.url,
            "RUNPOD_API_KEY": key or runpod.key,
        }
        done = subprocess.run(
            [str(python), "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.does("create", "list", "status", "terminate")
def test_a_pod_is_created_read_stopped_resumed_and_ended(sdk: Path, runpod: RunPodSimulator, tmp_path: Path) -> None:
    """The whole life of one pod."""
    told = _run(
        sdk,
        runpod,
        """
        gpu = "NVIDIA GeForce RTX 4090"
        pod = runpod.create_pod(
            "from-the-sdk", "runpod/base:0.6.2", gpu, cloud_type="ALL", volume_in_gb=5, container_disk_in_gb=10,
            ports="22/tcp", env={"A": "1"},
        )
        read = runpod.get_pod(pod["id"])
        listed = [one["id"] for one in runpod.get_pods()]
        stopped = runpod.stop_pod(pod["id"])
        resumed = runpod.resume_pod(pod["id"], 1)
        ended = runpod.terminate_pod(pod["id"])
        left = [one["id"] for one in runpod.get_pods()]
        print(json.dumps(dict(pod=pod, read=read, listed=listed, stopped=stopped, resumed=resumed, left=left)))
        """,
        tmp_path,
    )
    pod_id = told["pod"]["id"]
    assert told["read"]["id"] == pod_id
    assert told["read"]["name"] == "from-the-sdk"
    assert told["listed"] == [pod_id]
    assert told["stopped"]["desiredStatus"] == "EXITED"
    assert told["resumed"]["desiredStatus"] == "RUNNING"
    assert told["left"] == []
    (pod,) = runpod.pods()
    assert (pod.volume, pod.env) == (5, {"A": "1"})
    assert runpod.live() == []


@pytest.mark.does("ssh")
def test_a_pod_tells_its_way_in(sdk: Path, runpod: RunPodSimulator, tmp_path: Path) -> None:
    """The SDK has no ssh of its own: a user takes address and port of 22 from the pod."""
    told = _run(
        sdk,
        runpod,
        """
        pod = runpod.create_pod("way-in", "runpod/base", "NVIDIA GeForce RTX 4090", ports="22/tcp", start_ssh=True)
        while not (read := runpod.get_pod(pod["id"]))["runtime"]:
            pass
        print(json.dumps(read["runtime"]["ports"]))
        """,
        tmp_path,
    )
    (way,) = [one for one in told if (one["privatePort"], one["type"]) == (22, "tcp")]
    assert (way["ip"], way["isIpPublic"]) == ("127.0.0.1", True)
    assert way["publicPort"] > 0


@pytest.mark.does("availability")
def test_gpus_are_listed_and_read(sdk: Path, runpod: RunPodSimulator, tmp_path: Path) -> None:
    """With memory and prices."""
    told = _run(
        sdk,
        runpod,
        """
        print(json.dumps(dict(all=runpod.get_gpus(), one=runpod.get_gpu("NVIDIA RTX A4000"))))
        """,
        tmp_path,
    )
    assert "NVIDIA RTX A4000" in {gpu["id"] for gpu in told["all"]}
    assert told["one"]["memoryInGb"] == 16


_CATCH = """
try:
    {call}
    told = None
except Exception as error:
    told = [type(error).__name__, str(error)]
print(json.dumps(told))
"""
_CREATE = 'runpod.create_pod("x", "runpod/base", "NVIDIA GeForce RTX 4090", cloud_type="ALL")'


@pytest.mark.does("error")
def test_a_refused_key_is_its_authentication_error(sdk: Path, runpod: RunPodSimulator, tmp_path: Path) -> None:
    """401."""
    name, _ = _run(sdk, runpod, _CATCH.format(call="runpod.get_gpus() and runpod.get_pods()"), tmp_path, key="nonsense")
    assert name in {"AuthenticationError", "QueryError"}


@pytest.mark.does("error")
def test_no_stock_is_its_query_error(sdk: Path, runpod: RunPodSimulator, tmp_path: Path) -> None:
    """The market's own sentence comes through."""
    runpod.market.set_stock("NVIDIA GeForce RTX 4090", 0)
    name, text = _run(sdk, runpod, _CATCH.format(call=_CREATE), tmp_path)
    assert name == "QueryError"
    assert "no longer any instances available" in text.lower()
    assert runpod.pods() == []


@pytest.mark.does("error")
def test_an_unknown_gpu_is_refused(sdk: Path, runpod: RunPodSimulator, tmp_path: Path) -> None:
    """Before anything is rented."""
    call = 'runpod.create_pod("x", "runpod/base", "No such GPU")'
    name, _ = _run(sdk, runpod, _CATCH.format(call=call), tmp_path)
    assert name in {"ValueError", "QueryError"}
    assert runpod.pods() == []


@pytest.mark.does("error")
def test_a_lost_answer_leaves_the_pod_that_was_rented(sdk: Path, runpod: RunPodSimulator, tmp_path: Path) -> None:
    """Why a create is never sent again blindly: the SDK fails, the pod exists and bills."""
    runpod.faults.add(Fault(operation="podFindAndDeployOnDemand", kind=FaultKind.DROP_AFTER))
    name, _ = _run(sdk, runpod, _CATCH.format(call=_CREATE), tmp_path)
    assert name == "ConnectionError"
    assert len(runpod.live()) == 1
