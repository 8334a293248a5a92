"""Writing down what came of offers and pods. A record that cannot be kept is told once, and stops nothing."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType

from runner_provisioner.domain.budget import spent_on
from runner_provisioner.domain.events import Event
from runner_provisioner.domain.history import LONGEST_RUN, BadMachine, Ending, Memory, OfferKind, PodRecord, Refused
from runner_provisioner.domain.leases import Lease, Observation, Outcome, Phase, PodRef, Unknown, ref
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import Pod
from runner_provisioner.errors import RunnerProvisionerError, StoreError
from runner_provisioner.ports import Clock, EventSink, History

_ENDINGS = MappingProxyType(
    {
        Outcome.COMPLETED: Ending.ITSELF,
        Outcome.CANCELLED: Ending.ASKED,
        Outcome.EXPIRED: Ending.ASKED,
        Outcome.CONFLICT: Ending.ASKED,
        Outcome.ENDED_ELSEWHERE: Ending.ASKED,
        Outcome.INTERRUPTED: Ending.INTERRUPTED,
    }
)
_ONLINE = frozenset({Phase.READY, Phase.BUSY})
_OVER = frozenset({Phase.DRAINING, Phase.RELEASED})


class Chronicle:
    """One who writes down what happens to the pods of one lease; without a history nobody does."""

    def __init__(self, history: History | None, *, clock: Clock, events: EventSink) -> None:
        self._history = history
        self._clock = clock
        self._events = events
        self._begun_at = clock.now()
        self._told = False
        self._rented: set[PodRef] = set()
        self._online: set[PodRef] = set()
        self._ended: set[PodRef] = set()

    async def memory(self) -> Memory:
        """What ranking needs; nothing where it cannot be read."""
        if self._history is None:
            return Memory()
        try:
            return await self._history.memory(self._clock.now())
        except StoreError as error:
            self._tell(error)
            return Memory()

    async def spent_on(self, name: str | None) -> Decimal:
        """What the job of that name has cost so far, USD; nothing where that cannot be read."""
        job = RunKey.parse(name) if name is not None else None
        if self._history is None or job is None:
            return Decimal(0)
        now = self._clock.now()
        try:
            return spent_on(job, await self._history.pods(now - LONGEST_RUN), now)
        except StoreError as error:
            self._tell(error)
            return Decimal(0)

    async def refused(self, offer: Offer, error: RunnerProvisionerError) -> None:
        """An offer was asked for and not rented."""
        if self._history is not None:
            said = Refused(kind=OfferKind.of(offer), at=self._clock.now(), reason=type(error).__name__)
            await self._write(self._history.refused(said))

    async def bad(self, machine: BadMachine) -> None:
        """A machine is to be avoided."""
        if self._history is not None:
            await self._write(self._history.bad(machine))

    async def rented(self, pod: Pod, offer: Offer | None, *, lifetime: timedelta) -> None:
        """A pod exists. `lifetime` is what it was given, for where its tags cannot be read."""
        if self._history is None or ref(pod) in self._rented:
            return
        self._rented.add(ref(pod))
        created_at = pod.created_at or self._clock.now()
        price = pod.price if pod.price is not None else (offer.price if offer is not None else None)
        if price is None:
            return  # neither the provider nor an offer says what it costs
        expires_at = pod.tags.expires_at if pod.tags is not None else None
        record = PodRecord(
            provider=pod.provider,
            id=pod.id,
            name=pod.name,
            kind=OfferKind.of(offer) if offer is not None else _kind_of(pod),
            price=price,
            list_price=offer.list_price if offer is not None else price,
            created_at=created_at,
            expires_at=expires_at or created_at + lifetime,
            requested_at=self._begun_at,
            machine=pod.machine,
            repository=pod.tags.repository if pod.tags is not None else None,
        )
        await self._write(self._history.rented(record))

    async def follow(self, before: Lease, after: Lease, seen: Observation) -> None:
        """Write down what a pass has shown: its runner online, the end of a pod confirmed."""
        if self._history is None:
            return
        now = self._clock.now()
        if after.phase in _ONLINE and after.pod is not None and after.pod not in self._online:
            self._online.add(after.pod)
            await self._write(self._history.online(after.pod, now))
        ending = _ENDINGS.get(before.outcome or after.outcome or Outcome.LOST, Ending.FAILED)
        over = bool({before.phase, after.phase} & _OVER)
        for one in sorted(seen.gone - self._ended):
            if over or one in after.ended:
                self._ended.add(one)
                await self._write(self._history.ended(one, now, ending))

    async def over(self, pod: PodRef) -> None:
        """Somebody has ended it, and it is gone."""
        if self._history is not None:
            await self._write(self._history.ended(pod, self._clock.now(), Ending.ASKED))

    def unwritten(self, lease: Lease, seen: Observation) -> Pod | None:
        """The kept pod when nothing has been written of it: one whose create was never answered."""
        if self._history is None or lease.pod is None or lease.pod in self._rented or isinstance(seen.pods, Unknown):
            return None
        return next((pod for pod in seen.pods if ref(pod) == lease.pod), None)

    async def _write(self, written: Awaitable[None]) -> None:
        try:
            await written
        except StoreError as error:
            self._tell(error)

    def _tell(self, error: StoreError) -> None:
        if not self._told:
            self._told = True
            self._events.emit(Event(name="history_failed", at=self._clock.now(), fields={"error": str(error)}))


def _kind_of(pod: Pod) -> OfferKind:
    return OfferKind(
        provider=pod.provider,
        gpu_model=pod.gpu_model or "unknown",
        gpu_count=pod.gpu_count or 1,
        interruptible=bool(pod.interruptible),
    )
