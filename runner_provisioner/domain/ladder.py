"""Which offers to try, in which order, and why the others are not tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from runner_provisioner.domain.money import automatic_bid
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer
from runner_provisioner.errors import (
    AllOffersFailed,
    BidTooLow,
    BudgetExceeded,
    CapacityUnavailable,
    InvalidRequest,
    RunnerProvisionerError,
    SpotDiscontinued,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An offer that was not rented, and why."""

    offer: Offer
    error: RunnerProvisionerError

    def __str__(self) -> str:
        """One line for a table."""
        return f"{self.offer}: {self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The offers to try in order, their price being what the pod may cost, and those refused beforehand."""

    rungs: tuple[Offer, ...]
    refusals: tuple[Refusal, ...]


def check(request: GpuRequest) -> None:
    """Raise InvalidRequest when no market could serve the request."""
    if not request.models:
        raise InvalidRequest("no GPU model asked for: give --gpu at least once")
    if request.count < 1:
        raise InvalidRequest(f"--gpu-count {request.count}: ask for at least 1")
    if request.max_price <= 0:
        raise InvalidRequest(f"--max-price {request.max_price}: give more than 0 USD per hour")
    if request.bid is not None and request.bid <= 0:
        raise InvalidRequest(f"--bid {request.bid}: give more than 0 USD per hour")
    if request.bid is not None and request.bid > request.max_price:
        raise InvalidRequest(
            f"bid {request.bid} is above the max price {request.max_price} USD/h: lower --bid or raise --max-price"
        )


def ladder(offers: Sequence[Offer], request: GpuRequest) -> Ladder:
    """Order the offers: interruptible ones first where they are wanted, then by the order of the models, then price."""
    rungs: list[Offer] = []
    refusals: list[Refusal] = []
    for offer in sorted(_wanted(offers, request), key=lambda offer: _rank(offer, request)):
        try:
            rungs.append(_priced(offer, request))
        except RunnerProvisionerError as error:
            refusals.append(Refusal(offer=offer, error=error))
    return Ladder(rungs=tuple(rungs), refusals=tuple(refusals))


def _wanted(offers: Sequence[Offer], request: GpuRequest) -> list[Offer]:
    if request.interruptible is Interruptible.PREFER:
        return list(offers)
    interruptible = request.interruptible is Interruptible.REQUIRE
    return [offer for offer in offers if offer.interruptible is interruptible]


def _rank(offer: Offer, request: GpuRequest) -> tuple[bool, int, Decimal]:
    models = [model.casefold() for model in request.models]
    model = offer.gpu_model.casefold()
    place = models.index(model) if model in models else len(models)
    return (not offer.interruptible, place, offer.price)


def _priced(offer: Offer, request: GpuRequest) -> Offer:
    """The offer at what will be paid for it; raises BidTooLow or BudgetExceeded."""
    cap = request.max_price
    if not offer.interruptible:
        if offer.price > cap:
            raise BudgetExceeded(f"{offer.price} USD/h is above the max price {cap}")
        return offer
    minimum = offer.minimum_bid if offer.minimum_bid is not None else offer.price
    if minimum > cap:
        raise BudgetExceeded(f"the minimum bid {minimum} USD/h is above the max price {cap}")
    bid = request.bid if request.bid is not None else automatic_bid(minimum, cap)
    if bid < minimum:
        raise BidTooLow(f"the bid {bid} USD/h is below the minimum {minimum}: raise --bid to at least {minimum}")
    return replace(offer, price=bid)


def nothing_rented(request: GpuRequest, refusals: Sequence[Refusal]) -> RunnerProvisionerError:
    """The one error that says why no offer was taken, and what to do about it."""
    wish = f"{request.count} x {' or '.join(request.models)}"
    attempts = [(str(refusal.offer), str(refusal.error)) for refusal in refusals]
    if not refusals:
        kind = {Interruptible.REQUIRE: "interruptible ", Interruptible.NEVER: "on-demand "}.get(
            request.interruptible, ""
        )
        return AllOffersFailed(
            f"no {kind}offer for {wish} right now: name more GPU models with --gpu, or try again later",
            attempts=attempts,
        )
    errors = [refusal.error for refusal in refusals]
    if all(isinstance(error, BudgetExceeded) for error in errors):
        cheapest = min((refusal.offer for refusal in refusals), key=lambda offer: offer.price)
        return BudgetExceeded(
            f"every offer is above the max price {request.max_price} USD/h; the cheapest is {cheapest}: "
            "raise --max-price"
        )
    if all(isinstance(error, BidTooLow) for error in errors):
        return errors[0]
    if all(isinstance(error, SpotDiscontinued) for error in errors):
        return errors[0]
    decisive = [error for error in errors if not isinstance(error, _PASSING)]
    if decisive:
        return decisive[-1]
    listing = "; ".join(f"{offer}: {reason}" for offer, reason in attempts[:_LISTED])
    more = f"; and {len(attempts) - _LISTED} more" if len(attempts) > _LISTED else ""
    return AllOffersFailed(
        f"none of {len(attempts)} offers for {wish} could be rented ({listing}{more})", attempts=attempts
    )


_LISTED = 8  # attempts named in a message; all of them are in the error
_PASSING = (CapacityUnavailable, BudgetExceeded, BidTooLow, SpotDiscontinued, AllOffersFailed)
