"""Archives made in memory: the stand-in runner as GitHub would serve it, and the tree that a job checks out."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STANDIN = Path(__file__).parent / "standin"
GIT_TIMEOUT = 60


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file to download."""

    name: str
    content: bytes
    sha256: str


@cache
def runner_archive(version: str, architecture: str = "x64") -> Archive:
    """The stand-in runner; the same bytes for the same version, architecture and sources."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(STANDIN.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                _add_bytes(tar, "./" + path.relative_to(STANDIN).as_posix(), path.read_bytes(), 0o755)
        _add_bytes(tar, "./bin/version", f"{version}\n{architecture}\n".encode(), 0o644)
    content = gzip.compress(buffer.getvalue(), mtime=0)
    name = f"actions-runner-linux-{architecture}-{version}.tar.gz"
    return Archive(name=name, content=content, sha256=hashlib.sha256(content).hexdigest())


def workspace_archive(folder: Path) -> bytes:
    """A working tree as a tar: what is tracked, or untracked and not ignored; everything when it is no git tree.

    Only plain files and symbolic links that stay inside are taken. OSError when the folder cannot be read.
    """
    root = folder.resolve(strict=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in _git_files(root) or _all_files(root):
            _add_path(tar, root, name)
    return buffer.getvalue()


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    tar.addfile(entry, io.BytesIO(content))


def _git_files(root: Path) -> list[str] | None:
    if not (root / ".git").exists():
        return None
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "-c",
        "core.fsmonitor=false",
        "-C",
        str(root),
        "ls-files",
        "-z",
        "-co",
        "--exclude-standard",
    ]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=GIT_TIMEOUT)
    except (OSError, subprocess.SubprocessError):
        return None
    return sorted({name for name in done.stdout.decode("utf-8", "surrogateescape").split("\0") if name})


def _all_files(root: Path) -> list[str]:
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        # Virtual environments and caches say what they are; a working tree without git may hold hundreds of megabytes.
        folders[:] = [each for each in folders if each != ".git" and not _is_made(here / each)]
        links = [each for each in folders if (here / each).is_symlink()]
        found += [(here / each).relative_to(root).as_posix() for each in (*files, *links)]
    return sorted(found)


def _is_made(folder: Path) -> bool:
    return folder.name == "__pycache__" or any((folder / mark).exists() for mark in ("pyvenv.cfg", "CACHEDIR.TAG"))


def _add_path(tar: tarfile.TarFile, root: Path, name: str) -> None:
    path = root / name
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if stat.S_ISLNK(mode) and path.resolve().is_relative_to(root):
        entry = tarfile.TarInfo(name)
        entry.type = tarfile.SYMTYPE
        entry.linkname = path.readlink().as_posix()
        if not entry.linkname.startswith("/"):
            tar.addfile(entry)
    elif stat.S_ISREG(mode) and path.resolve().is_relative_to(root):
        _add_bytes(tar, name, path.read_bytes(), 0o755 if mode & stat.S_IXUSR else 0o644)
