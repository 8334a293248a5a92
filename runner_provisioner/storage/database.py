"""Opening the history's file safely: made private, brought to the newest form, held together with other processes.

Every transaction that writes takes SQLite's one write lock at its beginning and waits for it, so that none fails half
way because another process wrote in between (sqlite.org/isolation.html).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import anyio
from sqlalchemy import URL, Connection, Executable, Row, Select, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from runner_provisioner._files import make_parents, remedy
from runner_provisioner.domain.history import BadMachine, Ending, Memory, PodRecord, Refused
from runner_provisioner.domain.leases import PodRef
from runner_provisioner.errors import StoreError
from runner_provisioner.storage import queries
from runner_provisioner.storage.tables import REVISIONS

RETENTION = timedelta(days=400)
BUSY_SECONDS = 5.0
_LOCK_TRIES = 200
_LOCK_PAUSE = 0.05  # seconds
_BEGIN = "runner_provisioner_begin"
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_ELSEWHERE = "or set RUNNER_PROVISIONER_HISTORY to another path, or to off"


class Database:
    """An open history at the newest revision. Every method may raise StoreError."""

    def __init__(self, path: Path, engine: AsyncEngine) -> None:
        self._path = path
        self._engine = engine
        self._reading = engine.execution_options(**{_BEGIN: "DEFERRED"})
        self._bare = engine.execution_options(**{_BEGIN: None})

    @classmethod
    async def open(cls, path: Path, *, now: datetime) -> Self:
        """Open or make the file, migrate it, and remove what is older than 400 days before `now`."""
        _make_private(path)
        one = cls(path, _engine(path))
        try:
            await one._prepare()
            await one._prune(now - RETENTION)
        except BaseException:
            await one.aclose()
            raise
        return one

    async def aclose(self) -> None:
        """Close it."""
        await self._engine.dispose()

    # --- what is told ------------------------------------------------------------------------------------------------

    async def refused(self, refused: Refused) -> None:
        """See `ports.History`, here and below."""
        await self._write(queries.add_refusal(refused))

    async def rented(self, record: PodRecord) -> None:
        """Add it, or fill in what was None."""
        await self._write(queries.add_pod(record))

    async def online(self, pod: PodRef, at: datetime) -> None:
        """The first moment stays."""
        await self._write(queries.fill_pod(pod, online_at=at))

    async def worked(self, pod: PodRef, began: datetime | None, ended: datetime | None) -> None:
        """What was known already stays."""
        await self._write(queries.fill_pod(pod, job_at=began, job_ended_at=ended))

    async def ended(self, pod: PodRef, at: datetime, ending: Ending) -> None:
        """The first end stays."""
        await self._write(queries.end_pod(pod, at, ending))

    async def bad(self, machine: BadMachine) -> None:
        """Add it."""
        await self._write(queries.add_bad_machine(machine))

    async def begin(self, at: datetime) -> None:
        """The first moment stays."""
        await self._write(queries.add_beginning(at))

    async def forget(self, machine: str | None) -> int:
        """Remove its failures, or all."""
        async with self._errors(), self._engine.begin() as connection:
            rows = (await connection.execute(queries.forget_bad_machines(machine))).all()
        return len({(row.provider, row.machine) for row in rows})

    # --- what is asked -----------------------------------------------------------------------------------------------

    async def memory(self, now: datetime) -> Memory:
        """All of it as of one moment."""
        async with self._errors(), self._reading.connect() as connection:
            found = [await _rows(connection, one) for one in queries.select_memory(now)]
            return queries.memory_of(*found)

    async def pods(self, since: datetime) -> Sequence[PodRecord]:
        """Oldest first."""
        async with self._errors(), self._reading.connect() as connection:
            return [queries.pod_of(row) for row in await _rows(connection, queries.select_pods(since))]

    async def began(self, since: datetime) -> datetime | None:
        """No refusal and no bad machine proves that what was spent is known, nor does a pod of the same span."""
        async with self._errors(), self._reading.connect() as connection:
            oldest = await _moment(connection, queries.select_oldest_pod())
            if oldest is not None and oldest <= since:
                return oldest
            return await _moment(connection, queries.select_beginning())

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _write(self, *statements: Executable) -> None:
        async with self._errors(), self._engine.begin() as connection:
            for one in statements:
                await connection.execute(one)

    async def _prune(self, before: datetime) -> None:
        async with self._errors(), self._reading.connect() as connection:
            oldest = await _moment(connection, queries.select_oldest())
        if oldest is not None and oldest < before:
            await self._write(*queries.prune(before))

    async def _prepare(self) -> None:
        async with self._errors():
            if await self._ready():
                return
            async with _locked(self._path):
                if await self._ready():
                    return
                async with self._bare.connect() as connection:
                    await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                async with self._engine.begin() as connection:
                    await connection.run_sync(_upgrade)

    async def _ready(self) -> bool:
        """Whether the file is whole and at the newest revision. Raises StoreError when it is none of ours."""
        async with self._bare.connect() as connection:
            whole = (await connection.exec_driver_sql("PRAGMA quick_check(1)")).scalar()
            if whole != "ok":
                raise _damaged(self._path)
            mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar()
            revision = await self._revision(connection)
        return mode == "wal" and revision == REVISIONS[-1]

    async def _revision(self, connection: AsyncConnection) -> str | None:
        tables = (await connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars()
        names = set(tables.all())
        if not names:
            return None
        if "alembic_version" not in names:
            raise StoreError(f"history {self._path} is a database of another program: move it away, {_ELSEWHERE}")
        revision = (await connection.exec_driver_sql("SELECT version_num FROM alembic_version")).scalar()
        if revision is not None and revision not in REVISIONS:
            raise StoreError(
                f"history {self._path} was written by a newer runner-provisioner: install that one, {_ELSEWHERE}"
            )
        return revision

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """Turn what SQLite and the disk may raise into a StoreError that names the file and what to do."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, RuntimeError) as error:
            # RuntimeError: no thread could be started.
            raise _told(self._path, error) from error
        except OSError as error:
            raise StoreError(f"history {self._path} cannot be used: {remedy(error)}") from error
        except (ValueError, OverflowError) as error:
            raise _damaged(self._path) from error


