"""A create over HTTP rents once: repeated, at once, lost, refused, and across the death of the service."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from support.http_service import Client, Scene, play
from support.stages import Provider
from support.wire import Kind, Rule, Sent

from runner_provisioner.controller.serving import Choices
from runner_provisioner.services.once import HOLD
from runner_provisioner.services.shelf import FRESH
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator

PODS = "/api/cloud/pods"
WISH: dict[str, Any] = {"name": "mine", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}
KEY = {"idempotency-key": "8a1f"}
TEMPLATE: dict[str, Any] = {"docker_image": "x/y", "name": "mine", "port_mapping": [22]}
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB/6vi7VtlHAbDYurbV/k70dQql4m7GcdCuBtYMCu/t8 my-key"
HELD = HOLD.total_seconds() + 1


CREATE = r"podFindAndDeployOnDemand|POST .*/rent|POST /api/v1/pods/?"


def once(kind: Kind, operation: str = CREATE) -> Rule:
    """Strike the first create."""
    struck: list[Sent] = []

    def rule(sent: Sent) -> Kind:
        if struck or not re.fullmatch(operation, sent.operation):
            return Kind.PASS
        struck.append(sent)
        return kind

    return rule


async def _create(client: Client, **more: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own options
    return await client.ask("POST", PODS, **{"json": WISH, "headers": KEY, **more})


async def _crash(asked: Awaitable[httpx.Response]) -> None:
    """The request is the death of its process; a group of tasks may have wrapped that."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - looked at below
        await asked
    assert "Crash" in repr(caught.value)


def test_a_repeated_request_gets_the_first_ones_answer(tmp_path: Path) -> None:
    """The same bytes, also from another process, and also when the fields come in another order, or with defaults."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            first = await _create(client)
            assert first.status_code == 200
            assert (await _create(client)).content == first.content
        async with scene.served() as other:
            assert (await _create(other, json=dict(reversed(WISH.items())))).content == first.content
            written_out = {**WISH, "gpu_count": 1, "cloud_type": "all", "env": {}, "max_price": None}
            assert (await _create(other, json=written_out)).content == first.content
            changed = await _create(other, json={**WISH, "gpu_count": 2})
            assert changed.status_code == 422
            assert "new key" in changed.json()["message"]
            assert (await _create(other, headers={"idempotency-key": "another"})).json() != first.json()
            assert (await _create(other, headers={})).json() != first.json()

    scene = play(tmp_path, act)
    assert len(scene.pods()) == 3
    assert len(scene.state.kept_pods.kept) == 3


def test_of_requests_at_once_one_is_served(tmp_path: Path) -> None:
    """The others are told to come back, and then get the same answer."""
    answers: list[httpx.Response] = []

    async def act(scene: Scene) -> None:
        async with scene.served() as client, anyio.create_task_group() as group:

            async def one() -> None:
                answers.append(await _create(client))

            for _ in range(5):
                group.start_soon(one)
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
        waits = [int(answer.headers["retry-after"]) for answer in answers if answer.status_code == 409]
        assert all(1 <= wait <= HOLD.total_seconds() for wait in waits)
        async with scene.served() as client:
            assert (await _create(client)).status_code == 200

    assert len(play(tmp_path, act).pods()) == 1


def test_each_caller_has_keys_of_their_own(tmp_path: Path) -> None:
    """What one has rented the other is not told."""

    async def act(scene: Scene) -> None:
        one, two = scene.state.kept_keys.make(), scene.state.kept_keys.make()
        async with scene.served() as client:
            answers = [
                await _create(client, headers={**KEY, "authorization": f"Bearer {key}"}) for key in (one, two, one)
            ]
        assert answers[0].json()["data"]["id"] != answers[1].json()["data"]["id"]
        assert answers[0].content == answers[2].content

    assert len(play(tmp_path, act).pods()) == 2


@pytest.mark.parametrize("kind", [Kind.CRASH_BEFORE, Kind.CRASH_AFTER], ids=["before", "after"])
@pytest.mark.parametrize(
    ("provider", "named"),
    [
        pytest.param(Provider.RUNPOD, {}, id="runpod"),
        pytest.param(Provider.LIUM, {"provider": "celium"}, id="celium", marks=pytest.mark.full),
        pytest.param(Provider.PRIME, {"provider": "prime"}, id="prime", marks=pytest.mark.full),
    ],
)
def test_killed_while_it_rents_the_next_process_finishes(
    tmp_path: Path, provider: Provider, named: dict[str, str], kind: Kind
) -> None:
    """The pod is found by what was written down before, and rented only where it was not; nobody has two."""
    wish = {**WISH, **named, "image_name": "ubuntu_22_cuda_12" if provider is Provider.PRIME else "x/y"}

    async def act(scene: Scene) -> None:
        async with scene.served(rule=once(kind)) as client:
            await _crash(_create(client, json=wish))
        assert len(scene.pods()) == (kind is Kind.CRASH_AFTER)
        async with scene.served() as client:
            early = await _create(client, json=wish)
            assert early.status_code == 409
            await scene.wait(int(early.headers["retry-after"]))
            answer = await _create(client, json=wish)
            assert answer.status_code == 200
            assert answer.json()["data"]["id"] == scene.live()[0].id
            assert (await _create(client, json=wish)).content == answer.content

    scene = play(tmp_path, act, provider)
    assert len(scene.pods()) == 1
    (kept,) = (one for one in scene.state.kept_pods.kept.values() if one.given_up_at is None)
    assert kept.id == scene.pods()[0].id


@pytest.mark.parametrize("key", [KEY, {}], ids=["repeated", "by the round"])
def test_killed_before_the_end_was_set_the_next_process_sets_it(tmp_path: Path, key: dict[str, str]) -> None:
    """The provider is told the exact moment after the rent."""
    wish = {**WISH, "provider": "celium"}

    async def act(scene: Scene) -> None:
        async with scene.served(rule=once(Kind.CRASH_BEFORE, "POST .*/schedule-removal")) as client:
            await _crash(_create(client, json=wish, headers=key))
        await scene.wait(180)
        async with scene.served() as client:
            await (_create(client, json=wish, headers=key) if key else client.parts.served.round())
        (kept,) = scene.state.kept_pods.kept.values()
        assert [pod.terminate_after for pod in scene.pods()] == [kept.expires_at]

    play(tmp_path, act, Provider.LIUM)


def test_killed_without_a_key_the_pod_is_remembered_all_the_same(tmp_path: Path) -> None:
    """The next process' round finds it by its name; what was never rented is given up."""

    async def act(scene: Scene) -> None:
        for kind in (Kind.CRASH_BEFORE, Kind.CRASH_AFTER):
            async with scene.served(rule=once(kind)) as client:
                await _crash(_create(client, headers={}))
        assert len(scene.state.kept_pods.kept) == 2
        async with scene.served() as client:
            await client.parts.served.round()
            assert len(scene.state.kept_pods.kept) == 2  # somebody else may still be at it
            await scene.wait(180)
            for _ in range(2):
                await client.parts.served.round()
        gone, kept = scene.state.kept_pods.kept.values()
        assert (gone.id, gone.given_up_at is not None) == (None, True)
        assert (kept.id, kept.label) == (scene.pods()[0].id, "mine")

    assert len(play(tmp_path, act).pods()) == 1


