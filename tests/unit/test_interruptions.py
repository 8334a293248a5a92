"""How an interruption is told, written down, and found to explain a failure."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import NAME, OWNER8, Memory, pod, tags

from runner_provisioner.cli.interruption import remember
from runner_provisioner.domain.history import Ending
from runner_provisioner.domain.interruptions import (
    Findings,
    Interruption,
    Loss,
    artifact_name,
    decode,
    encode,
    explain,
    interrupted,
    is_watch,
    lost,
    seal_key,
)
from runner_provisioner.domain.leases import Observation, PodRef, Unknown
from runner_provisioner.domain.names import RunKey
from runner_provisioner.domain.pods import PodId, PodState
from runner_provisioner.domain.runners import Job, Runner, RunnerId, RunnerState, end_label
from runner_provisioner.errors import StoreError
from runner_provisioner.testing.clock import EPOCH, FakeClock

LABEL = "rp-" + "a" * 26
KEY = seal_key("rpa_something")
RUN = int("zz", 36)
RECORD = Interruption(name=NAME, label=LABEL, provider="fake", pod="p1", machine="m-1", reason="interrupted", at=EPOCH)


def job(**more: object) -> Job:
    """The GPU job, which failed."""
    values: dict[str, object] = {
        "id": 1,
        "name": "train",
        "status": "completed",
        "conclusion": "failure",
        "labels": (LABEL,),
        "runner_name": NAME,
        **more,
    }
    return Job(**values)  # type: ignore[arg-type]


def runner(
    *, online: bool = False, state: RunnerState = RunnerState.BUSY, labels: tuple[str, ...] = (LABEL,)
) -> Runner:
    """Its registration."""
    return Runner(id=RunnerId(1), name=NAME, state=state, online=online, labels=labels)


def seen(*pods: object, who: Runner | Unknown | None = None) -> Observation:
    """What a look saw."""
    return Observation(pods=pods, runner=who)  # type: ignore[arg-type]


# -- the record


def test_a_record_is_read_back() -> None:
    """Sealed and opened by the same key; the key does not show the credential."""
    assert decode(encode(RECORD, KEY), KEY) == RECORD
    bare = replace(RECORD, pod=None, provider=None, machine=None, reason="vanished")
    assert decode(encode(bare, KEY), KEY) == bare
    assert b"rpa_" not in encode(RECORD, KEY)
    assert (
        artifact_name(RunKey(owner8=OWNER8, run="zz", attempt=2, key="a-b")) == "runner-provisioner-interruption-a-b-2"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", "rp-short"),
        ("label", None),
        ("name", "somebody"),
        ("reason", "x; rm -rf /"),
        ("pod", "$(id)"),
        ("machine", "m" * 200),
        ("provider", 7),
        ("at", "2026-01-01T00:00:00"),
        ("at", "today"),
        ("version", 2),
    ],
)
def test_a_value_that_is_not_as_it_must_be_is_refused(field: str, value: object) -> None:
    """Also when its seal is right."""
    from runner_provisioner.domain import interruptions  # noqa: PLC0415 - its seal is asked for here alone

    raw = json.loads(encode(RECORD, KEY))
    del raw["seal"]
    raw[field] = value
    raw["seal"] = interruptions._seal(raw, KEY)
    assert decode(json.dumps(raw).encode(), KEY) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'"x"', b"\xff", b'{"seal": 1}', b"[" * 100_000])
def test_what_is_no_record_is_none(data: bytes) -> None:
    """Whatever somebody has uploaded."""
    assert decode(data, KEY) is None


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    """It never raises."""
    assert decode(data, KEY) is None


@given(st.sampled_from(["name", "label", "pod", "reason", "at", "seal"]), st.text(max_size=80))
def test_a_changed_record_is_refused(field: str, text: str) -> None:
    """Each value is under the seal."""
    raw = json.loads(encode(RECORD, KEY))
    raw[field], before = text, raw[field]
    assert decode(json.dumps(raw).encode(), KEY) == (RECORD if text == before else None)
    assert decode(encode(RECORD, seal_key("another")), KEY) is None


# -- what was seen


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (seen(pod(state=PodState.INTERRUPTED)), "interrupted"),
        (seen(pod(state=PodState.STOPPED)), "stopped"),
        (seen(pod(state=PodState.FAILED)), "failed"),
        (seen(), "vanished"),
        (seen(pod()), None),
        (seen(pod(state=PodState.INTERRUPTED), pod(pod_id="p2")), None),
        (Observation(pods=Unknown(reason="x"), runner=None), None),
    ],
    ids=["interrupted", "stopped", "failed", "gone", "alive", "one of two alive", "unknown"],
)
def test_how_a_pod_was_lost(what: Observation, reason: str | None) -> None:
    """What is alive or could not be seen is not lost."""
    found = lost(what)
    assert (found.reason if found else None) == reason


TAKEN = Loss(reason="interrupted", pod=pod(state=PodState.INTERRUPTED, tags=tags(label=LABEL)))
GONE = Loss(reason="vanished")


@pytest.mark.parametrize(
    ("loss", "who", "jobs", "found"),
    [
        (TAKEN, None, [job()], True),
        (TAKEN, None, None, True),
        (TAKEN, None, [job(runner_name=None, conclusion="cancelled")], True),
        (TAKEN, None, [job(conclusion=None, status="in_progress")], True),
        (TAKEN, None, [job(conclusion="success")], False),
        (replace(TAKEN, pod=pod(state=PodState.INTERRUPTED)), runner(), [], True),
        (replace(TAKEN, pod=pod(state=PodState.INTERRUPTED)), None, [job()], True),
        (replace(TAKEN, pod=pod(state=PodState.INTERRUPTED)), None, [], False),
        (GONE, runner(), [job()], True),
        (GONE, runner(online=True), [job()], False),
        (GONE, runner(), [job(runner_name=None)], False),
        (GONE, runner(), None, False),
        (TAKEN, None, [job(conclusion="cancelled")], True),
        (TAKEN, runner(), [job(conclusion="cancelled")], False),
        (TAKEN, Unknown(reason="x"), [job(conclusion="cancelled")], False),
        (GONE, None, [job()], False),
        (GONE, Unknown(reason="x"), [job()], False),
    ],
)
def test_what_broke_a_job(loss: Loss, who: Runner | Unknown | None, jobs: list[Job] | None, found: bool) -> None:  # noqa: FBT001 - a column
    """A pod that is listed as ended was taken; one that is gone only when its runner stayed behind."""
    record = interrupted(NAME, loss, seen(who=who), jobs, EPOCH)
    assert (record is not None) is found
    if record is not None:
        assert (record.label, record.pod) == (LABEL, loss.pod.id if loss.pod else None)


@pytest.mark.parametrize(
    ("who", "jobs", "found"),
    [
        pytest.param(None, [job()], False, id="the job has failed"),
        pytest.param(runner(), [job()], True, id="its runner has not said so"),
        pytest.param(Unknown(reason="x"), [job()], True, id="nobody knows whether it has"),
        pytest.param(None, [job(status="in_progress", conclusion=None)], True, id="the job runs"),
        pytest.param(None, [job(runner_name=None)], True, id="no runner took the job"),
        pytest.param(None, None, True, id="the jobs cannot be read"),
    ],
)
def test_a_pod_that_is_being_deleted_after_its_job_is_no_loss(
    who: Runner | Unknown | None,
    jobs: list[Job] | None,
    found: bool,  # noqa: FBT001 - a column
) -> None:
    """Another command of ours deletes it, where the provider does not tell whose doing it is."""
    leaving = pod(state=PodState.INTERRUPTED, tags=tags(label=LABEL), deleting=True)
    loss = Loss(reason="interrupted", pod=leaving)
    assert (interrupted(NAME, loss, seen(leaving, who=who), jobs, EPOCH) is not None) is found


def test_an_interruption_was_when_the_provider_says() -> None:
    """However much later it was noticed; a provider's clock that is ahead makes nobody wait for the future."""
    assert TAKEN.pod
    for stopped, at in ((EPOCH - timedelta(hours=2), EPOCH - timedelta(hours=2)), (EPOCH + timedelta(1), EPOCH)):
        record = interrupted(NAME, replace(TAKEN, pod=replace(TAKEN.pod, stopped_at=stopped)), seen(), None, EPOCH)
        assert record
        assert record.at == at


