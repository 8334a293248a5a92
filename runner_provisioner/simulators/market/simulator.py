"""A simulated market as a test has it in hand: its pods, its bill, and everything that can be done to them."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from runner_provisioner.clock import SystemClock
from runner_provisioner.simulators.faults import Call, Faults
from runner_provisioner.simulators.market.containers import Containers
from runner_provisioner.simulators.market.fleet import Fleet
from runner_provisioner.simulators.market.hosts import free_port
from runner_provisioner.simulators.market.money import Bill
from runner_provisioner.simulators.market.pods import RUNNING, RentedPod
from runner_provisioner.simulators.pods.host import Image, Launch, PodHost
from runner_provisioner.simulators.serving import ASGIApp, Loopback

P = TypeVar("P", bound=RentedPod)
_PAUSE = 0.02


class Clock(Protocol):
    """The simulator's time."""

    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let that much of its time pass."""
        ...


class MarketSimulator(ABC, Generic[P]):
    """Keeps the score of one account's pods, with processes or without.

    Without a `host` pods are inert: no process and no thread, everything follows from the clock at each look; with
    one, every pod is a real process. All methods may be called from any thread. Close it when it had a host.
    """

    name = "market"
    """The provider's."""
    always_addressed = False
    """Whether a pod that is up has an address for SSH even where no sshd can run: nobody listens there then."""
    keeps_ports = False
    """Whether a container that is started again answers where it did."""
    app: ASGIApp
    """The ASGI application."""
    fleet: Fleet[P]

    def __init__(
        self, clock: Clock | None, host: PodHost | None, *, images: Iterable[Image], logs: Path | None
    ) -> None:
        """`images` say what stands behind their names; `logs` is the pods' log folder."""
        self.clock = clock or SystemClock()
        self.host = host
        self.images = {image.name: image for image in images}
        self.faults = Faults(self.clock.now)
        self.lock = threading.RLock()
        self._logs = logs
        self._scratch: Path | None = None
        self._containers: Containers | None = None

    def begin(self) -> None:
        """Called once by the subclass when it has its fleet."""
        if self.host is not None:
            self.fleet.processes = self
            self._containers = Containers(self.host, self, self.catch_up)

    @abstractmethod
    def launch_of(self, pod: P) -> Launch:
        """What the pod's container starts with."""

    @abstractmethod
    def nowhere(self, pod_id: str, port: int) -> tuple[str, int]:
        """The public address of a port of a pod that has no process."""

    @property
    def mode(self) -> str:
        """How pods run: confined, unconfined or inert."""
        return self.host.mode if self.host is not None else "inert"

    def serve(self, port: int = 0) -> Loopback:
        """A server for it on loopback; not started yet."""
        return Loopback(self.app, port=port)

    # -- what is

    def pods(self) -> list[P]:
        """Every pod there ever was, in the order of creation, with its state and events."""
        with self.lock:
            self.fleet.catch_up()
            return list(self.fleet.pods.values())

    def live(self) -> list[P]:
        """Pods that may still cost money: everything that was not terminated."""
        with self.lock:
            self.fleet.catch_up()
            return self.fleet.current()

    def pod(self, pod_id: str) -> P:
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

    def log_path(self, pod_id: str) -> Path:
        """Where the pod's container writes its output."""
        if self._logs is None:
            with self.lock:
                self._scratch = self._scratch or Path(tempfile.mkdtemp(prefix=f"simulated-{self.name}-"))
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
        """The provider takes the pod, now or `after` seconds from now; KeyError for an unknown one."""
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
            self.fleet.interrupt_new += [after] * times

    def finish(self, pod_id: str, code: int = 0) -> None:
        """The command of an inert pod's container ends; KeyError for an unknown pod."""
        with self.lock:
            self.fleet.catch_up()
            pod = self.fleet.pods[pod_id]
            self.fleet.exited(pod, pod.incarnation, code, self.clock.now())

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

    def launch(self, pod: P) -> None:
        """Start the pod's container (called by the fleet)."""
        if self._containers is None or self.host is None:
            return
        kept = pod.ssh_port if self.keeps_ports else None
        pod.ssh_port = (kept or free_port()) if self.host.offers_ssh and pod.wants_ssh else None
        self._containers.launch(self.launch_of(pod), pod.incarnation)

    def stop(self, pod: P, grace: float, *, discard: bool) -> None:
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
            found = self._containers.address(pod_id, port)
            nobody = found is None and self.host is not None and not self.host.offers_ssh
            return self.nowhere(pod_id, port) if nobody and self.always_addressed else found
        return self.nowhere(pod_id, port) if self.fleet.settings.inert_ssh else None


def _told(pod: RentedPod, cost: str) -> dict[str, Any]:
    return {
        "id": pod.id,
        "name": pod.name,
        "status": pod.status,
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
        **pod.told(),
    }
