"""The flake: its outputs are there on every system, and what can be built with the imitation of nixpkgs runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.families import family
from support.nix import ROOT, SYSTEMS, Nix, why_no_nix

pytestmark = pytest.mark.skipif(bool(why_no_nix()), reason=why_no_nix() or "nix is here")

PACKAGES = {"default", "runner-provisioner", "with-controller", "with-simulators"}
APPS = {"default", "start", "stop", "cleanup", "demo"}
CHECKS = {"apps", "decisions", "package", "package-with-controller", "package-with-simulators"}
SYSTEM = "builtins.currentSystem"


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Nix:
    """The project in a store of its own."""
    return Nix.prepared(tmp_path_factory.mktemp("nix"))


@pytest.fixture(scope="module")
def system(nix: Nix) -> str:
    """The system that this machine builds for."""
    said: str = nix.run("eval", "--impure", "--raw", "--expr", SYSTEM)
    if said not in SYSTEMS:
        pytest.skip(f"the flake has nothing for {said}")
    return said


def names(nix: Nix, output: str) -> set[str]:
    """The attributes of an output."""
    return set(nix.evaluate(output, apply="builtins.attrNames"))


def test_flake_shows_its_outputs(nix: Nix) -> None:
    """`nix flake show` evaluates everything there is and names it."""
    shown = nix.run("flake", "show", f"path:{nix.project}")
    assert all(system in shown for system in SYSTEMS)
    for line in ("NixOS module", "Nixpkgs overlay", "development environment 'shell'", "runner-provisioner-"):
        assert line in shown


def test_flake_check_finds_nothing(nix: Nix) -> None:
    """`nix flake check --no-build` accepts the form of every output."""
    nix.run("flake", "check", "--no-build", f"path:{nix.project}")


@pytest.mark.parametrize("system", family(SYSTEMS, daily={"x86_64-linux", "aarch64-darwin"}))
def test_outputs_evaluate_on_every_system(nix: Nix, system: str) -> None:
    """Every package, app, shell and check evaluates to something that could be built."""
    derivations = "builtins.mapAttrs (_: it: it.drvPath)"
    assert set(nix.evaluate(f"packages.{system}", apply=derivations)) == PACKAGES
    assert set(nix.evaluate(f"devShells.{system}", apply=derivations)) == {"default"}
    module = {"module"} if system.endswith("linux") else set()
    assert set(nix.evaluate(f"checks.{system}", apply=derivations)) == CHECKS | module
    apps = nix.evaluate(f"apps.{system}")
    assert set(apps) == APPS
    assert {app["type"] for app in apps.values()} == {"app"}


def test_overlay_adds_the_package(nix: Nix) -> None:
    """The overlay needs nothing but callPackage of the package set that it extends."""
    apply = "it: builtins.attrNames (it { callPackage = path: given: builtins.toString path; } { })"
    assert nix.evaluate("overlays.default", apply=apply) == ["runner-provisioner"]


def test_version_is_the_projects(nix: Nix, system: str) -> None:
    """The package takes its version from pyproject.toml."""
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version
    assert nix.evaluate(f"packages.{system}.default.version") == version[1]


def test_dependencies_evaluate_to_packages(nix: Nix, system: str) -> None:
    """An older PyGithub is replaced, and the libraries of an extra come with its variant alone."""
    apply = "it: map (one: [ one.name one.version ]) it.dependencies"
    light = dict(nix.evaluate(f"packages.{system}.default", apply=apply))
    full = dict(nix.evaluate(f"packages.{system}.with-simulators", apply=apply))
    assert light["pygithub"] == "2.10.0"
    assert set(full) - set(light) == {"graphql-core", "openapi-core", "starlette", "uvicorn"}
    serving = dict(nix.evaluate(f"packages.{system}.with-controller", apply=apply))
    assert set(serving) - set(light) == {"asyncpg", "fastapi", "fastapi-swagger", "prometheus-client", "uvicorn"}


def test_missing_file_is_noticed(nix: Nix, system: str, tmp_path: Path) -> None:
    """The imitation can fail: a source that the package names and that is not there ends the evaluation."""
    broken = Nix.prepared(tmp_path / "nix")
    (broken.project / "examples/gpu-job.yml").unlink()
    done = broken.attempt("eval", f"path:{broken.project}#packages.{system}.default.drvPath")
    assert done.returncode != 0
    assert "examples/gpu-job.yml does not exist" in done.stderr


@pytest.mark.parametrize("name", family(sorted(APPS), daily={"default", "start"}))
def test_apps_run_existing_commands(nix: Nix, system: str, name: str) -> None:
    """`nix run .#NAME` reaches the command of that name, built from the sources that the package chose."""
    del system
    place = f"path:{nix.project}" + ("" if name == "default" else f"#{name}")
    shown = nix.run("run", place, then=("--help",))
    assert shown.startswith("Usage: runner-provisioner" + ("" if name == "default" else f" {name}") + " [OPTIONS]")


def test_build_knows_its_version_and_its_example(nix: Nix, system: str) -> None:
    """What is installed carries its metadata and the workflow that the demonstration plays."""
    built = nix.build(f"packages.{system}.default")
    program = subprocess.run(
        [built / "bin/runner-provisioner", "--version"], capture_output=True, text=True, check=True
    )
    assert program.stdout.startswith("runner-provisioner ")
    assert (built / "lib/runner_provisioner/simulators/examples/gpu-job.yml").is_file()


@pytest.mark.parametrize("name", ["apps", "module", "package", pytest.param("decisions", marks=pytest.mark.full)])
def test_checks_build(nix: Nix, system: str, name: str) -> None:
    """A check of this system is built: the package, the scripts, the units, the tests of the decisions."""
    if name not in names(nix, f"checks.{system}"):
        pytest.skip(f"{system} has no check {name}")
    assert nix.build(f"checks.{system}.{name}").exists()
