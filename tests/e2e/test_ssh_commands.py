"""What one can do in a real pod over SSH while its runner works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from e2e.test_ssh_to_pod import rented
from support.e2e import Stage
from support.e2e_steps import until

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("confined"),
    pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="there is no /usr/sbin/sshd"),
    pytest.mark.skipif(not shutil.which("ssh"), reason="there is no ssh"),
]


@pytest.mark.full
def test_logs_exec_cp_wait_and_info_in_a_pod(stage: Stage) -> None:
    """By label; the log is followed from the start script's first line to the end of the pod."""
    place, key, pod_id = rented(stage)
    login = ("-i", str(key))
    which = ("--label", stage.live[0].env["RP_LABEL"])
    following = place.begin("logs", "--follow", *login, pod_id)
    place.call("wait", pod_id, "--for", "runner").well()
    told = place.call("exec", *login, *which, "--", "cat /etc/hostname; id -u; echo err >&2; exit 5")
    assert (told.code, told.stdout.splitlines()[-1]) == (5, "0"), told.told
    assert "err" in told.stderr
    (place.folder / "work" / "there").write_bytes(b"\0\xff" * 70_000)
    place.call("cp", *login, *which, "there", ":/opt/there").well()
    place.call("cp", *login, *which, ":/opt/there", "back").well()
    assert (place.folder / "work" / "back").read_bytes() == b"\0\xff" * 70_000
    assert not Path("/opt/there").exists()
    data = place.call("info", "--json", *login, *which).well().data
    assert (data["id"], data["inside"]["phase"]) == (pod_id, "listening")
    until(lambda: "listening" in (following.folder / "stdout").read_text(), "the log arrives")
    diagnostics = place.call("logs", "--diagnostics", *login, *which).well().stdout
    assert "_diag/Runner_" in diagnostics
    place.call("stop").well()
    done = following.wait().well()
    assert "runner-provisioner: downloading" in done.stdout
    assert "runner: " in done.stdout
    assert f"pod {pod_id} has ended" in done.stderr
    place.call("wait", pod_id, "--for", "end").well()
    stage.gone(pods=1)
