"""Sending: what is sent, what is retried, which error comes of what, and what is recorded."""

from __future__ import annotations

import io
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import anyio
import httpx
import pytest

from runner_provisioner import logging as logs
from runner_provisioner._http import Answer, CallMetrics, HttpSession, Pace, Plumbing, Retry, Tempo
from runner_provisioner.errors import (
    ApiRetired,
    AuthenticationFailed,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    ServerError,
    Timeout,
    TransientError,
    Unreachable,
)
from runner_provisioner.logging import Redactor, configure
from runner_provisioner.testing.clock import FakeClock

Handler = Callable[[httpx.Request], httpx.Response]
BASE = "https://api.example/graphql"
KEY = "opaque-credential-1"


def plumbing(handler: Handler | None = None, **changes: Any) -> Plumbing:  # noqa: ANN401 - any field
    """Plumbing on a clock that jumps and without a network."""
    made = Plumbing(
        clock=FakeClock(),
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="runner-provisioner/test",
        transport=httpx.MockTransport(handler) if handler else None,
    )
    return replace(made, **changes)


def session(handler: Handler | None = None, pace: Pace | None = None, base: str = BASE, **changes: Any) -> HttpSession:  # noqa: ANN401 - any field
    """A session of the service "market"."""
    return HttpSession(service="market", base_url=base, plumbing=plumbing(handler, **changes), pace=pace)


def answers(*given: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    """A handler that gives these, the last one for ever, and the requests it saw."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        what = given[min(len(seen), len(given)) - 1]
        if isinstance(what, Exception):
            raise what
        return what

    return handle, seen


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything logged, as JSON lines."""
    stream = io.StringIO()
    configure(mode="json", level="debug", redactor=Redactor(), stream=stream)
    yield stream
    if logs._output.handler is not None:
        logging.getLogger().removeHandler(logs._output.handler)
    logs._output.__init__()  # type: ignore[misc]


async def test_request_carries_body_headers_and_agent() -> None:
    """JSON, the caller's headers, and who we are; the answer comes back whole."""
    handle, seen = answers(httpx.Response(200, json={"ok": True}, headers={"X-Request-ID": "r1", "A": "b"}))
    async with session(handle) as http:
        answer = await http.send("op", "post", "", json={"q": 1}, headers={"X-Y": "z"}, params={"n": 1})
    (request,) = seen
    assert (request.method, str(request.url)) == ("POST", f"{BASE}?n=1")
    assert json.loads(request.content) == {"q": 1}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "runner-provisioner/test"
    assert request.headers["x-y"] == "z"
    assert (answer.status, answer.json(), answer.request_id, answer.headers["a"]) == (200, {"ok": True}, "r1", "b")
    assert "ok" not in repr(answer)


@pytest.mark.parametrize(
    ("path", "url"),
    [
        pytest.param("", BASE, id="the base itself"),
        pytest.param("pods/1", f"{BASE}/pods/1", id="relative"),
        pytest.param("//evil.example/x", f"{BASE}/evil.example/x", id="never another host"),
        pytest.param("https://api.example/other?page=2", "https://api.example/other?page=2", id="same origin"),
    ],
)
async def test_path_is_joined_to_the_base(path: str, url: str) -> None:
    """Whatever the path, the request stays with the service."""
    handle, seen = answers(httpx.Response(200))
    async with session(handle, base=BASE + "/") as http:
        await http.send("op", "GET", path)
    assert str(seen[0].url) == url


@pytest.mark.parametrize(
    "path", ["https://evil.example/x", "http://api.example/x", "a/../b", "..", "https://[bad/", "pods/\x00"]
)
async def test_path_that_leaves_the_service_is_refused(path: str) -> None:
    """Another origin, a climb or an impossible address is never asked."""
    handle, seen = answers(httpx.Response(200))
    async with session(handle) as http:
        with pytest.raises(InvalidRequest):
            await http.send("op", "GET", path)
    assert seen == []


@pytest.mark.parametrize(
    "base",
    [
        "http://api.example",
        "ftp://api.example",
        "https://",
        "api.example",
        "https://user:pw@api.example",
        "https://api.example/?x=1",
        "https://api.example:port",
        "https://api .example",
    ],
)
def test_base_must_be_https(base: str) -> None:
    """One line that says what to write instead, without repeating what may hold a password."""
    with pytest.raises(InvalidRequest, match="the address of market") as caught:
        session(base=base)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("base", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1/x"])
def test_plain_http_is_for_loopback(base: str) -> None:
    """Simulators need no certificates."""
    assert session(base=base).base_url == base


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, RemoteError, "HTTP_400"),
        (401, AuthenticationFailed, "UNAUTHENTICATED"),
        (403, PermissionDenied, "FORBIDDEN"),
        (404, NotFound, "NOT_FOUND"),
        (408, Timeout, "NETWORK_TIMEOUT"),
        (410, ApiRetired, "API_RETIRED"),
        (422, RemoteError, "HTTP_422"),
        (429, RateLimited, "RATE_LIMITED"),
        (500, ServerError, "SERVER_ERROR"),
        (504, ServerError, "SERVER_ERROR"),
    ],
)
async def test_status_decides_without_a_classifier(status: int, kind: type[RemoteError], code: str) -> None:
    """Each status is one class, with the place, the request id and a redacted excerpt."""
    text = "token rpa_ABCDEFGHIJKLMNOP " + "x" * 1000
    handle, _ = answers(httpx.Response(status, text=text, headers={"cf-ray": "ray1"}))
    async with session(handle) as http:
        with pytest.raises(kind) as caught:
            await http.send("op", "GET", "", retry=Retry.NEVER)
    error = caught.value
    assert type(error) is kind
    assert (error.service, error.operation, error.request_id, error.code) == ("market", "op", "ray1", code)
    assert "rpa_ABC" not in str(error)
    assert len(str(error)) < 450
    assert "\n" not in str(error)


