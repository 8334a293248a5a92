"""Whether a start may rent where no provider ends a forgotten pod."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from runner_provisioner.domain.kill_layers import layers, say_layers, without_kill_time
from runner_provisioner.domain.ladder import Ladder
from runner_provisioner.errors import RunnerProvisionerError
from runner_provisioner.ports import GpuProvider, ends_from_inside, has_kill_time

Cleaned = Callable[[], Awaitable[bool | None]]
"""Whether a scheduled clean-up has succeeded of late; None = that cannot be told. May raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillTimes:
    """One who decides it: `accepted` is what the user said, `cleaned` is asked only where it matters."""

    providers: Mapping[str, GpuProvider]
    accepted: bool = False
    cleaned: Cleaned | None = None

    async def allowed(self, found: Ladder) -> tuple[Ladder, bool]:
        """The rungs that may be rented, and whether a pod without a kill time may be.

        To be asked after the offers: a provider may have learned meanwhile that it has no kill time any more.
        """
        if self.accepted:
            return found, True
        without = {
            name for name in {offer.provider for offer in found.rungs} if not has_kill_time(self.providers[name])
        }
        if not without:
            return found, False
        if await self._proven():
            return found, True
        return without_kill_time(found, without), False

    async def _proven(self) -> bool:
        if self.cleaned is None:
            return False
        try:
            return await self.cleaned() is True
        except RunnerProvisionerError:
            return False  # what cannot be told is no proof


def layers_at(provider: GpuProvider) -> str:
    """What ends a pod that is rented there now."""
    return say_layers(layers(kill_time=has_kill_time(provider), switch=ends_from_inside(provider)))
