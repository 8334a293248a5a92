"""The service's own pods after their create: found, changed by whoever may, and ended when their time is over."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.leases import PodRef, ref
from runner_provisioner.domain.names import ManualName
from runner_provisioner.domain.pods import Pod, PodClass, PodId
from runner_provisioner.domain.served import PodQuery, ServedPod
from runner_provisioner.errors import InvalidRequest, MissingCredential, NotFound, RunnerProvisionerError, StoreError
from runner_provisioner.ports import Clock, EventSink
from runner_provisioner.service_ports import ServiceState
from runner_provisioner.services.manual import ManualPods
from runner_provisioner.services.orders import Orders, is_of, is_past

UNSETTLED = timedelta(minutes=2)
"""How old a create must be before its outcome is looked for: by then whoever served it has told, or has died."""
MOST = 10_000  # pods that are looked after at once


class NotOurs(InvalidRequest):
    """The pod was not made by this installation's hands, and is not this service's to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A pod as its provider tells it, and what the service remembers of it where it made it."""

    pod: Pod
    served: ServedPod | None = None

    @property
    def label(self) -> str:
        """What its user calls it."""
        return (self.served.label if self.served is not None else "") or self.pod.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The pods that live, what they cost per hour, and what all that are remembered count for; by provider, USD."""

    pods: Mapping[str, int] = field(default_factory=dict)
    hourly: Mapping[str, Decimal] = field(default_factory=dict)
    spent: Mapping[str, Decimal] = field(default_factory=dict)


