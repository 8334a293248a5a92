"""The start script as root and as PID 1: in namespaces of its own, over an overlay, so that the host stays as it is."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pod_stand_in import POD_KEY, TOKEN, Pod, World, pod, script_for, world

from runner_provisioner.bootstrap.host_key import new_host_key
from runner_provisioner.bootstrap.render import RunnerScript, render
from runner_provisioner.domain.request import RunAs

CONFINE = r"""
set -e
mount -t tmpfs pod "$1"
mkdir "$1"/{upper,work,root}
mount -t overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" pod "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs tmp "$1/root/tmp"
mkdir -p "$1/root/volume" "$1/root/folder"
mount -t tmpfs volume "$1/root/volume"
mkdir "$1/root/volume/kept"
eval "$2"
exec chroot "$1/root" "${@:3}"
"""


def _namespaces_work() -> bool:
    if os.geteuid() or not shutil.which("unshare"):
        return False
    words = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "x", "/mnt"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not _namespaces_work(), reason="needs root and namespaces"),
]


@pytest.fixture
def remote() -> Iterator[World]:
    """Everybody whom the pod talks to."""
    with world() as state:
        yield state


def confined(script: RunnerScript, tmp_path: Path, *, prepare: str = ":", before: tuple[str, ...] = ()) -> list[str]:
    """The words that run the start command as PID 1 of a container of its own."""
    layers = tmp_path / "layers"
    layers.mkdir()
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--propagation", "private"]
    return [*unshare, "bash", "-c", CONFINE, "confine", str(layers), prepare, *before, "bash", "-c", render(script)]


def run(
    remote: World, tmp_path: Path, script: RunnerScript, *, prepare: str = ":", env: dict[str, str] | None = None
) -> str:
    """Run a confined pod to its end; its log."""
    command = confined(script, tmp_path, prepare=prepare)
    with pod(script, tmp_path / "pod", prefix=[], command=command, env={"HOME": "/root", **(env or {})}) as started:
        started.wait_for(remote.ended.is_set)
        return started.text()


LOOK = r"""
{ ls -ld "$HOME" /volume /volume/kept ../work ..; ls -l ../runner/run.sh ../guard.sh /etc/ssh/ssh_host_ed25519_key
echo changed >>../runner/run.sh; echo changed >>../guard.sh; rm -f ../runner/run.sh
ls ../state; cat /etc/ssh/ssh_host_ed25519_key; cat /proc/1/environ; id; } 2>&1 || true
for file in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do tr '\0' '\n' <"$file" 2>/dev/null || true; done |
	grep -aE "$LOOK_FOR" || true
"""


def test_the_job_runs_as_a_user_without_rights(remote: World, tmp_path: Path) -> None:
    """It owns the work folder and the volume's mount point, and neither the runner, the hooks nor a secret."""
    key = new_host_key()
    remote.step = LOOK
    # So written, the pattern does not find itself.
    words = "|".join(f"[{word[0]}]{word[1:]}" for word in (TOKEN, POD_KEY.partition('"')[0]))
    script = script_for(
        remote,
        run_as=RunAs.USER,
        volume_mount="/volume",
        host_private_key=key.private,
        job_env={"LOOK_FOR": words},
    )
    log = run(remote, tmp_path, script)
    told = remote.first("step-log")
    assert "uid=64021(rp-runner) gid=64021(rp-runner) groups=64021(rp-runner)" in told, log
    owners = {
        line.split()[-1]: line.split()[2] for line in told.splitlines() if line[:1] in "d-" and len(line.split()) > 8
    }
    assert owners["/volume"] == owners["../work"] == "rp-runner"
    assert owners["/volume/kept"] == owners["../runner/run.sh"] == owners["../guard.sh"] == "root"
    for refused in ("../runner/run.sh", "../guard.sh", "/etc/ssh/ssh_host_ed25519_key", "/proc/1/environ", "../state"):
        assert any(refused in line and "denied" in line for line in told.splitlines()), refused
    assert "cannot remove '../runner/run.sh'" in told
    assert not any(secret in told for secret in (key.private.splitlines()[1], POD_KEY[:11], TOKEN))
    assert "uid=64021" in remote.first("config")
    assert "RUNNER_ALLOW_RUNASROOT" not in remote.first("listening")


def test_a_folder_that_is_no_mount_point_keeps_its_owner(remote: World, tmp_path: Path) -> None:
    """Where no volume came, the folder is the image's."""
    remote.step = "stat -c 'owner %U' /folder"
    run(remote, tmp_path, script_for(remote, run_as=RunAs.USER, volume_mount="/folder"))
    assert "owner root" in remote.first("step-log")


def test_the_host_stays_as_it_is(remote: World, tmp_path: Path) -> None:
    """No user, key or folder outside the pod."""
    before = Path("/etc/passwd").read_bytes()
    run(remote, tmp_path, script_for(remote, run_as=RunAs.SAME))
    assert Path("/etc/passwd").read_bytes() == before
    assert not list(Path("/opt").glob("runner-provisioner-*"))
    assert "uid=64021" in remote.first("config")


def test_the_job_runs_as_root_when_that_was_asked_for(remote: World, tmp_path: Path) -> None:
    """Which GitHub's runner must be told."""
    run(remote, tmp_path, script_for(remote, run_as=RunAs.ROOT))
    assert "uid=0" in remote.first("config").splitlines()
    assert "RUNNER_ALLOW_RUNASROOT=1" in remote.first("listening")


