"""What a start would do, without doing it: only reads are sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from runner_provisioner.domain.budget import Budget, Left, Terms, affordable
from runner_provisioner.domain.history import Memory
from runner_provisioner.domain.ladder import Ladder, Refusal, nothing_rented
from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.quarantine import KeptOut, kept_out
from runner_provisioner.domain.ranking import Outlook, outlook
from runner_provisioner.errors import RunnerProvisionerError
from runner_provisioner.ports import Clock, EventSink, GpuProvider, HasBalance, History, RunnerRegistry
from runner_provisioner.services.budget import Purse
from runner_provisioner.services.chronicle import Chronicle
from runner_provisioner.services.offers import survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """An offer that would be tried; `lifetime` is its pod's longest, `worst` what that comes to in USD."""

    offer: Offer
    outlook: Outlook
    lifetime: timedelta
    worst: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Something that a start needs, whether it is there, and what is known besides."""

    name: str
    error: RunnerProvisionerError | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """Everything that a start would do. `failure` is what would end it before anything is rented, None where nothing.

    `kept_out` are the machines whose pods it would give back.
    `ready` is when the first offer's runner is to be expected, from its create on.
    """

    rungs: tuple[Rung, ...]
    refusals: tuple[Refusal, ...]
    permissions: tuple[Permission, ...]
    left: tuple[Left, ...]
    kept_out: tuple[KeptOut, ...]
    ready: timedelta | None
    failure: RunnerProvisionerError | None


class Foresight:
    """The use case of `plan`."""

    def __init__(
        self,
        *,
        providers: Mapping[str, GpuProvider],
        registry: RunnerRegistry,
        clock: Clock,
        events: EventSink,
        history: History | None = None,
    ) -> None:
        self._providers = providers
        self._registry = registry
        self._clock = clock
        self._events = events
        self._history = history

    async def run(self, request: GpuRequest, terms: Terms, budget: Budget, *, owner8: str) -> Foreseen:
        """Look at everything; what fails is in the answer."""
        permissions = await self._permissions()
        failures = [one.error for one in permissions if one.error is not None]
        memory = await Chronicle(self._history, clock=self._clock, events=self._events).memory()
        purse = Purse(
            budget,
            providers=self._providers,
            history=self._history,
            clock=self._clock,
            events=self._events,
            owner8=owner8,
            lifetime=terms.lifetime,
        )
        found = Ladder(rungs=(), refusals=())
        left: tuple[Left, ...] = ()
        try:
            found = await survey(self._providers, request, memory)
            left = await purse.left()
            found = affordable(found, terms, purse.binding(left))
            if not found.rungs:
                failures.append(nothing_rented(request, found.refusals))
        except RunnerProvisionerError as error:
            failures.append(error)
        rungs = tuple(_rung(offer, memory, terms) for offer in found.rungs)
        return Foreseen(
            rungs=rungs,
            refusals=found.refusals,
            permissions=tuple(permissions),
            left=left,
            kept_out=tuple(sorted(kept_out(memory.bad_machines, self._clock.now()).values(), key=str)),
            ready=rungs[0].outlook.boot if rungs else None,
            failure=failures[0] if failures else None,
        )

    async def _permissions(self) -> Sequence[Permission]:
        """The right to register runners, and each provider's credential."""
        accounts = [one for one in self._providers.values() if isinstance(one, HasBalance)]
        return [await self._register(), *[await _account(one) for one in accounts]]

    async def _register(self) -> Permission:
        try:
            await self._registry.check()
        except RunnerProvisionerError as error:
            return Permission(name="register runners at GitHub", error=error)
        return Permission(name="register runners at GitHub")


async def _account(provider: HasBalance) -> Permission:
    what = f"use the account at {getattr(provider, 'name', 'a provider')}"
    try:
        return Permission(name=what, detail=f"{await provider.balance()} USD on it")
    except RunnerProvisionerError as error:
        return Permission(name=what, error=error)


def _rung(offer: Offer, memory: Memory, terms: Terms) -> Rung:
    return Rung(
        offer=offer,
        outlook=outlook(offer, memory),
        lifetime=terms.lifetime_at(offer.price),
        worst=terms.worst(offer.price),
    )
