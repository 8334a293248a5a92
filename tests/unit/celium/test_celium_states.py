"""Every status of Lium's in words that hold for every provider."""

from __future__ import annotations

import pytest

from runner_provisioner.domain.pods import PodState
from runner_provisioner.providers.celium.ends import End, EndKind, end_of
from runner_provisioner.providers.celium.states import is_over, state_of
from runner_provisioner.providers.celium.wire import WireEvent

FAILURES = ("CREATION_FAILED", "FAILED", "ERROR", "BROKEN", "REBOOT_FAILED")
ENDS = ("DELETED", "REMOVED", "TERMINATED", "CANCELLED")


@pytest.mark.parametrize(
    ("status", "reachable", "asked", "state"),
    [
        pytest.param("PENDING", False, False, PodState.STARTING, id="pending"),
        pytest.param("REBOOT_PENDING", True, False, PodState.STARTING, id="rebooting"),
        pytest.param("RUNNING", False, False, PodState.STARTING, id="running without an address"),
        pytest.param("RUNNING", True, False, PodState.RUNNING, id="running"),
        pytest.param("running", True, False, PodState.RUNNING, id="in small letters"),
        pytest.param("STOPPED", True, False, PodState.INTERRUPTED, id="stopped, not asked"),
        pytest.param("STOPPED", True, True, PodState.STOPPED, id="stopped, asked"),
        pytest.param("DELETING", True, False, PodState.INTERRUPTED, id="deleting, not asked"),
        pytest.param("DELETING", True, True, PodState.STOPPED, id="deleting, asked: still there"),
        *[pytest.param(word, True, False, PodState.FAILED, id=word.lower()) for word in FAILURES],
        *[pytest.param(word, True, True, PodState.FAILED, id=f"{word.lower()}, asked") for word in FAILURES],
        *[pytest.param(word, True, False, PodState.INTERRUPTED, id=f"{word.lower()}, not asked") for word in ENDS],
        *[pytest.param(word, True, True, None, id=f"{word.lower()}, asked") for word in ENDS],
        pytest.param("MIGRATING", True, False, PodState.STARTING, id="a word of tomorrow"),
        pytest.param("", False, False, PodState.STARTING, id="empty"),
        pytest.param(None, False, False, PodState.STARTING, id="none"),
    ],
)
def test_each_status_has_its_state(*, status: str | None, reachable: bool, asked: bool, state: PodState | None) -> None:
    """Compared in any case; what may cost money is never taken for gone."""
    assert state_of(status, reachable=reachable, asked=asked) is state


@pytest.mark.parametrize("status", ["STOPPED", "deleting", *FAILURES, *ENDS])
def test_of_an_end_the_events_are_asked(status: str) -> None:
    """They know why."""
    assert is_over(status)
    assert not is_over("RUNNING")


def _event(**fields: str) -> WireEvent:
    return WireEvent.model_validate({"pod_name": "ci", **fields})


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        pytest.param("user_request", EndKind.WANTED, id="by the user"),
        pytest.param("unrent", EndKind.WANTED, id="given back"),
        pytest.param("scheduled_removal", EndKind.WANTED, id="its time had come"),
        pytest.param("termination_hours_expired", EndKind.WANTED, id="its hours were over"),
        pytest.param("insufficient_balance", EndKind.MONEY, id="no money"),
        pytest.param("api_key_budget_exceeded", EndKind.MONEY, id="no budget"),
        pytest.param("provider_reclaimed", EndKind.TAKEN, id="reclaimed"),
        pytest.param("reclaimed_by_node_owner", EndKind.TAKEN, id="reclaimed by the node's owner"),
        pytest.param("host_offline", EndKind.TAKEN, id="its host is away"),
        pytest.param("executor_removed", EndKind.TAKEN, id="its node is gone"),
        pytest.param("platform", EndKind.TAKEN, id="a word that nobody knows"),
    ],
)
def test_a_reason_is_of_one_kind(reason: str, kind: EndKind) -> None:
    """Only what somebody with the account wanted is no interruption."""
    assert end_of([_event(reason=reason, detail="because")]) == End(kind=kind, text=f"{reason}: because", pod_name="ci")


def test_the_latest_word_counts() -> None:
    """A failure that came first is history; a failure that came last is the end."""
    failed, taken = _event(error="no such image"), _event(reason="provider_reclaimed")
    assert end_of([failed, taken, _event()]) == End(kind=EndKind.TAKEN, text="provider_reclaimed", pod_name="ci")
    assert end_of([taken, failed]) == End(text="no such image", pod_name="ci")
    assert end_of([_event()]) == End(pod_name="ci")
    assert end_of([]) == End()
