"""One shell script of a step as GitHub's runner has it: signals to the direct child alone, in its rhythm."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# ProcessInvoker: SIGINT, 7.5 s later SIGTERM, 2.5 s later it is killed.
AFTER_INT, AFTER_TERM = 7.5, 2.5
STREAMS_PATIENCE = 5.0  # for what still holds the streams once the child has ended
TICK = 0.02
TRACKING = "RUNNER_TRACKING_ID"
BASH = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How it ended; `seconds` is how long it took from the first signal, or from its start without one."""

    code: int
    signals: tuple[str, ...]
    seconds: float


@dataclass(kw_only=True)
class Script:
    """A script under way; `interrupted` says whether it is to be cancelled now."""

    file: Path
    env: Mapping[str, str] = field(repr=False)
    folder: Path
    write: Callable[[str], None]
    interrupted: Callable[[], bool]
    shell: tuple[str, ...] = BASH

    def run(self) -> Ran:
        """Run it to its end, or until it is cancelled."""
        process = subprocess.Popen(
            [*self.shell, str(self.file)],
            env=dict(self.env),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        reader.start()
        since, sent = time.monotonic(), list[str]()
        while process.poll() is None:
            if self.interrupted():
                since = time.monotonic()
                sent = _cancel(process)
            time.sleep(TICK)
        ran = Ran(code=process.returncode, signals=tuple(sent), seconds=time.monotonic() - since)
        reader.join(STREAMS_PATIENCE)
        return ran

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # closed by somebody who has waited long enough
            for line in process.stdout:
                self.write(line.decode("utf-8", "replace").rstrip("\r\n"))
        process.stdout.close()


def _cancel(process: subprocess.Popen[bytes]) -> list[str]:
    sent = []
    for number, patience in ((signal.SIGINT, AFTER_INT), (signal.SIGTERM, AFTER_TERM), (signal.SIGKILL, AFTER_INT)):
        process.send_signal(number)
        sent.append(number.name)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        break
    return sent


def orphans(mark: str) -> dict[int, str]:
    """The processes that still carry a job's mark, with their command lines."""
    wanted = f"{TRACKING}={mark}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return found
