"""What a job may cost, and what is left of an installation's budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import NAME, OWNER8, FakeHistory, FakeProvider, Memory, offer, pod, tags

from runner_provisioner.domain.budget import (
    Budget,
    Left,
    Span,
    Strictness,
    Terms,
    affordable,
    bounds,
    presumed,
    spent_on,
)
from runner_provisioner.domain.history import OfferKind, PodRecord
from runner_provisioner.domain.ladder import Ladder
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.pods import PodId
from runner_provisioner.errors import BudgetExceeded, RunnerProvisionerError, ServerError, StoreError
from runner_provisioner.services.budget import Purse
from runner_provisioner.testing.clock import EPOCH, FakeClock

HOUR = timedelta(hours=1)
KIND = OfferKind.of(offer())
TERMS = Terms(lifetime=6 * HOUR, least=timedelta(minutes=20), max_price=Decimal(1), max_cost=Decimal("0.50"))
PRICES = st.decimals("0.01", "20", places=4)


def record(pod_id: str = "old", *, created: datetime = EPOCH, **more: object) -> PodRecord:
    """An hour of a pod at one dollar, not known to have ended."""
    values: dict[str, object] = {
        "provider": "fake",
        "id": PodId(pod_id),
        "name": f"rp-{OWNER8}-other-1-default",
        "kind": KIND,
        "price": Decimal(1),
        "list_price": Decimal(1),
        "created_at": created,
        "expires_at": created + HOUR,
    }
    return PodRecord(**{**values, **more})  # type: ignore[arg-type] # fields of a record


# -- one job


def test_the_max_cost_of_a_job_sets_the_lifetime_of_its_pod() -> None:
    """Half a dollar is two hours at a quarter; a cheap pod keeps the lifetime that was asked for."""
    assert TERMS.lifetime_at(Decimal("0.25")) == 2 * HOUR
    assert TERMS.lifetime_at(Decimal("0.01")) == 6 * HOUR
    assert TERMS.lifetime_at(Decimal(0)) == 6 * HOUR
    assert replace(TERMS, max_cost=None).lifetime_at(Decimal(9)) == 6 * HOUR
    assert replace(TERMS, max_cost=Decimal(10**6)).lifetime_at(Decimal("1e-9")) == 6 * HOUR


@given(PRICES, PRICES)
def test_no_pod_can_cost_more_than_the_max_cost(price: Decimal, most: Decimal) -> None:
    """Neither at its offer's price, nor at the highest price that it is kept at."""
    terms = replace(TERMS, max_price=None, max_cost=most)
    lifetime = terms.lifetime_at(price)
    if lifetime <= terms.least:
        with pytest.raises(BudgetExceeded, match="raise --max-cost"):
            terms.check(offer(price=str(price)))
        return
    terms.check(offer(price=str(price)))
    assert terms.worst(price) <= most + Decimal("0.0001")
    cap = terms.cap(price)
    assert cap is not None
    assert cap >= price
    assert cap * Decimal(str(lifetime.total_seconds())) / 3600 <= most + Decimal("0.0001")


def test_the_cap_of_a_pod_is_the_lower_of_the_two() -> None:
    """Above the price on which its lifetime was reckoned it would cost more than the job may."""
    assert TERMS.cap(Decimal("0.25")) == Decimal("0.25")
    assert replace(TERMS, max_price=Decimal("0.2")).cap(Decimal("0.10")) == Decimal("0.1")
    assert replace(TERMS, max_price=Decimal("0.05")).cap(Decimal("0.01")) == Decimal("0.05")
    assert replace(TERMS, max_cost=None).cap(Decimal("0.25")) == Decimal(1)


def test_rungs_that_cannot_be_afforded_are_refusals() -> None:
    """The one that leaves no time to start, and the one that a budget does not bear to its end."""
    dear, middle, cheap = offer(price="5"), offer("B", price="0.30"), offer("C", price="0.01")
    left = (
        Left(span=Span.DAY, budget=Decimal(10), spent=Decimal("9.9"), by="our records"),
        Left(span=Span.MONTH, budget=Decimal(90), spent=Decimal(1), by="our records"),
    )
    found = affordable(Ladder(rungs=(dear, middle, cheap), refusals=()), TERMS, left)
    assert found.rungs == (cheap,)
    assert [one.offer for one in found.refusals] == [dear, middle]
    assert "--max-cost" in str(found.refusals[0].error)
    why = str(found.refusals[1].error)
    assert "0.10 USD left of the day's budget of 10" in why
    assert "raise --budget-day" in why


