"""Start: from offers to one runner that is online, or to nothing left."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import anyio
import pytest
from support.fakes import NAME, OWNER8, REQUEST, FakeProvider, FakeRegistry, Memory, offer, tags

from runner_provisioner.domain.leases import Lease, Limits, Outcome, Phase, PodRef
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import PodId, PodSpec, PodState
from runner_provisioner.domain.runners import Registration, RunnerDownload, RunnerState
from runner_provisioner.errors import (
    AuthenticationFailed,
    BootTimeout,
    BudgetExceeded,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InvalidRequest,
    KeyInUse,
    LeftBehind,
    ProvisioningFailed,
    RateLimited,
    RunnerBusy,
    RunnerProvisionerError,
    ServerError,
    SpotDiscontinued,
    Stopped,
    StoreError,
    Timeout,
    UnknownGpu,
    Unreachable,
)
from runner_provisioner.services.act import Hands
from runner_provisioner.services.offers import survey
from runner_provisioner.services.provision import Order, Start, Started
from runner_provisioner.services.reconcile import Polls
from runner_provisioner.testing.clock import FakeClock

LIMITS = Limits(settle=timedelta(seconds=3), boot=timedelta(seconds=30), lifetime=timedelta(hours=1))


class Scene:
    """One start and everything around it."""

    def __init__(self, *offers: Offer, online_after: int | None = 2) -> None:
        self.clock = FakeClock()
        self.provider = FakeProvider(self.clock, *(offers or (offer("A"), offer("B", price="0.6"))))
        self.others: list[FakeProvider] = []
        self.registry = FakeRegistry(self.clock, online_after=online_after)
        self.memory = Memory()
        self.hurried = 0
        self.lease = Lease(name=NAME, phase=Phase.REQUESTED, nonce="n", creator="c", cap=Decimal(1))

    def hurry(self) -> None:
        """Count the calls."""
        self.hurried += 1

    @property
    def start(self) -> Start:
        """The use case."""
        return Start(
            providers={one.name: one for one in (self.provider, *self.others)},
            registry=self.registry,
            clock=self.clock,
            store=self.memory,
            events=self.memory,
            limits=LIMITS,
            polls=Polls(booting=1.0, running=1.0, patience=20.0),
            hurry=self.hurry,
        )

    async def run(self) -> Started:
        """Start."""
        request = replace(REQUEST, models=("A", "B"))
        lease = replace(self.lease, deadline=self.lease.deadline or self.clock.now() + timedelta(minutes=5))
        return await self.start.run(
            Order(owner8=OWNER8, key="default", label="rp-label", request=request, lease=lease, draw_up=_draw_up)
        )


def _draw_up(
    _offer: Offer, _lifetime: timedelta, _registration: Registration | None, _download: RunnerDownload
) -> PodSpec:
    return PodSpec(name=NAME, image="image", tags=tags(nonce="n", creator="c"))


async def test_the_first_offer_is_rented_and_kept() -> None:
    """The intent is stored before the create, and success waits until `settle` is over."""
    scene = Scene()
    started = await scene.run()
    assert (started.name, started.label, started.pod.id) == (NAME, "rp-label", "p1")
    assert started.offer == offer("A")
    assert scene.clock.monotonic() >= 3
    intent = next(index for index, lease in enumerate(scene.memory.leases) if lease.phase is Phase.PLACING)
    assert scene.memory.leases[intent].unsure
    assert scene.memory.leases[intent].pod is None


@pytest.mark.parametrize(
    ("error", "models"),
    [
        (RateLimited("slow", retry_after=120), ["A", "A"]),
        (Unreachable("refused"), ["A", "A"]),
        (SpotDiscontinued("gone"), ["A", "B"]),
        (InvalidRequest("impossible"), ["A"]),
        (AuthenticationFailed("no"), ["A"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_what_a_refusal_means_for_the_next_offer(error: RunnerProvisionerError, models: list[str]) -> None:
    """What never arrived is tried again; what holds for the provider passes over all of its offers."""
    scene = Scene()
    scene.provider.add("create", error)
    if len(models) == 1:
        with pytest.raises(type(error)):
            await scene.run()
    else:
        await scene.run()
    tried = [event.fields["gpu"] for event in scene.memory.told("offer_tried")]
    assert tried == models
    assert len(scene.provider.pods) == len(models) - 1


async def test_another_providers_offer_survives_a_refused_credential() -> None:
    """Only the offers of the provider that said no are passed over."""
    scene = Scene()
    other = FakeProvider(scene.clock, offer("A", price="0.9", provider="other"), name="other")
    scene.others.append(other)
    scene.provider.add("create", AuthenticationFailed("no"))
    started = await scene.run()
    assert started.pod.provider == "other"


async def test_spot_that_is_discontinued_leaves_on_demand() -> None:
    """The other interruptible offers of that provider are not even asked for, and that is said of each."""
    scene = Scene(offer("A", spot=True, price="0.2"), offer("B", spot=True, price="0.2"), offer("A"))
    scene.provider.add("create", SpotDiscontinued("gone"))
    started = await scene.run()
    assert not started.offer or not started.offer.interruptible
    assert scene.provider.calls.count("create") == 2
    (first, why), *others = started.refusals
    assert (why, "interruptible" in first) == ("gone", True)
    assert others
    assert {text for _, text in others} == {"this holds for it too: gone"}
    assert all("interruptible" in one for one, _ in others)
    told = scene.memory.told("offer_skipped")
    assert [event.fields["offer"] for event in told] == [one for one, _ in others]


async def test_a_refusal_holds_for_a_later_offer_of_the_provider_too() -> None:
    """Also where another provider's offer lies between and had another reason."""
    scene = Scene(offer("A"), offer("B", price="0.9"))
    other = FakeProvider(scene.clock, offer("A", price="0.7", provider="other"), name="other")
    scene.others.append(other)
    scene.provider.add("create", AuthenticationFailed("no"))
    other.add("create", CapacityUnavailable("none"))
    with pytest.raises(AuthenticationFailed):
        await scene.run()
    assert (scene.provider.calls.count("create"), other.calls.count("create")) == (1, 1)
    assert [str(event.fields["error"]) for event in scene.memory.told("offer_skipped")] == ["this holds for it too: no"]


