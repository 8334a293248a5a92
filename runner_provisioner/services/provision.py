"""Start: from a request to a runner that is online, or to nothing left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

import anyio

from runner_provisioner.domain.budget import Budget, Terms, affordable
from runner_provisioner.domain.history import Memory
from runner_provisioner.domain.ladder import nothing_rented
from runner_provisioner.domain.leases import Lease, Limits, Observation, Outcome, Phase, Unknown, drain, ref
from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.pods import Pod, PodSpec
from runner_provisioner.domain.runners import Registration, RunnerDownload
from runner_provisioner.errors import (
    BootTimeout,
    BudgetExceeded,
    KeyInUse,
    ProvisioningFailed,
    RunnerProvisionerError,
    Stopped,
    StoreError,
    Timeout,
)
from runner_provisioner.ports import Clock, EventSink, GpuProvider, History, LeaseStore, RunnerRegistry
from runner_provisioner.services.act import NEVER_SERVED, Hands, Plan
from runner_provisioner.services.budget import Purse
from runner_provisioner.services.chronicle import Chronicle
from runner_provisioner.services.jit import JitHandOver
from runner_provisioner.services.kill_time import Cleaned, KillTimes
from runner_provisioner.services.observe import Lookout, Passing
from runner_provisioner.services.offers import PATIENCE, Surveyed, survey
from runner_provisioner.services.over_ssh import OverSsh
from runner_provisioner.services.quarantine import Warden
from runner_provisioner.services.reconcile import Polls, Reconciler, cause_of, left_behind

CANCEL_WINDOW = 5.5  # GitHub sends SIGTERM 7.5 s after its first signal, and a busy machine takes a second for the exit
GIVE_BACK_WINDOW = 120.0

DrawUp = Callable[[Offer, timedelta, Registration | None, RunnerDownload], PodSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A start: whose it is, what it may rent, and the lease it begins with (perhaps one that an earlier try left).

    `terms` bound what its pod may cost, `budget` what all pods of the installation may. A `lenient`
    one serves on any machine, also on one that failed before. `accept_no_kill_time` rents also where the provider ends
    no forgotten pod.
    """

    owner8: str
    key: str
    label: str
    request: GpuRequest
    lease: Lease
    draw_up: DrawUp
    jit: JitHandOver | None = None
    over_ssh: OverSsh | None = None
    terms: Terms | None = None
    budget: Budget = field(default_factory=Budget)
    lenient: bool = False
    accept_no_kill_time: bool = False

    @property
    def hands_over(self) -> bool:
        """Whether a pod of it may wait for something from us."""
        return self.jit is not None or self.over_ssh is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A runner that is online."""

    name: str
    label: str
    pod: Pod
    offer: Offer | None
    started_at: datetime
    refusals: Sequence[tuple[str, str]] = ()


class _Forgiving:
    """A store whose failures stop nobody from ending things."""

    def __init__(self, store: LeaseStore) -> None:
        self._store = store

    def save(self, lease: Lease) -> Lease:
        """Keep it if that is possible."""
        try:
            return self._store.save(lease)
        except (StoreError, Stopped):
            return lease


class Start:
    """The use case. Whatever ends it, what it rented is asked to end before the error leaves."""

    def __init__(  # noqa: PLR0913 - each is a collaborator of its own
        self,
        *,
        providers: Mapping[str, GpuProvider],
        registry: RunnerRegistry,
        clock: Clock,
        store: LeaseStore,
        events: EventSink,
        limits: Limits,
        polls: Polls,
        hurry: Callable[[], None],
        history: History | None = None,
        cleaned: Cleaned | None = None,
        patience: float = PATIENCE,
        rent_from: Collection[str] = (),
    ) -> None:
        """`cleaned` tells whether a scheduled clean-up works; `rent_from` are the providers to rent from, none: all.

        A provider that hangs costs `patience` seconds once another has answered, and is passed over from then on.
        """
        self._providers = providers
        self._registry = registry
        self._clock = clock
        self._store = store
        self._events = events
        self._limits = limits
        self._polls = polls
        self._hurry = hurry
        self._history = history
        self._cleaned = cleaned
        self._patience = patience
        self._rentable = {name: one for name, one in providers.items() if not rent_from or name in rent_from}

    async def run(self, order: Order) -> Started:
        """Rent, wait, and come back once the runner is online and `settle` has shown that its pod is the only one.

        Raises a ProvisioningFailed or the error that decided; then nothing is left running, or LeftBehind says what.
        When cancelled, what is known is ended within `CANCEL_WINDOW` seconds before the cancellation goes on.
        """
        purse = self._purse(order)
        chronicle = Chronicle(self._history, clock=self._clock, events=self._events)
        memory = await chronicle.memory()
        spent = await chronicle.spent_on(order.lease.name)
        plan, found = await self._prepare_in_time(order, purse, memory, spent)
        hands = Hands(
            providers=self._providers,
            registry=self._registry,
            clock=self._clock,
            events=self._events,
            plan=plan,
            jit=order.jit,
            over_ssh=order.over_ssh,
        )
        hands.chronicle = chronicle  # one for all: a history that fails is told once
        for name, error in found.passed_over.items():
            hands.pass_over(name, error)
        for refusal in found.ladder.refusals:
            hands.refuse(refusal.offer, refusal.error)
        warden = Warden(chronicle, memory, clock=self._clock, events=self._events, lenient=order.lenient)
        shunned = warden.shunned()
        reconciler = Reconciler(
            replace(
                order.lease,
                rungs=len(plan.rungs),
                max_price=plan.terms.max_price,
                worth=plan.terms.left,
                hands_over=order.hands_over,
                shunned=shunned,
            ),
            warden=warden,
            lookout=Lookout(
                providers=self._providers,
                registry=self._registry,
                owner8=order.owner8,
                passing=self._passing(order, found, hands),
            ),
            hands=hands,
            store=self._store,
            clock=self._clock,
            limits=self._limits,
            polls=self._polls,
        )
        try:
            lease = await reconciler.run_until(lambda lease: _decided(lease, reconciler.seen))
            kept = _kept(lease, reconciler.seen)
            if kept is not None:
                await purse.confirm(kept)
        except BudgetExceeded:
            await self._give_back(reconciler, hands, Outcome.OVERPRICED, GIVE_BACK_WINDOW)
            raise
        except Stopped:
            await self._give_back(reconciler, hands, Outcome.CANCELLED, GIVE_BACK_WINDOW)
            raise
        except anyio.get_cancelled_exc_class():
            self._hurry()
            await self._give_back(reconciler, hands, Outcome.CANCELLED, CANCEL_WINDOW)
            raise
        except Exception:
            await self._give_back(reconciler, hands, Outcome.LOST, GIVE_BACK_WINDOW)
            raise
        if lease.phase is Phase.RELEASED and lease.outcome is not Outcome.COMPLETED:
            raise self._failure(order, lease, hands)
        return self._started(order, reconciler, hands)

    def _passing(self, order: Order, found: Surveyed, hands: Hands) -> Passing:
        """Who is not looked at: nobody yet where an earlier try of this start may have a pod that it does not know."""
        passing = Passing(patience=self._patience, tell=hands.pass_over)
        if not order.lease.unsure:
            passing.errors |= found.passed_over
            passing.apart = frozenset(set(self._providers) - set(self._rentable))
        return passing

    def _purse(self, order: Order) -> Purse:
        return Purse(
            order.budget,
            providers=self._providers,
            history=self._history,
            clock=self._clock,
            events=self._events,
            owner8=order.owner8,
            lifetime=self._limits.lifetime,
        )

    async def _prepare_in_time(
        self, order: Order, purse: Purse, memory: Memory, spent: Decimal
    ) -> tuple[Plan, Surveyed]:
        deadline, now = order.lease.deadline, self._clock.now()
        try:
            with anyio.fail_after((deadline - now).total_seconds() if deadline else None):
                return await self._prepare(order, purse, memory, spent)
        except TimeoutError as error:
            message = (
                "the services did not answer within the start timeout: this start has rented nothing; try again later"
            )
            raise Timeout(message) from error

    async def _prepare(self, order: Order, purse: Purse, memory: Memory, spent: Decimal) -> tuple[Plan, Surveyed]:
        """Everything that can fail before anything is rented."""
        await self._registry.check()
        surveyed = await survey(self._rentable, order.request, memory, patience=self._patience)
        kill_times = KillTimes(providers=self._providers, accepted=order.accept_no_kill_time, cleaned=self._cleaned)
        found, unended = await kill_times.allowed(surveyed.ladder)
        terms = (order.terms or Terms(lifetime=self._limits.lifetime, max_price=order.lease.cap)).after(spent)
        purse.unseen = surveyed.passed_over
        found = affordable(found, terms, await purse.enforced())
        registration = await self._registry.register() if order.jit is None else None
        download = await self._registry.download()

        def blueprint(offer: Offer, lifetime: timedelta) -> PodSpec:
            return replace(order.draw_up(offer, lifetime, registration, download), needs_kill_time=not unended)

        async def afresh(offer: Offer, lifetime: timedelta) -> PodSpec:
            token = await self._registry.register() if order.jit is None else None
            return order.draw_up(offer, lifetime, token, download)

        if found.rungs:
            first = found.rungs[0]  # a pod that cannot be described must not cost a look for it
            blueprint(first, terms.lifetime_at(first.price))
        plan = Plan(rungs=found.rungs, blueprint=blueprint, terms=terms, afresh=afresh)
        return plan, replace(surveyed, ladder=found)

    async def _give_back(self, reconciler: Reconciler, hands: Hands, outcome: Outcome, seconds: float) -> None:
        """End what is known, shielded, for so long at most; the rest is in the stored lease for stop and clean-up."""
        with anyio.move_on_after(seconds, shield=True):
            reconciler.lease = replace(drain(reconciler.lease, outcome), rungs=0)
            # What is known is ended also when the disk is full: only a create needs its intent stored.
            reconciler.store = _Forgiving(self._store)
            try:
                await reconciler.run_until(_released)
            except RunnerProvisionerError as error:
                hands.tell("give_back_failed", error=str(error))
        left = () if _released(reconciler.lease) else left_behind(reconciler.lease, reconciler.seen)
        hands.tell("give_back_done", complete=_released(reconciler.lease), left="; ".join(left) or None)

    def _failure(self, order: Order, lease: Lease, hands: Hands) -> RunnerProvisionerError:
        if lease.outcome is Outcome.CONFLICT:
            return key_in_use(order.key)
        if lease.outcome is Outcome.NO_CAPACITY:
            return nothing_rented(order.request, hands.refusals)
        if lease.outcome is Outcome.OVERPRICED:
            return _overpriced(order)
        return _too_late(lease, hands)

    def _started(self, order: Order, reconciler: Reconciler, hands: Hands) -> Started:
        pod = _kept(reconciler.lease, reconciler.seen)
        if pod is None:
            raise ProvisioningFailed("the job was over before the start was: its pod is gone already")
        return Started(
            name=reconciler.lease.name,
            label=order.label,
            pod=pod,
            offer=hands.offer_of(reconciler.lease),
            started_at=self._clock.now(),
            refusals=tuple((str(one.offer), str(one.error)) for one in hands.refusals),
        )


def key_in_use(key: str) -> KeyInUse:
    """What ends a start that finds another start's pod under its name."""
    return KeyInUse(f"this run already has a pod with key {key}: give each start its own key (--key)")


