"""The Lium adapter over the simulator, in one process and on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from contract.test_celium_contract import CeliumWorld, worlds


@pytest.fixture
async def world() -> AsyncIterator[CeliumWorld]:
    """The adapter and the service behind it."""
    async for world in worlds(real=False):
        yield world
