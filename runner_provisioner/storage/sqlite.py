"""Opening an SQLite file safely: made private, brought to the newest form, held together with other processes.

Every transaction that writes takes SQLite's one write lock at its beginning and waits for it, so that none fails half
way because another process wrote in between (sqlite.org/isolation.html).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import anyio
from sqlalchemy import URL, Connection, Table, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from runner_provisioner._files import make_parents, remedy
from runner_provisioner.errors import StoreError
from runner_provisioner.storage import stores
from runner_provisioner.storage.stores import Insert
from runner_provisioner.storage.tables import REVISIONS

BUSY_SECONDS = 5.0
TRY_SECONDS = 1.0
_LOCK_TRIES = 200
_LOCK_PAUSE = 0.05  # seconds
_BEGIN = "runner_provisioner_begin"
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlitePlace:
    """A file, and the words for it: `what` it is called, and what to do `instead` of using it.

    A `durable` one keeps what was written even when the power fails; others may lose the last moments, and stay whole.
    """

    path: Path
    what: str
    instead: str
    durable: bool

    def __str__(self) -> str:
        return f"{self.what} {self.path}"


class SqliteFile:
    """`Store` in one file. One connection: what one process does to it, it does in turn."""

    def __init__(self, place: SqlitePlace, engine: AsyncEngine) -> None:
        self._place = place
        self._engine = engine
        self._reading = engine.execution_options(**{_BEGIN: "DEFERRED"})
        self._bare = engine.execution_options(**{_BEGIN: None})

    @classmethod
    async def open(cls, place: SqlitePlace) -> Self:
        """Open or make the file and migrate it. Raises StoreError, and leaves a file that is none of ours as it is."""
        _make_private(place)
        one = cls(place, _engine(place))
        try:
            await one._prepare()
        except BaseException:
            await one.aclose()
            raise
        return one

    async def aclose(self) -> None:
        """Close it."""
        await self._engine.dispose()

    def insert(self, table: Table) -> Insert:
        """See `Store`, here and below."""
        return insert(table)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Others may write meanwhile."""
        async with self._errors(), self._reading.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Nobody else writes meanwhile."""
        async with self._errors(), self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def trying(self) -> AsyncIterator[AsyncConnection]:
        """Others read and write the file meanwhile as if nothing happened; our own wait for the one connection."""
        async with self._errors(), self._bare.connect() as connection:
            await connection.exec_driver_sql(f"PRAGMA busy_timeout={TRY_SECONDS * 1000:.0f}")
            try:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    yield connection
                finally:
                    await connection.exec_driver_sql("ROLLBACK")
            finally:
                await connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")

    async def _prepare(self) -> None:
        async with self._errors():
            if await self._ready():
                return
            async with _locked(self._place):
                if await self._ready():
                    return
                async with self._bare.connect() as connection:
                    await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                async with self._engine.begin() as connection:
                    await connection.run_sync(stores.upgrade)

    async def _ready(self) -> bool:
        """Whether the file is whole and at the newest revision. Raises StoreError when it is none of ours."""
        async with self._bare.connect() as connection:
            whole = (await connection.exec_driver_sql("PRAGMA quick_check(1)")).scalar()
            if whole != "ok":
                raise _damaged(self._place)
            mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar()
            revision = await self._revision(connection)
        return mode == "wal" and revision == REVISIONS[-1]

    async def _revision(self, connection: AsyncConnection) -> str | None:
        tables = (await connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars()
        names = set(tables.all())
        if not names:
            return None
        if "alembic_version" not in names:
            raise StoreError(f"{self._place} is a database of another program: move it away, or {self._place.instead}")
        revision = (await connection.exec_driver_sql("SELECT version_num FROM alembic_version")).scalar()
        if revision is not None and revision not in REVISIONS:
            raise StoreError(
                f"{self._place} was written by a newer runner-provisioner: install that one, or {self._place.instead}"
            )
        return revision

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """Turn what SQLite and the disk may raise into a StoreError that names the file and what to do."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, RuntimeError) as error:
            # RuntimeError: no thread could be started.
            raise _told(self._place, error) from error
        except OSError as error:
            raise StoreError(f"{self._place} cannot be used: {remedy(error)}") from error
        except (ValueError, OverflowError) as error:
            raise _damaged(self._place) from error


def _engine(place: SqlitePlace) -> AsyncEngine:
    url = URL.create("sqlite+aiosqlite", database=str(place.path))
    engine = create_async_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_size=1, max_overflow=0)

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:  # noqa: ANN401 - a driver's own
        # Else sqlite3 begins and commits by its own rules (docs.sqlalchemy.org/dialects/sqlite.html, transactions).
        connection.isolation_level = None
        cursor = connection.cursor()
        # A file from a cache may have been made by others (sqlite.org/security.html).
        cursor.execute("PRAGMA trusted_schema=OFF")
        cursor.execute(f"PRAGMA synchronous={'FULL' if place.durable else 'NORMAL'}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def began(connection: Connection) -> None:
        kind = connection.get_execution_options().get(_BEGIN, "IMMEDIATE")
        if kind is not None:
            connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _make_private(place: SqlitePlace) -> None:
    """An empty file of mode 0600 where there is none, in a folder of mode 0700; SQLite's own files follow its mode."""
    try:
        make_parents(place.path.parent)
        os.close(os.open(place.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"{place} cannot be used: {remedy(error)}") from error


@asynccontextmanager
async def _locked(place: SqlitePlace) -> AsyncIterator[None]:
    """Keep other processes from preparing the file at the same time."""
    beside = place.path.with_name(f"{place.path.name}.lock")
    handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await anyio.sleep(_LOCK_PAUSE)
        else:
            raise _busy(place)
        yield
    finally:
        os.close(handle)


def _told(place: SqlitePlace, error: Exception) -> StoreError:
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # without what extends it (sqlite.org/rescode.html)
    if code in _BUSY:
        return _busy(place)
    if code in _DAMAGED:
        return _damaged(place)
    reason = " ".join(str(cause).split()) or type(cause).__name__
    return StoreError(f"{place} cannot be used ({reason}): check the disk and the file's owner, or {place.instead}")


def _damaged(place: SqlitePlace) -> StoreError:
    return StoreError(f"{place} is damaged: move it away, and a new one is begun, or {place.instead}")


def _busy(place: SqlitePlace) -> StoreError:
    return StoreError(f"{place} is held by another process for too long: end that one, or {place.instead}")
