"""The markets of the in-process world: the simulator of each, what a program is told of it, and what its pods can."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from support.virtual_time import VirtualClock
from support.wire import LIUM, PRIME, RUNPOD

from runner_provisioner.simulators.celium import rows as celium_rows
from runner_provisioner.simulators.celium.catalog import Executor, default_executors
from runner_provisioner.simulators.celium.catalog import Market as CeliumMarket
from runner_provisioner.simulators.celium.pods import CeliumPod
from runner_provisioner.simulators.celium.settings import Settings as CeliumSettings
from runner_provisioner.simulators.celium.simulator import CeliumSimulator
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.market.pods import RUNNING, RentedPod
from runner_provisioner.simulators.market.settings import Progress
from runner_provisioner.simulators.market.simulator import MarketSimulator
from runner_provisioner.simulators.prime import rows as prime_rows
from runner_provisioner.simulators.prime.catalog import Market as PrimeMarket
from runner_provisioner.simulators.prime.catalog import Offer as PrimeOffer
from runner_provisioner.simulators.prime.catalog import default_offers
from runner_provisioner.simulators.prime.pods import PrimePod
from runner_provisioner.simulators.prime.settings import Settings as PrimeSettings
from runner_provisioner.simulators.prime.simulator import PrimeSimulator
from runner_provisioner.simulators.runpod import rows as runpod_rows
from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.pods import SimPod
from runner_provisioner.simulators.runpod.settings import Settings as RunPodSettings
from runner_provisioner.simulators.runpod.simulator import RunPodSimulator

GPU = "NVIDIA RTX A4000"
OTHER_GPU = "NVIDIA RTX A5000"
RUNPOD_KEY = "rpa_PLANTEDACCOUNTKEY0123456789ABCDEFGHIJKLM"
LIUM_KEY = "sk_PlantedLiumKey0123456789abcdefghijklmnop"
PRIME_KEY = "pit_planted0prime0key0123456789abcdefghijklmnop"
_COMMAND = re.compile(r"printf %s ([A-Za-z0-9+/=]+)\|base64")
_LIUM_LINE = re.compile(r"echo ([A-Za-z0-9+/=]+)\|base64")
_JSON_ERROR = '{{"errors": [{{"message": "{}", "extensions": {{"code": "RUNPOD"}}}}], "data": null}}'


class Provider(StrEnum):
    """A market as it is today, or as it is going to be."""

    RUNPOD = "RunPod"
    REST = "RunPod without GraphQL"
    LIUM = "Lium"
    PRIME = "Prime Intellect"


class Stage:
    """One market; what differs between them."""

    name: str
    """What the program calls it."""
    host: str
    sim: MarketSimulator[Any]
    key: str
    ends_from_inside = True
    """Whether its pods hold a credential to end themselves with."""
    kill_time = True
    """Whether it ends a forgotten pod."""
    bids = True
    """Whether an interruptible pod is bid for."""
    bare = False
    """Whether its pods boot bare, so that somebody has to log in and start what is to run there."""
    rents: tuple[str, ...]
    """What the simulator calls a create."""

    @property
    def environ(self) -> Mapping[str, str]:
        """The key and the address, as a user sets them."""
        raise NotImplementedError

    def script(self, pod: Any) -> str:  # noqa: ANN401 - a pod of its market
        """The start script as it arrives in the pod."""
        raise NotImplementedError

    def env(self, pod: Any) -> Mapping[str, str]:  # noqa: ANN401 - a pod of its market
        """What the start script finds in its environment."""
        found: Mapping[str, str] = pod.env
        return found

    def no_stock(self, *, spot: bool, times: int = 1) -> Fault:
        """The next creates find nothing free, though it is listed."""
        raise NotImplementedError

    def alive(self, pod: RentedPod) -> bool:
        """Whether its container runs."""
        return bool(self.sim.pod(pod.id).status == RUNNING)

    def secrets(self) -> list[str]:
        """What must not be seen anywhere."""
        return [self.key]

    def make_dearer(self, pod: Any, factor: Decimal) -> None:  # noqa: ANN401 - a pod of its market
        """It costs more than its offer said."""
        pod.price_per_gpu *= factor
        for span in pod.meter.spans:
            span.rate = pod.price if span.kind == "gpu" else span.rate

    def creates(self) -> int:
        """How many creates arrived."""
        return sum(self.sim.faults.count(name) for name in self.rents)

    def stop_by_user(self, pod: Any) -> None:  # noqa: ANN401 - a pod of its market
        """In the provider's console."""
        with self.sim.lock:
            self.sim.fleet.stop(pod, self.sim.clock.now())


