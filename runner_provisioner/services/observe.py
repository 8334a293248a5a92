"""Looking at the world: every provider and the registry, by name and by id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio

from runner_provisioner.domain.leases import Lease, Observation, PodRef, Unknown, ref
from runner_provisioner.domain.pods import Pod
from runner_provisioner.domain.runners import Runner
from runner_provisioner.errors import RemoteError
from runner_provisioner.ports import GpuProvider, RunnerRegistry


class Looks(Protocol):
    """Whoever looks at the world for a lease."""

    async def look(self, lease: Lease) -> Observation:
        """See everything; what could not be looked at is Unknown. Never raises a RemoteError."""
        ...

    async def look_at_runner(self, lease: Lease, before: Observation) -> Observation:
        """See the runner anew and take the pods as they were a moment ago."""
        ...


@dataclass
class _Pods:
    """What the providers said; `trouble` is the first look that failed."""

    there: dict[PodRef, Pod] = field(default_factory=dict)
    gone: set[PodRef] = field(default_factory=set)
    trouble: Unknown | None = None

    def fail(self, error: RemoteError) -> None:
        self.trouble = self.trouble or Unknown(reason=str(error), error=error)


class Lookout:
    """One who looks: at the pods of a lease's name over all providers, and at the runner of that name."""

    def __init__(self, *, providers: Mapping[str, GpuProvider], registry: RunnerRegistry, owner8: str) -> None:
        self._providers = providers
        self._registry = registry
        self._owner8 = owner8

    async def look(self, lease: Lease) -> Observation:
        """See everything; what could not be looked at is Unknown. Never raises a RemoteError."""
        pods = _Pods()
        runner: list[Runner | Unknown | None] = []
        async with anyio.create_task_group() as group:
            group.start_soon(self._look_at_runner, lease.name, runner)
            for provider in self._providers.values():
                group.start_soon(self._look_at_pods, provider, lease, pods)
        seen = pods.trouble or tuple(sorted(pods.there.values(), key=lambda pod: (pod.provider, pod.id)))
        return Observation(pods=seen, runner=runner[0], gone=frozenset(pods.gone))

    async def look_at_runner(self, lease: Lease, before: Observation) -> Observation:
        """See the runner anew and take the pods as they were a moment ago."""
        runner: list[Runner | Unknown | None] = []
        await self._look_at_runner(lease.name, runner)
        return replace(before, runner=runner[0], fresh=False)

    async def _look_at_runner(self, name: str, found: list[Runner | Unknown | None]) -> None:
        try:
            found.append(await self._registry.find(name))
        except RemoteError as error:
            found.append(Unknown(reason=str(error), error=error))

    async def _look_at_pods(self, provider: GpuProvider, lease: Lease, pods: _Pods) -> None:
        known = {one for one in lease.known if one.provider == provider.name}
        try:
            listed = await provider.list(self._owner8)
        except RemoteError as error:
            pods.fail(error)
            listed = ()
        named = {ref(pod) for pod in listed if pod.name == lease.name}
        async with anyio.create_task_group() as group:
            for one in sorted(named | known):
                group.start_soon(self._read, provider, one, pods)

    async def _read(self, provider: GpuProvider, one: PodRef, pods: _Pods) -> None:
        try:
            pod = await provider.get(one.id)
        except RemoteError as error:
            pods.fail(error)
            return
        if pod is None:
            pods.gone.add(one)
        else:
            pods.there[one] = pod
