"""The lease's decisions over the full product of what can be remembered and seen."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner_provisioner.domain.decisions import TRANSITIONS, decide
from runner_provisioner.domain.leases import (
    CreatePod,
    EndPod,
    GiveConfig,
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
    ours,
    ref,
    refused,
)
from runner_provisioner.domain.pods import Pod, PodClass, PodId, PodState, PodTags, SshEndpoint
from runner_provisioner.domain.runners import Runner, RunnerId, RunnerState, creator_label

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
LIMITS = Limits(settle=timedelta(seconds=30), boot=timedelta(minutes=8), lifetime=timedelta(hours=6))
NAME = "rp-0123abcd-zz-1-default"

LEGAL = {
    Phase.REQUESTED: {Phase.REQUESTED, Phase.PLACING, Phase.BOOTING, Phase.DRAINING},
    Phase.PLACING: {Phase.PLACING, Phase.BOOTING, Phase.REQUESTED, Phase.DRAINING},
    Phase.BOOTING: {Phase.BOOTING, Phase.READY, Phase.BUSY, Phase.DRAINING},
    Phase.READY: {Phase.READY, Phase.BOOTING, Phase.BUSY, Phase.DRAINING},
    Phase.BUSY: {Phase.BUSY, Phase.BOOTING, Phase.DRAINING},
    Phase.DRAINING: {Phase.DRAINING, Phase.REQUESTED, Phase.RELEASED},
    Phase.RELEASED: {Phase.RELEASED},
}


def pod(
    number: int,
    *,
    state: PodState = PodState.RUNNING,
    nonce: str | None = "mine",
    creator: str | None = "me",
    uptime: int | None = 10,
    price: str = "0.20",
    age: int = 60,
) -> Pod:
    """A pod of the name, the lower its number the older."""
    tags = PodTags(owner="0123abcd", cls=PodClass.RUNNER, nonce=nonce, creator=creator) if nonce is not None else None
    return Pod(
        provider="runpod",
        id=PodId(f"pod{number}"),
        name=NAME,
        state=state,
        tags=tags,
        price=Decimal(price),
        created_at=NOW - timedelta(seconds=age) + timedelta(seconds=number),
        uptime_seconds=uptime,
    )


def runner(state: RunnerState, *, online: bool = True) -> Runner:
    """The runner of the name."""
    return Runner(id=RunnerId(7), name=NAME, state=state, online=online)


def lease(phase: Phase, **changes: object) -> Lease:
    """A start's lease in a phase."""
    base = Lease(
        name=NAME,
        phase=phase,
        nonce="mine",
        creator="me",
        rungs=2,
        deadline=NOW + timedelta(minutes=20),
        cap=Decimal("1.00"),
        placed_at=NOW - timedelta(seconds=60),
    )
    return replace(base, **changes)  # type: ignore[arg-type] # the changes are fields of a lease


PODS: dict[str, tuple[Pod, ...] | Unknown] = {
    "unknown": Unknown(reason="no answer"),
    "none": (),
    "booting": (pod(1, state=PodState.STARTING),),
    "running": (pod(1),),
    "two-of-mine": (pod(1), pod(2)),
    "sibling-older": (pod(1, creator="sibling"), pod(2)),
    "exited": (pod(1, state=PodState.FAILED),),
    "interrupted": (pod(1, state=PodState.INTERRUPTED),),
    "foreign-older": (pod(1, nonce="theirs", creator="them"), pod(2)),
    "foreign-younger": (pod(1), pod(2, nonce="theirs", creator="them")),
    "foreign-alone": (pod(1, nonce="theirs", creator="them"),),
    "untagged": (pod(1, nonce=None),),
    "dear": (pod(1, price="9.99"),),
}
RUNNERS: dict[str, Runner | Unknown | None] = {
    "unknown": Unknown(reason="no answer"),
    "none": None,
    "offline": runner(RunnerState.OFFLINE, online=False),
    "idle": runner(RunnerState.IDLE),
    "busy": runner(RunnerState.BUSY),
    "busy-offline": runner(RunnerState.BUSY, online=False),
}
POD1 = PodRef("runpod", PodId("pod1"))
MEMORIES: dict[str, dict[str, object]] = {
    "fresh": {},
    "unsure": {"unsure": True},
    "made": {"made": frozenset({POD1}), "pod": POD1},
    "inherited": {"inherited": frozenset({POD1})},
    "of-a-sibling": {"siblings": frozenset({POD1})},
    "asked-to-end": {"made": frozenset({POD1}), "ended": frozenset({POD1}), "pod": POD1},
    "quiet-long": {"quiet_since": NOW - timedelta(seconds=31)},
    "quiet-unsure": {"quiet_since": NOW - timedelta(seconds=31), "unsure": True},
    "last-rung": {"rung": 1},
    "no-rung": {"rung": 2},
    "late": {"deadline": NOW},
    "old": {"placed_at": NOW - timedelta(hours=7)},
    "slow": {"placed_at": NOW - timedelta(minutes=9)},
    "uptime-went-back": {"uptime": 99},
    "any-pod": {"nonce": None, "creator": None, "rungs": 0, "deadline": None, "cap": None},
    "only-made": {"nonce": "", "made": frozenset({POD1}), "rungs": 0},
    "interrupted-before": {"outcome": Outcome.INTERRUPTED},
    "conflict": {"outcome": Outcome.CONFLICT},
}


