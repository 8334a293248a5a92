r"""The line format between the simulator and the stand-in runner, which plain bash writes and reads without a process.

One thing per line: a word, then values, separated by one blank. In a value, backslashes are doubled and blanks and
control characters are `\xHH` (what bash's `printf %b` undoes). An empty value is `-`, a lone dash `\x2d`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from runner_provisioner.simulators.github.entities import ApiError

EMPTY = "-"
MOST_VALUES = 2
_SPECIAL = re.compile(r"[\\\x01-\x20\x7f]")
_ESCAPE = re.compile(r"\\(?:(\\)|x([0-9a-fA-F]{2}))")


class Lines:
    """A message as it was received."""

    def __init__(self, body: bytes) -> None:
        self._entries: list[tuple[str, list[str]]] = []
        for line in body.decode("utf-8", "replace").split("\n"):
            word, *values = line.split(" ")
            if len(values) > MOST_VALUES:
                raise ApiError(400, f"too many values for {word}")
            self._entries.append((word, [_decode(value) for value in values]))

    def get(self, word: str, default: str = "") -> str:
        """The first value of the first line of this word."""
        return next((values[0] for entry, values in self._entries if entry == word and values), default)

    def flag(self, word: str) -> bool:
        """Whether the value is `1`."""
        return self.get(word) == "1"

    def all(self, word: str) -> list[str]:
        """The first value of every line of this word."""
        return [values[0] for entry, values in self._entries if entry == word and values]

    def pairs(self, word: str) -> dict[str, str]:
        """Name and value of every line of this word; a later one wins."""
        return {values[0]: values[1] for entry, values in self._entries if entry == word and len(values) == MOST_VALUES}


def encode(entries: Iterable[tuple[str, ...]]) -> bytes:
    """A message to send: (word, value) or (word, name, value)."""
    text = "".join(" ".join([word, *map(_encode, values)]) + "\n" for word, *values in entries)
    return text.encode("utf-8", "surrogateescape")


def _encode(value: str) -> str:
    if value == EMPTY:
        return r"\x2d"
    return _SPECIAL.sub(_escaped, value.replace("\0", "")) or EMPTY


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return r"\\" if character == "\\" else f"\\x{ord(character):02x}"


def _decode(value: str) -> str:
    if value == EMPTY:
        return ""
    return _ESCAPE.sub(lambda match: match[1] or chr(int(match[2], 16)), value)
