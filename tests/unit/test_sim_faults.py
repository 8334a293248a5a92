"""Ordered failures: which call is hit, how often, and what is remembered."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from runner_provisioner.simulators.faults import Fault, FaultKind, Faults


def test_a_fault_hits_the_next_call_of_its_operation_once() -> None:
    """Other operations pass, and so does the second call."""
    faults = Faults()
    ordered = faults.add(Fault(operation="create", kind=FaultKind.ERROR))
    assert faults.take("list") is None
    assert faults.take("create") is ordered
    assert faults.take("create") is None
    assert faults.pending == ()


def test_skipped_calls_pass_before_a_fault_hits() -> None:
    """`skip` lets that many calls through."""
    faults = Faults()
    ordered = faults.add(Fault(operation="*", kind=FaultKind.HANG, skip=2))
    assert [faults.take("a"), faults.take("b")] == [None, None]
    assert faults.take("c") is ordered


def test_a_fault_without_end_hits_every_call() -> None:
    """`times=None` never runs out."""
    faults = Faults()
    ordered = faults.add(Fault(operation="create", kind=FaultKind.ERROR, times=None))
    assert [faults.take("create") for _ in range(3)] == [ordered] * 3
    assert faults.pending == (ordered,)


def test_faults_of_one_operation_come_in_their_order() -> None:
    """The first ordered is the first met."""
    faults = Faults()
    ordered = [faults.add(Fault(operation="create", kind=kind)) for kind in (FaultKind.ERROR, FaultKind.HANG)]
    assert [faults.take("create"), faults.take("create")] == ordered


def test_a_met_fault_is_reached_and_clearing_releases_it() -> None:
    """A test waits for `reached`; nobody stays held when the orders are withdrawn."""
    faults = Faults()
    ordered = faults.add(Fault(operation="create", kind=FaultKind.HOLD_BEFORE))
    assert not ordered.reached.is_set()
    faults.take("create")
    assert ordered.reached.is_set()
    faults.clear()
    assert ordered.release.is_set()


def test_every_call_is_remembered_with_time_and_key() -> None:
    """Also the calls that went well."""
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    faults = Faults(lambda: moment)
    faults.take("create", "rpa_1")
    faults.take("list")
    assert [(call.operation, call.at, call.key) for call in faults.calls] == [
        ("create", moment, "rpa_1"),
        ("list", moment, ""),
    ]
    assert (faults.count("create"), faults.count(), faults.count("none")) == (1, 2, 0)


def test_calls_are_dated_by_wall_time_without_a_clock() -> None:
    """The default clock is aware and in UTC."""
    faults = Faults()
    faults.take("create")
    assert faults.calls[0].at.tzinfo is UTC


@pytest.mark.parametrize(
    ("kind", "done"),
    [
        pytest.param(FaultKind.ERROR, False, id="error"),
        pytest.param(FaultKind.DROP_BEFORE, False, id="drop-before"),
        pytest.param(FaultKind.DROP_AFTER, True, id="drop-after"),
        pytest.param(FaultKind.HANG, False, id="hang"),
        pytest.param(FaultKind.HANG_AFTER, True, id="hang-after"),
        pytest.param(FaultKind.HOLD_BEFORE, False, id="hold-before"),
        pytest.param(FaultKind.HOLD_AFTER, True, id="hold-after"),
        pytest.param(FaultKind.MALFORMED, True, id="malformed"),
        pytest.param(FaultKind.DELAY, False, id="delay"),
        pytest.param(FaultKind.DELAY_AFTER, True, id="delay-after"),
        pytest.param(FaultKind.IGNORED, False, id="ignored"),
    ],
)
def test_each_kind_knows_whether_the_operation_took_place(kind: FaultKind, done: bool) -> None:  # noqa: FBT001 - a case
    """What a client may conclude differs by this."""
    assert kind.done is done
