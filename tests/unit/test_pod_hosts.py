"""The parts of the pod hosts that need no namespaces: contracts, image files, veils, filters, the line protocol."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from runner_provisioner.errors import ConfigurationError
from runner_provisioner.simulators.pods import image, probe, process, seccomp, supervisor, unconfined, veil
from runner_provisioner.simulators.pods.confined import ConfinedHost, plain, search_path, split_off
from runner_provisioner.simulators.pods.host import (
    Ending,
    Image,
    InertHost,
    Launch,
    PodHost,
    PodsUnavailable,
    best_host,
    loopback_address,
)
from runner_provisioner.simulators.pods.unconfined import UnconfinedHost

PROJECT = Path(__file__).resolve().parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or uses Linux calls")


def launch(tmp_path: Path, *argv: str, ssh_port: int | None = None) -> Launch:
    """A launch of this command."""
    return Launch(
        pod_id="p", image=Image(name="x"), argv=argv, env={"A": "secret"}, log=tmp_path / "log", ssh_port=ssh_port
    )


# The contracts ------------------------------------------------------------------------------------------------------


async def test_an_ending_wakes_waiters_of_other_threads_and_loops() -> None:
    """A pod started in the simulator's thread is waited for in a test's."""
    ending = Ending()
    results: list[int] = []
    waiter = threading.Thread(target=lambda: results.append(asyncio.run(ending.wait())))
    waiter.start()
    async with anyio.create_task_group() as group:
        group.start_soon(ending.wait)
        await anyio.sleep(0.02)
        assert not ending.told()
        ending.tell(5)
    ending.tell(6)
    await anyio.to_thread.run_sync(waiter.join)
    assert results == [5]
    assert await ending.wait() == 5
    assert ending.join(0)


async def test_an_ending_survives_waiters_that_gave_up() -> None:
    """A cancelled waiter and a loop that was closed are nobody's problem."""
    ending = Ending()
    with anyio.move_on_after(0.001):
        await ending.wait()

    async def abandon() -> None:
        task = asyncio.create_task(ending.wait())
        await asyncio.sleep(0)
        abandoned.append(task)

    abandoned: list[asyncio.Task[int]] = []
    loop = asyncio.new_event_loop()
    await anyio.to_thread.run_sync(loop.run_until_complete, abandon())
    await anyio.to_thread.run_sync(loop.close)
    ending.tell(0)
    assert await ending.wait() == 0
    assert not ending._waiters
    # Ending the abandoned task by hand keeps it from complaining when it is collected.
    abandoned[0]._log_destroy_pending = False  # type: ignore[attr-defined]


async def test_an_ending_told_twice_at_once_leaves_a_resolved_waiter_alone() -> None:
    """A waiter that was cancelled in the same round of its loop is not resolved again."""
    ending = Ending()
    task = asyncio.create_task(ending.wait())
    await asyncio.sleep(0)
    ending.tell(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("port", "ssh_port", "expected"),
    [(22, None, None), (22, 2222, ("127.0.0.1", 2222)), (8888, None, ("127.0.0.1", 8888))],
    ids=["no-ssh", "moved", "shared"],
)
def test_ports_answer_on_the_shared_loopback(port: int, ssh_port: int | None, expected: tuple[str, int] | None) -> None:
    """Only 22 is moved."""
    assert loopback_address(port, ssh_port) == expected


async def test_inert_pods_end_when_they_are_told_to(tmp_path: Path) -> None:
    """By stop, by kill, by finish, and all of them by close."""
    host = InertHost()
    by_stop, by_kill, by_finish, by_close = [await host.launch(launch(tmp_path, ssh_port=22022)) for _ in range(4)]
    assert by_stop.running()
    assert by_stop.address(22) == ("127.0.0.1", 22022)
    await by_stop.stop()
    await by_kill.kill()
    by_finish.finish(3)
    host.discard("p")
    host.close()
    assert [await one.wait() for one in (by_stop, by_kill, by_finish, by_close)] == [143, 137, 3, 137]
    assert not by_stop.running()


def test_every_host_keeps_the_contract(tmp_path: Path) -> None:
    """Checked by the type checker; here only that they can be built and closed."""
    hosts: list[PodHost] = [InertHost(), UnconfinedHost(tmp_path / "u")]
    for host in hosts:
        host.close()


