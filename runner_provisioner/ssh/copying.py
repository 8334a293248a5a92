"""Copying files and folders to and from a pod over SFTP, whatever their names."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from runner_provisioner.errors import InvalidRequest, SshFailed

Progress = Callable[[int], None]
_PERMISSIONS = 0o777


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to copy; names are bytes, because file names are."""

    source: bytes
    target: bytes
    folder: bool
    size: int
    mode: int


@dataclass(kw_only=True)
class Copy:
    """What is to be copied, in order, and what is passed over (links to folders and to nothing, devices, sockets)."""

    entries: list[Entry] = field(default_factory=list)
    passed_over: list[bytes] = field(default_factory=list)

    @property
    def size(self) -> int:
        """All bytes."""
        return sum(entry.size for entry in self.entries)

    @property
    def files(self) -> int:
        """How many files."""
        return sum(not entry.folder for entry in self.entries)


@asynccontextmanager
async def file_transfer(connection: asyncssh.SSHClientConnection, pod_id: str) -> AsyncIterator[asyncssh.SFTPClient]:
    """SFTP for the length of a `with`; raises SshFailed when the pod has no SFTP server, or it gives up."""
    try:
        client = await connection.start_sftp_client()
    except (asyncssh.SFTPError, asyncssh.ChannelOpenError) as error:
        raise SshFailed(
            f"pod {pod_id} has no SFTP server: install openssh-sftp-server in its image, or copy with 'exec POD -- cat'"
        ) from error
    try:
        yield client
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection) as error:
        raise SshFailed(f"the SSH connection to pod {pod_id} broke: copy again") from error
    finally:
        client.exit()


# --- to the pod ------------------------------------------------------------------------------------------------------


async def plan_upload(sftp: asyncssh.SFTPClient, source: Path, target: str, *, recursive: bool) -> Copy:
    """What copying `source` to the pod's `target` takes: into it when it is a folder. Raises InvalidRequest."""
    raw, goal = os.fsencode(source), os.fsencode(target) or b"."
    folder = _is_folder_here(source, recursive=recursive)
    if await _is_folder(sftp, goal):
        goal = posixpath.join(goal, _own_name(source))
    elif goal.endswith(b"/") and not folder:
        raise InvalidRequest(f"{target}: no such folder in the pod")
    plan = Copy()
    _walk_here(raw, goal, plan)
    if not plan.entries:
        raise InvalidRequest(f"{source} is neither a file nor a folder")
    return plan


def _is_folder_here(source: Path, *, recursive: bool) -> bool:
    if not source.exists():
        raise InvalidRequest(f"{source}: no such file here")
    if source.is_dir() and not recursive:
        raise InvalidRequest(f"{source} is a folder: copy it with --recursive")
    return source.is_dir()


def _own_name(source: Path) -> bytes:
    """What it is called: also where it was written as a dot."""
    return os.fsencode(source.resolve().name if source.name in {"", ".."} else source.name)


def _walk_here(source: bytes, target: bytes, plan: Copy) -> None:
    found = _stat(source)
    if found is None or not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        plan.passed_over.append(source)
        return
    folder = stat.S_ISDIR(found.st_mode)
    if folder and plan.entries and os.path.islink(source):  # noqa: PTH114 - bytes
        plan.passed_over.append(source)
        return
    plan.entries.append(Entry(source, target, folder, 0 if folder else found.st_size, found.st_mode & _PERMISSIONS))
    for name in sorted(_listing(source)) if folder else ():
        _walk_here(os.path.join(source, name), posixpath.join(target, name), plan)  # noqa: PTH118 - bytes


def _stat(path: bytes) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - bytes
    except OSError:
        return None


def _listing(folder: bytes) -> Sequence[bytes]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - bytes
    except OSError as error:
        raise InvalidRequest(f"{os.fsdecode(folder)} cannot be read ({error.strerror})") from error


