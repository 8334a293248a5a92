"""`/machines`: the examples of the contract, request by request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from support.http_service import BOOT, Scene, play
from support.stages import Provider

from runner_provisioner.services.shelf import FRESH
from runner_provisioner.simulators.celium.simulator import CeliumSimulator

TEMPLATE: dict[str, Any] = {
    "docker_image": "elaich/simple-vllm-launcher",
    "docker_image_tag": "latest",
    "docker_image_digest": "",
    "startup_commands": "",
    "port_mapping": [22, 8000],
    "name": "template-test-name",
}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB/6vi7VtlHAbDYurbV/k70dQql4m7GcdCuBtYMCu/t8 my-key"


def _lium(scene: Scene) -> CeliumSimulator:
    sim = scene.stages[0].sim
    assert isinstance(sim, CeliumSimulator)
    return sim


def test_from_a_template_to_a_pod_that_runs(tmp_path: Path) -> None:
    """Template, machine, rent, and the pod with its ports, its hardware and the way in."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            made = await client.well("POST", "/machines/template", json=TEMPLATE)
            assert made["status"] == "CREATED"
            assert set(made) == {"id", "status"}
            status = await client.well("GET", f"/machines/template/{made['id']}")
            assert status == {"id": made["id"], "status": "VERIFY_SUCCESS"}
            machines = await client.well("GET", "/machines/")
            assert [row["price_per_hour"] for row in machines] == sorted(row["price_per_hour"] for row in machines)
            chosen = next(row for row in machines if "A100" in row["gpu_type"])
            assert (chosen["gpu_count"], chosen["price_per_gpu"]) == (8, 1.1)
            rent = {"template_id": made["id"], "executor_id": chosen["id"], "ssh_key": KEY, "name": "my-awesome-pod"}
            pod = await client.well("POST", "/machines/", json=rent)
            assert set(pod) == {"id"}
            seen = await client.well("GET", f"/machines/{pod['id']}")
            assert (seen["status"], seen["pod_name"]) == ("PENDING", "my-awesome-pod")
            await scene.wait(BOOT + 1)
            await client.well("GET", f"/machines/{pod['id']}")
            await scene.wait(1)
            seen = await client.well("GET", f"/machines/{pod['id']}")
            host, port = seen["executor_ip_address"], seen["ports_mapping"]["22"]
            assert seen["ssh_connect_cmd"] == f"ssh root@{host} -p {port}"
            assert set(seen["ports_mapping"]) == {"22", "8000"}
            expected = {
                "id": pod["id"],
                "status": "RUNNING",
                "gpu_name": "NVIDIA A100-SXM4-80GB",
                "gpu_count": "8",
                "cpu_name": "AMD EPYC 7742 64-Core Processor",
                "ram_total": 2015 * 1024 * 1024,
            }
            assert {name: seen[name] for name in expected} == expected
            assert seen["template"] == {
                "id": made["id"],
                "name": TEMPLATE["name"],
                "description": "",
                "docker_image": "elaich/simple-vllm-launcher:latest",
            }
            assert seen["created_at"] < seen["updated_at"]

    scene = play(tmp_path, act, Provider.LIUM)
    (pod,) = scene.pods()
    assert pod.name.startswith("rpm-")
    assert pod.terminate_after is not None


def test_machines_can_be_filtered(tmp_path: Path) -> None:
    """By GPU, count, price, provider and region; over every provider, each machine once."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            everything = await client.well("GET", "/machines/")
            assert {row["provider"] for row in everything} == {"celium", "runpod"}
            assert len({row["id"] for row in everything}) == len(everything)

            async def of(**query: object) -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = await client.well("GET", "/machines/", params=query)
                return found

            assert {row["gpu_type"] for row in await of(gpu_type="h100")} == {"NVIDIA H100 80GB HBM3"}
            assert {row["gpu_count"] for row in await of(gpu_count=2)} == {2}
            assert max(row["price_per_hour"] for row in await of(max_price=0.2)) <= 0.2
            assert {row["provider"] for row in await of(provider="runpod")} == {"runpod"}
            assert {row["region"] for row in await of(region="fi")} == {"FI"}
            assert (await client.ask("GET", "/machines/", params={"gpu_count": 0})).status_code == 422
            strange = await client.ask("GET", "/machines/", params={"provider": "nope"})
            assert (strange.status_code, strange.json()["detail"][0]["loc"]) == (422, ["query", "provider"])

    play(tmp_path, act, Provider.LIUM, Provider.RUNPOD)


def test_a_provider_that_cannot_be_asked_for_machines_is_named(tmp_path: Path) -> None:
    """Beside the others' machines, again with the list that is kept; alone it is an outage; back, it has machines."""
    down = [True]

    def instead(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(503) if down[0] and "runpod" in request.url.host else None

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            for _ in range(2):
                some = await client.ask("GET", "/machines/")
                assert some.headers["x-not-asked"] == "runpod"
                assert {row["provider"] for row in some.json()} == {"celium"}
            alone = await client.ask("GET", "/machines/", params={"provider": "runpod"})
            assert (alone.status_code, "retry-after" in alone.headers) == (502, True)
            down[0] = False
            await scene.wait(FRESH + 1)
            every = await client.ask("GET", "/machines/")
            assert "x-not-asked" not in every.headers
            assert {row["provider"] for row in every.json()} == {"celium", "runpod"}

    play(tmp_path, act, Provider.LIUM, Provider.RUNPOD, instead=instead)


def test_what_cannot_be_rented_is_said_in_celiums_words(tmp_path: Path) -> None:
    """A template that is being verified, one that failed, one that is none, a machine that is gone."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            sim = _lium(scene)
            sim.settings.template_statuses = ("CREATED", "VERIFY_PENDING", "VERIFY_PENDING", "VERIFY_FAILED")
            made = await client.well("POST", "/machines/template", json=TEMPLATE)
            words = [(await client.well("GET", f"/machines/template/{made['id']}"))["status"] for _ in range(3)]
            assert words == ["VERIFY_PENDING", "VERIFY_PENDING", "VERIFY_FAILED"]
            gone = await client.ask("GET", "/machines/template/none")
            assert gone.status_code == 404
            assert "template" in gone.json()["detail"]
            rent = {"template_id": made["id"], "executor_id": "none", "ssh_key": KEY, "name": "mine"}
            refused = await client.ask("POST", "/machines/", json=rent)
            assert (refused.status_code, refused.json()["detail"][:14]) == (409, "machine 'none'")
            bad = await client.ask("POST", "/machines/", json={**rent, "ssh_key": "nonsense"})
            assert bad.json()["detail"][0]["loc"] == ["body", "ssh_key"]
            assert (await client.ask("GET", "/machines/none")).status_code == 404

    scene = play(tmp_path, act, Provider.LIUM)
    assert not scene.pods()
