"""A clock that jumps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio.lowlevel

EPOCH = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)


class FakeClock:
    """Time that passes only when somebody sleeps, and then at once."""

    def __init__(self, now: datetime = EPOCH) -> None:
        """Begin at `now`."""
        self._begin = now
        self._passed = 0.0

    def now(self) -> datetime:
        """The pretended time."""
        return self._begin + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self._passed

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._passed += max(0.0, seconds)

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once, after giving others a turn."""
        await anyio.lowlevel.checkpoint()
        self.advance(seconds)