def cases() -> list[tuple[str, Lease, Observation]]:
    """Every phase with every memory, sight of pods, sight of the runner and knowledge of what is gone."""
    found = []
    for phase, memory, pods, one, gone in itertools.product(Phase, MEMORIES, PODS, RUNNERS, (False, True)):
        seen_pods = PODS[pods]
        there = set() if isinstance(seen_pods, Unknown) else {ref(each) for each in seen_pods}
        if gone and POD1 in there:
            continue
        name = f"{phase}-{memory}-{pods}-{one}-{'gone' if gone else 'unread'}"
        seen = Observation(pods=seen_pods, runner=RUNNERS[one], gone=frozenset({POD1}) if gone else frozenset())
        found.append((name, lease(phase, **MEMORIES[memory]), seen))
    return found


CASES = cases()


def test_every_phase_has_a_rule() -> None:
    """The table is complete."""
    assert set(TRANSITIONS) == set(Phase)


def test_every_case_of_the_product_is_decided_legally(capsys: pytest.CaptureFixture[str]) -> None:
    """No case raises, leaves the table of legal moves, or breaks an invariant about money."""
    for name, before, seen in CASES:
        decision = decide(before, seen, now=NOW, limits=LIMITS)
        assert decision.lease.phase in LEGAL[before.phase], name
        _check_creates(name, before, seen, decision.actions)
        _check_ends(name, before, seen, decision.actions)
        if decision.lease.phase is Phase.RELEASED and before.phase is not Phase.RELEASED:
            _check_release(name, before, seen)
    with capsys.disabled():
        print(f"\n{len(CASES)} cases of the lease's product decided")  # noqa: T201 - the count is part of the result


def _check_creates(name: str, before: Lease, seen: Observation, actions: tuple[object, ...]) -> None:
    creates = [action for action in actions if isinstance(action, CreatePod)]
    if not creates:
        return
    assert before.phase is Phase.REQUESTED, name
    assert seen.pods == (), name
    assert seen.runner is None, name
    assert before.rung < before.rungs, name
    if before.unsure:
        assert before.quiet_since is not None, name


def _check_ends(name: str, before: Lease, seen: Observation, actions: tuple[object, ...]) -> None:
    there = () if isinstance(seen.pods, Unknown) else seen.pods
    foreign = {ref(one) for one in there if counted(before, one) and not ours(before, one)}
    ended = {action.pod for action in actions if isinstance(action, EndPod)}
    assert not ended & foreign, name
    if foreign:
        assert not [
            action for action in actions if isinstance(action, RemoveRunner) and before.phase is Phase.DRAINING
        ], name


def _check_release(name: str, before: Lease, seen: Observation) -> None:
    assert not isinstance(seen.pods, Unknown), name
    foreign = [one for one in seen.pods if counted(before, one) and not ours(before, one)]
    assert list(seen.pods) == foreign, name
    assert foreign or seen.runner is None, name
    quiet = before.quiet_since is not None and NOW - before.quiet_since >= LIMITS.settle
    if before.unsure:
        assert quiet, name
    if before.nonce is None and not before.known:
        assert quiet, name
    assert quiet or before.known <= seen.gone, name


