"""Commands as steps of a workflow, which are waited for, killed, or cancelled as GitHub's runner does it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 60.0
TICK = 0.02
# How GitHub's runner cancels a step (ProcessInvoker): SIGINT, 7.5 s later SIGTERM, 2.5 s later SIGKILL.
AFTER_INT, AFTER_TERM = 7.5, 2.5


def until(condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE, every: float = TICK) -> Any:  # noqa: ANN401 - whatever the condition gives
    """Wait for what other processes bring about; gives the condition's first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not so after {seconds:.0f} s: {what}"
        time.sleep(every)
    return value


@dataclass(frozen=True, kw_only=True)
class Done:
    """A process that ended, how long it took from the first signal or its start, and the signals it was sent."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    signals: tuple[str, ...] = ()

    @property
    def data(self) -> dict[str, Any]:
        """What --json printed."""
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    def well(self) -> Done:
        """Itself, when the exit code is 0."""
        assert self.code == 0, self.told
        return self

    @property
    def told(self) -> str:
        """Everything, for a failure's message."""
        return f"exit code {self.code} after {self.seconds:.1f} s\n{self.stdout}\n{self.stderr}"


@dataclass(kw_only=True)
class Step:
    """A command that runs as a step of a workflow: the direct child of the test, which plays GitHub's runner."""

    process: subprocess.Popen[bytes]
    folder: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait(self, seconds: float = PATIENCE) -> Done:
        """Its end."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end in {seconds:.0f} s: {self._done(self.began).told}") from None
        return self._done(self.began)

    def kill(self) -> Done:
        """SIGKILL: nothing that it would have done afterwards happens."""
        self.process.kill()
        return self._done(time.monotonic())

    def cancel(self) -> Done:
        """Be cancelled as GitHub's runner does it, signals to the direct child only."""
        asked = time.monotonic()
        sent: list[str] = []
        for number, patience in (
            (signal.SIGINT, AFTER_INT),
            (signal.SIGTERM, AFTER_TERM),
            (signal.SIGKILL, AFTER_INT),
        ):
            self.process.send_signal(number)
            sent.append(number.name)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            break
        return self._done(asked, tuple(sent))

    def _done(self, since: float, signals: tuple[str, ...] = ()) -> Done:
        code = self.process.wait(PATIENCE)
        return Done(
            code=code,
            stdout=(self.folder / "stdout").read_text(),
            stderr=(self.folder / "stderr").read_text(),
            seconds=time.monotonic() - since,
            signals=signals,
        )


def plain_lines(text: str) -> Sequence[str]:
    """The lines that are no messages to the runner about what to mask."""
    return [line for line in text.splitlines() if not line.startswith("::add-mask::")]
