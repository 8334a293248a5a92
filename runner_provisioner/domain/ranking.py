"""Which of two offers is the better bargain: what an hour of useful time costs, from this installation's experience.

An hour of a pod is not an hour of work: it boots first, and an interruption loses what was done since the last
checkpoint, taken to be half of the job, plus another boot. With little experience the priors decide, with much the
experience does: each prior counts as if so much had been seen already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from runner_provisioner.domain.history import Experience, Memory, OfferKind
from runner_provisioner.domain.money import BID_STEP
from runner_provisioner.domain.offers import GpuRequest, Offer, Ranking

BOOT_PRIOR = timedelta(seconds=120)
BOOT_WEIGHT = 3  # boots
INTERRUPTION_PRIOR = 0.05  # per hour of an interruptible pod; dstack#2732 tells of many, nobody publishes a rate
INTERRUPTION_WEIGHT = 20.0  # hours
JOB_PRIOR = timedelta(hours=1)
JOB_WEIGHT = 3  # pods
STOCK_WEIGHT = 3  # rentals
SCARCITY = 0.10  # how much dearer an offer counts that is never in stock: asking for it costs seconds, not money
NEAR = Decimal("1.05")  # offers this close in price are equal: the order of the models decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is to be expected of an offer. `effective` is USD per hour of useful time; `boot` the time until online."""

    effective: Decimal
    boot: timedelta
    interruptions_per_hour: float
    in_stock: float


def outlook(offer: Offer, memory: Memory) -> Outlook:
    """What experience and priors say of an offer at its price."""
    seen = _experience(offer, memory)
    boot = expected_boot(seen)
    rate = interruption_rate(seen, interruptible=offer.interruptible)
    job = expected_job(memory) / timedelta(hours=1)
    boot_hours = boot / timedelta(hours=1)
    waste = boot_hours / job + rate * (job / 2 + boot_hours)
    effective = offer.price * Decimal(repr(1 + waste))
    return Outlook(
        effective=effective.quantize(BID_STEP), boot=boot, interruptions_per_hour=rate, in_stock=_in_stock(seen)
    )


def expected_boot(seen: Experience) -> timedelta:
    """From rental to online: the mean of the boots seen and of the prior."""
    return (BOOT_PRIOR * BOOT_WEIGHT + sum(seen.boots, timedelta())) / (BOOT_WEIGHT + len(seen.boots))


def interruption_rate(seen: Experience, *, interruptible: bool) -> float:
    """Interruptions per hour; an on-demand pod has none until one was seen."""
    prior = INTERRUPTION_PRIOR if interruptible else 0.0
    return (prior * INTERRUPTION_WEIGHT + seen.interruptions) / (INTERRUPTION_WEIGHT + seen.hours)


def expected_job(memory: Memory) -> timedelta:
    """How long a pod of this installation lives, over all kinds."""
    hours = sum(one.hours for one in memory.experience.values())
    pods = sum(one.rentals for one in memory.experience.values())
    mean = (JOB_PRIOR * JOB_WEIGHT + timedelta(hours=hours)) / (JOB_WEIGHT + pods)
    return max(mean, timedelta(minutes=6))  # pods that failed at once say nothing of a job


def _in_stock(seen: Experience) -> float:
    return (STOCK_WEIGHT + seen.rentals) / (STOCK_WEIGHT + seen.rentals + seen.refusals)


def _experience(offer: Offer, memory: Memory) -> Experience:
    kind = OfferKind.of(offer)
    found = memory.experience.get(kind)
    if found is not None or kind.region is None:
        return found or Experience()
    return next((one for known, one in memory.experience.items() if _same_anywhere(known, kind)), Experience())


def _same_anywhere(known: OfferKind, kind: OfferKind) -> bool:
    """Whether that is what is known of the kind from before anybody named a region."""
    return known.region is None and (known.provider, known.gpu_model, known.gpu_count, known.interruptible) == (
        kind.provider,
        kind.gpu_model,
        kind.gpu_count,
        kind.interruptible,
    )


def ranked(offers: Iterable[Offer], request: GpuRequest, memory: Memory) -> list[Offer]:
    """The offers, the best bargain first.

    With `Ranking.LISTED` the order of the models comes before the price, and interruptible before on-demand.
    """
    rated = sorted(((_weight(offer, memory), offer) for offer in offers), key=lambda one: (one[0], one[1].id))
    if request.rank is Ranking.LISTED:
        ordered = [offer for _weight, offer in sorted(rated, key=lambda one: _listed(one[1], request))]
    else:
        ordered = [offer for group in _near(rated) for offer in _by_model(group, request)]
    # A market may list more than was asked for.
    return sorted(ordered, key=lambda offer: bool(request.models) and place(offer, request) == len(request.models))


def _listed(offer: Offer, request: GpuRequest) -> tuple[bool, bool, int]:
    """By model; a raised bid comes after everything at its first price."""
    return (bool(offer.raises), not offer.interruptible, place(offer, request))


def place(offer: Offer, request: GpuRequest) -> int:
    """Where the user listed its model; after all others when not at all."""
    return next((index for index, name in enumerate(request.models) if offer.is_model(name)), len(request.models))


def _weight(offer: Offer, memory: Memory) -> Decimal:
    found = outlook(offer, memory)
    return found.effective * Decimal(repr(1 + SCARCITY * (1 - found.in_stock)))


def _near(rated: Sequence[tuple[Decimal, Offer]]) -> list[list[tuple[Decimal, Offer]]]:
    """Groups of offers that are as good as equally dear, each measured by its cheapest."""
    groups: list[list[tuple[Decimal, Offer]]] = []
    for weight, offer in rated:
        if groups and weight < groups[-1][0][0] * NEAR:
            groups[-1].append((weight, offer))
        else:
            groups.append([(weight, offer)])
    return groups


def _by_model(group: list[tuple[Decimal, Offer]], request: GpuRequest) -> list[Offer]:
    return [offer for _weight, offer in sorted(group, key=lambda one: place(one[1], request))]