@pytest.mark.parametrize("phase", list(Phase), ids=str)
@pytest.mark.parametrize("memory", list(MEMORIES))
def test_every_phase_reaches_the_end_once_it_drains(phase: Phase, memory: str) -> None:
    """In a world that does what it is told, a drained lease is released and nothing of ours is left."""
    here = drain(lease(phase, **MEMORIES[memory]), Outcome.CANCELLED)
    here = replace(here, rungs=0)
    world = {ref(one): one for one in (pod(1), pod(2, state=PodState.FAILED))}
    registered: Runner | None = runner(RunnerState.BUSY)
    now = NOW
    for _ in range(12):
        gone = frozenset(here.known - set(world))
        seen = Observation(pods=tuple(world.values()), runner=registered, gone=gone)
        decision = decide(here, seen, now=now, limits=LIMITS)
        here = decision.lease
        for action in decision.actions:
            if isinstance(action, EndPod):
                world.pop(action.pod, None)
            elif isinstance(action, RemoveRunner):
                registered = None
        now += timedelta(seconds=16)
    assert here.phase is Phase.RELEASED
    if phase is not Phase.RELEASED:
        assert not world
        assert registered is None


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(CASES), min_size=1, max_size=12), st.lists(st.integers(0, 60), min_size=12, max_size=12)
)
def test_any_row_of_sights_keeps_to_the_legal_moves(row: list[tuple[str, Lease, Observation]], gaps: list[int]) -> None:
    """However sights follow each other, a lease moves legally and forgets no pod that it made."""
    here = row[0][1]
    now = NOW
    for (name, _lease, seen), gap in zip(row, gaps, strict=False):
        now += timedelta(seconds=gap)
        decision = decide(here, seen, now=now, limits=LIMITS)
        assert decision.lease.phase in LEGAL[here.phase], name
        assert decision.lease.made >= here.made
        assert decision.lease.ended >= here.ended
        here = decision.lease


def test_two_pods_of_one_creator_leave_the_older() -> None:
    """The younger one is ended by the process that made it."""
    decision = decide(lease(Phase.BOOTING), Observation(pods=PODS["two-of-mine"], runner=None), now=NOW, limits=LIMITS)
    assert decision.actions == (EndPod(pod=PodRef("runpod", PodId("pod2"))),)
    assert decision.lease.pod == POD1


def test_two_creators_of_one_state_file_each_end_only_their_own_pod() -> None:
    """The sibling's older pod is kept, ours is ended."""
    seen = Observation(pods=PODS["sibling-older"], runner=None)
    decision = decide(lease(Phase.PLACING, unsure=True), seen, now=NOW, limits=LIMITS)
    assert decision.actions == (EndPod(pod=PodRef("runpod", PodId("pod2"))),)
    assert decision.lease.pod == POD1
    sibling = replace(lease(Phase.PLACING, unsure=True), creator="sibling")
    assert decide(sibling, seen, now=NOW, limits=LIMITS).actions == ()


def test_a_pod_asked_to_end_never_wins_over_its_successor() -> None:
    """A list that still shows the first offer's pod does not cost the second its life."""
    here = lease(Phase.BOOTING, ended=frozenset({POD1}), pod=PodRef("runpod", PodId("pod2")))
    decision = decide(here, Observation(pods=(pod(1), pod(2)), runner=None), now=NOW, limits=LIMITS)
    assert decision.lease.pod == PodRef("runpod", PodId("pod2"))
    assert decision.actions == (EndPod(pod=POD1),)


def test_a_pod_above_the_cap_is_given_back_for_the_next_offer() -> None:
    """The price that counts is the one the pod really has."""
    decision = decide(lease(Phase.BOOTING), Observation(pods=PODS["dear"], runner=None), now=NOW, limits=LIMITS)
    assert (decision.lease.phase, decision.lease.outcome) == (Phase.DRAINING, Outcome.OVERPRICED)


