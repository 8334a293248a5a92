"""Prices: US dollars as decimals, and what a pod will have cost."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from runner_provisioner.errors import InvalidRequest

CENT = Decimal("0.01")
BID_STEP = Decimal("0.0001")
MOST = Decimal(1_000_000)  # USD: beyond it an amount is a slip, and reckoning with it may overflow
HEADROOM = Decimal("1.1")  # how far above the market's minimum an automatic bid goes


def check_amount(name: str, amount: Decimal) -> None:
    """Raise InvalidRequest, naming the input, for what can be no amount of US dollars that a pod costs."""
    if not amount.is_finite() or not BID_STEP <= amount <= MOST:
        raise InvalidRequest(f"{name} {amount}: give {BID_STEP} to {MOST} USD")


def automatic_bid(minimum: Decimal, cap: Decimal) -> Decimal:
    """The bid where the user named none: 1.1 times the minimum, never above the cap (both for the whole pod)."""
    return min(cap, (minimum * HEADROOM)).quantize(BID_STEP, rounding=ROUND_DOWN)


def cost(price: Decimal, seconds: float) -> Decimal:
    """What `seconds` at `price` USD per hour come to, to a hundredth of a cent."""
    return (price * Decimal(str(seconds)) / 3600).quantize(BID_STEP, rounding=ROUND_HALF_UP)