async def upload(sftp: asyncssh.SFTPClient, plan: Copy, progress: Progress) -> None:
    """Copy all of it; raises InvalidRequest when a file cannot be read here or written there."""
    for entry in plan.entries:
        try:
            if entry.folder:
                await _make_folder(sftp, entry)
            else:
                known = await sftp.exists(entry.target)
                await sftp.put(entry.source, entry.target, follow_symlinks=True, progress_handler=_steps(progress))
                if not known:
                    await sftp.chmod(entry.target, entry.mode & ~0o022)
        except _LOST:
            raise
        except asyncssh.SFTPError as error:
            raise _refused(entry.target, error) from error
        except OSError as error:
            raise InvalidRequest(f"{shown(entry.source)} cannot be read ({error.strerror})") from error


async def _make_folder(sftp: asyncssh.SFTPClient, entry: Entry) -> None:
    if not await _is_folder(sftp, entry.target):
        await sftp.mkdir(entry.target)
        await sftp.chmod(entry.target, (entry.mode & ~0o022) | 0o700)


# --- from the pod ----------------------------------------------------------------------------------------------------


async def plan_download(sftp: asyncssh.SFTPClient, source: str, target: Path, *, recursive: bool) -> Copy:
    """What copying the pod's `source` to `target` takes: into it when it is a folder. Raises InvalidRequest."""
    raw, goal = os.fsencode(source) or b".", os.fsencode(target)
    raw = raw.rstrip(b"/") or b"/"
    try:
        found = await sftp.stat(raw)
        if os.path.isdir(goal):  # noqa: PTH112, ASYNC240 - bytes, the local disk
            goal = os.path.join(goal, posixpath.basename(await _real(sftp, raw)))  # noqa: PTH118 - bytes
        if _is_dir(found) and not recursive:
            raise InvalidRequest(f"{source} is a folder: copy it with --recursive")
        if not target.parent.is_dir():
            raise InvalidRequest(f"{target.parent}: no such folder here")
        plan = Copy()
        await _walk_there(sftp, raw, goal, found, plan)
    except _LOST:
        raise
    except asyncssh.SFTPError as error:
        raise _refused(raw, error) from error
    if not plan.entries:
        raise InvalidRequest(f"{source} is neither a file nor a folder")
    return plan


async def _real(sftp: asyncssh.SFTPClient, path: bytes) -> bytes:
    if posixpath.basename(path) not in {b"", b".", b".."}:
        return path
    real = await sftp.realpath(path)
    assert isinstance(real, bytes)  # noqa: S101 - as given
    if b"\0" in real or posixpath.basename(real) in {b"", b".", b".."}:
        raise InvalidRequest(f"{shown(path)}: name the folder, or a target that does not exist yet")
    return real


async def _walk_there(
    sftp: asyncssh.SFTPClient, source: bytes, target: bytes, found: asyncssh.SFTPAttrs, plan: Copy
) -> None:
    mode = found.permissions or 0
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        plan.passed_over.append(source)
        return
    folder = stat.S_ISDIR(mode)
    plan.entries.append(Entry(source, target, folder, 0 if folder else found.size or 0, mode & _PERMISSIONS))
    if not folder:
        return
    names = [name async for name in sftp.scandir(source)]
    for name in sorted(names, key=lambda one: one.filename):
        if name.filename not in {b".", b".."}:
            await _child(sftp, source, target, name, plan)


async def _child(sftp: asyncssh.SFTPClient, source: bytes, target: bytes, name: asyncssh.SFTPName, plan: Copy) -> None:
    leaf = name.filename
    # A pod is not trusted: its names must not lead out of the target.
    if not isinstance(leaf, bytes) or not leaf or b"/" in leaf or b"\0" in leaf:
        raise SshFailed(f"the pod lists a file under an impossible name ({leaf!r:.64}): nothing more is copied")
    path, found = posixpath.join(source, leaf), name.attrs
    if stat.S_ISLNK(found.permissions or 0):
        try:
            found = await sftp.stat(path)
        except asyncssh.SFTPError:
            plan.passed_over.append(path)
            return
        if _is_dir(found):
            plan.passed_over.append(path)
            return
    await _walk_there(sftp, path, os.path.join(target, leaf), found, plan)  # noqa: PTH118 - bytes


