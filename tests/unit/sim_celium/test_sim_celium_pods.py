"""Pods of the simulated Lium: rents, stages, restarts, kill times, reclaims, events, money."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.celium import CeliumSimulator, Progress, RentAnswer, executor_id
from runner_provisioner.testing.clock import EPOCH, FakeClock

Send = Callable[..., Awaitable[httpx.Response]]
Rent = Callable[..., Awaitable[dict[str, Any]]]
Template = Callable[..., Awaitable[str]]
Look = Callable[[str], Awaitable[dict[str, Any]]]


async def test_a_rented_pod_is_pending_and_then_running(rent: Rent, look: Look) -> None:
    """The answer to the rent is from before it runs; every field that clients need is there."""
    pod = await rent(gpu_count="2")
    assert (pod["status"], pod["phase"], pod["ssh_connect_cmd"]) == ("PENDING", "queued", None)
    assert (pod["gpu_count"], pod["price"]) == (2, 0.24)
    told = await look(pod["id"])
    assert (told["status"], told["phase"], told["estimated_ready_seconds"]) == ("RUNNING", None, None)
    port = told["ports_mapping"]["22"]
    assert told["ssh_connect_cmd"] == f"ssh root@127.0.0.1 -p {port}"
    assert told["executor_id"] == told["executor"]["id"] == executor_id("a4000") != told["id"]


async def test_a_starting_pod_tells_its_phase(sim: CeliumSimulator, clock: FakeClock, rent: Rent, look: Look) -> None:
    """By time, with an estimate."""
    sim.settings.progress = Progress.timed(60)
    pod_id = (await rent())["id"]
    seen = []
    for _ in range(4):
        told = await look(pod_id)
        seen.append((told["status"], told["phase"], told["estimated_ready_seconds"]))
        clock.advance(20)
    assert seen == [
        ("PENDING", "queued", 60),
        ("PENDING", "connecting to node", 40),
        ("PENDING", "creating volume", 20),
        ("RUNNING", None, None),
    ]


async def test_progress_by_polls(sim: CeliumSimulator, rent: Rent, look: Look) -> None:
    """The first looks show a pod that starts."""
    sim.settings.progress = Progress.after_polls(2)
    pod_id = (await rent())["id"]
    assert [(await look(pod_id))["status"] for _ in range(3)] == ["PENDING", "PENDING", "RUNNING"]


async def test_an_image_that_nobody_has_is_pulled_for_ever(
    sim: CeliumSimulator, clock: FakeClock, rent: Rent, look: Look, template: Template
) -> None:
    """And bills."""
    sim.settings.unpullable.add("octo/runner:latest")
    pod_id = (await rent(template_id=await template()))["id"]
    clock.advance(3600)
    assert (await look(pod_id))["phase"] == "pulling image"
    assert sim.bill().total == Decimal("0.12")


async def test_ssh_may_come_later(sim: CeliumSimulator, clock: FakeClock, rent: Rent, look: Look) -> None:
    """RUNNING alone is not ready."""
    sim.settings.ssh_seconds = 10
    pod_id = (await rent())["id"]
    assert [(await look(pod_id))[name] for name in ("status", "ssh_connect_cmd")] == ["RUNNING", None]
    clock.advance(10)
    assert (await look(pod_id))["ssh_connect_cmd"] is not None


async def test_the_short_answer(sim: CeliumSimulator, send: Send) -> None:
    """Some servers tell only the id."""
    sim.settings.rent_answer = RentAnswer.SHORT
    (pod_id,) = ((await send()).json()["pod_id"],)
    assert sim.pod(pod_id).live


async def test_the_list_is_an_array_and_may_be_late(
    web: httpx.AsyncClient, sim: CeliumSimulator, clock: FakeClock, rent: Rent
) -> None:
    """A rent that was accepted is not listed at once."""
    sim.settings.list_lag = 5
    pod_id = (await rent())["id"]
    assert (await web.get("/pods")).json() == []
    clock.advance(5)
    (listed,) = (await web.get("/pods")).json()
    assert listed["id"] == pod_id
    assert (await web.get("/pods", params={"api_key_id": "other"})).json() == []
    await web.delete(f"/pods/{pod_id}")
    assert len((await web.get("/pods")).json()) == 1
    clock.advance(5)
    assert (await web.get("/pods")).json() == []


async def test_a_deleted_pod_is_gone_and_billed_to_the_second(
    web: httpx.AsyncClient, sim: CeliumSimulator, clock: FakeClock, rent: Rent
) -> None:
    """404 from then on; events and the record remain."""
    pod_id = (await rent())["id"]
    clock.advance(90)
    assert (await web.delete(f"/pods/{pod_id}")).status_code == 200
    clock.advance(3600)
    for refused in (await web.get(f"/pods/{pod_id}"), await web.delete(f"/pods/{pod_id}")):
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "pod_not_found")
    events = (await web.get(f"/pods/{pod_id}/events")).json()
    assert (events[0]["event"], events[-1]["reason"]) == ("created", "user_request")
    assert (await web.get(f"/pods/{pod_id}/record")).json()["billed_seconds"] == 90
    statement = (await web.get("/billing/statement")).json()
    assert statement["total"] == pytest.approx(0.12 * 90 / 3600)
    newest = (await web.get("/users/me/events", params={"pod_id": pod_id, "limit": 1})).json()
    assert [each["reason"] for each in newest] == ["user_request"]
    assert (await web.get("/account/audit")).json()["items"]
    assert sim.bill().total == Decimal("0.12") * 90 / 3600


async def test_an_ended_pod_may_linger(
    web: httpx.AsyncClient, sim: CeliumSimulator, clock: FakeClock, rent: Rent, look: Look
) -> None:
    """DELETING for a while, which bills."""
    sim.settings.deletion_seconds = 30
    pod_id = (await rent())["id"]
    for _ in range(2):
        await web.delete(f"/pods/{pod_id}")
    assert (await look(pod_id))["status"] == "DELETING"
    clock.advance(100)
    assert sim.bill().pods[pod_id].gpu_seconds == 30


@pytest.mark.parametrize("way", ["hours", "schedule"])
async def test_the_service_ends_a_pod_by_itself(
    web: httpx.AsyncClient, sim: CeliumSimulator, clock: FakeClock, rent: Rent, look: Look, way: str
) -> None:
    """After `termination_hours` or at the scheduled time, to the second, however late somebody looks."""
    pod_id = (await rent(termination_hours=2 if way == "hours" else None))["id"]
    if way == "schedule":
        body = {"removal_scheduled_at": (EPOCH + timedelta(hours=2)).isoformat()}
        assert (await web.post(f"/pods/{pod_id}/schedule-removal", json=body)).json()["success"] is True
    assert (await look(pod_id))["removal_scheduled_at"] is not None
    clock.advance(86400)
    assert sim.pod(pod_id).ended_at == EPOCH + timedelta(hours=2)
    assert (await web.get(f"/pods/{pod_id}/events")).json()[-1]["reason"] == "scheduled_removal"


async def test_a_removal_can_be_moved_and_withdrawn(
    web: httpx.AsyncClient, sim: CeliumSimulator, clock: FakeClock, rent: Rent
) -> None:
    """Not into the past, and only as a time."""
    pod_id = (await rent(termination_hours=1))["id"]
    place = f"/pods/{pod_id}/schedule-removal"
    assert (await web.post(place, json={"removal_scheduled_at": EPOCH.isoformat()})).status_code == 400
    assert (await web.post(place, json={"removal_scheduled_at": "soon"})).status_code == 422
    assert (await web.delete(place)).json()["removal_scheduled_at"] is None
    clock.advance(7200)
    assert sim.pod(pod_id).live
    naive = (EPOCH + timedelta(hours=3)).replace(tzinfo=None)
    await web.post(place, json={"removal_scheduled_at": naive.isoformat()})
    clock.advance(3600)
    assert sim.pod(pod_id).ended_at == EPOCH + timedelta(hours=3)


async def test_a_spot_pod_vanishes_without_notice(
    web: httpx.AsyncClient, sim: CeliumSimulator, clock: FakeClock, rent: Rent
) -> None:
    """Only its events tell why, and they survive it."""
    pod_id = (await rent("a4000-spot"))["id"]
    sim.interrupt(pod_id, after=600)
    clock.advance(3600)
    assert (await web.get("/pods")).json() == []
    last = (await web.get(f"/pods/{pod_id}/events")).json()[-1]
    assert (last["event"], last["reason"]) == ("pod_removed", "provider_reclaimed")
    assert sim.bill().pods[pod_id].gpu_seconds == 600
    assert sim.pod(pod_id).happened("interrupted")


async def test_a_reclaim_has_words_or_only_stops(
    web: httpx.AsyncClient, sim: CeliumSimulator, rent: Rent, look: Look
) -> None:
    """A detail where one is given; STOPPED where the row stays."""
    first = (await rent("a4000-spot"))["id"]
    sim.interrupt(first, reason="host went offline")
    assert (await web.get(f"/pods/{first}/events")).json()[-1]["detail"] == "host went offline"
    sim.settings.interruption_removes = False
    second = (await rent("a4000-spot"))["id"]
    sim.interrupt(second)
    assert (await look(second))["status"] == "STOPPED"


async def test_a_container_starts_again_when_its_command_ends(
    sim: CeliumSimulator, clock: FakeClock, rent: Rent, look: Look
) -> None:
    """Whatever its exit status, for ever, and the pod looks as before."""
    pod_id = (await rent())["id"]
    for _ in range(3):
        clock.advance(10)
        await look(pod_id)
        sim.finish(pod_id, 0)
    clock.advance(10)
    assert (sim.pod(pod_id).restarts, (await look(pod_id))["status"]) == (3, "RUNNING")


async def test_a_container_that_ends_at_once_is_a_failed_creation(
    web: httpx.AsyncClient, sim: CeliumSimulator, clock: FakeClock, rent: Rent, look: Look
) -> None:
    """It bills no more, its row goes after three minutes, its events remain."""
    pod_id = (await rent())["id"]
    await look(pod_id)
    sim.finish(pod_id, 127)
    assert (await look(pod_id))["status"] == "CREATION_FAILED"
    clock.advance(181)
    assert (await web.get(f"/pods/{pod_id}")).status_code == 404
    errors = [each["error"] or "" for each in (await web.get(f"/pods/{pod_id}/events")).json()]
    assert any("container exited with 127" in error for error in errors)
    assert sim.bill().total == 0


async def test_a_start_command_that_leaks_fails_the_creation(
    web: httpx.AsyncClient, sim: CeliumSimulator, rent: Rent, look: Look, template: Template
) -> None:
    """The node's shell takes part of it for its own."""
    pod_id = (await rent(template_id=await template("bash start.sh && register")))["id"]
    assert (await look(pod_id))["status"] == "CREATION_FAILED"
    pod = sim.pod(pod_id)
    assert any("register: command not found" in line for line in pod.on_node)
    errors = [each["error"] for each in (await web.get(f"/pods/{pod_id}/events")).json() if each["error"]]
    assert errors
    assert "docker run failed on the node" in errors[0]
    assert sim.bill().total == 0


