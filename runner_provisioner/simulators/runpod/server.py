"""The simulated service on the wire: routes, credentials, ordered faults."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import anyio

from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.account import Caller
from runner_provisioner.simulators.runpod.control import Control
from runner_provisioner.simulators.runpod.graph import BadGraphQL, Graph, Reply, Request
from runner_provisioner.simulators.runpod.resolvers import Context
from runner_provisioner.simulators.runpod.rest import LOGS, Rest, known, operation, refusal, too_many
from runner_provisioner.simulators.runpod.rest_call import EMPTY, PROBLEM, Problem, RestCall, RestReply, problem
from runner_provisioner.simulators.runpod.rest_streams import LogEvent
from runner_provisioner.simulators.runpod.texts import HttpRefused
from runner_provisioner.simulators.serving import (
    TRANSPORT,
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

_LOG_PAUSE = 0.05  # seconds between two looks at what a container has written


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
        named = operation(scope["method"], path)
        if path.startswith("/_sim/"):
            await self._control.answer(scope, receive, send)
        elif path == "/graphql" and scope["method"] == "POST":
            await self._graphql(scope, receive, send)
        elif named is not None:
            await self._rest_call(*named, scope, receive, send)
        elif known(path):
            await _send(send, problem(405, "The requested method is not allowed for this path."), {})
        else:
            await _send(send, problem(404, f"no route for {scope['method']} {path}"), {})

    async def _graphql(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request = self._graph.read(_json(await read_body(receive)))
        except BadGraphQL as error:
            await answer_json(send, error.reply.status, error.reply.body)
            return
        faults = self._faults(request.operations, scope)
        if await self._before(faults, scope, receive, send):
            return
        if self._simulator.settings.graphql_retired:
            await answer_json(send, 410, {"error": texts.RETIRED})
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

    async def _rest_call(self, name: str, parts: tuple[str, ...], scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        faults = self._faults([name], scope)
        if await self._before(faults, scope, receive, send):
            return
        with self._simulator.lock:
            self._simulator.fleet.catch_up()
            reply = self._rest_reply(name, scope, _call(parts, scope, body, ignored=_ignored(faults)))
            headers = self._rest.limits.headers()
        if isinstance(reply, RestCall):
            await self._stream(reply, faults, scope, receive, send)
        elif not await self._after(faults, scope, receive, send):
            await _send(send, reply, headers)

    def _rest_reply(self, name: str, scope: Scope, call: RestCall) -> RestReply | RestCall:
        """The answer; for a log that may be read the call, whose answer is a stream."""
        try:
            call = replace(call, caller=self._caller(scope))
        except HttpRefused as error:
            return problem(error.status, "invalid api key")
        if name != LOGS:
            return self._rest.answer(name, call)
        exceeded = self._rest.limits.take()
        if exceeded is not None:
            return too_many(exceeded[0])
        try:
            self._rest.streams.begin(call)
        except Problem as problem_:
            return problem_.reply
        except HttpRefused as error:
            return problem(error.status, refusal(call, error))
        return call

    async def _stream(
        self, call: RestCall, faults: Sequence[Fault], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Server-sent events until the pod is gone or the client; in process only what is there already."""
        headers = {"content-type": "text/event-stream", "cache-control": "no-cache", **self._rest.limits.headers()}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        with self._simulator.lock:
            events, number = self._rest.streams.begin(call)
        await _send_events(send, events)
        if await self._after(faults, scope, receive, send):
            return
        if TRANSPORT in scope:
            async with anyio.create_task_group() as group:
                group.start_soon(_until_gone, receive, group.cancel_scope)
                await self._follow(call, number, send)
                group.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _follow(self, call: RestCall, number: int, send: Send) -> None:
        while True:
            with self._simulator.lock:
                self._simulator.fleet.catch_up()
                alive = self._rest.streams.alive(call.parts[0])
                events, number = self._rest.streams.more(call, number)
            await _send_events(send, events)
            if not alive:
                return
            await anyio.sleep(_LOG_PAUSE)

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


def _call(parts: tuple[str, ...], scope: Scope, body: bytes, *, ignored: bool) -> RestCall:
    query = {name: ",".join(values) for name, values in parse_qs(scope.get("query_string", b"").decode()).items()}
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    return RestCall(caller=Caller(), parts=parts, query=query, headers=headers, body=_json(body), ignored=ignored)


async def _send_events(send: Send, events: Sequence[LogEvent]) -> None:
    for event in events:
        await send({"type": "http.response.body", "body": event.wire(), "more_body": True})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    scope.cancel()


async def _send(send: Send, reply: RestReply, limits: Mapping[str, str]) -> None:
    headers = dict(limits)
    if reply.body is EMPTY:
        await answer(send, reply.status, headers=headers)
        return
    if reply.status >= 400:  # noqa: PLR2004 - client and server errors in HTTP
        headers["content-type"] = PROBLEM
    if reply.status == 429:  # noqa: PLR2004 - too many requests
        headers["Retry-After"] = _retry_after(limits)
    await answer_json(send, reply.status, reply.body, headers)


def _retry_after(limits: Mapping[str, str]) -> str:
    used_up = [part.rpartition("t=")[2] for part in limits.get("RateLimit", "").split(", ") if ";r=0;" in part]
    return max(used_up, key=int, default="1")
