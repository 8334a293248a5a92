"""Creates that are served once, and the service's pods after that; over providers in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import anyio
import pytest
from support.fakes import OWNER8, FakeProvider, Memory, PausableProvider, offer, pod
from support.service_state import State
from support.virtual_time import VirtualClock, VirtualLoop, run

from runner_provisioner.domain.api_keys import ApiKey
from runner_provisioner.domain.markets import PodTemplate, TemplateSpec
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec
from runner_provisioner.domain.served import Answer, Contract, RequestRef
from runner_provisioner.errors import (
    AllOffersFailed,
    BudgetExceeded,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InvalidRequest,
    NotFound,
    ServerError,
    StaleWrite,
    StoreError,
)
from runner_provisioner.services.manual import ManualPods
from runner_provisioner.services.once import HOLD, Identity, KeyReused, Once, StillServed
from runner_provisioner.services.orders import Made, Orders, Wish
from runner_provisioner.services.rounds import AT_ONCE, PATIENCE, UNSETTLED
from runner_provisioner.services.served import NotOurs, Served
from runner_provisioner.services.shelf import Shelf

IDENTITY = Identity(ref=RequestRef("", "cloud", "key"), digest="one")
WISH = Wish(
    contract=Contract.CLOUD,
    label="mine",
    spec=PodSpec(name="", image="x/y"),
    request=GpuRequest(models=("A",), count=1, interruptible=Interruptible.NEVER, max_price=Decimal(1)),
)
LIFETIME = timedelta(hours=24)


class SlowProvider(PausableProvider):
    """Its creates take a while."""

    seconds = 0.0
    answers_after = 0.0
    lagging: Sequence[Pod] = ()
    deaf: Collection[PodId] = ()  # whose end is never answered
    empty = 0  # so many looks see no offer

    async def offers(self, request: GpuRequest) -> Sequence[Offer]:
        """What is for rent."""
        found = await super().offers(request)
        self.empty -= 1
        return found if self.empty < 0 else ()

    async def list(self, owner8: str | None) -> Sequence[Pod]:
        """All, and those that the list has not noticed the end of."""
        return [*await super().list(owner8), *self.lagging]

    async def terminate(self, pod_id: PodId) -> None:
        """End it."""
        if pod_id in self.deaf:
            await anyio.sleep_forever()
        await super().terminate(pod_id)

    async def create(self, spec: PodSpec, offer: Offer) -> Pod:
        """Rent it."""
        await anyio.sleep(self.seconds)
        made = await super().create(spec, offer)
        await anyio.sleep(self.answers_after)
        return made


class EndedLater(SlowProvider):
    """Its pods are given their exact end after they were rented."""

    def __init__(self, clock: VirtualClock, *offers: Offer, name: str) -> None:
        super().__init__(clock, *offers, name=name)  # type: ignore[arg-type] # any clock
        self.ends: dict[PodId, datetime] = {}

    async def end_at(self, pod_id: PodId, at: datetime) -> None:
        """End it then."""
        self.meet("end_at")
        self.ends[pod_id] = at


class Keeper(FakeProvider):
    """A provider that keeps templates."""

    def __init__(self, clock: VirtualClock, name: str) -> None:
        super().__init__(clock, name=name)  # type: ignore[arg-type] # any clock
        self.kept: list[PodTemplate] = []

    async def templates(self) -> Sequence[PodTemplate]:
        """Those there are."""
        self.meet("templates")
        return self.kept

    async def create_template(self, spec: TemplateSpec, *, wait: bool = True) -> PodTemplate:
        """Make one."""
        self.kept.append(PodTemplate(provider=self.name, id=f"{self.name}{len(self.kept)}", name=spec.name))
        self.meet("create_template")
        return self.kept[-1]

    async def delete_template(self, template_id: str) -> None:
        """Remove it."""


class House:
    """One service over one provider that can pause and one that cannot."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.clock = VirtualClock(loop)
        self.state = State()
        self.events = Memory()
        self.one = SlowProvider(self.clock, offer("A", provider="one"), name="one")  # type: ignore[arg-type] # any clock
        self.two = FakeProvider(self.clock, name="two")  # type: ignore[arg-type] # any clock
        self.orders = self.service("first")
        self.served = Served(self.state, self.market, self.orders, clock=self.clock, events=self.events, owner8=OWNER8)
        self.letters = 0

    def market(self, names: Sequence[str]) -> ManualPods:
        """The pods of some providers, or of all."""
        return self.among((), names)

    def among(self, have: Sequence[str], names: Sequence[str]) -> ManualPods:
        """Those of a service that has these providers, or both."""
        both = {n: p for n, p in {"one": self.one, "two": self.two}.items() if not have or n in have}
        chosen = {n: p for n, p in both.items() if not names or n in names}
        return ManualPods(chosen, clock=self.clock, settle=30, events=self.events)

    def without(self, name: str) -> Served:
        """A service that does not have that provider."""
        names = tuple({"one", "two"} - {name})
        orders = self.service("less", *names)
        market = partial(self.among, names)
        return Served(self.state, market, orders, clock=self.clock, events=self.events, owner8=OWNER8)

    def service(self, holder: str, *names: str) -> Orders:
        """A process of the service, over these providers or all."""
        once = Once(self.state.requests, clock=self.clock, events=self.events, holder=holder)
        return Orders(
            self.state,
            partial(self.among, names),
            once,
            clock=self.clock,
            owner8=OWNER8,
            repository=None,
            letters=self.draw,
            settle=30,
        )

    def draw(self, count: int) -> str:
        """Other letters each time."""
        self.letters = getattr(self, "letters", 0) + 1
        return f"{self.letters:0{count}d}".translate(str.maketrans("0123456789", "abcdefghij"))

    async def drawn(self) -> Wish:
        """What is wished for."""
        return WISH

    async def rent(
        self, orders: Orders | None = None, *, identity: Identity | None = IDENTITY, key: ApiKey | None = None
    ) -> str:
        """The id of the pod that the answer names."""
        rent = (orders or self.orders).rent
        answer = await rent(self.drawn, _render, lifetime=LIFETIME, key=key, identity=identity)
        return answer.body


