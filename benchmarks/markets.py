"""What the three markets cost together: their offers beside the slowest of them, and one that hangs.

Each is its simulator behind a real socket with its own adapter; what they answer takes its time on purpose.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any

from benchmarks.measure import Figure
from runner_provisioner._http import CallMetrics, Pace, Plumbing, Tempo
from runner_provisioner._redaction import Redactor
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.leases import Lease, Phase
from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.errors import RemoteError
from runner_provisioner.ports import GpuProvider
from runner_provisioner.providers.celium.api import CeliumApi
from runner_provisioner.providers.celium.provider import CeliumProvider
from runner_provisioner.providers.prime.api import PrimeApi
from runner_provisioner.providers.prime.provider import PrimeProvider
from runner_provisioner.providers.runpod.api import RunPodApi
from runner_provisioner.providers.runpod.provider import RunPodProvider
from runner_provisioner.services.observe import Lookout, Passing
from runner_provisioner.services.offers import survey
from runner_provisioner.simulators.celium.simulator import CeliumSimulator
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.prime.simulator import PrimeSimulator
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator

ROUNDS = 5
ANSWERS = {"runpod": 0.05, "prime": 0.15, "celium": 0.3}  # seconds that each market takes for its prices
OVERHEAD_GOAL = 0.05
PATIENCE = 0.5
SIMULATORS: Mapping[str, Callable[[SystemClock], Any]] = {
    "runpod": RunPodSimulator,
    "prime": PrimeSimulator,
    "celium": CeliumSimulator,
}
PASSES = 20
OFFERS = {"runpod": "gpuTypes", "prime": "availability.gpus", "celium": "executors.list"}  # what tells the prices
UNPACED = Pace(per_second=1_000_000, per_minute=1_000_000)
REQUEST = GpuRequest(models=("NVIDIA RTX A4000",), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(1))


@dataclass
class Nobody:
    """A registry without runners."""

    asked: int = 0

    async def find(self, _name: str) -> None:
        """Nobody."""
        self.asked += 1


def figures(rounds: int = ROUNDS) -> list[Figure]:
    """The time of three markets beside that of the slowest, and what one that hangs costs a start."""
    together, slowest = asyncio.run(_three(rounds))
    seconds, asked = asyncio.run(_with_one_that_hangs())
    return [
        Figure(
            name="offers of three markets, beyond the slowest",
            value=together - slowest,
            goal=OVERHEAD_GOAL,
            unit="s",
            detail=f"median of {rounds}: {together:.3f} s, the slowest alone {slowest:.3f} s",
        ),
        Figure(
            name="a market that hangs, beyond its one timeout",
            value=seconds - PATIENCE,
            goal=OVERHEAD_GOAL + PASSES * 0.02,
            unit="s",
            detail=f"offers and {PASSES} passes, with a timeout of {PATIENCE} s",
        ),
        Figure(
            name="requests to a market that hangs",
            value=asked,
            goal=1,
            unit="calls",
            detail=f"offers and {PASSES} passes",
            binding=True,
        ),
    ]


async def _three(rounds: int) -> tuple[float, float]:
    """Seconds for all three, and for the slowest of them alone, in turns."""
    async with _markets(ANSWERS) as found:
        markets = {name: one.provider for name, one in found.items()}
        slow = {"celium": markets["celium"]}
        for asked in (markets, slow):
            await survey(asked, REQUEST)  # connections and the list of models are there from now on
        together, alone = [], []
        for _ in range(rounds):
            together.append(await _seconds(markets))
            alone.append(await _seconds(slow))
    return median(together), median(alone)


async def _seconds(markets: Mapping[str, GpuProvider]) -> float:
    begin = time.perf_counter()
    await survey(markets, REQUEST)
    return time.perf_counter() - begin


async def _with_one_that_hangs() -> tuple[float, int]:
    """Seconds for the offers and the passes of a start, and how often the market that hangs was asked."""
    async with _markets({"runpod": 0.0, "celium": 0.0}) as found:
        markets = {name: one.provider for name, one in found.items()}
        await survey(markets, REQUEST)
        faults = found["celium"].simulator.faults
        faults.add(Fault(operation="*", kind=FaultKind.HANG, times=None))
        before = faults.count()
        begin = time.perf_counter()
        offered = await survey(markets, REQUEST, patience=PATIENCE)
        passing = Passing(patience=PATIENCE, tell=_ignore, errors=dict(offered.passed_over))
        lookout = Lookout(
            providers=markets,
            registry=Nobody(),  # type: ignore[arg-type] # the verb it is asked
            owner8="0123abcd",
            passing=passing,
        )
        for _ in range(PASSES):
            await lookout.look(Lease(name="rp-0123abcd-zz-1-default", phase=Phase.REQUESTED, nonce="n"))
        return time.perf_counter() - begin, faults.count() - before


def _ignore(_name: str, _error: RemoteError) -> None:
    """It is expected."""


@dataclass(frozen=True)
class Running:
    """A market that runs: its simulator, and the adapter that speaks to it."""

    simulator: Any
    provider: Any


@asynccontextmanager
async def _markets(answers: Mapping[str, float]) -> AsyncIterator[Mapping[str, Running]]:
    """The simulators of these names behind real sockets; each takes so many seconds for its prices."""
    clock = SystemClock()
    made: dict[str, Running] = {}
    servers = []
    try:
        for name, seconds in answers.items():
            simulator = SIMULATORS[name](clock)
            server = simulator.serve().start()
            servers.append(server)
            if seconds:
                simulator.faults.add(Fault(operation=OFFERS[name], kind=FaultKind.DELAY, seconds=seconds, times=None))
            made[name] = Running(simulator, _adapter(name, server.url, simulator.key, clock))
        yield made
    finally:
        for one in made.values():
            await one.provider.aclose()
        for server in servers:
            server.stop()
        for one in made.values():
            one.simulator.close()


def _adapter(name: str, url: str, key: str, clock: SystemClock) -> GpuProvider:
    plumbing = Plumbing(clock=clock, redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="benchmark")
    if name == "runpod":
        return RunPodProvider(RunPodApi.connect(url=url, api_key=key, plumbing=plumbing, pace=UNPACED), clock=clock)
    if name == "prime":
        return PrimeProvider(PrimeApi.connect(url=url, api_key=key, plumbing=plumbing, pace=None), clock=clock)
    api = CeliumApi.connect(url=f"{url}/api", api_key=key, plumbing=plumbing, pace=UNPACED)
    return CeliumProvider(api, clock=clock)
