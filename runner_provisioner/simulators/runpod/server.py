"""The simulated service on the wire: routes, credentials, ordered faults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.account import Caller
from runner_provisioner.simulators.runpod.control import Control
from runner_provisioner.simulators.runpod.graph import BadGraphQL, Graph, Reply, Request
from runner_provisioner.simulators.runpod.resolvers import Context
from runner_provisioner.simulators.runpod.rest import PROBLEM, Rest, RestReply, operation, problem
from runner_provisioner.simulators.runpod.texts import HttpRefused
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

if TYPE_CHECKING:
    from runner_provisioner.simulators.runpod.simulator import RunPodSimulator


def credential(scope: Scope) -> str | None:
    """The key of a request: `Authorization: Bearer KEY`, or `?api_key=KEY`."""
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return str(key.strip())
    given = parse_qs(scope.get("query_string", b"").decode()).get("api_key")
    return given[0] if given else None


class Service:
    """The ASGI application."""

    def __init__(self, simulator: RunPodSimulator, graph: Graph, rest: Rest) -> None:
        self._simulator = simulator
        self._graph = graph
        self._rest = rest
        self._control = Control(simulator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event of the ASGI server."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        path: str = scope["path"]
        name = operation(scope["method"], path)
        if path.startswith("/_sim/"):
            await self._control.answer(scope, receive, send)
        elif path == "/graphql" and scope["method"] == "POST":
            await self._graphql(scope, receive, send)
        elif name is not None:
            await self._rest_call(name, scope, receive, send)
        else:
            await _send(send, problem(404, f"no route for {scope['method']} {path}"))

    async def _graphql(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request = self._graph.read(_json(await read_body(receive)))
        except BadGraphQL as error:
            await answer_json(send, error.reply.status, error.reply.body)
            return
        faults = self._faults(request.operations, scope)
        if await self._before(faults, scope, receive, send):
            return
        reply = self._execute(request, scope, ignored=_ignored(faults))
        if not await self._after(faults, scope, receive, send):
            await answer_json(send, reply.status, reply.body)

    def _execute(self, request: Request, scope: Scope, *, ignored: bool) -> Reply:
        with self._simulator.lock:
            try:
                caller = self._caller(scope)
            except HttpRefused as error:
                return Reply(error.status, {"errors": [{"message": error.message}]})
            if caller.anonymous and not request.anonymous:
                return Reply(401, {"errors": [{"message": texts.UNAUTHORIZED}]})
            self._simulator.fleet.catch_up()
            return self._graph.execute(request, Context(caller, ignored))

    async def _rest_call(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        faults = self._faults([name], scope)
        if await self._before(faults, scope, receive, send):
            return
        reply = self._rest_reply(name, scope, ignored=_ignored(faults))
        if not await self._after(faults, scope, receive, send):
            await _send(send, reply)

    def _rest_reply(self, name: str, scope: Scope, *, ignored: bool) -> RestReply:
        with self._simulator.lock:
            self._simulator.fleet.catch_up()
            try:
                caller = self._caller(scope)
            except HttpRefused as error:
                return problem(error.status, "invalid api key")
            return self._rest.answer(name, scope["path"], caller, ignored=ignored)

    def _caller(self, scope: Scope) -> Caller:
        caller = self._simulator.keys.caller(credential(scope))
        if caller.pod_id is not None and self._simulator.fleet.find(caller.pod_id) is None:
            raise HttpRefused(401, texts.UNAUTHORIZED)  # the key ended with its pod
        return caller

    def _faults(self, operations: Sequence[str], scope: Scope) -> list[Fault]:
        key = credential(scope) or ""
        taken = [self._simulator.faults.take(each, key) for each in operations]
        return [fault for fault in taken if fault is not None]

    async def _before(self, faults: Sequence[Fault], scope: Scope, receive: Receive, send: Send) -> bool:
        for fault in faults:
            if await before(fault, scope, receive, send, self._simulator.clock):
                return True
        return False

    async def _after(self, faults: Sequence[Fault], scope: Scope, receive: Receive, send: Send) -> bool:
        for fault in faults:
            if await after(fault, scope, receive, send, self._simulator.clock):
                return True
        return False


def _ignored(faults: Sequence[Fault]) -> bool:
    return any(fault.kind is FaultKind.IGNORED for fault in faults)


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None


async def _send(send: Send, reply: RestReply) -> None:
    if reply.body is None:
        await answer(send, reply.status)
    else:
        await answer_json(send, reply.status, reply.body, PROBLEM if reply.status >= 400 else None)  # noqa: PLR2004
