"""What a load balancer and an operator hear of the HTTP service: in time, whatever it is busy with; and its rounds."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.http_service import Scene, play
from support.wire import Kind

from runner_provisioner import logging as our_logging
from runner_provisioner._redaction import Redactor
from runner_provisioner.controller.serving import ROUND, rounds
from runner_provisioner.errors import StoreError
from runner_provisioner.services.rounds import PATIENCE

WISH: dict[str, Any] = {"name": "mine", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}


@pytest.fixture
def log() -> Iterator[StringIO]:
    """The log, as JSON lines of level warning and above."""
    stream = StringIO()
    our_logging.configure(mode="json", level="warning", redactor=Redactor(), stream=stream)
    yield stream
    output = our_logging._output
    output.level = 100
    if output.handler is not None:
        logging.getLogger().removeHandler(output.handler)
        output.handler = None


def test_who_watches_over_it_does_not_wait_for_a_create(tmp_path: Path) -> None:
    """Whose provider takes its time."""

    async def act(scene: Scene) -> None:
        def rule(sent: Any) -> Kind:  # noqa: ANN401 - of the wire
            return Kind.HANG if sent.operation == "podFindAndDeployOnDemand" else Kind.PASS

        answers: list[Any] = []
        async with scene.served(rule=rule) as client, anyio.create_task_group() as group:

            async def create() -> None:
                answers.append(await client.ask("POST", "/api/cloud/pods", json=WISH))

            group.start_soon(create)
            await scene.wait(5)
            assert [one.sent_at is not None for one in scene.state.kept_pods.kept.values()] == [True]
            begun = scene.clock.monotonic()
            for path in ("/healthz", "/readyz"):
                assert (await client.ask("GET", path)).status_code == 200
            assert (scene.clock.monotonic(), answers) == (begun, [])
            group.cancel_scope.cancel()

    play(tmp_path, act)


def test_a_database_that_does_not_answer_is_told_in_time(tmp_path: Path) -> None:
    """503 within seconds; probes that come meanwhile ask it no second time, and the next one hears that it is back."""

    async def act(scene: Scene) -> None:
        back, asked = anyio.Event(), []

        async def check() -> None:
            asked.append(scene.clock.monotonic())
            await back.wait()

        scene.state.check = check  # type: ignore[method-assign]
        answers: list[tuple[float, int]] = []
        async with scene.served() as client:

            async def probe() -> None:
                answer = await client.ask("GET", "/readyz")
                answers.append((scene.clock.monotonic(), answer.status_code))
                assert "has not answered" in answer.text

            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(probe)
            assert answers == [(2.0, 503)] * 5
            assert (await client.ask("GET", "/healthz")).status_code == 200
            await probe()
            assert asked == [0.0]
            back.set()
            assert (await client.ask("GET", "/readyz")).status_code == 200
            assert (await client.ask("GET", "/readyz")).status_code == 200
            assert asked == [0.0, 4.0]

    play(tmp_path, act)


def test_what_ails_the_database_is_for_the_log_alone(tmp_path: Path, log: StringIO) -> None:
    """Whoever reaches the port learns no place; the operator is told once, and again when it comes back."""

    async def act(scene: Scene) -> None:
        ails = "the database /srv/secret/place.sqlite3 cannot be written"

        async def check() -> None:
            if ails:
                raise StoreError(ails)

        scene.state.check = check  # type: ignore[method-assign]
        async with scene.served() as client:
            for _ in range(3):
                answer = await client.ask("GET", "/readyz")
                assert (answer.status_code, "place" in answer.text) == (503, False)
            before, ails = ails, ""
            assert (await client.ask("GET", "/readyz")).status_code == 200
            ails = before
            assert (await client.ask("GET", "/readyz")).status_code == 503
        told = [json.loads(line) for line in log.getvalue().splitlines()]
        assert [(one["event"], one["reason"]) for one in told] == [("not_ready", ails)] * 2

    play(tmp_path, act)


def test_whatever_a_round_fails_of_is_logged_and_the_next_one_comes(tmp_path: Path, log: StringIO) -> None:
    """With its traceback where nobody expected it: nobody else ends a pod that is past its time."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            whole, faults = client.parts.served.round, [LookupError("odd"), StoreError("the disk is full")]

            async def failing() -> Any:  # noqa: ANN401 - a tally
                if faults:
                    raise faults.pop(0)
                return await whole()

            client.parts.served.round = failing  # type: ignore[method-assign]
            made = await client.well("POST", "/api/cloud/pods", json=WISH)
            metrics = client.parts.metrics
            with anyio.move_on_after(2.5 * ROUND):
                await rounds(client.parts)
            assert made["data"]["id"]
            assert not faults
            assert 'provider="runpod"' in metrics.text().decode()

    play(tmp_path, act)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(one["level"], one["event"]) for one in lines] == [("error", "round_failed"), ("warning", "round_failed")]
    assert "LookupError: odd" in lines[0]["exception"]
    assert "Traceback" in lines[0]["exception"]
    assert lines[1]["reason"] == "the disk is full"


def test_rounds_begin_every_minute_however_long_one_takes(tmp_path: Path) -> None:
    """A pod that is past its time waits for the begin of the next one."""

    async def act(scene: Scene) -> None:
        begun = []
        async with scene.served() as client:

            async def slow() -> Any:  # noqa: ANN401 - a tally
                begun.append(scene.clock.monotonic())
                await scene.wait((PATIENCE, 0, ROUND + 1)[len(begun) - 1 :][0])
                raise StoreError("away")

            client.parts.served.round = slow  # type: ignore[method-assign]
            with anyio.move_on_after(3 * ROUND):
                await rounds(client.parts)
        assert begun == [0.0, ROUND, 2 * ROUND]

    play(tmp_path, act)


def test_an_outage_is_a_warning_and_a_refusal_is_none(tmp_path: Path, log: StringIO) -> None:
    """An operator hears what is wrong with the service and its providers, and not of every slip of a caller."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            assert (await client.ask("POST", "/api/cloud/pods", json={})).status_code == 422
            assert (await client.ask("GET", "/api/cloud/pods/none")).status_code == 404
            assert log.getvalue() == ""
        async with scene.served(rule=lambda _sent: Kind.ERROR) as client:
            assert (await client.ask("GET", "/api/cloud/pods")).status_code == 502

    play(tmp_path, act)
    told = [json.loads(line) for line in log.getvalue().splitlines()]
    found = [one for one in told if one["event"] == "request_refused"]
    assert [(one["level"], one["status"], one["operation"]) for one in found] == [("warning", 502, "cloud.list_pods")]