def test_all_pods_of_a_job_share_its_max_cost() -> None:
    """What earlier ones have cost shortens the next; where too little is left, the line says why."""
    terms = TERMS.after(Decimal("0.30"))
    assert terms.lifetime_at(Decimal("0.25")) == HOUR * 4 / 5
    assert terms.cap(Decimal("0.25")) == Decimal("0.25")
    with pytest.raises(BudgetExceeded, match=r"0\.20 USD \(all that earlier pods of the job leave of 0\.50\) buy 12m"):
        terms.check(offer(price="1"))
    with pytest.raises(BudgetExceeded, match=r"^0 USD .* buy 0s"):
        TERMS.after(Decimal(9)).check(offer(price="0.01"))


def test_a_job_has_cost_what_its_pods_of_all_attempts_have() -> None:
    """Each to its end; one whose end nobody noted until now, or to the end of its lifetime."""
    job = RunKey(owner8=OWNER8, run="zz", attempt=3, key="train")
    named = {one: f"rp-{OWNER8}-{one}" for one in ("zz-1-train", "zz-2-train", "zz-3-train", "zz-1-test", "yy-1-train")}
    records = [
        record("a", name=named["zz-1-train"], ended_at=EPOCH + HOUR / 2),
        record("b", name=named["zz-2-train"]),
        record("c", name=named["zz-3-train"], created=EPOCH + 2 * HOUR),
        *(record(one, name=named[one]) for one in ("zz-1-test", "yy-1-train")),
        record("d", name="rpm-0123abcd-zz-abcd"),
    ]
    assert spent_on(job, records, EPOCH + 9 * HOUR / 4) == Decimal("1.75")
    assert spent_on(replace(job, owner8="00000000"), records, EPOCH) == 0


def test_a_budget_that_is_used_up_is_waited_for() -> None:
    """A shorter pod would not help."""
    none = Left(span=Span.DAY, budget=Decimal(10), spent=Decimal(11), by="our records")
    found = affordable(Ladder(rungs=(offer(price="0.3"),), refusals=()), TERMS, (none,))
    assert "-1.00 USD left of the day's budget of 10 (by our records): wait until the day is over, or raise" in str(
        found.refusals[0].error
    )


# -- the installation


def test_days_and_months_begin_at_midnight_utc() -> None:
    """Whatever the time of day."""
    now = datetime(2026, 11, 21, 13, 14, 15, 9, tzinfo=UTC)
    assert Span.DAY.begin(now) == datetime(2026, 11, 21, tzinfo=UTC)
    assert Span.MONTH.begin(now) == datetime(2026, 11, 1, tzinfo=UTC)


def test_a_pod_counts_to_its_confirmed_end_and_a_live_one_to_its_lifetime() -> None:
    """And one past its lifetime that has no end is alive, and bills on."""
    ended = record(ended_at=EPOCH + HOUR / 2)
    assert bounds([ended], EPOCH, EPOCH + HOUR) == Decimal("0.5")
    assert bounds([record()], EPOCH, EPOCH) == Decimal(1)
    assert bounds([record()], EPOCH, EPOCH + 3 * HOUR) == Decimal(3)
    assert bounds([ended], EPOCH + HOUR / 4, EPOCH + HOUR) == Decimal("0.25")
    assert bounds([ended], EPOCH + HOUR, EPOCH + HOUR) == 0


def test_a_pod_that_no_list_shows_ends_with_its_lifetime_at_the_latest() -> None:
    """One that a list may not show yet has no end, nor has one that outlives its lifetime; a noted end stays."""
    later = EPOCH + 240 * HOUR
    assert presumed(record(), later, listed=False).ended_at == EPOCH + HOUR
    assert presumed(record(), later, listed=True).ended_at is None
    assert presumed(record(), EPOCH, listed=False).ended_at is None
    assert presumed(record(ended_at=EPOCH), later, listed=False).ended_at == EPOCH


def test_the_larger_of_our_records_and_the_providers_bill_counts() -> None:
    """Over the pods that we have recorded, and no others."""
    bill = {PodId("old"): Decimal("1.5"), PodId("not ours"): Decimal(99)}
    assert bounds([record()], EPOCH, EPOCH, bill) == Decimal("1.5")
    assert bounds([record()], EPOCH, EPOCH, {PodId("old"): Decimal("0.2")}) == Decimal(1)


class BillingProvider(FakeProvider):
    """A FakeProvider that bills per pod."""

    async def billed(self, pods: Sequence[PodId], since: datetime) -> Mapping[PodId, Decimal]:
        """Seven dollars each."""
        self.meet("billed")
        return dict.fromkeys(pods, Decimal(7))


