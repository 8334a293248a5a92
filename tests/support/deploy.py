"""What the files of the deployment say: the container's recipe, the compose file, and the systemd unit."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy/runner-provisioner.service"
PROGRAM = "/opt/runner-provisioner"
UID = 10001
SECRETS = "/run/secrets"


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile as (INSTRUCTION, what follows), continued lines joined and comments left out."""

    steps: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, path: Path = ROOT / "Dockerfile") -> Recipe:
        """Of a file."""
        lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
        joined = "\n".join(lines).replace("\\\n", " ")
        found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
        return cls(tuple((word, rest) for word, rest in found))

    @property
    def last(self) -> Recipe:
        """Its last stage: what is shipped."""
        start = max(number for number, (word, _) in enumerate(self.steps) if word == "FROM")
        return Recipe(self.steps[start:])

    def all(self, instruction: str) -> list[str]:
        """What follows each instruction of a kind."""
        return [rest for word, rest in self.steps if word == instruction]

    def one(self, instruction: str) -> str:
        """What follows the only one of a kind."""
        (found,) = self.all(instruction)
        return found

    def words(self, instruction: str) -> list[str]:
        """The words of the only one of a kind, which has the JSON form."""
        text = self.one(instruction)
        found: list[str] = json.loads(text[text.index("[") :])
        return found

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it sets."""
        return dict(pair.split("=", 1) for rest in self.all("ENV") for pair in shlex.split(rest))


def compose() -> dict[str, Any]:
    """The compose file."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    return found


def unit(path: Path = UNIT) -> list[tuple[str, str]]:
    """The settings of a systemd unit, in order."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return [(name, value) for name, _, value in (line.partition("=") for line in lines if re.match(r"\w+=", line))]


def of_unit(name: str, path: Path = UNIT) -> list[str]:
    """Every value of a setting."""
    return [value for one, value in unit(path) if one == name]


def unit_environment(path: Path = UNIT) -> dict[str, str]:
    """The variables that a unit sets."""
    return dict(pair.split("=", 1) for value in of_unit("Environment", path) for pair in shlex.split(value))


def seconds(text: str) -> float:
    """A time of compose or systemd, in seconds."""
    found = re.fullmatch(r"(\d+)(s|m|min)?", text)
    assert found is not None, text
    return int(found[1]) * (1 if found[2] in {None, "s"} else 60)
