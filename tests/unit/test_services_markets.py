"""Several providers at once: asked side by side, passed over where they fail, never where something is to be ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import anyio
import pytest
from support.fakes import NAME, OWNER8, REQUEST, FakeHistory, FakeProvider, FakeRegistry, Memory, offer, pod, tags

from runner_provisioner.domain.budget import Budget, Terms
from runner_provisioner.domain.kill_layers import Layer, layers, say_layers
from runner_provisioner.domain.leases import Lease, Limits, Outcome, Phase, PodRef, Unknown
from runner_provisioner.domain.markets import LogLine, PastPod, PodTemplate, TemplateSpec
from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec
from runner_provisioner.domain.runners import Registration, RunnerDownload
from runner_provisioner.errors import (
    AllOffersFailed,
    AuthenticationFailed,
    BudgetExceeded,
    InvalidRequest,
    LeftBehind,
    NotFound,
    RemoteError,
    ServerError,
    Timeout,
    UnknownGpu,
)
from runner_provisioner.services.act import Hands
from runner_provisioner.services.asking import ask_all
from runner_provisioner.services.budget import Purse
from runner_provisioner.services.ending import Ending
from runner_provisioner.services.foresee import Foresight
from runner_provisioner.services.kill_time import KillTimes, layers_at
from runner_provisioner.services.manual import ManualPods
from runner_provisioner.services.markets import Markets
from runner_provisioner.services.observe import Lookout, Passing
from runner_provisioner.services.offers import survey
from runner_provisioner.services.provision import Order, Start, Started
from runner_provisioner.services.reconcile import Polls
from runner_provisioner.testing.clock import FakeClock

LIMITS = Limits(settle=timedelta(seconds=3), boot=timedelta(seconds=30), lifetime=timedelta(hours=1))
POLLS = Polls(booting=1.0, running=1.0, patience=20.0)
DOWN = ServerError("down", service="second")


class HangingProvider(FakeProvider):
    """One whose named verbs never answer."""

    hangs: frozenset[str] = frozenset({"offers", "list"})

    async def offers(self, request: GpuRequest) -> Sequence[Offer]:
        """Never, or what is for rent."""
        found = await super().offers(request)
        if "offers" in self.hangs:
            await anyio.sleep_forever()
        return found

    async def list(self, owner8: str | None) -> Sequence[Pod]:
        """Never, or all of an owner."""
        found = await super().list(owner8)
        if "list" in self.hangs:
            await anyio.sleep_forever()
        return found


class Scene:
    """A start over two providers."""

    def __init__(self, second: FakeProvider | None = None, *, patience: float = 30.0) -> None:
        self.clock = FakeClock()
        self.first = FakeProvider(self.clock, offer("A", provider="first"), name="first")
        cheap = offer("A", price="0.4", provider="second")
        self.second = second or FakeProvider(self.clock, cheap, name="second")
        self.registry = FakeRegistry(self.clock, online_after=2)
        self.memory = Memory()
        self.lease = Lease(name=NAME, phase=Phase.REQUESTED, nonce="n", creator="c", cap=Decimal(1))
        self.patience = patience
        self.accepted = False
        self.proof: bool | RemoteError | None = None
        self.asked = 0
        self.specs: list[PodSpec] = []
        self.budget = Budget()
        self.rent_from: tuple[str, ...] = ()

    @property
    def providers(self) -> dict[str, FakeProvider]:
        """Both, by name."""
        return {"first": self.first, "second": self.second}

    async def cleaned(self) -> bool | None:
        """Whether a clean-up succeeded."""
        self.asked += 1
        if isinstance(self.proof, RemoteError):
            raise self.proof
        return self.proof

    def draw_up(
        self, _offer: Offer, _lifetime: timedelta, _registration: Registration | None, _download: RunnerDownload
    ) -> PodSpec:
        """A pod."""
        return PodSpec(name=NAME, image="image", tags=tags(nonce="n", creator="c"))

    async def run(self) -> Started:
        """Start."""
        start = Start(
            providers=self.providers,
            registry=self.registry,
            clock=self.clock,
            store=self.memory,
            events=self.memory,
            limits=LIMITS,
            polls=POLLS,
            hurry=lambda: None,
            cleaned=self.cleaned,
            patience=self.patience,
            rent_from=self.rent_from,
        )
        order = Order(
            owner8=OWNER8,
            key="default",
            label="rp-label",
            request=REQUEST,
            lease=replace(self.lease, deadline=self.clock.now() + timedelta(minutes=5)),
            draw_up=self.draw_up,
            accept_no_kill_time=self.accepted,
            budget=self.budget,
        )
        return await start.run(order)


# --- asking


def _says(answer: str, after: float = 0.0) -> Callable[[], Awaitable[str]]:
    async def says() -> str:
        await anyio.sleep(after)
        return answer

    return says


def _fails(error: Exception) -> Callable[[], Awaitable[str]]:
    async def fails() -> str:
        raise error

    return fails


async def test_answers_and_errors_keep_the_order_of_the_questions() -> None:
    """Whoever was the quickest."""
    replies = await ask_all({"a": _says("1", 0.02), "b": _fails(DOWN), "c": _says("3")})
    assert list(replies.answers.items()) == [("a", "1"), ("c", "3")]
    assert replies.errors == {"b": DOWN}


async def test_one_that_hangs_costs_its_patience_once_another_has_answered() -> None:
    """It is a timeout then; without patience, or without any answer, everybody gets the time that it takes."""
    begin = anyio.current_time()
    replies = await ask_all({"a": _says("1"), "b": _says("2", 60)}, patience=0.05)
    assert 0.04 < anyio.current_time() - begin < 5
    assert isinstance(replies.errors["b"], Timeout)
    assert replies.errors["b"].service == "b"
    late = await ask_all({"a": _says("1", 0.05), "b": _fails(DOWN)}, patience=0.001)
    assert (late.answers, late.errors) == ({"a": "1"}, {"b": DOWN})
    patient = await ask_all({"a": _says("1"), "b": _says("2", 0.05)})
    assert patient.answers == {"a": "1", "b": "2"}


async def test_no_one_costs_more_than_the_limit_though_nobody_has_answered() -> None:
    """Nor more than the patience, once one answer is what was looked for; others are no reason to hurry."""
    begin = anyio.current_time()
    replies = await ask_all({"a": _says("1", 60)}, limit=0.05)
    assert 0.04 < anyio.current_time() - begin < 5
    assert str(replies.errors["a"]) == "a has not answered within 0.05 s"
    asked = {"a": _says("no"), "b": _says("yes", 0.05), "c": _says("no", 60)}
    found = await ask_all(asked, patience=0.01, limit=60, enough=lambda answer: answer == "yes")
    assert (found.answers, list(found.errors)) == ({"a": "no", "b": "yes"}, ["c"])
    assert anyio.current_time() - begin < 5


async def test_a_mistake_of_ours_is_no_answer() -> None:
    """It is raised."""
    with pytest.raises(ExceptionGroup):
        await ask_all({"a": _fails(ValueError("a bug"))})


async def test_a_market_that_could_not_be_asked_decides_before_one_that_knows_no_such_model() -> None:
    """It might have known it; a market that lacks the model is no trouble where another has it."""
    scene = Scene()
    scene.first.add("offers", UnknownGpu("no such GPU"), UnknownGpu("no such GPU"))
    scene.second.add("offers", DOWN)
    with pytest.raises(ServerError):
        await survey(scene.providers, REQUEST)
    found = await survey(scene.providers, REQUEST)
    assert [one.provider for one in found.ladder.rungs] == ["second"]
    assert found.passed_over == {}


class Knowing(FakeProvider):
    """A market that knows only some models."""

    known: frozenset[str] = frozenset()

    async def offers(self, request: GpuRequest) -> Sequence[Offer]:
        """Of those that it knows."""
        found = await super().offers(request)
        strange = sorted(set(request.models) - self.known)
        if strange:
            raise UnknownGpu(f"{self.name} has no GPU '{strange[0]}'")
        return [one for one in found if one.gpu_model in request.models]


def _knowing(name: str, *models: str) -> Knowing:
    market = Knowing(FakeClock(), *(offer(model, provider=name) for model in models), name=name)
    market.known = frozenset(models)
    return market


async def test_a_model_that_one_market_does_not_know_has_no_offers_there_alone() -> None:
    """Its other models are on the ladder, and the market is not passed over."""
    markets = {"a": _knowing("a", "A4000"), "b": _knowing("b", "A4000", "A5000")}
    found = await survey(markets, replace(REQUEST, models=("A4000", "A5000")))
    assert {(one.provider, one.gpu_model) for one in found.ladder.rungs} == {
        ("a", "A4000"),
        ("b", "A4000"),
        ("b", "A5000"),
    }
    assert found.passed_over == {}


async def test_a_model_that_no_market_knows_is_one_error() -> None:
    """Beside others that are known, and with what each market says of it."""
    markets = {"a": _knowing("a", "A4000"), "b": _knowing("b", "A5000")}
    with pytest.raises(UnknownGpu, match=r"^a has no GPU 'X9'; b has no GPU 'X9'$"):
        await survey(markets, replace(REQUEST, models=("A4000", "X9", "A5000")))
    with pytest.raises(UnknownGpu, match=r"^a has no GPU 'X9'; b has no GPU 'X9'$"):
        await survey(markets, replace(REQUEST, models=("X9",)))


async def test_a_market_that_cannot_be_asked_may_know_the_model() -> None:
    """So that there is no telling, and the others are rented from."""
    markets = {"a": _knowing("a", "A4000"), "b": _knowing("b", "A5000")}
    markets["b"].add("offers", DOWN)
    found = await survey(markets, replace(REQUEST, models=("A4000", "X9")))
    assert [one.gpu_model for one in found.ladder.rungs] == ["A4000"]
    assert set(found.passed_over) == {"b"}


# --- renting


async def test_the_best_offer_of_all_providers_is_taken() -> None:
    """Whoever has it."""
    scene = Scene()
    assert (await scene.run()).pod.provider == "second"
    assert not scene.first.pods


@pytest.mark.parametrize("error", [AuthenticationFailed("refused"), DOWN], ids=["refused", "down"])
async def test_a_provider_that_cannot_be_asked_is_said_and_passed_over(error: RemoteError) -> None:
    """Neither its offers nor its pods are looked at again."""
    scene = Scene()
    scene.second.add("offers", error)
    assert (await scene.run()).pod.provider == "first"
    assert [event.fields["provider"] for event in scene.memory.told("provider_passed_over")] == ["second"]
    assert scene.second.calls == ["offers"]


async def test_a_provider_that_hangs_costs_its_time_once() -> None:
    """Not at every pass."""
    scene = Scene(patience=0.05)
    scene.second = HangingProvider(scene.clock, name="second")
    begin = anyio.current_time()
    assert (await scene.run()).pod.provider == "first"
    assert anyio.current_time() - begin < 2
    assert scene.second.calls == ["offers"]


async def test_a_provider_that_hangs_after_its_offers_is_passed_over_at_the_first_look() -> None:
    """Its rungs are refused with that reason, though they are the cheaper ones."""
    scene = Scene(patience=0.05)
    hanging = HangingProvider(scene.clock, offer("A", price="0.4", provider="second"), name="second")
    hanging.hangs = frozenset({"list"})
    scene.second = hanging
    started = await scene.run()
    assert started.pod.provider == "first"
    assert hanging.calls == ["offers", "list"]
    assert any("second has not answered" in reason for _, reason in started.refusals)


async def test_the_rungs_of_a_provider_that_was_passed_over_are_refused_in_a_row() -> None:
    """None of them is tried."""
    scene = Scene()
    hands = Hands(providers=scene.providers, registry=scene.registry, clock=scene.clock, events=scene.memory)
    hands.pass_over("second", DOWN)
    assert hands._hopeless(offer("A", provider="second")) is DOWN
    assert hands._hopeless(offer("A", provider="first")) is None


async def test_one_that_is_the_only_one_left_is_looked_at_again_and_again() -> None:
    """Where no provider can be looked at nobody is passed over."""
    scene = Scene()
    scene.second.add("offers", DOWN)
    scene.first.add("list", DOWN, None)
    assert (await scene.run()).pod.provider == "first"
    assert scene.memory.told("look_failed")


async def test_a_provider_with_a_pod_of_the_start_is_never_passed_over() -> None:
    """Its failure is an unknown, and the pod stays ours."""
    scene = Scene()
    told: list[str] = []
    passing = Passing(patience=30.0, tell=lambda name, _error: told.append(name))
    lookout = Lookout(providers=scene.providers, registry=scene.registry, owner8=OWNER8, passing=passing)
    scene.second.add("list", DOWN)
    lease = replace(scene.lease, made=frozenset({PodRef("second", PodId("p1"))}))
    seen = await lookout.look(lease)
    assert isinstance(seen.pods, Unknown)
    assert told == []
    scene.second.add("list", DOWN)
    assert (await lookout.look(scene.lease)).pods == ()
    assert (told, passing.names) == (["second"], {"second"})
    assert (await lookout.look(replace(scene.lease, unsure=True))).pods == ()
    assert scene.second.calls.count("list") == 2


async def test_what_another_process_has_rented_where_this_one_looks_no_more_is_adopted() -> None:
    """They share a state file, which tells of the pod before anything is rented beside it."""
    scene = Scene()
    scene.second.add("offers", DOWN)
    theirs = await scene.second.create(PodSpec(name=NAME, image="x", tags=tags(nonce="n")), offer(provider="second"))
    siblings = frozenset({PodRef("second", theirs.id)})

    class Shared(Memory):
        """The file of both."""

        def save(self, lease: Lease) -> Lease:
            """What the other has made comes back."""
            return replace(super().save(lease), siblings=siblings)

    scene.memory = Shared()
    started = await scene.run()
    assert started.pod.id == theirs.id
    assert "create" not in scene.first.calls
    assert [one.phase for one in scene.memory.leases[:3]] == [Phase.PLACING, Phase.REQUESTED, Phase.BOOTING]


async def test_a_start_that_may_have_a_pod_somewhere_looks_everywhere() -> None:
    """What its earlier try has asked for may be at the provider that cannot be asked now: no second bill."""
    scene = Scene()
    scene.lease = replace(scene.lease, unsure=True)
    scene.second.add("offers", DOWN)
    await scene.second.create(PodSpec(name=NAME, image="x", tags=tags(nonce="n")), offer(provider="second"))
    started = await scene.run()
    assert started.pod.provider == "second"
    assert "create" not in scene.first.calls


async def test_a_start_that_is_narrowed_looks_at_the_others_only_where_it_has_something() -> None:
    """And rents from the one that was named."""
    scene = Scene()
    scene.rent_from = ("first",)
    assert (await scene.run()).pod.provider == "first"
    assert scene.second.calls == []


async def test_a_budget_is_not_reckoned_without_a_provider() -> None:
    """Nobody knows what runs there; an advisory one is told."""
    scene = Scene()
    scene.second.add("offers", DOWN)
    scene.budget = Budget(day=Decimal(10))
    with pytest.raises(BudgetExceeded, match=r"while second cannot be looked at \(down\)"):
        await scene.run()
    purse = Purse(
        Budget(day=Decimal(10)),
        providers=scene.providers,
        history=FakeHistory(),
        clock=scene.clock,
        events=scene.memory,
        owner8=OWNER8,
        lifetime=timedelta(hours=1),
    )
    scene.second.add("list", DOWN)
    with pytest.raises(ServerError):
        await purse.left()


# --- kill times


async def test_a_market_without_a_kill_time_is_skipped_and_said() -> None:
    """The next one is rented, and asked for its kill time."""
    scene = Scene()
    scene.second.kill_time = False
    started = await scene.run()
    assert started.pod.provider == "first"
    assert any("second ends no pod by itself" in reason for _, reason in started.refusals)
    assert scene.asked == 1


@pytest.mark.parametrize(
    ("accepted", "proof", "asked"),
    [
        pytest.param(True, None, 0, id="accepted"),
        pytest.param(False, True, 1, id="proven"),
    ],
)
async def test_it_is_rented_from_when_that_is_accepted_or_proven(
    *, accepted: bool, proof: bool | None, asked: int
) -> None:
    """And the start says what ends the pod."""
    scene = Scene()
    scene.second.kill_time = False
    scene.accepted, scene.proof = accepted, proof
    assert (await scene.run()).pod.provider == "second"
    assert scene.asked == asked
    (said,) = scene.memory.told("pod_layers")
    assert said.fields["layers"] == "stop, watch, the scheduled clean-up; its provider has no kill time"


@pytest.mark.parametrize("proof", [False, None, ServerError("no answer")], ids=["none", "unknown", "failed"])
async def test_without_proof_nothing_is_rented(proof: bool | RemoteError | None) -> None:  # noqa: FBT001 - a parameter of the test
    """The error names the remedy."""
    scene = Scene()
    scene.first.kill_time = scene.second.kill_time = False
    scene.proof = proof
    with pytest.raises(AllOffersFailed, match="--accept-no-kill-time"):
        await scene.run()
    assert "create" not in [*scene.first.calls, *scene.second.calls]


async def test_nobody_is_asked_for_proof_where_all_have_a_kill_time() -> None:
    """The pod has to have it then."""
    scene = Scene()
    found, unended = await KillTimes(providers=scene.providers).allowed((await survey(scene.providers, REQUEST)).ladder)
    assert (len(found.rungs), unended) == (2, False)
    scene.second.kill_time = False
    left, _ = await KillTimes(providers=scene.providers).allowed(found)
    assert [one.provider for one in left.rungs] == ["first"]


@pytest.mark.parametrize("accepted", [True, False])
async def test_the_pod_is_asked_to_have_a_kill_time(*, accepted: bool) -> None:
    """Unless one without is accepted."""
    scene = Scene()
    scene.accepted = accepted
    specs: list[PodSpec] = []
    plain = scene.second.create

    async def create(spec: PodSpec, wanted: Offer) -> Pod:
        specs.append(spec)
        return await plain(spec, wanted)

    scene.second.create = create  # type: ignore[method-assign, assignment]
    await scene.run()
    assert [one.needs_kill_time for one in specs] == [not accepted]


class SwitchedProvider(FakeProvider):
    """One whose pods can end themselves."""

    ends_from_inside = True


def test_the_layers_of_a_pod_are_those_that_its_provider_has() -> None:
    """Stop, watch and clean-up always."""
    assert layers(kill_time=True, switch=True) == tuple(Layer)
    assert say_layers(layers(kill_time=True, switch=False)) == (
        "stop, watch, the provider's kill time, the scheduled clean-up"
    )
    assert "the switch in the pod" in layers_at(SwitchedProvider(FakeClock()))
    assert "the switch in the pod" not in layers_at(FakeProvider(FakeClock()))


# --- ending


async def test_an_end_without_the_key_of_a_pods_provider_claims_nothing() -> None:
    """The pod is named as left, with the reason."""
    scene = Scene()
    ending = Ending(
        providers={"first": scene.first},
        registry=scene.registry,
        clock=scene.clock,
        events=scene.memory,
        limits=LIMITS,
        polls=POLLS,
    )
    made = frozenset({PodRef("second", PodId("p9"))})
    lease = Lease(name=NAME, phase=Phase.DRAINING, outcome=Outcome.CANCELLED, made=made)
    with pytest.raises(LeftBehind, match=r"pod p9 at second .*no key of second is here"):
        await ending.drain([lease], OWNER8)
    hands = Hands(providers={}, registry=scene.registry, clock=scene.clock, events=scene.memory)
    await hands._end(PodRef("second", PodId("p9")))
    assert scene.memory.told("pod_end_failed")


async def test_an_end_with_a_provider_that_is_down_claims_nothing() -> None:
    """However many others have answered."""
    scene = Scene()
    scene.second.add("list", *[DOWN] * 500)
    ending = Ending(
        providers=scene.providers,
        registry=scene.registry,
        clock=scene.clock,
        events=scene.memory,
        limits=LIMITS,
        polls=POLLS,
    )
    lease = Lease(name=NAME, phase=Phase.DRAINING, outcome=Outcome.CANCELLED)
    with pytest.raises(LeftBehind, match="could not be looked up"):
        await ending.drain([lease], OWNER8)


# --- plan


def _foresight(scene: Scene) -> Foresight:
    return Foresight(providers=scene.providers, registry=scene.registry, clock=scene.clock, events=scene.memory)


async def test_a_plan_says_who_is_passed_over() -> None:
    """Without failing for it, or looking there."""
    scene = Scene()
    scene.second.add("offers", DOWN)
    found = await _foresight(scene).run(
        REQUEST, Terms(lifetime=timedelta(hours=1)), Budget(), owner8=OWNER8, lease=scene.lease
    )
    assert (found.failure, dict(found.passed_over)) == (None, {"second": DOWN})
    assert scene.second.calls == ["offers"]


async def test_a_plan_that_cannot_look_for_its_pod_fails() -> None:
    """As the start would wait."""
    scene = Scene()
    scene.second.add("list", DOWN)
    found = await _foresight(scene).run(
        REQUEST, Terms(lifetime=timedelta(hours=1)), Budget(), owner8=OWNER8, lease=scene.lease
    )
    assert found.failure is DOWN


class BankingProvider(FakeProvider):
    """One that tells its balance."""

    async def balance(self) -> Decimal:
        """Much."""
        self.meet("balance")
        return Decimal(50)


async def test_one_account_that_cannot_be_used_does_not_fail_a_plan() -> None:
    """As long as the other's offers are there; it is among the permissions."""
    scene = Scene()
    scene.first = BankingProvider(scene.clock, offer("A", provider="first"), name="first")
    scene.second = BankingProvider(scene.clock, offer("A", provider="second"), name="second")
    scene.second.add("balance", AuthenticationFailed("refused"))
    found = await _foresight(scene).run(REQUEST, Terms(lifetime=timedelta(hours=1)), Budget(), owner8=OWNER8)
    assert found.failure is None
    assert [type(one.error) for one in found.permissions] == [type(None), type(None), AuthenticationFailed]


