"""Which queued jobs wait in vain, and how their runs are cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from support.fakes import NAME, OWNER8, FakeProvider, FakeRegistry, Troubles, pod, tags

from runner_provisioner.domain.names import base36
from runner_provisioner.domain.pods import Pod, PodClass, PodState
from runner_provisioner.domain.runners import Runner, RunnerId, RunnerState
from runner_provisioner.domain.stuck import QueuedJob, is_served, waits_too_long
from runner_provisioner.errors import PermissionDenied, ServerError
from runner_provisioner.services.stuck import StuckRuns
from runner_provisioner.testing.clock import EPOCH, FakeClock

LABEL = "rp-" + "abcdefghijklmnopqrstuvwxyz"
OTHER = "rp-" + "z" * 26
JOB = QueuedJob(id=1, run_id=42, name="train", labels=(LABEL,), queued_at=EPOCH)
SETTLE = timedelta(seconds=30)


def runner(state: RunnerState = RunnerState.IDLE, name: str = NAME, label: str = LABEL) -> Runner:
    """A runner with that label beside another one."""
    return Runner(id=RunnerId(1), name=name, state=state, labels=("gpu", label))


@pytest.mark.parametrize(
    ("labels", "minutes", "expected"),
    [
        pytest.param((LABEL,), 5, False, id="five-minutes"),
        pytest.param((LABEL,), 5.1, True, id="longer"),
        pytest.param((LABEL.upper(),), 6, True, id="another-case"),
        pytest.param(("gpu", LABEL), 6, True, id="beside-another"),
        pytest.param((), 600, False, id="none"),
        pytest.param(("self-hosted", "rp-gpu"), 600, False, id="of-others"),
        pytest.param((LABEL + "a",), 600, False, id="longer-label"),
        pytest.param(("rp-" + "a" * 25 + "1",), 600, False, id="a-digit"),
    ],
)
def test_a_job_waits_too_long(labels: tuple[str, ...], minutes: float, *, expected: bool) -> None:
    """Only for a label that a start of ours has made, and only after five minutes."""
    job = replace(JOB, labels=labels)
    assert waits_too_long(job, EPOCH + timedelta(minutes=minutes)) is expected


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        pytest.param(pod(tags=tags(label=LABEL)), True, id="its-own"),
        pytest.param(pod(tags=tags(label=LABEL.upper())), True, id="another-case"),
        pytest.param(pod(tags=tags(label=LABEL), state=PodState.STARTING), True, id="boots"),
        pytest.param(pod(tags=tags(label=LABEL), state=PodState.FAILED), True, id="perhaps-restarts"),
        pytest.param(pod(tags=tags(label=LABEL), state=PodState.INTERRUPTED), False, id="taken-back"),
        pytest.param(pod(tags=tags(label=LABEL), state=PodState.STOPPED), False, id="stopped"),
        pytest.param(pod(tags=tags(label=OTHER)), False, id="of-another-job"),
        pytest.param(pod("mine", tags=tags(cls=PodClass.MANUAL)), False, id="made-by-hand"),
        pytest.param(pod("somebody-elses"), False, id="of-another-tool"),
        pytest.param(pod(f"rp-{OWNER8}-{base36(42)}-1-a"), True, id="no-label-to-read-same-run"),
        pytest.param(pod(f"rp-{OWNER8}-{base36(43)}-1-a"), False, id="no-label-to-read-another-run"),
        pytest.param(pod(f"rp-{OWNER8}-abcdefgh-0-a"), True, id="no-label-to-read-of-a-laptop"),
        pytest.param(pod(f"rp-{OWNER8}-{base36(42)}-1-a", tags=tags()), True, id="tags-without-label"),
    ],
)
def test_a_pod_may_still_serve(one: Pod, *, expected: bool) -> None:
    """By its label; where that cannot be read, by the run in its name."""
    assert is_served(JOB, [one], [], OWNER8) is expected


@pytest.mark.parametrize(
    ("one", "pods", "expected"),
    [
        pytest.param(runner(), [], True, id="idle"),
        pytest.param(runner(RunnerState.BUSY), [], True, id="busy"),
        pytest.param(runner(RunnerState.OFFLINE), [], False, id="offline-and-its-pod-gone"),
        pytest.param(runner(RunnerState.OFFLINE), [pod(tags=tags(label=OTHER))], True, id="offline-and-its-pod-there"),
        pytest.param(runner(RunnerState.OFFLINE, "rp-ffffffff-zz-1-a"), [], True, id="offline-of-another-owner"),
        pytest.param(runner(label=OTHER), [], False, id="of-another-job"),
    ],
)
def test_a_runner_may_still_serve(one: Runner, pods: list[Pod], *, expected: bool) -> None:
    """One that is offline comes back only while its pod exists."""
    assert is_served(JOB, pods, [one], OWNER8) is expected


class FakeQueue(Troubles):
    """Keeps the promises of JobQueue."""

    def __init__(self, *jobs: QueuedJob) -> None:
        """With these jobs waiting; `over` are runs that have ended."""
        super().__init__()
        self.jobs = list(jobs)
        self.over: set[int] = set()
        self.cancelled: list[int] = []

    async def queued_jobs(self, repository: str) -> Sequence[QueuedJob]:
        """All that wait."""
        assert repository == "o/r"
        self.meet("queued_jobs")
        return list(self.jobs)

    async def cancel_if_active(self, repository: str, run_id: int) -> bool:
        """Cancel one."""
        assert repository == "o/r"
        self.meet("cancel")
        if run_id in self.over:
            return False
        self.cancelled.append(run_id)
        return True


@dataclass
class Scene:
    """The use case in a world ten minutes after the job was queued."""

    queue: FakeQueue
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        """Nothing is rented."""
        self.clock.advance(600)
        self.one, self.two = FakeProvider(self.clock, name="one"), FakeProvider(self.clock, name="two")
        self.registry = FakeRegistry(self.clock)

    @property
    def stuck(self) -> StuckRuns:
        """The use case."""
        return StuckRuns(
            repository="o/r",
            owner8=OWNER8,
            providers={"one": self.one, "two": self.two},
            registry=self.registry,
            queue=self.queue,
            clock=self.clock,
            settle=SETTLE,
        )


async def test_the_runs_of_jobs_that_wait_in_vain_are_cancelled_once_each() -> None:
    """Two jobs of one run and one of another; the one that was just queued is left."""
    second = replace(JOB, id=2, labels=(OTHER,))
    third = replace(JOB, id=3, run_id=43)
    fresh = replace(JOB, id=4, run_id=44, queued_at=EPOCH + timedelta(minutes=8))
    scene = Scene(FakeQueue(JOB, second, third, fresh))
    freed = await scene.stuck.run()
    assert scene.queue.cancelled == [42, 43]
    assert [job.run_id for job in freed.cancelled] == [42, 43]
    assert (freed.left, freed.errors) == ((), ())


async def test_it_looks_twice_settle_apart() -> None:
    """What the second look finds served, or gone from the queue, is left alone."""
    taken, served = JOB, replace(JOB, id=2, run_id=43, labels=(OTHER,))
    scene = Scene(FakeQueue(taken, served))
    before = scene.clock.monotonic()

    async def later(seconds: float) -> None:
        scene.clock.advance(seconds)
        scene.queue.jobs.remove(taken)
        late = pod(tags=tags(label=OTHER), provider="two")
        scene.two.pods[late.id] = late

    scene.clock.sleep = later  # type: ignore[method-assign]
    freed = await scene.stuck.run()
    assert scene.clock.monotonic() - before == SETTLE.total_seconds()
    assert (freed.cancelled, scene.queue.cancelled) == ((), [])


async def test_nothing_is_looked_up_when_nothing_waits() -> None:
    """One question to GitHub, none to a provider."""
    scene = Scene(FakeQueue(replace(JOB, labels=("ubuntu-latest",))))
    freed = await scene.stuck.run()
    assert (freed.cancelled, freed.errors) == ((), ())
    assert (scene.queue.calls, scene.one.calls, scene.registry.calls) == (["queued_jobs"], [], [])


@pytest.mark.parametrize("where", ["queue", "one", "two", "registry"])
@pytest.mark.parametrize("look", [0, 1], ids=["first-look", "second-look"])
async def test_what_could_not_be_looked_up_is_left_alone(where: str, look: int) -> None:
    """Unknown is never gone."""
    scene = Scene(FakeQueue(JOB))
    verb = "queued_jobs" if where == "queue" else "list"
    getattr(scene, where).add(verb, *[None] * look, ServerError("down"))
    freed = await scene.stuck.run()
    assert scene.queue.cancelled == []
    assert [str(error) for error in freed.errors] == ["down"]


async def test_a_run_that_cannot_be_cancelled_is_left_and_said() -> None:
    """The others are cancelled all the same; one that ended meanwhile is neither."""
    ended, last = replace(JOB, id=2, run_id=43), replace(JOB, id=3, run_id=44)
    scene = Scene(FakeQueue(JOB, ended, last))
    scene.queue.over.add(43)
    scene.queue.add("cancel", PermissionDenied("actions: write"))
    freed = await scene.stuck.run()
    assert [job.run_id for job in freed.left] == [42]
    assert [job.run_id for job in freed.cancelled] == [44]
    assert [str(error) for error in freed.errors] == ["actions: write"]
