"""The whole program against the simulated RunPod: its bills in a budget, and which of its APIs is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from support import virtual_time
from support.inprocess import Process, World, small_request

from runner_provisioner.domain.budget import Strictness
from runner_provisioner.errors import BudgetExceeded
from runner_provisioner.simulators.runpod import rows

pytestmark = pytest.mark.usefixtures("unmeasured")
HOURS = 5
BILLS = "rest.pod_bills"


def act(folder: Path, scene: Callable[[World], Awaitable[None]]) -> None:
    """Play a scene in a world of its own."""

    async def main(loop: virtual_time.VirtualLoop) -> None:
        await scene(World(folder, loop, spot=False))

    virtual_time.run(main)


async def after_some_hours(world: World) -> None:
    """A pod has lived for hours, of which our records know too little money."""
    assert (await Process(world=world).start(small_request(idle=timedelta(hours=6)))).ok
    await anyio.sleep(HOURS * 3600)
    assert (await Process(world=world).stop()).ok
    for key, record in world.history.records.items():
        world.history.records[key] = replace(record, price=Decimal("0.0001"))


@pytest.mark.parametrize("told", [True, False], ids=["billed", "not told"])
def test_what_runpod_has_billed_counts_where_it_is_more(tmp_path: Path, *, told: bool) -> None:
    """Where it does not tell, our records alone count, and that is said."""

    async def scene(world: World) -> None:
        await after_some_hours(world)
        used = world.used()
        if not told:
            world.runpod.faults.add(replace(rows.problem(BILLS, 500, "internal"), times=None))
        price = min(pod.price for pod in world.runpod.pods())
        most = (price * Decimal("6.25") + used * Decimal("0.8")).quantize(Decimal("0.01"))
        outcome = await Process(world=world, run="second").start(
            small_request(budget_month=most, budget=Strictness.ENFORCE, max_price=price)
        )
        if told:
            assert isinstance(outcome.error, BudgetExceeded), repr(outcome.error)
            assert "left of the month's budget" in str(outcome.error)
        else:
            assert outcome.ok, repr(outcome.error)
        assert any(event.name == "bill_unknown" for event in world.events) is not told
        assert any(call.operation == BILLS for call in world.runpod.calls)

    act(tmp_path, scene)


@pytest.mark.parametrize("api", ["graphql", "rest"])
def test_the_preferred_api_is_asked_for_what_both_can_do(tmp_path: Path, api: str) -> None:
    """Bids, offers and the kill time stay GraphQL's, since REST has none."""

    async def scene(world: World) -> None:
        process = Process(world=world, environ={"RUNPOD_API": api})
        outcome = await process.start()
        assert outcome.ok, repr(outcome.error)
        (pod,) = world.live()
        assert pod.terminate_after is not None
        assert (await process.stop()).ok
        asked = {call.operation for call in world.runpod.calls}
        assert ("rest.list" in asked, "rest.delete" in asked) == (api == "rest", api == "rest")
        assert ("myself.pods" in asked) == (api == "graphql")
        assert "podFindAndDeployOnDemand" in asked

    act(tmp_path, scene)
