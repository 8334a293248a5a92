"""`start` is killed at every request it sends; the run ends and `cleanup` leaves nothing."""

from __future__ import annotations

import pytest
from support.e2e import Stage
from support.e2e_steps import until

from runner_provisioner.simulators.faults import Fault, FaultKind

LOST, LATE, ANSWERED = FaultKind.HANG, FaultKind.HOLD_BEFORE, FaultKind.HOLD_AFTER
CREATE = "podFindAndDeployOnDemand"
# Every request of a start, which the first test holds against a recording; polls are counted from the create.
STEPS = (
    ("github", "installation.repo", 1),
    ("github", "access_tokens", 1),
    ("github", "runs.list", 1),
    ("runpod", "gpuTypes", 1),
    ("runpod", "gpuTypes", 2),
    ("github", "registration-token", 1),
    ("github", "downloads", 1),
    ("runpod", "myself.pods", 1),
    ("github", "runners.list", 1),
    ("runpod", "podRentInterruptable", 1),
    ("runpod", CREATE, 1),
    ("runpod", "myself.pods", 2),
    ("runpod", "pod", 1),
    ("github", "runners.list", 2),
    ("runpod", "myself.pods", 3),
    ("runpod", "pod", 2),
    ("github", "runners.list", 3),
)
MEMBERS = [("runpod", CREATE, 1, ANSWERED)]
FULL = [(*step, kind) for step in STEPS for kind in (LOST, ANSWERED)] + [("runpod", CREATE, 1, LATE)]


def name(case: tuple[str, str, int, FaultKind]) -> str:
    """The id of a case."""
    words = {LOST: "before", LATE: "in-flight", ANSWERED: "after"}
    return f"{words[case[3]]}-{case[1]}-{case[2]}"


def cases() -> list[object]:
    """One member for every day, the rest for the whole."""
    rest = [pytest.param(case, id=name(case), marks=pytest.mark.full) for case in FULL if case not in MEMBERS]
    return [*(pytest.param(case, id=name(case)) for case in MEMBERS), *rest]


def sent_by_start(stage: Stage) -> set[tuple[str, str]]:
    """The operations that arrived, without those of the runner in the pod."""
    runpod = {("runpod", call.operation) for call in stage.world.runpod.calls}
    github = {("github", call.operation) for call in stage.world.github.calls}
    return {one for one in runpod | github if not one[1].startswith("_runner.") and one[1] != "download"}


def test_these_are_the_steps_of_a_start_and_its_job_runs(stage: Stage) -> None:
    """A recording sends what STEPS lists and nothing else; the job runs, the pod ends itself, stop finds nothing."""
    run_id = stage.queue('echo "it runs in $RUNNER_NAME"')
    place = stage.job(run_id)
    written = place.start()
    assert sent_by_start(stage) == {step[:2] for step in STEPS}
    place.provide(written["label"])
    assert stage.job_ended(run_id) == "success"
    assert f"it runs in {written['runner-name']}" in stage.world.github.job_log(run_id, "gpu")
    until(lambda: not stage.live, "the pod ends itself")
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.parametrize("case", cases())
def test_after_a_kill_cleanup_leaves_nothing(stage: Stage, case: tuple[str, str, int, FaultKind]) -> None:
    """SIGKILL at this request; then the run is over, `cleanup` ends what there is, and the bill is what was used."""
    service, operation, number, kind = case
    run_id = stage.queue("true")
    place = stage.job(run_id)
    held = stage.strike(service, Fault(operation=operation, kind=kind, skip=number - 1))
    start = place.begin_start()
    until(held.reached.is_set, f"{operation} number {number} arrives")
    start.kill()
    held.release.set()
    if kind is LATE:
        until(lambda: stage.pods, "the create is done after its sender is gone")
    stage.world.github.complete_run(run_id, conclusion="failure")
    rented = len(stage.live)
    swept = stage.job(stage.queue("true")).call("cleanup", "--json").well().data
    assert len([one for one in swept["ended"] if one["kind"] == "pod"]) == rented
    assert swept["left"] == []
    stage.gone(pods=rented)
    if operation == CREATE:
        assert rented == (0 if kind is LOST else 1)
