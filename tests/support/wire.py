"""The connections of one process: every request has a number, and a rule says what befalls it."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import anyio
import httpx

from runner_provisioner.ports import Clock
from runner_provisioner.simulators.serving import ASGIApp

RUNPOD = "runpod.test"
LIUM = "celium.test"
PRIME = "prime.test"
GITHUB = "github.test"
LATENCY = 0.02
OUTAGE = 45.0


class Network(Protocol):
    """Where requests go."""

    @property
    def clock(self) -> Clock:
        """Its time."""

    async def deliver(self, request: httpx.Request) -> httpx.Response:
        """Let it arrive and be answered."""


class Crash(BaseException):
    """The process is no more: nothing that it would have done afterwards happens."""


class Kind(StrEnum):
    """What happens to one request."""

    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    REFUSED = "refused"
    DROP_BEFORE = "drop_before"
    DROP_AFTER = "drop_after"
    HANG = "hang"
    HANG_AFTER = "hang_after"
    ERROR = "500"
    ERROR_AFTER = "500_after"
    LIMITED = "429"
    MALFORMED = "malformed"
    OUTAGE = "outage"
    SILENCE = "silence"
    CANCEL_BEFORE = "cancel_before"
    CANCEL_AFTER = "cancel_after"
    PASS = "pass"


_UNDONE = frozenset(
    {Kind.CRASH_BEFORE, Kind.REFUSED, Kind.DROP_BEFORE, Kind.HANG, Kind.ERROR, Kind.LIMITED, Kind.CANCEL_BEFORE}
)


# What an outage does (nothing is done), and what a silence does (everything is, and no answer arrives).
_LASTING = {Kind.OUTAGE: Kind.ERROR, Kind.SILENCE: Kind.DROP_AFTER}


@dataclass(kw_only=True)
class Sent:
    """One request of a process."""

    number: int
    at: float
    service: str
    operation: str


Rule = Callable[[Sent], Kind]


def at(number: int, kind: Kind) -> Rule:
    """Strike the request of this number; the two lasting kinds also what follows at that service for a while."""
    if kind not in _LASTING:
        return lambda sent: kind if sent.number == number else Kind.PASS
    first: list[Sent] = []

    def rule(sent: Sent) -> Kind:
        if sent.number == number:
            first.append(sent)
        lasts = first and sent.service == first[0].service and sent.at < first[0].at + OUTAGE
        return _LASTING[kind] if lasts else Kind.PASS

    return rule


class Wire(httpx.AsyncBaseTransport):
    """The connections of one process, numbered and struck by a rule."""

    def __init__(self, network: Network, rule: Rule | None = None, *, latency: float = LATENCY) -> None:
        """Everything passes without a rule; one way takes `latency` seconds."""
        self._network = network
        self.rule = rule or (lambda _sent: Kind.PASS)
        self.latency = latency
        self.sent: list[Sent] = []
        self.dead = False
        self.cancel: Callable[[], None] | None = None
        self.struck: Sent | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange."""
        if self.dead:
            raise Crash
        one = Sent(
            number=len(self.sent),
            at=self._network.clock.monotonic(),
            service=request.url.host.partition(".")[0],
            operation=_operation(request),
        )
        self.sent.append(one)
        kind = self.rule(one)
        if kind is not Kind.PASS:
            self.struck = one
        await anyio.sleep(self.latency)
        if kind in _UNDONE:
            return await self._fail(kind, request)
        response = await self._network.deliver(request)
        await anyio.sleep(self.latency)
        return response if kind is Kind.PASS else await self._fail(kind, request)

    async def _fail(self, kind: Kind, request: httpx.Request) -> httpx.Response:
        match kind:
            case Kind.CRASH_BEFORE | Kind.CRASH_AFTER:
                self.dead = True
                raise Crash
            case Kind.REFUSED:
                raise httpx.ConnectError("connection refused", request=request) from ConnectionRefusedError()
            case Kind.DROP_BEFORE | Kind.DROP_AFTER:
                raise httpx.ReadError("cut", request=request)
            case Kind.ERROR | Kind.ERROR_AFTER:
                return httpx.Response(500, text="<html>sorry", request=request)
            case Kind.LIMITED:
                return httpx.Response(429, headers={"retry-after": "1"}, json={"message": "slow"}, request=request)
            case Kind.MALFORMED:
                return httpx.Response(200, text="<html>not json", request=request)
            case Kind.CANCEL_BEFORE | Kind.CANCEL_AFTER:
                assert self.cancel is not None
                self.cancel()
        await anyio.sleep_forever()
        raise AssertionError("never")


async def answered(app: ASGIApp, request: httpx.Request) -> httpx.Response:
    """What the application answers (httpx.ASGITransport takes a third longer)."""
    scope = {
        "type": "http",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
    }
    status, headers, body = 0, [], bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request.content, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], message["headers"]
        body.extend(message.get("body", b""))

    await app(scope, receive, send)
    return httpx.Response(status, headers=headers, content=bytes(body), request=request)


def _operation(request: httpx.Request) -> str:
    if request.url.host == RUNPOD and request.url.path == "/graphql" and request.content:
        return str(json.loads(request.content).get("operationName"))
    return f"{request.method} {request.url.path.partition('/actions/')[2] or request.url.path}"
