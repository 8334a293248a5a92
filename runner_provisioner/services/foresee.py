"""What a start would do, without doing it: only reads are sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from runner_provisioner.domain.budget import Budget, Left, Terms, affordable
from runner_provisioner.domain.history import Memory
from runner_provisioner.domain.ladder import Ladder, Refusal, nothing_rented
from runner_provisioner.domain.leases import Lease, counted, ours
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.pods import Pod
from runner_provisioner.domain.quarantine import KeptOut, kept_out
from runner_provisioner.domain.ranking import Outlook, outlook
from runner_provisioner.errors import InsufficientFunds, RunnerProvisionerError
from runner_provisioner.ports import Clock, EventSink, GpuProvider, HasBalance, History, RunnerRegistry
from runner_provisioner.services.budget import Purse
from runner_provisioner.services.chronicle import Chronicle
from runner_provisioner.services.offers import survey
from runner_provisioner.services.provision import key_in_use


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """An offer that would be tried; `lifetime` is its pod's longest, `worst` what that comes to in USD."""

    offer: Offer
    outlook: Outlook
    lifetime: timedelta
    worst: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Something that a start needs, whether it is there, and what is known besides.

    `provider` and `balance` (USD) are of an account that could be looked at.
    """

    name: str
    error: RunnerProvisionerError | None = None
    provider: str = ""
    balance: Decimal | None = None

    @property
    def detail(self) -> str:
        """What is known besides, in a few words."""
        return f"{self.balance} USD on it" if self.balance is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """Everything that a start would do. `failure` is what would end it before anything is rented, None where nothing.

    `ready` is when the first offer's runner is to be expected, from its create on. `kept_out` are the machines whose
    pods it would give back, `kept` is the pod of an earlier try of the same start, which would be gone on with.
    """

    rungs: tuple[Rung, ...]
    refusals: tuple[Refusal, ...]
    permissions: tuple[Permission, ...]
    left: tuple[Left, ...]
    kept_out: tuple[KeptOut, ...]
    ready: timedelta | None
    failure: RunnerProvisionerError | None
    kept: Pod | None = None


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

    async def run(
        self, request: GpuRequest, terms: Terms, budget: Budget, *, owner8: str, lease: Lease | None = None
    ) -> Foreseen:
        """Look at everything; what fails is in the answer. `lease` is what the start would begin with."""
        register = await self._register()
        accounts = [await _account(one) for one in self._providers.values() if isinstance(one, HasBalance)]
        failures = [register.error]
        chronicle = Chronicle(self._history, clock=self._clock, events=self._events)
        memory = await chronicle.memory()
        terms = terms.after(await chronicle.spent_on(lease.name if lease is not None else None))
        purse = self._purse(budget, owner8, terms.lifetime)
        found = Ladder(rungs=(), refusals=())
        left: tuple[Left, ...] = ()
        kept: Pod | None = None
        try:
            found = await survey(self._providers, request, memory)
            left = await purse.left()
            found = _solvent(affordable(found, terms, purse.binding(left)), accounts)
            kept = await self._kept(lease, owner8)
            if not found.rungs and kept is None:
                failures.append(nothing_rented(request, found.refusals))
        except RunnerProvisionerError as error:
            failures.append(error)
        failures += [one.error for one in accounts]
        rungs = tuple(_rung(offer, memory, terms) for offer in found.rungs)
        return Foreseen(
            rungs=rungs,
            refusals=found.refusals,
            permissions=(register, *accounts),
            left=left,
            kept_out=tuple(sorted(kept_out(memory.bad_machines, self._clock.now()).values(), key=str)),
            ready=rungs[0].outlook.boot if rungs else None,
            failure=next((error for error in failures if error is not None), None),
            kept=kept,
        )

    def _purse(self, budget: Budget, owner8: str, lifetime: timedelta) -> Purse:
        return Purse(
            budget,
            providers=self._providers,
            history=self._history,
            clock=self._clock,
            events=self._events,
            owner8=owner8,
            lifetime=lifetime,
        )

    async def _kept(self, lease: Lease | None, owner8: str) -> Pod | None:
        """The pod that is there already and would be gone on with; raises KeyInUse where it is another start's."""
        if lease is None:
            return None
        pods = [pod for one in self._providers.values() for pod in await one.list(owner8) if pod.name == lease.name]
        pods = [pod for pod in pods if counted(lease, pod)]
        if not all(ours(lease, pod) for pod in pods):
            key = RunKey.parse(lease.name)
            raise key_in_use(key.key if key is not None else lease.name)
        return next(iter(pods), None)

    async def _register(self) -> Permission:
        try:
            await self._registry.check()
        except RunnerProvisionerError as error:
            return Permission(name="register runners at GitHub", error=error)
        return Permission(name="register runners at GitHub")


async def _account(account: HasBalance) -> Permission:
    provider = str(getattr(account, "name", "a provider"))
    what = f"use the account at {provider}"
    try:
        return Permission(name=what, provider=provider, balance=await account.balance())
    except RunnerProvisionerError as error:
        return Permission(name=what, provider=provider, error=error)


def _solvent(found: Ladder, accounts: Sequence[Permission]) -> Ladder:
    """The ladder without the markets whose account does not hold an hour of what would be tried there first.

    Such a create is refused (docs.runpod.io, "at least one hour's worth"), and with it the market for this start.
    """
    for one in accounts:
        first = next((offer for offer in found.rungs if offer.provider == one.provider), None)
        if first is not None and one.balance is not None and one.balance < first.price:
            poor = InsufficientFunds(
                f"{one.balance} USD on the account at {one.provider} are less than an hour of {first}: add funds"
            )
            refusals = tuple(
                Refusal(offer=offer, error=poor) for offer in found.rungs if offer.provider == one.provider
            )
            rungs = tuple(offer for offer in found.rungs if offer.provider != one.provider)
            found = Ladder(rungs=rungs, refusals=(*found.refusals, *refusals))
    return found


def _rung(offer: Offer, memory: Memory, terms: Terms) -> Rung:
    return Rung(
        offer=offer,
        outlook=outlook(offer, memory),
        lifetime=terms.lifetime_at(offer.price),
        worst=terms.worst(offer.price),
    )
