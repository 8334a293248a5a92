"""A simulator on a real port: answers, cut connections, silence, and its end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from runner_provisioner.simulators.faults import NOT_JSON, Fault, FaultKind, Faults
from runner_provisioner.simulators.runpod import RunPodSimulator
from runner_provisioner.simulators.serving import (
    Loopback,
    Receive,
    Scope,
    Send,
    after,
    answer,
    answer_json,
    before,
    lifespan,
    read_body,
)
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock


class Echo:
    """Answers with how many requests were carried out, unless a fault is due."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.clock = FakeClock()
        self.done = 0
        self.body = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        fault = self.faults.take(scope["path"])
        self.body = await read_body(receive)
        if await before(fault, scope, receive, send, self.clock):
            return
        self.done += 1
        if scope["path"] == "/empty":
            await answer(send, 204)
        elif not await after(fault, scope, receive, send, self.clock):
            await answer_json(send, 200, {"done": self.done})


@pytest.fixture
def echo() -> Echo:
    """The application."""
    return Echo()


@pytest.fixture
def server(echo: Echo) -> Iterator[Loopback]:
    """The application on a port."""
    with Loopback(echo) as running:
        yield running


@pytest.fixture
def client(server: Loopback) -> Iterator[httpx.Client]:
    """A client that gives up soon."""
    with httpx.Client(base_url=server.url, timeout=5) as session:
        yield session


def test_requests_are_answered_over_one_connection(client: httpx.Client, echo: Echo) -> None:
    """Bodies arrive whole, answers are JSON, an empty answer has no length."""
    assert client.post("/x", content=b"a" * 200_000).json() == {"done": 1}
    assert len(echo.body) == 200_000
    assert client.get("/x").headers["content-type"] == "application/json"
    empty = client.delete("/empty")
    assert (empty.status_code, empty.content, "content-length" in empty.headers) == (204, b"", False)


def test_answers_do_not_wait_for_acknowledgements(client: httpx.Client) -> None:
    """Forty answers of 40 ms each would take 1.6 s (Nagle against delayed acknowledgements)."""
    client.get("/x")
    begin = time.monotonic()
    for _ in range(40):
        client.get("/x")
    assert time.monotonic() - begin < 1.2


@pytest.mark.parametrize(
    ("kind", "done"),
    [pytest.param(FaultKind.DROP_BEFORE, 0, id="before"), pytest.param(FaultKind.DROP_AFTER, 1, id="after")],
)
def test_a_cut_connection_is_reset(client: httpx.Client, echo: Echo, kind: FaultKind, done: int) -> None:
    """The client sees a broken connection; the next request is answered."""
    echo.faults.add(Fault(operation="/x", kind=kind))
    with pytest.raises(httpx.ReadError):
        client.get("/x")
    assert echo.done == done
    assert client.get("/x").status_code == 200


@pytest.mark.parametrize(
    ("kind", "done"), [pytest.param(FaultKind.HANG, 0, id="before"), pytest.param(FaultKind.HANG_AFTER, 1, id="after")]
)
def test_silence_lasts_until_the_client_gives_up(client: httpx.Client, echo: Echo, kind: FaultKind, done: int) -> None:
    """No answer comes; the operation was done or not as ordered."""
    echo.faults.add(Fault(operation="/x", kind=kind))
    with pytest.raises(httpx.ReadTimeout):
        client.get("/x", timeout=0.2)
    assert echo.done == done


@pytest.mark.parametrize(
    ("kind", "done"),
    [pytest.param(FaultKind.HOLD_BEFORE, 0, id="before"), pytest.param(FaultKind.HOLD_AFTER, 1, id="after")],
)
def test_a_held_request_goes_on_when_it_is_released(
    client: httpx.Client, echo: Echo, kind: FaultKind, done: int
) -> None:
    """Meanwhile the test may look, or kill somebody."""
    fault = echo.faults.add(Fault(operation="/x", kind=kind))
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(client.get("/x").status_code))
    asking.start()
    assert fault.reached.wait(5)
    time.sleep(0.05)
    assert (echo.done, answers) == (done, [])
    fault.release.set()
    asking.join(5)
    assert answers == [200]


