"""Keeping pods off machines that failed, as far as a provider lets one: it chooses the machine, we give it back."""

from __future__ import annotations

from dataclasses import replace

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.history import BadMachine
from runner_provisioner.domain.leases import Lease, Observation, Outcome, Phase, PodRef, Unknown, ref
from runner_provisioner.ports import Clock, EventSink
from runner_provisioner.services.chronicle import Chronicle


class Warden:
    """One who remembers which machine each pod of a lease is on, and has the chronicle write down those that failed."""

    def __init__(self, chronicle: Chronicle, *, clock: Clock, events: EventSink) -> None:
        self._chronicle = chronicle
        self._clock = clock
        self._events = events
        self._machines: dict[PodRef, str] = {}

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
        now = self._clock.now()
        fields = {"provider": pod.provider, "machine": machine, "pod": pod.id}
        self._events.emit(Event(name="machine_quarantined", at=now, fields=fields))
        reason = "a pod on it ended itself before its runner was registered"
        await self._chronicle.bad(BadMachine(provider=pod.provider, machine=machine, at=now, reason=reason))
