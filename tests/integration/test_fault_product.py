"""Every fault at every request of every command, in one process: nothing bills afterwards, nothing is registered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from support.counting import CASES
from support.product import Case, End, Market, exists, play, play_all, steps_of
from support.stages import Provider
from support.wire import Kind

from runner_provisioner.domain import decisions
from runner_provisioner.domain.leases import Lease, Limits
from runner_provisioner.storage.state_file import StateFile

EVERY = tuple(kind for kind in Kind if kind is not Kind.PASS)
DEADLY = (Kind.CRASH_AFTER, Kind.DROP_AFTER, Kind.CANCEL_AFTER)
LOST = (*DEADLY, Kind.CRASH_BEFORE, Kind.HANG_AFTER)
# One of each family: the others differ in the text of an error.
CHOSEN = (
    Kind.CRASH_BEFORE,
    Kind.CRASH_AFTER,
    Kind.DROP_AFTER,
    Kind.HANG_AFTER,
    Kind.ERROR,
    Kind.LIMITED,
    Kind.OUTAGE,
    Kind.SILENCE,
    Kind.CANCEL_AFTER,
)
ELSEWHERE = (*CHOSEN, Kind.MALFORMED)
"""At the other markets, where what the program does with an error is the same."""
FEW = (Kind.CRASH_AFTER, Kind.DROP_AFTER, Kind.OUTAGE)
"""There in all that is not about a list that is late, in which providers differ most."""
REST = (Provider.REST,)
LIUM = (Provider.LIUM,)
PRIME = (Provider.PRIME,)
ALL = (Provider.RUNPOD, Provider.LIUM, Provider.PRIME)

Count = Callable[[str, object], None]
pytestmark = pytest.mark.usefixtures("unmeasured")


def _named(case: Case) -> str:
    how = ["repeated" if case.again else "", "two at once" if case.twin else ""]
    words = [" and ".join(case.at), case.command, case.market, case.end, *how]
    return ", ".join(word for word in words if word)


QUICK = (
    (Case(), DEADLY),
    (Case(market=Market.LAG, end=End.CLEANUP, again=True), (Kind.CRASH_AFTER,)),
    (Case(market=Market.LAG, twin=True), (Kind.DROP_AFTER,)),
    (Case(market=Market.SLOW), (Kind.SILENCE,)),
    (Case(market=Market.JIT), (Kind.CRASH_AFTER,)),
    (Case(at=REST, market=Market.LAG), (Kind.CRASH_AFTER,)),
    (Case(at=LIUM, market=Market.LAG), (Kind.DROP_AFTER,)),
    (Case(at=PRIME, market=Market.LAG), (Kind.DROP_AFTER,)),
    (Case(command="stop"), (Kind.CRASH_AFTER, Kind.SILENCE)),
    (Case(command="cleanup", end=End.CLEANUP), (Kind.CRASH_AFTER,)),
)


def _everything() -> Iterator[object]:
    for at in ((Provider.RUNPOD,), REST, LIUM, PRIME, ALL):
        for case in filter(exists, _scenarios(at)):
            yield pytest.param(case, id=_named(case))


def _scenarios(at: tuple[Provider, ...]) -> Iterator[Case]:
    for market, end, again, twin in itertools.product(Market, End, (False, True), (False, True)):
        if again and twin and market not in {Market.PLAIN, Market.LAG}:
            continue  # two things that the market has no part in
        if (again or twin) and at != (Provider.RUNPOD,) and market is not Market.LAG:
            continue  # as at RunPod; where a list is late is where providers differ
        if end is End.NOBODY and (again or twin):
            continue  # what is left is the same
        yield Case(at=at, market=market, end=end, again=again, twin=twin)

    for market, end in itertools.product((Market.PLAIN, Market.LAG), (End.STOP, End.CLEANUP)):
        yield Case(at=at, market=market, end=end, command="stop" if end is End.STOP else "cleanup")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("case", "kinds"), [pytest.param(*one, id=_named(one[0])) for one in QUICK])
def test_whatever_befalls_a_command_nothing_is_left_in_the_end(
    case: Case, kinds: tuple[Kind, ...], record_property: Count
) -> None:
    """A fault at each of its requests, then a repeated start or none, then the natural end.

    Where `stop` or `cleanup` could not finish, it says so, and the next one does.
    """
    record_property(CASES, play_all(case, kinds))


@pytest.mark.full
@pytest.mark.parametrize("case", list(_everything()))
@pytest.mark.timeout(1800)  # half a minute of work, beside as many others as there are workers
def test_the_same_in_every_scenario_and_with_every_fault(case: Case, record_property: Count) -> None:
    """The whole product at RunPod; at the others what may differ there."""
    elsewhere = ELSEWHERE if case.market is Market.LAG else FEW
    record_property(CASES, play_all(case, EVERY if case.at == (Provider.RUNPOD,) else elsewhere))


@pytest.mark.parametrize("kind", [Kind.DROP_BEFORE, Kind.OUTAGE])
def test_two_starts_agree_on_a_pod_that_costs_more_than_its_offer(kind: Kind) -> None:
    """A late look of one does not end what the other has reported: each holds it to the same max cost."""
    play(Case(market=Market.DEARER, twin=True, kind=kind, step=9))


def test_the_product_reaches_every_request() -> None:
    """Credential, offers, download, create, looks; the terminations of stop and of cleanup."""
    assert steps_of(Case()) >= 16
    assert steps_of(Case(command="stop")) >= 8
    assert steps_of(Case(command="cleanup", end=End.CLEANUP)) >= 12


# -- the product is able to notice


def _every_create(case: Case) -> Iterator[Case]:
    return (replace(case, step=step, kind=kind) for step in range(steps_of(case)) for kind in LOST)


def _noticed(case: Case) -> bool:
    for one in _every_create(case):
        try:
            play(one)
        except AssertionError:
            return True
    return False


def test_it_notices_a_start_that_retries_an_unanswered_create(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wait for a lagging list a second pod bills beside the first."""

    def impatient(lease: Lease, now: object, limits: Limits) -> bool:
        return lease.quiet_since is not None

    monkeypatch.setattr(decisions, "_quiet_long_enough", impatient)
    assert _noticed(Case(market=Market.LAG))


@pytest.mark.full
def test_it_notices_a_state_that_is_saved_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the intent on disk a repeated start rents beside a pod that it cannot see yet."""
    monkeypatch.setattr(StateFile, "save", lambda _self, lease: lease)
    assert _noticed(Case(market=Market.LAG, again=True))
