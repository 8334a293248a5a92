"""Every example is played: its own jobs, or those of the reusable workflow that it calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from support.action_stage import PROGRAM, ROOT, ActionStage, SetUpAction
from support.action_workflow import Playing, called

from runner_provisioner.cli.demo import start_options
from runner_provisioner.simulators.workflow.values import Value
from runner_provisioner.simulators.world import APP_ID, REPOSITORY

EXAMPLES = ROOT / "examples"
# `runner-provisioner demo` plays this one; its tests are those of the demo.
DEMO = "gpu-job.yml"
PLAYED = {
    "single-job.yml",
    "organisation.yml",
    "reusable.yml",
    "matrix.yml",
    "fork-safe.yml",
    "scheduled-cleanup.yml",
    "fork-safe-cleanup.yml",
    "checkpoint.yml",
    "rerun-interrupted.yml",  # by tests/action/test_interruption.py
}
VARIABLES = {"GPU_APP_ID": str(APP_ID)}
SUCCESS = {"start": "success", "gpu": "success", "watch": "skipped", "stop": "success"}
LABEL = "rp-" + "w" * 26


def text_of(name: str) -> str:
    """An example as it stands."""
    return (EXAMPLES / name).read_text("utf-8")


def secrets_of(stage: ActionStage) -> dict[str, str]:
    """What a reader has stored."""
    return {"RUNPOD_API_KEY": stage.secrets["RUNPOD_API_KEY"], "GPU_APP_PRIVATE_KEY": stage.secrets["APP_PRIVATE_KEY"]}


def needed_here(stage: ActionStage) -> dict[str, str]:
    """What pods of this machine need of a start."""
    options = start_options(stage.world.host)
    return {"run-as": options[1]} if options else {}


def with_files(stage: ActionStage) -> None:
    """The repository has something to check out."""
    folder = stage.stage.folder / "repository"
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text("print('training')\n")
    stage.world.github.world.repository(REPOSITORY).workspace = folder


def play(stage: ActionStage, text: str) -> Playing:
    """An example whose jobs are all its own, played to its end."""
    with_files(stage)
    given = "".join(f"          {name}: {value}\n" for name, value in needed_here(stage).items())
    text = text.replace("          mode: start\n", f"          mode: start\n{given}")
    playing = Playing(stage=stage, text=text, secrets=secrets_of(stage), variables=VARIABLES)
    playing.play()
    return playing


def play_called(stage: ActionStage, text: str, **inputs: Value) -> dict[str, Playing]:
    """An example that calls reusable workflows: each is played to its end, one after the other."""
    with_files(stage)
    found = called(stage, text, secrets=secrets_of(stage), variables=VARIABLES)
    for playing in found.values():
        playing.inputs = {**playing.inputs, **inputs}
        playing.play()
    return found


def well(playing: Playing) -> Mapping[str, str]:
    """How the jobs ended, with what they said when one did not end well."""
    if not set(playing.ends.values()) <= {"success", "skipped"}:
        github = playing.stage.world.github
        machines = [github.job_log(playing.run_id, key) for key in playing.ends if key not in playing.jobs]
        pytest.fail(f"{playing.ends}\n{playing.told}\n==== machines\n" + "\n".join(machines))
    return playing.ends


def test_every_example_is_played() -> None:
    """A new one is noticed."""
    assert {one.name for one in EXAMPLES.glob("*.yml")} == PLAYED | {DEMO}


@pytest.mark.full
def test_a_single_job(set_up_action: SetUpAction) -> None:
    """Start, train, stop; the stop knows the cost, and nothing is left."""
    stage = set_up_action()
    playing = play(stage, text_of("single-job.yml"))
    assert well(playing).keys() == {"start", "train", "stop"}
    assert "train here" in stage.world.github.job_log(playing.run_id, "train")
    assert "USD" in playing.jobs["stop"].summary
    stage.stage.gone(pods=1)


@pytest.mark.full
def test_a_runner_of_the_organisation(set_up_action: SetUpAction) -> None:
    """In its group; the repository has none of its own."""
    stage = set_up_action()
    owner = REPOSITORY.partition("/")[0]
    stage.world.github.add_organisation(owner)
    stage.world.github.add_group(owner, "gpu")
    playing = play(stage, text_of("organisation.yml"))
    assert well(playing).keys() == {"start", "train", "stop"}
    assert f"--organization={owner}" in playing.jobs["start"].log.text
    stage.stage.gone(pods=1)


def test_the_reusable_workflow(set_up_action: SetUpAction) -> None:
    """The caller's lines run on the machine, in what was checked out."""
    stage = set_up_action()
    (playing,) = play_called(stage, text_of("reusable.yml"), **needed_here(stage)).values()
    assert well(playing) == SUCCESS
    log = stage.world.github.job_log(playing.run_id, "gpu")
    assert "train here" in log
    assert "train.py" in log
    assert "USD" in playing.jobs["stop"].summary
    stage.stage.gone(pods=1)


