"""What a start writes down of offers and pods, and that it goes on when nothing can be written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from support.fakes import NAME, OWNER8, REQUEST, FakeHistory, FakeProvider, FakeRegistry, Memory, offer, pod, tags

from runner_provisioner.domain.budget import Budget, Terms
from runner_provisioner.domain.history import BadMachine, Ending, Experience, OfferKind
from runner_provisioner.domain.history import Memory as Remembered
from runner_provisioner.domain.leases import Lease, Limits, Observation, Outcome, Phase, PodRef, Unknown
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.offers import Interruptible, Offer
from runner_provisioner.domain.pods import PodId, PodSpec
from runner_provisioner.domain.runners import Registration, RunnerDownload
from runner_provisioner.errors import (
    BootTimeout,
    BudgetExceeded,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    RunnerProvisionerError,
    ServerError,
    StoreError,
)
from runner_provisioner.services.chronicle import Chronicle
from runner_provisioner.services.provision import Order, Start, Started
from runner_provisioner.services.reconcile import Polls
from runner_provisioner.testing.clock import FakeClock

LIMITS = Limits(settle=timedelta(seconds=3), boot=timedelta(seconds=30), lifetime=timedelta(hours=1))
TERMS = Terms(lifetime=timedelta(hours=1), least=timedelta(minutes=5), max_price=Decimal(1))


class Scene:
    """One start with a history."""

    def __init__(self, *offers: Offer, online_after: int | None = 2) -> None:
        self.clock = FakeClock()
        self.provider = FakeProvider(self.clock, *(offers or (offer("A"), offer("B", price="0.6"))))
        self.registry = FakeRegistry(self.clock, online_after=online_after)
        self.history = FakeHistory()
        self.memory = Memory()
        self.terms: Terms | None = TERMS
        self.budget = Budget()
        self.request = replace(REQUEST, models=("A", "B"))
        self.lifetimes: list[timedelta] = []

    def draw_up(
        self, _offer: Offer, lifetime: timedelta, _registration: Registration | None, _download: RunnerDownload
    ) -> PodSpec:
        """A pod that ends when the terms say."""
        self.lifetimes.append(lifetime)
        expires = self.clock.now() + lifetime
        return PodSpec(name=NAME, image="image", tags=tags(nonce="n", creator="c", expires_at=expires))

    async def run(self) -> Started:
        """Start."""
        start = Start(
            providers={"fake": self.provider},
            registry=self.registry,
            clock=self.clock,
            store=self.memory,
            events=self.memory,
            limits=LIMITS,
            polls=Polls(booting=1.0, running=1.0, patience=20.0),
            hurry=lambda: None,
            history=self.history,
        )
        deadline = self.clock.now() + timedelta(minutes=5)
        lease = Lease(name=NAME, phase=Phase.REQUESTED, nonce="n", creator="c", cap=Decimal(1), deadline=deadline)
        return await start.run(
            Order(
                owner8=OWNER8,
                key="default",
                label="rp-label",
                request=self.request,
                lease=lease,
                draw_up=self.draw_up,
                terms=self.terms,
                budget=self.budget,
            )
        )


async def test_a_start_writes_down_what_it_rented_and_when_it_was_online() -> None:
    """Its price, its end, and whose it is."""
    scene = Scene()
    begin = scene.clock.now()
    started = await scene.run()
    (record,) = scene.history.records.values()
    assert (record.id, record.name, record.price, record.list_price) == (
        started.pod.id,
        NAME,
        Decimal("0.5"),
        Decimal("0.5"),
    )
    assert record.kind == OfferKind.of(offer("A"))
    assert (record.requested_at, record.expires_at) == (begin, record.created_at + timedelta(hours=1))
    assert record.repository == "o/r"
    assert record.online_at is not None
    assert record.ended_at is None


async def test_the_list_price_of_an_interruptible_pod_is_no_bid() -> None:
    """It is what the same machine costs on-demand at that moment."""
    scene = Scene(offer("A", spot=True, price="0.2"), offer("A", price="0.5"))
    await scene.run()
    (record,) = scene.history.records.values()
    assert (record.kind.interruptible, record.price, record.list_price) == (True, Decimal("0.22"), Decimal("0.5"))


async def test_refusals_for_want_of_stock_are_remembered_and_others_are_not() -> None:
    """A refused credential says nothing of an offer."""
    scene = Scene()
    scene.provider.add("create", CapacityUnavailable("none"))
    await scene.run()
    assert [(one.kind, one.reason) for one in scene.history.refusals] == [
        (OfferKind.of(offer("A")), "CapacityUnavailable")
    ]


async def test_a_pod_that_was_given_back_has_failed() -> None:
    """Its end is written once it is confirmed, before the next offer is tried."""
    scene = Scene(offer("A"), offer("B", price="0.6"), online_after=None)
    with pytest.raises(BootTimeout):
        await scene.run()
    endings = [(one.ending, one.ended_at is not None) for one in scene.history.records.values()]
    assert endings == [(Ending.FAILED, True)] * len(endings)
    assert endings


async def test_a_pod_of_an_unanswered_create_is_written_down_when_it_turns_up() -> None:
    """It costs money like any other."""
    scene = Scene()
    scene.provider.add("created", CreateOutcomeUnknown("no answer"))
    await scene.run()
    (record,) = scene.history.records.values()
    assert record.kind == OfferKind.of(offer("A"))


@pytest.mark.parametrize("verb", ["memory", "rented", "online", "refused"])
async def test_a_history_that_fails_is_told_once_and_stops_nothing(verb: str) -> None:
    """Whichever call it is."""
    scene = Scene()
    scene.provider.add("create", CapacityUnavailable("none"))
    scene.history.add("refused", StoreError("disk full"))
    scene.history.add(verb, *[StoreError("disk full")] * 9)
    started = await scene.run()
    assert started.pod.id == "p1"
    (told,) = scene.memory.told("history_failed")
    assert told.fields["error"] == "disk full"


async def test_what_is_remembered_ranks_the_offers() -> None:
    """An interruptible offer that never lasts comes after on-demand."""
    spot = offer("A", price="0.4", spot=True)
    scene = Scene(spot, offer("A"))
    seen = Experience(interruptions=40, hours=40.0, rentals=40)
    scene.history.remembered = Remembered(experience={OfferKind.of(spot): seen})
    started = await scene.run()
    assert started.offer is not None
    assert not started.offer.interruptible


async def test_an_adopted_pod_without_a_price_is_not_written_down() -> None:
    """Nobody knows what it costs; and without a history there is nothing to write."""
    clock, events = FakeClock(), Memory()
    lease = Lease(name=NAME, phase=Phase.BOOTING, pod=PodRef("fake", PodId("p1")))
    seen = Observation(pods=(pod(),), runner=None)
    chronicle = Chronicle(FakeHistory(), clock=clock, events=events)
    assert chronicle.unwritten(lease, seen) == pod()
    assert chronicle.unwritten(lease, replace(seen, pods=Unknown(reason="down"))) is None
    assert chronicle.unwritten(replace(lease, pod=None), seen) is None
    nobody = Chronicle(None, clock=clock, events=events)
    assert nobody.unwritten(lease, seen) is None
    await nobody.refused(offer(), CapacityUnavailable("none"))
    await nobody.bad(BadMachine(provider="fake", machine="m1", at=clock.now(), reason="slow"))
    assert not events.events


async def test_a_pod_of_no_offer_is_written_down_as_the_provider_describes_it() -> None:
    """One without a price is not."""
    history = FakeHistory()
    chronicle = Chronicle(history, clock=FakeClock(), events=Memory())
    await chronicle.rented(pod(price=None, pod_id="p0"), None, lifetime=timedelta(hours=1))
    await chronicle.rented(pod(gpu_model="A", interruptible=True), None, lifetime=timedelta(hours=2))
    await chronicle.rented(pod(gpu_model="A"), None, lifetime=timedelta(hours=9))
    (record,) = history.records.values()
    assert (record.kind.gpu_model, record.kind.interruptible) == ("A", True)
    assert record.expires_at - record.created_at == timedelta(hours=2)


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        (Outcome.COMPLETED, Ending.ITSELF),
        (Outcome.CANCELLED, Ending.ASKED),
        (Outcome.INTERRUPTED, Ending.INTERRUPTED),
        (Outcome.BOOT_TIMEOUT, Ending.FAILED),
        (None, Ending.FAILED),
    ],
    ids=str,
)
async def test_an_end_is_written_with_its_reason(outcome: Outcome | None, ending: Ending) -> None:
    """Only of pods that were to end: a single look that misses a pod says nothing."""
    history = FakeHistory()
    chronicle = Chronicle(history, clock=FakeClock(), events=Memory())
    await chronicle.rented(pod(), None, lifetime=timedelta(hours=1))
    serving = Lease(name=NAME, phase=Phase.BOOTING, pod=PodRef("fake", PodId("p1")))
    gone = Observation(pods=(), runner=None, gone=frozenset({PodRef("fake", PodId("p1"))}))
    await chronicle.follow(serving, serving, gone)
    assert next(iter(history.records.values())).ended_at is None
    draining = replace(serving, phase=Phase.DRAINING, outcome=outcome)
    await chronicle.follow(draining, draining, gone)
    await chronicle.follow(draining, draining, gone)
    assert next(iter(history.records.values())).ending is ending
    assert history.calls.count("ended") == 1


# -- what it may cost


async def test_bids_are_raised_on_no_stock_and_each_step_is_told() -> None:
    """Up to the cap, and not beyond."""
    scene = Scene(offer("A", price="0.5", spot=True))
    scene.request = replace(scene.request, interruptible=Interruptible.REQUIRE, models=("A",))
    scene.provider.add("create", *[CapacityUnavailable("none")] * 3)
    started = await scene.run()
    assert started.pod.price == Decimal(1)
    told = [(one.fields["step"], one.fields["bid"]) for one in scene.memory.told("bid_raised")]
    assert [step for step, _bid in told] == [1, 2, 3]
    assert told[-1][1] == "1"
    assert len(started.refusals) == 3


async def test_a_pod_that_was_rented_and_given_back_is_not_bid_for_again_at_a_higher_price() -> None:
    """Its bid was high enough."""
    scene = Scene(offer("A", price="0.5", spot=True), online_after=None)
    scene.request = replace(scene.request, models=("A",))
    with pytest.raises(BootTimeout):
        await scene.run()
    assert scene.provider.calls.count("create") == 1


async def test_the_max_cost_shortens_the_lifetime_of_each_offer_by_its_price() -> None:
    """The dearer one gets less."""
    scene = Scene(offer("A", price="0.5"), offer("B", price="0.9"))
    scene.terms = replace(TERMS, max_cost=Decimal("0.25"))
    scene.provider.add("create", CapacityUnavailable("none"))
    await scene.run()
    half = timedelta(minutes=30)  # drawn up once before anything is asked, too
    assert scene.lifetimes == [half, half, timedelta(minutes=16, seconds=40)]


async def test_pods_of_the_same_start_that_never_served_leave_less_for_the_next() -> None:
    """By the seconds that they were there; where that is too little, nothing is rented."""
    scene = Scene(offer("A", price="0.5"), offer("B", price="0.6"), online_after=None)
    scene.terms = replace(TERMS, max_cost=Decimal("0.25"))
    with pytest.raises(BootTimeout):
        await scene.run()
    first, second = scene.lifetimes[1:]
    assert first == timedelta(minutes=30)
    assert timedelta(seconds=1465) < second <= timedelta(seconds=1475)  # 25 min without 30 s of the first
    scene = Scene(offer("A", price="0.5"), offer("B", price="0.6"), online_after=None)
    scene.terms = replace(TERMS, max_cost=Decimal("0.0502"))
    with pytest.raises(RunnerProvisionerError):
        await scene.run()
    assert scene.provider.calls.count("create") == 1
    assert "raise --max-cost" in str(scene.memory.told("offer_refused")[-1].fields["error"])


async def test_earlier_attempts_leave_less_of_the_max_cost() -> None:
    """As far as the history tells; what cannot be read is told and counts as nothing."""
    scene = Scene(offer("A", price="0.5"))
    scene.terms = replace(TERMS, max_cost=Decimal("0.25"))
    key = RunKey.parse(NAME)
    assert key is not None
    before = replace(key, attempt=key.attempt + 1).name
    lost = PodRef("fake", PodId("lost"))
    await Chronicle(scene.history, clock=scene.clock, events=scene.memory).rented(
        replace(pod(pod_id="lost", price=Decimal("0.5")), name=before, tags=None), None, lifetime=timedelta(hours=1)
    )
    await scene.history.ended(lost, scene.clock.now() + timedelta(minutes=12), Ending.INTERRUPTED)
    await scene.run()
    assert scene.lifetimes[1:] == [timedelta(minutes=18)]
    scene = Scene(offer("A", price="0.5"))
    scene.terms = replace(TERMS, max_cost=Decimal("0.25"))
    scene.history.add("pods", StoreError("damaged"))
    await scene.run()
    assert scene.lifetimes[1:] == [timedelta(minutes=30)]
    assert scene.memory.told("history_failed")


async def test_a_pod_dearer_than_its_offer_is_given_back_when_it_could_exceed_the_max_cost() -> None:
    """Although it is below the max price; the next offer follows."""
    scene = Scene(offer("A", price="0.5"), offer("B", price="0.9"))
    scene.terms = replace(TERMS, max_cost=Decimal("0.25"))
    plain = scene.provider.get

    async def dearer(pod_id: PodId) -> object:
        found = await plain(pod_id)
        return found and replace(found, price=Decimal("0.95"))

    scene.provider.get = dearer  # type: ignore[method-assign,assignment]
    with pytest.raises(BudgetExceeded, match="--max-cost"):
        await scene.run()
    assert scene.provider.calls.count("create") == 2
    assert not scene.provider.pods


async def test_an_offer_that_the_budget_does_not_bear_to_its_end_is_not_tried() -> None:
    """A cheaper one is."""
    scene = Scene(offer("A", price="0.5"), offer("B", price="0.9"))
    scene.budget = Budget(day=Decimal("0.6"))
    started = await scene.run()
    assert started.pod.price == Decimal("0.5")
    assert [what for what, _why in started.refusals] == [str(offer("B", price="0.9"))]
    assert scene.provider.calls.count("create") == 1


async def test_a_budget_that_bears_no_offer_refuses_before_any_create() -> None:
    """One line: the figure and the remedy."""
    scene = Scene()
    scene.budget = Budget(month=Decimal("0.3"))
    with pytest.raises(BudgetExceeded, match=r"0\.30 USD left of the month's budget of 0\.3 .*raise --budget-month"):
        await scene.run()
    assert scene.provider.calls.count("create") == 0


async def test_a_start_that_another_one_outran_gives_its_pod_back() -> None:
    """Both had seen enough money; the younger pod goes before anybody learns of its runner."""
    scene = Scene()
    scene.budget = Budget(day=Decimal(1))
    plain = scene.provider.create
    end = scene.clock.now() + timedelta(hours=1)

    async def beside(spec: PodSpec, wanted: Offer) -> object:
        other = pod(f"rp-{OWNER8}-yy-1-default", pod_id="a", price=Decimal("0.8"), tags=tags(expires_at=end))
        scene.provider.pods[other.id] = other
        return await plain(spec, wanted)

    scene.provider.create = beside  # type: ignore[method-assign,assignment]
    with pytest.raises(BudgetExceeded, match="another start"):
        await scene.run()
    assert list(scene.provider.pods) == ["a"]
    (mine,) = scene.history.records.values()
    assert mine.ending is Ending.FAILED


async def test_a_second_look_at_the_budget_that_fails_is_told() -> None:
    """The first one was good."""
    scene = Scene()
    scene.budget = Budget(day=Decimal(5))
    plain = scene.history.pods

    async def fails(since: object) -> object:
        if scene.provider.pods:
            raise ServerError("down")
        return await plain(since)  # type: ignore[arg-type] # passed on

    scene.history.pods = fails  # type: ignore[method-assign,assignment]
    await scene.run()
    assert scene.memory.told("budget_unknown")
