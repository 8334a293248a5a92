"""Looking at the world: every provider and the registry, by name and by id, for one lease or for many at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import anyio

from runner_provisioner.domain.leases import Lease, Observation, PodRef, Unknown, ref
from runner_provisioner.domain.pods import Pod, PodId
from runner_provisioner.domain.runners import Runner
from runner_provisioner.errors import (
    AuthenticationFailed,
    ProtocolViolation,
    ProviderError,
    RemoteError,
    RunnerProvisionerError,
)
from runner_provisioner.ports import GpuProvider, ReadsMany, RunnerRegistry
from runner_provisioner.services.asking import ask_all

AT_ONCE = 16  # reads of single pods side by side, where a provider has no other way

PodSight = Pod | Unknown | None
RunnerSight = Runner | Unknown | None


class Looks(Protocol):
    """Whoever looks at the world for a lease."""

    async def look(self, lease: Lease) -> Observation:
        """See everything; what could not be looked at is Unknown. Never raises a RemoteError."""
        ...

    async def look_at_runner(self, lease: Lease, before: Observation) -> Observation:
        """See the runner anew and take the pods as they were a moment ago."""
        ...


@dataclass
class _Market:
    """What one provider said; `trouble` is why its list failed."""

    name: str
    named: dict[str, set[PodRef]] = field(default_factory=dict)
    read: Mapping[PodId, PodSight] = field(default_factory=dict)
    trouble: Unknown | None = None

    def of(self, lease: Lease) -> set[PodRef]:
        """Every pod of the lease here: by its name, and by what it remembers."""
        return self.named.get(lease.name, set()) | {one for one in lease.looked_for if one.provider == self.name}


@dataclass
class _Round:
    """Leases that share one look."""

    leases: list[Lease] = field(default_factory=list)
    seen: Sequence[Observation] | None = None


@dataclass(kw_only=True)
class Passing:
    """Which providers a start does not look at, as long as it has nothing there.

    `errors` are those that have failed, `apart` those that it is not to rent from; `patience` is how many seconds one
    that hangs may cost once another has answered; `tell` hears of each that fails.
    """

    patience: float
    tell: Callable[[str, RemoteError], None]
    errors: dict[str, RemoteError] = field(default_factory=dict)
    apart: frozenset[str] = frozenset()

    @property
    def names(self) -> set[str]:
        """Those of both kinds."""
        return {*self.errors, *self.apart}

    def pass_over(self, market: _Market) -> None:
        """Look at it no more."""
        assert market.trouble is not None  # noqa: S101 - that is why
        assert market.trouble.error is not None  # noqa: S101 - a look fails with an error
        self.errors[market.name] = market.trouble.error
        self.tell(market.name, market.trouble.error)


class Lookout:
    """One who looks: at the pods of a lease's name over all providers, and at the runner of that name.

    One for all leases of an owner: however many they are, a look takes one list of each provider, the reads by id in
    as few requests as the provider allows, and one list of the runners (for a single lease: one search by name).
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, GpuProvider],
        registry: RunnerRegistry,
        owner8: str,
        passing: Passing | None = None,
    ) -> None:
        """`passing` is for who rents; who ends something looks at every provider, whatever it costs."""
        self._providers = providers
        self._passing = passing
        self._registry = registry
        self._owner8 = owner8
        self._turn = anyio.Lock()
        self._next = _Round()

    async def look(self, lease: Lease) -> Observation:
        """See everything; what could not be looked at is Unknown. Never raises a RemoteError.

        Leases that ask side by side share a look; who asks while one is under way gets a later one.
        """
        mine = self._next
        place = len(mine.leases)
        mine.leases.append(lease)
        async with self._turn:
            seen = await self._seen_by(mine)
        return seen[place]

    async def _seen_by(self, mine: _Round) -> Sequence[Observation]:
        """What the round saw; the first of it whose turn it is looks for all."""
        if mine.seen is None:
            if self._next is mine:
                self._next = _Round()
            mine.seen = await self.look_at(mine.leases)
        return mine.seen

    async def look_at(self, leases: Sequence[Lease]) -> Sequence[Observation]:
        """See everything of all of them, in their order; see `look`."""
        runners: dict[str, RunnerSight] = {}
        markets: list[_Market] = []
        async with anyio.create_task_group() as group:
            group.start_soon(self._look_at_runners, [lease.name for lease in leases], runners)
            markets += await self._look_at_markets(leases)
        return [_observed(lease, markets, runners[lease.name]) for lease in leases]

    async def look_at_runner(self, lease: Lease, before: Observation) -> Observation:
        """See the runner anew and take the pods as they were a moment ago."""
        found: dict[str, RunnerSight] = {}
        await self._look_at_runners([lease.name], found)
        return replace(before, runner=found[lease.name], fresh=False)

    async def look_at_pods(self, lease: Lease, before: Observation) -> Observation:
        """See the pods anew and take the runner as it was a moment ago."""
        return replace(_observed(lease, await self._look_at_markets([lease]), before.runner), fresh=False)

    async def _look_at_markets(self, leases: Sequence[Lease]) -> list[_Market]:
        """Every provider that has to be looked at for these leases, and those with pods that nobody has a key for."""
        known = {one.provider for lease in leases for one in lease.looked_for}
        needed = self._needed(leases) | known
        passing = self._passing
        looks = {
            name: partial(self._look_at_market, name, leases)
            for name in self._providers
            if name in needed or passing is None or name not in passing.names
        }
        replies = await ask_all(looks, patience=passing.patience if passing is not None else None)
        late = [_Market(name=name, trouble=_unknown(error)) for name, error in replies.errors.items()]
        markets = [*replies.answers.values(), *late]
        if passing is not None and any(one.trouble is None for one in markets):
            for one in [one for one in markets if one.trouble is not None and one.name not in needed]:
                passing.pass_over(one)
                markets.remove(one)
        return markets + [_Market(name=name, trouble=_keyless(name)) for name in sorted(known - set(self._providers))]

    def _needed(self, leases: Iterable[Lease]) -> set[str]:
        """The providers without which nothing can be said: those at which a pod may be that nobody knows of yet."""
        if self._passing is None:
            return set(self._providers)
        if any(lease.unsure for lease in leases):
            return set(self._providers) - self._passing.names
        return set()

    async def _look_at_runners(self, names: Sequence[str], found: dict[str, RunnerSight]) -> None:
        try:
            if len(names) == 1:
                found[names[0]] = await self._registry.find(names[0])
                return
            listed = await self._registry.list(f"rp-{self._owner8}-")
        except RemoteError as error:
            found.update(dict.fromkeys(names, _unknown(error)))
            return
        found.update(dict.fromkeys(names))
        found.update({runner.name: runner for runner in listed})

    async def _look_at_market(self, name: str, leases: Sequence[Lease]) -> _Market:
        market, provider = _Market(name=name), self._providers[name]
        try:
            listed = await provider.list(self._owner8)
        except RemoteError as error:
            market.trouble = _unknown(error)
            listed = ()
        for pod in listed:
            market.named.setdefault(pod.name, set()).add(ref(pod))
        market.read = await read_pods(provider, {one.id for lease in leases for one in market.of(lease)})
        return market


