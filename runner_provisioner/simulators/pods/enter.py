"""Builds a confined pod around itself and becomes the pod's command; runs as root, with the standard library alone.

The order is that of the recipe: namespaces, overlay, pivot, and only then everything that follows a path, so that no
symbolic link of the machine leads a write out of the pod; the capabilities go last.
"""

from __future__ import annotations

import fnmatch
import os
import resource
import select
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from runner_provisioner.simulators.pods import seccomp, syscalls
from runner_provisioner.simulators.pods.supervisor import Order, Supervisor, execute, finish, read_order, tell
from runner_provisioner.simulators.pods.syscalls import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REMOUNT

# capabilities(7): chown dac_override fowner fsetid kill setgid setuid net_bind_service sys_chroot audit_write setfcap
KEPT = frozenset({0, 1, 3, 4, 5, 6, 7, 10, 18, 29, 31})
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "mtrr")
MASKED = (
    "kcore",
    "keys",
    "kmsg",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "kallsyms",
    "kpagecount",
)


def main(descriptor: int) -> None:
    """Supervise one pod, told on this socket what it is."""
    control = socket.socket(fileno=descriptor)
    order = read_order(control)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        tell(control, f"failed {error.strerror}")
        finish(control, order, None)
        return
    # The end of a PID namespace's first process ends all others: there is nothing to sweep.
    supervisor = Supervisor(control, order, enter, lambda _child: None)
    supervisor.run()
    # A PID namespace whose first process has ended takes no other: without this, fork fails from here on.
    syscalls.rejoin(own, syscalls.CLONE_NEWPID)
    finish(control, order, supervisor.status(), keep=supervisor.ended_by_itself() and not order["in_memory"])


def enter(order: Order, say: int) -> NoReturn:
    """Everything between the fork and the exec; any error is the caller's to report on `say`."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.umask(0)
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS)
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    _overlay(order)
    disk = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    before = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    volume = os.open(order["volume"], os.O_RDONLY | os.O_DIRECTORY) if order["volume"] else None
    os.chdir("root")
    syscalls.pivot_root(".", ".")
    os.chdir("/")
    _kernel_views()
    _devices()
    _cover(order, disk)
    os.close(disk)
    if volume is not None:
        _bring_volume(volume, order["volume_mount"])
        os.close(volume)
    os.fchdir(before)
    syscalls.detach(".")
    os.chdir("/")
    os.close(before)
    _image(order)
    socket.sethostname(order["hostname"])
    _give_up_power(order)
    _still_wanted(say)
    execute(order)


def _overlay(order: Order) -> None:
    os.chdir(order["folder"])
    if order["in_memory"]:
        syscalls.mount("tmpfs", ".", "tmpfs", MS_NODEV, "mode=0700")
        os.chdir(order["folder"])
    Path("root").mkdir(exist_ok=True)
    for number, target in enumerate(order["mounts"]):
        upper, work = f"upper{number}", f"work{number}"
        for name in (upper, work):
            Path(name).mkdir(mode=0o755, exist_ok=True)
        syscalls.mount(
            "overlay", f"root{target}", "overlay", MS_NODEV, f"lowerdir={target},upperdir={upper},workdir={work}"
        )


def _kernel_views() -> None:
    guarded = MS_NOSUID | MS_NODEV | MS_NOEXEC
    syscalls.mount("proc", "/proc", "proc", guarded)
    for path in (Path("/proc", name) for name in READ_ONLY):
        if path.exists():
            syscalls.mount(str(path), str(path), flags=MS_BIND)
            syscalls.mount("", str(path), flags=MS_BIND | MS_REMOUNT | MS_RDONLY | guarded)
    syscalls.mount("sysfs", "/sys", "sysfs", guarded | MS_RDONLY)
    # Per mount, too: the file system itself is shared with the host, and so are its own flags.
    syscalls.mount("", "/sys", flags=MS_BIND | MS_REMOUNT | MS_RDONLY | guarded)


def _devices() -> None:
    syscalls.mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k")
    for name, (major, minor) in DEVICES.items():
        # Nodes of its own: a chmod of a bound one would be a chmod of the host's.
        os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
    for name, target in LINKS.items():
        Path("/dev", name).symlink_to(target)
    Path("/dev/pts").mkdir(0o755)
    Path("/dev/shm").mkdir()  # noqa: S108 - the place that shm_open(3) uses
    syscalls.mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    syscalls.mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")  # noqa: S108
    # Likewise standard input: a chmod of /proc/self/fd/0 would reach the host's /dev/null.
    own = os.open("/dev/null", os.O_RDONLY)
    os.dup2(own, 0)
    os.close(own)
    for path in (Path("/proc", name) for name in MASKED):
        if path.exists():
            syscalls.mount("/dev/null", str(path), flags=MS_BIND)


def _cover(order: Order, disk: int) -> None:
    """Empty folders of the pod's own, on its disk, over what it must not see."""
    for number, folder in enumerate(("/tmp", "/run", *order["veil_folders"])):  # noqa: S108 - a pod's own
        path = Path(folder)
        if not path.is_dir():
            continue
        facts = path.stat()
        own = Path(f"/proc/self/fd/{disk}/veil{number}")
        if not own.exists():
            own.mkdir()
            os.chown(own, facts.st_uid, facts.st_gid)
            own.chmod(0o700 if folder == "/root" else stat.S_IMODE(facts.st_mode))
        syscalls.mount(str(own), folder, flags=MS_BIND)
        syscalls.mount("", folder, flags=MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV)
    for name in ("sshd", "lock"):
        Path("/run", name).mkdir(0o755, exist_ok=True)
    for file in order["veil_files"]:
        Path(file).unlink(missing_ok=True)


def _bring_volume(volume: int, target: str) -> None:
    Path(target).mkdir(mode=0o755, parents=True, exist_ok=True)
    syscalls.mount(f"/proc/self/fd/{volume}", target, flags=MS_BIND)
    syscalls.mount("", target, flags=MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV)


def _image(order: Order) -> None:
    for path, (mode, text) in order["files"].items():
        target = Path(path)
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(text, encoding="utf-8", errors="surrogateescape")
        target.chmod(mode)
    for program in _programs(order["path"].split(":"), order["hide"]):
        program.unlink(missing_ok=True)


def _programs(folders: list[str], patterns: list[str]) -> Iterator[Path]:
    for folder in folders if patterns else ():
        if not Path(folder).is_dir():
            continue
        for program in list(Path(folder).iterdir()):
            if any(fnmatch.fnmatchcase(program.name, pattern) for pattern in patterns):
                yield program


def _give_up_power(order: Order) -> None:
    # One byte, not zero: with zero the kernel still pipes a core to the host's handler (core(5)).
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    os.umask(0o022)
    seccomp.install()
    syscalls.bound_capabilities(KEPT)
    os.setgroups([])
    os.setgid(order["gid"])
    os.setuid(order["uid"])
    syscalls.keep_capabilities(KEPT if order["uid"] == 0 else frozenset())
    # A change of user id clears it.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def _still_wanted(say: int) -> None:
    """End when the supervisor died before the kernel was asked to watch it."""
    poll = select.poll()
    poll.register(say, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise SystemExit


if __name__ == "__main__":
    main(int(sys.argv[-1]))
