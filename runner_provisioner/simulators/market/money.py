"""What a simulated market charges: per begun second, by what a pod is and has at that time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

SECONDS_PER_HOUR = 3600


@dataclass(kw_only=True)
class Span:
    """Something billed at one rate (USD per hour) for a while."""

    kind: str
    rate: Decimal
    since: datetime
    until: datetime | None = None

    def cost(self, now: datetime) -> Decimal:
        """USD up to `now`; a begun second counts as a whole one."""
        end = now if self.until is None else min(self.until, now)
        seconds = max(0, math.ceil((end - self.since).total_seconds()))
        return self.rate * seconds / SECONDS_PER_HOUR


@dataclass
class Meter:
    """Everything one pod was billed for."""

    spans: list[Span] = field(default_factory=list)

    def switch(self, rates: Mapping[str, Decimal], at: datetime) -> None:
        """From now on bill these (kind -> USD per hour) and nothing else."""
        for span in self.spans:
            if span.until is None:
                span.until = at
        self.spans += [Span(kind=kind, rate=rate, since=at) for kind, rate in rates.items() if rate]

    @property
    def rate(self) -> Decimal:
        """USD per hour now."""
        return sum((span.rate for span in self.spans if span.until is None), Decimal(0))

    def cost(self, now: datetime, kind: str | None = None) -> Decimal:
        """USD up to `now`, of one kind or of all."""
        return sum((span.cost(now) for span in self.spans if kind in (None, span.kind)), Decimal(0))

    def seconds(self, now: datetime, kind: str = "gpu") -> int:
        """Billed seconds of one kind."""
        return sum(
            max(0, math.ceil(((span.until or now) - span.since).total_seconds()))
            for span in self.spans
            if span.kind == kind
        )


@dataclass(frozen=True, kw_only=True)
class PodBill:
    """What one pod cost so far, in USD, and for how many seconds its GPUs were billed."""

    pod_id: str
    name: str
    gpu: Decimal
    disk: Decimal
    gpu_seconds: int
    running: bool
    """Whether the sum still grows."""

    @property
    def total(self) -> Decimal:
        """Everything."""
        return self.gpu + self.disk


@dataclass(frozen=True)
class Bill:
    """What all pods cost so far, in USD."""

    pods: Mapping[str, PodBill]

    @property
    def total(self) -> Decimal:
        """The sum over all pods."""
        return sum((each.total for each in self.pods.values()), Decimal(0))

    @property
    def gpu(self) -> Decimal:
        """The sum of the GPUs alone: price times seconds."""
        return sum((each.gpu for each in self.pods.values()), Decimal(0))


def total_rate(meters: Iterable[Meter]) -> Decimal:
    """USD per hour now."""
    return sum((meter.rate for meter in meters), Decimal(0))
