"""The files by which a step of a job tells its runner something."""

from __future__ import annotations

import re
from collections.abc import Iterator

# What they say is printed as plain text as well.
_COMMAND = re.compile(r"::(?:error|warning|notice|debug|group|endgroup)\b[^:]*::")
_HEREDOC = re.compile(r"([^=]+?)<<(.+)")


def read_pairs(text: str) -> dict[str, str]:
    """The content of GITHUB_OUTPUT or GITHUB_ENV: `name=value` lines and `name<<DELIMITER` blocks.

    Raises ValueError for a line that is neither and for a block without its end, as the runner fails the step.
    """
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if not line:
            continue
        block = _HEREDOC.fullmatch(line)
        if block and "=" not in block[1]:
            found[block[1]] = "\n".join(_until(block[2], lines))
        elif "=" in line:
            name, _, value = line.partition("=")
            found[name] = value
        else:
            raise ValueError(f"'{line[:40]}' is no name=value")
    return found


def _until(delimiter: str, lines: Iterator[str]) -> list[str]:
    content: list[str] = []
    for line in lines:
        if line == delimiter:
            return content
        content.append(line)
    raise ValueError(f"there is no end '{delimiter}'")


class Masks:
    """What must not be shown: the values that `::add-mask::` lines name."""

    def __init__(self) -> None:
        """Nothing is masked yet."""
        self._values: set[str] = set()

    def shown(self, line: str) -> str | None:
        """The line as a runner would show it; None for one that is a message to the runner alone."""
        if line.startswith("::add-mask::"):
            value = line.removeprefix("::add-mask::").replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")
            self._values.update(part for part in value.splitlines() if part.strip())
            return None
        if _COMMAND.match(line):
            return None
        for value in sorted(self._values, key=len, reverse=True):
            line = line.replace(value, "***")
        return line
