"""Whatever is sent, the service answers, and never with a 5xx: requests drawn from its own description."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from support.http_service import BASE, Client, Scene, play
from support.stages import Provider

from runner_provisioner.controller.app import create_app
from runner_provisioner.controller.serving import Choices

MARKETS = (Provider.RUNPOD, Provider.LIUM, Provider.PRIME)
AT_ONCE = 4
MODES = {"valid": GenerationMode.POSITIVE, "invalid": GenerationMode.NEGATIVE}


def _operations() -> Sequence[Any]:
    schema = schemathesis.openapi.from_dict(create_app(_never).openapi())
    return [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr] # ours has no mistakes


def _never() -> Any:  # noqa: ANN401 - nothing is opened to describe the service
    raise NotImplementedError


def _cases(mode: GenerationMode) -> st.SearchStrategy[list[Any]]:
    """Some requests of each operation, one after the other."""
    return st.tuples(
        *(st.lists(one.as_strategy(generation_mode=mode), min_size=1, max_size=AT_ONCE) for one in _operations())
    ).map(lambda found: [case for cases in found for case in cases])


async def _send(client: Client, case: Any) -> None:  # noqa: ANN401 - of schemathesis
    sent = case.as_transport_kwargs(base_url=BASE)
    more = {name: sent[name] for name in ("params", "headers", "cookies") if sent.get(name)}
    body: dict[str, Any] = {"json": sent["json"]} if "json" in sent else {}
    if isinstance(sent.get("data"), (bytes, str)):
        body = {"content": sent["data"]}
    try:
        request = client.http.build_request(sent["method"], sent["url"], **more, **body)
    except (UnicodeError, ValueError, TypeError):
        return  # nothing that can be sent
    answer = await client.http.send(request)
    assert answer.status_code < 500, (request.method, str(request.url), answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert not re.search(r"(?<![\w-])--[a-z]{2}", answer.text), answer.text


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mode", "rounds"),
    [
        pytest.param("valid", 1, id="valid"),
        pytest.param("invalid", 1, id="invalid", marks=pytest.mark.full),
        pytest.param("valid", 30, id="valid-many", marks=pytest.mark.full),
        pytest.param("invalid", 30, id="invalid-many", marks=pytest.mark.full),
    ],
)
def test_no_request_is_answered_with_a_5xx(mode: str, rounds: int) -> None:
    """Every operation of every contract, over three markets; and each pod that was made on the way has an end."""

    @settings(
        max_examples=rounds,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_cases(MODES[mode]))
    def check(cases: list[Any]) -> None:
        async def act(scene: Scene) -> None:
            async with scene.served(choices=Choices(per_minute=0)) as client:
                for case in cases:
                    await _send(client, case)

        with tempfile.TemporaryDirectory() as folder:
            scene = play(Path(folder), act, *MARKETS)
        assert all(one.expires_at > one.requested_at for one in scene.state.kept_pods.kept.values())

    check()
