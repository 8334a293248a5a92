"""Handing a runner's configuration over: once per wait, again after every loss, and never two runners of a name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import anyio
import pytest
from support.fakes import NAME, OWNER8, REQUEST, FakeProvider, FakeRegistry, Memory, Troubles, offer, pod, tags

from runner_provisioner.domain.leases import Lease, Limits, Phase
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec, SshEndpoint
from runner_provisioner.domain.runners import Registration, RunnerDownload, RunnerState
from runner_provisioner.domain.stuck import QueuedJob
from runner_provisioner.errors import (
    BootTimeout,
    HostKeyChanged,
    RunnerBusy,
    RunnerNameTaken,
    ServerError,
    SshFailed,
    Timeout,
)
from runner_provisioner.services import jit as jit_module
from runner_provisioner.services.jit import JitHandOver
from runner_provisioner.services.provision import Order, Start
from runner_provisioner.services.reconcile import Polls
from runner_provisioner.testing.clock import EPOCH, FakeClock

LABELS = ("rp-label", "more")
READY = SshEndpoint(host="203.0.113.7", port=22)


@dataclass
class WayIn(Troubles):
    """`ports.HandOver`: a pod that waits from its n-th look on, and whose runner comes online when it got something."""

    registry: FakeRegistry | None = None
    waits_from: int = 0
    given: list[str] = field(default_factory=list)
    wants: bool = True
    online: bool = True

    async def waits(self, pod: Pod) -> bool:
        """Whether it waits."""
        self.meet("waits")
        return self.wants and self.calls.count("waits") > self.waits_from

    async def give(self, pod: Pod, config: str) -> None:
        """Take it."""
        self.meet("give")
        self.given.append(config)
        self.wants = False
        if self.registry is not None and self.online:
            for number, runner in self.registry.runners.items():
                self.registry.runners[number] = replace(runner, state=RunnerState.IDLE, online=True)


class Scene:
    """A registry, a way in, and the one between them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.registry = FakeRegistry(self.clock, online_after=None)
        self.way_in = WayIn(registry=self.registry)
        self.jit = JitHandOver(registry=self.registry, way_in=self.way_in, labels=LABELS)


async def test_a_pod_that_waits_gets_one_configuration() -> None:
    """And none when it waits no more."""
    scene = Scene()
    assert await scene.jit.give(pod(), NAME)
    assert not await scene.jit.give(pod(), NAME)
    assert scene.way_in.given == ["planted-configuration-1"]
    assert scene.registry.calls.count("jit_config") == 1


async def test_the_runner_tells_of_its_pod() -> None:
    """Who rented it, when it ends, and where it is: to who cannot see the pod."""
    scene = Scene()
    assert await scene.jit.give(pod(provider="elsewhere", tags=tags(creator="me", expires_at=EPOCH)), NAME)
    (runner,) = scene.registry.runners.values()
    assert (runner.creator, runner.pod_ends_at, runner.provider) == ("me", EPOCH, "elsewhere")


async def test_nothing_is_registered_before_the_pod_waits() -> None:
    """A configuration spoils within minutes."""
    scene = Scene()
    scene.way_in.waits_from = 2
    assert [await scene.jit.give(pod(), NAME) for _ in range(3)] == [False, False, True]
    assert scene.registry.calls.count("jit_config") == 1


async def test_a_name_that_is_taken_is_freed_and_used() -> None:
    """By an offline runner: of a configuration that was lost on its way."""
    scene = Scene()
    scene.registry.put(NAME, RunnerState.OFFLINE, online=False)
    assert await scene.jit.give(pod(), NAME)
    (runner,) = scene.registry.runners.values()
    assert (runner.name, runner.online) == (NAME, True)
    assert scene.registry.calls.count("jit_config") == 2


