"""A simulated Prime Intellect with inert pods on a clock that jumps, asked in process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.prime import PrimeSimulator
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock

HOST = "api.primeintellect.ai"


@pytest.fixture
def clock() -> FakeClock:
    """The simulator's time."""
    return FakeClock()


@pytest.fixture
def sim(clock: FakeClock) -> PrimeSimulator:
    """The service."""
    return PrimeSimulator(clock)


@pytest.fixture
async def web(sim: PrimeSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the account's key; addresses are relative to /api/v1."""
    async with httpx.AsyncClient(
        transport=InProcess({HOST: sim.app}),
        base_url=f"https://{HOST}/api/v1",
        headers={"Authorization": f"Bearer {sim.key}"},
    ) as session:
        yield session


@pytest.fixture
def order() -> Callable[..., dict[str, Any]]:
    """The body of a creation; keywords are fields of its pod, `provider` and `top` the rest."""

    def body(provider: str = "datacrunch", top: dict[str, Any] | None = None, **fields: object) -> dict[str, Any]:
        pod = {"name": "ci-1", "cloudId": "a4000-1x", "gpuType": "RTXA4000_16GB", "socket": "PCIe", "gpuCount": 1}
        return {"pod": {**pod, "maxPrice": 1.0, **fields}, "provider": {"type": provider}, **(top or {})}

    return body


@pytest.fixture
def create(web: httpx.AsyncClient, order: Callable[..., dict[str, Any]]) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Rent a pod with these fields and give it as answered."""

    async def rent(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the body
        answered = await web.post("/pods", json=order(**fields))
        assert answered.status_code == 200, answered.text
        pod: dict[str, Any] = answered.json()
        return pod

    return rent


@pytest.fixture
def look(web: httpx.AsyncClient) -> Callable[[str], Awaitable[dict[str, Any]]]:
    """Read one pod's status."""

    async def read(pod_id: str) -> dict[str, Any]:
        (told,) = (await web.get("/pods/status", params={"pod_ids": pod_id})).json()["data"]
        status: dict[str, Any] = told
        return status

    return read