async def _never(owner8: str | None) -> Sequence[Pod]:
    await anyio.sleep_forever()
    return ()


def _render(made: Made) -> Answer:
    return Answer(status=200, body=made.pod.id)


def play(act: Callable[[House], Awaitable[None]]) -> House:
    """Let it happen."""
    houses: list[House] = []

    async def main(loop: VirtualLoop) -> None:
        houses.append(House(loop))
        await act(houses[0])

    run(main)
    return houses[0]


def test_a_request_that_takes_long_is_held_all_the_time() -> None:
    """Who repeats it hears so for as long as it lasts, and not another body's either."""

    async def act(house: House) -> None:
        house.one.seconds = 5 * HOLD.total_seconds()
        answers: list[str] = []
        async with anyio.create_task_group() as group:

            async def first() -> None:
                answers.append(await house.rent())

            group.start_soon(first)
            for _ in range(4):
                await anyio.sleep(HOLD.total_seconds())
                with pytest.raises(StillServed) as caught:
                    await house.rent(house.service("second"))
                assert 0 < caught.value.retry_after <= HOLD.total_seconds()
                with pytest.raises(KeyReused):
                    await house.rent(identity=replace(IDENTITY, digest="two"))
        assert answers == ["p1"]
        assert await house.rent(house.service("second")) == "p1"

    assert play(act).one.calls.count("create") == 1


