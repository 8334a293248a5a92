"""One pass over many leases: a single look for all, then each is decided on, saved and acted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from runner_provisioner.domain.leases import Observation, Phase
from runner_provisioner.errors import RunnerProvisionerError
from runner_provisioner.services.observe import Lookout
from runner_provisioner.services.reconcile import Reconciler

AT_ONCE = 32  # leases that act side by side


async def reconcile_all(
    reconcilers: Sequence[Reconciler], lookout: Lookout, *, at_once: int = AT_ONCE
) -> Mapping[str, RunnerProvisionerError]:
    """Move each lease that is not released along by one pass.

    The calls that look do not grow with the leases but with the pages of what is there (see Lookout); who is on the
    way out acts first. An error stops only the lease that it is about: they are given back by the lease's name.
    """
    awake = [one for one in reconcilers if one.lease.phase is not Phase.RELEASED]
    if not awake:
        return {}
    seen = await lookout.look_at([one.lease for one in awake])
    errors: dict[str, RunnerProvisionerError] = {}
    limiter = anyio.CapacityLimiter(at_once)

    async def advance(one: Reconciler, sight: Observation) -> None:
        async with limiter:
            try:
                await one.advance(sight)
                while one.sight_holds:
                    await one.advance(sight)
            except RunnerProvisionerError as error:
                errors[one.lease.name] = error

    async with anyio.create_task_group() as group:
        for one, sight in sorted(zip(awake, seen, strict=True), key=_begins_later):
            group.start_soon(advance, one, sight)
    return errors


def _begins_later(pair: tuple[Reconciler, Observation]) -> bool:
    return pair[0].lease.phase is not Phase.DRAINING
