"""The action itself, from its YAML, against the simulated services."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pytest
from support.action_stage import PROGRAM, SETTLE, ActionStage, SetUpAction, Use, queue
from support.e2e_steps import until

from runner_provisioner.errors import BudgetExceeded, LeftBehind
from runner_provisioner.simulators.faults import ANY, Fault, FaultKind
from runner_provisioner.simulators.world import REPOSITORY

OUTPUTS = {
    "label",
    "runner-name",
    "pod-id",
    "provider",
    "gpu-type",
    "price-per-hour",
    "interruptible",
    "ssh-command",
    "started-at",
}


def scheduled(stage: ActionStage) -> None:
    """A clean-up ran by its schedule and succeeded."""
    job = {"runs-on": "ubuntu-latest", "steps": [{"run": "true"}]}
    text = json.dumps({"name": "GPU clean-up", "on": {"schedule": [{"cron": "7 * * * *"}]}, "jobs": {"sweep": job}})
    github = stage.world.github
    github.complete_run(github.queue_run(REPOSITORY, text, context={"event_name": "schedule"}))


def ours(use: Use) -> list[str]:
    """The errors that the action has put on the page."""
    found = use.job.log.annotations
    return [one.message for one in found if one.level == "error" and one.title == "runner-provisioner"]


@pytest.mark.full
def test_start_job_stop(set_up_action: SetUpAction) -> None:
    """A job runs on what `start` rented, `stop` leaves nothing and knows what it cost."""
    stage = set_up_action()
    run_id = queue(stage.stage, "echo it computes", 'echo "$FLAVOUR"')
    start = stage.use(run_id, env="FLAVOUR=vanilla\n  OTHER=1\n", extra_labels="gpu-box\n").play().well()
    assert set(start.outputs) == OUTPUTS
    assert all(start.outputs[name] for name in OUTPUTS - {"ssh-command"})
    stage.provide(run_id, start)
    assert stage.stage.job_ended(run_id) == "success"
    log = stage.world.github.job_log(run_id, "gpu")
    assert "it computes" in log
    assert "vanilla" in log
    told: dict[str, Any] = {name.replace("-", "_"): start.outputs[name] for name in ("price-per-hour", "started-at")}
    stop = stage.use(run_id, "stop", **told).play().well()
    stage.stage.gone(pods=1)
    assert re.search(r"^Cost: 0\.\d+ USD$", stop.job.summary, re.MULTILINE)


@pytest.mark.full
def test_the_page_of_the_run_tells_what_was_tried_and_when(set_up_action: SetUpAction) -> None:
    """The summary has a row for each offer with its fate, the four moments and the price; the log is folded."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    start = stage.start(run_id)
    page = start.job.summary
    assert "interruptible at" in page
    assert "not taken: RunPod no longer offers interruptible pods" in page
    assert f"taken: pod {start.outputs['pod-id']}" in page
    for moment in ("requested", "rented", "booted", "online"):
        assert f"| {moment} |" in page
    assert f"| price-per-hour | {start.outputs['price-per-hour']} |" in page
    assert start.job.log.open_groups == 0
    assert "##[group]runner-provisioner start, as it is called" in start.job.log.text
    assert start.job.log.of("error") == []
    stage.use(run_id, "stop").play().well()
    stage.stage.gone(pods=1)


@pytest.mark.full
def test_a_start_warns_where_nobody_cleans_up(set_up_action: SetUpAction) -> None:
    """Without a scheduled clean-up in the last day there is one warning; with one there is none."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    first = stage.start(run_id, key="first")
    assert [text for text in first.job.log.of("warning") if "clean-up" in text] != []
    scheduled(stage)
    second = stage.start(run_id, key="second")
    assert second.job.log.annotations == []
    for key in ("first", "second"):
        stage.use(run_id, "stop", key=key).play().well()
    stage.stage.gone(pods=2)


@pytest.mark.full
def test_a_stop_that_cannot_know_the_cost_says_so(set_up_action: SetUpAction) -> None:
    """Without price and beginning, and where no job took the runner, the cost is unknown."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    told: dict[str, Any] = {"price_per_hour": "0.17", "started_at": "2026-11-01T00:00:00Z"}
    for stop in (stage.use(run_id, "stop"), stage.use(run_id, "stop", **told)):
        stop.play().well()
        assert "Cost: unknown" in stop.job.summary
    stage.stage.gone(pods=0)


@pytest.mark.full
def test_the_cost_runs_until_the_job_completed(set_up_action: SetUpAction) -> None:
    """A pod that ended itself is paid for until then, whenever `stop` comes."""
    stage = set_up_action()
    run_id = queue(stage.stage)
    start = stage.use(run_id).play().well()
    stage.provide(run_id, start)
    stage.stage.job_ended(run_id)
    until(lambda: not stage.stage.live, "the pod ends itself")
    begun = "2026-01-01T00:00:00Z"
    stop = stage.use(run_id, "stop", price_per_hour="1", started_at=begun).play().well()
    job = stage.world.github.job(run_id, "gpu")
    assert job.completed_at is not None
    hours = (job.completed_at.replace(microsecond=0) - datetime.fromisoformat(begun)).total_seconds() / 3600
    assert f"Cost: {hours:.4f} USD" in stop.job.summary
    stage.stage.gone(pods=1)


