"""The cases that have a name of their own, at the other markets: what may never happen anywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from support import virtual_time
from support.inprocess import SETTLE, Process, World
from support.product import LAG, UNSERVED
from support.stages import Provider
from support.wire import Kind, Sent

from runner_provisioner.errors import KeyInUse
from runner_provisioner.simulators.faults import Fault, FaultKind

pytestmark = pytest.mark.usefixtures("unmeasured")
Scene = Callable[[World], Awaitable[None]]

OTHERS = [pytest.param(one, id=one.name.lower()) for one in Provider if one is not Provider.RUNPOD]
FULL = [
    pytest.param(one, id=one.name.lower(), marks=pytest.mark.full) for one in Provider if one is not Provider.RUNPOD
]
DELETES = {Provider.REST: "rest.delete", Provider.LIUM: "pods.delete", Provider.PRIME: "pods.delete"}
STRANGERS = ("rp-0badf00d-2s-1-default", "my-training", "runpod-pytorch")


def act(folder: Path, at: Provider, scene: Scene) -> None:
    """Play a scene in a world of its own, with a list that is late, and look for secrets afterwards."""

    async def main(loop: virtual_time.VirtualLoop) -> None:
        world = World(folder, loop, list_lag=LAG, providers=(at,), library=False)
        await scene(world)
        world.check_secrets()

    virtual_time.run(main)


async def gone(world: World, process: Process | None = None) -> None:
    """Stop, and see that nothing is left."""
    outcome = await (process or Process(world=world)).stop()
    assert outcome.ok, repr(outcome.error)
    assert not world.live()
    assert not world.github.runners()


def at_create(kind: Kind) -> Callable[[Sent], Kind]:
    """Strike every request that rents."""

    def rule(sent: Sent) -> Kind:
        path = sent.operation.removeprefix("POST ")
        rents = path != sent.operation and (path.endswith("/rent") or path.rstrip("/").endswith("/pods"))
        return kind if rents else Kind.PASS

    return rule


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Kind.DROP_AFTER, id="cut"),
        pytest.param(Kind.HANG_AFTER, id="no-answer", marks=pytest.mark.full),
        pytest.param(Kind.ERROR_AFTER, id="500", marks=pytest.mark.full),
        pytest.param(Kind.MALFORMED, id="nonsense", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("at", OTHERS)
def test_a_create_whose_answer_is_lost_is_adopted(tmp_path: Path, at: Provider, kind: Kind) -> None:
    """One pod is rented, however the request is repeated: by its key, its tags or its name it is found."""

    async def scene(world: World) -> None:
        outcome = await Process(world=world, rule=at_create(kind)).start()
        assert outcome.ok, repr(outcome.error)
        assert len(world.pods()) == 1
        await gone(world)

    act(tmp_path, at, scene)


@pytest.mark.parametrize("offset", [0.0, 0.05, 0.2, 1.0, 2.6, 5.0])
@pytest.mark.parametrize("at", FULL)
def test_two_starts_of_one_key_share_one_pod(tmp_path: Path, at: Provider, offset: float) -> None:
    """Whatever the list hides: both report the same pod and label."""

    async def scene(world: World) -> None:
        found = []

        async def start(wait: float) -> None:
            await anyio.sleep(wait)
            found.append(await Process(world=world, latency=0.02 + wait / 100).start())

        async with anyio.create_task_group() as group:
            group.start_soon(start, 0.0)
            group.start_soon(start, offset)
        assert [one.error for one in found] == [None, None]
        assert len({(one.result.pod.id, one.result.label) for one in found}) == 1
        assert len(world.live()) == 1
        await gone(world)

    act(tmp_path, at, scene)


@pytest.mark.parametrize("offset", [0.0, 0.05, 0.3, 1.0, 4.0, 12.0])
@pytest.mark.parametrize("at", FULL)
def test_a_matrix_leg_without_its_own_key_fails_and_ends_nothing_of_the_other(
    tmp_path: Path, at: Provider, offset: float
) -> None:
    """At most one of the two keeps a pod, nobody has two, and who is refused is told why."""

    async def scene(world: World) -> None:
        found = []

        async def start(folder: str, wait: float) -> None:
            await anyio.sleep(wait)
            found.append(await Process(world=world, state=folder).start())

        async with anyio.create_task_group() as group:
            group.start_soon(start, "leg one", 0.0)
            group.start_soon(start, "leg two", offset)
        kept = [one.result.pod.id for one in found if one.ok]
        assert [pod.id for pod in world.live()] == kept
        assert len(kept) == 1
        assert [type(one.error) for one in found if not one.ok] == [KeyInUse]
        await gone(world)

    act(tmp_path, at, scene)


@pytest.mark.parametrize("at", FULL)
def test_a_repeated_start_goes_on_with_the_pod_of_one_that_was_killed(tmp_path: Path, at: Provider) -> None:
    """Before and after the answer to its create."""

    async def scene(world: World) -> None:
        assert (await Process(world=world, rule=at_create(Kind.CRASH_AFTER)).start()).crashed
        (pod,) = world.live()
        await anyio.sleep(LAG)
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        assert outcome.result.pod.id == pod.id
        assert len(world.pods()) == 1
        await gone(world)

    act(tmp_path, at, scene)


@pytest.mark.parametrize("at", FULL)
def test_a_terminate_that_is_ignored_is_repeated(tmp_path: Path, at: Provider) -> None:
    """Accepted is not done: only a look counts."""

    async def scene(world: World) -> None:
        assert (await Process(world=world).start()).ok
        ends = Fault(operation=DELETES[at], kind=FaultKind.IGNORED, times=3)
        world.stage.sim.faults.add(ends)
        await gone(world)
        assert world.stage.sim.faults.count(DELETES[at]) >= 4

    act(tmp_path, at, scene)


@pytest.mark.parametrize("at", OTHERS)
def test_nobody_elses_pod_is_ended(tmp_path: Path, at: Provider) -> None:
    """Not by start, stop or clean-up, however old it is and whatever its name."""

    async def scene(world: World) -> None:
        strangers = [world.stage.sim.add_pod(name, age=10 * 3600.0) for name in STRANGERS]  # type: ignore[attr-defined]
        assert (await Process(world=world).start()).ok
        assert (await Process(world=world).stop()).ok
        assert (await Process(world=world).start()).ok
        world.github.complete_run(world.run_id)
        await anyio.sleep(UNSERVED if at is Provider.PRIME else SETTLE)
        swept = await Process(world=world).cleanup()
        assert swept.ok, repr(swept.error)
        assert len(swept.result.ended) >= 1
        assert world.live() == strangers

    act(tmp_path, at, scene)


@pytest.mark.parametrize("at", FULL)
def test_clean_up_ends_what_a_crash_left(tmp_path: Path, at: Provider) -> None:
    """Its run goes on, so that its age and the missing runner are the only grounds."""

    async def scene(world: World) -> None:
        world.mute = 1
        assert (await Process(world=world, rule=at_create(Kind.CRASH_AFTER)).start()).crashed
        young = await Process(world=world).cleanup()
        assert (young.ok, young.result.ended) == (True, ())
        await anyio.sleep(UNSERVED)
        swept = await Process(world=world).cleanup()
        assert swept.ok, repr(swept.error)
        assert not world.live()

    act(tmp_path, at, scene)
