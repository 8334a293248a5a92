"""Pods of the simulated Prime Intellect: creation, stages, lists, history, interruption, money."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.prime import PrimeSimulator, Progress, texts
from runner_provisioner.testing.clock import EPOCH, FakeClock

Create = Callable[..., Awaitable[dict[str, Any]]]
Look = Callable[[str], Awaitable[dict[str, Any]]]
Order = Callable[..., dict[str, Any]]


async def test_a_new_pod_is_provisioning_and_then_active(create: Create, look: Look) -> None:
    """The answer to the creation is from before it runs; every field that clients need is there."""
    pod = await create(diskSize=200, vcpus=8, memory=32)
    assert (pod["status"], pod["installationStatus"], pod["sshConnection"], pod["ip"]) == (
        "PROVISIONING",
        "PENDING",
        None,
        None,
    )
    assert pod["resources"] == {"memory": "32", "disk": "200", "vcpus": "8"}
    assert {"type", "socket", "walletId", "basePriceHr", "attachedResources", "finalizerStatus"} <= pod.keys()
    told = await look(pod["id"])
    assert (told["status"], told["installationProgress"], told["priceHr"]) == ("ACTIVE", 100, 0.1900)
    assert told["costPerHr"] == told["priceHr"]
    host, _, port = told["sshConnection"].partition(" -p ")
    assert host == "root@127.0.0.1"
    (mapping,) = told["primePortMapping"]
    assert mapping == {"internal": "22", "external": port, "protocol": "TCP", "usedBy": "SSH", "description": None}


async def test_progress_by_polls_shows_every_stage(sim: PrimeSimulator, create: Create, look: Look) -> None:
    """PROVISIONING, then ACTIVE with a growing installation and no address, then done."""
    sim.settings.progress = Progress.after_polls(4)
    pod_id = (await create())["id"]
    seen = [await look(pod_id) for _ in range(5)]
    assert [each["status"] for each in seen] == ["PROVISIONING", "PROVISIONING", "ACTIVE", "ACTIVE", "ACTIVE"]
    assert [each["installationProgress"] for each in seen] == [0, 0, 0, 50, 100]
    assert [each["sshConnection"] is None for each in seen] == [True, True, True, True, False]


async def test_progress_by_time(sim: PrimeSimulator, clock: FakeClock, create: Create, look: Look) -> None:
    """The first half provisions, the second installs."""
    sim.settings.progress = Progress.timed(100)
    pod_id = (await create())["id"]
    seen = []
    for _ in range(5):
        told = await look(pod_id)
        seen.append((told["status"], told["installationProgress"]))
        clock.advance(25)
    assert seen == [("PROVISIONING", 0), ("PROVISIONING", 0), ("ACTIVE", 0), ("ACTIVE", 50), ("ACTIVE", 100)]


async def test_an_image_that_nobody_has_never_boots(
    sim: PrimeSimulator, clock: FakeClock, create: Create, look: Look
) -> None:
    """It provisions for ever, and bills."""
    sim.settings.unpullable.add("ubuntu_22_cuda_12")
    pod_id = (await create())["id"]
    clock.advance(3600)
    assert (await look(pod_id))["status"] == "PROVISIONING"
    assert sim.bill().total == Decimal("0.17")


@pytest.mark.parametrize("word", ["FINISHED", "COMPLETE"])
async def test_both_words_for_a_finished_installation(
    web: httpx.AsyncClient, sim: PrimeSimulator, create: Create, word: str
) -> None:
    """That of the clients and that of the documentation."""
    sim.settings.finished_word = word
    pod_id = (await create())["id"]
    assert (await web.get(f"/pods/{pod_id}")).json()["installationStatus"] == word


async def test_the_other_forms_of_an_answer(web: httpx.AsyncClient, sim: PrimeSimulator, create: Create) -> None:
    """Lists with null as for several nodes; no installation fields."""
    sim.settings.connections_as_lists = True
    sim.settings.installation_shown = False
    pod = await create()
    assert (pod["sshConnection"], pod["ip"], pod["installationStatus"]) == ([None], [None], None)
    told = (await web.get(f"/pods/{pod['id']}")).json()
    assert (told["ip"], told["installationProgress"]) == (["127.0.0.1"], None)
    assert told["sshConnection"][0].startswith("root@127.0.0.1 -p ")


async def test_an_installation_can_fail(sim: PrimeSimulator, create: Create, look: Look) -> None:
    """The pod is ACTIVE all the same, and bills."""
    pod_id = (await create())["id"]
    sim.fail(pod_id, "driver mismatch")
    told = await look(pod_id)
    assert (told["status"], told["installationFailure"], told["sshConnection"]) == ("ACTIVE", "driver mismatch", None)
    assert sim.bill().pods[pod_id].running


@pytest.mark.parametrize("status", ["ERROR", "UNKNOWN", "PENDING", "SOMETHING_NEW"])
async def test_any_status_can_be_played(sim: PrimeSimulator, create: Create, look: Look, status: str) -> None:
    """And taken back."""
    pod_id = (await create())["id"]
    sim.set_status(pod_id, status)
    assert (await look(pod_id))["status"] == status
    sim.set_status(pod_id, None)
    assert (await look(pod_id))["status"] == "ACTIVE"


async def test_an_ended_pod_is_gone_and_in_the_history(
    web: httpx.AsyncClient, clock: FakeClock, create: Create
) -> None:
    """404, not listed, no status; billed to the second."""
    pod_id = (await create())["id"]
    clock.advance(1800)
    assert (await web.delete(f"/pods/{pod_id}")).status_code == 200
    clock.advance(3600)
    for refused in (await web.get(f"/pods/{pod_id}"), await web.delete(f"/pods/{pod_id}")):
        assert (refused.status_code, refused.json()) == (404, {"detail": texts.NOT_FOUND})
    assert (await web.get("/pods")).json() == {"total_count": 0, "offset": 0, "limit": 100, "data": []}
    assert (await web.get("/pods/status", params={"pod_ids": pod_id})).json() == {"data": []}
    (past,) = (await web.get("/pods/history")).json()["data"]
    assert (past["id"], past["totalBilledPrice"]) == (pod_id, 0.085)
    assert past["terminatedAt"] > past["createdAt"]


async def test_an_ended_pod_may_linger(
    web: httpx.AsyncClient, sim: PrimeSimulator, clock: FakeClock, create: Create
) -> None:
    """DELETING for a while, which bills; then TERMINATED where the service shows it."""
    sim.settings.deletion_seconds = 60
    sim.settings.shows_terminated = True
    pod_id = (await create())["id"]
    await web.delete(f"/pods/{pod_id}")
    await web.delete(f"/pods/{pod_id}")
    assert (await web.get(f"/pods/{pod_id}")).json()["status"] == "DELETING"
    clock.advance(3600)
    assert (await web.get(f"/pods/{pod_id}")).json()["status"] == "TERMINATED"
    assert sim.bill().pods[pod_id].gpu_seconds == 60


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({}, ["ci-1", "ci-3", "ci-2"], id="newest end first"),
        pytest.param({"sort_by": "createdAt", "sort_order": "asc"}, ["ci-1", "ci-2", "ci-3"], id="by creation"),
        pytest.param({"sort_by": "createdAt", "sort_order": "desc", "limit": 1, "offset": 1}, ["ci-2"], id="a page"),
    ],
)
async def test_the_history_is_sorted(
    web: httpx.AsyncClient, clock: FakeClock, create: Create, query: dict[str, Any], expected: list[str]
) -> None:
    """By the end or the creation, in pages."""
    pods = {}
    for name in ("ci-1", "ci-2", "ci-3"):
        pods[name] = (await create(name=name))["id"]
        clock.advance(10)
    for name in ("ci-2", "ci-3", "ci-1"):
        await web.delete(f"/pods/{pods[name]}")
        clock.advance(10)
    told = (await web.get("/pods/history", params=query)).json()
    assert [each["name"] for each in told["data"]] == expected
    assert told["total_count"] == 3


@pytest.mark.parametrize("query", [{"sort_by": "price"}, {"sort_order": "up"}, {"offset": "x"}, {"limit": 0}])
async def test_a_wrong_order_is_refused(web: httpx.AsyncClient, query: dict[str, Any]) -> None:
    """422 with the parameter's name."""
    refused = await web.get("/pods/history", params=query)
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["query", *query]


