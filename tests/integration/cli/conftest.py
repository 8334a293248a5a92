"""The command line against both simulated services, in this process or as one of its own."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.sshd import Server, serve

from runner_provisioner import logging as our_logging
from runner_provisioner.cli import app, session
from runner_provisioner.clock import SystemClock
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator
from runner_provisioner.simulators.serving import Loopback

REPOSITORY = "octo/hello"
TOKEN = "ghp_" + "A1b2C3d4" * 5


@dataclass(frozen=True)
class Result:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """Its JSON."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def errors(self) -> list[str]:
        """The error lines."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


@dataclass
class Services:
    """Both simulators, the environment that leads there, and ways to run the command line."""

    runpod: RunPodSimulator
    github: GitHubSimulator
    environment: dict[str, str]
    folder: Path
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    ushers: list[Usher] = field(default_factory=list)

    def run(self, *arguments: str, **more: str) -> Result:
        """Run a command in this process; `more` changes the environment, an empty value takes a variable away."""
        for name in list(os.environ):
            self.monkeypatch.delenv(name)
        for name, value in {**self.environment, **more}.items():
            self.monkeypatch.setenv(name, value)
        self.monkeypatch.chdir(self.folder)
        session.redactor.cache_clear()
        self.capture.readouterr()
        try:
            code = app.run(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            _silence()
        out, err = self.capture.readouterr()
        return Result(code=code, out=out, err=err)

    def spawn(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start a command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "runner_provisioner", *arguments],
            env={**self.environment, **(environment or {})},
            cwd=self.folder,
            text=True,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )

    def usher(self) -> Usher:
        """From now on each new pod's runner comes online at once."""
        one = Usher(self)
        self.ushers.append(one)
        one.thread.start()
        return one


class Usher:
    """Registers a runner for each pod, as its start script would."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._end = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.online_at: dict[str, float] = {}

    def _run(self) -> None:
        while not self._end.wait(0.02):
            for pod in self._services.runpod.live():
                if pod.name not in self.online_at and "RP_LABEL" in pod.env:
                    self._services.github.play_runner(REPOSITORY, pod.name, (pod.env["RP_LABEL"],))
                    self.online_at[pod.name] = time.monotonic()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self.thread.join(5)


def _silence() -> None:
    our_logging._output.level = 100
    if our_logging._output.handler is not None:
        logging.getLogger().removeHandler(our_logging._output.handler)
        our_logging._output.handler = None


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An SSH server that lets root in with one key."""
    with serve(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def services(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """An account with money, a repository, a token, and pods without processes."""
    clock = SystemClock()
    runpod, github = RunPodSimulator(clock), GitHubSimulator(clock)
    github.add_repository(REPOSITORY)
    github.add_token(TOKEN)
    hooks = sys.excepthook, threading.excepthook
    (tmp_path / "home").mkdir()
    with runpod.serve() as runpod_server, Loopback(github.app) as github_server:
        found = Services(
            runpod=runpod,
            github=github,
            environment={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path / "home"),
                "CI": "true",
                "RUNPOD_API_URL": f"{runpod_server.url}/graphql",
                "RUNPOD_API_KEY": runpod.key,
                "GITHUB_API_URL": github_server.url,
                "GITHUB_SERVER_URL": github_server.url,
                "GITHUB_TOKEN": TOKEN,
                "GITHUB_REPOSITORY": REPOSITORY,
                "RUNNER_PROVISIONER_SETTLE": "0.1",
                "RUNNER_PROVISIONER_POLL_BOOTING": "0.1",
                "RUNNER_PROVISIONER_POLL_RUNNING": "0.05",
                "RUNNER_PROVISIONER_RETRY_BASE": "0.01",
                "RUNNER_PROVISIONER_RATE_PER_SECOND": "1000",
                "RUNNER_PROVISIONER_RATE_PER_MINUTE": "10000",
            },
            folder=tmp_path / "home",
            capture=capfd,
            monkeypatch=monkeypatch,
        )
        try:
            yield found
        finally:
            for usher in found.ushers:
                usher.stop()
            sys.excepthook, threading.excepthook = hooks
            runpod.faults.clear()
            github.faults.clear()
            runpod.close()
