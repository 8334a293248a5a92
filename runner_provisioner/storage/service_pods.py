"""The pods that were made over HTTP, in an open database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, case, delete, func, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncConnection

from runner_provisioner.domain.leases import PodRef
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import Contract, PodOrder, PodPage, PodQuery, ServedPod
from runner_provisioner.errors import BudgetExceeded, StaleWrite
from runner_provisioner.ports import Clock
from runner_provisioner.storage.recent import Recent
from runner_provisioner.storage.stores import Opened, Store, rows
from runner_provisioner.storage.tables import API_KEYS, SERVED_PODS, Millionths, Moment

_PODS = SERVED_PODS.c
_MOST = 2**31 - 1
FRESH = 1.0
"""Seconds by which a list may be behind what other processes have written."""
_PAGES = 64
_END = ("ended_at", "cost")
_FATE = ("sent_at", "given_up_at")
_PLAIN = (
    "name",
    "nonce",
    "key_id",
    "label",
    "requested_at",
    "expires_at",
    "reserved",
    "provider",
    "id",
    "price",
    "gpu_model",
    "gpu_count",
    "interruptible",
    "image",
    "created_at",
    *_FATE,
    *_END,
)
_ORDERS = {PodOrder.CREATED: _PODS.created_at, PodOrder.ENDED: _PODS.ended_at}


class PodTable:
    """`ports.ServedPods`."""

    def __init__(self, opened: Opened, clock: Clock) -> None:
        self._opened = opened
        self._pages: Recent[PodQuery, PodPage] = Recent(clock, seconds=FRESH, most=_PAGES)

    async def intend(self, pod: ServedPod, *, budget: Decimal | None = None) -> None:
        """Keep it before it is rented."""
        async with self._changing() as (store, connection):
            if pod.key_id is not None and budget is not None:
                await _check_budget(connection, pod.key_id, pod.counted, budget)
            added = store.insert(SERVED_PODS).values(_row_of(pod)).on_conflict_do_nothing().returning(_PODS.name)
            if (await connection.execute(added)).first() is None:
                raise StaleWrite(f"a pod named {pod.name} was intended already")

    async def sending(self, name: str, at: datetime, *, provider: str) -> bool:
        """None is sent of what was given up."""
        wanted = (_PODS.name == name) & _PODS.given_up_at.is_(None)
        async with self._changing() as (_, connection):
            told = update(SERVED_PODS).where(wanted).values(sent_at=at, provider=provider).returning(_PODS.name)
            return (await connection.execute(told)).first() is not None

    async def rented(self, pod: ServedPod) -> bool:
        """An end that is known stays, and so does that it was given up."""
        row = {name: value for name, value in _row_of(pod).items() if name not in (*_END, *_FATE)}
        row["counted"] = case((_PODS.ended_at.is_(None), type_coerce(pod.counted, Millionths)), else_=_PODS.counted)
        changed = update(SERVED_PODS).where(_PODS.name == pod.name).values(row).returning(_PODS.given_up_at)
        async with self._changing() as (_, connection):
            found = (await connection.execute(changed)).first()
            if found is None:
                raise StaleWrite(f"no pod named {pod.name} was intended")
            return found.given_up_at is None

    async def give_up(self, name: str, at: datetime) -> bool:
        """The first time stays."""
        one = _PODS.name == name
        lost = one & _PODS.id.is_(None) & _PODS.given_up_at.is_(None)
        values = {"given_up_at": at, "reserved": Decimal(0), "counted": Decimal(0)}
        async with self._changing() as (_, connection):
            await connection.execute(update(SERVED_PODS).where(lost).values(values))
            kept = one & _PODS.given_up_at.is_(None)
            return (await connection.execute(select(_PODS.name).where(kept))).first() is None

    async def withdraw(self, name: str) -> None:
        """One that is rented stays."""
        async with self._changing() as (_, connection):
            await connection.execute(delete(SERVED_PODS).where(_PODS.name == name, _PODS.id.is_(None)))

    async def ended(self, pod: PodRef, at: datetime) -> None:
        """The first end stays."""
        alive = (_PODS.provider == pod.provider) & (_PODS.id == pod.id) & _PODS.ended_at.is_(None)
        async with self._changing() as (_, connection):
            for row in (await connection.execute(select(SERVED_PODS).where(alive).with_for_update())).all():
                over = _pod_of(row).over(at)
                end = {"ended_at": over.ended_at, "cost": over.cost, "counted": over.counted}
                await connection.execute(update(SERVED_PODS).where(_PODS.name == over.name).values(end))

    async def reopen(self, pod: PodRef) -> None:
        """As it was before its end."""
        over = (_PODS.provider == pod.provider) & (_PODS.id == pod.id) & _PODS.ended_at.is_not(None)
        async with self._changing() as (_, connection):
            for row in (await connection.execute(select(SERVED_PODS).where(over).with_for_update())).all():
                again = {"ended_at": None, "cost": None, "counted": row.reserved}
                await connection.execute(update(SERVED_PODS).where(_PODS.name == row.name).values(again))

    async def get(self, pod_id: PodId, *, provider: str | None = None) -> ServedPod | None:
        """The last of that id."""
        found = select(SERVED_PODS).where(_PODS.id == pod_id)
        if provider is not None:
            found = found.where(_PODS.provider == provider)
        return await self._one(found.order_by(_PODS.requested_at.desc()).limit(1))

    async def named(self, name: str) -> ServedPod | None:
        """That of this name."""
        return await self._one(select(SERVED_PODS).where(_PODS.name == name))

    async def list(self, query: PodQuery) -> PodPage:
        """Those that are or were rented."""
        return await self._pages.get(query, partial(self._list, query))

    async def _list(self, query: PodQuery) -> PodPage:
        wanted = _wanted(query)
        by = _ORDERS[query.order]
        order = by.desc() if query.descending else by.asc()
        page = select(SERVED_PODS).where(wanted).order_by(order.nulls_last(), _PODS.name)
        page = page.offset(min(query.offset, _MOST)).limit(min(query.limit, _MOST))
        async with self._opened() as store, store.reading() as connection:
            total = (await connection.execute(select(func.count()).select_from(SERVED_PODS).where(wanted))).scalar_one()
            return PodPage(pods=[_pod_of(row) for row in await rows(connection, page)], total=total)

    async def unsettled(self, before: datetime) -> Sequence[ServedPod]:
        """Oldest first."""
        late = func.coalesce(_PODS.sent_at, _PODS.requested_at, type_=Moment) < before
        found = select(SERVED_PODS).where(_PODS.id.is_(None), late | _PODS.given_up_at.is_not(None))
        async with self._opened() as store, store.reading() as connection:
            return [_pod_of(row) for row in await rows(connection, found.order_by(_PODS.requested_at, _PODS.name))]

    async def counted(self, key_id: str) -> Decimal:
        """US dollars."""
        async with self._opened() as store, store.reading() as connection:
            return await _counted(connection, key_id)

    async def spent(self) -> Mapping[str, Decimal]:
        """US dollars."""
        total = select(_PODS.provider, func.sum(_PODS.counted, type_=Millionths).label("cost"))
        found = total.where(_PODS.id.is_not(None), _PODS.ended_at.is_not(None)).group_by(_PODS.provider)
        async with self._opened() as store, store.reading() as connection:
            return {row.provider: row.cost for row in (await connection.execute(found)).all()}

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[tuple[Store, AsyncConnection]]:
        try:
            async with self._opened() as store, store.writing() as connection:
                yield store, connection
        finally:
            self._pages.forget()

    async def _one(self, query: Select[Any]) -> ServedPod | None:
        async with self._opened() as store, store.reading() as connection:
            row = (await connection.execute(query)).first()
            return _pod_of(row) if row is not None else None


async def _check_budget(connection: AsyncConnection, key_id: str, more: Decimal, budget: Decimal) -> None:
    """Of several creates of one key, one after the other is judged."""
    key = (await connection.execute(select(API_KEYS).where(API_KEYS.c.id == key_id).with_for_update())).first()
    left = budget - await _counted(connection, key_id)
    if more > left:
        name = f"key '{key.name}'" if key is not None else "this key"
        raise BudgetExceeded(
            f"{name} has {max(left, Decimal(0)):.2f} USD left of its budget of {budget:.2f} USD and this pod may cost "
            f"{more:.2f} USD: shorten its life, lower its price, or end others"
        )


async def _counted(connection: AsyncConnection, key_id: str) -> Decimal:
    total = func.sum(_PODS.counted, type_=Millionths)
    found: Decimal | None = (await connection.execute(select(total).where(_PODS.key_id == key_id))).scalar()
    return found or Decimal(0)


def _wanted(query: PodQuery) -> ColumnElement[bool]:
    wanted: ColumnElement[bool] = _PODS.id.is_not(None)
    if query.ended is not None:
        wanted &= _PODS.ended_at.is_not(None) if query.ended else _PODS.ended_at.is_(None)
    return wanted


def _row_of(pod: ServedPod) -> dict[str, Any]:
    return {
        **{name: getattr(pod, name) for name in _PLAIN},
        "contract": pod.contract.value,
        "facts": json.dumps(dict(pod.facts)),
        "counted": pod.counted,
    }


def _pod_of(row: Row[Any]) -> ServedPod:
    """Raises ValueError when it holds nonsense."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public way to a row by names
    del values["counted"]
    if values["id"] is not None:
        values["id"] = PodId(values["id"])
    facts = json.loads(values.pop("facts"))
    return ServedPod(**{**values, "contract": Contract(values["contract"]), "facts": facts})
