"""Whether the service can serve now, told in time whatever its database does.

Anybody who reaches the port may ask, so that only the log says where the database is and what ails it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from runner_provisioner.errors import StoreError
from runner_provisioner.logging import get_logger

PATIENCE = 2.0
"""Seconds after which a database that has not answered is one that cannot be used; probes wait little longer."""


log = get_logger("controller")


class Readiness:
    """Looks once at a time: probes that come while a look is under way share it, so that none pile up."""

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        """`check` fails with StoreError where nothing could be kept; it is never cancelled."""
        self._check = check
        self._look: asyncio.Task[str] | None = None
        self._known = ""

    async def why_not(self) -> str:
        """Why nothing could be kept now; "" when all is well. Never later than PATIENCE."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._reason())
        done, _ = await asyncio.wait({self._look}, timeout=PATIENCE)
        return self._look.result() if done else f"the database has not answered for {PATIENCE:.0f} seconds"

    async def _reason(self) -> str:
        try:
            await self._check()
        except StoreError as error:
            # Once for each reason: probes come every few seconds.
            if self._known != (reason := str(error)):
                log.warning("not_ready", reason=reason)
            self._known = reason
            return "the database cannot be used: the log of the service says why"
        self._known = ""
        return ""
