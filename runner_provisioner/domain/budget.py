"""What a job and an installation may cost: the bound of one pod, and what is left of a day's or a month's budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_UP, Decimal
from enum import StrEnum

from runner_provisioner.domain.durations import show_duration
from runner_provisioner.domain.history import PodRecord
from runner_provisioner.domain.ladder import Ladder, Refusal
from runner_provisioner.domain.money import BID_STEP, CENT
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import PodId
from runner_provisioner.errors import BudgetExceeded


class Strictness(StrEnum):
    """What becomes of a start for which a budget has nothing left, or cannot be reckoned."""

    ENFORCE = "enforce"
    ADVISORY = "advisory"  # it is told, and the start goes on


class Span(StrEnum):
    """What a budget is for: the calendar day or month, UTC."""

    DAY = "day"
    MONTH = "month"

    def begin(self, now: datetime) -> datetime:
        """When the one that `now` is in began."""
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return day if self is Span.DAY else day.replace(day=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one pod may cost: `lifetime` is its longest, `least` the shortest that makes sense (the start timeout).

    `max_cost` is for all pods of the job, of which earlier ones have cost `spent`.
    """

    lifetime: timedelta
    least: timedelta = timedelta()
    max_price: Decimal | None = None
    max_cost: Decimal | None = None
    spent: Decimal = Decimal(0)

    @property
    def left(self) -> Decimal | None:
        """What the next pod may cost, USD; None where there is no `max_cost`."""
        return None if self.max_cost is None else max(Decimal(0), self.max_cost - self.spent)

    def after(self, cost: Decimal) -> Terms:
        """The terms for the next pod, when one has cost this much."""
        return replace(self, spent=self.spent + cost)

    def lifetime_at(self, price: Decimal) -> timedelta:
        """How long a pod of that price may live, in whole seconds: its cost never exceeds what is `left`."""
        if self.left is None or price <= 0:
            return self.lifetime
        bought = self.left * 3600 / price
        return self.lifetime if bought >= self.lifetime.total_seconds() else timedelta(seconds=int(bought))

    def worst(self, price: Decimal) -> Decimal:
        """What a pod of that price costs when it lives as long as it may, USD, rounded up."""
        seconds = Decimal(str(self.lifetime_at(price).total_seconds()))
        return (price * seconds / 3600).quantize(BID_STEP, rounding=ROUND_UP)

    def cap(self, price: Decimal) -> Decimal | None:
        """What the pod of an offer of that price may really cost per hour.

        Its lifetime was drawn up for that price: at a higher one it would cost more than `max_cost` by its end.
        """
        if self.left is None:
            return self.max_price
        seconds = Decimal(str(self.lifetime_at(price).total_seconds()))
        most = self.left * 3600 / seconds
        return most if self.max_price is None else min(most, self.max_price)

    def check(self, offer: Offer) -> None:
        """Raise BudgetExceeded when what is left buys too little of the offer to start, or none of it."""
        lifetime = self.lifetime_at(offer.price)
        if self.left is not None and lifetime <= self.least:
            of_all = f" (all that earlier pods of the job leave of {self.max_cost})" if self.spent else ""
            raise BudgetExceeded(
                f"{self.left} USD{of_all} buy {show_duration(lifetime)} at {offer.price} USD/h, no more than the "
                f"--start-timeout of {show_duration(self.least)}: raise --max-cost"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left of one budget: `spent` is known or feared, `by` says where that is known from."""

    span: Span
    budget: Decimal
    spent: Decimal
    by: str

    @property
    def amount(self) -> Decimal:
        """US dollars; below zero when more was spent."""
        return self.budget - self.spent

    def __str__(self) -> str:
        """One line for a person."""
        return f"{_cents(self.amount)} USD left of the {self.span.value}'s budget of {self.budget} (by {self.by})"


def bounds(
    records: Sequence[PodRecord], since: datetime, now: datetime, billed: Mapping[PodId, Decimal] | None = None
) -> Decimal:
    """What pods have cost since then at most: each up to its end, or to the end of its lifetime, or now.

    `billed` is what the provider says of them; where that is more in all, it counts.
    """
    own = sum((_cost(record, since, now) for record in records), Decimal(0))
    theirs = sum((billed.get(record.id, Decimal(0)) for record in records), Decimal(0)) if billed else Decimal(0)
    return max(own, theirs)


def presumed(record: PodRecord, now: datetime, *, listed: bool) -> PodRecord:
    """The record with the latest end that its pod can have had, where nobody noted one and no list shows it any more.

    One that a list may not show yet, or that outlives its lifetime, has no end.
    """
    if listed or record.ended_at is not None or record.expires_at > now:
        return record
    return replace(record, ended_at=record.expires_at)


def spent_on(job: RunKey, records: Iterable[PodRecord], now: datetime) -> Decimal:
    """What the pods of a job have cost, over all attempts of its run.

    One whose end nobody noted is taken to have billed until now, or to the end of its lifetime.
    """
    total = Decimal(0)
    for record in records:
        key = RunKey.parse(record.name)
        if key is not None and replace(key, attempt=job.attempt) == job:
            ended = replace(record, ended_at=record.ended_at or min(record.expires_at, now))
            total += _cost(ended, record.created_at, now)
    return total


def _cost(record: PodRecord, since: datetime, now: datetime) -> Decimal:
    """A pod without an end that is past its lifetime is alive, and bills on."""
    end = record.ended_at or max(record.expires_at, now)
    seconds = max(0.0, (end - max(record.created_at, since)).total_seconds())
    return (record.price * Decimal(str(seconds)) / 3600).quantize(BID_STEP, rounding=ROUND_UP)


def affordable(found: Ladder, terms: Terms, left: Sequence[Left] = ()) -> Ladder:
    """The ladder without the rungs whose pod could cost more than the job or a budget may."""
    rungs: list[Offer] = []
    refusals = list(found.refusals)
    for offer in found.rungs:
        try:
            terms.check(offer)
            check_left(offer, terms, left)
        except BudgetExceeded as error:
            refusals.append(Refusal(offer=offer, error=error))
        else:
            rungs.append(offer)
    return Ladder(rungs=tuple(rungs), refusals=tuple(refusals))


def check_left(offer: Offer, terms: Terms, left: Sequence[Left]) -> None:
    """Raise BudgetExceeded when a pod of the offer could cost more than is left of one of the budgets."""
    worst = terms.worst(offer.price)
    for one in left:
        if worst > one.amount:
            span = one.span.value
            cheaper = (
                "shorten --lifetime, give start a --max-cost" if one.amount > 0 else f"wait until the {span} is over"
            )
            raise BudgetExceeded(
                f"it may cost {_cents(worst)} USD until its lifetime of "
                f"{show_duration(terms.lifetime_at(offer.price))} ends, and {one}: {cheaper}, or raise "
                f"--budget-{span} (RUNNER_PROVISIONER_BUDGET_{one.span.name})"
            )


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What an installation may spend, USD; None sets no bound."""

    day: Decimal | None = None
    month: Decimal | None = None
    strictness: Strictness = Strictness.ENFORCE
    spans: Mapping[Span, Decimal] = field(init=False)

    def __post_init__(self) -> None:
        """Keep those that are set."""
        given = {Span.DAY: self.day, Span.MONTH: self.month}
        object.__setattr__(self, "spans", {span: most for span, most in given.items() if most is not None})