@pytest.mark.parametrize(
    ("creator", "hours", "price", "outcome"),
    [
        pytest.param("sibling", 2, "0.30", Outcome.OVERPRICED, id="another's, dearer than what is left"),
        pytest.param("sibling", 2, "0.25", None, id="another's, just as much"),
        pytest.param("sibling", None, "0.30", None, id="another's, without an end"),
        pytest.param("sibling", 2, None, None, id="another's, without a price"),
        pytest.param("me", 2, "0.30", None, id="made here, under the cap of its offer"),
        pytest.param("sibling", None, "2.10", Outcome.OVERPRICED, id="another's, above the max price"),
        pytest.param("sibling", None, "1.90", None, id="another's, above the cap of our own offer"),
    ],
)
def test_a_pod_of_another_process_may_cost_no_more_than_is_left(
    creator: str, hours: int | None, price: str | None, outcome: Outcome | None
) -> None:
    """Its lifetime was drawn up for the price of its offer; a start that takes it over holds it to the max cost."""
    made = pod(1, creator=creator)
    assert made.tags is not None
    ends = NOW + timedelta(hours=hours) if hours is not None else None
    made = replace(made, tags=replace(made.tags, expires_at=ends), price=Decimal(price) if price else None)
    here = lease(Phase.BOOTING, worth=Decimal("0.50"), max_price=Decimal(2))
    assert decide(here, Observation(pods=(made,), runner=None), now=NOW, limits=LIMITS).lease.outcome == outcome


def test_beside_a_siblings_pod_the_own_create_may_still_turn_out_to_have_rented() -> None:
    """Where pods have no tags it is known by name and moment alone, and the sibling's is not taken for it."""
    theirs, ours = (replace(pod(number), tags=None, created_at=NOW) for number in (1, 2))
    here = replace(lease(Phase.PLACING, unsure=True, placed_at=NOW), made=frozenset(), siblings=frozenset({POD1}))
    seen = Observation(pods=(theirs,), runner=None)
    adopted = decide(here, seen, now=NOW, limits=LIMITS).lease
    assert (adopted.phase, adopted.pod, adopted.unsure, adopted.made) == (Phase.BOOTING, POD1, True, frozenset())
    both = Observation(pods=(theirs, ours), runner=None)
    after = decide(adopted, both, now=NOW, limits=LIMITS).lease
    assert (after.unsure, after.made) == (False, frozenset({PodRef("runpod", PodId("pod2"))}))
    assert after.outcome is None


@pytest.mark.parametrize("known", ["siblings", "inherited", "made"])
@pytest.mark.parametrize("price", ["1.90", "2.10"])
def test_a_pod_without_tags_may_cost_another_process_what_it_may_cost_this_one(known: str, price: str) -> None:
    """Two starts that hold one pod to different prices would end each other's; one of its own keeps to its offer."""
    made = replace(pod(1), tags=None, price=Decimal(price))
    here = replace(lease(Phase.BOOTING, cap=Decimal(1), max_price=Decimal(2)), made=frozenset())
    here = {
        "siblings": replace(here, siblings=frozenset({POD1})),
        "inherited": replace(here, inherited=frozenset({POD1})),
        "made": replace(here, made=frozenset({POD1})),
    }[known]
    after = decide(here, Observation(pods=(made,), runner=None), now=NOW, limits=LIMITS).lease
    kept = known != "made" and price == "1.90"
    assert (after.outcome is None) is kept


def test_success_waits_for_a_look_after_settle() -> None:
    """Only a fresh look at least settle after the create makes a lease settled."""
    here = lease(Phase.READY, placed_at=NOW - timedelta(seconds=31), pod=POD1)
    stale = Observation(pods=PODS["running"], runner=RUNNERS["idle"], fresh=False)
    assert not decide(here, stale, now=NOW, limits=LIMITS).lease.settled
    assert decide(here, replace(stale, fresh=True), now=NOW, limits=LIMITS).lease.settled
    early = replace(here, placed_at=NOW - timedelta(seconds=29))
    assert not decide(early, replace(stale, fresh=True), now=NOW, limits=LIMITS).lease.settled


