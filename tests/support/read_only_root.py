"""A command as a container engine or systemd runs it: nobody of note, on a root file system that cannot be written.

Made of what the kernel gives to root: namespaces of its own for mounts, processes and the network, the interpreter and
the program bound in, and nothing to be written but the folders that are named.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.deploy import PROGRAM, ROOT

_TOOLS = ("unshare", "setpriv", "nsenter", "chroot", "mount")
_SYSTEM = ("/usr", "/etc", "/bin", "/lib", "/lib64", "/sbin")
_DEVICES = ("null", "zero", "random", "urandom")
# SIOCSIFFLAGS with IFF_UP: the namespace's own loopback.
_LOOPBACK = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"


def why_not() -> str:
    """Why it cannot be done here; empty when it can."""
    if os.geteuid() != 0:
        return "only root can make a root file system for somebody else"
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    if missing:
        return f"there is no {missing[0]} program"
    done = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "the kernel gives no namespaces here"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where it runs: as whom, with which variables, and what is bound where; `scratch` is empty each time."""

    uid: int
    environment: Mapping[str, str]
    written: Mapping[str, Path]
    read: Mapping[str, Path]
    scratch: Sequence[str] = ("/tmp",)  # noqa: S108 - of the new root

    def as_user(self, command: Sequence[str]) -> list[str]:
        """The command as that user, who has no rights and gets none."""
        to_user = ["--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups"]
        without = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return ["setpriv", *to_user, *without, "--", "env", "-i", *variables, *command]

    def script(self, root: Path, command: Sequence[str]) -> str:
        """Makes the root file system, and becomes the command in it."""
        lines = [f"mount -t tmpfs -o size=16m,mode=0755 tmpfs {root}"]
        for name in _SYSTEM:
            lines += [f"cp -P {name} {root}{name}"] if Path(name).is_symlink() else _bound(Path(name), root, name)
        # First, since the checkout may be in such a folder.
        for target in self.scratch:
            lines += [f"mkdir -p {root}{target}", f"mount -t tmpfs -o mode=1777,noexec tmpfs {root}{target}"]
        for folder in (Path(sys.base_prefix), Path(sys.prefix), ROOT):
            if not folder.is_relative_to("/usr"):
                lines += _bound(folder, root, str(folder))
        for target, source in {PROGRAM: Path(sys.prefix), **self.read}.items():
            lines += _bound(source, root, target)
        for target, source in self.written.items():
            lines += _bound(source, root, target)[:2]
        lines += [f"mkdir -p {root}/proc {root}/dev", f"mount -t proc proc {root}/proc"]
        for name in _DEVICES:
            lines += [f"touch {root}/dev/{name}", f"mount --bind /dev/{name} {root}/dev/{name}"]
        lines += [
            f"mount -o remount,ro {root}",
            shlex.join([sys.executable, "-I", "-c", _LOOPBACK]),
            shlex.join(["exec", "chroot", str(root), *self.as_user(command)]),
        ]
        return "\n".join(["set -e", *lines])


def _bound(source: Path, root: Path, target: str) -> list[str]:
    place = shlex.quote(f"{root}{target}")
    folder = place if source.is_dir() else shlex.quote(str(Path(f"{root}{target}").parent))
    make = f"mkdir -p {folder}" + ("" if source.is_dir() else f" && touch {place}")
    return [make, f"mount --bind {shlex.quote(str(source))} {place}", f"mount -o remount,bind,ro {place}"]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A command that runs there; `pid` is its own, seen from outside."""

    place: Place
    root: Path
    process: subprocess.Popen[bytes]
    said: Path

    @property
    def pid(self) -> int:
        """Of the command itself."""
        number = self.process.pid
        return int(Path(f"/proc/{number}/task/{number}/children").read_text("utf-8").split()[0])

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run another command beside it, as an engine's `exec` does."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--", "chroot", str(self.root)]
        return subprocess.run(
            [*enter, *self.place.as_user(command)],
            env={"PATH": "/usr/bin:/bin:/usr/sbin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def stop(self) -> int:
        """Ask it to end; how it ended."""
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def running(place: Place, folder: Path, command: Sequence[str]) -> Iterator[Running]:
    """The command, begun; killed with everything of it at the end."""
    root, said = folder / "root", folder / "said"
    root.mkdir()
    spaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--propagation", "private"]
    with said.open("wb") as stream:
        process = subprocess.Popen(
            ["unshare", *spaces, "--fork", "--kill-child=SIGKILL", "sh", "-c", place.script(root, command)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd="/",
        )
    try:
        deadline = time.monotonic() + 60
        while "serving at" not in said.read_text("utf-8"):
            assert process.poll() is None, said.read_text("utf-8")
            assert time.monotonic() < deadline, said.read_text("utf-8")
            time.sleep(0.05)
        yield Running(place=place, root=root, process=process, said=said)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