async def test_an_account_that_hangs_is_a_permission_that_is_missing() -> None:
    """Once the other has told."""
    scene = Scene()
    scene.first = BankingProvider(scene.clock, offer("A", provider="first"), name="first")

    class Silent(BankingProvider):
        async def balance(self) -> Decimal:
            await anyio.sleep_forever()
            return Decimal(0)

    scene.second = Silent(scene.clock, offer("A", provider="second"), name="second")
    foresight = Foresight(
        providers=scene.providers, registry=scene.registry, clock=scene.clock, events=scene.memory, patience=0.05
    )
    found = await foresight.run(REQUEST, Terms(lifetime=timedelta(hours=1)), Budget(), owner8=OWNER8)
    assert [type(one.error) for one in found.permissions] == [type(None), type(None), Timeout]


# --- pods by hand


def _manual(scene: Scene) -> ManualPods:
    return ManualPods(scene.providers, clock=scene.clock, settle=3)


async def test_a_list_shows_what_can_be_seen_and_says_what_cannot() -> None:
    """As a whole it fails."""
    scene = Scene()
    scene.first.pods[PodId("p1")] = pod(provider="first")
    scene.second.add("list", DOWN, DOWN)
    found, errors = await _manual(scene).look()
    assert ([one.id for one in found], dict(errors)) == (["p1"], {"second": DOWN})
    with pytest.raises(ServerError):
        await _manual(scene).list()