async def download(sftp: asyncssh.SFTPClient, plan: Copy, progress: Progress) -> None:
    """Copy all of it, each file whole or not at all.

    Raises InvalidRequest when one cannot be read there or written here.
    """
    for entry in plan.entries:
        try:
            if entry.folder:
                _make_folder_here(entry)
            else:
                await _fetch(sftp, entry, progress)
        except _LOST:
            raise
        except asyncssh.SFTPError as error:
            raise _refused(entry.source, error) from error
        except OSError as error:
            raise InvalidRequest(f"{shown(entry.target)} cannot be written ({error.strerror})") from error


def _make_folder_here(entry: Entry) -> None:
    with suppress(FileExistsError):
        os.mkdir(entry.target, entry.mode | 0o700)  # noqa: PTH102 - bytes
    # A link that was there before could lead anywhere, but it is the user's own; a file in the way is an error.
    if not os.path.isdir(entry.target):  # noqa: PTH112 - bytes
        raise NotADirectoryError(errno.ENOTDIR, "a file is in the way")


async def _fetch(sftp: asyncssh.SFTPClient, entry: Entry, progress: Progress) -> None:
    # A link here is the user's own, and is written through, as cp does; a device must never be replaced.
    target = os.path.realpath(entry.target)  # noqa: ASYNC240 - the local disk
    known = _stat(target)
    if known is not None and not stat.S_ISREG(known.st_mode):
        raise OSError(errno.EEXIST, "something that is no file is in the way")
    folder = os.path.dirname(target)  # noqa: PTH120 - bytes
    # A name of its own: the target's may already be as long as names can be.
    handle, scratch = tempfile.mkstemp(prefix=b".rp-", dir=folder)
    try:
        os.close(handle)
        await sftp.get(entry.source, scratch, follow_symlinks=True, progress_handler=_steps(progress))
        os.chmod(scratch, _mode(entry, known))  # noqa: PTH101 - bytes
        os.replace(scratch, target)  # noqa: PTH105 - bytes
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(scratch)  # noqa: PTH108 - bytes
        raise


def _mode(entry: Entry, known: os.stat_result | None) -> int:
    """The mode of the file that is replaced, else the pod's, not writable by others."""
    return known.st_mode & _PERMISSIONS if known is not None else (entry.mode & ~0o022) | 0o600


# --- both ------------------------------------------------------------------------------------------------------------

_LOST = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)


def _is_dir(found: asyncssh.SFTPAttrs) -> bool:
    return stat.S_ISDIR(found.permissions or 0)


async def _is_folder(sftp: asyncssh.SFTPClient, path: bytes) -> bool:
    try:
        return _is_dir(await sftp.stat(path))
    except _LOST:
        raise
    except asyncssh.SFTPError:
        return False


def _steps(progress: Progress) -> Callable[[bytes, bytes, int, int], None]:
    """What asyncssh tells (bytes so far) as what was added."""
    before = 0

    def told(_source: bytes, _target: bytes, done: int, _size: int) -> None:
        nonlocal before
        progress(done - before)
        before = done

    return told


def _refused(path: bytes, error: asyncssh.SFTPError) -> InvalidRequest:
    why = "the pod's SFTP server refused it"
    if isinstance(error, asyncssh.SFTPNoSuchFile):
        why = "no such file in the pod"
    elif isinstance(error, asyncssh.SFTPPermissionDenied):
        why = "permission denied in the pod"
    return InvalidRequest(f"{shown(path)}: {why}")


def shown(path: bytes) -> str:
    """A name for a message: one line, nothing that a terminal would obey."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
