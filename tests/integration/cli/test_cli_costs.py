"""`costs`, and what `stop` and `cleanup` note in the history and tell from it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from runner_provisioner.cli.bookkeeping import book_stop
from runner_provisioner.cli.spending import Jobs
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.history import Ending, OfferKind, PodRecord
from runner_provisioner.domain.names import RunKey, base36
from runner_provisioner.domain.pods import PodId
from runner_provisioner.errors import InvalidRequest, StoreError
from runner_provisioner.services.ending import Ended
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.storage.history import HistoryFile

if TYPE_CHECKING:
    from integration.cli.conftest import Services

    from runner_provisioner.cli.session import Session
    from runner_provisioner.wiring import Place

REPOSITORY = "octo/hello"
KIND = OfferKind(provider="runpod", gpu_model="NVIDIA RTX A4000", gpu_count=1, interruptible=False)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def now() -> datetime:
    """The real time, in whole seconds: what is shown has no parts of one."""
    return datetime.now(UTC).replace(microsecond=0)


def record(name: str = "rp-0123abcd-zz-1-default", pod_id: str = "p1", **more: Any) -> PodRecord:  # noqa: ANN401 - any field
    """A pod that lived for an hour, which ended two hours ago."""
    begin = more.pop("created_at", now() - 3 * HOUR)
    values: dict[str, Any] = {
        "kind": KIND,
        "price": Decimal("0.36"),
        "list_price": Decimal("0.72"),
        "requested_at": begin - MINUTE,
        "created_at": begin,
        "expires_at": begin + 6 * HOUR,
        "online_at": begin + 2 * MINUTE,
        "job_at": begin + 3 * MINUTE,
        "job_ended_at": begin + 58 * MINUTE,
        "ended_at": begin + HOUR,
        "ending": Ending.ITSELF,
        **more,
    }
    return PodRecord(provider="runpod", id=PodId(pod_id), name=name, **values)


def place(services: Services) -> Path:
    """Where the history is by itself."""
    return services.folder / ".local" / "state" / "runner-provisioner" / "history.sqlite3"


def remember(path: Path, *records: PodRecord) -> None:
    """Write them, as start would."""

    async def write() -> None:
        history = HistoryFile(path, clock=SystemClock())
        for one in records:
            await history.rented(one)
        await history.aclose()

    anyio.run(write)


def recall(path: Path) -> Sequence[PodRecord]:
    """All that is there."""

    async def read() -> Sequence[PodRecord]:
        history = HistoryFile(path, clock=SystemClock())
        try:
            return await history.pods(now() - 99 * HOUR)
        finally:
            await history.aclose()

    return anyio.run(read)


def test_costs_needs_neither_network_nor_credentials(services: Services) -> None:
    """One row a job, then days and models, then all."""
    lost = record("rp-0123abcd-yy-1-second", "p2", created_at=now() - 7 * HOUR, ended_at=None, ending=None)
    remember(place(services), record(), lost)
    nothing = {"RUNPOD_API_KEY": "", "GITHUB_TOKEN": "", "RUNPOD_API_URL": "", "GITHUB_API_URL": ""}
    result = services.run("costs", **nothing)
    assert result.code == 0, result.err
    lines = [line.split() for line in result.out.splitlines()]
    settled = ["1m", "2m", "55m", "3m", "0s", "0s", "0.3600", "0.7200"]
    assert [str(int("zz", 36)), "default", "1", "x", "NVIDIA", "RTX", "A4000", "1", *settled] in lines
    assert ["all", "2", "7h", "at", "most", "2.5200", "5.0400"] in lines
    assert services.runpod.calls == []
    assert services.github.calls == []


def test_costs_as_data(services: Services) -> None:
    """--json has everything, --csv the rows of what --by names."""
    broken = record(
        "rp-0123abcd-zz-1-default", "p0", created_at=now() - 5 * HOUR, job_ended_at=None, ending=Ending.INTERRUPTED
    )
    remember(place(services), broken, record("rp-0123abcd-zz-2-default", repository=REPOSITORY))
    data = services.run("costs", "--json").data
    (job,) = data["jobs"]
    assert (job["run-id"], job["attempts"], job["pods"], job["interruptions"]) == (str(int("zz", 36)), 2, 2, 1)
    assert job["useful"] == {"seconds": 3300.0, "usd": "0.3300"}
    assert job["retried"] == {"seconds": 3420.0, "usd": "0.3420"}
    assert (job["cost-usd"], job["list-usd"], job["settled"]) == ("0.7200", "1.4400", True)
    assert sum(Decimal(one["cost-usd"]) for one in data["days"]) == Decimal(data["total"]["cost-usd"])
    assert [one["what"] for one in data["gpus"]] == ["1 x NVIDIA RTX A4000"]
    (row,) = csv.DictReader(io.StringIO(services.run("costs", "--csv").out))
    assert (row["key"], row["repository"], row["useful-usd"], row["waiting-seconds"]) == (
        "default",
        REPOSITORY,
        "0.3300",
        "120.0",
    )
    (row,) = csv.DictReader(io.StringIO(services.run("costs", "--csv", "--by", "gpu").out))
    assert row == {
        "what": "1 x NVIDIA RTX A4000",
        "pods": "2",
        "billed-seconds": "7200.0",
        "cost-usd": "0.7200",
        "list-usd": "1.4400",
        "settled": "true",
    }
    days = services.run("costs", "--by", "day").out
    assert "retried" not in days
    assert f"{(now() - 5 * HOUR).date()}" in days


def test_what_is_longer_ago_is_left_out(services: Services) -> None:
    """Also a pod whose end nobody confirmed, once it had to end before that."""
    path = services.folder / "elsewhere.sqlite3"
    lost = record("rp-0123abcd-aa-1-default", "p2", created_at=now() - 99 * HOUR, ended_at=None, ending=None)
    remember(path, record(), lost)
    for since, count in (("1h", 0), ("2d", 1), ("30d", 2)):
        result = services.run("costs", "--json", "--since", since, RUNNER_PROVISIONER_HISTORY=path.name)
        assert len(result.data["jobs"]) == count
    assert services.run("costs", "--since", "1h").out == "no pod in the last 1h\n"
    assert services.run("costs", "--csv").out == ""


@pytest.mark.parametrize(
    ("arguments", "history", "wanted", "code"),
    [
        pytest.param(["--csv", "--json"], "", "--csv contradicts --json", InvalidRequest.exit_code, id="both"),
        pytest.param([], "off", "RUNNER_PROVISIONER_HISTORY is off", InvalidRequest.exit_code, id="off"),
        pytest.param([], "~/damaged", "home/damaged is damaged: move it away", StoreError.exit_code, id="damaged"),
        pytest.param(["--since", "soon"], "", "'soon' is not a duration", InvalidRequest.exit_code, id="since"),
    ],
)
def test_bad_input_is_one_line(services: Services, arguments: list[str], history: str, wanted: str, code: int) -> None:
    """Which names it and the remedy."""
    (services.folder / "damaged").write_text("no database" * 99)
    result = services.run("costs", *arguments, RUNNER_PROVISIONER_HISTORY=history)
    assert (result.code, len(result.errors)) == (code, 1), result.err
    assert wanted in result.errors[0]


# --- stop and cleanup


def step(services: Services, run_id: int) -> dict[str, str]:
    """The variables of a step of a run, whose jobs share a history."""
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_RUN_ID": str(run_id),
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_REPOSITORY": REPOSITORY,
        "RUNNER_TEMP": str(services.folder / "temp"),
        "GITHUB_STEP_SUMMARY": str(services.folder / "page"),
        "RUNNER_PROVISIONER_HISTORY": str(services.folder / "h.sqlite3"),
    }


def started(services: Services) -> tuple[dict[str, str], PodRecord]:
    """A start whose runner has taken its job; and what the history knows of its pod."""
    run_id = services.github.queue_job(REPOSITORY, ["box"])
    environment = step(services, run_id)
    services.usher()
    result = services.run("start", "--label", "box", "--json", **environment)
    assert result.code == 0, result.err
    (known,) = recall(services.folder / "h.sqlite3")
    assert [pod.id for pod in services.runpod.live()] == [known.id]
    return environment, known


def test_a_stop_notes_the_end_and_tells_what_it_cost(services: Services) -> None:
    """Of the pod that it ended; no job has run, so that its time was for nothing known, and that is said."""
    environment, known = started(services)
    stopped = services.run("stop", "--json", **environment)
    assert stopped.code == 0, stopped.err
    (ended,) = recall(services.folder / "h.sqlite3")
    assert (ended.id, ended.ending) == (known.id, Ending.ASKED)
    assert ended.ended_at is not None
    costs = stopped.data["costs"]
    assert stopped.data["cost-usd"] == costs["cost-usd"]
    assert (costs["settled"], costs["useful"]["seconds"]) == (True, 0)
    assert costs["waiting"]["seconds"] > 0
    page = (services.folder / "page").read_text()
    assert f"Cost: {costs['cost-usd']} USD" in page
    assert "| waiting | " in page
    assert "| paid | " in page
    again = services.run("stop", **environment)
    assert again.code == 0
    assert recall(services.folder / "h.sqlite3") == [ended]


def test_a_stop_notes_when_the_job_ran(services: Services) -> None:
    """From GitHub; a pod that was gone already ended with its job."""
    environment, known = started(services)
    (runner,) = [one for one in services.github.runners() if one.name == known.name]
    runner.labels = (*runner.labels, "box")
    job = services.github.play_take(runner)
    assert job is not None
    services.github.play_finish(runner)
    assert services.run("pods", "terminate", known.id).code == 0
    told = services.run("stop", **environment)
    assert told.code == 0, told.err
    (ended,) = recall(services.folder / "h.sqlite3")
    assert ended.job_at is not None
    assert ended.job_ended_at == ended.ended_at
    assert ended.ending is Ending.ITSELF
    assert "useful" in told.out


def test_a_pod_that_nobody_saw_end_is_known_to_be_gone(services: Services) -> None:
    """Its end is the latest that it can have been."""
    key = RunKey.parse("rp-0123abcd-zz-1-default")
    assert key is not None
    environment = step(services, 4711)
    found = services.run("stop", "--json", **environment).data["ended"][0]["name"]
    assert base36(4711) in found
    blank: dict[str, Any] = {"job_at": None, "job_ended_at": None, "ended_at": None, "ending": None}
    old = record(found, "old", created_at=now() - 9 * HOUR, **blank)
    new = record(found, "new", created_at=now() - HOUR, **blank)
    other = record("rp-0123abcd-zz-1-default", "other", **blank)
    remember(services.folder / "h.sqlite3", old, new, other)
    assert services.run("stop", **environment).code == 0
    known = {one.id: one for one in recall(services.folder / "h.sqlite3")}
    assert known[PodId("old")].ended_at == old.expires_at
    assert now() - MINUTE < (known[PodId("new")].ended_at or now() - HOUR) <= now() + MINUTE
    assert known[PodId("other")].ended_at is None


def test_a_pod_that_was_taken_back_is_noted_as_interrupted(tmp_path: Path) -> None:
    """When it was; what ended before that had its end already."""
    blank: dict[str, Any] = {"job_at": None, "job_ended_at": None, "ended_at": None, "ending": None}
    name = "rp-0123abcd-zz-1-default"
    taken, early = record(name, "taken", **blank), record(name, "early", created_at=now() - 9 * HOUR)
    remember(tmp_path / "h.sqlite3", taken, early)
    ended = [Ended(name=name, pods=("taken",))]

    async def book() -> Sequence[PodRecord]:
        history = HistoryFile(tmp_path / "h.sqlite3", clock=SystemClock())
        program: Any = SimpleNamespace(history=history, clock=SystemClock(), github=None, providers={"runpod": None})
        jobs = Jobs(program, cast("Place", SimpleNamespace(repository=None)))
        try:
            return await book_stop(cast("Session", None), program, jobs, ended, {name: now() - HOUR})
        finally:
            await history.aclose()

    found = {one.id: one for one in anyio.run(book)}
    assert found[PodId("taken")].ending is Ending.INTERRUPTED
    assert abs((found[PodId("taken")].ended_at or now()) - (now() - HOUR)) < MINUTE
    assert found[PodId("early")] == early


def test_a_stop_adds_what_the_history_does_not_know(services: Services) -> None:
    """Another job's copy of it was saved last, as jobs of a workflow that overlap do."""
    environment, known = started(services)
    (services.folder / "h.sqlite3").unlink()
    assert services.run("stop", **environment).code == 0
    (found,) = recall(services.folder / "h.sqlite3")
    assert (found.id, found.price, found.created_at, found.expires_at) == (
        known.id,
        known.price,
        known.created_at,
        known.expires_at,
    )
    assert found.ending is Ending.ASKED


