"""Which offers are tried, at what price, and what is said when none is taken."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.ladder import Ladder, Refusal, check, ladder, nothing_rented
from runner_provisioner.domain.money import automatic_bid, cost
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer
from runner_provisioner.errors import (
    AllOffersFailed,
    AuthenticationFailed,
    BidTooLow,
    BudgetExceeded,
    CapacityUnavailable,
    InvalidRequest,
    RunnerProvisionerError,
    SpotDiscontinued,
)

REQUEST = GpuRequest(
    models=("A4000", "A5000"), count=1, interruptible=Interruptible.PREFER, max_price=Decimal("1.00"), bid=None
)


def offer(model: str, price: str, *, spot: bool = False, minimum: str | None = None) -> Offer:
    """An offer of one GPU."""
    return Offer(
        provider="runpod",
        id=f"{model}-{spot}",
        gpu_model=model,
        gpu_count=1,
        price=Decimal(price),
        interruptible=spot,
        minimum_bid=Decimal(minimum) if minimum else None,
    )


OFFERS = (
    offer("A5000", "0.30"),
    offer("A4000", "0.20"),
    offer("A5000", "0.16", spot=True, minimum="0.16"),
    offer("A4000", "0.10", spot=True, minimum="0.10"),
)


def names(found: Ladder) -> list[str]:
    """The rungs in short."""
    return [f"{one.gpu_model}{'/spot' if one.interruptible else ''}" for one in found.rungs]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Interruptible.PREFER, ["A4000/spot", "A5000/spot", "A4000", "A5000"]),
        (Interruptible.REQUIRE, ["A4000/spot", "A5000/spot"]),
        (Interruptible.NEVER, ["A4000", "A5000"]),
    ],
    ids=str,
)
def test_rungs_go_by_kind_then_by_the_order_of_the_models(wish: Interruptible, expected: list[str]) -> None:
    """Interruptible offers come first where they are wanted."""
    assert names(ladder(OFFERS, replace(REQUEST, interruptible=wish))) == expected


def test_a_model_that_was_not_named_comes_last() -> None:
    """A provider may list more than was asked for."""
    assert names(ladder((offer("H100", "0.01"), offer("a5000", "0.30")), REQUEST)) == ["a5000", "H100"]


def test_the_automatic_bid_is_a_tenth_above_the_minimum_and_never_above_the_cap() -> None:
    """The rung's price is what the pod may cost."""
    found = ladder((offer("A4000", "0.10", spot=True, minimum="0.10"),), REQUEST)
    assert found.rungs[0].price == Decimal("0.1100")
    near = ladder((offer("A4000", "0.95", spot=True),), REQUEST)
    assert near.rungs[0].price == Decimal("1.0000")


def test_a_bid_of_the_user_is_taken_as_it_is() -> None:
    """Nothing is added to it."""
    assert ladder(OFFERS, replace(REQUEST, bid=Decimal("0.33"))).rungs[0].price == Decimal("0.33")


def test_a_bid_under_the_minimum_is_refused_with_the_minimum() -> None:
    """BidTooLow comes before any create call; on-demand offers stay."""
    found = ladder(OFFERS, replace(REQUEST, bid=Decimal("0.12")))
    assert names(found) == ["A4000/spot", "A4000", "A5000"]
    (refusal,) = found.refusals
    assert isinstance(refusal.error, BidTooLow)
    assert "0.16" in str(refusal)


def test_offers_above_the_cap_are_refused() -> None:
    """Both kinds, each with its reason."""
    found = ladder(OFFERS, replace(REQUEST, max_price=Decimal("0.05")))
    assert not found.rungs
    error = nothing_rented(replace(REQUEST, max_price=Decimal("0.05")), found.refusals)
    assert isinstance(error, BudgetExceeded)
    assert "0.10" in str(error)
    assert "--max-price" in str(error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": ()},
        {"count": 0},
        {"max_price": Decimal(0)},
        {"bid": Decimal(0)},
        {"bid": Decimal("1.01")},
    ],
    ids=["no-model", "no-gpu", "no-money", "no-bid", "bid-above-cap"],
)
def test_a_request_that_can_never_succeed_is_refused(wrong: dict[str, object]) -> None:
    """One line, before anything is asked."""
    with pytest.raises(InvalidRequest):
        check(replace(REQUEST, **wrong))  # type: ignore[arg-type] # the fields of a request
    check(REQUEST)


def _refused(*errors: RunnerProvisionerError) -> list[Refusal]:
    return [Refusal(offer=OFFERS[0], error=error) for error in errors]


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((), AllOffersFailed),
        ((BidTooLow("low"), BidTooLow("low")), BidTooLow),
        ((SpotDiscontinued("gone"),), SpotDiscontinued),
        ((CapacityUnavailable("none"), AuthenticationFailed("key")), AuthenticationFailed),
        ((CapacityUnavailable("none"), BudgetExceeded("dear")), AllOffersFailed),
        ((CapacityUnavailable("none"),) * 11, AllOffersFailed),
    ],
    ids=["no-offer", "bids", "spot-gone", "a-decisive-one", "mixed", "many"],
)
def test_the_last_word_names_the_cause_that_can_be_acted_on(
    errors: tuple[RunnerProvisionerError, ...], kind: type[RunnerProvisionerError]
) -> None:
    """All attempts are in the error, a few in its line."""
    error = nothing_rented(REQUEST, _refused(*errors))
    assert type(error) is kind
    if isinstance(error, AllOffersFailed):
        assert len(error.attempts) == len(errors)
    if len(errors) == 11:
        assert "and 3 more" in str(error)


@pytest.mark.parametrize(
    ("wish", "word"), [("require", "interruptible "), ("never", "on-demand "), ("prefer", "no offer")]
)
def test_no_offer_at_all_says_of_which_kind(wish: str, word: str) -> None:
    """The reader learns what was looked for."""
    assert word in str(nothing_rented(replace(REQUEST, interruptible=Interruptible(wish)), []))


@given(st.decimals("0.0001", "50", places=4), st.decimals("0.0001", "50", places=4))
def test_an_automatic_bid_never_exceeds_the_cap(minimum: Decimal, cap: Decimal) -> None:
    """Whatever the market says."""
    assert automatic_bid(minimum, cap) <= cap


def test_cost_is_by_the_second() -> None:
    """An hour costs the price."""
    assert cost(Decimal("0.36"), 3600) == Decimal("0.3600")
    assert cost(Decimal("0.36"), 10) == Decimal("0.0010")
