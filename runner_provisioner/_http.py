"""The one door to the network: keep-alive, TLS, pacing, retries, records and typed errors for every remote call."""

from __future__ import annotations

import contextlib
import itertools
import json as json_format
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, TypeVar

import anyio
import httpx

from runner_provisioner._answers import Answer, error_of_status
from runner_provisioner._metrics import CallMetrics
from runner_provisioner._pacing import Pace, Pacer
from runner_provisioner._records import CallRecords
from runner_provisioner._retry import Retry, Tempo, is_repeated, retrying, told_delay
from runner_provisioner._tls import Pins, tls_context, why_unconnected
from runner_provisioner._urls import check_base_url, is_loopback
from runner_provisioner.errors import (
    InvalidRequest,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    Timeout,
    TransientError,
    Unreachable,
)
from runner_provisioner.logging import Redactor, quiet_libraries
from runner_provisioner.ports import Clock

__all__ = [
    "Answer",
    "CallMetrics",
    "HttpSession",
    "Pace",
    "Plumbing",
    "Retry",
    "Tempo",
    "error_of_status",
]

Classify = Callable[[Answer], RemoteError | None]

MAX_BODY = 32 * 1024 * 1024
_CONNECT_LIMIT = 10.0
_MAX_REDIRECTS = 5
_OK = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Longer than the slowest poll, or each poll would open a connection of its own.
_KEEP_ALIVE = 30.0

E = TypeVar("E", bound=RemoteError)


@dataclass(frozen=True, kw_only=True)
class Plumbing:
    """What all sessions of one program share.

    `transport` replaces the network (tests); `verify` the trust store (private certificate authorities); `pins` maps
    host names to the public keys that are accepted there; `proxy` is for https hosts other than loopback and those
    whose name ends with a member of `no_proxy`.
    """

    clock: Clock
    redactor: Redactor
    tempo: Tempo
    metrics: CallMetrics
    user_agent: str
    transport: httpx.AsyncBaseTransport | None = None
    pins: Pins = field(default_factory=dict)
    verify: ssl.SSLContext | None = None
    proxy: str | None = field(default=None, repr=False)
    no_proxy: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Call:
    operation: str
    method: str
    url: httpx.URL
    content: bytes | None = field(repr=False)
    params: Mapping[str, str | int] | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    classify: Classify
    variables: Mapping[str, object] | None = field(repr=False)
    client: httpx.AsyncClient = field(repr=False)
    follow: bool = True


