"""The stand-in runner as a real process against the simulated GitHub on loopback."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.github.tarball import runner_archive
from runner_provisioner.testing.clock import FakeClock

NOBODY = 65534
PATH = "/usr/local/bin:/usr/bin:/bin"
GOOD = ("--unattended", "--ephemeral", "--disableupdate", "--no-default-labels", "--name", "rp-1", "--labels", "x,gpu")


class Runner:
    """One unpacked runner; `config` and `run` start its two programs as an unprivileged user."""

    def __init__(self, sim: GitHubSimulator, url: str, folder: Path) -> None:
        self.sim = sim
        self.url = url
        self.folder = folder
        archive = io.BytesIO(runner_archive(sim.settings.runner_version).content)
        with tarfile.open(fileobj=archive) as tar:
            tar.extractall(folder, filter="data")
        if os.getuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        self.environment = {"PATH": PATH, "HOME": str(folder), "LC_ALL": "C.UTF-8"}
        self.prefix = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        if os.getuid() != 0:
            self.prefix = []

    def token(self, scope: str = "octo/hello") -> str:
        """A fresh registration token."""
        return self.sim.world.credentials.issue_runner_token(scope, "registration").value

    def config(
        self, *arguments: str, token: str | None = None, place: str = "octo/hello", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run config.sh to its end."""
        given = {"ACTIONS_RUNNER_INPUT_TOKEN": self.token() if token is None else token} | environment
        command = [*self.prefix, str(self.folder / "config.sh"), "--url", f"{self.url}/{place}", *arguments]
        return subprocess.run(
            command, env=self.environment | given, capture_output=True, text=True, timeout=30, check=False
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start run.sh."""
        return subprocess.Popen(
            [*self.prefix, str(self.folder / "run.sh"), *arguments],
            env=self.environment | {"RUNNER_MANUALLY_TRAP_SIG": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> str:
        """Run run.sh to its end and give what it printed; it always exits 0."""
        process = self.start(*arguments, **environment)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
        return output


@pytest.fixture
def clock() -> FakeClock:
    """Time of the simulated world; the runner lives in real time."""
    return FakeClock()


@pytest.fixture
def sim(clock: FakeClock) -> GitHubSimulator:
    """A repository and an organisation."""
    sim = GitHubSimulator(clock)
    sim.add_organisation("acme")
    sim.add_repository("octo/hello")
    sim.add_repository("acme/tool")
    sim.add_token("ghp_owner")
    return sim


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that an unprivileged user can reach."""
    with tempfile.TemporaryDirectory(prefix="standin-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def runner(sim: GitHubSimulator, folder: Path) -> Iterator[Runner]:
    """The runner, unpacked but not configured, and its server."""
    with sim.serve() as server:
        place = folder / "runner"
        place.mkdir(mode=0o755)
        yield Runner(sim, server.url, place)


def _until(true: Callable[[], Any], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_job_runs_to_its_end_with_outputs_and_environment(runner: Runner, sim: GitHubSimulator) -> None:
    """Two steps hand on outputs, variables and a path; masks hold; the runner deregisters and says what it did."""
    run_id = sim.queue_run(
        "octo/hello",
        r"""
on: push
env: {COLOUR: blå grøn}
jobs:
  gpu:
    runs-on: [X]
    outputs: {said: "${{ steps.one.outputs.said }}", lines: "${{ steps.one.outputs.lines }}"}
    steps:
      - id: one
        run: |
          echo 'said=hello \ "world" %s' >> "$GITHUB_OUTPUT"
          printf 'lines<<END\n a\n\n\tb\nEND\n' >> "$GITHUB_OUTPUT"
          printf 'WORD<<E\none\ntwo\nE\nPLAIN=x=y\n' >> "$GITHUB_ENV"
          mkdir -p "$RUNNER_TEMP/bin" && echo "$RUNNER_TEMP/bin" >> "$GITHUB_PATH"
          printf '#!/bin/sh\necho from the path\n' > "$RUNNER_TEMP/bin/mine" && chmod +x "$RUNNER_TEMP/bin/mine"
          echo "::add-mask::s3cret%0Asecond"
          echo "# Done" >> "$GITHUB_STEP_SUMMARY"
          echo "::warning file=a.py,line=1::careful"
          printf 'no newline at the end'
      - shell: bash
        working-directory: sub
        if: false
        run: exit 9
      - run: mkdir sub
      - working-directory: sub
        env: {my-odd-name: odd, SAID: "${{ steps.one.outputs.said }}"}
        run: |
          echo "$WORD/$PLAIN/$COLOUR/$SAID"
          mine
          echo "it is s3cret and second"
          env | grep my-odd-name
          echo "$PWD $GITHUB_REPOSITORY $GITHUB_RUN_ID $GITHUB_RUN_ATTEMPT $RUNNER_NAME"
""",
    )
    done = runner.config(*GOOD)
    assert (done.returncode, done.stderr) == (0, "")
    assert "√ Connected to GitHub" in done.stdout
    assert (runner.folder / ".credentials").stat().st_mode & 0o777 == 0o600
    assert [(each.name, each.labels, each.online) for each in sim.runners()] == [("rp-1", ("x", "gpu"), False)]
    output = runner.run()
    for line in ("√ Connected to GitHub", "Listening for Jobs", "Running job: gpu"):
        assert line in output
    assert "Job gpu completed with result: Succeeded" in output
    log = sim.job_log(run_id)
    for line in ('two/x=y/blå grøn/hello \\ "world" %s', "from the path", "it is *** and ***", "my-odd-name=odd"):
        assert line in log
    assert "##[warning]careful" in log
    assert "no newline at the end\n" in log
    assert f"_work/hello/hello/sub octo/hello {run_id} 1 rp-1" in log
    job = sim.job(run_id)
    assert sim.describe_run(run_id)["conclusion"] == "success"
    assert dict(sim.run(run_id).latest.engine.job("gpu").outputs) == {
        "said": 'hello \\ "world" %s',
        "lines": " a\n\n\tb",
    }
    assert job.summary == "# Done"
    assert sim.runners() == []
    assert not (runner.folder / ".runner").exists()
    assert sim.violations == []


@pytest.mark.parametrize(
    ("arguments", "extra", "words"),
    [
        ((*GOOD, "--token", "AAA"), {}, "must not be an argument"),
        ([each for each in GOOD if each != "--unattended"], {}, "--unattended is missing"),
        ([each for each in GOOD if each != "--ephemeral"], {}, "--ephemeral is missing"),
        (GOOD, {"token": "AUNKNOWN"}, "Unauthorized"),
        (GOOD, {"token": ""}, "token"),
        (GOOD, {"place": "acme/tool"}, "NotFound"),
        (GOOD, {"place": "octo/nothing"}, "NotFound"),
        ((*GOOD, "--name", "bad name"), {}, "name"),
        ((*GOOD, "--nonsense"), {}, "Unrecognized"),
        ((*GOOD, "--url", "https://github.test/octo/hello"), {}, "plain http"),
        ((*GOOD, "--labels"), {}, "needs a value"),
    ],
    ids=[
        "token-in-argv",
        "no-unattended",
        "no-ephemeral",
        "unknown-token",
        "no-token",
        "wrong-scope",
        "no-scope",
        "bad-name",
        "unknown-option",
        "https",
        "no-value",
    ],
)
def test_a_bad_configuration_is_refused(
    runner: Runner, sim: GitHubSimulator, arguments: tuple[str, ...], extra: dict[str, Any], words: str
) -> None:
    """Exit code 1, a sentence that names the reason, and nothing registered."""
    done = runner.config(*arguments, **extra)
    assert done.returncode == 1
    assert words in done.stderr
    assert sim.runners() == []
    assert not (runner.folder / ".runner").exists()


def test_an_expired_token_is_refused(runner: Runner, sim: GitHubSimulator, clock: FakeClock) -> None:
    """After an hour a registration token is worth nothing."""
    token = runner.token()
    clock.advance(3600)
    done = runner.config(*GOOD, token=token)
    assert done.returncode == 1
    assert "Unauthorized" in done.stderr


def test_root_is_refused_unless_allowed(runner: Runner, sim: GitHubSimulator) -> None:
    """Both programs refuse, as the real ones do; RUNNER_ALLOW_RUNASROOT overrules."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    runner.prefix = []
    assert "Must not run with sudo" in runner.config(*GOOD).stderr
    process = runner.start()
    assert "Must not run interactively with sudo" in process.communicate(timeout=10)[0]
    assert process.returncode == 1
    assert runner.config(*GOOD, RUNNER_ALLOW_RUNASROOT="1").returncode == 0
    assert len(sim.runners()) == 1


def test_a_name_is_taken_once_and_a_folder_configured_once(runner: Runner, sim: GitHubSimulator, folder: Path) -> None:
    """409 for the name in use; --replace goes through and is noted as a broken rule of the house."""
    sim.play_runner("octo/hello", "rp-1")
    taken = runner.config(*GOOD)
    assert taken.returncode == 1
    assert "A runner exists with the same name rp-1" in taken.stderr
    assert runner.config(*GOOD, "--replace").returncode == 0
    assert sim.violations == ["runner rp-1 was registered with --replace"]
    assert "already configured" in runner.config(*GOOD).stderr


def test_arguments_may_come_from_the_environment_and_default_labels_are_added(
    runner: Runner, sim: GitHubSimulator
) -> None:
    """ACTIONS_RUNNER_INPUT_* fills what argv leaves out; without --no-default-labels there are three more labels."""
    done = runner.config(
        ACTIONS_RUNNER_INPUT_UNATTENDED="true",
        ACTIONS_RUNNER_INPUT_EPHEMERAL="True",
        ACTIONS_RUNNER_INPUT_NAME="from-env",
        ACTIONS_RUNNER_INPUT_LABELS="mine",
    )
    assert done.returncode == 0, done.stderr
    assert [(each.name, each.labels) for each in sim.runners()] == [
        ("from-env", ("self-hosted", "Linux", "X64", "mine"))
    ]


def test_a_runner_of_an_organisation_lands_in_its_group(runner: Runner, sim: GitHubSimulator) -> None:
    """--runnergroup by name; an unknown one is refused."""
    group = sim.add_group("acme", "gpu")
    unknown = runner.config(*GOOD, "--runnergroup", "none", token=runner.token("acme"), place="acme")
    assert unknown.returncode == 1
    done = runner.config(*GOOD, "--runnergroup", "gpu", token=runner.token("acme"), place="acme")
    assert done.returncode == 0, done.stderr
    assert [each.group_id for each in sim.runners("acme")] == [group.id]


def test_a_registration_can_be_removed(runner: Runner, sim: GitHubSimulator) -> None:
    """`config.sh remove` with a remove token forgets the runner on both sides."""
    runner.config(*GOOD)
    token = sim.world.credentials.issue_runner_token("octo/hello", "remove").value
    command = [*runner.prefix, str(runner.folder / "config.sh"), "remove"]
    environment = runner.environment | {"ACTIONS_RUNNER_INPUT_TOKEN": token}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, sim.runners()) == (0, [])
    assert not (runner.folder / ".credentials").exists()


def test_the_hooks_see_the_job_and_a_failing_one_fails_it(runner: Runner, sim: GitHubSimulator, folder: Path) -> None:
    """The first hook decides: when it fails no step runs; the last hook runs in any case."""
    begun, ended = folder / "begun.sh", folder / "ended.sh"
    begun.write_text('echo "hook for $GITHUB_REPOSITORY $GITHUB_RUN_ID"; test "$GITHUB_REPOSITORY" = octo/other\n')
    ended.write_text("echo the last hook\n")
    run_id = sim.queue_job("octo/hello", ["x"], ["echo never"])
    runner.config(*GOOD)
    hooks = {"ACTIONS_RUNNER_HOOK_JOB_STARTED": str(begun), "ACTIONS_RUNNER_HOOK_JOB_COMPLETED": str(ended)}
    assert "completed with result: Failed" in runner.run(**hooks)
    log = sim.job_log(run_id)
    assert f"hook for octo/hello {run_id}" in log
    assert "the last hook" in log
    assert "echo never" not in log
    assert sim.job(run_id).conclusion == "failure"


def test_the_hooks_may_change_the_environment(runner: Runner, sim: GitHubSimulator, folder: Path) -> None:
    """What the first hook writes to GITHUB_ENV the steps see; a failing last hook fails the job."""
    begun, ended = folder / "begun.sh", folder / "ended.sh"
    begun.write_text('echo "FROM_HOOK=seen" >> "$GITHUB_ENV"\n')
    ended.write_text("exit 3\n")
    run_id = sim.queue_job("octo/hello", ["x"], ['echo "it is $FROM_HOOK"'])
    runner.config(*GOOD)
    runner.run(ACTIONS_RUNNER_HOOK_JOB_STARTED=str(begun), ACTIONS_RUNNER_HOOK_JOB_COMPLETED=str(ended))
    assert "it is seen" in sim.job_log(run_id)
    assert sim.job(run_id).conclusion == "failure"


def test_a_signal_during_a_job_ends_it_at_once(runner: Runner, sim: GitHubSimulator) -> None:
    """SIGTERM interrupts the step, the log says why, the job has failed, and the registration goes with the job."""
    run_id = sim.queue_job("octo/hello", ["x"], ["trap 'echo interrupted; exit 1' INT; echo ready; sleep 60 & wait"])
    runner.config(*GOOD)
    process = runner.start()
    _until(lambda: "ready\n" in sim.job_log(run_id))
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=20)[0]
    assert process.returncode == 0
    assert "completed with result: Failed" in output
    log = sim.job_log(run_id)
    assert "The runner has received a shutdown signal" in log
    assert "interrupted" in log
    assert sim.job(run_id).conclusion == "failure"
    assert sim.runners() == []


def test_a_signal_while_waiting_leaves_the_registration(runner: Runner, sim: GitHubSimulator) -> None:
    """The session is closed, the runner is offline, and somebody else has to delete it."""
    runner.config(*GOOD)
    process = runner.start()
    _until(lambda: sim.runners()[0].online)
    process.send_signal(signal.SIGTERM)
    assert "Exiting..." in process.communicate(timeout=20)[0]
    assert process.returncode == 0
    _until(lambda: not sim.runners()[0].online)
    assert len(sim.runners()) == 1


def test_a_killed_runner_keeps_its_job_for_ten_minutes(runner: Runner, sim: GitHubSimulator, clock: FakeClock) -> None:
    """SIGKILL to everything: offline at once, undeletable until the lock has run out, then the job has failed."""
    run_id = sim.queue_job("octo/hello", ["x"], ["echo ready; sleep 60"])
    runner.config(*GOOD)
    process = runner.start()
    _until(lambda: "ready\n" in sim.job_log(run_id))
    _kill_all(runner.folder)
    process.communicate(timeout=10)
    _until(lambda: not sim.runners()[0].online)
    number = sim.runners()[0].id
    address = f"{runner.url}/repos/octo/hello/actions/runners/{number}"
    head = {"authorization": "Bearer ghp_owner"}
    assert httpx.delete(address, headers=head).status_code == 422
    assert sim.run(run_id).latest.status == "in_progress"
    clock.advance(601)
    assert sim.run(run_id).latest.conclusion == "failure"
    assert httpx.delete(address, headers=head).status_code == 204


def _kill_all(folder: Path) -> None:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if str(folder).encode() in words and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


def test_a_rerun_is_refused_while_the_job_runs(runner: Runner, sim: GitHubSimulator, folder: Path) -> None:
    """403 as long as the attempt goes on, 201 afterwards."""
    go = folder / "go"
    run_id = sim.queue_job("octo/hello", ["x"], [f"echo ready; until [ -e {go} ]; do sleep 0.05; done; exit 4"])
    runner.config(*GOOD)
    process = runner.start()
    _until(lambda: "ready\n" in sim.job_log(run_id))
    address = f"{runner.url}/repos/octo/hello/actions/runs/{run_id}/rerun-failed-jobs"
    head = {"authorization": "Bearer ghp_owner"}
    assert httpx.post(address, headers=head).status_code == 403
    go.touch()
    process.communicate(timeout=20)
    assert "Process completed with exit code 4" in sim.job_log(run_id)
    assert httpx.post(address, headers=head).status_code == 201
    assert sim.run(run_id).latest.number == 2


def test_a_runner_waits_for_a_job_with_fitting_labels(runner: Runner, sim: GitHubSimulator) -> None:
    """A job that asks for more is not taken, one that asks for less is."""
    foreign = sim.queue_job("octo/hello", ["x", "gpu", "more"])
    runner.config(*GOOD)
    process = runner.start()
    _until(lambda: sim.runners()[0].online)
    fitting = sim.queue_job("octo/hello", ["GPU"])
    process.communicate(timeout=20)
    assert sim.job(foreign).status == "queued"
    assert sim.job(fitting).conclusion == "success"


def test_a_cancelled_job_stops_its_step_and_runs_what_must_run(runner: Runner, sim: GitHubSimulator) -> None:
    """The step is interrupted, steps with `if: always()` still run, the rest does not."""
    run_id = sim.queue_run(
        "octo/hello",
        """
on: push
jobs:
  gpu:
    runs-on: x
    steps:
      - run: trap 'exit 1' INT; echo ready; sleep 60 & wait
      - run: echo never
      - if: always()
        run: echo at last; sleep 0.5; echo done
""",
    )
    runner.config(*GOOD)
    process = runner.start()
    _until(lambda: "ready\n" in sim.job_log(run_id))
    sim.cancel(run_id)
    assert "completed with result: Canceled" in process.communicate(timeout=20)[0]
    log = sim.job_log(run_id)
    assert "The operation was canceled" in log
    assert "at last\ndone\n" in log
    assert "echo never" not in log
    assert sim.run(run_id).latest.conclusion == "cancelled"


def test_an_attempt_completed_from_outside_ends_the_running_job(runner: Runner, sim: GitHubSimulator) -> None:
    """The live runner is told to stop, hands in its job and goes; listeners have heard each line."""
    heard: list[str] = []
    sim.on_log(lambda _job, line: heard.append(line))
    steps = ["trap 'exit 1' INT; echo ready; sleep 60 & wait", "echo never"]
    run_id = sim.queue_job("octo/hello", ["x"], steps)
    runner.config(*GOOD)
    process = runner.start()
    _until(lambda: "ready" in heard)
    sim.complete_run(run_id, conclusion="failure")
    sim.complete_run(run_id)
    assert sim.run(run_id).latest.conclusion == "failure"
    assert len(sim.runners()) == 1
    process.communicate(timeout=20)
    assert "echo never" not in heard
    assert sim.runners() == []


def test_a_job_out_of_time_is_cancelled(runner: Runner, sim: GitHubSimulator, clock: FakeClock) -> None:
    """The runner is told when the job's `timeout-minutes` are over, and the rest of the steps is left."""
    steps = ["trap 'exit 1' INT; echo ready; sleep 60 & wait", "echo never"]
    run_id = sim.queue_job("octo/hello", ["x"], steps, more={"timeout-minutes": 3})
    runner.config(*GOOD)
    process = runner.start()
    _until(lambda: "ready\n" in sim.job_log(run_id))
    clock.advance(181)
    process.communicate(timeout=20)
    assert sim.job(run_id).conclusion == "cancelled"
    assert "echo never" not in sim.job_log(run_id)


def test_the_listener_keeps_diagnostics(runner: Runner, sim: GitHubSimulator) -> None:
    """`_diag` holds what the listener said and what the job wrote."""
    sim.queue_job("octo/hello", ["x"], ["echo for the worker's log"])
    runner.config(*GOOD)
    runner.run()
    kept = "".join(path.read_text() for path in sorted((runner.folder / "_diag").iterdir()))
    assert "Listening for Jobs" in kept
    assert "for the worker's log" in kept


def test_a_step_that_heeds_no_signal_is_killed(runner: Runner, sim: GitHubSimulator) -> None:
    """SIGINT, 7.5 s, SIGTERM, 2.5 s, SIGKILL: what stays deaf ends then, with everything it has started."""
    run_id = sim.queue_job("octo/hello", ["x"], ["trap '' INT TERM; echo ready; sleep 300"])
    runner.config(*GOOD)
    process = runner.start()
    _until(lambda: "ready\n" in sim.job_log(run_id))
    begin = time.monotonic()
    sim.cancel(run_id)
    process.communicate(timeout=30)
    assert 9 < time.monotonic() - begin < 25
    assert sim.job(run_id).conclusion == "cancelled"


def test_a_step_out_of_time_fails(runner: Runner, sim: GitHubSimulator) -> None:
    """A timeout ends the step; `continue-on-error` and later conditions are the workflow's business."""
    run_id = sim.queue_run(
        "octo/hello",
        """
on: push
jobs:
  gpu:
    runs-on: x
    steps:
      - {run: "trap 'exit 0' INT; sleep 60 & wait", timeout-minutes: 0.02, id: slow}
      - {if: failure(), run: "echo after ${{ steps.slow.outcome }}"}
""",
    )
    runner.config(*GOOD)
    runner.run()
    assert "has timed out" in sim.job_log(run_id)
    assert "after failure" in sim.job_log(run_id)
    assert sim.job(run_id).conclusion == "failure"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("novalue", "Invalid format"),
        ("=x", "Name must not be empty"),
        ("a<<E\nb", "delimiter not found"),
    ],
    ids=["no-equals-sign", "no-name", "no-end"],
)
def test_a_bad_output_file_fails_the_step(runner: Runner, sim: GitHubSimulator, text: str, problem: str) -> None:
    """What cannot be read is an error of the step, as at GitHub."""
    run_id = sim.queue_job("octo/hello", ["x"], [f"printf '%s\\n' '{text}' >> \"$GITHUB_OUTPUT\""])
    runner.config(*GOOD)
    runner.run()
    assert problem in sim.job_log(run_id)
    assert sim.job(run_id).conclusion == "failure"


def test_checkout_copies_the_working_tree(runner: Runner, sim: GitHubSimulator, folder: Path) -> None:
    """What git tracks or would track arrives, what it ignores does not."""
    tree = folder / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "tracked.txt").write_text("tracked")
    (tree / "new.sh").write_text("#!/bin/sh\necho it runs\n")
    (tree / "new.sh").chmod(0o755)
    (tree / "ignored.log").write_text("no")
    (tree / ".gitignore").write_text("*.log\n")
    (tree / "inside").symlink_to("new.sh")
    (tree / "outside").symlink_to("/etc/passwd")
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    sim.world.repository("octo/hello").workspace = tree
    run_id = sim.queue_run(
        "octo/hello",
        "{on: push, jobs: {gpu: {runs-on: x, steps: [{uses: actions/checkout@v4}, {run: 'ls -A . sub; ./new.sh'}]}}}",
    )
    runner.config(*GOOD)
    runner.run()
    log = sim.job_log(run_id)
    assert "it runs" in log
    assert "tracked.txt" in log
    assert "inside" in log
    for name in ("ignored.log", "outside", ".git\n"):
        assert name not in log