async def test_a_container_gets_what_docker_was_told(
    sim: CeliumSimulator, rent: Rent, look: Look, template: Template
) -> None:
    """Entrypoint, command and environment; empty values are gone."""
    template_id = await template(
        "-c 'exec runner'", entrypoint="/bin/bash", environment={"A": "b", "EMPTY": ""}, docker_image_tag="2"
    )
    pod_id = (await rent(template_id=template_id))["id"]
    await look(pod_id)
    launch = sim.launch_of(sim.pod(pod_id))
    assert (launch.argv, launch.env) == (("/bin/bash", "-c", "exec runner"), {"A": "b"})
    assert (launch.image.name, launch.volume_mount, launch.gpu) == ("octo/runner:2", "/workspace", "NVIDIA RTX A4000")


async def test_a_one_time_template_goes_with_its_pod(web: httpx.AsyncClient, rent: Rent, template: Template) -> None:
    """Another one stays."""
    once, kept = await template(one_time_template=True), await template()
    for template_id in (once, kept):
        pod_id = (await rent(template_id=template_id))["id"]
        assert (await web.get(f"/templates/{template_id}")).status_code == 200
        await web.delete(f"/pods/{pod_id}")
    assert (await web.get(f"/templates/{once}")).status_code == 404
    assert (await web.get(f"/templates/{kept}")).status_code == 200


