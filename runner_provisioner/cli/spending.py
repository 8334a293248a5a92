"""What a run's pod has cost, as far as it is known and not guessed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from runner_provisioner.domain.money import cost
from runner_provisioner.domain.names import RunKey
from runner_provisioner.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner_provisioner.github.runs import Job
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


class Jobs:
    """The jobs that runners of ours have run, each run attempt asked of GitHub once."""

    def __init__(self, program: Program, place: Place) -> None:
        """Nothing is asked yet."""
        self._github = program.github
        self._repository = place.repository
        self._known: dict[tuple[int, int], Sequence[Job]] = {}

    async def of(self, name: str) -> Job | None:
        """The job that the runner of this name has taken; None when GitHub does not say."""
        key = RunKey.parse(name)
        if self._github is None or self._repository is None or key is None or key.run_id is None:
            return None
        attempt = (key.run_id, key.attempt)
        if attempt not in self._known:
            try:
                self._known[attempt] = await self._github.runs.jobs(self._repository, *attempt)
            except RemoteError:
                self._known[attempt] = ()
        return next((job for job in self._known[attempt] if job.runner_name == name), None)


async def spent(jobs: Jobs, key: RunKey, rate: Rate, ended: Sequence[Ended], now: datetime) -> Decimal | None:
    """The cost of this key's pod, USD: until now when it was ended just now, else until its job completed.

    None when that is not known. Asks GitHub only when price and beginning are given.
    """
    if rate.price is None or rate.since is None:
        return None
    if any(one.name == key.name and one.pods for one in ended):
        return rate.until(now)
    job = await jobs.of(key.name)
    return rate.until(job.completed_at if job is not None else None)
