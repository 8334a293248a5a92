"""`cleanup --cancel-stuck` against both simulated services, on a clock that can be moved."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from runner_provisioner.simulators.faults import Fault, FaultKind

if TYPE_CHECKING:
    from integration.cli.conftest import Services

REPOSITORY = "octo/hello"
LABEL = "rp-" + "m" * 26


def wait(services: Services, run_id: int, minutes: float) -> None:
    """Let the jobs of a run have waited that long."""
    for job in services.github.run(run_id).latest.jobs.values():
        job.created_at -= timedelta(minutes=minutes)


def status(services: Services, run_id: int) -> str:
    """How far the run is."""
    return services.github.run(run_id).latest.status


def test_a_run_that_waits_in_vain_is_cancelled_with_an_annotation(services: Services) -> None:
    """The others go on: one that was just queued, one whose runner is there, one of another label."""
    stuck, fresh, served, other = (
        services.github.queue_job(REPOSITORY, [label]) for label in (LABEL, LABEL, "rp-" + "s" * 26, "ubuntu-latest")
    )
    for run_id in (stuck, served, other):
        wait(services, run_id, 6)
    wait(services, fresh, 4)
    services.github.play_runner(REPOSITORY, "somebody", ("rp-" + "s" * 26,))
    page = services.folder / "page"
    done = services.run("cleanup", "--cancel-stuck", "--json", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(page))
    assert done.code == 0, done.err
    assert [one["run-id"] for one in done.data["cancelled"]] == [str(stuck)]
    assert [status(services, one) for one in (stuck, fresh, served, other)] == ["completed"] + ["queued"] * 3
    assert f"::warning title=runner-provisioner::run {stuck} was cancelled: job 'job' waited since" in done.err
    assert (
        f"Cancelled runs:\n\n| run | job | waited since |\n| --- | --- | --- |\n| {stuck} | job |" in page.read_text()
    )
    assert services.github.violations == []


def test_without_the_option_nothing_is_cancelled(services: Services) -> None:
    """Nor looked at."""
    run_id = services.github.queue_job(REPOSITORY, [LABEL])
    wait(services, run_id, 60)
    assert services.run("cleanup").out == "nothing of ours is there\n"
    assert status(services, run_id) == "queued"


def test_a_job_whose_pod_boots_is_left_alone(services: Services) -> None:
    """A machine of whatever owner that carries the label is enough."""
    services.usher()
    job = {"runs-on": "ubuntu-latest", "steps": [{"run": "true"}]}
    renting = services.github.queue_run(REPOSITORY, json.dumps({"on": "push", "jobs": {"start": job}}))
    started = services.run("start", "--owner", "another", "--json", GITHUB_RUN_ID=str(renting), GITHUB_RUN_ATTEMPT="1")
    run_id = services.github.queue_job(REPOSITORY, [started.data["label"]])
    wait(services, run_id, 60)
    for runner in services.github.runners():
        services.github.world.runners.pop(runner.id)
    done = services.run("cleanup", "--cancel-stuck")
    assert done.code == 0, done.err
    assert status(services, run_id) == "queued"
    services.runpod.close()


def test_a_rehearsal_only_tells(services: Services) -> None:
    """The run is named as left, with the exit code of that."""
    run_id = services.github.queue_job(REPOSITORY, [LABEL])
    wait(services, run_id, 6)
    done = services.run("cleanup", "--cancel-stuck", "--dry-run")
    assert done.code == 30
    assert f"run {run_id}" in done.errors[0]
    assert status(services, run_id) == "queued"


@pytest.mark.parametrize(
    ("operation", "code", "shown"),
    [pytest.param("runs.list", 11, "500", id="look"), pytest.param("cancel", 30, "run ", id="order")],
)
def test_what_github_refuses_fails_loudly(services: Services, operation: str, code: int, shown: str) -> None:
    """A look that failed cancels nothing; a run that could not be cancelled is left, and the reason is told."""
    run_id = services.github.queue_job(REPOSITORY, [LABEL])
    wait(services, run_id, 6)
    services.github.faults.add(Fault(operation=operation, kind=FaultKind.ERROR, status=500, times=None))
    done = services.run("cleanup", "--cancel-stuck")
    assert done.code == code, done.err
    assert shown in done.errors[0]
    assert status(services, run_id) == "queued"
    if code == 30:
        assert "warning: " in done.err


def test_a_rehearsal_that_cannot_look_fails(services: Services) -> None:
    """Instead of saying that nothing waits."""
    services.github.faults.add(Fault(operation="runs.list", kind=FaultKind.ERROR, status=500, times=None))
    assert services.run("cleanup", "--cancel-stuck", "--dry-run").code == 11


def test_an_organisation_needs_to_be_told_the_repository(services: Services) -> None:
    """Before anything is ended."""
    done = services.run("cleanup", "--organization", "octo", "--cancel-stuck", GITHUB_REPOSITORY="")
    assert done.code == 2
    assert "--repository" in done.errors[0]
