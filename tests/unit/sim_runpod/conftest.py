"""A simulator with inert pods on a clock that jumps, asked in process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.runpod import RunPodSimulator
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock

A4000 = "NVIDIA RTX A4000"
CREATE = """mutation Create($input: PodFindAndDeployOnDemandInput) {
  podFindAndDeployOnDemand(input: $input) { id name desiredStatus costPerHr podType runtime { uptimeInSeconds } }
}"""
RENT = """mutation Rent($input: PodRentInterruptableInput!) {
  podRentInterruptable(input: $input) { id name desiredStatus costPerHr podType runtime { uptimeInSeconds } }
}"""


@pytest.fixture
def clock() -> FakeClock:
    """The simulator's time."""
    return FakeClock()


@pytest.fixture
def sim(clock: FakeClock) -> RunPodSimulator:
    """The service, with a spot market."""
    simulator = RunPodSimulator(clock)
    simulator.market.spot = True
    return simulator


@pytest.fixture
async def web(sim: RunPodSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the account's key."""
    async with httpx.AsyncClient(
        transport=InProcess({"api.runpod.io": sim.app}),
        base_url="https://api.runpod.io",
        headers={"Authorization": f"Bearer {sim.key}"},
    ) as session:
        yield session


@pytest.fixture
def ask(web: httpx.AsyncClient) -> Callable[..., Awaitable[httpx.Response]]:
    """Send a GraphQL request: text, variables, and a key other than the account's."""

    async def send(text: str, variables: dict[str, Any] | None = None, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return await web.post("/graphql", json={"query": text, "variables": variables}, headers=headers)

    return send


@pytest.fixture
def create(ask: Callable[..., Awaitable[httpx.Response]]) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Rent a pod with these fields and give it as answered; `spot` rents it interruptible."""

    async def rent(*, spot: bool = False, **fields: object) -> dict[str, Any]:
        given: dict[str, Any] = {"gpuTypeId": A4000, "imageName": "image", **fields}
        if spot:
            given.setdefault("bidPerGpu", 0.2)
        answered = (await ask(RENT if spot else CREATE, {"input": given})).json()
        pod: dict[str, Any] = answered["data"]["podRentInterruptable" if spot else "podFindAndDeployOnDemand"]
        return pod

    return rent


@pytest.fixture
def look(ask: Callable[..., Awaitable[httpx.Response]]) -> Callable[[str], Awaitable[dict[str, Any] | None]]:
    """Read one pod with everything that moves."""

    async def read(pod_id: str) -> dict[str, Any] | None:
        text = """query Pod($id: String!) { pod(input: {podId: $id}) {
          id name desiredStatus lastStatusChange costPerHr gpuCount podType env ports uptimeSeconds version createdAt
          lastStartedAt imageName dockerArgs machine { podHostId dataCenterId gpuDisplayName secureCloud }
          runtime { uptimeInSeconds ports { ip isIpPublic privatePort publicPort type } gpus { id } }
          latestTelemetry { state time lastStateTransitionTimestamp averageGpuMetrics { percentUtilization } }
        } }"""
        pod: dict[str, Any] | None = (await ask(text, {"id": pod_id})).json()["data"]["pod"]
        return pod

    return read


@pytest.fixture
def refusal() -> Callable[[httpx.Response], str]:
    """The message of a business error, which is HTTP 200 with code RUNPOD and a null field."""

    def message(answered: httpx.Response) -> str:
        assert answered.status_code == 200
        body = answered.json()
        assert list(body["data"].values()) == [None]
        assert body["errors"][0]["extensions"]["code"] == "RUNPOD"
        text: str = body["errors"][0]["message"]
        return text

    return message
