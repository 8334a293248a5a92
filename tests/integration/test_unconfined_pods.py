"""Unconfined pods: no privilege, nothing inherited, and no process that stays, whoever starts them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from runner_provisioner.simulators.pods import process
from runner_provisioner.simulators.pods.host import Image, Launch, PodsUnavailable, best_host
from runner_provisioner.simulators.pods.supervisor import descendants
from runner_provisioner.simulators.pods.unconfined import UnconfinedHost

PROJECT = Path(__file__).resolve().parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[UnconfinedHost]:
    """A host whose pods go when the test ends."""
    unconfined = UnconfinedHost(tmp_path / "scratch")
    yield unconfined
    unconfined.close()


def bash(tmp_path: Path, script: str, **env: str) -> Launch:
    """A launch of this bash script."""
    return Launch(pod_id="pod1", image=Image(name="x"), argv=("bash", "-c", script), env=env, log=tmp_path / "log")


async def output(host: UnconfinedHost, launch: Launch, status: int = 0) -> str:
    """What the pod printed, once it ended."""
    container = await host.launch(launch)
    with anyio.fail_after(30):
        ended = await container.wait()
    host.discard(launch.pod_id)
    text = launch.log.read_text()
    assert ended == status, text
    return text


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process brings about."""
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - no event reaches this process
            await anyio.sleep(0.01)


async def logged(launch: Launch, word: str) -> None:
    """Wait until the pod printed this."""
    await until(lambda: launch.log.exists() and word in launch.log.read_text())


def alive(word: str) -> list[int]:
    """Processes of this machine that are a sleep of this length."""
    listing = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listing.splitlines() if line.split()[1:] == ["sleep", word]]


DETACHED = "setsid -f sleep {0}; setsid -f bash -c 'setsid -f sleep {0}'; (sleep {0} &); echo up; "


