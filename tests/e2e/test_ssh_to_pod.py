"""Logging in to a pod whose host key is known before the first connection."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.e2e import Place, Stage
from support.e2e_steps import until

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("confined"),
    pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="there is no /usr/sbin/sshd"),
    pytest.mark.skipif(not shutil.which("ssh"), reason="there is no ssh"),
]


def key_pair(folder: Path) -> Path:
    """A user's key pair; its private half."""
    path = folder / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def rented(stage: Stage) -> tuple[Place, Path, str]:
    """A place with a pod that takes the user's key: the place, the key, the pod's id."""
    place = stage.job(stage.queue("true"))
    key = key_pair(place.folder)
    written = place.start("--ssh-key", f"{key}.pub")
    assert re.fullmatch(r"ssh -p \d+ root@127\.0\.0\.1", written["ssh-command"])
    port = stage.live[0].ssh_port
    until(lambda: answers(port), "sshd answers")
    return place, key, written["pod-id"]


def answers(port: int | None) -> bool:
    """Whether an SSH server answers there."""
    scan = subprocess.run(["ssh-keyscan", "-p", str(port), "127.0.0.1"], capture_output=True, check=False)
    return b"ssh-ed25519" in scan.stdout


@pytest.mark.full
def test_ssh_runs_a_command_in_the_pod_and_checks_its_host_key(stage: Stage) -> None:
    """By pod id and by key; the exit code is the command's; a host with another key is refused."""
    place, key, pod_id = rented(stage)
    done = place.call("ssh", "-i", str(key), pod_id, "--", "cat", "/etc/hostname", "/etc/ssh/ssh_host_ed25519_key.pub")
    pod = stage.live[0]
    assert pod.env["RP_HOST_KEY"].split()[1] in done.well().stdout
    assert place.call("ssh", "-i", str(key), pod_id, "--", "exit 7").code == 7
    known = place.environ["HOME"]
    assert not (Path(known) / ".ssh" / "known_hosts").exists()
    other = key_pair(stage.folder).with_suffix(".pub").read_text()
    pod.env = {**pod.env, "RP_HOST_KEY": " ".join(other.split()[:2])}
    refused = place.call("ssh", "-i", str(key), pod_id, "--", "true")
    assert refused.code == 255, refused.told
    assert "Host key verification failed" in refused.stderr
    place.call("stop").well()
    stage.gone(pods=1)


@pytest.mark.full
def test_a_stranger_may_not_log_in(stage: Stage) -> None:
    """Another key than the one that start was given is refused."""
    place, _, pod_id = rented(stage)
    stranger = key_pair(stage.folder)
    done = place.call("ssh", "-i", str(stranger), pod_id, "--", "true")
    assert done.code == 255, done.told
    assert "Permission denied" in done.stderr
    place.call("stop").well()
    stage.gone(pods=1)
