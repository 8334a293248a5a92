"""Machines that the provider takes back, in one process: what watch and stop see, what a re-run repeats."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import anyio
import pytest
from support import virtual_time
from support.inprocess import POLL, World, small_request
from support.product import scratch
from support.repeating import LOCK, Repeating
from support.virtual_time import VirtualLoop

from runner_provisioner.cli.repeating import rentals_of, rerun_of
from runner_provisioner.domain.bids import Bid
from runner_provisioner.domain.interruptions import Interruption
from runner_provisioner.domain.offers import Interruptible
from runner_provisioner.domain.orphans import Verdict
from runner_provisioner.domain.request import HowRegistered
from runner_provisioner.errors import JobStillRunning, RemoteError, RunnerProvisionerError
from runner_provisioner.services.provision import Started
from runner_provisioner.services.watch import Over
from runner_provisioner.simulators.faults import ANY, Fault, FaultKind

Story = Callable[[Repeating], Awaitable[None]]


def tell(story: Story, *, watched: bool = False) -> None:
    """Play a story in a world of its own; at its end nothing bills and nothing was outside GitHub's schema."""
    with scratch() as folder:

        async def main(loop: VirtualLoop) -> None:
            world = World(folder, loop, library=False)
            run = Repeating(world, watched=watched)
            await story(run)
            assert not world.live()
            assert not world.github.violations
            assert world.gpu_bill() == run.used()
            assert world.longest_overlap() == 0.0
            world.check_secrets()

        virtual_time.run(main)


def of_last(run: Repeating) -> bool:
    """Whether the newest pod is interruptible."""
    return run.world.runpod.pods()[-1].pod_type == "INTERRUPTABLE"


def test_a_job_that_lost_its_machine_succeeds_on_a_second_one() -> None:
    """Stop writes the record; the re-run rents under the same label and asks once."""

    async def story(run: Repeating) -> None:
        await run.first_attempt()
        outcome = await run.rerun(1)
        assert outcome.ok, repr(outcome.error)
        survey, found = outcome.result
        assert survey.why_not is None
        (started,) = found
        assert started.name == run.name(2)
        assert run.job().labels == (started.label,)
        assert run.world.github.faults.count("rerun-failed-jobs") == 1
        await run.finish(2)
        assert not run.world.github.runners()

    tell(story)


def test_a_second_interruption_is_followed_by_a_machine_that_cannot_be_taken_back() -> None:
    """And after the last attempt that is allowed nothing is rented."""

    async def story(run: Repeating) -> None:
        await run.first_attempt()
        assert (await run.rerun(1)).ok
        assert of_last(run)
        run.interrupt(run.take())
        await run.fail()
        _, record = await run.stop(2)
        assert record is not None
        capped = await run.rerun(2, most=2)
        assert capped.result[1] == []
        assert "--max-attempts 2" in capped.result[0].why_not
        assert (await run.rerun(2, request=small_request(bid=Bid.parse("0.30")))).ok
        assert not of_last(run)
        await run.finish(3)

    tell(story)


def test_a_pod_that_is_lost_while_idle_is_repeated_once_its_run_was_cancelled() -> None:
    """Nobody serves the label any more; clean-up cancels the run, and its stop finds the pod taken."""

    async def story(run: Repeating) -> None:
        await run.start()
        (pod,) = run.world.live()
        run.interrupt(pod)
        run.world.github.cancel(run.run_id)
        outcome, record = await run.stop(1)
        assert outcome.ok
        assert record is not None
        assert record.pod == pod.id
        assert (await run.rerun(1)).ok
        await run.finish(2)

    tell(story)


def test_a_run_that_somebody_cancelled_is_not_repeated() -> None:
    """Its pod was alive: stop ended it."""

    async def story(run: Repeating) -> None:
        await run.start()
        run.world.github.cancel(run.run_id)
        outcome, record = await run.stop(1)
        assert outcome.ok
        assert record is None
        outcome = await run.rerun(1)
        assert outcome.result[1] == []

    tell(story)


