"""One case of the product of faults and steps, and what must hold at its end."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

import anyio
from support import virtual_time
from support.inprocess import BOOT, POLL, REGISTER, SETTLE, Outcome, Process, World, seed
from support.stages import Provider
from support.virtual_time import VirtualLoop
from support.wire import Kind, at

from runner_provisioner.domain.offers import Interruptible
from runner_provisioner.domain.request import HowRegistered, StartRequest
from runner_provisioner.services.provision import CANCEL_WINDOW

LAG = 3.0  # how late the provider's list is; less than the settle time, as the program assumes
TWIN_OFFSET = 0.13
REQUEST_TIMEOUT = 30.0
BACK_OFF = 5.0
MUTE_BOOT = timedelta(seconds=6)
UNSERVED = 56 * 60.0  # seconds after which a pod without a runner is nobody's
MAX_COST = Decimal("0.05")  # half an hour of the first offer
LOGGED = 8  # every eighth case writes its log, is searched for secrets, and held against GitHub's schema


class Market(StrEnum):
    """What the provider is like, and what befalls its pods."""

    PLAIN = "plain"
    LAG = "list lag"
    NO_SPOT = "spot discontinued"
    NO_STOCK = "first offer without stock"
    SLOW = "runner online after settle"
    BAD_HOST = "first pod's machine fails the gate"
    MUTE = "first pod never registers, with list lag"
    RAISE = "no stock until the bid is raised"
    JIT = "a configuration is handed over"
    DEARER = "first pod dearer than its offer, with a max cost"


class End(StrEnum):
    """How everything comes to its end."""

    STOP = "stop"
    CLEANUP = "run completed, cleanup"
    NOBODY = "nobody until the kill time"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A start whose request number `step` meets `kind`, in a scenario; `command` is which command is struck."""

    at: tuple[Provider, ...] = (Provider.RUNPOD,)
    market: Market = Market.PLAIN
    end: End = End.STOP
    again: bool = False
    twin: bool = False
    kind: Kind = Kind.PASS
    step: int = -1
    command: str = "start"


