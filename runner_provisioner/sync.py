"""The async core for callers that block: one event loop in a thread of its own."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple

from anyio.from_thread import BlockingPortal, start_blocking_portal

R = TypeVar("R")
Arguments = TypeVarTuple("Arguments")


class Blocking:
    """Runs coroutine functions from ordinary code, from any thread.

    The event loop is started by the first `call` and ended by `close`, the `with` block, or the interpreter's exit; a
    call after `close` starts another one. A forked child gets a loop of its own.
    """

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._lock = threading.Lock()
        self._stack: contextlib.ExitStack | None = None
        self._portal: BlockingPortal | None = None
        self._inherited: list[contextlib.ExitStack] = []
        self._process = 0
        self._endings: list[Callable[[], Awaitable[None]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, function: Callable[[*Arguments], Awaitable[R]], *arguments: *Arguments) -> R:
        """Run `function(*arguments)` to its end and return what it returns or raise what it raises.

        An interruption (Ctrl-C) cancels it. Raises RuntimeError when called from inside the loop itself.
        """
        future = self._started().start_task_soon(function, *arguments)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def at_end(self, ending: Callable[[], Awaitable[None]]) -> None:
        """Await `ending()` inside the loop when it is closed, the last one first (sessions have to be closed there)."""
        self._endings.append(ending)

    def close(self) -> None:
        """Run the endings and stop the loop; without a loop, nothing happens."""
        with self._lock:
            if self._stack is None or self._portal is None or self._process != os.getpid():
                return
            stack, portal, self._stack, self._portal = self._stack, self._portal, None, None
        atexit.unregister(self.close)
        with stack:
            while self._endings:
                portal.call(self._endings.pop())

    def _started(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None or self._process != os.getpid():
                if self._stack is not None:
                    # Finalising it here would wait for a thread that exists in the parent alone.
                    self._inherited.append(self._stack)
                self._stack = contextlib.ExitStack()
                self._portal = self._stack.enter_context(start_blocking_portal("asyncio", name="runner-provisioner"))
                self._process = os.getpid()
                atexit.register(self.close)
            return self._portal
