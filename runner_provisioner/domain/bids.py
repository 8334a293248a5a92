"""What to offer for an interruptible pod: a price, or one that follows the market."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from enum import StrEnum
from typing import Self

from runner_provisioner.domain.money import BID_STEP, automatic_bid
from runner_provisioner.errors import InvalidRequest

RAISES = 3  # how often a bid that found no stock is raised; the last raise is the cap
_LONGEST = 12  # digits of a number that is a price or a percentage at all
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_ABSOLUTE = re.compile(_NUMBER)
_ABOVE = re.compile(rf"min\s*\+\s*{_NUMBER}\s*%", re.IGNORECASE)
_SHARE = re.compile(rf"{_NUMBER}\s*%(?:\s+of\s+on-demand)?", re.IGNORECASE)
_FORMS = "write a price such as 0.25, 'min+10%', or '60% of on-demand'"


class BidForm(StrEnum):
    """How a bid is reckoned."""

    ABSOLUTE = "absolute"
    ABOVE_MINIMUM = "above minimum"
    OF_ON_DEMAND = "of on-demand"


@dataclass(frozen=True, slots=True)
class Bid:
    """`amount` is USD per hour for the whole pod, or per cent above the minimum, or per cent of the on-demand price."""

    amount: Decimal
    form: BidForm = BidForm.ABSOLUTE

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `0.25`, `min+10%` or `60% of on-demand`. Raises InvalidRequest, one line with the forms."""
        text = text.strip()
        for form, pattern in _PATTERNS:
            found = pattern.fullmatch(text)
            if found and len(found[1]) <= _LONGEST and text.isascii():
                _check(text, bid := cls(Decimal(found[1]), form))
                return bid
        raise InvalidRequest(f"bid '{text}': {_FORMS}")

    def __str__(self) -> str:
        """As it is written on the command line."""
        if self.form is BidForm.ABOVE_MINIMUM:
            return f"min+{self.amount}%"
        return f"{self.amount}% of on-demand" if self.form is BidForm.OF_ON_DEMAND else str(self.amount)


_WHOLE = Decimal(100)
_PATTERNS = ((BidForm.ABSOLUTE, _ABSOLUTE), (BidForm.ABOVE_MINIMUM, _ABOVE), (BidForm.OF_ON_DEMAND, _SHARE))


def _check(text: str, bid: Bid) -> None:
    if bid.form is not BidForm.ABOVE_MINIMUM and bid.amount <= 0:
        raise InvalidRequest(f"bid '{text}': give more than 0")
    if bid.form is BidForm.OF_ON_DEMAND and bid.amount > _WHOLE:
        raise InvalidRequest(f"bid '{text}': nobody needs to bid more than 100% of the on-demand price")


def first_bid(bid: Bid | None, *, minimum: Decimal, on_demand: Decimal | None, cap: Decimal) -> Decimal | None:
    """The bid to begin with, USD per hour for the whole pod, never above the cap.

    None when it is a share of an on-demand price that nobody names. It may be below the minimum: the caller refuses it.
    """
    if bid is None:
        # A market's floor is a price as well: rounding down must not fall below it.
        return max(automatic_bid(minimum, cap), minimum)
    if bid.form is BidForm.ABSOLUTE:
        return min(bid.amount, cap)
    if bid.form is BidForm.ABOVE_MINIMUM:
        return min(cap, (minimum * (1 + bid.amount / _WHOLE)).quantize(BID_STEP, rounding=ROUND_UP))
    if on_demand is None:
        return None
    return min(cap, (on_demand * bid.amount / _WHOLE).quantize(BID_STEP, rounding=ROUND_UP))


def raised(first: Decimal, cap: Decimal) -> tuple[Decimal, ...]:
    """The bids that follow when there is no stock: `RAISES` of them in equal proportion, the last one the cap."""
    if first >= cap:
        return ()
    factor = float(cap / first) ** (1 / RAISES)
    between = (
        (first * Decimal(repr(factor**step))).quantize(BID_STEP, rounding=ROUND_DOWN) for step in range(1, RAISES)
    )
    return tuple(sorted({bid for bid in between if first < bid < cap} | {cap}))
