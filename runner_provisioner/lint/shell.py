"""Finding our commands in a shell script, and what the script makes of their end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from runner_provisioner.lint.expressions import EXPRESSION, compact
from runner_provisioner.lint.script import CHAINS, PIPES, Simple, read_script

MODES: Final = frozenset({"start", "stop", "cleanup", "rerun", "watch"})

_NAMES: Final = r"runner[-_]provisioner"
_PROGRAM = re.compile(rf"(?:.*/)?{_NAMES}(?:(?:@|==|\[).*)?")  # `uvx` and the like take a version with it
_FLAKE = re.compile(rf"(?:\./?|.*{_NAMES}.*?)(?:#({'|'.join(sorted(MODES))}|default|{_NAMES}))?")
_TALK: Final = frozenset({"echo", "printf", ":", "#"})
_TESTED: Final = frozenset({"if", "elif", "while", "until", "!"})
_KEYWORDS: Final = _TESTED | {"then", "else", "do", "time"}
_HARMLESS = re.compile(r"true|:|exit 0|(?:echo|printf)\b.*")
_FAILS = re.compile(r"\b(?:exit|return) (?!0\b)|\bfalse$")
_PASSES_ON = re.compile(r"(?:exit|return)")
_ASSIGNMENT = re.compile(r"\w+\+?=.*")
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


def commands(script: str, *, pipefail: bool, errexit: bool = True) -> list[Command]:
    """Our commands in a script.

    `pipefail` when its shell notices a failure at the start of a pipe; `errexit` when a failure ends the script.
    """
    all_of_them = read_script(script)
    careless = False
    found = []
    for one in all_of_them:
        if one.words[:2] == ["set", "+e"]:
            careless = True
        pipefail = pipefail or "pipefail" in one.words
        if (begin := _ours(one.words)) is None:
            continue
        rest = all_of_them[one.end :]
        found.append(
            Command(
                mode=begin[0],
                words=tuple(one.words[begin[1] :]),
                is_exec="exec" in one.words[: begin[1]],
                is_last=not rest,
                swallowed=careless
                or _is_swallowed(one, all_of_them, pipefail=pipefail)
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


def _ours(words: Sequence[str]) -> tuple[str, int] | None:
    """The mode, and where the words after it begin; None when this is no call of ours."""
    if not words or words[0] in _TALK:
        return None
    for place, word in enumerate(words):
        flake = _FLAKE.fullmatch(word) if "nix" in words[:place] else None
        if flake is not None and flake[1] in MODES:
            return flake[1], place + 1
        if flake is not None or _PROGRAM.fullmatch(word):
            # Between the program and its command are only options without a value, and the `--` of `nix run`.
            mode = next((one for one in range(place + 1, len(words)) if not words[one].startswith("-")), None)
            if mode is not None and words[mode] in MODES:
                return words[mode], mode + 1
    return None


def _ends_well(rest: Sequence[Simple]) -> bool:
    """Whether what comes after ends the script with success, whatever was before."""
    return bool(rest) and not _may_fail(rest) and _HARMLESS.fullmatch(rest[-1].text) is not None


def _may_fail(some: Sequence[Simple]) -> bool:
    return any(_FAILS.search(one.text) for one in some)


def _is_swallowed(command: Simple, all_of_them: Sequence[Simple], *, pipefail: bool) -> bool:
    """Whether the script goes on, and ends well, after a failure of the command: looked at from bracket to bracket."""
    here = command
    while True:
        if _is_tested(here):
            return not _may_fail(all_of_them[here.end :])
        failed, last = _chain(here, all_of_them, pipefail=pipefail)
        if not failed or last.operator == "&":
            return True
        group = here.group
        if group.inside is None:
            return False
        if last is not group.commands[-1] and (group.bracket == "$" or _is_asked(group.inside)):
            return True  # `errexit` does not hold there (bash's manual, set and Command Substitution)
        if group.bracket == "$" and not _assigns(group.inside):
            return True
        here = group.inside


def _chain(command: Simple, all_of_them: Sequence[Simple], *, pipefail: bool) -> tuple[bool, Simple]:
    """Whether the pipes, `&&` and `||` that a failed command stands in fail as well, and the last command of them."""
    failed, last = True, command
    for one in command.group.commands[command.place + 1 :]:
        if last.operator in PIPES:
            failed = failed and pipefail
        elif last.operator not in CHAINS:
            break
        elif (last.operator == "||") is failed:
            failed = _fails(one, all_of_them)
        last = one
    return failed, last


def _fails(command: Simple, all_of_them: Sequence[Simple]) -> bool:
    """Whether a command that runs because ours failed fails too, tries again, or keeps the code for later."""
    parts = all_of_them[command.begin : command.end]
    if _PASSES_ON.fullmatch(command.text) or _may_fail(parts) or any(_ours(one.words) for one in parts):
        return True
    return _assigns(command) and _may_fail(all_of_them[command.end :])


def _is_asked(command: Simple | None) -> bool:
    """Whether the script asks how the command ends, or how one does that has it in its brackets."""
    while command is not None:
        if command.operator in CHAINS or _is_tested(command):
            return True
        command = command.group.inside
    return False


def _is_tested(command: Simple) -> bool:
    return not _TESTED.isdisjoint(_keywords(command))


def _assigns(command: Simple) -> bool:
    """Whether it only sets variables, and so ends as the last command in its brackets does."""
    words = command.words[len(_keywords(command)) :]
    return bool(words) and all(map(_ASSIGNMENT.fullmatch, words))


def _keywords(command: Simple) -> list[str]:
    return list(takewhile(_KEYWORDS.__contains__, command.words))