async def test_pods_are_listed_in_pages_and_late(
    web: httpx.AsyncClient, sim: PrimeSimulator, clock: FakeClock, create: Create
) -> None:
    """With a lag new ones are missing and ended ones are still there."""
    for number in range(3):
        await create(name=f"ci-{number}")
    page = (await web.get("/pods", params={"offset": 1, "limit": 1})).json()
    assert ([each["name"] for each in page["data"]], page["total_count"]) == (["ci-1"], 3)
    sim.settings.list_lag = 10
    assert (await web.get("/pods")).json()["data"] == []
    clock.advance(10)
    pod_id = sim.live()[0].id
    await web.delete(f"/pods/{pod_id}")
    listed = (await web.get("/pods")).json()["data"]
    assert [each["status"] for each in listed] == ["ACTIVE"] * 3
    clock.advance(10)
    assert len((await web.get("/pods")).json()["data"]) == 2


async def test_a_spot_pod_is_taken_without_notice(
    sim: PrimeSimulator, clock: FakeClock, create: Create, look: Look
) -> None:
    """It is STOPPED, still costs something, and nothing but a look tells."""
    pod = await create(cloudId="a4000-1x-spot")
    assert pod["isSpot"] is True
    sim.interrupt(pod["id"], after=1800)
    clock.advance(3600)
    told = await look(pod["id"])
    assert (told["status"], told["sshConnection"]) == ("STOPPED", None)
    bill = sim.bill().pods[pod["id"]]
    assert (bill.gpu, bill.disk) == (Decimal("0.035"), Decimal("0.0035"))
    assert sim.pod(pod["id"]).happened("interrupted")


