"""Watch and re-run with ports in memory: what is ended, what is told, and what is given back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from support.fakes import NAME, OWNER8, FakeProvider, FakeRegistry, FakeRuns, Memory, pod, tags

from runner_provisioner.domain.history import Ending as HowEnded
from runner_provisioner.domain.interruptions import Interruption, encode
from runner_provisioner.domain.leases import Lease, Limits, Phase, PodRef
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.pods import Pod, PodId, PodState, SshEndpoint
from runner_provisioner.domain.runners import Job, RunnerState, RunStatus, end_label
from runner_provisioner.errors import (
    AuthenticationFailed,
    BudgetExceeded,
    JobStillRunning,
    LeftBehind,
    PermissionDenied,
    ProvisioningFailed,
    RunnerBusy,
    RunnerProvisionerError,
    ServerError,
    SshFailed,
    StoreError,
)
from runner_provisioner.services.ending import Ending
from runner_provisioner.services.leaving import Remembering
from runner_provisioner.services.observe import Lookout
from runner_provisioner.services.provision import Started
from runner_provisioner.services.reconcile import Polls
from runner_provisioner.services.rerun import Rental, Rerun
from runner_provisioner.services.watch import Over, Watch, Watched
from runner_provisioner.testing.clock import EPOCH, FakeClock

LABEL = "rp-" + "a" * 26
RUN = int("zz", 36)
KEY = RunKey(owner8=OWNER8, run="zz", attempt=1, key="default")
SEAL = b"seal"
LIMITS = Limits(settle=timedelta(seconds=3), boot=timedelta(seconds=30), lifetime=timedelta(hours=1))
RECORD = Interruption(name=NAME, label=LABEL, provider=None, pod=None, machine=None, reason="vanished", at=EPOCH)


def job(**more: object) -> Job:
    """The GPU job."""
    values: dict[str, object] = {
        "id": 1,
        "name": "train",
        "status": "completed",
        "conclusion": "failure",
        "labels": (LABEL,),
        "runner_name": NAME,
        **more,
    }
    return Job(**values)  # type: ignore[arg-type]


class Attempts(FakeRuns):
    """RunAttempts: each attempt has a state, all have the same jobs."""

    def __init__(self, *jobs: Job) -> None:
        """The first attempt has ended."""
        super().__init__()
        self.statuses: dict[int, RunStatus] = {1: RunStatus.COMPLETED}
        self.all = list(jobs)
        self.begins = True

    async def attempt(self, repository: str, run_id: int, attempt: int) -> RunStatus | None:
        """How far it is."""
        self.meet("attempt")
        return self.statuses.get(attempt)

    async def jobs(self, repository: str, run_id: int, attempt: int | None = None) -> Sequence[Job]:
        """The jobs."""
        self.meet("jobs")
        return self.all

    async def rerun_failed_jobs(self, repository: str, run_id: int) -> None:
        """The next attempt begins."""
        if self.begins:
            self.statuses[max(self.statuses) + 1] = RunStatus.ACTIVE
        self.meet("rerun")


class Files:
    """RunFiles with what jobs have left."""

    def __init__(self, *data: bytes) -> None:
        """These files."""
        self.data = data

    async def small_files(self, repository: str, run_id: int, prefix: str) -> Sequence[bytes]:
        """All of them."""
        return self.data


class Past:
    """The part of a History that watch writes."""

    def __init__(self, error: StoreError | None = None) -> None:
        """Raises the error."""
        self.ends: list[tuple[PodRef, HowEnded]] = []
        self._error = error

    async def ended(self, one: PodRef, at: datetime, ending: HowEnded) -> None:
        """Note an end."""
        if self._error:
            raise self._error
        self.ends.append((one, ending))


class Acting(FakeClock):
    """Between two passes something happens: the next of `acts`."""

    def __init__(self) -> None:
        """Nothing does yet."""
        super().__init__()
        self.acts: list[Callable[[], object]] = []

    async def sleep(self, seconds: float) -> None:
        """Wait, and let it happen."""
        await super().sleep(seconds)
        if self.acts:
            self.acts.pop(0)()


class Scene:
    """One pod with its runner, watched."""

    def __init__(self, *jobs: Job, history: Past | None = None, repository: str | None = "o/r") -> None:
        self.clock = Acting()
        self.provider = FakeProvider(self.clock)
        self.registry = FakeRegistry(self.clock, online_after=None)
        self.runs = Attempts(*jobs)
        self.memory = Memory()
        polls = Polls(booting=5.0, running=1.0, patience=20.0)
        self.ending = Ending(
            providers={"fake": self.provider},
            registry=self.registry,
            clock=self.clock,
            events=self.memory,
            limits=LIMITS,
            polls=polls,
        )
        self.watch = Watch(
            repository=repository,
            providers={"fake": self.provider},
            registry=self.registry,
            runs=self.runs,
            ending=self.ending,
            clock=self.clock,
            events=self.memory,
            polls=polls,
            settle=LIMITS.settle,
            history=history,  # type: ignore[arg-type]
            hand_over=self.hand_over,
        )
        self.asked: list[Pod] = []
        self.answers: list[bool | RunnerProvisionerError] = []

    async def hand_over(self, pod: Pod) -> bool:
        """Whether another configuration was handed over: the next of `answers`, else no."""
        self.asked.append(pod)
        answer = self.answers.pop(0) if self.answers else False
        if isinstance(answer, RunnerProvisionerError):
            raise answer
        return answer

    def put(self, **more: object) -> Pod:
        """The pod."""
        values: dict[str, Any] = {"uptime_seconds": 9, **more}
        made = pod(tags=tags(label=LABEL), **values)
        self.provider.pods[made.id] = made
        return made

    def run_out(self, *, state: RunnerState = RunnerState.BUSY, online: bool = False) -> None:
        """The runner as GitHub sees it."""
        one = self.registry.put(NAME, state)
        self.registry.runners[one.id] = replace(one, online=online)

    async def follow(self, *acts: Callable[[], object]) -> Watched:
        """Watch, with one act after each pass."""
        self.clock.acts = list(acts)
        return await self.watch.follow(KEY)


async def test_a_pod_that_was_taken_is_ended_and_remembered() -> None:
    """Its busy runner is left to clean-up."""
    past = Past()
    scene = Scene(job(status="in_progress", conclusion=None), history=past)
    scene.put(state=PodState.INTERRUPTED)
    scene.run_out()
    scene.registry.add("remove", *[RunnerBusy("busy")] * 50)
    watched = await scene.follow()
    assert watched.interruption is not None
    assert watched.interruption.label == LABEL
    assert not scene.provider.pods
    assert watched.ended[0].ghost
    assert past.ends == [(PodRef("fake", PodId("p1")), HowEnded.INTERRUPTED)]
    assert scene.memory.told("runner_left_busy")


async def test_a_memory_that_cannot_be_written_stops_nothing() -> None:
    """It is told, and the pod is ended."""
    scene = Scene(job(), history=Past(StoreError("disk full")))
    scene.put(state=PodState.INTERRUPTED)
    assert (await scene.follow()).interruption is not None
    assert scene.memory.told("history_not_written")
    assert not scene.provider.pods


async def test_a_job_that_was_done_is_no_loss() -> None:
    """The dead pod is ended all the same."""
    scene = Scene(job(conclusion="success"))
    scene.put(state=PodState.INTERRUPTED)
    assert (await scene.follow()).interruption is None
    assert not scene.provider.pods


async def test_an_end_that_fails_is_tried_again_and_told() -> None:
    """By the drain that follows; what it leaves is the watch's error."""
    scene = Scene(job())
    scene.put(state=PodState.INTERRUPTED)
    scene.provider.add("terminate", *[ServerError("no", service="fake")] * 500)
    watched = await scene.follow()
    assert isinstance(watched.error, LeftBehind)
    assert watched.interruption is not None
    assert scene.memory.told("pod_end_failed")