ENDS = EPOCH + timedelta(hours=1)


@pytest.mark.parametrize(
    ("loss", "labels", "jobs", "after", "found"),
    [
        (GONE, (LABEL, end_label(ENDS)), [job()], timedelta(minutes=70), False),
        (GONE, (LABEL, end_label(ENDS)), [job(completed_at=ENDS - timedelta(minutes=5))], timedelta(hours=3), True),
        (GONE, (LABEL, end_label(ENDS)), [job(completed_at=ENDS + timedelta(minutes=9))], timedelta(hours=3), False),
        (GONE, (LABEL, "rp-ends-never"), [job()], timedelta(hours=3), True),
        (Loss(reason="failed", pod=pod(state=PodState.FAILED, tags=tags(label=LABEL, expires_at=ENDS))), (), [job()],
         timedelta(minutes=59), False),
        (Loss(reason="interrupted", pod=pod(state=PodState.INTERRUPTED, tags=tags(label=LABEL, expires_at=ENDS))), (),
         [job()], timedelta(minutes=70), True),
        (Loss(reason="stopped", pod=pod(state=PodState.STOPPED, tags=tags(label=LABEL))), (), [job()],
         timedelta(0), False),
    ],
    ids=["its end", "before", "after", "unreadable", "its tags", "taken all the same", "stopped by its user"],
)  # fmt: skip
def test_a_pod_that_was_to_end_is_no_loss(
    loss: Loss,
    labels: tuple[str, ...],
    jobs: list[Job],
    after: timedelta,
    found: bool,  # noqa: FBT001 - a column
) -> None:
    """Its end is told by its tags, or by its runner, which outlives it for a while."""
    record = interrupted(NAME, loss, seen(who=runner(labels=labels)), jobs, EPOCH + after)
    assert (record is not None) is found