def test_environment_values_stay_out_of_the_repr(tmp_path: Path) -> None:
    """A launch in a log line or a traceback shows no secret."""
    assert "secret" not in repr(launch(tmp_path))


# Choosing a host ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "uid", "machine", "reason"),
    [
        ("darwin", 0, "arm64", "only Linux"),
        ("linux", 1000, "x86_64", "not root"),
        ("linux", 0, "riscv64", "riscv64"),
        ("linux", 0, "aarch64", ""),
    ],
    ids=["macos", "user", "architecture", "fit"],
)
def test_what_a_machine_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, platform: str, uid: int, machine: str, reason: str
) -> None:
    """Before anything is tried."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("", "", "", "", machine)))
    assert reason in probe.unfit()
    assert bool(reason) == bool(probe.unfit())


def test_without_confinement_it_takes_leave_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An error of the configuration's class that says what to do; with leave a host that says why."""
    monkeypatch.setattr(probe, "unfit", lambda: "not root")
    with pytest.raises(PodsUnavailable, match="--unconfined") as caught:
        best_host(tmp_path, unconfined_ok=False)
    assert isinstance(caught.value, ConfigurationError)
    host = best_host(tmp_path, unconfined_ok=True)
    assert (host.mode, host.offers_ssh) == ("unconfined", False)
    assert "not root" in host.note
    host.close()


class Probed:
    """A confined host that only remembers how it was made."""

    def __init__(self, scratch: Path, *, in_memory: bool, conceal: object) -> None:
        self.in_memory = in_memory
        self.conceal = conceal

    def close(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize("works_in_memory", [True, False], ids=["memory", "neither"])
def test_where_the_disk_takes_no_overlay_memory_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, works_in_memory: bool
) -> None:
    """The second attempt counts; when both fail, the last reason is told."""
    monkeypatch.setattr(probe, "unfit", lambda: "")
    monkeypatch.setattr(probe, "ConfinedHost", Probed)
    monkeypatch.setattr(
        probe, "attempt", lambda host: "" if host.in_memory and works_in_memory else f"no overlay {host.in_memory}"
    )
    if works_in_memory:
        chosen = probe.choose(tmp_path, unconfined_ok=False, conceal=[PROJECT])
        assert isinstance(chosen, Probed)
        assert chosen.conceal == [PROJECT]
        return
    with pytest.raises(PodsUnavailable, match="no overlay True"):
        probe.choose(tmp_path, unconfined_ok=False)


class Scripted:
    """A host whose pods end with this status, or cannot be started."""

    def __init__(self, outcome: int | Exception) -> None:
        self.outcome = outcome

    async def launch(self, _launch: Launch) -> Scripted:
        """Start or fail."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self

    async def wait(self) -> int:
        """The status."""
        assert isinstance(self.outcome, int)
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(0, ""), (3, "ended with 3"), (PodsUnavailable("mount refused"), "mount refused"), (TimeoutError(), "in time")],
    ids=["works", "status", "refused", "late"],
)
async def test_the_probe_tells_how_its_pod_ended(outcome: int | Exception, reason: str) -> None:
    """From a running event loop, too."""
    told = probe.attempt(Scripted(outcome))  # type: ignore[arg-type]
    assert reason in told
    assert bool(told) == bool(reason)


# Files of the image -------------------------------------------------------------------------------------------------


def smi_launch(gpu: str, count: int) -> Launch:
    """A launch with these GPUs."""
    return Launch(
        pod_id="pod", image=Image(name="any"), argv=("true",), env={}, log=Path("log"), gpu=gpu, gpu_count=count
    )


@pytest.mark.parametrize(
    "text",
    [
        image.start_sh("/usr/sbin/sshd"),
        image.UNCONFINED_START_SH,
        image.SIM_INIT,
        image.nvidia_smi(smi_launch("NVIDIA RTX A4000", 2)),
    ],
    ids=["start.sh", "unconfined-start.sh", "sim-init", "nvidia-smi"],
)
def test_scripts_of_the_image_are_sound(text: str) -> None:
    """As shellcheck sees it."""
    program = Path(sys.executable).with_name("shellcheck")
    if not program.exists():
        pytest.skip("shellcheck is not installed")
    result = subprocess.run([program, "-s", "bash", "-"], input=text, capture_output=True, text=True, check=False)
    assert result.stdout == ""


def run_script(text: str, *arguments: str) -> str:
    """What the script prints."""
    command = ["bash", "-s", "--", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def test_the_gpu_tool_answers_queries_field_by_field() -> None:
    """With header and units unless they are asked away; what it does not know it says."""
    text = image.nvidia_smi(smi_launch("it's a GPU", 1))
    query = "--query-gpu=index,uuid,count,driver_version,memory.used,temperature.gpu,fan.speed"
    header, line = run_script(text, query, "--format=csv").splitlines()
    assert header == "index, uuid, count, driver_version, memory.used, temperature.gpu, fan.speed"
    assert line == "0, GPU-simulated-0, 1, 550.54.15, 0 MiB, 30, [Not Supported]"
    assert run_script(text, "--query-gpu=name", "--format=csv,noheader") == "its a GPU\n"
    assert "CUDA Version: 12.4 " in run_script(text)


def test_sshd_listens_on_loopback_or_on_nothing() -> None:
    """Never on the host's port 22."""
    assert "Port 2022\nListenAddress 127.0.0.1\n" in image.sshd_config(2022)
    assert "ListenAddress 192.0.2.1\n" in image.sshd_config(None)