async def _is_left_alone(run: Repeating, why: str) -> None:
    """Stop finds no interruption, and rerun rents nothing."""
    outcome, record = await run.stop(1)
    assert outcome.ok, repr(outcome.error)
    assert record is None
    again = await run.rerun(1, request=small_request())
    assert again.ok, repr(again.error)
    assert why in again.result[0].why_not
    assert len(run.world.runpod.pods()) == 1


@pytest.mark.parametrize("watched", [False, True], ids=["stop alone", "watched"])
def test_a_pod_that_came_to_its_own_end_is_not_repeated(watched: bool) -> None:  # noqa: FBT001 - a column
    """Its job is too long for --lifetime: it would be the next time too."""

    async def story(run: Repeating) -> None:
        await run.start(
            small_request(lifetime=timedelta(minutes=4), start_timeout=timedelta(minutes=3), idle=timedelta(minutes=3))
        )
        pod = run.take()

        async def act() -> None:
            while pod.status == "RUNNING":
                await anyio.sleep(5)
                run.world.notice()

        if watched:
            found = await _watching(run, act)
            assert found.over is Over.END  # type: ignore[attr-defined]
            assert found.interruption is None  # type: ignore[attr-defined]
        else:
            await act()
        await run.fail()
        await _is_left_alone(run, "no record")

    tell(story, watched=watched)


def test_a_pod_that_its_user_stopped_is_not_repeated() -> None:
    """In RunPod's console: nobody took it."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()
        with run.world.runpod.lock:
            run.world.runpod.fleet.stop(pod, run.world.clock.now())
        run.world.notice()
        await run.fail()
        await _is_left_alone(run, "no record")
        assert pod.ended_at is not None

    tell(story)


@pytest.mark.parametrize("watched", [False, True], ids=["stop alone", "watched"])
def test_a_run_that_is_cancelled_after_its_machine_was_lost_is_not_repeated(watched: bool) -> None:  # noqa: FBT001 - a column
    """Whoever presses Cancel wants no other machine; GitHub ends the job minutes later."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()

        async def act() -> None:
            await anyio.sleep(9)
            run.interrupt(pod)

        if watched:
            assert (await _watching(run, act)).interruption is not None  # type: ignore[attr-defined]
        else:
            await act()
        run.world.github.cancel(run.run_id)
        await anyio.sleep(LOCK)
        assert run.job().conclusion == "cancelled"
        await _is_left_alone(run, "was cancelled while it ran")

    tell(story, watched=watched)


def test_a_job_that_its_runner_reported_as_cancelled_when_it_was_shut_down_is_repeated() -> None:
    """Seen where the machine gives notice (paradedb#5305)."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()
        runner = run.world.runner_of(pod.id)
        assert runner is not None
        run.world.github.play_finish(runner, "cancelled")
        run.interrupt(pod)
        _, record = await run.stop(1)
        assert record is not None
        assert (await run.rerun(1)).ok
        await run.finish(2)

    tell(story)


def test_a_pod_that_boots_is_replaced_by_the_start_itself() -> None:
    """The first attempt goes on to the next offer, and the job runs there."""

    async def story(run: Repeating) -> None:
        run.world.runpod.interrupt_new()
        await run.start()
        assert len(run.world.runpod.pods()) == 2
        await run.finish(1)

    tell(story)


def test_a_pod_that_is_lost_during_stop_after_its_job_is_nobodys_loss() -> None:
    """The job is done: no record, and nothing to repeat."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()
        runner = run.world.runner_of(pod.id)
        assert runner is not None
        run.world.github.play_finish(runner)
        run.interrupt(pod)
        outcome, record = await run.stop(1)
        assert outcome.ok
        assert record is None

    tell(story)


