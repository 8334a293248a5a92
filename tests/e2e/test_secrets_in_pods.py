"""A job that looks everywhere it may look finds none of the secrets that were planted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.e2e import Place, SetUp, Stage
from support.e2e_pods import init_in_front, listener
from support.e2e_secrets import SEARCH, found, start_script
from support.e2e_steps import plain_lines

from runner_provisioner.simulators.pods.host import Image

PAT = "ghp_PlantedPersonalAccessToken0123456789"
CANARY = "canary-that-the-job-was-given-on-purpose"
pytestmark = [pytest.mark.root, pytest.mark.usefixtures("confined")]


def planted(stage: Stage, place: Place) -> dict[str, str]:
    """Every secret that was near the pod, by name."""
    pod = stage.pods[-1]
    script = start_script(pod.docker_args)
    (token,) = [one for one in stage.world.github.world.credentials._runner_tokens if one in script]
    private = re.search(r"-----BEGIN OPENSSH PRIVATE KEY-----.*?-----END OPENSSH PRIVATE KEY-----", script, re.DOTALL)
    assert private
    return {
        "registration token": token,
        "pod-scoped key": pod.key,
        "account key": stage.world.runpod.key,
        "personal token": PAT,
        "App key": Path(place.environ["GITHUB_APP_PRIVATE_KEY_PATH"]).read_text(),
        "host private key": private[0],
    }


def search(stage: Stage, *options: str) -> tuple[dict[str, str], bytes, str]:
    """Run the job that hands over everything: the secrets, what it found, and what the commands said."""
    with listener() as door:
        run_id = stage.queue(SEARCH.replace("DEVICE", door.device))
        place = stage.job(run_id)
        place.environ["GITHUB_TOKEN"] = PAT
        start = place.begin_start("--env", f"CANARY={CANARY}", *options)
        done = start.wait().well()
        place.provide(stage.pods[-1].env["RP_LABEL"])
        haystack = door.taken(60)
        assert stage.job_ended(run_id) == "success"
    stopped = place.call("stop").well()
    written = (start.folder / "output").read_text()
    said = "\n".join([*plain_lines(done.stdout + done.stderr), *plain_lines(stopped.stdout + stopped.stderr), written])
    return planted(stage, place), haystack, said


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(Image(name="sim/plain"), id="plain image", marks=pytest.mark.full),
        pytest.param(Image(name="sim/init", entrypoint=("/sbin/sim-init",)), id="init in front"),
    ],
)
def test_a_job_finds_no_secret(stage: Stage, image: Image) -> None:
    """Not in command lines, environments, files or variables; nor is one in what start and stop print."""
    stage.world.runpod.images[image.name] = image
    secrets, haystack, said = search(stage, "--image", image.name)
    pod = stage.pods[-1]
    # The search does find what is there: what the job was given, and what /start.sh writes for everybody to read.
    seen = {word: word.encode() in haystack for word in (CANARY, "etc/rp_environment", pod.id, "== /proc/1/cmdline")}
    assert all(seen.values()), seen
    assert found(secrets, haystack) == []
    assert found(secrets, said.encode()) == []
    assert found(secrets, stage.world.runpod.log(pod.id).encode()) == []
    stage.gone(pods=1)


@pytest.mark.full
def test_where_an_init_keeps_the_command_nothing_is_registered(set_up: SetUp) -> None:
    """An init that the start command does not replace shows it in its own command line: the pod ends itself."""
    stage = set_up(acts=[init_in_front])
    place = stage.job(stage.queue("true"))
    done = place.begin_start("--gpu", "NVIDIA RTX A4000", "--interruptible", "never").wait()
    assert done.code != 0
    assert "a command line shows the start command: ending" in stage.world.runpod.log(stage.pods[0].id)
    assert "_runner.register" not in {call.operation for call in stage.world.github.calls}
    stage.gone(pods=1)
