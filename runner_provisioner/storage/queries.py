"""What is said to the history's tables, and what their rows mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Row,
    Select,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    type_coerce,
)
from sqlalchemy import update as sql_update

from runner_provisioner.domain.history import (
    BadMachine,
    Ending,
    Experience,
    Memory,
    OfferKind,
    PodRecord,
    Refused,
)
from runner_provisioner.domain.leases import PodRef
from runner_provisioner.domain.pods import PodId
from runner_provisioner.storage.stores import Store
from runner_provisioner.storage.tables import BAD_MACHINES, BEGINNINGS, PODS, REFUSALS, Moment

BOOTS = 20  # of each kind
EXPERIENCE = timedelta(days=90)  # a market of longer ago says little of today's
_HOUR = 3_600_000_000  # microseconds
_KIND = ("provider", "gpu_model", "gpu_count", "interruptible", "region")
_LATER = ("requested_at", "machine", "repository", "online_at", "job_at", "job_ended_at", "ended_at", "ending")


def add_refusal(store: Store, refused: Refused) -> Executable:
    """Add it, unless it is known."""
    row = {**_kind_row(refused.kind), "at": refused.at, "reason": refused.reason}
    return store.insert(REFUSALS).values(row).on_conflict_do_nothing()


def add_bad_machine(store: Store, machine: BadMachine) -> Executable:
    """Add it, unless it is known."""
    row = {"provider": machine.provider, "machine": machine.machine, "at": machine.at, "reason": machine.reason}
    return store.insert(BAD_MACHINES).values(row).on_conflict_do_nothing()


def forget_bad_machines(machine: str | None) -> Executable:
    """Remove the failures of this machine, or all; gives whose they were."""
    removed = delete(BAD_MACHINES)
    if machine is not None:
        removed = removed.where(BAD_MACHINES.c.machine == machine)
    return removed.returning(BAD_MACHINES.c.provider, BAD_MACHINES.c.machine)


def add_pod(store: Store, record: PodRecord) -> Executable:
    """Add it, or fill in what was not known of it."""
    row = {
        **_kind_row(record.kind),
        **{name: getattr(record, name) for name in ("id", "name", "price", "list_price", "created_at", "expires_at")},
        **{name: getattr(record, name) for name in _LATER},
    }
    # Both of the record, of which only one could be the kind's.
    row["provider"] = record.provider
    added = store.insert(PODS).values(row)
    filled = {name: func.coalesce(PODS.c[name], added.excluded[name]) for name in _LATER}
    return added.on_conflict_do_update(index_elements=["provider", "id"], set_=filled)


def fill_pod(pod: PodRef, **moments: datetime | None) -> Executable:
    """Note the moments that were not known."""
    filled = {name: func.coalesce(PODS.c[name], literal(moment, Moment)) for name, moment in moments.items()}
    return sql_update(PODS).where(_is(pod)).values(filled)


def end_pod(pod: PodRef, at: datetime, ending: Ending) -> Executable:
    """Note the end, unless there was one."""
    return sql_update(PODS).where(_is(pod), PODS.c.ended_at.is_(None)).values(ended_at=at, ending=ending.value)


def prune(before: datetime) -> tuple[Executable, ...]:
    """Remove what is older."""
    return (
        delete(PODS).where(PODS.c.created_at < before),
        delete(REFUSALS).where(REFUSALS.c.at < before),
        delete(BAD_MACHINES).where(BAD_MACHINES.c.at < before),
    )


def select_pods(since: datetime) -> Select[Any]:
    """Pods that may have lived since then."""
    alive = PODS.c.ended_at.is_(None) | (PODS.c.ended_at >= since)
    return select(PODS).where(alive).order_by(PODS.c.created_at, PODS.c.provider, PODS.c.id)


def pod_of(row: Row[Any]) -> PodRecord:
    """The record of a row. Raises ValueError when it holds nonsense."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public way to a row by names
    kind = _kind_of(values)
    for name in _KIND:
        del values[name]
    values["id"] = PodId(values["id"])
    values["ending"] = Ending(values["ending"]) if values["ending"] is not None else None
    return PodRecord(provider=kind.provider, kind=kind, **values)


def add_beginning(at: datetime) -> Executable:
    """Add it, unless there is one."""
    none = ~select(BEGINNINGS.c.at).exists()
    return insert(BEGINNINGS).from_select(["at"], select(literal(at, Moment)).where(none))


def select_beginning() -> Select[Any]:
    """When the records were said to begin; no row where nobody did."""
    return select(BEGINNINGS.c.at)


