"""Stop and clean-up: what is ended, what is left alone, and what is said when it could not be told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from support.fakes import NAME, OWNER8, FakeProvider, FakeRegistry, FakeRuns, Memory, pod, tags

from runner_provisioner.domain.leases import Lease, Limits, Outcome, Phase
from runner_provisioner.domain.markets import LeftTemplate
from runner_provisioner.domain.names import RunKey, Scope
from runner_provisioner.domain.orphans import Verdict
from runner_provisioner.domain.pods import PodClass
from runner_provisioner.domain.runners import RunnerState, RunStatus, provider_label
from runner_provisioner.errors import (
    AuthenticationFailed,
    InvalidRequest,
    LeftBehind,
    RunnerProvisionerError,
    ServerError,
)
from runner_provisioner.services.ending import Ending, ForgetfulStore
from runner_provisioner.services.reconcile import Polls
from runner_provisioner.services.sweep import Sweep
from runner_provisioner.testing.clock import EPOCH, FakeClock

LIMITS = Limits(settle=timedelta(seconds=3), boot=timedelta(seconds=30), lifetime=timedelta(hours=1))
KEY = RunKey(owner8=OWNER8, run="zz", attempt=1, key="default")


class Scene:
    """Two providers, one registry, and both ways to end things."""

    def __init__(self, status: RunStatus | None = RunStatus.ACTIVE) -> None:
        self.clock = FakeClock()
        self.one, self.two = FakeProvider(self.clock, name="one"), FakeProvider(self.clock, name="two")
        self.registry = FakeRegistry(self.clock, online_after=None)
        self.runs = FakeRuns(status)
        self.memory = Memory()
        self.ending = Ending(
            providers={"one": self.one, "two": self.two},
            registry=self.registry,
            clock=self.clock,
            events=self.memory,
            limits=LIMITS,
            polls=Polls(booting=1.0, running=1.0, patience=20.0),
        )

    def sweep(self, *, repository: str | None = None, path: str = "o/r", whole: bool = True) -> Sweep:
        """The use case."""
        return Sweep(
            scope=Scope.parse(path),
            owner8=OWNER8,
            repository=repository,
            providers={"one": self.one, "two": self.two},
            registry=self.registry,
            runs=self.runs,
            clock=self.clock,
            ending=self.ending,
            settle=LIMITS.settle,
            lifetime=LIMITS.lifetime,
            whole=whole,
        )

    def put(self, name: str = NAME, *, provider: str = "one", pod_id: str = "p1", **more: object) -> None:
        """A pod that runs."""
        made = pod(name, pod_id=pod_id, provider=provider, tags=more.pop("tags", tags()), **more)
        {"one": self.one, "two": self.two}[provider].pods[made.id] = made


def _name(attempt: int, key: str = "default", run: str = "zz") -> str:
    return f"rp-{OWNER8}-{run}-{attempt}-{key}"


async def test_stop_ends_what_bears_the_name_at_every_provider() -> None:
    """Whoever made it, and the runner too."""
    scene = Scene()
    scene.put()
    scene.put(provider="two", pod_id="p2")
    scene.put(_name(1, "other"), pod_id="p3")
    scene.registry.put(NAME)
    (ended,) = await scene.ending.stop(KEY)
    assert (ended.name, ended.pods, ended.left) == (NAME, ("p1", "p2"), ())
    assert list(scene.one.pods) == ["p3"]
    assert not scene.two.pods
    assert not scene.registry.runners


@pytest.mark.parametrize(
    ("labels", "blind", "at"),
    [
        pytest.param(["rp-x", provider_label("prime")], 0, "prime", id="told"),
        pytest.param(["rp-x", provider_label("prime")], 1, "prime", id="told-only-later"),
        pytest.param(["rp-x"], 0, None, id="not-told"),
        pytest.param(None, 0, None, id="no-runner"),
    ],
)
async def test_stop_keeps_where_the_runner_said_that_its_pod_is(
    labels: list[str] | None, blind: int, at: str | None
) -> None:
    """The runner is gone afterwards, and with it who could tell."""
    scene = Scene()
    if labels is not None:
        scene.registry.put(NAME, labels=labels)
    scene.registry.add("find", *[ServerError("down")] * blind)
    (ended,) = await scene.ending.stop(KEY)
    assert ended.at == at
    assert not scene.registry.runners


async def test_stop_of_a_later_attempt_ends_earlier_ones_but_no_later_one() -> None:
    """`every_attempt` ends those as well."""
    scene = Scene()
    for attempt in (1, 2, 3):
        scene.put(_name(attempt), pod_id=f"p{attempt}")
    scene.put("somebody-elses", pod_id="p4")
    scene.put(_name(1, run="yy"), pod_id="p5")
    scene.registry.put(_name(1))
    key = RunKey(owner8=OWNER8, run="zz", attempt=2, key="default")
    ended = await scene.ending.stop(key)
    assert [one.name for one in ended] == [_name(1), _name(2)]
    assert set(scene.one.pods) == {"p3", "p4", "p5"}
    await scene.ending.stop(KEY, every_attempt=True)
    assert set(scene.one.pods) == {"p4", "p5"}


async def test_stop_ends_what_it_can_see_before_it_says_what_it_cannot() -> None:
    """A registry or a market that cannot be asked does not keep the other's pods alive."""
    scene = Scene()
    for attempt in (1, 2):
        scene.put(_name(attempt), pod_id=f"p{attempt}")
    scene.registry.add("list", AuthenticationFailed("refused"))
    scene.two.add("list", ServerError("down"))
    key = RunKey(owner8=OWNER8, run="zz", attempt=2, key="default")
    with pytest.raises(AuthenticationFailed):
        await scene.ending.stop(key)
    assert not scene.one.pods


