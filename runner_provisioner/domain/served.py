"""What the service keeps of requests that make pods, so that none is served twice and no pod is lost, and of writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from runner_provisioner.domain.leases import PodRef
from runner_provisioner.domain.money import cost
from runner_provisioner.domain.pods import PodId


class Contract(StrEnum):
    """Which of the service's APIs was spoken."""

    CLOUD = "cloud"  # /api/cloud
    MACHINES = "machines"  # /machines
    PODS = "pods"  # /api/v1/pods


# --- pods ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPod:
    """A pod that was made over HTTP, from before its create is sent to after its end.

    `name` is what the pod is called at its provider, drawn for this very create, and `nonce` what its tags bear: it is
    found by them when the answer is lost. `key_id` is whose key made it, None without keys; `label` is the caller's
    own name for it. `reserved` is the most it may cost in US dollars until it must end, and counts against the key's
    budget until `cost` is known. `id` is None until it is known to be rented, and `provider` is where a create of it
    was last about to be sent, None before that. `price` is US dollars
    per hour for the whole pod. `facts` are what else its contract shows, never a secret: values of JSON.
    `sent_at` is when a create of it was last about to be sent. Since `given_up_at` it is nobody's pod: its request has
    been served anew, or was never answered, and it is ended wherever it shows up.
    """

    name: str
    nonce: str | None = None
    contract: Contract
    key_id: str | None = None
    label: str = ""
    requested_at: datetime
    expires_at: datetime
    reserved: Decimal = Decimal(0)
    provider: str | None = None
    id: PodId | None = None
    price: Decimal | None = None
    gpu_model: str | None = None
    gpu_count: int | None = None
    interruptible: bool | None = None
    image: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    sent_at: datetime | None = None
    given_up_at: datetime | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    cost: Decimal | None = None

    @property
    def ref(self) -> PodRef | None:
        """The pod, once it is known to be rented."""
        return PodRef(self.provider, self.id) if self.provider is not None and self.id is not None else None

    @property
    def counted(self) -> Decimal:
        """What it counts for against its key's budget, US dollars."""
        return self.reserved if self.cost is None else self.cost

    def over(self, at: datetime) -> ServedPod:
        """The same pod, ended at that moment: what it cost is reckoned from its price where one is known."""
        began = self.created_at or self.requested_at
        seconds = max(0.0, (at - began).total_seconds())
        spent = self.reserved if self.price is None else cost(self.price, seconds)
        return replace(self, ended_at=at, cost=spent)


class PodOrder(StrEnum):
    """What a list of served pods is sorted by."""

    CREATED = "createdAt"
    ENDED = "terminatedAt"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodQuery:
    """Which served pods to list, and in what order; those without a moment come last.

    `ended` None: both those that have ended and those that have not.
    """

    ended: bool | None = None
    order: PodOrder = PodOrder.CREATED
    descending: bool = True
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPage:
    """Some of the served pods; `total` is how many there are without offset and limit."""

    pods: Sequence[ServedPod]
    total: int


# --- requests --------------------------------------------------------------------------------------------------------


class RequestRef(NamedTuple):
    """What makes two requests the same: who sent them, what for, and the `Idempotency-Key` they bear."""

    caller: str  # the key's id, "" without keys
    operation: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request was answered: an HTTP status and a JSON text without secrets."""

    status: int
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotentRequest:
    """A request that must not be served twice.

    `digest` tells its body from others, `pod_name` is the `ServedPod` that comes of it. `holder` is who serves it,
    another one for each try, also of one process; it is taken to be dead after `held_until`.
    """

    ref: RequestRef
    digest: str
    pod_name: str
    holder: str
    held_until: datetime
    begun_at: datetime
    answer: Answer | None = None


class Verdict(StrEnum):
    """What to do with a request that bears an idempotency key."""

    BEGIN = "begin"  # it is the first
    RESUME = "resume"  # who served it is gone: look for its pod by name before anything is rented
    BUSY = "busy"  # somebody serves it: 409
    ANSWERED = "answered"  # repeat the answer
    MISMATCH = "mismatch"  # the key came with another body: 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The verdict; `request` is what is kept now, by this holder with BEGIN and RESUME.

    `request.pod_name` is the name of the first try, whatever the new one proposed. `retry_after` is for BUSY.
    """

    verdict: Verdict
    request: IdempotentRequest
    retry_after: timedelta | None = None

    @classmethod
    def of(cls, kept: IdempotentRequest | None, wanted: IdempotentRequest, now: datetime) -> Claim:
        """Judge what is wanted by what is kept of the same `ref`."""
        if kept is None:
            return cls(verdict=Verdict.BEGIN, request=wanted)
        if kept.digest != wanted.digest:
            return cls(verdict=Verdict.MISMATCH, request=kept)
        if kept.answer is not None:
            return cls(verdict=Verdict.ANSWERED, request=kept)
        if kept.held_until > now:
            return cls(verdict=Verdict.BUSY, request=kept, retry_after=kept.held_until - now)
        held = replace(kept, holder=wanted.holder, held_until=wanted.held_until)
        return cls(verdict=Verdict.RESUME, request=held)


# --- writes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One write over HTTP, refused ones too: who, what, on what, and how it ended; never a body.

    `status` is the HTTP status, None where it has not ended (an entry from before the provider is called);
    `target` is the pod or template it is about, `error` the class of what went wrong, `client` the peer's address.
    """

    at: datetime
    request_id: str
    operation: str
    key_id: str | None = None
    target: str = ""
    provider: str = ""
    status: int | None = None
    error: str = ""
    client: str = ""
