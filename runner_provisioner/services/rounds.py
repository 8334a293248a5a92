"""What is done every minute for the service's pods: what is past its time is ended, what has ended is noted."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import TypeVar

import anyio

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.leases import PodRef, ref
from runner_provisioner.domain.names import ManualName
from runner_provisioner.domain.pods import Pod, PodClass
from runner_provisioner.domain.served import PodQuery, ServedPod
from runner_provisioner.errors import NotFound, RunnerProvisionerError, StoreError
from runner_provisioner.ports import Clock, EventSink
from runner_provisioner.service_ports import ServedPods, ServiceState
from runner_provisioner.services.manual import ManualPods
from runner_provisioner.services.orders import Orders, is_of, is_past

UNSETTLED = timedelta(minutes=2)
"""How old a create must be before its outcome is looked for: by then whoever served it has told, or has died."""
PATIENCE = 50.0
"""Seconds that a round spends on one provider: what is left then is for the next round, which begins soon."""
AT_ONCE = 16
"""Pods of one provider that are ended or settled side by side."""
MOST = 10_000  # pods that are looked after at once

T = TypeVar("T")
Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The pods that live, what they cost per hour, and what all that are remembered count for; by provider, USD."""

    pods: Mapping[str, int] = field(default_factory=dict)
    hourly: Mapping[str, Decimal] = field(default_factory=dict)
    spent: Mapping[str, Decimal] = field(default_factory=dict)


