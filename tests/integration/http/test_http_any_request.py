"""Whatever is sent, the service answers, and never with a 5xx: requests drawn from its own description."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from support.http_service import BASE, Client, Scene, play
from support.stages import Provider

from runner_provisioner.controller.app import create_app
from runner_provisioner.controller.serving import Choices

MARKETS = (Provider.RUNPOD, Provider.LIUM, Provider.PRIME)
MODES = {"valid": GenerationMode.POSITIVE, "invalid": GenerationMode.NEGATIVE}
TEMPLATE = {"name": "any", "docker_image": "x/y"}


def _operations() -> Sequence[Any]:
    schema = schemathesis.openapi.from_dict(create_app(_never).openapi())
    return [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr] # ours has no mistakes


def _never() -> Any:  # noqa: ANN401 - nothing is opened to describe the service
    raise NotImplementedError


def _drawn(operation: Any, mode: GenerationMode, count: int) -> Sequence[Any]:  # noqa: ANN401 - of schemathesis
    """So many requests of an operation; none where none of the mode can be."""
    cases: list[Any] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def draw(case: Any) -> None:  # noqa: ANN401 - likewise
        cases.append(case)

    try:
        draw()
    except Unsatisfiable:
        return []
    return cases[-count:]


def _takes_anything(operation: Any) -> bool:  # noqa: ANN401 - of schemathesis
    """Whether there is something to be wrong in it."""
    return bool(list(operation.path_parameters) or list(operation.query) or list(operation.body))


def _aimed(case: Any, scene: Scene, template: str, number: int) -> Any:  # noqa: ANN401 - of schemathesis
    """Every other request is for a pod or a template that there is, so that more than the door is tried."""
    known = [one.id for one in scene.state.kept_pods.kept.values() if one.id is not None and one.ended_at is None]
    places = case.path_parameters or {}
    if number % 2 == 0 and "pod_id" in places and known:
        places["pod_id"] = known[number % len(known)]
    if number % 2 == 0 and "template_id" in places:
        places["template_id"] = template
    return case


async def _send(client: Client, case: Any) -> int | None:  # noqa: ANN401 - of schemathesis
    sent = case.as_transport_kwargs(base_url=BASE)
    more = {name: sent[name] for name in ("params", "headers", "cookies") if sent.get(name)}
    body: dict[str, Any] = {"json": sent["json"]} if "json" in sent else {}
    if isinstance(sent.get("data"), (bytes, str)):
        body = {"content": sent["data"]}
    try:
        request = client.http.build_request(sent["method"], sent["url"], **more, **body)
    except (UnicodeError, ValueError, TypeError):
        return None  # nothing that can be sent
    answer = await client.http.send(request)
    assert answer.status_code < 500, (request.method, str(request.url), answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert not re.search(r"(?<![\w-])--[a-z]{2}", answer.text), answer.text
    return answer.status_code


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("mode", "count"),
    [
        pytest.param("valid", 2, id="valid"),
        pytest.param("invalid", 2, id="invalid"),
        pytest.param("valid", 100, id="valid-many", marks=pytest.mark.full),
        pytest.param("invalid", 100, id="invalid-many", marks=pytest.mark.full),
    ],
)
def test_no_request_is_answered_with_a_5xx(tmp_path: Path, mode: str, count: int) -> None:
    """Every operation of every contract, over three markets; and each pod that was made on the way has an end."""
    drawn = [(one, _drawn(one, MODES[mode], count)) for one in _operations()]
    assert [one.path for one, cases in drawn if not cases and (mode == "valid" or _takes_anything(one))] == []
    turns = itertools.zip_longest(*(cases for _, cases in drawn))
    in_turns = [case for turn in turns for case in turn if case is not None]
    answers: list[int | None] = []

    async def act(scene: Scene) -> None:
        async with scene.served(choices=Choices(per_minute=0)) as client:
            made = await client.http.post("/machines/template", json=TEMPLATE)
            for number, case in enumerate(in_turns):
                answers.append(await _send(client, _aimed(case, scene, made.json()["id"], number)))

    scene = play(tmp_path, act, *MARKETS)
    assert all(one.expires_at > one.requested_at for one in scene.state.kept_pods.kept.values())
    assert answers.count(200) > len(drawn) * count / 10  # it was not all turned away at the door
