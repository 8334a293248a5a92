"""The program itself as a process of its own, as a workflow's step would run it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio
import anyio.abc
from anyio.streams.text import TextReceiveStream

from runner_provisioner.simulators.demo.files import Masks

# GitHub's runner gives a cancelled step 7.5 s after SIGINT and 2.5 s more after SIGTERM (ProcessInvoker).
AFTER_INT, AFTER_TERM = 7.5, 2.5
KEPT = "PATH LANG LC_ALL LC_CTYPE TZ TERM PYTHONPATH PYTHONDONTWRITEBYTECODE COVERAGE_PROCESS_CONFIG"

Say = Callable[[str, str], None]


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What is kept of an environment: nothing that could hold a credential or lead to one."""
    return {name: environ[name] for name in KEPT.split() if name in environ}


class Commands(Protocol):
    """Whoever runs this program's commands."""

    async def run(self, arguments: Sequence[str], *, prefix: str, env: Mapping[str, str], folder: str) -> int:
        """Run one to its end; the exit code."""
        ...


@dataclass(kw_only=True)
class Program:
    """Runs commands of this program; `say` gets (prefix, line) for each line, without what was masked."""

    environ: Mapping[str, str] = field(repr=False)
    say: Say
    arguments: Sequence[str] = (sys.executable, "-m", "runner_provisioner")
    masks: Masks = field(default_factory=Masks)

    async def run(self, arguments: Sequence[str], *, prefix: str, env: Mapping[str, str], folder: str) -> int:
        """Run it to its end; the exit code. When cancelled it is signalled as GitHub's runner does it."""
        command = [*self.arguments, *arguments]
        process = await anyio.open_process(
            command, env={**self.environ, **env}, cwd=folder, stdin=None, start_new_session=True
        )
        try:
            async with anyio.create_task_group() as group:
                for stream in (process.stdout, process.stderr):
                    if stream is not None:
                        group.start_soon(self._forward, stream, prefix)
            return await process.wait()
        finally:
            await _end(process)

    async def _forward(self, stream: anyio.abc.ByteReceiveStream, prefix: str) -> None:
        rest = ""
        async for text in TextReceiveStream(stream, errors="replace"):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                self._show(prefix, line)
        if rest:
            self._show(prefix, rest)

    def _show(self, prefix: str, line: str) -> None:
        shown = self.masks.shown(line.rstrip("\r"))
        if shown is not None:
            self.say(prefix, shown)


async def _end(process: anyio.abc.Process) -> None:
    with anyio.CancelScope(shield=True):
        for number, seconds in ((signal.SIGINT, AFTER_INT), (signal.SIGTERM, AFTER_TERM), (signal.SIGKILL, None)):
            if process.returncode is not None:
                break
            process.send_signal(number)
            with anyio.move_on_after(seconds if seconds is not None else AFTER_INT):
                await process.wait()
        await process.aclose()