async def test_a_container_that_is_gone_counts_once_two_reads_say_so() -> None:
    """One read without a runtime is a flaw of the answer."""
    scene = Scene(job(status="in_progress", conclusion=None))
    scene.put()
    scene.run_out(online=True)
    reads = [0]
    plain = scene.provider.get

    async def flawed(pod_id: PodId) -> Pod | None:
        found = await plain(pod_id)
        reads[0] += 1
        return replace(found, uptime_seconds=None) if found and reads[0] == 2 else found

    scene.provider.get = flawed  # type: ignore[method-assign]
    watched = await scene.follow(lambda: None, lambda: None, lambda: scene.put(uptime_seconds=None))
    assert reads[0] > 4  # the flaw and its second read among them
    assert watched.interruption is not None
    assert watched.interruption.reason == "runtime gone"


async def test_a_second_read_that_fails_proves_nothing() -> None:
    """The next pass looks again; a pod that is gone by then has vanished."""
    scene = Scene(job(status="in_progress", conclusion=None))
    scene.put()
    scene.run_out(online=True)

    def gone() -> None:
        scene.put(uptime_seconds=None)
        scene.provider.add("get", None, ServerError("no", service="fake"))

    watched = await scene.follow(gone)
    assert watched.interruption is not None


async def test_a_pod_that_vanished_with_its_job_under_way() -> None:
    """GitHub still shows its runner as connected."""
    scene = Scene(job(status="in_progress", conclusion=None))
    scene.put()
    scene.run_out(online=True)
    watched = await scene.follow(scene.provider.pods.clear)
    assert watched.interruption is not None
    assert watched.interruption.reason == "vanished"


