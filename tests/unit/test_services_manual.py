"""Pods made by hand, over every provider."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import anyio
import pytest
from support.fakes import OWNER8, REQUEST, FakeHistory, FakeProvider, Memory, PausableProvider, offer

from runner_provisioner.domain.budget import Budget
from runner_provisioner.domain.history import Ending
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import Pod, PodClass, PodId, PodSpec, PodState, PodTags
from runner_provisioner.errors import (
    AllOffersFailed,
    BudgetExceeded,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InvalidRequest,
    LeftBehind,
    NotFound,
    ServerError,
    Timeout,
    about,
)
from runner_provisioner.services.budget import Purse
from runner_provisioner.services.chronicle import Chronicle
from runner_provisioner.services.manual import ManualPods
from runner_provisioner.testing.clock import FakeClock

SPEC = PodSpec(name="mine", image="image")
NOBODY = PodId("nobody")


class Scene:
    """One provider that can pause, one that cannot."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.one = PausableProvider(self.clock, offer("A", provider="one"), offer("B", provider="one"), name="one")
        self.two = FakeProvider(self.clock, name="two")
        self.pods = ManualPods({"one": self.one, "two": self.two}, clock=self.clock, settle=30)


async def test_the_first_offer_that_can_be_had_is_rented() -> None:
    """And found again by its id, wherever it is."""
    scene = Scene()
    scene.one.add("create", CapacityUnavailable("none left"))
    made = await scene.pods.create(SPEC, REQUEST)
    assert await scene.pods.get(made.id) == made
    assert await scene.pods.list() == [made]


@pytest.mark.parametrize("kept", [True, False], ids=["history", "none"])
async def test_a_pod_made_by_hand_is_remembered_and_kept_to_the_budget(*, kept: bool) -> None:
    """Up to its end, by its lifetime; what the budget does not bear is not rented."""
    scene, told, history = Scene(), Memory(), FakeHistory()
    providers = {"one": scene.one, "two": scene.two}
    pods = ManualPods(
        providers,
        clock=scene.clock,
        settle=30,
        chronicle=Chronicle(history if kept else None, clock=scene.clock, events=told),
    )
    purse = Purse(
        Budget(day=Decimal(1)),
        providers=providers,
        history=history,
        clock=scene.clock,
        events=told,
        owner8=OWNER8,
        lifetime=timedelta(hours=24),
    )
    with pytest.raises(BudgetExceeded, match="RUNNER_PROVISIONER_BUDGET_DAY"):
        await pods.create(SPEC, REQUEST, lifetime=timedelta(hours=24), purse=purse)
    assert "create" not in scene.one.calls
    made = await pods.create(SPEC, REQUEST, lifetime=timedelta(hours=1), purse=purse)
    await pods.terminate(made.id)
    assert [(one.id, one.ending) for one in history.records.values()] == ([(made.id, Ending.ASKED)] if kept else [])


async def test_when_nothing_can_be_had_the_error_says_why() -> None:
    """Each attempt and its reason."""
    scene = Scene()
    scene.one.add("create", CapacityUnavailable("none left"), CapacityUnavailable("none left"))
    with pytest.raises(AllOffersFailed) as caught:
        await scene.pods.create(SPEC, REQUEST)
    assert len(caught.value.attempts) == 2


async def test_a_create_without_an_answer_is_looked_up_by_name() -> None:
    """It is not sent again."""
    scene = Scene()
    scene.one.add("created", CreateOutcomeUnknown("no answer"))
    made = await scene.pods.create(SPEC, REQUEST)
    assert made.id == "p1"
    scene.one.pods.clear()
    scene.one.add("create", CreateOutcomeUnknown("no answer"))
    with pytest.raises(CreateOutcomeUnknown, match="pods list"):
        await scene.pods.create(SPEC, REQUEST)
    assert scene.one.calls.count("create") == 2
    assert scene.clock.monotonic() == 30


async def test_a_market_without_a_kill_time_is_rented_from_only_where_that_is_accepted() -> None:
    """And one that loses it on the way is told that the pod needs one."""
    scene, seen = Scene(), []
    plain = scene.one.create

    async def create(spec: PodSpec, wanted: Offer) -> Pod:
        seen.append(spec.needs_kill_time)
        return await plain(spec, wanted)

    scene.one.create = create  # type: ignore[method-assign, assignment]
    await scene.pods.create(SPEC, REQUEST)
    scene.one.kill_time = False
    with pytest.raises(AllOffersFailed, match="one ends no pod by itself: give --provider one if you will end it"):
        await scene.pods.create(SPEC, REQUEST)
    await scene.pods.create(SPEC, REQUEST, accept_no_kill_time=True)
    assert seen == [True, False]


