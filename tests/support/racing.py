"""Several processes of the HTTP service that serve one request; each may stall, lose words, or die anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
from support.fakes import OWNER8, FakeProvider, Memory, offer
from support.service_state import State
from support.virtual_time import VirtualClock, VirtualLoop, run
from support.wire import Crash

from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import Pod, PodId
from runner_provisioner.domain.served import Answer
from runner_provisioner.errors import (
    CreateOutcomeUnknown,
    RunnerProvisionerError,
    ServerError,
    StoreError,
)
from runner_provisioner.services.manual import ManualPods
from runner_provisioner.services.once import HOLD, Identity, Once, StillServed
from runner_provisioner.services.orders import Made, Orders, Wish
from runner_provisioner.services.served import Served

SETTLE = 10.0
HOUR = 3600.0
LIFETIME = timedelta(hours=24)
PATIENCE = 40  # requests of one client


class Mishap(StrEnum):
    """What happens at a point."""

    STALL = "stall"  # of the whole process
    CRASH = "crash"
    CANCEL = "cancel"  # of all that the process serves, as when it is told to end
    LOST = "lost"  # the words to or from the database or the provider
    AWAY = "away"  # the database, for everybody


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One mishap, and how many seconds it lasts."""

    kind: Mishap
    seconds: float = 0.0

    def __str__(self) -> str:
        """As a test's name."""
        return f"{self.kind}{self.seconds:g}" if self.seconds else self.kind


Plan = Mapping[int, Blow]
"""By the number of the point, two for each word to the outside: before it is said, and before its answer is heard."""


class LaggingProvider(FakeProvider):
    """Its list shows a pod only some seconds after it was rented, and for some seconds after it was ended."""

    lag = 0.0
    ghostly = 30.0

    def __init__(self, clock: Any, *offers: Offer) -> None:  # noqa: ANN401 - any clock
        super().__init__(clock, *offers, name="one")
        self._ghosts: dict[Pod, float] = {}

    async def list(self, owner8: str | None) -> Sequence[Pod]:
        """Those that are not too young, and those that have only just gone."""
        now, since = self._clock.now(), self._clock.monotonic() - self.ghostly
        found = await super().list(owner8)
        ghosts = [one for one, at in self._ghosts.items() if at > since]
        return [
            one for one in (*found, *ghosts) if one.created_at and (now - one.created_at).total_seconds() >= self.lag
        ]

    async def terminate(self, pod_id: PodId) -> None:
        """End it."""
        if pod_id in self.pods:
            self._ghosts[self.pods[pod_id]] = self._clock.monotonic()
        await super().terminate(pod_id)


@dataclass
class House:
    """What all processes share."""

    clock: VirtualClock
    lag: float = 0.0
    away_until: float = 0.0

    def __post_init__(self) -> None:
        self.state = State()
        self.events = Memory()
        self.provider = LaggingProvider(self.clock, offer("A", provider="one"))
        self.provider.lag = self.lag
        self.letters = count()


class Gate:
    """Whatever is said to a thing passes a point of the process before and after."""

    def __init__(self, process: Process, thing: object, error: Callable[[], RunnerProvisionerError]) -> None:
        self._process = process
        self._thing = thing
        self._error = error

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever it has
        found = getattr(self._thing, name)
        if not callable(found):
            return found

        async def said(*args: object, **more: object) -> object:
            error = CreateOutcomeUnknown("no answer") if name == "create" else self._error()
            await self._process.point(name, error)
            answer = await found(*args, **more)
            await self._process.point(name, error)
            return answer

        return said


class Kept:
    """A ServiceState behind gates."""

    def __init__(self, process: Process, state: State) -> None:
        self.requests = Gate(process, state.requests, lambda: StoreError("away"))
        self.pods = Gate(process, state.pods, lambda: StoreError("away"))