def test_success_waits_until_the_kept_pod_has_been_alone_for_settle() -> None:
    """The runner that is online may be the one of the pod that has just been ended."""
    here = lease(Phase.BOOTING, pod=POD1)
    crowd = Observation(pods=PODS["two-of-mine"], runner=RUNNERS["idle"])
    crowded = decide(here, crowd, now=NOW, limits=LIMITS).lease
    assert (crowded.phase, crowded.settled) == (Phase.READY, False)
    alone = Observation(pods=PODS["running"], runner=RUNNERS["idle"])
    soon = decide(crowded, alone, now=NOW + timedelta(seconds=29), limits=LIMITS).lease
    assert not soon.settled
    assert decide(soon, alone, now=NOW + timedelta(seconds=30), limits=LIMITS).lease.settled
    orphaned = Observation(pods=PODS["running"], runner=runner(RunnerState.OFFLINE, online=False))
    assert decide(crowded, orphaned, now=NOW, limits=LIMITS).lease.phase is Phase.BOOTING
    settled = replace(crowded, settled=True)
    assert decide(settled, orphaned, now=NOW, limits=LIMITS).lease.phase is Phase.READY


def test_a_pod_whose_container_began_anew_is_given_back() -> None:
    """Its start script registers nothing a second time."""
    here = lease(Phase.BOOTING, pod=POD1, uptime=900)
    after = decide(here, Observation(pods=PODS["running"], runner=None), now=NOW, limits=LIMITS)
    assert (after.lease.phase, after.lease.outcome) == (Phase.DRAINING, Outcome.LOST)


@pytest.mark.parametrize(
    ("seen_runner", "changes", "outcome"),
    [
        pytest.param(None, {}, Outcome.GATE_FAILED, id="never-registered"),
        pytest.param(None, {"uptime": None}, Outcome.LOST, id="never-ran"),
        pytest.param(RUNNERS["offline"], {}, Outcome.LOST, id="registered-once"),
        pytest.param(RUNNERS["unknown"], {}, Outcome.LOST, id="nobody-knows"),
        pytest.param(None, {"phase": Phase.READY}, Outcome.LOST, id="was-online"),
        pytest.param(None, {"ended": frozenset({POD1})}, Outcome.LOST, id="ended-by-us"),
    ],
)
def test_a_pod_that_ends_itself_before_its_runner_is_seen_has_failed_the_gate(
    seen_runner: Runner | Unknown | None, changes: dict[str, object], outcome: Outcome
) -> None:
    """Absent twice, settle apart; any later it is only lost."""
    here = replace(lease(Phase.BOOTING, pod=POD1, uptime=3), **changes)  # type: ignore[arg-type]
    gone = Observation(pods=(), runner=seen_runner, gone=frozenset({POD1}))
    first = decide(here, gone, now=NOW, limits=LIMITS).lease
    assert first.phase is here.phase
    second = decide(first, gone, now=NOW + LIMITS.settle, limits=LIMITS).lease
    assert (second.phase, second.outcome) == (Phase.DRAINING, outcome)


def test_an_interrupted_pod_has_not_failed_the_gate() -> None:
    """The provider stopped it, and it is there to be seen."""
    seen = Observation(pods=PODS["interrupted"], runner=None)
    after = decide(lease(Phase.BOOTING, pod=POD1), seen, now=NOW, limits=LIMITS).lease
    assert after.outcome is Outcome.INTERRUPTED


@pytest.mark.parametrize("phase", [Phase.REQUESTED, Phase.PLACING, Phase.BOOTING])
@pytest.mark.parametrize(
    ("changes", "seen_runner", "given_back"),
    [
        pytest.param({}, None, True, id="ours"),
        pytest.param({"machine": "m2"}, None, False, id="another-machine"),
        pytest.param({"machine": None}, None, False, id="unknown-machine"),
        pytest.param({"creator": "sibling"}, None, False, id="a-siblings"),
        pytest.param({}, RUNNERS["idle"], False, id="serves-already"),
    ],
)
def test_a_new_pod_on_a_shunned_machine_is_given_back_at_the_first_look(
    phase: Phase, changes: dict[str, str | None], seen_runner: Runner | None, *, given_back: bool
) -> None:
    """Only one that this start rented, and only before its runner is there."""
    creator = changes.get("creator") or "me"
    there = replace(pod(1, creator=creator), machine=changes.get("machine", "m1"))
    here = lease(phase, shunned=frozenset({("runpod", "m1")}), pod=POD1 if phase is Phase.BOOTING else None)
    after = decide(here, Observation(pods=(there,), runner=seen_runner), now=NOW, limits=LIMITS).lease
    assert (after.outcome is Outcome.SHUNNED) is given_back
    assert (after.phase is Phase.DRAINING) is given_back