async def read_pods(provider: GpuProvider, pod_ids: Collection[PodId]) -> Mapping[PodId, PodSight]:
    """Read them all, in as few requests as the provider allows; a read that failed is Unknown."""
    wanted = sorted(pod_ids)
    found = await _read_together(provider, wanted)
    if found is not None:
        return found
    sights: dict[PodId, PodSight] = {}
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def read(pod_id: PodId) -> None:
        async with limiter:
            try:
                sights[pod_id] = await provider.get(pod_id)
            except RemoteError as error:
                sights[pod_id] = _unknown(error)

    async with anyio.create_task_group() as group:
        for pod_id in wanted:
            group.start_soon(read, pod_id)
    return sights


async def _read_together(provider: GpuProvider, pod_ids: Sequence[PodId]) -> Mapping[PodId, PodSight] | None:
    """Read several in one go; None = they are to be read one by one."""
    if len(pod_ids) < 2 or not isinstance(provider, ReadsMany):  # noqa: PLR2004 - several
        return None
    try:
        return await provider.get_many(pod_ids)
    except (ProtocolViolation, ProviderError):
        return None  # one pod that cannot be read must not hide the others
    except RemoteError as error:
        return dict.fromkeys(pod_ids, _unknown(error))


def _observed(lease: Lease, markets: Iterable[_Market], runner: RunnerSight) -> Observation:
    there: dict[PodRef, Pod] = {}
    gone: set[PodRef] = set()
    trouble: Unknown | None = None
    for market in markets:
        trouble = trouble or market.trouble
        for one in sorted(market.of(lease)):
            unread = market.trouble is not None and one.id not in market.read
            sight = market.trouble if unread else market.read[one.id]
            if isinstance(sight, Unknown):
                trouble = trouble or sight
            elif sight is None:
                gone.add(one)
            else:
                there[one] = sight
    pods = trouble or tuple(there[one] for one in sorted(there))
    return Observation(pods=pods, runner=runner, gone=frozenset(gone))


def provider_of(pod: PodRef, providers: Mapping[str, GpuProvider]) -> GpuProvider:
    """Whose pod it is. Raises AuthenticationFailed where there is no key of that provider."""
    provider = providers.get(pod.provider)
    if provider is None:
        raise _no_key(pod.provider)
    return provider


def _no_key(name: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"a pod of this start is at {name}, and no key of {name} is here: set it, or end the pod at the provider",
        service=name,
    )


def _keyless(name: str) -> Unknown:
    return _unknown(_no_key(name))


def _unknown(error: RunnerProvisionerError) -> Unknown:
    return Unknown(reason=str(error), error=error if isinstance(error, RemoteError) else None)