def select_oldest_pod() -> Select[Any]:
    """When the oldest pod was made, None where there is none."""
    return select(func.min(PODS.c.created_at))


def select_oldest() -> Select[Any]:
    """The oldest moment of each table, None for an empty one."""
    oldest = [func.min(column) for column in (PODS.c.created_at, REFUSALS.c.at, BAD_MACHINES.c.at)]
    first, *others = (select(one) for one in oldest)
    return select(first.union_all(*others).subquery())


def select_memory(now: datetime) -> tuple[Select[Any], ...]:
    """What `memory_of` takes, one query each."""
    since = now - EXPERIENCE
    return (_boots(since), _lives(now, since), _refusals(since), _bad_machines(since))


def memory_of(
    boots: Iterable[Row[Any]], lives: Iterable[Row[Any]], refusals: Iterable[Row[Any]], bad: Iterable[Row[Any]]
) -> Memory:
    """Everything that ranking needs, from the rows of `select_memory`."""
    times: dict[OfferKind, list[timedelta]] = {}
    for row in boots:
        times.setdefault(_kind_of(row._mapping), []).append(row.online_at - row.created_at)  # noqa: SLF001 - see above
    lived = {_kind_of(row._mapping): row for row in lives}  # noqa: SLF001 - see above
    no = {_kind_of(row._mapping): row.refusals for row in refusals}  # noqa: SLF001 - see above
    experience = {
        kind: Experience(
            boots=tuple(times.get(kind, ())),
            hours=float(lived[kind].lived) / _HOUR if kind in lived else 0.0,
            interruptions=lived[kind].interruptions if kind in lived else 0,
            refusals=no.get(kind, 0),
            rentals=lived[kind].rentals if kind in lived else 0,
        )
        for kind in {**lived, **no}
    }
    machines = tuple(
        BadMachine(provider=one.provider, machine=one.machine, at=one.at, reason=one.reason) for one in bad
    )
    return Memory(experience=experience, bad_machines=machines)


def _boots(since: datetime) -> Select[Any]:
    kind = [PODS.c[name] for name in _KIND]
    rank = func.row_number().over(partition_by=kind, order_by=PODS.c.created_at.desc()).label("rank")
    # A clock that was set back makes a boot of less than no time.
    booted = (PODS.c.created_at >= since) & (PODS.c.online_at >= PODS.c.created_at)
    ranked = select(*kind, PODS.c.created_at, PODS.c.online_at, rank).where(booted).subquery()
    return select(ranked).where(ranked.c.rank <= BOOTS).order_by(ranked.c.rank)


def _lives(now: datetime, since: datetime) -> Select[Any]:
    """A pod whose end is not confirmed has lived until now, or until it had to end."""
    kind = [PODS.c[name] for name in _KIND]
    known = func.coalesce(PODS.c.ended_at, PODS.c.expires_at)
    # The least and the greatest of two have another name in each engine.
    end = case((known < literal(now, Moment), known), else_=literal(now, Moment))
    lived = type_coerce(end, BigInteger) - type_coerce(PODS.c.created_at, BigInteger)
    interrupted = case((PODS.c.ending == Ending.INTERRUPTED.value, 1), else_=0)
    return (
        select(
            *kind,
            func.sum(case((lived > 0, lived), else_=0)).label("lived"),
            func.sum(interrupted).label("interruptions"),
            func.count().label("rentals"),
        )
        .where(PODS.c.created_at >= since)
        .group_by(*kind)
    )


def _refusals(since: datetime) -> Select[Any]:
    kind = [REFUSALS.c[name] for name in _KIND]
    return select(*kind, func.count().label("refusals")).where(REFUSALS.c.at >= since).group_by(*kind)


def _bad_machines(since: datetime) -> Select[Any]:
    return select(BAD_MACHINES).where(BAD_MACHINES.c.at >= since).order_by(BAD_MACHINES.c.at)


def _is(pod: PodRef) -> ColumnElement[bool]:
    return (PODS.c.provider == pod.provider) & (PODS.c.id == pod.id)


def _kind_row(kind: OfferKind) -> dict[str, Any]:
    return {
        "provider": kind.provider,
        "gpu_model": kind.gpu_model,
        "gpu_count": kind.gpu_count,
        "interruptible": kind.interruptible,
        "region": kind.region or "",
    }


def _kind_of(row: Mapping[Any, Any]) -> OfferKind:
    return OfferKind(
        provider=row["provider"],
        gpu_model=row["gpu_model"],
        gpu_count=row["gpu_count"],
        interruptible=bool(row["interruptible"]),
        region=row["region"] or None,
    )
