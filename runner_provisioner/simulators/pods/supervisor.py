"""The process that stands between the simulator and one pod; it runs with the standard library alone.

It speaks lines over a socket. From the host: one line of JSON (the order), then TERM or KILL; the end of the stream
is KILL. To the host: `up PID`, `failed WHY`, `ended STATUS`. What the pod prints arrives by a pipe and goes to the log,
so that a pod never holds a file of the host (its root could otherwise make the log a set-uid program).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

Order = Mapping[str, Any]
CHUNK = 65536
SETUP_FAILED = 125  # as docker: the container could not be started
NOT_FOUND = 127
SWEEP_SECONDS = 10.0


def read_order(control: socket.socket) -> Order:
    """The first line on the socket, byte for byte, so that nothing behind it is swallowed."""
    text = bytearray()
    while not text.endswith(b"\n"):
        piece = control.recv(CHUNK)
        if not piece:
            raise SystemExit(SETUP_FAILED)
        text += piece
    order: Order = json.loads(text)
    return order


def restore_signals() -> None:
    """Undo what Python and a parent's masks changed: a container starts with every signal at its default."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def execute(order: Order) -> NoReturn:
    """Become the command; a command that is not there ends with 127 and a line in the log, as docker says it."""
    argv: list[str] = order["argv"]
    try:
        os.execvpe(argv[0], argv, order["env"])  # noqa: S606 - running the pod's command is the purpose
    except OSError as error:
        os.write(2, f"exec: {argv[0]}: {error.strerror}\n".encode())
    os._exit(NOT_FOUND)


def close_everything_else(keep: int) -> None:
    """Leave 0, 1, 2 and `keep` open: no file of the host gets into a pod."""
    for entry in list(Path("/dev/fd").iterdir()):
        descriptor = int(entry.name)
        if descriptor > 2 and descriptor != keep:  # noqa: PLR2004 - 0, 1 and 2 are the pod's
            with contextlib.suppress(OSError):
                os.close(descriptor)


class Supervisor:
    """Runs one pod; `body` is what the child does after the fork: it sets the pod up and ends in `execute`.

    `body` gets the order and the descriptor on which a failure is told; `sweep` ends what is left of the pod once
    its first process ended.
    """

    def __init__(
        self, control: socket.socket, order: Order, body: Callable[[Order, int], NoReturn], sweep: Callable[[int], None]
    ) -> None:
        self._control = control
        self._order = order
        self._body = body
        self._sweep = sweep
        self._child = 0
        self._status: int | None = None
        self._told = False

    def run(self) -> None:
        """From the first process to the last; tells the host."""
        log = os.open(self._order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        output, failure = self._start()
        if failure:
            self._told = True
            self._reap()
            self._sweep(self._child)
            tell(self._control, f"failed {failure}")
            return
        tell(self._control, f"up {self._child}")
        os.set_blocking(output, False)
        self._watch(output, log, woken)
        self._sweep(self._child)
        while _pour(output, log):
            continue

    def status(self) -> int | None:
        """128 + n for signal n; None when it never ran."""
        return self._status

    def ended_by_itself(self) -> bool:
        """It ran and nobody told it to end: the service may start it again, on the same disk."""
        return self._status is not None and not self._told

    def _start(self) -> tuple[int, str]:
        output, writer = os.pipe()
        hear, say = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            self._become_child(writer, say)
        os.close(writer)
        os.close(say)
        with os.fdopen(hear, "rb") as stream:
            failure = stream.read().decode(errors="replace")
        return output, " ".join(failure.split())

    def _become_child(self, writer: int, told: int) -> NoReturn:
        try:
            restore_signals()
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            close_everything_else(told)
            self._body(self._order, told)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the host has to hear of it
            os.write(told, f"{type(error).__name__}: {error}".encode())
        os._exit(SETUP_FAILED)

    def _watch(self, output: int, log: int, woken: int) -> None:
        poll = select.poll()
        for descriptor in (output, self._control.fileno(), woken):
            poll.register(descriptor, select.POLLIN)
        while self._status is None:
            for descriptor, _ in poll.poll():
                if descriptor == output and not _pour(output, log):
                    poll.unregister(output)
                elif descriptor == woken:
                    _drain(woken)
                    self._reap(os.WNOHANG)
                elif descriptor == self._control.fileno() and not self._obey():
                    poll.unregister(descriptor)

    def _obey(self) -> bool:
        """Do what the host says; False when it will say nothing more."""
        words = self._control.recv(CHUNK)
        self._told = True
        if b"TERM" in words:
            self._signal(signal.SIGTERM)
        if b"KILL" in words or not words:
            self._signal(signal.SIGKILL)
        return bool(words)

    def _signal(self, number: signal.Signals) -> None:
        # Not reaped yet, so the id is still the child's.
        if self._status is None:
            os.kill(self._child, number)

    def _reap(self, flags: int = 0) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, flags)
                if pid == 0:
                    return
                if pid == self._child:
                    code = os.waitstatus_to_exitcode(status)
                    self._status = code if code >= 0 else 128 - code
                    return


def tell(control: socket.socket, line: str) -> None:
    """Say one line; a host that was killed meanwhile does not matter, the stream's end is then what counts."""
    with contextlib.suppress(OSError):
        control.sendall(line.encode() + b"\n")


def finish(control: socket.socket, order: Order, status: int | None, *, keep: bool = False) -> None:
    """Remove the pod's folder, unless a host is there to `keep` it for; then tell: it may look at once."""
    if not keep or not _listened_to(control):
        remove_tree(order["folder"])
    tell(control, f"ended {SETUP_FAILED if status is None else status}")


def _listened_to(control: socket.socket) -> bool:
    try:
        return bool(control.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except OSError:
        return False


def remove_tree(folder: str) -> None:
    """By rm, which no depth of folders defeats; what it cannot remove stays, and it says so on stderr."""
    if not Path(folder).exists():
        return
    environment = {"PATH": "/usr/bin:/bin:/run/current-system/sw/bin"}
    pid = os.posix_spawnp("rm", ["rm", "-rf", "--", folder], environment)
    os.waitpid(pid, 0)


def _pour(source: int, log: int) -> bool:
    """Copy one piece; False when there is none, at the end of the stream or for now."""
    try:
        piece = os.read(source, CHUNK)
    except BlockingIOError:
        return False
    # A full disk must not end the pod: what cannot be written is lost.
    with contextlib.suppress(OSError):
        os.write(log, piece)
    return bool(piece)


def _drain(woken: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(woken, CHUNK):
            continue


def descendants(of: int) -> Iterator[int]:
    """Process ids below `of`, by /proc."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            after_name = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
            children.setdefault(int(after_name[1]), []).append(int(entry.name))
    pending = list(children.get(of, ()))
    while pending:
        pid = pending.pop()
        yield pid
        pending += children.get(pid, ())


def end_descendants(_child: int) -> None:
    """SIGKILL until nobody is left; for a subreaper, to whom every orphan below it falls."""
    deadline = time.monotonic() + SWEEP_SECONDS
    while time.monotonic() < deadline:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        time.sleep(0.002)


def end_group(child: int) -> None:
    """SIGKILL the session's first process group: all that a system without subreapers allows."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
