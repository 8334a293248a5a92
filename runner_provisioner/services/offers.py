"""Asking every market what is for rent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from runner_provisioner.domain.history import Memory
from runner_provisioner.domain.ladder import Ladder, check, ladder
from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.errors import RemoteError, UnknownGpu
from runner_provisioner.ports import GpuProvider
from runner_provisioner.services.asking import Replies, ask_all

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
    limit: float | None = None,
) -> Surveyed:
    """The ladder over the offers of all markets, ranked by what is remembered of them.

    They are asked side by side, each for at most `limit` seconds. A market that cannot be asked is passed over while
    another answers; when none does, the first error is raised. A model that a market does not know has no offers there.
    Raises UnknownGpu when every market has answered and none knows one of the models.
    """
    check(request)
    asked = {name: partial(_ask, one, request) for name, one in providers.items()}
    replies = await ask_all(asked, patience=patience, limit=limit)
    passed_over = {name: error for name, error in replies.errors.items() if isinstance(error, RemoteError)}
    if passed_over and not replies.answers:
        raise min(passed_over.items())[1]
    if not passed_over:
        # Where one could not be asked nobody knows that no market has the model.
        _check_known(request, replies)
    offers = [offer for found in replies.answers.values() for offer in found.offers]
    return Surveyed(ladder=ladder(offers, request, memory), passed_over=passed_over)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a market has, and which of the models it does not know."""

    offers: Sequence[Offer]
    strange: Mapping[str, UnknownGpu] = field(default_factory=dict)


async def _ask(provider: GpuProvider, request: GpuRequest) -> _Told:
    """All models at once, and where the market does not know one of several, each by itself."""
    try:
        return _Told(await provider.offers(request))
    except UnknownGpu:
        if len(request.models) < 2:  # noqa: PLR2004 - several
            raise
    offers: list[Offer] = []
    strange: dict[str, UnknownGpu] = {}
    for model in request.models:
        try:
            offers += await provider.offers(replace(request, models=(model,)))
        except UnknownGpu as error:
            strange[model] = error
    return _Told(offers, strange)


def _check_known(request: GpuRequest, replies: Replies[_Told]) -> None:
    """Raise UnknownGpu for the first model that is strange to every market, with what each of them says."""
    answers = replies.answers.values()
    for model in request.models or ("",):
        errors = [*replies.errors.values(), *(told.strange[model] for told in answers if model in told.strange)]
        if errors and len(errors) == len(replies.errors) + len(replies.answers):
            raise UnknownGpu("; ".join(dict.fromkeys(str(error) for error in errors))) from errors[0]
