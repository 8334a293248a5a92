"""The lease's decisions alone, against a world of which anything can be hidden, refused, lost or late."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.fakes import NAME, pod, tags

from runner_provisioner.domain.decisions import decide
from runner_provisioner.domain.leases import (
    CreatePod,
    Decision,
    EndPod,
    Lease,
    Limits,
    Observation,
    Outcome,
    Phase,
    PodRef,
    RemoveRunner,
    Unknown,
    counted,
    created,
    drain,
    made_here,
    ref,
    refused,
)
from runner_provisioner.domain.pods import Pod, PodState
from runner_provisioner.domain.runners import Runner, RunnerId, RunnerState
from runner_provisioner.storage.state_file import Creates, Record, resume
from runner_provisioner.testing.clock import EPOCH

pytestmark = pytest.mark.usefixtures("unmeasured")

SETTLE, LAG = timedelta(seconds=30), timedelta(seconds=25)  # lists are late, by less than they are waited for
LIMITS = Limits(settle=SETTLE, boot=timedelta(minutes=8), lifetime=timedelta(hours=6))
BOUND = 8  # passes in a quiet world, a third of `settle` apart, until a lease on its way out is released
STRANGER, SIBLING = "theirs", "sibling"


class Answer(StrEnum):
    """What comes of a create."""

    RENTED = "rented"
    REFUSED = "refused"
    UNSENT = "never arrived"
    LOST = "rented, the answer is lost"
    NOTHING = "nothing rented, no answer"
    CRASH_BEFORE = "the process dies before it is sent"
    CRASH_AFTER = "rented, the process dies before it notes the answer"


@dataclass
class There:
    """A pod of the world, since when it exists and whether this lease's processes asked for it."""

    pod: Pod
    since: datetime
    own: bool


