"""What jobs cost and what the money was for, from the records of their pods.

A pod bills from its create to its end. Each second of it is one of: boot, useful, wasted, retried, or unknown, where
nothing says which; so the five always come to what was paid, to a hundredth of a cent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from runner_provisioner.domain.history import Ending, PodRecord
from runner_provisioner.domain.money import cost
from runner_provisioner.domain.names import RunKey

NOTHING = timedelta(0)


class Share(StrEnum):
    """What a pod's time was for."""

    BOOT = "boot"  # from its create until its runner was online
    USEFUL = "useful"  # its job ran, and nobody had to do that again
    WASTED = "wasted"  # waiting for the job, after the job, or a pod that came to nothing
    RETRIED = "retried"  # its job ran, and a later pod did it again
    UNKNOWN = "unknown"  # nothing says what it was


class Spell(NamedTuple):
    """A stretch of a pod's life."""

    share: Share
    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """Time that was billed, and what it cost in USD."""

    time: timedelta = NOTHING
    usd: Decimal = Decimal(0)

    def __add__(self, other: Part) -> Part:
        return Part(self.time + other.time, self.usd + other.usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCosts:
    """What one key of one run cost, in all its attempts.

    `waiting` is how long it was asked for while no pod of it was there, None when that is not known; it costs nothing.
    `listed` is what the same time would have cost at list price. `settled` is False while the end of a pod is not
    confirmed: then the sums say what it comes to so far, or at most.
    """

    run: str
    key: str
    name: str
    repository: str | None
    gpus: tuple[str, ...]
    attempts: int
    pods: int
    interruptions: int
    began_at: datetime
    waiting: timedelta | None
    parts: Mapping[Share, Part]
    listed: Decimal
    settled: bool

    @property
    def paid(self) -> Part:
        """All that was billed."""
        return sum(self.parts.values(), Part())


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """The pods of one day, or of one model."""

    what: str
    pods: int = 0
    paid: Part = field(default_factory=Part)
    listed: Decimal = Decimal(0)
    settled: bool = True


def end_of(record: PodRecord, now: datetime) -> datetime:
    """Until when it bills: its end; else now, or the latest end that it can have had."""
    end = record.ended_at if record.ended_at is not None else min(now, record.expires_at)
    return max(end, record.created_at)


def spells(record: PodRecord, now: datetime, *, repeated: bool = False) -> list[Spell]:
    """The pod's life in stretches without gaps; `repeated` when a later pod did its job again."""
    end = end_of(record, now)
    plan = _with_job(record, record.job_at, end, repeated) if record.job_at else _without_job(record, now, end)
    found: list[Spell] = []
    begin = record.created_at
    for share, moment in plan:
        # Moments come from several clocks.
        until = min(max(moment, begin), end)
        if until > begin:
            found.append(Spell(share, begin, until))
        begin = until
    return found


def _with_job(record: PodRecord, job_at: datetime, end: datetime, repeated: bool) -> list[tuple[Share, datetime]]:  # noqa: FBT001 - one place
    done = record.job_ended_at
    boot = [(Share.BOOT, record.online_at), (Share.WASTED, job_at)] if record.online_at else [(Share.UNKNOWN, job_at)]
    if repeated:
        job = Share.RETRIED
    elif record.ending in {Ending.INTERRUPTED, Ending.FAILED} and (done is None or done >= end):
        job = Share.WASTED
    else:
        job = Share.UNKNOWN if done is None else Share.USEFUL
    return [*boot, (job, done or end), (Share.WASTED, end)]


def _without_job(record: PodRecord, now: datetime, end: datetime) -> list[tuple[Share, datetime]]:
    if RunKey.parse(record.name) is None:
        return [(Share.UNKNOWN, end)]  # made by hand
    if record.ending is Ending.FAILED:
        return [(Share.WASTED, end)]
    if record.online_at is not None:
        return [(Share.BOOT, record.online_at), (Share.UNKNOWN, end)]
    if record.ending in {Ending.ASKED, Ending.INTERRUPTED}:
        return [(Share.WASTED, end)]
    boots = record.ended_at is None and now < record.expires_at
    return [(Share.BOOT if boots else Share.UNKNOWN, end)]


def jobs(records: Iterable[PodRecord], now: datetime) -> list[JobCosts]:
    """One for each key of each run, oldest first."""
    groups: dict[tuple[str, str, str], list[PodRecord]] = {}
    for record in sorted(records, key=lambda one: one.created_at):
        key = RunKey.parse(record.name)
        groups.setdefault((key.owner8, key.run, key.key) if key else ("", record.name, ""), []).append(record)
    return sorted((_job(group, now) for group in groups.values()), key=lambda one: one.began_at)


def job_of(records: Sequence[PodRecord], key: RunKey, now: datetime) -> JobCosts | None:
    """That of one key; None when there is no record of it."""
    names = {record.name: RunKey.parse(record.name) for record in records}
    same = {
        name for name, one in names.items() if one and (one.owner8, one.run, one.key) == (key.owner8, key.run, key.key)
    }
    return next(iter(jobs([record for record in records if record.name in same], now)), None)


def by_day(records: Iterable[PodRecord], now: datetime) -> list[Total]:
    """What each day (UTC) cost, with each pod on every day of its life."""
    return _totals(
        (begin.astimezone(UTC).date().isoformat(), record, begin, end)
        for record in records
        for begin, end in _days(record.created_at, end_of(record, now))
    )


def by_gpu(records: Iterable[PodRecord], now: datetime) -> list[Total]:
    """What each model and count cost."""
    return _totals((gpu_of(record), record, record.created_at, end_of(record, now)) for record in records)


def gpu_of(record: PodRecord) -> str:
    """The pod's GPUs in words."""
    return f"{record.kind.gpu_count} x {record.kind.gpu_model}"


def _job(group: Sequence[PodRecord], now: datetime) -> JobCosts:
    parts = dict.fromkeys(Share, Part())
    for record in group:
        for spell in spells(record, now, repeated=_repeated(record, group)):
            charge = _charge(record, record.price, spell.begin, spell.end)
            parts[spell.share] += Part(spell.end - spell.begin, charge)
    last = group[-1]
    key = RunKey.parse(last.name)
    return JobCosts(
        run=_run(key) if key else last.name,
        key=key.key if key else "",
        name=last.name,
        repository=next((one.repository for one in group if one.repository), None),
        gpus=tuple(dict.fromkeys(map(gpu_of, group))),
        attempts=len({one.name for one in group}),
        pods=len(group),
        interruptions=sum(one.ending is Ending.INTERRUPTED for one in group),
        began_at=min(one.requested_at or one.created_at for one in group),
        waiting=_waiting(group, now),
        parts=parts,
        listed=sum((_listed(one, one.created_at, end_of(one, now)) for one in group), Decimal(0)),
        settled=all(one.ended_at is not None for one in group),
    )


def _run(key: RunKey) -> str:
    return key.run if key.run_id is None else str(key.run_id)


def _repeated(record: PodRecord, group: Sequence[PodRecord]) -> bool:
    return any(one.job_at and record.job_at and one.job_at > record.job_at for one in group if one is not record)


def _waiting(group: Sequence[PodRecord], now: datetime) -> timedelta | None:
    """Of each attempt, the time from its request to its last create in which no pod of it was there."""
    whole = NOTHING
    for name in {one.name for one in group}:
        attempt = [one for one in group if one.name == name]
        asked = [one.requested_at for one in attempt if one.requested_at is not None]
        if not asked:
            return None
        since = min(asked)
        for one in attempt:
            whole += max(one.created_at - since, NOTHING)
            since = max(since, end_of(one, now))
    return whole


def _charge(record: PodRecord, price: Decimal, begin: datetime, end: datetime) -> Decimal:
    """What a stretch adds to the bill, so that all stretches of a pod come to what the whole costs."""
    since = record.created_at
    return cost(price, (end - since).total_seconds()) - cost(price, (begin - since).total_seconds())


def _listed(record: PodRecord, begin: datetime, end: datetime) -> Decimal:
    return _charge(record, record.list_price, begin, end)


def _days(begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The stretch cut at each midnight, UTC."""
    while begin < end:
        midnight = datetime.combine(begin.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
        yield begin, min(midnight, end)
        begin = midnight


def _totals(stretches: Iterable[tuple[str, PodRecord, datetime, datetime]]) -> list[Total]:
    found: dict[str, Total] = {}
    for what, record, begin, end in stretches:
        before = found.get(what, Total(what=what))
        found[what] = Total(
            what=what,
            pods=before.pods + 1,
            paid=before.paid + Part(end - begin, _charge(record, record.price, begin, end)),
            listed=before.listed + _listed(record, begin, end),
            settled=before.settled and record.ended_at is not None,
        )
    return [found[what] for what in sorted(found)]
