"""Starting pods that boot bare: at most once, again after every loss, by whoever looks after the lease."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal

import anyio
import pytest
from support.fakes import NAME, OWNER8, REQUEST, FakeProvider, FakeRegistry, Memory, Troubles, offer, pod, tags

from runner_provisioner.domain.bare import Inside, Stage
from runner_provisioner.domain.gate import PodPhase, PodReport
from runner_provisioner.domain.leases import Lease, Limits, Outcome, Phase, PodRef
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec, SshEndpoint
from runner_provisioner.domain.runners import Registration, RunnerDownload, RunnerState
from runner_provisioner.errors import (
    AllOffersFailed,
    BootTimeout,
    CreateOutcomeUnknown,
    HostKeyChanged,
    LoginRefused,
    ProvisioningFailed,
    RunnerProvisionerError,
    ServerError,
    SshFailed,
    StoreError,
    Timeout,
)
from runner_provisioner.ports import starts_over_ssh
from runner_provisioner.services import over_ssh as over_ssh_module
from runner_provisioner.services.jit import JitHandOver
from runner_provisioner.services.over_ssh import OverSsh
from runner_provisioner.services.provision import Order, Start, Started
from runner_provisioner.services.reconcile import Polls
from runner_provisioner.testing.clock import FakeClock

KEY = "ssh-ed25519 AAAA"
READY = SshEndpoint(host="203.0.113.7", port=22)
LIFETIME = timedelta(hours=1)
FAILED = PodReport(phase=PodPhase.GATE_FAILED, reason="gate: no GPU")


class BareProvider(FakeProvider):
    """Its pods have an address at once and no tags ever; it keeps what it was asked for."""

    starts_over_ssh = True

    def __init__(self, clock: FakeClock, *offers: Offer, name: str = "fake") -> None:
        super().__init__(clock, *offers, name=name)
        self.specs: list[PodSpec] = []

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """Rent it."""
        self.specs.append(spec)
        made = await super().create(spec, offer)
        self.pods[made.id] = replace(made, ssh=READY, tags=None, gpu_model=offer.gpu_model)
        self.meet("answer")
        return self.pods[made.id]


@dataclass
class Door(Troubles):
    """`ports.BareDoor`: pods that let nobody in for so many looks, and whose runner is online once they are started."""

    registry: FakeRegistry | None = None
    shut: int = 0
    begun: dict[PodId, PodSpec] = field(default_factory=dict)
    attempts: int = 0
    reports: dict[PodId, Inside] = field(default_factory=dict)
    online: bool = True

    async def look(self, pod: Pod) -> Inside:
        """How far it is."""
        self.meet("look")
        if self.calls.count("look") <= self.shut:
            return Inside(stage=Stage.SHUT)
        if pod.id in self.reports:
            return self.reports[pod.id]
        first = self.calls.count("look") == self.shut + 1
        stage = Stage.BEGUN if pod.id in self.begun else Stage.BARE
        return Inside(stage=stage, pinned="SHA256:abc" if first else None)

    async def begin(self, pod: Pod, spec: PodSpec) -> None:
        """Start it, once."""
        self.attempts += 1
        self.meet("before")
        assert pod.id not in self.begun, "two runners"
        self.begun[pod.id] = spec
        if self.registry is not None and self.online:
            self.registry.put(NAME)
        self.meet("after")


class Scene:
    """A provider with bare pods, and a start there."""

    def __init__(self, *offers: Offer) -> None:
        self.clock = FakeClock()
        self.registry = FakeRegistry(self.clock, online_after=None)
        self.provider = BareProvider(self.clock, *(offers or (offer("A"),)))
        self.door = Door(registry=self.registry)
        self.over_ssh = OverSsh(doors={"fake": self.door}, public_keys={"fake": KEY})
        self.memory = Memory()
        self.lease = Lease(
            name=NAME, phase=Phase.REQUESTED, nonce="n", creator="c", deadline=self.clock.now() + timedelta(minutes=5)
        )
        self.jit: JitHandOver | None = None
        self.drawn: list[tuple[Offer, timedelta, Registration | None]] = []

    def draw_up(
        self, offer: Offer, lifetime: timedelta, registration: Registration | None, _download: RunnerDownload
    ) -> PodSpec:
        """The whole pod."""
        self.drawn.append((offer, lifetime, registration))
        own = tags(nonce="n", creator="c")
        return PodSpec(name=NAME, image="image", tags=own, command="the command", env={"A": "b"})

    async def run(self) -> Started:
        """Start."""
        start = Start(
            providers={"fake": self.provider},
            registry=self.registry,
            clock=self.clock,
            store=self.memory,
            events=self.memory,
            limits=Limits(settle=timedelta(seconds=3), boot=timedelta(seconds=30), lifetime=LIFETIME),
            polls=Polls(booting=1.0, running=1.0, patience=20.0),
            hurry=lambda: None,
        )
        return await start.run(
            Order(
                owner8=OWNER8,
                key="default",
                label="rp-label",
                request=REQUEST,
                lease=self.lease,
                draw_up=self.draw_up,
                over_ssh=self.over_ssh,
                jit=self.jit,
            )
        )

    def told(self, name: str) -> list[str]:
        """What was told of these events."""
        return [str(event.fields.get("error", event.fields.get("pod"))) for event in self.memory.told(name)]


async def test_a_pod_is_rented_bare_and_started_once() -> None:
    """The provider gets neither command nor environment, and our key to let in; the pod gets everything else."""
    scene = Scene()
    started = await scene.run()
    (spec,) = scene.provider.specs
    assert (spec.image, spec.command, spec.env, spec.login_key) == ("", None, {}, KEY)
    given = scene.door.begun[started.pod.id]
    assert (given.command, given.env) == ("the command", {"A": "b"})
    assert scene.door.attempts == 1
    assert scene.told("pod_begun") == [started.pod.id]
    assert [event.fields["fingerprint"] for event in scene.memory.told("host_key_pinned")] == ["SHA256:abc"]
    assert scene.registry.calls.count("register") == 2  # before it is rented, and when it is started
    assert "the command" not in repr(scene.memory.events) + repr(scene.memory.leases)


@pytest.mark.parametrize(
    ("when", "error", "attempts"),
    [
        pytest.param("before", SshFailed("broke"), 3, id="before-it-began"),
        pytest.param("after", SshFailed("broke"), 1, id="after-it-began"),
        pytest.param("look", SshFailed("broke"), 1, id="at-the-look"),
        pytest.param("look", LoginRefused("refused"), 1, id="login-refused-at-first"),
        pytest.param("look", StoreError("disk full"), 1, id="host-key-not-kept"),
    ],
)
async def test_a_connection_that_drops_starts_nothing_twice_and_nothing_too_little(
    when: str, error: RunnerProvisionerError, attempts: int
) -> None:
    """The next pass looks again; the same trouble is told once."""
    scene = Scene()
    scene.door.add(when, error, error)
    started = await scene.run()
    assert list(scene.door.begun) == [started.pod.id]
    assert scene.door.attempts == attempts
    assert scene.told("pod_not_begun") == [str(error)]
    assert len(scene.registry.runners) == 1


async def test_a_registration_that_fails_is_asked_for_again() -> None:
    """Nothing has begun meanwhile."""
    scene = Scene()
    scene.registry.add("register", None, ServerError("502"))
    await scene.run()
    assert scene.door.attempts == 1
    assert scene.told("pod_not_begun") == ["502"]


async def test_an_sshd_that_is_not_up_yet_is_no_trouble() -> None:
    """It is looked at again."""
    scene = Scene()
    scene.door.shut = 5
    await scene.run()
    assert scene.door.attempts == 1
    assert scene.told("pod_not_begun") == []


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        pytest.param(None, "no runner came online in time", id="sshd-never-comes"),
        pytest.param(HostKeyChanged("host key verification failed"), "host key verification", id="host-key-changed"),
        pytest.param(LoginRefused("permission denied"), "permission denied", id="login-refused"),
    ],
)
async def test_a_pod_that_cannot_be_started_is_given_back_in_time(
    trouble: RunnerProvisionerError | None, said: str
) -> None:
    """And says why."""
    scene = Scene()
    scene.door.shut = 10_000
    if trouble is not None:
        scene.door.add("look", *[trouble] * 1000)
    with pytest.raises(BootTimeout, match=said):
        await scene.run()
    assert scene.provider.pods == {}
    assert scene.door.begun == {}


async def test_a_pod_that_takes_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass has other things to do."""
    scene = Scene()
    monkeypatch.setattr(over_ssh_module, "LONGEST", 0.05)

    async def hang(_pod: Pod, _spec: PodSpec) -> None:
        await anyio.sleep_forever()

    async def drawn() -> PodSpec:
        return PodSpec(name=NAME, image="")

    monkeypatch.setattr(scene.door, "begin", hang)
    with pytest.raises(Timeout, match="was not started"):
        await scene.over_ssh.bring(pod(), drawn)


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "unanswered"])
async def test_a_start_that_was_killed_before_it_started_its_pod_is_repeated(*, answered: bool) -> None:
    """The second finds the pod that is there, by its id or by its name and age, and starts it with a new token."""
    scene = Scene()
    placed = scene.clock.now()
    spec = PodSpec(name=NAME, image="")
    left = await scene.provider.create(spec, offer("A"))
    await scene.clock.sleep(600)
    if answered:
        scene.lease = replace(scene.lease, inherited=frozenset({PodRef("fake", left.id)}), placed_at=placed)
    else:
        scene.lease = replace(scene.lease, unsure=True, placed_at=placed)
    scene.lease = replace(scene.lease, deadline=scene.clock.now() + timedelta(minutes=5))
    started = await scene.run()
    assert started.pod.id == left.id
    assert scene.provider.specs == [spec]
    assert list(scene.door.begun) == [left.id]
    _, lifetime, registration = scene.drawn[-1]
    assert registration is not None
    assert LIFETIME - timedelta(seconds=660) < lifetime <= LIFETIME - timedelta(seconds=600)


