"""Text of strangers, made such that a reader sees all of it: nothing turned round, hidden or erased."""

from __future__ import annotations

import unicodedata
from typing import Final

_SIGN: Final = "\ufffd"
# Controls, format characters (bidi, zero width, tags), surrogates, private use, unassigned, line and paragraph ends.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Letters and marks that show as nothing (Unicode, Default_Ignorable_Code_Point).
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_KEPT: Final = frozenset("\n\t")


def visible(text: str) -> str:
    """The text with a replacement sign for each character that is not seen or changes what is; lines and tabs stay.

    What GitHub's runner takes for a command wherever in a line it stands is broken up (actions/runner, ActionCommand).
    """
    shown = text if text.isascii() and text.isprintable() else "".join(_shown(letter) for letter in text)
    return shown.replace("##[", "## [")


def _shown(letter: str) -> str:
    if letter in _KEPT:
        return letter
    return _SIGN if unicodedata.category(letter) in _UNSEEN or letter in _BLANK else letter