async def test_reboot_and_another_template(
    web: httpx.AsyncClient, sim: CeliumSimulator, clock: FakeClock, rent: Rent, look: Look, template: Template
) -> None:
    """REBOOT_PENDING, then running again; the new template goes through the node's shell."""
    pod_id = (await rent())["id"]
    await look(pod_id)
    sim.settings.progress = Progress.timed(30)
    assert (await web.post(f"/pods/{pod_id}/reboot")).json()["status"] == "REBOOT_PENDING"
    clock.advance(30)
    assert (await look(pod_id))["status"] == "RUNNING"
    body = {"template_id": await template("other command")}
    assert (await web.put(f"/pods/{pod_id}/switch-template", json=body)).status_code == 200
    clock.advance(30)
    await look(pod_id)
    assert sim.launch_of(sim.pod(pod_id)).argv == ("other", "command")


async def test_an_empty_account_ends_its_pods(
    web: httpx.AsyncClient, sim: CeliumSimulator, clock: FakeClock, rent: Rent
) -> None:
    """At the moment it is empty."""
    sim.set_balance(Decimal("0.24"))
    pod_id = (await rent())["id"]
    clock.advance(86400)
    assert sim.pod(pod_id).ended_at == EPOCH + timedelta(hours=2)
    assert (await web.get(f"/pods/{pod_id}/events")).json()[-1]["reason"] == "insufficient_balance"
    assert (await web.get("/users/me")).json()["balance"] == 0


