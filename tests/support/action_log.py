"""A job's log as GitHub shows it: workflow commands taken out, secrets masked."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

LEVELS = ("error", "warning", "notice")
HIDDEN = "***"
# The runner reads commands from standard output and standard error alike.
_COMMAND = re.compile(r"^\s*::([A-Za-z-]+)(?: ([^:]*(?::(?!:)[^:]*)*))?::(.*)$")
_SHORTEST = 3  # characters: of an encoded form, so that a fragment is not taken for a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One message on the page of a run; `step` is the one that said it."""

    level: str
    message: str
    title: str = ""
    step: str = ""


def unescape(text: str, *, is_property: bool = False) -> str:
    """A command's value as it was meant (docs: workflow commands)."""
    pairs = (("%3A", ":"), ("%2C", ",")) if is_property else ()
    for code, char in (("%0D", "\r"), ("%0A", "\n"), *pairs, ("%25", "%")):
        text = text.replace(code, char)
    return text


@dataclass(kw_only=True)
class Log:
    """What is on the page of a job. `raw` is what the programs wrote, their mask commands aside, for tests alone."""

    lines: list[str] = field(default_factory=list)
    raw: list[str] = field(default_factory=list, repr=False)
    annotations: list[Annotation] = field(default_factory=list)
    masks: set[str] = field(default_factory=set, repr=False)
    open_groups: int = 0
    step: str = ""
    _stopped_by: str = ""

    @property
    def text(self) -> str:
        """The whole, as a reader sees it."""
        return "\n".join(self.lines)

    def of(self, level: str) -> list[str]:
        """The messages of one level."""
        return [one.message for one in self.annotations if one.level == level]

    def mask(self, value: str) -> None:
        """Hide a value, each of its lines, and their base64 from now on; a blank one hides nothing."""
        for part in {value, *value.splitlines()}:
            shown = part.strip()
            if not shown:
                continue
            self.masks.add(shown)
            for shift in range(3):
                code = base64.b64encode(b"\0" * shift + shown.encode()).decode()[(0, 2, 3)[shift] :].rstrip("=")[:-1]
                if len(code) > _SHORTEST:
                    self.masks.add(code)

    def masked(self, text: str) -> str:
        """The text with every secret hidden, the longest first."""
        for value in sorted(self.masks, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        return text

    def hides(self, text: str) -> bool:
        """Whether the text holds a secret."""
        return any(value in text for value in self.masks)

    def say(self, line: str) -> None:
        """A line of the runner's own."""
        self.lines.append(self.masked(line))

    def write(self, line: str) -> None:
        """A line of a step."""
        found = _COMMAND.match(line)
        if found is None or (self._stopped_by and found[1] != self._stopped_by):
            self.raw.append(line)
            self.say(line)
            return
        self._obey(found[1].lower(), found[2] or "", found[3], line)

    def annotate(self, level: str, message: str, title: str = "") -> None:
        """Put a message on the page."""
        self.say(f"##[{level}]{message}")
        self.annotations.append(
            Annotation(level=level, message=self.masked(message), title=self.masked(title), step=self.step)
        )

    def _obey(self, name: str, properties: str, value: str, line: str) -> None:
        if name == "add-mask":
            if not value.strip():
                self.annotate("warning", "Can't add secret mask for empty string in ##[add-mask] command.")
            self.mask(unescape(value))
            return
        self.raw.append(line)
        if self._stopped_by:
            self._stopped_by = ""
        elif name == "stop-commands":
            self._stopped_by = value
        elif name in LEVELS:
            self.annotate(name, unescape(value), _properties(properties).get("title", ""))
        elif name in {"group", "endgroup"}:
            self.open_groups += 1 if name == "group" else -1
            self.say(f"##[{name}]{unescape(value)}")
        elif name != "debug":
            self.say(line)


def _properties(text: str) -> Mapping[str, str]:
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {name.strip(): unescape(value, is_property=True) for name, _, value in pairs}
