"""The simulated RunPod: one account, one market, its pods, and everything a test wants to do to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from runner_provisioner.simulators.market.hosts import inert_address
from runner_provisioner.simulators.market.simulator import Clock, MarketSimulator
from runner_provisioner.simulators.pods.host import Image, Launch, PodHost
from runner_provisioner.simulators.runpod.account import Keys, Shelf
from runner_provisioner.simulators.runpod.command import argv
from runner_provisioner.simulators.runpod.deploy import gpus_of, new_pod_id, pod_environment
from runner_provisioner.simulators.runpod.fleet import Fleet
from runner_provisioner.simulators.runpod.graph import Graph
from runner_provisioner.simulators.runpod.market import Market
from runner_provisioner.simulators.runpod.pods import EXITED, INTERRUPTABLE, RESERVED, RUNNING, SimPod
from runner_provisioner.simulators.runpod.resolvers import Resolvers
from runner_provisioner.simulators.runpod.rest import Rest
from runner_provisioner.simulators.runpod.server import Service
from runner_provisioner.simulators.runpod.settings import Settings
from runner_provisioner.simulators.runpod.views import Views


class RunPodSimulator(MarketSimulator[SimPod]):
    """Behaves as RunPod's GraphQL API and REST v2, and keeps score.

    Without a `host` pods are inert: no process and no thread, everything follows from the clock at each look; with
    one, every pod is a real process. All methods may be called from any thread. Close it when it had a host.
    """

    name = "runpod"
    fleet: Fleet

    def __init__(
        self,
        clock: Clock | None = None,
        host: PodHost | None = None,
        *,
        settings: Settings | None = None,
        market: Market | None = None,
        images: Iterable[Image] = (),
        balance: Decimal = Decimal(100),
        key: str | None = None,
        logs: Path | None = None,
    ) -> None:
        """`balance` in USD; `key` is the account's credential (made up when left out); `logs` the pods' log folder."""
        super().__init__(clock, host, images=images, logs=logs)
        self.settings = settings or Settings()
        self.market = market or Market()
        self.keys = Keys()
        self.key = self.keys.add(key)
        self.shelf = Shelf()
        self.fleet = Fleet(self.settings, self.clock.now, balance)
        views = Views(self.settings, self.market, self.clock.now, self._address)
        resolvers = Resolvers(self.fleet, self.market, self.keys, self.shelf, views)
        self.app = Service(self, Graph(resolvers.root()), Rest(self, resolvers, views))
        """/graphql, /v2, and /_sim/ for tests in other processes."""
        self.begin()

    def launch_of(self, pod: SimPod) -> Launch:
        """What the pod's container starts with."""
        image = self.images.get(pod.image) or Image(name=pod.image)
        return Launch(
            pod_id=pod.id,
            image=image,
            argv=argv(pod.docker_args, entrypoint=image.entrypoint, cmd=image.cmd),
            env=pod_environment(pod, self.settings),
            ssh_port=pod.ssh_port,
            volume_mount=pod.volume_mount,
            log=self.log_path(pod.id),
            **gpus_of(pod, self.market.model(pod.gpu_type_id or "")),
        )

    def nowhere(self, pod_id: str, port: int) -> tuple[str, int]:
        """The public address of a port of a pod that has no process."""
        return inert_address(pod_id, port)

    def add_pod(  # noqa: PLR0913 - a test says only what matters to it
        self,
        name: str,
        *,
        env: Mapping[str, str] | None = None,
        age: float = 0.0,
        gpu_type_id: str = "NVIDIA RTX A4000",
        spot: bool = False,
        status: str = RUNNING,
        price: Decimal = Decimal("0.20"),
        volume: int = 0,
        pod_id: str | None = None,
    ) -> SimPod:
        """A pod that somebody else made, `age` seconds ago, at `price` USD per hour; it bills like any other."""
        with self.lock:
            self.fleet.catch_up()
            created = self.clock.now() - timedelta(seconds=age)
            new_id = pod_id or new_pod_id()
            pod = SimPod(
                id=new_id,
                name=name,
                image="somebody/image",
                env=dict(env or {}),
                ports="22/tcp",
                gpu_type_id=gpu_type_id,
                machine=self.market.hosts(gpu_type_id)[0],
                price_per_gpu=price,
                pod_type=INTERRUPTABLE if spot else RESERVED,
                volume=volume,
                key=self.keys.for_pod(new_id),
                foreign=True,
                status=status,
                created_at=created,
                last_started_at=created,
                last_status_change="Exited by User" if status == EXITED else "",
            )
            self.fleet.add(pod)
            return pod