class AnyWorld(RuleBasedStateMachine):
    """One lease of one process after the other, and the pods and the runner of its name."""

    def __init__(self) -> None:
        super().__init__()
        self.true = EPOCH
        self.offset = timedelta()
        self.world: dict[PodRef, There] = {}
        self.runner: Runner | None = None
        self.numbers = itertools.count(1)
        self.incarnation = 0
        self.creators: dict[str, Creates] = {}
        self.lease = Lease(name=NAME, phase=Phase.REQUESTED)

    # -- the process

    @initialize(stop=st.booleans(), rungs=st.integers(1, 3))
    def begin(self, stop: bool, rungs: int) -> None:  # noqa: FBT001 - hypothesis gives it by name
        """A start with so many offers, or a stop, before which there is a pod already."""
        self.rungs = rungs
        if stop:
            self.lease = Lease(name=NAME, phase=Phase.DRAINING, outcome=Outcome.CANCELLED)
            self._put("mine", creator="an earlier start", own=True)
        else:
            self._resume()

    @property
    def now(self) -> datetime:
        """What the process takes for the time."""
        return self.true + self.offset

    def _resume(self) -> None:
        self.incarnation += 1
        creator = f"process{self.incarnation}"
        record = Record(name=NAME, scope="s", label="l", nonce="mine", creators=dict(self.creators))
        deadline = self.now + timedelta(minutes=20)
        fresh = Lease(name=NAME, phase=Phase.REQUESTED, rungs=self.rungs)
        self.lease = resume(record, creator=creator, deadline=deadline, lease=fresh)

    def _save(self, lease: Lease) -> None:
        self.lease = lease
        if lease.creator is not None:
            unsure = lease.unsure and lease.phase is not Phase.RELEASED
            self.creators[lease.creator] = Creates(
                made=lease.made, ended=lease.ended, unsure=unsure, placed_at=lease.placed_at
            )

    def _die(self) -> None:
        if self.lease.nonce is None:
            self.lease = Lease(name=NAME, phase=Phase.DRAINING, outcome=Outcome.CANCELLED)
        else:
            self._resume()

    # -- the world

    def _put(self, nonce: str, *, creator: str, own: bool) -> Pod:
        # The stranger's and the sibling's pods are older or younger than ours, as it happens.
        made = pod(
            pod_id=f"p{next(self.numbers)}",
            state=PodState.STARTING,
            created_at=self.true,
            tags=tags(nonce=nonce, creator=creator),
        )
        self.world[ref(made)] = There(made, self.true, own)
        return made

    def _living(self) -> list[PodRef]:
        return [one for one, there in self.world.items() if there.pod.alive]

    def _change(self, state: PodState) -> None:
        living = self._living()
        if living:
            there = self.world[living[0]]
            there.pod = replace(there.pod, state=state)
            if state is not PodState.RUNNING and self.runner is not None:
                self.runner = replace(self.runner, online=False)

    def look(self, *, pods: bool = True, runner: bool = True, fresh: bool = True) -> Observation:
        """An honest look: lists lag, reads by id do not; parts of it may fail."""
        listed = {one for one, there in self.world.items() if there.since + LAG <= self.true}
        asked = listed | self.lease.known
        there = tuple(self.world[one].pod for one in sorted(asked) if one in self.world)
        return Observation(
            pods=there if pods else Unknown(reason="no answer"),
            runner=self.runner if runner else Unknown(reason="no answer"),
            gone=frozenset(one for one in asked if one not in self.world),
            fresh=fresh,
        )

    # -- what happens

    @rule(
        pods=st.sampled_from([True, True, True, False]),
        runner=st.sampled_from([True, True, True, False]),
        fresh=st.sampled_from([True, True, False]),
        answer=st.sampled_from(list(Answer)),
        ends=st.booleans(),
    )
    def one_pass(self, pods: bool, runner: bool, fresh: bool, answer: Answer, ends: bool) -> None:  # noqa: FBT001
        """Look, decide, save, act; parts of the look fail, ends are answered and not done."""
        seen = self.look(pods=pods, runner=runner, fresh=fresh)
        before = self.lease
        decision = decide(before, seen, now=self.now, limits=LIMITS)
        self._check(before, seen, decision)
        self._save(decision.lease)
        for action in decision.actions:
            if isinstance(action, EndPod) and ends:
                self.world.pop(action.pod, None)
            elif isinstance(action, RemoveRunner) and ends:
                self.runner = None
            elif isinstance(action, CreatePod):
                self._create(answer)

    def _create(self, answer: Answer) -> None:
        if answer is Answer.CRASH_BEFORE:
            self._die()
        elif answer is Answer.REFUSED:
            self._save(refused(self.lease, next_rung=self.lease.rung + 1))
        elif answer is Answer.UNSENT:
            self._save(refused(self.lease, next_rung=self.lease.rung))
        elif answer is not Answer.NOTHING:
            made = self._put("mine", creator=self.lease.creator or "", own=True)
            if answer is Answer.RENTED:
                self._save(created(self.lease, made))
            elif answer is Answer.CRASH_AFTER:
                self._die()

    @rule(seconds=st.sampled_from([1, 10, 31, 31, 500]))
    def time_passes(self, seconds: int) -> None:
        """Also while nobody looks, as in a machine that is suspended."""
        self.true += timedelta(seconds=seconds)

    @rule(seconds=st.sampled_from([1, 31, 4000]))
    def the_clock_is_set_back(self, seconds: int) -> None:
        """The process takes it for earlier than before."""
        self.offset -= timedelta(seconds=seconds)

    @rule(seconds=st.sampled_from([-4000, -31, 0, 31, 4000, 10**6]))
    def restart(self, seconds: int) -> None:
        """The process dies; the next one's clock tells any time."""
        self.offset += timedelta(seconds=seconds)
        self._die()

    @precondition(lambda self: self.lease.phase is not Phase.RELEASED)
    @rule(outcome=st.sampled_from([Outcome.CANCELLED, Outcome.LOST]))
    def give_up(self, outcome: Outcome) -> None:
        """The start is cancelled, or something else went wrong."""
        self.lease = replace(drain(self.lease, outcome), rungs=0)

    @rule(state=st.sampled_from([PodState.RUNNING, PodState.FAILED, PodState.INTERRUPTED]))
    def a_pod_changes(self, state: PodState) -> None:
        """It boots, its container exits, or the provider takes it."""
        self._change(state)

    @rule()
    def a_pod_vanishes(self) -> None:
        """It ends itself, or the provider deletes it."""
        for one in self._living()[:1]:
            del self.world[one]

    @rule(state=st.sampled_from([RunnerState.IDLE, RunnerState.BUSY]))
    def a_runner_works(self, state: RunnerState) -> None:
        """The first pod that runs registers, or takes a job."""
        if any(there.pod.state is PodState.RUNNING for there in self.world.values()):
            number = self.runner.id if self.runner else RunnerId(next(self.numbers))
            self.runner = Runner(id=number, name=NAME, state=state)

    @rule()
    def the_runner_is_done(self) -> None:
        """Its one job is over."""
        self.runner = None

    @precondition(lambda self: len(self.world) < 4)
    @rule(nonce=st.sampled_from([STRANGER, "mine"]))
    def somebody_else_rents(self, nonce: str) -> None:
        """Another start of the name, or another process with the same state file."""
        self._put(nonce, creator=SIBLING, own=False)

    # -- what must hold

    def _check(self, before: Lease, seen: Observation, decision: Decision) -> None:
        creates = [action for action in decision.actions if isinstance(action, CreatePod)]
        ended = {action.pod for action in decision.actions if isinstance(action, EndPod)}
        own = {one for one, there in self.world.items() if there.own}
        if creates:
            assert len(creates) == 1
            assert not own, "a create while a pod that this lease asked for may live"
            assert before.phase is Phase.REQUESTED
            assert seen.pods == (), "a create beside a pod of the name"
        self._check_ends(before, decision, ended)
        if before.phase is Phase.RELEASED:
            assert decision == Decision(lease=decision.lease)
            assert decision.lease.phase is Phase.RELEASED
        elif decision.lease.phase is Phase.RELEASED:
            self._check_release(before, seen, own)

    def _check_ends(self, before: Lease, decision: Decision, ended: set[PodRef]) -> None:
        for one in ended & set(self.world):
            doomed = self.world[one].pod
            if before.nonce is None or not counted(before, doomed):
                continue
            assert doomed.tags is not None
            assert doomed.tags.nonce == "mine", "a stranger's pod that lives is ended"
            draining = Phase.DRAINING in {before.phase, decision.lease.phase}
            assert draining or made_here(decision.lease, doomed), "a sibling's pod is ended in passing"

    def _check_release(self, before: Lease, seen: Observation, own: set[PodRef]) -> None:
        assert not isinstance(seen.pods, Unknown), "released without a look"
        assert not own, "released while a pod that this lease asked for lives"
        theirs = [one for one in seen.pods if counted(before, one)]
        assert theirs or seen.runner is None, "released beside a runner that nobody else can own"

    def teardown(self) -> None:
        """The world becomes quiet: what is on its way out arrives, within a bounded number of passes."""
        self.lease = replace(drain(self.lease, Outcome.CANCELLED), rungs=0)
        for _ in range(BOUND):
            if self.lease.phase is Phase.RELEASED:
                break
            self.one_pass(True, True, True, Answer.REFUSED, True)
            self.true += SETTLE / 3
        assert self.lease.phase is Phase.RELEASED
        assert not [there for there in self.world.values() if there.own]
        assert decide(self.lease, self.look(), now=self.now, limits=LIMITS).actions == ()


TestAnyWorld = AnyWorld.TestCase
TestAnyWorld.settings = settings(max_examples=300, stateful_step_count=30, deadline=None, derandomize=True)
