"""Machines that are taken back at the other markets, each by the layers that it has; RunPod's: test_interruptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest
from support import virtual_time
from support.inprocess import POLL, World
from support.product import scratch
from support.repeating import Repeating
from support.stages import Provider
from support.virtual_time import VirtualLoop

from runner_provisioner.domain.offers import Interruptible
from runner_provisioner.errors import RemoteError
from runner_provisioner.services.watch import Over, Watched
from runner_provisioner.simulators.faults import ANY, Fault, FaultKind
from runner_provisioner.simulators.prime.settings import Settings

Story = Callable[[Repeating], Awaitable[None]]
pytestmark = pytest.mark.usefixtures("unmeasured")

NAMES = {Provider.LIUM: "celium", Provider.PRIME: "prime", Provider.REST: "runpod"}
EVERY = [pytest.param(one, id=one.name.lower()) for one in NAMES]
FULL = [pytest.param(one, id=one.name.lower(), marks=pytest.mark.full) for one in NAMES]


def tell(at: Provider, story: Story, *, watched: bool = False) -> None:
    """Play a story at this market; at its end nothing bills, and the bill is what was used."""
    with scratch() as folder:

        async def main(loop: VirtualLoop) -> None:
            world = World(folder, loop, library=False, providers=(at,))
            run = Repeating(world, watched=watched)
            await story(run)
            assert not world.live()
            assert not world.github.violations
            assert world.gpu_bill() == run.used()
            assert world.longest_overlap() == 0.0
            world.check_secrets()

        virtual_time.run(main)


async def watching(run: Repeating, act: Callable[[], Awaitable[None]]) -> Watched:
    """What a watch finds while something happens."""
    found: list[Watched] = []

    async def watch() -> None:
        found.append(await run.watch(run.attempts))

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await act()
    return found[0]


@pytest.mark.parametrize("at", EVERY)
def test_a_job_that_lost_its_machine_succeeds_on_a_second_one(at: Provider) -> None:
    """Stop finds that it is gone; the re-run rents under the same label and asks once."""

    async def story(run: Repeating) -> None:
        await run.first_attempt()
        outcome = await run.rerun(1)
        assert outcome.ok, repr(outcome.error)
        (started,) = outcome.result[1]
        assert run.job().labels == (started.label,)
        assert run.world.creates() == 2
        await run.finish(2)
        assert not run.world.github.runners()

    tell(at, story)


@pytest.mark.parametrize("at", FULL)
def test_watch_ends_a_lost_pod_within_one_pass_and_two_seconds(at: Provider) -> None:
    """The record is there before GitHub has noticed anything, and says where it was."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()
        taken: list[float] = []

        async def act() -> None:
            await anyio.sleep(7.3)
            taken.append(run.world.clock.monotonic())
            run.interrupt(pod)

        watched = await watching(run, act)
        assert watched.interruption is not None
        assert (watched.interruption.provider, watched.interruption.pod) == (NAMES[at], pod.id)
        assert watched.interruption.reason == "interrupted"
        assert (watched.over, watched.error) == (Over.POD, None)
        begun = next(event.at for event in pod.events if event.what.startswith("interrupted"))
        assert pod.ended_at is not None
        assert pod.ended_at - begun <= timedelta(seconds=POLL + 2)
        assert run.world.clock.monotonic() - taken[0] < 60
        await run.fail()
        assert (await run.stop(1))[0].ok
        assert (await run.rerun(1)).ok

        async def succeed() -> None:
            await anyio.sleep(5)
            await run.finish(2)

        assert (await watching(run, succeed)).interruption is None

    tell(at, story, watched=True)


@pytest.mark.parametrize("at", FULL)
def test_a_pod_that_boots_is_replaced_by_the_start_itself(at: Provider) -> None:
    """The first attempt goes on to the next offer, and the job runs there."""

    async def story(run: Repeating) -> None:
        run.world.stage.sim.interrupt_new(after=0.5)
        await run.start()
        assert len(run.world.pods()) == 2
        await run.finish(1)

    tell(at, story)


@pytest.mark.parametrize("at", FULL)
def test_a_pod_that_is_lost_while_idle_is_repeated_once_its_run_was_cancelled(at: Provider) -> None:
    """Nobody serves the label any more: the run waits until somebody cancels it."""

    async def story(run: Repeating) -> None:
        await run.start()
        (pod,) = run.world.live()
        watched = await watching(run, lambda: _lose(run, pod))
        assert watched.interruption is not None
        run.world.github.cancel(run.run_id)
        assert (await run.stop(1))[0].ok
        assert (await run.rerun(1)).ok
        second = await watching(run, lambda: run.finish(2))
        assert second.interruption is None

    tell(at, story, watched=True)


async def _lose(run: Repeating, pod: object) -> None:
    await anyio.sleep(5)
    run.interrupt(pod)  # type: ignore[arg-type] # a pod of its market


@pytest.mark.parametrize("at", FULL)
def test_a_second_interruption_is_followed_by_a_machine_that_cannot_be_taken_back(at: Provider) -> None:
    """Also where the first could be: what was lost twice is rented on demand."""

    async def story(run: Repeating) -> None:
        await run.first_attempt()
        assert (await run.rerun(1)).ok
        run.interrupt(run.take())
        await run.fail()
        assert (await run.stop(2))[1] is not None
        assert (await run.rerun(2)).ok
        assert not getattr(run.world.pods()[-1], "spot", False)
        await run.finish(3)

    tell(at, story)


