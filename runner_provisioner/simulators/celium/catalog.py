"""The executors that the simulated Lium offers when nobody says otherwise."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from decimal import Decimal

from runner_provisioner.simulators.market.hosts import Host

SPOT = "spot"
SECURE = "secure"


def executor_id(name: str) -> str:
    """The same for every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


@dataclass(kw_only=True)
class Executor(Host):
    """A machine; `price` in USD per GPU and hour. `least` GPUs can be rented, None = only the whole machine."""

    machine_name: str
    price: Decimal
    tier: str = SECURE
    least: int | None = 1
    gpu_memory: int = 24
    ip: str = "127.0.0.1"
    country: str = "US"
    region: str = "Texas"
    latitude: float = 32.8
    longitude: float = -96.8
    cpus: int = 32
    cpu_name: str = "AMD EPYC 7742 64-Core Processor"
    ram_gb: int = 128
    disk_gb: int = 1000
    download_mbps: float = 900.0
    upload_mbps: float = 700.0
    ports: int = 20
    sysbox: bool = False
    nvlink: bool = False
    reliable: bool = True
    max_cuda: float = 12.8


def default_executors() -> list[Executor]:
    """Spot and secure, whole and split, with Docker in Docker and without."""
    return [
        Executor(
            id=executor_id("a4000"), machine_name="NVIDIA RTX A4000", gpus=4, price=Decimal("0.12"), gpu_memory=16,
            country="FI", region="Uusimaa", latitude=60.2, longitude=24.9,
        ),
        Executor(
            id=executor_id("a4000-spot"), machine_name="NVIDIA RTX A4000", gpus=4, price=Decimal("0.06"), tier=SPOT,
            gpu_memory=16, country="FI", region="Uusimaa", latitude=60.2, longitude=24.9,
        ),
        Executor(
            id=executor_id("4090"), machine_name="NVIDIA GeForce RTX 4090", gpus=2, price=Decimal("0.32"), sysbox=True,
        ),
        Executor(
            id=executor_id("4090-spot"), machine_name="NVIDIA GeForce RTX 4090", gpus=1, price=Decimal("0.18"),
            tier=SPOT, least=None, reliable=False,
        ),
        Executor(
            id=executor_id("h100"), machine_name="NVIDIA H100 80GB HBM3", gpus=8, price=Decimal("1.85"), least=None,
            gpu_memory=80, nvlink=True, cpus=192, ram_gb=1800, disk_gb=8000, download_mbps=4000, country="CA",
            region="Quebec", latitude=45.5, longitude=-73.6,
        ),
        Executor(
            id=executor_id("a100"), machine_name="NVIDIA A100-SXM4-80GB", gpus=8, price=Decimal("1.10"), least=None,
            gpu_memory=80, cpus=128, ram_gb=2015, disk_gb=6000,
        ),
    ]  # fmt: skip


class Market:
    """The executors; changed by tests at will, under the simulator's lock."""

    def __init__(self, executors: list[Executor] | None = None) -> None:
        """With the default ones when none are given."""
        self.executors = default_executors() if executors is None else executors

    def executor(self, name: str) -> Executor:
        """By its id, or by the name that its id is made from; KeyError."""
        for each in self.executors:
            if each.id in (name, executor_id(name)):
                return each
        raise KeyError(name)

    def set_stock(self, name: str, count: int) -> None:
        """Leave exactly `count` GPUs free: of one executor, or of each with that machine name."""
        for each in self._chosen(name):
            each.gpus = each.taken + count

    def set_price(self, name: str, usd: Decimal) -> None:
        """USD per GPU and hour, of one executor or of each with that machine name."""
        for each in self._chosen(name):
            each.price = usd

    def _chosen(self, name: str) -> list[Executor]:
        named = [each for each in self.executors if each.machine_name == name]
        return named or [self.executor(name)]
