"""What a plan says, without anything being rented."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from support.fakes import NAME, OWNER8, REQUEST, FakeHistory, FakeProvider, FakeRegistry, Memory, offer, pod, tags

from runner_provisioner.domain.budget import Budget, Strictness, Terms
from runner_provisioner.domain.history import BadMachine, Ending
from runner_provisioner.domain.leases import Lease, Phase, PodRef
from runner_provisioner.domain.pods import PodId, PodState
from runner_provisioner.errors import (
    AllOffersFailed,
    AuthenticationFailed,
    BudgetExceeded,
    InsufficientFunds,
    KeyInUse,
    PermissionDenied,
    RunnerProvisionerError,
    UnknownGpu,
)
from runner_provisioner.services.chronicle import Chronicle
from runner_provisioner.services.foresee import Foreseen, Foresight
from runner_provisioner.testing.clock import FakeClock

TERMS = Terms(lifetime=timedelta(hours=2), least=timedelta(minutes=20), max_price=Decimal(1))
NO_BUDGET = Budget()
HOUR = timedelta(hours=1)


class BankingProvider(FakeProvider):
    """A FakeProvider with an account."""

    usd = Decimal(12)

    async def balance(self) -> Decimal:
        """Twelve dollars, unless said otherwise."""
        self.meet("balance")
        return self.usd


class Scene:
    """A plan and everything around it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.provider = BankingProvider(self.clock, offer("A"), offer("B", price="5"))
        self.registry = FakeRegistry(self.clock)
        self.memory = Memory()
        self.history = FakeHistory()

    async def run(
        self, budget: Budget = NO_BUDGET, *, lease: Lease | None = None, max_cost: Decimal | None = None
    ) -> Foreseen:
        """Foresee."""
        foresight = Foresight(
            providers={"fake": self.provider},
            registry=self.registry,
            clock=self.clock,
            events=self.memory,
            history=self.history,
        )
        return await foresight.run(REQUEST, replace(TERMS, max_cost=max_cost), budget, owner8=OWNER8, lease=lease)


async def test_a_plan_names_offers_refusals_permissions_and_the_expected_time() -> None:
    """And sends nothing but reads."""
    scene = Scene()
    found = await scene.run()
    (rung,) = found.rungs
    assert (rung.offer, rung.lifetime, rung.worst) == (offer("A"), timedelta(hours=2), Decimal(1))
    assert [one.offer for one in found.refusals] == [offer("B", price="5")]
    assert [(one.name, one.error, one.detail) for one in found.permissions] == [
        ("register runners at GitHub", None, ""),
        ("use the account at fake", None, "12 USD on it"),
    ]
    assert (found.ready, found.failure, found.left) == (timedelta(minutes=2), None, ())
    assert not {"create", "terminate"} & set(scene.provider.calls)
    assert not {"register", "remove"} & set(scene.registry.calls)


async def test_machines_that_are_kept_out_are_named() -> None:
    """Until when, and only while they are."""
    scene = Scene()
    now = scene.clock.now()
    for machine, age in (("m1", 0), ("m2", 3)):
        failure = BadMachine(provider="fake", machine=machine, at=now - timedelta(hours=age), reason="gate")
        scene.history.machines.append(failure)
    (out,) = (await scene.run()).kept_out
    assert (out.machine, out.until) == ("m1", now + timedelta(minutes=30))


async def test_what_is_left_of_a_budget_is_named_and_binds() -> None:
    """Unless it is advisory."""
    scene = Scene()
    found = await scene.run(Budget(day=Decimal("0.5")))
    assert [one.amount for one in found.left] == [Decimal("0.5")]
    assert not found.rungs
    assert isinstance(found.failure, BudgetExceeded)
    assert found.ready is None
    advisory = await scene.run(Budget(day=Decimal("0.5"), strictness=Strictness.ADVISORY))
    assert (len(advisory.rungs), advisory.failure) == (1, None)


async def test_every_failure_is_in_the_plan_and_the_first_is_what_start_would_end_with() -> None:
    """All else is still looked at."""
    scene = Scene()
    scene.registry.add("check", PermissionDenied("no administration"))
    scene.provider.add("balance", AuthenticationFailed("bad key"))
    found = await scene.run()
    assert isinstance(found.failure, PermissionDenied)
    assert [type(one.error) for one in found.permissions] == [PermissionDenied, AuthenticationFailed]
    assert found.rungs


async def test_a_pod_of_that_name_ends_a_plan_or_is_gone_on_with() -> None:
    """As another start's it makes the key taken, whatever else there is; an own one is kept without any offer."""
    scene = Scene()
    lease = Lease(name=NAME, phase=Phase.REQUESTED, nonce="mine")
    assert (await scene.run(lease=lease)).failure is None
    for nonce in ("theirs", "mine"):
        scene.provider._offers = ()
        scene.provider.pods = {
            PodId("p"): pod(pod_id="p", tags=tags(nonce=nonce)),
            PodId("q"): replace(pod(pod_id="q", tags=tags(nonce="theirs")), name=f"{NAME}-other"),
            PodId("r"): replace(pod(pod_id="r", tags=tags(nonce="theirs")), state=PodState.FAILED),
        }
        found = await scene.run(lease=lease)
        if nonce == "mine":
            assert (found.failure, found.kept) == (None, scene.provider.pods[PodId("p")])
        else:
            assert isinstance(found.failure, KeyInUse)
            assert "--key" in str(found.failure)


async def test_an_account_without_an_hour_of_the_first_offer_ends_a_plan() -> None:
    """As the create would be refused; all offers of that market are named with it."""
    scene = Scene()
    scene.provider.usd = Decimal("0.4")
    found = await scene.run()
    assert isinstance(found.failure, InsufficientFunds)
    assert (found.rungs, len(found.refusals)) == ((), 2)
    scene.provider.usd = Decimal("0.5")
    assert (await scene.run()).failure is None


async def test_what_earlier_attempts_have_cost_shortens_the_foreseen_lifetime() -> None:
    """As start would reckon."""
    scene = Scene()
    before = NAME.replace("-1-", "-2-")
    record = replace(pod(pod_id="lost", price=Decimal("0.5")), name=before, tags=None)
    await Chronicle(scene.history, clock=scene.clock, events=scene.memory).rented(record, None, lifetime=HOUR)
    await scene.history.ended(PodRef("fake", PodId("lost")), scene.clock.now() + HOUR / 2, Ending.INTERRUPTED)
    lease = Lease(name=NAME, phase=Phase.REQUESTED, nonce="mine")
    (rung,) = (await scene.run(lease=lease, max_cost=Decimal("0.75"))).rungs
    assert rung.lifetime == HOUR


async def test_a_market_without_the_model_ends_a_plan_like_a_start() -> None:
    """With its own error, or with the one over all offers."""
    for error, kind in ((UnknownGpu("no such GPU"), UnknownGpu), (None, AllOffersFailed)):
        scene = Scene()
        scene.provider.add("offers", error)
        scene.provider._offers = ()
        found = await scene.run()
        assert isinstance(found.failure, RunnerProvisionerError)
        assert type(found.failure) is kind
