"""What a plan says, without anything being rented."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from support.fakes import OWNER8, REQUEST, FakeHistory, FakeProvider, FakeRegistry, Memory, offer

from runner_provisioner.domain.budget import Budget, Strictness, Terms
from runner_provisioner.domain.history import BadMachine
from runner_provisioner.errors import (
    AllOffersFailed,
    AuthenticationFailed,
    BudgetExceeded,
    PermissionDenied,
    RunnerProvisionerError,
    UnknownGpu,
)
from runner_provisioner.services.foresee import Foreseen, Foresight
from runner_provisioner.testing.clock import FakeClock

TERMS = Terms(lifetime=timedelta(hours=2), least=timedelta(minutes=20), max_price=Decimal(1))
NO_BUDGET = Budget()


class BankingProvider(FakeProvider):
    """A FakeProvider with an account."""

    async def balance(self) -> Decimal:
        """Twelve dollars."""
        self.meet("balance")
        return Decimal(12)


class Scene:
    """A plan and everything around it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.provider = BankingProvider(self.clock, offer("A"), offer("B", price="5"))
        self.registry = FakeRegistry(self.clock)
        self.memory = Memory()
        self.history = FakeHistory()

    async def run(self, budget: Budget = NO_BUDGET) -> Foreseen:
        """Foresee."""
        foresight = Foresight(
            providers={"fake": self.provider},
            registry=self.registry,
            clock=self.clock,
            events=self.memory,
            history=self.history,
        )
        return await foresight.run(REQUEST, TERMS, budget, owner8=OWNER8)


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


async def test_a_market_without_the_model_ends_a_plan_like_a_start() -> None:
    """With its own error, or with the one over all offers."""
    for error, kind in ((UnknownGpu("no such GPU"), UnknownGpu), (None, AllOffersFailed)):
        scene = Scene()
        scene.provider.add("offers", error)
        scene.provider._offers = ()
        found = await scene.run()
        assert isinstance(found.failure, RunnerProvisionerError)
        assert type(found.failure) is kind
