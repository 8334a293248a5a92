"""Machines that are not what was rented, in one process and in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from support import virtual_time
from support.inprocess import GPU, OTHER_GPU, SETTLE, Process, World, small_request
from support.product import LAG

from runner_provisioner.domain.history import BadMachine
from runner_provisioner.domain.leases import ASKED_AGAIN
from runner_provisioner.domain.request import Gate
from runner_provisioner.errors import ProvisioningFailed, StoreError

Scene = Callable[[World], Awaitable[None]]


def act(folder: Path, scene: Scene, **world: object) -> None:
    """Play a scene in a world of its own; afterwards nothing is left, and only what was used is billed."""

    async def main(loop: virtual_time.VirtualLoop) -> None:
        made = World(folder, loop, **world)  # type: ignore[arg-type]
        await scene(made)
        outcome = await Process(world=made).stop()
        assert outcome.ok, repr(outcome.error)
        assert not made.live()
        assert not made.github.runners()
        if not any(pod.happened("interrupted") for pod in made.runpod.pods()):
            assert made.runpod.bill().gpu == made.used()
        made.check_secrets()

    virtual_time.run(main)


def told(world: World, name: str) -> list[dict[str, object]]:
    """What was told of one kind."""
    return [dict(event.fields) for event in world.events if event.name == name]


@pytest.mark.parametrize("lag", [pytest.param(0.0, id="no-lag"), pytest.param(LAG, id="list-lag")])
def test_a_bad_host_is_given_back_and_kept_in_mind(tmp_path: Path, lag: float) -> None:
    """The next offer serves; the machine is quarantined once, and no two pods bill at once."""

    async def scene(world: World) -> None:
        world.bad = 1
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        first, second = world.runpod.pods()
        assert (first.gpu_type_id, second.gpu_type_id) == (GPU, OTHER_GPU)
        assert second.id == outcome.result.pod.id
        assert [(one.provider, one.machine) for one in world.history.machines] == [("runpod", first.machine.id)]
        why = outcome.result.refusals[0][1]
        assert f"pod {first.id} on machine {first.machine.id} ended itself before its runner was registered" in why
        assert "container log" in why
        assert [one["machine"] for one in told(world, "machine_quarantined")] == [first.machine.id]
        assert world.longest_overlap() == 0

    act(tmp_path, scene, list_lag=lag)


def test_a_pod_that_lands_on_a_quarantined_machine_is_given_back_at_once(tmp_path: Path) -> None:
    """Before it has booted, and without making the quarantine any longer; its offer is asked twice more."""

    async def scene(world: World) -> None:
        machine = world.runpod.market.hosts(GPU, secure=False)[0]
        before = BadMachine(provider="runpod", machine=machine.id, at=world.clock.now(), reason="gate")
        world.history.machines.append(before)
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        *landed, last = world.runpod.pods()
        assert [pod.machine.id for pod in landed] == [machine.id] * 3
        for pod in landed:
            assert pod.ended_at is not None
            assert (pod.ended_at - pod.created_at).total_seconds() < 1
        assert last.id == outcome.result.pod.id
        assert world.history.machines == [before]
        (said,) = told(world, "machines_kept_out")
        assert machine.id in str(said["machines"])
        why = outcome.result.refusals[0][1]
        assert f"machine {machine.id}, which is kept out until" in why
        assert f"machines --forget {machine.id}" in why
        assert world.longest_overlap() == 0

    act(tmp_path, scene)


def test_an_offer_with_another_machine_behind_it_serves_although_one_is_kept_out(tmp_path: Path) -> None:
    """The same offer, asked once more, after the first machine is taken by somebody else."""

    async def scene(world: World) -> None:
        bad, *others = world.runpod.market.hosts(GPU, secure=False)
        assert others
        world.history.machines.append(
            BadMachine(provider="runpod", machine=bad.id, at=world.clock.now(), reason="gate")
        )

        async def fill() -> None:
            while not world.runpod.pods():  # noqa: ASYNC110 - the simulator has no event for it
                await anyio.sleep(0.01)
            bad.gpus = 0

        async with anyio.create_task_group() as group:
            group.start_soon(fill)
            outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        first, second = world.runpod.pods()
        assert (first.machine.id, second.machine.id) == (bad.id, others[0].id)
        assert first.gpu_type_id == second.gpu_type_id == GPU

    act(tmp_path, scene)


def test_without_the_gate_a_machine_that_is_kept_out_serves(tmp_path: Path) -> None:
    """It is the user's own choice; and nothing is written down of a pod that ends itself."""

    async def scene(world: World) -> None:
        machine = world.runpod.market.hosts(GPU, secure=False)[0]
        before = BadMachine(provider="runpod", machine=machine.id, at=world.clock.now(), reason="gate")
        world.history.machines.append(before)
        world.bad = 1
        outcome = await Process(world=world).start(small_request(gate=Gate.OFF))
        assert outcome.ok, repr(outcome.error)
        assert world.runpod.pods()[0].machine.id == machine.id
        assert world.history.machines == [before]
        assert not told(world, "machines_kept_out")
        assert "the gate was off, so suspect the image and the options" in outcome.result.refusals[0][1]

    act(tmp_path, scene)


