"""What a plan says, without anything being rented."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from support.fakes import OWNER8, REQUEST, FakeHistory, FakeProvider, FakeRegistry, Memory, offer

from runner_provisioner.domain.budget import Budget, Strictness, Terms
from runner_provisioner.errors import (
    AllOffersFailed,
    ApiRetired,
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

    async def run(self, budget: Budget = NO_BUDGET) -> Foreseen:
        """Foresee."""
        foresight = Foresight(
            providers={"fake": self.provider},
            registry=self.registry,
            clock=self.clock,
            events=self.memory,
            history=FakeHistory(),
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


class KeyedProvider(BankingProvider):
    """One that has stopped telling its balance, and keeps keys."""

    async def balance(self) -> Decimal:
        """No more."""
        raise ApiRetired("gone")

    async def ssh_keys(self) -> list[str]:
        """One."""
        self.meet("ssh_keys")
        return ["ssh-ed25519 AAAA"]


async def test_a_credential_is_tried_where_the_balance_is_no_longer_told() -> None:
    """By asking for the account's keys."""
    scene = Scene()
    scene.provider = KeyedProvider(scene.clock, offer("A"))
    found = await scene.run()
    assert found.permissions[1].detail == "its balance is no longer told"
    scene.provider.add("ssh_keys", AuthenticationFailed("bad key"))
    assert isinstance((await scene.run()).permissions[1].error, AuthenticationFailed)


class SilentProvider(BankingProvider):
    """One that has stopped telling its balance, and keeps no keys."""

    async def balance(self) -> Decimal:
        """No more."""
        raise ApiRetired("gone")


async def test_a_market_that_tells_nothing_of_its_account_says_so() -> None:
    """The credential cannot be tried then."""
    scene = Scene()
    scene.provider = SilentProvider(scene.clock, offer("A"))
    assert isinstance((await scene.run()).permissions[1].error, ApiRetired)


async def test_a_market_without_the_model_ends_a_plan_like_a_start() -> None:
    """With its own error, or with the one over all offers."""
    for error, kind in ((UnknownGpu("no such GPU"), UnknownGpu), (None, AllOffersFailed)):
        scene = Scene()
        scene.provider.add("offers", error)
        scene.provider._offers = ()
        found = await scene.run()
        assert isinstance(found.failure, RunnerProvisionerError)
        assert type(found.failure) is kind
