"""Which API serves what, what is remembered of them, and the two small readers of REST v2's headers and streams."""

from __future__ import annotations

import errno
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.errors import ApiRetired, ServerError, SpotDiscontinued, StoreError
from runner_provisioner.providers.runpod import kept_file
from runner_provisioner.providers.runpod.quota import Quota, Window, windows
from runner_provisioner.providers.runpod.routes import (
    BETTER_GRAPHQL,
    FILE_NAME,
    ONLY_GRAPHQL,
    ONLY_REST,
    Api,
    Routes,
    Verb,
)
from runner_provisioner.providers.runpod.sse import Event, EventReader
from runner_provisioner.testing.clock import FakeClock

DAY = 24 * 3600


@pytest.fixture
def clock() -> FakeClock:
    """Time that jumps."""
    return FakeClock()


def routes(clock: FakeClock, folder: Path | None = None, prefer: Api = Api.GRAPHQL, url: str = "u") -> Routes:
    """A new process's."""
    return Routes(url=url, clock=clock, folder=folder, prefer=prefer)


@pytest.mark.parametrize("prefer", list(Api))
@pytest.mark.parametrize("retired", [False, True], ids=["alive", "retired"])
@pytest.mark.parametrize("verb", list(Verb))
def test_every_verb_has_its_api(clock: FakeClock, verb: Verb, prefer: Api, *, retired: bool) -> None:
    """What one alone can do is its, whatever is preferred; the rest follows the preference while GraphQL answers."""
    made = routes(clock, prefer=prefer)
    if retired:
        made.note_graphql_retired()
    if verb in ONLY_REST:
        expected = Api.REST
    elif verb in ONLY_GRAPHQL:
        expected = Api.GRAPHQL
    elif retired:
        expected = Api.REST
    else:
        expected = Api.GRAPHQL if verb in BETTER_GRAPHQL else prefer
    assert made.api(verb) is expected
    assert made.kill_time is not retired


async def gone() -> str:
    """GraphQL's last word."""
    raise ApiRetired("gone")


async def discontinued() -> str:
    """No more spot pods."""
    raise SpotDiscontinued("no longer offered")


async def failing() -> str:
    """A failure that says nothing of the API."""
    raise ServerError("oops")


async def rest() -> str:
    """REST's answer."""
    return "rest"


async def graphql() -> str:
    """GraphQL's answer."""
    return "graphql"


async def test_a_410_switches_over_and_is_remembered_for_a_day(clock: FakeClock, tmp_path: Path) -> None:
    """By the next process too, under this address alone, in a file of the user's own."""
    first = routes(clock, tmp_path)
    assert await first.serve(Verb.READ, graphql=graphql, rest=rest) == "graphql"
    assert await first.serve(Verb.READ, graphql=gone, rest=rest) == "rest"
    assert await first.serve(Verb.READ, graphql=graphql, rest=rest) == "rest"
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    again = routes(clock, tmp_path)
    assert (again.graphql_retired, again.spot_gone) == (True, True)
    assert not routes(clock, tmp_path, url="another").graphql_retired
    assert not routes(clock, None).graphql_retired
    clock.advance(DAY)
    assert await again.serve(Verb.READ, graphql=graphql, rest=rest) == "graphql"
    assert (again.graphql_retired, routes(clock, tmp_path).graphql_retired) == (False, False)