def spoil(services: Services) -> None:
    """Make the history one that cannot be used."""
    (services.folder / "h.sqlite3").write_text("no database" * 99)


def test_a_damaged_history_keeps_nobody_from_ending(services: Services) -> None:
    """It is a warning."""
    environment, _ = started(services)
    spoil(services)
    result = services.run("stop", **environment)
    assert (result.code, result.errors) == (0, [])
    assert "warning: history" in result.err
    assert services.runpod.live() == []


def test_a_history_that_is_off_is_not_made(services: Services) -> None:
    """Nor asked for."""
    environment = {**step(services, 4711), "RUNNER_PROVISIONER_HISTORY": "off"}
    result = services.run("stop", "--json", **environment)
    assert (result.code, result.data["costs"], result.data["cost-usd"]) == (0, None, None)
    assert services.run("cleanup", **environment).code == 0
    assert list(services.folder.rglob("*.sqlite3")) == []


@pytest.mark.parametrize("damaged", [False, True], ids=["noted", "damaged"])
def test_a_cleanup_notes_the_ends_of_orphans(services: Services, damaged: bool) -> None:  # noqa: FBT001 - a parameter
    """And cleans up as well when it cannot."""
    environment, known = started(services)
    services.github.complete_run(int(environment["GITHUB_RUN_ID"]))
    if damaged:
        spoil(services)
    result = services.run("cleanup", **environment)
    assert (result.code, result.errors) == (0, [])
    assert services.runpod.live() == []
    assert ("warning: history" in result.err) is damaged
    if not damaged:
        (ended,) = recall(services.folder / "h.sqlite3")
        assert (ended.id, ended.ending) == (known.id, Ending.ASKED)