async def test_answer_that_is_no_json_is_a_protocol_violation() -> None:
    """A proxy's HTML page becomes one line."""
    handle, _ = answers(httpx.Response(200, text="<html>\n<h1>Bad gateway</h1>"))
    async with session(handle) as http:
        answer = await http.send("op", "GET", "")
    with pytest.raises(ProtocolViolation, match="market op: the answer is no JSON: '<html> <h1>Bad gateway"):
        answer.json()
    assert Answer(status=200).request_id is None
    with pytest.raises(ProtocolViolation):
        Answer(status=200, body=b"[" * 100_000).json()


def failing(kind: type[httpx.TransportError], cause: Exception | None = None) -> httpx.TransportError:
    """What httpx would raise."""
    error = kind("boom")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("raised", "kind", "code", "arrived"),
    [
        pytest.param(failing(httpx.ReadTimeout), Timeout, "NETWORK_TIMEOUT", None, id="read timeout"),
        pytest.param(failing(httpx.WriteTimeout), Timeout, "NETWORK_TIMEOUT", None, id="write timeout"),
        pytest.param(failing(httpx.ConnectTimeout), Unreachable, "CONNECT_TIMEOUT", False, id="connect timeout"),
        pytest.param(failing(httpx.PoolTimeout), Unreachable, "CONNECT_TIMEOUT", False, id="pool timeout"),
        pytest.param(failing(httpx.ConnectError, socket.gaierror(-2, "x")), Unreachable, "DNS_ERROR", False, id="name"),
        pytest.param(failing(httpx.ConnectError), Unreachable, "CONNECTION_REFUSED", False, id="refused"),
        pytest.param(failing(httpx.ReadError), Unreachable, "CONNECTION_BROKEN", True, id="broken reading"),
        pytest.param(failing(httpx.RemoteProtocolError), Unreachable, "CONNECTION_BROKEN", True, id="cut"),
    ],
)
async def test_network_failures_are_typed(
    raised: Exception,
    kind: type[RemoteError],
    code: str,
    arrived: bool | None,  # noqa: FBT001 - what the table says
) -> None:
    """Whether a request may have arrived is never guessed in our favour."""
    handle, _ = answers(raised)
    async with session(handle) as http:
        with pytest.raises(kind) as caught:
            await http.send("op", "POST", "", retry=Retry.NEVER)
    assert caught.value.code == code
    assert getattr(caught.value, "arrived", None) is arrived


