"""The gate of the HTTP service: what a browser on another site, or a wrong name, does not get through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.http_service import Scene, play

from runner_provisioner.controller.gate import BODY_TIME
from runner_provisioner.controller.serving import Choices

JSON = {"content-type": "application/json"}
BODY = b'{"name":"a","image_name":"x/y","gpu_type_id":"NVIDIA RTX A4000"}'
PODS = "/api/cloud/pods"
Headers = dict[str, str] | list[tuple[str, str]]  # a list where one comes twice
LIST, CREATE = ("GET", PODS, b""), ("POST", PODS, BODY)
REFUSED: dict[str, tuple[tuple[str, str, bytes], Headers, int]] = {
    "rebound name": (LIST, {"host": "evil.example"}, 400),
    "rebound name with port": (LIST, {"host": "evil.example:8000"}, 400),
    "name that only begins well": (LIST, {"host": "localhost.evil.example"}, 400),
    "user in front of a name": (LIST, {"host": "localhost@evil.example"}, 400),
    "no port": (LIST, {"host": "localhost:http"}, 400),
    "empty name": (LIST, {"host": ""}, 400),
    "docs by a rebound name": (("GET", "/docs", b""), {"host": "evil.example"}, 400),
    "script of another site": (LIST, {"origin": "https://evil.example"}, 403),
    "page without an origin": (LIST, {"origin": "null"}, 403),
    "another port of this machine": (LIST, {"origin": "http://127.0.0.1:3000"}, 403),
    "navigation from another site": (LIST, {"sec-fetch-site": "cross-site"}, 403),
    "navigation from a neighbour": (LIST, {"sec-fetch-site": "same-site"}, 403),
    "two sites in one header": (LIST, {"sec-fetch-site": "none, cross-site"}, 403),
    "two headers of sites": (LIST, [("sec-fetch-site", "none"), ("sec-fetch-site", "Cross-Site")], 403),
    "own page, then another": (LIST, [("origin", "http://127.0.0.1:8000"), ("origin", "https://evil.example")], 403),
    "file of this machine": (LIST, {"origin": "file://127.0.0.1:8000"}, 403),
    "another scheme on this machine": (LIST, {"origin": "https://127.0.0.1:8000"}, 403),
    "origin that is none": (LIST, {"origin": "http://[::1:8000"}, 403),
    "another scheme at a chosen name": (LIST, {"host": "gpu.example", "origin": "ftp://gpu.example"}, 403),
    "form of another site": (
        CREATE,
        {"content-type": "application/x-www-form-urlencoded", "origin": "https://evil.example"},
        403,
    ),
    "form that hides its origin": (CREATE, {"content-type": "text/plain"}, 415),
    "body without a type": (CREATE, {}, 415),
    "multipart": (CREATE, {"content-type": "multipart/form-data; boundary=x"}, 415),
    "stop by a form": ((("POST"), f"{PODS}/x/stop", b""), {"origin": "https://evil.example"}, 403),
    "preflight": (("OPTIONS", PODS, b""), {"origin": "https://evil.example"}, 403),
    "preflight that hides its origin": (("OPTIONS", PODS, b""), {}, 405),
    "more than a body may have": (CREATE, {**JSON, "content-length": "1048577"}, 413),
    "length that is none": (CREATE, {**JSON, "content-length": "-1"}, 413),
}
PASSED: dict[str, dict[str, str]] = {
    "program": {},
    "localhost": {"host": "localhost:8000"},
    "without a port": {"host": "127.0.0.1"},
    "IPv6": {"host": "[::1]:8000"},
    "IPv6 written long": {"host": "[0:0:0:0:0:0:0:1]:8000"},
    "capital letters": {"host": "LocalHost:8000"},
    "chosen name": {"host": "gpu.example"},
    "own page behind a proxy with TLS": {"host": "gpu.example", "origin": "https://gpu.example"},
    "own page behind a plain proxy": {"host": "gpu.example", "origin": "http://gpu.example"},
    "chosen address written short": {"host": "[2001:db8::1]:8000"},
    "own page": {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"},
    "address typed in": {"sec-fetch-site": "none"},
}


def _answers(tmp_path: Path, cases: dict[str, tuple[tuple[str, str, bytes], Headers, int]]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def act(scene: Scene) -> None:
        async with scene.served(choices=Choices(hosts=("gpu.example", "[2001:DB8:0::1]"))) as client:
            for name, ((method, path, body), headers, _status) in cases.items():
                found[name] = await client.ask(method, path, content=body, headers=headers)

    scene = play(tmp_path, act)
    assert not scene.pods()
    return found


def test_what_is_not_a_client_of_this_machine_is_refused(tmp_path: Path) -> None:
    """Wrong names, other sites' pages and forms, and no answer that another site's script may read."""
    answers = _answers(tmp_path, REFUSED)
    assert {name: one.status_code for name, one in answers.items()} == {
        name: status for name, (_request, _headers, status) in REFUSED.items()
    }
    assert not [name for name, one in answers.items() if "access-control-allow-origin" in one.headers]
    shape = answers["script of another site"].json()
    assert (shape["data"], shape["error"]["type"]) == (None, "CrossSite")


def test_whoever_is_one_is_let_in(tmp_path: Path) -> None:
    """By each name of loopback, by a chosen one, and from the service's own pages; no frame, no sniffing, no cache."""
    answers = _answers(tmp_path, {name: (LIST, headers, 200) for name, headers in PASSED.items()})
    assert {name: one.status_code for name, one in answers.items()} == dict.fromkeys(PASSED, 200)
    headers = answers["program"].headers
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert headers["cache-control"] == "no-store"


