"""Stop: end everything of a key, found by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import anyio

from runner_provisioner.domain.leases import Lease, Limits, Observation, Outcome, Phase
from runner_provisioner.domain.names import RunKey
from runner_provisioner.errors import LeftBehind, RemoteError, RunnerProvisionerError
from runner_provisioner.ports import Clock, EventSink, GpuProvider, LeaseStore, RunnerRegistry
from runner_provisioner.services.act import Hands
from runner_provisioner.services.asking import ask_all
from runner_provisioner.services.leaving import Remembering
from runner_provisioner.services.observe import Lookout
from runner_provisioner.services.reconcile import Polls, Reconciler, cause_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A name of which nothing is left, or what is.

    `first` is what was there before anything was ended, `at` where its runner said that its pod is; `ghost` is whether
    the registration of a pod that was at work is left, which GitHub believes to be so for some minutes yet: it is
    clean-up's to remove.
    """

    name: str
    pods: tuple[str, ...]
    left: tuple[str, ...] = ()
    because: str = ""
    first: Observation | None = None
    ghost: bool = False
    at: str | None = None


class ForgetfulStore:
    """A store for leases that need none: everything is found again by name."""

    def save(self, lease: Lease) -> Lease:
        """Keep nothing."""
        return lease


class Ending:
    """Drains leases side by side, each until neither pod nor runner is there."""

    def __init__(
        self,
        *,
        providers: Mapping[str, GpuProvider],
        registry: RunnerRegistry,
        clock: Clock,
        events: EventSink,
        limits: Limits,
        polls: Polls,
        store: LeaseStore | None = None,
    ) -> None:
        self._providers = providers
        self._registry = registry
        self._clock = clock
        self._events = events
        self._limits = limits
        self._polls = polls
        self._store = store or ForgetfulStore()

    async def stop(self, key: RunKey, *, every_attempt: bool = False) -> list[Ended]:
        """End this key in all attempts up to its own, or in every attempt of the run.

        Raises LeftBehind when something is still there, a RemoteError when it could not be told; what can be seen is
        ended before that.
        """
        names = [key.name]
        errors: list[RemoteError] = []
        if every_attempt or key.attempt > 1:
            names, errors = await self._names(key, every_attempt=every_attempt)
        leases = [Lease(name=name, phase=Phase.DRAINING, outcome=Outcome.CANCELLED) for name in names]
        ended = await self.drain(leases, key.owner8)
        if errors:
            raise errors[0]
        return ended

    async def _names(self, key: RunKey, *, every_attempt: bool) -> tuple[list[str], list[RemoteError]]:
        """The names of this run and key that exist somewhere, the one of this attempt, and the looks that failed."""
        found: set[str] = set()
        errors: list[RemoteError] = []
        try:
            found |= {runner.name for runner in await self._registry.list(f"rp-{key.owner8}-{key.run}-")}
        except RemoteError as error:
            errors.append(error)
        replies = await ask_all({name: partial(one.list, key.owner8) for name, one in self._providers.items()})
        found |= {pod.name for pods in replies.answers.values() for pod in pods}
        errors += [error for error in replies.errors.values() if isinstance(error, RemoteError)]
        names = {key.name}
        for name in found:
            parsed = RunKey.parse(name)
            same = parsed is not None and replace(parsed, attempt=key.attempt) == key
            if parsed is not None and same and (every_attempt or parsed.attempt <= key.attempt):
                names.add(name)
        return sorted(names), errors

    async def drain(self, leases: Sequence[Lease], owner8: str) -> list[Ended]:
        """Drain them all; every one is tried before LeftBehind is raised for those that remain.

        Raises the error of a drain that could not tell what is there, when nothing is known to remain.
        """
        ended: list[Ended] = []
        errors: list[RunnerProvisionerError] = []
        told: set[tuple[str, str]] = set()
        lookout = Lookout(providers=self._providers, registry=self._registry, owner8=owner8)
        async with anyio.create_task_group() as group:
            for lease in leases:
                group.start_soon(self._drain_one, lease, lookout, told, ended, errors)
        left = tuple(line for one in ended for line in one.left)
        if left:
            causes = "; ".join(dict.fromkeys(one.because for one in ended if one.because))
            because = f" ({causes})" if causes else ""
            raise LeftBehind(
                f"still there: {', '.join(left)}{because}: run cleanup, or look at the provider", what=left
            )
        if errors:
            raise errors[0]
        return sorted(ended, key=lambda one: one.name)

    async def _drain_one(
        self,
        lease: Lease,
        shared: Lookout,
        told: set[tuple[str, str]],
        ended: list[Ended],
        errors: list[RunnerProvisionerError],
    ) -> None:
        hands = Hands(
            providers=self._providers,
            registry=self._registry,
            clock=self._clock,
            events=self._events,
            told_looks=told,
        )
        lookout = Remembering(shared, clock=self._clock, limits=self._limits)
        reconciler = Reconciler(
            lease,
            lookout=lookout,
            hands=hands,
            store=self._store,
            clock=self._clock,
            limits=self._limits,
            polls=self._polls,
        )
        left: tuple[str, ...] = ()
        because = ""
        try:
            await reconciler.run_until(lambda one: _released(one) or lookout.only_a_ghost_is_left(one, reconciler.seen))
        except LeftBehind as error:
            left = error.what
            because = cause_of(error.__cause__)
        except RunnerProvisionerError as error:
            errors.append(error)
            return
        pods = tuple(sorted(one.id for one in reconciler.lease.ended))
        ghost = not left and not _released(reconciler.lease)
        if ghost:
            hands.tell("runner_left_busy", runner=lease.name)
        ended.append(
            Ended(
                name=lease.name,
                pods=pods,
                left=left,
                because=because,
                first=lookout.first,
                ghost=ghost,
                at=lookout.at,
            )
        )


def _released(lease: Lease) -> bool:
    return lease.phase is Phase.RELEASED
