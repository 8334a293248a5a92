"""Pods made over HTTP: each request rents at most once, whatever is repeated, lost or killed in between.

What is going to be rented is written down before a provider is asked: the request with its key, and the pod with the
name and the nonce by which it is found again. Who repeats a request gets the first one's answer; where there is none,
because the program that served it has died, its pod is looked for before anything else is rented. One that was not
found is given up: if it comes after all, because that program was only stalled or a list lagged, it is ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import anyio

from runner_provisioner.domain.api_keys import ApiKey
from runner_provisioner.domain.budget import Terms
from runner_provisioner.domain.leases import PodRef, ref
from runner_provisioner.domain.names import MANUAL_LETTERS, manual_name
from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.pods import Pod, PodClass, PodSpec, PodState, PodTags
from runner_provisioner.domain.served import Answer, Contract, ServedPod
from runner_provisioner.errors import (
    BudgetExceeded,
    CreateOutcomeUnknown,
    RunnerProvisionerError,
    StaleWrite,
    StoreError,
)
from runner_provisioner.ports import Clock
from runner_provisioner.service_ports import ServiceState
from runner_provisioner.services.budget import Purse
from runner_provisioner.services.manual import Fence, ManualPods
from runner_provisioner.services.once import Confirm, Identity, Once, Superseded, Work

AT_ONCE = 16
"""Creates under way at a time; the others wait their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be rented.

    `spec` lacks what makes it one pod: name, tags and end. `providers` are those that may serve it, all when there are
    none; `offer` raises OfferUnfit for one that may not. `label` is the caller's name for the pod, `facts` what its
    contract shows.
    """

    contract: Contract
    label: str
    spec: PodSpec
    request: GpuRequest
    providers: tuple[str, ...] = ()
    offer: Callable[[Offer], None] | None = None
    accept_no_kill_time: bool = False
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A pod that has been rented, as its provider tells it and as it is remembered."""

    pod: Pod
    served: ServedPod


Render = Callable[[Made], Answer]
Drawing = Callable[[], Awaitable[Wish]]
"""Draws up the wish from what the markets have now. Raises what the request is refused with."""
Market = Callable[[Sequence[str]], ManualPods]


