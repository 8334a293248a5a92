"""A job from start to end at a RunPod whose GraphQL API has been switched off, with real processes."""

from __future__ import annotations

import pytest
from support.e2e import Stage
from support.e2e_steps import until


@pytest.mark.parametrize(
    "whole",
    [pytest.param(True, id="entrypoint"), pytest.param(False, id="args", marks=pytest.mark.full)],
)
def test_a_job_runs_and_its_pod_ends_itself(stage: Stage, *, whole: bool) -> None:
    """Rented, watched and ended over REST v2, whichever way it takes the start command."""
    runpod = stage.world.runpod
    runpod.settings.graphql_retired = True
    runpod.settings.rest_command = whole
    run_id = stage.queue("echo the job ran")
    place = stage.job(run_id)
    written = place.start("--accept-no-kill-time")
    (pod,) = stage.live
    assert pod.id == written["pod-id"]
    assert pod.terminate_after is None
    place.provide(written["label"])
    assert stage.job_ended(run_id) == "success"
    until(lambda: not stage.live, "the pod ends itself")
    assert pod.happened("terminated by itself")
    place.call("stop").well()
    stage.gone(pods=1)
    asked = {call.operation for call in runpod.calls}
    assert asked >= {"rest.gpus", "rest.create", "rest.list", "rest.delete"}
    assert "podFindAndDeployOnDemand" not in asked
