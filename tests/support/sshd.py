"""A real sshd on loopback, of the test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = Path("/usr/sbin/sshd")
needs_sshd = pytest.mark.skipif(
    os.geteuid() != 0 or not SSHD.exists() or not shutil.which("ssh"),
    reason="needs root, sshd and ssh",
)
LISTENING = 10.0


@dataclass(frozen=True)
class Server:
    """A running sshd, its host key, and the private key that it lets in."""

    port: int
    host_key: str
    identity: Path


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """One that lets root in with one key, for the length of a `with`."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)
    options = {
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "StrictModes": "no",
        "PermitRootLogin": "prohibit-password",
        "UsePAM": "no",
        "PidFile": "none",
        "Subsystem": "sftp internal-sftp",
    }
    command = [str(SSHD), "-D", "-e", "-f", "/dev/null", "-p", str(port)]
    with subprocess.Popen(
        [*command, *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))],
        stderr=subprocess.DEVNULL,
    ) as process:
        _wait_for(port)
        yield Server(port=port, host_key=(folder / "host.pub").read_text().strip(), identity=folder / "user")
        process.terminate()


def _wait_for(port: int) -> None:
    limit = time.monotonic() + LISTENING
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < limit, "sshd does not listen"
            time.sleep(0.05)
        else:
            return
