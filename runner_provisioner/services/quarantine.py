"""Keeping pods off machines that failed, as far as a provider lets one: it chooses the machine, we give it back."""

from __future__ import annotations

from dataclasses import replace

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.history import BadMachine
from runner_provisioner.domain.leases import Lease, Observation, Outcome, Phase, PodRef, Unknown, ref
from runner_provisioner.domain.quarantine import quarantined
from runner_provisioner.errors import StoreError
from runner_provisioner.ports import Clock, EventSink, History


class Warden:
    """One who remembers which machine each pod of a lease is on; without a history nothing is kept beyond that.

    A history that cannot be read or written is told as an event and stops nothing.
    """

    def __init__(self, history: History | None, *, clock: Clock, events: EventSink) -> None:
        self._history = history
        self._clock = clock
        self._events = events
        self._machines: dict[PodRef, str] = {}

    async def shunned(self) -> frozenset[tuple[str, str]]:
        """The (provider, machine) pairs to keep off now."""
        if self._history is None:
            return frozenset()
        now = self._clock.now()
        try:
            memory = await self._history.memory(now)
        except StoreError as error:
            self._tell("history_failed", error=str(error))
            return frozenset()
        return quarantined(memory.bad_machines, now)

    async def follow(self, before: Lease, after: Lease, seen: Observation) -> Lease:
        """Put the machine of a pod that failed the gate into quarantine; the lease keeps off it from now on.

        One that was there already is not put there again, or it would never come out.
        """
        if not isinstance(seen.pods, Unknown):
            self._machines |= {ref(pod): pod.machine for pod in seen.pods if pod.machine is not None}
        failed = after.outcome is Outcome.GATE_FAILED and after.phase is Phase.DRAINING is not before.phase
        machine = self._machines.get(after.pod) if failed and after.pod is not None else None
        if machine is None or after.pod is None or (after.pod.provider, machine) in after.shunned:
            return after
        await self._record(after.pod, machine)
        return replace(after, shunned=after.shunned | {(after.pod.provider, machine)})

    async def _record(self, pod: PodRef, machine: str) -> None:
        self._tell("machine_quarantined", provider=pod.provider, machine=machine, pod=pod.id)
        if self._history is None:
            return
        reason = "a pod on it ended itself before its runner was registered"
        try:
            await self._history.bad(
                BadMachine(provider=pod.provider, machine=machine, at=self._clock.now(), reason=reason)
            )
        except StoreError as error:
            self._tell("history_failed", error=str(error))

    def _tell(self, name: str, **fields: str) -> None:
        self._events.emit(Event(name=name, at=self._clock.now(), fields=fields))
