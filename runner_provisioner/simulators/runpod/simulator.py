"""The simulated RunPod: one account, one market, its pods, and everything a test wants to do to them."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from runner_provisioner.clock import SystemClock
from runner_provisioner.simulators.faults import Call, Faults
from runner_provisioner.simulators.pods.host import Image, Launch, PodHost
from runner_provisioner.simulators.runpod.account import Keys, Shelf
from runner_provisioner.simulators.runpod.command import argv
from runner_provisioner.simulators.runpod.containers import Containers
from runner_provisioner.simulators.runpod.deploy import gpus_of, new_pod_id, pod_environment
from runner_provisioner.simulators.runpod.fleet import Fleet, free_port
from runner_provisioner.simulators.runpod.graph import Graph
from runner_provisioner.simulators.runpod.market import Market
from runner_provisioner.simulators.runpod.money import Bill
from runner_provisioner.simulators.runpod.pods import EXITED, INTERRUPTABLE, RESERVED, RUNNING, SimPod
from runner_provisioner.simulators.runpod.resolvers import Resolvers
from runner_provisioner.simulators.runpod.rest import Rest
from runner_provisioner.simulators.runpod.server import Service
from runner_provisioner.simulators.runpod.settings import Settings
from runner_provisioner.simulators.runpod.views import Views, inert_address
from runner_provisioner.simulators.serving import Loopback

_SSH = 22
_PAUSE = 0.02


class _Clock(Protocol):
    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class RunPodSimulator:
    """Behaves as RunPod's GraphQL API and REST v2, and keeps score.

    Without a `host` pods are inert: no process and no thread, everything follows from the clock at each look; with
    one, every pod is a real process. All methods may be called from any thread. Close it when it had a host.
    """

    def __init__(
        self,
        clock: _Clock | None = None,
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
        self.clock = clock or SystemClock()
        self.host = host
        self.settings = settings or Settings()
        self.market = market or Market()
        self.images = {image.name: image for image in images}
        self.faults = Faults(self.clock.now)
        self.keys = Keys()
        self.key = self.keys.add(key)
        self.shelf = Shelf()
        self.lock = threading.RLock()
        self.fleet = Fleet(self.settings, self.clock.now, balance)
        self._logs = logs
        self._scratch: Path | None = None
        self._containers = Containers(host, self, self.catch_up) if host is not None else None
        self.fleet.processes = self if host is not None else None
        views = Views(self.settings, self.market, self.clock.now, self._address)
        self._resolvers = Resolvers(self.fleet, self.market, self.keys, self.shelf, views)
        self.app = Service(self, Graph(self._resolvers.root()), Rest(self, self._resolvers, views))
        """The ASGI application: /graphql, /v2, and /_sim/ for tests in other processes."""

    @property
    def mode(self) -> str:
        """How pods run: confined, unconfined or inert."""
        return self.host.mode if self.host is not None else "inert"

    def serve(self, port: int = 0) -> Loopback:
        """A server for it on loopback; not started yet."""
        return Loopback(self.app, port=port)

    # -- what is

    def pods(self) -> list[SimPod]:
        """Every pod there ever was, in the order of creation, with its state and events."""
        with self.lock:
            self.fleet.catch_up()
            return list(self.fleet.pods.values())

    def live(self) -> list[SimPod]:
        """Pods that may still cost money: everything that was not terminated."""
        with self.lock:
            self.fleet.catch_up()
            return self.fleet.current()

    def pod(self, pod_id: str) -> SimPod:
        """One pod, ended or not; KeyError. This is no look: it is not counted as a poll."""
        with self.lock:
            self.fleet.catch_up()
            return self.fleet.pods[pod_id]

    def bill(self) -> Bill:
        """What every pod cost so far."""
        with self.lock:
            self.fleet.catch_up()
            return self.fleet.bill()

    def balance(self) -> Decimal:
        """What is left on the account, in USD."""
        with self.lock:
            self.fleet.catch_up()
            return self.fleet.balance()

    @property
    def calls(self) -> list[Call]:
        """Every call that arrived and could be understood."""
        return self.faults.calls

    def processes(self) -> frozenset[str]:
        """Ids of pods that have a process at the moment."""
        return self._containers.running() if self._containers else frozenset()

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

    def log_path(self, pod_id: str) -> Path:
        """Where the pod's container writes its output."""
        if self._logs is None:
            with self.lock:
                self._scratch = self._scratch or Path(tempfile.mkdtemp(prefix="simulated-runpod-"))
            return self._scratch / f"{pod_id}.log"
        self._logs.mkdir(parents=True, exist_ok=True)
        return self._logs / f"{pod_id}.log"

    def log(self, pod_id: str) -> str:
        """The pod's output so far; empty when there is none."""
        path = self.log_path(pod_id)
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def say(self, pod_id: str, text: str) -> None:
        """Let an inert pod's container write this to its output."""
        with self.log_path(pod_id).open("a", encoding="utf-8") as file:
            file.write(text)

    # -- what is done to it

    def catch_up(self) -> None:
        """Let everything happen that was due by now."""
        with self.lock:
            self.fleet.catch_up()

    def set_balance(self, usd: Decimal) -> None:
        """Put exactly this on the account."""
        with self.lock:
            self.fleet.catch_up()
            self.fleet.deposit += usd - self.fleet.balance()

    def interrupt(self, pod_id: str, *, after: float = 0.0, reason: str = "") -> None:
        """RunPod takes the pod, now or `after` seconds from now; KeyError for an unknown one."""
        with self.lock:
            self.fleet.catch_up()
            pod = self.fleet.pods[pod_id]
            if after > 0:
                pod.interrupt_at = self.clock.now() + timedelta(seconds=after)
            else:
                self.fleet.interrupt(pod, self.clock.now(), reason)

    def interrupt_new(self, *, after: float = 0.0, times: int = 1) -> None:
        """Interrupt each of the next `times` new pods so many seconds after its creation (0: before it runs)."""
        with self.lock:
            self._resolvers.interrupt_new += [after] * times

    def finish(self, pod_id: str, code: int = 0) -> None:
        """The command of an inert pod's container ends; KeyError for an unknown pod."""
        with self.lock:
            self.fleet.catch_up()
            pod = self.fleet.pods[pod_id]
            self.fleet.exited(pod, pod.incarnation, code, self.clock.now())

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

    def wait_quiet(self, timeout: float = 15.0) -> bool:
        """Block until no pod that was ended or stopped has a process any more; False when time is up."""
        limit = time.monotonic() + timeout
        while time.monotonic() < limit:
            running = {pod.id for pod in self.live() if pod.status == RUNNING}
            if not self.processes() - running:
                return True
            time.sleep(_PAUSE)
        return False

    def close(self) -> None:
        """Kill every process of every pod and remove what was written; may be called twice."""
        if self._containers is not None:
            self._containers.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what the fleet asks for, and what it hears

    def launch(self, pod: SimPod) -> None:
        """Start the pod's container (called by the fleet)."""
        if self._containers is None or self.host is None:
            return
        wants_ssh = self.host.offers_ssh and (_SSH, "tcp") in pod.port_list
        pod.ssh_port = free_port() if wants_ssh else None
        self._containers.launch(self.launch_of(pod), pod.incarnation)

    def stop(self, pod: SimPod, grace: float, *, discard: bool) -> None:
        """End the pod's container (called by the fleet)."""
        if self._containers is not None:
            self._containers.stop(pod.id, grace, discard=discard)

    def launched(self, pod_id: str, incarnation: int) -> None:
        """A container runs (called by the containers)."""
        with self.lock:
            self.fleet.running(self.fleet.pods[pod_id], incarnation, self.clock.now())

    def failed(self, pod_id: str, incarnation: int, reason: str) -> None:
        """A container could not be started (called by the containers)."""
        with self.lock:
            self.fleet.failed(self.fleet.pods[pod_id], incarnation, reason, self.clock.now())

    def exited(self, pod_id: str, incarnation: int, code: int) -> None:
        """A container ended (called by the containers)."""
        with self.lock:
            self.fleet.exited(self.fleet.pods[pod_id], incarnation, code, self.clock.now())

    def _address(self, pod_id: str, port: int) -> tuple[str, int] | None:
        if self._containers is not None:
            return self._containers.address(pod_id, port)
        return inert_address(pod_id, port) if self.settings.inert_ssh else None

    def state(self) -> dict[str, Any]:
        """Everything a test in another process may want to know, as JSON values."""
        bill = self.bill()
        with self.lock:
            return {
                "mode": self.mode,
                "now": self.clock.now().isoformat(),
                "balance": str(self.fleet.balance()),
                "bill": str(bill.total),
                "live": [pod.id for pod in self.fleet.current()],
                "pods": [_told(pod, str(bill.pods[pod.id].total)) for pod in self.fleet.pods.values()],
                "calls": [{"operation": call.operation, "at": call.at.isoformat()} for call in self.calls],
            }


def _told(pod: SimPod, cost: str) -> dict[str, Any]:
    return {
        "id": pod.id,
        "name": pod.name,
        "status": pod.status,
        "podType": pod.pod_type,
        "gpuTypeId": pod.gpu_type_id,
        "gpuCount": pod.gpu_count,
        "price": str(pod.price),
        "cost": cost,
        "createdAt": pod.created_at.isoformat(),
        "endedAt": pod.ended_at.isoformat() if pod.ended_at else None,
        "runningSince": pod.running_since.isoformat() if pod.running_since else None,
        "restarts": pod.restarts,
        "sshPort": pod.ssh_port,
        "env": dict(pod.env),
        "events": [{"at": event.at.isoformat(), "what": event.what} for event in pod.events],
    }
