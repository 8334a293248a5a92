"""Outlasting a start: one that runs elsewhere may take the end of its pod for a failed gate and rent again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.leases import Lease, Limits, Outcome, Phase
from runner_provisioner.domain.underway import may_be_under_way, rents_again_within, reports_within
from runner_provisioner.errors import RemoteError
from runner_provisioner.ports import Clock, EventSink, GpuProvider
from runner_provisioner.services.ending import Ended, Ending
from runner_provisioner.services.observe import read_pods
from runner_provisioner.services.reconcile import Polls


class Outlast:
    """What a stop does after it has ended a pod that a start elsewhere may still be waiting for."""

    def __init__(
        self,
        *,
        ending: Ending,
        providers: Mapping[str, GpuProvider],
        owner8: str,
        clock: Clock,
        events: EventSink,
        limits: Limits,
        polls: Polls,
    ) -> None:
        self._ending = ending
        self._providers = providers
        self._owner8 = owner8
        self._clock = clock
        self._events = events
        self._reports_within = reports_within(limits, poll=polls.booting)
        self._window = rents_again_within(limits, poll=polls.booting).total_seconds()
        self._poll = polls.booting

    async def run(self, ended: Sequence[Ended], *, since: datetime, told: Collection[str] = ()) -> list[Ended]:
        """End what starts under way rent instead of what has been `ended`, until none has come for long enough.

        `since` is when the ending began, `told` the names whose start learns of the stop by itself. Gives everything
        that was ended. Raises LeftBehind when something is still there, a RemoteError when that could not be told.
        """
        names = {one.name for one in ended if one.name not in told and self._under_way(one, since)}
        if not names:
            return list(ended)
        self._events.emit(Event(name="start_outlasted", at=self._clock.now(), fields={"seconds": self._window}))
        more = await self._outlast(names)
        return [_with(one, [late for late in more if late.name == one.name]) for one in ended]

    def _under_way(self, one: Ended, since: datetime) -> bool:
        found = one.first
        if found is None or not one.pods:
            return False
        return may_be_under_way(found, now=since, reports_within=self._reports_within)

    async def _outlast(self, names: Collection[str]) -> list[Ended]:
        more: list[Ended] = []
        since = self._clock.monotonic()
        while self._clock.monotonic() - since < self._window:
            await self._clock.sleep(self._poll)
            found = await self._found(names)
            if found:
                leases = [Lease(name=name, phase=Phase.DRAINING, outcome=Outcome.CANCELLED) for name in sorted(found)]
                more += await self._ending.drain(leases, self._owner8)
                since = self._clock.monotonic()
        return more

    async def _found(self, names: Collection[str]) -> set[str]:
        """The names that have a pod, or may have one: where nobody can look, the ending tries with patience."""
        found: set[str] = set()
        for provider in self._providers.values():
            try:
                listed = {pod.id: pod.name for pod in await provider.list(self._owner8) if pod.name in names}
            except RemoteError:
                return set(names)
            read = await read_pods(provider, listed)
            # A list may still show what is gone.
            found |= {listed[pod_id] for pod_id, sight in read.items() if sight is not None}
        return found


def _with(one: Ended, later: Sequence[Ended]) -> Ended:
    pods = (*one.pods, *(pod for late in later for pod in late.pods))
    return replace(one, pods=tuple(dict.fromkeys(pods)), ghost=any(each.ghost for each in (one, *later)))
