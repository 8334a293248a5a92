"""What every test shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.counting import CASES


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, the one event loop that is shipped."""
    return "asyncio"


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
