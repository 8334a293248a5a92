"""Pods made by hand: created, looked at, stopped, resumed and ended without a runner."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import anyio

from runner_provisioner.domain.budget import Terms, affordable
from runner_provisioner.domain.events import Event
from runner_provisioner.domain.kill_layers import without_kill_time
from runner_provisioner.domain.ladder import Refusal, narrowed, nothing_rented
from runner_provisioner.domain.leases import ref
from runner_provisioner.domain.names import ManualName
from runner_provisioner.domain.offers import GpuRequest, Offer
from runner_provisioner.domain.pods import Pod, PodId, PodSpec, PodState
from runner_provisioner.errors import (
    BidTooLow,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InvalidRequest,
    LeftBehind,
    NotFound,
    RemoteError,
    RunnerProvisionerError,
    SpotDiscontinued,
    TransientError,
)
from runner_provisioner.ports import Clock, EventSink, GpuProvider, MovesKillTime, Pausable, has_kill_time
from runner_provisioner.services.asking import FOUND, ask_all
from runner_provisioner.services.budget import Purse
from runner_provisioner.services.chronicle import Chronicle
from runner_provisioner.services.offers import Surveyed, survey
from runner_provisioner.services.provision import CANCEL_WINDOW

POD_LIFETIME = timedelta(hours=24)
_CANCELLED_LOOK = 0.5  # seconds between two looks of a cancelled create
_NEXT_OFFER = (CapacityUnavailable, BidTooLow, SpotDiscontinued)


async def _go_on(_offer: Offer) -> None:
    """Nobody has anything against it."""


async def _nobodys() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What is asked of others who may be at the same create.

    `send` is awaited right before the create of each offer, which is not sent when it fails. `take_back` says whether
    the pod of a cancelled create is nobody's, so that it may be ended.
    """

    send: Callable[[Offer], Awaitable[None]] = _go_on
    take_back: Callable[[], Awaitable[bool]] = _nobodys


_OPEN = Fence()


