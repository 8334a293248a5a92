"""Runs, attempts and jobs of the simulated GitHub."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.workflow import WorkflowError
from runner_provisioner.testing.clock import FakeClock

RUNS = "/repos/acme/tool/actions/runs"
CHAIN = """
name: chain
on: push
jobs:
  start:
    runs-on: ubuntu-latest
    outputs: {label: "${{ steps.s.outputs.label }}"}
    steps: [{run: "true"}]
  gpu:
    needs: start
    runs-on: ["${{ needs.start.outputs.label }}"]
    steps: [{run: "true"}]
  report:
    needs: gpu
    runs-on: report
    steps: [{run: "true"}]
  stop:
    needs: [start, gpu]
    if: always()
    runs-on: ubuntu-latest
    steps: [{run: "true"}]
"""
PROVIDED = {"start": {"label": "rp-abc"}}


@pytest.fixture
def clock() -> FakeClock:
    """Time of the simulated world."""
    return FakeClock()


@pytest.fixture
def sim(clock: FakeClock) -> GitHubSimulator:
    """An organisation with two repositories."""
    sim = GitHubSimulator(clock)
    sim.add_organisation("acme")
    sim.add_repository("acme/tool")
    sim.add_repository("acme/other")
    sim.add_token("ghp_owner")
    return sim


@pytest.fixture
async def client(sim: GitHubSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may do everything."""
    transport = httpx.ASGITransport(app=sim.app)
    head = {"authorization": "Bearer ghp_owner"}
    async with httpx.AsyncClient(transport=transport, base_url="http://github.test", headers=head) as client:
        yield client


def _play(sim: GitHubSimulator, label: str, conclusion: str = "success") -> None:
    runner = sim.play_runner("acme/tool", f"r-{label}-{len(sim.calls)}-{conclusion}", [label])
    assert sim.play_take(runner) is not None
    sim.play_finish(runner, conclusion)


async def test_a_run_goes_through_its_jobs_in_order(client: httpx.AsyncClient, sim: GitHubSimulator) -> None:
    """Provided jobs are done, the next is queued with the label that came out of them, the rest waits unseen."""
    run_id = sim.queue_run("acme/tool", CHAIN, provided=PROVIDED)
    jobs = (await client.get(f"{RUNS}/{run_id}/jobs")).json()["jobs"]
    assert [(job["name"], job["status"], job["labels"]) for job in jobs] == [
        ("start", "completed", []),
        ("gpu", "queued", ["rp-abc"]),
    ]
    assert (await client.get(f"{RUNS}/{run_id}")).json()["status"] == "queued"
    runner = sim.play_runner("acme/tool", "r", ["rp-abc"])
    sim.play_take(runner)
    job = (await client.get(f"/repos/acme/tool/actions/jobs/{sim.job(run_id, 'gpu').id}")).json()
    assert (job["status"], job["runner_name"], job["run_attempt"]) == ("in_progress", "r", 1)
    assert (await client.get(f"{RUNS}/{run_id}")).json()["status"] == "in_progress"
    sim.play_finish(runner)
    _play(sim, "report")
    _play(sim, "ubuntu-latest")
    ended = (await client.get(f"{RUNS}/{run_id}/attempts/1")).json()
    assert (ended["status"], ended["conclusion"]) == ("completed", "success")
    assert sim.violations == []


@pytest.mark.parametrize(
    ("wanted", "own", "fits"),
    [
        (["a"], ["a", "b"], True),
        (["A", "self-hosted"], ["a", "Self-Hosted"], True),
        (["a", "b"], ["a"], False),
    ],
    ids=["subset", "case", "missing"],
)
def test_a_runner_takes_jobs_whose_labels_it_has(
    sim: GitHubSimulator, wanted: list[str], own: list[str], *, fits: bool
) -> None:
    """All of the job's labels are needed, more do no harm, and case does not count."""
    sim.queue_job("acme/tool", wanted)
    assert (sim.play_take(sim.play_runner("acme/tool", "r", own)) is not None) == fits


def test_labels_are_no_reservation(sim: GitHubSimulator) -> None:
    """Another run's job with the same label is taken when it was queued first; a busy runner takes no second one."""
    first = sim.queue_job("acme/tool", ["x"])
    sim.queue_job("acme/tool", ["x"])
    runner = sim.play_runner("acme/tool", "r", ["x"])
    taken = sim.play_take(runner)
    assert taken is not None
    assert taken.run.id == first
    assert sim.play_take(runner) is None


