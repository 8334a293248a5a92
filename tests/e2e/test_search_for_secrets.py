"""The search that the secrets test relies on finds what it should."""

from __future__ import annotations

import base64

import pytest
from support.e2e_secrets import found

SECRET = "A-secret-of-no-particular-length-/+~"
KEY = "-----BEGIN KEY-----\n" + "\n".join(letter * 64 for letter in "abc") + "\n-----END KEY-----\n"


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(3))
def test_base64_is_recognised_wherever_the_secret_stands(before: int, after: int) -> None:
    """Whatever stands beside it in the text that was encoded, also when the code is broken into lines."""
    coded = base64.b64encode(b"x" * before + SECRET.encode() + b"y" * after)
    broken = b"\n".join(coded[place : place + 20] for place in range(0, len(coded), 20))
    assert found({"one": SECRET}, b"( " + coded + b" )")
    assert found({"one": SECRET}, broken)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SECRET.encode(), id="plain"),
        pytest.param(SECRET.encode().hex().encode(), id="hex"),
        pytest.param(SECRET.encode().hex().upper().encode(), id="HEX"),
        pytest.param(base64.urlsafe_b64encode(SECRET.encode()), id="for addresses"),
    ],
)
def test_other_forms_are_recognised(text: bytes) -> None:
    """As it is, in hexadecimal digits, in the alphabet for addresses."""
    assert found({"one": SECRET}, b"( " + text + b" )")


def test_a_line_of_a_key_is_enough() -> None:
    """Of a text of several lines each long one counts, and its frame does not."""
    assert found({"key": KEY}, b"..." + b"b" * 64)
    assert not found({"key": KEY}, b"-----BEGIN KEY-----")


def test_what_is_not_there_is_not_found() -> None:
    """Neither the beginning nor the end of a secret is the secret."""
    assert not found({"one": SECRET}, SECRET[:-1].encode() + b" " + SECRET[1:].encode())
