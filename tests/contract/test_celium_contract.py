"""The Lium adapter keeps the port's promises against the Lium simulator, in process and over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from runner_provisioner._http import CallMetrics, Pace, Plumbing, Tempo
from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.logging import Redactor
from runner_provisioner.ports import (
    HasAccountKeys,
    HasBalance,
    HasGpuTypes,
    HasHistory,
    HasKillTime,
    HasLogs,
    HasSshEndpoint,
    HasTemplates,
    Pausable,
    ReadsMany,
)
from runner_provisioner.providers.celium import CeliumApi, CeliumProvider
from runner_provisioner.simulators.celium import CeliumSimulator, Envelope, RentAnswer, rows
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock
from runner_provisioner.testing.provider_contract import ProviderContract, ProviderWorld

MODEL = "NVIDIA RTX A4000"
RENT = rows.RENT


class CeliumWorld(ProviderWorld):
    """The adapter over the simulator."""

    def __init__(self, simulator: CeliumSimulator, clock: FakeClock, api: CeliumApi) -> None:
        self.simulator = simulator
        self.clock = clock
        self.api = api
        self.celium = CeliumProvider(api, clock=clock)
        self.provider = self.celium
        self.credential = simulator.key
        self.request = GpuRequest(models=(MODEL,), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(5))

    def again(self) -> CeliumProvider:
        """The adapter as another process has it, which remembers nothing."""
        return CeliumProvider(self.api, clock=self.clock)

    def rented(self) -> int:
        """By the simulator's own count."""
        return len(self.simulator.live())

    def run_out_of_stock(self) -> None:
        """No GPU of the model is free."""
        self.simulator.market.set_stock(MODEL, 0)

    def lose_next_create_answer(self) -> None:
        """Rented, then the connection is cut."""
        self.simulator.faults.add(Fault(operation=RENT, kind=FaultKind.DROP_AFTER))

    def fail_next_create(self) -> None:
        """A 500, and nothing was done."""
        self.simulator.faults.add(rows.internal_error(RENT))

    def answer_nonsense(self) -> None:
        """A proxy's page with status 200."""
        self.simulator.faults.add(
            Fault(operation="*", kind=FaultKind.ERROR, status=200, body="<html>welcome</html>", times=None)
        )

    def revoke_credential(self) -> None:
        """The key was rotated."""
        self.simulator.account.revoke(self.simulator.key)


async def worlds(*, real: bool) -> AsyncIterator[CeliumWorld]:
    """One world; over a real server on loopback when asked for."""
    clock = FakeClock()
    simulator = CeliumSimulator(clock)
    server = simulator.serve().start() if real else None
    plumbing = Plumbing(
        clock=clock,
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="test",
        transport=None if real else InProcess({"127.0.0.1": simulator.app}),
    )
    api = CeliumApi.connect(
        url=f"{server.url if server else 'http://127.0.0.1'}/api",
        api_key=simulator.key,
        plumbing=plumbing,
        pace=Pace(per_second=1000, per_minute=100_000),
    )
    try:
        yield CeliumWorld(simulator, clock, api)
    finally:
        await api.aclose()
        if server:
            server.stop()
        simulator.close()


class TestCeliumContract(ProviderContract):
    """The suite that every adapter passes."""

    @pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.full)], ids=["in-process", "loopback"])
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[CeliumWorld]:
        """The adapter over the simulator."""
        async for world in worlds(real=request.param):
            yield world

    async def test_the_capabilities_are_those_that_lium_has(self, world: CeliumWorld) -> None:
        """No stop and resume, and no history."""
        has = (
            HasAccountKeys, HasBalance, HasGpuTypes, HasKillTime, HasLogs, HasSshEndpoint, HasTemplates, ReadsMany,
        )  # fmt: skip
        assert all(isinstance(world.celium, protocol) for protocol in has)
        assert not isinstance(world.celium, (Pausable, HasHistory))


class TestOlderServers(ProviderContract):
    """The same with the other error envelope and the short answer to a rent."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[CeliumWorld]:
        """Errors under `detail`, no codes; a rent answers an id."""
        async for world in worlds(real=False):
            world.simulator.settings.envelope = Envelope.DETAIL
            world.simulator.settings.rent_answer = RentAnswer.SHORT
            yield world
