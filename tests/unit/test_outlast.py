"""What a stop does about a start elsewhere that rents again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from support.fakes import NAME, OWNER8, FakeProvider, FakeRegistry, Memory, pod, tags

from runner_provisioner.domain.leases import Limits, Observation, Unknown
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.orphans import UNREGISTERED_AFTER
from runner_provisioner.domain.runners import Runner, RunnerId, RunnerState
from runner_provisioner.domain.underway import may_be_under_way
from runner_provisioner.errors import LeftBehind, ServerError
from runner_provisioner.services.ending import Ended, Ending
from runner_provisioner.services.outlast import Outlast
from runner_provisioner.services.reconcile import Polls
from runner_provisioner.testing.clock import EPOCH, FakeClock

LIMITS = Limits(settle=timedelta(seconds=3), boot=timedelta(seconds=30), lifetime=timedelta(hours=1))
POLLS = Polls(booting=1.0, running=1.0, patience=20.0)
WINDOW = 10.0  # two settle times and four polls
KEY = RunKey(owner8=OWNER8, run="zz", attempt=1, key="default")


class _Rents(FakeClock):
    """A clock at which a start elsewhere does something after so many seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: list[tuple[float, Callable[[], None]]] = []

    async def sleep(self, seconds: float) -> None:
        """Let time pass, and have happen what is due."""
        await super().sleep(seconds)
        while self.plan and self.plan[0][0] <= self.monotonic():
            self.plan.pop(0)[1]()


class Scene:
    """A stop beside a start elsewhere."""

    def __init__(self) -> None:
        self.clock = _Rents()
        self.provider = FakeProvider(self.clock)
        self.memory = Memory()
        self.ending = Ending(
            providers={"fake": self.provider},
            registry=FakeRegistry(self.clock, online_after=None),
            clock=self.clock,
            events=self.memory,
            limits=LIMITS,
            polls=POLLS,
        )
        self.outlast = Outlast(
            ending=self.ending,
            providers={"fake": self.provider},
            owner8=OWNER8,
            clock=self.clock,
            events=self.memory,
            limits=LIMITS,
            polls=POLLS,
        )

    def rent(self, pod_id: str, name: str = NAME) -> None:
        """A start rents a pod."""
        made = pod(name, pod_id=pod_id, tags=tags())
        self.provider.pods[made.id] = made

    async def stop(self, *told: str) -> list[Ended]:
        """All of a stop."""
        since = self.clock.now()
        return await self.outlast.run(await self.ending.stop(KEY), since=since, told=told)


async def test_what_a_start_rents_after_the_stop_is_ended_too() -> None:
    """Each one anew for the whole time; pods of other names stay."""
    scene = Scene()
    scene.rent("p1")
    scene.clock.plan = [
        (7.0, lambda: scene.rent("p2")),
        (15.0, lambda: scene.rent("p3")),
        (15.0, lambda: scene.rent("p4", NAME + "-b")),
    ]
    (ended,) = await scene.stop()
    assert ended.pods == ("p1", "p2", "p3")
    assert set(scene.provider.pods) == {"p4"}
    assert 15 + WINDOW <= scene.clock.monotonic() < 15 + WINDOW + 5
    assert [event.fields for event in scene.memory.told("start_outlasted")] == [{"seconds": WINDOW}]


@pytest.mark.parametrize("found", ["nothing", "told"])
async def test_nobody_waits_where_no_start_can_rent_again(found: str) -> None:
    """There was nothing to wait for, or the start's state file is here."""
    scene = Scene()
    if found == "told":
        scene.rent("p1")
    await scene.stop(*([NAME] if found == "told" else []))
    assert scene.clock.monotonic() <= LIMITS.settle.total_seconds()
    assert not scene.memory.told("start_outlasted")


async def test_a_stop_that_cannot_look_does_not_say_that_nothing_is_left() -> None:
    """The end of what may be there is tried, as by any stop."""
    scene = Scene()
    scene.rent("p1")
    ended = await scene.ending.stop(KEY)
    scene.rent("p2")
    scene.provider.add("list", ServerError("down"), ServerError("down"))
    (one,) = await scene.outlast.run(ended, since=EPOCH)
    assert one.pods == ("p1", "p2")
    scene.provider.add("list", *[ServerError("down")] * 500)
    with pytest.raises(LeftBehind, match="down"):
        await scene.outlast.run(ended, since=EPOCH)


async def test_a_pod_that_only_the_list_still_shows_is_gone() -> None:
    """Its read by id says so."""
    scene = Scene()
    scene.rent("p1")
    ended = await scene.ending.stop(KEY)
    listed = [pod(NAME, pod_id="p1", tags=tags())]

    async def stale(_owner8: str | None) -> list[object]:
        return list(listed)

    scene.provider.list = stale  # type: ignore[assignment,method-assign]
    (one,) = await scene.outlast.run(ended, since=EPOCH)
    assert one.pods == ("p1",)
    assert "terminate" in scene.provider.calls
    assert scene.provider.calls.count("terminate") == 1


def _runner(state: RunnerState, *, online: bool) -> Runner:
    return Runner(id=RunnerId(1), name=NAME, state=state, online=online)


@pytest.mark.parametrize(
    ("age", "runner", "expected"),
    [
        pytest.param(60, None, True, id="boots"),
        pytest.param(60, _runner(RunnerState.OFFLINE, online=False), True, id="registers"),
        pytest.param(3, _runner(RunnerState.IDLE, online=True), True, id="online-just-now"),
        pytest.param(60, _runner(RunnerState.IDLE, online=True), False, id="online"),
        pytest.param(60, _runner(RunnerState.BUSY, online=False), False, id="works"),
        pytest.param(60, Unknown(reason="down"), True, id="nobody-knows"),
        pytest.param(UNREGISTERED_AFTER.total_seconds() + 1, None, False, id="old"),
        pytest.param(None, None, True, id="no-age"),
    ],
)
def test_which_start_may_be_under_way(age: float | None, runner: Runner | Unknown | None, *, expected: bool) -> None:
    """One that has not reported its pod."""
    created = None if age is None else EPOCH - timedelta(seconds=age)
    seen = Observation(pods=(replace(pod(), created_at=created),), runner=runner)
    assert may_be_under_way(seen, now=EPOCH, reports_within=timedelta(seconds=5)) is expected


@pytest.mark.parametrize("pods", [(), Unknown(reason="down")], ids=["none", "unknown"])
def test_a_pod_that_turned_up_during_the_stop_is_young(pods: tuple[()] | Unknown) -> None:
    """Its start waits for it."""
    assert may_be_under_way(Observation(pods=pods, runner=None), now=EPOCH, reports_within=timedelta(seconds=5))