async def test_a_pod_that_was_never_seen_is_looked_for_twice() -> None:
    """Its list may lag; without a runner there is nothing to watch."""
    scene = Scene()
    assert await scene.follow() == Watched(over=Over.POD)
    assert scene.clock.now() > EPOCH
    scene = Scene(job(runner_name=None, status="queued", conclusion=None))
    scene.run_out(state=RunnerState.OFFLINE)
    assert (await scene.follow()).interruption is None


async def test_a_pod_that_ended_itself_after_its_job() -> None:
    """Its runner is gone from GitHub, or about to go."""
    scene = Scene(job())
    scene.put()
    scene.run_out()

    def over() -> None:
        scene.provider.pods.clear()
        scene.registry.runners.clear()

    assert (await scene.follow(over)).interruption is None
    scene = Scene(job())
    scene.put()
    scene.run_out()
    assert (await scene.follow(scene.provider.pods.clear)).interruption is None


async def test_a_job_that_is_over_ends_the_watch() -> None:
    """GitHub says so; the pod is left to end itself."""
    scene = Scene(job())
    scene.put()
    scene.provider.ends_from_inside = True  # type: ignore[attr-defined] # a capability of this one
    assert await scene.follow() == Watched(over=Over.JOB)
    assert scene.provider.pods


@pytest.mark.parametrize("able", [False, None], ids=["not-now", "never"])
async def test_a_pod_that_cannot_end_itself_is_ended_once_its_job_is_over(*, able: bool | None) -> None:
    """As at Prime Intellect, where no key enters a pod: it would bill until somebody stops it."""
    scene = Scene(job())
    scene.put()
    if able is not None:
        scene.provider.ends_from_inside = able  # type: ignore[attr-defined] # a capability of this one
    watched = await scene.follow()
    assert (watched.over, watched.interruption, watched.error) == (Over.JOB, None, None)
    assert [one.pods for one in watched.ended] == [("p1",)]
    assert scene.provider.pods == {}


async def test_a_runner_that_github_removed_while_it_waited_is_watched_on() -> None:
    """No job has come: only that its pod goes too is an end."""
    scene = Scene(job(runner_name=None, status="queued", conclusion=None))
    scene.put()
    scene.run_out(online=True)
    acts: list[Callable[[], object]] = [scene.registry.runners.clear, *[lambda: None] * 60, scene.provider.pods.clear]
    assert await scene.follow(*acts) == Watched(over=Over.POD)
    assert scene.clock.now() - EPOCH >= 61 * timedelta(seconds=5)


