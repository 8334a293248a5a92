"""What the service keeps, in memory: a ServiceState for tests of what builds on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import partial

from support.fakes import Troubles

from runner_provisioner.domain.api_keys import ApiKey, Permission, PlainKey
from runner_provisioner.domain.leases import PodRef
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import (
    Answer,
    AuditEntry,
    Claim,
    IdempotentRequest,
    PodOrder,
    PodPage,
    PodQuery,
    RequestRef,
    ServedPod,
    Verdict,
)
from runner_provisioner.errors import BudgetExceeded, StaleWrite, StoreError
from runner_provisioner.service_ports import ApiKeys, AuditLog, IdempotentRequests, ServedPods
from runner_provisioner.testing.clock import EPOCH


class Keys:
    """ApiKeys."""

    def __init__(self) -> None:
        """None yet."""
        self.kept: dict[str, ApiKey] = {}
        self.broken: StoreError | None = None

    def make(self, permission: Permission = Permission.WRITE, **more: object) -> str:
        """Add a key; what its user sends."""
        plain = PlainKey.of(len(self.kept).to_bytes(6, "big"), bytes(range(24)))
        values: dict[str, object] = {"name": f"key{len(self.kept)}", "created_at": EPOCH, **more}
        self.kept[plain.id] = ApiKey(id=plain.id, permission=permission, digest=plain.digest, **values)  # type: ignore[arg-type]
        return plain.text

    async def add(self, key: ApiKey) -> None:
        """Keep it."""
        if key.id in self.kept or any(
            one.name == key.name and one.revoked_at is None for one in self.kept.values() if key.revoked_at is None
        ):
            raise StaleWrite(f"there is a key named '{key.name}' already: give another name, or revoke that one")
        self.kept[key.id] = key

    async def all(self) -> Sequence[ApiKey]:
        """Every one."""
        if self.broken is not None:
            raise self.broken
        return sorted(self.kept.values(), key=lambda one: (one.created_at, one.id))

    async def revoke(self, key_id: str, at: datetime) -> ApiKey | None:
        """Make it useless."""
        found = self.kept.get(key_id)
        if found is not None:
            self.kept[key_id] = found = replace(found, revoked_at=found.revoked_at or at)
        return found


class Requests(Troubles):
    """IdempotentRequests."""

    def __init__(self) -> None:
        """None yet."""
        super().__init__()
        self.kept: dict[RequestRef, IdempotentRequest] = {}

    async def claim(self, wanted: IdempotentRequest, *, now: datetime) -> Claim:
        """Judge it and keep it."""
        self.meet("claim")
        claim = Claim.of(self.kept.get(wanted.ref), wanted, now)
        if claim.verdict in {Verdict.BEGIN, Verdict.RESUME}:
            self.kept[wanted.ref] = claim.request
        return claim

    async def hold(self, request: IdempotentRequest, until: datetime) -> None:
        """Go on."""
        self.meet("hold")
        self.kept[request.ref] = replace(self._mine(request), held_until=until)

    async def answer(self, request: IdempotentRequest, answer: Answer) -> None:
        """Keep the answer."""
        self.meet("answer")
        self.kept[request.ref] = replace(self._mine(request), answer=answer)

    async def withdraw(self, request: IdempotentRequest) -> None:
        """Forget it."""
        self.meet("withdraw")
        self._mine(request)
        del self.kept[request.ref]

    async def abandoned(self, now: datetime) -> Sequence[IdempotentRequest]:
        """Those of the dead."""
        return [one for one in self.kept.values() if one.answer is None and one.held_until <= now]

    def _mine(self, request: IdempotentRequest) -> IdempotentRequest:
        kept = self.kept.get(request.ref)
        if kept is None or kept.holder != request.holder or kept.answer is not None:
            raise StaleWrite("another process has taken this request over, or it was answered: repeat it")
        return kept


class Pods(Troubles):
    """ServedPods."""

    def __init__(self, keys: Keys) -> None:
        """None yet."""
        super().__init__()
        self.keys = keys
        self.kept: dict[str, ServedPod] = {}

    async def intend(self, pod: ServedPod, *, budget: Decimal | None = None) -> None:
        """Keep it before it is rented."""
        self.meet("intend")
        if pod.key_id is not None and budget is not None:
            await self._check_budget(pod.key_id, pod.counted, budget)
        if pod.name in self.kept:
            raise StaleWrite(f"a pod named {pod.name} was intended already")
        self.kept[pod.name] = pod

    async def _check_budget(self, key_id: str, more: Decimal, budget: Decimal) -> None:
        left = budget - await self.counted(key_id)
        if more > left:
            key = self.keys.kept.get(key_id)
            name = f"key '{key.name}'" if key is not None else "this key"
            raise BudgetExceeded(
                f"{name} has {max(left, Decimal(0)):.2f} USD left of its budget of {budget:.2f} USD and this pod may "
                f"cost {more:.2f} USD: shorten its life, lower its price, or end others"
            )

    async def sending(self, name: str, at: datetime, *, provider: str) -> bool:
        """A create is about to be sent."""
        self.meet("sending")
        old = self.kept.get(name)
        if old is None or old.given_up_at is not None:
            return False
        self.kept[name] = replace(old, sent_at=at, provider=provider)
        return True

    async def rented(self, pod: ServedPod) -> bool:
        """It exists."""
        self.meet("rented")
        if pod.name not in self.kept:
            raise StaleWrite(f"no pod named {pod.name} was intended")
        old = self.kept[pod.name]
        fate = {name: getattr(old, name) for name in ("sent_at", "given_up_at", "ended_at", "cost")}
        self.kept[pod.name] = replace(pod, **fate)
        return old.given_up_at is None

    async def give_up(self, name: str, at: datetime) -> bool:
        """Nobody wants it any more."""
        self.meet("give_up")
        old = self.kept.get(name)
        if old is not None and old.id is None and old.given_up_at is None:
            self.kept[name] = old = replace(old, given_up_at=at, reserved=Decimal(0))
        return old is None or old.given_up_at is not None

    async def withdraw(self, name: str) -> None:
        """Forget it."""
        self.meet("withdraw")
        if name in self.kept and self.kept[name].ref is None:
            del self.kept[name]

    async def ended(self, pod: PodRef, at: datetime) -> None:
        """Its end is confirmed."""
        self.meet("ended")
        for one in list(self.kept.values()):
            if one.ref == pod and one.ended_at is None:
                self.kept[one.name] = one.over(at)

    async def reopen(self, pod: PodRef) -> None:
        """Its end is forgotten."""
        self.meet("reopen")
        for one in list(self.kept.values()):
            if one.ref == pod:
                self.kept[one.name] = replace(one, ended_at=None, cost=None)

    async def get(self, pod_id: PodId, *, provider: str | None = None) -> ServedPod | None:
        """The last of that id."""
        self.meet("get")
        found = [one for one in self.kept.values() if one.id == pod_id and provider in {None, one.provider}]
        return max(found, key=lambda one: one.requested_at, default=None)

    async def named(self, name: str) -> ServedPod | None:
        """That of this name."""
        return self.kept.get(name)

    async def list(self, query: PodQuery) -> PodPage:
        """Those that are or were rented."""
        found = [
            one for one in self.kept.values() if one.ref is not None and query.ended in {None, one.ended_at is not None}
        ]
        found.sort(key=lambda one: one.name)
        found.sort(key=partial(_moment, query.order), reverse=query.descending)
        found.sort(key=lambda one: _moment(query.order, one) == EPOCH)
        return PodPage(pods=found[query.offset : query.offset + query.limit], total=len(found))

    async def unsettled(self, before: datetime) -> Sequence[ServedPod]:
        """Those intended and no more."""
        return [
            one
            for one in sorted(self.kept.values(), key=lambda one: (one.requested_at, one.name))
            if one.ref is None and (one.given_up_at is not None or (one.sent_at or one.requested_at) < before)
        ]

    async def counted(self, key_id: str) -> Decimal:
        """What a key's pods count for."""
        return sum((one.counted for one in self.kept.values() if one.key_id == key_id), Decimal(0))

    async def spent(self) -> Mapping[str, Decimal]:
        """What those that have ended have cost."""
        spent: defaultdict[str, Decimal] = defaultdict(Decimal)
        for one in self.kept.values():
            if one.provider is not None and one.cost is not None:
                spent[one.provider] += one.cost
        return spent


