"""The service's own keys: what can be one, how it is told from others, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from runner_provisioner._redaction import Redactor
from runner_provisioner.domain.api_keys import ApiKey, KeyStatus, Permission, PlainKey
from runner_provisioner.errors import InvalidRequest, StaleWrite
from runner_provisioner.services.keys import KeyRing
from runner_provisioner.testing.clock import EPOCH, FakeClock

HOUR = timedelta(hours=1)
PLAIN = PlainKey.of(bytes(range(6)), bytes(range(24)))
KEY = ApiKey(id=PLAIN.id, name="ci", permission=Permission.READ, digest=PLAIN.digest, created_at=EPOCH)


class Kept:
    """`ports.ApiKeys` in a list."""

    def __init__(self) -> None:
        self.keys: list[ApiKey] = []

    async def add(self, key: ApiKey) -> None:
        """Keep it."""
        if any(one.name == key.name and one.revoked_at is None for one in self.keys):
            raise StaleWrite("taken")
        self.keys.append(key)

    async def all(self) -> Sequence[ApiKey]:
        """All of them."""
        return tuple(self.keys)

    async def revoke(self, key_id: str, at: datetime) -> ApiKey | None:
        """The first moment stays."""
        self.keys = [replace(one, revoked_at=one.revoked_at or at) if one.id == key_id else one for one in self.keys]
        return next((one for one in self.keys if one.id == key_id), None)


def ring(kept: Kept, clock: FakeClock) -> KeyRing:
    """A ring whose randomness counts up."""
    numbers = iter(range(1, 200))
    return KeyRing(kept, clock=clock, random=lambda count: next(numbers).to_bytes(count, "big"))


def test_a_plain_key_is_read_back_and_opens_its_own_key_alone() -> None:
    """Another secret with the same id does not, and nothing opens what is not there."""
    assert PLAIN.text == f"rpk_000102030405_{bytes(range(24)).hex()}"
    assert PlainKey.parse(PLAIN.text) == PLAIN
    assert PLAIN.opens(KEY)
    assert not PlainKey(id=PLAIN.id, secret="0" * 48).opens(KEY)
    assert not PLAIN.opens(None)


@pytest.mark.parametrize(
    "text",
    ["", "rpk_", PLAIN.text[:-1], PLAIN.text + "0", PLAIN.text.upper(), f" {PLAIN.text}", f"{PLAIN.text}\n", "Ä" * 65],
    ids=["nothing", "prefix", "short", "long", "capitals", "blank", "line", "letters"],
)
def test_other_texts_are_no_keys(text: str) -> None:
    """Whatever a client sends."""
    assert PlainKey.parse(text) is None


def test_no_key_shows_its_secret() -> None:
    """Neither in a repr nor, wherever it comes up, in what is printed or logged."""
    assert PLAIN.secret not in repr(PLAIN)
    assert KEY.digest.hex() not in repr(KEY)
    assert repr(KEY.digest) not in repr(KEY)
    told = Redactor().redact(f"asked with {PLAIN.text}, and {{'x': '{PLAIN.text}'}}")
    assert PLAIN.secret not in told
    assert "asked with" in told


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"name": ""}, "--name ''"),
        ({"name": "a" * 61}, "1 to 60"),
        ({"name": " a"}, "--name ' a'"),
        ({"name": "a\nb"}, r"--name 'a\\nb'"),
        ({"budget": Decimal(0)}, "--budget 0"),
        ({"budget": Decimal("NaN")}, "--budget NaN"),
        ({"expires_at": EPOCH}, "--expires-in"),
    ],
    ids=["no name", "long name", "blank", "line", "no money", "no number", "no time"],
)
def test_what_can_be_no_key_is_refused(changed: dict[str, object], wanted: str) -> None:
    """One line that names the option."""
    with pytest.raises(InvalidRequest, match=wanted):
        replace(KEY, **changed)  # type: ignore[arg-type] # one field each


def test_a_key_is_good_until_it_expires_or_is_revoked() -> None:
    """To the moment; what is revoked is so for ever."""
    short = replace(KEY, expires_at=EPOCH + HOUR)
    assert KEY.status(EPOCH + 9999 * HOUR) is KeyStatus.ACTIVE
    assert short.status(EPOCH + HOUR - timedelta(microseconds=1)) is KeyStatus.ACTIVE
    assert short.status(EPOCH + HOUR) is KeyStatus.EXPIRED
    assert replace(short, revoked_at=EPOCH).status(EPOCH + HOUR) is KeyStatus.REVOKED


def test_who_may_write_may_read() -> None:
    """And not the other way round."""
    read, write = Permission.READ, Permission.WRITE
    assert [read.covers(read), read.covers(write), write.covers(read), write.covers(write)] == [True, False, True, True]


async def test_a_key_is_kept_as_its_digest_alone() -> None:
    """With what it may do, for how long and for how much; its plain text opens it, and that of another does not."""
    kept, clock = Kept(), FakeClock()
    keys = ring(kept, clock)
    key, plain = await keys.create("ci", Permission.WRITE, lifetime=HOUR, budget=Decimal(5))
    other, its_plain = await keys.create("other", Permission.READ)
    assert (key.permission, key.expires_at, key.budget) == (Permission.WRITE, EPOCH + HOUR, Decimal(5))
    assert (other.permission, other.expires_at, other.budget) == (Permission.READ, None, None)
    assert (plain.opens(key), plain.opens(other), its_plain.opens(other)) == (True, False, True)
    assert await keys.all() == (key, other)
    assert all(plain.secret not in repr((one, one.digest)) for one in kept.keys)


async def test_a_key_is_revoked_by_its_id_or_its_name() -> None:
    """A name means the key that is good; an id any of them, as often as one likes."""
    kept, clock = Kept(), FakeClock()
    keys = ring(kept, clock)
    first, _ = await keys.create("ci", Permission.READ)
    assert (await keys.revoke("ci")).id == first.id
    for which in ("ci", "nobody"):
        with pytest.raises(InvalidRequest, match=f"no key '{which}': 'keys list' shows"):
            await keys.revoke(which)
    second, _ = await keys.create("ci", Permission.READ)
    clock.advance(60)
    assert (await keys.revoke("ci")).id == second.id
    assert (await keys.revoke(first.id)).revoked_at == EPOCH
