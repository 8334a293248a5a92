"""The start script as a real process of an ordinary user, against a loopback server that plays everybody else."""

from __future__ import annotations

import base64
import dataclasses
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pod_stand_in import (
    NOBODY,
    POD_ID,
    POD_KEY,
    TOKEN,
    Pod,
    World,
    descendants,
    path_with,
    pod,
    script_for,
    world,
)

from runner_provisioner.bootstrap.render import render
from runner_provisioner.domain.request import RunAs

OPTIONS = ["--unattended", "--ephemeral", "--disableupdate", "--no-default-labels"]

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")


@pytest.fixture
def remote() -> Iterator[World]:
    """Everybody whom the pod talks to."""
    with world() as state:
        yield state


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The pod's home."""
    return tmp_path / "pod"


def ends(started: Pod, remote: World, *, seconds: float = 30) -> str:
    """Wait until the pod has asked to be ended; its log."""
    started.wait_for(remote.ended.is_set, seconds)
    return started.text()


def test_one_job_runs_and_the_pod_ends_itself(remote: World, scratch: Path) -> None:
    """The whole life: download, register, one job, REST v2 DELETE."""
    with pod(script_for(remote, runner_group="gpu runners"), scratch) as started:
        log = ends(started, remote)
    options = remote.first("config").splitlines()
    assert options[:4] == OPTIONS
    assert "--replace" not in options
    assert options[options.index("--runnergroup") + 1] == "gpu runners"
    assert options[options.index("--name") + 1] == "rp-1a2b3c4d-16-1-default"
    assert remote.first("step-log") == "hello from the job\n"
    assert [line for line in log.splitlines() if line.startswith("runner-provisioner")][-1].endswith(
        "ending by REST v2"
    )
    assert "DELETE" in {request[0] for request in remote.requests}


def test_the_token_goes_to_config_alone(remote: World, scratch: Path) -> None:
    """By environment, for config.sh only, and the log never shows it even when the runner prints it."""
    remote.config = "taken"
    with pod(script_for(remote), scratch) as started:
        log = ends(started, remote)
    assert f"ACTIONS_RUNNER_INPUT_TOKEN={TOKEN}" in remote.first("config")
    assert TOKEN not in log
    assert "A runner exists with the same name. Token ***" in log
    assert "not registered" in log
    assert not remote.has("listening")


SPY = r"""
for file in /proc/[0-9]*/cmdline /proc/[0-9]*/environ /proc/[0-9]*/fd/*; do
	[ -r "$file" ] || continue
	case $file in */fd/*) [ -f "$file" ] || continue ;; esac
	timeout 1 head -c 200000 "$file" 2>/dev/null | tr '\0' '\n' | sed "s|^|$file: |"
done | grep -aE "WORDS" | cut -c1-200
find "$HOME" /tmp/.rp* -type f -size -200k -exec grep -laE "WORDS" {} + 2>/dev/null || true
env | sed 's/^/own: /'
"""


def test_a_job_finds_no_secret(remote: World, scratch: Path) -> None:
    """Not in any command line, environment, open or written file that its user can read; plain, base64 or hex."""
    key = POD_KEY.partition('"')[0]
    words = [f(secret) for secret in (TOKEN, key) for f in (str, _base64, lambda text: text.encode().hex())]
    remote.step = SPY.replace("WORDS", "|".join(words))
    script = script_for(remote, job_env={"GIVEN": "to the job"})
    with pod(script, scratch, env={"PUBLIC_KEY": "ssh-ed25519 AAAA"}) as started:
        ends(started, remote)
    found = remote.first("step-log").splitlines()
    # The step's own text holds the words that it looks for.
    theirs = [line for line in found if not line.startswith("own: ") and words[1] not in line.replace(words[0], "", 1)]
    assert [line for line in theirs if "work/step.sh" not in line] == []
    own = {line.removeprefix("own: ").partition("=")[0] for line in found}
    assert not own & {"RUNPOD_API_KEY", "RP_OWNER", "JUPYTER_PASSWORD", "PUBLIC_KEY", "ACTIONS_RUNNER_INPUT_TOKEN"}
    assert {"own: GIVEN=to the job", "own: IMAGE_SAYS=kept", f"own: RUNPOD_POD_ID={POD_ID}"} <= set(found)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()[:-4]


def test_a_wrong_digest_registers_nothing(remote: World, scratch: Path) -> None:
    """It is tried again, and then the pod ends."""
    script = script_for(remote)
    wrong = dataclasses.replace(script, download=dataclasses.replace(script.download, sha256="0" * 64))
    with pod(wrong, scratch) as started:
        log = ends(started, remote)
    assert log.count("wrong sha256") == 4
    assert not remote.has("config")