def test_what_cannot_be_written_down_is_told_and_the_pod_is_found_again() -> None:
    """An answer that is lost matters to nobody; a pod that could not be kept is looked for by its name."""

    async def act(house: House) -> None:
        house.state.kept_requests.add("answer", StoreError("disk full"))
        assert await house.rent() == "p1"
        assert len(house.events.told("state_not_written")) == 1
        await anyio.sleep(HOLD.total_seconds())
        assert await house.rent(house.service("second")) == "p1"
        house.state.kept_pods.add("rented", StoreError("disk full"))
        assert await house.rent(identity=None) == "p2"  # who has no key could not ask again
        house.one.pods.clear()
        house.state.kept_pods.kept.clear()
        house.state.kept_requests.kept.clear()
        house.one.calls.clear()
        house.one._number = 0
        house.state.kept_pods.add("rented", StoreError("disk full"))
        with pytest.raises(CreateOutcomeUnknown, match="pod p1 at one could not be written down"):
            await house.rent()
        await anyio.sleep(HOLD.total_seconds())
        assert await house.rent(house.service("second")) == "p1"
        (kept,) = house.state.kept_pods.kept.values()
        assert (kept.id, kept.provider) == ("p1", "one")

    assert play(act).one.calls.count("create") == 1


def test_a_pod_whose_record_is_gone_is_ended_before_another_is_rented() -> None:
    """Nobody would end it, as after a lifetime's stall."""

    async def act(house: House) -> None:
        house.state.kept_pods.add("rented", StaleWrite("gone"))
        assert await house.rent() == "p2"

    assert list(play(act).one.pods) == ["p2"]


@pytest.mark.parametrize("known", [True, False], ids=["given up", "nobody can say"])
def test_a_create_that_is_cut_ends_its_pod_where_it_is_nobodys(*, known: bool) -> None:
    """Where that cannot be asked it stays, and is found again."""

    async def act(house: House) -> None:
        house.state.kept_pods.add("give_up", None if known else StoreError("away"))
        house.one.answers_after = 10
        with anyio.move_on_after(5):
            await house.rent()
        assert list(house.one.pods) == ([] if known else ["p1"])
        assert len(house.events.told("state_not_written")) == (not known)
        house.one.answers_after = 0
        await anyio.sleep(HOLD.total_seconds())
        assert await house.rent() == ("p2" if known else "p1")

    play(act)


def test_a_request_whose_server_died_before_it_intended_anything_begins_anew() -> None:
    """There is nothing to look for."""

    async def act(house: House) -> None:
        house.state.kept_pods.add("intend", StoreError("disk full"))
        house.state.kept_requests.add("withdraw", StoreError("disk full"))
        with pytest.raises(StoreError):
            await house.rent()
        await anyio.sleep(HOLD.total_seconds())
        assert await house.rent() == "p1"

    assert play(act).one.calls.count("create") == 1


def test_while_a_provider_cannot_be_looked_at_nobody_rents_again() -> None:
    """The lost pod may be there; two looks must have failed to show it. Where none was sent nobody asks."""

    async def act(house: House) -> None:
        house.one.add("create", CreateOutcomeUnknown("no answer"))
        with pytest.raises(CreateOutcomeUnknown):
            await house.rent()
        await anyio.sleep(HOLD.total_seconds())
        house.one.add("list", ServerError("down"), None)
        house.two.calls.clear()
        with pytest.raises(CreateOutcomeUnknown, match="one: down"):
            await house.rent()
        assert not house.two.calls
        assert house.one.calls.count("create") == 1
        await anyio.sleep(HOLD.total_seconds())
        assert await house.rent() == "p1"

    play(act)


def test_a_pod_of_the_same_name_with_another_nonce_is_not_it() -> None:
    """The nonce tells; where a provider gives no tags back the name does."""

    async def act(house: House) -> None:
        house.one.add("create", CreateOutcomeUnknown("no answer"))
        with pytest.raises(CreateOutcomeUnknown):
            await house.rent()
        (intended,) = house.state.kept_pods.kept.values()
        bare = pod(intended.name, pod_id="bare", provider="one")
        house.one.pods[PodId("bare")] = bare
        await anyio.sleep(HOLD.total_seconds())
        assert await house.rent() == "bare"

    play(act)