@pytest.mark.parametrize("registered", [False, True], ids=["removed", "offline"])
async def test_a_pod_whose_runner_serves_no_more_is_offered_another_configuration(registered: bool) -> None:  # noqa: FBT001 - a column
    """When GitHub was asked, until it took one; what fails is told once."""
    scene = Scene(job(runner_name=None, status="queued", conclusion=None))
    made = scene.put(ssh=SshEndpoint(host="203.0.113.7", port=22))
    if registered:
        scene.run_out(state=RunnerState.OFFLINE)
    scene.answers = [False, SshFailed("broke"), SshFailed("broke"), True]
    acts: list[Callable[[], object]] = [lambda: None] * 18
    acts += [scene.registry.runners.clear, lambda: scene.run_out(online=True), *[lambda: None] * 20]
    acts += [scene.provider.pods.clear]
    await scene.follow(*acts)
    assert scene.asked == [made] * 4
    assert [event.fields["error"] for event in scene.memory.told("hand_over_failed")] == ["broke"]
    assert len(scene.memory.told("hand_over_done")) == 1


async def test_nothing_is_offered_to_a_pod_that_cannot_be_reached_or_whose_runner_is_unknown() -> None:
    """Nor when the pods could not be seen."""
    scene = Scene(job(runner_name=None, status="queued", conclusion=None))
    scene.put()
    await scene.follow(*[lambda: None] * 7, scene.provider.pods.clear)
    scene.put(ssh=SshEndpoint(host="203.0.113.7", port=22))
    scene.registry.add("find", *[ServerError("no", service="github")] * 3)
    acts: list[Callable[[], object]] = [lambda: None, lambda: scene.run_out(online=True), scene.provider.pods.clear]
    await scene.follow(*acts)
    scene.registry.runners.clear()
    scene.provider.add("list", *[ServerError("no", service="fake")] * 2)
    await scene.follow()
    assert scene.asked == []


async def test_github_is_asked_every_thirty_seconds_and_when_the_pod_has_changed() -> None:
    """The provider in every pass: an hour of it leaves an App its requests for others."""
    scene = Scene(job(status="in_progress", conclusion=None))
    scene.put()
    scene.run_out(online=True)
    asked: list[int] = []
    acts: list[Callable[[], object]] = [lambda: None] * 59
    acts += [lambda: asked.append(scene.registry.calls.count("find")), scene.provider.pods.clear]
    watched = await scene.follow(*acts)
    assert watched.interruption is not None
    assert asked == [10]
    assert scene.clock.now() - EPOCH == 61 * timedelta(seconds=5)
    assert scene.provider.calls.count("list") >= 61


ENDS = EPOCH + timedelta(minutes=8)


@pytest.mark.parametrize(
    ("passes", "over"), [(110, Over.END), (30, None)], ids=["at its own end", "long before its own end"]
)
async def test_a_pod_that_came_to_its_own_end_is_no_loss(passes: int, over: Over | None) -> None:
    """Nobody took it back; a job that is too long for it would be too long for the next."""
    scene = Scene(job(status="in_progress", conclusion=None))
    scene.put()
    runner = scene.registry.put(NAME, RunnerState.BUSY)
    scene.registry.runners[runner.id] = replace(runner, labels=(LABEL, end_label(ENDS)))
    watched = await scene.follow(*[lambda: None] * passes, scene.provider.pods.clear)
    assert (watched.interruption is None) is (over is not None)
    assert over in {None, watched.over}


async def test_a_pod_that_its_user_stopped_is_ended_and_no_loss() -> None:
    """It bills its disk; nobody wants another."""
    scene = Scene(job(status="in_progress", conclusion=None))
    scene.put(state=PodState.STOPPED)
    watched = await scene.follow()
    assert watched.interruption is None
    assert watched.over is Over.STOPPED
    assert not scene.provider.pods