class Orders:
    """The use case of every create."""

    def __init__(  # noqa: PLR0913 - what it is made of, by keyword
        self,
        state: ServiceState,
        market: Market,
        once: Once,
        *,
        clock: Clock,
        owner8: str,
        repository: str | None,
        letters: Callable[[int], str],
        settle: float,
        purse: Callable[[timedelta], Purse] | None = None,
    ) -> None:
        """`market` gives the pods of some providers, or of all; `letters` draws some; `purse` is for a lifetime."""
        self._state = state
        self._market = market
        self._once = once
        self._clock = clock
        self._owner8 = owner8
        self._repository = repository
        self._letters = letters
        self._settle = settle
        self._purse = purse
        self._turns = anyio.CapacityLimiter(AT_ONCE)
        self.under_way: set[str] = set()
        """Names of pods whose create is being served here."""

    async def rent(
        self,
        drawing: Drawing,
        render: Render,
        *,
        lifetime: timedelta,
        key: ApiKey | None,
        identity: Identity | None,
    ) -> Answer:
        """Rent what is wished for, once for each `identity`, and give the answer that `render` makes of the pod.

        The wish is drawn up only where there is no answer yet: what it is made of may be gone since. Raises KeyReused,
        StillServed, and what drawing and renting raise: after anything but CreateOutcomeUnknown nothing is left, and
        the same identity may try again.
        """

        def draw() -> str:
            return manual_name(self._owner8, self._clock.now() + lifetime, self._letters(MANUAL_LETTERS))

        async def begin(name: str, confirm: Confirm) -> Answer:
            wish = await drawing()
            made, kept = await self._served(wish, self._fresh(wish, key, name, lifetime), key, confirm)
            if identity is not None and not kept:
                raise _not_kept(made)
            return render(made)

        async def resume(name: str) -> Answer | None:
            found = await self._resumed(name)
            return render(found) if found is not None else None

        return await self._once.serve(identity, Work(draw=draw, begin=begin, resume=resume))

    async def _resumed(self, name: str) -> Made | None:
        """The pod that another server has rented under that name; None once two looks have not shown it.

        Raises Superseded, when it was given up meanwhile, CreateOutcomeUnknown, when it was found and could not be
        written down, and like `find`.
        """
        served = await self._state.pods.named(name)
        if served is None or served.given_up_at is not None:
            return None
        if served.ref is not None:
            return as_made(served, served.ref)
        pod = await self.find(served)
        if pod is not None:
            made, kept = await self._found(pod, served)
            if not kept:
                raise _not_kept(made)
            return made
        if await self._state.pods.give_up(name, self._clock.now()):
            return None
        return await self._resumed(name)  # it came at the last moment

    async def find(self, served: ServedPod) -> Pod | None:
        """The pod that was intended, as far as it was rented; looked for twice, `settle` apart.

        Raises CreateOutcomeUnknown where it was not seen, and its provider could not be looked at twice.
        """
        where = served.provider
        if where is not None and where not in self._market(()).names:
            raise CreateOutcomeUnknown(
                f"nobody can say whether {served.name} was rented: this service no longer has provider {where}"
            )
        market = self._market((where,) if where is not None else ())
        failed: dict[str, RunnerProvisionerError] = {}
        for wait in (0.0, self._settle):
            await self._clock.sleep(wait)
            pods, errors = await market.look()
            failed |= errors
            mine = next((pod for pod in pods if is_of(pod, served)), None)
            if mine is not None:
                return mine
        for name, error in failed.items():
            raise CreateOutcomeUnknown(f"nobody can say whether {served.name} was rented: {name}: {error}") from error
        return None

    async def _served(self, wish: Wish, served: ServedPod, key: ApiKey | None, confirm: Confirm) -> tuple[Made, bool]:
        """Intend it, rent it, remember it; and whether that was possible."""
        self.under_way.add(served.name)
        try:
            async with self._turns:
                market = self._market(wish.providers)
                wish, served = await self._priced(market, wish, served, key)
                served = replace(served, sent_at=self._clock.now())  # it may have waited long for its turn
                await self._state.pods.intend(served, budget=key.budget if key is not None else None)
                pod = await self._rented(market, wish, served, confirm)
                return await self._made(pod, served)
        finally:
            self.under_way.discard(served.name)

    async def _rented(self, market: ManualPods, wish: Wish, served: ServedPod, confirm: Confirm) -> Pod:
        async def send(offer: Offer) -> None:
            if not await self._state.pods.sending(served.name, self._clock.now(), provider=offer.provider):
                raise Superseded("another server has given this pod up")
            await confirm()

        async def take_back() -> bool:
            # Whoever takes the request over meanwhile must not answer with a pod that is being ended.
            try:
                return await self._state.pods.give_up(served.name, self._clock.now())
            except StoreError as error:
                self._once.tell(error)
                return False

        try:
            return await market.create(
                self._drawn_up(wish.spec, served),
                wish.request,
                lifetime=_lifetime(served),
                purse=self._purse(_lifetime(served)) if self._purse is not None else None,
                accept_no_kill_time=wish.accept_no_kill_time,
                only=wish.offer,
                fence=Fence(send=send, take_back=take_back),
            )
        except CreateOutcomeUnknown:
            raise
        except RunnerProvisionerError:
            await self._once.note(self._state.pods.withdraw(served.name))
            raise

    async def _priced(
        self, market: ManualPods, wish: Wish, served: ServedPod, key: ApiKey | None
    ) -> tuple[Wish, ServedPod]:
        """Bound the price by what the key's budget has left, and reserve what that comes to."""
        if key is None or key.budget is None:
            return wish, served
        left = key.budget - await self._state.pods.counted(key.id)
        rungs = await market.rungs(wish.request, accept_no_kill_time=wish.accept_no_kill_time, only=wish.offer)
        terms = Terms(lifetime=_lifetime(served))
        prices = [offer.price for offer in rungs if terms.worst(offer.price) <= left]
        if not prices:
            least = min(terms.worst(offer.price) for offer in rungs)
            raise BudgetExceeded(
                f"the key '{key.name}' has {left} of its budget of {key.budget} USD left, and the cheapest pod may "
                f"cost {least} USD in its lifetime: shorten the lifetime, or use another key"
            )
        price = max(prices)
        wish = replace(wish, request=replace(wish.request, max_price=price))
        return wish, replace(served, reserved=terms.worst(price))

    async def _made(self, pod: Pod, served: ServedPod) -> tuple[Made, bool]:
        """Remember that it exists; and whether that was possible.

        One that was given up meanwhile is ended: raises Superseded then, and what ending it raises.
        """
        price = pod.price if pod.price is not None else served.price
        known = replace(
            served,
            provider=pod.provider,
            id=pod.id,
            price=price,
            gpu_model=pod.gpu_model,
            gpu_count=pod.gpu_count,
            interruptible=pod.interruptible,
            image=pod.image or served.image,
            created_at=pod.created_at or self._clock.now(),
            reserved=Terms(lifetime=_lifetime(served)).worst(price) if price is not None else served.reserved,
        )
        wanted = await self._kept(known)
        if wanted is False:
            await self._market((pod.provider,)).terminate(pod.id)
            await self._once.note(self._state.pods.ended(ref(pod), self._clock.now()))
            raise Superseded(f"another server has given pod {pod.id} up, so that it was ended")
        return Made(pod=pod, served=known), wanted is not None

    async def _found(self, pod: Pod, served: ServedPod) -> tuple[Made, bool]:
        """Like `_made`. Whoever rented it may have died before it was given its end."""
        found = await self._made(pod, served)
        await self._market((pod.provider,)).end_at(pod, served.expires_at)
        return found

    async def _kept(self, known: ServedPod) -> bool | None:
        """Whether the pod is wanted, None when that could not be written down and nobody can say."""
        wanted: bool | None = None
        with anyio.CancelScope(shield=True):
            try:
                wanted = await self._state.pods.rented(known)
            except StaleWrite:
                wanted = False
            except StoreError as error:
                self._once.tell(error)
        return wanted

    async def settle(self, pod: Pod, served: ServedPod) -> Pod | None:
        """Remember the pod that was found, or end it where it was given up. Raises LeftBehind, RemoteError."""
        try:
            made, _ = await self._found(pod, served)
        except Superseded:
            return None
        return made.pod

    def _fresh(self, wish: Wish, key: ApiKey | None, name: str, lifetime: timedelta) -> ServedPod:
        now = self._clock.now()
        return ServedPod(
            name=name,
            nonce=self._letters(32),
            contract=wish.contract,
            key_id=key.id if key is not None else None,
            label=wish.label,
            requested_at=now,
            expires_at=now + lifetime,
            image=wish.spec.image or None,
            facts=dict(wish.facts),
        )

    def _drawn_up(self, spec: PodSpec, served: ServedPod) -> PodSpec:
        tags = PodTags(
            owner=self._owner8,
            cls=PodClass.MANUAL,
            repository=self._repository,
            nonce=served.nonce,
            expires_at=served.expires_at,
        )
        return replace(
            spec,
            name=served.name,
            tags=tags,
            env={**spec.env, **tags.to_env()},
            terminate_after=served.expires_at,
        )


