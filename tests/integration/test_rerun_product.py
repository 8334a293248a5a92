"""Every fault at every request of `rerun`, in one process: no pod without an owner, and never two bills."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import anyio
import pytest
from support import virtual_time
from support.counting import CASES
from support.inprocess import Outcome, World, seed
from support.product import LAG, LOGGED, UNSERVED, scratch
from support.repeating import Repeating
from support.stages import Provider
from support.virtual_time import VirtualLoop
from support.wire import Kind, at

from runner_provisioner.cli import repeating
from runner_provisioner.domain.request import StartRequest
from runner_provisioner.services.provision import CANCEL_WINDOW
from runner_provisioner.services.rerun import Rerun

EVERY = tuple(kind for kind in Kind if kind is not Kind.PASS)
LAST = 4  # requests: the order of the re-run and what surrounds it
IDLE = StartRequest().idle.total_seconds()

Count = Callable[[str, object], None]
pytestmark = pytest.mark.usefixtures("unmeasured")


class End(StrEnum):
    """What follows a `rerun` that did not come to its end."""

    SETTLED = "settled and tried again"
    ALONE = "left alone, cleaned up"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A rerun whose request number `step` meets `kind`."""

    at: tuple[Provider, ...] = (Provider.RUNPOD,)
    end: End = End.SETTLED
    lag: float = 0.0
    kind: Kind = Kind.PASS
    step: int = -1


def play(case: Case, *, logs: bool = False) -> int:
    """Play it and check all that must hold; how many requests the rerun sent."""
    seed(case)
    with scratch() as folder:

        async def main(loop: VirtualLoop) -> int:
            world = World(folder, loop, list_lag=case.lag, logs=logs, schema=logs, library=False, providers=case.at)
            return await _Play(Repeating(world), case).run()

        return virtual_time.run(main)


@dataclass
class _Play:
    run_: Repeating
    case: Case

    @property
    def world(self) -> World:
        return self.run_.world

    async def run(self) -> int:
        await self.run_.first_attempt()
        rule = at(self.case.step, self.case.kind) if self.case.step >= 0 else None
        struck = self.run_.process(1, state="rerun", rule=rule)
        outcome = await self.run_.rerun(1, struck)
        self._check(outcome)
        if self.run_.attempts == 1:
            await self._again()
        if self.run_.attempts > 1:
            await self._finish()
        await self._clean()
        self._check_end()
        return len(struck.wire.sent)

    def _check(self, outcome: Outcome) -> None:
        """What holds the moment it ends: whatever lives is the new attempt's, or is known to be left."""
        live = self.world.live()
        assert len(live) <= 1
        began = self.run_.attempts > 1
        if outcome.ok:
            assert began
            assert len(live) == 1
            return
        assert self.case.step >= 0, f"failed without a reason: {outcome.error!r}"
        if outcome.cancelled_after is not None:
            assert outcome.cancelled_after <= CANCEL_WINDOW + 0.1
        elif not outcome.crashed and not began:
            assert not live, f"a failed rerun left a pod: {outcome.error!r}"

    async def _again(self) -> None:
        await anyio.sleep(LAG)
        if self.case.end is End.ALONE:
            return
        settled = await self.run_.settle(1)
        assert settled.ok, repr(settled.error)
        assert not self.world.live()
        # Somebody re-runs the workflow that follows the run: another machine, with no state of the first.
        outcome = await self.run_.rerun(1, self.run_.process(1, state="rerun-again"))
        assert outcome.ok, repr(outcome.error)
        assert self.run_.attempts == 2

    async def _finish(self) -> None:
        """The attempt exists: its job has its machine, or, where that was given back, somebody cancels it."""
        if self.world.live():
            await self.run_.finish(2)
            return
        assert self.case.step >= 0
        self.world.github.cancel(self.run_.run_id)
        outcome, _ = await self.run_.stop(2)
        assert outcome.ok, repr(outcome.error)

    async def _clean(self) -> None:
        """What nobody has a job for ends itself, and the scheduled clean-up takes the rest."""
        if self.world.live() or self.world.github.runners():
            assert self.case.step >= 0
            # What cannot end itself is clean-up's, once it is old and nothing of its name is registered.
            itself = all(stage.ends_from_inside for stage in self.world.stages)
            await anyio.sleep(IDLE + LAG + 120 if itself else UNSERVED)
            self.world.notice()
            outcome = await self.run_.process(1, state="cleanup").cleanup()
            assert outcome.ok, repr(outcome.error)
            assert not outcome.result.left

    def _check_end(self) -> None:
        world = self.world
        assert not world.live()
        leftover = [runner.name for runner in world.github.runners() if runner.online]
        assert leftover == []
        assert not world.github.violations
        assert world.longest_overlap() == 0.0
        spans = sorted((pod.created_at, pod.ended_at or world.clock.now()) for pod in world.pods())
        for one, other in itertools.pairwise(spans):
            assert one[1] <= other[0], "two pods billed at once"
        assert world.gpu_bill() == self.run_.used()
        total = world.total_bill()
        world.loop.jump(3600)
        assert world.total_bill() == total, "something bills on"
        world.check_secrets()