async def test_a_refused_credential_is_itself_the_error() -> None:
    """Not a group of errors, and within seconds."""
    scene = Scene()
    scene.one.add("list", *[AuthenticationFailed("refused")] * 100)
    with pytest.raises(AuthenticationFailed, match="refused"):
        await scene.ending.stop(KEY)
    assert scene.clock.monotonic() < 20


async def test_a_service_that_is_down_is_named_early_and_at_the_end() -> None:
    """Once per cause, not once per name or per look; the looks become fewer."""
    scene = Scene()
    for attempt in (1, 2):
        scene.put(_name(attempt), pod_id=f"p{attempt}")
    scene.one.add("list", None, *[ServerError("out of order", service="one")] * 1000)
    key = RunKey(owner8=OWNER8, run="zz", attempt=2, key="default")
    with pytest.raises(LeftBehind, match=r"still there: perhaps .*one: out of order\): run cleanup") as caught:
        await scene.ending.stop(key)
    assert str(caught.value).count("out of order") == 1
    (told,) = scene.memory.told("look_failed")
    assert told.fields == {"service": "one", "error": "out of order", "patience_seconds": 20.0}
    assert told.at - EPOCH < timedelta(seconds=2)


async def test_a_runner_that_could_not_be_looked_up_is_named_once_its_pod_is_gone() -> None:
    """Nobody is sent to the provider for a pod that is known to have ended."""
    scene = Scene()
    scene.put()
    scene.registry.add("find", *[ServerError("out of order", service="github")] * 1000)
    with pytest.raises(LeftBehind, match=rf"still there: perhaps the runner {NAME} \(its pod is gone\)"):
        await scene.ending.stop(KEY)
    assert not scene.one.pods


class SetBack(FakeClock):
    """A clock whose wall time is an hour earlier after its first ten seconds."""

    def now(self) -> datetime:
        """The pretended time."""
        return super().now() - (timedelta(hours=1) if self.monotonic() > 10 else timedelta())


async def test_a_clock_that_is_set_back_does_not_prolong_a_drain() -> None:
    """Patience is counted in seconds that pass."""
    clock = SetBack()
    provider = FakeProvider(clock)
    registry = FakeRegistry(clock, online_after=None)
    made = pod()
    provider.pods[made.id] = made
    provider.stubborn = 1000
    ending = Ending(
        providers={"fake": provider},
        registry=registry,
        clock=clock,
        events=Memory(),
        limits=LIMITS,
        polls=Polls(booting=1.0, running=1.0, patience=20.0),
    )
    with pytest.raises(LeftBehind):
        await ending.stop(KEY)
    assert clock.monotonic() < 30


async def test_looks_that_fail_become_fewer() -> None:
    """A pause grows up to that of a pod that boots; a refused credential is looked at only a few times."""
    counts = []
    for error in (ServerError("down"), AuthenticationFailed("refused")):
        scene = Scene()
        scene.one.add("list", *[error] * 1000)
        ending = Ending(
            providers={"one": scene.one},
            registry=scene.registry,
            clock=scene.clock,
            events=scene.memory,
            limits=LIMITS,
            polls=Polls(),
        )
        with pytest.raises(RunnerProvisionerError):
            await ending.stop(KEY)
        counts.append(scene.one.calls.count("list"))
    assert counts[0] < 30
    assert counts[1] <= 4


async def test_every_name_is_tried_before_the_first_error_leaves() -> None:
    """One pod that cannot be ended does not save another."""
    scene = Scene()
    for attempt in (1, 2):
        scene.put(_name(attempt), pod_id=f"p{attempt}")
    scene.registry.put(_name(1), RunnerState.IDLE)
    scene.registry.add("remove", *[ServerError("down")] * 100)
    key = RunKey(owner8=OWNER8, run="zz", attempt=2, key="default")
    with pytest.raises(LeftBehind) as caught:
        await scene.ending.stop(key)
    assert caught.value.what == (f"runner {_name(1)}",)
    assert not scene.one.pods


