"""The commands of a shell script and the brackets they stand in, near enough: what its keywords do is not followed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from runner_provisioner.lint.expressions import EXPRESSION, compact

PIPES: Final = frozenset({"|", "|&"})
CHAINS: Final = frozenset({"&&", "||"})

_OPERATORS: Final = PIPES | CHAINS | {";", ";;", "&"}
_SUBSTITUTES: Final = ("$", "<", ">")
_SIGNS = re.compile(r"&&|\|\||\|&|;;|&>+|[<>]+[&|]?|[;()|&]")
_PUNCTUATION = re.compile(r"[();<>|&]+")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_QUOTED_RESULT = re.compile(r'"(\$\([^"()]*\))"')


@dataclass(slots=True, eq=False)
class Group:
    """Commands that follow each other: the script itself, or what brackets hold; `$` stands for `$(` and the like."""

    bracket: str = ""
    inside: Simple | None = None
    commands: list[Simple] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Simple:
    """A command: its words, those in brackets left out; the operator after it, empty at the end of a line.

    `place` counts in its group. In the whole script it and what is in its brackets are those from `begin` to `end`.
    """

    group: Group
    place: int
    begin: int
    words: list[str] = field(default_factory=list)
    operator: str = ""
    end: int = 0

    @property
    def text(self) -> str:
        """Its words as one line."""
        return " ".join(self.words)


def read_script(script: str) -> list[Simple]:
    """All commands as they come, what is in a command's brackets after it."""
    reader = _Reader()
    for line in re.sub(r"\\\r?\n", " ", script).splitlines():
        for token in _tokens(line):
            reader.take(token)
        reader.finish("")
    while reader.group.inside is not None:
        reader.close()
        reader.finish("")
    return reader.found


class _Reader:
    """Takes token by token: no depth of brackets is too much for it."""

    def __init__(self) -> None:
        self.found: list[Simple] = []
        self.group = Group()
        self._command: Simple | None = None

    def take(self, sign: str) -> None:
        if sign in {"(", "{"}:
            self._open(sign)
        elif sign == {"{": "}"}.get(self.group.bracket, ")"):
            self.finish("")
            self.close()
        elif sign in _OPERATORS or sign == ")":
            self.finish(sign)
        else:
            self._begun().words.append(sign)

    def finish(self, operator: str) -> None:
        if self._command is not None:
            self._command.operator = operator
            self._command.end = len(self.found)
            self._command = None

    def close(self) -> None:
        if self.group.inside is not None:
            self._command = self.group.inside
            self.group = self._command.group

    def _open(self, bracket: str) -> None:
        command = self._begun()
        is_result = bracket == "(" and bool(command.words) and command.words[-1].endswith(_SUBSTITUTES)
        self.group = Group(bracket="$" if is_result else bracket, inside=command)
        self._command = None

    def _begun(self) -> Simple:
        if self._command is None:
            self._command = Simple(group=self.group, place=len(self.group.commands), begin=len(self.found))
            self.group.commands.append(self._command)
            self.found.append(self._command)
        return self._command


def _tokens(line: str) -> Iterator[str]:
    """The words and operators of a line. Expressions stay whole: GitHub puts their values in before the shell reads."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(compact(match[0]))
        return f"\x00{len(kept) - 1}\x00"

    plain = _COMMENT.sub("", EXPRESSION.sub(keep, line.replace("\x00", "")))
    plain = _QUOTED_RESULT.sub(r"\1", plain)
    lexer = shlex.shlex(plain, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:  # a quote that ends on another line
        tokens = plain.replace('"', " ").replace("'", " ").split()
    for token in tokens:
        if _PUNCTUATION.fullmatch(token):
            yield from _SIGNS.findall(token)
        else:
            yield re.sub(r"\x00(\d+)\x00", lambda match: kept[int(match[1])], token)
