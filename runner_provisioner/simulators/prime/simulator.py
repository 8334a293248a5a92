"""The simulated Prime Intellect: one account, its offers, its pods, and everything a test wants to do to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from runner_provisioner.simulators.market.hosts import inert_address, real_gpus
from runner_provisioner.simulators.market.simulator import Clock, MarketSimulator
from runner_provisioner.simulators.market.sshd import with_sshd
from runner_provisioner.simulators.pods.host import Image, Launch, PodHost
from runner_provisioner.simulators.prime.account import Account, new_id
from runner_provisioner.simulators.prime.api import Api
from runner_provisioner.simulators.prime.catalog import UBUNTU, Market, Offer
from runner_provisioner.simulators.prime.fleet import Fleet
from runner_provisioner.simulators.prime.pods import PrimePod
from runner_provisioner.simulators.prime.server import Service
from runner_provisioner.simulators.prime.settings import Settings
from runner_provisioner.simulators.prime.views import Views

_IDLE = ("/bin/sleep", "infinity")


class PrimeSimulator(MarketSimulator[PrimePod]):
    """Behaves as Prime Intellect's REST API and keeps score.

    Without a `host` pods are inert: no process and no thread, everything follows from the clock at each look; with
    one, every pod is a real process: idle behind sshd, or the command of its custom template's image. All methods may
    be called from any thread. Close it when it had a host.
    """

    name = "prime"
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
        self.account = Account()
        self.key = self.account.add_key(key)
        self.fleet = Fleet(self.settings, self.clock.now, balance)
        views = Views(self.settings, self.clock.now, self._address)
        api = Api(self.fleet, self.market, self.account, views, self.log)
        self.app = Service(self, api)
        """/api/v1/, and /_sim/ for tests in other processes."""
        self.begin()

    def launch_of(self, pod: PrimePod) -> Launch:
        """What the pod's container starts with; only custom templates read the environment."""
        image = self.images.get(pod.image) or Image(name=pod.image)
        custom = pod.template_id is not None
        command = (*image.entrypoint, *image.cmd) if custom else _IDLE
        gpu = pod.machine.gpu_type.rpartition("_")[0]
        return Launch(
            pod_id=pod.id,
            image=image,
            argv=with_sshd(command, pod.keys) if pod.ssh_port else command,
            env=dict(pod.env) if custom else {},
            ssh_port=pod.ssh_port,
            log=self.log_path(pod.id),
            **real_gpus(pod.machine, gpu=gpu, count=pod.gpu_count, memory=pod.machine.gpu_memory * 1024),
        )

    def nowhere(self, pod_id: str, port: int) -> tuple[str, int]:
        """The public address of a port of a pod that has no process."""
        return inert_address(pod_id, port)

    def add_template(self, image: Image | str, template_id: str | None = None) -> str:
        """A custom template, as made in the dashboard; its id."""
        with self.lock:
            if isinstance(image, Image):
                self.images[image.name] = image
            name = image.name if isinstance(image, Image) else image
            return self.account.add_template(name, template_id).id

    def set_status(self, pod_id: str, status: str | None) -> None:
        """Say this of the pod from now on, whatever it really is (None: the truth again); KeyError."""
        with self.lock:
            self.fleet.pods[pod_id].forced = status

    def fail(self, pod_id: str, reason: str = "Installation failed") -> None:
        """Its installation fails; the pod stays, and bills. KeyError for an unknown one."""
        with self.lock:
            self.fleet.catch_up()
            pod = self.fleet.pods[pod_id]
            pod.failure, pod.running_since = reason, None
            pod.note(self.clock.now(), f"installation failed: {reason}")

    def add_pod(
        self,
        name: str,
        *,
        env: Mapping[str, str] | None = None,
        age: float = 0.0,
        offer: str = "",
        spot: bool = False,
        price: Decimal = Decimal("0.20"),
        pod_id: str | None = None,
    ) -> PrimePod:
        """A pod that somebody else made, `age` seconds ago, at `price` USD per hour; it bills like any other."""
        with self.lock:
            self.fleet.catch_up()
            created = self.clock.now() - timedelta(seconds=age)
            machine = self.market.offer(offer) if offer else self._any(spot=spot)
            pod = PrimePod(
                id=pod_id or new_id(),
                name=name,
                image=UBUNTU,
                environment=UBUNTU,
                env=dict(env or {}),
                gpu_count=machine.gpu_count,
                machine=machine,
                price_hr=Decimal(price),
                disk_size=machine.disk.included,
                vcpus=machine.vcpu.included,
                memory=machine.memory.included,
                foreign=True,
                created_at=created,
                last_started_at=created,
            )
            self.fleet.add(pod)
            return pod

    def _any(self, *, spot: bool) -> Offer:
        return next(each for each in self.market.offers if each.spot == spot)
