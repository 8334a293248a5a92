"""Families of tests: some members are played in every run, all of them by `make test-full`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest
from _pytest.mark import ParameterSet


def family(members: Iterable[object], *, daily: Collection[object]) -> list[ParameterSet]:
    """The members as parameters of a test, those that are not `daily` marked `full`; a daily one has to be a member."""
    every = list(members)
    assert set(daily) <= set(every), f"no members: {sorted(map(str, set(daily) - set(every)))}"
    return [
        pytest.param(member, marks=() if member in daily else pytest.mark.full, id=_name(member)) for member in every
    ]


def _name(member: object) -> str:
    return " ".join(map(str, member)) if isinstance(member, tuple) else str(member)