def test_a_refused_request_leaves_nothing_behind() -> None:
    """Neither a pod that was intended, nor a request that nobody may repeat."""

    async def act(house: House) -> None:
        house.one.add("create", CapacityUnavailable("taken"))
        with pytest.raises(AllOffersFailed):
            await house.rent()
        assert not house.state.kept_pods.kept
        assert await house.rent() == "p1"

    play(act)


def test_what_a_dead_server_has_begun_is_settled_by_a_round() -> None:
    """A pod that is found is remembered, what is not there is given up, and what is under way is left alone.

    What was given up counts for nothing, is ended when it comes after all, and forgotten when its time is over.
    """

    async def act(house: House) -> None:
        for done in (True, False):
            house.one.add("create", *([None] if done else [CreateOutcomeUnknown("no answer")]))
            house.state.kept_pods.add("rented", *([StoreError("disk full")] if done else []))
            if done:
                await house.rent(identity=None)
            else:
                with pytest.raises(CreateOutcomeUnknown):
                    await house.rent(identity=None)
        first, second = house.state.kept_pods.kept
        house.orders.under_way.add(first)
        await anyio.sleep(UNSETTLED.total_seconds() + 1)
        await house.served.round()
        kept = house.state.kept_pods.kept
        assert kept[second].given_up_at is None  # a list may lag
        await house.served.round()
        assert (kept[first].id, kept[first].given_up_at) == (None, None)
        assert (kept[second].given_up_at is not None, kept[second].counted) == (True, Decimal(0))
        house.orders.under_way.clear()
        await house.served.round()
        assert kept[first].id == "p1"
        late = pod(second, pod_id="late", provider="one")
        house.one.pods[late.id] = late
        house.one.stubborn = 200
        await house.served.round()
        assert set(house.one.pods) == {"p1", "late"}
        assert house.events.told("round_failed")
        house.one.stubborn = 0
        await house.served.round()
        assert (set(house.one.pods), len(house.events.told("pod_given_up"))) == ({"p1"}, 1)
        assert kept[second].ended_at is not None
        bare = {"id": None, "provider": None, "ended_at": None, "cost": None}
        await house.state.pods.intend(replace(kept[second], name="never", nonce="x", **bare))  # type: ignore[arg-type] # fields of a pod
        await house.served.round()
        assert "never" in kept
        await anyio.sleep(LIFETIME.total_seconds())
        house.two.add("list", ServerError("down"))
        await house.served.round()
        assert "never" in kept
        await house.served.round()
        assert "never" not in kept

    play(act)


def test_a_key_with_a_budget_rents_what_the_budget_bears() -> None:
    """At most so much is reserved; what is left decides; where nothing is offered the market's own error comes."""

    async def act(house: House) -> None:
        house.state.kept_keys.make(budget=Decimal(15))
        (key,) = house.state.kept_keys.kept.values()
        assert await house.rent(key=key, identity=None) == "p1"
        assert await house.state.pods.counted(key.id) == Decimal(12)
        with pytest.raises(BudgetExceeded, match=r"3\.0000 of its budget of 15 USD left"):
            await house.rent(key=key, identity=None)
        house.one._offers = ()
        with pytest.raises(Exception, match="no on-demand offer"):
            await house.rent(key=key, identity=None)

    play(act)


def test_a_budget_holds_though_offers_come_between_two_looks_at_the_market() -> None:
    """What was not there when the price was bounded is not rented at any price."""

    async def act(house: House) -> None:
        house.state.kept_keys.make(budget=Decimal("0.5"))
        (key,) = house.state.kept_keys.kept.values()
        house.one.empty = 1
        with pytest.raises(Exception, match="no on-demand offer"):
            await house.rent(key=key)
        assert (dict(house.one.pods), await house.state.pods.counted(key.id)) == ({}, Decimal(0))
        with pytest.raises(BudgetExceeded):
            await house.rent(key=key)

    play(act)


