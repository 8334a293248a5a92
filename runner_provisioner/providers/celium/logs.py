"""A pod's log, each line once: Lium gives the last lines as plain text, without a moment or a number to go on from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from runner_provisioner.domain.markets import LogLine
from runner_provisioner.errors import NotFound, TransientError
from runner_provisioner.ports import Clock
from runner_provisioner.providers.celium.api import CeliumApi

MOST = 5000  # lines that are asked for
PAUSE = 3.0  # seconds between two looks: Lium allows an account 60 a minute, and others look as well
_FAILURES = 5


class LogReader:
    """Reads one pod's log, once. Lium's own `follow` is not used: a stream that broke could not be resumed."""

    def __init__(
        self, api: CeliumApi, *, clock: Clock, redact: Callable[[str], str], ended: Callable[[], Awaitable[bool]]
    ) -> None:
        """`ended` tells whether nothing more will come; `redact` cleans each line of the secrets that are known."""
        self._api = api
        self._clock = clock
        self._redact = redact
        self._ended = ended
        self._seen: list[str] = []

    async def lines(self, pod_id: str, *, tail: int | None, follow: bool) -> AsyncIterator[LogLine]:
        """See HasLogs."""
        first = await self._look(pod_id)
        self._seen = first
        for line in first if tail is None else first[max(0, len(first) - tail) :]:
            yield self._line(line)
        failures = 0
        while follow:
            over = await self._ended()
            try:
                now = await self._look(pod_id)
                failures = 0
            except NotFound:
                return
            except TransientError:
                failures += 1
                if failures >= _FAILURES:
                    raise
                now = self._seen
            for line in unseen(self._seen, now):
                yield self._line(line)
            self._seen = now
            if over:
                return
            await self._clock.sleep(PAUSE)

    async def _look(self, pod_id: str) -> list[str]:
        """What is there in whole lines; the last one may still be written."""
        text = await self._api.log(pod_id, tail=MOST)
        return [line.rstrip("\r") for line in text.split("\n")[:-1]]

    def _line(self, text: str) -> LogLine:
        return LogLine(text=self._redact(text), source="container")


def unseen(before: Sequence[str], now: Sequence[str], *, most: int = MOST) -> Sequence[str]:
    """The lines of `now` that follow those of `before`, when both are the last `most` lines of one log.

    A log that is not cut off yet grows at its end alone. One that does not go on from the other is a new container's.
    """
    if len(now) < most:
        return now[len(before) :] if list(now[: len(before)]) == list(before) else now
    for dropped, line in enumerate(before):
        kept = len(before) - dropped
        if line == now[0] and list(now[:kept]) == list(before[dropped:]):
            return now[kept:]
    return now
