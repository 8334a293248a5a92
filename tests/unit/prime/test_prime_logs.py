"""A pod's log: in each of its forms, each line once while it grows."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.pods import PodId
from runner_provisioner.errors import NotFound, ProtocolViolation, ServerError
from runner_provisioner.providers.prime import PrimeProvider
from runner_provisioner.providers.prime.logs import LogReader, overlap, whole_lines
from runner_provisioner.testing.clock import FakeClock

if TYPE_CHECKING:
    from unit.prime.conftest import Script

LINES = st.lists(st.sampled_from(["a", "b", "c"]), max_size=12)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param("text/plain", "one\ntwo\n", id="text"),
        pytest.param("text/plain; charset=utf-8", "one\r\ntwo", id="text with carriage returns"),
        pytest.param("application/json", json.dumps("one\ntwo\n"), id="a text as JSON"),
        pytest.param("application/json", json.dumps({"logs": "one\ntwo"}), id="an object"),
        pytest.param("application/json", json.dumps({"data": ["one", "two"]}), id="a list"),
        pytest.param("application/json", "one\ntwo", id="text that calls itself JSON"),
    ],
)
async def test_a_log_is_read_in_each_form(prime: PrimeProvider, script: Script, kind: str, body: str) -> None:
    """That the service has, or may have."""
    script.text(body, content_type=kind)
    assert [line.text async for line in prime.logs(PodId("p1"))] == ["one", "two"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", "<html>"),
        ("application/json", "5"),
        ("application/json", '{"logs": {}}'),
        ("application/json", "{}"),
    ],
    ids=["page", "number", "object", "nothing"],
)
async def test_what_is_no_log_is_an_error(prime: PrimeProvider, script: Script, kind: str, body: str) -> None:
    """Not an empty one."""
    script.text(body, content_type=kind)
    with pytest.raises(ProtocolViolation):
        [line async for line in prime.logs(PodId("p1"))]


def reader(texts: list[str | Exception], *, alive: int) -> tuple[LogReader, FakeClock]:
    """A log of which these texts are read one after the other; the pod is there for so many looks."""
    clock = FakeClock()
    looks = iter(range(1000))

    async def read() -> str:
        text = texts.pop(0) if len(texts) > 1 else texts[0]
        if isinstance(text, Exception):
            raise text
        return text

    async def ended() -> bool:
        return next(looks) >= alive

    ask: Callable[[], Awaitable[bool]] = ended
    return LogReader(read, clock=clock, redact=lambda line: line.replace("s3cr3t", "***"), ended=ask), clock


async def test_a_growing_log_gives_each_line_once() -> None:
    """A line that is still being written waits for its end, or for the pod's."""
    log, clock = reader(["a\nb", "a\nb\ns3cr3t", "a\nb\ns3cr3t\nc", "a\nb\ns3cr3t\nc"], alive=3)
    began = clock.monotonic()
    assert [line.text async for line in log.lines(tail=None, follow=True)] == ["a", "b", "***", "c"]
    assert clock.monotonic() - began == 6


async def test_a_log_whose_beginning_was_dropped_goes_on() -> None:
    """And one that began anew is given anew."""
    log, _ = reader(["a\nb\nc\n", "b\nc\nd\n", "x\n", "x\n"], alive=3)
    assert [line.text async for line in log.lines(tail=1, follow=True)] == ["c", "d", "x"]


async def test_a_log_that_vanishes_with_its_pod_ends() -> None:
    """One that never was is an error."""
    log, _ = reader(["a\n", NotFound("gone")], alive=9)
    assert [line.text async for line in log.lines(tail=None, follow=True)] == ["a"]
    log, _ = reader([NotFound("gone")], alive=9)
    with pytest.raises(NotFound):
        [line async for line in log.lines(tail=None, follow=True)]


async def test_a_log_that_cannot_be_read_for_a_while_is_waited_for() -> None:
    """Not for ever, and not without `follow`."""
    broken = ServerError("away")
    log, _ = reader(["a\n", broken, broken, "a\nb\n", "a\nb\n"], alive=4)
    assert [line.text async for line in log.lines(tail=None, follow=True)] == ["a", "b"]
    for follow, alive in ((True, 99), (False, 0)):
        log, _ = reader([broken], alive=alive)
        with pytest.raises(ServerError):
            [line async for line in log.lines(tail=None, follow=follow)]


@given(old=LINES, new=LINES)
def test_an_appended_log_gives_what_is_new(old: list[str], new: list[str]) -> None:
    """Whatever repeats itself."""
    assert overlap(old, [*old, *new]) == len(old)


@given(old=LINES, new=LINES)
def test_what_was_seen_is_an_end_of_the_old_and_a_beginning_of_the_new(old: list[str], new: list[str]) -> None:
    """The longest."""
    size = overlap(old, new)
    assert old[len(old) - size :] == new[:size]
    assert all(old[len(old) - more :] != new[:more] for more in range(size + 1, min(len(old), len(new)) + 1))


@given(text=st.text(alphabet="ab\r\n", max_size=30))
def test_lines_have_no_ends(text: str) -> None:
    """Each is one that was written."""
    lines = whole_lines(text, last=True)
    assert all("\n" not in line for line in lines)
    assert len(whole_lines(text, last=False)) == text.count("\n")
