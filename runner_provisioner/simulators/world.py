"""Both simulated services at once, on loopback, with credentials that work and an environment that points there."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self

from runner_provisioner.clock import SystemClock
from runner_provisioner.errors import ConfigurationError
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.market.money import Bill
from runner_provisioner.simulators.pods.host import InertHost, PodHost
from runner_provisioner.simulators.runpod.settings import Progress, Settings
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator
from runner_provisioner.simulators.serving import Loopback

REPOSITORY = "octocat/gpu-demo"
APP_ID = 4711
QUIET_SECONDS = 15.0
# As short as the simulated services allow; the real ones need the defaults.
PACE = {
    "RUNNER_PROVISIONER_SETTLE": "1",
    "RUNNER_PROVISIONER_POLL_BOOTING": "0.5",
    "RUNNER_PROVISIONER_POLL_RUNNING": "0.25",
    "RUNNER_PROVISIONER_RETRY_BASE": "0.2",
}
SLOW_BOOT = 15.0
"""Seconds of a boot in which looks at that pace would come to more calls than the client sends in a minute."""
SLOW_PACE = {"RUNNER_PROVISIONER_POLL_BOOTING": "2"}


@dataclass(frozen=True, kw_only=True)
class WorldPlan:
    """What the simulated world is to be like. Ports of 0 are chosen; `workspace` is what `actions/checkout` copies."""

    repository: str = REPOSITORY
    workspace: Path | None = None
    boot_seconds: float = 1.0
    spot: bool = False
    balance: Decimal = Decimal(100)
    runpod_port: int = 0
    github_port: int = 0
    interrupt_after: float | None = None


class SimulatedWorld:
    """RunPod and GitHub as real servers, and pods by `host`; a context manager that leaves nothing behind.

    `scratch` holds the pods' logs and, in a folder of its own that only the owner can read, the App's private key.
    Raises ConfigurationError when a port is taken.
    """

    def __init__(self, scratch: Path, *, host: PodHost | None = None, plan: WorldPlan | None = None) -> None:
        """Without a `host` pods are inert. Nothing is opened before the context is entered."""
        self.plan = plan or WorldPlan()
        self.clock = SystemClock()
        self.host: PodHost = host or InertHost()
        self.logs = scratch / "logs"
        self.private = scratch / "private"
        self.runpod = RunPodSimulator(
            self.clock,
            self.host,
            settings=Settings(progress=Progress.timed(self.plan.boot_seconds)),
            balance=self.plan.balance,
            key=f"rpa_{secrets.token_hex(20).upper()}",
            logs=self.logs,
        )
        self.runpod.market.spot = self.plan.spot
        self.github = GitHubSimulator(self.clock)
        self._runpod_server = self.runpod.serve(self.plan.runpod_port)
        self._github_server = Loopback(self.github.app, port=self.plan.github_port)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Begin to answer."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.runpod.close)
            self.private.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fill()
            for server in (self._runpod_server, self._github_server):
                _start(server)
                undo.callback(server.stop)
            self._open = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process of every pod, close the ports, remove the key."""
        self._open.close()
        self._key_path.unlink(missing_ok=True)

    def _fill(self) -> None:
        if self.plan.interrupt_after is not None:
            self.runpod.interrupt_new(after=self.plan.interrupt_after)
        self.github.add_repository(self.plan.repository, workspace=self.plan.workspace)
        pem = _private_key()
        self._key_path.touch(mode=0o600)
        self._key_path.write_text(pem, encoding="ascii")
        self.github.add_app(APP_ID, f"Iv1.{secrets.token_hex(8)}", pem)
        self.github.install_app(APP_ID, self.plan.repository.partition("/")[0])

    @property
    def _key_path(self) -> Path:
        return self.private / "app.pem"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead here: addresses, credentials, the repository, and a pace that suits."""
        return {
            "RUNPOD_API_URL": f"{self._runpod_server.url}/graphql",
            "RUNPOD_API_KEY": self.runpod.key,
            "GITHUB_API_URL": self._github_server.url,
            "GITHUB_SERVER_URL": self._github_server.url,
            "GITHUB_APP_ID": str(APP_ID),
            "GITHUB_APP_PRIVATE_KEY_PATH": str(self._key_path),
            "GITHUB_REPOSITORY": self.plan.repository,
            **PACE,
            **(SLOW_PACE if self.plan.boot_seconds > SLOW_BOOT else {}),
        }

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where each service answers."""
        return {"runpod": self._runpod_server.url, "github": self._github_server.url}

    @property
    def bill(self) -> Bill:
        """What every pod cost so far."""
        return self.runpod.bill()

    def pods_left(self) -> list[str]:
        """Pods that still cost money, or still have a process though they were ended."""
        live = {pod.id: pod.name for pod in self.runpod.live()}
        running = {pod_id for pod_id in self.runpod.processes() if pod_id not in live}
        return [f"{name} ({pod_id})" for pod_id, name in live.items()] + sorted(running)

    def runners_left(self) -> list[str]:
        """Registrations that still exist."""
        return [runner.name for runner in self.github.runners()]

    def wait_quiet(self) -> None:
        """Wait until ended pods have no process any more, at most 15 seconds."""
        self.runpod.wait_quiet(QUIET_SECONDS)

    def on_log(self, listener: Callable[[str, str], None]) -> None:
        """Call this with (job id, line) for every line that a job writes; from the server's thread."""
        self.github.on_log(lambda job, line: listener(job.key, line))


def _start(server: Loopback) -> None:
    try:
        server.start()
    except OSError as error:
        raise ConfigurationError(
            f"port {server.port} of 127.0.0.1 cannot be used ({error.strerror}): choose another, or 0 for a free one"
        ) from None


def _private_key() -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - slow to import

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")
