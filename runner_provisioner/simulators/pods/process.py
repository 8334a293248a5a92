"""The host's end of a supervised pod: starts the supervisor, listens to it in a thread, outlives its crash."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import anyio

from runner_provisioner.simulators.pods.host import KILLED, Ending, PodsUnavailable, loopback_address
from runner_provisioner.simulators.pods.supervisor import remove_tree

PACKAGE_PARENT = Path(__file__).resolve().parents[3]
# Isolated and without site: nothing of the user's environment gets in, and it starts in half the time.
BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from runner_provisioner.simulators.pods import {0}; {0}.main(int(sys.argv[2]))"
)
ORPHAN_SECONDS = 3.0


class ProcessContainer:
    """A container that is a process tree under a supervisor. Made by `start`."""

    def __init__(self, order: Mapping[str, Any], *, ssh_port: int | None) -> None:
        self._order = order
        self._ssh_port = ssh_port
        self._up = Ending()
        self._ending = Ending()
        self._failure = ""
        self._pid = 0
        self._lock = threading.Lock()
        self._told = False
        self.pod: str = order["pod"]
        self.uid: int | None = order["uid"]
        self.folder: str = order["folder"]

    def start(self, module: str) -> None:
        """Start the supervisor that `module` holds; does not wait for it. Raises PodsUnavailable."""
        self._control, theirs = socket.socketpair()
        command = [sys.executable, "-I", "-S", "-c", BOOT.format(module), str(PACKAGE_PARENT), str(theirs.fileno())]
        with theirs, _private(self._order["log"]) as log:
            try:
                self._supervisor = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    env={},
                    cwd="/",
                )
            except OSError as error:
                self._control.close()
                self._ending.tell(KILLED)
                self.forget()
                raise PodsUnavailable(f"the pod's supervisor could not be started: {error}") from error
        threading.Thread(target=self._listen, name=f"pod {self._order['hostname']}", daemon=True).start()

    async def ready(self) -> None:
        """Wait until the command was exec'd. Raises PodsUnavailable when the pod could not be set up."""
        try:
            await self._up.wait()
        except BaseException:
            self._say("KILL")
            raise
        if self._failure:
            await self.wait()
            raise PodsUnavailable(f"the pod could not be set up: {self._failure}")

    async def wait(self) -> int:
        """The exit status of the pod's first process; nothing of the pod is left by then."""
        return await self._ending.wait()

    def running(self) -> bool:
        """Until everything is gone."""
        return not self._ending.told()

    async def stop(self, grace: float = 5.0) -> None:
        """SIGTERM to the first process; SIGKILL to everything after `grace` seconds."""
        self._say("TERM")
        with anyio.move_on_after(grace):
            await self._ending.wait()
            self.forget()
            return
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to everything; of a container that ended already, only the disk is left to remove."""
        self._say("KILL")
        await self._ending.wait()
        self.forget()

    def end(self) -> None:
        """`kill` for callers without an event loop: blocks until it is over."""
        self._say("KILL")
        self._ending.join()
        self.forget()

    def address(self, port: int) -> tuple[str, int] | None:
        """Where the port answers on the host's loopback, which pods share."""
        return loopback_address(port, self._ssh_port)

    def kept(self) -> bool:
        """Whether it ended by itself, so that its disk is there for a restart, as docker keeps it."""
        return self._ending.told() and not self._told and Path(self.folder).exists()

    def forget(self) -> None:
        """Remove the disk of a container that ended."""
        remove_tree(self.folder)

    def _say(self, word: str) -> None:
        self._told = True
        # After the end the socket is closed: there is nobody to tell.
        with contextlib.suppress(OSError), self._lock:
            self._control.sendall(word.encode() + b"\n")

    def _listen(self) -> None:
        status = None
        try:
            with contextlib.suppress(OSError):
                self._control.sendall(json.dumps(self._order).encode() + b"\n")
                with self._control.makefile("r", encoding="utf-8") as lines:
                    for line in lines:
                        word, _, rest = line.strip().partition(" ")
                        status = self._hear(word, rest, status)
            with self._lock:
                self._control.close()
            self._supervisor.wait()
            if status is None:
                self._clear_up_after_crash()
            if self._told:
                self.forget()
        finally:
            # Whatever went wrong here: who waits for the end must not wait for ever.
            self._ending.tell(KILLED if status is None else status)
            self._up.tell(0)

    def _hear(self, word: str, rest: str, status: int | None) -> int | None:
        if word == "up":
            self._pid = int(rest)
            self._up.tell(0)
        elif word == "failed":
            self._failure = rest
            self._up.tell(0)
        return int(rest) if word == "ended" else status

    def _clear_up_after_crash(self) -> None:
        """The supervisor was killed: what stood below it ends by itself, and is made to where it does not."""
        if not self._pid:
            self._failure = self._failure or "its supervisor ended; see the pod's log"
        elif not gone_within(self._pid, ORPHAN_SECONDS):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            gone_within(self._pid, ORPHAN_SECONDS)
        self.forget()


class Residents:
    """The containers of a host, and the disks that wait for a restart.

    Hold `lock` from the choice of a disk or an account until its container is added: several markets, each with a
    thread of its own, may share a host.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._containers: list[ProcessContainer] = []

    def add(self, container: ProcessContainer) -> None:
        """Keep it in mind for as long as it runs or its disk is kept."""
        with self.lock:
            self._containers = [known for known in self._containers if known.running() or known.kept()]
            self._containers.append(container)

    def take_over(self, pod: str) -> ProcessContainer | None:
        """The container of this pod that ended by itself: its disk is the caller's from now on."""
        with self.lock:
            for container in self._containers:
                if container.pod == pod and container.kept():
                    self._containers.remove(container)
                    return container
        return None

    def discard(self, pod: str) -> None:
        """Remove the pod's kept disk."""
        earlier = self.take_over(pod)
        if earlier is not None:
            earlier.forget()

    def uids(self) -> set[int]:
        """Accounts that pods run as, or that own a kept disk."""
        return {known.uid for known in self._containers if known.uid is not None}

    def end(self) -> None:
        """Kill them all and remove their disks; blocks."""
        for container in self._containers:
            container.end()


def _private(log: str) -> BinaryIO:
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def gone_within(pid: int, seconds: float) -> bool:
    """Whether the process ends in time; somebody else's unreaped process counts as ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not _lives(pid):
            return True
        select.select([], [], [], 0.01)
    return False


def _lives(pid: int) -> bool:
    # The second where it ends between the opening of the file and the reading.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
