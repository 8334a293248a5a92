"""What no request passes without: a Host that is ours, no other site's page behind it, JSON, and not too much of it.

A server on loopback is within reach of every page that its user's browser shows. A name that an attacker points at
127.0.0.1 is stopped by the Host, a form or a script of another site by Origin, Sec-Fetch-Site and the content type;
there is no CORS, so that no page may read an answer either.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import anyio
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner_provisioner.controller.failures import Told, body_of, contract_of

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_BODY: Final = 1024 * 1024
BODY_TIME: Final = 20.0
"""Seconds in which the whole of a body has to arrive: whoever sends it by the byte must not be waited for."""
_OTHER_SITES: Final = frozenset({"cross-site", "same-site"})
_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


class Gate:
    """ASGI middleware, outermost: nothing behind it sees a request that is refused here."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] = (), on_refusal: Callable[[Scope, Told], None]) -> None:
        """`hosts` are names allowed beside those of loopback, without a port; `on_refusal` hears of each refusal."""
        self._app = app
        self._on_refusal = on_refusal
        self._chosen = {_one_form(host.casefold().strip("[]")) for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _hardened(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            self._on_refusal(scope, refusal)
            await _refuse(refusal, scope, receive, send)
            return
        await self._app(scope, _bounded(receive), send)

    def _refusal(self, scope: Scope) -> Told | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = _host_of(hosts[0]) if len(hosts) == 1 else None
        if host not in LOOPBACK_HOSTS | self._chosen:
            return _refused(400, "Host", "this service does not answer to that name: --allow-host NAME allows one more")
        sites = {site.strip().lower() for line in headers.getlist("sec-fetch-site") for site in line.split(",")}
        if sites & _OTHER_SITES:
            return _refused(403, "CrossSite", "a page of another site has no business here")
        # In front of a chosen name a proxy may hold the certificate, and what arrives here is plain HTTP.
        schemes = {scope["scheme"], "https"} if host in self._chosen - LOOPBACK_HOSTS else {scope["scheme"]}
        own = {(scheme, hosts[0].casefold()) for scheme in schemes}
        if any(_scheme_and_authority(origin) not in own for origin in headers.getlist("origin")):
            return _refused(403, "CrossSite", "a page of another origin has no business here")
        return _body_refusal(headers)


def _body_refusal(headers: Headers) -> Told | None:
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BODY:
        return _TOO_LARGE
    has_body = length != "0" or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or not (has_body or kind):
        return None
    if not has_body:
        return None
    return _refused(415, "ContentType", "send the body as application/json")


def _refused(status: int, kind: str, message: str) -> Told:
    return Told(status=status, kind=kind, message=message)


_TOO_LARGE: Final = _refused(413, "TooLarge", f"a body has at most {MAX_BODY} bytes")
_TOO_SLOW: Final = _refused(408, "TooSlow", f"the body was not there after {BODY_TIME:.0f} seconds")


def _as_exception(refusal: Told) -> HTTPException:
    """What the route makes an answer of, where a part of the request is behind the gate already."""
    return HTTPException(refusal.status, refusal.message, headers={"connection": "close"})


async def _refuse(refusal: Told, scope: Scope, receive: Receive, send: Send) -> None:
    body = body_of(contract_of(scope["path"]), refusal)
    await JSONResponse(body, status_code=refusal.status)(scope, receive, send)


@lru_cache(maxsize=256)
def _host_of(value: str) -> str | None:
    """The name in a Host header, in lower case; None where it is no `name[:port]`."""
    try:
        parts = urlsplit(f"//{value}")
        _ = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or parts.username is not None or not parts.hostname:
        return None
    return _one_form(parts.hostname.casefold())


def _one_form(host: str) -> str:
    """An address in the one form that all its spellings have."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _scheme_and_authority(origin: str) -> tuple[str, str]:
    """Scheme, and host with port, of an origin; one that is none ("null") is nobody's."""
    try:
        parts = urlsplit(origin.strip())
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc.casefold()


def _bounded(receive: Receive) -> Receive:
    seen, deadline = 0, 0.0

    async def bounded() -> Message:
        nonlocal seen, deadline
        deadline = deadline or anyio.current_time() + BODY_TIME
        with anyio.CancelScope(deadline=deadline) as late:
            message = await receive()
        if late.cancelled_caught:
            raise _as_exception(_TOO_SLOW)
        seen += len(message.get("body", b""))
        if seen > MAX_BODY:
            raise _as_exception(_TOO_LARGE)
        if not message.get("more_body", False):
            deadline = math.inf  # what is waited for from here on is the end of the connection
        return message

    return bounded


def _hardened(send: Send) -> Send:
    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            more = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return hardened