def test_a_stop_that_is_struck_finds_the_interruption_all_the_same() -> None:
    """The provider fails while stop looks; the next look counts, and the job succeeds on a second pod."""

    async def story(run: Repeating) -> None:
        await run.start()
        run.interrupt(run.take())
        await run.fail()
        run.world.runpod.faults.add(Fault(operation="pod", kind=FaultKind.ERROR, status=500, times=3))
        outcome, record = await run.stop(1)
        assert outcome.ok
        assert record is not None
        assert (await run.rerun(1)).ok
        await run.finish(2)

    tell(story)


def test_a_job_that_failed_by_itself_is_never_repeated() -> None:
    """Its pod was alive when it failed; nothing is rented, and the reason is told."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()
        runner = run.world.runner_of(pod.id)
        assert runner is not None
        run.world.github.play_finish(runner, "failure")
        _, record = await run.stop(1)
        assert record is None
        outcome = await run.rerun(1)
        assert outcome.ok
        assert "failed by itself" in outcome.result[0].why_not
        assert run.attempts == 1
        assert len(run.world.runpod.pods()) == 1

    tell(story)


@pytest.mark.parametrize("how", ["another seal", "another label", "another run", "garbage"])
def test_a_forged_record_rents_nothing(how: str) -> None:
    """Whoever can upload a file cannot make up an interruption."""

    async def story(run: Repeating) -> None:
        started = await run.start()
        pod = run.take()
        runner = run.world.runner_of(pod.id)
        assert runner is not None
        run.world.github.play_finish(runner, "failure")
        await run.stop(1)
        process = run.process(1)
        record = Interruption(
            name=run.name(1),
            label=started.label,
            provider="runpod",
            pod=pod.id,
            machine=None,
            reason="interrupted",
            at=run.world.clock.now(),
        )
        if how == "garbage":
            name = "runner-provisioner-interruption-default-1"
            run.world.github.upload(run.run_id, name, {"record.json": b'{"label": "rp-x"}'})
            run.world.github.upload(run.run_id, name + "0", {"a": b"1", "b": b"2"})
        elif how == "another label":
            run.keep(process, replace(record, label="rp-" + "q" * 26))
        elif how == "another run":
            run.keep(process, replace(record, name=record.name.replace("-1-default", "-9-default")))
        else:
            run.keep(process, record, seal=b"what a stranger has")
        outcome = await run.rerun(1)
        assert outcome.ok, repr(outcome.error)
        assert outcome.result[1] == []
        assert len(run.world.runpod.pods()) == 1

    tell(story)


def test_a_pod_that_is_alive_contradicts_a_record() -> None:
    """The provider is asked, by id."""

    async def story(run: Repeating) -> None:
        started = await run.start()
        run.take()
        run.world.github.complete_run(run.run_id, conclusion="failure")
        record = Interruption(
            name=started.name,
            label=started.label,
            provider=None,
            pod=None,
            machine=None,
            reason="vanished",
            at=run.world.clock.now(),
        )
        run.keep(run.process(1), record)
        outcome = await run.rerun(1)
        assert "its machine is still there" in outcome.result[0].why_not
        await run.process(1).stop()

    tell(story)


def test_an_unknown_look_rents_nothing() -> None:
    """A provider that does not answer is an error, not an absence."""

    async def story(run: Repeating) -> None:
        await run.first_attempt()
        run.world.runpod.faults.add(Fault(operation=ANY, kind=FaultKind.ERROR, status=500, times=50))
        outcome = await run.rerun(1)
        assert isinstance(outcome.error, RemoteError)
        assert len(run.world.runpod.pods()) == 1
        run.world.runpod.faults.clear()

    tell(story)


def test_an_attempt_that_runs_is_not_repeated() -> None:
    """And neither is one that has been repeated already."""

    async def story(run: Repeating) -> None:
        await run.start()
        early = await run.rerun(1)
        assert isinstance(early.error, JobStillRunning)
        run.interrupt(run.take())
        await run.fail()
        await run.stop(1)
        run.world.github.rerun(run.run_id, failed_only=True)
        late = await run.rerun(1)
        assert late.result[0].why_not == "attempt 2 exists already"
        run.world.github.cancel(run.run_id)

    tell(story)


def test_clean_up_in_a_loop_touches_nothing_between_the_rental_and_the_re_run() -> None:
    """The attempt does not exist yet, which is no ground; the pod and its runner survive."""

    async def story(run: Repeating) -> None:
        await run.first_attempt()
        swept: list[set[Verdict]] = []
        over = anyio.Event()

        async def clean() -> None:
            while not over.is_set():
                outcome = await run.process(1, state="cleanup").cleanup()
                assert outcome.ok
                assert outcome.result.ended == ()
                swept.append({entry.finding.verdict for entry in outcome.result.kept})
                await anyio.sleep(0.2)

        async with anyio.create_task_group() as group:
            group.start_soon(clean)
            outcome = await run.rerun(1)
            over.set()
        assert outcome.ok, repr(outcome.error)
        assert len(swept) > 10
        assert {Verdict.OWNED} in swept
        await run.finish(2)

    tell(story)


# -- watch


async def _watching(run: Repeating, act: Callable[[], Awaitable[None]]) -> object:
    found: list[object] = []

    async def watch() -> None:
        found.append(await run.watch(run.attempts))

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await act()
    return found[0]


def test_watch_ends_a_lost_pod_within_one_pass_and_two_seconds() -> None:
    """Its runner, which GitHub takes for busy, delays nothing; the record is there before the job has failed."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()
        taken: list[float] = []

        async def act() -> None:
            await anyio.sleep(7.3)
            taken.append(run.world.clock.monotonic())
            run.interrupt(pod)

        watched = await _watching(run, act)
        assert watched.interruption is not None  # type: ignore[attr-defined]
        assert watched.interruption.pod == pod.id  # type: ignore[attr-defined]
        assert pod.ended_at is not None
        deleted = next(event.at for event in pod.events if event.what.startswith("terminated"))
        begun = next(event.at for event in pod.events if event.what.startswith("interrupted"))
        assert deleted - begun <= timedelta(seconds=POLL + 2)
        assert run.world.clock.monotonic() - taken[0] < 60
        assert run.job().status == "in_progress"
        await run.fail()
        outcome, _ = await run.stop(1)
        assert outcome.ok
        again = await run.rerun(1)
        assert again.ok, repr(again.error)
        assert run.job("watch").status == "queued"

        async def succeed() -> None:
            await anyio.sleep(5)
            await run.finish(2)

        second = await _watching(run, succeed)
        assert second.interruption is None  # type: ignore[attr-defined]

    tell(story, watched=True)


