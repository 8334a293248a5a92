"""Start: from a request to a runner that is online, or to nothing left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import anyio

from runner_provisioner.domain.ladder import Ladder, nothing_rented
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
    StoreError,
)
from runner_provisioner.ports import Clock, EventSink, GpuProvider, History, LeaseStore, RunnerRegistry
from runner_provisioner.services.act import Hands, Plan
from runner_provisioner.services.observe import Lookout
from runner_provisioner.services.offers import survey
from runner_provisioner.services.quarantine import Warden
from runner_provisioner.services.reconcile import Polls, Reconciler, cause_of, left_behind

CANCEL_WINDOW = 7.0  # GitHub kills a cancelled step 10 s after its first signal
GIVE_BACK_WINDOW = 120.0

DrawUp = Callable[[Offer, Registration, RunnerDownload], PodSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A start: whose it is, what it may rent, and the lease it begins with (perhaps one that an earlier try left)."""

    owner8: str
    key: str
    label: str
    request: GpuRequest
    lease: Lease
    draw_up: DrawUp


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
        except StoreError:
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
    ) -> None:
        self._providers = providers
        self._registry = registry
        self._clock = clock
        self._store = store
        self._events = events
        self._limits = limits
        self._polls = polls
        self._hurry = hurry
        self._history = history

    async def run(self, order: Order) -> Started:
        """Rent, wait, and come back once the runner is online and `settle` has shown that its pod is the only one.

        Raises a ProvisioningFailed or the error that decided; then nothing is left running, or LeftBehind says what.
        When cancelled, what is known is ended within `CANCEL_WINDOW` seconds before the cancellation goes on.
        """
        plan, refused = await self._prepare(order)
        hands = Hands(
            providers=self._providers, registry=self._registry, clock=self._clock, events=self._events, plan=plan
        )
        for refusal in refused.refusals:
            hands.refuse(refusal.offer, refusal.error)
        warden = Warden(self._history, clock=self._clock, events=self._events)
        reconciler = Reconciler(
            replace(order.lease, rungs=len(plan.rungs), shunned=await warden.shunned()),
            warden=warden,
            lookout=Lookout(providers=self._providers, registry=self._registry, owner8=order.owner8),
            hands=hands,
            store=self._store,
            clock=self._clock,
            limits=self._limits,
            polls=self._polls,
        )
        try:
            lease = await reconciler.run_until(lambda lease: _decided(lease, reconciler.seen))
        except anyio.get_cancelled_exc_class():
            self._hurry()
            await self._give_back(reconciler, hands, Outcome.CANCELLED, CANCEL_WINDOW)
            raise
        except Exception:
            await self._give_back(reconciler, hands, Outcome.LOST, GIVE_BACK_WINDOW)
            raise
        if lease.phase is Phase.RELEASED and lease.outcome is not Outcome.COMPLETED:
            raise self._failure(order, lease, hands)
        return self._started(order, reconciler, plan, hands)

    async def _prepare(self, order: Order) -> tuple[Plan, Ladder]:
        """Everything that can fail before anything is rented."""
        await self._registry.check()
        found = await survey(self._providers, order.request)
        registration = await self._registry.register()
        download = await self._registry.download()

        def blueprint(offer: Offer) -> PodSpec:
            return order.draw_up(offer, registration, download)

        return Plan(rungs=found.rungs, blueprint=blueprint), found

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
            return KeyInUse(f"this run already has a pod with key {order.key}: give each start its own key (--key)")
        if lease.outcome is Outcome.NO_CAPACITY:
            return nothing_rented(order.request, hands.refusals)
        if lease.outcome is Outcome.OVERPRICED:
            return BudgetExceeded(
                f"the pod cost more than the max price {order.request.max_price} USD/h and was given back: "
                "raise --max-price"
            )
        return _too_late(lease, hands)

    def _started(self, order: Order, reconciler: Reconciler, plan: Plan, hands: Hands) -> Started:
        pod = _kept(reconciler.lease, reconciler.seen)
        if pod is None:
            raise ProvisioningFailed("the job was over before the start was: its pod is gone already")
        offer = plan.rungs[reconciler.lease.rung] if reconciler.lease.rung < len(plan.rungs) else None
        return Started(
            name=reconciler.lease.name,
            label=order.label,
            pod=pod,
            offer=offer,
            started_at=self._clock.now(),
            refusals=tuple((str(one.offer), str(one.error)) for one in hands.refusals),
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
    trouble = next(iter(hands.troubles.values()), None)
    because = f" (last trouble: {cause_of(trouble)})" if trouble else ""
    words = {
        Outcome.BOOT_TIMEOUT: "no runner came online in time",
        Outcome.INTERRUPTED: "the provider took the pod back before its runner was online",
        Outcome.LOST: "the pod ended before its runner was online; its container log at the provider says why",
        Outcome.GATE_FAILED: "the machine is not what was rented, or has failed before (its pod ended itself before a "
        "runner was registered): the gate looks at GPU, driver, CUDA, disk and download",
        Outcome.EXPIRED: "the pod reached its lifetime before its runner was online",
    }
    what = words.get(lease.outcome or Outcome.LOST, "no runner came of it")
    kind = BootTimeout if lease.outcome is Outcome.BOOT_TIMEOUT else ProvisioningFailed
    return kind(f"{what}{because}; what was rented has been given back")