async def test_a_create_of_unknown_outcome_is_looked_up() -> None:
    """The pod that it made after all is adopted."""
    scene = Scene()
    scene.provider.add("created", CreateOutcomeUnknown("no answer"))
    started = await scene.run()
    assert started.pod.id == "p1"
    assert scene.provider.calls.count("create") == 1
    assert scene.memory.told("create_unanswered")[0].fields["known"] is True


async def test_an_end_that_fails_is_left_to_the_next_pass() -> None:
    """And so is the removal of a runner."""
    scene = Scene(offer("A"), online_after=None)
    scene.registry.put(NAME, RunnerState.OFFLINE)
    scene.registry.runners = {key: replace(one, online=False) for key, one in scene.registry.runners.items()}
    scene.registry.add("remove", ServerError("later"), RunnerBusy("busy"))
    scene.provider.add("terminate", ServerError("later"))
    with pytest.raises(ProvisioningFailed):
        await scene.run()
    assert not scene.provider.pods
    assert not scene.registry.runners
    assert len(scene.memory.told("runner_removal_failed")) == 1
    assert len(scene.memory.told("pod_end_failed")) == 1


async def test_a_start_that_nobody_could_look_at_names_the_service() -> None:
    """Early as an event, and in the error that ends it."""
    scene = Scene(online_after=None)
    scene.registry.add("find", None, *[ServerError("out of order", service="github")] * 26)
    scene.lease = replace(scene.lease, deadline=scene.clock.now() + timedelta(seconds=20))
    with pytest.raises(BootTimeout, match=r"last trouble: github: out of order"):
        await scene.run()
    first = scene.memory.told("look_failed")[0]
    assert (first.fields["service"], first.fields["patience_seconds"]) == ("github", None)


