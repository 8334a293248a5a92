"""Pods for end-to-end tests: the most confined ones that the machine allows, and some that misbehave."""

from __future__ import annotations

import contextlib
import functools
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner_provisioner.simulators.pods.confined import ConfinedHost
from runner_provisioner.simulators.pods.host import Container, InertContainer, Launch, PodHost
from runner_provisioner.simulators.pods.probe import attempt, unfit
from runner_provisioner.simulators.pods.unconfined import UnconfinedHost


@functools.cache
def why_unconfined() -> tuple[str, bool]:
    """Why pods cannot be confined here (empty when they can), and whether what they write must stay in memory."""
    reason = unfit()
    if reason:
        return reason, False
    for in_memory in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            host = ConfinedHost(Path(folder), in_memory=in_memory)
            reason = attempt(host)
            host.close()
        if not reason:
            return "", in_memory
    return reason, False


def real_host(scratch: Path) -> PodHost:
    """Real pods, confined where that is possible."""
    reason, in_memory = why_unconfined()
    if reason:
        return UnconfinedHost(scratch, reason=reason)
    return ConfinedHost(scratch, in_memory=in_memory)


Act = Callable[[Launch], Launch | InertContainer]


@dataclass(kw_only=True)
class ActingHost:
    """A host for pods of which the first ones are not what they seem: each of `acts` is played by one pod."""

    host: PodHost
    acts: list[Act] = field(default_factory=list)
    _parts: dict[str, Act] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Seem to be that host."""
        self.mode = self.host.mode
        self.offers_ssh = self.host.offers_ssh
        self.note = self.host.note

    async def launch(self, launch: Launch) -> Container:
        """A container as the pod's act has it, or a real one."""
        if launch.pod_id not in self._parts:
            self._parts[launch.pod_id] = self.acts.pop(0) if self.acts else _as_it_is
        chosen = self._parts[launch.pod_id](launch)
        return chosen if isinstance(chosen, InertContainer) else await self.host.launch(chosen)

    def discard(self, pod_id: str) -> None:
        """Forget a pod."""
        self.host.discard(pod_id)

    def close(self) -> None:
        """End every pod."""
        self.host.close()


def _as_it_is(launch: Launch) -> Launch:
    return launch


def idles(launch: Launch) -> InertContainer:
    """A container that runs and in which nothing happens."""
    return InertContainer(launch)


def init_in_front(launch: Launch) -> Launch:
    """An image whose init stays in front of the command, whatever the command says."""
    return replace(launch, argv=("/sbin/sim-init", *launch.argv))


class Ends:
    """An act: a container whose command ends when the test says so, and again after each restart."""

    def __init__(self) -> None:
        """It has yet to be launched."""
        self.container: InertContainer | None = None

    def __call__(self, launch: Launch) -> InertContainer:
        """Its launch."""
        self.container = InertContainer(launch)
        return self.container

    def finish(self, status: int = 1) -> None:
        """End its command."""
        assert self.container is not None
        self.container.finish(status)


class Listener:
    """A door on loopback to which a job in a pod connects: it waits there, or hands over what it found.

    Pods share the machine's loopback and see none of its files.
    """

    def __init__(self) -> None:
        """It is open at once."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.arrived = threading.Event()
        self.finished = threading.Event()
        self._release = threading.Event()
        self.received = b""
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def wait_here(self) -> str:
        """A line of bash that waits until it is let go."""
        return f"read -r _ </dev/tcp/127.0.0.1/{self.port}"

    @property
    def device(self) -> str:
        """What bash writes to."""
        return f"/dev/tcp/127.0.0.1/{self.port}"

    def let_go(self) -> None:
        """Whoever waits goes on."""
        self._release.set()

    def taken(self, seconds: float) -> bytes:
        """What was handed over, once the other side is done."""
        assert self.finished.wait(seconds), "nothing was handed over"
        return self.received

    def close(self) -> None:
        """Nobody comes any more."""
        self._release.set()
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed while it waited
            connection, _ = self._server.accept()
            with connection:
                self.arrived.set()
                if self._release.is_set():
                    connection.sendall(b"go\n")
                else:
                    self._hold(connection)

    def _hold(self, connection: socket.socket) -> None:
        connection.settimeout(0.05)
        parts = []
        while not self._release.is_set():
            try:
                part = connection.recv(1 << 20)
            except TimeoutError:
                continue
            if not part:
                break
            parts.append(part)
        if self._release.is_set():
            connection.sendall(b"go\n")
        self.received = b"".join(parts)
        self.finished.set()


@contextlib.contextmanager
def listener() -> Iterator[Listener]:
    """A door for the length of a `with`."""
    door = Listener()
    try:
        yield door
    finally:
        door.close()