def test_a_broken_download_is_tried_again(remote: World, scratch: Path) -> None:
    """A cut connection costs an attempt, not the pod."""
    remote.broken_downloads = 1
    with pod(script_for(remote), scratch) as started:
        ends(started, remote)
    assert remote.has("step-log")


def test_a_hanging_registration_ends_the_pod(remote: World, scratch: Path) -> None:
    """The dead-man's switch does not wait for the main flow."""
    remote.config = "hang"
    with pod(script_for(remote, register_seconds=3), scratch) as started:
        log = ends(started, remote)
    assert "not registered within 3 s" in log


def test_without_a_job_the_listener_is_stopped_and_the_pod_ends(remote: World, scratch: Path) -> None:
    """The listener hears TERM before the pod goes."""
    remote.job = "wait"
    with pod(script_for(remote, idle_seconds=2), scratch) as started:
        log = ends(started, remote)
    assert "stopping the listener" in log
    assert remote.has("listener-term")


def test_a_pod_is_spared_when_a_job_began_while_the_listener_was_stopped(remote: World, scratch: Path) -> None:
    """The job that slipped in runs to its end."""
    remote.job = "wait"
    with pod(script_for(remote, idle_seconds=1), scratch) as started:
        started.wait_for(lambda: "stopping the listener" in started.text())
        # What the listener says on its last breath before it was frozen.
        began = next(scratch.glob("runner-provisioner-*/job")) / "began"
        began.touch()
        began.chmod(0o666)
        started.wait_for(lambda: "sparing the pod" in started.text())
        assert not remote.ended.is_set()
        remote.job = "build"
        ends(started, remote)
    assert remote.has("step-log")


def test_a_job_before_the_idle_time_keeps_the_pod(remote: World, scratch: Path) -> None:
    """Idle counts only until a job begins."""
    remote.step = "sleep 4; echo done"
    with pod(script_for(remote, idle_seconds=2), scratch) as started:
        log = ends(started, remote)
    assert remote.first("step-log") == "done\n"
    assert "stopping the listener" not in log


def test_the_lifetime_ends_the_pod_in_the_middle_of_a_job(remote: World, scratch: Path) -> None:
    """The job hears TERM first."""
    remote.step = "trap 'echo heard; exit' TERM; sleep 100 & wait"
    with pod(script_for(remote, lifetime_seconds=8), scratch) as started:
        log = ends(started, remote)
        started.wait_for(lambda: remote.has("step-log"))
    assert "lifetime of 8 s is over" in log
    assert remote.first("step-log") == "heard\n"


def test_a_restarted_container_registers_no_second_runner(remote: World, scratch: Path) -> None:
    """The marker outlives the process: straight to the end."""
    remote.job = "wait"
    with pod(script_for(remote), scratch) as started:
        started.wait_for(lambda: remote.has("listening"))
        os.killpg(started.process.pid, signal.SIGKILL)
        started.process.wait()
    before = len(remote.told)
    with pod(script_for(remote), scratch) as started:
        log = ends(started, remote)
    assert "ending: restarted" in log
    assert [kind for kind, _ in remote.told[before:] if kind == "config"] == []


AT_ONCE = 3.0  # seconds: processes report by starting `date`, which takes its time on a busy machine
STUBBORN = r"""
report() { date +%s.%N | { read -r body; exec 3<>/dev/tcp/127.0.0.1/PORT
printf 'POST /told/%s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s' "$1" "${#body}" "$body" >&3; cat <&3 >/dev/null; }; }
export -f report
setsid bash -c 'trap "report heard-setsid; exit" TERM; report ready; while :; do sleep 0.02; done' &
( setsid bash -c 'trap "report heard-orphan; exit" TERM; report ready; while :; do sleep 0.02; done' & )
trap 'report heard-step; exit 1' TERM
report ready
while :; do sleep 0.02; done
"""


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, id="term"), pytest.param(signal.SIGINT, id="int", marks=pytest.mark.full)]
)
def test_a_signal_reaches_every_process_of_the_job_and_then_the_listener(
    number: signal.Signals, remote: World, scratch: Path
) -> None:
    """At once, also one in a session of its own and one that its parent has left; what hears nothing has 30 s."""
    remote.step = STUBBORN.replace("PORT", str(remote.port))
    with pod(script_for(remote), scratch) as started:
        started.wait_for(lambda: [kind for kind, _ in remote.told].count("ready") == 3)
        at = time.time()
        os.kill(started.process.pid, number)
        assert started.process.wait(timeout=10) == 143
        left = descendants(os.getpid())
    heard = {kind: float(text) - at for kind, text in remote.told if kind.startswith(("heard", "listener"))}
    assert set(heard) == {"heard-setsid", "heard-orphan", "heard-step", "listener-term"}
    job = [after for kind, after in heard.items() if kind.startswith("heard")]
    assert max(job) < AT_ONCE
    assert started.process.pid not in left
    assert not remote.ended.is_set()