class Served:
    """The use cases of every route that is no create, and of the round that is made every minute."""

    def __init__(
        self,
        state: ServiceState,
        market: Callable[[Sequence[str]], ManualPods],
        orders: Orders,
        *,
        clock: Clock,
        events: EventSink,
        owner8: str,
    ) -> None:
        """`market` gives the pods of some providers, or of all."""
        self._state = state
        self._market = market
        self._orders = orders
        self._clock = clock
        self._events = events
        self._owner8 = owner8
        self._missed: set[PodRef] = set()

    # --- one pod -----------------------------------------------------------------------------------------------------

    async def get(self, pod_id: PodId) -> Known:
        """One pod, wherever it is. Raises NotFound; MissingCredential where it lives at a provider that is not here."""
        served = await self._state.pods.get(pod_id)
        pod = await self._of(served).get(pod_id)
        return Known(pod=pod, served=served)

    async def remembered(self, pod_id: PodId) -> ServedPod | None:
        """What the service knows of it by itself."""
        return await self._state.pods.get(pod_id)

    async def stop(self, pod_id: PodId) -> Known:
        """Stop it. Raises NotFound, NotOurs, InvalidRequest where its provider cannot."""
        known = await self._ours(pod_id)
        pod = await self._at(known).stop(pod_id)
        return Known(pod=pod, served=known.served)

    async def resume(self, pod_id: PodId) -> Known:
        """Start it again. Raises like `stop`, and CapacityUnavailable."""
        known = await self._ours(pod_id)
        pod = await self._at(known).resume(pod_id)
        return Known(pod=pod, served=known.served)

    async def end(self, pod_id: PodId) -> Known:
        """End it and look until it is gone. Raises NotFound, NotOurs, LeftBehind."""
        known = await self._ours(pod_id)
        await self._end(known.pod)
        return known

    async def _end(self, pod: Pod) -> None:
        await self._market((pod.provider,)).terminate(pod.id)
        await self._state.pods.ended(ref(pod), self._clock.now())

    async def _ours(self, pod_id: PodId) -> Known:
        known = await self.get(pod_id)
        if known.served is None and not _is_ours(known.pod, self._owner8):
            raise NotOurs(f"pod '{pod_id}' was not made by hand for this installation: end it where it was made")
        return known

    def _of(self, served: ServedPod | None) -> ManualPods:
        where = served.provider if served is not None else None
        # Nobody may be told that a pod is gone which bills at a provider that was not asked.
        if served is not None and served.ended_at is None and where not in {None, *self._market(()).names}:
            raise MissingCredential(f"pod '{served.id}' is at {where}, and this service has no key of {where} now")
        return self._market((where,) if where is not None else ())

    def _at(self, known: Known) -> ManualPods:
        return self._market((known.pod.provider,))

    # --- all pods ----------------------------------------------------------------------------------------------------

    async def all(self) -> tuple[Sequence[Known], Mapping[str, RunnerProvisionerError]]:
        """Every pod of every account, the oldest first, and the providers that could not be looked at."""
        pods, errors = await self._market(()).look()
        served = await self._living()
        found = [Known(pod=pod, served=served.get(ref(pod))) for pod in pods]
        now = self._clock.now()
        return sorted(found, key=lambda one: (one.pod.created_at or now, one.pod.id)), errors

    async def _living(self) -> dict[PodRef, ServedPod]:
        page = await self._state.pods.list(PodQuery(ended=False, descending=False, limit=MOST))
        return {one.ref: one for one in page.pods if one.ref is not None}

    # --- every minute ------------------------------------------------------------------------------------------------

    async def round(self) -> Tally:
        """Settle creates whose server has died, end what is past its time or given up, note what has ended.

        What fails is told and tried again in the next round. Raises StoreError.
        """
        given_up = await self._settle()
        market = self._market(())
        pods, errors = await market.look()
        looked_at = set(market.names) - set(errors)
        for served in given_up:
            looked = served.provider in looked_at if served.provider is not None else not errors
            await self._try(served.name, self._take_away(served, pods, looked=looked))
        seen = {ref(pod) for pod in pods}
        living = await self._living()
        for pod in pods:
            if ref(pod) not in living and _is_ours(pod, self._owner8):
                await self._try(ref(pod), self._reopen(pod, living))
        for where, served in living.items():
            if where in seen:
                self._missed.discard(where)
                if served.given_up_at is not None:
                    await self._try(where, self._end_seen(where, "pod_given_up"))
                elif is_past(served, self._clock.now()):
                    await self._try(where, self._end_seen(where, "pod_past_its_time"))
            elif where.provider in looked_at:
                await self._miss(where)
        return await self._tally(living, seen)

    async def _settle(self) -> Sequence[ServedPod]:
        """Gives those that have been given up before."""
        unsettled = await self._state.pods.unsettled(self._clock.now() - UNSETTLED)
        for served in unsettled:
            if served.given_up_at is None and served.name not in self._orders.under_way:
                await self._try(served.name, self._orders.recover(served))
        return [served for served in unsettled if served.given_up_at is not None]

    async def _take_away(self, served: ServedPod, pods: Sequence[Pod], *, looked: bool) -> None:
        """End what was given up and has come after all; forget it once it would have ended by itself."""
        pod = next((pod for pod in pods if is_of(pod, served)), None)
        if pod is not None:
            await self._orders.settle(pod, served)
            self._tell("pod_given_up", ref(pod))
        elif looked and is_past(served, self._clock.now()):
            await self._state.pods.withdraw(served.name)

    async def _reopen(self, pod: Pod, living: dict[PodRef, ServedPod]) -> None:
        """A pod whose end was noted, though it lives, is looked after again."""
        where = ref(pod)
        served = await self._state.pods.get(pod.id, provider=pod.provider)
        if served is None or served.ended_at is None:
            return
        with contextlib.suppress(NotFound):  # a list may show for a while what has ended
            await self._market((pod.provider,)).get(pod.id)
            await self._state.pods.reopen(where)
            living[where] = replace(served, ended_at=None, cost=None)
            self._tell("pod_seen_again", where)

    async def _end_seen(self, where: PodRef, why: str) -> None:
        with contextlib.suppress(NotFound):
            await self._end(await self._market((where.provider,)).get(where.id))
            self._tell(why, where)

    def _tell(self, name: str, where: PodRef) -> None:
        fields = {"provider": where.provider, "id": where.id}
        self._events.emit(Event(name=name, at=self._clock.now(), fields=fields))

    async def _miss(self, where: PodRef) -> None:
        """Absence counts when it was seen in two rounds."""
        if where not in self._missed:
            self._missed.add(where)
            return
        self._missed.discard(where)
        await self._state.pods.ended(where, self._clock.now())

    async def _try(self, what: object, work: Awaitable[object]) -> None:
        try:
            await work
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever ails one pod, the others have to be ended
            said = str(error) if isinstance(error, RunnerProvisionerError) else repr(error)
            fields = {"what": str(what), "error": said}
            self._events.emit(Event(name="round_failed", at=self._clock.now(), fields=fields))

    async def _tally(self, living: Mapping[PodRef, ServedPod], seen: set[PodRef]) -> Tally:
        pods: Counter[str] = Counter()
        hourly: defaultdict[str, Decimal] = defaultdict(Decimal)
        spent: defaultdict[str, Decimal] = defaultdict(Decimal)
        for where, served in living.items():
            if where in seen:
                pods[where.provider] += 1
                hourly[where.provider] += served.price or Decimal(0)
        page = await self._state.pods.list(PodQuery(limit=MOST))
        now = self._clock.now()
        for one in page.pods:
            spent[one.provider or ""] += (one if one.cost is not None else one.over(now)).counted
        return Tally(pods=pods, hourly=hourly, spent=spent)


def _is_ours(pod: Pod, owner8: str) -> bool:
    if pod.tags is not None:
        return pod.tags.cls is PodClass.MANUAL and pod.tags.owner == owner8
    named = ManualName.parse(pod.name)
    return named is not None and named.owner8 == owner8