def test_checkout_without_a_tree_fails_the_step(runner: Runner, sim: GitHubSimulator) -> None:
    """The log says what is missing."""
    run_id = sim.queue_run("octo/hello", "{on: push, jobs: {gpu: {runs-on: x, steps: [{uses: actions/checkout@v4}]}}}")
    runner.config(*GOOD)
    runner.run()
    assert "added without a folder" in sim.job_log(run_id)
    assert sim.job(run_id).conclusion == "failure"


def test_a_jit_configuration_runs_a_job(runner: Runner, sim: GitHubSimulator) -> None:
    """From the environment, without config.sh."""
    run_id = sim.queue_job("octo/hello", ["x"], ["echo by jit"])
    body = {"name": "jit", "runner_group_id": 1, "labels": ["x"], "work_folder": "w"}
    address = f"{runner.url}/repos/octo/hello/actions/runners/generate-jitconfig"
    made = httpx.post(address, json=body, headers={"authorization": "Bearer ghp_owner"}).json()
    runner.run(ACTIONS_RUNNER_INPUT_JITCONFIG=made["encoded_jit_config"])
    assert "by jit" in sim.job_log(run_id)
    assert sim.runners() == []


def test_what_cannot_run_says_why(runner: Runner, sim: GitHubSimulator) -> None:
    """Not configured, no JIT configuration, a token in argv, a runner that was deleted, a session that exists."""
    assert "Not configured" in runner.run()
    assert "cannot be read" in runner.run("--jitconfig", "nonsense")
    assert "must not be an argument" in runner.run("--token", "x")
    runner.config(*GOOD)
    first = runner.start()
    _until(lambda: sim.runners()[0].online)
    assert "Session Conflict" in runner.run()
    sim.world.remove_runner(sim.runners()[0])
    assert "no longer exists" in first.communicate(timeout=10)[0]
    assert "no longer exists" in runner.run()