class Rounds:
    """The rounds of one process, one after the other: each provider's part has its own time."""

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
        self._looks: dict[str, Sequence[Pod]] = {}
        self._broken: list[StoreError] = []
        self._missed: set[PodRef] = set()
        self._unseen: set[str] = set()
        self._late: dict[str, set[object]] = {}
        self._keyless: Mapping[str, int] = {}

    async def make(self) -> Tally:
        """Settle creates whose server has died, end what is past its time or given up, note what has ended.

        What fails, or takes too long, is told and tried again in the next round. Raises StoreError.
        """
        unsettled = await self._state.pods.unsettled(self._clock.now() - UNSETTLED)
        self._unseen &= {served.name for served in unsettled}
        names = self._market(()).names
        self._looks, self._broken = {}, []
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(self._in_time, name, unsettled)
        for served in unsettled:
            await self._absent(served, names)
        for error in self._broken:
            raise error
        living = await living_of(self._state.pods)
        self._warn(names, [one.provider for one in living], [one.provider for one in unsettled])
        return await self._tally(living)

    # --- at one provider ---------------------------------------------------------------------------------------------

    async def _in_time(self, name: str, unsettled: Sequence[ServedPod]) -> None:
        with anyio.move_on_after(PATIENCE) as scope:
            await self._try(name, partial(self._at, name, unsettled))
        if scope.cancelled_caught:
            self._tell("round_failed", what=name, error=f"{PATIENCE:g} s were too few: the next round goes on")

    async def _at(self, name: str, unsettled: Sequence[ServedPod]) -> None:
        pods, errors = await self._market((name,)).look()
        for error in errors.values():
            raise error
        self._looks[name] = pods
        seen = {ref(pod): pod for pod in pods}
        living = {where: one for where, one in (await living_of(self._state.pods)).items() if where.provider == name}
        works: dict[object, Work] = {}
        for where, pod in seen.items():
            if where not in living and self._is_ours(pod):
                works[where] = partial(self._reopen, pod)
        for served in unsettled:
            found = next((pod for pod in pods if is_of(pod, served)), None)
            if found is not None and not self._is_under_way(served):
                works[served.name] = partial(self._settle, found, served)
        for where, served in living.items():
            if where not in seen:
                works[where] = partial(self._miss, where)
                continue
            self._missed.discard(where)
            if served.given_up_at is not None:
                works[where] = partial(self._end, where, "pod_given_up")
            elif is_past(served, self._clock.now()):
                works[where] = partial(self._end, where, "pod_past_its_time")
        await self._each(name, works)

    async def _each(self, name: str, works: Mapping[object, Work]) -> None:
        """Side by side; those that were not done with in an earlier round come last, lest they keep others waiting."""
        turns = anyio.CapacityLimiter(AT_ONCE)
        late = self._late[name] = self._late.get(name, set()) & set(works)

        async def one(what: object, work: Work) -> None:
            async with turns:
                late.add(what)
                if await self._try(what, work):
                    late.discard(what)

        async with anyio.create_task_group() as group:
            for what in sorted(works, key=late.__contains__):
                group.start_soon(one, what, works[what])

    async def _try(self, what: object, work: Work) -> bool:
        """Whether it was done. What the database could not do is raised once the other work is."""
        try:
            await work()
        except StoreError as error:
            self._broken.append(error)
        except RunnerProvisionerError as error:
            self._tell("round_failed", what=str(what), error=str(error))
        except Exception as error:  # noqa: BLE001 - whatever ails one pod, the others have to be ended
            self._tell("round_failed", error, what=str(what), error=repr(error))
        else:
            return True
        return False

    def _is_under_way(self, served: ServedPod) -> bool:
        return served.given_up_at is None and served.name in self._orders.under_way

    def _is_ours(self, pod: Pod) -> bool:
        return is_ours(pod, self._owner8)

    async def _settle(self, pod: Pod, served: ServedPod) -> None:
        """Remember what a dead server has rented; end what was given up and has come after all."""
        await self._orders.settle(pod, served)
        if served.given_up_at is not None:
            self._tell_of("pod_given_up", ref(pod))

    async def _reopen(self, pod: Pod) -> None:
        """A pod whose end was noted, though it lives, is looked after again."""
        where = ref(pod)
        served = await self._state.pods.get(pod.id, provider=pod.provider)
        if served is None or served.ended_at is None:
            return
        with contextlib.suppress(NotFound):  # a list may show for a while what has ended
            await self._market((pod.provider,)).get(pod.id)
            await self._state.pods.reopen(where)
            self._tell_of("pod_seen_again", where)

    async def _end(self, where: PodRef, why: str) -> None:
        market = self._market((where.provider,))
        with contextlib.suppress(NotFound):
            await market.get(where.id)
            await market.terminate(where.id)
            await self._state.pods.ended(where, self._clock.now())
            self._tell_of(why, where)

    async def _miss(self, where: PodRef) -> None:
        if _again(where, self._missed):
            await self._state.pods.ended(where, self._clock.now())

    # --- over all providers ------------------------------------------------------------------------------------------

    async def _absent(self, served: ServedPod, names: Sequence[str]) -> None:
        """Give up what two rounds have not shown; forget what was given up once it would have ended by itself."""
        where = (served.provider,) if served.provider is not None else names
        if self._is_under_way(served) or not all(name in self._looks for name in where):
            return
        if any(is_of(pod, served) for pods in self._looks.values() for pod in pods):
            return
        if served.given_up_at is None:
            if _again(served.name, self._unseen):
                await self._try(served.name, partial(self._state.pods.give_up, served.name, self._clock.now()))
        elif is_past(served, self._clock.now()):
            await self._try(served.name, partial(self._state.pods.withdraw, served.name))

    def _warn(self, names: Sequence[str], *where: Sequence[str | None]) -> None:
        """Tell of pods that nobody here can end, once and whenever their number changes."""
        found = Counter(name for names_of in where for name in names_of if name is not None and name not in names)
        for name, count in found.items():
            if self._keyless.get(name) != count:
                error = (
                    f"this service has no key of {name} and ends none of its pods there, of which {count} are or may "
                    "be alive: start it with that key, or end them there"
                )
                self._tell("pods_without_key", provider=name, pods=count, error=error)
        self._keyless = found

    async def _tally(self, living: Mapping[PodRef, ServedPod]) -> Tally:
        pods: Counter[str] = Counter()
        hourly: defaultdict[str, Decimal] = defaultdict(Decimal)
        spent = defaultdict(Decimal, await self._state.pods.spent())
        seen = {ref(pod) for found in self._looks.values() for pod in found}
        now = self._clock.now()
        for where, served in living.items():
            spent[where.provider] += served.over(now).counted
            # Where nobody could look, what is remembered bills.
            if where in seen or where.provider not in self._looks:
                pods[where.provider] += 1
                hourly[where.provider] += served.price or Decimal(0)
        return Tally(pods=pods, hourly=hourly, spent=spent)

    def _tell_of(self, name: str, where: PodRef) -> None:
        self._tell(name, provider=where.provider, id=where.id)

    def _tell(self, name: str, failure: Exception | None = None, **fields: str | int) -> None:
        self._events.emit(Event(name=name, at=self._clock.now(), fields=fields, failure=failure))


def _again(what: T, missed: set[T]) -> bool:
    """Absence counts when it was seen in two rounds."""
    again = what in missed
    (missed.discard if again else missed.add)(what)
    return again


def is_ours(pod: Pod, owner8: str) -> bool:
    """Whether it was made by hand for this installation, by its tags or else by its name."""
    if pod.tags is not None:
        return pod.tags.cls is PodClass.MANUAL and pod.tags.owner == owner8
    named = ManualName.parse(pod.name)
    return named is not None and named.owner8 == owner8


async def living_of(pods: ServedPods) -> dict[PodRef, ServedPod]:
    """Those that are remembered and not known to have ended."""
    page = await pods.list(PodQuery(ended=False, descending=False, limit=MOST))
    return {one.ref: one for one in page.pods if one.ref is not None}
