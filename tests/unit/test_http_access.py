"""Who may do what over HTTP: keys, permissions, limits, budgets, and the audit log."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.http_service import Scene, play

from runner_provisioner.controller.serving import Choices
from runner_provisioner.domain.api_keys import Permission
from runner_provisioner.errors import StoreError
from runner_provisioner.testing.clock import EPOCH

PODS = "/api/cloud/pods"
WISH: dict[str, Any] = {"name": "mine", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_once_there_is_a_key_nobody_gets_in_without_one(tmp_path: Path) -> None:
    """A missing, strange, altered, expired or revoked key is a 401, and revoking the last one opens no door."""

    async def act(scene: Scene) -> None:
        keys = scene.state.kept_keys
        async with scene.served() as client:
            assert (await client.ask("GET", PODS)).status_code == 200
            good = keys.make(Permission.READ)
            late = keys.make(expires_at=EPOCH + timedelta(seconds=10))
            await scene.wait(11)
            for headers in (
                {},
                _bearer("nonsense"),
                _bearer(good[:-1] + ("0" if good[-1] != "0" else "1")),
                _bearer(late),
                {"authorization": f"Basic {good}"},
            ):
                answer = await client.ask("GET", PODS, headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"][:6]) == (401, "Bearer")
            assert (await client.ask("GET", PODS, headers=_bearer(good))).status_code == 200
            for key_id in list(keys.kept):
                await keys.revoke(key_id, scene.clock.now())
            await scene.wait(3)
            assert (await client.ask("GET", PODS, headers=_bearer(good))).status_code == 401
            assert (await client.ask("GET", PODS)).status_code == 401

    play(tmp_path, act)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PODS),
        ("POST", f"{PODS}/x/stop"),
        ("DELETE", f"{PODS}/x"),
        ("POST", "/machines/"),
        ("POST", "/machines/template"),
        ("POST", "/api/v1/pods"),
        ("DELETE", "/api/v1/pods/x"),
    ],
    ids=lambda text: text.strip("/").replace("/", "-"),
)
def test_a_key_that_may_read_changes_nothing(tmp_path: Path, method: str, path: str) -> None:
    """It is told which permission is missing, before its body is looked at, and the refusal is in the audit log."""

    async def act(scene: Scene) -> None:
        key = scene.state.kept_keys.make(Permission.READ)
        async with scene.served(key=key) as client:
            answer = await client.ask(method, path, json=None if method == "DELETE" else {})
            assert answer.status_code == 403
            assert "Instances -> Read and Write" in answer.text
            assert (await client.ask("GET", PODS)).status_code == 200
        (entry,) = scene.state.kept_audit.kept
        assert (entry.status, entry.error) == (403, "Forbidden")

    play(tmp_path, act)


def test_each_key_has_its_own_rate_limit(tmp_path: Path) -> None:
    """429 with the time to wait; another key goes on, and so does the first after that time."""

    async def act(scene: Scene) -> None:
        one, two = scene.state.kept_keys.make(), scene.state.kept_keys.make()
        async with scene.served(choices=Choices(per_minute=3)) as client:
            for _ in range(3):
                assert (await client.ask("GET", PODS, headers=_bearer(one))).status_code == 200
            refused = await client.ask("GET", PODS, headers=_bearer(one))
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 20
            assert (await client.ask("GET", PODS, headers=_bearer(two))).status_code == 200
            await scene.wait(int(refused.headers["retry-after"]))
            assert (await client.ask("GET", PODS, headers=_bearer(one))).status_code == 200
            strangers = [(await client.ask("DELETE", f"{PODS}/x")).status_code for _ in range(5)]
            assert strangers == [401, 401, 401, 429, 429]
        assert not scene.state.kept_audit.kept

    play(tmp_path, act)


def test_what_a_key_may_not_do_counts_against_its_limit_and_is_told_of_it(tmp_path: Path) -> None:
    """The audit log names whose key it was, and grows no faster than the limit lets it; strangers are not in it."""

    async def act(scene: Scene) -> None:
        key = scene.state.kept_keys.make(Permission.READ)
        async with scene.served(choices=Choices(per_minute=3)) as client:
            tries = [(await client.ask("DELETE", f"{PODS}/x", headers=_bearer(key))).status_code for _ in range(5)]
            assert tries == [403, 403, 403, 429, 429]
            assert (await client.ask("DELETE", f"{PODS}/x")).status_code == 401
        entries = [(one.key_id, one.status) for one in scene.state.kept_audit.kept]
        assert entries == [(key_id, 403) for key_id in scene.state.kept_keys.kept] * 3

    play(tmp_path, act)


def test_what_all_pods_of_a_key_may_cost_is_kept_to_its_budget(tmp_path: Path) -> None:
    """A pod counts with its lifetime until it has ended, and with what it has cost from then on."""

    async def act(scene: Scene) -> None:
        key = scene.state.kept_keys.make(budget=Decimal(5))
        async with scene.served(key=key) as client:
            first = await client.well("POST", PODS, json=WISH)  # 24 h at 0.17 USD
            second = await client.ask("POST", PODS, json=WISH)
            assert second.status_code == 402
            assert "budget" in second.json()["message"]
            assert (await client.ask("POST", PODS, json={**WISH, "lifetime_hours": 5})).status_code == 200
            await client.well("DELETE", f"{PODS}/{first['data']['id']}")
            assert (await client.ask("POST", PODS, json=WISH)).status_code == 200
            assert (await client.ask("POST", PODS, json={**WISH, "lifetime_hours": 1})).status_code == 402

    scene = play(tmp_path, act)
    assert len(scene.pods()) == 3


def test_every_write_is_in_the_audit_log_before_and_after_it(tmp_path: Path) -> None:
    """Who, what, on which pod, how it ended; reads are not, and nothing of a body is."""

    async def act(scene: Scene) -> None:
        key = scene.state.kept_keys.make()
        async with scene.served(key=key) as client:
            made = await client.well("POST", PODS, json={**WISH, "env": {"TOKEN": "planted-value"}})
            await client.well("GET", PODS)
            await client.well("DELETE", f"{PODS}/{made['data']['id']}")
            await client.ask("POST", PODS, json={})
        found = [(one.operation, one.status, one.error, one.target) for one in scene.state.kept_audit.kept]
        pod = made["data"]["id"]
        assert found == [
            ("cloud.create_pod", None, "", ""),
            ("cloud.create_pod", 200, "", pod),
            ("cloud.terminate_pod", None, "", pod),
            ("cloud.terminate_pod", 200, "", pod),
            ("cloud.create_pod", None, "", ""),
            ("cloud.create_pod", 422, "InvalidRequest", ""),
        ]
        assert {one.key_id for one in scene.state.kept_audit.kept} == set(scene.state.kept_keys.kept)
        assert "planted-value" not in repr(scene.state)

    play(tmp_path, act)


def test_without_its_state_the_service_does_nothing(tmp_path: Path) -> None:
    """A write that could not be audited is not done, and who asks whether it is ready hears no."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            scene.state.kept_audit.add("note", StoreError("the disk is full"), StoreError("the disk is full"))
            refused = await client.ask("POST", PODS, json=WISH)
            assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
            scene.state.add("check", StoreError("the disk is full"))
            assert (await client.ask("GET", "/readyz")).status_code == 503
            assert (await client.ask("GET", "/healthz")).status_code == 200
            scene.state.kept_keys.broken = StoreError("the disk is full")
            await scene.wait(3)
            assert (await client.ask("GET", PODS)).status_code == 503

    scene = play(tmp_path, act)
    assert not scene.pods()
