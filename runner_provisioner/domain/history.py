"""What an installation remembers of the machines it rented, to choose better and to keep to its budget.

Losing it costs ranking quality and never safety: no decision on what to end is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import PodId

LONGEST_RUN = timedelta(days=35)  # docs.github.com/actions/reference/limits: workflow run time


class Ending(StrEnum):
    """Why a pod of ours ended."""

    ASKED = "asked"  # by stop, by a start that gave it back, by clean-up
    ITSELF = "itself"  # its job was over, or its switch
    INTERRUPTED = "interrupted"  # the provider took it back
    FAILED = "failed"  # it never served: boot timeout, gate, lost


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferKind:
    """What two offers have in common whose history is one."""

    provider: str
    gpu_model: str
    gpu_count: int
    interruptible: bool
    region: str | None = None

    @classmethod
    def of(cls, offer: Offer) -> OfferKind:
        """The kind of an offer."""
        return cls(
            provider=offer.provider,
            gpu_model=offer.gpu_model,
            gpu_count=offer.gpu_count,
            interruptible=offer.interruptible,
            region=offer.region,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """One pod that was rented, from create to its end.

    `price` is what it really costs, `list_price` what its offer was listed at (for an interruptible one: on-demand),
    both USD per hour for the whole pod.
    `ended_at` is None until the end is confirmed; until then it is taken to bill up to `expires_at`.
    `online_at`, `job_at` and `job_ended_at` are when its runner came online, took the job, and was done.
    """

    provider: str
    id: PodId
    name: str
    kind: OfferKind
    price: Decimal
    list_price: Decimal
    created_at: datetime
    expires_at: datetime
    requested_at: datetime | None = None
    machine: str | None = None
    repository: str | None = None
    online_at: datetime | None = None
    job_at: datetime | None = None
    job_ended_at: datetime | None = None
    ended_at: datetime | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An offer that was asked for and not rented; `reason` is the error's class name."""

    kind: OfferKind
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BadMachine:
    """A machine that failed the gate or broke a job; its weight decays with time."""

    provider: str
    machine: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What is known of one kind of offers: `boots` are the latest boot times, `hours` how long its pods have run."""

    boots: tuple[timedelta, ...] = ()
    hours: float = 0.0
    interruptions: int = 0
    refusals: int = 0
    rentals: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Everything that ranking needs, read once before a start; empty when nothing is known."""

    experience: Mapping[OfferKind, Experience] = field(default_factory=dict)
    bad_machines: tuple[BadMachine, ...] = ()
