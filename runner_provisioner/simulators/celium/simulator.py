"""The simulated Lium: one account, its executors, its pods, and everything a test wants to do to them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from runner_provisioner.simulators.celium.account import Account
from runner_provisioner.simulators.celium.api import Api
from runner_provisioner.simulators.celium.catalog import SPOT, Executor, Market
from runner_provisioner.simulators.celium.fleet import Fleet
from runner_provisioner.simulators.celium.node import Order, command_line, docker_run, on_node
from runner_provisioner.simulators.celium.pods import CeliumPod
from runner_provisioner.simulators.celium.renting import BUILT
from runner_provisioner.simulators.celium.server import Service
from runner_provisioner.simulators.celium.settings import Settings
from runner_provisioner.simulators.celium.shelf import Shelf
from runner_provisioner.simulators.celium.views import Views
from runner_provisioner.simulators.market.hosts import inert_address, real_gpus
from runner_provisioner.simulators.market.simulator import Clock, MarketSimulator
from runner_provisioner.simulators.market.sshd import with_sshd
from runner_provisioner.simulators.pods.host import Image, Launch, PodHost

_SSHD_AFTER = 0.1


class CeliumSimulator(MarketSimulator[CeliumPod]):
    """Behaves as the REST API of Lium (formerly Celium) and keeps score.

    Without a `host` pods are inert: no thread and no process but the node's shell, which every pod's command line goes
    through; with one, every pod is a real process. All methods may be called from any thread. Close it when it had a
    host.
    """

    name = "celium"
    always_addressed = True
    keeps_ports = True
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
        self.account = Account(self.clock.now)
        self.key = self.account.add_key(key)
        self.fleet = Fleet(self.settings, self.clock.now, balance, self._prepare)
        views = Views(self.settings, self.account, self.clock.now, self._address)
        self._api = Api(self.fleet, self.market, self.account, views, self.log)
        self.app = Service(self, self._api, Shelf(self.fleet, self.account, views))
        """/api/, and /_sim/ for tests in other processes."""
        self.begin()

    def _image(self, pod: CeliumPod) -> Image:
        # Public images are known by their whole name, or by the name alone.
        return self.images.get(pod.image) or self.images.get(pod.template.docker_image) or Image(name=pod.image)

    def _prepare(self, pod: CeliumPod) -> None:
        template = pod.template
        order = Order(
            name=f"container_{template.id or BUILT}",
            image=pod.image,
            startup=template.startup_commands,
            entrypoint=template.entrypoint,
            env=pod.env,
            ports=[(port, 20000 + port % 40000) for port in template.internal_ports],
            volume=f"volume_{template.id or BUILT}:{template.volumes[0]}" if template.volumes else "",
            sysbox=pod.machine.sysbox,
        )
        pod.line = command_line(order)
        answer = on_node(pod.line)
        pod.on_node = list(answer.said)
        pod.docker = docker_run(answer)

    def launch_of(self, pod: CeliumPod) -> Launch:
        """What the pod's container starts with: what docker was told by the node's shell."""
        image = self._image(pod)
        docker = pod.docker
        entrypoint = image.entrypoint
        cmd = image.cmd
        if docker is not None:
            # As docker has it: an entrypoint of one's own also drops the image's command.
            if docker.entrypoint:
                entrypoint, cmd = (docker.entrypoint,), ()
            cmd = docker.argv or cmd
        command = (*entrypoint, *cmd)
        env = dict(docker.env) if docker else {}
        return Launch(
            pod_id=pod.id,
            image=image,
            argv=with_sshd(command, pod.keys, later=_SSHD_AFTER, environment=env) if pod.ssh_port else command,
            env=env,
            ssh_port=pod.ssh_port,
            volume_mount=next(iter(pod.template.volumes), None),
            log=self.log_path(pod.id),
            **real_gpus(
                pod.machine, gpu=pod.machine.machine_name, count=pod.gpu_count, memory=pod.machine.gpu_memory * 1024
            ),
        )

    def nowhere(self, pod_id: str, port: int) -> tuple[str, int]:
        """The public address of a port of a pod that has no process."""
        return inert_address(pod_id, port)

    def break_rents(self, times: int) -> None:
        """The next rents end in 500 after the pod was made; a repeat with the same key finds the outcome unknown."""
        with self.lock:
            self._api.breaking += times

    def set_status(self, pod_id: str, status: str | None) -> None:
        """Say this of the pod from now on, whatever it really is (None: the truth again); KeyError."""
        with self.lock:
            self.fleet.pods[pod_id].forced = status

    def fail(self, pod_id: str, reason: str = "no such image") -> None:
        """Its creation fails; KeyError for an unknown one."""
        with self.lock:
            self.fleet.catch_up()
            pod = self.fleet.pods[pod_id]
            self.fleet.failed(pod, pod.incarnation, reason, self.clock.now())

    def add_pod(
        self,
        name: str,
        *,
        env: Mapping[str, str] | None = None,
        age: float = 0.0,
        executor: str = "",
        spot: bool = False,
        price: Decimal = Decimal("0.20"),
        pod_id: str | None = None,
    ) -> CeliumPod:
        """A pod that somebody else made, `age` seconds ago, at `price` USD per hour; it bills like any other."""
        with self.lock:
            self.fleet.catch_up()
            created = self.clock.now() - timedelta(seconds=age)
            template = self.account.default_template()
            pod = CeliumPod(
                id=pod_id or str(uuid.uuid4()),
                name=name,
                image=template.image,
                env=dict(env or {}),
                machine=self.market.executor(executor) if executor else self._any(spot=spot),
                template=template,
                price_per_gpu=Decimal(price),
                foreign=True,
                created_at=created,
                last_started_at=created,
            )
            self.fleet.add(pod)
            return pod

    def _any(self, *, spot: bool) -> Executor:
        return next(each for each in self.market.executors if (each.tier == SPOT) == spot)