async def test_what_cannot_be_told_waits_for_the_next_pass() -> None:
    """Neither a runner that could not be looked at nor jobs that could not be read prove an interruption."""
    scene = Scene(job(status="in_progress", conclusion=None))
    scene.put()
    scene.run_out(online=True)
    broken = ServerError("no", service="github")

    def vanish() -> None:
        scene.provider.pods.clear()
        scene.registry.add("find", broken)
        scene.runs.add("jobs", broken)

    watched = await scene.follow(vanish)
    assert watched.interruption is not None
    assert len(scene.memory.told("look_failed")) == 2


async def test_looks_that_fail_are_repeated_and_refusals_are_not() -> None:
    """A key that is refused will be refused again."""
    scene = Scene(job())
    scene.put(state=PodState.INTERRUPTED)
    scene.run_out()
    scene.provider.add("list", *[ServerError("no", service="fake")] * 9)
    assert (await scene.follow()).interruption is not None
    scene = Scene()
    scene.put()
    scene.run_out()
    scene.provider.add("list", *[AuthenticationFailed("no", service="fake")] * 9)
    with pytest.raises(AuthenticationFailed):
        await scene.watch.follow(KEY)


async def test_without_a_repository_the_jobs_are_unknown_to_be_done() -> None:
    """A pod that was taken is one all the same."""
    scene = Scene(repository=None)
    scene.put(state=PodState.INTERRUPTED)
    assert (await scene.follow()).interruption is not None


@pytest.mark.parametrize("online", [True, False])
async def test_stop_waits_a_moment_for_a_runner_whose_pod_it_has_ended_itself(*, online: bool) -> None:
    """Its job may just have been over; else GitHub frees it minutes later, and clean-up removes it."""
    scene = Scene()
    scene.put()
    scene.run_out(online=online)
    scene.registry.add("remove", *[RunnerBusy("busy")] * 500)
    (ended,) = await scene.ending.stop(KEY)
    assert ended.ghost
    assert len(ended.pods) == 1
    assert LIMITS.settle <= scene.clock.now() - EPOCH < 3 * LIMITS.settle


async def test_a_pod_that_does_not_end_is_no_ghost() -> None:
    """It bills, whatever GitHub says of its runner."""
    scene = Scene()
    scene.put()
    scene.run_out()
    scene.registry.add("remove", *[RunnerBusy("busy")] * 500)
    scene.provider.add("terminate", *[ServerError("no", service="fake")] * 500)
    with pytest.raises(LeftBehind, match="pod "):
        await scene.ending.stop(KEY)


async def test_stop_looks_twice_before_it_believes_that_a_pod_is_gone() -> None:
    """A list may lag; an unknown look is no look."""
    scene = Scene()
    scene.run_out()
    scene.registry.add("remove", *[RunnerBusy("busy")] * 500)
    scene.provider.add("list", None, ServerError("no", service="fake"))
    (ended,) = await scene.ending.stop(KEY)
    assert ended.ghost
    assert scene.clock.now() - EPOCH >= LIMITS.settle


async def test_stop_believes_a_runner_that_is_connected_more_than_a_list() -> None:
    """A pod that nobody has read by its id may only be missing from the list."""
    scene = Scene()
    scene.run_out(online=True)
    scene.registry.add("remove", *[RunnerBusy("busy")] * 500)
    with pytest.raises(LeftBehind):
        await scene.ending.stop(KEY)


async def test_what_was_there_first_is_kept() -> None:
    """Whatever is seen later, also where only the runner is looked at."""
    scene = Scene()
    scene.put()
    lookout = Lookout(providers={"fake": scene.provider}, registry=scene.registry, owner8=OWNER8)
    remembering = Remembering(lookout, clock=scene.clock, limits=LIMITS)
    lease = Lease(name=NAME, phase=Phase.READY)
    first = await remembering.look(lease)
    scene.provider.pods.clear()
    scene.run_out()
    later = await remembering.look_at_runner(lease, await remembering.look(lease))
    assert later.runner is not None
    assert remembering.first == first
    assert not remembering.only_a_ghost_is_left(lease, later)


# -- re-run


