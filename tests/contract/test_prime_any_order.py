"""Whatever happens to pods at Prime Intellect, in whatever order: the adapter sees what is there, each look alike."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from contract.test_prime_contract import PrimeWorld, worlds
from hypothesis import given, settings
from hypothesis import strategies as st

from runner_provisioner.domain.pods import Pod, PodId, PodState
from runner_provisioner.errors import ServerError
from runner_provisioner.simulators.market.pods import EXITED
from runner_provisioner.simulators.prime import PrimePod
from runner_provisioner.testing.provider_contract import OWNER

ACTS = ("rent", "rent spot", "end", "interrupt", "fail", "error", "removes", "lingers", "forms", "wait", "look")
STEPS = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 3)), max_size=15)


def expected(pod: PrimePod, asked: set[str]) -> set[PodState]:
    """What the simulator's own truth allows a look to say."""
    if pod.forced == "ERROR":
        return {PodState.FAILED}
    if pod.status == EXITED:
        return {PodState.INTERRUPTED if pod.spot and pod.id not in asked else PodState.STOPPED}
    if pod.deleting_since is not None:
        return {PodState.STOPPED}
    return {PodState.FAILED} if pod.failure else {PodState.STARTING, PodState.RUNNING}


async def rent(world: PrimeWorld, *, spot: bool) -> None:
    """The cheapest of a kind, as long as there is one."""
    offers = [offer for offer in await world.prime.offers(world.request) if offer.interruptible is spot]
    if offers:
        await world.prime.create(world.spec(), offers[0])


async def end(world: PrimeWorld, pod: PrimePod, asked: set[str]) -> None:
    """By the adapter; one that lingers, and does not show that it is going, is an error until it is gone."""
    asked.add(pod.id)
    try:
        await world.prime.terminate(PodId(pod.id))
    except ServerError:
        assert pod.forced == "ERROR" or pod.status == EXITED


def change(world: PrimeWorld, pod: PrimePod | None, which: int) -> dict[str, Callable[[], object]]:
    """What others do, to a pod or to the service."""
    simulator, options = world.simulator, world.simulator.settings
    acts: dict[str, Callable[[], object]] = {
        "removes": lambda: setattr(options, "interruption_removes", bool(which % 2)),
        "lingers": lambda: setattr(options, "deletion_seconds", (0, 2, 60, 600)[which]),
        "forms": lambda: setattr(options, "connections_as_lists", bool(which % 2)),
        "wait": lambda: world.time.advance((1, 30, 90, 3600)[which]),
    }
    if pod is not None:
        acts["interrupt"] = lambda: simulator.interrupt(pod.id)
        acts["fail"] = lambda: simulator.fail(pod.id)
        acts["error"] = lambda: simulator.set_status(pod.id, "ERROR" if which % 2 else None)
    return acts


async def check(world: PrimeWorld, asked: set[str]) -> None:
    """List, statuses and single reads agree with one another and with what is there."""
    there = {pod.id: pod for pod in world.simulator.live()}
    listed: dict[PodId, Pod | None] = {pod.id: pod for pod in await world.prime.list(OWNER)}
    assert set(listed) == set(there)
    assert {pod_id: await world.prime.get(pod_id) for pod_id in listed} == listed
    gone = [PodId(pod.id) for pod in world.simulator.pods() if pod.id not in there]
    assert await world.prime.get_many([*listed, *gone]) == {**listed, **dict.fromkeys(gone)}
    for pod_id, pod in listed.items():
        assert pod is not None
        assert pod.state in expected(there[pod_id], asked)
        assert pod.interruptible is there[pod_id].spot
        assert pod.price == there[pod_id].price_hr
    ended = {one.id: one.cost for one in await world.prime.history()}
    assert set(ended) == set(gone)


@settings(deadline=None, max_examples=30)
@given(steps=STEPS)
def test_every_look_tells_the_truth(steps: list[tuple[str, int]]) -> None:
    """After each act; and in the end everything can be ended."""

    async def play() -> None:
        async for world in worlds():
            asked: set[str] = set()
            for what, which in steps:
                live = world.simulator.live()
                pod = live[which % len(live)] if live else None
                if what.startswith("rent"):
                    await rent(world, spot=what == "rent spot")
                elif what == "end" and pod is not None:
                    await end(world, pod, asked)
                else:
                    change(world, pod, which).get(what, lambda: None)()
                await check(world, asked)
            world.simulator.settings.deletion_seconds = 0
            for left in world.simulator.live():
                world.simulator.set_status(left.id, None)
                await end(world, left, asked)
            world.time.advance(3600)
            assert world.rented() == 0

    anyio.run(play)
