"""Running a command in a pod: its streams apart, its exit code, and its end with everything it started."""

from __future__ import annotations

import secrets
import shlex
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import asyncssh

from runner_provisioner.errors import OutOfTime, SshFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Sink = Callable[[bytes], Awaitable[None]]
MARK = "RUNNER_PROVISIONER_EXEC"
_PIECE = 1 << 16
_BY_SIGNAL = 128
_FAREWELL = 20.0  # seconds: looking through the processes of a pod that is busy takes some
# sshd refuses to pass on signals for root (session_signal_req), so what is to end is found by the mark in its
# environment, which its children inherit.
_END = """\
find() { grep -lsa "MARK" /proc/[0-9]*/environ | cut -d/ -f3; }
for p in $(find); do kill -TERM "$p"; done
t=$(date +%s); while [ "$(find)" ] && [ $(($(date +%s) - t)) -lt 2 ]; do sleep 0.1; done
for p in $(find); do kill -KILL "$p"; done"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Where a command's output goes piece by piece, and where its input comes from (None: it has none)."""

    stdout: Sink
    stderr: Sink
    stdin: AsyncIterator[bytes] | None = None


def command_line(words: Sequence[str]) -> str:
    """What the pod's shell is given: one word is a line of shell, several are a program and exactly its arguments."""
    return words[0] if len(words) == 1 else shlex.join(words)


async def execute(
    connection: asyncssh.SSHClientConnection, command: str, streams: Streams, *, limit: float | None = None
) -> int:
    """Run a shell command; gives its exit code, 128 + n when signal n ended it.

    After `limit` seconds, and when this is cancelled or a stream fails, the command and all it started are ended in
    the pod; then OutOfTime, or what it was, is raised. SshFailed when the connection breaks before the command ends.
    """
    mark = f"{MARK}={secrets.token_hex(16)}"
    ended = False
    try:
        with anyio.fail_after(limit):
            status = await _run(connection, f'exec env {mark} "${{SHELL:-/bin/sh}}" -c {shlex.quote(command)}', streams)
            ended = True
            return status
    except TimeoutError as error:
        raise OutOfTime(f"the command did not end within {limit:g} s: it was ended in the pod") from error
    finally:
        if not ended:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_FAREWELL):
                await _end(connection, mark)


async def answer(connection: asyncssh.SSHClientConnection, command: str, *, limit: float = 20.0) -> tuple[int, str]:
    """Run a short question; its exit code and what it printed (at most 1 MiB of it)."""
    said = bytearray()

    async def keep(piece: bytes) -> None:
        if len(said) < 1 << 20:
            said.extend(piece)

    async def drop(_piece: bytes) -> None:
        pass

    status = await execute(connection, command, Streams(stdout=keep, stderr=drop), limit=limit)
    return status, said.decode("utf-8", "replace")


async def _run(connection: asyncssh.SSHClientConnection, line: str, streams: Streams) -> int:
    # Without a terminal: stdout and stderr would be one.
    process = await connection.create_process(line, encoding=None, request_pty=False)
    async with anyio.create_task_group() as group:
        if streams.stdin is None:
            process.stdin.write_eof()
        else:
            group.start_soon(_feed, process.stdin, streams.stdin)
        async with anyio.create_task_group() as outputs:
            outputs.start_soon(_drain, process.stdout, streams.stdout)
            outputs.start_soon(_drain, process.stderr, streams.stderr)
        await process.wait_closed()
        group.cancel_scope.cancel()
    return _status(process)


def _status(process: asyncssh.SSHClientProcess[bytes]) -> int:
    if process.exit_signal is not None:
        name = process.exit_signal[0]
        number = getattr(signal, f"SIG{name}", None)
        return _BY_SIGNAL + (int(number) if number is not None else 0)
    if process.exit_status is None:
        raise SshFailed("the SSH connection broke before the command ended: see with 'info' whether the pod still runs")
    return process.exit_status


async def _drain(reader: asyncssh.SSHReader[bytes], sink: Sink) -> None:
    while piece := await _piece(reader):
        await sink(piece)


async def _piece(reader: asyncssh.SSHReader[bytes]) -> bytes:
    try:
        return await reader.read(_PIECE)
    except (OSError, asyncssh.Error):
        return b""  # a broken connection is told by the missing exit code


async def _feed(writer: asyncssh.SSHWriter[bytes], source: AsyncIterator[bytes]) -> None:
    try:
        async for piece in source:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
    except (OSError, asyncssh.Error):
        return  # the command reads no more; how it ends is told by its exit code


async def _end(connection: asyncssh.SSHClientConnection, mark: str) -> None:
    if connection.is_closed():
        return
    try:
        await connection.run(_END.replace("MARK", mark), check=False, encoding=None)
    except (OSError, asyncssh.Error):
        return  # the connection has gone, and with it what could be ended