def test_a_resumption_that_cannot_be_written_down_keeps_the_request() -> None:
    """Who repeats it looks for its pod again before anything is rented."""

    async def act(house: House) -> None:
        house.one.add("create", CreateOutcomeUnknown("no answer"))
        with pytest.raises(CreateOutcomeUnknown):
            await house.rent()
        await anyio.sleep(HOLD.total_seconds())
        house.state.kept_pods.add("give_up", StoreError("away"))
        with pytest.raises(StoreError):
            await house.rent()
        (kept,) = house.state.kept_requests.kept.values()
        house.one.pods[PodId("late")] = pod(kept.pod_name, pod_id="late", provider="one")
        await anyio.sleep(HOLD.total_seconds())
        assert await house.rent() == "late"

    assert play(act).one.calls.count("create") == 1


@pytest.mark.parametrize("error", [None, ServerError("down")], ids=["set", "refused"])
def test_a_pod_that_was_found_again_is_given_its_end(error: ServerError | None) -> None:
    """Where that cannot be done it is told, and the round ends the pod."""

    async def act(house: House) -> None:
        one = EndedLater(house.clock, offer("A", provider="one"), name="one")
        house.one = one
        one.add("created", CreateOutcomeUnknown("no answer"))
        one.add("end_at", error)
        made = PodId(await house.rent())
        (kept,) = house.state.kept_pods.kept.values()
        assert one.ends == ({} if error else {made: kept.expires_at})
        assert len(house.events.told("kill_time_not_set")) == (error is not None)

    play(act)


def test_pods_are_stopped_resumed_and_ended_where_they_are_ours() -> None:
    """By what is remembered, by their tags, by their name; others are shown and left alone."""

    async def act(house: House) -> None:
        made = PodId(await house.rent())
        assert (await house.served.get(made)).label == "mine"
        assert (await house.served.stop(made)).pod.state == "stopped"
        assert (await house.served.resume(made)).pod.state == "running"
        ours, theirs = f"rpm-{OWNER8}-zz-aaaa", "rpm-ffffffff-zz-aaaa"
        for name, pod_id in ((ours, "ours"), (theirs, "theirs"), ("plain", "plain")):
            house.two.pods[PodId(pod_id)] = pod(name, pod_id=pod_id, provider="two")
        found, errors = await house.served.all()
        assert ({one.label for one in found}, dict(errors)) == ({"mine", ours, theirs, "plain"}, {})
        await house.served.end(PodId("ours"))
        for name in ("theirs", "plain"):
            with pytest.raises(NotOurs):
                await house.served.end(PodId(name))
        house.two.pods[PodId("ours")] = pod(ours, pod_id="ours", provider="two")
        with pytest.raises(InvalidRequest, match="neither stop nor resume"):
            await house.served.stop(PodId("ours"))
        assert await house.served.remembered(PodId("nobody")) is None

    play(act)


def test_a_round_goes_on_where_one_pod_cannot_be_ended() -> None:
    """It is told, and tried again in the next; a state that cannot be read ends the round."""

    async def act(house: House) -> None:
        made = await house.rent()
        await anyio.sleep(LIFETIME.total_seconds() + 1)
        house.one.add("terminate", ServerError("down"))
        tally = await house.served.round()
        assert tally.pods == {"one": 1}
        assert [event.fields["error"] for event in house.events.told("round_failed")] == ["down"]
        house.one.lagging = [house.one.pods.pop(PodId(made))]
        await house.served.round()
        assert len(house.events.told("round_failed")) == 1
        house.one.lagging = []
        house.state.kept_pods.add("ended", StoreError("disk full"))
        house.one.pods[PodId(made)] = pod("x", pod_id=made, provider="one")
        (kept,) = house.state.kept_pods.kept.values()
        house.state.kept_pods.kept[kept.name] = replace(kept, ended_at=None, cost=None)
        with pytest.raises(StoreError):
            await house.served.round()

    play(act)


