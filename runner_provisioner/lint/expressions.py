"""`${{ }}` as text: compared, never evaluated."""

from __future__ import annotations

import re
from typing import Final

EXPRESSION: Final = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)
_NEEDED: Final = re.compile(r"\bneeds\s*(?:\.\s*([\w-]+)|\[\s*'([^']+)'\s*\])\s*\.\s*outputs\b")
_OUTPUT: Final = re.compile(r"\.\s*outputs\s*(?:\.\s*([\w-]+)|\[\s*'([^']+)'\s*\])")
_STEP: Final = re.compile(r"\bsteps\s*\.\s*([\w-]+)\s*\.\s*outputs\b")
_SECRET: Final = re.compile(r"(?<![\w.-])secrets\s*(?:\.\s*(\w+)|\[\s*'([^']+)'\s*\])", re.IGNORECASE)
_ALL_SECRETS: Final = re.compile(r"(?<![\w.-])secrets(?![\w-])", re.IGNORECASE)
_QUOTED: Final = re.compile(r"'[^']*'")
_WHOLE: Final = re.compile(r"\$\{\{((?:(?!\}\}).)*)\}\}")
_LIST: Final = re.compile(r"\$\{\{\s*fromJSON\((.*)\)\s*\}\}", re.DOTALL | re.IGNORECASE)
_FORMAT: Final = re.compile(r"\s*format\(\s*'((?:[^']|'')*)'", re.DOTALL | re.IGNORECASE)
_LITERAL: Final = re.compile(r"\s*'((?:[^']|'')*)'\s*", re.DOTALL)
_PLACE: Final = re.compile(r"\{\d+\}")
_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?')
_MATRIX: Final = re.compile(r"(?<![\w.-])matrix(?:\.[\w-]+)+")


def compact(text: str) -> str:
    """The text with no blanks at the edges, and none inside its expressions but between quotes."""
    return EXPRESSION.sub(lambda match: _without_blanks(match[0]), text.strip())


def _without_blanks(expression: str) -> str:
    parts = expression.split("'")
    return "'".join(part if place % 2 else "".join(part.split()) for place, part in enumerate(parts))


def code(text: str) -> str:
    """Only the expressions of a text."""
    return " ".join(EXPRESSION.findall(text))


def needed(text: str) -> list[str]:
    """The jobs whose outputs a text takes."""
    return [first or second for first, second in _NEEDED.findall(code(text))]


def outputs(text: str) -> list[str]:
    """The names of the outputs that a text takes."""
    return [first or second for first, second in _OUTPUT.findall(code(text))]


def steps(text: str) -> list[str]:
    """The steps whose outputs a text takes."""
    return list(_STEP.findall(code(text)))


def words_of_list(text: str) -> list[str] | None:
    """The plain words of a list that `fromJSON` makes of a text, with `format` or without; None when it is none.

    A word that `format` fills in is not among them, nor are the keys of an object and the group that it names.
    """
    whole = _LIST.fullmatch(text.strip())
    if whole is None:
        return None
    filled = _FORMAT.match(whole[1])
    literal = filled or _LITERAL.fullmatch(whole[1])
    if literal is None:
        return None
    source = re.sub(r'"group"\s*:\s*"[^"]*"', '"group":0', literal[1].replace("''", "'"))
    return [word for word, is_key in _WORD.findall(source) if not is_key and not (filled and _PLACE.search(word))]


def matrix_paths(text: str) -> list[tuple[str, ...]] | None:
    """What a text takes of the matrix, such as `matrix.size`; None when it takes something else that tells legs."""
    if mentions(text, "strategy", "steps", "env"):
        return None
    found = [tuple(path.split(".")[1:]) for path in _MATRIX.findall(code(text))]
    return None if mentions(_MATRIX.sub("", text), "matrix") else found


def secrets(text: str) -> list[str]:
    """The secrets that a text takes, "any secret" for the whole of them; the token that every job has is none."""
    names = [first or second for first, second in _SECRET.findall(code(text))]
    taken = [name for name in names if name.upper() != "GITHUB_TOKEN"]
    rest = _QUOTED.sub("''", _SECRET.sub("", code(text)))
    return [*taken, "any secret"] if _ALL_SECRETS.search(rest) else taken


def mentions(text: str, *contexts: str) -> bool:
    """Whether the expressions of a text use one of these contexts."""
    return any(re.search(rf"(?<![\w.'-]){re.escape(name)}(?![\w-])", code(text)) for name in contexts)


def same(text: str, other: str) -> bool:
    """Whether two texts name one thing, whatever the case and the blanks in their expressions."""
    return compact(text).casefold() == compact(other).casefold()


def runs_always(condition: str) -> bool:
    """Whether what has this `if` also runs after a failure and a cancellation, whatever else is in it."""
    text = "".join(condition.split()).lower()
    inner = _WHOLE.fullmatch(text)
    text = inner[1] if inner else text
    return text == "always()" or text.startswith("always()||") or text.endswith("||always()")
