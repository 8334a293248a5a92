"""What a start would do, without doing it: only reads are sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial

from runner_provisioner.domain.budget import Budget, Left, Terms, affordable
from runner_provisioner.domain.history import Memory
from runner_provisioner.domain.ladder import Ladder, Refusal, nothing_rented
from runner_provisioner.domain.leases import Lease, counted, ours
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.pods import Pod
from runner_provisioner.domain.quarantine import KeptOut, kept_out
from runner_provisioner.domain.ranking import Outlook, outlook
from runner_provisioner.errors import ApiRetired, InsufficientFunds, RemoteError, RunnerProvisionerError
from runner_provisioner.ports import (
    Clock,
    EventSink,
    GpuProvider,
    HasAccountKeys,
    HasBalance,
    History,
    RunnerRegistry,
)
from runner_provisioner.services.asking import ask_all
from runner_provisioner.services.budget import Purse
from runner_provisioner.services.chronicle import Chronicle
from runner_provisioner.services.kill_time import Cleaned, KillTimes
from runner_provisioner.services.offers import PATIENCE, survey
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
    `passed_over` are the providers that could not be asked.
    """

    rungs: tuple[Rung, ...]
    refusals: tuple[Refusal, ...]
    permissions: tuple[Permission, ...]
    left: tuple[Left, ...]
    kept_out: tuple[KeptOut, ...]
    ready: timedelta | None
    failure: RunnerProvisionerError | None
    kept: Pod | None = None
    passed_over: Mapping[str, RemoteError] = field(default_factory=dict)


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
        cleaned: Cleaned | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """`cleaned` and `patience` are as in a start."""
        self._providers = providers
        self._kill_times = KillTimes(providers=providers, cleaned=cleaned)
        self._patience = patience
        self._registry = registry
        self._clock = clock
        self._events = events
        self._history = history

    async def run(
        self,
        request: GpuRequest,
        terms: Terms,
        budget: Budget,
        *,
        owner8: str,
        lease: Lease | None = None,
        accept_no_kill_time: bool = False,
    ) -> Foreseen:
        """Look at everything; what fails is in the answer. `lease` is what the start would begin with."""
        register = await self._register()
        accounts = await self._accounts()
        failures = [register.error]
        chronicle = Chronicle(self._history, clock=self._clock, events=self._events)
        memory = await chronicle.memory()
        terms = terms.after(await chronicle.spent_on(lease.name if lease is not None else None))
        purse = self._purse(budget, owner8, terms.lifetime)
        found = Ladder(rungs=(), refusals=())
        left: tuple[Left, ...] = ()
        kept: Pod | None = None
        passed_over: Mapping[str, RemoteError] = {}
        try:
            surveyed = await survey(self._providers, request, memory, patience=self._patience)
            passed_over = purse.unseen = surveyed.passed_over
            found, _ = await replace(self._kill_times, accepted=accept_no_kill_time).allowed(surveyed.ladder)
            left = await purse.left()
            found = _solvent(affordable(found, terms, purse.binding(left)), accounts)
            kept = await self._kept(lease, owner8, passed_over)
            if not found.rungs and kept is None:
                failures.append(nothing_rented(request, found.refusals))
        except RunnerProvisionerError as error:
            failures.append(error)
        rungs = tuple(_rung(offer, memory, terms) for offer in found.rungs)
        refused = {one.provider: one.error for one in accounts if one.error is not None}
        if all(offer.provider in refused for offer in found.rungs):
            failures += refused.values()
        return Foreseen(
            rungs=rungs,
            refusals=found.refusals,
            permissions=(register, *accounts),
            left=left,
            kept_out=tuple(sorted(kept_out(memory.bad_machines, self._clock.now()).values(), key=str)),
            ready=rungs[0].outlook.boot if rungs else None,
            failure=next((error for error in failures if error is not None), None),
            kept=kept,
            passed_over=passed_over,
        )

    async def _accounts(self) -> list[Permission]:
        """Those that can be looked at, side by side."""
        asked = {name: partial(_account, one) for name, one in self._providers.items() if isinstance(one, HasBalance)}
        replies = await ask_all(asked, patience=self._patience)
        late = {name: _unusable(name, error) for name, error in replies.errors.items()}
        return [{**replies.answers, **late}[name] for name in asked]

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

    async def _kept(self, lease: Lease | None, owner8: str, unseen: Collection[str]) -> Pod | None:
        """The pod that is there already and would be gone on with; raises KeyInUse where it is another start's."""
        if lease is None:
            return None
        asked = {name: partial(one.list, owner8) for name, one in self._providers.items() if name not in unseen}
        replies = await ask_all(asked)
        for error in replies.errors.values():
            raise error
        listed = [pod for pods in replies.answers.values() for pod in pods if pod.name == lease.name]
        pods = [pod for pod in listed if counted(lease, pod)]
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
    try:
        return Permission(name=_use(provider), provider=provider, balance=await _told(account))
    except RunnerProvisionerError as error:
        return _unusable(provider, error)


def _unusable(provider: str, error: RunnerProvisionerError) -> Permission:
    return Permission(name=_use(provider), provider=provider, error=error)


def _use(provider: str) -> str:
    return f"use the account at {provider}"


def _solvent(found: Ladder, accounts: Sequence[Permission]) -> Ladder:
    """The ladder without the markets whose account does not hold an hour of what would be tried there first.

    Such a create is refused (docs.runpod.io, "at least one hour's worth"), and with it the market for this start.
    """
    for one in accounts:
        poor = _too_poor(one, found)
        if poor is not None:
            refusals = tuple(
                Refusal(offer=offer, error=poor) for offer in found.rungs if offer.provider == one.provider
            )
            rungs = tuple(offer for offer in found.rungs if offer.provider != one.provider)
            found = Ladder(rungs=rungs, refusals=(*found.refusals, *refusals))
    return found


def _too_poor(account: Permission, found: Ladder) -> RunnerProvisionerError | None:
    first = next((offer for offer in found.rungs if offer.provider == account.provider), None)
    if first is None or account.balance is None or account.balance >= first.price:
        return None
    return InsufficientFunds(
        f"{account.balance} USD on the account at {account.provider} are less than an hour of {first}: add funds"
    )


async def _told(account: HasBalance) -> Decimal | None:
    """What is on it; where that is told no more, the keys it keeps are asked for to try the credential."""
    try:
        return await account.balance()
    except ApiRetired:
        if not isinstance(account, HasAccountKeys):
            raise
        await account.ssh_keys()
        return None


def _rung(offer: Offer, memory: Memory, terms: Terms) -> Rung:
    return Rung(
        offer=offer,
        outlook=outlook(offer, memory),
        lifetime=terms.lifetime_at(offer.price),
        worst=terms.worst(offer.price),
    )
