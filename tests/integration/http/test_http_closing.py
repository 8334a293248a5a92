"""What a service that is told to stop does with the requests that it cuts: they are told, and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from support.http_service import Client, Scene, play
from support.wire import Kind, Sent

from runner_provisioner.services.provision import CANCEL_WINDOW

CREATES: dict[str, tuple[str, dict[str, Any]]] = {
    "cloud": ("/api/cloud/pods", {"name": "mine", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}),
    "pods": ("/api/v1/pods", {"pod": {"name": "mine", "gpuType": "A4000_16GB"}}),
}
KEY = {"idempotency-key": "8a1f"}


def _at_the_create(kind: Kind, times: int = 1) -> Any:  # noqa: ANN401 - a rule of the wire
    left = [times]

    def rule(sent: Sent) -> Kind:
        if sent.operation != "podFindAndDeployOnDemand" or not left[0]:
            return Kind.PASS
        left[0] -= 1
        return kind

    return rule


async def _cut(scene: Scene, client: Client, path: str, body: dict[str, Any], **more: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own options
    """Send a create, cut it when it has been on its way for five seconds; its answer."""
    answers: list[httpx.Response] = []
    async with anyio.create_task_group() as group:

        async def create() -> None:
            answers.append(await client.ask("POST", path, json=body, **more))

        group.start_soon(create)
        await scene.wait(5)
        assert not answers
        begun = scene.clock.monotonic()
        client.parts.closing.cut()
    assert scene.clock.monotonic() - begun <= CANCEL_WINDOW + 0.1
    return answers[0]


@pytest.mark.parametrize("headers", [{}, KEY], ids=["without a key", "with a key"])
@pytest.mark.parametrize("contract", CREATES)
def test_what_a_create_that_is_cut_has_rented_is_ended(tmp_path: Path, contract: str, headers: dict[str, str]) -> None:
    """And given up, so that nobody takes it for wanted; the caller hears it in the shape of the contract."""
    path, body = CREATES[contract]

    async def act(scene: Scene) -> None:
        async with scene.served(rule=_at_the_create(Kind.HANG_AFTER)) as client:
            answer = await _cut(scene, client, path, body, headers=headers)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
            told = answer.json()["message" if contract == "cloud" else "detail"]
            assert "told to stop" in told
            (served,) = scene.state.kept_pods.kept.values()
            assert (served.given_up_at is not None, served.id) == (True, None)
            assert not scene.live()
            assert [(one.status, one.error) for one in scene.state.kept_audit.kept] == [(None, ""), (503, "Stopped")]
        assert len(scene.pods()) == 1

    play(tmp_path, act)


@pytest.mark.parametrize("kind", [Kind.HANG_AFTER, Kind.HANG])
def test_a_create_that_was_cut_is_one_pod_when_it_is_repeated(tmp_path: Path, kind: Kind) -> None:
    """At the next service, with the key of the first."""
    path, body = CREATES["cloud"]

    async def act(scene: Scene) -> None:
        async with scene.served(rule=_at_the_create(kind)) as client:
            assert (await _cut(scene, client, path, body, headers=KEY)).status_code == 503
        async with scene.served() as client:
            await scene.wait(60)
            made = await client.well("POST", path, json=body, headers=KEY)
            assert [pod.id for pod in scene.live()] == [made["data"]["id"]]
            await client.parts.served.round()
            assert [pod.id for pod in scene.live()] == [made["data"]["id"]]

    play(tmp_path, act)


def test_where_nothing_can_be_ended_in_time_the_next_round_does(tmp_path: Path) -> None:
    """The provider says nothing any more: what it has rented is given up in the database, and not taken for wanted."""
    path, body = CREATES["cloud"]

    def rule(sent: Sent) -> Kind:
        if sent.operation == "podFindAndDeployOnDemand":
            silent.append(True)
            return Kind.HANG_AFTER
        return Kind.HANG if silent else Kind.PASS

    silent: list[bool] = []

    async def act(scene: Scene) -> None:
        async with scene.served(rule=rule) as client:
            assert (await _cut(scene, client, path, body)).status_code == 503
        assert len(scene.live()) == 1
        async with scene.served() as client:
            await client.parts.served.round()
            assert not scene.live()

    play(tmp_path, act)


def test_a_request_that_comes_after_the_cut_is_not_begun(tmp_path: Path) -> None:
    """On a connection that was open, it may still arrive."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            client.parts.closing.cut()
            for method, (path, body) in (("POST", CREATES["cloud"]), ("GET", CREATES["pods"])):
                answer = await client.ask(method, path, json=body if method == "POST" else None)
                assert answer.status_code == 503

    assert not play(tmp_path, act).pods()