@pytest.mark.parametrize("kind", [Kind.DROP_AFTER, Kind.ERROR_AFTER, Kind.MALFORMED], ids=lambda kind: kind.value)
def test_a_lost_answer_is_no_second_pod(tmp_path: Path, kind: Kind) -> None:
    """It is found, and told as if nothing had been lost."""

    async def act(scene: Scene) -> None:
        async with scene.served(rule=once(kind)) as client:
            assert (await _create(client)).status_code == 200

    assert len(play(tmp_path, act).pods()) == 1


def test_an_outcome_that_nobody_knows_is_looked_for_before_another_try(tmp_path: Path) -> None:
    """503 with a time to wait; who repeats it gets one pod."""

    async def act(scene: Scene) -> None:
        async with scene.served(rule=once(Kind.ERROR)) as client:
            unknown = await _create(client)
            assert (unknown.status_code, "Idempotency-Key" in unknown.json()["message"]) == (503, True)
            await scene.wait(HELD)
            assert (await _create(client)).status_code == 200

    assert len(play(tmp_path, act).pods()) == 1


def test_after_a_refusal_the_same_key_may_try_again(tmp_path: Path) -> None:
    """Nothing was rented, so nothing is kept."""

    async def act(scene: Scene) -> None:
        scene.stages[0].sim.faults.add(scene.stages[0].no_stock(spot=False, times=1))
        async with scene.served() as client:
            refused = await _create(client)
            assert refused.status_code == 409
            assert not scene.state.kept_pods.kept
            assert not scene.state.kept_requests.kept
            assert (await _create(client)).status_code == 200

    assert len(play(tmp_path, act).pods()) == 1


def test_a_template_is_made_once_too(tmp_path: Path) -> None:
    """Also when the service dies while it is made."""

    async def act(scene: Scene) -> None:
        async with scene.served(rule=once(Kind.CRASH_AFTER, "POST .*/templates")) as client:
            await _crash(client.ask("POST", "/machines/template", json=TEMPLATE, headers=KEY))
        await scene.wait(HELD)
        async with scene.served() as client:
            made = await client.well("POST", "/machines/template", json=TEMPLATE, headers=KEY)
            assert await client.well("POST", "/machines/template", json=TEMPLATE, headers=KEY) == made
            mine = [one for one in await client.parts.providers["celium"].templates() if one.name == "mine"]  # type: ignore[attr-defined]
            assert [one.id for one in mine] == [made["id"]]

    play(tmp_path, act, Provider.LIUM)


