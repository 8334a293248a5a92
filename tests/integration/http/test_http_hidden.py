"""What a request wants kept out of sight is kept out for as long as it is served, and nobody else's words are."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.http_service import Scene, play
from support.stages import Provider

from runner_provisioner import logging as logs
from runner_provisioner.controller.inputs import MOST_VARIABLES
from runner_provisioner.domain.api_keys import Permission
from runner_provisioner.errors import InvalidRequest

CLOUD: dict[str, Any] = {"name": "mine", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}
POD: dict[str, Any] = {"name": "mine", "gpuType": "A4000_16GB"}
TEMPLATE: dict[str, Any] = {"name": "mine", "docker_image": "x/y"}
PODS = "/api/cloud/pods"
PLANTED = ("plain-foo-77", "conf  seen\ntwice", "start --with dock-66")
CREATES: dict[str, tuple[Provider, str, dict[str, Any]]] = {
    "cloud": (
        Provider.RUNPOD,
        PODS,
        {**CLOUD, "env": {"FOO": PLANTED[0], "CONF": PLANTED[1]}, "docker_args": PLANTED[2]},
    ),
    "pods": (
        Provider.PRIME,
        "/api/v1/pods",
        {"pod": {**POD, "jupyterPassword": PLANTED[0]}, "provider": {"type": "prime"}},
    ),
    "pods elsewhere": (
        Provider.RUNPOD,
        "/api/v1/pods",
        {"pod": {**POD, "envVars": [{"key": "FOO", "value": PLANTED[0]}], "jupyterPassword": PLANTED[2]}},
    ),
    "template": (Provider.LIUM, "/machines/template", {**TEMPLATE, "startup_commands": PLANTED[2]}),
}


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    """Leave no handler and no stream behind."""
    yield
    if logs._output.handler is not None:
        logging.getLogger().removeHandler(logs._output.handler)
    logs._output.__init__()  # type: ignore[misc]


def _logged(scene: Scene) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(mode="json", level="debug", redactor=scene.redactor, stream=stream, now=scene.clock.now)
    return stream


def _quoting(*planted: str) -> Callable[[httpx.Request], httpx.Response | None]:
    """A provider that refuses what it is sent and says what that was."""

    def instead(request: httpx.Request) -> httpx.Response | None:
        sent = request.content.decode()
        encoded = request.method == "POST" and request.url.path.endswith("/templates")  # the command is in base64 there
        if not encoded and not any(json.dumps(one)[1:-1] in sent for one in planted):
            return None
        said = f"invalid value: {' and '.join(planted)} and GA102GL"
        return httpx.Response(
            400, json={"errors": [{"message": said}], "message": said, "detail": said}, request=request
        )

    return instead


@pytest.mark.parametrize(("provider", "path", "body"), CREATES.values(), ids=CREATES)
def test_what_a_provider_quotes_of_a_request_is_masked(
    tmp_path: Path, provider: Provider, path: str, body: dict[str, Any]
) -> None:
    """Whatever its variables are called: in the answer, the log, and all that is kept."""
    used = [one for one in PLANTED if json.dumps(one) in json.dumps(body)]

    async def act(scene: Scene) -> None:
        stream = _logged(scene)
        scene.instead = _quoting(*used)
        async with scene.served() as client:
            answer = await client.ask("POST", path, json=body, headers={"idempotency-key": "one"})
            assert answer.status_code >= 400
            assert "GA102GL" in answer.text
            for word in (*used, *(" ".join(one.split()) for one in used), *(one.split()[-1] for one in used)):
                for text in (answer.text, stream.getvalue(), repr(scene.state)):
                    assert word not in text
                    assert json.dumps(word)[1:-1] not in text
        assert {"http_request", "request_refused"} <= {
            json.loads(line)["event"] for line in stream.getvalue().splitlines()
        }
        assert scene.state.kept_audit.kept

    play(tmp_path, act, provider)


def test_a_secret_is_masked_before_words_in_it_are_replaced(tmp_path: Path) -> None:
    """What looks like an option of the command line is called by its field, and would be the secret no longer."""
    secret = "token --max-price plain-foo-77"

    async def act(scene: Scene) -> None:
        async with scene.served() as client:

            async def failing(*_: object, **__: object) -> None:
                raise InvalidRequest(f"no such thing: {secret}")

            object.__setattr__(client.parts.orders, "rent", failing)
            answer = await client.ask("POST", PODS, json={**CLOUD, "env": {"FOO": secret}})
            assert (answer.status_code, "no such thing" in answer.text) == (422, True)
            assert "plain-foo-77" not in answer.text

    play(tmp_path, act)


def test_what_one_request_hides_is_not_hidden_from_the_next(tmp_path: Path) -> None:
    """A caller who calls common words secret spoils nobody's messages."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            before = await client.ask("GET", f"{PODS}/abcdef")
            env = {"X_TOKEN": "pods", "Y_TOKEN": "abcdef", "Z": "exists"}
            await client.well("POST", PODS, json={**CLOUD, "env": env})
            after = await client.ask("GET", f"{PODS}/abcdef")
            assert (after.status_code, after.text) == (404, before.text)
            assert "'abcdef'" in after.text
        assert repr(scene.redactor) == "Redactor(1 secrets)"  # the provider's key

    play(tmp_path, act)