def test_a_start_after_one_that_made_every_machine_fail_finds_them_free(tmp_path: Path) -> None:
    """One bad image or option takes no good machine away."""

    async def scene(world: World) -> None:
        world.bad = 100
        outcome = await Process(world=world).start()
        assert isinstance(outcome.error, ProvisioningFailed)
        assert "suspect the image and the options first" in str(outcome.error)
        assert len({one["machine"] for one in told(world, "machine_not_blamed")}) >= 1
        world.bad = 0
        pods = len(world.runpod.pods())
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        assert len(world.runpod.pods()) == pods + 1

    act(tmp_path, scene)


def test_a_quarantine_ends(tmp_path: Path) -> None:
    """After half an hour a single failure counts no more."""

    async def scene(world: World) -> None:
        machine = world.runpod.market.hosts(GPU, secure=False)[0]
        at = world.clock.now() - timedelta(minutes=30)
        world.history.machines.append(BadMachine(provider="runpod", machine=machine.id, at=at, reason="gate"))
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        assert [pod.machine.id for pod in world.runpod.pods()] == [machine.id]

    act(tmp_path, scene)


def test_when_every_host_is_bad_the_start_says_so(tmp_path: Path) -> None:
    """Bounded by the rungs: each offer is rented three times at most, and nothing is left."""

    async def scene(world: World) -> None:
        world.bad = 100
        outcome = await Process(world=world).start()
        assert isinstance(outcome.error, ProvisioningFailed)
        assert "ended itself before its runner was registered" in str(outcome.error)
        pods = world.runpod.pods()
        assert 1 < len(pods) <= 6 * (1 + ASKED_AGAIN)
        assert not world.live()
        assert len(world.history.machines) == len({pod.machine.id for pod in pods})

    act(tmp_path, scene)


@pytest.mark.parametrize("verb", ["memory", "bad"])
def test_a_history_that_fails_stops_nothing(tmp_path: Path, verb: str) -> None:
    """It is told, and the job gets its runner."""

    async def scene(world: World) -> None:
        world.bad = 1
        world.history.add(verb, *[StoreError("the disk is full")] * 9)
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        assert "the disk is full" in str(told(world, "history_failed")[0]["error"])

    act(tmp_path, scene)


def test_an_interrupted_pod_is_no_bad_host(tmp_path: Path) -> None:
    """The provider took it: its machine is as good as any."""

    async def scene(world: World) -> None:
        world.runpod.interrupt_new(after=0.5)
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        assert "took the pod back" in outcome.result.refusals[0][1]
        assert world.history.machines == []

    act(tmp_path, scene)


def test_a_pod_whose_registration_was_refused_is_no_bad_host(tmp_path: Path) -> None:
    """It ended itself as well, but somebody else's runner of the name is the reason."""

    async def scene(world: World) -> None:
        found = []

        async def start() -> None:
            found.append(await Process(world=world).start())

        async with anyio.create_task_group() as group:
            group.start_soon(start)
            await anyio.sleep(SETTLE / 4)
            (pod,) = world.runpod.pods()
            world.github.play_runner("octo/gpu", pod.name, ["other"])
        assert world.history.machines == []

    act(tmp_path, scene)
