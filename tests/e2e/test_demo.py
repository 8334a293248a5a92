"""`demo` and `simulate` as a user calls them: real processes, real loopback servers, a job that really runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = next(path for path in map(Path, sys.path) if path.name == "site-packages" and path.is_dir())
LONG = """
on: push
jobs:
  start:
    runs-on: ubuntu-latest
    outputs: {label: "${{ steps.rent.outputs.label }}"}
    steps: [{id: rent, run: runner-provisioner start}]
  gpu:
    needs: start
    runs-on: ${{ needs.start.outputs.label }}
    steps: [{run: "echo begun; sleep 60"}]
"""


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """A clean environment with planted credentials, that nothing may find; what is temporary goes to `tmp_path`."""
    temporary = tmp_path / "t"
    temporary.mkdir(exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    planted = {"RUNPOD_API_KEY": "planted-runpod", "GITHUB_TOKEN": "planted-github", "GH_TOKEN": "planted-gh"}
    return {**kept, **planted, "TMPDIR": str(temporary), "HOME": str(tmp_path), **more}


def demo(*arguments: str, tmp_path: Path, prefix: Sequence[str] = (), **more: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, from the project's folder."""
    command = [*prefix, sys.executable, "-m", "runner_provisioner", "demo", *arguments]
    env = environment(tmp_path, **more)
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=90, check=False)


def processes_of(pod_id: str, folder: Path) -> list[str]:
    """Processes that belong to a pod: by its id in their environment, or by a mount that uses the folder."""
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            mine = f"RUNPOD_POD_ID={pod_id}".encode() in (process / "environ").read_bytes()
            if mine or str(folder) in (process / "mountinfo").read_text():
                found.append(process.name)
        except OSError:
            continue
    return found


def left_in(folder: Path) -> list[str]:
    """What a demo has left of its temporary files."""
    return [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]


def check_table(output: str, mode: str, *, rented: str = "rented NVIDIA RTX A5000") -> None:
    """Every line that the table promises."""
    for what in (
        "start called",
        rented,
        "container started",
        "runner online",
        "start done",
        "job started",
        "job ended: success",
        "stop called",
        "pod gone",
        "stop done",
        "runner gone",
    ):
        assert re.search(rf"^ +\d+\.\d\d s  {re.escape(what)}", output, re.MULTILINE), what
    assert re.search(r"^job train +success$", output, re.MULTILINE)
    assert re.search(r"^cost +0\.00\d+ USD for \d+ s of GPU", output, re.MULTILINE)
    assert re.search(r"^pods left +0$", output, re.MULTILINE)
    assert re.search(r"^runners left +0$", output, re.MULTILINE)
    assert re.search(rf"^pod mode +{mode}", output, re.MULTILINE)
    assert "outside GitHub's schema" not in output


def check_workspace_is_gone(output: str) -> None:
    """The job's folder was on this machine, and is no longer."""
    workspace = re.search(r"GITHUB_WORKSPACE=(\S+)", output)
    assert workspace
    pod = next(path for path in Path(workspace[1]).parents if path.name.startswith("runner-provisioner-"))
    assert not pod.exists()