async def test_a_name_that_a_busy_runner_holds_is_waited_for() -> None:
    """Its pod was taken while its job ran: for ten minutes GitHub refuses to remove it (422)."""
    scene = Scene()
    scene.registry.put(NAME, RunnerState.BUSY, online=False)
    scene.registry.add("remove", RunnerBusy("busy"))
    with pytest.raises(RunnerBusy):
        await scene.jit.give(pod(), NAME)
    assert scene.way_in.given == []
    assert await scene.jit.give(pod(), NAME)
    assert len(scene.registry.runners) == len(scene.way_in.given) == 1
    assert scene.registry.calls.count("jit_config") == 3


async def test_a_name_whose_runner_is_gone_meanwhile_is_tried_again() -> None:
    """The list may be ahead of the refusal."""
    scene = Scene()
    scene.registry.add("jit_config", RunnerNameTaken("Already exists"))
    assert await scene.jit.give(pod(), NAME)
    assert "remove" not in scene.registry.calls


async def test_a_runner_that_is_online_is_never_removed() -> None:
    """It serves."""
    scene = Scene()
    scene.registry.put(NAME)
    with pytest.raises(RunnerNameTaken):
        await scene.jit.give(pod(), NAME)
    assert "remove" not in scene.registry.calls
    assert scene.way_in.given == []


