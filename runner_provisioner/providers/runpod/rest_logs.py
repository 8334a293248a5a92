"""A pod's log over REST v2: each line once, also when the connection breaks in between."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from runner_provisioner.domain.markets import LogLine
from runner_provisioner.errors import TransientError
from runner_provisioner.ports import Clock
from runner_provisioner.providers.runpod.rest_api import RestApi
from runner_provisioner.providers.runpod.rest_wire import RestLog
from runner_provisioner.providers.runpod.sse import Event
from runner_provisioner.providers.runpod.wire import parse

MOST = 5000  # lines that RunPod gives from before (docs)
QUIET = 2.0  # seconds without a line after which what was there is taken to be all
_FAILURES = 5
_PAUSE = 1.0  # seconds before the stream is opened again


class LogReader:
    """Reads one pod's log, once."""

    def __init__(
        self, rest: RestApi, *, clock: Clock, redact: Callable[[str], str], ended: Callable[[], Awaitable[bool]]
    ) -> None:
        """`ended` tells whether nothing more will come; `redact` cleans each line of the secrets that are known."""
        self._rest = rest
        self._clock = clock
        self._redact = redact
        self._ended = ended
        self._cursor = ""
        self._at_cursor: Counter[str] = Counter()

    async def lines(self, pod_id: str, *, tail: int | None, follow: bool) -> AsyncIterator[LogLine]:
        """See HasLogs."""
        failures = 0
        while True:
            before = self._cursor
            try:
                async with self._rest.log(pod_id, tail=_most(tail), last_event_id=self._cursor) as events:
                    async for line in self._new(events, quiet=None if follow else QUIET):
                        yield line
                failures = 0
            except TransientError:
                failures = failures + 1 if self._cursor == before else 0
                if not follow or failures >= _FAILURES:
                    raise
            if not follow or await self._ended():
                return
            await self._clock.sleep(_PAUSE)

    async def _new(self, events: AsyncIterator[Event], *, quiet: float | None) -> AsyncIterator[LogLine]:
        """Those that were not given already, until the stream ends or has been quiet for so many seconds."""
        repeated = Counter(self._at_cursor)
        while True:
            event = None
            with anyio.move_on_after(quiet):
                event = await anext(events, None)
            if event is None:
                return
            # A stream is resumed at a moment, so what was written in that moment may come again.
            if event.id == self._cursor and repeated[event.data] > 0:
                repeated[event.data] -= 1
                continue
            self._advance(event)
            yield self._line(event)

    def _advance(self, event: Event) -> None:
        if event.id != self._cursor:
            self._cursor = event.id
            self._at_cursor = Counter()
        self._at_cursor[event.data] += 1

    def _line(self, event: Event) -> LogLine:
        try:
            told = json.loads(event.data)
        except ValueError:
            told = None
        row = parse(RestLog, told if isinstance(told, dict) else {"line": event.data}, "podLogs")
        return LogLine(text=self._redact(row.line), at=row.ts, source=row.source or "")


def _most(tail: int | None) -> int:
    return MOST if tail is None else max(0, min(tail, MOST))