def _overpriced(order: Order) -> BudgetExceeded:
    cap = f"the max price {order.request.max_price} USD/h"
    if order.terms is None or order.terms.max_cost is None:
        return BudgetExceeded(f"the pod cost more than {cap} and was given back: raise --max-price")
    return BudgetExceeded(
        f"the pod cost more than {cap}, or more than its offer said, so that it could have exceeded the max cost of "
        f"{order.terms.max_cost} USD, and was given back: raise --max-price or --max-cost"
    )


def _decided(lease: Lease, seen: Observation | None) -> bool:
    if lease.phase in {Phase.READY, Phase.BUSY} and lease.settled:
        # The runner may have come online during a look at its pod that failed.
        return _kept(lease, seen) is not None
    return lease.phase is Phase.RELEASED


def _released(lease: Lease) -> bool:
    return lease.phase is Phase.RELEASED


def _kept(lease: Lease, seen: Observation | None) -> Pod | None:
    pods = seen.pods if seen is not None and not isinstance(seen.pods, Unknown) else ()
    return next((pod for pod in pods if ref(pod) == lease.pod), None)


def _too_late(lease: Lease, hands: Hands) -> RunnerProvisionerError:
    if lease.outcome in {Outcome.GATE_FAILED, Outcome.SHUNNED}:
        return ProvisioningFailed(f"{hands.given_back}; what was rented has been given back")
    trouble = next(iter(hands.troubles.values()), None)
    if trouble is not None and not lease.made and lease.pod is None and not lease.unsure:
        trouble.args = (f"nothing was rented in time: {trouble}",)
        return trouble
    because = f" (last trouble: {cause_of(trouble)})" if trouble else ""
    what = NEVER_SERVED.get(lease.outcome or Outcome.LOST, "no runner came of it")
    kind = BootTimeout if lease.outcome is Outcome.BOOT_TIMEOUT else ProvisioningFailed
    return kind(f"{what}{because}; what was rented has been given back")
