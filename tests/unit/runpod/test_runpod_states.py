"""What RunPod says of a pod becomes a state that holds for every provider."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from runner_provisioner.domain.pods import PodClass, PodState, SshEndpoint
from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.providers.runpod.moments import moment, stamp
from runner_provisioner.providers.runpod.states import to_pod
from runner_provisioner.providers.runpod.wire import WirePod, WireUser, parse, parse_all

Build = Callable[..., dict[str, Any]]

SSH = {"ip": "198.51.100.1", "isIpPublic": True, "privatePort": 22, "publicPort": 22001, "type": "tcp"}
BARE: dict[str, Any] = {"uptimeInSeconds": 5, "container": None, "gpus": None, "ports": None}
UP = {**BARE, "ports": [SSH]}
PRIVATE = {**BARE, "ports": [{**SSH, "isIpPublic": False}, {**SSH, "privatePort": 80}, {**SSH, "type": "http"}]}
HALF = {**BARE, "ports": [{**SSH, "publicPort": None}]}
DIED = {"state": "exited", "time": "2026-11-01T12:01:00Z"}

CASES: list[tuple[str, dict[str, object], PodState | None]] = [
    ("created", {"desiredStatus": "CREATED"}, PodState.STARTING),
    ("running-without-runtime", {}, PodState.STARTING),
    ("running-without-port", {"runtime": BARE}, PodState.STARTING),
    ("running-with-private-port", {"runtime": PRIVATE}, PodState.STARTING),
    ("running-with-half-a-port", {"runtime": HALF}, PodState.STARTING),
    ("running", {"runtime": UP}, PodState.RUNNING),
    ("running-ssh-not-asked", {"runtime": BARE, "ports": "8888/http"}, PodState.RUNNING),
    ("running-no-ports-asked", {"runtime": BARE, "ports": None}, PodState.RUNNING),
    ("container-died", {"runtime": UP, "latestTelemetry": DIED}, PodState.FAILED),
    (
        "container-died-by-transition",
        {"runtime": UP, "latestTelemetry": {"state": "exited", "lastStateTransitionTimestamp": "2026-11-01T12:01:00Z"}},
        PodState.FAILED,
    ),
    ("container-died-no-times", {"latestTelemetry": {"state": "Exited"}, "lastStartedAt": None}, PodState.FAILED),
    (
        "death-before-this-start",
        {"runtime": UP, "latestTelemetry": {"state": "exited", "time": "2026-11-01T11:00:00Z"}},
        PodState.RUNNING,
    ),
    ("telemetry-running", {"runtime": UP, "latestTelemetry": {"state": "running"}}, PodState.RUNNING),
    ("restarting", {"desiredStatus": "RESTARTING"}, PodState.STARTING),
    ("exited-spot", {"desiredStatus": "EXITED", "podType": "INTERRUPTABLE"}, PodState.INTERRUPTED),
    ("exited-bid", {"desiredStatus": "EXITED", "podType": "BID", "lastStatusChange": None}, PodState.INTERRUPTED),
    (
        "exited-by-runpod",
        {"desiredStatus": "EXITED", "lastStatusChange": "Exited by Runpod: Sun Nov 01"},
        PodState.INTERRUPTED,
    ),
    ("exited-host", {"desiredStatus": "EXITED", "lastStatusChange": "The host went away"}, PodState.INTERRUPTED),
    ("exited-on-demand", {"desiredStatus": "EXITED", "lastStatusChange": "Exited"}, PodState.FAILED),
    ("exited-stale-text", {"desiredStatus": "EXITED", "lastStatusChange": "Rented by User"}, PodState.FAILED),
    (
        "exited-by-user",
        {"desiredStatus": "EXITED", "podType": "INTERRUPTABLE", "lastStatusChange": "Exited by User: Sun"},
        PodState.STOPPED,
    ),
    ("paused", {"desiredStatus": "PAUSED"}, PodState.STOPPED),
    ("dead", {"desiredStatus": "DEAD"}, PodState.FAILED),
    ("terminated", {"desiredStatus": "TERMINATED"}, None),
    ("a-new-word", {"desiredStatus": "MIGRATING"}, PodState.STARTING),
    ("no-word", {"desiredStatus": None}, PodState.STARTING),
]


@pytest.mark.parametrize(("changes", "state"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_observation_is_its_state(pod_answer: Build, changes: dict[str, object], state: PodState | None) -> None:
    """The table of the states, row by row."""
    pod = to_pod(parse(WirePod, pod_answer(**changes), "pod"))
    assert (pod and pod.state) == state


def test_a_pod_that_we_stopped_is_stopped_whatever_its_kind(pod_answer: Build) -> None:
    """An EXITED that was asked for is no interruption."""
    wire = parse(WirePod, pod_answer(desiredStatus="EXITED", podType="INTERRUPTABLE"), "pod")
    pod = to_pod(wire, asked_to_stop={"pod1"})
    assert pod
    assert pod.state is PodState.STOPPED


SPOKEN = "Sun Nov 01 2026 14:00:00 GMT+0200 (Eastern European Standard Time)"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"desiredStatus": "EXITED", "lastStatusChange": f"Exited by Runpod: {SPOKEN}"}, True, id="taken"),
        pytest.param({"desiredStatus": "EXITED", "lastStatusChange": f"Exited by User: {SPOKEN}"}, True, id="stopped"),
        pytest.param({"desiredStatus": "EXITED", "lastStatusChange": f"Rented by User: {SPOKEN}"}, False, id="before"),
        pytest.param({"desiredStatus": "EXITED", "lastStatusChange": "Exited by Runpod: outbid"}, False, id="no-time"),
        pytest.param(
            {"desiredStatus": "EXITED", "lastStatusChange": f"Exited: {SPOKEN.replace('01 2026', '41 2026')}"},
            False,
            id="no-day",
        ),
        pytest.param({"desiredStatus": "EXITED", "lastStatusChange": None}, False, id="no-word"),
        pytest.param({"lastStatusChange": f"Exited by User: {SPOKEN}"}, False, id="runs-again"),
    ],
)
def test_since_when_a_pod_does_not_run(pod_answer: Build, changes: dict[str, object], *, told: bool) -> None:
    """As RunPod says it; a moment of anything else is none of that."""
    pod = to_pod(parse(WirePod, pod_answer(**changes), "pod"))
    assert pod
    assert pod.stopped_at == (datetime(2026, 11, 1, 12, tzinfo=UTC) if told else None)


def test_a_pod_is_read_whole(pod_answer: Build) -> None:
    """Money is exact, times are aware, tags come from the "K=V" strings, telemetry from the container."""
    load = {"cpuPercent": 12.5, "memoryPercent": 30}
    gpus = [{"id": "g0", "gpuUtilPercent": 90, "memoryUtilPercent": None}]
    raw = pod_answer(runtime={**UP, "container": load, "gpus": gpus}, podType="INTERRUPTABLE", costPerHr="0.50")
    pod = to_pod(parse(WirePod, raw, "pod"))
    assert pod
    assert pod.price == Decimal("0.50")
    assert pod.created_at == datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert pod.tags
    assert (pod.tags.owner, pod.tags.cls) == ("0123abcd", PodClass.RUNNER)
    assert pod.ssh == SshEndpoint(host="198.51.100.1", port=22001)
    assert pod.interruptible is True
    assert pod.uptime_seconds == 5
    assert pod.telemetry
    assert (pod.telemetry.cpu_percent, pod.telemetry.memory_percent) == (12.5, 30)
    assert pod.telemetry.gpus[0].gpu_percent == 90
    assert (pod.status, pod.gpu_model) == ("RUNNING", "NVIDIA RTX A4000")


def test_telemetry_falls_back_on_the_hosts_report(pod_answer: Build) -> None:
    """Before the container tells its load, the host's last report is all there is."""
    pod = to_pod(parse(WirePod, pod_answer(latestTelemetry={"cpuUtilization": 1, "memoryUtilization": 2}), "pod"))
    assert pod
    assert pod.telemetry
    assert (pod.telemetry.cpu_percent, pod.telemetry.memory_percent) == (1, 2)