def test_a_pod_that_was_followed_did_not_end_itself_for_want_of_a_job() -> None:
    """Its job waits still."""
    waiting = [job(runner_name=None, status="queued", conclusion=None)]
    assert interrupted(NAME, GONE, seen(who=runner()), waiting, EPOCH, followed=True) is not None
    assert interrupted(NAME, GONE, seen(who=runner()), waiting, EPOCH) is None


def test_a_pod_that_was_followed_was_lost_before_its_job_was_cancelled() -> None:
    """Its runner may just be reporting that it is shut down."""
    cancelled = [job(conclusion="cancelled")]
    assert interrupted(NAME, TAKEN, seen(who=runner()), cancelled, EPOCH, followed=True) is not None


class _Past:
    """The part of a History that stop writes."""

    def __init__(self, error: StoreError | None = None) -> None:
        self.ends: list[object] = []
        self._error = error

    async def ended(self, *given: object) -> None:
        """Note an end."""
        if self._error is not None:
            raise self._error
        self.ends.append(given)


async def test_stop_has_the_memory_know() -> None:
    """Where there is one; that it cannot be written is told."""
    events, past = Memory(), _Past()
    program: Any = SimpleNamespace(history=past, events=events, clock=FakeClock())
    await remember(program, RECORD)
    assert past.ends == [(PodRef("fake", PodId("p1")), EPOCH, Ending.INTERRUPTED)]
    program.history = _Past(StoreError("disk full"))
    await remember(program, RECORD)
    assert events.told("history_not_written")
    await remember(SimpleNamespace(history=None), RECORD)  # type: ignore[arg-type]
    await remember(program, replace(RECORD, pod=None))
    assert len(events.events) == 1


# -- what explains a failure