@pytest.mark.full
def test_two_legs(set_up_action: SetUpAction) -> None:
    """Each has its key, its machine and its stop."""
    stage = set_up_action()
    text = text_of("matrix.yml")
    for size, gpu in (("small", "NVIDIA RTX A4000"), ("large", "NVIDIA GeForce RTX 4090")):
        assert f"- size: {size}\n            gpu: {gpu}\n" in text
        leg = text.replace("${{ matrix.size }}", size).replace("${{ matrix.gpu }}", gpu)
        (playing,) = play_called(stage, leg, **needed_here(stage)).values()
        assert well(playing) == SUCCESS
        assert playing.inputs["key"] == f"train-{size}"
        assert f"train the {size} one here" in stage.world.github.job_log(playing.run_id, "gpu")
    assert {pod.name.rpartition("-")[2] for pod in stage.stage.pods} == {"small", "large"}
    stage.stage.gone(pods=2)


@pytest.mark.full
def test_a_commit_that_was_read(set_up_action: SetUpAction) -> None:
    """Started by hand with its hash, after the environments are named for start and stop alone."""
    stage = set_up_action()
    commit = "0123456789abcdef0123456789abcdef01234567"
    text = text_of("fork-safe.yml").replace("${{ needs.commit.outputs.hash }}", commit)
    (playing,) = play_called(stage, text, **needed_here(stage)).values()
    assert well(playing) == SUCCESS
    assert (playing.inputs["environment"], playing.inputs["stop-environment"]) == ("gpu", "gpu-stop")
    assert playing.inputs["ref"] == commit
    stage.stage.gone(pods=1)


HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("commit", "end"),
    [
        pytest.param(HASH, "success", id="full-hash"),
        pytest.param(HASH[:39], "failure", id="short"),
        pytest.param(HASH + "8", "failure", id="long"),
        pytest.param("main", "failure", id="branch"),
        pytest.param("refs/pull/7/head", "failure", id="ref"),
        pytest.param(HASH + "\n" + HASH, "failure", id="two-lines"),
        pytest.param("$(touch x)`touch y`", "failure", id="script"),
    ],
)
def test_only_a_full_hash_is_a_commit_that_was_read(set_up_action: SetUpAction, commit: str, end: str) -> None:
    """Anything that can point elsewhere later is refused in one line, before anything is rented."""
    stage = set_up_action(inert=True)
    text = text_of("fork-safe.yml").partition("\n  test:\n")[0]
    context: dict[str, Value] = {"event_name": "workflow_dispatch"}
    playing = Playing(stage=stage, text=text, context=context, inputs={"commit": commit})
    ends = playing.play()
    assert ends == {"explain": "skipped", "commit": end}, playing.told
    errors = playing.jobs["commit"].log.of("error")
    assert ["40 hex digits" in one for one in errors if "input commit" in one] == ([] if end == "success" else [True])
    outputs = playing.stage.world.github.run(playing.run_id).latest.engine.job("commit").outputs
    assert outputs.get("hash", "") == (HASH if end == "success" else "")


def test_a_pull_request_from_a_fork_is_told_how_to_go_on(set_up_action: SetUpAction) -> None:
    """Its one job has no credentials and rents nothing."""
    stage = set_up_action(inert=True)
    head = {"repo": {"full_name": "stranger/gpu-demo"}}
    context: dict[str, Value] = {"event_name": "pull_request", "event": {"pull_request": {"head": head}}}
    text = text_of("fork-safe.yml").partition("\n  # A branch or")[0]
    playing = Playing(stage=stage, text=text, context=context)
    assert playing.play() == {"explain": "success"}
    assert "starts it by hand" in playing.jobs["explain"].log.of("notice")[0]
    own = Playing(stage=stage, text=text, context={"event_name": "workflow_dispatch"})
    assert own.play() == {"explain": "skipped"}


@pytest.mark.full
def test_a_job_that_goes_on_from_its_checkpoint(set_up_action: SetUpAction) -> None:
    """Its commands, without the uploads: what an earlier attempt has done is not done again."""
    stage = set_up_action()
    text = text_of("checkpoint.yml")
    for use in ("actions/download-artifact", "actions/upload-artifact"):
        assert use in text
        text = re.sub(rf"uses: {use}@\S+ # \S+\n( +)with:\n(?:\1  .*\n)+", "run: 'true'\n", text)
    text = text.replace(
        "          mkdir -p checkpoint\n", "          mkdir -p checkpoint; echo 2 >checkpoint/part\n", 1
    )
    resume = "          env: |\n            RUNNER_PROVISIONER_RESUME=1\n            RUNNER_PROVISIONER_ATTEMPT=2\n"
    text = text.replace("          mode: start\n", f"          mode: start\n{resume}")
    playing = play(stage, text)
    assert playing.ends == {"start": "success", "train": "success", "watch": "success", "stop": "success"}, playing.told
    log = stage.world.github.job_log(playing.run_id, "train")
    assert "attempt 2 goes on after part 2" in log
    assert "part 3 is done" in log
    assert "part 1 is done" not in log
    stage.stage.gone(pods=1)


