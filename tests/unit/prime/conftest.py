"""A Prime Intellect that answers what the test says, and an adapter that talks to it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from runner_provisioner import logging as logs
from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.logging import Redactor, configure
from runner_provisioner.providers.prime import PrimeApi, PrimeProvider
from runner_provisioner.testing.clock import FakeClock

KEY = "pit_PLANTEDKEY0000"
URL = "https://prime.test"


@dataclass
class Script:
    """Answers in order (the last one for ever), and what was asked."""

    steps: list[httpx.Response | Exception] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)

    def say(self, body: object, status: int = 200, **headers: str) -> None:
        """Answer this as JSON next."""
        self.steps.append(httpx.Response(status, json=body, headers=headers))

    def text(self, body: str, status: int = 200, **headers: str) -> None:
        """Answer something that is no JSON next."""
        self.steps.append(
            httpx.Response(status, text=body, headers={name.replace("_", "-"): headers[name] for name in headers})
        )

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
    def asked(self) -> list[str]:
        """Method and address of each request."""
        return [f"{request.method} {request.url}" for request in self.requests]

    @property
    def bodies(self) -> list[Any]:
        """What was sent."""
        return [json.loads(request.content) for request in self.requests if request.content]


@pytest.fixture
def clock() -> FakeClock:
    """The program's time."""
    return FakeClock()


@pytest.fixture
def script() -> Script:
    """What it answers."""
    return Script()


@pytest.fixture
def redactor() -> Redactor:
    """What knows the secrets."""
    return Redactor()


@pytest.fixture
async def api(script: Script, clock: FakeClock, redactor: Redactor) -> AsyncIterator[PrimeApi]:
    """The verbs on the wire."""
    plumbing = Plumbing(
        clock=clock,
        redactor=redactor,
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="test",
        transport=httpx.MockTransport(script.handle),
    )
    connected = PrimeApi.connect(url=URL, api_key=KEY, plumbing=plumbing, team_id="team1")
    yield connected
    await connected.aclose()


@pytest.fixture
def prime(api: PrimeApi, clock: FakeClock) -> PrimeProvider:
    """The port."""
    return PrimeProvider(api, clock=clock)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything logged, as JSON lines."""
    stream = io.StringIO()
    configure(mode="json", level="debug", redactor=Redactor(), stream=stream)
    yield stream
    if logs._output.handler is not None:
        logging.getLogger().removeHandler(logs._output.handler)
    logs._output.__init__()  # type: ignore[misc]
