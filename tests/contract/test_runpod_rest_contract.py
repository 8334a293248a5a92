"""The RunPod adapter keeps the port's promises over REST v2 alone, and where REST is preferred while both answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from contract.test_runpod_contract import MODEL, REST_CREATE, RunPodWorld, worlds

from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import CloudType, Pod, PodClass, PodId, PodState, PodTags
from runner_provisioner.errors import (
    ApiRetired,
    CreateOutcomeUnknown,
    InvalidRequest,
    NotFound,
    OfferGone,
    SpotDiscontinued,
    Unreachable,
)
from runner_provisioner.ports import has_kill_time
from runner_provisioner.providers.runpod import Api, RunPodProvider
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod import Progress, rows
from runner_provisioner.testing.provider_contract import OWNER, ProviderContract


class TestPreferredRest(ProviderContract):
    """REST where both can do it; GraphQL for what it does better."""

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[RunPodWorld]:
        """Both APIs answer."""
        async for world in worlds(tmp_path, real=False, prefer=Api.REST):
            yield world

    async def test_each_verb_goes_where_it_is_served_best(self, world: RunPodWorld) -> None:
        """Bids, ceilings and the kill time are GraphQL's, the rest is REST's."""
        pod = await self._rent(world)
        await world.runpod.get(pod.id)
        await world.runpod.list(OWNER)
        await world.runpod.terminate(pod.id)
        asked = {call.operation for call in world.simulator.calls}
        assert asked >= {"podFindAndDeployOnDemand", "rest.get", "rest.list", "rest.delete"}
        assert not asked & {"pod", "myself.pods", "podTerminate", REST_CREATE}
        assert has_kill_time(world.runpod)

    async def test_a_pod_that_needs_no_end_is_rented_over_rest(self, world: RunPodWorld) -> None:
        """One that was made by hand to live for ever."""
        spec = replace(world.spec(), terminate_after=None, tags=None, cloud=CloudType.COMMUNITY)
        pod = await world.runpod.create(spec, await self._on_demand(world))
        assert world.simulator.faults.count(REST_CREATE) == 1
        assert pod.price == Decimal("0.17")


class TestRetiredGraphQL(ProviderContract):
    """Everything that REST v2 can do, after GraphQL has answered 410."""

    @pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.full)], ids=["in-process", "loopback"])
    async def world(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunPodWorld]:
        """GraphQL answers 410 and nothing else."""
        async for world in worlds(tmp_path, real=request.param, retired=True):
            yield world

    async def test_graphql_is_asked_once(self, world: RunPodWorld) -> None:
        """After the first 410 every verb goes to REST, also in the next process; a day later it is asked again."""
        pod = await self._rent(world)
        await world.runpod.list(OWNER)
        assert _graphql_calls(world) == 1
        again = RunPodProvider(world.runpod._api, clock=world.clock, cache_dir=world.folder)
        assert await again.get(pod.id)
        assert not has_kill_time(again)
        assert _graphql_calls(world) == 1
        await world.clock.sleep(24 * 3600 + 1)
        assert has_kill_time(again)
        assert await again.get(pod.id)
        assert _graphql_calls(world) == 2
        assert not has_kill_time(again)

    async def test_the_switch_happens_in_the_middle_of_a_rental_too(self, world: RunPodWorld) -> None:
        """An offer of GraphQL's is rented over REST, in a cloud that sells it at its price, or not at all."""
        world.simulator.settings.graphql_retired = False
        offer = await self._on_demand(world)
        assert offer.cloud is None
        world.simulator.settings.graphql_retired = True
        pod = await world.runpod.create(world.spec(), offer)
        assert (pod.price, world.rented()) == (offer.price, 1)
        dear = replace(offer, price=Decimal("0.01"))
        with pytest.raises(OfferGone):
            await world.runpod.create(world.spec(), dear)
        assert world.rented() == 1

    async def test_a_pod_that_costs_more_than_offered_is_given_back(self, world: RunPodWorld) -> None:
        """REST takes no ceiling, so the price is looked at afterwards."""
        offer = await self._on_demand(world)
        world.simulator.settings.rest_price_factor = Decimal(2)
        with pytest.raises(OfferGone, match="given back"):
            await world.runpod.create(world.spec(), offer)
        assert world.rented() == 0

    async def test_a_dear_pod_that_cannot_be_given_back_is_of_unknown_outcome(self, world: RunPodWorld) -> None:
        """Then it is there, and whoever looks it up finds it."""
        offer = await self._on_demand(world)
        world.simulator.settings.rest_price_factor = Decimal(2)
        world.simulator.faults.add(rows.problem("rest.delete", 403, "access denied", times=None))
        with pytest.raises(CreateOutcomeUnknown, match="could not be ended"):
            await world.runpod.create(world.spec(), offer)
        [pod] = await world.runpod.list(OWNER)
        assert pod.price
        assert pod.price > offer.price

    async def test_what_only_graphql_could_is_refused_by_name(self, world: RunPodWorld) -> None:
        """Balance and bids; no request is wasted on them."""
        with pytest.raises(ApiRetired, match="tell the balance"):
            await world.runpod.balance()
        asked = len(world.simulator.calls)
        with pytest.raises(ApiRetired):
            await world.runpod.balance()
        bid = Offer(
            provider="runpod", id="b", gpu_model=MODEL, gpu_count=1, price=Decimal(1), interruptible=True,
            minimum_bid=Decimal("0.1"),
        )  # fmt: skip
        with pytest.raises(SpotDiscontinued):
            await world.runpod.create(world.spec(), bid)
        with pytest.raises(SpotDiscontinued):
            await world.runpod.resume(PodId("x"), bid_per_gpu=Decimal(1))
        with pytest.raises(InvalidRequest, match="GPU count"):
            await world.runpod.resume(PodId("x"), gpu_count=2)
        assert len(world.simulator.calls) == asked

    @pytest.mark.parametrize("whole", [True, False], ids=["entrypoint", "args"])
    async def test_the_start_command_arrives_in_either_way(self, world: RunPodWorld, *, whole: bool) -> None:
        """As entrypoint and cmd, or as args where those are refused: asked once, and nothing was rented then."""
        world.simulator.settings.rest_command = whole
        pods = [await self._rent(world) for _ in range(2)]
        assert world.rented() == 2
        assert world.simulator.faults.count(REST_CREATE) == (2 if whole else 3)
        for pod in pods:
            launch = world.simulator.launch_of(world.simulator.pod(pod.id))
            assert launch.argv == ("bash", "-c", world.spec().command)
            assert launch.env["SOMETHING"] == world.spec().env["SOMETHING"]
            assert launch.env["RP_OWNER"] == OWNER

    async def test_a_pod_that_is_torn_down_is_gone(self, world: RunPodWorld) -> None:
        """200 with null is an absence, as a 404 is."""
        pod = await self._rent(world)
        world.simulator.settings.rest_null = 60
        await world.runpod.terminate(pod.id)
        assert await world.runpod.get(pod.id) is None
        assert await world.runpod.get_many([pod.id]) == {pod.id: None}

    async def test_a_pod_that_the_list_still_shows_is_gone(self, world: RunPodWorld) -> None:
        """Also where it is read beside another: a start would yield to it."""
        pod, gone = await self._rent(world), await self._rent(world)
        await world.clock.sleep(30)
        world.simulator.settings.list_lag = 30
        await world.runpod.terminate(gone.id)
        assert gone.id in {one.id for one in await world.runpod.list(OWNER)}
        assert await world.runpod.get_many([pod.id, gone.id]) == {pod.id: await world.runpod.get(pod.id), gone.id: None}

    async def test_the_states_are_those_of_the_reference(self, world: RunPodWorld) -> None:
        """What REST observes; a runner's pod that nobody of us stopped was taken, another one is stopped."""
        world.simulator.settings.progress = Progress.timed(10)
        pod = await self._rent(world)
        assert pod.state is PodState.STARTING
        await world.clock.sleep(11)
        assert await self._state(world, pod) is PodState.RUNNING
        world.simulator.interrupt(pod.id)
        assert await self._state(world, pod) is PodState.INTERRUPTED
        tags = PodTags(owner=OWNER, cls=PodClass.MANUAL)
        manual = await world.runpod.create(replace(world.spec(), tags=tags), await self._on_demand(world))
        world.simulator.interrupt(manual.id)
        assert await self._state(world, manual) is PodState.STOPPED

    async def test_places_are_data_centres(self, world: RunPodWorld) -> None:
        """A country is offered by its data centres, and the pod is rented there; an unknown place has nothing."""
        romania = await world.runpod.offers(replace(world.request, regions=("RO",)))
        assert {offer.region for offer in romania} == {"EU-RO-1"}
        texas = await world.runpod.offers(replace(world.request, regions=("US-TX-3",), cloud=CloudType.SECURE))
        assert [(offer.region, offer.cloud) for offer in texas] == [("US-TX-3", CloudType.SECURE)]
        pod = await world.runpod.create(world.spec(), romania[0])
        assert world.simulator.pod(pod.id).machine.data_center_id == "EU-RO-1"
        assert not await world.runpod.offers(replace(world.request, regions=("US-NO-1",)))

    async def test_a_network_volume_decides_the_place(self, world: RunPodWorld) -> None:
        """And is mounted; one that is not there is told."""
        volume = world.simulator.shelf.create_volume({"name": "v", "size": 10, "dataCenterId": "EU-RO-1"})
        request = replace(world.request, network_volume=volume["id"])
        [offer, *_] = await world.runpod.offers(request)
        pod = await world.runpod.create(replace(world.spec(), network_volume=volume["id"]), offer)
        made = world.simulator.pod(pod.id)
        assert (made.network_volume_id, made.machine.data_center_id) == (volume["id"], "EU-RO-1")
        with pytest.raises(NotFound, match="network volume 'none'"):
            await world.runpod.offers(replace(world.request, network_volume="none"))

    async def test_what_a_pod_has_cost_is_told(self, world: RunPodWorld) -> None:
        """To the cent of the simulator's own bill; a key that may not see it tells nothing."""
        pod = await self._rent(world)
        began = world.clock.now()
        await world.clock.sleep(5400)
        billed = await world.runpod.billed([pod.id, PodId("never")], began)
        assert set(billed) == {pod.id}
        own = world.simulator.bill().pods[pod.id].total
        assert abs(billed[pod.id] - own) < Decimal("0.0001")
        world.simulator.faults.add(rows.problem("rest.pod_bills", 403, "access denied"))
        assert await world.runpod.billed([pod.id], began) == {}

    async def test_keys_are_told(self, world: RunPodWorld) -> None:
        """And replaced as a whole."""
        assert await world.runpod.ssh_keys() == []
        keys = ("ssh-ed25519 AAAA me", "ssh-ed25519 BBBB you")
        assert await world.runpod._api.rest.replace_ssh_keys(keys) == keys
        assert await world.runpod.ssh_keys() == list(keys)

    async def test_the_last_lines_of_a_log_are_given(self, world: RunPodWorld) -> None:
        """With their moment and source, oldest first, and without the credential."""
        pod = await self._rent(world)
        world.simulator.say(pod.id, f"one\ntwo {world.credential}\nthree\nhalf")
        lines = [line async for line in world.runpod.logs(pod.id, tail=2)]
        assert [line.text for line in lines] == ["two [MASKED]", "three"]
        assert {line.source for line in lines} == {"container"}
        assert all(line.at is not None for line in lines)
        assert [line async for line in world.runpod.logs(pod.id, tail=0)] == []

    async def test_a_request_too_many_waits_as_told(self, world: RunPodWorld) -> None:
        """By the headers before it is refused."""
        pod = await self._rent(world)
        world.simulator.settings.rest_limits = {"minute": 5}
        for _ in range(12):
            assert await world.runpod.get(pod.id)
        assert world.simulator.faults.count("rest.get") == 12

    async def test_a_refused_field_is_named(self, world: RunPodWorld) -> None:
        """Here before it is sent, and from the problem document."""
        offer = await self._on_demand(world)
        with pytest.raises(InvalidRequest, match="bogus"):
            await world.runpod.create(replace(world.spec(), options={"bogus": 1}), offer)
        world.simulator.faults.add(rows.problem(REST_CREATE, 422, "$.disk: minimum: got 0, want 1"))
        with pytest.raises(InvalidRequest, match=r"\$\.disk"):
            await world.runpod.create(world.spec(), offer)
        assert world.rented() == 0

    async def _state(self, world: RunPodWorld, pod: Pod) -> PodState | None:
        found = await world.runpod.get(pod.id)
        return found.state if found else None


