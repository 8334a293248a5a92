"""Runs an unconfined pod and sees to it that nothing of it stays; runs with the standard library alone.

Two processes, both subreapers where the system has them: the guard (it holds the host's socket) and the supervisor
below it. Whichever of them is killed, the other one ends the pod.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from runner_provisioner.simulators.pods import syscalls
from runner_provisioner.simulators.pods.supervisor import (
    CHUNK,
    Order,
    Supervisor,
    end_descendants,
    end_group,
    execute,
    finish,
    read_order,
    tell,
)

LINUX = sys.platform == "linux"
KILLED = 137


def main(descriptor: int) -> None:
    """Guard one pod, told on this socket what it is."""
    control = socket.socket(fileno=descriptor)
    order = read_order(control)
    _reap_orphans()
    inner, outer = socket.socketpair()
    supervisor = os.fork()
    if supervisor == 0:
        control.close()
        inner.close()
        _supervise(outer, order)
    outer.close()
    ended, told = _relay(control, inner)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(supervisor, 0)
    if LINUX:
        end_descendants(0)
    finish(control, order, KILLED if ended is None else ended, keep=ended is not None and not told)


def _reap_orphans() -> None:
    if LINUX:
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)


def _supervise(control: socket.socket, order: Order) -> NoReturn:
    try:
        _reap_orphans()
        supervisor = Supervisor(control, order, become, end_descendants if LINUX else end_group)
        supervisor.run()
        status = supervisor.status()
        tell(control, f"ended {0 if status is None else status}")
    finally:
        os._exit(0)


def _relay(host: socket.socket, pod: socket.socket) -> tuple[int | None, bool]:
    """Carry lines both ways until the supervisor ended: the status it told, and whether the host said anything."""
    status: int | None = None
    told = False
    poll = select.poll()
    poll.register(host, select.POLLIN)
    poll.register(pod, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == host.fileno():
                told = True
                if not _forward(host, pod):
                    poll.unregister(host)
            elif descriptor == pod.fileno():
                words = pod.recv(CHUNK)
                if not words:
                    return status, told
                told = told or b"failed " in words
                start, _, end = words.partition(b"ended ")
                status = int(end) if end else status
                with contextlib.suppress(OSError):
                    host.sendall(start)


def _forward(host: socket.socket, pod: socket.socket) -> bool:
    words = host.recv(CHUNK)
    with contextlib.suppress(OSError):
        # At the end of the stream nobody is left who could want the pod.
        pod.sendall(words or b"KILL\n")
    return bool(words)


def become(order: Order, _say: int) -> NoReturn:
    """Give up every privilege and run the command in the pod's folder."""
    if LINUX:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    Path(order["home"]).mkdir(parents=True, exist_ok=True)
    os.chdir(order["home"])
    os.umask(0o022)
    if LINUX:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if order["uid"] is not None:
        _drop_root(order["uid"], order["gid"])
    if LINUX:
        syscalls.keep_capabilities(frozenset())
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    execute(order)


def _drop_root(uid: int, gid: int) -> None:
    if LINUX:
        # A container may lack CAP_SETPCAP; without any privilege left the bounding set bounds nothing.
        with contextlib.suppress(OSError):
            syscalls.bound_capabilities(frozenset())
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


if __name__ == "__main__":
    main(int(sys.argv[-1]))