def test_a_runner_of_the_organisation_serves_the_repositories_its_group_sees(sim: GitHubSimulator) -> None:
    """A repository's runner serves its own jobs only, an organisation's those of every visible repository."""
    sim.queue_job("acme/other", ["x"])
    assert sim.play_take(sim.play_runner("acme/tool", "near", ["x"])) is None
    shared = sim.play_runner("acme", "shared", ["x"])
    shared.group_id = sim.add_group("acme", "gpu", repositories=["acme/tool"]).id
    assert sim.play_take(shared) is None
    shared.group_id = 1
    assert sim.play_take(shared) is not None
    sim.add_repository("octo/hello")
    sim.queue_job("octo/hello", ["x"])
    assert sim.play_take(sim.play_runner("acme", "again", ["x"])) is None


async def test_a_lost_runner_fails_its_job_after_ten_minutes(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """Offline at once, busy until the lock has run out; then the job has failed and the runner can be deleted."""
    run_id = sim.queue_job("acme/tool", ["x"])
    runner = sim.play_runner("acme/tool", "r", ["x"])
    sim.play_take(runner)
    sim.play_loss(runner)
    path = f"/repos/acme/tool/actions/runners/{runner.id}"
    shown = (await client.get(path)).json()
    assert (shown["status"], shown["busy"]) == ("offline", True)
    clock.advance(599)
    assert (await client.delete(path)).status_code == 422
    assert (await client.get(f"{RUNS}/{run_id}")).json()["status"] == "in_progress"
    clock.advance(1)
    assert (await client.get(f"{RUNS}/{run_id}")).json()["conclusion"] == "failure"
    assert "lost communication" in sim.job_log(run_id)
    assert (await client.delete(path)).status_code == 204
    assert sim.violations == []


async def test_a_rerun_waits_for_the_attempt_and_keeps_what_went_well(
    client: httpx.AsyncClient, sim: GitHubSimulator
) -> None:
    """403 while it runs; then only the failed job and those that need it run again, as a second attempt."""
    run_id = sim.queue_run("acme/tool", CHAIN, provided=PROVIDED)
    again = f"{RUNS}/{run_id}/rerun-failed-jobs"
    assert (await client.post(again)).status_code == 403
    _play(sim, "rp-abc", "failure")
    assert (await client.post(again, json={})).status_code == 403
    _play(sim, "ubuntu-latest")
    assert (await client.get(f"{RUNS}/{run_id}")).json()["conclusion"] == "failure"
    answer = await client.post(again, json={"enable_debug_logging": True})
    assert (answer.status_code, answer.json()) == (201, {})
    second = (await client.get(f"{RUNS}/{run_id}/attempts/2/jobs")).json()["jobs"]
    assert [(job["name"], job["status"]) for job in second] == [("start", "completed"), ("gpu", "queued")]
    assert (await client.get(f"{RUNS}/{run_id}/jobs", params={"filter": "all"})).json()["total_count"] == 6
    assert (await client.get(f"{RUNS}/{run_id}/attempts/1")).json()["status"] == "completed"
    assert (await client.get(f"{RUNS}/{run_id}/attempts/3")).status_code == 404
    assert sim.violations == []


async def test_a_whole_run_and_a_single_job_can_be_run_again(client: httpx.AsyncClient, sim: GitHubSimulator) -> None:
    """`rerun` begins anew; a job takes its dependents along; a job of an old attempt is refused."""
    run_id = sim.queue_run("acme/tool", CHAIN, provided=PROVIDED)
    for label in ("rp-abc", "report", "ubuntu-latest"):
        _play(sim, label)
    old = sim.job(run_id, "report").id
    assert (await client.post(f"/repos/acme/tool/actions/jobs/{old}/rerun")).status_code == 201
    assert [(job["key"], job["status"]) for job in sim.describe_run(run_id)["jobs"]] == [  # type: ignore[attr-defined]
        ("start", "completed"),
        ("gpu", "completed"),
        ("report", "queued"),
        ("stop", "completed"),
    ]
    assert (await client.post(f"/repos/acme/tool/actions/jobs/{old}/rerun")).status_code == 403
    _play(sim, "report")
    assert (await client.post(f"{RUNS}/{run_id}/rerun-failed-jobs")).status_code == 403
    assert (await client.post(f"{RUNS}/{run_id}/rerun")).status_code == 201
    assert sim.run(run_id).latest.number == 3
    assert sim.job(run_id, "gpu").status == "queued"
    sim.complete_run(run_id)
    assert sim.rerun(run_id) == 4
    sim.complete_run(run_id, conclusion="failure")
    assert sim.rerun(run_id, failed_only=True) == 5
    assert sim.violations == []


async def test_cancelling_ends_what_waits_and_is_refused_afterwards(
    client: httpx.AsyncClient, sim: GitHubSimulator
) -> None:
    """Queued jobs are cancelled at once; a run that is over is 409."""
    run_id = sim.queue_job("acme/tool", ["x"])
    assert (await client.post(f"{RUNS}/{run_id}/cancel")).status_code == 202
    assert (await client.get(f"{RUNS}/{run_id}")).json()["conclusion"] == "cancelled"
    assert (await client.post(f"{RUNS}/{run_id}/cancel")).status_code == 409
    assert (await client.post(f"{RUNS}/{run_id}/force-cancel")).status_code == 409
    assert sim.violations == []


async def test_a_forced_cancellation_ends_a_job_that_does_not_listen(
    client: httpx.AsyncClient, sim: GitHubSimulator
) -> None:
    """The run is over at once, and a played runner is free."""
    run_id = sim.queue_job("acme/tool", ["x"])
    runner = sim.play_runner("acme/tool", "r", ["x"])
    sim.play_take(runner)
    sim.cancel(run_id)
    assert sim.run(run_id).latest.status == "in_progress"
    assert (await client.post(f"{RUNS}/{run_id}/force-cancel")).status_code == 202
    assert sim.run(run_id).latest.conclusion == "cancelled"
    assert sim.runners() == []


async def test_an_attempt_can_be_completed_by_hand(client: httpx.AsyncClient, sim: GitHubSimulator) -> None:
    """Waiting, queued and running jobs all end as told."""
    run_id = sim.queue_run("acme/tool", CHAIN, provided=PROVIDED)
    sim.play_take(sim.play_runner("acme/tool", "r", ["rp-abc"]))
    sim.complete_run(run_id, 1, conclusion="failure")
    shown = (await client.get(f"{RUNS}/{run_id}/attempts/1")).json()
    assert (shown["status"], shown["conclusion"]) == ("completed", "failure")
    assert sim.runners() == []


async def test_runs_are_listed_by_status(client: httpx.AsyncClient, sim: GitHubSimulator) -> None:
    """The newest first; a status or a conclusion filters."""
    first, second = sim.queue_job("acme/tool", ["x"]), sim.queue_job("acme/tool", ["x"])
    sim.complete_run(first)
    listed = {}
    for status in (None, "queued", "success"):
        params = {} if status is None else {"status": status}
        listed[status] = [run["id"] for run in (await client.get(RUNS, params=params)).json()["workflow_runs"]]
    assert listed == {None: [second, first], "queued": [second], "success": [first]}
    assert (await client.get("/repos/acme/other/actions/runs")).json()["total_count"] == 0
    assert (await client.get(f"/repos/acme/other/actions/runs/{first}")).status_code == 404
    assert (await client.get("/repos/acme/tool/actions/jobs/1")).status_code == 404
    assert sim.violations == []


def test_a_job_that_exceeds_its_time_is_stopped(sim: GitHubSimulator, clock: FakeClock) -> None:
    """Its runner is told, and what it reports counts as cancelled."""
    run_id = sim.queue_job("acme/tool", ["x"], more={"timeout-minutes": 2})
    runner = sim.play_runner("acme/tool", "r", ["x"])
    sim.play_take(runner)
    clock.advance(120)
    assert sim.job(run_id).told_to_stop
    sim.play_finish(runner, "success")
    assert sim.job(run_id).conclusion == "cancelled"


def test_a_job_that_cannot_be_played_fails_by_name(sim: GitHubSimulator) -> None:
    """Another action than checkout fails the job when a runner would take it, and the runner stays free."""
    run_id = sim.queue_run("acme/tool", "{on: push, jobs: {gpu: {runs-on: x, steps: [{uses: 'some/action@v1'}]}}}")
    assert sim.play_take(sim.play_runner("acme/tool", "r", ["x"])) is None
    assert sim.job(run_id).conclusion == "failure"
    assert "some/action@v1" in sim.job_log(run_id, "gpu")
    with pytest.raises(KeyError):
        sim.job(run_id, "nothing")


def test_a_hosted_job_can_be_played_by_somebody_else(sim: GitHubSimulator) -> None:
    """In progress when it is handed over, and what it gives reaches the jobs that need it."""
    run_id = sim.queue_run("acme/tool", CHAIN)
    sim.hand_over(run_id, "start")
    assert sim.job(run_id, "start").status == "in_progress"
    sim.provide(run_id, "start", {"label": "rp-late"})
    assert sim.job(run_id, "gpu").labels == ("rp-late",)


def test_a_file_that_is_no_workflow_is_refused(sim: GitHubSimulator) -> None:
    """The error comes before a run exists."""
    with pytest.raises(WorkflowError):
        sim.queue_run("acme/tool", "jobs: 5")
