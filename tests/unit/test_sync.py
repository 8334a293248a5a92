"""The blocking facade: one loop, from any thread, always ended."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import pytest

from runner_provisioner.sync import Blocking


async def double(number: int) -> int:
    """Take a turn, then answer."""
    await anyio.lowlevel.checkpoint()
    return 2 * number


async def thread_name() -> str:
    """Where the loop runs."""
    return threading.current_thread().name


def test_call_returns_what_the_coroutine_returns() -> None:
    """Also from several threads at once, all in one loop."""
    with Blocking() as blocking, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda number: blocking.call(double, number), range(8))) == [0, 2, 4, 6, 8, 10, 12, 14]
        assert blocking.call(thread_name) == "runner-provisioner"


def test_call_raises_what_the_coroutine_raises() -> None:
    """Typed errors arrive as they are, and the loop lives on."""

    async def fail() -> None:
        raise KeyError("x")

    with Blocking() as blocking:
        with pytest.raises(KeyError, match="x"):
            blocking.call(fail)
        assert blocking.call(double, 2) == 4


def test_close_runs_the_endings_in_the_loop_last_first_and_may_be_repeated() -> None:
    """Sessions are closed where they live; a later call starts anew."""
    done: list[str] = []

    async def first() -> None:
        done.append("first " + await thread_name())

    async def second() -> None:
        done.append("second")

    blocking = Blocking()
    blocking.close()
    blocking.at_end(first)
    blocking.at_end(second)
    assert blocking.call(double, 1) == 2
    blocking.close()
    blocking.close()
    assert done == ["second", "first runner-provisioner"]
    with blocking:
        assert blocking.call(double, 3) == 6


def test_call_from_inside_the_loop_is_refused() -> None:
    """Waiting for oneself would never end."""
    with Blocking() as blocking:

        async def inside() -> int:
            return blocking.call(double, 1)

        with pytest.raises(RuntimeError, match="event loop"):
            blocking.call(inside)


def test_interruption_cancels_what_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the waiting thread ends the coroutine too."""
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    class Interrupted:
        """A future whose wait is interrupted."""

        def __init__(self, future: object) -> None:
            """Keep the real one."""
            self.future = future

        def result(self) -> None:
            """Be interrupted."""
            raise KeyboardInterrupt

        def cancel(self) -> None:
            """Cancel the real one."""
            self.future.cancel()  # type: ignore[attr-defined]

    with Blocking() as blocking:
        portal = blocking._started()
        start = portal.start_task_soon
        monkeypatch.setattr(portal, "start_task_soon", lambda *given: Interrupted(start(*given)))
        with pytest.raises(KeyboardInterrupt):
            blocking.call(wait)
        assert cancelled.wait(5)
        monkeypatch.undo()


def run(program: str) -> str:
    """What a program prints; it has to end by itself."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout + done.stderr


def test_interpreter_ends_without_close() -> None:
    """A forgotten close neither hangs the exit nor skips the endings."""
    printed = run(
        """
        import anyio
        from runner_provisioner.sync import Blocking
        blocking = Blocking()
        async def ending():
            print("closed")
        blocking.at_end(ending)
        blocking.call(anyio.sleep, 0)
        """
    )
    assert printed == "closed\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_gets_a_loop_of_its_own() -> None:
    """The parent's thread does not exist in the child: neither calls nor close may wait for it."""
    printed = run(
        """
        import os, warnings
        warnings.simplefilter("ignore")
        from runner_provisioner.sync import Blocking
        async def pid():
            return os.getpid()
        blocking = Blocking()
        parent = blocking.call(pid)
        if os.fork() == 0:
            blocking.close()
            print(blocking.call(pid) == os.getpid() != parent, flush=True)
            blocking.close()
            os._exit(0)
        os.wait()
        print(blocking.call(pid) == parent)
        blocking.close()
        """
    )
    assert printed == "True\nTrue\n"
