"""The HTTP service in one process: its application over real adapters and simulators, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from support.fakes import FakeHistory, Memory
from support.service_state import State
from support.stages import Provider, Stage, stage_of
from support.virtual_time import VirtualClock, VirtualLoop, run
from support.wire import Rule, Wire, answered

from runner_provisioner import wiring
from runner_provisioner._http import Plumbing, Tempo
from runner_provisioner._redaction import Redactor
from runner_provisioner.controller.app import create_app
from runner_provisioner.controller.metrics import MeteredCalls, Metrics
from runner_provisioner.controller.parts import Parts
from runner_provisioner.controller.serving import Choices, build
from runner_provisioner.settings import Settings
from runner_provisioner.simulators.serving import ConnectionCut, NeverAnswered

BASE = "http://127.0.0.1:8000"
BOOT = 20.0


@dataclass
class Network:
    """Where the service's own requests go."""

    clock: VirtualClock
    stages: list[Stage]
    instead: Callable[[httpx.Request], httpx.Response | None] = lambda _request: None

    async def deliver(self, request: httpx.Request) -> httpx.Response:
        """Let it arrive, unless it is answered `instead`."""
        other = self.instead(request)
        if other is not None:
            return other
        app = next(one.sim.app for one in self.stages if one.host == request.url.host)
        try:
            return await answered(app, request)
        except NeverAnswered:
            raise httpx.ReadTimeout("never answered", request=request) from None
        except ConnectionCut as error:
            raise httpx.ReadError(str(error), request=request) from error


@dataclass(kw_only=True)
class Scene:
    """The markets, and what survives the service's processes."""

    folder: Path
    loop: VirtualLoop
    providers: tuple[Provider, ...] = (Provider.RUNPOD,)
    state: State = field(default_factory=State)
    environ: Mapping[str, str] = field(default_factory=dict)
    instead: Callable[[httpx.Request], httpx.Response | None] = lambda _request: None

    def __post_init__(self) -> None:
        self.clock = VirtualClock(self.loop)
        self.stages = [stage_of(one, self.clock, boot=BOOT, list_lag=0.0, spot=False) for one in self.providers]
        self.events = Memory()
        self.history = FakeHistory()
        self.redactor = Redactor()

    @property
    def settings(self) -> Settings:
        """What the environment says."""
        environ = {
            **{name: value for stage in self.stages for name, value in stage.environ.items()},
            "GITHUB_REPOSITORY": "o/r",
            "RUNNER_PROVISIONER_SETTLE": "2",
            "RUNNER_PROVISIONER_RETRY_BASE": "0.1",
            "RUNNER_PROVISIONER_RATE_PER_SECOND": "1000",
            "RUNNER_PROVISIONER_RATE_PER_MINUTE": "10000",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            **self.environ,
        }
        return Settings.read(environ, home=self.folder, cwd=self.folder)

    def parts(self, metrics: Metrics, rule: Rule | None = None, choices: Choices | None = None) -> Parts:
        """Those of one process."""
        settings = self.settings
        tempo = Tempo(request_timeout=settings.request_timeout, retry_base=settings.retry_base)
        plumbing = Plumbing(
            clock=self.clock,
            redactor=self.redactor,
            tempo=tempo,
            metrics=MeteredCalls(metrics),
            transport=Wire(Network(self.clock, self.stages, self.instead), rule),
            user_agent="runner-provisioner/test",
        )
        program = wiring.Program(
            settings=settings,
            clock=self.clock,
            tempo=tempo,
            metrics=plumbing.metrics,
            redactor=self.redactor,
            events=self.events,
            plumbing=plumbing,
            providers=wiring.providers_of(settings, plumbing),
            history=self.history,
        )
        return build(program, self.state, metrics, choices or Choices())

    @asynccontextmanager
    async def served(
        self, *, rule: Rule | None = None, choices: Choices | None = None, key: str | None = None
    ) -> AsyncIterator[Client]:
        """A process of the service, and a client of it; without its round."""
        parts = self.parts(Metrics(), rule, choices)

        @asynccontextmanager
        async def opened() -> AsyncIterator[Parts]:
            yield parts

        app = create_app(opened, hosts=parts.hosts)
        app.state.parts = parts
        headers = {"authorization": f"Bearer {key}"} if key is not None else {}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers) as http:
            yield Client(http=http, parts=parts)

    def pods(self) -> list[Any]:
        """Every pod that there ever was."""
        return [pod for stage in self.stages for pod in stage.sim.pods()]

    def live(self) -> list[Any]:
        """Pods that cost money."""
        return [pod for stage in self.stages for pod in stage.sim.live()]

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await self.clock.sleep(seconds)


@dataclass(kw_only=True)
class Client:
    """Somebody who uses the service."""

    http: httpx.AsyncClient
    parts: Parts

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own options
        """Send a request."""
        return await self.http.request(method, path, **more)

    async def well(self, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401 - JSON
        """Send one that is answered with a 200; its JSON."""
        answer = await self.ask(method, path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()


def play(
    folder: Path,
    act: Callable[[Scene], Awaitable[None]],
    *providers: Provider,
    **more: Any,  # noqa: ANN401 - of a Scene
) -> Scene:
    """Let it happen in a scene of these markets; the scene afterwards."""
    scenes: list[Scene] = []

    async def main(loop: VirtualLoop) -> None:
        scene = Scene(folder=folder, loop=loop, providers=providers or (Provider.RUNPOD,), **more)
        scenes.append(scene)
        await act(scene)

    run(main)
    return scenes[0]


DAY = timedelta(days=1)