def test_shadow_is_copied_without_hashes_and_passwd_with_a_usual_root() -> None:
    """Accounts stay known, nobody's password is."""
    assert image.blank_hashes("root:$y$j9T$x:1:0:9:7:::\nd:!:1::::::\nbroken\n") == "root:*:1:0:9:7:::\nd:*:1::::::\n"
    text = image.container_passwd("root:x:0:0::/elsewhere:/bin/fish\nu:x:1:1::/home/u:/bin/sh\n\n")
    assert text == "root:x:0:0:root:/root:/bin/bash\nu:x:1:1::/home/u:/bin/sh\n"


# What a pod must not see --------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A small machine."""
    root = tmp_path / "machine"
    for folder in [
        "etc/ssh",
        "etc/ssl/private",
        "etc/docker",
        "etc/ssl/certs",
        "var/lib/docker/overlay2",
        "var/lib/app",
        "home/me",
        "root",
        "work/project",
        "usr/bin",
        "opt/tool",
        "opt/team/checkout",
        "var/lib/pg",
        "tmp/scratch",
        "run",
        "var/tmp",
        "etc/sudoers.d",
        "etc/a/b/c/d/e/f",
    ]:
        (root / folder).mkdir(parents=True)
    for file, mode in {
        "etc/passwd": 0o644,
        "etc/shadow": 0o640,
        "etc/shadow-": 0o640,
        "etc/ssh/ssh_host_rsa_key": 0o600,
        "etc/ssh/ssh_host_rsa_key.pub": 0o644,
        "etc/app.secret": 0o640,
        "etc/app.conf": 0o644,
        "etc/ssl/private/key": 0o600,
        "var/lib/app/token": 0o600,
        "swapfile": 0o600,
        "readme": 0o644,
        "etc/a/b/c/d/e/f/deep": 0o600,
    }.items():
        (root / file).touch()
        (root / file).chmod(mode)
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\npg:x:5:5::/var/lib/pg:/bin/sh\nd:x:1:1::/usr/sbin:/bin/sh\nbroken\nx:x:1:1::rel:/x\n"
    )
    (root / "opt/tool").chmod(0o700)
    (root / "bin").symlink_to("usr/bin")
    (root / "data").symlink_to("work")
    return root


def test_a_veil_covers_what_is_unusual_credential_or_closed(machine: Path) -> None:
    """Folders are covered by empty ones, files are taken away, the rest stays."""
    seen = veil.survey([Path("/opt/team"), Path("/tmp/scratch"), Path("/"), Path("/missing")], machine)  # noqa: S108
    assert seen.folders == (
        "/etc/docker",
        "/etc/ssl/private",
        "/home",
        "/opt/team",
        "/opt/tool",
        "/root",
        "/var/lib/docker",
        "/var/lib/pg",
        "/var/tmp",  # noqa: S108 - a folder that every machine has
        "/work",
    )
    assert seen.files == (
        "/etc/app.secret",
        "/etc/shadow-",
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/ssh/ssh_host_rsa_key.pub",
        "/swapfile",
        "/var/lib/app/token",
    )


