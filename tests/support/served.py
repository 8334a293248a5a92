"""The HTTP service as a real process, in front of simulators as real servers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from support.e2e_steps import until

from runner_provisioner.simulators.demo.processes import clean_environment
from runner_provisioner.simulators.pods.host import InertHost
from runner_provisioner.simulators.world import SimulatedWorld, WorldPlan

PROGRAM = (sys.executable, "-m", "runner_provisioner")
QUICK = {
    "RUNNER_PROVISIONER_SETTLE": "0.3",
    "RUNNER_PROVISIONER_RETRY_BASE": "0.1",
    "RUNNER_PROVISIONER_RATE_PER_SECOND": "1000",
    "RUNNER_PROVISIONER_RATE_PER_MINUTE": "60000",
}


@dataclass(kw_only=True)
class House:
    """The markets, a home, and the services that were started in it."""

    folder: Path
    world: SimulatedWorld
    services: list[subprocess.Popen[bytes]] = field(default_factory=list)
    url: str = ""
    database: str = ""  # a file in the house by default
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """What every process is told."""
        database = self.database or str(self.folder / "service.sqlite3")
        more = {"HOME": str(self.folder), "RUNNER_PROVISIONER_DATABASE": database}
        return {**clean_environment(os.environ), **self.world.environment, **QUICK, **more, **self.more}

    def serve(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a service at a free port, and wait until it answers."""
        said = self.folder / f"said{len(self.services)}"
        with said.open("wb") as stream:
            process = subprocess.Popen(
                [*PROGRAM, "serve", "--port", "0", *options],
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        self.services.append(process)
        until(lambda: "serving at" in said.read_text() or process.poll() is not None, "the service serves", seconds=90)
        found = re.search(r"serving at (\S+)", said.read_text())
        assert found is not None, said.read_text()
        self.url = found[1]
        return process

    def call(self, *arguments: str) -> str:
        """Run a command of the program; what it printed."""
        done = subprocess.run([*PROGRAM, *arguments], env=self.environ, capture_output=True, check=True, timeout=60)
        return done.stdout.decode()

    def client(self, url: str = "", **more: Any) -> httpx.Client:  # noqa: ANN401 - httpx's own options
        """A client of the latest service, or of the one there."""
        return httpx.Client(base_url=url or self.url, timeout=60, trust_env=False, **more)

    def close(self) -> None:
        """End what was started."""
        for process in self.services:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(10)


@contextmanager
def house(folder: Path, *markets: str, boot_seconds: float = 0.2) -> Iterator[House]:
    """A house with these markets; nothing runs in their pods."""
    plan = WorldPlan(markets=markets, boot_seconds=boot_seconds)
    with SimulatedWorld(folder / "world", host=InertHost(), plan=plan) as world:
        found = House(folder=folder, world=world)
        try:
            yield found
        finally:
            found.close()