async def _moment(connection: AsyncConnection, query: Select[Any]) -> datetime | None:
    """The least of the moments that a query gives."""
    return min((row[0] for row in await _rows(connection, query) if row[0] is not None), default=None)


async def _rows(connection: AsyncConnection, query: Select[Any]) -> Sequence[Row[Any]]:
    rows: Sequence[Row[Any]] = (await connection.execute(query)).all()
    return rows


def _engine(path: Path) -> AsyncEngine:
    """One connection: what one process does to its history, it does in turn."""
    url = URL.create("sqlite+aiosqlite", database=str(path))
    engine = create_async_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_size=1, max_overflow=0)

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:  # noqa: ANN401 - a driver's own
        # Else sqlite3 begins and commits by its own rules (docs.sqlalchemy.org/dialects/sqlite.html, transactions).
        connection.isolation_level = None
        cursor = connection.cursor()
        # A file from a cache may have been made by others (sqlite.org/security.html).
        cursor.execute("PRAGMA trusted_schema=OFF")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def began(connection: Connection) -> None:
        kind = connection.get_execution_options().get(_BEGIN, "IMMEDIATE")
        if kind is not None:
            connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - slow to import, and needed once in the life of a file
    from alembic.config import Config  # noqa: PLC0415 - likewise
    from alembic.util import CommandError  # noqa: PLC0415 - likewise

    config = Config()
    folder = Path(__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise RuntimeError(f"migrating it failed: {error}") from error


def _make_private(path: Path) -> None:
    """An empty file of mode 0600 where there is none, in a folder of mode 0700; SQLite's own files follow its mode."""
    try:
        make_parents(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"history {path} cannot be used: {remedy(error)}") from error


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Keep other processes from preparing the file at the same time."""
    handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await anyio.sleep(_LOCK_PAUSE)
        else:
            raise _busy(path)
        yield
    finally:
        os.close(handle)


def _told(path: Path, error: Exception) -> StoreError:
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # without what extends it (sqlite.org/rescode.html)
    if code in _BUSY:
        return _busy(path)
    if code in _DAMAGED:
        return _damaged(path)
    reason = " ".join(str(cause).split()) or type(cause).__name__
    return StoreError(f"history {path} cannot be used ({reason}): check the disk and the file's owner, {_ELSEWHERE}")


def _damaged(path: Path) -> StoreError:
    return StoreError(f"history {path} is damaged: move it away, and a new one is begun, {_ELSEWHERE}")


def _busy(path: Path) -> StoreError:
    return StoreError(f"history {path} is held by another process for too long: end that one, {_ELSEWHERE}")
