"""The markets that the simulated world can have: each a simulator, its server, and the variables that lead there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from runner_provisioner.simulators.market.settings import Progress
from runner_provisioner.simulators.market.simulator import Clock, MarketSimulator
from runner_provisioner.simulators.pods.host import PodHost
from runner_provisioner.simulators.serving import Loopback

RUNPOD, RUNPOD_REST, PRIME, CELIUM = "runpod", "runpod-rest", "prime", "celium"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a market is opened with; `spot` is whether RunPod, which has ended them, still rents interruptible pods."""

    clock: Clock
    host: PodHost
    logs: Path
    balance: Decimal
    boot_seconds: float
    spot: bool

    @property
    def progress(self) -> Progress:
        """How its pods come up."""
        return Progress.timed(self.boot_seconds)


@dataclass(frozen=True, kw_only=True)
class Stand:
    """One market of the world.

    `ends_pods`: whether its pods have a kill time; `bare`: whether they are started over SSH. `paths` are the variables
    that hold an address, and what follows the server's there; `key_variable` holds the account's credential, `fixed`
    are variables that say something else.
    """

    simulator: MarketSimulator[Any]
    server: Loopback
    ends_pods: bool
    bare: bool = False
    key_variable: str
    key: str
    paths: Mapping[str, str]
    fixed: Mapping[str, str]

    @property
    def name(self) -> str:
        """The provider's."""
        return self.simulator.name

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead there."""
        addresses = {name: f"{self.server.url}{path}" for name, path in self.paths.items()}
        return {self.key_variable: self.key, **addresses, **self.fixed}


def _runpod(setup: Setup, port: int, *, graphql: bool = True) -> Stand:
    from runner_provisioner.simulators.runpod.settings import Settings  # noqa: PLC0415 - only what takes part
    from runner_provisioner.simulators.runpod.simulator import RunPodSimulator  # noqa: PLC0415 - only what takes part

    simulator = RunPodSimulator(
        setup.clock,
        setup.host,
        settings=Settings(progress=setup.progress, graphql_retired=not graphql),
        balance=setup.balance,
        key=f"rpa_{secrets.token_hex(20).upper()}",
        logs=setup.logs,
    )
    simulator.market.spot = setup.spot
    return Stand(
        simulator=simulator,
        server=simulator.serve(port),
        ends_pods=graphql,
        key_variable="RUNPOD_API_KEY",
        key=simulator.key,
        paths={"RUNPOD_API_URL": "/graphql", "RUNPOD_REST_URL": "/v2"},
        fixed={} if graphql else {"RUNPOD_API": "rest"},
    )


def _runpod_rest(setup: Setup, port: int) -> Stand:
    return _runpod(setup, port, graphql=False)


def _prime(setup: Setup, port: int) -> Stand:
    from runner_provisioner.simulators.prime.settings import Settings  # noqa: PLC0415 - only what takes part
    from runner_provisioner.simulators.prime.simulator import PrimeSimulator  # noqa: PLC0415 - only what takes part

    settings = Settings(progress=setup.progress)
    simulator = PrimeSimulator(setup.clock, setup.host, settings=settings, balance=setup.balance, logs=setup.logs)
    return Stand(
        simulator=simulator,
        server=simulator.serve(port),
        ends_pods=False,
        bare=True,
        key_variable="PRIME_API_KEY",
        key=simulator.key,
        paths={"PRIME_API_BASE_URL": ""},
        fixed={},
    )


def _celium(setup: Setup, port: int) -> Stand:
    from runner_provisioner.simulators.celium.settings import Settings  # noqa: PLC0415 - only what takes part
    from runner_provisioner.simulators.celium.simulator import CeliumSimulator  # noqa: PLC0415 - only what takes part

    settings = Settings(progress=setup.progress)
    simulator = CeliumSimulator(setup.clock, setup.host, settings=settings, balance=setup.balance, logs=setup.logs)
    return Stand(
        simulator=simulator,
        server=simulator.serve(port),
        ends_pods=True,
        key_variable="CELIUM_API_KEY",
        key=simulator.key,
        paths={"LIUM_BASE_URL": "/api"},
        fixed={},
    )


MARKETS: Mapping[str, Callable[[Setup, int], Stand]] = {
    RUNPOD: _runpod,
    RUNPOD_REST: _runpod_rest,
    PRIME: _prime,
    CELIUM: _celium,
}
"""By the names under which `demo` and `simulate` know them: how each is opened, at a port (0: a free one)."""
