"""Clients that nobody here wrote, each in an environment of its own, and a table of what they did at the end.

A test says by `does` which of the verbs it shows; its module names the client's package as `CLIENT`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

VERBS = ("availability", "create", "list", "status", "ssh", "terminate", "error")
DONE = pytest.StashKey[dict[str, set[str]]]()
VERSIONS = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Know the marker, and nothing done yet."""
    config.addinivalue_line("markers", "does(*verbs): what the client does in this test")
    config.stash[DONE] = {}
    config.stash[VERSIONS] = {}


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Note the verbs of a test that has passed."""
    if call.when != "call" or call.excinfo is not None:
        return
    for mark in item.iter_markers("does"):
        assert set(mark.args) <= set(VERBS), mark.args
        client: str = item.getparent(pytest.Module).obj.CLIENT  # type: ignore[union-attr] # a function has a module
        item.config.stash[DONE].setdefault(client, set()).update(mark.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A row for each client that was installed."""
    versions = config.stash[VERSIONS]
    if not versions:
        return
    terminalreporter.section("what clients of others did against the simulators")
    terminalreporter.line(f"{'client':<18}" + "".join(f"{verb:<14}" for verb in VERBS).rstrip())
    for client, version in sorted(versions.items()):
        done = config.stash[DONE].get(client, set())
        cells = "".join(f"{'ok' if verb in done else 'NOT SHOWN':<14}" for verb in VERBS)
        terminalreporter.line(f"{client + ' ' + version:<18}{cells}".rstrip())


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Callable[[str], Path]:
    """Make a fresh environment with the newest version of a package; gives the folder of its programs."""

    def made(package: str) -> Path:
        folder = tmp_path_factory.mktemp(package) / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = str(folder / "bin" / "python")
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", package]
        subprocess.run(pip, check=True)
        version = [python, "-c", "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"]
        told = subprocess.run([*version, package], check=True, capture_output=True, text=True)
        pytestconfig.stash[VERSIONS][package] = told.stdout.strip()
        return folder / "bin"

    return made