def test_watch_ends_with_the_job() -> None:
    """However that ended."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()

        async def act() -> None:
            await anyio.sleep(30)
            runner = run.world.runner_of(pod.id)
            assert runner is not None
            run.world.github.play_finish(runner, "failure")
            await anyio.sleep(1)
            run.world.end_from_inside(pod)

        watched = await _watching(run, act)
        assert watched.interruption is None  # type: ignore[attr-defined]
        await run.stop(1)

    tell(story, watched=True)


def test_watch_hands_over_again_when_github_has_removed_the_runner() -> None:
    """Its job was queued late; the new runner takes it, and the watch goes on until it is over."""

    async def story(run: Repeating) -> None:
        run.world.hands_over = True
        started = await run.start(small_request(registration=HowRegistered.JIT))
        (pod,) = run.world.live()
        first = run.world.runner_of(pod.id)
        assert first is not None

        async def act() -> None:
            await anyio.sleep(50)
            run.world.github.world.forget(first)
            run.world.waiting.begin(pod)
            await anyio.sleep(50)
            assert run.take() is pod
            second = run.world.runner_of(pod.id)
            assert second is not None
            assert second is not first
            assert started.label in second.labels
            run.world.github.play_finish(second)
            run.world.end_from_inside(pod)

        watched = await _watching(run, act)
        assert watched.over is Over.JOB  # type: ignore[attr-defined]
        assert watched.interruption is None  # type: ignore[attr-defined]
        assert run.job().conclusion == "success"
        await run.stop(1)

    tell(story, watched=True)


def test_watch_sees_a_pod_that_vanished() -> None:
    """No trace of it is left at the provider; its job goes on as far as GitHub knows."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()

        async def act() -> None:
            await anyio.sleep(9)
            run.world.end_from_inside(pod)

        watched = await _watching(run, act)
        assert watched.interruption is not None  # type: ignore[attr-defined]
        assert watched.interruption.reason == "vanished"  # type: ignore[attr-defined]
        await run.fail()
        await run.stop(1)
        assert (await run.rerun(1)).ok
        run.world.github.cancel(run.run_id)
        await run.process(2).stop()

    tell(story, watched=True)


