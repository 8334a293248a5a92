"""What is left of the installation's budget, before a pod is rented and once more when it is the only one of its name.

Two starts that look at the same moment both see what was there before them. Each looks again when its pod is `settle`
old: by then every list shows both, and the younger pod is given back before anybody learns of its runner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from runner_provisioner.domain.budget import Budget, Left, Span, Strictness, bounds, presumed
from runner_provisioner.domain.events import Event
from runner_provisioner.domain.history import OfferKind, PodRecord
from runner_provisioner.domain.pods import Pod, PodId
from runner_provisioner.errors import BudgetExceeded, RemoteError, RunnerProvisionerError, StoreError
from runner_provisioner.ports import BillsPerPod, Clock, EventSink, GpuProvider, HasSpend, History
from runner_provisioner.services.asking import ask_all

_NO_RECORDS = (
    "no record of what was spent is there (a new installation, or a lost cache), and the provider does not tell: "
    "restore the records (a workflow keeps them with state-cache: true), or start once with --budget advisory; they "
    "begin with it"
)
_NO_HISTORY = (
    "RUNNER_PROVISIONER_HISTORY is off, so that nobody knows what was spent, and the provider does not tell: "
    "turn it on, or give --budget advisory to every start"
)


class Purse:
    """One who reckons what is left; costs nothing where no budget is set."""

    def __init__(
        self,
        budget: Budget,
        *,
        providers: Mapping[str, GpuProvider],
        history: History | None,
        clock: Clock,
        events: EventSink,
        owner8: str,
        lifetime: timedelta,
    ) -> None:
        """`lifetime` is what a pod of ours that does not say its end is taken to have."""
        self._budget = budget
        self._providers = providers
        self._history = history
        self._clock = clock
        self._events = events
        self._owner8 = owner8
        self._lifetime = lifetime
        self.unseen: Mapping[str, RemoteError] = {}
        """Providers that are known not to answer: they are not asked once more."""

    async def left(self) -> tuple[Left, ...]:
        """What is left of each budget.

        Raises BudgetExceeded where that cannot be known (lost records and no provider that tells what the account has
        spent), and the error of a look that failed; an advisory budget tells it as an event and gives nothing.
        """
        if not self._budget.spans:
            return ()
        try:
            return await self._reckon(None)
        except RunnerProvisionerError as error:
            if self._budget.strictness is Strictness.ENFORCE:
                raise
            self._tell("budget_unknown", error=str(error))
            return ()

    async def enforced(self) -> tuple[Left, ...]:
        """`left` for a start: where it binds; an advisory budget is told and binds nothing.

        A start that gets this far vouches for the records: where nothing proves that they are older, they begin now.
        """
        found = await self.left()
        await self._begin()
        for one in found:
            self._tell("budget_left", span=one.span.value, left=str(one.amount), budget=str(one.budget), by=one.by)
        return self.binding(found)

    def binding(self, left: tuple[Left, ...]) -> tuple[Left, ...]:
        """Those that bind a start: none of an advisory budget."""
        return left if self._budget.strictness is Strictness.ENFORCE else ()

    async def confirm(self, pod: Pod) -> None:
        """Raise BudgetExceeded when this pod and everything older exceed a budget: another start was quicker.

        A look that fails is told; the first one was good.
        """
        if not self._budget.spans or self._budget.strictness is not Strictness.ENFORCE:
            return
        try:
            found = await self._reckon(pod)
        except BudgetExceeded:
            return  # what is missing was missing before, and was allowed
        except (RemoteError, StoreError) as error:
            self._tell("budget_unknown", error=str(error))
            return
        for one in found:
            if one.amount < 0:
                raise BudgetExceeded(
                    f"another start has used the {one.span.value}'s budget of {one.budget} USD meanwhile, and the pod "
                    f"was given back: raise --budget-{one.span.value}, or start again later"
                )

    async def _reckon(self, upto: Pod | None) -> tuple[Left, ...]:
        now = self._clock.now()
        records = await self._books(min(span.begin(now) for span in self._budget.spans))
        if upto is not None:
            last = (upto.created_at or now, upto.id)
            records = tuple(one for one in records if (one.created_at, one.id) <= last)
        found = []
        for span, most in self._budget.spans.items():
            spent, by = await self._spent(span, now, records)
            found.append(Left(span=span, budget=most, spent=spent, by=by))
        return tuple(found)

    async def _spent(self, span: Span, now: datetime, records: Iterable[PodRecord]) -> tuple[Decimal, str]:
        since = span.begin(now)
        began = await self._history.began(since) if self._history is not None else None
        counted = [one for one in records if one.ended_at is None or one.ended_at > since]
        if began is None or began > since:
            whole = await self._account_spend(since)
            if whole is not None:
                ahead = bounds([one for one in counted if one.ended_at is None], now, now)
                return whole + ahead, "what the account has spent"
            if began is None:
                why = _NO_HISTORY if self._history is None else _NO_RECORDS
                raise BudgetExceeded(f"--budget-{span.value} cannot be reckoned: {why}")
            self._tell("budget_incomplete", since=began.isoformat())
        return await self._own(since, now, counted), "our records"

    async def _own(self, since: datetime, now: datetime, records: Iterable[PodRecord]) -> Decimal:
        by_provider: dict[str, list[PodRecord]] = {}
        for one in records:
            by_provider.setdefault(one.provider, []).append(one)
        total = Decimal(0)
        for name, pods in by_provider.items():
            total += bounds(pods, since, now, await self._billed(name, pods, since))
        return total

    async def _begin(self) -> None:
        if self._history is None or not self._budget.spans:
            return
        try:
            await self._history.begin(self._clock.now())
        except StoreError as error:
            self._tell("budget_unknown", error=str(error))

    async def _billed(self, provider: str, pods: Iterable[PodRecord], since: datetime) -> Mapping[PodId, Decimal]:
        market: object = self._providers.get(provider)
        if not isinstance(market, BillsPerPod):
            return {}
        try:
            return await market.billed([one.id for one in pods], since)
        except RemoteError as error:
            self._tell("bill_unknown", provider=provider, error=str(error))
            return {}

    async def _account_spend(self, since: datetime) -> Decimal | None:
        """What all accounts have spent; None where one does not tell."""
        total = Decimal(0)
        for provider in self._providers.values():
            if not isinstance(provider, HasSpend):
                return None
            total += await provider.spent(since)
        return total

    async def _books(self, since: datetime) -> tuple[PodRecord, ...]:
        """Every pod that counts, as far back as the budgets reach."""
        noted = list(await self._history.pods(since)) if self._history is not None else []
        known = {(one.provider, one.id) for one in noted}
        live = await self._live()
        listed = {(one.provider, one.id) for one in live}
        now = self._clock.now()
        records = [presumed(one, now, listed=(one.provider, one.id) in listed) for one in noted]
        # Also what another machine of this installation has rented: its records are elsewhere, its pods are not.
        records += [self._record(pod) for pod in live if (pod.provider, pod.id) not in known]
        return tuple(records)

    async def _live(self) -> list[Pod]:
        """Every provider, side by side; a look that fails is raised as it is."""
        for name, error in self.unseen.items():
            raise BudgetExceeded(
                f"no budget can be reckoned while {name} cannot be looked at ({error}): take its key away, rent with "
                "--provider from the others, or give --budget advisory"
            )
        asked = {name: partial(one.list, self._owner8) for name, one in self._providers.items()}
        replies = await ask_all(asked)
        for failed in replies.errors.values():
            raise failed
        return [pod for pods in replies.answers.values() for pod in pods]

    def _record(self, pod: Pod) -> PodRecord:
        created_at = pod.created_at or self._clock.now()
        expires_at = pod.tags.expires_at if pod.tags is not None else None
        price = pod.price or Decimal(0)
        kind = OfferKind(
            provider=pod.provider,
            gpu_model=pod.gpu_model or "unknown",
            gpu_count=pod.gpu_count or 1,
            interruptible=bool(pod.interruptible),
        )
        return PodRecord(
            provider=pod.provider,
            id=pod.id,
            name=pod.name,
            kind=kind,
            price=price,
            list_price=price,
            created_at=created_at,
            expires_at=expires_at or created_at + self._lifetime,
        )

    def _tell(self, name: str, **fields: str) -> None:
        self._events.emit(Event(name=name, at=self._clock.now(), fields=fields))
