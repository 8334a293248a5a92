"""Asking every market what is for rent."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from runner_provisioner.domain.history import Memory
from runner_provisioner.domain.ladder import Ladder, check, ladder
from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.errors import RemoteError, RunnerProvisionerError, UnknownGpu
from runner_provisioner.ports import GpuProvider


async def survey(providers: Mapping[str, GpuProvider], request: GpuRequest, memory: Memory | None = None) -> Ladder:
    """The ladder over the offers of all markets, ranked by what is remembered of them.

    A market that cannot be asked is passed over while another answers; when none does, the first error is raised.
    Raises UnknownGpu only when no market knows one of the models.
    """
    check(request)
    offers: list[Offer] = []
    errors: dict[str, RunnerProvisionerError] = {}

    async def ask(provider: GpuProvider) -> None:
        try:
            offers.extend(await provider.offers(request))
        except (RemoteError, UnknownGpu) as error:
            errors[provider.name] = error

    async with anyio.create_task_group() as group:
        for provider in providers.values():
            group.start_soon(ask, provider)
    if errors and len(errors) == len(providers):
        raise min(errors.items())[1]
    return ladder(offers, request, memory)
