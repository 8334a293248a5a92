"""What every GpuProvider must keep, as a suite that an adapter's author subclasses.

    class TestMyMarket(ProviderContract):
        @pytest.fixture
        def world(self) -> Iterator[ProviderWorld]:
            yield MyWorld(...)

The world holds the adapter, connected to a service (usually a simulator) that the suite may break. Needs pytest with
anyio's plugin in mode auto.
"""

# ruff: noqa: S101 - a suite for pytest works by assert

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from runner_provisioner.domain.markets import TemplateSpec
from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.pods import Pod, PodClass, PodId, PodSpec, PodTags
from runner_provisioner.errors import (
    ApiRetired,
    AuthenticationFailed,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    NotFound,
    OfferUnfit,
    RemoteError,
    UnknownGpu,
)
from runner_provisioner.ports import (
    BillsPerPod,
    Clock,
    GpuProvider,
    HasBalance,
    HasGpuTypes,
    HasHistory,
    HasLogs,
    HasSshEndpoint,
    HasTemplates,
    Pausable,
    ReadsMany,
    StartsOverSsh,
    has_kill_time,
)

OWNER = "0123abcd"
OTHER = "89abcdef"
PLANTED = "planted-secret-value"
LOOKS = 20


class ProviderWorld(ABC):
    """An adapter and the service behind it; every method but `rented` breaks or changes the service."""

    provider: GpuProvider
    clock: Clock
    request: GpuRequest
    """Something that the service has for rent on demand."""
    credential: str
    """What must never be shown."""

    @abstractmethod
    def rented(self) -> int:
        """How many pods the service itself believes to cost money."""

    @abstractmethod
    def run_out_of_stock(self) -> None:
        """Nothing can be rented any more."""

    @abstractmethod
    def lose_next_create_answer(self) -> None:
        """The next pod is rented and the answer does not arrive."""

    @abstractmethod
    def fail_next_create(self) -> None:
        """The next create meets an internal error; nothing is rented, and nobody can know."""

    @abstractmethod
    def answer_nonsense(self) -> None:
        """Every answer from now on is no answer of this service."""

    @abstractmethod
    def revoke_credential(self) -> None:
        """The credential is refused from now on."""

    def spec(self, run: str = "1", owner8: str = OWNER) -> PodSpec:
        """A runner pod of an owner."""
        end = self.clock.now() + timedelta(hours=6)
        tags = PodTags(owner=owner8, cls=PodClass.RUNNER, nonce="n0nce", expires_at=end)
        return PodSpec(
            name=f"rp-{owner8}-{run}-1-default",
            image="runpod/base:1.0.0",
            tags=tags,
            command=f"echo {PLANTED}",
            env={"SOMETHING": PLANTED},
            terminate_after=end,
        )