class Rents:
    """Rentals that succeed, fail, or take long."""

    def __init__(self, *names: str) -> None:
        """One for each name; 'bad' fails, 'slow' is cancelled in `scope`, 'stuck' cannot be given back."""
        self.rented: list[str] = []
        self.given: list[str] = []
        self.clock = FakeClock()
        self.scope = anyio.CancelScope()
        self.all = [self._rental(name) for name in names]

    def _rental(self, name: str) -> Rental:
        async def rent() -> Started:
            if name == "slow":
                await anyio.wait_all_tasks_blocked()
                self.scope.cancel()
                await anyio.sleep_forever()
            if name == "bad":
                raise BudgetExceeded("too dear")
            self.rented.append(name)
            return Started(name=name, label=LABEL, pod=pod(name), offer=None, started_at=EPOCH)

        async def give_back() -> None:
            self.given.append(name)
            if name == "stuck":
                raise LeftBehind("still there")

        return Rental(name=name, rent=rent, give_back=give_back)


def rerun(scene: Scene, *files: bytes) -> Rerun:
    """The use case on a scene."""
    return Rerun(
        repository="o/r",
        owner8=OWNER8,
        run_id=RUN,
        attempt=1,
        seal=SEAL,
        runs=scene.runs,
        files=Files(*files),
        providers={"fake": scene.provider},
        clock=scene.clock,
        events=scene.memory,
        settle=LIMITS.settle,
        hurry=lambda: scene.memory.calls.append("hurry"),
    )


async def test_a_survey_explains() -> None:
    """By records that are believed; others are told of."""
    scene = Scene(job())
    survey = await rerun(scene, encode(RECORD, SEAL), encode(RECORD, b"x")).survey(most_attempts=3)
    assert survey.why_not is None
    assert [one.key for one in survey.jobs] == [KEY]
    assert scene.memory.told("record_not_believed")
    capped = await rerun(scene, encode(RECORD, SEAL)).survey(most_attempts=1)
    assert capped.jobs == ()
    assert "--max-attempts 1" in str(capped.why_not)
    scene.put(state=PodState.INTERRUPTED)
    assert (await rerun(scene).survey(most_attempts=3)).why_not is None
    scene.provider.add("get", None)
    scene.provider.pods[PodId("p1")] = scene.put(state=PodState.RUNNING)
    assert "still there" in str((await rerun(scene, encode(RECORD, SEAL)).survey(most_attempts=3)).why_not)


async def test_a_survey_finds_nothing_to_do() -> None:
    """An attempt that ended well, one that has been repeated, and ones that have not ended."""
    scene = Scene(job(conclusion="success"))
    assert (await rerun(scene).survey(most_attempts=3)).why_not == "no job of this attempt lost its machine"
    scene.runs.statuses[2] = RunStatus.ACTIVE
    assert (await rerun(scene).survey(most_attempts=3)).why_not == "attempt 2 exists already"
    for status, what in ((RunStatus.ACTIVE, "has not ended"), (None, "does not exist")):
        scene.runs.statuses = {1: status} if status else {}
        with pytest.raises(JobStillRunning, match=what):
            await rerun(scene).survey(most_attempts=3)


async def test_all_are_rented_before_one_order() -> None:
    """And nothing is given back."""
    scene, rents = Scene(), Rents("b", "a")
    scene.put()
    started = await rerun(scene).carry_out(rents.all)
    assert [one.name for one in started] == ["a", "b"]
    assert scene.runs.calls.count("rerun") == 1
    assert rents.given == []


async def test_a_machine_that_went_while_the_others_were_rented_gives_all_back() -> None:
    """Its job would wait for it without end; that a look fails does not say that it went."""
    scene, rents = Scene(), Rents("a", "b")
    scene.put(state=PodState.INTERRUPTED)
    with pytest.raises(ProvisioningFailed, match="run 'rerun' again"):
        await rerun(scene).carry_out(rents.all)
    assert sorted(rents.given) == ["a", "b"]
    assert "rerun" not in scene.runs.calls
    scene.provider.add("get", *[ServerError("no", service="fake")] * 2)
    assert len(await rerun(scene).carry_out(rents.all)) == 2
    scene.provider.pods.clear()
    assert len(await rerun(scene).carry_out(rents.all[:1])) == 1


