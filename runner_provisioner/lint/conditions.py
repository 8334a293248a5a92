"""Whether an `if` keeps out an event of which some things are known, without evaluating the rest of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# A value that equals nothing a condition could name.
FOREIGN: Final = "\x00"

_LENGTH: Final = 4000
_DEPTH: Final = 20
_WHOLE: Final = re.compile(r"\$\{\{((?:(?!\}\}).)*)\}\}")
_WORD: Final = re.compile(r"'((?:[^']|'')*)'")
# `!a == b` is none: `!` binds closer there.
_ATOM: Final = re.compile(r"(?<![!\w.*'-])([\w.*-]+|'[^']*')(==|!=)([\w.*-]+|'[^']*')")
_MEMBER: Final = re.compile(r"contains\(fromjson\('([^']*)'\),([\w.-]+)\)")
_CALL: Final = re.compile(r"[\w-]+\([^()]*\)")
_BRACKETS: Final = re.compile(r"\(([^()]*)\)")
_KNOWN: Final = {"true": True, "false": False}
_UNKNOWN: Final = "?"


def keeps_out(condition: str, facts: Mapping[str, str]) -> bool:
    """Whether the condition is surely false where `facts` hold: values by path, both in small letters, texts in quotes.

    A value of FOREIGN is something, and equals nothing that a condition names. What is too long or too deep to be told
    is not surely false.
    """
    text = "".join(condition.split()).lower()
    whole = _WHOLE.fullmatch(text)
    text = whole[1] if whole else text
    if len(text) > _LENGTH or "${{" in text:  # text around an expression makes it a text, which is always true
        return False
    text = _MEMBER.sub(lambda match: _member(match, facts), text)
    text = _ATOM.sub(lambda match: _compared(match, facts), text)
    text = _WORD.sub(_UNKNOWN, text)
    text = re.sub(r"[\w.-]+(?![\w.(-])", lambda match: _alone(match[0], facts), text)
    for _ in range(_DEPTH):
        text = _BRACKETS.sub(lambda match: _joined(match[1]), _CALL.sub(_UNKNOWN, text))
    return "(" not in text and _joined(text) == "false"


def _member(match: re.Match[str], facts: Mapping[str, str]) -> str:
    known = facts.get(match[2])
    return match[0] if known is None else str(known.replace("'", '"') in match[1]).lower()


def _compared(match: re.Match[str], facts: Mapping[str, str]) -> str:
    values = [facts.get(match[place], match[place]) for place in (1, 3)]
    is_known = [match[place] in facts for place in (1, 3)]
    other = match[3] if is_known[0] else match[1]
    if not any(is_known) or (FOREIGN not in values and not _is_literal(other)):
        return _UNKNOWN
    return str((values[0] == values[1]) is (match[2] == "==")).lower()


def _is_literal(text: str) -> bool:
    return text.startswith("'") or text in {"true", "false", "null"}


def _alone(word: str, facts: Mapping[str, str]) -> str:
    if word in _KNOWN:
        return word
    return str(facts[word] != "false").lower() if word in facts else _UNKNOWN


def _joined(text: str) -> str:
    """The value of what `||`, `&&` and `!` join; no brackets in it."""
    ways = [[_signed(one) for one in way.split("&&")] for way in text.split("||")]
    values = ["false" if "false" in way else _UNKNOWN if _UNKNOWN in way else "true" for way in ways]
    return "true" if "true" in values else _UNKNOWN if _UNKNOWN in values else "false"


def _signed(text: str) -> str:
    value = _KNOWN.get(text.lstrip("!"))
    return _UNKNOWN if value is None else str(value is (text.count("!") % 2 == 0)).lower()