def _moment(order: PodOrder, pod: ServedPod) -> datetime:
    """EPOCH where it has none."""
    return (pod.ended_at if order is PodOrder.ENDED else pod.created_at) or EPOCH


class Audit(Troubles):
    """AuditLog."""

    def __init__(self) -> None:
        """Empty."""
        super().__init__()
        self.kept: list[AuditEntry] = []

    async def note(self, entry: AuditEntry) -> None:
        """Add it."""
        self.meet("note")
        self.kept.append(entry)

    async def entries(self, since: datetime, *, limit: int = 1000) -> Sequence[AuditEntry]:
        """The latest."""
        return sorted((one for one in self.kept if one.at >= since), key=lambda one: one.at)[-limit:]


@dataclass
class State(Troubles):
    """ServiceState."""

    kept_keys: Keys = field(default_factory=Keys)
    kept_requests: Requests = field(default_factory=Requests)
    kept_audit: Audit = field(default_factory=Audit)

    def __post_init__(self) -> None:
        self.kept_pods = Pods(self.kept_keys)

    @property
    def keys(self) -> ApiKeys:
        """The keys."""
        return self.kept_keys

    @property
    def requests(self) -> IdempotentRequests:
        """The requests."""
        return self.kept_requests

    @property
    def pods(self) -> ServedPods:
        """The pods."""
        return self.kept_pods

    @property
    def audit(self) -> AuditLog:
        """The writes."""
        return self.kept_audit

    async def check(self) -> None:
        """Whether something could be kept."""
        self.meet("check")

    async def aclose(self) -> None:
        """Close it."""
