"""The real services, with the credentials in the environment: what is rented is the cheapest pod, for a few minutes.

Runs only when asked for (`make live`), needs RUNPOD_API_KEY, and costs at most `CAP` USD per hour for `LIFETIME`.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from typing import Any

import pytest

CAP = "0.30"
LIFETIME = "15m"
RUNS = 300.0
GPUS = ("NVIDIA RTX A4000", "NVIDIA RTX A5000", "NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 4090")
IMAGE = "runpod/base:0.6.2-cuda11.8.0"

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get("RUNPOD_API_KEY"), reason="needs RUNPOD_API_KEY"),
]


def _program(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "runner_provisioner", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _smallest_pod(name: str) -> tuple[str, ...]:
    models = (part for gpu in GPUS for part in ("--gpu-type", gpu))
    return (
        *("pods", "create", *models, "--image", IMAGE, "--container-disk-gb", "10"),
        *("--name", name),
        *("--max-price", CAP, "--lifetime", LIFETIME),
    )


def test_the_credential_is_good() -> None:
    """A refused key ends here, before anything is rented."""
    assert isinstance(_program("pods", "list")["pods"], list)


def test_gpu_types_are_known() -> None:
    """The default models exist under the names that we use."""
    assert set(GPUS[:2]) <= {gpu["id"] for gpu in _program("gpu-types")["gpu-types"]}


@pytest.mark.skipif(
    not os.environ.get("GITHUB_REPOSITORY")
    or not any(os.environ.get(name) for name in ("RUNNER_PROVISIONER_GITHUB_TOKEN", "GITHUB_TOKEN", "GITHUB_APP_ID")),
    reason="needs GITHUB_REPOSITORY and a GitHub credential",
)
def test_github_can_be_looked_at() -> None:
    """The credential may list runners."""
    assert isinstance(_program("status")["entries"], list)


def test_the_smallest_pod_lives_and_ends() -> None:
    """Created, seen running, ended, gone; whatever fails, it is ended."""
    name = f"runner-provisioner-live-{secrets.token_hex(4)}"
    try:
        pod = _program(*_smallest_pod(name))
        assert float(pod["price-per-hour"]) <= float(CAP)
        _wait_until_running(pod["id"])
    finally:
        # By name: the answer may be lost while the pod exists.
        for one in _program("pods", "list")["pods"]:
            if one["name"] == name:
                _program("pods", "terminate", one["id"])
    assert name not in {one["name"] for one in _program("pods", "list")["pods"]}


def _wait_until_running(pod_id: str) -> None:
    limit = time.monotonic() + RUNS
    while True:
        state = _program("pods", "get", pod_id)["state"]
        if state == "running":
            return
        assert state == "starting", state
        assert time.monotonic() < limit, "the pod does not run"
        time.sleep(5)
