"""Requests that must not be served twice, in an open database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Executable, Row, delete, select, update

from runner_provisioner.domain.served import Answer, Claim, IdempotentRequest, RequestRef, Verdict
from runner_provisioner.errors import StaleWrite
from runner_provisioner.storage.stores import Opened, rows
from runner_provisioner.storage.tables import REQUESTS

_TRIES = 5


class RequestTable:
    """`ports.IdempotentRequests`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def claim(self, wanted: IdempotentRequest, *, now: datetime) -> Claim:
        """Whoever adds the row begins; of those who find it, one after the other is told what to do."""
        for _ in range(_TRIES):
            claim = await self._claim(wanted, now)
            if claim is not None:
                return claim
        raise StaleWrite("another process serves the same request and gives it up again and again: try later")

    async def _claim(self, wanted: IdempotentRequest, now: datetime) -> Claim | None:
        """None when the row was there and has gone."""
        async with self._opened() as store, store.writing() as connection:
            added = store.insert(REQUESTS).values(_row_of(wanted)).on_conflict_do_nothing().returning(REQUESTS.c.key)
            if (await connection.execute(added)).first() is not None:
                return Claim.of(None, wanted, now)
            found = (await connection.execute(select(REQUESTS).where(_same(wanted)).with_for_update())).first()
            if found is None:
                return None
            claim = Claim.of(_request_of(found), wanted, now)
            if claim.verdict is Verdict.RESUME:
                taken = {"holder": wanted.holder, "held_until": wanted.held_until}
                await connection.execute(update(REQUESTS).where(_same(wanted)).values(taken))
            return claim

    async def hold(self, request: IdempotentRequest, until: datetime) -> None:
        """Go on serving it."""
        await self._change(update(REQUESTS).where(_held(request)).values(held_until=until).returning(REQUESTS.c.key))

    async def answer(self, request: IdempotentRequest, answer: Answer) -> None:
        """Keep what it was answered."""
        kept = {"status": answer.status, "body": answer.body}
        await self._change(update(REQUESTS).where(_held(request)).values(kept).returning(REQUESTS.c.key))

    async def withdraw(self, request: IdempotentRequest) -> None:
        """Forget it."""
        await self._change(delete(REQUESTS).where(_held(request)).returning(REQUESTS.c.key))

    async def abandoned(self, now: datetime) -> Sequence[IdempotentRequest]:
        """Oldest first."""
        lost = select(REQUESTS).where(REQUESTS.c.status.is_(None), REQUESTS.c.held_until <= now)
        async with self._opened() as store, store.reading() as connection:
            return [_request_of(row) for row in await rows(connection, lost.order_by(REQUESTS.c.begun_at))]

    async def _change(self, statement: Executable) -> None:
        async with self._opened() as store, store.writing() as connection:
            if (await connection.execute(statement)).first() is None:
                raise StaleWrite("another process has taken this request over, or it was answered: repeat it")


def _same(request: IdempotentRequest) -> ColumnElement[bool]:
    ref = request.ref
    return (REQUESTS.c.caller == ref.caller) & (REQUESTS.c.operation == ref.operation) & (REQUESTS.c.key == ref.key)


def _held(request: IdempotentRequest) -> ColumnElement[bool]:
    return _same(request) & (REQUESTS.c.holder == request.holder) & REQUESTS.c.status.is_(None)


def _row_of(request: IdempotentRequest) -> dict[str, Any]:
    names = ("digest", "pod_name", "holder", "held_until", "begun_at")
    return {**request.ref._asdict(), **{name: getattr(request, name) for name in names}}


def _request_of(row: Row[Any]) -> IdempotentRequest:
    return IdempotentRequest(
        ref=RequestRef(row.caller, row.operation, row.key),
        digest=row.digest,
        pod_name=row.pod_name,
        holder=row.holder,
        held_until=row.held_until,
        begun_at=row.begun_at,
        answer=Answer(status=row.status, body=row.body) if row.status is not None else None,
    )