START_SH = r"""
env >/volume/image-env
ls -l /etc/ssh/ssh_host_ed25519_key >>/volume/image-env
exec 3<>/dev/tcp/127.0.0.1/PORT
body=$(cat /volume/image-env)
printf 'POST /told/image HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s' "${#body}" "$body" >&3
cat <&3 >/dev/null
sleep 1000
"""


def test_the_images_own_start_program_runs_with_a_clean_environment(remote: World, tmp_path: Path) -> None:
    """After the host key is in place, and with the user's public key."""
    text = shlex.quote(START_SH.replace("PORT", str(remote.port)))
    key = new_host_key()
    script = script_for(remote, run_as=RunAs.USER, host_private_key=key.private)
    prepare = f'printf %s {text} >"$1/root/start.sh"; rm -rf "$1/root/etc/ssh"'
    run(remote, tmp_path, script, prepare=prepare, env={"PUBLIC_KEY": "ssh-ed25519 AAAA", "RP_NONCE": "planted"})
    told = remote.first("image")
    assert "PUBLIC_KEY=ssh-ed25519 AAAA" in told
    assert "IMAGE_SAYS=kept" in told
    assert "-rw-------" in told
    assert not any(word in told for word in ("RUNPOD_API_KEY", "RP_", TOKEN, "ACTIONS_RUNNER"))


APT_GET = r"""#!/bin/bash
echo "apt-get $*" >>/volume/apt
case "$*" in *install*) for name in "$@"; do [ "$name" != git ] || ln -s /bin/true /usr/bin/git; done ;; esac
[[ "$*" != *install* || "$*" == *curl* ]] && ln -sf /usr/bin/kept-curl /usr/bin/curl
exit 0
"""


def test_what_is_missing_is_installed(remote: World, tmp_path: Path) -> None:
    """An HTTPS client, git and libicu, by apt."""
    fake = shlex.quote(APT_GET)
    prepare = f"""
cd "$1/root"; mv usr/bin/curl usr/bin/kept-curl
for name in wget python3 openssl git; do find usr/bin usr/local/bin -name "$name" -delete; done
rm -f usr/bin/apt-get; printf %s {fake} >usr/bin/apt-get; chmod 755 usr/bin/apt-get
printf '#!/bin/sh\n' >sbin/ldconfig; cd /
"""
    remote.step = "cat /volume/apt; env | grep GLOBALIZATION"
    log = run(
        remote,
        tmp_path,
        script_for(remote, run_as=RunAs.USER),
        prepare=prepare,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert "installing curl ca-certificates" in log
    assert "installing ^libicu[0-9]*$ git" in log
    told = remote.first("step-log")
    assert "install ^libicu[0-9]*$ git" in told
    assert "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1" in told


def test_without_setpriv_the_job_is_still_no_root(remote: World, tmp_path: Path) -> None:
    """The core utilities' chroot does it too."""
    prepare = 'find "$1/root/usr/bin" -name setpriv -delete'
    run(remote, tmp_path, script_for(remote, run_as=RunAs.USER), prepare=prepare)
    assert "uid=64021" in remote.first("config").splitlines()


def test_an_unusable_tmp_does_not_matter(remote: World, tmp_path: Path) -> None:
    """The start command looks for another folder."""
    prepare = 'mount -o remount,ro "$1/root/tmp"'
    run(remote, tmp_path, script_for(remote, run_as=RunAs.USER), prepare=prepare)
    assert remote.has("step-log")


def test_term_to_pid_1_ends_the_container(remote: World, tmp_path: Path) -> None:
    """The job's processes hear of it, whatever their session."""
    report = (
        f"exec 3<>/dev/tcp/127.0.0.1/{remote.port}; printf 'POST /told/%s HTTP/1.0\\r\\n\\r\\n' $1 >&3; read -r _ <&3"
    )
    remote.step = f"""
echo {shlex.quote(report)} >/volume/report
env -i setsid bash -c 'trap "bash /volume/report heard; exit" TERM; while :; do sleep 0.02; done' &
bash /volume/report ready
wait
"""
    script = script_for(remote, run_as=RunAs.USER, volume_mount="/volume")
    with pod(script, tmp_path / "pod", prefix=[], command=confined(script, tmp_path)) as started:
        started.wait_for(lambda: remote.has("ready"))
        inside = _child(started)
        os.kill(inside, 15)
        assert started.process.wait(timeout=10) == 143
    assert remote.has("heard")
    assert remote.has("listener-term")


def _child(started: Pod) -> int:
    children = Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children").read_text().split()
    return int(children[0])


def test_a_client_without_certificate_authorities_is_not_enough(remote: World, tmp_path: Path) -> None:
    """Slim images have curl and nothing to check a certificate with; such a pod could not even end itself."""
    fake = shlex.quote(APT_GET)
    prepare = f"""
cd "$1/root"; mv usr/bin/curl usr/bin/kept-curl; ln -s kept-curl usr/bin/curl
rm -rf etc/ssl/certs etc/ssl/cert.pem etc/pki
rm -f usr/bin/apt-get; printf %s {fake} >usr/bin/apt-get; chmod 755 usr/bin/apt-get; cd /
"""
    script = script_for(remote, run_as=RunAs.USER)
    log = run(remote, tmp_path, script, prepare=prepare, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    assert "installing curl ca-certificates" in log
    assert remote.has("step-log")
