"""What the queries need of a database, whichever engine it is, and bringing its tables to the newest form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Executable, Row, Select, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

Insert = sqlite.Insert | postgresql.Insert


class Store(Protocol):
    """An open database at the newest revision. What goes wrong inside `reading` and `writing` becomes a StoreError."""

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection that sees one moment."""
        ...

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction, kept when the block ends and not when it fails."""
        ...

    def trying(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """As `writing`, but nothing is kept, and another writer is waited for a second at most."""
        ...

    def insert(self, table: Table) -> Insert:
        """An insert in the engine's own words: what to do about a row that is there already is no standard."""
        ...

    async def aclose(self) -> None:
        """Close it."""
        ...


Opened = Callable[[], AbstractAsyncContextManager[Store]]
"""The open database, or a StoreError; for what nothing may cancel."""


async def write(store: Store, *statements: Executable) -> None:
    """Run them as one transaction."""
    async with store.writing() as connection:
        for one in statements:
            await connection.execute(one)


async def rows(connection: AsyncConnection, query: Select[Any]) -> Sequence[Row[Any]]:
    """All that it gives."""
    found: Sequence[Row[Any]] = (await connection.execute(query)).all()
    return found


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the connection's transaction. RuntimeError says why it cannot be done."""
    from alembic import command  # noqa: PLC0415 - slow to import, and needed once in the life of a database
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
