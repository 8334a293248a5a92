"""The service's own keys: made, shown, revoked, and told from any other text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

import anyio

from runner_provisioner.domain.api_keys import ID_BYTES, SECRET_BYTES, ApiKey, KeyStatus, Permission, PlainKey
from runner_provisioner.errors import InvalidRequest
from runner_provisioner.ports import ApiKeys, Clock

FRESH = 1.0


class KeyRing:
    """The use cases of `keys`, and the door of the service. Every method may raise StoreError."""

    def __init__(self, keys: ApiKeys, *, clock: Clock, random: Callable[[int], bytes], fresh: float = FRESH) -> None:
        """`random` gives so many random bytes, fit for secrets.

        `check` and `exist` may be `fresh` seconds behind what other processes have made or revoked.
        """
        self._keys = keys
        self._clock = clock
        self._random = random
        self._fresh = fresh
        self._lock = anyio.Lock()
        self._known: Mapping[str, ApiKey] = {}
        self._read_at: float | None = None

    async def create(
        self,
        name: str,
        permission: Permission,
        *,
        lifetime: timedelta | None = None,
        budget: Decimal | None = None,
    ) -> tuple[ApiKey, PlainKey]:
        """Make one and give what is kept of it, and the plain key, which nobody can give again.

        Raises InvalidRequest for what can be no name, lifetime or budget (USD), StaleWrite when the name is taken.
        """
        plain = PlainKey.of(self._random(ID_BYTES), self._random(SECRET_BYTES))
        now = self._clock.now()
        key = ApiKey(
            id=plain.id,
            name=name,
            permission=permission,
            digest=plain.digest,
            created_at=now,
            expires_at=now + lifetime if lifetime is not None else None,
            budget=budget,
        )
        await self._keys.add(key)
        self._read_at = None
        return key, plain

    async def all(self) -> Sequence[ApiKey]:
        """Every key there ever was, oldest first."""
        return await self._keys.all()

    async def revoke(self, which: str) -> ApiKey:
        """Make a key useless by its id, or by its name while it is not revoked; again is fine by its id.

        Raises InvalidRequest when there is none.
        """
        kept = await self._keys.all()
        found = [one for one in kept if one.id == which]
        found = found or [one for one in kept if one.name == which and one.revoked_at is None]
        revoked = await self._keys.revoke(found[0].id, self._clock.now()) if found else None
        if revoked is None:
            raise InvalidRequest(f"no key '{which}': 'keys list' shows those there are")
        self._read_at = None
        return revoked

    async def check(self, bearer: str) -> ApiKey | None:
        """The key that this is the plain text of; None for one that is unknown, wrong, expired or revoked."""
        plain = PlainKey.parse(bearer)
        if plain is None:
            return None
        kept = (await self._read()).get(plain.id)
        if not plain.opens(kept) or kept is None or kept.status(self._clock.now()) is not KeyStatus.ACTIVE:
            return None
        return kept

    async def exist(self) -> bool:
        """Whether any key is good now."""
        now = self._clock.now()
        return any(one.status(now) is KeyStatus.ACTIVE for one in (await self._read()).values())

    async def _read(self) -> Mapping[str, ApiKey]:
        async with self._lock:
            if self._read_at is None or self._clock.monotonic() - self._read_at >= self._fresh:
                begin = self._clock.monotonic()
                self._known = {one.id: one for one in await self._keys.all()}
                self._read_at = begin
            return self._known
