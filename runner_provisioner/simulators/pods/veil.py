"""What of the machine a confined pod must not see.

The overlay protects the host from writes; this list protects it from reads. Three grounds: a folder that images do
not have at the top of the tree, a place where credentials usually lie, and anything that not everybody may read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TOP = frozenset(
    [
        "bin",
        "sbin",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "usr",
        "etc",
        "var",
        "opt",
        "nix",
        "gnu",
        "proc",
        "sys",
        "dev",
        "tmp",
        "run",
    ]
)
FRESH = ("/tmp", "/run", "/proc", "/sys", "/dev")  # noqa: S108 - mounted anew in every pod
SURVEYED = ("etc", "var", "opt")
DEPTH = 4
CREDENTIALS = (
    *(
        f"/etc/{name}"
        for name in [
            "aws",
            "azure",
            "gcloud",
            "google",
            "cloud",
            "boto",
            "docker",
            "containerd",
            "kubernetes",
            "rancher",
        ]
    ),
    *(
        f"/etc/{name}"
        for name in ["wireguard", "openvpn", "ipsec.d", "letsencrypt", "ssl/private", "pki/private", "credstore"]
    ),
    *(
        f"/etc/{name}"
        for name in ["credstore.encrypted", "vault.d", "consul.d", "nomad.d", "netplan", "ppp", "wpa_supplicant"]
    ),
    *(
        f"/var/lib/{name}"
        for name in ["docker", "containerd", "kubelet", "rancher", "cloud", "private", "NetworkManager"]
    ),
    *(f"/var/{name}" for name in ["tmp", "mail", "spool/cron", "spool/mail", "backups", "log/journal"]),
    "/etc/NetworkManager/system-connections",
    "/etc/ssh/sshd_config.d",
)
# Not credentials, or replaced by a copy without hashes, or where apt renames files to the folder above.
SPARED = frozenset(
    (
        "/etc/sudoers",
        "/etc/sudoers.d",
        "/etc/shadow",
        "/etc/gshadow",
        "/var/cache/apt/archives/partial",
        "/var/lib/apt/lists/partial",
    )
)
SHARED = frozenset(
    [
        "/",
        "/usr",
        "/usr/bin",
        "/usr/sbin",
        "/usr/lib",
        "/usr/share",
        "/usr/local",
        "/usr/local/lib",
        "/usr/games",
        "/var",
        "/var/lib",
        "/var/cache",
        "/var/spool",
        "/var/www",
        "/var/log",
        "/var/mail",
        "/var/backups",
        "/etc",
        "/opt",
        "/bin",
        "/sbin",
        "/lib",
        "/dev",
        "/proc",
        "/sys",
        "/run",
        "/nix",
        "/nix/store",
        "/nonexistent",
    ]
)


@dataclass(frozen=True)
class Veil:
    """Absolute paths: `folders` are covered by empty ones, `files` are taken away."""

    folders: tuple[str, ...]
    files: tuple[str, ...]


def survey(conceal: Sequence[Path], root: Path = Path("/")) -> Veil:
    """Look at the machine whose tree is `root`; `conceal` adds folders of the caller's own."""
    folders = set(_unusual(root)) | set(CREDENTIALS) | set(_homes(root))
    folders |= {str(path) for path in conceal}
    files: set[str] = set()
    for top in SURVEYED:
        closed, unreadable = _closed(root, top)
        folders |= closed
        files |= unreadable
    files |= {f"/etc/ssh/{path.name}" for path in (root / "etc/ssh").glob("ssh_host_*")}
    files |= {f"/{path.name}" for path in root.iterdir() if path.is_file() and not _open_to_all(path, stat.S_IROTH)}
    covered = tuple(_outermost(root, folders))
    return Veil(covered, tuple(file for file in sorted(files) if not _below(file, covered)))


def project_folders(project: Path) -> list[Path]:
    """The folder that holds a checkout, or the checkout itself where that folder is everybody's."""
    if {"site-packages", "dist-packages"} & set(project.parts):
        return []
    return [project if str(project.parent) in SHARED else project.parent]


def _unusual(root: Path) -> Iterator[str]:
    for path in root.iterdir():
        if path.name not in TOP and path.is_dir() and not path.is_symlink():
            yield f"/{path.name}"


def _homes(root: Path) -> Iterator[str]:
    try:
        lines = (root / "etc/passwd").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(":")
        home = os.path.normpath(fields[5]) if len(fields) > 5 else ""  # noqa: PLR2004 - passwd(5): the home is sixth
        if home.startswith("/") and home not in SHARED and not home.startswith(("/usr/", *FRESH, "/var/cache/")):
            yield home


def _open_to_all(path: Path, bits: int) -> bool:
    try:
        return path.stat(follow_symlinks=False).st_mode & bits == bits
    except FileNotFoundError:
        return True


def _closed(root: Path, top: str) -> tuple[set[str], set[str]]:
    """Folders and files below `top` that not everybody may read."""
    folders: set[str] = set()
    files: set[str] = set()
    for where, names, leaves in os.walk(root / top):
        inside = Path("/") / Path(where).relative_to(root)
        closed = {name for name in names if not _open_to_all(Path(where, name), stat.S_IROTH | stat.S_IXOTH)}
        folders |= {str(inside / name) for name in closed} - SPARED
        files |= {str(inside / name) for name in leaves if not _open_to_all(Path(where, name), stat.S_IROTH)} - SPARED
        deep = len(inside.parts) > DEPTH
        names[:] = [] if deep else [name for name in names if name not in closed]
    return folders, files


def _outermost(root: Path, folders: Iterable[str]) -> Iterator[str]:
    """Existing ones, without links, without what lies below another of them or is fresh in every pod anyway."""
    seen: list[str] = []
    for folder in sorted({_real(root, folder) for folder in folders}):
        if _below(folder, (*seen, *FRESH)) or folder in SHARED or not (root / folder.lstrip("/")).is_dir():
            continue
        seen.append(folder)
        yield folder


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _real(root: Path, folder: str) -> str:
    inside = os.path.relpath(os.path.realpath(root / folder.lstrip("/")), os.path.realpath(root))
    return os.path.normpath(f"/{inside}")