def test_a_machine_without_accounts_can_be_surveyed(machine: Path) -> None:
    """A missing passwd names no home."""
    (machine / "etc/passwd").unlink()
    assert "/var/lib/pg" not in veil.survey([], machine).folders


def test_files_that_vanish_meanwhile_are_no_obstacle(tmp_path: Path) -> None:
    """A file removed between the listing and the look."""
    assert veil._open_to_all(tmp_path / "gone", 0o4)


@pytest.mark.parametrize(
    ("project", "expected"),
    [
        ("/srv/main", ["/srv"]),
        ("/repo", ["/repo"]),
        ("/opt/repo", ["/opt/repo"]),
        ("/opt/team/repo", ["/opt/team"]),
        ("/usr/lib/python3/dist-packages", []),
    ],
    ids=["own-folder", "top", "shared-folder", "nested", "installed"],
)
def test_the_folder_that_holds_the_checkout_is_hidden(project: str, expected: list[str]) -> None:
    """With its neighbours, unless the system lives there too."""
    assert [str(path) for path in veil.project_folders(Path(project))] == expected


def test_parts_that_are_mounts_of_their_own_are_brought_along() -> None:
    """Only those that pods need, parents first."""
    lines = [f"1 2 8:1 / {point} rw - ext4 /dev/x rw" for point in ("/", "/var/lib", "/usr", "/mnt/data", "/home")]
    assert split_off("\n".join([*lines, ""])) == ["/usr", "/var/lib"]


def test_pod_ids_become_names() -> None:
    """Whatever a provider calls its pods."""
    assert plain("abc/../x y") == "abc----x-y"
    assert plain("") == "pod"


def test_tools_that_live_elsewhere_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Behind the usual folders, by where they really are."""
    tool = tmp_path / "store/bash"
    tool.parent.mkdir()
    tool.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    path = search_path().split(":")
    assert path[:2] == ["/usr/local/sbin", "/usr/local/bin"]
    assert path[-1] == os.path.realpath(tool.parent)


# The system call filter ---------------------------------------------------------------------------------------------


def verdict(machine: str, architecture: int, number: int, argument: int = 0) -> int:
    """What the filter returns, by running it."""
    data = {seccomp.NUMBER: number, seccomp.ARCHITECTURE: architecture, seccomp.FIRST_ARGUMENT: argument}
    lines = seccomp.program(machine)
    accumulator = position = 0
    while True:
        code, yes, no, constant = lines[position]
        position += 1
        if code == seccomp.RETURN:
            return constant
        if code == seccomp.LOAD:
            accumulator = data[constant]
            continue
        tests = {
            seccomp.EQUAL: accumulator == constant,
            seccomp.AT_LEAST: accumulator >= constant,
            seccomp.ANY_BIT: bool(accumulator & constant),
        }
        position += yes if tests[code] else no


REFUSED = seccomp.ERROR | errno.EPERM
UNKNOWN = seccomp.ERROR | errno.ENOSYS


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_refuses_namespaces_and_mounts_and_lets_the_rest_pass(machine: str) -> None:
    """Every listed call; clone only with a namespace flag; another architecture's calls never."""
    native = seccomp.ARCHITECTURES[machine]
    column = list(seccomp.ARCHITECTURES).index(machine)
    for numbers in seccomp.REFUSED.values():
        assert verdict(machine, native, numbers[column]) == REFUSED
    clone = seccomp.CLONE[column]
    assert verdict(machine, native, clone, signal.SIGCHLD) == seccomp.ALLOW
    assert verdict(machine, native, clone, signal.SIGCHLD | 0x10000000) == REFUSED
    assert verdict(machine, native, seccomp.CLONE3) == UNKNOWN
    assert verdict(machine, native, 0) == seccomp.ALLOW
    assert verdict(machine, native, 0x40000000 | 165) == UNKNOWN
    assert verdict(machine, 0x40000003, 0) == seccomp.KILL
    assert len(seccomp.program(machine)) < 4096


def test_an_unknown_machine_has_no_filter() -> None:
    """So nothing runs there that believes itself confined."""
    with pytest.raises(KeyError):
        seccomp.program("riscv64")