def test_stop_sees_that_a_pod_vanished_and_does_not_wait_for_its_runner() -> None:
    """The registration is busy for GitHub; stop ends well at once and leaves it to clean-up."""

    async def story(run: Repeating) -> None:
        await run.start()
        pod = run.take()
        run.world.end_from_inside(pod)
        began = run.world.clock.monotonic()
        outcome = await run.process(1).stop()
        assert outcome.ok, repr(outcome.error)
        assert outcome.result[0].ghost
        assert run.world.clock.monotonic() - began < 20
        await run.fail()
        outcome, record = await run.stop(1)
        assert outcome.ok
        assert record is not None
        assert record.reason == "vanished"
        assert not run.world.github.runners()

    tell(story)


# -- two jobs


def test_nothing_is_rented_when_the_last_rental_fails() -> None:
    """What the market refuses ends the whole re-run, and what was rented for others is given back."""

    async def story(run: Repeating) -> None:
        await run.first_attempt()
        outcome = await run.rerun(1, request=small_request(max_price=Decimal("0.01")))
        assert isinstance(outcome.error, RunnerProvisionerError)
        assert run.attempts == 1

    tell(story)


def test_a_machine_that_is_ready_first_waits_for_the_others() -> None:
    """The second job gets its own only at its third pod, when the idle time of the first would be over."""

    async def story(run: Repeating) -> None:
        await run.first_attempt()
        process = run.process(1, state="rerun")
        request = small_request(boot_timeout=timedelta(minutes=1), idle=timedelta(minutes=1))

        async def work() -> list[Started]:
            program = process.program()
            assert program.place is not None
            again = rerun_of(program, program.place, run.run_id, 1)
            (job,) = (await again.survey(most_attempts=3)).jobs
            other = replace(job, key=replace(job.key, key="b"), label="rp-" + "b" * 26)
            first, second = rentals_of(program, request, [job, other], folder=run.world.folder / "rerun", ssh_keys=())

            async def late() -> Started:
                await anyio.sleep(3)
                run.world.mute = 2
                return await second.rent()

            return await again.carry_out([first, replace(second, rent=late)])

        outcome = await process._run("rerun", work)
        assert outcome.ok, repr(outcome.error)
        assert sorted(pod.name for pod in run.world.live()) == sorted(one.name for one in outcome.result)
        await run.process(2).stop(key="b")
        await run.finish(2)

    tell(story)


def test_the_next_machine_is_asked_for_as_the_first_was() -> None:
    """A request that takes on-demand alone stays one."""

    async def story(run: Repeating) -> None:
        await run.first_attempt(small_request(interruptible=Interruptible.REQUIRE))
        assert (await run.rerun(1, request=small_request(interruptible=Interruptible.NEVER))).ok
        assert not of_last(run)
        await run.finish(2)

    tell(story)
