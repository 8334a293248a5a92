"""Whatever is done to the pods of a simulated market, in whatever order: its hosts and its bill stay right."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner_provisioner.simulators.celium import CeliumSimulator
from runner_provisioner.simulators.market.pods import RUNNING
from runner_provisioner.simulators.market.simulator import MarketSimulator
from runner_provisioner.simulators.prime import PrimeSimulator
from runner_provisioner.simulators.runpod import RunPodSimulator
from runner_provisioner.testing.clock import FakeClock

MAKERS: dict[str, Callable[[FakeClock], MarketSimulator[Any]]] = {
    "runpod": lambda clock: RunPodSimulator(clock, balance=Decimal(3)),
    "prime": lambda clock: PrimeSimulator(clock, balance=Decimal(3)),
    "celium": lambda clock: CeliumSimulator(clock, balance=Decimal(3)),
}
ACTS = ("add", "end", "interrupt", "finish", "fail", "reboot", "stop", "removes", "lingers", "wait")
STEPS = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 3), st.sampled_from([0, 1, 60, 3600])), max_size=25)


def on_market(sim: Any, clock: FakeClock, which: int, seconds: int) -> dict[str, Callable[[], object]]:  # noqa: ANN401 - of any market
    """What can happen without a pod."""

    def linger() -> None:
        if hasattr(sim.settings, "deletion_seconds"):
            sim.settings.deletion_seconds = float(seconds)

    return {
        "wait": lambda: clock.advance(seconds),
        "add": lambda: sim.add_pod(f"ci-{len(sim.pods())}", age=seconds),
        "removes": lambda: setattr(sim.settings, "interruption_removes", bool(which % 2)),
        "lingers": linger,
    }


def on_pod(sim: Any, pod: Any, which: int, seconds: int) -> dict[str, Callable[[], object]]:  # noqa: ANN401 - of any market
    """What can happen to a pod; not every market knows everything."""
    now = sim.clock.now()
    acts: dict[str, Callable[[], object]] = {
        "end": lambda: getattr(sim.fleet, "delete", sim.fleet.terminate)(pod, now),
        "interrupt": lambda: sim.interrupt(pod.id, after=seconds),
        "finish": lambda: sim.finish(pod.id, which),
        "stop": lambda: sim.fleet.stop(pod, now),
    }
    if hasattr(sim, "fail"):
        acts["fail"] = lambda: sim.fail(pod.id)
    if hasattr(sim.fleet, "reboot") and pod.status == RUNNING and not pod.failure:
        acts["reboot"] = lambda: sim.fleet.reboot(pod, now)
    return acts


def act(sim: Any, clock: FakeClock, what: str, which: int, seconds: int) -> None:  # noqa: ANN401 - of any market
    """One thing that can happen; nothing when the market does not know it or there is no pod."""
    acts = on_market(sim, clock, which, seconds)
    pods = sim.live()
    if pods:
        acts |= on_pod(sim, pods[which % len(pods)], which, seconds)
    acts.get(what, lambda: None)()


def hosts(sim: MarketSimulator[Any]) -> dict[str, int]:
    """How many GPUs each host says are rented."""
    return {pod.machine.id: pod.machine.taken for pod in sim.pods()}


@pytest.mark.parametrize("name", MAKERS)
@settings(deadline=None, max_examples=60)
@given(steps=STEPS)
def test_hosts_and_bill_stay_right(name: str, steps: list[tuple[str, int, int]]) -> None:
    """A host has as many GPUs rented as its pods hold; only what still exists bills; the sums agree."""
    clock = FakeClock()
    sim = MAKERS[name](clock)
    paid = Decimal(0)
    for what, which, seconds in steps:
        act(sim, clock, what, which, seconds)
        held = dict.fromkeys(hosts(sim), 0)
        for pod in sim.live():
            held[pod.machine.id] += pod.gpu_count if pod.status == RUNNING else 0
        assert hosts(sim) == held
        bill = sim.bill()
        assert bill.total >= paid
        assert {each.pod_id for each in bill.pods.values() if each.running} <= {pod.id for pod in sim.live()}
        assert sim.balance() == 3 - bill.total
        paid = bill.total
    ended = [pod for pod in sim.pods() if not pod.live]
    assert all(pod.ended_at is not None and pod.running_since is None for pod in ended)
    assert [pod.events[-1].at for pod in ended] == [pod.ended_at for pod in ended]
