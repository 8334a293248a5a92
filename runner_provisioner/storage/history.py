"""The history of an installation: one SQLite file, or a database, opened when it is first needed.

SQLAlchemy is imported only then: most commands never ask.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from runner_provisioner._files import remedy
from runner_provisioner.domain.history import BadMachine, Ending, Memory, PodRecord, Refused
from runner_provisioner.domain.leases import PodRef
from runner_provisioner.errors import StoreError
from runner_provisioner.ports import Clock

if TYPE_CHECKING:
    from runner_provisioner.storage.database import Database


class HistoryFile:
    """`ports.History`, shared by as many processes as there are.

    The first refusal, rental, bad machine or beginning makes the file, nothing else does. A file that cannot be used is
    left as it is, and every call raises the same StoreError, which names it and what to do. A call goes to its end
    whatever is cancelled meanwhile; it takes as long as another process may hold the file, a few seconds at most.
    """

    _lasting = True
    _lacking = "install it, or set RUNNER_PROVISIONER_HISTORY to off"

    def __init__(self, path: Path, *, clock: Clock) -> None:
        """Nothing is read or made yet."""
        self.path = path
        self._clock = clock
        self._lock = anyio.Lock()
        self._database: Database | None = None
        self._error: StoreError | None = None

    async def refused(self, refused: Refused) -> None:
        """An offer was asked for and not rented."""
        async with self._opened() as database:
            await database.refused(refused)

    async def rented(self, record: PodRecord) -> None:
        """A pod exists; fields that were None may be filled in by writing it again."""
        async with self._opened() as database:
            await database.rented(record)

    async def online(self, pod: PodRef, at: datetime) -> None:
        """Its runner is online; the first moment stays."""
        if self._exists():
            async with self._opened() as database:
                await database.online(pod, at)

    async def worked(self, pod: PodRef, began: datetime | None, ended: datetime | None) -> None:
        """When its job began and was over, where that is known; what was known already stays."""
        if self._exists():
            async with self._opened() as database:
                await database.worked(pod, began, ended)

    async def ended(self, pod: PodRef, at: datetime, ending: Ending) -> None:
        """Its end is confirmed; the first end stays."""
        if self._exists():
            async with self._opened() as database:
                await database.ended(pod, at, ending)

    async def bad(self, machine: BadMachine) -> None:
        """A machine is to be avoided for a while."""
        async with self._opened() as database:
            await database.bad(machine)

    async def forget(self, machine: str | None = None) -> int:
        """Forget the failures of one machine, or of all; how many machines had some."""
        if not self._exists():
            return 0
        async with self._opened() as database:
            return await database.forget(machine)

    async def memory(self, now: datetime) -> Memory:
        """What ranking needs: the experience of the last 90 days, of boots the latest 20 of each kind."""
        if not self._exists():
            return Memory()
        async with self._opened() as database:
            return await database.memory(now)

    async def pods(self, since: datetime) -> Sequence[PodRecord]:
        """Every pod that was not known to have ended before `since`, oldest first."""
        if not self._exists():
            return ()
        async with self._opened() as database:
            return await database.pods(since)

    async def begin(self, at: datetime) -> None:
        """What is spent is known from then on; the first moment stays."""
        async with self._opened() as database:
            await database.begin(at)

    async def began(self, since: datetime) -> datetime | None:
        """The oldest pod's moment where that is not after `since`, else what `begin` was told; None for neither."""
        if not self._exists():
            return None
        async with self._opened() as database:
            return await database.began(since)

    async def aclose(self) -> None:
        """Close the file; it is whole then, without a log beside it, unless other processes have it open."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if self._database is not None:
                    await self._database.aclose()
                    self._database = None

    @property
    def _named(self) -> str:
        return f"history {self.path}"

    def _exists(self) -> bool:
        try:
            return self._database is not None or self.path.exists()
        except OSError as error:
            raise StoreError(f"history {self.path} cannot be read: {remedy(error)}") from error

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Database]:
        """The open file, for what nothing may cancel."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if self._error is not None:
                    raise self._error
                if self._database is None:
                    self._database = await self._open()
            yield self._database

    async def _open(self) -> Database:
        try:
            return await self._database_there()
        except ImportError as error:
            # A Python that was built without SQLite, say.
            self._error = StoreError(f"{self._named} cannot be used: this Python lacks {error.name}; {self._lacking}")
            raise self._error from error
        except StoreError as error:
            self._error = error if self._lasting else None
            raise

    async def _database_there(self) -> Database:
        from runner_provisioner.storage.database import Database  # noqa: PLC0415 - SQLAlchemy is slow to import
        from runner_provisioner.storage.sqlite import SqliteFile, SqlitePlace  # noqa: PLC0415 - likewise

        instead = "set RUNNER_PROVISIONER_HISTORY to another path, or to off"
        place = SqlitePlace(path=self.path, what="history", instead=instead, durable=False)
        return await Database.open(await SqliteFile.open(place), now=self._clock.now())


class HistoryDatabase(HistoryFile):
    """`ports.History` in a PostgreSQL database, made when anybody first asks.

    A call fails for as long as the server cannot be reached, and no longer.
    """

    _lasting = False
    _lacking = "install the extra 'controller'"

    def __init__(self, url: str, *, variable: str, clock: Clock) -> None:
        """`variable` is the one that holds the URL, for messages."""
        super().__init__(Path(), clock=clock)
        self._url = url
        self._variable = variable

    @property
    def _named(self) -> str:
        return f"the database of {self._variable}"

    def _exists(self) -> bool:
        return True

    async def _database_there(self) -> Database:
        from runner_provisioner.storage.database import Database  # noqa: PLC0415 - SQLAlchemy is slow to import
        from runner_provisioner.storage.postgres import PostgresDatabase, PostgresPlace  # noqa: PLC0415 - likewise

        place = PostgresPlace(url=self._url, variable=self._variable)
        return await Database.open(await PostgresDatabase.open(place), now=self._clock.now())
