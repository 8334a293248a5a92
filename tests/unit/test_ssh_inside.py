"""What is asked of a pod, and how its answers are read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.gate import PodPhase, PodReport
from runner_provisioner.domain.pods import Pod, PodClass, PodId, PodState, PodTags, SshEndpoint
from runner_provisioner.errors import InvalidRequest, ProtocolViolation
from runner_provisioner.ssh.inside import NOTHING_OF_OURS, facts, facts_command, log_command
from runner_provisioner.ssh.targets import target_of

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"


def asked(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """What a shell makes of it."""
    return subprocess.run(
        ["bash", "-c", command],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_log_is_found_wherever_the_script_keeps_it(tmp_path: Path) -> None:
    """From a byte on; where there is none, by an exit code of its own."""
    state = tmp_path / "runner-provisioner-pod-unit" / "state"
    state.mkdir(parents=True)
    (state / "log").write_text("one\ntwo\n")
    assert asked(log_command("pod-unit"), tmp_path).stdout == "one\ntwo\n"
    assert asked(log_command("pod-unit", skip=4), tmp_path).stdout == "two\n"
    assert asked(log_command("pod-other"), tmp_path).returncode == NOTHING_OF_OURS


@pytest.mark.parametrize(
    ("made", "phase"),
    [
        pytest.param([], "preparing", id="nothing"),
        pytest.param(["state/began"], "registering", id="began"),
        pytest.param(["state/began", "state/registered"], "listening", id="registered"),
        pytest.param(["state/registered", "state/job"], "job runs", id="a-job-line"),
        pytest.param(["state/registered", "job/began"], "job runs", id="a-job-began"),
        pytest.param(["job/began", "job/completed"], "job over", id="a-job-completed"),
        pytest.param(["job/began", "job/refused"], "job refused", id="a-job-refused"),
    ],
)
def test_the_phase_is_what_the_script_left(tmp_path: Path, made: list[str], phase: str) -> None:
    """Files in its folders."""
    base = tmp_path / "runner-provisioner-pod-unit"
    for name in ("state", "job"):
        (base / name).mkdir(parents=True)
    for name in made:
        (base / name).touch()
    (base / "report.json").write_text('{"phase":"gate-failed",\n"reason":"gate: 0 GPUs instead of 1","gate":{}}')
    (base / "state" / "phase.json").write_text('{"phase":\n "gate"}\n')
    found = facts(asked(facts_command("pod-unit"), tmp_path).stdout)
    assert (found.phase, found.files) == (phase, {"phase.json": {"phase": "gate"}})
    assert found.report == PodReport(phase=PodPhase.GATE_FAILED, reason="gate: 0 GPUs instead of 1")


@given(st.text())
def test_no_answer_breaks_the_reader(text: str) -> None:
    """A pod may say anything."""
    assert facts(text).phase


@pytest.mark.parametrize("pod_id", ["", "../x", "a b", "$(reboot)", "a'b", "a\nb", "x" * 65])
def test_a_strange_pod_id_reaches_no_shell(pod_id: str) -> None:
    """Whatever a provider calls a pod."""
    for command in (log_command, facts_command):
        with pytest.raises(ProtocolViolation):
            command(pod_id)


def _pod(host_key: str | None, *, host: str = "203.0.113.7") -> Pod:
    tags = PodTags(owner="0" * 8, cls=PodClass.RUNNER, host_key=host_key)
    ssh = SshEndpoint(host=host, port=22)
    return Pod(provider="runpod", id=PodId("pod1"), name="pod", state=PodState.RUNNING, tags=tags, ssh=ssh)


def test_the_target_holds_the_pods_own_host_key() -> None:
    """Whether or not anything else would be trusted."""
    assert target_of(_pod(HOST_KEY), trust_first=True).host_key == HOST_KEY


@pytest.mark.parametrize("host_key", [None, ""])
def test_no_host_key_is_no_trust(host_key: str | None) -> None:
    """An empty tag is none."""
    with pytest.raises(InvalidRequest, match="--trust-first"):
        target_of(_pod(host_key))
    assert target_of(_pod(host_key), trust_first=True).host_key is None


@pytest.mark.parametrize(
    "host_key", [f"{HOST_KEY}\n* {HOST_KEY}", "ssh-ed25519", f"@cert-authority * {HOST_KEY}", "x\0y z"]
)
def test_a_host_key_that_is_more_than_a_key_is_refused(host_key: str) -> None:
    """It becomes a line of a known_hosts file."""
    with pytest.raises(ProtocolViolation, match="host key"):
        target_of(_pod(host_key), trust_first=True)


def test_a_hostile_host_is_refused() -> None:
    """Before anything is connected."""
    with pytest.raises(ProtocolViolation):
        target_of(_pod(HOST_KEY, host="-oProxyCommand=x"))
