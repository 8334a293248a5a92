"""What several markets cost together: their offers beside the slowest of them, and one that hangs.

Each is a simulator behind a real socket with an adapter of its own; what they answer takes its time on purpose.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import median

from benchmarks.measure import Figure
from runner_provisioner._http import CallMetrics, Pace, Plumbing, Tempo
from runner_provisioner._redaction import Redactor
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.leases import Lease, Phase
from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.errors import RemoteError
from runner_provisioner.ports import GpuProvider
from runner_provisioner.providers.runpod.api import RunPodApi
from runner_provisioner.providers.runpod.provider import RunPodProvider
from runner_provisioner.services.observe import Lookout, Passing
from runner_provisioner.services.offers import survey
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator

ROUNDS = 5
ANSWERS = (0.05, 0.15, 0.3)  # seconds that each market takes for its prices
OVERHEAD_GOAL = 0.05
PATIENCE = 0.5
PASSES = 20
OFFERS = "gpuTypes"
UNPACED = Pace(per_second=1_000_000, per_minute=1_000_000)
REQUEST = GpuRequest(models=("NVIDIA RTX A4000",), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(1))


@dataclass
class Nobody:
    """A registry without runners."""

    asked: int = 0

    async def find(self, _name: str) -> None:
        """Nobody."""
        self.asked += 1


@dataclass
class Hanging:
    """A market that takes every request and answers none."""

    name: str = "hanging"
    asked: list[str] = field(default_factory=list)

    async def offers(self, _request: GpuRequest) -> Sequence[object]:
        """Never."""
        return await self._hang("offers")

    async def list(self, _owner8: str | None) -> Sequence[object]:
        """Never."""
        return await self._hang("list")

    async def _hang(self, verb: str) -> Sequence[object]:
        self.asked.append(verb)
        await asyncio.sleep(3600)
        return ()


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
    async with _markets(ANSWERS) as markets:
        slow = {"market2": markets["market2"]}
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
    hanging = Hanging()
    async with _markets((0.0,)) as markets:
        await survey(markets, REQUEST)
        both: dict[str, GpuProvider] = {**markets, "hanging": hanging}  # type: ignore[dict-item] # the verbs it is asked
        begin = time.perf_counter()
        found = await survey(both, REQUEST, patience=PATIENCE)
        passing = Passing(patience=PATIENCE, tell=_ignore, errors=dict(found.passed_over))
        lookout = Lookout(
            providers=both,
            registry=Nobody(),  # type: ignore[arg-type] # the verb it is asked
            owner8="0123abcd",
            passing=passing,
        )
        for _ in range(PASSES):
            await lookout.look(Lease(name="rp-0123abcd-zz-1-default", phase=Phase.REQUESTED, nonce="n"))
        return time.perf_counter() - begin, len(hanging.asked)


def _ignore(_name: str, _error: RemoteError) -> None:
    """It is expected."""


@asynccontextmanager
async def _markets(answers: Sequence[float]) -> AsyncIterator[Mapping[str, GpuProvider]]:
    """As many simulators as there are times, each with its adapter."""
    made: dict[str, GpuProvider] = {}
    ends = []
    clock = SystemClock()
    try:
        for number, seconds in enumerate(answers):
            simulator = RunPodSimulator(clock)
            server = simulator.serve().start()
            if seconds:
                simulator.faults.add(Fault(operation=OFFERS, kind=FaultKind.DELAY, seconds=seconds, times=None))
            plumbing = Plumbing(
                clock=clock,
                redactor=Redactor(),
                tempo=Tempo(),
                metrics=CallMetrics(),
                user_agent="benchmark",
            )
            api = RunPodApi.connect(url=server.url, api_key=simulator.key, plumbing=plumbing, pace=UNPACED)
            provider = RunPodProvider(api, clock=clock)
            made[f"market{number}"] = provider
            ends.append((provider, server, simulator))
        yield made
    finally:
        for provider, server, simulator in ends:
            await provider.aclose()
            server.stop()
            simulator.close()
