"""The life of simulated pods: starting, running, interruption, stop, resume, ends by time, late lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.runpod import Progress, RunPodSimulator, texts
from runner_provisioner.simulators.runpod.pods import EXITED
from runner_provisioner.testing.clock import EPOCH, FakeClock

Ask = Callable[..., Awaitable[httpx.Response]]
Create = Callable[..., Awaitable[dict[str, Any]]]
Look = Callable[[str], Awaitable[dict[str, Any] | None]]
Refusal = Callable[[httpx.Response], str]
A4000 = "NVIDIA RTX A4000"
STOP = "mutation S($id: String!) { podStop(input: {podId: $id}) { id desiredStatus lastStatusChange } }"
RESUME = "mutation R($input: PodResumeInput!) { podResume(input: $input) { id desiredStatus costPerHr gpuCount } }"
BID_RESUME = "mutation B($input: PodBidResumeInput!) { podBidResume(input: $input) { id desiredStatus costPerHr } }"
TERMINATE = "mutation T($id: String!) { podTerminate(input: {podId: $id}) }"
LIST = "{ myself { pods { id desiredStatus runtime { uptimeInSeconds } } } }"


async def seen(look: Look, pod_id: str) -> dict[str, Any]:
    """The pod, which must exist."""
    pod = await look(pod_id)
    assert pod is not None
    return pod


async def listed(ask: Ask) -> list[str]:
    """Ids in `myself.pods`."""
    return [pod["id"] for pod in (await ask(LIST)).json()["data"]["myself"]["pods"]]


async def test_a_pod_is_wished_to_run_before_it_does(create: Create, look: Look) -> None:
    """RUNNING from the creation on, while `runtime` is null; then ports and telemetry appear."""
    created = await create(ports="22/tcp,8888/http,x/tcp", supportPublicIp=True, env=[{"key": "A", "value": "B"}])
    assert (created["desiredStatus"], created["runtime"]) == ("RUNNING", None)
    pod = await seen(look, created["id"])
    tcp, http = pod["runtime"]["ports"]
    assert (tcp["ip"], tcp["isIpPublic"], tcp["privatePort"], tcp["type"]) == ("127.0.0.1", True, 22, "tcp")
    assert (http["isIpPublic"], http["privatePort"], http["type"]) == (False, 8888, "http")
    assert pod["env"] == ["A=B"]
    assert pod["latestTelemetry"]["state"] == "running"
    assert pod["lastStatusChange"].startswith("Rented by User: Sun Nov 01 2026 12:00:00")


async def test_ports_are_public_only_where_they_were_asked_to_be(
    create: Create, look: Look, sim: RunPodSimulator
) -> None:
    """On the community cloud with `supportPublicIp`; a host without ssh shows none."""
    community = await seen(look, (await create(ports="22/tcp"))["id"])
    assert community["runtime"]["ports"] == []
    secure = await create(ports="22/tcp", cloudType="SECURE")
    assert len((await seen(look, secure["id"]))["runtime"]["ports"]) == 1
    sim.settings.inert_ssh = False
    assert (await seen(look, secure["id"]))["runtime"]["ports"] == []


async def test_a_pod_can_start_after_so_many_looks(create: Create, look: Look, ask: Ask, sim: RunPodSimulator) -> None:
    """Reads by id and in the list count."""
    sim.settings.progress = Progress.after_polls(2)
    pod_id = (await create())["id"]
    assert (await seen(look, pod_id))["runtime"] is None
    assert (await ask(LIST)).json()["data"]["myself"]["pods"][0]["runtime"] is None
    assert (await seen(look, pod_id))["runtime"] is not None


async def test_a_pod_can_start_after_so_many_seconds(
    create: Create, look: Look, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """On the simulator's clock; uptime counts from then, however late somebody looks."""
    sim.settings.progress = Progress.timed(30)
    pod_id = (await create())["id"]
    clock.advance(29)
    assert (await seen(look, pod_id))["runtime"] is None
    clock.advance(11)
    assert (await seen(look, pod_id))["runtime"]["uptimeInSeconds"] == 10
    sim.settings.progress = Progress.immediate()


