"""A simulator as a real server on loopback, and connections that are really cut.

Both simulators wrap their ASGI application in `Loopback` for other processes, or hand it to an in-process transport.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Protocol, Self

import anyio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from runner_provisioner.simulators.faults import NOT_JSON, Fault, FaultKind

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

TRANSPORT = "runner_provisioner.transport"
CUT_PAUSE = 0.01
START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0


class ConnectionCut(Exception):
    """The connection ended without an answer; only raised where there is no real connection to cut."""


class NeverAnswered(ConnectionCut):
    """The client waited in vain; only raised in process, where no timeout of the client would end the wait."""


class _Clock(Protocol):
    async def sleep(self, seconds: float) -> None: ...


class _AbortableProtocol(H11Protocol):
    """Tells the application which transport it answers on, so that it can be cut."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn's own signature
        super().connection_made(transport)
        inner = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope[TRANSPORT] = transport
            await inner(scope, receive, send)

        self.app = app


async def cut(scope: Scope) -> None:
    """End the connection of this request at once, without an answer.

    On a `Loopback` server the TCP connection is reset; in process ConnectionCut is raised.
    """
    transport = scope.get(TRANSPORT)
    if transport is None:
        raise ConnectionCut(f"connection cut at {scope.get('path', '')}")
    if not transport.is_closing():
        # Without lingering a close is a reset, which no client can mistake for the end of an answer.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    # The server learns of the loss in its next turn, and only then knows that no answer is owed.
    await anyio.sleep(CUT_PAUSE)


async def hang(scope: Scope, receive: Receive) -> None:
    """Never answer; ends when the client gives up. In process NeverAnswered is raised."""
    if scope.get(TRANSPORT) is None:
        raise NeverAnswered(f"no answer at {scope.get('path', '')}")
    while (await receive())["type"] != "http.disconnect":
        continue


async def held(event: threading.Event) -> None:
    """Wait for an event of another thread without blocking the loop; cancellable."""
    while not event.is_set():  # noqa: ASYNC110 - the event belongs to another thread, maybe without a loop
        await anyio.sleep(0.01)


async def answer(send: Send, status: int, body: bytes | str = b"", headers: Mapping[str, str] | None = None) -> None:
    """Send one whole answer; JSON is assumed when no content type is given."""
    data = body.encode() if isinstance(body, str) else body
    fields = {name.lower(): value for name, value in (headers or {}).items()}
    fields.setdefault("content-type", "text/html" if data.startswith(b"<") else "application/json")
    if status != 204:  # noqa: PLR2004 - "no content" carries no length
        fields["content-length"] = str(len(data))
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": data})


async def answer_json(send: Send, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
    """Send a JSON answer."""
    await answer(send, status, json.dumps(value), headers)


async def read_body(receive: Receive) -> bytes:
    """The whole body of the request."""
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def lifespan(receive: Receive, send: Send) -> None:
    """The server's start and end, for an application that has nothing to prepare."""
    while True:
        kind = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{kind}.complete"})
        if kind == "shutdown":
            return


async def before(fault: Fault | None, scope: Scope, receive: Receive, send: Send, clock: _Clock) -> bool:
    """Let a fault act before the operation; True when the request is finished by it (nothing is to be done)."""
    if fault is None or fault.kind.done:
        return False
    match fault.kind:
        case FaultKind.ERROR:
            await answer(send, fault.status, fault.body, fault.headers)
        case FaultKind.DROP_BEFORE:
            await cut(scope)
        case FaultKind.HANG:
            await hang(scope, receive)
        case FaultKind.HOLD_BEFORE:
            await held(fault.release)
            return False
        case _:
            await clock.sleep(fault.seconds)
            return False
    return True


async def after(fault: Fault | None, scope: Scope, receive: Receive, send: Send, clock: _Clock) -> bool:
    """Let a fault act after the operation; True when no normal answer is to be sent any more."""
    if fault is None or not fault.kind.done:
        return False
    match fault.kind:
        case FaultKind.DROP_AFTER:
            await cut(scope)
        case FaultKind.HANG_AFTER:
            await hang(scope, receive)
        case FaultKind.MALFORMED:
            await answer(send, 200, fault.body or NOT_JSON, fault.headers)
        case FaultKind.HOLD_AFTER:
            await held(fault.release)
            return False
        case _:
            await clock.sleep(fault.seconds)
            return False
    return True


class Loopback:
    """An ASGI application on a real port of 127.0.0.1, served from a thread with an event loop of its own."""

    def __init__(self, app: ASGIApp, *, port: int = 0) -> None:
        """Port 0 takes a free one; nothing is opened before `start`."""
        self._app = app
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    @property
    def port(self) -> int:
        """The port that answers; 0 before `start` when none was asked for."""
        return self._port

    def start(self) -> Self:
        """Open the port and return when requests are answered; RuntimeError when that fails, OSError for the port."""
        # asyncio sends at once (TCP_NODELAY) only on sockets that name their protocol; else each answer waits 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self._port))
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        ready = threading.Event()
        self._server = _Server(self._config(), ready)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name=f"loopback-{self._port}", daemon=True
        )
        self._thread.start()
        if not ready.wait(START_TIMEOUT):
            raise RuntimeError(f"the server on port {self._port} did not start")
        return self

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._app,
            interface="asgi3",  # a bound method is not recognised as one by itself
            http=_AbortableProtocol,
            lifespan="auto",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            backlog=1024,
        )

    def stop(self) -> None:
        """Close the port and end every request that is still open; does nothing when it is not running."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT)
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(uvicorn.Server):
    """Reports when it answers, and leaves the signals of the process to their owner."""

    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)