@pytest.mark.parametrize("status", ["ERROR", "BROKEN", "FAILED", "REMOVED", "running", "SOMETHING_NEW"])
async def test_any_status_can_be_played(sim: CeliumSimulator, rent: Rent, look: Look, status: str) -> None:
    """And taken back."""
    pod_id = (await rent())["id"]
    sim.set_status(pod_id, status)
    assert (await look(pod_id))["status"] == status
    sim.set_status(pod_id, None)
    assert (await look(pod_id))["status"] == "RUNNING"


async def test_a_creation_can_be_made_to_fail(sim: CeliumSimulator, rent: Rent, look: Look) -> None:
    """By a test."""
    pod_id = (await rent())["id"]
    sim.fail(pod_id, "manifest unknown")
    assert (await look(pod_id))["status"] == "CREATION_FAILED"


async def test_pods_are_renamed_and_foreign_ones_bill(web: httpx.AsyncClient, sim: CeliumSimulator, look: Look) -> None:
    """A test puts them there."""
    pod = sim.add_pod("somebody", age=3600, price=Decimal("0.50"), spot=True)
    assert sim.bill().total == Decimal("0.50")
    assert (await look(pod.id))["executor"]["tier"] == "spot"
    assert (await web.patch(f"/pods/{pod.id}", json={"pod_name": "mine"})).json()["pod_name"] == "mine"
    assert (await web.patch(f"/pods/{pod.id}", json={})).status_code == 422
    assert sim.add_pod("other", executor="h100").machine.gpus == 8


async def test_the_old_way_to_end(web: httpx.AsyncClient, sim: CeliumSimulator, rent: Rent) -> None:
    """By the executor: everything on it."""
    await rent()
    await rent()
    place = f"/executors/{executor_id('a4000')}/rent"
    assert (await web.delete(place)).status_code == 200
    assert sim.live() == []
    assert (await web.delete(place)).status_code == 404