@LINUX
def test_calls_that_the_library_lacks_report_what_was_refused() -> None:
    """In a process of its own, which gives up everything and is refused a mount."""
    script = """
import os
from runner_provisioner.simulators.pods import seccomp, syscalls as s
s.prctl(s.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install()
s.keep_capabilities(frozenset())
for call in (
    lambda: s.mount("none", "/mnt", "tmpfs", s.MS_NODEV, "size=1k"), lambda: s.detach("/mnt"),
    lambda: s.unshare(s.CLONE_NEWNS), lambda: s.pivot_root("/", "/"), lambda: s.rejoin(0, 0),
    lambda: s.bound_capabilities(frozenset()),
):
    try:
        call()
        print("done")
    except OSError as error:
        print(error.errno)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["1"] * 6


# The line protocol, with supervisors started by hand -----------------------------------------------------------------


class Dictated:
    """A supervisor under a plain Python, and the host's end of its socket."""

    def __init__(self, module: str, order: dict[str, object]) -> None:
        self.socket, theirs = socket.socketpair()
        script = f"import sys; from runner_provisioner.simulators.pods import {module} as m; m.main(int(sys.argv[1]))"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", script, str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        self.socket.sendall(json.dumps(order).encode() + b"\n")
        self._lines = self.socket.makefile("r")

    def line(self) -> str:
        """What it says next; empty at the end."""
        return self._lines.readline().strip()

    def close(self) -> int:
        """Leave it; its exit status."""
        self._lines.close()
        self.socket.close()
        return self.process.wait(10)


def an_order(tmp_path: Path, script: str) -> dict[str, object]:
    """A pod that runs this script unconfined as the same account."""
    folder = tmp_path / "pod"
    folder.mkdir()
    argv = ["bash", "-c", script]
    return {
        "folder": str(folder),
        "home": str(folder / "home"),
        "log": str(tmp_path / "log"),
        "argv": argv,
        "env": {"PATH": os.environ["PATH"]},
        "uid": None,
        "gid": None,
    }


@LINUX
def test_a_supervisor_tells_start_and_end_and_keeps_the_output(tmp_path: Path) -> None:
    """`up PID`, then `ended STATUS`; the disk stays for a restart when nobody told it to end."""
    pod = Dictated("tether", an_order(tmp_path, "setsid -f sleep 60; seq 30000; exit 4"))
    assert pod.line().startswith("up ")
    assert pod.line() == "ended 4"
    assert (tmp_path / "pod").exists()
    assert (tmp_path / "log").read_text().splitlines()[-1] == "30000"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert pod.line() == ""
    assert pod.close() == 0


@LINUX
@pytest.mark.parametrize(("word", "status"), [("TERM", 143), ("KILL", 137)], ids=["term", "kill"])
def test_a_supervisor_signals_the_first_process(tmp_path: Path, word: str, status: int) -> None:
    """What the host says by one word."""
    pod = Dictated("tether", an_order(tmp_path, "exec >&- 2>&-; exec sleep 60"))
    assert pod.line().startswith("up ")
    pod.socket.sendall(word.encode() + b"\n")
    assert pod.line() == f"ended {status}"
    assert not (tmp_path / "pod").exists()
    assert pod.close() == 0


@LINUX
def test_the_end_of_the_stream_kills_the_pod(tmp_path: Path) -> None:
    """A host that was killed cannot say anything more."""
    pod = Dictated("tether", an_order(tmp_path, "trap '' TERM; sleep 60; sleep 60"))
    child = int(pod.line().split()[1])
    assert pod.close() == 0
    assert process.gone_within(child, 1)
    assert not (tmp_path / "pod").exists()


@LINUX
def test_a_disk_is_kept_for_a_host_that_still_listens() -> None:
    """One that was killed, or broke the connection, will not start the pod again."""
    ours, theirs = socket.socketpair()
    with theirs:
        assert supervisor._listened_to(theirs)
        ours.sendall(b"TERM")
        assert supervisor._listened_to(theirs)
        ours.close()
        theirs.recv(4)
        assert not supervisor._listened_to(theirs)
    assert not supervisor._listened_to(theirs)


