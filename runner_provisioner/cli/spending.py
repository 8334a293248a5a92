"""What a run's pod has cost, as far as it is known and not guessed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

import click

from runner_provisioner.cli.options import Price
from runner_provisioner.domain.leases import Unknown
from runner_provisioner.domain.money import cost
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.pods import PodState
from runner_provisioner.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner_provisioner.domain.interruptions import Interruption
    from runner_provisioner.domain.pods import Pod
    from runner_provisioner.github.runs import Job
    from runner_provisioner.services.ending import Ended
    from runner_provisioner.wiring import Place, Program

T = TypeVar("T")


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

    def of(self, pod: Pod) -> Rate:
        """What holds for this pod: its own, where `start` spoke of an earlier one.

        As in a re-run of failed jobs, which repeats the stop and not the start.
        """
        begun = pod.created_at
        # What start tells has no fractions of a second.
        if begun is None or self.since is None or self.since >= begun.replace(microsecond=0):
            return self
        return Rate(price=pod.price, since=begun)

    def until(self, end: datetime | None) -> Decimal | None:
        """The cost up to then; None when something of it is not known."""
        if self.price is None or self.since is None or end is None or end < self.since:
            return None
        return cost(self.price, (end - self.since).total_seconds())


def rate_of(price: str | None, since: str | None) -> tuple[Rate, list[str]]:
    """What was given of it, as far as it can be read, and one line for each that cannot."""
    faults: list[str] = []

    def read(option: str, kind: click.ParamType[T], text: str | None) -> T | None:
        try:
            return None if text is None else kind.convert(text, None, None)
        except click.BadParameter as error:
            faults.append(f"{option}: {error.message}; it is left aside")
            return None

    rate = Rate(price=read("--price-per-hour", Price(), price), since=read("--started-at", Moment(), since))
    if rate.price is not None and rate.price < 0:
        faults.append(f"--price-per-hour: {rate.price} is no price: give at least 0; it is left aside")
        rate = replace(rate, price=None)
    return rate, faults


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
        if key is None or key.run_id is None:
            return None
        return next((job for job in await self._all(key.run_id, key.attempt) if job.runner_name == name), None)

    async def belongs(self, moment: datetime, key: RunKey) -> bool:
        """Whether a moment can belong to this attempt: it begins when all jobs of the one before have ended."""
        if key.run_id is None or key.attempt == 1:
            return True
        before = await self._all(key.run_id, key.attempt - 1)
        return all(job.completed_at is None or job.completed_at <= moment for job in before)

    async def _all(self, run_id: int, attempt: int) -> Sequence[Job]:
        if self._github is None or self._repository is None:
            return ()
        if (run_id, attempt) not in self._known:
            try:
                self._known[run_id, attempt] = await self._github.runs.jobs(self._repository, run_id, attempt)
            except RemoteError:
                self._known[run_id, attempt] = ()
        return self._known[run_id, attempt]


async def spent(
    jobs: Jobs,
    key: RunKey,
    rate: Rate,
    ended: Sequence[Ended],
    now: datetime,
    interruption: Interruption | None = None,
) -> Decimal | None:
    """The cost of this key's pod, USD: until it was taken back, or was ended just now, or else its job completed.

    None when that is not known. Asks GitHub only when price and beginning are given.
    """
    since = rate.since
    if rate.price is None or since is None:
        return None
    pod = only_pod(key, ended)
    if pod is None and not await jobs.belongs(since, key):
        return None
    rate = rate.of(pod) if pod is not None else rate
    if interruption is not None or (pod is not None and pod.state in {PodState.INTERRUPTED, PodState.STOPPED}):
        return rate.until(pod.stopped_at if pod is not None else None)
    if any(one.name == key.name and one.pods for one in ended):
        return rate.until(now)
    job = await jobs.of(key.name)
    return rate.until(job.completed_at if job is not None else None)


def only_pod(key: RunKey, ended: Sequence[Ended]) -> Pod | None:
    """What the one pod of this key was before it was ended; None when there was none, or more than one."""
    first = next((one.first for one in ended if one.name == key.name), None)
    seen = first.pods if first is not None else ()
    return seen[0] if not isinstance(seen, Unknown) and len(seen) == 1 else None
