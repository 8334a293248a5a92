"""What the money was for, from records of pods."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner_provisioner.domain.costs import Part, Share, by_day, by_gpu, end_of, job_of, jobs, spells
from runner_provisioner.domain.history import Ending, OfferKind, PodRecord
from runner_provisioner.domain.money import cost
from runner_provisioner.domain.names import RunKey, base36
from runner_provisioner.domain.pods import PodId
from runner_provisioner.testing.clock import EPOCH

KIND = OfferKind(provider="runpod", gpu_model="NVIDIA RTX A4000", gpu_count=1, interruptible=True)
OWNER8 = "0123abcd"
LATER = EPOCH + timedelta(days=9)


def at(minutes: float) -> datetime:
    """So many minutes past the beginning."""
    return EPOCH + timedelta(minutes=minutes)


def minutes(count: float) -> timedelta:
    """So many."""
    return timedelta(minutes=count)


def name(*, run: int = 4711, attempt: int = 1, key: str = "default") -> str:
    """The name of a pod."""
    return RunKey(owner8=OWNER8, run=base36(run), attempt=attempt, key=key).name


def record(pod_id: str = "p1", **more: Any) -> PodRecord:  # noqa: ANN401 - any field
    """A pod that booted for 2 of its 60 minutes, waited for 1, worked for 50, and lived for 7 more."""
    values: dict[str, Any] = {
        "name": name(),
        "kind": KIND,
        "price": Decimal("0.60"),
        "list_price": Decimal("1.20"),
        "requested_at": at(-4),
        "created_at": at(0),
        "expires_at": at(360),
        "online_at": at(2),
        "job_at": at(3),
        "job_ended_at": at(53),
        "ended_at": at(60),
        "ending": Ending.ITSELF,
        **more,
    }
    return PodRecord(provider="runpod", id=PodId(pod_id), **values)


def shares(one: PodRecord, *, now: datetime = LATER, repeated: bool = False) -> dict[str, float]:
    """The minutes of each share."""
    found: dict[str, float] = {}
    for spell in spells(one, now, repeated=repeated):
        found[spell.share.value] = found.get(spell.share.value, 0) + (spell.end - spell.begin) / minutes(1)
    return found


NO_JOB: dict[str, Any] = {"job_at": None, "job_ended_at": None}
NEVER_ONLINE: dict[str, Any] = {**NO_JOB, "online_at": None}
OPEN: dict[str, Any] = {"ended_at": None, "ending": None}
CASES: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "all is known": ({}, {"boot": 2, "wasted": 8, "useful": 50}),
    "interrupted at work": (
        {"ending": Ending.INTERRUPTED, "job_ended_at": at(70)},
        {"boot": 2, "wasted": 58},
    ),
    "interrupted, end of the job unknown": (
        {"ending": Ending.INTERRUPTED, "job_ended_at": None},
        {"boot": 2, "wasted": 58},
    ),
    "interrupted after the job": ({"ending": Ending.INTERRUPTED}, {"boot": 2, "wasted": 8, "useful": 50}),
    "failed at work": ({"ending": Ending.FAILED, "job_ended_at": None}, {"boot": 2, "wasted": 58}),
    "end of the job unknown": ({"job_ended_at": None}, {"boot": 2, "wasted": 1, "unknown": 57}),
    "boot unknown": ({"online_at": None}, {"unknown": 3, "useful": 50, "wasted": 7}),
    "job unknown": (NO_JOB, {"boot": 2, "unknown": 58}),
    "failed": ({**NO_JOB, "ending": Ending.FAILED}, {"wasted": 60}),
    "given back before it was online": ({**NEVER_ONLINE, "ending": Ending.ASKED}, {"wasted": 60}),
    "interrupted before it was online": ({**NEVER_ONLINE, "ending": Ending.INTERRUPTED}, {"wasted": 60}),
    "nothing known but its end": (NEVER_ONLINE, {"unknown": 60}),
    "end never confirmed": ({**NEVER_ONLINE, **OPEN}, {"unknown": 360}),
    "ended at once": ({"ended_at": at(0)}, {}),
    "clocks disagree": ({"online_at": at(-1), "job_at": at(-2), "job_ended_at": at(99)}, {"useful": 60}),
    "ended before it began": ({"ended_at": at(-9)}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_minute_is_counted_as_what_it_was(case: str) -> None:
    """And as unknown where the records do not say."""
    changed, wanted = CASES[case]
    assert shares(record(**changed)) == wanted


def test_a_pod_that_boots_is_booting() -> None:
    """So far; once it had to end and nothing was heard of it, nobody knows."""
    booting = record(**NEVER_ONLINE, **OPEN)
    assert shares(booting, now=at(5)) == {"boot": 5}
    assert shares(booting, now=at(360)) == {"unknown": 360}


def test_work_that_a_later_pod_did_again_is_retried() -> None:
    """However it ended."""
    assert shares(record(), repeated=True) == {"boot": 2, "wasted": 8, "retried": 50}
    interrupted = record(ending=Ending.INTERRUPTED, job_ended_at=None)
    assert shares(interrupted, repeated=True) == {"boot": 2, "wasted": 1, "retried": 57}


def test_one_job_on_one_pod() -> None:
    """Waiting costs nothing, the rest comes to the bill."""
    (job,) = jobs([record(repository="octo/gpu")], LATER)
    assert (job.run, job.key, job.attempts, job.pods, job.interruptions) == ("4711", "default", 1, 1, 0)
    assert (job.repository, job.gpus, job.began_at) == ("octo/gpu", ("1 x NVIDIA RTX A4000",), at(-4))
    assert job.waiting == minutes(4)
    assert job.parts == {
        Share.BOOT: Part(minutes(2), Decimal("0.0200")),
        Share.USEFUL: Part(minutes(50), Decimal("0.5000")),
        Share.WASTED: Part(minutes(8), Decimal("0.0800")),
        Share.RETRIED: Part(),
        Share.UNKNOWN: Part(),
    }
    assert job.paid == Part(minutes(60), Decimal("0.6000"))
    assert job.listed == Decimal("1.2000")
    assert job.settled


def test_an_interruption_and_its_repetition_are_one_job() -> None:
    """A pod that never served, one that was interrupted, and the one of the next attempt that did it all again."""
    mute = record("p1", **NEVER_ONLINE, ended_at=at(8), ending=Ending.FAILED)
    broken = record(
        "p2", created_at=at(9), online_at=at(11), job_at=at(12), job_ended_at=None, ended_at=at(30),
        ending=Ending.INTERRUPTED,
    )  # fmt: skip
    other_kind = replace(KIND, interruptible=False, gpu_model="NVIDIA L4")
    again = record(
        "p3", name=name(attempt=2), kind=other_kind, requested_at=at(40), created_at=at(41), online_at=at(43),
        job_at=at(44), job_ended_at=at(84), ended_at=at(85),
    )  # fmt: skip
    (job,) = jobs([again, broken, mute], LATER)
    assert (job.attempts, job.pods, job.interruptions, job.name) == (2, 3, 1, name(attempt=2))
    assert job.gpus == ("1 x NVIDIA RTX A4000", "1 x NVIDIA L4")
    assert job.waiting == minutes(4 + 1 + 1)
    assert {share.value: part.time / minutes(1) for share, part in job.parts.items()} == {
        "boot": 2 + 2,
        "useful": 40,
        "wasted": 8 + 1 + 1 + 1,
        "retried": 18,
        "unknown": 0,
    }


def test_waiting_is_unknown_when_no_request_was_noted() -> None:
    """Of any of its attempts."""
    second = record("p2", name=name(attempt=2), created_at=at(100), ended_at=at(160), requested_at=None)
    (job,) = jobs([record(), second], LATER)
    assert job.waiting is None


def test_jobs_are_told_apart_by_run_and_key() -> None:
    """Oldest first; a start outside workflows and a name of another form are jobs of their own."""
    local = RunKey(owner8=OWNER8, run="abcdefgh", attempt=0, key="default").name
    given_names = [name(), name(key="other"), name(run=4712), local, "by-hand"]
    records = [
        record(one, name=one, requested_at=None, created_at=at(number)) for number, one in enumerate(given_names)
    ]
    found = jobs(reversed(records), LATER)
    assert [(one.run, one.key) for one in found] == [
        ("4711", "default"),
        ("4711", "other"),
        ("4712", "default"),
        ("abcdefgh", "default"),
        ("by-hand", ""),
    ]
    key = RunKey.parse(name(key="other", attempt=7))
    assert key is not None
    assert job_of(records, key, LATER) == found[1]
    assert job_of(records[:1], key, LATER) is None


def test_an_end_that_is_not_confirmed_is_no_settled_bill() -> None:
    """It is what it comes to so far, or at most."""
    alive = record(**OPEN)
    for now, paid in ((at(30), "0.3000"), (at(999), "3.6000")):
        (job,) = jobs([alive], now)
        assert (job.paid.usd, job.settled) == (Decimal(paid), False)
        (total,) = by_gpu([alive], now)
        assert (total.paid, total.settled) == (job.paid, False)


def test_days_end_at_midnight() -> None:
    """In UTC; a pod counts on each day of its life, with its part of the bill."""
    midnight = EPOCH.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    over = record("p1", created_at=midnight - minutes(15), ended_at=midnight + minutes(45), expires_at=LATER)
    early = record("p2", created_at=midnight - minutes(60), ended_at=midnight - minutes(50), expires_at=LATER)
    first, second = by_day([over, early], LATER)
    assert (first.what, second.what) == (f"{EPOCH.date()}", f"{midnight.date()}")
    assert (first.pods, first.paid, first.listed) == (2, Part(minutes(25), Decimal("0.2500")), Decimal("0.5000"))
    assert (second.pods, second.paid, second.settled) == (1, Part(minutes(45), Decimal("0.4500")), True)


def test_models_are_added_up() -> None:
    """By model and count, in the order of their names."""
    other = record("p2", kind=replace(KIND, gpu_model="NVIDIA L4", gpu_count=2))
    third = record("p3", kind=replace(KIND, interruptible=False))
    found = [(one.what, one.pods, one.paid.usd) for one in by_gpu([record(), other, third], LATER)]
    assert found == [("1 x NVIDIA RTX A4000", 2, Decimal("1.2000")), ("2 x NVIDIA L4", 1, Decimal("0.6000"))]


moments = st.none() | st.integers(-300, 200_000).map(lambda seconds: EPOCH + timedelta(seconds=seconds))


@settings(max_examples=40)
@given(
    records=st.lists(
        st.builds(
            PodRecord,
            provider=st.just("runpod"),
            id=st.uuids().map(lambda one: PodId(str(one))),
            name=st.sampled_from([name(), name(attempt=2), name(key="b"), "by-hand"]),
            kind=st.sampled_from([KIND, replace(KIND, gpu_count=2)]),
            price=st.decimals(0, 99, places=4),
            list_price=st.decimals(0, 99, places=4),
            created_at=moments.filter(bool),
            expires_at=moments.filter(bool),
            requested_at=moments,
            online_at=moments,
            job_at=moments,
            job_ended_at=moments,
            ended_at=moments,
            ending=st.none() | st.sampled_from(Ending),
        ),
        max_size=6,
    ),
    now=moments.filter(bool),
)
def test_nothing_is_counted_twice_or_left_out(records: list[PodRecord], now: datetime) -> None:
    """Whatever the records say: each second of each pod is in one spell, and all sums come to the same bill."""
    for one in records:
        found = spells(one, now)
        edges = [one.created_at, *(spell.end for spell in found)]
        assert [spell.begin for spell in found] == edges[:-1]
        assert edges[-1] == end_of(one, now)
        assert all(spell.end > spell.begin for spell in found)
    bill = sum((cost(one.price, (end_of(one, now) - one.created_at).total_seconds()) for one in records), Decimal(0))
    told = jobs(records, now)
    sums = [
        sum(one.paid.usd for one in told),
        *(sum(one.paid.usd for one in by(records, now)) for by in (by_day, by_gpu)),
    ]
    assert sums == [bill] * 3
    assert sum(one.pods for one in told) == len(records)
    assert all(one.waiting is None or one.waiting >= timedelta(0) for one in told)
    assert sum(one.listed for one in told) == sum(one.listed for one in by_day(records, now))