class HttpSession:
    """Talks to one service over kept connections; every failure is a `RemoteError` or `InvalidRequest`."""

    def __init__(self, *, service: str, base_url: str, plumbing: Plumbing, pace: Pace | None = None) -> None:
        """Raises InvalidRequest when `base_url` is not https (http is for loopback alone)."""
        self.service = service
        self.base_url = check_base_url(base_url, name=f"the address of {service}")
        self._plumbing = plumbing
        self._records = CallRecords(service, plumbing.redactor, plumbing.metrics)
        self._pacer = Pacer(pace, plumbing.clock) if pace is not None else None
        self._held_until: dict[str, float] = {}
        quiet_libraries()
        self._kept = self._client(_KEEP_ALIVE)
        # A cut on a kept connection that had gone stale would be a create of unknown outcome.
        self._fresh = self._client(0.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the kept connections."""
        await self._kept.aclose()
        await self._fresh.aclose()

    def _client(self, keep_alive: float) -> httpx.AsyncClient:
        plumbing = self._plumbing
        return httpx.AsyncClient(
            transport=plumbing.transport or _transport(httpx.URL(self.base_url), plumbing, keep_alive),
            headers={"user-agent": plumbing.user_agent},
            follow_redirects=False,
            trust_env=False,
        )

    async def send(  # noqa: PLR0913 - one call says all there is to say about a request
        self,
        operation: str,
        method: str,
        path: str,
        *,
        json: object | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        retry: Retry = Retry.IDEMPOTENT,
        classify: Classify | None = None,
        variables: Mapping[str, object] | None = None,
        follow: bool = True,
    ) -> Answer:
        """Send, again where `retry` allows, and return the first answer that `classify` finds nothing wrong with.

        `path` is joined to the base address ("" is that address itself); an absolute one must have the same scheme,
        host and port. `classify` sees every answer, also a 200, inside the retry loop; by default the status decides.
        `variables` is what the log shows of the request. Without `follow` a redirect is an answer like any other.

        Raises the typed error of the last attempt: Timeout (NETWORK_TIMEOUT), Unreachable (DNS_ERROR,
        CONNECTION_REFUSED, TLS_ERROR, CERTIFICATE_INVALID, PIN_MISMATCH, CONNECTION_BROKEN), ProtocolViolation, and
        what `classify` returns.
        """
        call = self._call(operation, method, path, params=params, headers=headers, content=_encoded(json))
        call = replace(
            call,
            classify=classify or error_of_status,
            variables=variables,
            client=self._fresh if retry is Retry.CREATE else self._kept,
            follow=follow,
        )
        self._check_held(operation)
        tempo = self._plumbing.tempo
        attempts = itertools.count(1)

        def again(error: RemoteError) -> bool:
            return is_repeated(retry, tempo, error, next(attempts))

        try:
            return await retrying(retry, tempo, self._plumbing.clock)(self._once, call, again)
        except RateLimited as error:
            if error.retry_after:
                self._held_until[operation] = self._plumbing.clock.monotonic() + error.retry_after
            raise

    @contextlib.asynccontextmanager
    async def stream(
        self,
        operation: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        classify: Classify | None = None,
    ) -> AsyncIterator[AsyncIterator[str]]:
        """GET an answer that may never end; the body of the `with` reads its lines (without their ends) as they arrive.

        Sent once, and hung up at the end of the `with`. Raises like `send`; inside the `with` Unreachable when the
        connection breaks between lines, and Timeout when nothing arrives for as long as a whole request may take.
        """
        call = replace(
            self._call(operation, "GET", path, params=params, headers=headers),
            classify=classify or error_of_status,
        )
        self._check_held(operation)
        if self._pacer is not None and not self._plumbing.tempo.hurried:
            await self._pacer.wait()
        self._records.request(operation, "GET", None, call.headers)
        clock = self._plumbing.clock
        started = clock.monotonic()
        timeout = self._plumbing.tempo.request_timeout
        try:
            with self._typed(call, timeout):
                async with _streamed(call.client, self._request(call, timeout)) as response:
                    answer = await self._opening(call, response)
                    self._records.success(answer, clock.monotonic() - started)
                    yield response.aiter_lines()
        except RemoteError as error:
            self._records.failure(error, operation, clock.monotonic() - started)
            raise

    async def _opening(self, call: _Call, response: httpx.Response) -> Answer:
        """What can be said of a stream before its body; any answer but a 200 is read to its end and judged."""
        if response.status_code == _OK:
            answer = self._answer(call, response, b"")
            self._judge(call, answer)
            return answer
        answer = await self._read(call, response)
        self._judge(call, answer)
        raise answer.error(ProtocolViolation, "MALFORMED_ANSWER", f"HTTP {answer.status} is no stream; try later")

    def _call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str] | None,
        content: bytes | None = None,
    ) -> _Call:
        given = {name.lower(): value for name, value in (headers or {}).items()}
        if not all(value.isascii() and value.isprintable() and value == value.strip() for value in given.values()):
            raise _unsendable(self.service, operation)
        if "authorization" in given:
            self._plumbing.redactor.add(given["authorization"].rpartition(" ")[2])
        if content is not None:
            given.setdefault("content-type", "application/json")
        return _Call(
            operation=operation,
            method=method.upper(),
            url=self._url(path),
            content=content,
            params=params,
            headers=given,
            classify=error_of_status,
            variables=None,
            client=self._kept,
        )

    def _check_held(self, operation: str) -> None:
        """Raise RateLimited, without sending, while the service has asked to wait with this operation.

        Each for itself: a create that must wait must not keep a pod from being ended.
        """
        rest = self._held_until.get(operation, 0.0) - self._plumbing.clock.monotonic()
        if rest > 0:
            message = f"{self.service} has asked to wait with this call for {rest:.0f} s more"
            raise RateLimited(message, service=self.service, operation=operation, code="HELD_BACK", retry_after=rest)

    def _url(self, path: str) -> httpx.URL:
        if "://" in path:
            url = _parse(path, self.service)
            if not _same_origin(url, httpx.URL(self.base_url)):
                raise InvalidRequest(f"{self.service}: an address of another host was refused")
            return url
        if ".." in path.split("?", 1)[0].split("/"):
            raise InvalidRequest(f"{self.service}: a path must not climb")
        return _parse(f"{self.base_url}/{path.lstrip('/')}" if path else self.base_url, self.service)

    async def _once(self, call: _Call, again: Callable[[RemoteError], bool]) -> Answer:
        """One exchange, recorded; `again` tells of its error whether another follows."""
        if self._pacer is not None and not self._plumbing.tempo.hurried:
            await self._pacer.wait()
        self._records.request(call.operation, call.method, call.variables, call.headers)
        clock = self._plumbing.clock
        started = clock.monotonic()
        try:
            answer = await self._exchange(call)
            self._judge(call, answer)
        except RemoteError as error:
            self._records.failure(error, call.operation, clock.monotonic() - started, again=again(error))
            raise
        self._records.success(answer, clock.monotonic() - started)
        return answer

    def _judge(self, call: _Call, answer: Answer) -> None:
        if call.follow and answer.status in _REDIRECTS and "location" in answer.headers:
            raise answer.error(
                ProtocolViolation,
                "REDIRECTED",
                f"HTTP {answer.status} to another address, which is not followed; check the address and the name",
            )
        error = call.classify(answer)
        if error is None:
            return
        if isinstance(error, TransientError) and error.retry_after is None:
            error.retry_after = told_delay(answer.headers, self._plumbing.clock.now())
        raise error

    async def _exchange(self, call: _Call) -> Answer:
        timeout = self._plumbing.tempo.request_timeout
        with self._typed(call, timeout):
            # httpx counts each read by itself: without a deadline of its own a trickle would last for ever.
            with anyio.fail_after(timeout):
                return await self._follow(call, timeout)

    async def _follow(self, call: _Call, timeout: float) -> Answer:  # noqa: ASYNC109 - httpx takes it as a value
        request = self._request(call, timeout)
        for _ in range(_MAX_REDIRECTS):
            async with _streamed(call.client, request) as response:
                onward = response.next_request if call.follow and call.method == "GET" else None
                if onward is None or not _same_origin(onward.url, request.url):
                    return await self._read(call, response)
            request = onward
        raise self._error(call, ProtocolViolation, "REDIRECTED", "redirected in a circle; check the address")

    def _request(self, call: _Call, timeout: float) -> httpx.Request:
        connect = min(_CONNECT_LIMIT, 0.9 * timeout)
        return call.client.build_request(
            call.method,
            call.url,
            content=call.content,
            params=call.params,
            headers=dict(call.headers),
            timeout=httpx.Timeout(timeout, connect=connect, pool=connect),
        )

    async def _read(self, call: _Call, response: httpx.Response) -> Answer:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BODY:
                raise self._error(call, ProtocolViolation, "ANSWER_TOO_LONG", "the answer is longer than 32 MiB")
        return self._answer(call, response, bytes(body))

    def _answer(self, call: _Call, response: httpx.Response, body: bytes) -> Answer:
        return Answer(
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=body,
            service=self.service,
            operation=call.operation,
            redactor=self._plumbing.redactor,
        )

    @contextlib.contextmanager
    def _typed(self, call: _Call, timeout: float) -> Iterator[None]:
        """Turn what httpx raises into this package's errors."""
        host = call.url.host
        try:
            yield
        except httpx.LocalProtocolError:
            # Its text repeats the header, that is, the credential.
            raise _unsendable(self.service, call.operation) from None
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            text = f"no connection to {host} in time; check the network and try again"
            raise self._error(call, Unreachable, "CONNECT_TIMEOUT", text) from error
        except httpx.ConnectError as error:
            code, text = why_unconnected(error, host)
            raise self._error(call, Unreachable, code, text) from error
        except (httpx.TimeoutException, TimeoutError) as error:
            text = f"no answer from {host} within {timeout:g} s; try again later"
            raise self._error(call, Timeout, "NETWORK_TIMEOUT", text) from error
        except httpx.DecodingError as error:
            text = f"the answer of {host} is garbled ({type(error).__name__})"
            raise self._error(call, ProtocolViolation, "MALFORMED_ANSWER", text) from error
        except httpx.HTTPError as error:
            text = f"the connection to {host} broke before the answer was complete; try again"
            broken = self._error(call, Unreachable, "CONNECTION_BROKEN", text)
            broken.arrived = True
            raise broken from error

    def _error(self, call: _Call, kind: type[E], code: str, text: str) -> E:
        message = f"{self.service} {call.operation}: {text}"
        return kind(message, service=self.service, operation=call.operation, code=code)


@contextlib.asynccontextmanager
async def _streamed(client: httpx.AsyncClient, request: httpx.Request) -> AsyncIterator[httpx.Response]:
    response = await client.send(request, stream=True)
    try:
        yield response
    finally:
        await response.aclose()


def _encoded(json: object | None) -> bytes | None:
    return None if json is None else json_format.dumps(json).encode()


def _unsendable(service: str, operation: str) -> InvalidRequest:
    return InvalidRequest(
        f"{service} {operation}: a header holds characters that cannot be sent; "
        "is the credential complete and free of line ends and special characters?"
    )


def _parse(text: str, service: str) -> httpx.URL:
    try:
        return httpx.URL(text)
    except httpx.InvalidURL:
        raise InvalidRequest(f"{service}: a name holds characters that no address can hold") from None


def _same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def _transport(base_url: httpx.URL, plumbing: Plumbing, keep_alive: float) -> httpx.AsyncHTTPTransport:
    limits = httpx.Limits(
        max_connections=20, max_keepalive_connections=10 if keep_alive else 0, keepalive_expiry=keep_alive
    )
    if base_url.scheme == "http":
        return httpx.AsyncHTTPTransport(trust_env=False, limits=limits, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context = tls_context(plumbing.verify, plumbing.pins)
    return httpx.AsyncHTTPTransport(
        trust_env=False, limits=limits, verify=context, proxy=_proxy(base_url.host, plumbing)
    )


def _proxy(host: str, plumbing: Plumbing) -> str | None:
    around = (suffix.lstrip("*.").lower() for suffix in plumbing.no_proxy)
    if is_loopback(host) or any(suffix in {"", host} or host.endswith(f".{suffix}") for suffix in around):
        return None
    return plumbing.proxy
