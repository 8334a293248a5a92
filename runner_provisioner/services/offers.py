"""Asking every market what is for rent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from runner_provisioner.domain.history import Memory
from runner_provisioner.domain.ladder import Ladder, check, ladder
from runner_provisioner.domain.offers import GpuRequest
from runner_provisioner.errors import RemoteError
from runner_provisioner.ports import GpuProvider
from runner_provisioner.services.asking import ask_all

PATIENCE = 30.0  # seconds for a market that hangs, once another has answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """The ladder, and the markets that are not on it because they could not be asked."""

    ladder: Ladder
    passed_over: Mapping[str, RemoteError] = field(default_factory=dict)


async def survey(
    providers: Mapping[str, GpuProvider],
    request: GpuRequest,
    memory: Memory | None = None,
    *,
    patience: float = PATIENCE,
) -> Surveyed:
    """The ladder over the offers of all markets, ranked by what is remembered of them.

    They are asked side by side. A market that cannot be asked is passed over while another answers; when none does,
    the first error is raised. Raises UnknownGpu only when no market knows one of the models.
    """
    check(request)
    replies = await ask_all({name: partial(one.offers, request) for name, one in providers.items()}, patience=patience)
    passed_over = {name: error for name, error in replies.errors.items() if isinstance(error, RemoteError)}
    if replies.errors and not replies.answers:
        # Where one could not be asked nobody knows that no market has the model.
        raise min((passed_over or replies.errors).items())[1]
    offers = [offer for found in replies.answers.values() for offer in found]
    return Surveyed(ladder=ladder(offers, request, memory), passed_over=passed_over)
