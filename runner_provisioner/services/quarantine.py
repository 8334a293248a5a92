"""Keeping pods off machines that failed, as far as a provider lets one: it chooses the machine, we give it back."""

from __future__ import annotations

from dataclasses import replace

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.history import BadMachine, Memory
from runner_provisioner.domain.leases import Lease, Observation, Outcome, Phase, PodRef, Unknown, ref
from runner_provisioner.domain.quarantine import Machine, kept_out, shared
from runner_provisioner.ports import Clock, EventSink
from runner_provisioner.services.chronicle import Chronicle

UNEXPLAINED = "a pod on it ended itself before its runner was registered"


class Warden:
    """One who remembers which machine each pod of a lease is on, and has the chronicle write down those that failed.

    One that is `lenient` keeps nothing out and writes nothing down: who turned the gate off has decided.
    """

    def __init__(
        self, chronicle: Chronicle, memory: Memory, *, clock: Clock, events: EventSink, lenient: bool = False
    ) -> None:
        self._chronicle = chronicle
        self._clock = clock
        self._events = events
        self._lenient = lenient
        self._bad = memory.bad_machines
        self._machines: dict[PodRef, str] = {}
        self._failed: dict[Machine, str] = {}

    def shunned(self) -> frozenset[Machine]:
        """What a start that begins now keeps off; it is told."""
        now = self._clock.now()
        out = {} if self._lenient else kept_out(self._bad, now)
        if out:
            told = ", ".join(str(out[machine]) for machine in sorted(out))
            self._events.emit(Event(name="machines_kept_out", at=now, fields={"machines": told}))
        return frozenset(out)

    def look(self, seen: Observation) -> None:
        """Remember which machine each pod is on: one that is gone tells nothing any more."""
        if not isinstance(seen.pods, Unknown):
            self._machines |= {ref(pod): pod.machine for pod in seen.pods if pod.machine is not None}

    async def follow(self, before: Lease, after: Lease) -> Lease:
        """Note the machine of a pod that ended itself before it registered; the lease keeps off it from now on.

        One that was kept out already is not noted again, or it would never come out.
        """
        failed = after.outcome is Outcome.GATE_FAILED and after.phase is Phase.DRAINING is not before.phase
        machine = self._machine(after) if failed and not self._lenient else None
        if machine is None or machine in after.shunned:
            return after
        self._failed[machine] = after.pod.id if after.pod is not None else ""
        await self._record(machine)
        return replace(after, shunned=after.shunned | {machine})

    def why(self, lease: Lease) -> str | None:
        """Why the lease's pod was given back, and what to do about it; None where its machine has no part in it."""
        pod, machine = lease.pod.id if lease.pod else "?", self._machine(lease)
        if lease.outcome is Outcome.GATE_FAILED:
            on = f"machine {machine[1]}" if machine else "a machine that the provider does not name"
            return f"pod {pod} on {on} ended itself before its runner was registered: {self._cause(machine)}"
        if lease.outcome is not Outcome.SHUNNED or machine is None:
            return None
        landed = f"pod {pod} landed on machine {machine[1]}"
        earlier = self._failed.get(machine)
        if earlier is not None:
            cause = self._cause(machine)
            return f"{landed}, where pod {earlier} ended itself before its runner was registered: {cause}"
        out = kept_out(self._bad, self._clock.now()).get(machine)
        until = f" until {out.until:%Y-%m-%d %H:%M} UTC ({out.reason})" if out else ""
        return f"{landed}, which is kept out{until}: 'machines --forget {machine[1]}' or --gate off lets it serve"

    def _cause(self, machine: Machine | None) -> str:
        if self._lenient:
            suspect = "the gate was off, so suspect the image and the options"
        elif machine is not None and shared(self._failure(machine), self._bad):
            suspect = "another machine failed within the hour too, so suspect the image and the options first"
        else:
            suspect = "the machine is not as rented (--gate off does not look), or the image or an option is wrong"
        return f"its container log says why, as far as the provider keeps it; {suspect}"

    def _machine(self, lease: Lease) -> Machine | None:
        machine = self._machines.get(lease.pod) if lease.pod is not None else None
        return (lease.pod.provider, machine) if lease.pod is not None and machine is not None else None

    async def _record(self, machine: Machine) -> None:
        failure = self._failure(machine)
        self._bad = (*self._bad, failure)
        out = kept_out(self._bad, failure.at).get(machine)
        until = out.until.isoformat(timespec="seconds") if out else None
        fields = {"provider": machine[0], "machine": machine[1], "pod": self._failed[machine], "until": until}
        name = "machine_quarantined" if out else "machine_not_blamed"
        self._events.emit(Event(name=name, at=failure.at, fields=fields))
        await self._chronicle.bad(failure)

    def _failure(self, machine: Machine) -> BadMachine:
        return BadMachine(provider=machine[0], machine=machine[1], at=self._clock.now(), reason=UNEXPLAINED)
