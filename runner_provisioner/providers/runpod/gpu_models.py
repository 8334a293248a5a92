"""The GPU models that RunPod knows, whichever API tells them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from runner_provisioner.domain.offers import GpuRequest, GpuType
from runner_provisioner.providers.runpod.gpu_cache import GpuCache
from runner_provisioner.providers.runpod.models import find, refuse


class GpuModels:
    """All models, at most an hour old."""

    def __init__(self, cache: GpuCache, fetch: Callable[[], Awaitable[Sequence[GpuType]]]) -> None:
        self._cache = cache
        self._fetch = fetch

    async def all(self) -> Sequence[GpuType]:
        """Rentable or not."""
        cached = self._cache.load()
        return cached if cached is not None else await self._fresh()

    async def wanted(self, request: GpuRequest) -> Sequence[GpuType]:
        """The named models, or all that have the memory; MIG slices are listed and never rented (gpuhunt)."""
        if request.models:
            return await self.resolve(request.models)
        least = request.min_vram_gb or 0
        return [gpu for gpu in await self.all() if gpu.memory_gb >= least and " MIG " not in f" {gpu.id} "]

    async def resolve(self, names: Sequence[str]) -> Sequence[GpuType]:
        """The models of these ids or displayed names, in any case, each once; raises UnknownGpu."""
        known = await self.all()
        if any(find(name, known) is None for name in names):
            known = await self._fresh()  # a model may be newer than the cache
        found = {gpu.id: gpu for gpu in (find(name, known) or refuse(name, known) for name in names)}
        return list(found.values())

    async def _fresh(self) -> Sequence[GpuType]:
        found = await self._fetch()
        self._cache.save(found)
        return found