async def test_a_refusal_beside_a_known_pod_is_left_behind() -> None:
    """The pod's id is worth more than the reason alone."""
    scene = Scene()
    scene.put()
    scene.one.stubborn = 1000
    scene.registry.add("find", *[AuthenticationFailed("refused")] * 1000)
    with pytest.raises(LeftBehind) as caught:
        await scene.ending.stop(KEY)
    assert caught.value.what == ("pod p1 at one",)
    assert scene.clock.monotonic() < 20


def test_a_store_that_forgets_gives_back_what_it_got() -> None:
    """Everything is found again by name."""
    lease = Lease(name=NAME, phase=Phase.DRAINING, outcome=Outcome.CANCELLED)
    assert ForgetfulStore().save(lease) is lease


async def test_clean_up_ends_what_a_completed_run_left() -> None:
    """Its pod and its runner; and it looks again."""
    scene = Scene(RunStatus.COMPLETED)
    scene.put()
    scene.registry.put(NAME)
    scene.registry.put(_name(1, "lost"), RunnerState.OFFLINE)
    swept = await scene.sweep().run()
    assert sorted((entry.kind, entry.name) for entry in swept.ended) == [("pod", NAME), ("runner", _name(1, "lost"))]
    assert (swept.kept, swept.left, swept.errors) == ((), (), ())
    assert not scene.registry.runners
    assert scene.runs.calls.count("attempt") == 1


async def test_clean_up_leaves_alone_whose_run_is_going_on() -> None:
    """And pods by hand, and runners that work."""
    scene = Scene()
    scene.put()
    scene.put("my-own-name", pod_id="p2", tags=tags(cls=PodClass.MANUAL))
    scene.registry.put(_name(1, "busy"), RunnerState.BUSY)
    scene.put(f"x-{OWNER8}-y", pod_id="p3", tags=tags(cls=PodClass.MANUAL, expires_at=EPOCH - timedelta(seconds=1)))
    swept = await scene.sweep(path="o", repository="o/r").run()
    assert [entry.id for entry in swept.ended] == ["p3"]
    assert {entry.finding.verdict for entry in swept.kept} == {Verdict.OWNED}
    assert "p1" in scene.one.pods


async def test_what_could_not_be_looked_up_is_left_alone_and_said() -> None:
    """A failed look is unknown, never gone."""
    scene = Scene(RunStatus.COMPLETED)
    scene.put()
    scene.put(_name(2), provider="two", pod_id="p2", created_at=EPOCH - timedelta(minutes=56))
    scene.registry.add("list", ServerError("down"))
    scene.runs.add("attempt", ServerError("down"), ServerError("down"))
    survey = await scene.sweep().survey()
    assert {entry.finding.verdict for entry in survey.entries} == {Verdict.UNKNOWN}
    assert [str(error) for error in survey.errors] == ["down"] * 3
    scene.two.add("list", ServerError("market down"))
    survey = await scene.sweep().survey()
    assert [entry.provider for entry in survey.entries] == ["one"]


async def test_what_cannot_be_ended_is_reported_once() -> None:
    """After three rounds."""
    scene = Scene(RunStatus.COMPLETED)
    scene.put(price=Decimal(1))
    scene.one.stubborn = 10_000
    swept = await scene.sweep().run()
    assert swept.ended == ()
    assert swept.left == ("pod p1 at one", f"pod {NAME}")
    assert [entry.finding.verdict for entry in swept.kept] == [Verdict.ORPHAN]


async def test_a_credential_that_is_refused_half_way_is_reported_not_raised() -> None:
    """What was to be ended is named as left."""
    scene = Scene(RunStatus.COMPLETED)
    scene.put()
    scene.one.add("list", None, *[AuthenticationFailed("refused")] * 1000)
    scene.one.add("get", None)
    scene.one.pods.clear()
    scene.put()
    scene.registry.add("find", *[AuthenticationFailed("refused")] * 1000)
    swept = await scene.sweep().run()
    assert swept.left
    assert [str(error) for error in swept.errors] == ["refused"]


async def test_a_narrowed_clean_up_takes_no_runner_for_one_without_a_pod() -> None:
    """Its pod may be at a provider that is not looked at."""
    scene = Scene()
    scene.runs.status = RunStatus.COMPLETED
    scene.registry.put(NAME, RunnerState.OFFLINE, online=False)
    verdicts = [(await scene.sweep(whole=whole).survey()).entries[0].finding.verdict for whole in (True, False)]
    assert verdicts == [Verdict.ORPHAN, Verdict.UNKNOWN]


