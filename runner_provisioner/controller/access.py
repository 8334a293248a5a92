"""Who calls, and what they may: bearer keys of the service's own, or nobody in particular on loopback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from runner_provisioner.controller.failures import Forbidden, Unauthenticated
from runner_provisioner.domain.api_keys import ApiKey, KeyStatus, Permission, PlainKey
from runner_provisioner.ports import Clock
from runner_provisioner.service_ports import ApiKeys

FRESH: Final = 1.0  # seconds for which the keys are kept in memory: so long a revoked one may go on
NO_KEY: Final = (
    "send the header Authorization with the word Bearer and a key of this service, rpk_... ('runner-provisioner keys "
    "create' makes one)"  # in words that no redactor takes for a credential
)
_BAD_KEY: Final = "this key is not good here: it is unknown, revoked or expired"
_NAMES: Final = {Permission.READ: "Instances -> Read", Permission.WRITE: "Instances -> Read and Write"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request; without keys nobody in particular."""

    key: ApiKey | None = None

    @property
    def id(self) -> str:
        """The key's id, "" without one."""
        return self.key.id if self.key is not None else ""

    def check(self, needed: Permission) -> None:
        """Raise Forbidden where the key has no such permission."""
        if self.key is not None and not self.key.permission.covers(needed):
            raise Forbidden(f"the key '{self.key.name}' may only read: this needs the permission {_NAMES[needed]}")


class Access:
    """Decides who is let in.

    Without keys everybody is, unless `closed`. Once there has been one, a key is needed for as long as the program
    runs: revoking the last one must not open the door.
    """

    def __init__(self, keys: ApiKeys, *, clock: Clock, closed: bool = False) -> None:
        """`closed`: keys are needed although there are none."""
        self._keys = keys
        self._clock = clock
        self._closed = closed
        self._known: Mapping[str, ApiKey] = {}
        self._read_at: float | None = None

    async def admit(self, authorization: str | None) -> Caller:
        """The caller, whatever it may do. Raises Unauthenticated, StoreError."""
        known = await self._fresh()
        if not self._closed:
            return Caller()
        plain = _bearer(authorization)
        if plain is None:
            raise Unauthenticated(NO_KEY if authorization is None else _BAD_KEY)
        key = known.get(plain.id)
        opens = plain.opens(key)
        if key is None or not opens or key.status(self._clock.now()) is not KeyStatus.ACTIVE:
            raise Unauthenticated(_BAD_KEY)
        return Caller(key=key)

    async def _fresh(self) -> Mapping[str, ApiKey]:
        now = self._clock.monotonic()
        if self._read_at is None or now - self._read_at > FRESH:
            found = await self._keys.all()
            self._known = {key.id: key for key in found}
            self._closed = self._closed or any(key.revoked_at is None for key in found)
            self._read_at = now
        return self._known


def _bearer(authorization: str | None) -> PlainKey | None:
    scheme, _, token = (authorization or "").partition(" ")
    return PlainKey.parse(token.strip()) if scheme.lower() == "bearer" else None