async def test_an_image_that_no_registry_has_never_runs(
    create: Create, look: Look, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """The pod stays without runtime, and bills."""
    sim.settings.unpullable.add("image")
    pod_id = (await create())["id"]
    clock.advance(3600)
    assert (await seen(look, pod_id))["runtime"] is None
    assert sim.bill().gpu > 0


async def test_an_exited_container_is_started_again(
    create: Create, look: Look, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """After a while, with a new uptime; meanwhile the telemetry says "exited"."""
    pod_id = (await create())["id"]
    await look(pod_id)
    clock.advance(100)
    sim.finish(pod_id, 1)
    gone = await seen(look, pod_id)
    assert (gone["desiredStatus"], gone["runtime"], gone["latestTelemetry"]["state"]) == ("RUNNING", None, "exited")
    clock.advance(sim.settings.restart_delay + 2)
    back = await seen(look, pod_id)
    assert (back["runtime"]["uptimeInSeconds"], back["latestTelemetry"]["state"]) == (2, "running")
    assert sim.pod(pod_id).restarts == 1
    assert sim.pod(pod_id).happened("container exited with 1")


async def test_an_exited_container_can_be_left_alone(
    create: Create, look: Look, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """The other thing RunPod does."""
    sim.settings.restart = False
    pod_id = (await create())["id"]
    await look(pod_id)
    sim.finish(pod_id)
    clock.advance(3600)
    assert (await seen(look, pod_id))["latestTelemetry"]["state"] == "exited"


async def test_an_interrupted_pod_is_stopped_not_deleted(
    create: Create, look: Look, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """EXITED, no runtime, RunPod named in the free text, its GPU free for others."""
    pod_id = (await create(spot=True))["id"]
    await look(pod_id)
    sim.interrupt(pod_id, reason="outbid")
    pod = await seen(look, pod_id)
    assert (pod["desiredStatus"], pod["runtime"]) == ("EXITED", None)
    assert pod["lastStatusChange"] == "Exited by Runpod: outbid"
    assert sim.pod(pod_id).machine.taken == 0
    assert [each.id for each in sim.live()] == [pod_id]
    sim.interrupt(pod_id)
    sim.finish(pod_id)
    assert not sim.pod(pod_id).happened("container exited")
    assert clock.now() == EPOCH


async def test_an_interruption_can_be_set_for_later(
    create: Create, look: Look, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """It happens at its moment, though nobody looks then."""
    pod_id = (await create(spot=True))["id"]
    await look(pod_id)
    sim.interrupt(pod_id, after=60)
    clock.advance(59)
    assert (await seen(look, pod_id))["desiredStatus"] == "RUNNING"
    clock.advance(100)
    assert (await seen(look, pod_id))["desiredStatus"] == "EXITED"
    assert sim.pod(pod_id).events[-1].at == EPOCH + timedelta(seconds=60)


async def test_new_pods_can_be_interrupted_while_they_start(create: Create, look: Look, sim: RunPodSimulator) -> None:
    """It often happens during provisioning (dstack#2732)."""
    sim.interrupt_new(times=2)
    first, second, third = [(await create(spot=True))["id"] for _ in range(3)]
    assert [(await seen(look, pod_id))["desiredStatus"] for pod_id in (first, second, third)] == [
        "EXITED",
        "EXITED",
        "RUNNING",
    ]
    assert not sim.pod(first).happened("container running")


async def test_a_stopped_pod_keeps_its_place_in_the_list(create: Create, ask: Ask, sim: RunPodSimulator) -> None:
    """`podStop` answers EXITED, also when it is stopped already."""
    pod_id = (await create())["id"]
    for _ in range(2):
        stopped = (await ask(STOP, {"id": pod_id})).json()["data"]["podStop"]
        assert stopped["desiredStatus"] == "EXITED"
        assert stopped["lastStatusChange"].startswith("Exited by User")
    assert await listed(ask) == [pod_id]
    assert sim.pod(pod_id).live


async def test_a_stopped_pod_is_resumed_with_other_gpus(
    create: Create, ask: Ask, look: Look, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """It starts anew: no runtime first, then one; a pod that runs is answered as it is."""
    sim.settings.progress = Progress.timed(10)
    pod_id = (await create(stopAfter="2026-11-01T13:00:00Z"))["id"]
    await ask(STOP, {"id": pod_id})
    resumed = (await ask(RESUME, {"input": {"podId": pod_id, "gpuCount": 2}})).json()["data"]["podResume"]
    assert (resumed["desiredStatus"], resumed["costPerHr"], resumed["gpuCount"]) == ("RUNNING", 0.34, 2)
    assert (await seen(look, pod_id))["runtime"] is None
    clock.advance(10)
    assert (await seen(look, pod_id))["runtime"] is not None
    assert (await ask(RESUME, {"input": {"podId": pod_id}})).json()["data"]["podResume"]["id"] == pod_id


async def test_a_full_host_refuses_to_resume(create: Create, ask: Ask, refusal: Refusal, sim: RunPodSimulator) -> None:
    """The pod is bound to it."""
    pod_id = (await create())["id"]
    await ask(STOP, {"id": pod_id})
    sim.market.set_stock(A4000, 0)
    assert refusal(await ask(RESUME, {"input": {"podId": pod_id}})) == texts.HOST_FULL
    assert sim.pod(pod_id).status == EXITED


async def test_each_kind_of_pod_has_its_own_resume(
    create: Create, ask: Ask, refusal: Refusal, sim: RunPodSimulator
) -> None:
    """A spot pod by a bid that is high enough, while spot pods are offered; others without bid."""
    spot, fixed = (await create(spot=True))["id"], (await create())["id"]
    for pod_id in (spot, fixed):
        await ask(STOP, {"id": pod_id})
    bid = {"bidPerGpu": 0.3, "gpuCount": 1}
    assert refusal(await ask(RESUME, {"input": {"podId": spot}})) == texts.WRONG_RESUME
    assert refusal(await ask(BID_RESUME, {"input": {"podId": fixed, **bid}})) == texts.WRONG_BID_RESUME
    low = {"podId": spot, "bidPerGpu": 0.01, "gpuCount": 1}
    assert refusal(await ask(BID_RESUME, {"input": low})) == texts.NO_STOCK_SPOT
    resumed = (await ask(BID_RESUME, {"input": {"podId": spot, **bid}})).json()["data"]["podBidResume"]
    assert (resumed["desiredStatus"], resumed["costPerHr"]) == ("RUNNING", 0.3)
    sim.market.spot = False
    assert refusal(await ask(BID_RESUME, {"input": {"podId": spot, **bid}})) == texts.SPOT_GONE


async def test_a_terminated_pod_is_gone_at_once(
    create: Create, ask: Ask, look: Look, refusal: Refusal, sim: RunPodSimulator
) -> None:
    """The answer is null; reading gives null; ending it again is an error."""
    pod_id = (await create())["id"]
    assert (await ask(TERMINATE, {"id": pod_id})).json() == {"data": {"podTerminate": None}}
    assert await look(pod_id) is None
    assert await listed(ask) == []
    assert refusal(await ask(TERMINATE, {"id": pod_id})) == texts.NOT_FOUND_TO_TERMINATE
    assert sim.live() == []
    assert sim.pod(pod_id).status == "TERMINATED"


async def test_pods_end_at_the_time_they_were_given(create: Create, look: Look, clock: FakeClock) -> None:
    """`stopAfter` stops, `terminateAfter` ends; a time without zone is UTC."""
    pod_id = (await create(stopAfter="2026-11-01T13:00:00Z", terminateAfter="2026-11-01T14:00:00"))["id"]
    clock.advance(3599)
    assert (await seen(look, pod_id))["desiredStatus"] == "RUNNING"
    clock.advance(1)
    assert (await seen(look, pod_id))["desiredStatus"] == "EXITED"
    clock.advance(3600)
    assert await look(pod_id) is None


async def test_lists_may_be_late_while_reads_are_not(
    create: Create, ask: Ask, look: Look, sim: RunPodSimulator, clock: FakeClock
) -> None:
    """New pods are missing, ended ones still run in the list."""
    sim.settings.list_lag = 20
    pod_id = (await create())["id"]
    assert await listed(ask) == []
    assert await look(pod_id) is not None
    clock.advance(20)
    assert await listed(ask) == [pod_id]
    await ask(TERMINATE, {"id": pod_id})
    ended = (await ask(LIST)).json()["data"]["myself"]["pods"][0]
    assert (ended["id"], ended["desiredStatus"], ended["runtime"] is None) == (pod_id, "RUNNING", False)
    assert await look(pod_id) is None
    clock.advance(20)
    assert await listed(ask) == []


async def test_an_edited_pod_gets_a_new_container(create: Create, ask: Ask, look: Look, clock: FakeClock) -> None:
    """Image, command and environment change; the uptime begins anew."""
    pod_id = (await create())["id"]
    await look(pod_id)
    clock.advance(50)
    text = """mutation E($id: String!) { podEditJob(input: {
      podId: $id, imageName: "other", dockerArgs: "sleep 1", env: [{key: "A", value: "B"}] }) { version } }"""
    assert (await ask(text, {"id": pod_id})).json()["data"]["podEditJob"]["version"] == 2
    pod = await seen(look, pod_id)
    assert (pod["imageName"], pod["dockerArgs"], pod["env"]) == ("other", "sleep 1", ["A=B"])
    assert pod["runtime"]["uptimeInSeconds"] == 0
    await ask(STOP, {"id": pod_id})
    assert (await ask(text, {"id": pod_id})).json()["data"]["podEditJob"]["version"] == 3
    assert (await seen(look, pod_id))["desiredStatus"] == "EXITED"


async def test_pods_of_others_are_there_from_before(ask: Ask, look: Look, sim: RunPodSimulator) -> None:
    """A test puts them there; they bill from their creation."""
    running = sim.add_pod("theirs", env={"A": "B"}, age=3600, pod_id="theirs1")
    stopped = sim.add_pod("stopped", status=EXITED, spot=True, volume=10)
    assert await listed(ask) == ["theirs1", stopped.id]
    pod = await seen(look, "theirs1")
    assert (pod["env"], pod["createdAt"]) == (["A=B"], "2026-11-01T11:00:00.000Z")
    assert float(sim.bill().pods["theirs1"].gpu) == 0.2
    assert running.foreign
    assert (await seen(look, stopped.id))["podType"] == "INTERRUPTABLE"


async def test_unknown_pods_cannot_be_handled(sim: RunPodSimulator) -> None:
    """A mistake of the test, so it is told."""
    for act in (sim.interrupt, sim.finish, sim.pod):
        with pytest.raises(KeyError):
            act("none")