async def test_a_look_that_fails_changes_nothing() -> None:
    """Neither the list, nor a read by id, nor the runner: unknown is not gone."""
    scene = Scene()
    scene.provider.add("list", None, None, ServerError("later"), None, ServerError("later"))
    scene.provider.add("get", None, ServerError("later"))
    scene.registry.add("find", None, ServerError("later"))
    started = await scene.run()
    assert started.pod.id == "p1"
    assert scene.provider.calls.count("create") == 1


async def test_a_runner_is_looked_for_more_often_than_its_pod() -> None:
    """Between two looks at the pods of a machine that runs, only GitHub is asked."""
    scene = Scene(online_after=6)
    limits = replace(LIMITS, settle=timedelta(seconds=2))
    start = scene.start
    start._limits, start._polls = limits, Polls(booting=10.0, running=1.0)
    request = replace(REQUEST, models=("A", "B"))
    lease = replace(scene.lease, deadline=scene.clock.now() + timedelta(minutes=5))
    await start.run(Order(owner8=OWNER8, key="default", label="l", request=request, lease=lease, draw_up=_draw_up))
    assert scene.registry.calls.count("find") > scene.provider.calls.count("list")


async def test_pods_that_never_serve_are_counted_and_their_reason_is_the_error() -> None:
    """Also when offers follow that are not asked for, since an earlier refusal holds for them too."""
    spot = replace(offer("A", spot=True, price="0.1"), raises=1)
    scene = Scene(offer("A", spot=True, price="0.1"), offer("A"), offer("B", price="0.6"), spot, online_after=None)
    scene.provider.add("create", SpotDiscontinued("gone"))
    with pytest.raises(BootTimeout, match=r"no runner came online in time: .*--boot-timeout; 2 pods rented and given"):
        await scene.run()
    assert scene.provider.calls.count("create") == 3
    assert not scene.memory.told("bid_raised")


async def test_a_pod_above_the_cap_is_given_back() -> None:
    """What it costs is what the provider says, not what was asked."""
    scene = Scene(offer("A"))
    scene.lease = replace(scene.lease, cap=Decimal("0.1"))
    with pytest.raises(BudgetExceeded, match="raise --max-price"):
        await scene.run()
    assert not scene.provider.pods


async def test_a_start_past_its_deadline_gives_everything_back() -> None:
    """And names the last trouble."""
    scene = Scene(offer("A"), online_after=None)
    scene.registry.add("find", None, *[RateLimited("slow")] * 12)
    scene.lease = replace(scene.lease, deadline=scene.clock.now() + timedelta(seconds=10))
    with pytest.raises(BootTimeout, match="slow"):
        await scene.run()


async def test_a_start_that_never_rented_ends_as_what_kept_it_from_renting() -> None:
    """A service that holds every call back is no machine that would not boot."""
    scene = Scene(offer("A"), online_after=None)
    scene.provider.add("create", *[RateLimited(f"slow {number}") for number in range(100)])
    scene.lease = replace(scene.lease, deadline=scene.clock.now() + timedelta(seconds=10))
    with pytest.raises(RateLimited, match="nothing was rented in time: slow"):
        await scene.run()


async def test_services_that_do_not_answer_are_not_waited_for_beyond_the_start_timeout() -> None:
    """Nothing was rented by then, and that is said."""
    scene = Scene(offer("A"))
    scene.lease = replace(scene.lease, deadline=scene.clock.now() + timedelta(seconds=0.01))
    scene.registry.check = anyio.sleep_forever  # type: ignore[method-assign]  # a service that hangs
    with pytest.raises(Timeout, match="this start has rented nothing"):
        await scene.run()
    assert not scene.provider.calls


async def test_a_job_that_ends_before_the_start_does_is_no_success() -> None:
    """The runner worked and is gone, and so is its pod."""
    scene = Scene(offer("A"), online_after=None)
    find = scene.registry.find

    async def busy_once(name: str) -> object:
        found = await find(name)
        looks = scene.registry.calls.count("find")
        if looks == 3:
            return scene.registry.put(name, RunnerState.BUSY)
        if looks == 4:
            scene.registry.runners.clear()
            scene.provider.pods.clear()
        return found

    scene.registry.find = busy_once  # type: ignore[method-assign,assignment]
    with pytest.raises(ProvisioningFailed, match="over before the start"):
        await scene.run()


