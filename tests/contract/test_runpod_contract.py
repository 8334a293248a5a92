"""The RunPod adapter keeps the port's promises against the RunPod simulator, in process and over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from runner_provisioner._http import CallMetrics, Pace, Plumbing, Tempo
from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.domain.pods import PodId, PodState
from runner_provisioner.errors import BidTooLow, PermissionDenied, SpotDiscontinued
from runner_provisioner.logging import Redactor
from runner_provisioner.providers.runpod import Api, RunPodApi, RunPodProvider
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod import Permission, RunPodSimulator, Settings, rows, texts
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock
from runner_provisioner.testing.provider_contract import OWNER, ProviderContract, ProviderWorld

MODEL = "NVIDIA RTX A4000"
SPOT = "podRentInterruptable"
CREATE = "podFindAndDeployOnDemand"
REST_CREATE = "rest.create"


class RunPodWorld(ProviderWorld):
    """The adapter over the simulator."""

    def __init__(self, simulator: RunPodSimulator, clock: FakeClock, provider: RunPodProvider, folder: Path) -> None:
        self.simulator = simulator
        self.folder = folder
        self.clock = clock
        self.provider = provider
        self.runpod = provider
        self.credential = simulator.key
        self.request = GpuRequest(models=(MODEL,), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(5))

    def rented(self) -> int:
        """By the simulator's own count."""
        return len(self.simulator.live())

    def run_out_of_stock(self) -> None:
        """No GPU of the model is free."""
        self.simulator.market.set_stock(MODEL, 0)

    def lose_next_create_answer(self) -> None:
        """Rented, then the connection is cut."""
        for operation in (CREATE, REST_CREATE):
            self.simulator.faults.add(Fault(operation=operation, kind=FaultKind.DROP_AFTER))

    def fail_next_create(self) -> None:
        """RunPod's internal error in a 200, over REST in a 500."""
        self.simulator.faults.add(rows.internal_error(CREATE))
        self.simulator.faults.add(rows.problem(REST_CREATE, 500, texts.INTERNAL))

    def answer_nonsense(self) -> None:
        """A proxy's page with status 200."""
        self.simulator.faults.add(
            Fault(operation="*", kind=FaultKind.ERROR, status=200, body="<html>welcome</html>", times=None)
        )

    def revoke_credential(self) -> None:
        """The key was rotated."""
        self.simulator.keys.revoke(self.simulator.key)


async def worlds(
    folder: Path, *, real: bool, retired: bool = False, prefer: Api = Api.GRAPHQL
) -> AsyncIterator[RunPodWorld]:
    """One world; over a real server on loopback, or after the end of GraphQL, when asked for."""
    clock = FakeClock()
    simulator = RunPodSimulator(clock, settings=Settings(graphql_retired=retired))
    server = simulator.serve().start() if real else None
    plumbing = Plumbing(
        clock=clock,
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="test",
        transport=None if real else InProcess({"127.0.0.1": simulator.app}),
    )
    api = RunPodApi.connect(
        url=server.url if server else "http://127.0.0.1",
        api_key=simulator.key,
        plumbing=plumbing,
        pace=Pace(per_second=1000, per_minute=100_000),
    )
    provider = RunPodProvider(api, clock=clock, cache_dir=folder, prefer=prefer)
    try:
        yield RunPodWorld(simulator, clock, provider, folder)
    finally:
        await provider.aclose()
        if server:
            server.stop()
        simulator.close()