def test_an_offer_whose_pod_landed_on_a_shunned_machine_is_asked_twice_more() -> None:
    """A provider has several machines for it; after that the next offer follows, and it begins to count anew."""
    gone = Observation(pods=(), runner=None, gone=frozenset({POD1}))
    rungs = []
    here = lease(Phase.REQUESTED, rungs=2)
    while here.phase is not Phase.RELEASED:
        rungs.append((here.rung, here.landed))
        there = replace(
            here,
            phase=Phase.DRAINING,
            outcome=Outcome.SHUNNED,
            pod=POD1,
            made=frozenset({POD1}),
            ended=frozenset({POD1}),
        )
        here = decide(there, gone, now=NOW, limits=LIMITS).lease
    assert rungs == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert here.outcome is Outcome.SHUNNED


def test_a_siblings_new_pod_gets_time_of_its_own() -> None:
    """Neither the age nor the uptime of the pod before counts against it."""
    here = lease(Phase.BOOTING, pod=POD1, uptime=900, placed_at=NOW - LIMITS.boot - timedelta(seconds=1))
    seen = Observation(pods=(pod(2, creator="sibling"),), runner=None)
    after = decide(here, seen, now=NOW, limits=LIMITS)
    assert (after.lease.phase, after.lease.pod, after.lease.placed_at) == (Phase.BOOTING, ref(pod(2)), NOW)
    assert after.actions == ()
    blind = Observation(pods=Unknown(reason="no answer"), runner=None)
    assert decide(here, blind, now=NOW, limits=LIMITS).lease.phase is Phase.BOOTING
    late = replace(here, deadline=NOW)
    assert decide(late, blind, now=NOW, limits=LIMITS).lease.phase is Phase.DRAINING


def test_a_siblings_new_pod_is_spared_while_the_next_offer_follows() -> None:
    """It is adopted afterwards; a drain that is the last one ends it too."""
    here = lease(Phase.DRAINING, pod=POD1, outcome=Outcome.BOOT_TIMEOUT, ended=frozenset({POD1}))
    seen = Observation(pods=(pod(2, creator="sibling"),), runner=RUNNERS["idle"], gone=frozenset({POD1}))
    after = decide(here, seen, now=NOW, limits=LIMITS)
    assert (after.lease.phase, after.actions) == (Phase.REQUESTED, ())
    adopted = decide(after.lease, seen, now=NOW, limits=LIMITS)
    assert (adopted.lease.phase, adopted.lease.pod, adopted.actions) == (Phase.BOOTING, ref(pod(2)), ())
    last = decide(replace(here, rung=1), seen, now=NOW, limits=LIMITS)
    assert len(last.actions) == 2
    blind = replace(seen, pods=Unknown(reason="no answer"), gone=frozenset())
    assert [type(one) for one in decide(here, blind, now=NOW, limits=LIMITS).actions] == [EndPod]
    stale = replace(seen, pods=(), fresh=False)
    assert decide(here, stale, now=NOW, limits=LIMITS).actions == ()
    assert len(decide(here, replace(stale, fresh=True), now=NOW, limits=LIMITS).actions) == 1


