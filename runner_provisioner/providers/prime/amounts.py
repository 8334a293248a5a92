"""How much disk, CPU and memory a pod gets, and what that costs beyond the offer's price."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from runner_provisioner.errors import OfferUnfit
from runner_provisioner.providers.prime.wire import WireAmount, WireOffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The least that a pod must have, in GB and CPUs; None asks for nothing.

    Those that `exact` names are taken as they are, without what is included and without steps.
    """

    disk_gb: int | None = None
    vcpus: int | None = None
    memory_gb: int | None = None
    exact: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a create asks for, None where that is left to the service, and USD per hour for everything together."""

    disk_size: int | None
    vcpus: int | None
    memory: int | None
    price: Decimal


def base_price(offer: WireOffer) -> Decimal | None:
    """USD per hour for all GPUs with what is included; None where no price is told."""
    prices = offer.prices
    price = (prices.community_price or prices.on_demand) if prices else None
    return price if price and price > 0 else None


def sizes(offer: WireOffer, wanted: Wanted) -> Sizes:
    """The least sizes of the offer that are enough. Raises OfferUnfit where the offer cannot have so much."""
    price = base_price(offer)
    if price is None:
        raise OfferUnfit(f"Prime Intellect names no price for {offer.cloud_id}")
    disk = _count(offer.disk, wanted.disk_gb, "GB of disk", "--disk", exact="disk_gb" in wanted.exact)
    vcpus = _count(offer.vcpu, wanted.vcpus, "CPUs", "--min-vcpus", exact="vcpus" in wanted.exact)
    memory = _count(offer.memory, wanted.memory_gb, "GB of memory", "--min-memory", exact="memory_gb" in wanted.exact)
    extra = _cost(offer.disk, disk) + _cost(offer.vcpu, vcpus) + _cost(offer.memory, memory)
    return Sizes(disk_size=disk, vcpus=vcpus, memory=memory, price=price + extra)


def _count(amount: WireAmount | None, wanted: int | None, what: str, option: str, *, exact: bool) -> int | None:
    """As much as is included, or more in the offer's steps; None where the offer says nothing of it."""
    if amount is None:
        return wanted if exact else None
    least = amount.min_count if _included(amount) is None else _included(amount)
    if wanted is None or (not exact and least is not None and wanted <= least):
        return least
    lowest, most = (amount.min_count or 0) if exact else 0, amount.max_count
    if wanted < lowest or (most is not None and wanted > most):
        limits = f"at least {lowest}" if most is None else f"{amount.min_count or 0} to {most}"
        raise OfferUnfit(f"it can have {limits} {what}, not {wanted}", option=option)
    if exact or least is None:
        return wanted
    step = max(1, amount.step or 1)
    stepped = least + -(-(wanted - least) // step) * step
    return stepped if most is None else min(stepped, most)


def _included(amount: WireAmount) -> int | None:
    """What the offer's price contains; None when every unit costs extra."""
    return None if amount.default_included_in_price is False else amount.default_count


def _cost(amount: WireAmount | None, count: int | None) -> Decimal:
    if amount is None or count is None or not amount.price_per_unit:
        return Decimal(0)
    return amount.price_per_unit * max(0, count - (_included(amount) or 0))