@pytest.mark.parametrize("key", ["with\nline end", "ключ-не-ascii", "nul\x00byte", ""])
async def test_credential_that_no_header_can_hold_is_a_clear_error(key: str) -> None:
    """An opaque key with a line end in it is refused in one line that does not show it."""
    handle, seen = answers(httpx.Response(200))
    async with session(handle) as http:
        with pytest.raises(InvalidRequest, match="is the credential complete") as caught:
            await http.send("op", "GET", "", headers={"Authorization": f"Bearer {key}"})
    assert not key or key not in str(caught.value)
    assert seen == []


async def test_header_that_the_library_refuses_is_not_repeated() -> None:
    """Its own message would hold the value."""
    handle, _ = answers(httpx.LocalProtocolError(f"Illegal header value b'Bearer {KEY}'"))
    async with session(handle) as http:
        with pytest.raises(InvalidRequest, match="is the credential complete") as caught:
            await http.send("op", "GET", "")
    assert KEY not in Redactor().redact_exception(caught.value)


SENT_AGAIN: dict[str, tuple[httpx.Response | Exception, bool, bool]] = {
    "503": (httpx.Response(503), True, False),
    "429": (httpx.Response(429), True, True),
    "refused": (failing(httpx.ConnectError), True, True),
    "cut": (failing(httpx.ReadError), True, False),
    "timeout": (failing(httpx.ReadTimeout), True, False),
    "400": (httpx.Response(400), False, False),
    "401": (httpx.Response(401), False, False),
}


@pytest.mark.parametrize("name", SENT_AGAIN)
@pytest.mark.parametrize("retry", list(Retry))
async def test_only_what_may_be_sent_again_is_sent_again(name: str, retry: Retry) -> None:
    """Reads: whatever is transient; creates: what never arrived; never: nothing. Five times at most."""
    raised, idempotent, create = SENT_AGAIN[name]
    handle, seen = answers(raised)
    async with session(handle) as http:
        with pytest.raises(RemoteError):
            await http.send("op", "POST", "", retry=retry)
    again = {Retry.IDEMPOTENT: idempotent, Retry.CREATE: create, Retry.NEVER: False}[retry]
    assert len(seen) == (5 if again else 1)


async def test_back_off_is_jittered_and_bounded() -> None:
    """At most 5 + 10 + 20 + 40 seconds for five attempts."""
    waits: list[float] = []
    for _ in range(20):
        handle, _ = answers(httpx.Response(500))
        clock = FakeClock()
        async with session(handle, clock=clock) as http:
            with pytest.raises(ServerError):
                await http.send("op", "GET", "")
        waits.append(clock.monotonic())
    assert 0.0 < min(waits) < max(waits) <= 75.0


