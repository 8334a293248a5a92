"""A RunPod that answers what the test says, and an adapter that talks to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner_provisioner._http import CallMetrics, Pace, Plumbing, Tempo
from runner_provisioner.logging import Redactor
from runner_provisioner.providers.runpod import RunPodApi, RunPodProvider
from runner_provisioner.testing.clock import FakeClock

KEY = "rpa_PLANTEDKEY0000"
URL = "http://127.0.0.1:9/graphql"
Step = httpx.Response | Exception


@dataclass
class Script:
    """Answers in order (the last one for ever), and what was asked."""

    steps: list[Step] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)

    def data(self, **data: object) -> None:
        """Answer 200 with this data next."""
        self.steps.append(httpx.Response(200, json={"data": data}))

    def error(self, message: str, code: str = "RUNPOD", *, status: int = 200, **notes: object) -> None:
        """Answer a GraphQL error next."""
        complaint = {"message": message, "extensions": {"code": code, **notes}}
        self.steps.append(httpx.Response(status, json={"data": None, "errors": [complaint]}))

    def text(self, status: int, body: str, **headers: str) -> None:
        """Answer something that is no JSON next."""
        self.steps.append(httpx.Response(status, text=body, headers=headers))

    def fail(self, error: Exception) -> None:
        """Let the transport fail next."""
        self.steps.append(error)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        """Be the transport."""
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step.status_code, content=step.content, headers=step.headers)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was sent."""
        return [json.loads(request.content) for request in self.requests]

    @property
    def sent(self) -> dict[str, Any]:
        """The input of the last mutation."""
        found: dict[str, Any] = self.bodies[-1]["variables"]["input"]
        return found


@pytest.fixture
def clock() -> FakeClock:
    """Time that jumps."""
    return FakeClock()


@pytest.fixture
def script() -> Script:
    """What RunPod answers."""
    return Script()


@pytest.fixture
def plumbing(script: Script, clock: FakeClock) -> Plumbing:
    """The shared plumbing over the script."""
    return Plumbing(
        clock=clock,
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        transport=httpx.MockTransport(script.handle),
        user_agent="test",
    )


@pytest.fixture
async def api(plumbing: Plumbing) -> AsyncIterator[RunPodApi]:
    """The verbs."""
    made = RunPodApi.connect(url=URL, api_key=KEY, plumbing=plumbing, pace=Pace(per_second=1000, per_minute=100000))
    yield made
    await made.aclose()


@pytest.fixture
def provider(api: RunPodApi, clock: FakeClock, tmp_path: Path) -> RunPodProvider:
    """The adapter."""
    return RunPodProvider(api, clock=clock, cache_dir=tmp_path / "cache")


@pytest.fixture
def pod_answer() -> Callable[..., dict[str, Any]]:
    """Build a pod as RunPod answers it."""

    def build(**changes: object) -> dict[str, Any]:
        pod: dict[str, Any] = {
            "id": "pod1",
            "name": "rp-0123abcd-1-1-default",
            "imageName": "runpod/base:1",
            "desiredStatus": "RUNNING",
            "lastStatusChange": "Rented by User: Sun Nov 01 2026",
            "lastStartedAt": "2026-11-01 12:00:05.5 +0000 UTC",
            "createdAt": "2026-11-01T12:00:00Z",
            "podType": "RESERVED",
            "costPerHr": 0.34,
            "env": ["RP_OWNER=0123abcd", "RP_CLASS=runner", "A=b=c", "odd"],
            "ports": "22/tcp",
            "gpuCount": 1,
            "machine": {"podHostId": "pod1-1", "gpuTypeId": "NVIDIA RTX A4000", "gpuDisplayName": "RTX A4000"},
            "runtime": None,
            "latestTelemetry": None,
        }
        return pod | changes

    return build
