"""Which machines to avoid: those that failed before, for as long as that says something about them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from runner_provisioner.domain.history import BadMachine

FIRST = timedelta(minutes=30)
"""How long one failure keeps a machine out: nobody knows yet whether it was the machine."""
GROWTH = 8.0
"""So much longer for each further failure of the same machine: 30 minutes, 4 hours, 32 hours, then `LONGEST`."""
LONGEST = timedelta(days=5)
HALF_LIFE = timedelta(days=3)
"""A failure of so long ago counts half."""
COMMON_CAUSE = timedelta(hours=1)
"""Two machines that fail so close together say more of the image or the request than of either; a start is shorter."""

Machine = tuple[str, str]
"""The provider's name and its id of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOut:
    """A machine that no pod should serve on until then; `reason` is that of its latest failure."""

    provider: str
    machine: str
    until: datetime
    failures: int
    reason: str

    def __str__(self) -> str:
        """In a few words, for a line that names several."""
        return f"{self.machine} at {self.provider} until {self.until:%Y-%m-%d %H:%M} UTC"


def kept_out(bad: Iterable[BadMachine], now: datetime) -> dict[Machine, KeptOut]:
    """The machines to avoid now.

    A failure close to that of another machine of the same provider (`COMMON_CAUSE`) counts for neither. The others add
    up, each halved every `HALF_LIFE`; the n-th keeps the machine out for `FIRST` times `GROWTH` to the power of n - 1.
    """
    records = tuple(bad)
    own: dict[Machine, list[BadMachine]] = {}
    for record in sorted(records, key=lambda one: one.at):
        if not shared(record, records):
            own.setdefault((record.provider, record.machine), []).append(record)
    found = {machine: _kept_out(failures, now) for machine, failures in own.items()}
    return {machine: one for machine, one in found.items() if one.until > now}


def quarantined(bad: Iterable[BadMachine], now: datetime) -> frozenset[Machine]:
    """The (provider, machine) pairs to avoid now."""
    return frozenset(kept_out(bad, now))


def shared(record: BadMachine, records: Iterable[BadMachine]) -> bool:
    """Whether another machine of the provider failed close to it: then the image or the request is the likely cause."""
    return any(
        one.provider == record.provider and one.machine != record.machine and abs(one.at - record.at) <= COMMON_CAUSE
        for one in records
    )


def _kept_out(failures: list[BadMachine], now: datetime) -> KeptOut:
    """Of one machine, oldest failure first."""
    last = failures[-1]
    weight, before, until = 0.0, failures[0].at, failures[0].at
    for one in failures:
        weight = weight * 0.5 ** ((one.at - before) / HALF_LIFE) + 1
        before = one.at
        # A clock that was set back makes no failure count longer.
        until = max(until, min(one.at, now) + _span(weight))
    return KeptOut(
        provider=last.provider, machine=last.machine, until=until, failures=len(failures), reason=last.reason
    )


def _span(weight: float) -> timedelta:
    return FIRST * min(LONGEST / FIRST, math.pow(GROWTH, min(weight - 1, 9.0)))  # beyond 9 no float need hold it
