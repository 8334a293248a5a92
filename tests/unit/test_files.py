"""Private files are whole, private, and gone when they should be."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from runner_provisioner._files import TemporaryFiles, remedy, write_private
from runner_provisioner.errors import StoreError


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_file_and_new_folders_are_private(tmp_path: Path) -> None:
    """0600 for the file, 0700 for every folder that was made, whatever the umask."""
    path = tmp_path / "a" / "b" / "state.json"
    before = os.umask(0)
    try:
        write_private(path, b"one")
        write_private(path, b"two")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert mode(path) == 0o600
    assert mode(path.parent) == mode(path.parent.parent) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_open_file_is_replaced_only_for_private_content(tmp_path: Path) -> None:
    """A file that others could read is replaced, not written into."""
    path = tmp_path / "state.json"
    path.write_text("old")
    path.chmod(0o644)
    with path.open() as reader:
        write_private(path, b"new")
        assert reader.read() == "old"
    assert mode(path) == 0o600


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is one line that says what to do."""
    path = tmp_path / "state.json"
    write_private(path, b"old")

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="the disk is full: free some space"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    """A path that cannot be is a StoreError too."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a part of the path is a file"):
        write_private(tmp_path / "file" / "state.json", b"")
    with pytest.raises(StoreError, match="cannot make a temporary folder"), TemporaryFiles(tmp_path / "file" / "x"):
        pass


def test_rare_error_is_told_in_the_systems_words() -> None:
    """Without a remedy of our own there is still a reason."""
    assert remedy(OSError(errno.EIO, "Input/output error")) == "input/output error"
    assert remedy(OSError("odd")) == "oserror"


def test_temporary_files_are_private_and_removed(tmp_path: Path) -> None:
    """Nothing is left when the block ends, also by an exception; a path cannot leave the folder."""
    files = TemporaryFiles(tmp_path / "parent")

    def fail() -> None:
        with files:
            path = files.write("../../known_hosts", b"x")
            assert mode(path) == 0o600
            assert mode(path.parent) == 0o700
            assert path.parent.parent == tmp_path / "parent"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((tmp_path / "parent").iterdir()) == []
    with pytest.raises(StoreError, match="gone already"):
        files.write("late", b"")
    files.close()


def test_forked_child_removes_nothing(tmp_path: Path) -> None:
    """The files belong to the process that made them."""
    with TemporaryFiles(tmp_path) as files:
        path = files.write("key", b"x")
        program = textwrap.dedent(
            f"""
            import os, pathlib
            from runner_provisioner._files import TemporaryFiles
            with TemporaryFiles(pathlib.Path({str(tmp_path)!r})) as files:
                path = files.write("key", b"x")
                if os.fork() == 0:
                    files.close()
                    os._exit(0)
                os.wait()
                print(path.exists())
            """
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"
        assert path.exists()
    assert list(tmp_path.iterdir()) == []


def test_removal_is_finished_when_a_signal_interrupts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGTERM in the middle of the clean-up still ends the program, after the clean-up."""
    real = shutil.rmtree
    calls: list[Path] = []

    def interrupted(folder: Path, *, ignore_errors: bool) -> None:
        calls.append(folder)
        if len(calls) == 1:
            raise SystemExit(143)
        real(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(SystemExit), TemporaryFiles(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "ending", [pytest.param("sys.exit(3)", id="exit"), pytest.param("signal.pause()", id="SIGTERM that unwinds")]
)
def test_temporary_files_are_removed_when_the_process_ends(tmp_path: Path, ending: str) -> None:
    """An exit without leaving the block, or a signal that becomes SystemExit, leaves nothing."""
    program = textwrap.dedent(
        f"""
        import pathlib, signal, sys
        from runner_provisioner._files import TemporaryFiles
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        files = TemporaryFiles(pathlib.Path({str(tmp_path)!r})).__enter__()
        files.write("key", b"x")
        print("ready", flush=True)
        {ending}
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    assert list(tmp_path.iterdir()) == []