def told(jobs: list[Job], *records: Interruption, pods: tuple[object, ...] = (), attempt: int = 1) -> Findings:
    """What explains them."""
    return explain(jobs, records, pods, owner8=OWNER8, run_id=RUN, attempt=attempt)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "one",
    [
        job(),
        job(runner_name=None, conclusion="cancelled"),
        job(labels=("gpu", LABEL)),
        job(conclusion="cancelled", completed_at=EPOCH + timedelta(seconds=20)),
    ],
    ids=["failed", "never taken", "more labels", "shut down"],
)
def test_a_record_explains_its_job(one: Job) -> None:
    """With those that ended well, and with a watch that failed because of it."""
    others = [job(name="start", conclusion="success", labels=("ubuntu-latest",), runner_name="GitHub Actions 1")]
    others += [job(name=name, labels=("ubuntu-latest",), runner_name="GitHub Actions 2") for name in ("a / Watch",)]
    found = told([one, *others], RECORD)
    assert found.unexplained == ()
    (explained,) = found.explained
    assert (explained.key.name, explained.label, explained.times) == (NAME, LABEL, 1)


@pytest.mark.parametrize(
    ("one", "record", "why"),
    [
        (job(labels=("ubuntu-latest",)), RECORD, "did not ask for a machine of ours"),
        (job(labels=(LABEL, "rp-" + "b" * 26)), RECORD, "did not ask for a machine of ours"),
        (job(conclusion="timed_out"), RECORD, "ended by itself (timed_out)"),
        (job(conclusion="cancelled", completed_at=EPOCH + timedelta(minutes=5)), RECORD, "was cancelled while it ran"),
        (job(conclusion="cancelled"), None, "was cancelled while it ran"),
        (job(status="in_progress", conclusion=None), RECORD, "has not ended"),
        (job(runner_name="other"), RECORD, "no record says"),
        (job(runner_name=None), replace(RECORD, label="rp-" + "b" * 26), "no record says"),
        (job(runner_name=NAME.replace("-1-", "-2-")), RECORD, "not run on a machine that was rented for this attempt"),
        (job(runner_name=NAME.replace(OWNER8, "ffffffff")), RECORD, "not run on a machine"),
        (job(runner_name=None), replace(RECORD, name=NAME.replace("zz", "zy")), "not run on a machine"),
        (job(), replace(RECORD, name=NAME.replace("-1-", "-2-")), "failed by itself"),
        (job(), None, "failed by itself"),
        (job(name="a\n::error::b", conclusion=None), None, "job 'a ::error::b' ended by itself (no conclusion)"),
    ],
)
def test_what_is_not_explained(one: Job, record: Interruption | None, why: str) -> None:
    """Its reason is told on one line, and nothing of it counts."""
    found = told([one], *([record] if record else []))
    assert found.explained == ()
    (line,) = found.unexplained
    assert why in line
    assert line.isprintable()


def test_what_the_provider_says_counts_more_than_a_record() -> None:
    """A pod that is alive contradicts; one that is listed as taken needs no record."""
    assert "still there" in told([job()], RECORD, pods=(pod(),)).unexplained[0]
    assert told([job()], pods=(pod(state=PodState.INTERRUPTED),)).explained[0].label == LABEL
    assert told([job()], pods=(pod(state=PodState.INTERRUPTED, deleting=True),)).explained == ()
    assert told([job()], pods=(pod(state=PodState.FAILED),)).explained == ()
    assert told([job()], RECORD, pods=(pod("rp-other"),)).explained != ()


def test_how_often_it_happened() -> None:
    """Attempts of the same key are counted, each once."""
    name = NAME.replace("-1-", "-2-")
    later = replace(RECORD, name=name, at=EPOCH + timedelta(hours=1))
    found = told([job(runner_name=name)], RECORD, later, replace(later, reason="vanished"), attempt=2)
    assert found.explained[0].times == 2
    other = replace(RECORD, name=NAME.replace("default", "other"))
    assert told([job()], RECORD, other).explained[0].times == 1


@pytest.mark.parametrize(
    ("name", "watches"),
    [
        ("watch", True),
        ("Watch", True),
        ("train / Watch", True),
        ("watch (small)", True),
        ("watchdog", False),
        ("a watch", False),
    ],
)
def test_which_job_is_a_watch(name: str, watches: bool) -> None:  # noqa: FBT001 - a column
    """By its name alone."""
    assert is_watch(name) is watches