@pytest.mark.parametrize(
    ("creator", "labels", "taken_for_ours"),
    [
        pytest.param("me", (creator_label("me"),), True, id="ours"),
        pytest.param("me", ("rp-abc", creator_label("you")), False, id="another-creators"),
        pytest.param("me", ("rp-abc",), True, id="does-not-say"),
        pytest.param(None, (creator_label("you"),), True, id="pod-does-not-say"),
    ],
)
def test_a_runner_of_another_starts_pod_makes_nothing_ready(
    creator: str | None,
    labels: tuple[str, ...],
    taken_for_ours: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Of two starts at once the younger pod may take the name: its runner is not that of the pod that is kept."""
    kept = pod(1, creator=creator)
    online = replace(runner(RunnerState.IDLE), labels=labels)
    before = lease(Phase.READY, pod=ref(kept), placed_at=NOW - timedelta(minutes=2), settled=True)
    after = decide(before, Observation(pods=(kept,), runner=online), now=NOW, limits=LIMITS).lease
    assert (after.phase is Phase.READY and after.settled) is taken_for_ours
    assert (after.phase is Phase.BOOTING and not after.settled) is not taken_for_ours


def test_a_failed_look_is_never_an_absence() -> None:
    """Unknown resets the row of quiet looks that would release a lease."""
    here = lease(Phase.DRAINING, quiet_since=NOW - timedelta(minutes=5), nonce=None)
    seen = Observation(pods=Unknown(reason="down"), runner=None)
    decision = decide(here, seen, now=NOW, limits=LIMITS)
    assert decision.lease.quiet_since is None
    assert decision.lease.phase is Phase.DRAINING


def test_a_clock_that_is_set_back_makes_nobody_wait_for_it() -> None:
    """Quiet looks that seem to be of the future count from now on."""
    here = lease(Phase.DRAINING, quiet_since=NOW + timedelta(hours=1), nonce=None, outcome=Outcome.CANCELLED)
    nothing = Observation(pods=(), runner=None)
    waits = decide(here, nothing, now=NOW, limits=LIMITS).lease
    assert (waits.phase, waits.quiet_since) == (Phase.DRAINING, NOW)
    assert decide(waits, nothing, now=NOW + LIMITS.settle, limits=LIMITS).lease.phase is Phase.RELEASED


def test_the_answer_to_a_create_is_a_hint_that_is_remembered() -> None:
    """An answered create is no longer unsure; a refused one moves on."""
    placed = lease(Phase.PLACING, unsure=True)
    answered = created(placed, pod(3))
    assert not answered.unsure
    assert ref(pod(3)) in answered.known
    assert refused(placed, next_rung=1).phase is Phase.REQUESTED
    assert drain(replace(placed, phase=Phase.RELEASED), Outcome.LOST).phase is Phase.RELEASED


def test_a_lost_pod_moves_to_the_next_offer_and_the_last_one_ends_it() -> None:
    """DRAINING goes back to REQUESTED while an offer and time are left."""
    gone = Observation(pods=(), runner=None, gone=frozenset({POD1}))
    here = lease(Phase.DRAINING, outcome=Outcome.LOST, made=frozenset({POD1}), pod=POD1)
    again = decide(here, gone, now=NOW, limits=LIMITS).lease
    assert (again.phase, again.rung, again.outcome) == (Phase.REQUESTED, 1, None)
    last = decide(replace(here, rung=1), gone, now=NOW, limits=LIMITS).lease
    assert (last.phase, last.outcome) == (Phase.RELEASED, Outcome.LOST)


@pytest.mark.parametrize(
    ("runner_seen", "hands_over", "ssh", "state", "asked"),
    [
        pytest.param(None, True, True, PodState.RUNNING, True, id="no-runner"),
        pytest.param(runner(RunnerState.OFFLINE, online=False), True, True, PodState.RUNNING, True, id="offline"),
        pytest.param(runner(RunnerState.IDLE), True, True, PodState.RUNNING, False, id="online"),
        pytest.param(Unknown(reason="x"), True, True, PodState.RUNNING, False, id="unknown"),
        pytest.param(None, False, True, PodState.RUNNING, False, id="by-token"),
        pytest.param(None, True, False, PodState.RUNNING, False, id="no-address"),
        pytest.param(None, True, True, PodState.STARTING, False, id="still-starting"),
    ],
)
@pytest.mark.parametrize("phase", [Phase.BOOTING, Phase.READY])
def test_a_configuration_is_offered_while_no_runner_is_online(
    phase: Phase,
    runner_seen: Runner | Unknown | None,
    *,
    hands_over: bool,
    ssh: bool,
    state: PodState,
    asked: bool,
) -> None:
    """To the kept pod, once it runs and has an address; in every pass."""
    one = replace(pod(1, state=state), ssh=SshEndpoint(host="203.0.113.7", port=22) if ssh else None)
    held = replace(lease(phase), pod=ref(one), hands_over=hands_over)
    seen = Observation(pods=(one,), runner=runner_seen)
    decision = decide(held, seen, now=NOW, limits=LIMITS)
    assert (GiveConfig(pod=one) in decision.actions) is asked
