"""Pods as supervised process trees, where the machine refuses namespaces.

Nothing hides the machine's files: such a pod is for commands that one trusts. It lives in a fresh folder, with an
empty environment, without privileges: root becomes an account that nobody has. There is no sshd, and `Image.hide`,
`Image.user` and paths under / (a volume's mount point too) have no effect; a command of `/start.sh` runs a stand-in.
Without Linux's subreapers (macOS) a process that leaves its group outlives the pod.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner_provisioner.simulators.pods import image as files
from runner_provisioner.simulators.pods.confined import plain, search_path
from runner_provisioner.simulators.pods.host import Launch, PodsUnavailable
from runner_provisioner.simulators.pods.process import ProcessContainer, Residents
from runner_provisioner.simulators.pods.supervisor import remove_tree

# systemd's range for accounts made on the fly: no distribution gives these ids to anybody.
FREE_IDS = range(61184, 65520)


class UnconfinedHost:
    """Runs pods in folders under `scratch`, or beside it where an unprivileged account could not reach it."""

    mode = "unconfined"
    offers_ssh = False

    def __init__(self, scratch: Path, *, reason: str = "") -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        where = scratch.resolve() if os.geteuid() else _reachable(scratch.resolve())
        self._pods = Path(tempfile.mkdtemp(prefix="pods-", dir=where))
        self._pods.chmod(0o711)
        self._path = search_path()
        self._residents = Residents()
        self.note = "pods run unconfined and without sshd" + (f" ({reason})" if reason else "")

    async def launch(self, launch: Launch) -> ProcessContainer:
        """Start it; returns once the command was exec'd. Raises PodsUnavailable when no account is free for it."""
        with self._residents.lock:
            container = ProcessContainer(self._order(launch), ssh_port=None)
            self._residents.add(container)
        container.start("tether")
        await container.ready()
        return container

    def discard(self, pod_id: str) -> None:
        """Remove the disk that the pod left for a restart; there are no volumes."""
        self._residents.discard(plain(pod_id))

    def close(self) -> None:
        """Kill every pod and remove everything that was written."""
        self._residents.end()
        remove_tree(str(self._pods))

    def _order(self, launch: Launch) -> Mapping[str, Any]:
        name = plain(launch.pod_id)
        earlier = self._residents.take_over(name)
        home, uid = (earlier.folder, earlier.uid) if earlier else self._new_disk(launch, name)
        search = f"{home}/bin:{self._path}"
        defaults = {"PATH": search, "HOME": home, "TMPDIR": str(Path(home, "tmp")), "HOSTNAME": name}
        return {
            "pod": name,
            "folder": home,
            "home": home,
            "log": str(launch.log),
            "argv": [f"{home}/start.sh" if word == "/start.sh" else word for word in launch.argv],
            "env": {**launch.env, **defaults},
            "hostname": name,
            "uid": uid,
            "gid": uid,
        }

    def _new_disk(self, launch: Launch, name: str) -> tuple[str, int | None]:
        """A folder with what the image has, and the account that owns it."""
        uid = None if os.geteuid() else self._free_id()
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._pods))
        for part in ("bin", "tmp"):
            (folder / part).mkdir()
        self._place(folder / "start.sh", files.UNCONFINED_START_SH)
        if launch.image.nvidia_smi and launch.nvidia_smi:
            self._place(folder / "bin/nvidia-smi", files.nvidia_smi(launch))
        if uid is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, uid, uid)
        return str(folder), uid

    def _place(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def _free_id(self) -> int:
        busy = _ids_at_work() | self._residents.uids()
        for number in FREE_IDS:
            if number not in busy and not _known(number):
                return number
        raise PodsUnavailable("no user id is free for an unconfined pod; end some and try again")


def _known(number: int) -> bool:
    with suppress(KeyError):
        pwd.getpwuid(number)
        return True
    return False


def _ids_at_work() -> set[int]:
    """User ids that processes run as; none where there is no /proc."""
    ids: set[int] = set()
    with suppress(FileNotFoundError):
        for path in Path("/proc").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                ids |= {path.stat().st_uid} if path.name.isdigit() else set()
    return ids


def _reachable(scratch: Path) -> Path:
    """A place that other accounts can reach: a pod that cannot enter its home writes where nobody cleans up."""
    places = (scratch, Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - for a folder of its own
    return next((place for place in places if place.is_dir() and _open_to_others(place)), scratch)


def _open_to_others(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))
