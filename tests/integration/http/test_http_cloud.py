"""`/api/cloud`: the examples of the contract, request by request."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.http_service import BOOT, Scene, play
from support.stages import Provider

from runner_provisioner.testing.clock import EPOCH

WISH: dict[str, Any] = {
    "name": "my-training-pod",
    "image_name": "runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel",
    "gpu_type_id": "NVIDIA RTX A4000",
    "cloud_type": "ALL",
    "volume_in_gb": 10,
    "container_disk_in_gb": 10,
    "ports": "8888/http,22/tcp",
    "env": {"JUPYTER_TOKEN": "my-secret-token"},
}
PODS = "/api/cloud/pods"


@pytest.mark.parametrize("provider", [Provider.RUNPOD, Provider.REST], ids=["graphql", "rest"])
def test_the_life_of_a_pod_is_told_as_the_contract_has_it(tmp_path: Path, provider: Provider) -> None:
    """Created, listed, stopped, resumed, ended: paths, envelopes, messages and fields."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            named = {"provider": "runpod"} if provider is Provider.REST else {}  # it has no kill time there
            created = await client.well("POST", PODS, json={**WISH, **named})
            assert created["message"] == "Pod created successfully"
            pod = created["data"]
            assert (pod["name"], pod["imageName"]) == (WISH["name"], WISH["image_name"])
            assert pod["costPerHr"] == "0.17"
            assert pod["runtime"] == {"uptimeInSeconds": 0, "ports": [], "gpus": []}
            assert pod["expiresAt"] == (EPOCH + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            one = f"{PODS}/{pod['id']}"
            await scene.wait(BOOT)
            await client.ask("GET", one)
            await scene.wait(60)
            got = await client.well("GET", one)
            assert got["message"] == "Pod details retrieved successfully"
            assert (got["data"]["desiredStatus"], got["data"]["name"]) == ("RUNNING", WISH["name"])
            assert got["data"]["runtime"]["uptimeInSeconds"] >= 60
            assert got["data"]["runtime"]["ports"]
            listed = await client.well("GET", PODS)
            assert (listed["message"], listed["data"]["count"]) == ("Retrieved 1 pod(s)", 1)
            assert [row["id"] for row in listed["data"]["pods"]] == [pod["id"]]
            stopped = await client.well("POST", f"{one}/stop")
            assert stopped["message"] == "Pod stopped successfully"
            assert (stopped["data"]["id"], stopped["data"]["desiredStatus"]) == (pod["id"], "STOPPED")
            resumed = await client.well("POST", f"{one}/resume")
            assert resumed["message"] == "Pod resumed successfully"
            assert (resumed["data"]["id"], resumed["data"]["desiredStatus"]) == (pod["id"], "RUNNING")
            ended = await client.well("DELETE", one)
            assert ended == {
                "data": {"success": True, "podId": pod["id"]},
                "message": "Pod terminated successfully",
            }
            assert (await client.ask("GET", one)).status_code == 404

    scene = play(tmp_path, act, provider)
    assert not scene.live()
    (kept,) = scene.state.kept_pods.kept.values()
    assert (kept.label, kept.ended_at is not None) == (WISH["name"], True)
    assert "my-secret-token" not in repr(scene.state)