@pytest.mark.parametrize("told", [Memory(), None], ids=["told", "nobody to tell"])
async def test_a_market_that_cannot_be_asked_is_passed_over_and_said(told: Memory | None) -> None:
    """While another answers."""
    scene = Scene()
    pods = ManualPods({"one": scene.one, "two": scene.two}, clock=scene.clock, settle=30, events=told)
    scene.two.add("offers", ServerError("down"))
    assert (await pods.create(SPEC, REQUEST)).provider == "one"
    if told is not None:
        (event,) = told.events
        assert (event.name, event.fields) == ("provider_passed_over", {"provider": "two", "error": "down"})


@pytest.mark.parametrize("ask", ["create", "rungs"])
async def test_where_nothing_fits_it_is_said_who_could_not_be_asked(ask: str) -> None:
    """That market may have had it: in a create, and where only what there is was asked for."""
    clock, told = FakeClock(), Memory()
    one, two = FakeProvider(clock, name="one"), FakeProvider(clock, name="two")
    two.add("offers", about("network-volume", ServerError("down")))
    pods = ManualPods({"one": one, "two": two}, clock=clock, settle=30, events=told)
    with pytest.raises(AllOffersFailed, match=r"right now \(two could not be asked: down\): name more"):
        await (pods.create(SPEC, REQUEST) if ask == "create" else pods.rungs(REQUEST))
    assert [event.fields["about"] for event in told.events] == ["network-volume"]


@pytest.mark.parametrize(
    ("name", "found"), [("rpm-0123abcd-htcpl-abcd", True), ("mine", False)], ids=["drawn for it", "chosen by its user"]
)
async def test_where_no_tags_come_back_a_name_that_was_drawn_finds_the_pod(name: str, *, found: bool) -> None:
    """One that a user chose may be that of an older pod."""
    scene = Scene()
    await scene.pods.create(tagged("of-another-name"), REQUEST)
    plain = scene.one.list

    async def without_tags(owner8: str | None) -> list[Pod]:
        return [replace(one, tags=None) for one in await plain(owner8)]

    scene.one.list = without_tags  # type: ignore[method-assign]
    scene.one.add("created", CreateOutcomeUnknown("no answer"))
    if found:
        assert (await scene.pods.create(tagged(name), REQUEST)).name == name
        return
    with pytest.raises(CreateOutcomeUnknown, match="pods list"):
        await scene.pods.create(tagged(name), REQUEST)


def tagged(name: str = "mine", nonce: str | None = "n") -> PodSpec:
    """As the command line asks for it."""
    return PodSpec(name=name, image="image", tags=PodTags(owner="0123abcd", cls=PodClass.MANUAL, nonce=nonce))


@pytest.mark.parametrize("trouble", [None, ServerError("down")], ids=["at once", "after a failed look"])
async def test_a_cancelled_create_gives_its_pod_back(trouble: ServerError | None) -> None:
    """Although its answer never came; a pod of the same name that somebody else made stays."""
    scene = Scene()
    hurried: list[bool] = []
    pods = ManualPods({"one": scene.one}, clock=scene.clock, settle=30, hurry=lambda: hurried.append(True))
    older = await pods.create(tagged(nonce="another"), REQUEST)
    plain = scene.one.create
    with anyio.CancelScope() as scope:

        async def slow(spec: PodSpec, wanted: Offer) -> Pod:
            made = await plain(spec, wanted)
            scene.one.stubborn = 1
            scope.cancel()
            await anyio.sleep_forever()
            return made

        scene.one.create = slow  # type: ignore[method-assign, assignment]
        scene.one.add("list", trouble)
        await pods.create(tagged(), REQUEST)
    assert scope.cancelled_caught
    assert list(scene.one.pods) == [older.id]
    assert hurried == [True]


async def test_a_cancelled_create_ends_nothing_that_it_cannot_tell_for_its_own() -> None:
    """A pod without a nonce may be an older one of the same name."""
    scene = Scene()
    with anyio.CancelScope() as scope:

        async def slow(_spec: PodSpec, _wanted: Offer) -> Pod:
            scope.cancel()
            await anyio.sleep_forever()
            raise AssertionError

        scene.one.create = slow  # type: ignore[method-assign, assignment]
        await scene.pods.create(SPEC, REQUEST)
    assert "terminate" not in scene.one.calls


