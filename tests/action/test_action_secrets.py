"""No secret is in anything that the action shows, keeps or hands on."""

from __future__ import annotations

import pytest
from support.action_stage import PROGRAM, ActionStage, SetUpAction, Use, queue
from support.e2e_secrets import found
from support.families import family

from runner_provisioner.simulators.faults import ANY, Fault, FaultKind

OTHERS = {"GH_TOKEN": "ghp_Planted0000000000000000000000000000A", "GITHUB_TOKEN": "ghs_4711_planted.token-of_the_job"}


DATABASE = "hunter$2 pa&ss(word)"  # a shell would write it in another way, which no mask knows


def planted(stage: ActionStage, run_id: int) -> dict[str, str]:
    """Everything that must not be seen: what was given, what lay about, what the services handed out."""
    credentials = stage.world.github.world.credentials
    handed = {f"token {number}": token for number, token in enumerate(tokens_of(credentials))}
    return {**stage.secrets, **OTHERS, **handed, "job token": stage.world.github.run(run_id).token}


def tokens_of(credentials: object) -> list[str]:
    """Every token that the simulated GitHub knows, however it keeps them."""
    tokens = [text for value in vars(credentials).values() if isinstance(value, dict) for text in value]
    return [text for text in tokens if isinstance(text, str) and len(text) > 20]


def seen(use: Use) -> bytes:
    """All that is left of a job: what its programs wrote, its page, its outputs, and every file in its folders."""
    texts = ["\n".join(use.job.log.raw), "\n".join(use.job.log.lines), use.job.summary, str(use.job.ended)]
    files = [path.read_bytes() for path in use.job.folder.rglob("*") if path.is_file()]
    return b"\n".join([*(text.encode() for text in texts), *files])


def hidden(stage: ActionStage, run_id: int, use: Use) -> None:
    """None of them is there."""
    secrets = planted(stage, run_id)
    assert len(secrets) > 5
    assert found(secrets, seen(use)) == []


def test_a_start_and_its_stop_show_none(set_up_action: SetUpAction) -> None:
    """Neither the logs nor the page nor the outputs nor what lies in the folders of the machine."""
    stage = set_up_action()
    stage.machine |= OTHERS
    stage.secrets |= {"DB": DATABASE}
    run_id = queue(stage.stage)
    start = stage.use(run_id, env="DB=${{ secrets.DB }}").play().well()
    hidden(stage, run_id, start)
    assert b"hunter" not in seen(start)
    assert "--env=DB=...\n" in start.job.log.text
    assert start.job.log.masks >= {stage.secrets["RUNPOD_API_KEY"]}
    assert start.job.outputs({name: f"${{{{ steps.gpu.outputs.{name} }}}}" for name in start.outputs}) == start.outputs
    stop = stage.use(run_id, "stop").play().well()
    hidden(stage, run_id, stop)
    stage.stage.gone(pods=1)


@pytest.mark.parametrize("body", family(["key", "pem"], daily={"pem"}))
def test_an_error_that_repeats_a_secret_hides_it(set_up_action: SetUpAction, body: str) -> None:
    """A service that answers with what it was sent."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    text = stage.secrets["RUNPOD_API_KEY" if body == "key" else "APP_PRIVATE_KEY"]
    stage.stage.strike("runpod", Fault(operation=ANY, kind=FaultKind.ERROR, status=400, body=f"no: {text}", times=None))
    start = stage.use(run_id).play()
    assert start.step(PROGRAM).outcome == "failure"
    hidden(stage, run_id, start)


def test_every_secret_is_masked_before_the_program_says_anything_else(set_up_action: SetUpAction) -> None:
    """Also one that GitHub does not know as a secret: it came in a variable of the job."""
    stage = set_up_action(inert=True)
    stage.machine |= OTHERS
    use = stage.use(queue(stage.stage), "stop").play().well()
    assert set(OTHERS.values()) <= use.job.log.masks


@pytest.mark.full
def test_a_numeric_secret_does_not_blank_the_label(set_up_action: SetUpAction) -> None:
    """The App's id kept as a secret masks digits; the label has none."""
    stage = set_up_action(inert=True)
    stage.secrets |= {"APP_ID": "4711", "DIGIT": "1"}
    run_id = queue(stage.stage)
    use = stage.start(run_id, github_app_id="${{ secrets.APP_ID }}")
    assert use.job.outputs({"label": "${{ steps.gpu.outputs.label }}"})["label"] == stage.rented().env["RP_LABEL"]
    stage.use(run_id, "stop", github_app_id="${{ secrets.APP_ID }}").play().well()
    stage.stage.gone(pods=1)