async def test_an_unexpected_error_gives_the_pod_back() -> None:
    """A state file that cannot be written any more does not keep what is known from ending."""
    scene = Scene(online_after=None)
    scene.memory.add("save", *[None] * 4, *[StoreError("disk full")] * 50)
    with pytest.raises(StoreError, match="disk full"):
        await scene.run()
    assert scene.provider.calls.count("create") == 1
    assert not scene.provider.pods
    assert scene.memory.told("give_back_done")[0].fields["complete"] is True


async def test_a_start_that_is_stopped_gives_its_pod_back() -> None:
    """By a stop that shares its store; the end of its pod is no failed placement."""
    scene = Scene(online_after=None)
    scene.memory.add("save", *[None] * 4, *[Stopped("stopped")] * 50)
    with pytest.raises(Stopped, match="stopped"):
        await scene.run()
    assert scene.provider.calls.count("create") == 1
    assert not scene.provider.pods
    assert scene.memory.told("give_back_done")[0].fields["complete"] is True


async def test_pods_that_vanish_before_they_run_blame_no_machine() -> None:
    """Their host is gone, or somebody elsewhere has stopped the run: the next offer follows."""
    scene = Scene(online_after=None)

    async def sleep(seconds: float) -> None:
        await type(scene.clock).sleep(scene.clock, seconds)
        if seconds >= 1:
            scene.provider.pods.clear()

    scene.clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(ProvisioningFailed, match="the pod ended before its runner was online"):
        await scene.run()
    assert scene.provider.calls.count("create") == 2
    assert not scene.memory.told("machine_quarantined")


async def test_pods_that_end_after_they_ran_have_failed_the_gate() -> None:
    """Every offer is tried, and the last reason is what is said."""
    scene = Scene(online_after=None)

    async def sleep(seconds: float) -> None:
        await type(scene.clock).sleep(scene.clock, seconds)
        ran = [pod_id for pod_id, one in scene.provider.pods.items() if one.uptime_seconds is not None]
        for pod_id, one in list(scene.provider.pods.items()):
            scene.provider.pods[pod_id] = replace(one, uptime_seconds=1)
        if seconds >= 1:
            for pod_id in ran:
                del scene.provider.pods[pod_id]

    scene.clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(ProvisioningFailed, match="ended itself before its runner was registered") as caught:
        await scene.run()
    assert not isinstance(caught.value, Stopped)
    assert scene.provider.calls.count("create") >= 2


async def test_what_cannot_be_given_back_is_named() -> None:
    """The first error leaves; the event says what is left."""
    scene = Scene(online_after=None)
    scene.provider.stubborn = 1000
    scene.memory.add("save", *[None] * 4, *[StoreError("disk full")] * 500)
    with pytest.raises(StoreError, match="disk full"):
        await scene.run()
    assert "pod p1 at fake" in str(scene.memory.told("give_back_done")[0].fields["left"])
    assert scene.memory.told("give_back_failed")


async def test_a_cancelled_start_hurries_and_gives_back() -> None:
    """Before the cancellation goes on."""
    scene = Scene(online_after=None)
    plain = scene.provider.list

    async def cancelling(owner8: str | None) -> object:
        if scene.provider.pods:
            scope.cancel()
        return await plain(owner8)

    scene.provider.list = cancelling  # type: ignore[method-assign,assignment]
    with anyio.CancelScope() as scope:
        await scene.run()
    assert scope.cancelled_caught
    assert scene.hurried == 1
    assert not scene.provider.pods


async def test_an_unending_drain_is_left_behind() -> None:
    """A start that cannot end its pod does not wait for ever."""
    scene = Scene(offer("A"), online_after=None)
    scene.provider.stubborn = 10_000
    with pytest.raises(LeftBehind, match="pod p1 at fake"):
        await scene.run()


