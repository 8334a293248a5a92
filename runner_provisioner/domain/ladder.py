"""Which offers to try, in which order, and why the others are not tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from runner_provisioner.domain.bids import Bid, BidForm, first_bid, raised
from runner_provisioner.domain.history import Memory
from runner_provisioner.domain.money import check_amount
from runner_provisioner.domain.offers import ANY_VRAM, GpuRequest, Interruptible, Offer
from runner_provisioner.domain.pods import CloudType
from runner_provisioner.domain.ranking import ranked
from runner_provisioner.errors import (
    AllOffersFailed,
    BidTooLow,
    BudgetExceeded,
    CapacityUnavailable,
    InvalidRequest,
    NoKillTime,
    OfferUnfit,
    ProvisioningFailed,
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
    if not request.models and request.min_vram_gb is None:
        raise InvalidRequest("no GPU model asked for: give --gpu at least once, or --min-vram")
    if request.count < 1:
        raise InvalidRequest(f"--gpu-count {request.count}: ask for at least 1")
    check_amount("--max-price", request.max_price)
    check_bid(request.bid, request.interruptible, request.max_price)


def check_bid(bid: Bid | None, interruptible: Interruptible, max_price: Decimal) -> None:
    """Raise InvalidRequest for a bid that no pod could be rented with."""
    if bid is None:
        return
    if interruptible is Interruptible.NEVER:
        raise InvalidRequest(f"--bid {bid}: a bid is for interruptible pods, and --interruptible is never")
    if bid.form is not BidForm.ABSOLUTE:
        return
    if bid.amount <= 0:
        raise InvalidRequest(f"--bid {bid}: give more than 0 USD per hour")
    if bid.amount > max_price:
        raise InvalidRequest(f"bid {bid} is above the max price {max_price} USD/h: lower --bid or raise --max-price")


def ladder(offers: Sequence[Offer], request: GpuRequest, memory: Memory | None = None) -> Ladder:
    """Order the offers by what an hour of useful time costs, each bid once more for every raise; see `ranking`.

    What does not fit is a refusal with its reason, and so is a model that was named and that nobody offers.
    """
    memory = memory or Memory()
    rungs: list[Offer] = []
    refusals: list[Refusal] = []
    for offer in ranked(offers, request, memory):
        try:
            _check_fit(offer, request)
            rungs.extend(_priced(offer, offers, request))
        except RunnerProvisionerError as error:
            refusals.append(Refusal(offer=offer, error=error))
    refusals.extend(_missing(offers, request))
    return Ladder(rungs=tuple(ranked(rungs, request, memory)), refusals=tuple(refusals))


def _check_fit(offer: Offer, request: GpuRequest) -> None:
    """Raise OfferUnfit when it is not what was asked for."""
    if request.interruptible is Interruptible.REQUIRE and not offer.interruptible:
        raise OfferUnfit("it is on-demand, and --interruptible is require", option="--interruptible require")
    if request.interruptible is Interruptible.NEVER and offer.interruptible:
        raise OfferUnfit("it is interruptible, and --interruptible is never", option=_NO_SPOT)
    least = request.min_vram_gb
    if least is not None and (offer.memory_gb is None or offer.memory_gb < least):
        raise OfferUnfit(
            f"{offer.memory_gb or 'an unknown number of'} GB of VRAM are below --min-vram {least}",
            option=f"--min-vram {least}",
        )
    regions = {region.casefold() for region in request.regions}
    places = {place.casefold() for place in (offer.region, offer.country) if place}
    if regions and regions.isdisjoint(places):
        raise OfferUnfit(
            f"it is in {offer.region or 'an unknown region'}, and --region is {', '.join(request.regions)}",
            option=_regions(request),
        )


def narrowed(found: Ladder, check: Callable[[Offer], None]) -> Ladder:
    """The ladder without the offers that `check` raises OfferUnfit for, each refused with that."""
    unfit = {}
    for offer in (*found.rungs, *(one.offer for one in found.refusals if not _is_missing(one))):
        try:
            check(offer)
        except OfferUnfit as error:
            unfit[offer] = error
    refusals = [replace(one, error=unfit.get(one.offer, one.error)) for one in found.refusals]
    refusals.extend(Refusal(offer=one, error=unfit[one]) for one in found.rungs if one in unfit)
    return Ladder(rungs=tuple(one for one in found.rungs if one not in unfit), refusals=tuple(refusals))


def _is_missing(refusal: Refusal) -> bool:
    """Whether nobody has such an offer, so that nothing but its model can be said of it."""
    return refusal.offer.provider == _NOBODY


def _missing(offers: Sequence[Offer], request: GpuRequest) -> list[Refusal]:
    """The named models that nobody offers now."""
    return [
        Refusal(offer=_nobodys(name, request), error=OfferUnfit(f"no offer of {name} that fits what was asked for"))
        for name in request.models
        if not any(offer.is_model(name) for offer in offers)
    ]


def _nobodys(name: str, request: GpuRequest) -> Offer:
    return Offer(
        provider=_NOBODY,
        id=name,
        gpu_model=name,
        gpu_count=request.count,
        price=Decimal(0),
        interruptible=request.interruptible is Interruptible.REQUIRE,
        stock="none",
    )


def _priced(offer: Offer, offers: Sequence[Offer], request: GpuRequest) -> list[Offer]:
    """The offer at what will be paid for it, and at each raise of its bid.

    Raises BidTooLow, BudgetExceeded, or OfferUnfit for a share of a price that nobody names.
    """
    cap = request.max_price
    if not offer.interruptible:
        if offer.price > cap:
            raise BudgetExceeded(f"{offer.price} USD/h is above the max price {cap}")
        return [offer]
    minimum = offer.minimum_bid if offer.minimum_bid is not None else offer.price
    if minimum > cap:
        raise BudgetExceeded(f"the minimum bid {minimum} USD/h is above the max price {cap}")
    on_demand = _on_demand_price(offer, offers)
    bid = first_bid(request.bid, minimum=minimum, on_demand=on_demand, cap=cap)
    if bid is None:
        raise OfferUnfit(
            f"nobody names its on-demand price, of which the bid is to be {request.bid}",
            option=f"--bid '{request.bid}'",
        )
    if bid < minimum:
        raise BidTooLow(f"the bid {bid} USD/h is below the minimum {minimum}: raise --bid to at least {minimum}")
    bids = (bid, *raised(bid, cap)) if offer.bids else (minimum,)
    return [replace(offer, price=price, raises=number, on_demand=on_demand) for number, price in enumerate(bids)]


def _on_demand_price(offer: Offer, offers: Sequence[Offer]) -> Decimal | None:
    """What the same thing costs when nobody can take it away."""
    same = (offer.provider, offer.gpu_model, offer.gpu_count, offer.region)
    prices = [
        one.price
        for one in offers
        if not one.interruptible and (one.provider, one.gpu_model, one.gpu_count, one.region) == same
    ]
    return min(prices, default=None)


def without_raises(rungs: Sequence[Offer], tried: int) -> tuple[Offer, ...]:
    """The rungs without the dearer bids, after rung `tried`, for the very offer of that rung.

    A raise answers a lack of stock and nothing else.
    """
    offer = rungs[tried]
    return tuple(
        one
        for index, one in enumerate(rungs)
        if index <= tried or not one.raises or (one.provider, one.id) != (offer.provider, offer.id)
    )


def nothing_rented(
    request: GpuRequest, refusals: Sequence[Refusal], unasked: Mapping[str, RunnerProvisionerError] | None = None
) -> RunnerProvisionerError:
    """The one error that says why no offer was taken, and what to do about it.

    `unasked` are the providers that could not be asked, and why: they may have what the others do not.
    """
    wish = str(request)
    attempts = [(str(refusal.offer), str(refusal.error)) for refusal in refusals]
    refusals = [refusal for refusal in refusals if not isinstance(refusal.error, OfferUnfit)] or refusals
    if all(isinstance(refusal.error, OfferUnfit) for refusal in refusals):
        unended = next((refusal for refusal in refusals if isinstance(refusal.error, NoKillTime)), None)
        if unended is not None:
            return AllOffersFailed(
                f"every offer for {wish} that fits is one that nobody would surely end: {unended.error}",
                attempts=attempts,
            )
        kind = {Interruptible.REQUIRE: "interruptible ", Interruptible.NEVER: "on-demand "}.get(
            request.interruptible, ""
        )
        no_image = _no_image(refusals)
        if no_image is not None:
            said = f"no {kind}offer for {wish} takes this --image: {no_image.offer.provider}: {no_image.error}"
            return AllOffersFailed(said, attempts=attempts)
        return AllOffersFailed(
            f"no {kind}offer for {wish} right now{_unasked(unasked or {})}: {_advice(request, refusals)}",
            attempts=attempts,
        )
    errors = [refusal.error for refusal in refusals]
    if all(isinstance(error, BudgetExceeded) for error in errors):
        cheapest = min(refusals, key=lambda refusal: refusal.offer.price)
        if cheapest.offer.price <= request.max_price:
            return BudgetExceeded(f"every offer costs too much; the cheapest is {cheapest}")
        return BudgetExceeded(
            f"every offer is above the max price {request.max_price} USD/h; the cheapest is {cheapest.offer}: "
            "raise --max-price"
        )
    if all(isinstance(error, BidTooLow) for error in errors):
        return errors[0]
    if all(isinstance(error, SpotDiscontinued) for error in errors):
        return errors[0]
    decisive = [error for error in errors if not isinstance(error, _PASSING)]
    if decisive:
        return _last(decisive)
    listing = "; ".join(f"{offer}: {reason}" for offer, reason in attempts[:_LISTED])
    more = f"; and {len(attempts) - _LISTED} more" if len(attempts) > _LISTED else ""
    return AllOffersFailed(
        f"none of {len(attempts)} offers for {wish} could be rented ({listing}{more})", attempts=attempts
    )


def _no_image(refusals: Sequence[Refusal]) -> Refusal | None:
    """The first that was refused for its image alone: all else of it had fitted."""
    unfit = [(one, one.error) for one in refusals if isinstance(one.error, OfferUnfit)]
    return next((one for one, error in unfit if error.option == "--image"), None)


def _last(decisive: Sequence[RunnerProvisionerError]) -> RunnerProvisionerError:
    """The last of those that say more than that an offer was not to be had; of pods, how many there were."""
    last = decisive[-1]
    pods = sum(isinstance(error, ProvisioningFailed) for error in decisive)
    if not isinstance(last, ProvisioningFailed):
        return last
    kind: type[ProvisioningFailed] = type(last)
    return kind(f"{last}; {pods} pod{'s' if pods > 1 else ''} rented and given back, and no other offer served")


def _unasked(unasked: Mapping[str, RunnerProvisionerError]) -> str:
    told = "; ".join(f"{name} could not be asked: {error}" for name, error in unasked.items())
    return f" ({told})" if told else ""


def _advice(request: GpuRequest, refusals: Sequence[Refusal]) -> str:
    options = _options(request, refusals)
    ways = [
        *([f"loosen {' or '.join(options)}"] if options else []),
        *(["name more GPU models with --gpu"] if request.models else []),
    ]
    return ", ".join([*ways, "or try again later"]) if ways else "try again later"


def _options(request: GpuRequest, refusals: Sequence[Refusal]) -> Sequence[str]:
    """Those that kept offers out; where a market shows none that would be rented, those that it was asked with."""
    said = dict.fromkeys(one.error.option for one in refusals if isinstance(one.error, OfferUnfit) and one.error.option)
    spot = [option for option in said if option == _NO_SPOT]
    shown = [option for option in said if option != _NO_SPOT]
    asked = {
        _regions(request): request.regions,
        f"--network-volume {request.network_volume}": request.network_volume,
        f"--cuda {request.cuda}": request.cuda,
        f"--min-vram {request.min_vram_gb}": (request.min_vram_gb or 0) > ANY_VRAM,
        f"--min-vcpus {request.min_vcpus}": (request.min_vcpus or 0) > _FEWEST_VCPUS,
        f"--min-memory {request.min_memory_gb}": (request.min_memory_gb or 0) > _LEAST_MEMORY,
        "--disk": (request.disk_gb or 0) > _LEAST_DISK,
        f"--min-download {request.min_download}": request.min_download,
        f"--min-upload {request.min_upload}": request.min_upload,
        f"--gpu-count {request.count}": request.count > 1,
        f"--cloud {request.cloud}": request.cloud is not CloudType.ALL,
    }
    return shown or [*(option for option, given in asked.items() if given), *spot]


def _regions(request: GpuRequest) -> str:
    return " ".join(f"--region {one}" for one in request.regions)


_NOBODY = "any provider"
_NO_SPOT = "--interruptible never"
_FEWEST_VCPUS, _LEAST_MEMORY, _LEAST_DISK = 1, 4, 40  # what a pod is asked for where nobody says anything
_LISTED = 8  # attempts named in a message; all of them are in the error
_PASSING = (CapacityUnavailable, BudgetExceeded, BidTooLow, SpotDiscontinued, AllOffersFailed)