@pytest.mark.parametrize("at", FULL)
def test_a_job_that_failed_by_itself_is_never_repeated(at: Provider) -> None:
    """Its pod was there when it failed; where nothing in it can end it, stop does."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()
        runner = run.world.runner_of(pod.id)
        assert runner is not None
        run.world.github.play_finish(runner, "failure")
        outcome, record = await run.stop(1)
        assert outcome.ok
        assert record is None
        assert "failed by itself" in (await run.rerun(1)).result[0].why_not
        assert len(run.world.pods()) == 1

    tell(at, story)


@pytest.mark.full
@pytest.mark.parametrize("later", [pytest.param(3, id="stop-first"), pytest.param(40, id="watch-first")])
def test_a_pod_that_is_slow_to_go_after_a_failed_job_is_no_interruption(later: float) -> None:
    """Lium shows it as being deleted, and not by whom: what `stop` ends is no loss to `watch`, nor the other way."""

    async def story(run: Repeating) -> None:
        run.world.stage.sim.fleet.settings.deletion_seconds = 20.0  # type: ignore[attr-defined] # Lium's simulator
        await run.start()
        runner = run.world.runner_of(run.take().id)
        assert runner is not None
        records: list[object] = []

        async def act() -> None:
            await anyio.sleep(5)
            run.world.github.play_finish(runner, "failure")
            await anyio.sleep(later)
            outcome, record = await run.stop(1)
            assert outcome.ok, repr(outcome.error)
            records.append(record)

        watched = await watching(run, act)
        assert (watched.over, watched.interruption, watched.error) == (Over.JOB, None, None)
        assert records == [None]
        assert "failed by itself" in (await run.rerun(1)).result[0].why_not
        assert len(run.world.pods()) == 1

    tell(Provider.LIUM, story, watched=True)


@pytest.mark.parametrize("at", FULL)
def test_an_unknown_look_rents_nothing(at: Provider) -> None:
    """A provider that does not answer is an error, not an absence."""

    async def story(run: Repeating) -> None:
        await run.first_attempt()
        run.world.stage.sim.faults.add(Fault(operation=ANY, kind=FaultKind.ERROR, status=500, times=50))
        assert isinstance((await run.rerun(1)).error, RemoteError)
        assert len(run.world.pods()) == 1
        run.world.stage.sim.faults.clear()

    tell(at, story)


@pytest.mark.full
def test_a_pod_that_came_to_its_kill_time_is_not_repeated() -> None:
    """Lium ends it and says so: its job is too long for --lifetime, and would be the next time too."""

    async def story(run: Repeating) -> None:
        wish = {"lifetime": timedelta(minutes=4), "start_timeout": timedelta(minutes=3), "idle": timedelta(minutes=3)}
        await run.start(run.world.wish(**wish))
        pod = run.take()

        async def act() -> None:
            while pod.live:
                await anyio.sleep(5)
                run.world.notice()

        watched = await watching(run, act)
        assert (watched.interruption, watched.over) == (None, Over.END)
        assert pod.happened("terminated by terminateAfter")
        await run.fail()
        outcome, record = await run.stop(1)
        assert outcome.ok
        assert record is None
        assert "no record" in (await run.rerun(1)).result[0].why_not

    tell(Provider.LIUM, story, watched=True)


@pytest.mark.full
@pytest.mark.parametrize("status", ["BROKEN", "STOPPED", "ERROR"])
def test_a_host_that_is_lost_is_an_interruption(status: str) -> None:
    """Its pod is still listed and bills; the watch ends it, and its job is repeated."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()

        async def act() -> None:
            await anyio.sleep(9)
            run.world.stage.sim.set_status(pod.id, status)  # type: ignore[attr-defined] # Lium's simulator
            runner = run.world.runner_of(pod.id)
            assert runner is not None
            run.world.github.play_loss(runner)

        watched = await watching(run, act)
        assert watched.interruption is not None
        assert pod.ended_at is not None
        await run.fail()
        assert (await run.stop(1))[0].ok
        assert (await run.rerun(1)).ok
        second = await watching(run, lambda: run.finish(2))
        assert second.interruption is None

    tell(Provider.LIUM, story, watched=True)


@pytest.mark.full
@pytest.mark.parametrize("shown", [False, True], ids=["gone", "terminated"])
def test_a_spot_pod_that_leaves_no_trace_is_an_interruption(*, shown: bool) -> None:
    """Prime Intellect has no event of it: the pod is not there any more, and its job had not ended."""

    async def story(run: Repeating) -> None:
        settings = run.world.stage.sim.fleet.settings
        assert isinstance(settings, Settings)
        settings.interruption_removes, settings.shows_terminated = True, shown
        await run.start()
        pod = run.take()
        assert pod.spot
        watched = await watching(run, lambda: _lose(run, pod))
        assert watched.interruption is not None
        assert watched.interruption.reason == "vanished"
        await run.fail()
        assert (await run.stop(1))[0].ok
        assert (await run.rerun(1)).ok
        second = await watching(run, lambda: run.finish(2))
        assert second.interruption is None

    tell(Provider.PRIME, story, watched=True)


@pytest.mark.full
def test_without_interruptible_offers_only_what_cannot_be_taken_is_rented() -> None:
    """REST v2 sells none: to require one rents nothing."""

    async def story(run: Repeating) -> None:
        outcome = await run.process(1).start(run.world.wish(interruptible=Interruptible.REQUIRE))
        assert not outcome.ok
        assert run.world.creates() == 0
        run.world.github.cancel(run.run_id)

    tell(Provider.REST, story)
