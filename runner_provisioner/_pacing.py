"""Client-side pacing: not more requests per second and per minute than a service allows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from runner_provisioner.ports import Clock


@dataclass(frozen=True)
class Pace:
    """At most so many requests in any second and in any minute."""

    per_second: int = 10
    per_minute: int = 100


class Pacer:
    """Hands out the moments at which requests may leave, first come first served."""

    def __init__(self, pace: Pace, clock: Clock) -> None:
        """Count on `clock`."""
        self._clock = clock
        self._windows = [(deque[float](maxlen=pace.per_second), 1.0), (deque[float](maxlen=pace.per_minute), 60.0)]

    async def wait(self) -> None:
        """Return when the next request may leave."""
        now = self._clock.monotonic()
        moment = max([now, *(taken[0] + length for taken, length in self._windows if len(taken) == taken.maxlen)])
        # The moment is taken before waiting for it, so that two tasks never take the same one.
        for taken, _ in self._windows:
            taken.append(moment)
        if moment > now:
            await self._clock.sleep(moment - now)