def test_a_provider_that_hangs_keeps_no_pod_elsewhere_from_being_ended() -> None:
    """However many creates are to be looked for there; its own pods are remembered, and looked after later."""

    async def act(house: House) -> None:
        house.state.kept_pods.add("rented", *[StoreError("disk full")] * AT_ONCE)
        for _ in range(AT_ONCE + 1):
            await house.rent(identity=None)
        house.two.pods[PodId("q")] = pod("other", pod_id="q", provider="two")
        (rented,) = [one for one in house.state.kept_pods.kept.values() if one.id is not None]
        await house.state.pods.intend(replace(rented, name="other", id=PodId("q"), provider="two"))
        await anyio.sleep(LIFETIME.total_seconds())
        house.one.list = _never  # type: ignore[method-assign]
        begin = house.clock.now()
        tally = await house.served.round()
        (ended,) = house.events.told("pod_past_its_time")
        assert (ended.fields["id"], ended.at) == ("q", begin)
        assert house.clock.now() - begin == timedelta(seconds=PATIENCE)
        assert [event.fields["what"] for event in house.events.told("round_failed")] == ["one"]
        assert (dict(tally.pods), len(house.one.pods)) == ({"one": 1}, AT_ONCE + 1)
        del house.one.list
        for _ in range(2):  # what a dead server has rented is found, and then past its time
            await house.served.round()
        assert not house.one.pods

    play(act)


def test_pods_that_cannot_be_ended_keep_others_waiting_for_one_round_at_most() -> None:
    """Those that took too long come last in the next one."""

    async def act(house: House) -> None:
        house.one.deaf = {PodId(await house.rent(identity=None)) for _ in range(AT_ONCE)}
        last = PodId(await house.rent(identity=None))
        await anyio.sleep(LIFETIME.total_seconds() + 1)
        await house.served.round()
        assert last in house.one.pods
        await house.served.round()
        assert set(house.one.pods) == house.one.deaf
        house.one.deaf = set()
        await house.served.round()
        assert not house.one.pods

    play(act)


def test_a_database_that_fails_for_one_pod_keeps_no_other_from_being_ended() -> None:
    """It is raised once all that could be done is done."""

    async def act(house: House) -> None:
        for _ in range(3):
            await house.rent(identity=None)
        await anyio.sleep(LIFETIME.total_seconds() + 1)
        house.state.kept_pods.add("ended", StoreError("disk full"))
        with pytest.raises(StoreError):
            await house.served.round()
        assert not house.one.pods
        assert [one.ended_at is None for one in house.state.kept_pods.kept.values()].count(True) == 1

    play(act)


def test_a_create_that_is_sent_again_between_two_rounds_is_not_taken_for_lost() -> None:
    """Two looks must have missed it since."""

    async def act(house: House) -> None:
        house.one.add("create", CreateOutcomeUnknown("no answer"))
        with pytest.raises(CreateOutcomeUnknown):
            await house.rent(identity=None)
        (name,) = house.state.kept_pods.kept
        for _ in range(2):
            await anyio.sleep(UNSETTLED.total_seconds() + 1)
            await house.served.round()
            await house.state.pods.sending(name, house.clock.now(), provider="one")
            await house.served.round()
        assert house.state.kept_pods.kept[name].given_up_at is None

    play(act)


def test_a_pod_that_a_list_left_out_once_is_not_taken_for_gone() -> None:
    """It counts as missed only when two rounds in a row have missed it."""

    async def act(house: House) -> None:
        made = PodId(await house.rent())
        kept = house.one.pods.pop(made)
        await house.served.round()
        house.one.pods[made] = kept
        await house.served.round()
        del house.one.pods[made]
        await house.served.round()
        assert [one.ended_at for one in house.state.kept_pods.kept.values()] == [None]
        await house.served.round()
        assert [one.ended_at is not None for one in house.state.kept_pods.kept.values()] == [True]

    play(act)