@pytest.mark.parametrize(
    ("path", "place", "body"),
    [
        pytest.param(PODS, '"field":"env"', lambda env: {**CLOUD, "env": env}, id="cloud"),
        pytest.param(
            "/api/v1/pods",
            '["body","pod","envVars"]',
            lambda env: {"pod": {**POD, "envVars": [{"key": key, "value": value} for key, value in env.items()]}},
            id="pods",
        ),
    ],
)
def test_a_pod_takes_so_many_variables(
    tmp_path: Path, path: str, place: str, body: Callable[[dict[str, str]], dict[str, Any]]
) -> None:
    """One more is a 422 of the service that names the field; what a provider takes is its own affair."""

    async def act(scene: Scene) -> None:
        env = {f"T_{number}_TOKEN": f"value-{number}" for number in range(MOST_VARIABLES + 1)}
        async with scene.served() as client:
            refused = await client.ask("POST", path, json=body(env))
            assert refused.status_code == 422, refused.text
            assert ("env" in refused.text, str(MOST_VARIABLES) in refused.text) == (True, True)
            env.popitem()
            many = await client.ask("POST", path, json=body(env))
            assert "RunPod takes 50 environment variables" in many.text
            assert place in many.text

    play(tmp_path, act)


def test_every_record_of_a_request_names_it_and_its_key(tmp_path: Path) -> None:
    """Also those of calls that were made for it, and no values of its caller can hide that, or break the line."""

    async def act(scene: Scene) -> None:
        stream = _logged(scene)
        key = scene.state.kept_keys.make()
        (key_id,) = scene.state.kept_keys.kept
        async with scene.served(key=key) as client:
            sly = ("debug: ", '", "level": "', "request_refused", "timestamp", "for_request", key_id, "http_error")
            env = {f"A{number}": text for number, text in enumerate((*sly, "warning"))}
            one = await client.ask("POST", PODS, json={**CLOUD, "env": env, "max_price": "0.01"})
            assert one.status_code == 402
            records = [json.loads(line) for line in stream.getvalue().splitlines()]
            assert {record["for_request"] for record in records} == {one.headers["x-request-id"]}
            assert {record["for_key"] for record in records} == {key_id}
            assert [record["event"] for record in records][-1] == "request_refused"
            assert "http_request" in {record["event"] for record in records}
            reader = {"authorization": f"Bearer {scene.state.kept_keys.make(Permission.READ)}"}
            await scene.wait(2)
            await client.ask("DELETE", f"{PODS}/x", headers=reader)
            refused = json.loads(stream.getvalue().splitlines()[-1])
            assert (refused["error"], refused["for_key"]) == ("Forbidden", list(scene.state.kept_keys.kept)[-1])
            await client.ask("GET", PODS, headers={"authorization": "Bearer nonsense"})
            stranger = json.loads(stream.getvalue().splitlines()[-1])
            assert (stranger["event"], "for_key" in stranger) == ("request_refused", False)
            assert stranger["for_request"] not in {"", one.headers["x-request-id"]}

    play(tmp_path, act)


def test_who_has_no_key_is_told_what_to_send(tmp_path: Path) -> None:
    """The hint is no credential, and is not masked like one."""

    async def act(scene: Scene) -> None:
        scene.state.kept_keys.make()
        async with scene.served() as client:
            answer = await client.ask("GET", PODS)
            assert answer.status_code == 401
            assert "MASKED" not in answer.text
            assert "Authorization" in answer.text
            assert "rpk_..." in answer.text

    play(tmp_path, act)


def test_what_no_route_has_seen_is_counted_too(tmp_path: Path) -> None:
    """Refusals at the gate, paths that nobody serves, and metrics without a key: each once, by its status."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            await client.ask("GET", PODS, headers={"host": "evil.example"})
            await client.ask("GET", PODS, headers={"origin": "https://evil.example"})
            await client.ask("POST", PODS, content=b"x", headers={"content-type": "text/plain"})
            await client.ask("POST", PODS, content=b"x", headers={"content-length": "99999999"})
            for path in ("/nowhere", "/nowhere/else", "/api/cloud/nothing"):
                await client.ask("GET", path)
            scene.state.kept_keys.make()
            await scene.wait(3)
            await client.ask("GET", "/metrics")
            lines = client.parts.metrics.text().decode().splitlines()
        name = "runner_provisioner_request_seconds_count"
        counted = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)}
        assert counted == {
            **{f'{name}{{operation="gate",status="{status}"}}': 1.0 for status in (400, 403, 415, 413)},
            f'{name}{{operation="unknown",status="404"}}': 3.0,
            f'{name}{{operation="metrics",status="401"}}': 1.0,
        }
        assert any("runner_provisioner_errors_total" in line and 'error="CrossSite"' in line for line in lines)

    play(tmp_path, act)


def test_the_audit_log_says_where_and_of_what(tmp_path: Path) -> None:
    """A create that failed names what was asked for, and each write that did not names its provider."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            await client.ask("POST", PODS, json={**CLOUD, "max_price": "0.01", "provider": "runpod"})
            made = await client.well("POST", PODS, json=CLOUD)
            for verb in ("stop", "resume"):
                await client.well("POST", f"{PODS}/{made['data']['id']}/{verb}")
            await client.well("DELETE", f"{PODS}/{made['data']['id']}")
            other = await client.well("POST", PODS, json=CLOUD)
            await client.well("DELETE", f"/api/v1/pods/{other['data']['id']}")
        pod, second = made["data"]["id"], other["data"]["id"]
        done = [one for one in scene.state.kept_audit.kept if one.status is not None]
        assert [one.target for one in done] == ["mine", pod, pod, pod, pod, second, second]
        assert {one.provider for one in done} == {"runpod"}

    play(tmp_path, act)