async def test_a_start_that_was_killed_after_it_started_its_pod_starts_nothing() -> None:
    """It waits for the runner that comes."""
    scene = Scene()
    left = await scene.provider.create(PodSpec(name=NAME, image=""), offer("A"))
    scene.door.begun[left.id] = PodSpec(name=NAME, image="")
    scene.registry.online_after = 4
    scene.lease = replace(scene.lease, inherited=frozenset({PodRef("fake", left.id)}), placed_at=scene.clock.now())
    assert (await scene.run()).pod.id == left.id
    assert scene.door.attempts == 0


async def test_a_pod_of_somebody_else_is_neither_started_nor_ended() -> None:
    """One of the name that was there before anything was asked for is another start's."""
    scene = Scene()
    theirs = await scene.provider.create(PodSpec(name=NAME, image=""), offer("A"))
    await scene.clock.sleep(600)
    scene.lease = replace(scene.lease, unsure=True, placed_at=scene.clock.now())
    scene.lease = replace(scene.lease, deadline=scene.clock.now() + timedelta(minutes=5))
    with pytest.raises(ProvisioningFailed, match="already has a pod"):
        await scene.run()
    assert list(scene.provider.pods) == [theirs.id]
    assert scene.door.begun == {}


async def test_a_create_without_an_answer_is_no_second_bill() -> None:
    """The pod that turns up is told by its name and its age, started, and kept."""
    scene = Scene()
    scene.provider.add("answer", CreateOutcomeUnknown("perhaps"))
    started = await scene.run()
    assert len(scene.provider.specs) == 1
    assert list(scene.door.begun) == [started.pod.id]