def test_a_signal_during_the_download_ends_at_once(remote: World, scratch: Path) -> None:
    """Before there is any listener."""
    remote.config = "hang"
    with pod(script_for(remote), scratch) as started:
        started.wait_for(lambda: remote.has("ask-config"))
        os.kill(started.process.pid, signal.SIGTERM)
        assert started.process.wait(timeout=10) == 143
    assert not remote.has("listening")


@pytest.mark.parametrize("run_as", [RunAs.USER, RunAs.ROOT])
def test_a_container_that_is_not_root_registers_nothing(run_as: RunAs, remote: World, scratch: Path) -> None:
    """Unless `same` was asked for."""
    with pod(script_for(remote, run_as=run_as), scratch) as started:
        log = ends(started, remote)
    assert "does not start as root" in log
    assert not remote.has("config")


def test_the_job_runs_as_the_containers_user_when_that_was_asked_for(remote: World, scratch: Path) -> None:
    """And SIGINT is not ignored, by which run.sh stops the real listener."""
    with pod(script_for(remote), scratch) as started:
        ends(started, remote)
    assert f"uid={os.geteuid() or NOBODY}" in remote.first("config").splitlines()
    ignored = remote.first("listening").partition("SigIgn:")[2].split()[0]
    assert not int(ignored, 16) & 1 << (signal.SIGINT - 1)


@pytest.mark.parametrize(
    ("job", "changes", "named"),
    [
        pytest.param("foreign", {}, "not for evil/repo 42", id="repository"),
        pytest.param("otherrun", {}, "not for some-org/some-repo 43", id="run"),
        pytest.param("foreign", {"repository": None, "run_id": None}, "not for evil/repo 42", id="owner"),
    ],
)
def test_a_foreign_job_fails(job: str, changes: dict[str, object], named: str, remote: World, scratch: Path) -> None:
    """With the reason in its log, and the pod ends soon even when the runner goes on."""
    remote.job = job
    with pod(script_for(remote, **changes), scratch) as started:
        ends(started, remote)
    assert remote.first("refused").startswith("::error::This runner is for some-org")
    assert named in remote.first("refused")
    assert not remote.has("step")


@pytest.mark.parametrize(
    ("job", "changes"),
    [
        pytest.param("otherrun", {"run_id": None}, id="any-run"),
        pytest.param("build", {"repository": None, "run_id": None}, id="any-repository-of-the-owner"),
        pytest.param("build", {"owner": "SOME-ORG", "repository": "SOME-ORG/SOME-REPO"}, id="letter-case"),
    ],
)
def test_a_job_of_ours_is_taken(job: str, changes: dict[str, object], remote: World, scratch: Path) -> None:
    """What was not named is not checked; GitHub's names know no case."""
    remote.job = job
    with pod(script_for(remote, **changes), scratch) as started:
        ends(started, remote)
    assert remote.has("step-log")


def test_an_init_in_front_keeps_the_runner_from_registering(remote: World, scratch: Path) -> None:
    """A parent that still shows the start command would show the token to the job."""
    front = ["bash", "-c", '"$@"; true', "init", "bash", "-c", render(script_for(remote))]
    with pod(script_for(remote), scratch, command=front) as started:
        log = ends(started, remote)
    assert "a command line shows the start command" in log
    assert not remote.has("config")


@pytest.mark.parametrize("shown", [TOKEN, _base64(f"{TOKEN}1")], ids=["plain", "base64"])
def test_a_command_line_with_the_token_keeps_the_runner_from_registering(
    shown: str, remote: World, scratch: Path
) -> None:
    """However it got there."""
    beside = ["bash", "-c", 'sleep 50 & exec bash -c "$0"', render(script_for(remote))]
    beside[2] = f"bash -c 'sleep 50; : {shown}' & {beside[2].removeprefix('sleep 50 & ')}"
    with pod(script_for(remote), scratch, command=beside) as started:
        log = ends(started, remote)
    assert "a command line shows" in log
    assert not remote.has("config")


def test_graphql_takes_over_when_rest_refuses(remote: World, scratch: Path) -> None:
    """The two are asked in turn."""
    remote.refuse_rest = True
    with pod(script_for(remote), scratch) as started:
        log = ends(started, remote)
    assert "ending by GraphQL" in log


def test_the_pod_is_asked_to_end_again_and_again(remote: World, scratch: Path) -> None:
    """An accepted DELETE is not the end of it."""
    with pod(script_for(remote), scratch) as started:
        ends(started, remote)
        started.wait_for(lambda: sum(path in {"/graphql", f"/v2/pods/{POD_ID}"} for _, path, *_ in remote.requests) > 2)