@pytest.mark.full
def test_two_legs_of_a_matrix_with_keys_of_their_own(set_up_action: SetUpAction) -> None:
    """Both run at once, each job on the pod of its leg, and each stop ends its own."""
    stage = set_up_action()
    legs = ("small", "large")
    run_id = queue(stage.stage, 'echo "on $RUNNER_NAME"', keys=legs)
    uses = {leg: stage.use(run_id, key=leg).begin() for leg in legs}
    for leg, use in uses.items():
        use.join().well()
        stage.provide(run_id, use, leg)
    for leg, use in uses.items():
        assert stage.stage.job_ended(run_id, f"{leg}-gpu") == "success"
        assert f"on {use.outputs['runner-name']}" in stage.world.github.job_log(run_id, f"{leg}-gpu")
    for leg in legs:
        stage.use(run_id, "stop", key=leg).play().well()
    stage.stage.gone(pods=2)


@pytest.mark.full
def test_a_leg_without_a_key_of_its_own_fails_and_ends_nothing(set_up_action: SetUpAction) -> None:
    """Its settling step, too, leaves the other leg's pod and runner alone."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    first = stage.start(run_id)
    second = stage.use(run_id).play()
    assert second.conclusion == "failure"
    assert any("give each start its own key" in text for text in second.job.log.of("error"))
    assert "No runner" in second.job.summary
    assert second.step(SETTLE).outcome == "success"
    assert [pod.id for pod in stage.stage.live] == [first.outputs["pod-id"]]
    assert [runner.online for runner in stage.stage.runners] == [True]
    stage.use(run_id, "stop").play().well()
    stage.stage.gone(pods=1)


@pytest.mark.full
def test_a_second_start_that_is_refused_leaves_the_first_alone(set_up_action: SetUpAction) -> None:
    """One job, one key: its settling step sees that the state file is the first one's doing."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    both = stage.use(run_id)
    both.steps.append({**both.steps[0], "id": "again", "with": {**both.steps[0]["with"], "max-price": "cheap"}})
    both.begin()
    pod = stage.rented()
    stage.world.github.play_runner(REPOSITORY, pod.name, (pod.env["RP_LABEL"],))
    both.join()
    assert [one.outcome for one in both.job.ended] == ["success", "failure"], both.told
    assert [one.id for one in stage.stage.live] == [pod.id]
    stage.use(run_id, "stop").play().well()
    stage.stage.gone(pods=1)


@pytest.mark.full
def test_cleanup_ends_what_a_finished_run_left(set_up_action: SetUpAction) -> None:
    """A dry run only tells and fails, the real one ends it; both say it on their page."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    start = stage.start(run_id)
    stage.world.github.complete_run(run_id)
    other = queue(stage.stage)
    rehearsed = stage.use(other, "cleanup", dry_run="true").play()
    assert rehearsed.step(PROGRAM).code == LeftBehind.exit_code
    assert start.outputs["runner-name"] in rehearsed.job.summary
    assert stage.stage.live
    swept = stage.use(other, "cleanup").play().well()
    assert "Ended:" in swept.job.summary
    assert start.outputs["pod-id"] in swept.job.summary
    stage.stage.gone(pods=1)


def test_a_cleanup_that_cannot_look_fails(set_up_action: SetUpAction) -> None:
    """A refused key: one error of ours, and what could not be looked at on the page."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    stage.stage.strike("runpod", Fault(operation=ANY, kind=FaultKind.ERROR, status=401, times=None))
    swept = stage.use(run_id, "cleanup").play()
    assert swept.conclusion == "failure"
    assert len(ours(swept)) == 1
    assert "Could not be looked at" in swept.job.summary


@pytest.mark.full
def test_a_second_use_in_a_job_installs_nothing(set_up_action: SetUpAction) -> None:
    """The runtime of the first is found; the job ends with what the last step leaves."""
    stage = set_up_action(inert=True)
    stop = stage.use(queue(stage.stage), "stop")
    stop.steps.append({**stop.steps[0], "id": "again"})
    stop.play().well()
    assert "Install runner-provisioner" not in stop.job.log.text
    assert [one.outcome for one in stop.job.ended] == ["success", "success"]


def test_a_failed_start_fails_the_job_and_is_settled(set_up_action: SetUpAction) -> None:
    """No offer under the cap: one error of ours, nothing rented, the settling step finds nothing to do."""
    stage = set_up_action(inert=True)
    start = stage.use(queue(stage.stage), max_price="0.01").play()
    assert start.conclusion == "failure"
    assert start.step(PROGRAM).code == BudgetExceeded.exit_code
    assert start.step(SETTLE).outcome == "success"
    assert len(ours(start)) == 1
    stage.stage.gone(pods=0)
