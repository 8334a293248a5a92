"""Finding our commands in a shell script, near enough: words, operators and variables, no control flow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runner_provisioner.lint.expressions import EXPRESSION, compact

PROGRAMS: Final = frozenset({"runner-provisioner", "runner_provisioner"})
MODES: Final = frozenset({"start", "stop", "cleanup"})

_OPERATORS: Final = frozenset({";", ";;", "&&", "||", "|", "|&", "&", "(", ")"})
_NIX = re.compile(rf"(?:\.|.*(?:{'|'.join(PROGRAMS)}).*)#({'|'.join(sorted(MODES))})")
_TALK: Final = frozenset({"echo", "printf", ":", "#"})
_TESTED: Final = frozenset({"if", "elif", "while", "until", "!"})
_HARMLESS = re.compile(r"true|:|exit 0|(?:echo|printf)\b.*")
_FAILS = re.compile(r"\b(?:exit|return) (?!0\b)|\bfalse$")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
# Variables that the runner sets, and that are something else in another job or another attempt.
_RUNNER_SETS: Final = {
    "GITHUB_JOB": "${{github.job}}",
    "GITHUB_RUN_ATTEMPT": "${{github.run_attempt}}",
    "GITHUB_RUN_ID": "${{github.run_id}}",
    "RUNNER_NAME": "${{runner.name}}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One call of ours: its mode, the words after it, and what the script around it makes of its end."""

    mode: str
    words: tuple[str, ...]
    is_exec: bool
    is_last: bool
    swallowed: bool

    def values(self, option: str) -> list[str]:
        """Every value that an option is given."""
        found = [word.partition("=")[2] for word in self.words if word.startswith(f"{option}=")]
        pairs = zip(self.words, self.words[1:], strict=False)
        return found + [value for word, value in pairs if word == option]


@dataclass(frozen=True, slots=True)
class _Segment:
    """The words between two operators, and the operator after them."""

    words: tuple[str, ...]
    operator: str


def commands(script: str, *, pipefail: bool, errexit: bool = True) -> list[Command]:
    """Our commands in a script.

    `pipefail` when its shell notices a failure at the start of a pipe; `errexit` when a failure ends the script.
    """
    segments = list(_segments(script))
    careless = False
    found = []
    for place, segment in enumerate(segments):
        if segment.words[:2] == ("set", "+e"):
            careless = True
        pipefail = pipefail or "pipefail" in segment.words
        if (begin := _ours(segment.words)) is None:
            continue
        before = set(segment.words[: begin[1]])
        rest = segments[place + 1 :]
        found.append(
            Command(
                mode=begin[0],
                words=segment.words[begin[1] :],
                is_exec="exec" in before,
                is_last=not rest,
                swallowed=careless
                or _is_swallowed(segment, before, rest, pipefail=pipefail)
                or (not errexit and _ends_well(rest)),
            )
        )
    return found


def with_variables(word: str, variables: Mapping[str, str]) -> str | None:
    """The word with the variables put in whose value is known; None when one is not, or it is computed."""
    unknown = False

    def value(match: re.Match[str]) -> str:
        nonlocal unknown
        name = match[1] or match[2]
        known = variables.get(name, _RUNNER_SETS.get(name))
        unknown = unknown or known is None
        return known or ""

    text = "".join(
        part if is_expression else _VARIABLE.sub(value, part) for part, is_expression in _parts(compact(word))
    )
    rest = EXPRESSION.sub("", text)
    return None if unknown or "$" in rest or "`" in rest else compact(text)


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    end = 0
    for match in EXPRESSION.finditer(text):
        yield text[end : match.start()], False
        yield match[0], True
        end = match.end()
    yield text[end:], False


def _segments(script: str) -> Iterator[_Segment]:
    for line in re.sub(r"\\\r?\n", " ", script).splitlines():
        words: list[str] = []
        for token in _tokens(line):
            if token in _OPERATORS:
                if words:
                    yield _Segment(tuple(words), token)
                words = []
            else:
                words.append(token)
        if words:
            yield _Segment(tuple(words), "")


def _tokens(line: str) -> list[str]:
    """The words and operators of a line. Expressions stay whole: GitHub puts their values in before the shell reads."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(compact(match[0]))
        return f"\x00{len(kept) - 1}\x00"

    plain = _COMMENT.sub("", EXPRESSION.sub(keep, line.replace("\x00", "")))
    lexer = shlex.shlex(plain, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:  # a quote that ends on another line
        tokens = plain.replace('"', " ").replace("'", " ").split()
    return [re.sub(r"\x00(\d+)\x00", lambda match: kept[int(match[1])], token) for token in tokens]


def _ours(words: tuple[str, ...]) -> tuple[str, int] | None:
    """The mode, and where the words after it begin; None when this is no call of ours."""
    if not words or words[0] in _TALK:
        return None
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        if word.rsplit("/", 1)[-1] in PROGRAMS and following in MODES:
            return following, place + 2
        if words[0] in {"nix", "exec"} and "nix" in words and (match := _NIX.fullmatch(word)):
            return match[1], place + 1
    return None


def _ends_well(rest: Sequence[_Segment]) -> bool:
    """Whether what comes after ends the script with success, whatever was before."""
    if not rest or any(_FAILS.search(" ".join(one.words)) for one in rest):
        return False
    return _HARMLESS.fullmatch(" ".join(rest[-1].words)) is not None


def _is_swallowed(segment: _Segment, before: set[str], rest: Sequence[_Segment], *, pipefail: bool) -> bool:
    """Whether the script goes on, and ends well, after a failure of the segment."""
    if before & _TESTED:
        return not any(_FAILS.search(" ".join(one.words)) for one in rest)
    if segment.operator in {"|", "|&"}:
        return not pipefail
    if segment.operator == "||":
        return bool(rest) and rest[0].operator != "&&" and _HARMLESS.fullmatch(" ".join(rest[0].words)) is not None
    return segment.operator == "&"
