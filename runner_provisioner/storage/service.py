"""All that the service keeps, in one SQLite file or one PostgreSQL database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import anyio
from sqlalchemy import Executable, delete, false, func, select

from runner_provisioner.errors import StoreError
from runner_provisioner.ports import Clock
from runner_provisioner.service_ports import ApiKeys, AuditLog, IdempotentRequests, ServedPods
from runner_provisioner.storage.postgres import PostgresDatabase, PostgresPlace
from runner_provisioner.storage.service_keys import AuditTable, KeyTable
from runner_provisioner.storage.service_pods import PodTable
from runner_provisioner.storage.service_requests import RequestTable
from runner_provisioner.storage.sqlite import SqliteFile, SqlitePlace
from runner_provisioner.storage.stores import Store, write
from runner_provisioner.storage.tables import API_KEYS, AUDIT, REQUESTS, SERVED_PODS

RETENTION = timedelta(days=400)
REQUEST_RETENTION = timedelta(days=7)
_TIDY = timedelta(days=1)


class ServiceDatabase:
    """`ports.ServiceState`.

    It is opened by the first call, and again by a later one when that was not possible. A call goes to its end
    whatever is cancelled meanwhile; it takes as long as another process may hold the file, or the server may think
    about it: seconds. Once a day what is old is removed.
    """

    def __init__(self, open_store: Callable[[], Awaitable[Store]], *, clock: Clock) -> None:
        """Nothing is read or made yet."""
        self._open_store = open_store
        self._clock = clock
        self._lock = anyio.Lock()
        self._store: Store | None = None
        self._tidied: datetime | None = None
        self.keys: ApiKeys = KeyTable(self._opened)
        self.requests: IdempotentRequests = RequestTable(self._opened)
        self.pods: ServedPods = PodTable(self._opened, clock)
        self.audit: AuditLog = AuditTable(self._opened)

    @classmethod
    def at(cls, where: Path | str, *, variable: str, clock: Clock) -> Self:
        """In this file, or in the database of this URL; `variable` is the one that says so, for messages."""

        async def open_store() -> Store:
            if isinstance(where, Path):
                instead = f"set {variable} to another one"
                return await SqliteFile.open(
                    SqlitePlace(path=where, what="service database", instead=instead, durable=True)
                )
            return await PostgresDatabase.open(PostgresPlace(url=where, variable=variable))

        return cls(open_store, clock=clock)

    async def check(self) -> None:
        """Fail with StoreError where nothing could be kept now."""
        async with self._opened() as store, store.trying() as connection:
            # Of no row: it takes the rights and the locks of a write, and writes nothing.
            await connection.execute(delete(REQUESTS).where(false()))

    async def aclose(self) -> None:
        """Close it."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if self._store is not None:
                    await self._store.aclose()
                    self._store = None

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Store]:
        """The open database, for what nothing may cancel."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if self._store is None:
                    self._store = await self._open()
                store = self._store
                await self._tidy(store)
            yield store

    async def _open(self) -> Store:
        try:
            return await self._open_store()
        except ImportError as error:
            raise StoreError(f"PostgreSQL needs {error.name}: install the extra 'controller'") from error

    async def _tidy(self, store: Store) -> None:
        now = self._clock.now()
        if self._tidied is None or now - self._tidied >= _TIDY:
            await write(store, *_old(now))
            self._tidied = now


def _old(now: datetime) -> tuple[Executable, ...]:
    before = now - RETENTION
    reckoned = select(API_KEYS.c.id).where(API_KEYS.c.budget.is_not(None), API_KEYS.c.revoked_at.is_(None))
    over = func.coalesce(SERVED_PODS.c.ended_at, SERVED_PODS.c.expires_at) < before
    free = SERVED_PODS.c.key_id.is_(None) | SERVED_PODS.c.key_id.not_in(reckoned)
    return (
        delete(AUDIT).where(AUDIT.c.at < before),
        delete(REQUESTS).where(REQUESTS.c.begun_at < now - REQUEST_RETENTION),
        # What a key has spent counts for as long as it may spend.
        delete(SERVED_PODS).where(over, free),
    )