async def test_a_runner_that_comes_online_during_a_failed_look_is_waited_for() -> None:
    """Its pod is there: the next look shows it."""
    scene = Scene(online_after=9)
    scene.provider.add("list", *[None] * 9, *[ServerError("later")] * 3)
    started = await scene.run()
    assert started.pod.id == "p1"
    assert scene.provider.calls.count("list") > 12


async def test_a_look_that_took_long_does_not_settle_anything() -> None:
    """The runner that it shows may be younger than the pods that it shows."""
    scene = Scene()
    plain = scene.registry.find

    async def slow(name: str) -> object:
        if 4 <= scene.registry.calls.count("find") < 8:
            await scene.clock.sleep(40)
        return await plain(name)

    scene.registry.find = slow  # type: ignore[method-assign,assignment]
    started = await scene.run()
    assert started.pod.id == "p1"
    assert scene.registry.calls.count("find") > 8


async def test_another_start_of_the_key_wins() -> None:
    """Its pod is older and carries another nonce: nothing is ended."""
    scene = Scene()
    await scene.provider.create(PodSpec(name=NAME, image="image", tags=tags(nonce="theirs")), offer())
    with pytest.raises(KeyInUse, match="--key"):
        await scene.run()
    assert list(scene.provider.pods) == ["p1"]


async def test_offers_that_cannot_be_had_are_refusals_of_the_start() -> None:
    """The one above the cap is named beside the one that was rented."""
    scene = Scene(offer("A"), offer("B", price="5"))
    started = await scene.run()
    assert [what for what, _why in started.refusals] == [str(offer("B", price="5"))]


async def test_a_pod_that_may_exist_is_named_when_the_drain_gives_up() -> None:
    """The create was never answered and the market cannot be looked at."""
    scene = Scene(offer("A"), online_after=None)
    scene.provider.add("create", CreateOutcomeUnknown("no answer"))
    scene.provider.add("list", None, *[ServerError("down")] * 10_000)
    with pytest.raises(LeftBehind, match="perhaps a pod named rp-"):
        await scene.run()


async def test_an_adopted_pod_may_be_of_no_offer_of_today() -> None:
    """Its price is what counts then."""
    scene = Scene(online_after=1)
    made = await scene.provider.create(_draw_up(offer(), timedelta(), None, None), offer())  # type: ignore[arg-type]
    scene.provider._offers = ()
    scene.lease = replace(scene.lease, inherited=frozenset({PodRef("fake", made.id)}))
    started = await scene.run()
    assert started.offer is None
    assert started.pod.id == made.id


async def test_markets_that_cannot_be_asked_are_passed_over() -> None:
    """While another answers; else the first error is raised."""
    clock = FakeClock()
    good, bad = FakeProvider(clock, offer("A"), name="good"), FakeProvider(clock, name="bad")
    bad.add("offers", ServerError("down"), UnknownGpu("no such GPU"))
    found = (await survey({"good": good, "bad": bad}, REQUEST)).ladder
    assert len(found.rungs) == 1
    with pytest.raises(UnknownGpu):
        await survey({"bad": bad}, REQUEST)


def test_a_failed_placement_of_a_plan_that_is_over_is_no_refusal() -> None:
    """There is no offer that it could be of."""
    scene = Scene()
    hands = Hands(providers={}, registry=scene.registry, clock=scene.clock, events=scene.memory)
    hands.note_failed_placement(Lease(name=NAME, phase=Phase.DRAINING, outcome=Outcome.LOST), "it ended")
    assert hands.refusals == []


async def test_a_pod_that_fails_at_once_leads_to_the_next_offer() -> None:
    """Its container ended: the log at the provider says why."""
    scene = Scene(offer("A"), online_after=None)
    plain = scene.provider.get

    async def failed(pod_id: PodId) -> object:
        found = await plain(pod_id)
        return found and replace(found, state=PodState.FAILED)

    scene.provider.get = failed  # type: ignore[method-assign,assignment]
    with pytest.raises(ProvisioningFailed, match="container log"):
        await scene.run()
    assert not scene.provider.pods