@pytest.mark.parametrize(
    ("inside", "outcome", "said"),
    [
        pytest.param(Inside(stage=Stage.OVER), Outcome.LOST, "has ended, as after a restart", id="restarted"),
        pytest.param(
            Inside(stage=Stage.BEGUN, report=FAILED), Outcome.GATE_FAILED, "says: gate: no GPU", id="gate-failed"
        ),
    ],
)
async def test_a_pod_that_will_never_serve_makes_room_for_the_next_offer(
    inside: Inside, outcome: Outcome, said: str
) -> None:
    """It is not waited for."""
    scene = Scene(offer("A"), offer("A", price="0.6"))
    scene.door.reports[PodId("p1")] = inside
    begun = scene.clock.monotonic()
    started = await scene.run()
    assert started.pod.id == "p2"
    assert list(scene.provider.pods) == ["p2"]
    assert scene.clock.monotonic() - begun < 20
    assert any(said in why for _, why in started.refusals)
    assert outcome in {lease.outcome for lease in scene.memory.leases}


async def test_the_last_pod_that_will_never_serve_says_why() -> None:
    """In its own words."""
    scene = Scene()
    scene.door.reports[PodId("p1")] = Inside(stage=Stage.BEGUN, report=FAILED)
    with pytest.raises((ProvisioningFailed, AllOffersFailed), match="gate: no GPU"):
        await scene.run()
    assert scene.provider.pods == {}