@pytest.mark.parametrize(
    ("example", "environment"),
    [
        pytest.param("scheduled-cleanup.yml", "", id="secrets-of-the-repository"),
        pytest.param("fork-safe-cleanup.yml", "gpu-stop", id="of-an-environment", marks=pytest.mark.full),
    ],
)
def test_the_scheduled_clean_up(set_up_action: SetUpAction, example: str, environment: str) -> None:
    """It ends what a finished run left, and cancels a run that waits for a machine that is gone."""
    stage = set_up_action(inert=True)
    github = stage.world.github
    stuck = github.queue_job(REPOSITORY, [LABEL])
    for job in github.run(stuck).latest.jobs.values():
        job.created_at -= timedelta(minutes=6)
    (playing,) = play_called(stage, text_of(example)).values()
    assert playing.inputs.get("environment", "") == environment
    assert well(playing) == {"cleanup": "success"}
    assert github.run(stuck).latest.conclusion == "cancelled"
    warnings = playing.jobs["cleanup"].log.of("warning")
    assert any(f"run {stuck} was cancelled" in one for one in warnings), warnings
    stage.stage.gone(pods=0)


def test_a_clean_up_without_credentials_is_skipped_with_a_notice(set_up_action: SetUpAction) -> None:
    """As in a fork of the repository."""
    stage = set_up_action(inert=True)
    text = (ROOT / ".github/workflows/cleanup.yml").read_text("utf-8")
    playing = Playing(stage=stage, text=text)
    assert playing.play() == {"cleanup": "success"}
    assert "no clean-up" in playing.jobs["cleanup"].log.of("notice")[0]
    assert [one.outcome for one in playing.jobs["cleanup"].ended] == ["success", "skipped"]


def test_a_clean_up_that_fails_is_loud(set_up_action: SetUpAction) -> None:
    """Half of the credentials is a mistake, not a reason to skip."""
    stage = set_up_action(inert=True)
    text = (ROOT / ".github/workflows/cleanup.yml").read_text("utf-8")
    playing = Playing(stage=stage, text=text, secrets={"RUNPOD_API_KEY": stage.secrets["RUNPOD_API_KEY"]})
    assert playing.play() == {"cleanup": "failure"}
    assert any("github-app-id" in one for one in playing.jobs["cleanup"].log.of("error"))


@pytest.mark.full
@pytest.mark.parametrize(
    ("commands", "ends"),
    [
        pytest.param("echo one\nfalse\necho two", "failure", id="stops-at-the-first-failure"),
        pytest.param("echo one; echo '${{ github.token }}'\necho \"$(echo '\"')\"", "success", id="is-never-evaluated"),
    ],
)
def test_the_commands_arrive_as_they_are(set_up_action: SetUpAction, commands: str, ends: str) -> None:
    """By `bash -e`, after whatever the machine is given back."""
    stage = set_up_action()
    text = (ROOT / ".github/workflows/gpu-job.yml").read_text("utf-8")
    inputs: dict[str, Value] = {"run": commands, "checkout": False, **needed_here(stage)}
    playing = Playing(stage=stage, text=text, inputs=inputs, secrets=secrets_of(stage), variables=VARIABLES)
    assert playing.play() == {**SUCCESS, "gpu": ends}, playing.told
    log = stage.world.github.job_log(playing.run_id, "gpu")
    assert "one\n" in log
    assert "two\n" not in log
    if ends == "success":
        assert "\n${{ github.token }}\n" in f"\n{log}"
    stage.stage.gone(pods=1)


def test_a_start_that_fails_is_followed_by_the_stop(set_up_action: SetUpAction) -> None:
    """The GPU job is skipped, the stop is not."""
    stage = set_up_action(inert=True)
    text = (ROOT / ".github/workflows/gpu-job.yml").read_text("utf-8")
    inputs: dict[str, Value] = {"run": "true", "max-price": "0.01"}
    playing = Playing(stage=stage, text=text, inputs=inputs, secrets=secrets_of(stage), variables=VARIABLES)
    assert playing.play() == {**SUCCESS, "start": "failure", "gpu": "skipped"}, playing.told
    assert playing.jobs["stop"].step(PROGRAM).outcome == "success"
    stage.stage.gone(pods=0)


def test_what_was_read_is_there() -> None:
    """The files that these tests are about."""
    assert all(Path(EXAMPLES / name).is_file() for name in PLAYED)
