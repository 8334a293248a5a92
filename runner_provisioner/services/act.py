"""Doing what was decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

import anyio

from runner_provisioner.domain.bare import Stage
from runner_provisioner.domain.budget import Terms
from runner_provisioner.domain.events import Event
from runner_provisioner.domain.ladder import Refusal, without_raises
from runner_provisioner.domain.leases import (
    Action,
    CreatePod,
    EndPod,
    GiveConfig,
    Lease,
    Observation,
    Outcome,
    Phase,
    PodRef,
    RemoveRunner,
    created,
    drain,
    refused,
)
from runner_provisioner.domain.money import cost
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import Pod, PodSpec
from runner_provisioner.errors import (
    ApiRetired,
    AuthenticationFailed,
    BidTooLow,
    BootTimeout,
    BudgetExceeded,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InsufficientFunds,
    InvalidRequest,
    OfferUnfit,
    PermissionDenied,
    ProvisioningFailed,
    RateLimited,
    RemoteError,
    RunnerBusy,
    RunnerProvisionerError,
    SpotDiscontinued,
    Unreachable,
)
from runner_provisioner.ports import Clock, EventSink, GpuProvider, History, RunnerRegistry, starts_over_ssh
from runner_provisioner.services.chronicle import Chronicle
from runner_provisioner.services.jit import JitHandOver
from runner_provisioner.services.kill_time import layers_at
from runner_provisioner.services.observe import provider_of
from runner_provisioner.services.over_ssh import OverSsh

Blueprint = Callable[[Offer, timedelta], PodSpec]

SHORTEST = timedelta(minutes=1)
"""What the start script of an old pod is given: one without time would never begin, and be waited for."""

NEVER_SERVED: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.BOOT_TIMEOUT: "no runner came online in time: the container log at the provider says how far it came; "
        "a big image needs a longer --boot-timeout",
        Outcome.INTERRUPTED: "the provider took the pod back before its runner was online",
        Outcome.LOST: "the pod ended before its runner was online: its container log at the provider says why",
        Outcome.OVERPRICED: "the pod cost more than --max-price allows",
        Outcome.EXPIRED: "the pod reached its lifetime before its runner was online",
    }
)
"""Why a pod that was given back never served, and what to do."""

_NEXT_OFFER = (CapacityUnavailable, BidTooLow)
_NEXT_PROVIDER = (AuthenticationFailed, PermissionDenied, InsufficientFunds, InvalidRequest, ApiRetired)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a start would rent: the rungs of its ladder, the pod to ask for on each, and what that may cost.

    `afresh` draws up the same pod with a registration of this moment.
    """

    rungs: Sequence[Offer]
    blueprint: Blueprint
    terms: Terms
    afresh: Callable[[Offer, timedelta], Awaitable[PodSpec]] | None = None