def cases_of(case: Case, kinds: tuple[Kind, ...]) -> Iterator[Case]:
    """Every fault at every step."""
    for step in range(play(case)):
        for kind in kinds:
            yield replace(case, kind=kind, step=step)


def play_all(case: Case, kinds: tuple[Kind, ...]) -> int:
    """Play them; how many they were. The first one that fails is named."""
    count = 0
    for count, one in enumerate(cases_of(case, kinds), 1):
        try:
            play(one, logs=count % LOGGED == 1)
        except BaseException as error:
            error.add_note(f"in {one}")
            raise
    return count


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_whatever_befalls_a_rerun_nothing_is_without_an_owner(record_property: Count) -> None:
    """A deadly fault at each of its requests, then its settling, another rerun, and the job's success."""
    record_property(CASES, play_all(Case(), (Kind.CRASH_AFTER,)))


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lag", [0.0, LAG], ids=["", "list-lag"])
@pytest.mark.parametrize("end", list(End))
@pytest.mark.parametrize("at", [(one,) for one in Provider], ids=[one.name.lower() for one in Provider])
def test_the_same_with_every_fault(at: tuple[Provider, ...], end: End, lag: float, record_property: Count) -> None:
    """The whole product."""
    record_property(CASES, play_all(Case(at=at, end=end, lag=lag), EVERY))


def test_the_product_reaches_every_request() -> None:
    """The attempts, jobs, records, pods, the whole start, and the order itself."""
    assert play(Case()) >= 22


# -- the product is able to notice


def _last(kind: Kind) -> list[Case]:
    """The cases of one kind that strike the last requests."""
    return list(cases_of(Case(), (kind,)))[-LAST:]


def _noticed(kind: Kind) -> bool:
    for one in _last(kind):
        try:
            play(one)
        except AssertionError:
            return True
    return False


def test_it_notices_a_rerun_that_gives_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that is refused leaves a machine that nobody has a job for."""

    async def nothing(*_given: object) -> list[object]:
        return []

    monkeypatch.setattr(repeating, "settle", nothing)
    assert _noticed(Kind.ERROR)


@pytest.mark.full
def test_it_notices_a_rerun_that_ends_what_the_new_attempt_owns(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is lost: the attempt exists, and its job would wait for ever."""

    async def never(_self: Rerun) -> bool:
        return False

    monkeypatch.setattr(Rerun, "has_begun", never)

    def ends() -> list[str]:
        found = []
        for one in _last(Kind.DROP_AFTER):
            with scratch() as folder:

                async def main(loop: VirtualLoop, case: Case = one, folder: object = folder) -> str:
                    run = Repeating(World(folder, loop, logs=False, schema=False, library=False))  # type: ignore[arg-type]
                    await run.first_attempt()
                    await run.rerun(1, run.process(1, state="rerun", rule=at(case.step, case.kind)))
                    return f"{run.attempts} {len(run.world.live())}"

                found.append(virtual_time.run(main))
        return found

    assert "2 0" in ends()
