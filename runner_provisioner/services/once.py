"""Requests that are served once, however often they are sent and whatever dies on the way.

A request with an idempotency key is written down before anything is done. Who repeats it gets the first one's answer;
where there is none because its server has died, what it did is looked for before it is done again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import anyio

from runner_provisioner.domain.events import Event
from runner_provisioner.domain.served import Answer, Claim, IdempotentRequest, RequestRef, Verdict
from runner_provisioner.errors import CreateOutcomeUnknown, RunnerProvisionerError, StoreError
from runner_provisioner.ports import Clock, EventSink, IdempotentRequests

HOLD = timedelta(seconds=15)
"""How long a request is taken to be served after its server has last said so."""


class KeyReused(RunnerProvisionerError):
    """The idempotency key came before, with another body."""


class StillServed(RunnerProvisionerError):
    """The first request with this idempotency key has no answer yet; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        """Keep when to ask again."""
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What makes two requests the same: see `RequestRef`; `digest` is that of the body."""

    ref: RequestRef
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a request does, under the name that `draw` gives it and by which it is found again.

    `resume` gives the answer for what a dead server has done under a name, None once that is nothing.
    """

    draw: Callable[[], str]
    begin: Callable[[str], Awaitable[Answer]]
    resume: Callable[[str], Awaitable[Answer | None]]


class Once:
    """Serves each request once."""

    def __init__(self, requests: IdempotentRequests, *, clock: Clock, events: EventSink, holder: str) -> None:
        """`holder` names this process."""
        self._requests = requests
        self._clock = clock
        self._events = events
        self._holder = holder

    async def serve(self, identity: Identity | None, work: Work) -> Answer:
        """The answer, the first one's where there is one; without an identity every request is the first.

        Raises KeyReused, StillServed, StoreError, and what the work raises. After that the same identity may try again,
        and after CreateOutcomeUnknown it looks for what was done first.
        """
        if identity is None:
            return await work.begin(work.draw())
        while True:
            claim = await self._claim(identity, work.draw())
            if claim.request.answer is not None:
                return claim.request.answer
            answer = await self._while_held(claim.request, partial(self._served, claim, work))
            if answer is not None:
                return answer

    async def _claim(self, identity: Identity, name: str) -> Claim:
        now = self._clock.now()
        wanted = IdempotentRequest(
            ref=identity.ref,
            digest=identity.digest,
            pod_name=name,
            holder=self._holder,
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
        """Serve what is claimed; None when its first server has left nothing, so that it begins anew."""
        request = claim.request
        try:
            todo = work.resume if claim.verdict is Verdict.RESUME else work.begin
            answer = await todo(request.pod_name)
        except CreateOutcomeUnknown:
            raise  # whoever repeats it looks first
        except RunnerProvisionerError:
            await self.note(self._requests.withdraw(request))
            raise
        if answer is None:
            await self._requests.withdraw(request)
        else:
            await self.note(self._requests.answer(request, answer))
        return answer

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

    async def note(self, written: Awaitable[None]) -> None:
        """Write it down to the end; what cannot be kept is told, and stops nothing that is done."""
        with anyio.CancelScope(shield=True):
            try:
                await written
            except StoreError as error:
                told = Event(name="state_not_written", at=self._clock.now(), fields={"error": str(error)})
                self._events.emit(told)