async def test_nothing_of_the_host_s_environment_gets_in(
    host: UnconfinedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launch.env, and what a program needs to run in a folder of its own."""
    monkeypatch.setenv("PLANTED", "secret")
    monkeypatch.setenv("RUNPOD_API_KEY", "account key")
    text = await output(host, bash(tmp_path, "pwd; env", RUNPOD_POD_ID="pod1"))
    where, *pairs = text.splitlines()
    variables = dict(pair.split("=", 1) for pair in pairs)
    assert variables.keys() - {"_", "SHLVL", "PWD"} == {"RUNPOD_POD_ID", "PATH", "HOME", "TMPDIR", "HOSTNAME"}
    assert variables["HOME"] == where
    assert variables["TMPDIR"] == str(Path(where, "tmp"))


@LINUX
async def test_the_pod_holds_no_capability_and_cannot_gain_any(host: UnconfinedHost, tmp_path: Path) -> None:
    """All sets empty, no-new-privileges on, no file of the host open."""
    text = await output(host, bash(tmp_path, "cat /proc/self/status; echo -- files; ls /proc/$$/fd; true"))
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    sets = [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]
    assert sets == [0, 0, 0, 0]
    assert status["NoNewPrivs"] == "1"
    assert set(text.partition("-- files\n")[2].split()) - {"255"} == {"0", "1", "2"}  # 255: bash's own, its script


@LINUX
@ROOT
@pytest.mark.root
async def test_root_becomes_an_account_that_nobody_has(host: UnconfinedHost, tmp_path: Path) -> None:
    """An own id for each pod that runs, without groups, in a folder that is its own."""
    first = await host.launch(bash(tmp_path, "sleep 60"))
    text = await output(
        host,
        Launch(**{**bash(tmp_path, "id; touch here && echo wrote; cat /etc/shadow").__dict__, "log": tmp_path / "l"}),
        1,
    )
    assert "wrote" in text
    assert "root" not in text.splitlines()[0]
    assert first.uid not in {None, 0}
    assert f"uid={first.uid} " not in text
    assert "Permission denied" in text
    await first.kill()


async def test_start_sh_has_a_stand_in_and_the_gpu_tool_is_there(host: UnconfinedHost, tmp_path: Path) -> None:
    """The image's own command runs until it is ended."""
    launch = Launch(pod_id="p", image=Image(name="x"), argv=("/start.sh",), env={}, log=tmp_path / "log")
    container = await host.launch(launch)
    await logged(launch, "no sshd")
    await container.kill()
    assert await container.wait() == 137
    assert "NVIDIA RTX A4000, 16376 MiB" in await output(
        host, bash(tmp_path, "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader")
    )


async def test_there_is_no_sshd_and_one_line_says_so(host: UnconfinedHost, tmp_path: Path) -> None:
    """Port 22 answers nowhere, other ports where they are."""
    container = await host.launch(bash(tmp_path, "sleep 60"))
    assert not host.offers_ssh
    assert "without sshd" in host.note
    assert container.address(22) is None
    assert container.address(80) == ("127.0.0.1", 80)
    await container.kill()


async def test_a_restarted_container_finds_its_folder_as_it_left_it(host: UnconfinedHost, tmp_path: Path) -> None:
    """The same account and the same files, until it is stopped."""
    launch = bash(tmp_path, "ls; touch marker; id -u; exit 1")
    first = await host.launch(launch)
    await first.wait()
    again = await host.launch(launch)
    await again.wait()
    before, after = launch.log.read_text().split("tmp\n")[:2], launch.log.read_text().splitlines()
    assert "marker" not in before[0]
    assert "marker" in after
    assert len({line for line in after if line.isdigit()}) == 1
    await again.kill()
    assert leftovers(host._pods) == []


async def test_stop_gives_the_first_process_time_to_end(host: UnconfinedHost, tmp_path: Path) -> None:
    """SIGTERM goes to the first process alone, and its own exit counts."""
    launch = bash(tmp_path, "trap 'echo got TERM; exit 3' TERM; (trap 'echo child' TERM; echo up; sleep 60) & wait")
    container = await host.launch(launch)
    await logged(launch, "up")
    await container.stop()
    assert await container.wait() == 3
    assert launch.log.read_text().splitlines() == ["up", "got TERM"]


@LINUX
async def test_stop_kills_everything_after_the_grace(host: UnconfinedHost, tmp_path: Path) -> None:
    """A first process that ignores SIGTERM is killed, and all that it detached too."""
    word = f"61{os.getpid()}"
    launch = bash(tmp_path, f"trap '' TERM; {DETACHED.format(word)} sleep {word}; sleep {word}")
    container = await host.launch(launch)
    await logged(launch, "up")
    await container.stop(grace=0.2)
    assert await container.wait() == 137
    assert alive(word) == []


@LINUX
async def test_the_end_of_the_first_process_ends_detached_children(host: UnconfinedHost, tmp_path: Path) -> None:
    """A double fork with setsid does not survive its pod, and its folder is gone."""
    word = f"71{os.getpid()}"
    await output(host, bash(tmp_path, DETACHED.format(word) + "sleep 0.1"))
    assert alive(word) == []
    assert leftovers(host._pods) == []


def leftovers(folder: Path) -> list[str]:
    """What lies in the folder."""
    return [path.name for path in folder.iterdir()]


@LINUX
@pytest.mark.parametrize("depth", [0, 1, 2], ids=["guard", "supervisor", "first-process"])
async def test_whichever_process_above_is_killed_the_pod_ends(host: UnconfinedHost, tmp_path: Path, depth: int) -> None:
    """The guard, the supervisor below it, and the pod's first process: nothing stays of either."""
    word = f"81{os.getpid()}"
    launch = bash(tmp_path, DETACHED.format(word) + f"sleep {word}; true")
    container = await host.launch(launch)
    await logged(launch, "up")
    guard = container._supervisor.pid
    supervisor = next(iter(descendants(guard)))
    os.kill((guard, supervisor, container._pid)[depth], signal.SIGKILL)
    with anyio.fail_after(15):
        assert await container.wait() == 137
    await until(lambda: not alive(word))
    host.discard("pod1")
    assert leftovers(host._pods) == []


@LINUX
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_who_waits_for_a_pod_is_told_of_its_end_whatever_fails_then(
    host: UnconfinedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What clears up after a killed guard may fail: nobody waits for ever because of it."""

    def fail(*_given: object) -> bool:
        raise OSError("no such process")

    container = await host.launch(bash(tmp_path, "echo up; sleep 60"))
    monkeypatch.setattr(process, "gone_within", fail)
    os.kill(container._supervisor.pid, signal.SIGKILL)
    with anyio.fail_after(15):
        assert await container.wait() == 137
    await until(lambda: not process._lives(container._pid))


DRIVER = """
import json, sys
from pathlib import Path
import anyio
from runner_provisioner.simulators.pods.host import Image, Launch, PodsUnavailable, best_host

async def main():
    scratch = Path(sys.argv[1])
    try:
        best_host(scratch / "strict", unconfined_ok=False)
        refused = ""
    except PodsUnavailable as error:
        refused = str(error)
    host = best_host(scratch / "pods", unconfined_ok=True)
    log = scratch / "log"
    launch = Launch(pod_id="p", image=Image(name="x"), argv=("bash", "-c", sys.argv[2]), env={"A": "b"}, log=log)
    container = await host.launch(launch)
    status = await container.wait()
    host.close()
    facts = {"mode": host.mode, "note": host.note, "ssh": host.offers_ssh, "status": status, "log": log.read_text()}
    print(json.dumps(facts | {"refused": refused}))

anyio.run(main)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every account can write to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def as_somebody_else(prefix: list[str], python: str, folder: Path, script: str) -> dict[str, object]:
    """The driver's facts, run through this prefix with an environment that must not get into the pod."""
    site = str(Path(anyio.__file__).parents[1])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{PROJECT}:{site}", "PLANTED": "secret"}
    command = [*prefix, python, "-c", DRIVER, str(folder), script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert result.returncode == 0, result.stderr
    facts: dict[str, object] = json.loads(result.stdout)
    return facts


SEEN = "id -u; env | grep -c PLANTED; grep -E 'Cap(Prm|Eff|Inh|Amb)|NoNew' /proc/self/status; "
POWERLESS = ["CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000"]


@LINUX
@ROOT
@pytest.mark.root
@pytest.mark.skipif(not shutil.which("capsh"), reason="capsh is not installed")
def test_root_without_sys_admin_runs_pods_unconfined_and_powerless(public: Path) -> None:
    """The probe finds out by trying; --unconfined is needed; root becomes somebody without any privilege."""
    word = f"91{os.getpid()}"
    prefix = ["capsh", "--drop=cap_sys_admin", "--", "-c", 'exec "$0" "$@"']
    facts = as_somebody_else(prefix, sys.executable, public, SEEN + DETACHED.format(word))
    lines = str(facts["log"]).splitlines()
    assert (facts["mode"], facts["ssh"], facts["status"]) == ("unconfined", False, 0)
    assert int(lines[0]) > 1000
    assert lines[1] == "0"
    assert lines[2:5] == POWERLESS
    assert "--unconfined" in str(facts["refused"])
    assert "unshare" in str(facts["refused"])
    assert alive(word) == []


def python_for(prefix: list[str]) -> str | None:
    """A Python that the other account may execute and that can load the project's code."""
    for python in (sys.executable, "/usr/bin/python3"):
        check = "import os, sys, runner_provisioner; sys.exit(not os.access(sys.executable, os.X_OK))"
        environment = {"PYTHONPATH": str(PROJECT)}
        if (
            subprocess.run(
                [*prefix, python, "-c", check], env=environment, capture_output=True, check=False, cwd="/"
            ).returncode
            == 0
        ):
            return python
    return None


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@LINUX
@ROOT
@pytest.mark.root
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_an_ordinary_user_runs_pods_unconfined(public: Path) -> None:
    """As nobody: the same account, an empty environment, no process left."""
    python = python_for([shutil.which("setpriv") or "", *NOBODY[1:]])
    if python is None:
        pytest.skip("no Python here that another account may run with this checkout")
    word = f"95{os.getpid()}"
    facts = as_somebody_else(NOBODY, python, public, SEEN + DETACHED.format(word))
    lines = str(facts["log"]).splitlines()
    assert (facts["mode"], facts["ssh"], facts["status"]) == ("unconfined", False, 0)
    assert lines[:2] == ["65534", "0"]
    assert lines[2:5] == POWERLESS
    assert "not root" in str(facts["refused"])
    assert alive(word) == []


async def test_the_probe_prefers_confinement_and_refuses_without_leave(tmp_path: Path) -> None:
    """Whatever this machine allows: a host, or an error that says what to do."""
    try:
        host = best_host(tmp_path / "strict", unconfined_ok=False)
    except PodsUnavailable as error:
        assert "--unconfined" in str(error)  # noqa: PT017 - either answer is right, depending on the machine
        host = best_host(tmp_path / "lenient", unconfined_ok=True)
        assert host.mode == "unconfined"
    else:
        assert host.mode == "confined"
    host.close()
