"""The service's own keys: made, shown and revoked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal

from runner_provisioner.domain.api_keys import ID_BYTES, SECRET_BYTES, ApiKey, Permission, PlainKey
from runner_provisioner.errors import InvalidRequest
from runner_provisioner.ports import Clock
from runner_provisioner.service_ports import ApiKeys


class KeyRing:
    """The use cases of `keys`. Every method may raise StoreError."""

    def __init__(self, keys: ApiKeys, *, clock: Clock, random: Callable[[int], bytes]) -> None:
        """`random` gives so many random bytes, fit for secrets."""
        self._keys = keys
        self._clock = clock
        self._random = random

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
        return revoked
