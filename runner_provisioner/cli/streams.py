"""This process's own streams, byte for byte; imported when a command runs."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from runner_provisioner.errors import OutputLost

_PIECE = 1 << 16
# A pipe that is ready takes at least so much without blocking (POSIX, PIPE_BUF on Linux).
_AT_ONCE = 4096


def outlet(number: int) -> Callable[[bytes], Awaitable[None]]:
    """Writes to stdout (1) or stderr (2) as it is, without stopping everything while the reader is slow."""

    async def write(piece: bytes) -> None:
        left = memoryview(piece)
        try:
            while left:
                left = left[await _some(number, left) :]
        except OSError as error:
            raise OutputLost(
                f"the output could not be passed on ({error.strerror}): send it to a reader that stays"
            ) from error

    return write


async def _some(number: int, left: memoryview) -> int:
    try:
        await anyio.wait_writable(number)
    except PermissionError:
        return os.write(number, left)  # a file: always ready, and nothing that can be waited for
    return os.write(number, left[:_AT_ONCE])


def own_input() -> AsyncIterator[bytes] | None:
    """What is piped into this command; None when a person sits there."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    try:
        number = sys.stdin.fileno()
    except (OSError, ValueError):
        return None
    return _pieces(number)


async def _pieces(number: int) -> AsyncIterator[bytes]:
    """Read by a thread that nobody waits for: a read of a pipe cannot be called off."""
    loop = asyncio.get_running_loop()
    send, receive = anyio.create_memory_object_stream[bytes](0)

    def pump() -> None:
        try:
            while piece := os.read(number, _PIECE):
                asyncio.run_coroutine_threadsafe(send.send(piece), loop).result()
            loop.call_soon_threadsafe(send.close)
        except (RuntimeError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # the command is over

    threading.Thread(target=pump, daemon=True, name="stdin").start()
    async with receive:
        async for piece in receive:
            yield piece