def _graphql_calls(world: RunPodWorld) -> int:
    return sum(not call.operation.startswith("rest.") for call in world.simulator.calls)


@pytest.fixture
async def retired(tmp_path: Path) -> AsyncIterator[RunPodWorld]:
    """A world on real sockets, without GraphQL."""
    async for world in worlds(tmp_path, real=True, retired=True):
        yield world


async def test_a_followed_log_survives_a_broken_connection(retired: RunPodWorld) -> None:
    """Each line once, in order, until the pod is gone."""
    suite = ProviderContract()
    pod = await suite._rent(retired)
    retired.simulator.say(pod.id, "one\ntwo\ntwo\n")
    retired.simulator.faults.add(Fault(operation="rest.logs", kind=FaultKind.DROP_AFTER))
    retired.simulator.faults.add(Fault(operation="rest.logs", kind=FaultKind.DROP_BEFORE))
    retired.simulator.faults.add(rows.problem("rest.get", 503, "upstream is away", times=5))
    seen: list[str] = []
    async for line in retired.runpod.logs(pod.id, follow=True):
        seen.append(line.text)
        if seen == ["one", "two", "two"]:
            retired.simulator.say(pod.id, "three\n")
        if line.text == "three":
            retired.simulator.say(pod.id, "four\n")
        if line.text == "four":
            await retired.runpod.terminate(pod.id)
    assert seen == ["one", "two", "two", "three", "four"]


async def test_a_log_that_never_comes_is_an_error(retired: RunPodWorld) -> None:
    """Not an end of the log."""
    pod = await ProviderContract()._rent(retired)
    retired.simulator.faults.add(Fault(operation="rest.logs", kind=FaultKind.DROP_BEFORE, times=None))
    with pytest.raises(Unreachable):
        [line async for line in retired.runpod.logs(pod.id, follow=True)]
    with pytest.raises(Unreachable):
        [line async for line in retired.runpod.logs(pod.id)]
