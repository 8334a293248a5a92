"""Opening a PostgreSQL database: its tables live in a schema of their own, made and migrated under a lock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from runner_provisioner.errors import StoreError
from runner_provisioner.storage import stores
from runner_provisioner.storage.stores import Insert
from runner_provisioner.storage.tables import REVISIONS

SCHEMA = "runner_provisioner"
CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 30.0
TRY_SECONDS = 1.0
_CONNECTIONS = 10
_MIGRATING = 0x72756E6E  # the advisory lock of whoever migrates: any number that others are unlikely to take
_LIMIT = 200  # characters of what the server said
# By SQLSTATE, or the class that its first two characters are (postgresql.org/docs/current/errcodes-appendix.html).
_REMEDIES = {
    "28": "it refuses the user or the password: check them",
    "3D000": "there is no such database: create it",
    "42501": f"the user lacks a right there: let it own the database, or a schema named {SCHEMA}",
    "53300": "it has no connection left: raise max_connections, or end what holds them",
    "57P03": "it is starting or stopping: try again",
    "25006": "it can only be read: name the primary server",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresPlace:
    """A database by the URL that libpq takes, and the `variable` that holds it."""

    url: str = field(repr=False)
    variable: str

    def __str__(self) -> str:
        """Without user, password and options."""
        parts = urlsplit(self.url)
        return f"database postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


_NO_TABLES = frozenset({"42P01", "3F000"})


class PostgresDatabase:
    """`Store` in one schema of a database; several connections."""

    def __init__(self, place: PostgresPlace, engine: AsyncEngine) -> None:
        self._place = place
        self._engine = engine
        self._bare = False
        self._reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @classmethod
    async def open(cls, place: PostgresPlace) -> Self:
        """Connect, and make or migrate the tables. Raises StoreError, ImportError without the driver."""
        one = cls(place, _engine(place))
        try:
            await one._prepare()
        except BaseException:
            await one.aclose()
            raise
        return one

    async def aclose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    def insert(self, table: Table) -> Insert:
        """See `Store`, here and below."""
        return insert(table)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Others may write meanwhile."""
        await self._mend()
        async with self._errors(), self._reading.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Others may write meanwhile, each row in turn."""
        await self._mend()
        async with self._errors(), self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def trying(self) -> AsyncIterator[AsyncConnection]:
        """What locks a whole table is waited for a second, the server itself as long as ever."""
        await self._mend()
        async with self._errors(), self._engine.connect() as connection:
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {TRY_SECONDS * 1000:.0f}")
            yield connection
            await connection.rollback()

    async def _mend(self) -> None:
        """Make the tables again where the last words were that there are none: the server has come back empty."""
        if not self._bare:
            return
        self._bare = False
        try:
            await self._prepare()
        except StoreError:
            self._bare = True
            raise

    async def _prepare(self) -> None:
        async with self.reading() as connection:
            if await self._revision(connection) == REVISIONS[-1]:
                return
        async with self.writing() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
            if await self._revision(connection) == REVISIONS[-1]:
                return
            # IF NOT EXISTS would ask for the right to make it, though it is there.
            if await _scalar(connection, f"SELECT to_regnamespace('{SCHEMA}')::text") is None:
                await connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
            await connection.run_sync(stores.upgrade)

    async def _revision(self, connection: AsyncConnection) -> str | None:
        """Raises StoreError for one that is not known."""
        if await _scalar(connection, f"SELECT to_regclass('{SCHEMA}.alembic_version')::text") is None:
            return None
        revision: str | None = await _scalar(connection, f"SELECT version_num FROM {SCHEMA}.alembic_version")  # noqa: S608 - a constant
        if revision is not None and revision not in REVISIONS:
            raise StoreError(f"{self._place} was written by a newer runner-provisioner: install that one")
        return revision

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """Turn what the driver and the network may raise into a StoreError that says what to do."""
        from asyncpg import InterfaceError, PostgresError  # noqa: PLC0415 - an extra's; `open` has told of its absence

        try:
            yield
        # A creator's errors come as the driver raised them. RuntimeError: migrating was not possible.
        except (SQLAlchemyError, PostgresError, InterfaceError, OSError, RuntimeError) as error:
            self._bare = getattr(getattr(error, "orig", error), "sqlstate", None) in _NO_TABLES or self._bare
            raise _told(self._place, error) from error
        except (ValueError, OverflowError) as error:
            raise StoreError(f"{self._place} holds what no runner-provisioner writes: restore a backup") from error


def _engine(place: PostgresPlace) -> AsyncEngine:
    import asyncpg  # noqa: PLC0415 - an extra's

    async def connect(**_options: Any) -> Any:  # noqa: ANN401 - the driver's connection
        # The driver reads the URL as libpq would (sslmode, passfile, a socket's folder); SQLAlchemy's own does not.
        connection = await asyncpg.connect(
            place.url,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            server_settings={"application_name": "runner-provisioner"},
        )
        # Not as a setting of the connection: PgBouncer would refuse it.
        await connection.execute(f"SET search_path TO {SCHEMA}")
        return connection

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=COMMAND_SECONDS,
        pool_pre_ping=True,  # else each connection fails once after the server was restarted
    )


async def _scalar(connection: AsyncConnection, query: str) -> str | None:
    found: str | None = (await connection.exec_driver_sql(query)).scalar()
    return found


def _told(place: PostgresPlace, error: BaseException) -> StoreError:
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, OSError):
        reason = cause.strerror or "no answer" if cause.errno else str(cause) or "no answer in time"
        return StoreError(f"{place} cannot be reached ({_short(reason)}): start it, or check {place.variable}")
    state = getattr(cause, "sqlstate", None) or ""
    remedy = _REMEDIES.get(state) or _REMEDIES.get(state[:2])
    if remedy is not None:
        return StoreError(f"{place} cannot be used, {remedy}; {place.variable} names it")
    # The driver's own error: what SQLAlchemy makes of it repeats the statement and the row.
    reason = str(cause.__cause__ or cause) or type(cause).__name__
    return StoreError(f"{place} cannot be used ({_short(reason)}): check the server and {place.variable}")


def _short(text: str) -> str:
    return " ".join((text.splitlines() or [""])[0].split())[:_LIMIT]
