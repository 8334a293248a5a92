"""Time that jumps: as soon as nobody has anything to do, it is the moment of whatever is due next.

Unlike `FakeClock`, which lets time pass for whoever sleeps, this keeps several programs in step with each other, and
the event loop's own deadlines (request timeouts, cancellation windows) obey it too.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

import anyio

from runner_provisioner.testing.clock import EPOCH

T = TypeVar("T")
THREAD_PATIENCE = 60.0  # real seconds


class _Jumping(selectors.DefaultSelector):
    """Never waits for time; waits really only for work in a thread."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if self.loop.elsewhere():
            return super().select(THREAD_PATIENCE)
        if timeout is None:
            raise RuntimeError("everybody waits for something that will never happen")
        self.loop.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that lives in virtual time, in seconds since its making."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._passed = 0.0
        self.elsewhere: Callable[[], bool] = lambda: False
        """Whether a thread is at work whose result must be awaited in real time."""
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds."""
        return self._passed

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._passed += max(0.0, seconds)


class VirtualClock:
    """The Clock of a program that runs in a VirtualLoop."""

    def __init__(self, loop: VirtualLoop) -> None:
        """Tell the loop's time."""
        self._loop = loop

    def now(self) -> datetime:
        """The pretended time."""
        return EPOCH + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        """Seconds since the loop was made."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        await anyio.sleep(seconds)


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run it in a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        return runner.run(main(loop))