def test_an_older_template_of_the_same_name_is_not_taken_for_the_one_that_was_cut_off(tmp_path: Path) -> None:
    """A pod of it would run another image."""
    other = {**TEMPLATE, "docker_image": "a/new"}

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            old = await client.well("POST", "/machines/template", json=TEMPLATE)
        async with scene.served(rule=once(Kind.CRASH_BEFORE, "POST .*/templates")) as client:
            await _crash(client.ask("POST", "/machines/template", json=other, headers=KEY))
        await scene.wait(HELD)
        async with scene.served() as client:
            made = await client.well("POST", "/machines/template", json=other, headers=KEY)
            assert made["id"] != old["id"]
            kept = {one.id: one.image for one in await client.parts.providers["celium"].templates()}  # type: ignore[attr-defined]
            assert "a/new" in str(kept[made["id"]])

    play(tmp_path, act, Provider.LIUM)


def test_a_repeated_template_is_answered_though_its_provider_is_gone(tmp_path: Path) -> None:
    """The first answer is kept."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            made = await client.well("POST", "/machines/template", json=TEMPLATE, headers=KEY)
        scene.stages = [one for one in scene.stages if "celium" not in one.host and "lium" not in one.host]
        async with scene.served() as client:
            assert "celium" not in client.parts.providers
            assert await client.well("POST", "/machines/template", json=TEMPLATE, headers=KEY) == made

    play(tmp_path, act, Provider.PRIME, Provider.LIUM)


def test_200_creates_at_once_are_200_pods(tmp_path: Path) -> None:
    """And as many rows of history."""

    async def act(scene: Scene) -> None:
        sim = scene.stages[0].sim
        assert isinstance(sim, RunPodSimulator)
        sim.market.set_stock("NVIDIA RTX A4000", 400)
        async with scene.served(choices=Choices(per_minute=0)) as client, anyio.create_task_group() as group:

            async def one(number: int) -> None:
                assert (await _create(client, headers={"idempotency-key": f"k{number}"})).status_code == 200

            for number in range(200):
                group.start_soon(one, number)

    scene = play(tmp_path, act)
    assert len(scene.pods()) == len(scene.live()) == 200
    assert len({one.id for one in scene.state.kept_pods.kept.values()}) == 200


async def _machine(client: Client) -> dict[str, Any]:
    """A whole machine, which leaves the list once it is rented."""
    made = await client.well("POST", "/machines/template", json=TEMPLATE)
    machines = await client.well("GET", "/machines/")
    chosen = next(row for row in machines if "A100" in row["gpu_type"])
    return {"template_id": made["id"], "executor_id": chosen["id"], "ssh_key": PUBLIC_KEY, "name": "mine"}


def test_a_repeated_rent_is_answered_though_its_machine_is_no_longer_for_rent(tmp_path: Path) -> None:
    """Nor its provider to be reached, nor its price allowed: what was rented before goes on billing."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            wish = await _machine(client)
            first = await client.well("POST", "/machines/", json=wish, headers=KEY)
            await scene.wait(FRESH + 1)
            assert wish["executor_id"] not in {row["id"] for row in await client.well("GET", "/machines/")}
            assert await client.well("POST", "/machines/", json=wish, headers=KEY) == first
            assert (await client.ask("POST", "/machines/", json=wish)).status_code == 409
        for rule, choices in (
            (lambda _sent: Kind.ERROR, Choices()),
            (None, Choices(max_price=Decimal("0.01"))),
        ):
            async with scene.served(rule=rule, choices=choices) as client:
                assert await client.well("POST", "/machines/", json=wish, headers=KEY) == first

    assert len(play(tmp_path, act, Provider.LIUM).pods()) == 1


def test_killed_while_it_rents_a_machine_the_next_process_finds_its_pod(tmp_path: Path) -> None:
    """Though the machine is on nobody's list any more."""

    async def act(scene: Scene) -> None:
        async with scene.served(rule=once(Kind.CRASH_AFTER)) as client:
            wish = await _machine(client)
            await _crash(client.ask("POST", "/machines/", json=wish, headers=KEY))
        await scene.wait(HELD)
        async with scene.served() as client:
            found = await client.well("POST", "/machines/", json=wish, headers=KEY)
            assert found["id"] == scene.live()[0].id

    assert len(play(tmp_path, act, Provider.LIUM).pods()) == 1
