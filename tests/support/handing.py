"""The way into an in-process pod that waits for its runner's configuration."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import anyio
import httpx

from runner_provisioner.errors import SshFailed
from runner_provisioner.simulators.github.entities import RunnerRecord
from runner_provisioner.simulators.market.pods import RentedPod

if TYPE_CHECKING:
    from support.inprocess import World
    from support.wire import Wire

    from runner_provisioner.domain.pods import Pod

PODS = "pods.test"
TAKES = 10.0  # seconds that a log-in and its command may take


class WayIn:
    """`ports.HandOver` by requests on the process's own wire, so that every fault can strike them."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def waits(self, pod: Pod) -> bool:
        """Not as long as nobody can log in."""
        try:
            return await self._said("GET", pod, "") == "waits"
        except SshFailed:
            return False

    async def give(self, pod: Pod, config: str) -> None:
        """Failed unless the pod said that it took it."""
        if await self._said("POST", pod, config) != "taken":
            raise SshFailed("the pod did not take it", service="ssh")

    async def _said(self, method: str, pod: Pod, text: str) -> str:
        try:
            with anyio.fail_after(TAKES):
                async with httpx.AsyncClient(transport=self._wire) as client:
                    answer = await client.request(method, f"https://{PODS}/{pod.id}", content=text)
        except (httpx.HTTPError, TimeoutError) as error:
            raise SshFailed("cut", service="ssh") from error
        return answer.text


class Waiting:
    """The pods that wait, and what they do with what they are given."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pods: dict[str, RentedPod] = {}
        self.configs: list[str] = []

    def begin(self, pod: RentedPod) -> None:
        """The pod passed its gate."""
        if self._world.alive(pod):
            self._pods[pod.id] = pod

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What the pod says to who logs in."""
        pod = self._pods.get(request.url.path.removeprefix("/"))
        if pod is None or not self._world.alive(pod):
            raise httpx.ConnectError("refused", request=request)
        if request.method == "GET":
            return httpx.Response(200, text="waits", request=request)
        config = request.content.decode()
        self.configs.append(config)
        runner = self._registered(config)
        if runner is None:
            return httpx.Response(200, text="taken", request=request)  # its listener fails, and it waits again
        del self._pods[pod.id]
        runner.played = True
        runner.version = self._world.github.settings.runner_version
        self._world.serves(pod, runner)
        return httpx.Response(200, text="taken", request=request)

    def _registered(self, config: str) -> RunnerRecord | None:
        files = json.loads(base64.b64decode(config))
        shown = json.loads(base64.b64decode(files[".credentials"]))["data"]["clientId"]
        now = self._world.clock.now()
        for runner in self._world.github.runners():
            if runner.credential == shown:
                return runner if runner.usable_until is None or now <= runner.usable_until else None
        return None
