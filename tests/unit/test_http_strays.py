"""What nothing would read is refused by every path of the three contracts, with its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.http_service import Scene, play

from runner_provisioner.controller import cloud, machines, pods
from runner_provisioner.controller.route import ContractRoute

WISH: dict[str, Any] = {"name": "mine", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}
ROUTES = [route for one in (cloud, machines, pods) for route in one.router.routes if isinstance(route, ContractRoute)]
CREATES = ("/api/cloud/pods", "/machines/", "/machines/template", "/api/v1/pods")


def test_a_query_parameter_that_is_unknown_is_a_422_with_its_name(tmp_path: Path) -> None:
    """On every path and method: who misspells a filter must not take all there is for what was asked for."""
    assert len(ROUTES) > 15

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            for route in ROUTES:
                path = route.path.replace("{pod_id}", "x").replace("{template_id}", "x")
                for method in route.methods or ():
                    answer = await client.ask(method, path, params={"maxprice": "1"}, json=None)
                    assert (method, path, answer.status_code) == (method, path, 422)
                    assert "maxprice" in answer.text
            told = await client.ask("GET", "/machines/", params={"max_price": "1", "gpu-type": "A100"})
            assert told.json() == {
                "detail": [
                    {
                        "loc": ["query", "gpu-type"],
                        "msg": "no such query parameter: this path knows "
                        "gpu_type, gpu_count, max_price, provider, region",
                        "type": "value_error",
                    }
                ]
            }
            told = await client.ask("GET", "/api/cloud/pods", params={"a" * 5000: "1"})
            assert told.json()["error"]["fields"] == [
                {"field": "a" * 80, "message": "no such query parameter: this path knows none"}
            ]
            assert (await client.ask("GET", "/api/v1/pods", params={"limit": 5, "offset": 0})).status_code == 200

    assert not play(tmp_path, act).pods()


def test_a_stray_is_no_way_to_learn_about_paths_without_a_key(tmp_path: Path) -> None:
    """Who has no key hears that first."""

    async def act(scene: Scene) -> None:
        scene.state.kept_keys.make()
        async with scene.served() as client:
            assert (await client.ask("GET", "/machines/", params={"x": "1"})).status_code == 401

    play(tmp_path, act)


@pytest.mark.parametrize("path", CREATES, ids=lambda path: path.strip("/").replace("/", "-"))
def test_of_two_idempotency_keys_none_is_taken(tmp_path: Path, path: str) -> None:
    """Whoever repeats the request with the other one would rent a second pod."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            for second in ("b", "a"):
                twice = [("idempotency-key", "a"), ("Idempotency-Key", second)]
                answer = await client.ask("POST", path, json=WISH, headers=twice)
                assert answer.status_code == 422
                assert "Idempotency-Key" in answer.text
        assert not scene.state.kept_requests.kept

    assert not play(tmp_path, act).pods()
