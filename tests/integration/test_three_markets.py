"""A job over three markets in one process: nothing left at the first, taken back by the second, done at the third."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest
from support import virtual_time
from support.inprocess import World
from support.product import scratch
from support.repeating import Repeating
from support.stages import GPU, LiumStage, Provider, RunPodStage, Stage
from support.virtual_time import VirtualLoop

from runner_provisioner.services.watch import Watched

Story = Callable[[Repeating, list[Stage]], Awaitable[None]]
pytestmark = pytest.mark.usefixtures("unmeasured")

ORDERS = [
    pytest.param((Provider.PRIME, Provider.LIUM, Provider.RUNPOD), id="prime, lium, runpod"),
    pytest.param((Provider.RUNPOD, Provider.LIUM, Provider.PRIME), id="runpod, lium, prime", marks=pytest.mark.full),
    pytest.param((Provider.LIUM, Provider.RUNPOD, Provider.PRIME), id="lium, runpod, prime", marks=pytest.mark.full),
    pytest.param((Provider.LIUM, Provider.PRIME, Provider.REST), id="lium, prime, rest", marks=pytest.mark.full),
]


def tell(markets: tuple[Provider, ...], story: Story) -> None:
    """Play a story at these markets; at its end nothing bills, and no two pods ever did at once."""
    with scratch() as folder:

        async def main(loop: VirtualLoop) -> None:
            world = World(folder, loop, library=False, providers=markets)
            run = Repeating(world, watched=True)
            await story(run, world.stages)
            assert not world.live()
            assert not world.github.runners()
            assert not world.github.violations
            assert world.gpu_bill() == run.used()
            assert world.longest_overlap() == 0.0
            world.check_secrets()

        virtual_time.run(main)


def make_cheapest(stage: Stage) -> None:
    """It is asked first."""
    market: Any = stage.sim.market  # type: ignore[attr-defined] # every simulator of a market has its own
    price = Decimal("0.03")
    if isinstance(stage, RunPodStage):
        market.set_price(GPU, on_demand=price, bid=price)
    else:
        market.set_price(GPU if isinstance(stage, LiumStage) else "RTXA4000_16GB", price)


def sold_out(stage: Stage) -> None:
    """What it lists is gone when it is to be rented."""
    for spot in (True, False):
        stage.sim.faults.add(stage.no_stock(spot=spot, times=100))


async def watched(run: Repeating, attempt: int, act: Callable[[], Awaitable[None]]) -> Watched:
    """What the attempt's watch finds while something happens."""
    found: list[Watched] = []

    async def watch() -> None:
        found.append(await run.watch(attempt))

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await act()
    return found[0]


@pytest.mark.parametrize("markets", ORDERS)
def test_a_job_goes_from_market_to_market(markets: tuple[Provider, ...]) -> None:
    """One pod at a time and one label: the start passes over who has none, the re-run over who took its machine."""

    async def story(run: Repeating, stages: list[Stage]) -> None:
        first, second, third = stages
        make_cheapest(first)
        sold_out(first)
        # Nobody rents at the third before the second has nothing left.
        third.sim.faults.add(closed := third.no_stock(spot=True, times=100))
        third.sim.faults.add(shut := third.no_stock(spot=False, times=100))
        started = await run.start()
        assert first.creates() > 0
        taken = run.take()
        assert run.world.stage_of(taken) is second

        async def lose() -> None:
            await anyio.sleep(7)
            sold_out(second)
            for fault in (closed, shut):
                fault.times = 0
            run.interrupt(taken)

        loss = (await watched(run, 1, lose)).interruption
        assert loss is not None
        assert (loss.provider, loss.pod) == (second.sim.name, taken.id)
        await run.fail()
        assert (await run.stop(1))[0].ok
        again = await run.rerun(1)
        assert again.ok, repr(again.error)
        assert again.result[0].why_not is None
        (pod,) = run.world.live()
        assert run.world.stage_of(pod) is third
        assert [one.label for one in again.result[1]] == [started.label]

        async def succeed() -> None:
            runner = run.world.runner_of(run.take().id)
            assert runner is not None
            run.world.github.play_finish(runner)
            outcome, record = await run.stop(2)
            assert outcome.ok, repr(outcome.error)
            assert record is None

        assert (await watched(run, 2, succeed)).interruption is None
        # Watch and stop may end in either order.
        assert run.world.github.run(run.run_id).latest.conclusion == "success"
        assert len(run.world.pods()) == 2

    tell(markets, story)
