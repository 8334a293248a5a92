"""The processes of the pods: a thread with an event loop of its own that starts, awaits and stops containers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from runner_provisioner.simulators.pods.host import Container, Launch, PodHost

CLOSE_TIMEOUT = 30.0
_TICK = 0.1


class News(Protocol):
    """Who hears what became of a container; called from the containers' thread."""

    def launched(self, pod_id: str, incarnation: int) -> None:
        """Its command runs."""

    def failed(self, pod_id: str, incarnation: int, reason: str) -> None:
        """It could not be started."""

    def exited(self, pod_id: str, incarnation: int, code: int) -> None:
        """Its command ended."""


class Containers:
    """At most one container per pod; every method may be called from any thread and returns at once."""

    def __init__(self, host: PodHost, news: News, tick: Callable[[], None]) -> None:
        """`tick` is called ten times a second, so that what is due happens though nobody looks."""
        self._host = host
        self._news = news
        self._tick = tick
        self._loop = asyncio.new_event_loop()
        self._turns: dict[str, asyncio.Lock] = {}
        self._present: dict[str, Container] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="simulated-pods", daemon=True)
        self._thread.start()

    def launch(self, launch: Launch, incarnation: int) -> None:
        """Start the pod's next container, after whatever was asked before for this pod."""
        self._submit(self._life(launch, incarnation))

    def stop(self, pod_id: str, grace: float, *, discard: bool) -> None:
        """SIGTERM, SIGKILL after `grace` seconds; `discard` also forgets the pod's volume."""
        self._submit(self._end(pod_id, grace, discard=discard))

    def address(self, pod_id: str, port: int) -> tuple[str, int] | None:
        """Where a port of the pod's container answers."""
        container = self._present.get(pod_id)
        return None if container is None else container.address(port)

    def running(self) -> frozenset[str]:
        """Pods that still have a process."""
        return frozenset(pod_id for pod_id, each in list(self._present.items()) if each.running())

    def close(self) -> None:
        """Kill everything; blocks until it is dead."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(CLOSE_TIMEOUT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT)
        self._loop.close()
        self._host.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._keep(self._ticking())
        self._loop.run_forever()

    def _submit(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop.is_closed():
            work.close()
            return
        self._loop.call_soon_threadsafe(self._keep, work)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _turn(self, pod_id: str) -> asyncio.Lock:
        return self._turns.setdefault(pod_id, asyncio.Lock())

    async def _ticking(self) -> None:
        while True:
            self._tick()
            await asyncio.sleep(_TICK)

    async def _life(self, launch: Launch, incarnation: int) -> None:
        try:
            async with self._turn(launch.pod_id):
                container = await self._host.launch(launch)
                self._present[launch.pod_id] = container
        except Exception as error:  # noqa: BLE001 - whatever a host may raise, the pod just never runs
            self._news.failed(launch.pod_id, incarnation, str(error))
            return
        self._news.launched(launch.pod_id, incarnation)
        code = await container.wait()
        self._news.exited(launch.pod_id, incarnation, code)

    async def _end(self, pod_id: str, grace: float, *, discard: bool) -> None:
        async with self._turn(pod_id):
            container = self._present.get(pod_id)
            if container is not None:
                await container.stop(grace)
                del self._present[pod_id]
            if discard:
                self._host.discard(pod_id)

    async def _shut(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(each.kill() for each in self._present.values()), return_exceptions=True)