class Hands:
    """One who acts. An end that fails is noted and left to the next pass."""

    def __init__(  # noqa: PLR0913 - each is a collaborator of its own
        self,
        *,
        providers: Mapping[str, GpuProvider],
        registry: RunnerRegistry,
        clock: Clock,
        events: EventSink,
        plan: Plan | None = None,
        told_looks: set[tuple[str, str]] | None = None,
        jit: JitHandOver | None = None,
        over_ssh: OverSsh | None = None,
        history: History | None = None,
    ) -> None:
        """`told_looks` are the causes of failed looks that were told; leases that end side by side share them."""
        self._providers = providers
        self._registry = registry
        self._clock = clock
        self._events = events
        self._plan = plan
        self._jit = jit
        self._over_ssh = over_ssh
        self.chronicle = Chronicle(history, clock=clock, events=events)
        self.refusals: list[Refusal] = []
        self.why_lost: str | None = None
        """Why the pod that is kept will never serve, where the pod itself has told."""
        self.given_back = ""
        """Why the latest pod that never served was given back."""
        self.troubles: dict[str, RunnerProvisionerError] = {}
        self._passed_over: dict[str, RemoteError] = {}
        self._told_looks = told_looks if told_looks is not None else set()
        self._billing: tuple[Decimal, datetime] | None = None  # since when the pod of the last create may cost what

    async def perform(self, lease: Lease, actions: Sequence[Action]) -> Lease:
        """Do it all; the ends at once and side by side, then a create, if there is one."""
        async with anyio.create_task_group() as group:
            for action in actions:
                if isinstance(action, EndPod):
                    group.start_soon(self._end, action.pod)
                elif isinstance(action, RemoveRunner):
                    group.start_soon(self._remove, action, lease.name)
        for action in actions:
            if isinstance(action, CreatePod):
                lease = await self._create(lease, action.rung)
            elif isinstance(action, GiveConfig):
                lease = await self._serve(lease, action.pod)
        return lease

    def tell(self, name: str, **fields: str | float | bool | None) -> None:
        """Tell whoever listens."""
        self._events.emit(Event(name=name, at=self._clock.now(), fields=fields))

    def tell_failed_look(self, error: RemoteError, patience: float | None) -> None:
        """Tell once per cause that a service cannot be looked at; `patience` is for how many seconds it is tried."""
        cause = (error.service, error.code or type(error).__name__)
        if cause not in self._told_looks:
            self._told_looks.add(cause)
            self.tell("look_failed", service=error.service or None, error=str(error), patience_seconds=patience)

    async def _end(self, pod: PodRef) -> None:
        try:
            await provider_of(pod, self._providers).terminate(pod.id)
        except RemoteError as error:
            self.troubles[pod.id] = error
            self.tell("pod_end_failed", pod=pod.id, error=str(error))
        else:
            self.troubles.pop(pod.id, None)
            self.tell("pod_end_asked", pod=pod.id, provider=pod.provider)

    async def _remove(self, action: RemoveRunner, name: str) -> None:
        try:
            await self._registry.remove(action.runner)
        except RunnerBusy as error:
            if not isinstance(self.troubles.get(name), RunnerBusy):
                self.tell("runner_busy", runner=name)
            self.troubles[name] = error
        except RemoteError as error:
            self.troubles[name] = error
            self.tell("runner_removal_failed", runner=name, error=str(error))
        else:
            self.troubles.pop(name, None)
            self.tell("runner_removed", runner=name)

    async def _serve(self, lease: Lease, pod: Pod) -> Lease:
        """Give the pod what it waits for; the lease on its way out where it will never serve."""
        if self._over_ssh is not None and starts_over_ssh(self._providers[pod.provider]):
            lease = await self._begin(self._over_ssh, lease, pod)
        if self._jit is not None and lease.phase is not Phase.DRAINING:
            await self._give(self._jit, pod, lease.name)
        return lease

    async def _begin(self, over_ssh: OverSsh, lease: Lease, pod: Pod) -> Lease:
        try:
            inside, begun = await over_ssh.bring(pod, lambda: self._afresh(lease, pod))
        except RunnerProvisionerError as error:
            if str(error) != str(self.troubles.get("begin")):
                self.tell("pod_not_begun", pod=pod.id, error=str(error))
            self.troubles["begin"] = error
            return lease
        self.troubles.pop("begin", None)
        if inside.pinned is not None:
            self.tell("host_key_pinned", pod=pod.id, fingerprint=inside.pinned)
        if begun:
            self.tell("pod_begun", pod=pod.id)
        if inside.stage is Stage.OVER:
            self.why_lost = f"what was started in pod {pod.id} has ended, as after a restart of its machine"
            return drain(lease, Outcome.LOST)
        if inside.failure is not None:
            self.why_lost = f"the gate in pod {pod.id} says: {inside.failure}"
            return drain(lease, Outcome.GATE_FAILED)
        return lease

    async def _afresh(self, lease: Lease, pod: Pod) -> PodSpec:
        """What is to run in the pod for the rest of its life, perhaps one that a start before this one rented."""
        assert self._plan is not None  # noqa: S101 - only a lease of a start hands over
        assert self._plan.afresh is not None  # noqa: S101 - which has given it too
        offer = self._offer_behind(lease, pod)
        terms = self._plan.terms
        age = self._clock.now() - pod.created_at if pod.created_at is not None else timedelta()
        left = terms.lifetime_at(offer.price) - max(age, timedelta())
        return await self._plan.afresh(offer, max(left, SHORTEST))

    def _offer_behind(self, lease: Lease, pod: Pod) -> Offer:
        """The offer that the pod was rented from, as far as the ladder of now and the pod itself tell."""
        assert self._plan is not None  # noqa: S101 - see `_afresh`
        mine = self.offer_of(lease)
        for offer in ((mine,) if mine is not None else ()) + tuple(self._plan.rungs):
            if (offer.provider, offer.gpu_model) == (pod.provider, pod.gpu_model or offer.gpu_model):
                return offer
        return Offer(
            provider=pod.provider,
            id="",
            gpu_model=pod.gpu_model or "",
            gpu_count=pod.gpu_count or 1,
            price=pod.price or Decimal(0),
            interruptible=bool(pod.interruptible),
        )

    async def _give(self, jit: JitHandOver, pod: Pod, name: str) -> None:
        try:
            given = await jit.give(pod, name)
        except RunnerProvisionerError as error:
            if str(error) != str(self.troubles.get("hand-over")):
                self.tell("hand_over_failed", pod=pod.id, error=str(error))
            self.troubles["hand-over"] = error
            return
        if given:
            self.troubles.pop("hand-over", None)
            self.tell("hand_over_done", pod=pod.id)

    async def _create(self, lease: Lease, rung: int) -> Lease:
        assert self._plan is not None  # noqa: S101 - only a lease with rungs decides to create
        offer = self._plan.rungs[rung]
        if self._hopeless(offer) is not None:
            return self._pass_over(lease, rung)
        terms = self._charged(self._plan.terms)
        self._plan = replace(self._plan, terms=terms)
        try:
            terms.check(offer)
        except BudgetExceeded as error:
            return self._refuse(lease, offer, error)
        # A pod that turns up without an answer is held to the same price.
        lease = replace(lease, cap=terms.cap(offer.price), worth=terms.left)
        if offer.raises:
            self.tell("bid_raised", offer=str(offer), bid=str(offer.price), step=offer.raises)
        self.tell("offer_tried", offer=str(offer), provider=offer.provider, gpu=offer.gpu_model, rung=rung)
        self._billing = (offer.price, self._clock.now())
        try:
            spec = self._spec(self._plan, offer, terms.lifetime_at(offer.price))
            pod = await self._providers[offer.provider].create(spec, offer)
        except RemoteError as error:
            if isinstance(error, _NEXT_OFFER) and not isinstance(error, OfferUnfit):
                await self.chronicle.refused(offer, error)
            return self._not_created(lease, offer, error)
        except InvalidRequest as error:
            return self._refuse(lease, offer, error)
        self.tell(
            "pod_rented", pod=pod.id, provider=pod.provider, gpu=offer.gpu_model, price=str(pod.price or offer.price)
        )
        self.tell("pod_layers", pod=pod.id, layers=layers_at(self._providers[pod.provider]))
        plan = self._plan = replace(self._plan, rungs=without_raises(self._plan.rungs, rung))
        lease = replace(created(lease, pod), rungs=len(plan.rungs))
        await self.chronicle.rented(pod, offer, lifetime=plan.terms.lifetime_at(offer.price))
        return lease

    def _spec(self, plan: Plan, offer: Offer, lifetime: timedelta) -> PodSpec:
        spec = plan.blueprint(offer, lifetime)
        if self._over_ssh is None or not starts_over_ssh(self._providers[offer.provider]):
            return spec
        return spec.bare(self._over_ssh.public_keys[offer.provider])

    def _charged(self, terms: Terms) -> Terms:
        """The terms after what the last pod has cost: it is gone when another is asked for."""
        if self._billing is None:
            return terms
        price, since = self._billing
        self._billing = None
        return terms.after(cost(price, (self._clock.now() - since).total_seconds()))

    async def follow(self, before: Lease, after: Lease, seen: Observation) -> None:
        """Write down what a pass has shown of the lease's pods."""
        pod = self.chronicle.unwritten(after, seen)
        if pod is not None and self._plan is not None:
            await self.chronicle.rented(pod, self.offer_of(after), lifetime=self._plan.terms.lifetime)
        await self.chronicle.follow(before, after, seen)

    def offer_of(self, lease: Lease) -> Offer | None:
        """The offer on whose rung the lease stands."""
        rungs = self._plan.rungs if self._plan is not None else ()
        return rungs[lease.rung] if lease.rung < len(rungs) else None

    def _not_created(self, lease: Lease, offer: Offer, error: RemoteError) -> Lease:
        if isinstance(error, (*_NEXT_OFFER, *_NEXT_PROVIDER, SpotDiscontinued)):
            return self._refuse(lease, offer, error)
        if isinstance(error, RateLimited) or (isinstance(error, Unreachable) and not error.arrived):
            # It never arrived: the next pass tries the same offer again, until the deadline.
            self._billing = None
            self.troubles[offer.provider] = error
            self.tell("create_not_sent", offer=str(offer), error=str(error))
            return refused(lease, next_rung=lease.rung)
        self.tell(
            "create_unanswered", offer=str(offer), error=str(error), known=isinstance(error, CreateOutcomeUnknown)
        )
        return lease

    def _refuse(self, lease: Lease, offer: Offer, error: RunnerProvisionerError) -> Lease:
        """The lease on the next rung for which no refusal so far holds as well; those in between are noted."""
        self._billing = None
        self.refuse(offer, error)
        return self._pass_over(lease, lease.rung + 1)

    def _pass_over(self, lease: Lease, rung: int) -> Lease:
        """The lease on this rung, or on the first after it for which no refusal so far holds as well."""
        rungs = self._plan.rungs if self._plan else ()
        while rung < len(rungs) and (why := self._hopeless(rungs[rung])) is not None:
            self.refuse(rungs[rung], OfferUnfit(f"this holds for it too: {why}"))
            rung += 1
        return refused(lease, next_rung=rung)

    def pass_over(self, provider: str, error: RemoteError) -> None:
        """Say that a provider is not rented from any more; its rungs are refused when it is their turn."""
        self._passed_over[provider] = error
        self.tell("provider_passed_over", provider=provider, error=str(error))

    def _hopeless(self, offer: Offer) -> RunnerProvisionerError | None:
        """The refusal of another offer, or the failure of its provider, that holds for this one as well."""
        if offer.provider in self._passed_over:
            return self._passed_over[offer.provider]
        return next((one.error for one in self.refusals if _holds_for(offer, one)), None)

    def note_failed_placement(self, lease: Lease, why: str | None) -> None:
        """Note that a rented pod never served; `why` where more is known than the lease says."""
        outcome = lease.outcome or Outcome.LOST
        self.given_back = why or NEVER_SERVED.get(outcome, outcome.value)
        kind = BootTimeout if outcome is Outcome.BOOT_TIMEOUT else ProvisioningFailed
        offer = self.offer_of(lease)
        if offer is not None:
            self.refuse(offer, kind(self.given_back))

    def refuse(self, offer: Offer, error: RunnerProvisionerError) -> None:
        """Note that nothing came of an offer."""
        self.refusals.append(Refusal(offer=offer, error=error))
        name = "offer_skipped" if isinstance(error, OfferUnfit) else "offer_refused"
        self.tell(name, offer=str(offer), error=str(error), kind=type(error).__name__)


def _holds_for(offer: Offer, refusal: Refusal) -> bool:
    """Whether it holds for this offer as well."""
    if offer.provider != refusal.offer.provider:
        return False
    if isinstance(refusal.error, SpotDiscontinued):
        return offer.interruptible
    return isinstance(refusal.error, _NEXT_PROVIDER)