def test_a_body_that_goes_on_for_ever_is_cut(tmp_path: Path) -> None:
    """Also when it does not say how long it is."""

    async def act(scene: Scene) -> None:
        async def endless() -> Any:  # noqa: ANN401 - an iterator of bytes
            while True:
                yield b" " * 65536

        async with scene.served() as client:
            answer = await client.ask("POST", PODS, content=endless(), headers=JSON)
            assert (answer.status_code, answer.json()["error"]["type"]) == (413, "TooLarge")

    play(tmp_path, act)


@pytest.mark.parametrize("every", [1.0, 1000.0], ids=["a byte per second", "one byte"])
def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path, every: float) -> None:
    """The whole of it has its time, the connection is closed, and nothing is rented."""

    async def act(scene: Scene) -> None:
        async def slow() -> Any:  # noqa: ANN401 - an iterator of bytes
            for sign in BODY:
                yield bytes([sign])
                await scene.wait(every)

        async with scene.served() as client:
            begun = scene.clock.monotonic()
            answer = await client.ask("POST", PODS, content=slow(), headers=JSON)
            assert (answer.status_code, answer.headers["connection"]) == (408, "close")
            assert answer.json()["error"]["type"] == "TooSlow"
            assert scene.clock.monotonic() - begun == pytest.approx(BODY_TIME, abs=1)

    assert not play(tmp_path, act).pods()


def test_a_body_that_is_there_in_time_is_served_however_long_that_takes(tmp_path: Path) -> None:
    """What a provider needs to make a pod does not count."""

    async def act(scene: Scene) -> None:
        async def late() -> Any:  # noqa: ANN401 - an iterator of bytes
            yield BODY[:9]
            await scene.wait(BODY_TIME - 1)
            yield BODY[9:]

        async with scene.served() as client:
            assert (await client.ask("POST", PODS, content=late(), headers=JSON)).status_code == 200

    play(tmp_path, act)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs"], ids=lambda path: path[1:])
def test_what_watches_over_it_needs_no_key(tmp_path: Path, path: str) -> None:
    """Nor does the description; the numbers of /metrics do, once there are keys."""

    async def act(scene: Scene) -> None:
        key = scene.state.kept_keys.make()
        async with scene.served() as client:
            assert (await client.ask("GET", path)).status_code == 200
            assert (await client.ask("GET", "/metrics")).status_code == 401
            told = await client.ask("GET", "/metrics", headers={"authorization": f"Bearer {key}"})
            assert told.status_code == 200

    play(tmp_path, act)


def test_the_description_says_that_keys_are_sent_as_bearers(tmp_path: Path) -> None:
    """And every create that it takes an idempotency key."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            told = await client.well("GET", "/openapi.json")
        assert told["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
        for path in ("/api/cloud/pods", "/machines/", "/machines/template", "/api/v1/pods"):
            headers = [one["name"] for one in told["paths"][path]["post"]["parameters"] if one["in"] == "header"]
            assert headers == ["Idempotency-Key"]

    play(tmp_path, act)