async def test_an_interrupted_pod_may_be_gone(web: httpx.AsyncClient, sim: PrimeSimulator, create: Create) -> None:
    """From the list, and into the history."""
    sim.settings.interruption_removes = True
    sim.interrupt_new(after=0)
    pod_id = (await create(cloudId="a4000-1x-spot"))["id"]
    assert (await web.get(f"/pods/{pod_id}")).status_code == 404
    assert [each["id"] for each in (await web.get("/pods/history")).json()["data"]] == [pod_id]
    assert sim.pod(pod_id).happened("interrupted")


async def test_an_empty_wallet_rents_nothing_and_ends_what_runs(
    web: httpx.AsyncClient, sim: PrimeSimulator, clock: FakeClock, order: Order, create: Create
) -> None:
    """402 at the creation; running pods end when the balance is used up."""
    sim.set_balance(Decimal("0.34"))
    pod_id = (await create())["id"]
    clock.advance(3700)
    refused = await web.post("/pods", json=order())
    assert (refused.status_code, refused.json()) == (402, {"detail": texts.NO_FUNDS})
    clock.advance(86400)
    assert sim.pod(pod_id).ended_at == EPOCH + timedelta(hours=2)
    assert (await web.get("/billing/wallet")).json()["balance_usd"] == 0


async def test_only_with_auto_restart_a_container_starts_again(
    sim: PrimeSimulator, clock: FakeClock, create: Create, look: Look
) -> None:
    """Otherwise the pod stays ACTIVE with nothing in it."""
    plain, again = (await create(name="a"))["id"], (await create(name="b", autoRestart=True))["id"]
    for pod_id in (plain, again):
        sim.finish(pod_id, 1)
    clock.advance(60)
    assert [sim.pod(pod_id).restarts for pod_id in (plain, again)] == [0, 1]
    assert (await look(plain))["status"] == "ACTIVE"


async def test_the_output_of_a_pod(web: httpx.AsyncClient, sim: PrimeSimulator, create: Create) -> None:
    """As text."""
    pod_id = (await create())["id"]
    sim.say(pod_id, "hello\n")
    told = await web.get(f"/pods/{pod_id}/logs")
    assert (told.text, told.headers["content-type"]) == ("hello\n", "text/plain")
    assert (await web.get("/pods/none/logs")).status_code == 404


async def test_foreign_pods_bill_too(web: httpx.AsyncClient, sim: PrimeSimulator) -> None:
    """A test puts them there."""
    pod = sim.add_pod("somebody", age=3600, price=Decimal("0.50"), spot=True)
    assert sim.bill().total == Decimal("0.50")
    assert (await web.get(f"/pods/{pod.id}")).json()["isSpot"] is True
    assert sim.add_pod("other", offer="h100-8").gpu_count == 8