async def test_one_rental_that_fails_gives_all_back() -> None:
    """Once the others have come to their end; nothing is ordered."""
    scene, rents = Scene(), Rents("a", "bad", "stuck")
    with pytest.raises(BudgetExceeded):
        await rerun(scene).carry_out(rents.all)
    assert sorted(rents.given) == ["a", "bad", "stuck"]
    assert "rerun" not in scene.runs.calls
    assert scene.memory.told("give_back_failed")


@pytest.mark.parametrize("error", [PermissionDenied("no"), ServerError("broken")], ids=["refused", "failed"])
async def test_an_order_that_is_refused_gives_all_back(error: PermissionDenied | ServerError) -> None:
    """Once two looks have not found the attempt."""
    scene, rents = Scene(), Rents("a")
    scene.runs.begins = False
    scene.runs.add("rerun", error)
    with pytest.raises(type(error)):
        await rerun(scene).carry_out(rents.all)
    assert rents.given == ["a"]


async def test_an_attempt_that_began_all_the_same_keeps_its_machines() -> None:
    """The answer was lost, or somebody was quicker."""
    scene, rents = Scene(), Rents("a")
    scene.runs.add("rerun", ServerError("broken"))
    scene.runs.add("attempt", ServerError("broken"))
    await rerun(scene).carry_out(rents.all)
    assert rents.given == []
    assert scene.memory.told("rerun_began_all_the_same")


@pytest.mark.parametrize(
    ("looks", "given"),
    [([], []), ([ServerError("no")] * 3, ["a"])],
    ids=["it is there", "nobody can tell"],
)
async def test_what_is_found_when_it_is_given_back_counts(looks: list[ServerError], given: list[str]) -> None:
    """The attempt appears late; what cannot be told is decided for the money's sake."""
    scene, rents = Scene(), Rents("a")
    scene.runs.add("rerun", ServerError("broken"))
    scene.runs.add("attempt", *[ServerError("no")] * 2, *looks)
    with pytest.raises(ServerError):
        await rerun(scene).carry_out(rents.all)
    assert rents.given == given


async def test_a_rerun_that_is_cancelled_before_it_orders_gives_all_back() -> None:
    """While it looks whether its machines are still there."""
    scene, rents = Scene(), Rents("a", "b")

    async def hang(_pod_id: PodId) -> Pod | None:
        rents.scope.cancel()
        await anyio.sleep_forever()
        return None

    scene.provider.get = hang  # type: ignore[method-assign, assignment]
    with rents.scope as scope:
        await rerun(scene).carry_out(rents.all)
    assert scope.cancelled_caught
    assert sorted(rents.given) == ["a", "b"]
    assert "rerun" not in scene.runs.calls


async def test_a_rerun_that_is_cancelled_while_it_rents_gives_back_what_is_there() -> None:
    """Those that are under way give back themselves."""
    scene, rents = Scene(), Rents("a", "slow")
    with rents.scope as scope:
        await rerun(scene).carry_out(rents.all)
    assert scope.cancelled_caught
    assert rents.given == ["a"]
    assert "hurry" in scene.memory.calls


@pytest.mark.parametrize(("begins", "given"), [(True, []), (False, ["a"])], ids=["heard", "not heard"])
async def test_a_rerun_that_is_cancelled_while_it_orders(begins: bool, given: list[str]) -> None:  # noqa: FBT001 - a column
    """What the new attempt has come to own is its own."""
    scene, rents = Scene(), Rents("a")
    plain = scene.runs.rerun_failed_jobs

    async def slow(repository: str, run_id: int) -> None:
        await plain(repository, run_id)
        scope.cancel()
        await anyio.sleep_forever()

    scene.runs.begins = begins
    scene.runs.rerun_failed_jobs = slow  # type: ignore[method-assign]
    with anyio.CancelScope() as scope:
        await rerun(scene).carry_out(rents.all)
    assert scope.cancelled_caught
    assert rents.given == given
