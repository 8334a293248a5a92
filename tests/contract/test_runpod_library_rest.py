"""The library's verbs, in RunPod's GraphQL shapes, after GraphQL itself is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from contract.test_runpod_contract import MODEL, RunPodWorld, worlds

from runner_provisioner.errors import CapacityUnavailable, InvalidRequest, NotFound, SpotDiscontinued
from runner_provisioner.providers.runpod.raw import RawPods
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod import Progress, rows, texts


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RunPodWorld]:
    """A RunPod without GraphQL."""
    async for world in worlds(tmp_path, real=False, retired=True):
        yield world


@pytest.fixture
def pods(world: RunPodWorld) -> RawPods:
    """The library's verbs."""
    return RawPods(
        world.runpod._api, world.runpod, clock=world.clock, letters=lambda: "abcd", owner8="0123abcd", settle=1.0
    )


async def test_a_pod_lives_as_it_did_over_graphql(world: RunPodWorld, pods: RawPods) -> None:
    """Created, read, listed, stopped, resumed and ended, in the same shapes."""
    world.simulator.settings.progress = Progress.timed(10)
    made = await pods.create({"image_name": "img:1", "gpu_type_id": "RTX A4000", "env": {"A": "B"}, "volumeInGb": 10})
    assert (made["status"], made["desiredStatus"], made["runtime"]) == ("starting", "RUNNING", {})
    assert (made["costPerHr"], made["gpuCount"]) == (0.17, 1)
    assert made["machine"]["gpuTypeId"] == MODEL
    assert "A=B" in made["env"]
    assert made["terminateAfter"]
    await world.clock.sleep(11)
    running = await pods.get(made["id"])
    assert running["status"] == "running"
    assert running["runtime"]["ports"][0]["privatePort"] == 22
    assert [pod["id"] for pod in await pods.list()] == [made["id"]]
    assert (await pods.stop(made["id"]))["desiredStatus"] == "STOPPED"
    assert (await pods.resume(made["id"]))["status"] == "starting"
    with pytest.raises(InvalidRequest):
        await pods.resume(made["id"], gpu_count=2)
    await pods.terminate(made["id"])
    with pytest.raises(NotFound):
        await pods.get(made["id"])
    with pytest.raises(NotFound):
        await pods.stop(made["id"])
    assert world.rented() == 0


async def test_the_wishes_of_a_pod_are_kept(world: RunPodWorld, pods: RawPods) -> None:
    """Cloud, place, ceiling and the command; a field that REST does not know is named."""
    fields = {"image_name": "img:1", "gpu_type_id": MODEL, "cloud_type": "SECURE", "country_code": "RO"}
    made = await pods.create({**fields, "docker_args": "bash -c 'echo hi'", "deploy_cost": 0.3})
    pod = world.simulator.pod(made["id"])
    assert (pod.machine.secure, pod.machine.country) == (True, "RO")
    assert world.simulator.launch_of(pod).argv == ("bash", "-c", "echo hi")
    with pytest.raises(CapacityUnavailable):
        await pods.create({**fields, "deploy_cost": 0.1})
    with pytest.raises(InvalidRequest, match="minDownload"):
        await pods.create({**fields, "min_download": 100})
    with pytest.raises(InvalidRequest, match="gpu_type_id"):
        await pods.create({"image_name": "img:1"})
    with pytest.raises(SpotDiscontinued):
        await pods.create({**fields, "bid_per_gpu": 0.2})
    with pytest.raises(SpotDiscontinued):
        await pods.resume(made["id"], bid_per_gpu=Decimal("0.2"))
    assert world.rented() == 1


async def test_a_lost_answer_is_looked_up(world: RunPodWorld, pods: RawPods) -> None:
    """By name and nonce, over REST."""
    world.simulator.faults.add(Fault(operation="rest.create", kind=FaultKind.DROP_AFTER))
    made = await pods.create({"image_name": "img:1", "gpu_type_id": MODEL})
    assert [pod.id for pod in world.simulator.live()] == [made["id"]]


async def test_every_model_has_its_lowest_price(world: RunPodWorld, pods: RawPods) -> None:
    """For the whole count, of the cheaper cloud, and none where nothing is free."""
    world.simulator.market.set_stock("NVIDIA A40", 0)
    rows_ = {row["id"]: row for row in await pods.gpu_types(2)}
    assert rows_[MODEL]["lowestPrice"]["uninterruptablePrice"] == pytest.approx(0.34)
    assert rows_[MODEL]["lowestPrice"]["stockStatus"] == "High"
    assert rows_["NVIDIA A40"]["lowestPrice"]["uninterruptablePrice"] is None


async def test_states_that_only_rest_has(world: RunPodWorld, pods: RawPods) -> None:
    """An interrupted runner's pod, and one that RunPod gave up on."""
    offer = min(await world.runpod.offers(world.request), key=lambda one: one.price)
    pod = await world.runpod.create(world.spec(), offer)
    world.simulator.interrupt(pod.id)
    assert (await pods.get(pod.id))["status"] == "interrupted"
    row = '{"id": "p", "name": "x", "status": "ERROR"}'
    world.simulator.faults.add(Fault(operation="rest.get", kind=FaultKind.ERROR, status=200, body=row))
    assert (await pods.get("p"))["status"] == "failed"
    gone = '{"id": "p", "name": "x", "status": "TERMINATED"}'
    world.simulator.faults.add(Fault(operation="rest.get", kind=FaultKind.ERROR, status=200, body=gone))
    with pytest.raises(NotFound):
        await pods.get("p")
    world.simulator.faults.add(rows.problem("rest.get", 404, texts.NOT_FOUND))
    with pytest.raises(NotFound):
        await pods.get(pod.id)