def exists(case: Case) -> bool:
    """Whether its markets have what the scenario is about: bids, or a kill time."""
    if case.market in {Market.NO_SPOT, Market.RAISE}:
        return case.at == (Provider.RUNPOD,)
    return case.end is not End.NOBODY or not {Provider.REST, Provider.PRIME}.intersection(case.at)


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a case came to: how many requests the struck command sent, and the longest time two pods billed at once."""

    requests: int
    overlap: float
    outcome: Outcome


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: each save of a state file is flushed to the disk."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of its own in it
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def play(case: Case, *, logs: bool = False) -> Played:
    """Play it in a world of its own and check everything that must hold."""
    seed(case)
    with scratch() as folder:

        async def main(loop: VirtualLoop) -> Played:
            lag = LAG if case.market in {Market.LAG, Market.MUTE} else 0.0
            world = World(
                folder,
                loop,
                list_lag=lag,
                spot=case.market is not Market.NO_SPOT,
                logs=logs,
                schema=logs,
                library=case.command == "cleanup",
                providers=case.at,
            )
            return await _Play(world, case).run()

        return virtual_time.run(main)


@dataclass
class _Play:
    world: World
    case: Case

    async def run(self) -> Played:
        self._arrange()
        wire, outcome = await self._starts()
        if self.case.again:
            await self._again()
        await anyio.sleep(LAG)
        ends = await self._end()
        struck = wire if self.case.command == "start" else ends
        self._check_end()
        overlap = self.world.longest_overlap()
        assert overlap <= self._allowed_overlap(), f"two pods billed at once for {overlap} s"
        return Played(requests=len(struck.wire.sent), overlap=overlap, outcome=outcome)

    def _arrange(self) -> None:
        if self.case.market is Market.MUTE:
            self.world.mute = 1
        if self.case.market is Market.BAD_HOST:
            self.world.bad = 1
        self.world.hands_over = self.case.market is Market.JIT
        if self.case.market is Market.SLOW:
            self.world.register_delay = SETTLE + POLL
        if self.case.market is Market.DEARER:
            self.world.dearer = 1
        if self.case.market in {Market.NO_STOCK, Market.RAISE}:
            times = 2 if self.case.market is Market.RAISE else 1
            stage = self.world.stage
            stage.sim.faults.add(stage.no_stock(spot=True, times=times))

    def _process(self, command: str, **more: float) -> Process:
        struck = self.case.command == command and self.case.step >= 0
        return Process(world=self.world, rule=at(self.case.step, self.case.kind) if struck else None, **more)  # type: ignore[arg-type]

    def _request(self) -> StartRequest:
        """Each look at a pod that never serves is a request, and each request is a dozen cases."""
        return self.world.wish(**self._wishes())

    def _wishes(self) -> dict[str, object]:
        waits = not all(stage.ends_from_inside for stage in self.world.stages)
        if self.case.market is Market.MUTE or (self.case.market is Market.BAD_HOST and waits):
            return {"boot_timeout": MUTE_BOOT}
        if self.case.market is Market.RAISE:
            # Both first bids find nothing, and there is no on-demand to fall back to.
            return {"interruptible": Interruptible.REQUIRE}
        if self.case.market is Market.JIT:
            return {"registration": HowRegistered.JIT}
        if self.case.market is Market.DEARER:
            return {"max_cost": MAX_COST, "start_timeout": timedelta(minutes=9)}
        return {}

    async def _starts(self) -> tuple[Process, Outcome]:
        first = self._process("start")
        outcomes: list[Outcome] = []

        async def one() -> None:
            outcomes.insert(0, await first.start(self._request()))

        async def other() -> None:
            await anyio.sleep(TWIN_OFFSET)
            outcomes.append(await Process(world=self.world, latency=0.03).start(self._request()))

        if not self.case.twin:
            await one()
            self._check_start(outcomes[0], struck=True)
            return first, outcomes[0]
        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(other)
        self._check_twins(outcomes)
        return first, outcomes[0]

    async def _again(self) -> None:
        outcome = await Process(world=self.world).start(self._request())
        self._check_start(outcome, struck=False)
        if self.case.kind is not Kind.MALFORMED:
            assert outcome.ok, f"the repeated start failed: {outcome.error!r}"

    def _check_start(self, outcome: Outcome, *, struck: bool) -> None:
        live = self.world.live()
        if outcome.ok:
            started = outcome.result
            assert [pod.id for pod in live] == [started.pod.id]
            (runner,) = self.world.github.runners()
            assert (runner.name, runner.online, runner.labels[0]) == (started.name, True, started.label)
            return
        if outcome.cancelled_after is not None:
            assert outcome.cancelled_after <= CANCEL_WINDOW + 0.1
        elif not outcome.crashed:
            assert not live, f"a failed start left a pod: {outcome.error!r}"
            assert struck, f"failed without a reason: {outcome.error!r}"

    def _check_twins(self, outcomes: list[Outcome]) -> None:
        pods = {outcome.result.pod.id for outcome in outcomes if outcome.ok}
        assert len(pods) <= 1, "two starts of one key report two pods"
        if pods and all(outcome.ok for outcome in outcomes):
            assert {pod.id for pod in self.world.live()} == pods
            assert [runner.online for runner in self.world.github.runners()] == [True]

    async def _end(self) -> Process:
        if self.case.end is End.NOBODY:
            # Lium takes whole hours when a pod is rented, and the exact moment in a request of its own.
            await anyio.sleep((self._request().lifetime + timedelta(hours=1)).total_seconds())
            self.world.notice()
            assert not self.world.live(), "a pod outlives its kill time"
        if self.case.end is not End.STOP:
            self.world.github.complete_run(self.world.run_id)
        if self.case.end is End.CLEANUP and any(stage.bare for stage in self.world.stages):
            # No tags are told there: that the run of its name is over is no ground, its age without a runner is.
            await anyio.sleep(UNSERVED)
        command = "stop" if self.case.end is End.STOP else "cleanup"
        process = self._process(command)
        outcome = await self._finish(process)
        if not outcome.ok or self._reported(outcome):
            assert self.case.command == command, f"{command} failed without a reason: {outcome.error!r}"
            await anyio.sleep(LAG)
            outcome = await self._finish(Process(world=self.world))
        assert outcome.ok, repr(outcome.error)
        assert not self._reported(outcome)
        return process

    async def _finish(self, process: Process) -> Outcome:
        return await (process.stop() if self.case.end is End.STOP else process.cleanup())

    def _reported(self, outcome: Outcome) -> bool:
        """Whether a clean-up says that something is left or could not be looked at."""
        return self.case.end is not End.STOP and bool(outcome.result.left or outcome.result.errors)

    def _check_end(self) -> None:
        world = self.world
        assert not world.live()
        assert not world.github.runners()
        assert not world.github.violations
        assert world.gpu_bill() == world.used()
        total = world.total_bill()
        world.loop.jump(3600)
        assert world.total_bill() == total, "something bills on"
        world.check_secrets()

    def _allowed_overlap(self) -> float:
        """One start never has two pods; two that race have them until both have looked twice."""
        if not self.case.twin:
            return 0.0
        slow = REQUEST_TIMEOUT if self.case.kind in {Kind.HANG, Kind.HANG_AFTER} else 0.0
        return BOOT + REGISTER + LAG + SETTLE + 2 * POLL + slow + BACK_OFF


def steps_of(case: Case) -> int:
    """How many requests the struck command sends when nothing goes wrong."""
    return play(replace(case, kind=Kind.PASS, step=-1)).requests


def cases_of(case: Case, kinds: tuple[Kind, ...]) -> Iterator[Case]:
    """Every fault at every step of the scenario."""
    for step in range(steps_of(case)):
        for kind in kinds:
            yield replace(case, kind=kind, step=step)


def play_all(case: Case, kinds: tuple[Kind, ...]) -> int:
    """Play every fault at every step; how many cases that were. The first one that fails is named."""
    count = 0
    for count, one in enumerate(cases_of(case, kinds), 1):
        try:
            play(one, logs=count % LOGGED == 1)
        except BaseException as error:
            error.add_note(f"in {one}")
            raise
    return count
