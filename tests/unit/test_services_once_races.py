"""One request is one pod, whatever stalls, dies or is lost, at whichever moment, in however many processes."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fakes import Memory
from support.racing import LONG, Blow, Mishap, Outcome, Race, race
from support.service_state import State
from support.virtual_time import VirtualClock, VirtualLoop, run

from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.domain.pods import PodSpec
from runner_provisioner.domain.served import Answer, Contract, RequestRef
from runner_provisioner.errors import InvalidRequest, StoreError
from runner_provisioner.services.once import HOLD, Confirm, Identity, Once, StillServed, Superseded, Work
from runner_provisioner.services.orders import Wish

IDENTITY = Identity(ref=RequestRef("", "cloud", "key"), digest="one")
WISH = Wish(
    contract=Contract.CLOUD,
    label="mine",
    spec=PodSpec(name="", image="x/y"),
    request=GpuRequest(models=("A",), count=1, interruptible=Interruptible.NEVER, max_price=Decimal(1)),
)
BLOWS = (
    *(Blow(kind=Mishap.STALL, seconds=seconds) for seconds in LONG),
    Blow(kind=Mishap.CRASH),
    Blow(kind=Mishap.CANCEL),
    Blow(kind=Mishap.LOST),
    *(Blow(kind=Mishap.AWAY, seconds=seconds) for seconds in LONG[:2]),
)
POINTS = 20  # more than a request has that nothing befalls
LAGS = (0.0, 60.0)


def _one_pod(one: Race) -> Outcome:
    """Exactly one lives, every answer named it, and it is kept as that which nobody has given up."""
    seen = race(one, WISH, IDENTITY)
    assert seen.answers
    assert (one, list(seen.living)) == (one, list(dict.fromkeys(seen.answers)))
    kept = [pod for pod in seen.house.state.kept_pods.kept.values() if pod.given_up_at is None]
    assert (one, [pod.id for pod in kept]) == (one, list(seen.living))
    return seen


def test_a_request_that_nothing_befalls_has_fewer_points_than_are_struck() -> None:
    """Else some of them would be left out below."""
    seen = _one_pod(Race(plans=[{}], requests=[(0, 0)]))
    assert seen.passed[0][-1] == "answer"
    assert "create" in seen.passed[0]
    assert len(seen.passed[0]) <= POINTS


@pytest.mark.parametrize("blow", BLOWS, ids=str)
def test_one_mishap_at_any_point_is_one_pod(blow: Blow) -> None:
    """While the client repeats its request at another process."""
    for point in range(POINTS):
        _one_pod(Race(plans=[{point: blow}, {}], requests=[(0, 0), (1, 1)]))


@pytest.mark.parametrize(
    ("lag", "blow"),
    [
        pytest.param(lag, blow, id=f"{blow}, lag {lag:g}", marks=[] if lag and not blow.seconds else [pytest.mark.full])
        for lag in LAGS
        for blow in BLOWS
    ],
)
def test_one_mishap_in_the_only_process_is_one_pod(lag: float, blow: Blow) -> None:
    """It may lose its request to itself."""
    for point in range(POINTS):
        for later in (1, 17, 30):
            _one_pod(Race(plans=[{point: blow}], requests=[(0, 0), (0, later)], lag=lag))


@pytest.mark.full
@pytest.mark.parametrize("second", BLOWS, ids=str)
@pytest.mark.parametrize("first", BLOWS, ids=str)
def test_two_mishaps_at_any_two_points_are_one_pod(first: Blow, second: Blow) -> None:
    """One in each of two processes."""
    for point in range(POINTS):
        for other in range(0, POINTS + 8, 2):
            _one_pod(Race(plans=[{point: first}, {other: second}], requests=[(0, 0), (1, 1)]))


def test_a_pod_that_was_found_and_could_not_be_written_down_is_no_answer_yet() -> None:
    """Somebody else may have given it up, and end it."""
    late = Blow(kind=Mishap.STALL, seconds=LONG[2])
    plans = [{6: late}, {10: late, 12: Blow(kind=Mishap.AWAY, seconds=LONG[0])}]
    _one_pod(Race(plans=plans, requests=[(0, 1.0), (1, 0.0)]))


def test_a_late_pod_whose_end_was_noted_while_no_list_showed_it_is_ended() -> None:
    """It had been given up before it came."""
    plan = {
        0: Blow(kind=Mishap.STALL, seconds=LONG[0]),
        7: Blow(kind=Mishap.STALL, seconds=LONG[2]),
        13: Blow(kind=Mishap.CANCEL),
    }
    seen = _one_pod(Race(plans=[plan], requests=[(0, 0)], lag=200))
    assert seen.house.events.told("pod_seen_again")


_plan = st.dictionaries(st.integers(0, 40), st.sampled_from(BLOWS), max_size=4)
_races = st.integers(1, 3).flatmap(
    lambda many: st.builds(
        lambda plans, requests, lag: Race(plans=plans, requests=requests, lag=lag),
        st.lists(_plan, min_size=many, max_size=many),
        st.lists(st.tuples(st.integers(0, many - 1), st.sampled_from([0.0, 1.0, 17.0, 45.0])), min_size=1, max_size=4),
        st.sampled_from([*LAGS, 25.0, 200.0]),
    )
)


@pytest.mark.full
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(_races)
def test_any_mishaps_are_one_pod(one: Race) -> None:
    """Whatever happens in up to three processes."""
    _one_pod(one)


def test_who_has_lost_its_claim_sends_no_create() -> None:
    """It looks right before; only a stall after that look makes a second pod, which is ended before the answer."""
    points = _one_pod(Race(plans=[{}], requests=[(0, 0)])).passed[0]
    create = points.index("create")
    for point in range(create + 1):
        stalled = {point: Blow(kind=Mishap.STALL, seconds=LONG[1])}
        seen = _one_pod(Race(plans=[stalled, {}], requests=[(0, 0), (1, 1)]))
        assert (point, seen.house.provider.calls.count("create")) == (point, 2 if point == create else 1)


def test_a_stalled_request_without_a_key_is_one_pod_too() -> None:
    """A round elsewhere gives it up; what it has made of that is ended, and it begins anew."""
    create = race(Race(plans=[{}], requests=[(0, 0)]), WISH, None).passed[0].index("create")
    for point in range(create + 4):
        seen = race(Race(plans=[{point: Blow(kind=Mishap.STALL, seconds=LONG[2])}], requests=[(0, 0)]), WISH, None)
        assert (point, len(seen.answers), list(seen.living)) == (point, 1, list(seen.answers))
        too_late = point in {create - 1, create}  # after its last look
        assert (point, seen.house.provider.calls.count("create")) == (point, 1 + too_late)


def test_a_pod_that_is_known_to_be_rented_is_answered_though_no_list_shows_it() -> None:
    """Its server died before it had kept the answer."""
    points = _one_pod(Race(plans=[{}], requests=[(0, 0)])).passed[0]
    crash = {points.index("answer"): Blow(kind=Mishap.CRASH)}
    seen = _one_pod(Race(plans=[crash, {}], requests=[(0, 0), (1, 1)], lag=10_000))
    assert seen.house.provider.calls.count("create") == 1


def test_who_could_not_look_for_what_another_has_done_begins_nothing() -> None:
    """The request stays as it is, so that the next one looks."""
    points = _one_pod(Race(plans=[{}], requests=[(0, 0)])).passed[0]
    crash = {points.index("rented"): Blow(kind=Mishap.CRASH)}
    for point in range(2, 8):
        lost = {point: Blow(kind=Mishap.LOST)}
        seen = _one_pod(Race(plans=[crash, lost], requests=[(0, 0), (1, 20)]))
        assert (point, seen.house.provider.calls.count("create")) == (point, 1)


def test_a_pod_that_comes_at_the_last_moment_is_the_one() -> None:
    """Two looks have not shown it, and then its own server says that it is there."""
    points = _one_pod(Race(plans=[{}], requests=[(0, 0)])).passed[0]
    slow = {points.index("rented"): Blow(kind=Mishap.STALL, seconds=HOLD.total_seconds() + 5)}
    seen = _one_pod(Race(plans=[slow, {}], requests=[(0, 0), (1, 16)], lag=10_000))
    assert seen.passed[1][-6::2] == ["give_up", "named", "answer"]
    assert (len(seen.answers), seen.house.provider.calls.count("create")) == (3, 1)


def test_two_requests_of_one_process_are_two_holders() -> None:
    """Who has lost the request to the other one does not take it away from it."""
    begun: list[str] = []

    async def main(loop: VirtualLoop) -> None:
        clock, state = VirtualClock(loop), State()
        once = Once(state.requests, clock=clock, events=Memory(), holder="the only one")
        hold = HOLD.total_seconds()

        async def begin(_name: str, _confirm: Confirm) -> Answer:
            begun.append("begun")
            await anyio.sleep(hold + 10)
            raise InvalidRequest("refused")

        async def resume(_name: str) -> Answer:
            await anyio.sleep(hold * 3)
            return Answer(status=200, body="resumed")

        async def first() -> None:
            with pytest.raises(InvalidRequest):
                await once.serve(IDENTITY, work)

        async def second() -> None:
            await anyio.sleep(hold + 1)
            assert (await once.serve(IDENTITY, work)).body == "resumed"

        work = Work(draw=lambda: "n", begin=begin, resume=resume)
        state.kept_requests.add("hold", *[StoreError("away")] * 3)
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            group.start_soon(second)
            await anyio.sleep(hold + 20)
            with pytest.raises(StillServed):
                await once.serve(IDENTITY, work)

    run(main)
    assert begun == ["begun"]


def test_who_loses_a_request_again_and_again_says_so() -> None:
    """It does not go on for ever."""

    async def main(loop: VirtualLoop) -> None:
        once = Once(State().requests, clock=VirtualClock(loop), events=Memory(), holder="x")

        async def begin(_name: str, _confirm: Confirm) -> Answer:
            raise Superseded("gone")

        async def resume(_name: str) -> None:
            return None

        for identity in (None, IDENTITY):
            with pytest.raises(StillServed, match="another server"):
                await once.serve(identity, Work(draw=lambda: "n", begin=begin, resume=resume))

    run(main)
