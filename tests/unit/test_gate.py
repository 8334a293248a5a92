"""What the gate asks for, what a pod tells of itself, and which machines are kept out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.gate import GateFloor, GateResult, PodPhase, PodReport, check_version
from runner_provisioner.domain.history import BadMachine
from runner_provisioner.domain.quarantine import COMMON_CAUSE, FIRST, HALF_LIFE, LONGEST, kept_out, quarantined
from runner_provisioner.domain.request import Gate, StartRequest
from runner_provisioner.errors import InvalidRequest

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
FOUND: dict[str, object] = {"gpu": "NVIDIA L4", "count": 1, "vram": 23034, "driver": "550.54.15", "cuda": "12.4"}
FOUND["free"] = 38
REPORT = {"phase": "registering", "reason": "", "gate": FOUND}


def bad(machine: str, *, age: timedelta = timedelta(), provider: str = "runpod") -> BadMachine:
    """A failure of some time ago."""
    return BadMachine(provider=provider, machine=machine, at=NOW - age, reason="gate")


@pytest.mark.parametrize(
    ("memory_gb", "shown"),
    [
        pytest.param(16, 15360, id="T4"),
        pytest.param(24, 23034, id="L4"),
        pytest.param(48, 46068, id="A40"),
        pytest.param(80, 81251, id="A100"),
        pytest.param(141, 143771, id="H200"),
    ],
)
def test_the_floor_of_the_vram_takes_what_the_cards_of_that_label_show(memory_gb: int, shown: int) -> None:
    """And not what the next smaller ones do."""
    floor = GateFloor.of(model="NVIDIA X", count=1, memory_gb=memory_gb)
    assert memory_gb * 1024 * 3 // 4 < floor.vram_mib <= shown


def test_what_is_not_known_is_not_checked() -> None:
    """A floor of nothing but the model and the count."""
    floor = GateFloor.of(model="NVIDIA GeForce RTX 4090", count=2, memory_gb=None)
    assert floor == GateFloor(count=2, gpu="GeForce RTX 4090")


def test_gpus_of_another_maker_are_not_asked_for_nvidias_tool() -> None:
    """Disk and download still are."""
    floor = GateFloor.of(model="AMD Instinct MI300X OAM", count=1, memory_gb=192, disk_gb=40, download_mbps=100)
    assert (floor.count, floor.gpu, floor.free_gb, floor.download_mbps) == (0, "", 10, 100)


@pytest.mark.parametrize("text", ["550.54.15", "12.4", "550", None])
def test_a_version_is_taken(text: str | None) -> None:
    """Numbers with dots."""
    check_version("--min-driver", text)


@pytest.mark.parametrize("text", ["", "v550", "550.", "12.4;reboot", "latest", "٣"])
def test_anything_else_is_refused_by_its_option(text: str) -> None:
    """Before anything is rented."""
    with pytest.raises(InvalidRequest, match="--min-driver"):
        StartRequest(min_driver=text)
    assert StartRequest().gate is Gate.ON


def test_a_report_is_read() -> None:
    """Phase, reason, and what the gate found."""
    report = PodReport.parse(json.dumps(REPORT))
    found = GateResult(gpu="NVIDIA L4", count=1, vram_mib=23034, driver="550.54.15", cuda="12.4", free_gb=38)
    assert report == PodReport(phase=PodPhase.REGISTERING, gate=found)
    early = PodReport.parse('{"phase":"preparing","reason":"","gate":{}}')
    assert early == PodReport(phase=PodPhase.PREPARING)


@pytest.mark.parametrize(
    "given_report",
    [
        pytest.param([], id="a-list"),
        pytest.param({}, id="empty"),
        pytest.param({**REPORT, "more": 1}, id="more-members"),
        pytest.param({**REPORT, "phase": "sleeping"}, id="unknown-phase"),
        pytest.param({**REPORT, "phase": ["gate"]}, id="phase-is-no-text"),
        pytest.param({**REPORT, "reason": 1}, id="reason-is-no-text"),
        pytest.param({**REPORT, "reason": "\x1b[2J"}, id="control-characters"),
        pytest.param({**REPORT, "reason": "a\u202eb"}, id="direction-of-writing"),
        pytest.param({**REPORT, "reason": "x" * 513}, id="long-reason"),
        pytest.param({**REPORT, "gate": None}, id="no-gate"),
        pytest.param({**REPORT, "gate": {**FOUND, "count": True}}, id="count-is-a-bool"),
        pytest.param({**REPORT, "gate": {**FOUND, "count": -1}}, id="negative"),
        pytest.param({**REPORT, "gate": {**FOUND, "vram": 10**12}}, id="huge"),
        pytest.param({**REPORT, "gate": {**FOUND, "gpu": "a\nb"}}, id="a-line-break"),
        pytest.param({**REPORT, "gate": {"gpu": "NVIDIA L4"}}, id="half-a-gate"),
    ],
)
def test_what_is_no_report_is_none(given_report: object) -> None:
    """The machine that wrote it is somebody else's."""
    assert PodReport.parse(json.dumps(given_report)) is None


