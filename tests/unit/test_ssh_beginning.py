"""What is sent to a pod that booted bare, and what its answer says."""

from __future__ import annotations

import subprocess

import pytest

from runner_provisioner.domain.bare import Inside, Stage
from runner_provisioner.domain.gate import PodPhase
from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.ssh.beginning import given, inside, look_command, take_command

GATE = '{"phase":"%s","reason":"no GPU","gate":{}}'


@pytest.mark.parametrize(
    ("text", "stage", "failure"),
    [
        pytest.param("bare\n", Stage.BARE, None, id="nothing-began"),
        pytest.param("begun\n", Stage.BEGUN, None, id="no-report-yet"),
        pytest.param("begun\n" + GATE % "gate-failed", Stage.BEGUN, "no GPU", id="gate-failed"),
        pytest.param("begun\n" + GATE % "working", Stage.BEGUN, None, id="working"),
        pytest.param("begun\nnonsense", Stage.BEGUN, None, id="no-report"),
        pytest.param("over\n" + GATE % "ending", Stage.OVER, None, id="over"),
    ],
)
def test_the_answer_is_read(text: str, stage: Stage, failure: str | None) -> None:
    """The stage, and what the start script reports."""
    found = inside(text)
    assert (found.stage, found.failure) == (stage, failure)


def test_a_failed_gate_without_a_reason_is_one() -> None:
    """Whatever the pod says."""
    found = inside('begun\n{"phase":"gate-failed","reason":"","gate":{}}')
    assert found.report is not None
    assert found.report.phase is PodPhase.GATE_FAILED
    assert found.failure == "no reason"


@pytest.mark.parametrize("text", ["", "Welcome to Ubuntu\nbare", "shut\n"])
def test_what_is_no_answer_is_not_taken_for_one(text: str) -> None:
    """A pod of which nothing is known is not started."""
    with pytest.raises(ProtocolViolation, match="did not say"):
        inside(text)


def test_an_id_that_is_none_is_not_made_a_path() -> None:
    """It is the provider's word."""
    for command in (look_command, take_command, lambda one: given(one, "true", {})):
        with pytest.raises(ProtocolViolation):
            command("x; rm -rf /")


def test_what_is_sent_is_a_script_that_ends_in_its_mark() -> None:
    """The keys are no variable of the command; values are quoted."""
    text = given("pod1", "echo; :", {"PUBLIC_KEY": "ssh-ed25519 A it's me\nssh-rsa B", "RP_X": "a 'b' $c"})
    assert text.endswith("}\n# whole\n")
    assert "export PUBLIC_KEY" not in text
    assert "authorized_keys" in text
    assert "authorized_keys" not in given("pod1", "true", {})
    assert subprocess.run(["bash", "-n"], input=text.encode(), check=False).returncode == 0
    exports = [line for line in text.splitlines() if line.startswith("export RP_X")]
    shown = subprocess.run(["bash", "-c", f'{exports[0]}; printf %s "$RP_X"'], capture_output=True, check=True)
    assert shown.stdout.decode() == "a 'b' $c"


def test_nothing_that_is_not_known_is_a_failure() -> None:
    """As before the first report."""
    assert Inside(stage=Stage.SHUT).failure is None
