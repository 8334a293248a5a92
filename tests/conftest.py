"""What every test shares."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import coverage
import pytest
from support.counting import CASES

if TYPE_CHECKING:
    from support.postgres import Server


def pytest_configure() -> None:
    """Hear SIGINT, as every process that a test starts does then.

    Who runs the tests in the background of a shell script passes on an ignored SIGINT, and bash can never undo that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through thousands of tests again and again: they stay to the end."""
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, the one event loop that is shipped."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this test run's own; skips where there is none to start."""
    from support.postgres import WHY_NONE, binaries, server  # noqa: PLC0415 - its driver is slow to import

    programs = binaries()
    if programs is None:
        pytest.skip(WHY_NONE)
    with server(programs) as one:
        yield one


@pytest.fixture
def machine_alone() -> Iterator[None]:
    """Keep other workers' tests from changing the machine's files while this one compares them."""
    with Path(tempfile.gettempdir(), f"runner-provisioner-tests-{os.geteuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """Take no part in the measure of coverage.

    For tests that are long and reach nothing that others do not: measured they take more than twice as long.
    """
    stopped = []
    # A worker of pytest-xdist has two of them, and the one below goes on when the one above stops.
    while (measure := coverage.Coverage.current()) is not None:
        measure.stop()
        stopped.append(measure)
    yield
    for measure in reversed(stopped):
        measure.start()


def _counts(terminalreporter: pytest.TerminalReporter) -> Iterator[int]:
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == CASES:
                yield int(str(value))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many cases the product had, whatever process played them."""
    counts = list(_counts(terminalreporter))
    if counts:
        terminalreporter.write_line(f"{sum(counts)} {CASES}, in {len(counts)} scenarios")
