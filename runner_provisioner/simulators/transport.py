"""The simulators without sockets: an httpx transport that calls them in the same event loop."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from runner_provisioner.simulators.serving import ASGIApp, ConnectionCut, NeverAnswered


class InProcess(httpx.AsyncBaseTransport):
    """Answers each host by the application given for it.

    A cut connection arrives as httpx.ReadError and an answer that never comes as httpx.ReadTimeout, at once; a host
    without application as httpx.ConnectError.
    """

    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        """`apps`: host name (without port) -> application."""
        self._transports = {host: httpx.ASGITransport(app) for host, app in apps.items()}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange."""
        transport = self._transports.get(request.url.host)
        if transport is None:
            raise httpx.ConnectError(f"no simulator answers for {request.url.host}", request=request)
        try:
            return await transport.handle_async_request(request)
        except NeverAnswered as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        except ConnectionCut as error:
            raise httpx.ReadError(str(error), request=request) from error
