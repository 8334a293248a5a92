"""What is bid for an interruptible pod, read strictly and never above the cap."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.bids import RAISES, Bid, BidForm, first_bid, raised
from runner_provisioner.errors import InvalidRequest

PRICES = st.decimals("0.0001", "100", places=4)


@pytest.mark.parametrize(
    ("text", "amount", "form"),
    [
        ("0.25", "0.25", BidForm.ABSOLUTE),
        (" .5 ", ".5", BidForm.ABSOLUTE),
        ("min+10%", "10", BidForm.ABOVE_MINIMUM),
        ("MIN + 2.5 %", "2.5", BidForm.ABOVE_MINIMUM),
        ("min+0%", "0", BidForm.ABOVE_MINIMUM),
        ("60% of on-demand", "60", BidForm.OF_ON_DEMAND),
        ("100%", "100", BidForm.OF_ON_DEMAND),
    ],
    ids=str,
)
def test_a_bid_has_three_forms(text: str, amount: str, form: BidForm) -> None:
    """A price, a distance from the minimum, a share of the on-demand price."""
    bid = Bid.parse(text)
    assert (bid.amount, bid.form) == (Decimal(amount), form)
    assert Bid.parse(str(bid)) == bid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "1e3",
        "nan",
        "min",
        "min-5%",
        "min+%",
        "0%",
        "101%",
        "60% of spot",
        "0.25 USD",
        "1,5",
        "٣",
        "1" * 40,
    ],
    ids=lambda text: f"'{text[:12]}'",
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    """The line shows what was given."""
    with pytest.raises(InvalidRequest) as caught:
        Bid.parse(text)
    assert "\n" not in str(caught.value)
    assert "bid '" in str(caught.value)


@given(st.text(max_size=30))
def test_no_text_is_read_as_anything_but_a_bid_above_nothing(text: str) -> None:
    """Or it is refused; nothing else escapes."""
    try:
        bid = Bid.parse(text)
    except InvalidRequest:
        return
    assert bid.amount > 0 or bid.form is BidForm.ABOVE_MINIMUM
    assert bid.amount.is_finite()


@given(PRICES, PRICES, st.none() | PRICES, st.sampled_from([None, "0.3", "min+0%", "min+15%", "70%"]))
def test_a_first_bid_never_exceeds_the_cap_nor_starts_below_a_minimum_it_follows(
    minimum: Decimal, more: Decimal, on_demand: Decimal | None, text: str | None
) -> None:
    """The ladder asks only where the minimum is not above the cap."""
    cap = minimum + more
    bid = None if text is None else Bid.parse(text)
    first = first_bid(bid, minimum=minimum, on_demand=on_demand, cap=cap)
    if first is None:
        assert on_demand is None
        return
    assert 0 < first <= cap
    if bid is None or bid.form is BidForm.ABOVE_MINIMUM:
        assert first >= minimum


@given(PRICES, PRICES)
def test_raises_grow_and_end_at_the_cap(first: Decimal, cap: Decimal) -> None:
    """There are never more than the bound, and none above the cap."""
    steps = raised(first, cap)
    assert len(steps) <= RAISES
    assert list(steps) == sorted(set(steps))
    assert all(first < step <= cap for step in steps)
    assert (steps[-1] == cap) if steps else first >= cap
