"""The service's own pods after their create: found, and changed by whoever may."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from runner_provisioner.domain.leases import ref
from runner_provisioner.domain.pods import Pod, PodId
from runner_provisioner.domain.served import ServedPod
from runner_provisioner.errors import InvalidRequest, MissingCredential, RunnerProvisionerError
from runner_provisioner.ports import Clock, EventSink
from runner_provisioner.service_ports import ServiceState
from runner_provisioner.services.manual import ManualPods
from runner_provisioner.services.orders import Orders, as_made
from runner_provisioner.services.rounds import Rounds, Tally, is_ours, living_of


class NotOurs(InvalidRequest):
    """The pod was not made by this installation's hands, and is not this service's to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A pod as its provider tells it, and what the service remembers of it where it made it.

    Of one that is `unseen`, because the service has no key of its provider now, `pod` is what is remembered, too.
    """

    pod: Pod
    served: ServedPod | None = None
    unseen: bool = False

    @property
    def label(self) -> str:
        """What its user calls it."""
        return (self.served.label if self.served is not None else "") or self.pod.name

    @property
    def expires_at(self) -> datetime | None:
        """When it ends, as it is remembered, or else as its tags say."""
        if self.served is not None:
            return self.served.expires_at
        return self.pod.tags.expires_at if self.pod.tags is not None else None


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
        self._clock = clock
        self._owner8 = owner8
        self._rounds = Rounds(state, market, orders, clock=clock, events=events, owner8=owner8)

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
        await self._at(known).terminate(pod_id)
        await self._state.pods.ended(ref(known.pod), self._clock.now())
        return known

    async def _ours(self, pod_id: PodId) -> Known:
        known = await self.get(pod_id)
        if known.served is None and not is_ours(known.pod, self._owner8):
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
        """Every pod of every account, the oldest first, and the providers that could not be looked at.

        Those at a provider that the service has no key of are told as they are remembered.
        """
        market = self._market(())
        pods, errors = await market.look()
        served = await living_of(self._state.pods)
        found = [Known(pod=pod, served=served.get(ref(pod))) for pod in pods]
        for where, one in served.items():
            if where.provider not in market.names:
                found.append(Known(pod=as_made(one, where).pod, served=one, unseen=True))
        now = self._clock.now()
        return sorted(found, key=lambda one: (one.pod.created_at or now, one.pod.id)), errors

    async def round(self) -> Tally:
        """What is done every minute. Raises StoreError."""
        return await self._rounds.make()
