"""Each layer that ends a pod does it alone: the others are out of order, or are not there.

The stop step and the clean-up are left out by not being called, the provider's own end by taking it from the pod, and
the switch in the pod by refusing its key. The provider's own end takes hours: integration/test_provider_kill_time.py.
"""

from __future__ import annotations

import pytest
from support.e2e import Place, Stage
from support.e2e_steps import until

from runner_provisioner.simulators.runpod.pods import SimPod


def rented(stage: Stage, *options: str, steps: tuple[str, ...] = ()) -> tuple[Place, SimPod]:
    """A start whose job goes to the pod, if it has steps; the provider forgets when the pod is to end."""
    run_id = stage.queue(*(steps or ("true",)))
    place = stage.job(run_id)
    written = place.start(*options)
    (pod,) = stage.live
    assert pod.id == written["pod-id"]
    with stage.world.runpod.lock:
        assert pod.terminate_after is not None
        pod.terminate_after = None
    if steps:
        place.provide(written["label"])
    return place, pod


def without_switch(stage: Stage, pod: SimPod) -> None:
    """The pod's key is refused, so that it asks for its end in vain."""
    stage.world.runpod.keys.revoke(pod.key)


def job_done(stage: Stage, place: Place, pod: SimPod) -> None:
    """The job has ended well, and the pod has begun to ask for its end."""
    assert place.run_id is not None
    assert stage.job_ended(place.run_id) == "success"
    until(lambda: "ending by" in stage.world.runpod.log(pod.id), "the pod asks for its end")
    assert stage.live == [pod], "the switch was to be out of order"


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(("true",), id="after its job", marks=pytest.mark.full),
        pytest.param((), id="when no job comes"),
    ],
)
def test_the_switch_in_the_pod_ends_it_alone(stage: Stage, steps: tuple[str, ...]) -> None:
    """With nothing but the key that is good for this pod alone; nobody else asks for anything."""
    place, pod = rented(stage, *(() if steps else ("--idle", "2s")), steps=steps)
    until(lambda: not stage.live, "the pod ends itself")
    assert pod.happened("terminated by itself")
    if not steps:
        # No key in the pod may delete its registration; the next clean-up of GitHub's or ours does.
        until(lambda: not stage.online(), "its runner is offline")
        place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.full
def test_the_stop_step_ends_it_alone(stage: Stage) -> None:
    """The pod cannot, RunPod does not, nobody cleans up."""
    place, pod = rented(stage, steps=("true",))
    without_switch(stage, pod)
    job_done(stage, place, pod)
    place.call("stop").well()
    assert pod.happened("terminated by User")
    stage.gone(pods=1)


@pytest.mark.full
def test_the_scheduled_clean_up_ends_it_alone(stage: Stage) -> None:
    """The pod cannot, RunPod does not, the workflow has no stop step; first the run goes on, then it is over."""
    place, pod = rented(stage, steps=("true",))
    without_switch(stage, pod)
    job_done(stage, place, pod)
    assert place.run_id is not None
    elsewhere = stage.job(stage.queue("true"))
    stage.world.github.complete_run(place.run_id)
    swept = elsewhere.call("cleanup", "--json").well().data
    assert [one["id"] for one in swept["ended"]] == [pod.id]
    assert pod.happened("terminated by User")
    stage.gone(pods=1)


@pytest.mark.full
def test_no_layer_touches_a_stranger(stage: Stage) -> None:
    """Pods of another owner, of somebody without owner, and one that only seems to be named by us: none is ended."""
    place, pod = rented(stage, steps=("true",))
    another = {"RP_OWNER": "ffffffff", "RP_CLASS": "runner", "RP_REPOSITORY": "octocat/gpu-demo", "RP_NONCE": "x"}
    strangers = [
        stage.world.runpod.add_pod(name, env=env, age=8 * 3600)
        for name, env in (
            ("rp-ffffffff-1-1-default", another),
            (pod.name, another),
            ("gpu-of-a-colleague", {}),
            ("rp-ffffffff-1-1-default", {}),
        )
    ]
    assert stage.job_ended(place.run_id or 0) == "success"
    until(lambda: pod not in stage.live, "the pod ends itself")
    place.call("stop", "--all").well()
    stage.world.github.complete_run(place.run_id or 0)
    swept = stage.job(stage.queue("true")).call("cleanup", "--json").well().data
    assert swept["ended"] == []
    assert stage.live == strangers
    for stranger in strangers:
        assert not stranger.happened("terminate")