def test_what_is_not_told_is_not_known() -> None:
    """An id is enough for a pod; nothing is invented."""
    pod = to_pod(parse(WirePod, {"id": "p", "surprise": {"deep": 1}}, "pod"))
    assert pod
    assert (pod.name, pod.price, pod.tags, pod.interruptible, pod.telemetry) == ("", None, None, None, None)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        [],
        "pod",
        {"id": 7},
        {"id": "p", "runtime": "up"},
        {"id": "p", "costPerHr": "free"},
        {"id": "p", "env": "A=1"},
    ],
    ids=["empty", "list", "text", "number-id", "runtime-text", "price-text", "env-text"],
)
def test_a_wrong_shape_is_a_violation_that_shows_no_values(raw: object) -> None:
    """The message names fields, never contents, which may be secret."""
    with pytest.raises(ProtocolViolation, match="another shape") as caught:
        parse(WirePod, raw, "pod")
    assert "A=1" not in str(caught.value)
    assert caught.value.__context__ is None


def test_whole_numbers_may_be_written_with_a_fraction() -> None:
    """A service that starts to count uptime in parts of a second must not hide every pod."""
    pod = parse(WirePod, {"id": "p", "gpuCount": 2.0, "runtime": {"uptimeInSeconds": 3.7}}, "pod")
    assert pod.runtime
    assert (pod.gpu_count, pod.runtime.uptime_in_seconds) == (2, 3)


def test_a_price_that_is_no_number_is_a_violation() -> None:
    """NaN would pass every comparison with a cap."""
    with pytest.raises(ProtocolViolation):
        parse(WireUser, {"clientBalance": "NaN"}, "myself")


def test_a_missing_list_is_a_violation() -> None:
    """Null is not an empty account."""
    with pytest.raises(ProtocolViolation, match="no list"):
        parse_all(WirePod, None, "myPods")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01T12:00:00Z", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01T12:00:00.123456789Z", datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-01T14:00:00+02:00", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01T12:00:00", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01 12:00:00 +0000 UTC", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01 12:00:00.5 +0000 UTC", datetime(2026, 11, 1, 12, 0, 0, 500000, tzinfo=UTC)),
        ("0001-01-01T00:00:00+05:00", None),
        ("soon", None),
        ("", None),
        (None, None),
        (1_700_000_000, None),
    ],
    ids=[
        "rfc3339",
        "nanoseconds",
        "offset",
        "naive",
        "go",
        "go-fraction",
        "before-time",
        "word",
        "empty",
        "null",
        "number",
    ],
)
def test_moments_are_read_in_both_forms(text: object, expected: datetime | None) -> None:
    """RFC 3339 and Go's default form are seen; anything else is not known."""
    assert moment(text) == expected


def test_moments_are_written_as_whole_utc_seconds() -> None:
    """The form that RunPod's own tools send."""
    assert stamp(datetime(2026, 12, 1, 1, 2, 3, 999, tzinfo=UTC)) == "2026-12-01T01:02:03Z"