def test_the_example_runs_and_nothing_is_left(tmp_path: Path) -> None:
    """The job's real output, the table, no pod, no runner, no file, no process; and no inherited credential."""
    done = demo(tmp_path=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " train | Hello from rp-" in done.stdout
    assert " train | GREETING=Hello" in done.stdout
    assert re.search(r"train \| the working tree has \d{2,} files", done.stdout)
    assert " train | Makefile" in done.stdout
    assert " train | trained to a loss of 0.168" in done.stdout
    assert "something above went wrong" not in done.stdout
    check_table(done.stdout, "(un)?confined")
    assert "planted" not in done.stdout + done.stderr
    assert left_in(tmp_path / "t") == []
    pod_id = re.search(r"pod-id: (\S+)", done.stdout)
    assert pod_id
    assert processes_of(pod_id[1], tmp_path) == []


@pytest.mark.full
@pytest.mark.parametrize(
    ("markets", "told"),
    [
        pytest.param(("runpod-rest",), "rented NVIDIA RTX A5000 on demand", id="RunPod without GraphQL"),
        pytest.param(("celium",), "rented NVIDIA RTX A4000 spot", id="Lium"),
        pytest.param(("prime",), "rented RTXA4000_16GB spot", id="Prime Intellect"),
        pytest.param(("runpod", "celium"), "rented NVIDIA RTX A4000 spot at 0.06 USD per hour from celium", id="two"),
    ],
)
def test_the_example_runs_at_every_market(
    tmp_path: Path, markets: tuple[str, ...], told: str, request: pytest.FixtureRequest
) -> None:
    """As `make demo PROVIDER=...` has it: the same job, and nothing left."""
    if "prime" in markets:
        request.getfixturevalue("confined")
    done = demo(*(word for name in markets for word in ("--provider", name)), tmp_path=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " train | trained to a loss of 0.168" in done.stdout
    check_table(done.stdout, "(un)?confined", rented=told)
    assert "planted" not in done.stdout + done.stderr
    assert left_in(tmp_path / "t") == []


@pytest.mark.full
def test_a_market_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """In one line that names it and those there are, as bad input; so are both names of RunPod at once."""
    done = demo("--provider", "lium", tmp_path=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "'lium' is not one of 'runpod', 'runpod-rest', 'prime', 'celium'" in done.stderr
    done = demo("--provider", "runpod", "--provider", "runpod-rest", tmp_path=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: runpod and runpod-rest are one provider: choose one of them\n"


@pytest.mark.full
@pytest.mark.root
def test_without_sys_admin_the_example_runs_unconfined(tmp_path: Path) -> None:
    """As root without the right to make namespaces the table is the same, and names the mode."""
    if shutil.which("capsh") is None or os.geteuid() != 0:
        pytest.skip("needs root and capsh")
    tmp_path.chmod(0o755)
    script = f"exec {sys.executable} -m runner_provisioner demo"
    command = ["capsh", "--drop=cap_sys_admin", "--", "-c", script]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check_table(done.stdout, "unconfined: pods run unconfined and without sshd")
    assert "I am root" not in done.stdout
    check_workspace_is_gone(done.stdout)
    assert left_in(tmp_path / "t") == []


@pytest.mark.full
@pytest.mark.root
def test_an_ordinary_user_gets_the_same_table(tmp_path: Path) -> None:
    """Without namespaces and without root."""
    python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    if os.geteuid() != 0 or python is None or shutil.which("setpriv") is None:
        pytest.skip("needs root to become another user, and a Python that everybody may run")
    home = Path("/var/tmp") / f"demo-{os.getpid()}"  # noqa: S108 - pytest's own folders are closed to others
    home.mkdir()
    shutil.chown(home, 65534, 65534)
    try:
        command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", python]
        env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
        env["PYTHONPATH"] = f"{ROOT}:{SITE}"
        command += ["-m", "runner_provisioner", "demo"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=90, check=False)
        if "Permission denied" in done.stderr:
            pytest.skip("the checkout cannot be read by others")
        assert done.returncode == 0, done.stdout + done.stderr
        check_table(done.stdout, "unconfined: pods run unconfined and without sshd")
        check_workspace_is_gone(done.stdout)
        assert left_in(home) == []
    finally:
        shutil.rmtree(home)


@pytest.mark.full
@pytest.mark.root
def test_a_foreign_workflow_is_not_run_unconfined_unless_allowed(tmp_path: Path) -> None:
    """One line says what to do; with --unconfined it runs."""
    if shutil.which("capsh") is None or os.geteuid() != 0:
        pytest.skip("needs root and capsh")
    workflow = tmp_path / "foreign.yml"
    workflow.write_text(LONG.replace("echo begun; sleep 60", "id -u"), encoding="utf-8")
    for option, code in (("", 2), ("--unconfined", 0)):
        script = f"exec {sys.executable} -m runner_provisioner demo {option} {workflow}"
        command = ["capsh", "--drop=cap_sys_admin", "--", "-c", script]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert ("pass --unconfined" in done.stderr) is (code == 2)
        assert "Traceback" not in done.stderr


@pytest.mark.full
def test_the_result_as_json(tmp_path: Path) -> None:
    """Data on stdout, the job's output on stderr; a failed job has an exit code of its own."""
    workflow = tmp_path / "workflow.yml"
    workflow.write_text(LONG.replace("echo begun; sleep 60", "echo begun; exit 3"), encoding="utf-8")
    done = demo("--json", "--unconfined", str(workflow), tmp_path=tmp_path)
    assert done.returncode == 50, done.stderr
    result = json.loads(done.stdout)
    assert result["jobs"] == {"gpu": "failure"}
    assert result["pods_left"] == result["runners_left"] == result["violations"] == []
    assert result["exit_code"] == 50
    assert "gpu | begun" in done.stderr


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("| head -n 1", id="reader gone"),
        pytest.param("> /dev/full", id="disk full", marks=pytest.mark.full),
        pytest.param(">&-", id="closed", marks=pytest.mark.full),
    ],
)
def test_output_that_is_lost_ends_the_demo(tmp_path: Path, target: str) -> None:
    """With the exit code of every other command, in one line, and nothing is left."""
    workflow = tmp_path / "long.yml"
    workflow.write_text(LONG, encoding="utf-8")
    script = f"set -o pipefail; {sys.executable} -m runner_provisioner demo --unconfined {workflow} {target}"
    env = environment(tmp_path)
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=40, check=False
    )
    assert done.returncode == 74, done.stderr
    assert done.stderr.startswith("error: standard output ")
    assert len(done.stderr.splitlines()) == 1
    assert left_in(tmp_path / "t") == []


@pytest.mark.full
def test_a_checkout_in_the_home_folder_is_refused(tmp_path: Path) -> None:
    """Before anything is started, with what to do."""
    command = [sys.executable, "-m", "runner_provisioner", "demo"]
    env = environment(tmp_path)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "job 'train' uses actions/checkout" in done.stderr


@pytest.mark.full
def test_the_workflows_own_options_are_played(tmp_path: Path) -> None:
    """A price that no offer has ends as it would with the real service; the missing stop is warned of."""
    workflow = tmp_path / "workflow.yml"
    text = LONG.replace("run: runner-provisioner start", "run: exec runner-provisioner start --max-price 0.01")
    workflow.write_text(text, encoding="utf-8")
    done = demo("--json", "--unconfined", str(workflow), tmp_path=tmp_path)
    assert done.returncode == 25, done.stderr
    result = json.loads(done.stdout)
    assert result["exit_code"] == 25
    assert any("is stopped nowhere" in warning for warning in result["warnings"])


def test_an_unplayable_workflow_is_refused_by_name(tmp_path: Path) -> None:
    """In one line, before anything is started."""
    workflow = tmp_path / "workflow.yml"
    text = LONG.replace('{run: "echo begun; sleep 60"}', "{run: ls}, {name: Cache, uses: actions/cache@v4}")
    workflow.write_text(text, encoding="utf-8")
    done = demo(str(workflow), tmp_path=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "job 'gpu', step 'Cache': 'uses: actions/cache@v4' is not supported" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@contextmanager
def running(*arguments: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The program in the background; it is dead afterwards."""
    command = [sys.executable, "-m", "runner_provisioner", *arguments]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(tmp_path, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """The output up to a line with the text."""
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    pytest.fail(f"it ended without {text!r}: {seen}")


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(signal.SIGINT, "rented pod", id="Ctrl-C during start"),
        pytest.param(signal.SIGTERM, "gpu | begun", id="SIGTERM during the job", marks=pytest.mark.full),
        pytest.param(signal.SIGTERM, "rented pod", id="SIGTERM during start", marks=pytest.mark.full),
        pytest.param(signal.SIGINT, "gpu | begun", id="Ctrl-C during the job", marks=pytest.mark.full),
    ],
)
def test_a_signal_takes_everything_away(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    """Whenever it comes: no process, no mount, no file is left, and the exit code tells."""
    workflow = tmp_path / "long.yml"
    workflow.write_text(LONG, encoding="utf-8")
    with running("demo", "--unconfined", str(workflow), tmp_path=tmp_path) as process:
        seen = read_until(process, moment)
        begun = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=40)
        assert time.monotonic() - begun < 25
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    pod_id = re.search(r"rented pod (\S+)", seen)
    assert pod_id
    assert processes_of(pod_id[1], tmp_path) == []
    assert left_in(tmp_path / "t") == []


def test_simulate_prints_an_environment_in_which_start_and_stop_work(tmp_path: Path) -> None:
    """From another process, until a signal ends it; the key is gone with it."""
    with running("simulate", "--json", "--boot-seconds", "0.2", "--unconfined", tmp_path=tmp_path) as process:
        simulated: dict[str, str] = json.loads(read_until(process, "}"))
        key = Path(simulated["GITHUB_APP_PRIVATE_KEY_PATH"])
        assert key.stat().st_mode & 0o777 == 0o600
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **simulated}
        command = [sys.executable, "-m", "runner_provisioner"]
        as_root = os.geteuid() == 0
        options = () if as_root else ("--run-as", "same")
        started = subprocess.run(
            [*command, "start", "--json", *options],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert started.returncode == 0, started.stderr
        run_id = json.loads(started.stdout)["run-id"]
        stopped = subprocess.run(
            [*command, "stop", "--run-id", run_id],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert stopped.returncode == 0, stopped.stderr
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert not key.exists()
    assert left_in(tmp_path / "t") == []
