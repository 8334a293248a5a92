"""Many leases at once: one look for all of them, and one that is in trouble stops no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import anyio
import pytest
from support.fakes import OWNER8, FakeProvider, FakeRegistry, Memory, offer, pod, tags

from runner_provisioner.domain.budget import Terms
from runner_provisioner.domain.leases import Lease, Limits, Outcome, Phase, PodRef, Unknown, ref
from runner_provisioner.domain.pods import Pod, PodId, PodSpec
from runner_provisioner.domain.runners import RunnerState
from runner_provisioner.errors import (
    AuthenticationFailed,
    CapacityUnavailable,
    ProtocolViolation,
    ServerError,
    StoreError,
)
from runner_provisioner.services import fleet, observe
from runner_provisioner.services.act import Hands, Plan
from runner_provisioner.services.ending import Ending
from runner_provisioner.services.fleet import reconcile_all
from runner_provisioner.services.observe import Lookout, read_pods
from runner_provisioner.services.reconcile import Polls, Reconciler
from runner_provisioner.testing.clock import EPOCH, FakeClock

LIMITS = Limits(settle=timedelta(seconds=3), boot=timedelta(seconds=30), lifetime=timedelta(hours=1))
POLLS = Polls(booting=1.0, running=1.0, patience=20.0)
SIZES = [1, 100, 1000]


class BatchProvider(FakeProvider):
    """Reads several pods in one request."""

    async def get_many(self, pod_ids: Sequence[PodId]) -> Mapping[PodId, Pod | None]:
        """Read them."""
        self.meet("get_many")
        return {pod_id: self.pods.get(pod_id) for pod_id in pod_ids}


def name(number: int) -> str:
    """The name of a lease and its pod."""
    return f"rp-{OWNER8}-zz-1-k{number}"


class Fleet:
    """So many leases whose pods serve and whose runners are idle, at one provider that reads in batches."""

    def __init__(self, size: int, provider: FakeProvider | None = None) -> None:
        self.clock = FakeClock()
        self.provider = provider or BatchProvider(self.clock)
        self.registry = FakeRegistry(self.clock, online_after=None)
        self.memory = Memory()
        self.lookout = Lookout(providers={"fake": self.provider}, registry=self.registry, owner8=OWNER8)
        for number in range(size):
            made = pod(name(number), pod_id=f"p{number}", tags=tags(nonce="mine"))
            self.provider.pods[made.id] = made
            self.registry.put(made.name)
        self.pods = tuple(self.provider.pods.values())
        self.reconcilers = [self.reconciler(self.serving(one)) for one in self.pods]

    @staticmethod
    def serving(one: Pod, **more: object) -> Lease:
        """A lease of that pod."""
        values = {"phase": Phase.BOOTING, "nonce": "mine", "pod": ref(one), "placed_at": EPOCH, **more}
        return Lease(name=one.name, **values)  # type: ignore[arg-type] # the values are fields of a lease

    def reconciler(self, lease: Lease, plan: Plan | None = None) -> Reconciler:
        """Whoever moves it along."""
        hands = Hands(
            providers={"fake": self.provider},
            registry=self.registry,
            clock=self.clock,
            events=self.memory,
            plan=plan,
        )
        return Reconciler(
            lease,
            lookout=self.lookout,
            hands=hands,
            store=self.memory,
            clock=self.clock,
            limits=LIMITS,
            polls=POLLS,
        )

    def calls(self) -> list[str]:
        """What was asked so far."""
        return [*self.provider.calls, *self.registry.calls]


@pytest.mark.parametrize("size", SIZES)
async def test_a_pass_asks_as_much_of_many_leases_as_of_one(size: int) -> None:
    """One list and one read of the provider, one look at the registry, and every lease has moved."""
    scene = Fleet(size)
    assert await reconcile_all(scene.reconcilers, scene.lookout) == {}
    assert {one.lease.phase for one in scene.reconcilers} == {Phase.READY}
    assert len(scene.calls()) == 3
    assert len(scene.memory.leases) == size


@pytest.mark.parametrize("size", SIZES)
async def test_draining_many_looks_as_often_as_draining_one(size: int) -> None:
    """Only what ends things grows with their number."""
    scene = Fleet(size)
    ending = Ending(
        providers={"fake": scene.provider},
        registry=scene.registry,
        clock=scene.clock,
        events=scene.memory,
        limits=LIMITS,
        polls=POLLS,
    )
    leases = [Lease(name=one.name, phase=Phase.DRAINING, outcome=Outcome.CANCELLED) for one in scene.pods]
    ended = await ending.drain(leases, OWNER8)
    assert len(ended) == size
    assert not scene.provider.pods
    assert not scene.registry.runners
    looks = [call for call in scene.calls() if call not in {"terminate", "remove"}]
    # There, and gone; who was a moment later than the others when they looked again looks once more.
    assert len(looks) == 3 * (2 if size == 1 else 3)
    assert len(scene.calls()) - len(looks) == 2 * size


async def test_who_asks_during_a_look_gets_a_later_one() -> None:
    """What is seen is never older than the question."""
    scene = Fleet(2)
    first, second = (Fleet.serving(one) for one in scene.pods)
    begun, go_on = anyio.Event(), anyio.Event()
    plain = scene.provider.list

    async def slow(owner8: str | None) -> Sequence[Pod]:
        listed = await plain(owner8)
        begun.set()
        await go_on.wait()
        return listed

    scene.provider.list = slow  # type: ignore[method-assign]
    seen = {}

    async def look(lease: Lease) -> None:
        seen[lease.name] = await scene.lookout.look(lease)

    async with anyio.create_task_group() as group:
        group.start_soon(look, first)
        await begun.wait()
        scene.provider.pods.pop(scene.pods[1].id)
        group.start_soon(look, second)
        await anyio.lowlevel.checkpoint()
        go_on.set()
    assert seen[second.name].gone == {ref(scene.pods[1])}
    assert scene.provider.calls.count("list") == 2


async def test_a_look_that_is_cancelled_is_taken_over() -> None:
    """Those who share it look by themselves."""
    scene = Fleet(2)
    scopes: list[anyio.CancelScope] = []
    plain = scene.provider.list

    async def cut(owner8: str | None) -> Sequence[Pod]:
        if not scopes[0].cancel_called:
            scopes[0].cancel()
            await anyio.sleep(1)
        return await plain(owner8)

    scene.provider.list = cut  # type: ignore[method-assign]
    seen = []

    async def look(lease: Lease) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            seen.append(await scene.lookout.look(lease))

    async with anyio.create_task_group() as group:
        for one in scene.pods:
            group.start_soon(look, Fleet.serving(one))
    assert [sight.pods for sight in seen] == [(scene.pods[1],)]


async def test_a_failed_look_is_unknown_for_everyone() -> None:
    """Lists, reads and the registry each stand for themselves."""
    scene = Fleet(2)
    leases = [Fleet.serving(one) for one in scene.pods]
    scene.provider.add("get_many", ServerError("no reads"))
    scene.registry.add("list", ServerError("no runners"))
    for seen in await scene.lookout.look_at(leases):
        assert isinstance(seen.pods, Unknown)
        assert (seen.pods.reason, seen.gone) == ("no reads", frozenset())
        assert isinstance(seen.runner, Unknown)
    scene.provider.pods.pop(scene.pods[0].id)
    scene.provider.add("list", ServerError("no list"))
    first, second = await scene.lookout.look_at(leases)
    assert isinstance(first.pods, Unknown)
    assert first.gone == {ref(scene.pods[0])}
    assert isinstance(second.pods, Unknown)
    assert second.gone == frozenset()


async def test_a_pod_that_cannot_be_read_hides_no_other() -> None:
    """When a batch makes no sense its pods are read one by one."""
    scene = Fleet(3)
    scene.provider.add("get_many", ProtocolViolation("nonsense"))
    scene.provider.add("get", ProtocolViolation("nonsense"))
    first, *others = await scene.lookout.look_at([Fleet.serving(one) for one in scene.pods])
    assert isinstance(first.pods, Unknown)
    assert [seen.pods for seen in others] == [(one,) for one in scene.pods[1:]]


async def test_a_provider_without_batches_is_read_with_a_bound() -> None:
    """So many reads at a time and no more."""
    clock = FakeClock()
    provider = FakeProvider(clock)
    at_once = most = 0
    plain = provider.get

    async def get(pod_id: PodId) -> Pod | None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await anyio.lowlevel.checkpoint()
        at_once -= 1
        return await plain(pod_id)

    provider.get = get  # type: ignore[method-assign]
    read = await read_pods(provider, [PodId(f"p{number}") for number in range(100)])
    assert set(read.values()) == {None}
    assert most == observe.AT_ONCE


async def test_a_lease_that_cannot_be_saved_stops_no_other() -> None:
    """Its error is given back, and nothing was done for it."""
    scene = Fleet(3)
    scene.memory.add("save", StoreError("disk full"))
    errors = await reconcile_all(scene.reconcilers, scene.lookout)
    assert [(key, str(error)) for key, error in errors.items()] == [(name(0), "disk full")]
    assert [one.lease.phase for one in scene.reconcilers] == [Phase.BOOTING, Phase.READY, Phase.READY]


async def test_what_is_on_its_way_out_acts_first_and_what_is_released_is_left_alone() -> None:
    """With a bound of one the draining lease's pod is ended before another's is rented."""
    scene = Fleet(1)
    plan = Plan(
        rungs=(offer("A"), offer("B")),
        blueprint=lambda _offer, _lifetime: PodSpec(name=name(7), image="i", tags=tags()),
        terms=Terms(lifetime=timedelta(hours=6)),
    )
    wanting = Lease(name=name(7), phase=Phase.REQUESTED, nonce="n", rungs=2, deadline=EPOCH + timedelta(hours=1))
    leaving = Fleet.serving(scene.pods[0], phase=Phase.DRAINING, outcome=Outcome.CANCELLED)
    over = Lease(name=name(8), phase=Phase.RELEASED)
    scene.provider.add("create", CapacityUnavailable("none"))
    reconcilers = [scene.reconciler(wanting, plan), scene.reconciler(leaving), scene.reconciler(over)]
    assert await reconcile_all(reconcilers, scene.lookout, at_once=1) == {}
    # A refused offer is followed by the next one without a new look.
    assert scene.provider.calls == ["list", "get", "terminate", "create", "create", "created"]
    assert reconcilers[0].lease.rung == 1
    assert reconcilers[0].lease.known == {PodRef("fake", next(iter(scene.provider.pods)))}
    assert reconcilers[2].lease is over


async def test_no_lease_needs_no_look() -> None:
    """Not even one call."""
    scene = Fleet(0)
    assert await reconcile_all([], scene.lookout) == {}
    assert scene.calls() == []
    assert fleet.AT_ONCE > 1


async def test_a_refused_credential_ends_the_drain_of_all() -> None:
    """Told once, and itself the error."""
    scene = Fleet(5)
    ending = Ending(
        providers={"fake": scene.provider},
        registry=scene.registry,
        clock=scene.clock,
        events=scene.memory,
        limits=LIMITS,
        polls=POLLS,
    )
    scene.provider.add("list", *[AuthenticationFailed("refused", service="fake")] * 100)
    leases = [Lease(name=one.name, phase=Phase.DRAINING, outcome=Outcome.CANCELLED) for one in scene.pods]
    with pytest.raises(AuthenticationFailed):
        await ending.drain(leases, OWNER8)
    assert len(scene.memory.told("look_failed")) == 1
    assert scene.provider.calls.count("list") <= 20


async def test_runners_that_work_are_seen_by_name() -> None:
    """Each lease gets its own."""
    scene = Fleet(2)
    scene.registry.runners.clear()
    busy = scene.registry.put(name(1), RunnerState.BUSY)
    first, second = await scene.lookout.look_at([Fleet.serving(one) for one in scene.pods])
    assert (first.runner, second.runner) == (None, busy)
