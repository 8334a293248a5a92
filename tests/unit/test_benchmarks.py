"""The benchmarks' own arithmetic."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks import __main__ as program
from benchmarks import fleet, markets
from benchmarks.lifecycle import Life
from benchmarks.measure import Figure, alternating, table


def _figure(value: float, *, binding: bool) -> Figure:
    return Figure(name="x", value=value, goal=2, unit="s", binding=binding)


def test_the_table_says_what_is_over() -> None:
    """Measured, goal, verdict."""
    lines = table([_figure(1, binding=False), _figure(3, binding=True)])
    assert [line.split()[-1] for line in lines[1:]] == ["OK", "over"]
    assert "1.00 s" in lines[1]


def test_works_take_turns() -> None:
    """A busy moment meets all of them alike."""
    order: list[str] = []
    assert len(alternating([lambda: order.append("a"), lambda: order.append("b")], 2)) == 2
    assert order == ["a", "b", "a", "b"]


async def test_a_pass_over_a_fleet_takes_as_many_calls_as_there_are_pages() -> None:
    """For one lease and for several pages of pods and runners."""
    for size in (1, 120):
        one = await fleet.measured(size, 1)
        assert one.calls == one.expected


def test_repeated_looks_are_waiting_polls() -> None:
    """The first of each process counts."""
    start = Counter({"runners.list": 9, "registration-token": 1})
    stop = Counter({"access_tokens": 1})
    assert Life(seconds=1, start=start, stop=stop).calls == 3


@pytest.mark.parametrize(
    ("value", "binding", "code"), [(3, True, 1), (3, False, 0), (1, True, 0)], ids=["count", "time", "met"]
)
def test_only_a_missed_count_fails(monkeypatch: pytest.MonkeyPatch, value: float, binding: bool, code: int) -> None:  # noqa: FBT001 - a parameter of the test
    """Times vary with the machine."""
    monkeypatch.setattr(program, "GROUPS", {"one": lambda: [_figure(value, binding=binding)]})
    assert program.main([]) == code
    assert program.main(["two"]) == 2


def test_a_market_that_hangs_is_asked_once_and_the_slowest_decides_how_long_offers_take() -> None:
    """The count binds; the times are far below what waiting for one after the other would take."""
    beyond, hanging, asked = markets.figures(1)
    assert asked.met
    assert beyond.value < sum(markets.ANSWERS.values()) - max(markets.ANSWERS.values())
    assert hanging.value < 5 * markets.PATIENCE  # of the 21 looks that would each wait for it