def test_a_lost_answer_is_asked_for_again(runner: Runner, sim: GitHubSimulator) -> None:
    """A step is not run twice because the server's answer was lost."""
    run_id = sim.queue_job("octo/hello", ["x"], ["echo once", "echo twice"])
    runner.config(*GOOD)
    sim.order(Fault(operation="_runner.next", kind=FaultKind.DROP_AFTER, skip=1))
    sim.order(Fault(operation="_runner.complete", kind=FaultKind.DROP_AFTER))
    assert "completed with result: Succeeded" in runner.run()
    log = sim.job_log(run_id).splitlines()
    assert (log.count("once"), log.count("twice")) == (1, 1)
    assert sim.job(run_id).conclusion == "success"


def test_the_environment_file_of_the_folder_is_read(runner: Runner, sim: GitHubSimulator) -> None:
    """`.env` and `.path` in the runner's folder reach the job; input variables do not."""
    run_id = sim.queue_job("octo/hello", ["x"], ['echo "$FROM_FILE ${ACTIONS_RUNNER_INPUT_X:-removed} $PATH"'])
    runner.config(*GOOD)
    (runner.folder / ".env").write_text("FROM_FILE=a b\nnot a variable\n")
    (runner.folder / ".path").write_text(f"/opt/special:{PATH}\n")
    runner.run(ACTIONS_RUNNER_INPUT_X="here", ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT="1")
    assert "a b removed /opt/special:" in sim.job_log(run_id)
