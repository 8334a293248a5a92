"""What happened when, as the simulated services saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from runner_provisioner.simulators.market.pods import RentedPod
from runner_provisioner.simulators.world import SimulatedWorld

TOLD = {"container running": "container started"}
UNTOLD = ("created", "terminated", "container exited")  # told as rented and gone, or of no interest


class Clock(Protocol):
    """What the demo needs of a clock."""

    def now(self) -> datetime:
        """Aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One thing that happened; `who` is the name of a job or of a pod."""

    at: datetime
    what: str
    who: str


@dataclass(kw_only=True)
class Timeline:
    """Everything noticed so far, each thing once."""

    world: SimulatedWorld
    run_id: int
    _seen: dict[tuple[str, str], Moment] = field(default_factory=dict)

    def note(self, what: str, who: str, at: datetime, *, key: str = "") -> None:
        """Something happened; the first time counts. `key` tells things of one name apart."""
        self._seen.setdefault((what, key or who), Moment(at=at, what=what, who=who))

    def moments(self) -> list[Moment]:
        """In the order they happened."""
        return sorted(self._seen.values(), key=lambda moment: moment.at)

    def look(self) -> None:
        """Note whatever is new."""
        now = self.world.clock.now()
        self._look_at_pods()
        self._look_at_runners(now)
        self._look_at_jobs()

    def _look_at_pods(self) -> None:
        for market in self.world.markets:
            self._look_at(market.simulator.pods(), f" from {market.name}" if len(self.world.markets) > 1 else "")

    def _look_at(self, pods: Sequence[RentedPod], where: str) -> None:
        for pod in pods:
            kind = "spot" if pod.spot else "on demand"
            rented = f"rented {pod.gpu_name} {kind} at {pod.price} USD per hour{where}"
            self.note(rented, pod.name, pod.created_at, key=pod.id)
            for event in pod.events:
                if event.what and not event.what.startswith(UNTOLD):
                    self.note(TOLD.get(event.what, event.what), pod.name, event.at, key=pod.id)
            if pod.ended_at is not None:
                self.note("pod gone", pod.name, pod.ended_at, key=pod.id)

    def _look_at_runners(self, now: datetime) -> None:
        registered = self.world.github.runners()
        for runner in registered:
            if runner.online:
                self.note("runner online", runner.name, now)
        names = {runner.name for runner in registered}
        for what, name in list(self._seen):
            if what == "runner online" and name not in names:
                self.note("runner gone", name, now)

    def _look_at_jobs(self) -> None:
        for job in self.world.github.run(self.run_id).latest.jobs.values():
            if job.started_at is None or job.runner is None:
                continue
            self.note("job started", job.key, job.started_at)
            if job.completed_at is not None:
                self.note(f"job ended: {job.conclusion}", job.key, job.completed_at)
