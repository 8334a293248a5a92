"""GitHub and the markets at once, on loopback, with credentials that work and an environment that points there."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from runner_provisioner.clock import SystemClock
from runner_provisioner.errors import ConfigurationError
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.market.money import Bill
from runner_provisioner.simulators.market.pods import RentedPod
from runner_provisioner.simulators.market.simulator import MarketSimulator
from runner_provisioner.simulators.pods.host import InertHost, PodHost
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator
from runner_provisioner.simulators.serving import Loopback
from runner_provisioner.simulators.stands import MARKETS, RUNPOD, RUNPOD_REST, Setup, Stand

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
S = TypeVar("S", bound=MarketSimulator[Any])


@dataclass(frozen=True, kw_only=True)
class WorldPlan:
    """What the simulated world is to be like.

    `markets` are names of `MARKETS`, each a provider of its own; a port that is 0 or left out of `ports` (market to
    number) is chosen. `workspace` is what `actions/checkout` copies, `spot` whether RunPod rents interruptible pods;
    `interrupt_after` seconds each market takes its first pod away.
    """

    markets: tuple[str, ...] = (RUNPOD,)
    repository: str = REPOSITORY
    workspace: Path | None = None
    boot_seconds: float = 1.0
    spot: bool = False
    balance: Decimal = Decimal(100)
    ports: Mapping[str, int] = field(default_factory=dict)
    github_port: int = 0
    interrupt_after: float | None = None

    def __post_init__(self) -> None:
        """Raise ConfigurationError for markets that no world can have."""
        for name in self.markets:
            if name not in MARKETS:
                raise ConfigurationError(f"no simulated market '{name}': there are {', '.join(MARKETS)}")
        if not self.markets:
            raise ConfigurationError(f"a world without a market: choose of {', '.join(MARKETS)}")
        if {RUNPOD, RUNPOD_REST} <= set(self.markets):
            raise ConfigurationError(f"{RUNPOD} and {RUNPOD_REST} are one provider: choose one of them")


class SimulatedWorld:
    """GitHub and the plan's markets as real servers, and pods by `host`; a context manager that leaves nothing behind.

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
        self.github = GitHubSimulator(self.clock)
        self._github_server = Loopback(self.github.app, port=self.plan.github_port)
        self.markets = self._stands()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Begin to answer."""
        with contextlib.ExitStack() as undo:
            for market in self.markets:
                undo.callback(market.simulator.close)
            self.private.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fill()
            for server in (*(market.server for market in self.markets), self._github_server):
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

    def _stands(self) -> tuple[Stand, ...]:
        setup = Setup(
            clock=self.clock,
            host=self.host,
            logs=self.logs,
            balance=self.plan.balance,
            boot_seconds=self.plan.boot_seconds,
            spot=self.plan.spot,
        )
        return tuple(MARKETS[name](setup, self.plan.ports.get(name, 0)) for name in dict.fromkeys(self.plan.markets))

    def _fill(self) -> None:
        for market in self.markets if self.plan.interrupt_after is not None else ():
            market.simulator.interrupt_new(after=self.plan.interrupt_after or 0.0)
        self.github.add_repository(self.plan.repository, workspace=self.plan.workspace)
        pem = _private_key()
        self._key_path.touch(mode=0o600)
        self._key_path.write_text(pem, encoding="ascii")
        self.github.add_app(APP_ID, f"Iv1.{secrets.token_hex(8)}", pem)
        self.github.install_app(APP_ID, self.plan.repository.partition("/")[0])

    def market(self, kind: type[S]) -> S:
        """The market of that kind; LookupError where this world has none."""
        for market in self.markets:
            if isinstance(market.simulator, kind):
                return market.simulator
        raise LookupError(f"this world has no {kind.name}")

    @property
    def runpod(self) -> RunPodSimulator:
        """RunPod; LookupError where this world has none."""
        return self.market(RunPodSimulator)

    @property
    def _key_path(self) -> Path:
        return self.private / "app.pem"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead here: addresses, credentials, the repository, and a pace that suits."""
        leading = {name: value for market in self.markets for name, value in market.environment.items()}
        return {
            **leading,
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
        return {**{market.name: market.server.url for market in self.markets}, "github": self._github_server.url}

    def pods(self) -> list[RentedPod]:
        """Every pod there ever was at any market, in the order of creation."""
        found = [pod for market in self.markets for pod in market.simulator.pods()]
        return sorted(found, key=lambda pod: pod.created_at)

    def live(self) -> list[RentedPod]:
        """Pods that may still cost money, at any market."""
        return [pod for market in self.markets for pod in market.simulator.live()]

    @property
    def bill(self) -> Bill:
        """What every pod cost so far."""
        return Bill({pod: owed for market in self.markets for pod, owed in market.simulator.bill().pods.items()})

    def pods_left(self) -> list[str]:
        """Pods that still cost money, or still have a process though they were ended."""
        live = {pod.id: pod.name for pod in self.live()}
        running = {pod for market in self.markets for pod in market.simulator.processes() if pod not in live}
        return [f"{name} ({pod_id})" for pod_id, name in live.items()] + sorted(running)

    def runners_left(self) -> list[str]:
        """Registrations that still exist."""
        return [runner.name for runner in self.github.runners()]

    def wait_quiet(self) -> None:
        """Wait until ended pods have no process any more, at most 15 seconds for each market."""
        for market in self.markets:
            market.simulator.wait_quiet(QUIET_SECONDS)

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