@pytest.mark.parametrize(
    ("provider", "ended"), [("two", True), ("prime", False), (None, True)], ids=["asked", "without-a-key", "not-told"]
)
async def test_clean_up_removes_no_runner_whose_pod_it_cannot_see(provider: str | None, *, ended: bool) -> None:
    """With the runner the last sign of a machine that bills would be gone."""
    scene = Scene(RunStatus.COMPLETED)
    scene.registry.put(NAME, labels=[] if provider is None else [provider_label(provider)])
    swept = await scene.sweep().run()
    assert [entry.name for entry in swept.ended] == [NAME] * ended
    assert [(entry.at, entry.finding.verdict) for entry in swept.kept] == [("prime", Verdict.UNKNOWN)] * (not ended)


class Leaving(FakeProvider):
    """A provider with templates that no pod came of."""

    def __init__(self, clock: FakeClock, *left: LeftTemplate) -> None:
        super().__init__(clock, name="one")
        self.left = list(left)

    async def left_templates(self, owner8: str) -> Sequence[LeftTemplate]:
        """All of them."""
        assert owner8 == OWNER8
        self.meet("left_templates")
        return self.left

    async def delete_template(self, template_id: str) -> None:
        """Remove it."""
        self.meet("delete_template")
        self.left = [one for one in self.left if one.id != template_id]


def leaving(*expires: datetime | None) -> tuple[Scene, Leaving]:
    """A scene with left templates of these ends."""
    scene = Scene()
    provider = Leaving(
        scene.clock,
        *(
            LeftTemplate(provider="one", id=f"t{number}", name=f"template-{number}", tags=tags(expires_at=end))
            for number, end in enumerate(expires)
        ),
    )
    scene.one = provider
    scene.ending = Ending(
        providers={"one": provider, "two": scene.two},
        registry=scene.registry,
        clock=scene.clock,
        events=scene.memory,
        limits=LIMITS,
        polls=Polls(booting=1.0, running=1.0, patience=20.0),
    )
    return scene, provider


async def test_a_template_whose_pod_never_came_is_removed_when_its_time_is_over() -> None:
    """It may hold a token; until then a start may still rent from it."""
    scene, provider = leaving(EPOCH, EPOCH + timedelta(hours=1), None)
    scene.put(tags=tags(expires_at=EPOCH))
    swept = await scene.sweep().run()
    assert [(one.kind, one.name) for one in swept.ended] == [("pod", NAME), ("template", "template-0")]
    assert [one.id for one in provider.left] == ["t1", "t2"]
    assert [one.finding.verdict for one in swept.kept] == [Verdict.OWNED, Verdict.ENDLESS]
    assert (swept.left, swept.errors) == ((), ())


@pytest.mark.parametrize("error", [ServerError("down"), InvalidRequest("a pod runs from it")], ids=["down", "used"])
async def test_a_template_that_cannot_be_removed_is_reported(error: RunnerProvisionerError) -> None:
    """The next clean-up tries again."""
    scene, provider = leaving(EPOCH)
    provider.add("delete_template", *[error] * 3)
    swept = await scene.sweep().run()
    assert swept.left == ("template template-0",)
    assert swept.refusals == (f"template template-0 could not be removed: {error}",)
    assert swept.ended == ()


async def test_a_template_that_is_gone_in_the_end_is_not_left() -> None:
    """Why it could not be removed at first is of no account then."""
    scene, provider = leaving(EPOCH)
    provider.add("delete_template", ServerError("down"))
    swept = await scene.sweep().run()
    assert (swept.left, swept.errors, swept.refusals) == ((), (), ())
    assert [one.name for one in swept.ended] == ["template-0"]


async def test_a_template_that_nobody_can_see_any_more_is_not_said_to_be_removed() -> None:
    """Its removal was refused, and then the look failed."""
    scene, provider = leaving(EPOCH)
    provider.add("left_templates", None, ServerError("down"))
    provider.add("delete_template", ServerError("refused"))
    swept = await scene.sweep().run()
    assert (swept.ended, [str(one) for one in swept.errors]) == ((), ["down"])
    assert swept.refusals == ("template template-0 could not be removed: refused",)


async def test_templates_that_cannot_be_looked_at_are_an_error() -> None:
    """Pods and runners are ended all the same."""
    scene, provider = leaving()
    scene.put(tags=tags(expires_at=EPOCH))
    provider.add("left_templates", *[ServerError("down")] * 9)
    swept = await scene.sweep().run()
    assert [one.kind for one in swept.ended] == ["pod"]
    assert [str(one) for one in swept.errors] == ["down"]
