"""A simulated REST API: routes, ordered faults, the answers of refusals and of wrong slashes."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from runner_provisioner.simulators.faults import FaultKind
from runner_provisioner.simulators.market.control import Control
from runner_provisioner.simulators.market.simulator import MarketSimulator
from runner_provisioner.simulators.serving import (
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

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What is sent back: JSON, text when `body` is a string, nothing when it is None."""

    body: object = None
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """The operation is not done; this is answered instead."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(f"{status}: {body}")
        self.answer = Answer(body, status)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request. `ignored`: it is to be answered as if done, but not done."""

    operation: str
    names: Mapping[str, str]
    """What stands in the path."""
    query: Mapping[str, list[str]]
    body: Any
    """The JSON, None when there is none or it is none."""
    headers: Mapping[str, str]
    """With names in lower case."""
    ignored: bool = False

    def first(self, name: str, default: str = "") -> str:
        """A parameter of the query."""
        return (self.query.get(name) or [default])[0]

    def row(self) -> Row:
        """The body as an object; empty when it is something else."""
        return self.body if isinstance(self.body, dict) else {}


Act = Callable[[Asked], Answer]


class Route:
    """A method and a path such as `/pods/{pod_id}`, and what answers there."""

    def __init__(self, method: str, path: str, operation: str, act: Act) -> None:
        self.method = method
        self.path = path
        self.operation = operation
        self.act = act
        self._pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))

    def match(self, path: str) -> dict[str, str] | None:
        """The names in the path, None when it is another one."""
        found = self._pattern.fullmatch(path)
        return None if found is None else found.groupdict()


class RestService(ABC):
    """The ASGI application of a market with a REST API; operations run under the simulator's lock."""

    def __init__(self, simulator: MarketSimulator[Any], control: Control, routes: Iterable[Route]) -> None:
        """Routes that come first win."""
        self._simulator = simulator
        self._control = control
        self._routes = list(routes)

    @abstractmethod
    def credential(self, headers: Mapping[str, str]) -> str:
        """The key that the request brings; empty without one."""

    @abstractmethod
    def admit(self, asked: Asked, method: str, key: str) -> None:
        """Raise Refusal for a key that may not do this."""

    @abstractmethod
    def unknown(self, path: str, *, other_method: bool) -> Answer:
        """Nothing answers there, or not to this method."""

    def refusal(self, refusal: Refusal) -> Answer:
        """What a refusal looks like on the wire."""
        return refusal.answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event of the ASGI server."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        path: str = scope["path"]
        if path.startswith("/_sim/"):
            await self._control.answer(scope, receive, send)
            return
        for route in self._routes:
            names = route.match(path)
            if names is not None and route.method == scope["method"]:
                await self._call(route, names, scope, receive, send)
                return
        await _send(send, self._nowhere(scope, path))

    def _nowhere(self, scope: Scope, path: str) -> Answer:
        other = path.removesuffix("/") if path.endswith("/") else path + "/"
        if any(route.match(path) is not None for route in self._routes):
            return self.unknown(path, other_method=True)
        if any(route.match(other) is not None for route in self._routes):
            return Answer(None, HTTPStatus.TEMPORARY_REDIRECT, {"location": redirect_url(scope, other)})
        return self.unknown(path, other_method=False)

    async def _call(self, route: Route, names: Row, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        key = self.credential(headers)
        body = await read_body(receive)
        fault = self._simulator.faults.take(route.operation, key)
        if await before(fault, scope, receive, send, self._simulator.clock):
            return
        asked = Asked(
            operation=route.operation,
            names=names,
            query=parse_qs(scope.get("query_string", b"").decode(), keep_blank_values=True),
            body=_json(body),
            headers=headers,
            ignored=fault is not None and fault.kind is FaultKind.IGNORED,
        )
        answered = self._do(route, asked, key)
        if not await after(fault, scope, receive, send, self._simulator.clock):
            await _send(send, answered)

    def _do(self, route: Route, asked: Asked, key: str) -> Answer:
        with self._simulator.lock:
            self._simulator.fleet.catch_up()
            try:
                self.admit(asked, route.method, key)
                return route.act(asked)
            except Refusal as refusal:
                return self.refusal(refusal)


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None


async def _send(send: Send, answered: Answer) -> None:
    if isinstance(answered.body, str):
        await answer(send, answered.status, answered.body, {"content-type": "text/plain", **answered.headers})
    elif answered.body is None:
        await answer(send, answered.status, b"", answered.headers)
    else:
        await answer_json(send, answered.status, answered.body, answered.headers)


def redirect_url(scope: Scope, path: str) -> str:
    """As Starlette writes it behind a proxy that it does not trust: with http, whatever the client used."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "localhost")
    query = scope.get("query_string", b"").decode("latin-1")
    return f"http://{host}{path}" + (f"?{query}" if query else "")
