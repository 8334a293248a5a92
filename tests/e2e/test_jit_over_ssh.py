"""A runner whose configuration comes over SSH: nothing that registers is in the pod before, nothing is left after."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
from support.e2e import Place, Stage
from support.e2e_pods import listener
from support.e2e_secrets import SEARCH, found, start_script
from support.e2e_steps import plain_lines, until

from runner_provisioner.simulators.faults import Fault, FaultKind

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("confined"),
    pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="there is no /usr/sbin/sshd"),
    pytest.mark.skipif(not shutil.which("ssh"), reason="there is no ssh"),
]


ACCOUNT_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqRCRvUgG2kPqJ8NHVg5e5lzJcGVGGx2yKjWmOBMZrF me@home"


def started(stage: Stage, *steps: str) -> tuple[Place, int, dict[str, str]]:
    """A start of a run whose job does this."""
    run_id = stage.queue(*steps)
    place = stage.job(run_id)
    return place, run_id, place.start("--registration", "jit")


@pytest.mark.full
def test_a_job_runs_on_a_runner_that_was_handed_over(stage: Stage) -> None:
    """No registration token is ever made; stop leaves nothing."""
    place, run_id, written = started(stage, "echo by-$RUNNER_NAME")
    place.provide(written["label"])
    assert stage.job_ended(run_id) == "success"
    assert f"by-{written['runner-name']}" in stage.world.github.job_log(run_id, "gpu")
    assert stage.world.github.faults.count("registration-token") == 0
    assert stage.world.github.faults.count("generate-jitconfig") == 1
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.full
def test_a_job_finds_no_secret_and_nobody_prints_one(stage: Stage) -> None:
    """Neither the configuration nor what is secret in any pod; nothing of it is printed, logged or kept in a file."""
    with listener() as door:
        run_id = stage.queue(SEARCH.replace("DEVICE", door.device))
        place = stage.job(run_id)
        begun = place.begin_start("--registration", "jit", "--log", "json")
        done = begun.wait().well()
        (runner,) = stage.runners
        place.provide(stage.pods[-1].env["RP_LABEL"])
        haystack = door.taken(60)
        assert stage.job_ended(run_id) == "success"
    pod = stage.pods[-1]
    script = start_script(pod.docker_args)
    assert not [token for token in stage.world.github.world.credentials._runner_tokens if token in script]
    assert "config.sh" not in script
    assert b"== /proc/1/cmdline" in haystack
    # A part of the configuration; what the runner makes of it lies in its own files, as with any runner.
    part = base64.b64encode(json.dumps({"scheme": "OAuth", "data": {"clientId": runner.credential}}).encode()).decode()
    secrets = {"configuration": part, "pod-scoped key": pod.key, "account key": stage.world.runpod.key}
    assert found(secrets, haystack) == []
    secrets["credential"] = runner.credential
    said = "\n".join(plain_lines(done.stdout + done.stderr)) + (begun.folder / "output").read_text()
    assert found(secrets, said.encode()) == []
    assert found(secrets, stage.world.runpod.log(pod.id).encode()) == []
    kept = b"".join(one.read_bytes() for one in (place.folder / "temp").rglob("*") if one.is_file())
    assert pod.name.encode() in kept
    assert b"PRIVATE KEY" not in kept
    assert found(secrets, kept) == []
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.full
def test_a_runner_that_github_removed_gets_another_configuration(stage: Stage) -> None:
    """After the start has ended too: by hand-over, while the job is queued and not before.

    The keys of the provider's account log in beside the start's own, as they do where the start has none.
    """
    stage.world.runpod.settings.public_keys = ACCOUNT_KEY
    place, run_id, written = started(stage, "true")
    assert stage.pods[-1].env["PUBLIC_KEY"].splitlines()[0] == ACCOUNT_KEY
    until(stage.online, "the runner is online")
    world = stage.world.github.world
    with world.lock:
        world.forget(next(iter(world.runners.values())))
    until(
        lambda: stage.world.runpod.log(written["pod-id"]).count("waiting for its configuration") == 2, "it waits again"
    )
    early = place.call("hand-over", "--json", written["pod-id"]).well()
    assert early.data["handed-over"] == 0
    assert stage.runners == []
    place.provide(written["label"])
    again = place.call("hand-over", "--json", "--label", written["label"]).well()
    assert again.data["handed-over"] == 1
    assert stage.job_ended(run_id) == "success"
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(FaultKind.ERROR, id="refused", marks=pytest.mark.full),
        pytest.param(FaultKind.DROP_AFTER, id="answer-lost", marks=pytest.mark.full),
    ],
)
def test_a_failed_configuration_is_made_again(stage: Stage, kind: FaultKind) -> None:
    """Also when GitHub made the runner and its answer was lost: the name is freed first."""
    stage.strike("github", Fault(operation="generate-jitconfig", kind=kind, status=502))
    place, run_id, written = started(stage, "true")
    assert stage.world.github.faults.count("generate-jitconfig") >= 2
    place.provide(written["label"])
    assert stage.job_ended(run_id) == "success"
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(FaultKind.HANG, id="before", marks=pytest.mark.full),
        pytest.param(FaultKind.HOLD_AFTER, id="after", marks=pytest.mark.full),
    ],
)
def test_a_start_killed_at_the_configuration_leaves_nothing_after_stop(stage: Stage, kind: FaultKind) -> None:
    """Whether or not the runner was made."""
    fault = stage.strike("github", Fault(operation="generate-jitconfig", kind=kind))
    place = stage.job(stage.queue("true"))
    step = place.begin_start("--registration", "jit")
    until(lambda: stage.world.github.faults.count("generate-jitconfig"), "the configuration is asked for")
    if kind is FaultKind.HOLD_AFTER:
        until(lambda: stage.runners, "the runner is made")
    step.kill()
    fault.release.set()
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.full
def test_a_second_start_goes_on_where_the_first_was_killed(stage: Stage) -> None:
    """It adopts the pod, can log in to it though nothing was kept in a file, and frees the name."""
    run_id = stage.queue("true")
    place = stage.job(run_id)
    fault = stage.strike("github", Fault(operation="generate-jitconfig", kind=FaultKind.HOLD_AFTER))
    step = place.begin_start("--registration", "jit")
    until(lambda: stage.runners, "the runner is made")
    step.kill()
    fault.release.set()
    written = place.start("--registration", "jit")
    place.provide(written["label"])
    assert stage.job_ended(run_id) == "success"
    place.call("stop").well()
    stage.gone(pods=1)
