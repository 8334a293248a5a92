"""Machines that are not what was rented, in one process and in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from support import virtual_time
from support.inprocess import GPU, OTHER_GPU, SETTLE, Process, World
from support.product import LAG

from runner_provisioner.domain.history import BadMachine
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
        assert "gate-failed" in outcome.result.refusals[0][1]
        assert [one["machine"] for one in told(world, "machine_quarantined")] == [first.machine.id]
        assert world.longest_overlap() == 0

    act(tmp_path, scene, list_lag=lag)


def test_a_pod_that_lands_on_a_quarantined_machine_is_given_back_at_once(tmp_path: Path) -> None:
    """Before it has booted, and without making the quarantine any longer."""

    async def scene(world: World) -> None:
        machine = world.runpod.market.hosts(GPU, secure=False)[0]
        before = BadMachine(provider="runpod", machine=machine.id, at=world.clock.now(), reason="gate")
        world.history.machines.append(before)
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        first, second = world.runpod.pods()
        assert first.machine.id == machine.id
        assert first.ended_at is not None
        assert (first.ended_at - first.created_at).total_seconds() < 1
        assert second.id == outcome.result.pod.id
        assert world.history.machines == [before]

    act(tmp_path, scene)


def test_a_quarantine_ends(tmp_path: Path) -> None:
    """After a week a single failure counts no more."""

    async def scene(world: World) -> None:
        machine = world.runpod.market.hosts(GPU, secure=False)[0]
        at = world.clock.now() - timedelta(days=7)
        world.history.machines.append(BadMachine(provider="runpod", machine=machine.id, at=at, reason="gate"))
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        assert [pod.machine.id for pod in world.runpod.pods()] == [machine.id]

    act(tmp_path, scene)


def test_when_every_host_is_bad_the_start_says_so(tmp_path: Path) -> None:
    """Bounded by the rungs: each offer is rented once, and nothing is left."""

    async def scene(world: World) -> None:
        world.bad = 100
        outcome = await Process(world=world).start()
        assert isinstance(outcome.error, ProvisioningFailed)
        assert "the machine is not what was rented" in str(outcome.error)
        pods = world.runpod.pods()
        assert 1 < len(pods) <= 6
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
        assert "interrupted" in outcome.result.refusals[0][1]
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