@pytest.mark.parametrize(
    ("header", "waited"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("Sun, 01 Nov 2026 12:00:09 GMT", 9.0, id="date"),
        pytest.param("Sun, 01 Nov 2026 11:00:00 GMT", 0.0, id="date in the past"),
        pytest.param("60", 60.0, id="longest"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_told_delay_is_honoured(header: str, waited: float, status: int) -> None:
    """Neither shorter nor longer than the service asks."""
    clock = FakeClock()
    handle, seen = answers(httpx.Response(status, headers={"Retry-After": header}), httpx.Response(200))
    async with session(handle, clock=clock) as http:
        await http.send("op", "GET", "")
    assert len(seen) == 2
    assert clock.monotonic() == pytest.approx(waited)


async def test_too_long_a_told_delay_is_told_at_once() -> None:
    """More than a minute is the caller's decision."""
    clock = FakeClock()
    handle, seen = answers(httpx.Response(429, headers={"Retry-After": "61"}))
    async with session(handle, clock=clock) as http:
        with pytest.raises(RateLimited) as caught:
            await http.send("op", "GET", "")
    assert (caught.value.retry_after, len(seen), clock.monotonic()) == (61.0, 1, 0.0)


async def test_a_call_that_must_wait_is_not_sent_again_before_its_time() -> None:
    """Other calls are: a create that is held back must not keep a pod from being ended."""
    clock = FakeClock()
    handle, seen = answers(
        httpx.Response(429, headers={"Retry-After": "300"}), httpx.Response(200), httpx.Response(200)
    )
    async with session(handle, clock=clock) as http:
        with pytest.raises(RateLimited):
            await http.send("create", "POST", "", retry=Retry.CREATE)
        await clock.sleep(100)
        with pytest.raises(RateLimited, match="200 s more") as held:
            await http.send("create", "POST", "", retry=Retry.CREATE)
        await http.send("terminate", "POST", "")
        await clock.sleep(200)
        await http.send("create", "POST", "", retry=Retry.CREATE)
    assert (held.value.code, held.value.retry_after, len(seen)) == ("HELD_BACK", 200.0, 3)


@pytest.mark.parametrize("header", ["soon", "1.5.2", "Sun, 99 Nov 2026"])
async def test_unreadable_told_delay_is_none(header: str) -> None:
    """Nonsense in a header is no instruction."""
    handle, _ = answers(httpx.Response(429, headers={"Retry-After": header}))
    async with session(handle) as http:
        with pytest.raises(RateLimited) as caught:
            await http.send("op", "GET", "", retry=Retry.NEVER)
    assert caught.value.retry_after is None


async def test_classifier_sees_every_answer_and_its_word_counts() -> None:
    """A GraphQL error in a 200 is retried like any other; a fine answer ends it; its own delay wins."""

    def classify(answer: Answer) -> RemoteError | None:
        error = answer.json().get("error")
        return RateLimited("slow down", code="RATE_LIMITED", retry_after=3.0) if error else None

    clock = FakeClock()
    handle, seen = answers(
        httpx.Response(200, json={"error": 1}, headers={"Retry-After": "9"}), httpx.Response(404, json={})
    )
    async with session(handle, clock=clock) as http:
        answer = await http.send("op", "POST", "", retry=Retry.CREATE, classify=classify)
    assert (answer.status, len(seen), clock.monotonic()) == (404, 2, 3.0)


async def test_hurry_shortens_everything() -> None:
    """In the cancellation window: one retry, at most half a second between, two seconds for a request, no pacing."""
    clock, tempo = FakeClock(), Tempo()
    timeouts: list[dict[str, float]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        timeouts.append(request.extensions["timeout"])
        return httpx.Response(503, headers={"Retry-After": "1"} if len(timeouts) > 2 else {})

    async with session(handle, pace=Pace(1, 1), clock=clock, tempo=tempo) as http:
        tempo.hurry()
        with pytest.raises(ServerError):
            await http.send("op", "GET", "")
        assert len(timeouts) == 2
        assert max(timeouts[0].values()) <= 2.0
        assert clock.monotonic() <= 0.5
        with pytest.raises(ServerError):
            await http.send("op", "GET", "")
        assert len(timeouts) == 3


async def test_pacing_keeps_both_windows() -> None:
    """Never more than the pace in any second and any minute, also for tasks that come at once."""
    clock, times = FakeClock(), list[float]()

    def handle(_request: httpx.Request) -> httpx.Response:
        times.append(clock.monotonic())
        return httpx.Response(200)

    async with session(handle, pace=Pace(per_second=3, per_minute=7), clock=clock) as http:
        for _ in range(16):
            await http.send("op", "GET", "")
        assert times == pytest.approx([0, 0, 0, 1, 1, 1, 2, 60, 60, 60, 61, 61, 61, 62, 120, 120])
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(http.send, "op", "GET", "")
    for window, allowed in ((1.0, 3), (60.0, 7)):
        assert all(later - sooner > window - 1e-6 for sooner, later in zip(times, times[allowed:], strict=False))


async def test_redirect_is_followed_for_reads_on_the_same_host() -> None:
    """A renamed repository is found, with the credential."""
    handle, seen = answers(httpx.Response(301, headers={"Location": "/repositories/1"}), httpx.Response(200))
    async with session(handle) as http:
        answer = await http.send("op", "GET", "repos/a/b", headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status == 200
    assert str(seen[1].url) == "https://api.example/repositories/1"
    assert seen[1].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("method", "location"),
    [
        pytest.param("GET", "https://evil.example/x", id="another host"),
        pytest.param("GET", "http://api.example/x", id="another scheme"),
        pytest.param("GET", "https://api.example:8443/x", id="another port"),
        pytest.param("POST", "/x", id="a write"),
        pytest.param("GET", "/again", id="a circle"),
    ],
)
async def test_other_redirects_are_refused(method: str, location: str) -> None:
    """No credential and no write follows a pointer."""
    handle, seen = answers(httpx.Response(307, headers={"Location": location}))
    async with session(handle) as http:
        with pytest.raises(ProtocolViolation) as caught:
            await http.send("op", method, "", classify=lambda _: None)
    assert caught.value.code == "REDIRECTED"
    assert {request.url.host for request in seen} == {"api.example"}


async def test_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body may not fill the memory."""
    monkeypatch.setattr("runner_provisioner._http.MAX_BODY", 1000)
    handle, _ = answers(httpx.Response(200, content=b"x" * 1001))
    async with session(handle) as http:
        with pytest.raises(ProtocolViolation) as caught:
            await http.send("op", "GET", "")
    assert caught.value.code == "ANSWER_TOO_LONG"


async def test_garbled_compression_is_a_protocol_violation() -> None:
    """Bytes that are not what their header says."""

    def handle(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    async with session(handle) as http:
        with pytest.raises(ProtocolViolation) as caught:
            await http.send("op", "GET", "")
    assert caught.value.code == "MALFORMED_ANSWER"


async def test_trickle_ends_at_the_deadline() -> None:
    """A service that sends a byte now and then does not hold us for ever."""

    async def handle(_request: httpx.Request) -> httpx.Response:
        await anyio.sleep(30)
        return httpx.Response(200)

    async with session(transport=httpx.MockTransport(handle), tempo=Tempo(request_timeout=0.05)) as http:
        with pytest.raises(Timeout, match=r"no answer from api.example within 0.05 s") as caught:
            await http.send("op", "GET", "", retry=Retry.NEVER)
    assert caught.value.code == "NETWORK_TIMEOUT"


async def test_records_of_the_guide_are_written_without_secrets(log: io.StringIO) -> None:
    """Request, response and error, with their fields; key, docker arguments and variables are masked."""
    handle, _ = answers(
        httpx.Response(500, text=f"key {KEY}"), httpx.Response(200, json={"a": 1}, headers={"X-Request-Id": "r9"})
    )
    async with session(handle) as http:
        await http.send(
            "createPod",
            "POST",
            "",
            headers={"Authorization": f"Bearer {KEY}"},
            variables={
                "input": {"gpuCount": 1, "dockerArgs": "bash opaque-script", "env": [{"key": "X_TOKEN", "value": "v"}]}
            },
        )
    text = log.getvalue()
    assert KEY not in text
    assert "opaque-script" not in text
    request, error, _, response = (json.loads(line) for line in text.splitlines())
    assert (request["type"], request["operation"]) == ("request", "createPod")
    assert request["headers"]["authorization"] == "Bearer [MASKED]"
    assert request["variables"]["input"]["gpuCount"] == 1
    assert (error["type"], error["status"], error["duration_ms"]) == ("error", "failed", 0)
    assert (error["code"], error["error"]["code"]) == ("SERVER_ERROR", "SERVER_ERROR")
    assert (response["type"], response["status"], response["duration_ms"]) == ("response", "success", 0)
    assert (response["http_status"], response["request_id"]) == (200, "r9")
    assert all(record["timestamp"].endswith("Z") for record in (request, error, response))


async def test_alert_is_raised_once_when_more_than_ten_of_a_hundred_fail(log: io.StringIO) -> None:
    """Ten failures are bad luck, eleven an alert; a market's no is neither."""
    status = 500
    metrics = CallMetrics()
    async with session(lambda _: httpx.Response(status), metrics=metrics) as http:
        for _ in range(15):
            with pytest.raises(ServerError):
                await http.send("op", "GET", "", retry=Retry.NEVER)
        status = 404
        for _ in range(20):
            with pytest.raises(NotFound):
                await http.send("gone", "GET", "", retry=Retry.NEVER)
    alerts = [json.loads(line)["message"] for line in log.getvalue().splitlines() if '"alert"' in line]
    assert alerts == ["market op: 11 of the last 11 calls failed"]
    assert metrics.alerts() == ["market op: 15 of the last 15 calls failed"]


async def test_unknown_outcome_counts_as_a_failure(log: io.StringIO) -> None:
    """A market's no is logged quietly; a lost answer is not such a no."""
    metrics = CallMetrics()

    async def fail(error: RemoteError) -> None:
        with pytest.raises(type(error)):
            await http.send("op", "GET", "", retry=Retry.NEVER, classify=lambda _: error)

    async with session(lambda _: httpx.Response(200), metrics=metrics) as http:
        await fail(CapacityUnavailable("none", code="NO_STOCK"))
        await fail(CreateOutcomeUnknown("lost"))
    (row,) = metrics.summary()
    assert (row["calls"], row["failures"]) == (2, 1)
    assert row["outcomes"] == {"NO_STOCK": 1, "CreateOutcomeUnknown": 1}
    levels = [json.loads(line)["level"] for line in log.getvalue().splitlines() if '"http_error"' in line]
    assert levels == ["info", "warning"]


async def test_what_is_tried_again_warns_once(log: io.StringIO) -> None:
    """Every attempt counts and is logged; only the end of the call is a warning, and what recovers is none."""
    answers = [503, 503, 200, 503, 503, 503, 503, 503]
    metrics = CallMetrics()
    async with session(lambda _: httpx.Response(answers.pop(0)), metrics=metrics) as http:
        await http.send("op", "GET", "")
        with pytest.raises(ServerError):
            await http.send("op", "GET", "")
    records = [json.loads(line) for line in log.getvalue().splitlines() if '"http_error"' in line]
    assert [(one["level"], one.get("again", False)) for one in records] == [("info", True)] * 6 + [("warning", False)]
    assert not any("request_id" in one for one in records)
    (row,) = metrics.summary()
    assert (row["calls"], row["failures"]) == (8, 7)


def test_metrics_tell_durations_and_recover() -> None:
    """Means and maxima by operation; an alert ends when the failures leave the window."""
    metrics = CallMetrics()
    assert [metrics.record("s", "op", "TIMEOUT", 2.0) for _ in range(11)][-1] == "s op: 11 of the last 11 calls failed"
    for _ in range(100):
        assert metrics.record("s", "op", "success", 1.0) is None
    assert metrics.alerts() == []
    assert metrics.summary() == [
        {
            "service": "s",
            "operation": "op",
            "calls": 111,
            "failures": 11,
            "outcomes": {"TIMEOUT": 11, "success": 100},
            "mean_ms": 1099,
            "max_ms": 2000,
        }
    ]


def test_plumbing_shows_no_proxy_password() -> None:
    """Its repr may end up in a traceback."""
    assert "pw" not in repr(plumbing(proxy="http://user:pw@proxy.example:3128"))


def test_transient_errors_know_a_told_delay() -> None:
    """Every transient error can carry one."""
    assert TransientError("x").retry_after is None


async def test_a_stream_gives_its_lines_as_they_come() -> None:
    """With the credential and the parameters of the request, and a record like any other."""
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, text="one\n\ntwo")

    async with (
        session(handler, pace=Pace()) as http,
        http.stream("logs", "pods/1/logs", params={"tail": 3}, headers={"Authorization": f"Bearer {KEY}"}) as lines,
    ):
        assert [line async for line in lines] == ["one", "", "two"]
    assert (asked[0].url.path, asked[0].url.query) == ("/graphql/pods/1/logs", b"tail=3")
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(404, text="none"), NotFound),
        (httpx.Response(503), ServerError),
        (httpx.Response(204), ProtocolViolation),
        (httpx.Response(302, headers={"location": "https://elsewhere.example/"}), ProtocolViolation),
    ],
    ids=["unknown", "failed", "empty", "redirected"],
)
async def test_a_stream_that_does_not_begin_is_an_error(answer: httpx.Response, error: type[RemoteError]) -> None:
    """Judged like any answer, sent once."""
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer

    async with session(handler) as http:
        with pytest.raises(error):
            async with http.stream("logs", "x"):
                pytest.fail("there is no stream")
    assert len(asked) == 1


async def test_a_stream_that_breaks_is_told_from_one_that_ends() -> None:
    """By an error of this package, raised where the lines are read."""

    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"one\n"
            raise httpx.ReadError("cut")

    seen: list[str] = []

    async def read() -> None:
        async with (
            session(lambda _request: httpx.Response(200, stream=Broken())) as http,
            http.stream("logs", "x") as lines,
        ):
            async for line in lines:
                seen.append(line)  # noqa: PERF401 - what was read before the break counts

    with pytest.raises(Unreachable) as caught:
        await read()
    assert seen == ["one"]
    assert caught.value.arrived