async def test_a_pod_is_found_though_another_provider_is_down_and_else_not_said_to_be_gone() -> None:
    """It may be there."""
    scene = Scene()
    scene.first.pods[PodId("p1")] = pod(provider="first")
    scene.second.add("get", DOWN, DOWN)
    assert (await _manual(scene).get(PodId("p1"))).provider == "first"
    with pytest.raises(ServerError):
        await _manual(scene).terminate(PodId("p2"))
    with pytest.raises(NotFound):
        await _manual(scene).get(PodId("p2"))


async def test_an_id_that_two_providers_know_has_to_be_told_apart() -> None:
    """Nothing is ended by guess."""
    scene = Scene()
    scene.first.pods[PodId("p1")] = pod(provider="first")
    scene.second.pods[PodId("p1")] = pod(provider="second")
    with pytest.raises(InvalidRequest, match="exists at first and second: say which with --provider"):
        await _manual(scene).terminate(PodId("p1"))


# --- what providers keep


class TellingProvider(FakeProvider):
    """One with every capability."""

    async def ssh_keys(self) -> Sequence[str]:
        """One."""
        self.meet("ssh_keys")
        return ["ssh-ed25519 AAAA"]

    async def history(self, *, limit: int = 100) -> Sequence[PastPod]:
        """Two, one of which nobody knows the end of."""
        self.meet("history")
        ended = PastPod(provider=self.name, id=PodId("old"), ended_at=self._clock.now())
        return [PastPod(provider=self.name, id=PodId("when")), ended][:limit]

    async def templates(self) -> Sequence[PodTemplate]:
        """One."""
        return [PodTemplate(provider=self.name, id="t1", name="one")]

    async def create_template(self, spec: TemplateSpec) -> PodTemplate:
        """It is made."""
        self.meet("create_template")
        return PodTemplate(provider=self.name, id="t2", name=spec.name)

    async def delete_template(self, template_id: str) -> None:
        """It is gone."""
        self.meet("delete_template")

    async def logs(self, pod_id: PodId, *, tail: int | None = None, follow: bool = False) -> AsyncIterator[LogLine]:
        """One line."""
        yield LogLine(text=f"{pod_id} {tail} {follow}")


