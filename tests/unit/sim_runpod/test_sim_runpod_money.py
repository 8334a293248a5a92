"""The simulated bill: per second, by state, down to the end of the balance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.simulators.market.money import Meter
from runner_provisioner.simulators.runpod import RunPodSimulator
from runner_provisioner.simulators.runpod.money import HOURS_PER_MONTH
from runner_provisioner.testing.clock import EPOCH, FakeClock

Ask = Callable[..., Awaitable[httpx.Response]]
Create = Callable[..., Awaitable[dict[str, Any]]]
STOP = "mutation S($id: String!) { podStop(input: {podId: $id}) { id } }"
TERMINATE = "mutation T($id: String!) { podTerminate(input: {podId: $id}) }"


async def test_a_running_pod_bills_gpus_and_disks(create: Create, sim: RunPodSimulator, clock: FakeClock) -> None:
    """Price of all GPUs, container disk and volume at 0.10 USD per GB and month."""
    pod_id = (await create(gpuCount=2, containerDiskInGb=73, volumeInGb=146))["id"]
    clock.advance(1800)
    bill = sim.bill()
    assert bill.pods[pod_id].gpu == Decimal("0.17")
    assert bill.pods[pod_id].disk == Decimal("0.015")
    assert bill.total == Decimal("0.185")
    assert (bill.gpu, bill.pods[pod_id].gpu_seconds, bill.pods[pod_id].running) == (Decimal("0.17"), 1800, True)
    assert sim.balance() == 100 - bill.total


async def test_a_stopped_pod_bills_its_volume_twice(
    create: Create, ask: Ask, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """And its container disk no more."""
    pod_id = (await create(containerDiskInGb=730, volumeInGb=730))["id"]
    await ask(STOP, {"id": pod_id})
    clock.advance(3600)
    assert sim.bill().pods[pod_id].total == Decimal("0.20")


async def test_a_terminated_pod_bills_nothing_more(
    create: Create, ask: Ask, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """The bill is what was used."""
    pod_id = (await create())["id"]
    clock.advance(90)
    await ask(TERMINATE, {"id": pod_id})
    clock.advance(9000)
    bill = sim.bill().pods[pod_id]
    assert bill.total == Decimal("0.17") * 90 / 3600
    assert not bill.running


async def test_a_pod_that_ends_by_itself_bills_to_that_moment(
    create: Create, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """However late somebody looks."""
    pod_id = (await create(terminateAfter="2026-11-01T12:10:00Z"))["id"]
    clock.advance(86400)
    assert sim.bill().pods[pod_id].gpu_seconds == 600


async def test_an_empty_account_ends_its_pods(create: Create, ask: Ask, sim: RunPodSimulator, clock: FakeClock) -> None:
    """At the moment it is empty: pods are terminated, those with a network volume are stopped."""
    sim.set_balance(Decimal("0.68"))
    plain = (await create())["id"]
    kept = (await create(networkVolumeId="vol"))["id"]
    clock.advance(86400)
    assert sim.pod(plain).status == "TERMINATED"
    assert sim.pod(plain).ended_at == EPOCH + timedelta(hours=2)
    assert sim.pod(kept).status == "EXITED"
    assert sim.pod(kept).last_status_change.startswith("Exited by Runpod: balance is used up")
    assert sim.balance() == 0
    assert (await ask("{ myself { underBalance } }")).json()["data"]["myself"]["underBalance"] is True


async def test_an_account_can_be_emptied_at_once(create: Create, sim: RunPodSimulator) -> None:
    """Everything ends at the next look."""
    await create()
    sim.set_balance(Decimal(0))
    assert sim.live() == []


@given(seconds=st.lists(st.floats(min_value=0, max_value=10_000), min_size=1, max_size=6))
def test_a_meter_charges_every_begun_second_at_its_rate(seconds: list[float]) -> None:
    """Between what exact time and one second more per change would cost."""
    meter = Meter()
    moment = EPOCH
    exact = Decimal(0)
    for number, passed in enumerate(seconds, start=1):
        meter.switch({"gpu": Decimal(number)}, moment)
        moment += timedelta(seconds=passed)
        exact += number * Decimal(passed) / 3600
    charged = meter.cost(moment)
    spare = Decimal(sum(range(1, len(seconds) + 1))) / 3600
    assert exact - Decimal("0.001") <= charged <= exact + spare + Decimal("0.001")


def test_a_meter_tells_kinds_apart() -> None:
    """Rates of nothing are not kept."""
    meter = Meter()
    meter.switch({"gpu": Decimal(1), "disk": Decimal(2), "volume": Decimal(0)}, EPOCH)
    later = EPOCH + timedelta(hours=1)
    assert [meter.cost(later, "gpu"), meter.cost(later, "disk"), meter.cost(later), meter.rate] == [1, 2, 3, 3]
    assert (len(meter.spans), meter.seconds(later, "disk")) == (2, 3600)
    assert meter.cost(EPOCH - timedelta(hours=1)) == 0


def test_a_month_is_a_twelfth_of_a_year() -> None:
    """In hours."""
    assert pytest.approx(365 * 24 / 12) == HOURS_PER_MONTH