def test_cleanup_closes_records_of_pods_that_are_gone(services: Services) -> None:
    """At the end of their lifetime, or now; not that of a young one, nor on a dry run, nor when nobody could look."""
    begin = now() - 9 * HOUR
    nothing = {"job_at": None, "job_ended_at": None, "ended_at": None, "ending": None}
    over = record("rp-0123abcd-yy-1-a", "p1", created_at=begin, **nothing)
    early = record("rp-0123abcd-yy-1-b", "p2", created_at=now() - HOUR, **nothing)
    young = record("rp-0123abcd-yy-1-c", "p3", created_at=now() - MINUTE, **nothing)
    remember(place(services), over, early, young)
    assert services.run("cleanup", "--dry-run").code == 0
    services.runpod.faults.add(Fault(operation="*", kind=FaultKind.ERROR, status=500, times=None))
    assert services.run("cleanup").code != 0
    assert [one.ended_at for one in recall(place(services))] == [None, None, None]
    services.runpod.faults.clear()
    assert services.run("cleanup").code == 0
    found = {str(one.id): one for one in recall(place(services))}
    assert (found["p1"].ended_at, found["p1"].ending) == (over.expires_at, Ending.ITSELF)
    assert found["p2"].ended_at is not None
    assert found["p3"].ended_at is None


