"""Which machines to avoid: those that failed before, for as long as that says something about them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from runner_provisioner.domain.history import BadMachine

HALF_LIFE = timedelta(days=3)
THRESHOLD = 0.3
"""A single failure keeps a machine out for a little over five days, a second one for eight."""
COMMON_CAUSE = timedelta(hours=1)
"""Machines that fail so close together may share the blame with the image or the request."""


def quarantined(bad: Iterable[BadMachine], now: datetime) -> frozenset[tuple[str, str]]:
    """The (provider, machine) pairs whose failures, decayed, still weigh `THRESHOLD` or more.

    A failure counts one, divided by how many machines of that provider failed within an hour of it: when four fail in
    a row the image or the request is at fault, and none of them is kept out.
    """
    records = tuple(bad)
    weights: dict[tuple[str, str], float] = {}
    for record in records:
        machine = (record.provider, record.machine)
        weights[machine] = weights.get(machine, 0.0) + _decayed(record, now) / _company(record, records)
    return frozenset(machine for machine, weight in weights.items() if weight >= THRESHOLD)


def _decayed(record: BadMachine, now: datetime) -> float:
    age = max(timedelta(), now - record.at)  # a clock that was set back makes no failure count more
    return float(0.5 ** (age / HALF_LIFE))


def _company(record: BadMachine, records: tuple[BadMachine, ...]) -> int:
    near = (one for one in records if one.provider == record.provider and abs(one.at - record.at) <= COMMON_CAUSE)
    return len({one.machine for one in near})
