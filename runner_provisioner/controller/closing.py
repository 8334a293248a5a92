"""The end of the requests that are under way when the service is told to stop.

asyncio's own cancellation, by which a server or the end of a program cuts a task, passes through every shield: what a
create has rented would neither be given up nor ended. Here the requests are cut from within, and the server waits for
what they still have to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

import anyio

from runner_provisioner.controller.failures import RequestRefused
from runner_provisioner.errors import Timeout

RETRY_AFTER = 10.0
"""Seconds after which the next process may serve."""


class Stopped(RequestRefused):
    """The service ends before the request is served."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class Closing:
    """The requests under way, and whether they are cut."""

    def __init__(self, hurry: Callable[[], None]) -> None:
        """`hurry` makes calls of providers give up within the time that is left."""
        self._hurry = hurry
        self._under_way: set[anyio.CancelScope] = set()
        self._cut = False

    @contextmanager
    def under_way(self, limit: float = math.inf) -> Iterator[None]:
        """Around the work of a request. Raises Stopped when it was cut, Timeout after `limit` seconds."""
        with anyio.CancelScope(deadline=anyio.current_time() + limit) as scope:
            self._under_way.add(scope)
            if self._cut:
                scope.cancel()
            try:
                yield
            finally:
                self._under_way.discard(scope)
        if scope.cancelled_caught and not self._cut:
            raise Timeout("what was asked for has not come in time: try again later", code="NETWORK_TIMEOUT")
        if scope.cancelled_caught:
            raise Stopped(
                "the service was told to stop before this was done: send it again; a create with its Idempotency-Key, "
                "which then settles what this one may have rented",
                retry_after=RETRY_AFTER,
            )

    def cut(self) -> None:
        """Cut every request that is under way, and those that still come; what is shielded in them goes on."""
        self._cut = True
        self._hurry()
        for scope in self._under_way:
            scope.cancel()