def test_a_pod_made_by_hand_counts_in_budget_and_costs(services: Services) -> None:
    """From its create to its end; nothing says what it was for."""
    create = ("pods", "create", "--gpu", "RTX A4000", "--image", "ubuntu:24.04")
    refused = services.run(*create, RUNNER_PROVISIONER_BUDGET_DAY="0.01")
    assert (refused.code, len(refused.errors)) == (25, 1)
    assert services.runpod.live() == []
    made = services.run(*create, "--json", "--budget", "advisory", RUNNER_PROVISIONER_BUDGET_DAY="0.01")
    assert made.code == 0, made.err
    dear = services.run(*create, RUNNER_PROVISIONER_BUDGET_DAY="0.01")
    assert dear.code == 25
    assert "left of the day's budget of 0.01" in dear.errors[0]
    assert services.run("pods", "terminate", made.data["id"]).code == 0
    (known,) = recall(place(services))
    assert (str(known.id), known.ending) == (made.data["id"], Ending.ASKED)
    (job,) = services.run("costs", "--json").data["jobs"]
    assert job["unknown"]["seconds"] == job["billed-seconds"]


def test_a_state_file_that_cannot_be_removed_keeps_no_stop_from_telling_and_noting(services: Services) -> None:
    """The error comes last."""
    environment, known = started(services)
    (state,) = [one for one in services.folder.rglob(f"{known.name}.json") if one.is_file()]
    state.unlink()
    state.mkdir()
    told = services.run("stop", **environment)
    assert (told.code, len(told.errors)) == (40, 1), told.err
    assert "cannot be removed" in told.errors[0]
    assert known.id in told.out
    assert services.runpod.live() == []
    (found,) = recall(services.folder / "h.sqlite3")
    assert found.ending is Ending.ASKED
