"""Commands, faults and time in any order: once the runs are over and a clean-up has run, nothing bills."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.inprocess import Outcome, Process, World, seed
from support.product import LAG, UNSERVED
from support.stages import Provider, RunPodStage
from support.virtual_time import VirtualLoop
from support.wire import Kind, at

from runner_provisioner.simulators.runpod.pods import RUNNING

pytestmark = pytest.mark.usefixtures("unmeasured")

KINDS = st.sampled_from([kind for kind in Kind if kind is not Kind.PASS])
STEPS = st.integers(min_value=0, max_value=17)


class AnyOrder(RuleBasedStateMachine):
    """One installation with two workflow runs, each with one key."""

    providers: ClassVar[tuple[Provider, ...]] = (Provider.RUNPOD,)

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        loop = self.runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        self.world = World(self.folder, loop, logs=False, library=False, schema=False, providers=self.providers)
        self.attempt = 1

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever the work gives
        """Let it happen."""
        return self.runner.run(work)

    @initialize(lag=st.sampled_from([0.0, LAG]), spot=st.booleans(), number=st.integers(0, 1000))
    def begin(self, lag: float, spot: bool, number: int) -> None:  # noqa: FBT001 - hypothesis gives it by name
        """Choose what the provider is like."""
        seed(number)
        for stage in self.world.stages:
            stage.sim.fleet.settings.list_lag = lag
            if isinstance(stage, RunPodStage):
                stage.sim.market.spot = spot

    @rule()
    def start(self) -> None:
        """A start, or a repeated one, that nothing befalls."""
        outcome: Outcome = self.do(Process(world=self.world, attempt=self.attempt).start())
        if outcome.ok:
            assert outcome.result.pod.id in {pod.id for pod in self.world.live()}

    @rule(step=STEPS, kind=KINDS)
    def troubled_start(self, step: int, kind: Kind) -> None:
        """A start with a fault, a crash or a cancellation on its way."""
        self.do(Process(world=self.world, attempt=self.attempt, rule=at(step, kind)).start())

    @rule(step=STEPS, kind=KINDS, wait=st.sampled_from([0.0, 0.05, 0.4, 3.0]))
    def two_starts(self, step: int, kind: Kind, wait: float) -> None:
        """Two of one state file at once."""

        async def both() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(Process(world=self.world, attempt=self.attempt, rule=at(step, kind)).start)
                await anyio.sleep(wait)
                group.start_soon(Process(world=self.world, attempt=self.attempt, latency=0.03).start)

        self.do(both())

    @rule()
    def stranger(self) -> None:
        """A start of the same key that has no state file."""
        before = {pod.id for pod in self.world.live() if pod.status == RUNNING}
        self.do(Process(world=self.world, attempt=self.attempt, state="elsewhere").start())
        assert before <= {pod.id for pod in self.world.live()}, "a stranger ended somebody's pod"

    @rule(step=STEPS, kind=KINDS)
    def stop(self, step: int, kind: Kind) -> None:
        """A stop with a fault on its way."""
        self.do(Process(world=self.world, attempt=self.attempt, rule=at(step, kind)).stop())

    @rule(step=STEPS, kind=KINDS)
    def cleanup(self, step: int, kind: Kind) -> None:
        """A clean-up with a fault on its way; the run goes on, so it ends nothing young that serves."""
        self.do(Process(world=self.world, attempt=self.attempt, rule=at(step, kind)).cleanup())

    @rule()
    def interrupt(self) -> None:
        """The provider takes every pod."""
        for pod in self.world.live():
            self.world.interrupt(pod)

    @rule()
    def rerun(self) -> None:
        """The attempt ends, the next one begins."""
        self.world.github.complete_run(self.world.run_id)
        self.world.github.rerun(self.world.run_id)
        self.attempt += 1

    @rule(seconds=st.sampled_from([1, 30, 400, 1000]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.do(anyio.sleep(seconds))

    @invariant()
    def the_bill_is_what_was_used(self) -> None:
        """At each moment, whatever was interrupted (a stopped pod bills no GPU)."""
        assert self.world.gpu_bill() <= self.world.used()

    def teardown(self) -> None:
        """The runs are over; some time later clean-up runs."""
        try:
            self.world.github.complete_run(self.world.run_id)
            self.do(anyio.sleep(UNSERVED if any(stage.bare for stage in self.world.stages) else LAG))
            outcome = self.do(Process(world=self.world, attempt=self.attempt).cleanup())
            assert outcome.ok, repr(outcome.error)
            assert not outcome.result.left
            assert not self.world.live()
            assert not self.world.github.runners()
            assert not self.world.github.violations
            self.world.check_secrets()
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)


class AtLium(AnyOrder):
    """At Lium alone."""

    providers = (Provider.LIUM,)


class AtPrime(AnyOrder):
    """At Prime Intellect alone."""

    providers = (Provider.PRIME,)


class WithoutGraphql(AnyOrder):
    """At RunPod's REST v2."""

    providers = (Provider.REST,)


class AtAll(AnyOrder):
    """At three markets at once."""

    providers = (Provider.RUNPOD, Provider.LIUM, Provider.PRIME)


TestAnyOrder = AnyOrder.TestCase
TestAtLium = pytest.mark.full(AtLium.TestCase)
TestAtPrime = pytest.mark.full(AtPrime.TestCase)
TestWithoutGraphql = pytest.mark.full(WithoutGraphql.TestCase)
TestAtAll = pytest.mark.full(AtAll.TestCase)
TestAnyOrder.settings = TestAtLium.settings = TestAtPrime.settings = settings(
    max_examples=15,
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestWithoutGraphql.settings = TestAtAll.settings = TestAnyOrder.settings
