"""What the RunPod simulator needs from whoever runs its pods, and hosts that keep the promise.

Three modes: *confined* (namespaces, overlay, cut capabilities: see `confined`), *unconfined* (a supervised process
tree in a fresh folder: see `unconfined`) and *inert* (no process at all, for tests of numbers).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from runner_provisioner.errors import ConfigurationError

KILLED = 137  # 128 + SIGKILL, as docker reports it
TERMINATED = 143  # 128 + SIGTERM
SSH = 22


class PodsUnavailable(ConfigurationError):
    """This machine cannot run simulated pods in the way that was asked for; the message says what would."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a pod's image brings along.

    `hide` names programs that do not exist in it ("curl"; shell patterns such as "python3*" too). `start_sh` places a
    `/start.sh` with the contract of RunPod's images (reference: containers), `nvidia_smi` a stand-in for the GPU's
    tool. Every image has `/sbin/sim-init`, an init that forks its command and keeps it in its own argv: an
    `entrypoint` of ("/sbin/sim-init",) is an image with an init in front. `user` is "root" or "nobody".
    Unconfined pods cannot take anything away from the machine: there `hide`, `user` and paths under / have no effect.
    """

    name: str
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ("/start.sh",)
    hide: tuple[str, ...] = ()
    start_sh: bool = True
    nvidia_smi: bool = True
    user: str = "root"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One start of one container; `argv` is entrypoint + cmd after dockerArgs were applied.

    `ssh_port` is the loopback port of the host where the container's 22/tcp is to answer, None without one. The
    volume at `volume_mount` outlives the container, until the host is told to `discard` the pod. `log` receives
    stdout and stderr, appended. `gpu` and `gpu_count` are what the stand-in for nvidia-smi prints, with `gpu_memory`
    MiB each, `driver` and `cuda`; without `nvidia_smi` the machine has lost it, whatever the image brings.
    """

    pod_id: str
    image: Image
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    ssh_port: int | None = None
    volume_mount: str | None = None
    log: Path
    gpu: str = "NVIDIA RTX A4000"
    gpu_count: int = 1
    gpu_memory: int = 16376
    driver: str = "550.54.15"
    cuda: str = "12.4"
    nvidia_smi: bool = True


class Container(Protocol):
    """A started container. Every method may be called from any event loop and any thread.

    One that ends by itself keeps its disk: the next launch of the same pod is a restart and finds it, as docker has
    it. `stop` and `kill` (of an ended one too) and `PodHost.discard` remove the disk.
    """

    async def wait(self) -> int:
        """The exit status of PID 1, 128 + n when signal n ended it; everything else of the pod is gone by then."""
        ...

    def running(self) -> bool:
        """Whether `wait` would wait."""
        ...

    async def stop(self, grace: float = 5.0) -> None:
        """SIGTERM to PID 1 only, as docker stop; SIGKILL to everything after `grace` seconds. Returns when over."""
        ...

    async def kill(self) -> None:
        """SIGKILL to everything. Returns when over."""
        ...

    def address(self, port: int) -> tuple[str, int] | None:
        """Where a container port answers on loopback; None = nowhere."""
        ...


class PodHost(Protocol):
    """Somebody who runs containers. `note` is one line for people about what this mode leaves out, or empty."""

    mode: str
    offers_ssh: bool
    note: str

    async def launch(self, launch: Launch) -> Container:
        """Start it; returns once the command was exec'd. Raises PodsUnavailable when the pod could not be set up."""
        ...

    def discard(self, pod_id: str) -> None:
        """Forget the pod's volume and disk: it was terminated."""
        ...

    def close(self) -> None:
        """Kill every container and remove every volume; blocks until that is done."""
        ...


class Ending:
    """The exit status of a container: told once, from any thread, to waiters on any event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._status = 0
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[int]]] = []

    def told(self) -> bool:
        """Whether the status is known."""
        return self._told.is_set()

    def tell(self, status: int) -> None:
        """Wake everybody; the first status stays."""
        with self._lock:
            if self._told.is_set():
                return
            self._status = status
            self._told.set()
            waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            # The loop of a waiter may have been closed meanwhile: then nobody waits there any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, waiter, status)

    def join(self, timeout: float | None = None) -> bool:
        """Block the calling thread until told, at most `timeout` seconds; whether it was told."""
        return self._told.wait(timeout)

    async def wait(self) -> int:
        """The status, once told."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._told.is_set():
                return self._status
            waiter: asyncio.Future[int] = loop.create_future()
            self._waiters.append((loop, waiter))
        try:
            return await waiter
        finally:
            with self._lock:
                self._waiters = [entry for entry in self._waiters if entry[1] is not waiter]


def _resolve(waiter: asyncio.Future[int], status: int) -> None:
    if not waiter.done():
        waiter.set_result(status)


def loopback_address(port: int, ssh_port: int | None) -> tuple[str, int] | None:
    """Pods share the host's loopback: every port answers where it is, except 22, which is moved."""
    if port != SSH:
        return ("127.0.0.1", port)
    return None if ssh_port is None else ("127.0.0.1", ssh_port)


class InertContainer:
    """A container without a process: it runs until it is told otherwise."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._ending = Ending()

    async def wait(self) -> int:
        """The status given to `finish`, or that of a kill or stop."""
        return await self._ending.wait()

    def running(self) -> bool:
        """Until it was ended."""
        return not self._ending.told()

    def finish(self, status: int = 0) -> None:
        """End it as if its command had ended by itself."""
        self._ending.tell(status)

    async def stop(self, grace: float = 5.0) -> None:  # noqa: ARG002 - it obeys SIGTERM at once
        """End it at once, as if SIGTERM had."""
        self._ending.tell(TERMINATED)

    async def kill(self) -> None:
        """End it at once."""
        self._ending.tell(KILLED)

    def address(self, port: int) -> tuple[str, int] | None:
        """Where the port would answer; nobody listens there."""
        return loopback_address(port, self.launch.ssh_port)


class InertHost:
    """Pods without processes, for tests of numbers; `containers` holds them in the order of their launch."""

    mode = "inert"
    offers_ssh = True
    note = "pods are inert: no process runs in them"

    def __init__(self) -> None:
        self.containers: list[InertContainer] = []

    async def launch(self, launch: Launch) -> InertContainer:
        """A container that runs until it is told otherwise."""
        container = InertContainer(launch)
        self.containers.append(container)
        return container

    def discard(self, pod_id: str) -> None:
        """There is no volume to forget."""

    def close(self) -> None:
        """End every container."""
        for container in self.containers:
            container.finish(KILLED)


def best_host(scratch: Path, *, unconfined_ok: bool, conceal: Sequence[Path] = ()) -> PodHost:
    """The most confined host that works on this machine, found by really starting a pod.

    `scratch` is a folder for what pods write, created when missing; `conceal` adds folders that no confined pod may
    see. Raises PodsUnavailable when pods cannot be confined here and `unconfined_ok` is False.
    """
    from runner_provisioner.simulators.pods.probe import choose  # noqa: PLC0415 - it builds on the contracts above

    return choose(scratch, unconfined_ok=unconfined_ok, conceal=conceal)