@pytest.mark.parametrize("text", ["", "nonsense", "[" * 4096, "{" * 5000, json.dumps({**REPORT, "reason": "x" * 5000})])
def test_text_that_is_no_json_or_too_long_is_none(text: str) -> None:
    """Also where Python's reader gives up."""
    assert PodReport.parse(text) is None


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    """It gives a report or nothing."""
    assert PodReport.parse(text) is None or PodReport.parse(text)


def test_a_first_failure_keeps_a_machine_out_for_half_an_hour() -> None:
    """Nobody knows yet whether it was the machine."""
    assert quarantined([bad("m1")], NOW) == {("runpod", "m1")}
    assert quarantined([bad("m1", age=timedelta(minutes=29))], NOW) == {("runpod", "m1")}
    assert quarantined([bad("m1", age=FIRST)], NOW) == frozenset()
    assert quarantined([], NOW) == frozenset()


def test_failures_of_one_machine_add_up_to_days_and_decay() -> None:
    """Each keeps it out eight times longer, up to the longest; old ones count little."""
    spans = []
    for count in range(1, 12):
        (out,) = kept_out([bad("m1")] * count, NOW).values()
        assert out.failures == count
        spans.append(out.until - NOW)
    assert spans[:4] == [FIRST, timedelta(hours=4), timedelta(hours=32), LONGEST]
    assert set(spans[3:]) == {LONGEST}
    (out,) = kept_out([bad("m1", age=HALF_LIFE), bad("m1")], NOW).values()
    assert timedelta(hours=1) < out.until - NOW < timedelta(hours=2)
    assert str(out) == "m1 at runpod until 2026-11-01 13:24 UTC"


def test_machines_that_fail_close_together_are_not_to_blame() -> None:
    """The image or the request is, and two are enough to see it; another provider's say nothing."""
    assert quarantined([bad("m1"), bad("m2", age=timedelta(minutes=20))], NOW) == frozenset()
    assert quarantined([bad("m1"), bad("m2", age=COMMON_CAUSE)], NOW) == frozenset()
    alone = [bad("m1"), bad("m2", age=COMMON_CAUSE + timedelta(seconds=1))]
    assert quarantined(alone, NOW) == {("runpod", "m1")}
    assert quarantined([bad("m1"), bad("m2", provider="other")], NOW) == {("runpod", "m1"), ("other", "m2")}
    known = [bad("m1", age=timedelta(hours=5)), bad("m1", age=timedelta(hours=3)), bad("m1"), bad("m2")]
    (out,) = kept_out(known, NOW).values()
    assert (out.machine, out.failures) == ("m1", 2)


def test_a_clock_that_was_set_back_makes_nothing_worse() -> None:
    """A failure in the future counts as one of now."""
    assert quarantined([bad("m1", age=timedelta(days=-30))], NOW - timedelta(days=1)) == {("runpod", "m1")}


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-100, 1000)), max_size=12),
    st.integers(min_value=0, max_value=500),
)
def test_time_alone_never_puts_a_machine_in(rows: list[tuple[str, int]], hours: int) -> None:
    """What is not kept out now is not kept out later, unless it fails again."""
    records = [bad(machine, age=timedelta(hours=max(0, age))) for machine, age in rows]
    assert quarantined(records, NOW + timedelta(hours=hours)) <= quarantined(records, NOW)
    assert quarantined(records, NOW + timedelta(days=365)) == frozenset()