@dataclass
class RunPodStage(Stage):
    """RunPod, with GraphQL or with REST v2 alone."""

    sim: RunPodSimulator
    rest: bool = False
    name = "runpod"
    host = RUNPOD
    key = RUNPOD_KEY

    def __post_init__(self) -> None:
        self.sim.settings.graphql_retired = self.rest
        self.kill_time = self.bids = not self.rest
        self.rents = ("podRentInterruptable", "podFindAndDeployOnDemand", "rest.create")

    @property
    def environ(self) -> Mapping[str, str]:
        """See Stage."""
        return {"RUNPOD_API_KEY": self.key, "RUNPOD_API_URL": f"https://{RUNPOD}/graphql"}

    def script(self, pod: SimPod) -> str:
        """See Stage."""
        return unpacked(pod.docker_args)

    def no_stock(self, *, spot: bool, times: int = 1) -> Fault:
        """See Stage."""
        if self.rest:
            return runpod_rows.problem("rest.create", 400, texts.NO_STOCK, times=times)
        operation = self.rents[0] if spot else self.rents[1]
        body = _JSON_ERROR.format(texts.NO_STOCK)
        return Fault(operation=operation, kind=FaultKind.ERROR, status=200, body=body, times=times)

    def secrets(self) -> list[str]:
        """See Stage."""
        return [self.key, *(pod.key for pod in self.sim.pods() if pod.key)]


@dataclass
class LiumStage(Stage):
    """Lium: a kill time, and no credential for a pod."""

    sim: CeliumSimulator
    name = "celium"
    host = LIUM
    key = LIUM_KEY
    ends_from_inside = False
    bids = False
    rents = (celium_rows.RENT,)

    @property
    def environ(self) -> Mapping[str, str]:
        """See Stage."""
        return {"LIUM_API_KEY": self.key, "LIUM_BASE_URL": f"https://{LIUM}/api"}

    def script(self, pod: CeliumPod) -> str:
        """See Stage: what docker was given by the node's shell."""
        assert pod.docker is not None
        found = _LIUM_LINE.search(" ".join(pod.docker.argv))
        assert found is not None
        return unpacked(base64.b64decode(found[1]).decode())

    def no_stock(self, *, spot: bool, times: int = 1) -> Fault:
        """See Stage."""
        return celium_rows.no_stock(times)

    def alive(self, pod: RentedPod) -> bool:
        """See Stage."""
        found = self.sim.pod(pod.id)
        return found.status == RUNNING and not found.failure


@dataclass
class PrimeStage(Stage):
    """Prime Intellect: no kill time, no start command, no credential for a pod."""

    sim: PrimeSimulator
    begun: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    """By pod: the command that somebody has logged in with, and its environment."""
    name = "prime"
    host = PRIME
    key = PRIME_KEY
    ends_from_inside = False
    kill_time = False
    bids = False
    bare = True
    rents = (prime_rows.CREATE,)

    @property
    def environ(self) -> Mapping[str, str]:
        """See Stage."""
        return {"PRIME_API_KEY": self.key, "PRIME_API_BASE_URL": f"https://{PRIME}"}

    def script(self, pod: PrimePod) -> str:
        """See Stage."""
        return unpacked(self.begun[pod.id][0])

    def env(self, pod: PrimePod) -> Mapping[str, str]:
        """See Stage; the service itself was told nothing of it."""
        assert not pod.env
        return self.begun[pod.id][1]

    def no_stock(self, *, spot: bool, times: int = 1) -> Fault:
        """See Stage."""
        return prime_rows.no_stock(times)

    def make_dearer(self, pod: PrimePod, factor: Decimal) -> None:
        """See Stage."""
        pod.price_hr *= factor
        for span in pod.meter.spans:
            span.rate = pod.price_hr


def stage_of(provider: Provider, clock: VirtualClock, *, boot: float, list_lag: float, spot: bool) -> Stage:
    """A market of its own."""
    if provider is Provider.LIUM:
        settings = CeliumSettings(progress=Progress.timed(boot), list_lag=list_lag)
        return LiumStage(CeliumSimulator(clock, settings=settings, key=LIUM_KEY, market=_lium_market(spot=spot)))
    if provider is Provider.PRIME:
        prime = PrimeSettings(progress=Progress.timed(boot), list_lag=list_lag)
        return PrimeStage(PrimeSimulator(clock, settings=prime, key=PRIME_KEY, market=_prime_market(spot=spot)))
    sim = RunPodSimulator(
        clock, settings=RunPodSettings(progress=Progress.timed(boot), list_lag=list_lag), key=RUNPOD_KEY
    )
    sim.market.spot = spot
    return RunPodStage(sim, rest=provider is Provider.REST)


def _lium_market(*, spot: bool) -> CeliumMarket:
    """With a node of the second model, so that there is a next offer; Lium lists no spot node that it does not rent."""
    nodes = [
        *default_executors(),
        Executor(id="5a000000-0000-4000-8000-00000000000a", machine_name=OTHER_GPU, gpus=4, price=Decimal("0.13")),
    ]
    return CeliumMarket([node for node in nodes if spot or node.tier != "spot"])


def _prime_market(*, spot: bool) -> PrimeMarket:
    other = PrimeOffer(
        id="a5000", cloud_id="a5000-1x", gpu_type="A5000_24GB", gpu_memory=24, gpus=8, price=Decimal("0.19")
    )
    return PrimeMarket([one for one in (*default_offers(), other) if spot or not one.spot])


def unpacked(command: str) -> str:
    """The script that a start command holds."""
    found = _COMMAND.search(command)
    assert found is not None
    return zlib.decompress(base64.b64decode(found[1]), wbits=31).decode()
