"""The history in an open database, whichever engine holds it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Executable, Select
from sqlalchemy.ext.asyncio import AsyncConnection

from runner_provisioner.domain.history import BadMachine, Ending, Memory, PodRecord, Refused
from runner_provisioner.domain.leases import PodRef
from runner_provisioner.storage import queries
from runner_provisioner.storage.stores import Store, rows, write

RETENTION = timedelta(days=400)


class Database:
    """An open history at the newest revision. Every method may raise StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    async def open(cls, store: Store, *, now: datetime) -> Self:
        """Take the store over, and remove what is older than 400 days before `now`."""
        one = cls(store)
        try:
            await one._prune(now - RETENTION)
        except BaseException:
            await one.aclose()
            raise
        return one

    async def aclose(self) -> None:
        """Close it."""
        await self._store.aclose()

    # --- what is told ------------------------------------------------------------------------------------------------

    async def refused(self, refused: Refused) -> None:
        """See `ports.History`, here and below."""
        await self._write(queries.add_refusal(self._store, refused))

    async def rented(self, record: PodRecord) -> None:
        """Add it, or fill in what was None."""
        await self._write(queries.add_pod(self._store, record))

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
        await self._write(queries.add_bad_machine(self._store, machine))

    async def begin(self, at: datetime) -> None:
        """The first moment stays."""
        await self._write(queries.add_beginning(at))

    async def forget(self, machine: str | None) -> int:
        """Remove its failures, or all."""
        async with self._store.writing() as connection:
            removed = (await connection.execute(queries.forget_bad_machines(machine))).all()
        return len({(row.provider, row.machine) for row in removed})

    # --- what is asked -----------------------------------------------------------------------------------------------

    async def memory(self, now: datetime) -> Memory:
        """All of it as of one moment."""
        async with self._store.reading() as connection:
            found = [await rows(connection, one) for one in queries.select_memory(now)]
            return queries.memory_of(*found)

    async def pods(self, since: datetime) -> Sequence[PodRecord]:
        """Oldest first."""
        async with self._store.reading() as connection:
            return [queries.pod_of(row) for row in await rows(connection, queries.select_pods(since))]

    async def began(self, since: datetime) -> datetime | None:
        """No refusal and no bad machine proves that what was spent is known, nor does a pod of the same span."""
        async with self._store.reading() as connection:
            oldest = await _moment(connection, queries.select_oldest_pod())
            if oldest is not None and oldest <= since:
                return oldest
            return await _moment(connection, queries.select_beginning())

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _write(self, *statements: Executable) -> None:
        await write(self._store, *statements)

    async def _prune(self, before: datetime) -> None:
        async with self._store.reading() as connection:
            oldest = await _moment(connection, queries.select_oldest())
        if oldest is not None and oldest < before:
            await self._write(*queries.prune(before))


async def _moment(connection: AsyncConnection, query: Select[Any]) -> datetime | None:
    """The least of the moments that a query gives."""
    return min((row[0] for row in await rows(connection, query) if row[0] is not None), default=None)