def _lifetime(served: ServedPod) -> timedelta:
    return served.expires_at - served.requested_at


def as_made(served: ServedPod, where: PodRef) -> Made:
    """The pod as it was when it was new, though it may not be listed yet, or no longer be there."""
    pod = Pod(
        provider=where.provider,
        id=where.id,
        name=served.name,
        state=PodState.STARTING,
        price=served.price,
        created_at=served.created_at,
        image=served.image,
        gpu_model=served.gpu_model,
        gpu_count=served.gpu_count,
        interruptible=served.interruptible,
    )
    return Made(pod=pod, served=served)


def _not_kept(made: Made) -> CreateOutcomeUnknown:
    """Whoever repeats the request may not find the pod in a list that lags, and must not rent another then."""
    return CreateOutcomeUnknown(f"pod {made.pod.id} at {made.pod.provider} could not be written down")


def is_of(pod: Pod, served: ServedPod) -> bool:
    """Whether it is the pod of that create: by its nonce, or by its name, which was drawn for it alone."""
    if pod.tags is not None and pod.tags.nonce is not None:
        return pod.tags.nonce == served.nonce
    return pod.name == served.name


def is_past(served: ServedPod, now: datetime) -> bool:
    """Whether the pod should have ended by now."""
    return served.ended_at is None and served.expires_at <= now