async def test_an_older_pod_of_the_same_name_is_not_the_one_that_was_asked_for() -> None:
    """The nonce tells them apart, and a look that fails hides nothing: the outcome stays unknown."""
    scene = Scene()
    older = replace(SPEC, tags=PodTags(owner="0123abcd", cls=PodClass.MANUAL, nonce="older"))
    newer = replace(SPEC, tags=PodTags(owner="0123abcd", cls=PodClass.MANUAL, nonce="newer"))
    first = await scene.pods.create(older, REQUEST)
    scene.one.add("create", CreateOutcomeUnknown("no answer"))
    scene.one.add("list", ServerError("down"))
    with pytest.raises(CreateOutcomeUnknown, match="pods list"):
        await scene.pods.create(newer, REQUEST)
    scene.one.add("created", CreateOutcomeUnknown("no answer"))
    assert (await scene.pods.create(newer, REQUEST)).id != first.id


async def test_stop_and_resume_where_the_provider_can() -> None:
    """Elsewhere the error says what to do instead."""
    scene = Scene()
    made = await scene.pods.create(SPEC, REQUEST)
    assert (await scene.pods.stop(made.id)).state is PodState.STOPPED
    assert (await scene.pods.resume(made.id, bid_per_gpu=Decimal("0.1"))).state is PodState.RUNNING
    fixed = await scene.two.create(SPEC, offer())
    scene.one.pods.clear()
    with pytest.raises(InvalidRequest, match="pods terminate"):
        await scene.pods.stop(fixed.id)
    with pytest.raises(NotFound):
        await scene.pods.stop(NOBODY)


async def test_a_resume_whose_answer_is_lost_is_looked_at() -> None:
    """A pod that runs was resumed; one that does not was not."""
    scene = Scene()
    made = await scene.pods.create(SPEC, REQUEST)
    await scene.pods.stop(made.id)
    scene.one.add("resumed", Timeout("no answer"))
    assert (await scene.pods.resume(made.id)).state is PodState.RUNNING
    await scene.pods.stop(made.id)
    scene.one.add("resume", ServerError("down"))
    with pytest.raises(ServerError, match="down"):
        await scene.pods.resume(made.id)


async def test_terminate_looks_until_it_is_gone() -> None:
    """What is gone already is no error."""
    scene = Scene()
    made = await scene.pods.create(SPEC, REQUEST)
    scene.one.stubborn = 2
    assert await scene.pods.terminate(made.id) == made
    assert scene.one.calls.count("terminate") == 3
    assert await scene.pods.terminate(made.id) is None


async def test_a_pod_that_ends_between_two_looks_is_ended() -> None:
    """By whomever."""
    scene = Scene()
    made = await scene.pods.create(SPEC, REQUEST)
    plain = scene.one.get
    looks = []

    async def once(pod_id: PodId) -> object:
        looks.append(pod_id)
        return await plain(pod_id) if len(looks) == 1 else None

    scene.one.get = once  # type: ignore[method-assign,assignment]
    assert await scene.pods.terminate(made.id) == made
    assert "terminate" not in scene.one.calls


async def test_a_pod_that_will_not_end_is_reported() -> None:
    """After a minute, by id."""
    scene = Scene()
    made = await scene.pods.create(SPEC, REQUEST)
    scene.one.stubborn = 1000
    with pytest.raises(LeftBehind, match="pod p1 at one"):
        await scene.pods.terminate(made.id)
    assert scene.clock.monotonic() > 60


async def test_an_end_that_cannot_be_set_stops_nobody_though_nobody_is_told() -> None:
    """The pod is there, and whoever made it looks after it."""

    class Refusing(FakeProvider):
        async def end_at(self, pod_id: PodId, at: datetime) -> None:
            """Not now."""
            raise ServerError(f"{pod_id} cannot be given its end at {at}")

    clock = FakeClock()
    provider = Refusing(clock, offer("A", provider="one"), name="one")
    pods = ManualPods({"one": provider}, clock=clock, settle=30)
    made = await pods.create(SPEC, REQUEST)
    await pods.end_at(made, clock.now() + timedelta(hours=1))
    assert await pods.list() == [made]
