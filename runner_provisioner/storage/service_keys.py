"""The service's own keys and its audit log, in an open database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from runner_provisioner.domain.api_keys import ApiKey, Permission
from runner_provisioner.domain.served import AuditEntry
from runner_provisioner.errors import StaleWrite
from runner_provisioner.storage.stores import Opened, rows
from runner_provisioner.storage.tables import API_KEYS, AUDIT

_FIELDS = ("id", "name", "permission", "digest", "created_at", "expires_at", "revoked_at", "budget")
_ENTRY = ("at", "request_id", "operation", "key_id", "target", "provider", "status", "error", "client")


class KeyTable:
    """`ports.ApiKeys`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def add(self, key: ApiKey) -> None:
        """Keep it; StaleWrite when its id or its name is taken."""
        row = {name: getattr(key, name) for name in _FIELDS} | {"permission": key.permission.value}
        async with self._opened() as store, store.writing() as connection:
            added = store.insert(API_KEYS).values(row).on_conflict_do_nothing().returning(API_KEYS.c.id)
            if (await connection.execute(added)).first() is None:
                raise StaleWrite(f"there is a key named '{key.name}' already: give another name, or revoke that one")

    async def all(self) -> Sequence[ApiKey]:
        """Every key, oldest first."""
        async with self._opened() as store, store.reading() as connection:
            found = await rows(connection, select(API_KEYS).order_by(API_KEYS.c.created_at, API_KEYS.c.id))
            return [_key_of(row) for row in found]

    async def revoke(self, key_id: str, at: datetime) -> ApiKey | None:
        """The first moment stays."""
        this = API_KEYS.c.id == key_id
        async with self._opened() as store, store.writing() as connection:
            await connection.execute(
                update(API_KEYS).where(this, API_KEYS.c.revoked_at.is_(None)).values(revoked_at=at)
            )
            found = (await connection.execute(select(API_KEYS).where(this))).first()
            return _key_of(found) if found is not None else None


class AuditTable:
    """`ports.AuditLog`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def note(self, entry: AuditEntry) -> None:
        """Add it."""
        async with self._opened() as store, store.writing() as connection:
            await connection.execute(insert(AUDIT).values({name: getattr(entry, name) for name in _ENTRY}))

    async def entries(self, since: datetime, *, limit: int = 1000) -> Sequence[AuditEntry]:
        """The latest ones, oldest first."""
        latest = select(AUDIT).where(AUDIT.c.at >= since).order_by(AUDIT.c.at.desc()).limit(limit)
        async with self._opened() as store, store.reading() as connection:
            found = await rows(connection, latest)
            return [AuditEntry(**row._mapping) for row in reversed(found)]  # noqa: SLF001 - SQLAlchemy's public way to a row by names


def _key_of(row: Row[Any]) -> ApiKey:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public way to a row by names
    return ApiKey(**{**values, "permission": Permission(values["permission"]), "digest": bytes(values["digest"])})