class ManualPods:
    """The use cases of the `pods` commands, over all providers."""

    def __init__(
        self,
        providers: Mapping[str, GpuProvider],
        *,
        clock: Clock,
        settle: float,
        hurry: Callable[[], None] = lambda: None,
        chronicle: Chronicle | None = None,
        events: EventSink | None = None,
        patience: float | None = None,
    ) -> None:
        """`settle` is how many seconds apart two looks at a list must be to believe it.

        `hurry` makes requests give up within the time that a cancelled program has. `events` is told of providers that
        could not be asked. With `patience` a look at a provider or its offers takes at most so many seconds, and a pod
        that one of them has is not looked for much longer elsewhere.
        """
        self._providers = providers
        self._clock = clock
        self._settle = settle
        self._hurry = hurry
        self._chronicle = chronicle
        self._events = events
        self._patience = patience

    async def create(
        self,
        spec: PodSpec,
        request: GpuRequest,
        *,
        lifetime: timedelta = POD_LIFETIME,
        purse: Purse | None = None,
        accept_no_kill_time: bool = False,
        only: Callable[[Offer], None] | None = None,
        fence: Fence = _OPEN,
    ) -> Pod:
        """Rent the first offer that can be had, and that the purse bears for that lifetime.

        Nor one that `only` raises OfferUnfit for.

        Where the provider ends no pod by itself only with `accept_no_kill_time`.
        When the provider never answers, the pod is looked up by its name and nonce and, when it exists, returned; else
        CreateOutcomeUnknown is raised after two looks. Raises like a start when nothing could be rented.
        When cancelled while a create is on its way, its pod is looked for and ended within `CANCEL_WINDOW` seconds.
        """
        surveyed = await self._surveyed(request, accept_no_kill_time=accept_no_kill_time, only=only)
        found = surveyed.ladder
        spec = replace(spec, needs_kill_time=not accept_no_kill_time)
        if purse is not None:
            found = affordable(found, Terms(lifetime=lifetime, max_price=request.max_price), await purse.enforced())
        refusals = list(found.refusals)
        for offer in found.rungs:
            await fence.send(offer)
            try:
                pod = await self._create(spec, offer)
                if self._chronicle is not None:
                    await self._chronicle.rented(pod, offer, lifetime=lifetime)
                return pod  # noqa: TRY300 - a cancelled record gives the pod back too
            except _NEXT_OFFER as error:
                refusals.append(Refusal(offer=offer, error=error))
            except anyio.get_cancelled_exc_class():
                self._hurry()
                with anyio.move_on_after(CANCEL_WINDOW, shield=True):
                    if await fence.take_back():
                        await self._give_back(self._providers[offer.provider], spec)
                raise
        raise nothing_rented(request, refusals, surveyed.passed_over)

    async def rungs(
        self,
        request: GpuRequest,
        *,
        accept_no_kill_time: bool = False,
        only: Callable[[Offer], None] | None = None,
    ) -> Sequence[Offer]:
        """What `create` would try, in its order, one at least. Raises like `create` when there is nothing for rent."""
        surveyed = await self._surveyed(request, accept_no_kill_time=accept_no_kill_time, only=only)
        if not surveyed.ladder.rungs:
            raise nothing_rented(request, surveyed.ladder.refusals, surveyed.passed_over)
        return surveyed.ladder.rungs

    async def _surveyed(
        self, request: GpuRequest, *, accept_no_kill_time: bool, only: Callable[[Offer], None] | None
    ) -> Surveyed:
        surveyed = await survey(self._providers, request, limit=self._patience)
        for name, error in surveyed.passed_over.items():
            if self._events is not None:
                said = {"provider": name, "error": str(error), **({"about": error.about} if error.about else {})}
                self._events.emit(Event(name="provider_passed_over", at=self._clock.now(), fields=said))
        found = surveyed.ladder
        if not accept_no_kill_time:
            without = {name for name, one in self._providers.items() if not has_kill_time(one)}
            found = without_kill_time(found, without, by_hand=True)
        if only is not None:
            found = narrowed(found, only)
        return replace(surveyed, ladder=found)

    async def _create(self, spec: PodSpec, offer: Offer) -> Pod:
        provider = self._providers[offer.provider]
        try:
            return await provider.create(spec, offer)
        except CreateOutcomeUnknown as error:
            found = await self._look_up(provider, spec)
            if found is not None:
                if spec.terminate_after is not None:
                    await self.end_at(found, spec.terminate_after)
                return found
            raise CreateOutcomeUnknown(
                f"no answer to the create and no pod named {spec.name} seen: "
                "look again with 'pods list' before another try",
                service=error.service,
                operation=error.operation,
            ) from error

    async def end_at(self, pod: Pod, at: datetime) -> None:
        """Have its provider end it then, where it takes that after the rent; a failure is told."""
        provider = self._providers[pod.provider]
        if not isinstance(provider, MovesKillTime):
            return
        try:
            await provider.end_at(pod.id, at)
        except (RemoteError, InvalidRequest) as error:
            if self._events is not None:
                said = {"provider": pod.provider, "id": pod.id, "error": str(error)}
                self._events.emit(Event(name="kill_time_not_set", at=self._clock.now(), fields=said))

    async def _give_back(self, provider: GpuProvider, spec: PodSpec) -> None:
        """Look until the pod of this very create is seen, and end it; without its nonce it cannot be told for sure."""
        while spec.tags is not None and spec.tags.nonce is not None:
            # What fails is tried again for as long as there is time.
            with contextlib.suppress(RemoteError):
                mine = [pod for pod in await provider.list(None) if _made_as(pod, spec)]
                for pod in mine:
                    await provider.terminate(pod.id)
                if mine and not any([await provider.get(pod.id) for pod in mine]):
                    return
            await self._clock.sleep(_CANCELLED_LOOK)

    async def _look_up(self, provider: GpuProvider, spec: PodSpec) -> Pod | None:
        """The pod of an unanswered create, looked for twice, `settle` apart; a failed look saw nothing."""
        for wait in (0.0, self._settle):
            await self._clock.sleep(wait)
            try:
                pods = await provider.list(None)
            except RemoteError:
                continue  # the caller says that the outcome is unknown, which is what has to be known
            mine = next((pod for pod in pods if pod.alive and _made_as(pod, spec)), None)
            if mine is not None:
                return mine
        return None

    @property
    def names(self) -> Sequence[str]:
        """The providers that are looked at."""
        return tuple(self._providers)

    async def look(self) -> tuple[Sequence[Pod], Mapping[str, RunnerProvisionerError]]:
        """Every pod that can be seen, and the providers that could not be looked at."""
        asked = {name: partial(one.list, None) for name, one in self._providers.items()}
        replies = await ask_all(asked, limit=self._patience)
        return [pod for pods in replies.answers.values() for pod in pods], replies.errors

    async def list(self) -> list[Pod]:
        """Every pod of every account. Raises the error of the first provider that could not be looked at."""
        found, errors = await self.look()
        for error in errors.values():
            raise error
        return [*found]

    async def get(self, pod_id: PodId) -> Pod:
        """One pod, wherever it is; raises NotFound."""
        return (await self._find(pod_id))[1]

    async def stop(self, pod_id: PodId) -> Pod:
        """Stop it; its disk goes on billing. Raises NotFound, InvalidRequest where a provider cannot."""
        _, pausable = await self._pausable(pod_id)
        return await pausable.stop(pod_id)

    async def resume(self, pod_id: PodId, *, gpu_count: int | None = None, bid_per_gpu: Decimal | None = None) -> Pod:
        """Start it again. Raises NotFound, CapacityUnavailable, InvalidRequest where a provider cannot.

        Where the answer is lost the pod is looked at: one that was started bills.
        """
        provider, pausable = await self._pausable(pod_id)
        try:
            return await pausable.resume(pod_id, gpu_count=gpu_count, bid_per_gpu=bid_per_gpu)
        except TransientError:
            pod = await provider.get(pod_id)
            if pod is None or pod.state not in {PodState.STARTING, PodState.RUNNING}:
                raise
            return pod

    async def terminate(self, pod_id: PodId, *, patience: float = 60.0) -> Pod | None:
        """End it and look until it is gone; gives what was there, None when there was none already."""
        try:
            provider, pod = await self._find(pod_id)
        except NotFound:
            return None
        begin = self._clock.monotonic()
        while await provider.get(pod_id) is not None:
            await provider.terminate(pod_id)
            if await provider.get(pod_id) is None:
                break
            if self._clock.monotonic() - begin > patience:
                what = (f"pod {pod_id} at {provider.name}",)
                raise LeftBehind(f"still there: {what[0]}: try again, or end it at the provider", what=what)
            await self._clock.sleep(1.0)
        if self._chronicle is not None:
            await self._chronicle.over(ref(pod))
        return pod

    async def _find(self, pod_id: PodId) -> tuple[GpuProvider, Pod]:
        replies = await ask_all(
            {name: partial(one.get, pod_id) for name, one in self._providers.items()},
            patience=FOUND if self._patience is not None else None,
            limit=self._patience,
            enough=lambda pod: pod is not None,
        )
        found = [(self._providers[name], pod) for name, pod in replies.answers.items() if pod is not None]
        if len(found) > 1:
            where = " and ".join(provider.name for provider, _ in found)
            raise InvalidRequest(f"pod '{pod_id}' exists at {where}: say which with --provider")
        if found:
            return found[0]
        for error in replies.errors.values():
            raise error  # it may be there
        raise NotFound(f"no pod '{pod_id}': 'pods list' shows those that exist")

    async def _pausable(self, pod_id: PodId) -> tuple[GpuProvider, Pausable]:
        provider, _pod = await self._find(pod_id)
        if not isinstance(provider, Pausable):
            raise InvalidRequest(f"{provider.name} can neither stop nor resume pods: end it with 'pods terminate'")
        return provider, provider


def _made_as(pod: Pod, spec: PodSpec) -> bool:
    """Whether the pod is of this very create: a user may have an older one of the same name.

    Where a provider gives no tags back, a name that was drawn for this create is as good as its nonce.
    """
    if pod.name != spec.name:
        return False
    if spec.tags is None:
        return True
    if pod.tags is None:
        return ManualName.parse(spec.name) is not None
    return pod.tags.nonce == spec.tags.nonce
