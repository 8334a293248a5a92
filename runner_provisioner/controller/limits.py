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
    """`per_minute` requests on average, `burst` at once; 0 per minute means no limit."""

    def __init__(self, clock: Clock, *, per_minute: int, burst: int | None = None) -> None:
        """`burst` is a minute's worth by default."""
        self._clock = clock
        self._rate = per_minute / 60
        self._burst = float(per_minute if burst is None else burst)
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

    def left(self, caller: str) -> int | None:
        """How many more it may send at once; None without a limit."""
        if not self._rate:
            return None
        bucket = self._buckets.get(caller)
        return int(self._burst if bucket is None else bucket.tokens)
