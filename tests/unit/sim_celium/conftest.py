"""A simulated Lium with inert pods on a clock that jumps, asked in process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.celium import CeliumSimulator, executor_id
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock

HOST = "lium.io"
PUBLIC = "ssh-ed25519 AAAA me"


@pytest.fixture
def clock() -> FakeClock:
    """The simulator's time."""
    return FakeClock()


@pytest.fixture
def sim(clock: FakeClock) -> CeliumSimulator:
    """The service."""
    return CeliumSimulator(clock)


@pytest.fixture
async def web(sim: CeliumSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the account's key; addresses are relative to /api."""
    async with httpx.AsyncClient(
        transport=InProcess({HOST: sim.app}), base_url=f"https://{HOST}/api", headers={"X-API-KEY": sim.key}
    ) as session:
        yield session


@pytest.fixture
def send(web: httpx.AsyncClient) -> Callable[..., Awaitable[httpx.Response]]:
    """Rent with these fields: `on` names the executor, `token` is the Idempotency-Key, `key` another credential."""

    async def rent(
        on: str = "a4000", *, token: str | None = None, key: str | None = None, **fields: object
    ) -> httpx.Response:
        body = {"pod_name": "ci-1", "template_id": None, "user_public_key": [PUBLIC], "gpu_count": 1, **fields}
        headers = {"Idempotency-Key": token} if token else {}
        if key:
            headers["X-API-KEY"] = key
        return await web.post(f"/executors/{executor_id(on)}/rent", json=body, headers=headers)

    return rent


@pytest.fixture
def rent(send: Callable[..., Awaitable[httpx.Response]]) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Rent a pod and give it as answered."""

    async def rented(on: str = "a4000", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the body
        answered = await send(on, **fields)
        assert answered.status_code == 200, answered.text
        pod: dict[str, Any] = answered.json()
        return pod

    return rented


@pytest.fixture
def template(web: httpx.AsyncClient) -> Callable[..., Awaitable[str]]:
    """Create a template with these fields; its id."""

    async def create(startup: str = "sleep infinity", **fields: object) -> str:
        body = {"name": "t", "docker_image": "octo/runner", "startup_commands": startup, **fields}
        answered = await web.post("/templates", json=body)
        assert answered.status_code == 200, answered.text
        return str(answered.json()["id"])

    return create


@pytest.fixture
def look(web: httpx.AsyncClient) -> Callable[[str], Awaitable[dict[str, Any]]]:
    """Read one pod."""

    async def read(pod_id: str) -> dict[str, Any]:
        answered = await web.get(f"/pods/{pod_id}")
        assert answered.status_code == 200, answered.text
        pod: dict[str, Any] = answered.json()
        return pod

    return read
