"""Queued jobs, read by PyGithub over our own session, and from the simulated service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import respx

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.names import Scope
from runner_provisioner.domain.stuck import QueuedJob
from runner_provisioner.errors import GitHubError, PermissionDenied, ProtocolViolation
from runner_provisioner.github.connect import TokenCredential, connect
from runner_provisioner.github.queue import GitHubQueue
from runner_provisioner.logging import Redactor
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.testing.clock import FakeClock

REPO = Scope.parse("octo/app")
RUNS = "https://api.github.com/repos/octo/app/actions/runs"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
TOKEN = "ghp_planted1234"


def _connect(transport: httpx.AsyncBaseTransport) -> GitHubQueue:
    plumbing = Plumbing(
        clock=FakeClock(),
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="runner-provisioner/test",
        transport=transport,
    )
    return connect(REPO, TokenCredential(token=TOKEN), plumbing=plumbing).queue


def job(number: int, **changes: object) -> dict[str, Any]:
    """A queued job as GitHub describes it, cut to what is read."""
    return {
        "id": number,
        "name": f"job-{number}",
        "status": "queued",
        "labels": ["gpu"],
        "created_at": "2026-11-01T12:00:00Z",
        "started_at": "2026-11-01T12:00:00Z",
        **changes,
    }


def lay_out(router: respx.MockRouter, jobs: list[dict[str, Any]], *, status: int = 200) -> None:
    """Run 42 is in every list, and has these jobs."""
    listed = {"total_count": 1, "workflow_runs": [{"id": 42}]}
    for state in ("queued", "in_progress", "waiting"):
        router.get(RUNS, params={"status": state}).respond(json=listed)
    body = {"total_count": len(jobs), "jobs": jobs} if status == httpx.codes.OK else {"message": "Not Found"}
    router.get(f"{RUNS}/42/jobs").respond(status, json=body)


@asynccontextmanager
async def answering() -> AsyncIterator[tuple[GitHubQueue, respx.MockRouter]]:
    """A queue, and the GitHub that it asks."""
    with respx.mock(assert_all_called=False, using=None) as router:
        yield _connect(httpx.MockTransport(router.async_handler)), router


async def test_the_queued_jobs_of_active_runs_are_listed() -> None:
    """Each run is read once; jobs that a runner has taken are none; the later of the times counts."""
    async with answering() as (queue, router):
        again = job(2, started_at="2026-11-01T13:00:00Z")
        taken = job(3, status="in_progress")
        lay_out(router, [job(1, labels=["a", "b"]), again, taken, job(4, status="waiting")])
        first, second = await queue.queued_jobs("octo/app")
        assert len(router.calls) == 4
    assert first == QueuedJob(id=1, run_id=42, name="job-1", labels=("a", "b"), queued_at=NOON)
    assert (second.id, second.queued_at) == (2, NOON + timedelta(hours=1))


async def test_a_job_without_a_time_is_a_violation() -> None:
    """How long it waits would be a guess."""
    async with answering() as (queue, router):
        lay_out(router, [job(1, created_at=None, started_at=None)])
        with pytest.raises(ProtocolViolation, match="without a time"):
            await queue.queued_jobs("octo/app")


async def test_the_name_of_a_job_is_one_line() -> None:
    """Whoever may open a pull request writes names that somebody else's log shows."""
    async with answering() as (queue, router):
        lay_out(router, [job(1, name="a\r\n::stop-commands::x\x1b[2J" + "y" * 200)])
        (found,) = await queue.queued_jobs("octo/app")
    assert found.name.startswith("a ::stop-commands::x?[2Jy")
    assert len(found.name) == 100


async def test_a_run_that_was_deleted_meanwhile_has_no_jobs() -> None:
    """404 for it is no error."""
    async with answering() as (queue, router):
        lay_out(router, [], status=404)
        assert await queue.queued_jobs("octo/app") == []


async def test_a_run_that_may_not_be_read_is_an_error() -> None:
    """Unknown is never an empty queue."""
    async with answering() as (queue, router):
        lay_out(router, [], status=403)
        with pytest.raises(PermissionDenied):
            await queue.queued_jobs("octo/app")


@pytest.mark.parametrize(
    ("status", "expected"), [pytest.param(202, True, id="asked"), pytest.param(409, False, id="over")]
)
async def test_a_run_is_cancelled_unless_it_is_over(status: int, *, expected: bool) -> None:
    """One request either way."""
    async with answering() as (queue, router):
        route = router.post(f"{RUNS}/42/cancel").respond(status, json={"message": "Cannot cancel a run that is over"})
        assert await queue.cancel_if_active("octo/app", 42) is expected
        assert route.call_count == 1


async def test_a_refused_cancellation_is_an_error() -> None:
    """Whatever else GitHub says than that the run is over."""
    async with answering() as (queue, router):
        router.post(f"{RUNS}/42/cancel").respond(422, json={"message": "no"})
        with pytest.raises(GitHubError):
            await queue.cancel_if_active("octo/app", 42)


async def test_the_simulated_service_agrees() -> None:
    """A job that nobody takes is queued since its creation, and its run can be cancelled once."""
    clock = SystemClock()
    github = GitHubSimulator(clock)
    github.add_repository("octo/app")
    github.add_token(TOKEN)
    label = "rp-" + "q" * 26
    run_id = github.queue_job("octo/app", [label])
    queue = _connect(httpx.ASGITransport(github.app))
    (found,) = await queue.queued_jobs("octo/app")
    assert (found.run_id, found.labels, found.wanted) == (run_id, (label,), frozenset({label}))
    assert abs(clock.now() - found.queued_at) < timedelta(seconds=5)
    assert await queue.cancel_if_active("octo/app", run_id)
    assert not await queue.cancel_if_active("octo/app", run_id)
    assert await queue.queued_jobs("octo/app") == []
    assert github.violations == []
