"""Files that nobody else may read: written whole or not at all, and temporary ones that are always removed."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from runner_provisioner.errors import StoreError

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "no permission: check who owns the folder",
    errno.EPERM: "no permission: check who owns the folder",
    errno.ENOTDIR: "a part of the path is a file: remove it or choose another folder",
    errno.EISDIR: "a folder is in its place: remove it or choose another path",
}


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by a file of mode 0600 that holds `data`; readers see the old or the new one, never a part.

    Missing parents are made with mode 0700. Raises StoreError, with what to do about it, when that is impossible;
    then the old file is as it was and nothing else is left.
    """
    try:
        make_parents(path.parent)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        scratch = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"cannot write {path}: {remedy(error)}") from error


def remedy(error: OSError) -> str:
    """What is wrong with the disk and what to do, without the path."""
    return _REMEDIES.get(error.errno or 0, (error.strerror or type(error).__name__).lower())


class TemporaryFiles:
    """A folder of mode 0700 for files of mode 0600 that are gone when the `with` block ends, however it ends.

    An interpreter that exits without leaving the block removes them too; a forked child never does.
    """

    def __init__(self, parent: Path | None = None) -> None:
        """Make the folder inside `parent` (by default where the system keeps such things)."""
        self._parent = parent
        self._owner = 0
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        try:
            if self._parent is not None:
                make_parents(self._parent)
            self._folder = Path(tempfile.mkdtemp(prefix="runner-provisioner-", dir=self._parent))
        except OSError as error:
            raise StoreError(f"cannot make a temporary folder: {remedy(error)}") from error
        self._owner = os.getpid()
        atexit.register(self.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, name: str, data: bytes) -> Path:
        """A new file of this name; raises StoreError."""
        if self._folder is None:
            raise StoreError("the temporary files are gone already")
        path = self._folder / Path(name).name
        write_private(path, data)
        return path

    def close(self) -> None:
        """Remove everything; may be called again."""
        if self._folder is not None and self._owner == os.getpid():
            try:
                shutil.rmtree(self._folder, ignore_errors=True)
            except BaseException:
                # A signal that became an exception half-way.
                shutil.rmtree(self._folder, ignore_errors=True)
                raise
        self._folder = None
        atexit.unregister(self.close)


def make_parents(folder: Path) -> None:
    """Like `mkdir -p` with mode 0700 for each folder that is new (pathlib gives the mode to the last one alone)."""
    for missing in reversed(list(_missing(folder))):
        with contextlib.suppress(FileExistsError):
            missing.mkdir(mode=0o700)


def _missing(folder: Path) -> Iterator[Path]:
    while not folder.exists():
        yield folder
        folder = folder.parent
