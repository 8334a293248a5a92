"""In-process pods that boot bare, and the way into them: requests on the process's own wire, so that faults strike."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from support.handing import PODS

from runner_provisioner.domain.bare import Inside, Stage
from runner_provisioner.domain.gate import PodPhase, PodReport
from runner_provisioner.errors import SshFailed
from runner_provisioner.simulators.market.pods import RentedPod

if TYPE_CHECKING:
    from support.inprocess import World
    from support.wire import Wire

    from runner_provisioner.domain.pods import Pod, PodSpec
    from runner_provisioner.ports import HostKeys

START = "/start"
_ANSWERS = 10.0  # seconds
_FAILED = PodReport(phase=PodPhase.GATE_FAILED, reason="the machine is not what was rented")
Fate = Callable[[Any], None]


class Door:
    """`ports.BareDoor`; the host key that a pod shows first is pinned as the real one does it."""

    def __init__(self, wire: Wire, host_keys: HostKeys) -> None:
        self._wire = wire
        self._host_keys = host_keys

    async def look(self, pod: Pod) -> Inside:
        """How far it is; SHUT while nobody answers."""
        try:
            word = await self._said("GET", pod, "")
        except SshFailed:
            return Inside(stage=Stage.SHUT)
        if word == "failed":
            return Inside(stage=Stage.BEGUN, report=_FAILED)
        return Inside(stage=Stage(word), pinned=self._pin(pod))

    async def begin(self, pod: Pod, spec: PodSpec) -> None:
        """Failed unless the pod said that it took it."""
        if await self._said("POST", pod, json.dumps({"command": spec.command, "env": dict(spec.env)})) != "taken":
            raise SshFailed("the pod did not take it", service="ssh")

    def _pin(self, pod: Pod) -> str | None:
        shown = f"ssh-ed25519 {pod.id}"
        if self._host_keys.known(pod) is not None:
            return None
        assert self._host_keys.pin(pod, shown) == shown
        return "SHA256:" + pod.id

    async def _said(self, method: str, pod: Pod, text: str) -> str:
        try:
            with anyio.fail_after(_ANSWERS):
                async with httpx.AsyncClient(transport=self._wire) as client:
                    answer = await client.request(method, f"https://{PODS}/{pod.id}{START}", content=text)
        except (httpx.HTTPError, TimeoutError) as error:
            raise SshFailed("cut", service="ssh") from error
        if not answer.is_success or answer.text not in {*Stage, "failed", "taken"}:
            raise SshFailed("nonsense", service="ssh")
        return answer.text


class BarePods:
    """The pods, and what becomes of them once somebody has started them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: dict[str, tuple[RentedPod, float, Fate | None]] = {}
        self.failed: set[str] = set()
        """Whose gate has failed."""

    def expect(self, pod: RentedPod, boot: float, fate: Fate | None) -> None:
        """It lets somebody in once it has booted; `fate` is what follows from its start."""
        self._open[pod.id] = (pod, self._world.clock.monotonic() + boot, fate)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What the pod says to who logs in: it begins at most once."""
        found = self._open.get(request.url.path.removeprefix("/").removesuffix(START))
        if found is None or not self._world.alive(found[0]) or self._world.clock.monotonic() < found[1]:
            raise httpx.ConnectError("refused", request=request)
        pod, _, fate = found
        begun = self._world.stage_of(pod).begun  # type: ignore[attr-defined] # of Prime's alone
        if request.method == "GET":
            word = "failed" if pod.id in self.failed else Stage.BEGUN if pod.id in begun else Stage.BARE
            return httpx.Response(200, text=str(word), request=request)
        if pod.id not in begun:
            given = json.loads(request.content)
            begun[pod.id] = (given["command"], given["env"])
            if fate is not None:
                self._world.loop.call_later(self._world.register_delay, fate, pod)
        return httpx.Response(200, text="taken", request=request)
