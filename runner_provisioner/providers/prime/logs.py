"""A pod's log, which Prime Intellect gives as one text: each line once, also while it grows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from runner_provisioner.domain.markets import LogLine
from runner_provisioner.errors import NotFound, TransientError
from runner_provisioner.ports import Clock

PAUSE = 2.0  # seconds between two looks
_FAILURES = 5

Read = Callable[[], Awaitable[str]]
Ended = Callable[[], Awaitable[bool]]


class LogReader:
    """Reads one pod's log, once."""

    def __init__(self, read: Read, *, clock: Clock, redact: Callable[[str], str], ended: Ended) -> None:
        """`read` gives the whole text; `ended` tells whether nothing more will come; `redact` cleans each line."""
        self._read = read
        self._clock = clock
        self._redact = redact
        self._ended = ended
        self._seen: Sequence[str] | None = None

    async def lines(self, *, tail: int | None, follow: bool) -> AsyncIterator[LogLine]:
        """See HasLogs."""
        failures = 0
        while True:
            # Asked first, so that what it writes at its end is still read.
            last = not follow or await self._ended()
            try:
                text = await self._read()
                failures = 0
            except NotFound:
                if self._seen is None:
                    raise
                return
            except TransientError:
                failures += 1
                if not follow or failures >= _FAILURES:
                    raise
                await self._clock.sleep(PAUSE)
                continue
            for line in self._new(whole_lines(text, last=last), tail):
                yield LogLine(text=self._redact(line))
            if last:
                return
            await self._clock.sleep(PAUSE)

    def _new(self, lines: Sequence[str], tail: int | None) -> Sequence[str]:
        seen, self._seen = self._seen, lines
        if seen is not None:
            return lines[overlap(seen, lines) :]
        return lines if tail is None else lines[max(0, len(lines) - max(0, tail)) :]


def whole_lines(text: str, *, last: bool) -> Sequence[str]:
    """The lines without their ends; one that is still being written counts only when nothing more will come."""
    *lines, rest = text.split("\n")
    found = [line.removesuffix("\r") for line in lines]
    return [*found, rest] if rest and last else found


def overlap(seen: Sequence[str], lines: Sequence[str]) -> int:
    """How many of `lines` were seen already: the beginning of an older log may have been dropped meanwhile."""
    sizes = range(min(len(seen), len(lines)), -1, -1)
    return next(size for size in sizes if seen[len(seen) - size :] == lines[:size])
