"""The workflow of the `/machines` contract, step by step, over all markets at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.http_service import BOOT, Client, Scene, play
from support.stages import LiumStage, Provider, RunPodStage

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB/6vi7VtlHAbDYurbV/k70dQql4m7GcdCuBtYMCu/t8 my-key"
TEMPLATE: dict[str, Any] = {
    "docker_image": "elaich/simple-vllm-launcher",
    "docker_image_tag": "latest",
    "startup_commands": "",
    "port_mapping": [22, 8000],
    "name": "template-name",
}
COMMAND = "cd /workspace && python -c 'print(\"it''s\")' | tee $HOME/log"
MARKETS = (Provider.RUNPOD, Provider.LIUM, Provider.PRIME)


async def _template(client: Client, **more: object) -> str:
    made = await client.well("POST", "/machines/template", json={**TEMPLATE, **more})
    status = await client.well("GET", f"/machines/template/{made['id']}")
    assert status["status"] == "VERIFY_SUCCESS"
    return str(made["id"])


async def _a100s(client: Client) -> list[dict[str, Any]]:
    return [row for row in await client.well("GET", "/machines/") if "A100" in row["gpu_type"]]


def _rent(template: str, machine: str, **more: object) -> dict[str, object]:
    return {"template_id": template, "executor_id": machine, "ssh_key": KEY, "name": "my-awesome-pod", **more}


@pytest.mark.parametrize(
    ("markets", "wanted"),
    [
        pytest.param(MARKETS, "runpod", id="three"),
        pytest.param((Provider.LIUM, Provider.PRIME), "celium", id="two", marks=pytest.mark.full),
        pytest.param((Provider.REST, Provider.LIUM), "runpod", id="rest", marks=pytest.mark.full),
    ],
)
def test_the_first_machine_of_a_model_runs_the_template(
    tmp_path: Path, markets: Sequence[Provider], wanted: str
) -> None:
    """As the contract's script has it: the first line of the list, and then the same pod until it runs."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            template = await _template(client)
            first = (await _a100s(client))[0]
            assert first["provider"] == wanted
            pod = await client.well("POST", "/machines/", json=_rent(template, first["id"]))
            for _ in range(6):
                row = await client.well("GET", f"/machines/{pod['id']}")
                if row["status"] == "RUNNING" and row["ssh_connect_cmd"]:
                    break
                await scene.wait(BOOT / 3)
            assert row["ssh_connect_cmd"].startswith("ssh root@")
            assert row["template"]["id"] == template
            assert row["template"]["docker_image"] == "elaich/simple-vllm-launcher:latest"

    scene = play(tmp_path, act, *markets)
    (rented,) = scene.live()
    assert "elaich/simple-vllm-launcher:latest" in repr(vars(rented)) or wanted == "celium"


def test_a_template_goes_with_all_that_it_holds_to_another_provider(tmp_path: Path) -> None:
    """Its start command as it was given, its ports and the caller's key; and only what can be told elsewhere goes."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            template = await _template(client, startup_commands=COMMAND)
            rows = await _a100s(client)
            there = next(row for row in rows if row["provider"] == "runpod")
            await client.well("POST", "/machines/", json=_rent(template, there["id"]))
            lium = next(stage for stage in scene.stages if isinstance(stage, LiumStage))
            own = await client.well("GET", "/machines/template/" + template)
            lium.sim.account.templates[own["id"]].entrypoint = "/bin/other"
            refused = await client.ask("POST", "/machines/", json=_rent(template, there["id"]))
            assert refused.status_code == 422, refused.text
            assert refused.json()["detail"][0]["loc"] == ["body", "template_id"]
            bare = next(row for row in rows if row["provider"] == "prime")
            assert rows[-1]["provider"] == "prime"
            refused = await client.ask("POST", "/machines/", json=_rent(template, bare["id"]))
            assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "template_id"])
            assert "choose a machine at celium" in refused.text

    scene = play(tmp_path, act, *MARKETS)
    (rented,) = scene.live()
    runpod = next(stage for stage in scene.stages if isinstance(stage, RunPodStage))
    assert rented in runpod.sim.live()
    assert json.loads(rented.docker_args)["cmd"] == [COMMAND]
    assert rented.env["PUBLIC_KEY"] == KEY
    assert "8000/tcp" in str(rented.ports)
