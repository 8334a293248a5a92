"""The key of Lium's account goes to Lium's address and nowhere else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime

import httpx
import pytest

from runner_provisioner._http import CallMetrics, Pace, Plumbing, Tempo
from runner_provisioner.errors import InvalidRequest, ProtocolViolation, RemoteError
from runner_provisioner.logging import Redactor
from runner_provisioner.providers.celium import DEFAULT_URL, FORMER_URL, CeliumApi
from runner_provisioner.simulators.celium import CeliumSimulator
from runner_provisioner.simulators.market import rows as any_rows
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock

KEY = "sk_PLANTED0000"
LATER = datetime(2027, 1, 1, tzinfo=UTC)


class Recorder(httpx.AsyncBaseTransport):
    """Answers everything in one way, and keeps what was asked."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.answer = answer
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange."""
        self.asked.append(request)
        return self.answer(request)


def connect(transport: httpx.AsyncBaseTransport, url: str = DEFAULT_URL) -> CeliumApi:
    """The adapter's wire over this transport."""
    plumbing = Plumbing(
        clock=FakeClock(), redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="test",
        transport=transport,
    )  # fmt: skip
    return CeliumApi.connect(url=url, api_key=f" {KEY}\n", plumbing=plumbing, pace=Pace(1000, 100_000))


async def everything(api: CeliumApi) -> AsyncIterator[Callable[[], object]]:
    """Every call that there is."""
    calls: list[Callable[[], object]] = [
        lambda: api.executors({"gpu_count_gte": 1}),
        api.machines,
        lambda: api.rent("e 1", {"pod_name": "p"}, key="k"),
        api.pods,
        lambda: api.pod("p?1"),
        lambda: api.delete_pod("p"),
        lambda: api.schedule_removal("p", LATER),
        lambda: api.events("p"),
        lambda: api.log("p", tail=1),
        api.templates,
        lambda: api.template("t"),
        lambda: api.create_template({"name": "t"}),
        lambda: api.update_template("t", {"name": "t"}),
        lambda: api.delete_template("t"),
        api.ssh_keys,
        api.account,
    ]
    for call in calls:
        yield call


@pytest.mark.parametrize("url", [DEFAULT_URL, FORMER_URL, f"{DEFAULT_URL}/", "https://lium.io"])
async def test_every_path_is_without_a_slash_at_its_end_and_has_the_key(url: str) -> None:
    """At both of Lium's hosts, however the base address is written; an id cannot leave its place in the path."""
    transport = Recorder(lambda _: httpx.Response(200, json=None))
    api = connect(transport, url)
    async for call in everything(api):
        try:
            await call()  # type: ignore[misc]
        except RemoteError:
            continue
    assert len(transport.asked) == 16
    host = "celiumcompute.ai" if "celium" in url else "lium.io"
    for request in transport.asked:
        assert (request.url.scheme, request.url.host) == ("https", host)
        assert request.url.raw_path.partition(b"?")[0].startswith(b"/api/")
        assert not request.url.raw_path.partition(b"?")[0].endswith(b"/")
        assert request.headers["x-api-key"] == KEY
        assert KEY not in str(request.url)
    assert b"/api/executors/e%201/rent" in {request.url.raw_path for request in transport.asked}
    assert b"/api/pods/p%3F1" in {request.url.raw_path for request in transport.asked}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        pytest.param("http://lium.io/api/pods", id="the same host in the clear"),
        pytest.param("https://evil.example/api/pods", id="another host"),
        pytest.param("//evil.example/api/pods", id="another host without a scheme"),
        pytest.param("https://lium.io:8443/api/pods", id="another port"),
        pytest.param("https://lium.io.evil.example/api/pods", id="a host that begins so"),
        pytest.param("https://lium.io@evil.example/api/pods", id="a user that looks like it"),
    ],
)
async def test_no_call_follows_a_redirect_elsewhere(status: int, location: str) -> None:
    """Each call asks once and fails: the key is shown to nobody else, and nothing is taken for done."""
    transport = Recorder(lambda _: httpx.Response(status, headers={"location": location}))
    api = connect(transport)
    async for call in everything(api):
        before = len(transport.asked)
        with pytest.raises(ProtocolViolation) as caught:
            await call()  # type: ignore[misc]
        assert caught.value.code == "REDIRECTED"
        assert len(transport.asked) == before + 1
        assert KEY not in str(caught.value)
    assert {(request.url.scheme, request.url.netloc) for request in transport.asked} == {("https", b"lium.io")}


async def test_the_key_never_reaches_another_host_over_real_sockets() -> None:
    """A stranger who listens, and to whom every call is redirected, is never even asked."""
    clock = FakeClock()
    simulator, stranger = CeliumSimulator(clock), CeliumSimulator(clock)
    with simulator.serve() as server, stranger.serve() as other:
        simulator.faults.add(any_rows.redirect("*", f"{other.url}/api/pods", times=None))
        plumbing = Plumbing(clock=clock, redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="test")
        api = CeliumApi.connect(
            url=f"{server.url}/api", api_key=simulator.key, plumbing=plumbing, pace=Pace(1000, 100_000)
        )
        try:
            async for call in everything(api):
                with suppress(ProtocolViolation):
                    assert await call() is False  # type: ignore[misc] # the simulator removes no template
        finally:
            await api.aclose()
    assert len(simulator.calls) == 15
    assert stranger.calls == []


async def test_an_empty_id_is_refused_here() -> None:
    """It would make a path with a slash at its end."""
    transport = Recorder(lambda _: httpx.Response(200, json={}))
    api = connect(transport)
    for call in (lambda: api.pod(""), lambda: api.delete_pod(""), lambda: api.rent("", {}, key="k")):
        with pytest.raises(InvalidRequest, match="empty id"):
            await call()
    assert transport.asked == []


async def test_the_simulated_slash_leads_into_the_clear() -> None:
    """What Lium really answers, and why none is ever sent."""
    simulator = CeliumSimulator(FakeClock())
    async with httpx.AsyncClient(transport=InProcess({"lium.io": simulator.app})) as web:
        answered = await web.get("https://lium.io/api/pods/", headers={"X-API-KEY": simulator.key})
    assert (answered.status_code, answered.headers["location"]) == (307, "http://lium.io/api/pods")


@pytest.mark.parametrize("url", ["http://lium.io/api", "ftp://lium.io/api", "https://user:pass@lium.io/api"])
def test_an_address_in_the_clear_is_refused(url: str) -> None:
    """Plain http is for loopback alone."""
    with pytest.raises(InvalidRequest):
        connect(Recorder(lambda _: httpx.Response(200)), url)


async def test_nothing_of_a_request_is_in_a_repr(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the key nor the template's contents."""
    caplog.set_level(0)
    transport = Recorder(lambda _: httpx.Response(500, json={"message": f"{KEY} failed"}))
    api = connect(transport)
    with pytest.raises(RemoteError) as caught:
        await api.create_template({"startup_commands": "planted-command"})
    assert b"planted-command" in transport.asked[0].content
    assert json.loads(transport.asked[0].content)
    for text in (repr(api), str(caught.value), repr(caught.value), caplog.text):
        assert KEY not in text
        assert "planted-command" not in text