def _markets(scene: Scene) -> Markets:
    return Markets(scene.providers, _manual(scene))


async def test_what_a_provider_keeps_is_told_and_who_cannot_is_named() -> None:
    """Also who failed."""
    scene = Scene()
    scene.second = TellingProvider(scene.clock, name="second")
    markets = _markets(scene)
    past = await markets.history(limit=5)
    assert ([one.id for one in past.pods], past.cannot, past.errors) == (["old", "when"], ("first",), {})
    assert len((await markets.history(limit=1)).pods) == 1
    assert [one.id for one in (await markets.templates()).templates] == ["t1"]
    assert dict((await markets.ssh_keys()).keys) == {"second": ["ssh-ed25519 AAAA"]}
    scene.second.add("ssh_keys", DOWN)
    assert dict((await markets.ssh_keys()).errors) == {"second": DOWN}
    assert (await markets.create_template(TemplateSpec(name="x", image="y"))).id == "t2"
    await markets.delete_template("t2")
    assert scene.second.calls[-1] == "delete_template"


async def test_logs_are_those_of_the_pods_own_provider() -> None:
    """One that gives none says so."""
    scene = Scene()
    scene.second = TellingProvider(scene.clock, name="second")
    scene.second.pods[PodId("p2")] = pod(pod_id="p2", provider="second")
    scene.first.pods[PodId("p1")] = pod(provider="first")
    lines = [one.text async for one in await _markets(scene).logs(PodId("p2"), tail=3, follow=True)]
    assert lines == ["p2 3 True"]
    with pytest.raises(InvalidRequest, match="first gives no logs"):
        await _markets(scene).logs(PodId("p1"))


async def test_where_nobody_can_or_several_could_it_is_said() -> None:
    """A template is made at one provider."""
    scene = Scene()
    with pytest.raises(InvalidRequest, match="first and second: no provider of these keeps templates"):
        await _markets(scene).templates()
    scene.first = TellingProvider(scene.clock, name="first")
    scene.second = TellingProvider(scene.clock, name="second")
    with pytest.raises(InvalidRequest, match="say one with --provider"):
        await _markets(scene).delete_template("t1")