def test_a_pod_of_a_provider_that_this_service_no_longer_has_is_not_taken_for_gone() -> None:
    """It bills all the same: it keeps its record and its budget, and is ended once its provider is there again."""

    async def act(house: House) -> None:
        made = PodId(await house.rent())
        less = house.without("one")
        for _ in range(3):
            tally = await less.round()
        assert [one.ended_at for one in house.state.kept_pods.kept.values()] == [None]
        assert (dict(tally.pods), dict(tally.hourly)) == ({"one": 1}, {"one": Decimal("0.5")})
        (known,), errors = await less.all()
        assert (known.pod.id, known.label, known.unseen, dict(errors)) == (made, "mine", True, {})
        await house.rent(identity=None)
        for _ in range(2):
            await less.round()
        told = [event.fields for event in house.events.told("pods_without_key")]
        assert [(one["provider"], one["pods"]) for one in told] == [("one", 1), ("one", 2)]
        await anyio.sleep(LIFETIME.total_seconds())
        await house.served.round()
        assert made not in house.one.pods

    play(act)


def test_a_create_at_a_provider_that_this_service_no_longer_has_is_not_given_up() -> None:
    """Nobody can say whether it rented: no second one is rented, and it is remembered once that can be seen."""

    async def act(house: House) -> None:
        house.state.kept_pods.add("rented", StoreError("away"))
        house.state.kept_requests.add("answer", StoreError("away"))
        with pytest.raises(CreateOutcomeUnknown):
            await house.rent()
        await anyio.sleep(UNSETTLED.total_seconds() + 1)
        await house.without("one").round()
        with pytest.raises(CreateOutcomeUnknown, match="no longer has provider one"):
            await house.rent(house.service("second", "two"))
        assert [one.given_up_at for one in house.state.kept_pods.kept.values()] == [None]
        await anyio.sleep(HOLD.total_seconds() + 1)
        assert await house.rent() == "p1"

    assert play(act).one.calls.count("create") == 1


def test_what_was_given_up_is_looked_for_until_its_provider_has_been_looked_at() -> None:
    """At one without a kill time it would bill for ever."""

    async def act(house: House) -> None:
        house.one.add("create", CreateOutcomeUnknown("no answer"))
        with pytest.raises(CreateOutcomeUnknown):
            await house.rent(identity=None)
        await anyio.sleep(UNSETTLED.total_seconds() + 1)
        for _ in range(2):
            await house.served.round()
        (given_up,) = house.state.kept_pods.kept.values()
        assert given_up.given_up_at is not None
        await anyio.sleep(LIFETIME.total_seconds())
        await house.without("one").round()
        assert list(house.state.kept_pods.kept) == [given_up.name]
        house.one.pods[PodId("late")] = pod(given_up.name, pod_id="late", provider="one")
        await house.served.round()
        assert not house.one.pods

    play(act)


@pytest.mark.parametrize("there", [True, False], ids=["it lives", "the list lags"])
def test_a_pod_that_is_seen_again_is_looked_after_again(there: bool) -> None:  # noqa: FBT001 - a parameter
    """It counts and is ended in time; one that only a list still shows stays ended."""

    async def act(house: House) -> None:
        made = PodId(await house.rent())
        kept = house.one.pods.pop(made)
        for _ in range(2):
            await house.served.round()
        (ended,) = house.state.kept_pods.kept.values()
        assert ended.ended_at is not None
        if there:
            house.one.pods[made] = kept
        else:
            house.one.lagging = [kept]
        tally = await house.served.round()
        (now,) = house.state.kept_pods.kept.values()
        assert (now.ended_at is None, tally.pods) == (there, {"one": 1} if there else {})
        assert len(house.events.told("pod_seen_again")) == there
        house.one.lagging = []
        await anyio.sleep(LIFETIME.total_seconds())
        await house.served.round()
        assert not house.one.pods

    play(act)