async def test_a_pod_that_takes_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass has other things to do."""
    scene = Scene()
    monkeypatch.setattr(jit_module, "LONGEST", 0.05)

    async def hang(_pod: Pod, _config: str) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(scene.way_in, "give", hang)
    with pytest.raises(Timeout, match="did not take its configuration"):
        await scene.jit.give(pod(), NAME)


class WithSsh(FakeProvider):
    """Its pods have a public SSH port at once."""

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """Rent it."""
        made = await super().create(spec, offer)
        self.pods[made.id] = replace(made, ssh=READY)
        return self.pods[made.id]


class Started(Scene):
    """A whole start with such a hand-over."""

    def __init__(self) -> None:
        super().__init__()
        self.provider = WithSsh(self.clock, offer("A"))
        self.memory = Memory()

    async def run(self) -> object:
        """Start."""
        start = Start(
            providers={"fake": self.provider},
            registry=self.registry,
            clock=self.clock,
            store=self.memory,
            events=self.memory,
            limits=Limits(settle=timedelta(seconds=3), boot=timedelta(seconds=30), lifetime=timedelta(hours=1)),
            polls=Polls(booting=1.0, running=1.0, patience=20.0),
            hurry=lambda: None,
        )
        lease = Lease(
            name=NAME,
            phase=Phase.REQUESTED,
            nonce="n",
            creator="c",
            deadline=self.clock.now() + timedelta(minutes=5),
        )
        return await start.run(
            Order(
                owner8=OWNER8,
                key="default",
                label="rp-label",
                request=REQUEST,
                lease=lease,
                draw_up=_draw_up,
                jit=self.jit,
            )
        )


def _draw_up(
    _offer: Offer, _lifetime: timedelta, registration: Registration | None, _download: RunnerDownload
) -> PodSpec:
    assert registration is None
    return PodSpec(name=NAME, image="image", tags=tags(nonce="n", creator="c"))


async def test_a_start_hands_over_once_the_pod_waits() -> None:
    """It asks in every pass, makes no registration token, and tells of the hand-over, not of what was handed over."""
    scene = Started()
    scene.way_in.waits_from = 3
    await scene.run()
    assert scene.way_in.given == ["planted-configuration-1"]
    assert "register" not in scene.registry.calls
    assert len(scene.memory.told("hand_over_done")) == 1
    assert "planted-configuration" not in repr(scene.memory.events) + repr(scene.memory.leases)


class Queue(Troubles):
    """`ports.JobQueue` with one job that asks for these labels."""

    labels: tuple[str, ...] = ("rp-label", "gpu")

    async def queued_jobs(self, repository: str) -> list[QueuedJob]:
        """It."""
        self.meet(repository)
        return [QueuedJob(id=1, run_id=2, name="gpu", labels=self.labels, queued_at=FakeClock().now())]

    async def cancel_if_active(self, repository: str, run_id: int) -> bool:
        """Never asked for."""
        raise AssertionError


@pytest.mark.parametrize(
    ("labels", "label", "given"),
    [
        pytest.param(("rp-label", "gpu"), "rp-label", True, id="its-job-waits"),
        pytest.param(("rp-other",), "rp-label", False, id="another-job-waits"),
        pytest.param(("rp-label",), None, False, id="a-pod-without-label"),
    ],
)
async def test_after_the_start_only_a_queued_job_is_a_reason(
    labels: tuple[str, ...], label: str | None, *, given: bool
) -> None:
    """A runner that nobody needs any more is not made anew."""
    scene, queue = Scene(), Queue()
    queue.labels = labels
    assert await scene.jit.give_if_wanted(pod(tags=tags(label=label)), queue, "o/r") is given
    assert queue.calls == ["o/r"]
    scene.way_in.wants = False
    assert not await scene.jit.give_if_wanted(pod(tags=tags(label=label)), queue, "o/r")
    assert queue.calls == ["o/r"]
    assert len(scene.way_in.given) == int(given)
    assert [set(runner.labels) >= {*LABELS, *labels} for runner in scene.registry.runners.values()] == [True] * given


@pytest.mark.parametrize(
    ("verb", "error"),
    [
        pytest.param("waits", SshFailed("broke"), id="no-answer"),
        pytest.param("jit_config", ServerError("502"), id="lost-answer"),
        pytest.param("give", SshFailed("broke"), id="broken-hand-over"),
        pytest.param("remove", RunnerBusy("busy"), id="a-busy-namesake"),
    ],
)
async def test_what_fails_is_done_again_in_the_next_pass(verb: str, error: Exception) -> None:
    """And told once, however often it fails."""
    scene = Started()
    where = scene.way_in if verb in {"waits", "give"} else scene.registry
    assert isinstance(error, SshFailed | ServerError | RunnerBusy)
    if verb == "remove":
        scene.registry.add("jit_config", RunnerNameTaken("Already exists"))
        scene.registry.put(NAME, RunnerState.OFFLINE, online=False)
        scene.registry.runners.clear()
        scene.way_in.add("give", SshFailed("broke"))
    where.add(verb, error, error)
    await scene.run()
    assert len(scene.way_in.given) == 1
    assert len(scene.registry.runners) == 1
    told = [event.fields["error"] for event in scene.memory.told("hand_over_failed")]
    assert told.count(str(error)) == 1


async def test_a_runner_that_the_server_removed_gets_another_configuration() -> None:
    """The pod waits again while the start still runs."""
    scene = Started()
    scene.way_in.online = False
    first = True

    async def spoil(pod: Pod, config: str) -> None:
        nonlocal first
        scene.way_in.given.append(config)
        if first:
            first = False
            scene.registry.runners.clear()
            return
        await WayIn.give(WayIn(registry=scene.registry), pod, config)
        scene.way_in.wants = False

    scene.way_in.give = spoil  # type: ignore[method-assign] # this pod's own way
    await scene.run()
    assert len(scene.way_in.given) == 2
    assert [runner.online for runner in scene.registry.runners.values()] == [True]


async def test_a_changed_host_key_ends_the_pod_and_says_why() -> None:
    """Nothing is handed over, and nothing is left."""
    scene = Started()
    scene.way_in.add("waits", *[HostKeyChanged("host key verification failed")] * 100)
    with pytest.raises(BootTimeout, match="host key verification failed"):
        await scene.run()
    assert scene.way_in.given == []
    assert scene.provider.pods == {}
    assert scene.registry.runners == {}


async def test_a_pod_without_an_address_is_not_asked() -> None:
    """It has no SSH yet."""
    scene = Started()
    made: list[Pod] = []

    async def get(pod_id: PodId) -> Pod | None:
        found = await FakeProvider.get(scene.provider, pod_id)
        made.append(found) if found else None
        return replace(found, ssh=None) if found and len(made) < 4 else found

    scene.provider.get = get  # type: ignore[method-assign] # this provider's own way
    await scene.run()
    assert scene.way_in.given == ["planted-configuration-1"]