class ProviderContract:
    """The promises of the port, one test each."""

    @pytest.fixture
    def world(self) -> ProviderWorld:
        """The adapter under test; every subclass gives its own."""
        raise NotImplementedError

    async def test_offers_are_for_the_models_and_the_count_asked_for(self, world: ProviderWorld) -> None:
        """Prices are positive, of the whole count, and an interruptible offer says its floor."""
        offers = await world.provider.offers(world.request)
        assert offers
        for offer in offers:
            assert offer.provider == world.provider.name
            assert offer.gpu_count == world.request.count
            assert offer.price > 0
            assert (offer.minimum_bid is not None) == offer.interruptible
        assert len({offer.id for offer in offers}) == len(offers)

    async def test_two_gpus_cost_at_least_as_much_as_one(self, world: ProviderWorld) -> None:
        """The price is the pod's, not the GPU's."""
        one = await self._on_demand(world)
        two = await self._on_demand(world, count=2)
        assert two.price > one.price

    async def test_no_stock_is_no_offer_and_no_error(self, world: ProviderWorld) -> None:
        """Empty is a fact."""
        world.run_out_of_stock()
        assert list(await world.provider.offers(world.request)) == []

    async def test_an_unknown_gpu_is_refused(self, world: ProviderWorld) -> None:
        """The message names what was asked for."""
        with pytest.raises(UnknownGpu, match="Voodoo 9000"):
            await world.provider.offers(replace(world.request, models=("Voodoo 9000",)))

    async def test_a_pod_lives_from_create_to_terminate(self, world: ProviderWorld) -> None:
        """It is read by id, listed, ended, and then it does not exist."""
        pod = await self._rent(world)
        assert pod.provider == world.provider.name
        assert pod.name == world.spec().name
        assert pod.price is not None
        assert pod.created_at is not None
        assert pod.alive
        found = await world.provider.get(pod.id)
        assert found is not None
        assert (found.id, found.name) == (pod.id, pod.name)
        assert pod.id in await self._listed(world)
        assert world.rented() == 1
        await world.provider.terminate(pod.id)
        assert await world.provider.get(pod.id) is None
        assert pod.id not in await self._listed(world)
        assert world.rented() == 0

    async def test_a_pod_costs_no_more_than_its_offer(self, world: ProviderWorld) -> None:
        """What was accepted is the ceiling."""
        offer = await self._on_demand(world)
        pod = await world.provider.create(world.spec(), offer)
        assert pod.price is not None
        assert pod.price <= offer.price

    async def test_tags_come_back(self, world: ProviderWorld) -> None:
        """Where the environment can be read; else there are none."""
        pod = await self._rent(world)
        found = await world.provider.get(pod.id)
        assert found is not None
        assert found.tags is None or (found.tags.owner, found.tags.nonce) == (OWNER, "n0nce")

    async def test_a_pod_comes_to_run_with_an_address(self, world: ProviderWorld) -> None:
        """Running means that the container runs and, where pods can be logged in to, that one knows where."""
        pod = await self._rent(world)
        for _ in range(LOOKS):
            found = await world.provider.get(pod.id)
            assert found is not None
            if found.state.value == "running":
                if isinstance(world.provider, HasSshEndpoint | StartsOverSsh):
                    assert found.ssh is not None
                return
            await world.clock.sleep(1)
        pytest.fail("the pod never ran")

    async def test_terminate_twice_is_success(self, world: ProviderWorld) -> None:
        """Gone already is what was wanted."""
        pod = await self._rent(world)
        await world.provider.terminate(pod.id)
        await world.provider.terminate(pod.id)
        assert world.rented() == 0

    async def test_an_unknown_id_is_none_and_ends_well(self, world: ProviderWorld) -> None:
        """Neither look nor end fails for a pod that never was."""
        assert await world.provider.get(PodId("neverwas")) is None
        await world.provider.terminate(PodId("neverwas"))

    async def test_what_is_taken_meanwhile_is_a_capacity_error(self, world: ProviderWorld) -> None:
        """An offer is no promise, and nothing was rented."""
        offer = await self._on_demand(world)
        world.run_out_of_stock()
        with pytest.raises(CapacityUnavailable):
            await world.provider.create(world.spec(), offer)
        assert world.rented() == 0

    async def test_a_lost_answer_is_an_unknown_outcome_and_the_pod_is_found_by_name(self, world: ProviderWorld) -> None:
        """Sent once, and never taken for a refusal."""
        offer = await self._on_demand(world)
        world.lose_next_create_answer()
        with pytest.raises(CreateOutcomeUnknown):
            await world.provider.create(world.spec(), offer)
        found = await world.provider.list(OWNER)
        assert [pod.name for pod in found] == [world.spec().name]
        assert world.rented() == 1

    async def test_an_internal_error_is_an_unknown_outcome(self, world: ProviderWorld) -> None:
        """The caller cannot tell it from a lost answer, so it is not sent again."""
        offer = await self._on_demand(world)
        world.fail_next_create()
        with pytest.raises(CreateOutcomeUnknown):
            await world.provider.create(world.spec(), offer)
        assert world.rented() == 0

    async def test_a_malformed_answer_to_create_is_an_unknown_outcome(self, world: ProviderWorld) -> None:
        """Nonsense is no refusal."""
        offer = await self._on_demand(world)
        world.answer_nonsense()
        with pytest.raises(CreateOutcomeUnknown):
            await world.provider.create(world.spec(), offer)

    async def test_nonsense_is_never_an_absence(self, world: ProviderWorld) -> None:
        """What could not be read is an error: not None, not an empty list, not an end."""
        pod = await self._rent(world)
        world.answer_nonsense()
        with pytest.raises(RemoteError):
            await world.provider.get(pod.id)
        with pytest.raises(RemoteError):
            await world.provider.list(OWNER)
        with pytest.raises(RemoteError):
            await world.provider.terminate(pod.id)

    async def test_a_refused_credential_is_told(self, world: ProviderWorld) -> None:
        """By every verb, and never as an absence."""
        offer = await self._on_demand(world)
        world.revoke_credential()
        with pytest.raises(AuthenticationFailed):
            await world.provider.create(world.spec(), offer)
        with pytest.raises(AuthenticationFailed):
            await world.provider.get(PodId("neverwas"))
        with pytest.raises(AuthenticationFailed):
            await world.provider.list(OWNER)
        with pytest.raises(AuthenticationFailed):
            await world.provider.terminate(PodId("neverwas"))

    async def test_each_owner_sees_its_own(self, world: ProviderWorld) -> None:
        """None sees all."""
        offer = await self._on_demand(world)
        mine = await world.provider.create(world.spec(), offer)
        theirs = await world.provider.create(world.spec(owner8=OTHER), offer)
        assert await self._listed(world) == [mine.id]
        assert await self._listed(world, OTHER) == [theirs.id]
        assert sorted(await self._listed(world, None)) == sorted([mine.id, theirs.id])

    async def test_two_pods_of_one_name_are_two_pods(self, world: ProviderWorld) -> None:
        """Names are no keys at a provider; whoever converges must see both."""
        first, second = await self._rent(world), await self._rent(world)
        assert sorted(await self._listed(world)) == sorted([first.id, second.id])

    async def test_no_secret_is_shown(self, world: ProviderWorld) -> None:
        """Neither the credential nor what went into the pod is in a repr or an error."""
        spec, offer = world.spec(), await self._on_demand(world)
        shown = [repr(world.provider), repr(spec), repr(await world.provider.create(spec, offer))]
        world.answer_nonsense()
        with pytest.raises(RemoteError) as caught:
            await world.provider.create(spec, offer)
        shown += [repr(caught.value), str(caught.value)]
        for text in shown:
            assert world.credential not in text
            assert PLANTED not in text

    async def test_capabilities_work_where_they_are_claimed(self, world: ProviderWorld) -> None:
        """Balance, models, stop and resume."""
        provider = world.provider
        if isinstance(provider, HasBalance):
            with suppress(ApiRetired):  # it may have stopped telling
                assert await provider.balance() > 0
        if isinstance(provider, HasGpuTypes):
            assert set(world.request.models) <= {gpu.id for gpu in await provider.gpu_types()}
        if isinstance(provider, ReadsMany):
            pod, gone = await self._rent(world), PodId("neverwas")
            assert await provider.get_many([pod.id, gone]) == {pod.id: await provider.get(pod.id), gone: None}
        if isinstance(provider, Pausable):
            pod = await self._rent(world)
            assert (await provider.stop(pod.id)).state.value == "stopped"
            assert (await provider.resume(pod.id)).alive
            with pytest.raises(NotFound):
                await provider.stop(PodId("neverwas"))

    async def test_a_kill_time_is_kept_where_it_is_claimed(self, world: ProviderWorld) -> None:
        """The provider itself ends a pod that everybody forgot; one that cannot rents none that needs it."""
        offer = await self._on_demand(world)
        spec = replace(world.spec(), needs_kill_time=True)
        if not has_kill_time(world.provider):
            with pytest.raises(OfferUnfit):
                await world.provider.create(spec, offer)
            assert world.rented() == 0
            return
        pod = await world.provider.create(spec, offer)
        await world.clock.sleep(timedelta(hours=6, minutes=5).total_seconds())
        assert await world.provider.get(pod.id) is None
        assert world.rented() == 0

    async def test_templates_come_and_go_where_they_are_claimed(self, world: ProviderWorld) -> None:
        """Made, listed, removed; removed twice is success."""
        provider = world.provider
        if not isinstance(provider, HasTemplates):
            pytest.skip("this provider keeps no templates that it lets anybody make")
        made = await provider.create_template(TemplateSpec(name="contract", image="runpod/base:1.0.0", command="true"))
        assert made.usable
        assert (made.provider, made.name) == (provider.name, "contract")
        assert made.id in {one.id for one in await provider.templates()}
        await provider.delete_template(made.id)
        await provider.delete_template(made.id)
        assert made.id not in {one.id for one in await provider.templates()}

    async def test_past_pods_are_told_where_that_is_claimed(self, world: ProviderWorld) -> None:
        """A pod that has ended is history, one that lives is not."""
        provider = world.provider
        if not isinstance(provider, HasHistory):
            pytest.skip("this provider remembers no pods")
        past, live = await self._rent(world), await self._rent(world)
        await world.clock.sleep(60)
        await provider.terminate(past.id)
        told = [one.id for one in await provider.history()]
        assert past.id in told
        assert live.id not in told

    async def test_a_pod_s_bill_grows_where_it_is_claimed(self, world: ProviderWorld) -> None:
        """An hour costs something, and not much more than the price of two; an unknown pod was not billed."""
        provider = world.provider
        if not isinstance(provider, BillsPerPod):
            pytest.skip("this provider does not tell what a pod has cost")
        began = world.clock.now()
        pod = await self._rent(world)
        await world.clock.sleep(3600)
        billed = await provider.billed([pod.id, PodId("neverwas")], began)
        assert set(billed) == {pod.id}
        assert pod.price is not None
        assert 0 < billed[pod.id] < 2 * pod.price

    async def test_there_is_a_way_in_where_that_is_claimed(self, world: ProviderWorld) -> None:
        """The pod's own address once it runs; an unknown pod has none."""
        provider = world.provider
        if not isinstance(provider, HasSshEndpoint):
            pytest.skip("this provider's pods cannot be logged in to")
        pod = await self._rent(world)
        for _ in range(LOOKS):
            found = await provider.ssh_endpoint(pod.id)
            if found is not None:
                break
            await world.clock.sleep(1)
        read = await provider.get(pod.id)
        assert read is not None
        assert found is not None
        assert found == read.ssh
        with pytest.raises(NotFound):
            await provider.ssh_endpoint(PodId("neverwas"))

    async def test_a_log_is_of_a_pod_that_exists_where_it_is_claimed(self, world: ProviderWorld) -> None:
        """Whatever it has written; an unknown pod has none."""
        provider = world.provider
        if not isinstance(provider, HasLogs):
            pytest.skip("this provider gives no logs")
        pod = await self._rent(world)
        await provider.get(pod.id)
        assert all(line.text == line.text.rstrip("\n") for line in [one async for one in provider.logs(pod.id, tail=5)])
        with pytest.raises(NotFound):
            [one async for one in provider.logs(PodId("neverwas"))]

    async def _on_demand(self, world: ProviderWorld, *, count: int = 1) -> Offer:
        offers = await world.provider.offers(replace(world.request, count=count))
        return min((offer for offer in offers if not offer.interruptible), key=lambda offer: offer.price)

    async def _rent(self, world: ProviderWorld) -> Pod:
        return await world.provider.create(world.spec(), await self._on_demand(world))

    async def _listed(self, world: ProviderWorld, owner8: str | None = OWNER) -> Sequence[PodId]:
        return [pod.id for pod in await world.provider.list(owner8)]
