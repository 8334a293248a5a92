"""Pods in namespaces of their own, for root with CAP_SYS_ADMIN on Linux.

A pod sees the machine's /usr, its own copy of everything else that is not veiled (see `veil`), its own processes and
devices, and the machine's network. It may change what it likes: it changes an overlay that goes with it.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner_provisioner.simulators.pods import image as files
from runner_provisioner.simulators.pods.host import Image, Launch
from runner_provisioner.simulators.pods.process import PACKAGE_PARENT, ProcessContainer, Residents
from runner_provisioner.simulators.pods.supervisor import remove_tree
from runner_provisioner.simulators.pods.veil import project_folders, survey

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = ("bash", "env", "tar", "grep", "sed", "awk", "sshd", "ssh-keygen")
# Parts of a machine that may be file systems of their own: an overlay of / alone would show them empty.
SPLIT_OFF = frozenset(
    ["/usr", "/usr/local", "/var", "/var/lib", "/var/cache", "/opt", "/etc", "/nix", "/nix/store", "/gnu"]
)


class ConfinedHost:
    """Runs pods under `scratch`; `in_memory` keeps what they write in memory, where the disk allows no overlay."""

    mode = "confined"

    def __init__(self, scratch: Path, *, in_memory: bool = False, conceal: Sequence[Path] = ()) -> None:
        self._pods = scratch.resolve() / "pods"
        self._volumes = scratch.resolve() / "volumes"
        for folder in (self._pods, self._volumes):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        hidden = [*project_folders(PACKAGE_PARENT), scratch.resolve(), *(path.resolve() for path in conceal)]
        self._veil = survey(hidden)
        self._mounts = ["/", *split_off(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))]
        self._path = search_path()
        self._sshd = shutil.which("sshd", path=self._path)
        self._in_memory = in_memory
        self._residents = Residents()
        self.offers_ssh = self._sshd is not None
        self.note = "" if self.offers_ssh else "no sshd in the pods: OpenSSH's server is not installed here"

    async def launch(self, launch: Launch) -> ProcessContainer:
        """Start it; returns once the command was exec'd. Raises PodsUnavailable when it could not be set up."""
        with self._residents.lock:
            container = ProcessContainer(self._order(launch), ssh_port=launch.ssh_port if self.offers_ssh else None)
            self._residents.add(container)
        container.start("enter")
        await container.ready()
        return container

    def discard(self, pod_id: str) -> None:
        """Remove the pod's volume, and the disk that it left for a restart."""
        self._residents.discard(plain(pod_id))
        remove_tree(str(self._volumes / plain(pod_id)))

    def close(self) -> None:
        """Kill every pod and remove everything that was written."""
        self._residents.end()
        for folder in (self._pods, self._volumes):
            remove_tree(str(folder))

    def _order(self, launch: Launch) -> Mapping[str, Any]:
        name = plain(launch.pod_id)
        hostname = launch.env.get("RUNPOD_POD_HOSTNAME", name)
        account = pwd.getpwnam(launch.image.user)
        home = "/root" if account.pw_uid == 0 else account.pw_dir
        earlier = self._residents.take_over(name)
        defaults = {"PATH": self._path, "HOME": home, "HOSTNAME": hostname}
        return {
            "pod": name,
            "folder": earlier.folder if earlier else tempfile.mkdtemp(prefix=f"{name}-", dir=self._pods),
            "log": str(launch.log),
            "argv": launch.argv,
            "env": {**defaults, **launch.env},
            "path": self._path,
            "hostname": hostname[:63],
            "uid": account.pw_uid,
            "gid": account.pw_gid,
            "in_memory": self._in_memory,
            "mounts": self._mounts,
            "veil_folders": self._veil.folders,
            # A restarted container finds its disk as it left it; only sshd's port may be another one.
            "veil_files": () if earlier else self._veil.files,
            "hide": () if earlier else launch.image.hide,
            "files": _sshd_files(launch) if earlier else self._files(launch, hostname),
            **self._volume(launch, name),
        }

    def _volume(self, launch: Launch, name: str) -> dict[str, str | None]:
        if launch.volume_mount is None:
            return {"volume": None, "volume_mount": None}
        folder = self._volumes / name
        folder.mkdir(mode=0o755, exist_ok=True)
        return {"volume": str(folder), "volume_mount": os.path.normpath(launch.volume_mount)}

    def _files(self, launch: Launch, hostname: str) -> dict[str, tuple[int, str]]:
        """What the image has in place of the machine's own, as path: (mode, text)."""
        hosts = _host_file("/etc/hosts") + f"\n127.0.0.1 {hostname}\n"
        placed = {
            "/etc/passwd": (0o644, files.container_passwd(_host_file("/etc/passwd"))),
            "/etc/shadow": (0o600, files.blank_hashes(_host_file("/etc/shadow"))),
            "/etc/gshadow": (0o600, files.blank_hashes(_host_file("/etc/gshadow"))),
            "/etc/hosts": (0o644, hosts),
            "/etc/hostname": (0o644, f"{hostname}\n"),
            "/etc/resolv.conf": (0o644, _host_file("/etc/resolv.conf")),
            "/sbin/sim-init": (0o755, files.SIM_INIT),
        }
        return placed | _sshd_files(launch) | dict(_optional_files(launch, self._sshd))


def _sshd_files(launch: Launch) -> dict[str, tuple[int, str]]:
    return {"/etc/ssh/sshd_config": (0o644, files.sshd_config(launch.ssh_port))}


def _optional_files(launch: Launch, sshd: str | None) -> Iterator[tuple[str, tuple[int, str]]]:
    image: Image = launch.image
    if image.start_sh:
        yield "/start.sh", (0o755, files.start_sh(sshd or "/nonexistent/sshd"))
    if image.nvidia_smi and launch.nvidia_smi:
        yield "/usr/bin/nvidia-smi", (0o755, files.nvidia_smi(launch))


def _host_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


def plain(pod_id: str) -> str:
    """The id as a part of a path and of a host name."""
    return re.sub(r"[^A-Za-z0-9-]", "-", pod_id)[:60] or "pod"


def split_off(mountinfo: str) -> list[str]:
    """The parts of the tree that pods need and that are mounts of their own (proc(5): the fifth field)."""
    points = {line.split()[4] for line in mountinfo.splitlines() if line.strip()}
    return sorted(points & SPLIT_OFF)


def search_path() -> str:
    """The PATH of images, and behind it where this machine keeps the basic tools, if elsewhere (Nix)."""
    usual = PATH.split(":")
    found = (shutil.which(tool) for tool in TOOLS)
    folders = [os.path.dirname(os.path.realpath(tool)) for tool in found if tool]  # noqa: PTH120 - text of a PATH
    real = {os.path.realpath(folder) for folder in usual}
    return ":".join([*usual, *dict.fromkeys(folder for folder in folders if folder not in real)])
