"""Nix without a daemon, a network or /nix: the project's flake, over an imitation of nixpkgs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("x86_64-linux", "aarch64-linux", "aarch64-darwin")
# What the flake needs of the working tree. Copied, since a flake in a git tree sees what is in the index alone.
SOURCES = (
    "flake.nix",
    "nix",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "LICENSES",
    "runner_provisioner",
    "examples/gpu-job.yml",
    "tests/conftest.py",
    "tests/support",
    "tests/unit",
)
_SECONDS = 110
# Never fetched: the tests put others in their place.
INPUTS = """
  inputs.nixpkgs.url = "github:NixOS/nixpkgs";
  inputs.runner-provisioner.url = "github:OWNER/runner_provisioner";
  inputs.runner-provisioner.inputs.nixpkgs.follows = "nixpkgs";
"""


def why_no_nix() -> str:
    """Why Nix cannot be tried here; empty when it can."""
    if shutil.which("nix") is None:
        return "there is no nix program (on Debian: apt-get install nix-bin)"
    return ""


@dataclass(frozen=True)
class Nix:
    """A store and a home of one's own, a copy of the project, and the imitation of nixpkgs."""

    folder: Path

    @classmethod
    def prepared(cls, folder: Path) -> Nix:
        """Copy what is needed to the folder."""
        nix = cls(folder.resolve())
        for name in ("home", "conf", "stub"):
            (nix.folder / name).mkdir(parents=True)
        for name in SOURCES:
            copy(ROOT / name, nix.project / name)
        copy(ROOT / "tests/nix-stub", nix.folder / "stub")
        (nix.folder / "stub/host.nix").write_text(f"{{ python = {json.dumps(sys.executable)}; }}\n", "utf-8")
        return nix

    @property
    def project(self) -> Path:
        """The copy of the project."""
        return self.folder / "project"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that keep Nix within the folder. The daemon and /nix are not asked."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "NIX_CONFIG": "experimental-features = nix-command flakes",
            "NIX_CONF_DIR": str(self.folder / "conf"),
            "NIX_REMOTE": "local",
            "NIX_STORE_DIR": str(self.folder / "nix/store"),
            "NIX_STATE_DIR": str(self.folder / "nix/state"),
            "NIX_LOG_DIR": str(self.folder / "nix/log"),
        }

    def run(self, *arguments: str, flake: Path | None = None, then: tuple[str, ...] = ()) -> str:
        """Run a command of Nix; its standard output. AssertionError with what Nix said when it fails."""
        done = self.attempt(*arguments, flake=flake, then=then)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def attempt(
        self, *arguments: str, flake: Path | None = None, then: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of Nix in the folder of a flake; `then` follows `--`."""
        settings = {"substituters": "", "build-users-group": "", "sandbox": "false"}
        options = [word for name, value in settings.items() for word in ("--option", name, value)]
        inputs = {"nixpkgs": self.folder / "stub"} | ({"runner-provisioner": self.project} if flake else {})
        overrides = [word for name, path in inputs.items() for word in ("--override-input", name, f"path:{path}")]
        command = ["nix", *options, *arguments, *overrides, "--no-write-lock-file"]
        return subprocess.run(
            [*command, "--", *then] if then else command,
            env=self.environment,
            cwd=flake or self.project,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def evaluate(self, attribute: str, *, apply: str = "it: it", flake: Path | None = None) -> Any:  # noqa: ANN401 - whatever Nix says
        """The value of an output, after a function in Nix."""
        place = f"path:{flake or self.project}#{attribute}"
        return json.loads(self.run("eval", "--json", place, "--apply", apply, flake=flake))

    def build(self, attribute: str, *, flake: Path | None = None) -> Path:
        """Build an output; where it is."""
        place = f"path:{flake or self.project}#{attribute}"
        built = json.loads(self.run("build", "--json", "--no-link", place, flake=flake))
        return Path(built[0]["outputs"]["out"])


def copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder without what Python leaves in it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copy(source, target)
    else:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


def in_nix(text: str) -> str:
    """A string of Nix."""
    return json.dumps(text).replace("${", "\\${")


def flake(nix: Nix, name: str, text: str) -> Path:
    """Write a flake of a user's."""
    folder = nix.folder / name
    folder.mkdir()
    (folder / "flake.nix").write_text(text, "utf-8")
    return folder


def run_service(unit: Path, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run what the unit starts, with credentials where systemd would put them and nothing else in the environment."""
    start = re.search(r"^ExecStart=(\S+)$", unit.read_text("utf-8"), re.MULTILINE)
    assert start
    return subprocess.run(
        [start[1]],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "CREDENTIALS_DIRECTORY": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def failures(nix: Nix, place: Path) -> dict[str, list[str]]:
    """The messages of the assertions that do not hold, of each machine."""
    apply = "builtins.mapAttrs (_: it: map (a: a.message) (builtins.filter (a: !a.assertion) it.config.assertions))"
    found: dict[str, list[str]] = nix.evaluate("machines", apply=apply, flake=place)
    return found