async def test_a_full_disk_does_not_stop_an_end(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is only not known to the next process."""

    def full(*_given: object) -> None:
        raise StoreError("no space") from OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(kept_file, "write_private", full)
    made = routes(clock, tmp_path)
    assert await made.serve(Verb.END, graphql=gone, rest=rest) == "rest"
    assert made.graphql_retired
    assert not routes(clock, tmp_path).graphql_retired


async def test_any_other_failure_switches_nothing(clock: FakeClock) -> None:
    """It is raised as it is."""
    made = routes(clock)
    with pytest.raises(ServerError):
        await made.serve(Verb.READ, graphql=failing, rest=rest)
    with pytest.raises(ServerError):
        await made.only_graphql(Verb.BALANCE, failing)
    assert not made.graphql_retired


async def test_a_refused_bid_is_remembered(clock: FakeClock, tmp_path: Path) -> None:
    """Bids alone are refused then; the balance is still told."""
    made = routes(clock, tmp_path)
    with pytest.raises(SpotDiscontinued, match="no longer offered"):
        await made.only_graphql(Verb.BID, discontinued)
    again = routes(clock, tmp_path)
    assert (again.spot_gone, again.graphql_retired, again.kill_time) == (True, False, True)
    with pytest.raises(SpotDiscontinued, match="--interruptible"):
        await again.only_graphql(Verb.BID_RESUME, graphql)
    assert await again.only_graphql(Verb.BALANCE, graphql) == "graphql"
    clock.advance(3600)
    again.note_graphql_retired()
    clock.advance(DAY - 3600)
    third = routes(clock, tmp_path)
    assert third.graphql_retired
    clock.advance(3600)
    assert not third.spot_gone


async def test_what_graphql_alone_could_is_an_error_of_its_own(clock: FakeClock) -> None:
    """Found out by asking, and then known."""
    made = routes(clock)
    with pytest.raises(ApiRetired, match="cannot tell the balance"):
        await made.only_graphql(Verb.BALANCE, gone)
    with pytest.raises(ApiRetired, match="cannot tell the balance"):
        await made.only_graphql(Verb.BALANCE, graphql)
    bids = routes(clock)
    with pytest.raises(SpotDiscontinued):
        await bids.only_graphql(Verb.BID, gone)
    assert bids.graphql_retired


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", json.dumps({"u": {"graphql_retired": "soon"}}).encode()])
async def test_a_broken_memory_is_done_without(clock: FakeClock, tmp_path: Path, content: bytes) -> None:
    """Nothing is known then."""
    (tmp_path / FILE_NAME).write_bytes(content)
    assert not routes(clock, tmp_path).graphql_retired


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('"minute";r=0;t=12, "hour";r=2800;t=1812', (Window("minute", 0, 12), Window("hour", 2800, 1812))),
        ("minute;t=1.5;r=3", (Window("minute", 3, 1.5),)),
        ('"minute"; r=1; t=2; x=3', (Window("minute", 1, 2),)),
        ('"minute";r=1', ()),
        ('"minute";r=1.5;t=2', ()),
        ("", ()),
    ],
)
def test_a_rate_limit_header_is_read(header: str, found: tuple[Window, ...]) -> None:
    """Members that cannot be read are left out."""
    assert windows(header) == found


@given(st.text())
def test_no_header_breaks_anything(header: str) -> None:
    """Whatever a proxy makes of it."""
    windows(header)


def test_a_used_up_window_is_waited_for_until_it_begins_anew(clock: FakeClock) -> None:
    """The longest of them; an answer that has requests left ends the wait."""
    quota = Quota(clock)
    quota.note({})
    assert quota.wait() == 0
    quota.note({"ratelimit": '"minute";r=0;t=12, "hour";r=0;t=100'})
    clock.advance(2)
    assert quota.wait() == 98
    quota.note({"ratelimit": '"hour";r=5;t=90'})
    assert quota.wait() == 10
    assert quota.wait(spare=4) == 10
    assert quota.wait(spare=5) == 90
    clock.advance(10)
    assert quota.wait() == 0


def read(*lines: str) -> list[Event]:
    """Every event of these lines."""
    reader = EventReader()
    return [event for event in map(reader.feed, lines) if event]


def test_events_are_read_as_they_are_specified() -> None:
    """Comments, ids that stay, several lines of data, unknown fields, an event without data."""
    assert read(": hello", "", "id: 1", "data: a", "data:b", "retry: 5", "", "data", "", "id: 2", "", "event: x") == [
        Event(data="a\nb", id="1"),
        Event(data="", id="1"),
    ]
    assert read("event: end", "data: x", "id: a\0b", "") == [Event(data="x", kind="end")]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))))
def test_every_event_comes_out_as_it_went_in(texts: list[str]) -> None:
    """Whatever is in it."""
    lines = [line for n, text in enumerate(texts) for line in (f"id: {n}", f"data: {text}", "")]
    assert read(*lines) == [Event(data=text, id=str(n)) for n, text in enumerate(texts)]
