"""Names, scopes and durations."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.durations import parse_duration, show_duration
from runner_provisioner.domain.names import MANUAL_LETTERS, NAME_LIMIT, ManualName, RunKey, Scope, base36, manual_name
from runner_provisioner.errors import InvalidRequest

KEYS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@given(st.integers(0, 10**12))
def test_base36_reads_back(number: int) -> None:
    """It is Python's own base 36."""
    assert int(base36(number), 36) == number


@given(st.integers(1, 10**12), st.integers(1, 99), KEYS)
def test_a_run_keys_name_reads_back(run: int, attempt: int, key: str) -> None:
    """Everything is found again by its name."""
    made = RunKey(owner8="0123abcd", run=base36(run), attempt=attempt, key=key)
    assert len(made.name) <= NAME_LIMIT
    assert RunKey.parse(made.name) == made
    assert made.run_id == run


def test_a_local_start_has_no_run_id() -> None:
    """Attempt 0 and a random run part."""
    assert RunKey(owner8="0123abcd", run="qwertyui", attempt=0, key="a").run_id is None


@pytest.mark.parametrize("key", ["", "A", "a_b", "-a", "a-", "ä", "a" * 50, "a b"])
def test_a_key_that_makes_no_name_is_refused(key: str) -> None:
    """With a line that names it."""
    with pytest.raises(InvalidRequest, match="key"):
        RunKey(owner8="0123abcd", run="zz", attempt=1, key=key)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "rp-",
        "web-1",
        "rp-0123abcd-zz-1-",
        "rp-0123ABCD-zz-1-a",
        "rpm-0123abcd-zz-abcd",
        "rp-0123abcd-zz-1-a-",
        "rp-0123abcd-zz-1-" + "a" * 60,
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    """A user's own pods are never taken for one of a run."""
    assert RunKey.parse(name) is None


def test_the_owner_mark_is_the_digest_of_the_lower_case_address() -> None:
    """GitHub's names are case-insensitive, so the mark is."""
    expected = hashlib.sha256(b"https://github.com/acme/site").hexdigest()[:8]
    assert Scope.parse("Acme/Site").owner8 == expected
    assert Scope.parse("acme/site", server_url="https://github.com/").owner8 == expected
    assert Scope.parse("acme").owner8 != expected
    assert Scope.parse("acme").owner8_of("mine") == hashlib.sha256(b"mine").hexdigest()[:8]


def test_a_scope_says_its_path_and_address() -> None:
    """Both of a repository and of an organisation."""
    assert Scope.parse("acme/site").url == "https://github.com/acme/site"
    assert Scope.parse("acme").path == "acme"


@pytest.mark.parametrize("text", ["", "/", "a/", "/b", "a/b/c", "a b/c", "a/b;c"])
def test_a_scope_that_is_none_is_refused(text: str) -> None:
    """Before it becomes part of an address."""
    with pytest.raises(InvalidRequest):
        Scope.parse(text)


def test_a_manual_name_says_whose_and_until_when() -> None:
    """To the minute, rounded up."""
    ends = datetime(2026, 11, 1, 12, 0, 1, tzinfo=UTC)
    parsed = ManualName.parse(manual_name("0123abcd", ends, "wxyz"))
    assert parsed is not None
    assert parsed.expires_at == datetime(2026, 11, 1, 12, 1, tzinfo=UTC)
    assert ManualName.parse("rpm-0123abcd-zzzzzzzzz-wxyz") is None
    assert ManualName.parse("other") is None
    with pytest.raises(InvalidRequest):
        manual_name("0123abcd", ends, "w1")


def test_manual_names_of_one_minute_are_not_drawn_twice() -> None:
    """A thousand pods that end in the same minute differ by their letters alone: the chance that two share them."""
    assert 1000**2 / 2 / 26**MANUAL_LETTERS < 1e-5
    name = manual_name("0123abcd", datetime(2200, 1, 1, tzinfo=UTC), "z" * MANUAL_LETTERS)
    assert len(name) <= NAME_LIMIT
    assert ManualName.parse("rpm-0123abcd-1-wxyz") is not None  # of releases with four


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("10m", 600),
        ("6h15m", 22500),
        ("1d", 86400),
        (" 1H ", 3600),
        ("0.5", 0.5),
        ("1d2h3m4s", 93784),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """As people write them."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5", "10 m", "m10", "5w", "9999d", "nan", "1e9"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """With the forms that exist."""
    with pytest.raises(InvalidRequest):
        parse_duration(text)


@given(st.integers(0, 10**7))
def test_a_shown_duration_reads_back(seconds: int) -> None:
    """Nothing is lost."""
    assert parse_duration(show_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)
