"""Requests that are served once, however often they are sent and whatever stalls or dies on the way.

A request with an idempotency key is written down before anything is done. Who repeats it gets the first one's answer;
where there is none because its server has died, what it did is looked for before it is done again. A server that was
only stalled finds out that it has lost the request: right before it does something, and right after.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import anyio

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.served import Answer, Claim, IdempotentRequest, RequestRef, Verdict
from runner_provisioner.errors import CreateOutcomeUnknown, RunnerProvisionerError, StaleWrite, StoreError
from runner_provisioner.ports import Clock, EventSink
from runner_provisioner.service_ports import IdempotentRequests

HOLD = timedelta(seconds=15)
"""How long a request is taken to be served after its server has last said so."""
TRIES = 3
"""How often a server begins that loses what it serves again and again."""


class KeyReused(RunnerProvisionerError):
    """The idempotency key came before, with another body."""


class StillServed(RunnerProvisionerError):
    """The first request with this idempotency key has no answer yet; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        """Keep when to ask again."""
        super().__init__(message)
        self.retry_after = retry_after


class Superseded(RunnerProvisionerError):
    """Somebody else has taken over what was being served; nothing of this try is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What makes two requests the same: see `RequestRef`; `digest` is that of the body."""

    ref: RequestRef
    digest: str


Confirm = Callable[[], Awaitable[None]]
"""Says anew that the request is served here. Raises Superseded when somebody else has taken it over, and StoreError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a request does, under the name that `draw` gives it and by which it is found again.

    `begin` confirms right before it does what must not be done twice. `resume` gives the answer for what another server
    has done under a name, None once that is nothing. Both may raise Superseded.
    """

    draw: Callable[[], str]
    begin: Callable[[str, Confirm], Awaitable[Answer]]
    resume: Callable[[str], Awaitable[Answer | None]]


class Once:
    """Serves each request once."""

    def __init__(self, requests: IdempotentRequests, *, clock: Clock, events: EventSink, holder: str) -> None:
        """`holder` names this process."""
        self._requests = requests
        self._clock = clock
        self._events = events
        # A process may be stalled and then lose a request to itself: each try is somebody else.
        self._holders = (f"{holder}.{number}" for number in itertools.count())

    async def serve(self, identity: Identity | None, work: Work) -> Answer:
        """The answer, the first one's where there is one; without an identity every request is the first.

        Raises KeyReused, StillServed, StoreError, and what the work raises. After that the same identity may try again,
        and after CreateOutcomeUnknown it looks for what was done first.
        """
        for _ in range(TRIES):
            answer = await self._unclaimed(work) if identity is None else await self._claimed(identity, work)
            if answer is not None:
                return answer
        raise StillServed("another server has taken this request over", retry_after=HOLD.total_seconds())

    async def _unclaimed(self, work: Work) -> Answer | None:
        try:
            return await work.begin(work.draw(), _nobody_else)
        except Superseded:
            return None

    async def _claimed(self, identity: Identity, work: Work) -> Answer | None:
        """None when it is to be claimed anew."""
        claim = await self._claim(identity, work.draw())
        if claim.request.answer is not None:
            return claim.request.answer
        return await self._while_held(claim.request, partial(self._served, claim, work))

    async def _claim(self, identity: Identity, name: str) -> Claim:
        now = self._clock.now()
        wanted = IdempotentRequest(
            ref=identity.ref,
            digest=identity.digest,
            pod_name=name,
            holder=next(self._holders),
            held_until=now + HOLD,
            begun_at=now,
        )
        claim = await self._requests.claim(wanted, now=now)
        if claim.verdict is Verdict.MISMATCH:
            raise KeyReused("this Idempotency-Key came with another body before: take a new key for a new request")
        if claim.verdict is Verdict.BUSY:
            after = (claim.retry_after or HOLD).total_seconds()
            raise StillServed("the first request with this Idempotency-Key is still being served", retry_after=after)
        return claim

    async def _served(self, claim: Claim, work: Work) -> Answer | None:
        """Serve what is claimed; None when nothing of it is left, so that it begins anew."""
        request = claim.request
        try:
            if claim.verdict is Verdict.RESUME:
                answer = await work.resume(request.pod_name)
            else:
                answer = await self._begun(request, work)
        except Superseded:
            answer = None
        if answer is None:
            await self._forget(request)
        else:
            await self.note(self._requests.answer(request, answer))
        return answer

    async def _begun(self, request: IdempotentRequest, work: Work) -> Answer:
        try:
            return await work.begin(request.pod_name, partial(self._confirm, request))
        except (CreateOutcomeUnknown, Superseded):
            raise  # whoever repeats it looks first; whoever has lost it has nothing to forget
        except RunnerProvisionerError:
            await self.note(self._forget(request))
            raise

    async def _confirm(self, request: IdempotentRequest) -> None:
        """Hold it for the whole of `HOLD` from now on."""
        until = self._clock.now()
        while until <= self._clock.now():  # writing it down may have taken longer than that
            until = self._clock.now() + HOLD
            try:
                await self._requests.hold(request, until)
            except StaleWrite as error:
                raise Superseded("another server has taken this request over") from error

    async def _forget(self, request: IdempotentRequest) -> None:
        """It may begin anew, unless it is somebody else's by now."""
        with anyio.CancelScope(shield=True):
            try:
                await self._requests.withdraw(request)
            except StaleWrite:
                return

    async def _while_held(
        self, request: IdempotentRequest, work: Callable[[], Awaitable[Answer | None]]
    ) -> Answer | None:
        """Say again and again that it is being served, until it is."""
        failed: RunnerProvisionerError | None = None
        answer: Answer | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._hold, request)
            try:
                answer = await work()
            except RunnerProvisionerError as error:  # the group would wrap it
                failed = error
            group.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return answer

    async def _hold(self, request: IdempotentRequest) -> None:
        while True:
            await self._clock.sleep(HOLD.total_seconds() / 3)
            await self.note(self._requests.hold(request, self._clock.now() + HOLD))

    async def note(self, written: Awaitable[object]) -> None:
        """Write it down to the end; what cannot be kept is told, and stops nothing that is done."""
        with anyio.CancelScope(shield=True):
            try:
                await written
            except StoreError as error:
                self.tell(error)

    def tell(self, error: StoreError) -> None:
        """Tell what could not be kept."""
        told = Event(name="state_not_written", at=self._clock.now(), fields={"error": str(error)})
        self._events.emit(told)


async def _nobody_else() -> None:
    """Who has no key cannot repeat a request."""