class SpendingProvider(FakeProvider):
    """A FakeProvider that tells what the account has spent."""

    async def spent(self, since: datetime) -> Decimal:
        """Four dollars."""
        self.meet("spent")
        return Decimal(4)


class Till:
    """A purse and everything around it, at noon."""

    def __init__(self, *records: PodRecord, kind: type[FakeProvider] = FakeProvider) -> None:
        self.clock = FakeClock()
        self.provider = kind(self.clock)
        self.history: FakeHistory | None = FakeHistory(*records)
        self.memory = Memory()
        self.budget = Budget(day=Decimal(10))

    @property
    def purse(self) -> Purse:
        """Made anew, as each start makes its own."""
        return Purse(
            self.budget,
            providers={"fake": self.provider},
            history=self.history,
            clock=self.clock,
            events=self.memory,
            owner8=OWNER8,
            lifetime=6 * HOUR,
        )

    async def left(self) -> dict[str, str]:
        """What is left of each budget."""
        return {one.span.value: str(one.amount.normalize()) for one in await self.purse.left()}


async def test_without_a_budget_nothing_is_asked() -> None:
    """Neither the records nor the provider."""
    till = Till()
    till.budget = Budget()
    assert await till.purse.enforced() == ()
    await till.purse.confirm(pod())
    assert till.history is not None
    assert not till.history.calls
    assert not till.provider.calls


async def test_records_are_counted_against_day_and_month() -> None:
    """Each from its own beginning; one that ended before counts for neither."""
    now = EPOCH + timedelta(days=20)
    today, month = Span.DAY.begin(now), Span.MONTH.begin(now)
    till = Till(
        record("a", created=today, ended_at=today + HOUR),
        record("b", created=month, ended_at=month + 2 * HOUR),
        record("c", created=month - 9 * HOUR, ended_at=month - HOUR),
    )
    till.clock = FakeClock(now)
    till.budget = Budget(day=Decimal(10), month=Decimal(100))
    assert await till.left() == {"day": "9", "month": "97"}
    await till.purse.enforced()
    assert [one.fields["span"] for one in till.memory.told("budget_left")] == ["day", "month"]


async def test_a_pod_whose_end_nobody_noted_costs_no_more_than_its_lifetime() -> None:
    """Unless it is still there: then it bills on."""
    today = Span.DAY.begin(EPOCH)
    till = Till(record("a", created=today))
    till.clock = FakeClock(today + 9 * HOUR)
    assert await till.left() == {"day": "9"}
    till.provider.pods = {PodId("a"): pod(pod_id="a")}
    assert await till.left() == {"day": "1"}
    till.provider.pods = {}
    till.clock = FakeClock(today + 240 * HOUR)
    assert await till.left() == {"day": "1E+1"}


async def test_live_pods_that_another_machine_rented_count() -> None:
    """They are in no record here; the provider's list shows them, up to the end that their tags say."""
    till = Till(record("known"))
    end = till.clock.now() + 2 * HOUR
    till.provider.pods = {
        PodId("known"): pod(pod_id="known"),
        PodId("other"): pod(pod_id="other", price=Decimal(2), tags=tags(expires_at=end), created_at=till.clock.now()),
        PodId("bare"): pod(pod_id="bare", price=None, created_at=None),
    }
    assert await till.left() == {"day": "5"}
    till.provider.pods[PodId("bare")] = pod(pod_id="bare", created_at=None, price=Decimal("0.5"))
    assert await till.left() == {"day": "2"}


async def test_a_providers_bill_counts_where_it_is_more() -> None:
    """It is asked for our pods alone."""
    till = Till(record(), kind=BillingProvider)
    assert await till.left() == {"day": "3"}
    till.provider.add("billed", ServerError("later"))
    assert await till.left() == {"day": "9"}
    assert [one.fields["error"] for one in till.memory.told("bill_unknown")] == ["later"]


async def test_lost_records_refuse_the_start_unless_the_budget_is_advisory() -> None:
    """Nobody knows what was spent; the line says what to do."""
    till = Till()
    till.history = None
    with pytest.raises(BudgetExceeded, match="HISTORY is off"):
        await till.purse.enforced()
    till.history = FakeHistory(record("today", ended_at=EPOCH + HOUR), began_at=None)
    with pytest.raises(BudgetExceeded, match=r"--budget-(day|month) cannot be reckoned: .*lost cache"):
        await till.purse.enforced()
    with pytest.raises(BudgetExceeded, match="lost cache"):
        await till.purse.left()
    till.budget = replace(till.budget, strictness=Strictness.ADVISORY)
    await till.purse.left()
    assert till.history.began_at is None
    assert await till.purse.enforced() == ()
    assert len(till.memory.told("budget_unknown")) == 2


