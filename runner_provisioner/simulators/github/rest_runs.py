"""Routes about workflow runs and jobs.

Operations: runs.list, run, attempt, attempt.jobs, jobs, job, rerun, rerun-failed-jobs, job.rerun, cancel, force-cancel.
"""

from __future__ import annotations

from runner_provisioner.simulators.github.entities import ApiError
from runner_provisioner.simulators.github.rest import Exchange, Handler, Reply, Route
from runner_provisioner.simulators.github.runs import Attempt, Job, Run

FAILED = frozenset({"failure", "cancelled", "timed_out"})


def _run(exchange: Exchange) -> Run:
    return exchange.runs.run(exchange.number("run_id"), exchange.repository)


def list_runs(exchange: Exchange) -> Reply:
    """GET .../actions/runs, filtered by status when one is given."""
    wanted = exchange.argument("status")
    runs = [run for run in exchange.runs.of(exchange.repository) if _matches(run.latest, wanted)]
    return exchange.page("workflow_runs", [exchange.shapes.run(run, run.latest) for run in runs])


def _matches(attempt: Attempt, wanted: str | None) -> bool:
    return wanted in (None, attempt.status, attempt.conclusion)


def show_run(exchange: Exchange) -> Reply:
    """GET .../actions/runs/{run_id}: its latest attempt."""
    run = _run(exchange)
    return Reply(value=exchange.shapes.run(run, run.latest))


def show_attempt(exchange: Exchange) -> Reply:
    """GET .../actions/runs/{run_id}/attempts/{attempt_number}."""
    run = _run(exchange)
    return Reply(value=exchange.shapes.run(run, run.attempt(exchange.number("attempt_number"))))


def _job_page(exchange: Exchange, jobs: list[Job]) -> Reply:
    return exchange.page("jobs", [exchange.shapes.job(job) for job in jobs])


def list_jobs(exchange: Exchange) -> Reply:
    """GET .../actions/runs/{run_id}/jobs, of the latest attempt or of all."""
    run = _run(exchange)
    attempts = run.attempts if exchange.argument("filter") == "all" else [run.latest]
    return _job_page(exchange, [job for attempt in attempts for job in attempt.jobs.values()])


def list_attempt_jobs(exchange: Exchange) -> Reply:
    """GET .../actions/runs/{run_id}/attempts/{attempt_number}/jobs."""
    attempt = _run(exchange).attempt(exchange.number("attempt_number"))
    return _job_page(exchange, list(attempt.jobs.values()))


def _job(exchange: Exchange) -> Job:
    return exchange.runs.job(exchange.number("job_id"), exchange.repository)


def show_job(exchange: Exchange) -> Reply:
    """GET .../actions/jobs/{job_id}."""
    return Reply(value=exchange.shapes.job(_job(exchange)))


def rerun(exchange: Exchange) -> Reply:
    """POST .../actions/runs/{run_id}/rerun: 403 while an attempt is running."""
    exchange.runs.rerun(_run(exchange))
    return Reply(status=201, value={})


def rerun_failed(exchange: Exchange) -> Reply:
    """POST .../actions/runs/{run_id}/rerun-failed-jobs: 403 while an attempt is running (cli#9221)."""
    exchange.runs.rerun(_run(exchange), lambda job: job.conclusion in FAILED)
    return Reply(status=201, value={})


def rerun_job(exchange: Exchange) -> Reply:
    """POST .../actions/jobs/{job_id}/rerun: it and the jobs that need it."""
    chosen = _job(exchange)
    if chosen.attempt is not chosen.run.latest:
        raise ApiError(403, "Unable to re-run this job because it belongs to an earlier attempt")
    exchange.runs.rerun(chosen.run, lambda job: job is chosen)
    return Reply(status=201, value={})


def cancel(exchange: Exchange) -> Reply:
    """POST .../actions/runs/{run_id}/cancel: 409 when it is over."""
    exchange.runs.cancel(_run(exchange))
    return Reply(status=202, value={})


def force_cancel(exchange: Exchange) -> Reply:
    """POST .../actions/runs/{run_id}/force-cancel: ends jobs that do not heed a cancellation."""
    run = _run(exchange)
    if run.latest.status == "completed":
        raise ApiError(409, "Cannot cancel a workflow run that is completed.")
    exchange.runs.complete(run, run.latest, "cancelled")
    return Reply(status=202, value={})


_TABLE: tuple[tuple[str, str, str, Handler], ...] = (
    ("GET", "/runs", "runs.list", list_runs),
    ("GET", "/runs/{run_id}", "run", show_run),
    ("GET", "/runs/{run_id}/attempts/{attempt_number}", "attempt", show_attempt),
    ("GET", "/runs/{run_id}/attempts/{attempt_number}/jobs", "attempt.jobs", list_attempt_jobs),
    ("GET", "/runs/{run_id}/jobs", "jobs", list_jobs),
    ("GET", "/jobs/{job_id}", "job", show_job),
    ("POST", "/runs/{run_id}/rerun", "rerun", rerun),
    ("POST", "/runs/{run_id}/rerun-failed-jobs", "rerun-failed-jobs", rerun_failed),
    ("POST", "/jobs/{job_id}/rerun", "job.rerun", rerun_job),
    ("POST", "/runs/{run_id}/cancel", "cancel", cancel),
    ("POST", "/runs/{run_id}/force-cancel", "force-cancel", force_cancel),
)

ROUTES = tuple(
    Route(
        method=method,
        template="/repos/{owner}/{repo}/actions" + rest,
        operation=operation,
        handler=handler,
        permission=("actions", "read" if method == "GET" else "write"),
    )
    for method, rest, operation, handler in _TABLE
)