def test_an_ordered_error_is_answered_as_ordered(client: httpx.Client, echo: Echo) -> None:
    """Status, headers and body come from the fault, and nothing is done."""
    echo.faults.add(Fault(operation="/x", kind=FaultKind.ERROR, status=429, body="<p>no", headers={"Retry-After": "7"}))
    answered = client.get("/x")
    assert (answered.status_code, answered.text, answered.headers["retry-after"]) == (429, "<p>no", "7")
    assert answered.headers["content-type"] == "text/html"
    assert echo.done == 0


def test_a_malformed_answer_follows_the_done_operation(client: httpx.Client, echo: Echo) -> None:
    """By default it is a scrap of HTML with status 200."""
    echo.faults.add(Fault(operation="/x", kind=FaultKind.MALFORMED))
    assert client.get("/x").text == NOT_JSON
    assert echo.done == 1


@pytest.mark.parametrize(
    "kind", [pytest.param(FaultKind.DELAY, id="before"), pytest.param(FaultKind.DELAY_AFTER, id="after")]
)
def test_a_delay_passes_on_the_simulators_clock(client: httpx.Client, echo: Echo, kind: FaultKind) -> None:
    """No wall time is needed for an hour."""
    echo.faults.add(Fault(operation="/x", kind=kind, seconds=3600))
    assert client.get("/x").json() == {"done": 1}
    assert echo.clock.monotonic() == 3600


def test_a_port_can_be_chosen_and_a_taken_one_is_refused(echo: Echo, server: Loopback) -> None:
    """The error is the operating system's own."""
    with pytest.raises(OSError, match="in use"):
        Loopback(echo, port=server.port).start()


def test_a_stopped_server_answers_no_more(echo: Echo) -> None:
    """Its port is free, and stopping twice is allowed."""
    server = Loopback(echo).start()
    server.stop()
    server.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


def test_stopping_ends_requests_that_hang(echo: Echo) -> None:
    """A test with a client that never gives up still ends."""
    echo.faults.add(Fault(operation="/x", kind=FaultKind.HANG))
    server = Loopback(echo).start()
    errors: list[Exception] = []

    def ask() -> None:
        try:
            httpx.get(f"{server.url}/x", timeout=60)
        except httpx.HTTPError as error:
            errors.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not echo.faults.calls:
        time.sleep(0.01)
    server.stop()
    asking.join(10)
    assert len(errors) == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        pytest.param(FaultKind.DROP_AFTER, httpx.ReadError, id="cut"),
        pytest.param(FaultKind.HANG_AFTER, httpx.ReadTimeout, id="silence"),
    ],
)
async def test_faults_show_in_process_as_httpx_errors(echo: Echo, kind: FaultKind, error: type[Exception]) -> None:
    """At once, so that thousands of cases take seconds."""
    echo.faults.add(Fault(operation="/x", kind=kind))
    async with httpx.AsyncClient(transport=InProcess({"api.example": echo})) as session:
        with pytest.raises(error):
            await session.get("https://api.example/x")
        assert (await session.get("https://api.example/x")).json() == {"done": 2}


async def test_unknown_hosts_cannot_be_reached_in_process(echo: Echo) -> None:
    """No request leaves the process."""
    async with httpx.AsyncClient(transport=InProcess({"api.example": echo})) as session:
        with pytest.raises(httpx.ConnectError):
            await session.get("https://elsewhere.example/x")


def test_the_runpod_simulator_answers_on_a_port() -> None:
    """GraphQL for any client on this machine."""
    simulator = RunPodSimulator(FakeClock())
    with simulator.serve() as server:
        url, headers = f"{server.url}/graphql", {"Authorization": f"Bearer {simulator.key}"}
        answered = httpx.post(url, json={"query": "{ myself { pods { id } } }"}, headers=headers)
    assert answered.json() == {"data": {"myself": {"pods": []}}}