@LINUX
def test_a_supervisor_without_an_order_ends(tmp_path: Path) -> None:
    """The host was killed before it could say what to run."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(b"{")
        ours.close()
        with pytest.raises(SystemExit):
            supervisor.read_order(theirs)


@LINUX
def test_a_set_up_that_fails_is_told(tmp_path: Path) -> None:
    """Here: a home that is below a file."""
    order = an_order(tmp_path, "true") | {"home": str(tmp_path / "log" / "home")}
    (tmp_path / "log").touch()
    pod = Dictated("tether", order)
    assert "NotADirectoryError" in pod.line()
    assert pod.line() == "ended 125"
    assert pod.close() == 0


def test_without_subreapers_the_group_is_ended() -> None:
    """All that macOS allows; a group that is gone already is no error."""
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True) as group:
        supervisor.end_group(group.pid)
        assert group.wait(10) == -signal.SIGKILL
    supervisor.end_group(group.pid)


def test_an_interpreter_that_cannot_run_is_an_error_of_the_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And leaves no folder."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    order = an_order(tmp_path, "true") | {"hostname": "p", "pod": "p"}
    container = process.ProcessContainer(order, ssh_port=None)
    with pytest.raises(PodsUnavailable, match="no-python"):
        container.start("tether")
    assert not container.running()
    assert not (tmp_path / "pod").exists()


async def test_a_supervisor_that_dies_before_its_pod_is_an_error(tmp_path: Path) -> None:
    """Here: there is no such module."""
    container = process.ProcessContainer(an_order(tmp_path, "true") | {"hostname": "p", "pod": "p"}, ssh_port=None)
    container.start("no_such_module")
    with pytest.raises(PodsUnavailable, match="pod's log"):
        await container.ready()
    assert "no_such_module" in (tmp_path / "log").read_text()
    await container.stop()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not end by itself."""
    with subprocess.Popen(["sleep", "60"]) as running:
        yield running
        running.kill()


def test_an_orphan_that_does_not_end_is_ended(
    sleeper: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's last resort after its supervisor was killed."""
    monkeypatch.setattr(process, "ORPHAN_SECONDS", 0.05)
    container = process.ProcessContainer(an_order(tmp_path, "true") | {"hostname": "p", "pod": "p"}, ssh_port=None)
    container._pid = sleeper.pid
    container._clear_up_after_crash()
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not (tmp_path / "pod").exists()


# Unconfined accounts ------------------------------------------------------------------------------------------------


def test_an_account_in_use_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a process, by the machine's accounts; when none is left, that is said."""
    host = UnconfinedHost(tmp_path / "scratch")
    monkeypatch.setattr(unconfined, "FREE_IDS", range(70000, 70003))
    monkeypatch.setattr(unconfined, "_ids_at_work", lambda: {70000})
    monkeypatch.setattr(unconfined, "_known", lambda number: number == 70001)
    assert host._free_id() == 70002
    monkeypatch.setattr(unconfined, "_known", lambda number: number > 70000)
    with pytest.raises(PodsUnavailable, match="no user id is free"):
        host._free_id()
    host.discard("p")
    host.close()


def test_known_accounts_are_known() -> None:
    """Root is, an id of nobody's is not."""
    assert unconfined._known(0)
    assert not unconfined._known(4_000_000_001)


def test_a_folder_below_a_closed_one_is_not_open(tmp_path: Path) -> None:
    """An unprivileged pod could not get to its folder there."""
    closed = tmp_path / "closed"
    (closed / "scratch").mkdir(parents=True)
    closed.chmod(0o700)
    assert not unconfined._open_to_others(closed / "scratch")


@LINUX
def test_a_confined_host_knows_what_to_bring(tmp_path: Path) -> None:
    """The order for a pod: everything its set-up needs, and the environment with three defaults."""
    host = ConfinedHost(tmp_path / "scratch")
    order = host._order(launch(tmp_path, "true"))
    assert order["env"] | {"PATH": ""} == {"PATH": "", "HOME": "/root", "HOSTNAME": "p", "A": "secret"}
    assert order["mounts"][0] == "/"
    assert "/start.sh" in order["files"]
    assert str((tmp_path / "scratch").resolve()).startswith(("/tmp/", *order["veil_folders"]))  # noqa: S108
    host.close()
    assert not (tmp_path / "scratch/pods").exists()