async def test_records_begin_with_a_start_that_was_told_what_is_not_known() -> None:
    """From then on budgets are reckoned; a history that cannot be written is told."""
    till = Till()
    till.history = FakeHistory(began_at=None)
    till.budget = replace(till.budget, strictness=Strictness.ADVISORY)
    till.history.add("begin", StoreError("disk full"))
    await till.purse.enforced()
    assert [one.fields["error"] for one in till.memory.told("budget_unknown")][1:] == ["disk full"]
    await till.purse.enforced()
    assert till.history.began_at == till.clock.now()
    till.budget = replace(till.budget, strictness=Strictness.ENFORCE)
    assert len(await till.purse.enforced()) == 1


async def test_a_pod_from_before_the_day_proves_that_the_records_reach_back() -> None:
    """Whoever has had a history for longer goes on without a word."""
    now = EPOCH + timedelta(days=20)
    yesterday = Span.DAY.begin(now) - 5 * HOUR
    till = Till(record("a", created=yesterday, ended_at=yesterday + HOUR))
    till.clock = FakeClock(now)
    assert till.history is not None
    till.history.began_at = None
    assert await till.left() == {"day": "1E+1"}
    till.budget = Budget(month=Decimal(10))
    with pytest.raises(BudgetExceeded, match="lost cache"):
        await till.left()


async def test_what_the_account_has_spent_stands_in_for_lost_records() -> None:
    """An upper bound: what live pods of ours may still cost comes on top."""
    till = Till(kind=SpendingProvider)
    till.history = FakeHistory(began_at=None)
    now = till.clock.now()
    till.provider.pods = {PodId("a"): pod(pod_id="a", price=Decimal(1), tags=tags(expires_at=now + HOUR))}
    (left,) = await till.purse.left()
    assert (left.amount, left.by) == (Decimal(5), "what the account has spent")


async def test_records_that_begin_later_are_counted_from_there_and_that_is_told() -> None:
    """The day on which an installation begins has no earlier records."""
    till = Till(record("a", ended_at=EPOCH + HOUR / 2))
    assert till.history is not None
    till.history.began_at = till.clock.now()
    assert await till.left() == {"day": "9.5"}
    assert len(till.memory.told("budget_incomplete")) == 1


@pytest.mark.parametrize("error", [ServerError("down"), StoreError("locked")], ids=["provider", "records"])
async def test_a_look_that_fails_refuses_or_is_told(error: RunnerProvisionerError) -> None:
    """Before anything is rented; after that the first look holds."""
    till = Till()
    assert till.history is not None
    queue = till.provider if isinstance(error, ServerError) else till.history
    queue.add("list" if isinstance(error, ServerError) else "pods", *[error] * 3)
    with pytest.raises(type(error)):
        await till.purse.enforced()
    await till.purse.confirm(pod())
    assert len(till.memory.told("budget_unknown")) == 1
    till.budget = replace(till.budget, strictness=Strictness.ADVISORY)
    assert await till.purse.enforced() == ()
    assert len(till.memory.told("budget_unknown")) == 2


async def test_an_advisory_budget_is_told_and_binds_nothing() -> None:
    """Also when it is overdrawn."""
    till = Till(record(price=Decimal(50)))
    till.budget = replace(till.budget, strictness=Strictness.ADVISORY)
    assert await till.purse.enforced() == ()
    assert str(till.memory.told("budget_left")[0].fields["left"]).startswith("-40")
    await till.purse.confirm(pod())


async def test_of_two_pods_that_exceed_a_budget_together_the_younger_goes() -> None:
    """Each start looks again; the older one does not count the younger."""
    till = Till()
    now = till.clock.now()
    end = tags(expires_at=now + HOUR)
    older = pod(pod_id="a", price=Decimal(6), created_at=now, tags=end)
    younger = pod(f"{NAME}x", pod_id="b", price=Decimal(6), created_at=now, tags=end)
    till.provider.pods = {older.id: older, younger.id: younger}
    await till.purse.confirm(older)
    with pytest.raises(BudgetExceeded, match="another start"):
        await till.purse.confirm(younger)
    till.history = FakeHistory(began_at=None)
    await till.purse.confirm(replace(younger, created_at=None))