def test_without_a_pod_scoped_key_it_idles(remote: World, scratch: Path) -> None:
    """It cannot end itself, says so, and does not exit: a container that ends is restarted."""
    with pod(script_for(remote), scratch, env={"RUNPOD_API_KEY": ""}) as started:
        started.wait_for(lambda: "cannot end this pod" in started.text())
        time.sleep(1)
        assert started.process.poll() is None
        assert started.text().count("cannot end this pod") == 1
    assert not remote.ended.is_set()


def test_where_no_provider_names_the_pod_its_nonce_does(remote: World, scratch: Path) -> None:
    """One job runs in a folder of this pod's own; then it idles, and asks nobody to end what is no pod of RunPod's."""
    remote.job = "wait"
    nonce = "0123456789abcdef0123456789abcdef"
    env = {"RUNPOD_POD_ID": "", "RUNPOD_API_KEY": "", "RP_NONCE": nonce}
    with pod(script_for(remote, idle_seconds=1), scratch, env=env) as started:
        started.wait_for(lambda: remote.has("listening"))
        (base,) = scratch.glob("runner-provisioner-*")
        assert base.name == f"runner-provisioner-{nonce}"
        started.wait_for(lambda: "cannot end this pod" in started.text())
        assert "no job came" in started.text()
        time.sleep(1)
        assert started.process.poll() is None
        assert started.text().count("idle: ") == 1
    asked = [path for _method, path, *_rest in remote.requests if path.startswith(("/v2", "/graphql"))]
    assert asked == []


def test_the_file_of_the_start_command_is_gone(remote: World, scratch: Path) -> None:
    """Removed before anything else, and empty for who holds it open."""
    remote.job = "wait"
    with pod(script_for(remote), scratch) as started:
        started.wait_for(lambda: remote.has("listening"))
        command = Path(f"/proc/{started.process.pid}/cmdline").read_bytes().split(b"\0")
        assert command[1] == b"-p"
        assert not Path(os.fsdecode(command[2])).exists()
        assert Path(f"/proc/{started.process.pid}/fd/255").read_bytes() == b""
        assert POD_KEY.encode() not in Path(f"/proc/{started.process.pid}/environ").read_bytes()


def test_without_gzip_it_says_one_line_and_idles(remote: World, scratch: Path) -> None:
    """The command needs bash, base64 and gzip."""
    folder = scratch.parent / "bin"
    folder.mkdir()
    for name in ("base64", "rm", "sleep"):
        (folder / name).symlink_to(str(shutil.which(name)))
    bash = str(shutil.which("bash"))
    command = [bash, "-c", render(script_for(remote))]
    with pod(script_for(remote), scratch, env={"PATH": str(folder)}, command=command) as started:
        started.wait_for(lambda: "no base64, gzip" in started.text())
        time.sleep(0.5)
        assert started.process.poll() is None
        assert started.text().count("\n") == 1


@pytest.mark.parametrize("client", ["curl", pytest.param("wget", marks=pytest.mark.full), "python3", "openssl"])
def test_one_client_is_enough(client: str, remote: World, scratch: Path) -> None:
    """Each downloads, sends DELETE and POST, and shows the key in no command line."""
    remote.refuse_rest = True
    tools = [] if client == "python3" else [client]
    path = path_with(scratch.parent, *tools)
    if client == "python3":
        plain = shutil.which("python3", path="/usr/bin:/usr/local/bin") or os.path.realpath(sys.executable)
        if not os.geteuid() and plain.startswith("/root"):
            pytest.skip("an ordinary user cannot run this python3")
        (Path(path) / "python3").symlink_to(plain)
    elif not (Path(path) / client).exists():
        pytest.skip(f"{client} is not installed")
    with pod(script_for(remote), scratch, env={"PATH": path}) as started:
        log = ends(started, remote)
    assert remote.has("step-log"), log
    assert [method for method, path, *_ in remote.requests if path.startswith(("/v2", "/graphql"))][:2] == [
        "DELETE",
        "POST",
    ]
    assert not list(scratch.rglob("state/rc"))


def test_without_any_client_it_says_one_line_and_idles(remote: World, scratch: Path) -> None:
    """It registers nothing, and does not exit."""
    path = path_with(scratch.parent)
    with pod(script_for(remote), scratch, env={"PATH": path}) as started:
        started.wait_for(lambda: "cannot end this pod" in started.text())
        time.sleep(1)
        assert started.process.poll() is None
        log = started.text()
    assert log.count("no pod-scoped key or no way to speak HTTPS") == 1
    assert remote.requests == []