@pytest.mark.parametrize("told", [True, False], ids=["told", "not-told"])
async def test_a_pod_behind_which_there_is_no_offer_any_more_is_drawn_up_from_what_it_says(*, told: bool) -> None:
    """As where a repeated start finds the market changed."""
    scene = Scene(offer("B"))
    left = await scene.provider.create(PodSpec(name=NAME, image=""), offer("A"))
    bare = replace(left, created_at=None, price=None, gpu_model="Z" if not told else "A", gpu_count=2 if told else None)
    scene.provider.pods[left.id] = bare
    scene.lease = replace(scene.lease, inherited=frozenset({PodRef("fake", left.id)}))
    await scene.run()
    drawn, lifetime, _ = scene.drawn[-1]
    assert (drawn.gpu_model, drawn.gpu_count) == (("A", 2) if told else ("Z", 1))
    assert drawn.price == Decimal(0)
    assert lifetime == LIFETIME


async def test_without_any_offer_the_pod_that_is_there_is_started() -> None:
    """The market sold out meanwhile."""
    scene = Scene()
    left = await scene.provider.create(PodSpec(name=NAME, image=""), offer("A"))
    scene.provider._offers = ()
    scene.lease = replace(scene.lease, inherited=frozenset({PodRef("fake", left.id)}))
    assert (await scene.run()).pod.id == left.id
    assert list(scene.door.begun) == [left.id]


class Waits(Troubles):
    """`ports.HandOver` of pods that wait once they were started."""

    def __init__(self, door: Door, registry: FakeRegistry) -> None:
        super().__init__()
        self.door, self.registry = door, registry
        self.given: list[str] = []

    async def waits(self, pod: Pod) -> bool:
        """Whether it waits."""
        return pod.id in self.door.begun and not self.given

    async def give(self, pod: Pod, config: str) -> None:
        """Take it."""
        assert pod.id in self.door.begun
        self.given.append(config)
        for number, runner in self.registry.runners.items():
            self.registry.runners[number] = replace(runner, state=RunnerState.IDLE, online=True)


async def test_a_runner_that_waits_for_its_configuration_gets_it_after_its_start() -> None:
    """No registration token is made for it."""
    scene = Scene()
    scene.door.online = False
    way_in = Waits(scene.door, scene.registry)
    scene.jit = JitHandOver(registry=scene.registry, way_in=way_in, labels=("rp-label",))
    await scene.run()
    assert len(way_in.given) == 1
    assert "register" not in scene.registry.calls
    assert scene.drawn[-1][2] is None


async def test_a_pod_that_failed_its_gate_gets_no_configuration() -> None:
    """It is on its way out."""
    scene = Scene()
    scene.door.reports[PodId("p1")] = Inside(stage=Stage.BEGUN, report=FAILED)
    way_in = Waits(scene.door, scene.registry)
    scene.door.begun[PodId("p1")] = PodSpec(name=NAME, image="")
    scene.jit = JitHandOver(registry=scene.registry, way_in=way_in, labels=("rp-label",))
    with pytest.raises(ProvisioningFailed):
        await scene.run()
    assert way_in.given == []


async def test_other_providers_get_the_whole_pod() -> None:
    """And nobody logs in to theirs."""
    scene = Scene()
    scene.provider.starts_over_ssh = False
    scene.registry.online_after = 6
    await scene.run()
    (spec,) = scene.provider.specs
    assert (spec.command, spec.login_key) == ("the command", None)
    assert scene.door.calls == []


def test_a_provider_that_says_nothing_starts_nothing_over_ssh() -> None:
    """As one that has no such verb."""
    assert not starts_over_ssh(FakeProvider(FakeClock()))
    assert starts_over_ssh(BareProvider(FakeClock()))
