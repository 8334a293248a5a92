"""What a run's pod has cost, as far as it is known and not guessed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from runner_provisioner.domain.money import cost
from runner_provisioner.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner_provisioner.domain.names import RunKey
    from runner_provisioner.services.ending import Ended
    from runner_provisioner.wiring import Place, Program


class Moment(click.ParamType[datetime]):
    """A moment as `start` writes it: 2026-11-21T08:44:35Z."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it; without a zone it is UTC."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"'{value}' is not a moment: write for example 2026-11-21T08:44:35Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What `start` said: USD per hour for the whole pod, and since when it is paid for."""

    price: Decimal | None = None
    since: datetime | None = None

    def until(self, end: datetime | None) -> Decimal | None:
        """The cost up to then; None when something of it is not known."""
        if self.price is None or self.since is None or end is None or end < self.since:
            return None
        return cost(self.price, (end - self.since).total_seconds())


async def spent(program: Program, place: Place, key: RunKey, rate: Rate, ended: Sequence[Ended]) -> Decimal | None:
    """The cost of this key's pod, USD: until now when it was ended just now, else until its job completed.

    None when that is not known. Asks GitHub only when price and beginning are given.
    """
    if rate.price is None or rate.since is None:
        return None
    if any(one.name == key.name and one.pods for one in ended):
        return rate.until(program.clock.now())
    return rate.until(await _completed(program, place, key))


async def _completed(program: Program, place: Place, key: RunKey) -> datetime | None:
    """When the job ended that the runner of this key ran; None when GitHub does not say."""
    if program.github is None or place.repository is None or key.run_id is None:
        return None
    try:
        jobs = await program.github.runs.jobs(place.repository, key.run_id, key.attempt)
    except RemoteError:
        return None
    return next((job.completed_at for job in jobs if job.runner_name == key.name), None)
