"""A job from start to end at the markets beside RunPod, with real processes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.e2e import SetUp
from support.e2e_steps import until

from runner_provisioner.simulators.celium.simulator import CeliumSimulator
from runner_provisioner.simulators.world import WorldPlan


@pytest.mark.parametrize(
    "spot",
    [pytest.param(False, id="on demand"), pytest.param(True, id="interruptible", marks=pytest.mark.full)],
)
def test_a_job_runs_at_lium(set_up: SetUp, *, spot: bool) -> None:
    """Its pod has a kill time and no key: after its job it waits for whoever ends it, and stop does."""
    stage = set_up(WorldPlan(markets=("celium",), boot_seconds=0.2))
    lium = stage.world.market(CeliumSimulator)
    run_id = stage.queue("echo the job ran in $RUNNER_PROVISIONER")
    place = stage.job(run_id)
    written = place.start("--interruptible", "require" if spot else "never")
    (pod,) = lium.live()
    assert (written["pod-id"], written["provider"]) == (pod.id, "celium")
    assert written["interruptible"] == str(pod.spot).lower() == str(spot).lower()
    assert pod.terminate_after is not None
    assert timedelta(hours=1) < pod.terminate_after - pod.created_at < timedelta(hours=8)
    place.provide(written["label"])
    assert stage.job_ended(run_id) == "success"
    # Lium tells a pod no id of its own: what is its own goes by the nonce.
    assert pod.docker is not None
    assert f"the job ran in {pod.docker.env['RP_NONCE']}" in stage.world.github.job_log(run_id, "gpu")
    until(lambda: "cannot end this pod" in lium.log(pod.id), "the pod says that it cannot end itself")
    assert lium.live() == [pod]
    assert pod.restarts == 0
    place.call("stop").well()
    stage.gone(pods=1)
    assert lium.log(pod.id).count("idle: ") == 1
    assert not [one.name for one in lium.account.templates.values() if one.own]