@dataclass
class Process:
    """One process of the service."""

    house: House
    name: str
    plan: Plan = field(default_factory=dict)
    stalled_until: float = 0.0
    dead: bool = False
    scopes: list[anyio.CancelScope] = field(default_factory=list)
    points: Iterator[int] = field(default_factory=count)
    passed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        house = self.house
        state: Any = Kept(self, house.state)
        provider: Any = Gate(self, house.provider, lambda: ServerError("down"))
        clock = house.clock

        def market(_names: Sequence[str]) -> ManualPods:
            return ManualPods({"one": provider}, clock=clock, settle=SETTLE)

        once = Once(state.requests, clock=clock, events=house.events, holder=self.name)
        self.orders = Orders(
            state,
            market,
            once,
            clock=clock,
            owner8=OWNER8,
            repository=None,
            letters=self._letters,
            settle=SETTLE,
        )
        self.served = Served(state, market, self.orders, clock=clock, events=house.events, owner8=OWNER8)

    async def point(self, name: str, error: RunnerProvisionerError) -> None:
        """Go on, unless something happens here."""
        number = next(self.points)
        self.passed.append(name)
        blow = self.plan.get(number)
        now = self.house.clock.monotonic()
        if blow is not None and blow.kind is Mishap.STALL:
            self.stalled_until = now + blow.seconds
        elif blow is not None and blow.kind is Mishap.AWAY:
            self.house.away_until = now + blow.seconds
        elif blow is not None and blow.kind is Mishap.CRASH:
            self.dead = True
        elif blow is not None and blow.kind is Mishap.CANCEL:
            for scope in self.scopes:
                scope.cancel()
            await anyio.lowlevel.checkpoint()
        while not self.dead and self.house.clock.monotonic() < self.stalled_until:  # noqa: ASYNC110 - it may become longer
            await anyio.sleep(self.stalled_until - self.house.clock.monotonic())
        if self.dead:
            raise Crash
        if blow is not None and blow.kind is Mishap.LOST:
            raise error
        if isinstance(error, StoreError) and self.house.clock.monotonic() < self.house.away_until:
            raise error

    async def rent(self, wish: Wish, identity: Identity | None) -> str:
        """Serve the request; the id of the pod that the answer names."""

        async def drawing() -> Wish:
            return wish

        answer = await self.orders.rent(drawing, _render, lifetime=LIFETIME, key=None, identity=identity)
        return answer.body

    def _letters(self, length: int) -> str:
        number = f"{next(self.house.letters):0{length}d}"
        return number.translate(str.maketrans("0123456789", "abcdefghij"))


def _render(made: Made) -> Answer:
    return Answer(status=200, body=made.pod.id)


async def persist(process: Process, wish: Wish, identity: Identity | None, answers: list[str]) -> None:
    """Repeat the request until it is answered or the process is no more."""
    for _ in range(PATIENCE):
        try:
            answers.append(await process.rent(wish, identity))
        except StillServed as error:
            await anyio.sleep(error.retry_after)
        except RunnerProvisionerError:
            await anyio.sleep(3)
        else:
            return


async def _until_dead(work: Awaitable[None]) -> None:
    try:
        await work
    except BaseException as error:
        if not _is_crash(error):
            raise


def _is_crash(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_crash(one) for one in error.exceptions)
    return isinstance(error, Crash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Processes with their plans, the requests (which process, when), and by how much the provider's list lags."""

    plans: Sequence[Plan]
    requests: Sequence[tuple[int, float]]
    lag: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it once rounds have settled everything."""

    living: Sequence[str]
    answers: Sequence[str]
    house: House
    passed: Sequence[Sequence[str]]


def race(one: Race, wish: Wish, identity: Identity | None) -> Outcome:
    """Let it happen, beside a process whose rounds go on all the time.

    In the end somebody who repeats the request is answered there; without an identity nobody can.
    """
    outcomes: list[Outcome] = []

    async def main(loop: VirtualLoop) -> None:
        house = House(VirtualClock(loop), one.lag)
        processes = [Process(house, f"p{number}", plan) for number, plan in enumerate(one.plans)]
        sound = Process(house, "sound")
        answers: list[str] = []

        async def client(number: int, at: float) -> None:
            await anyio.sleep(at)
            with anyio.CancelScope() as scope:
                processes[number].scopes.append(scope)
                await _until_dead(persist(processes[number], wish, identity, answers))

        async def rounds() -> None:
            while True:
                with contextlib.suppress(StoreError):  # as the service does: the next one comes
                    await sound.served.round()
                await anyio.sleep(60)

        async with anyio.create_task_group() as group:
            group.start_soon(rounds)
            async with anyio.create_task_group() as asking:
                for number, at in one.requests:
                    asking.start_soon(client, number, at)
            if identity is not None:
                await persist(sound, wish, identity, answers)
            await anyio.sleep(900)
            group.cancel_scope.cancel()
        outcomes.append(
            Outcome(
                living=[str(one) for one in house.provider.pods],
                answers=answers,
                house=house,
                passed=[process.passed for process in processes],
            )
        )

    run(main)
    return outcomes[0]


LONG = (HOLD.total_seconds() + 3, 70.0, 400.0)
"""Stalls that outlast a hold, the looks that follow it, and the patience of a round."""
