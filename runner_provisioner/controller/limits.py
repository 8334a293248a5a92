"""How many requests one caller may send: a bucket of tokens each."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from runner_provisioner.ports import Clock

_MOST_CALLERS = 10_000  # callers are keys, so that this is never reached; memory must be flat whatever happens


@dataclass
class _Bucket:
    tokens: float
    at: float


class RateLimits:
    """`per_minute` requests on average, and as many at once; 0 means no limit."""

    def __init__(self, clock: Clock, *, per_minute: int) -> None:
        """Whoever has sent nothing for a minute may send a minute's worth."""
        self._clock = clock
        self._rate = per_minute / 60
        self._burst = float(per_minute)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> float | None:
        """Count one request; None when it may pass, else the seconds after which the next one may."""
        if not self._rate:
            return None
        now = self._clock.monotonic()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self._burst, now)
            if len(self._buckets) > _MOST_CALLERS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._rate
        bucket.tokens -= 1
        return None