def test_templates_are_found_at_every_provider_and_made_at_the_first_that_keeps_some() -> None:
    """One that is at another provider than the machine is refused; an unanswered provider is no proof of absence."""

    async def act(house: House) -> None:
        once = Once(house.state.requests, clock=house.clock, events=house.events, holder="x")
        left, right = Keeper(house.clock, "left"), Keeper(house.clock, "right")
        shelf = Shelf({"left": left, "right": right}, once, clock=house.clock, named_plainly="none")
        spec = TemplateSpec(name="mine", image="x/y")

        def render(made: PodTemplate) -> Answer:
            return Answer(status=200, body=made.id)

        assert (await shelf.make(spec, render, identity=None)).body == "left0"
        right.kept.append(PodTemplate(provider="right", id="r", name="other"))
        assert (await shelf.template("r")).provider == "right"
        with pytest.raises(InvalidRequest, match="it holds more than") as refused:
            await shelf.template("r", provider="left")
        assert refused.value.about == "template"
        right.kept.append(PodTemplate(provider="right", id="s", name="whole", spec=spec))
        assert (await shelf.template("s", provider="left")).spec == spec
        assert (await shelf.template("s", provider="right")).spec == spec
        left.add("templates", ServerError("down"))
        with pytest.raises(ServerError):
            await shelf.template("nothing")
        with pytest.raises(NotFound):
            await shelf.template("nothing")
        bare = Shelf({"two": house.two}, once, clock=house.clock, named_plainly="none")
        with pytest.raises(InvalidRequest, match="keeps templates"):
            await bare.template("r")
        left.add("create_template", CreateOutcomeUnknown("no answer"))
        left.kept.clear()
        with pytest.raises(CreateOutcomeUnknown):
            await shelf.make(spec, render, identity=IDENTITY)
        left.kept.clear()
        await anyio.sleep(HOLD.total_seconds())
        assert (await shelf.make(spec, render, identity=IDENTITY)).body == "left0"

    play(act)


def test_machines_are_listed_by_the_fewest_gpus_that_they_rent_out() -> None:
    """An offer that is bid for has nobody's price; a list is good for some seconds."""

    async def act(house: House) -> None:
        once = Once(house.state.requests, clock=house.clock, events=house.events, holder="x")
        shelf = Shelf({"one": house.one}, once, clock=house.clock, named_plainly="one")
        house.one._offers = (
            replace(offer("A", provider="one"), memory_gb=16),
            replace(offer("A", provider="one", spot=True), memory_gb=16),
        )
        assert [one.id for one in (await shelf.machines()).machines] == ["A:on-demand"]
        asked = house.one.calls.count("offers")
        assert (await shelf.machine("A:on-demand")).offer.gpu_count == 1
        assert house.one.calls.count("offers") == asked
        with pytest.raises(CapacityUnavailable):
            await shelf.machine("B")
        await anyio.sleep(60)
        await shelf.machines(count=1)
        assert house.one.calls.count("offers") == asked + 1
        house.one.add("offers", ServerError("down"))
        with pytest.raises(ServerError):
            await shelf.machines(count=8)

    play(act)


def test_what_nobody_expected_of_one_pod_keeps_no_other_from_being_ended() -> None:
    """A mistake of the program, for one: the round goes on, and tells it."""

    async def act(house: House) -> None:
        for _ in range(2):
            await house.rent(identity=None)
        await anyio.sleep(LIFETIME.total_seconds() + 1)
        house.one.add("terminate", KeyError("a mistake"))  # type: ignore[arg-type] # none of the errors it knows
        await house.served.round()
        assert len(house.one.pods) == 1
        (told,) = house.events.told("round_failed")
        assert "KeyError('a mistake')" in str(told.fields)
        assert told.failure is not None
        assert told.failure.__traceback__ is not None
        await house.served.round()
        assert not house.one.pods

    play(act)