class TestRunPodContract(ProviderContract):
    """The suite that every adapter passes, and what is RunPod's alone."""

    @pytest.fixture(params=[False, True], ids=["in-process", "loopback"])
    async def world(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunPodWorld]:
        """The adapter over the simulator."""
        async for world in worlds(tmp_path, real=request.param):
            yield world

    async def test_todays_service_refuses_interruptible_pods(self, world: RunPodWorld) -> None:
        """Once refused, they are offered no more."""
        [spot] = [offer for offer in await world.runpod.offers(world.request) if offer.interruptible]
        with pytest.raises(SpotDiscontinued):
            await world.runpod.create(world.spec(), spot)
        assert not any(offer.interruptible for offer in await world.runpod.offers(world.request))
        assert world.rented() == 0

    async def test_an_interruptible_pod_is_rented_interrupted_and_resumed(self, world: RunPodWorld) -> None:
        """As it was until September 2026: the bid is for the whole pod, the interrupted pod can be had again."""
        world.simulator.market.spot = True
        [spot] = [offer for offer in await world.runpod.offers(world.request) if offer.interruptible]
        pod = await world.runpod.create(world.spec(), spot)
        assert pod.interruptible is True
        world.simulator.interrupt(pod.id)
        found = await world.runpod.get(pod.id)
        assert found
        assert found.state is PodState.INTERRUPTED
        assert spot.minimum_bid
        resumed = await world.runpod.resume(pod.id, bid_per_gpu=spot.minimum_bid)
        assert resumed.state is PodState.STARTING

    async def test_a_refused_spot_pod_is_remembered_by_the_next_process(self, world: RunPodWorld) -> None:
        """Interruptible offers are gone for a day, save for those who want no other: they are told why, unasked."""
        [spot] = [offer for offer in await world.runpod.offers(world.request) if offer.interruptible]
        with pytest.raises(SpotDiscontinued):
            await world.runpod.create(world.spec(), spot)
        again = RunPodProvider(world.runpod._api, clock=world.clock, cache_dir=world.folder)
        assert not any(offer.interruptible for offer in await again.offers(world.request))
        only = replace(world.request, interruptible=Interruptible.REQUIRE)
        [same] = [offer for offer in await again.offers(only) if offer.interruptible]
        with pytest.raises(SpotDiscontinued):
            await again.create(world.spec(), same)
        assert world.simulator.faults.count(SPOT) == 1
        await world.clock.sleep(24 * 3600 + 1)
        assert any(offer.interruptible for offer in await again.offers(world.request))

    async def test_a_low_bid_is_refused_before_it_is_sent(self, world: RunPodWorld) -> None:
        """The service would only say that it has nothing."""
        world.simulator.market.spot = True
        [spot] = [offer for offer in await world.runpod.offers(world.request) if offer.interruptible]
        low = type(spot)(
            provider=spot.provider,
            id=spot.id,
            gpu_model=spot.gpu_model,
            gpu_count=1,
            price=Decimal("0.001"),
            interruptible=True,
            minimum_bid=spot.minimum_bid,
        )
        with pytest.raises(BidTooLow):
            await world.runpod.create(world.spec(), low)
        assert world.simulator.faults.count(SPOT) == 0

    async def test_a_container_that_ended_is_a_failure(self, world: RunPodWorld) -> None:
        """Whether RunPod starts it again or not."""
        world.simulator.settings.restart = False
        pod = await self._rent(world)
        await world.runpod.get(pod.id)
        await world.clock.sleep(5)
        world.simulator.finish(pod.id, 1)
        found = await world.runpod.get(pod.id)
        assert found
        assert found.state is PodState.FAILED

    async def test_a_stop_is_seen_as_one_by_another_process(self, world: RunPodWorld) -> None:
        """From the words of the last status change alone."""
        pod = await self._rent(world)
        await world.runpod.stop(pod.id)
        stranger = RunPodProvider(world.runpod._api, clock=world.clock)
        found = await stranger.get(pod.id)
        assert found
        assert found.state is PodState.STOPPED

    async def test_a_pod_ends_over_rest_where_graphql_is_gone(self, world: RunPodWorld) -> None:
        """The first generation that is left does it, and GraphQL is asked no more."""
        pod = await self._rent(world)
        world.simulator.faults.add(
            Fault(operation="podTerminate", kind=FaultKind.ERROR, status=410, body="Gone", times=None)
        )
        await world.runpod.terminate(pod.id)
        await world.runpod.terminate(pod.id)
        assert world.rented() == 0
        assert world.simulator.faults.count("podTerminate") == 1
        assert await world.runpod.get(pod.id) is None
        assert world.simulator.faults.count("pod") == 0

    async def test_several_pods_are_read_at_once(self, world: RunPodWorld) -> None:
        """Unknown ones among them."""
        pod = await self._rent(world)
        found = await world.runpod._api.pods([pod.id, "neverwas"])
        assert found[pod.id]
        assert found["neverwas"] is None

    async def test_times_are_read_in_go_s_form_too(self, world: RunPodWorld) -> None:
        """The service has answered both."""
        world.simulator.settings.go_times = True
        pod = await self._rent(world)
        assert pod.created_at == world.simulator.pod(pod.id).created_at

    async def test_the_account_and_all_prices_are_read(self, world: RunPodWorld) -> None:
        """The verbs that the port does not use."""
        user = await world.runpod._api.myself()
        assert user.email
        assert await world.runpod.ssh_keys() == []
        types = await world.runpod._api.gpu_types()
        assert MODEL in {gpu.id for gpu in types}

    async def test_the_end_is_sent_with_the_pod(self, world: RunPodWorld) -> None:
        """The service itself ends a pod that everybody forgot."""
        pod = await self._rent(world)
        await world.clock.sleep(6 * 3600 + 60)
        assert await world.runpod.get(PodId(pod.id)) is None
        assert list(await world.runpod.list(OWNER)) == []

    async def test_a_key_that_may_only_look_is_told_so(self, world: RunPodWorld) -> None:
        """A missing permission is another refusal than a bad key."""
        offer = await self._on_demand(world)
        world.simulator.keys.add(world.simulator.key, Permission.READ)
        assert await world.runpod.balance() > 0
        with pytest.raises(PermissionDenied):
            await world.runpod.create(world.spec(), offer)
