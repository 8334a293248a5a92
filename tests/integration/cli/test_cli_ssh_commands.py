"""`exec`, `cp`, `logs`, `wait` and `info` against a real sshd, and how a pod is found."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.sshd import Server, needs_sshd

from runner_provisioner.bootstrap.host_key import login_key

if TYPE_CHECKING:
    from integration.cli.conftest import Services

    from runner_provisioner.simulators.runpod.pods import SimPod

pytestmark = needs_sshd
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"
PATIENCE = 15.0
Rented = Callable[..., "SimPod"]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for what another process brings about."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


@pytest.fixture
def rented(services: Services, sshd: Server) -> Rented:
    """A function that adds a pod whose SSH port is the server's."""
    services.monkeypatch.setattr(
        "runner_provisioner.simulators.runpod.simulator.inert_address", lambda *_: ("127.0.0.1", sshd.port)
    )

    def add(
        name: str = "rp-00000000-1-1-default",
        *,
        host_key: str = sshd.host_key,
        label: str = "rp-one",
        nonce: str | None = None,
    ) -> SimPod:
        env = {"RP_OWNER": "0" * 8, "RP_CLASS": "runner", "RP_LABEL": label, "RP_HOST_KEY": host_key}
        env |= {"RP_NONCE": nonce} if nonce else {}
        return services.runpod.add_pod(name, env=env)

    return add


@pytest.fixture
def pod(rented: Rented) -> SimPod:
    """One of them."""
    return rented()


@pytest.fixture
def state(pod: SimPod) -> Iterator[Path]:
    """The folder in which that pod's start script would keep its state."""
    folder = Path("/tmp") / f"runner-provisioner-{pod.id}"  # noqa: S108 - the last of the script's own choices
    (folder / "state").mkdir(parents=True, mode=0o700)
    (folder / "job").mkdir()
    yield folder / "state"
    shutil.rmtree(folder)


def processes(mark: str) -> list[str]:
    """Those whose command line holds this."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if mark in line and "sshd" not in line and "runner_provisioner" not in line:
            found.append(line)
    return found


# --- the host key ----------------------------------------------------------------------------------------------------

COMMANDS = {
    "ssh": ("ssh", "{pod}", "--", "true"),
    "exec": ("exec", "{pod}", "--", "true"),
    "cp-from": ("cp", "{pod}:/etc/hostname", "here"),
    "cp-to": ("cp", "{home}/file", "{pod}:/tmp/never-there"),
    "logs": ("logs", "{pod}"),
    "follow": ("logs", "{pod}", "--follow"),
    "wait": ("wait", "{pod}", "--for", "ssh", "--timeout", "20s"),
    "info": ("info", "{pod}"),
    "hand-over": ("hand-over", "{pod}"),
    "hand-over-follow": ("hand-over", "{pod}", "--follow"),
}


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in COMMANDS.items()])
@pytest.mark.parametrize("trusting", [pytest.param(False, id="strict"), pytest.param(True, id="trust-first")])
def test_a_changed_host_key_is_refused(
    services: Services, sshd: Server, rented: Rented, words: tuple[str, ...], *, trusting: bool
) -> None:
    """By every command, whatever else was asked for; nothing is sent there or printed."""
    pod = rented(host_key=OTHER_KEY, nonce="ab")
    services.github.queue_job("octo/hello", ["rp-one"])
    (services.folder / "file").write_text("x")
    command, *rest = [word.format(pod=pod.id, home=services.folder) for word in words]
    given = ["-i", str(sshd.identity), *(["--trust-first"] if trusting else [])]
    more = [] if command == "hand-over" else given  # that logs in with a key of its own, and cannot be told to trust
    result = services.run(command, *more, *rest)
    assert (result.code, result.out) == (255, ""), result.err
    assert "host key verification failed" in result.err.lower()
    assert not (services.folder / "here").exists()
    assert not Path("/tmp/never-there").exists()  # noqa: S108 - what the command would have written
    assert services.github.runners() == []


# Those that can be told to trust what is shown, and that need a connection.
ASKING = {name: words for name, words in COMMANDS.items() if words[0] not in {"hand-over", "info"}}


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in ASKING.items()])
def test_a_pod_without_a_host_key_needs_trust_first(
    services: Services, sshd: Server, rented: Rented, words: tuple[str, ...]
) -> None:
    """Accepting what one is shown is a choice, made by name."""
    pod = rented(host_key="")
    command, *rest = [word.format(pod=pod.id, home=services.folder) for word in words]
    result = services.run(command, "-i", str(sshd.identity), *rest)
    assert result.code == 2, result.err
    assert "--trust-first accepts what it shows" in result.errors[0]


# --- exec ------------------------------------------------------------------------------------------------------------


def test_exec_keeps_stdout_and_stderr_apart_and_gives_the_exit_code(
    services: Services, sshd: Server, pod: SimPod
) -> None:
    """One word is a line of shell."""
    result = services.run("exec", "-i", str(sshd.identity), pod.id, "--", "echo out; echo err >&2; exit 7")
    assert (result.code, result.out) == (7, "out\n")
    assert "err\n" in result.err
    assert "out" not in result.err


def test_exec_passes_several_words_on_exactly(services: Services, sshd: Server, pod: SimPod) -> None:
    """No word is split, globbed or run by the shell in between, and none is taken for an option of ours."""
    words = ["printf", "%s|", "a b", "*", "$HOME", "'", "--json", "-i", "; exit 3", "--"]
    result = services.run("exec", "-i", str(sshd.identity), pod.id, "--", *words)
    assert (result.code, result.out) == (0, "a b|*|$HOME|'|--json|-i|; exit 3|--|"), result.err


def test_exec_tells_of_a_signal_as_a_shell_does(services: Services, sshd: Server, pod: SimPod) -> None:
    """128 and the signal's number."""
    result = services.run("exec", "-i", str(sshd.identity), pod.id, "--", "kill -KILL $$")
    assert result.code == 128 + signal.SIGKILL, result.err


def test_exec_passes_on_what_is_piped_in(services: Services, sshd: Server, pod: SimPod) -> None:
    """Byte for byte, and its end."""
    data = secrets.token_bytes(300_000)
    (services.folder / "data").write_bytes(data)
    with (services.folder / "data").open() as piped:
        process = services.spawn(
            "exec", "-i", str(sshd.identity), pod.id, "--", "sha256sum; echo done >&2", stdin=piped.fileno()
        )
        out, err = process.communicate(timeout=PATIENCE)
    wanted = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True).stdout.decode()
    assert (process.returncode, out) == (0, wanted), err


def test_exec_ends_while_its_input_is_still_open(services: Services, sshd: Server, pod: SimPod) -> None:
    """A command that reads nothing does not wait for who pipes."""
    process = services.spawn("exec", "-i", str(sshd.identity), pod.id, "--", "echo here", stdin=subprocess.PIPE)
    assert process.wait(PATIENCE) == 0
    assert process.stdout is not None
    assert process.stdout.read() == "here\n"
    process.communicate()


def test_exec_with_json_gives_code_and_output(services: Services, sshd: Server, pod: SimPod) -> None:
    """And ends with the command's code too."""
    result = services.run("exec", "-i", str(sshd.identity), "--json", pod.id, "--", "echo out; echo err >&2; exit 3")
    assert result.code == 3
    found = {name: result.data[name] for name in ("pod-id", "exit-code", "stdout", "stderr")}
    assert found == {"pod-id": pod.id, "exit-code": 3, "stdout": "out\n", "stderr": "err\n"}


def test_exec_ends_the_command_after_its_time(services: Services, sshd: Server, pod: SimPod) -> None:
    """It, its children, and what ignores the first signal."""
    mark = f"31{secrets.randbelow(10**8):08}"
    result = services.run(
        "exec",
        *("-i", str(sshd.identity), "--timeout", "5s", pod.id, "--"),
        f"trap '' TERM; echo begun; setsid sleep {mark} & sleep {mark}",
    )
    assert (result.code, result.out) == (124, "begun\n"), result.err
    assert "did not end within 5 s" in result.errors[0]
    until(lambda: not processes(mark), "it still runs")


def test_exec_ends_the_command_when_it_is_ended_itself(services: Services, sshd: Server, pod: SimPod) -> None:
    """SIGTERM leaves nothing running in the pod."""
    mark = f"32{secrets.randbelow(10**8):08}"
    process = services.spawn("exec", "-i", str(sshd.identity), pod.id, "--", f"echo begun; sleep {mark}")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert processes(mark) == []


def test_exec_stops_when_its_reader_goes(services: Services, sshd: Server, pod: SimPod) -> None:
    """`exec POD -- yes | head` ends, here and there."""
    mark = f"rp{secrets.token_hex(8)}"
    process = services.spawn("exec", "-i", str(sshd.identity), pod.id, "--", "yes", mark)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{mark}\n"
    process.stdout.close()
    assert process.wait(PATIENCE) == 74
    assert process.stderr is not None
    assert "could not be passed on" in process.stderr.read()
    process.stderr.close()
    until(lambda: not processes(mark), "yes still runs")


def test_exec_without_a_command_says_how_to_write_it(services: Services, pod: SimPod) -> None:
    """Not an empty success."""
    result = services.run("exec", pod.id)
    assert result.code == 2
    assert "write it after two dashes" in result.errors[0]


# --- keys ------------------------------------------------------------------------------------------------------------


def _key(folder: Path, *, passphrase: str = "") -> Path:
    path = folder / f"key-{secrets.token_hex(4)}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)
    return path


def test_a_key_that_was_not_given_to_the_pod_is_refused(services: Services, pod: SimPod) -> None:
    """In one line that says what to do; no password is asked for."""
    result = services.run("exec", "-i", str(_key(services.folder)), pod.id, "--", "true")
    assert (result.code, result.out) == (255, "")
    assert len(result.errors) == 1
    assert "none of your keys may log in" in result.errors[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "cannot be read", id="missing"),
        pytest.param("no key\n", "is no private SSH key", id="nonsense"),
    ],
)
def test_an_identity_that_is_none_is_named(services: Services, pod: SimPod, content: str | None, said: str) -> None:
    """Bad input, before anything is connected."""
    path = services.folder / "identity"
    if content is not None:
        path.write_text(content)
    result = services.run("exec", "-i", str(path), pod.id, "--", "true")
    assert result.code == 2
    assert said in result.errors[0]
    assert str(path) in result.errors[0]


def test_a_protected_identity_asks_for_the_agent(services: Services, pod: SimPod) -> None:
    """No passphrase is ever read."""
    result = services.run("exec", "-i", str(_key(services.folder, passphrase="sesame")), pod.id, "--", "true")
    assert result.code == 2
    assert "ssh-add" in result.errors[0]


def test_without_any_key_it_says_where_keys_come_from(services: Services, pod: SimPod) -> None:
    """Neither a file nor an agent."""
    result = services.run("exec", pod.id, "--", "true")
    assert result.code == 2
    assert "--identity" in result.errors[0]


def test_the_usual_file_is_used(services: Services, sshd: Server, pod: SimPod) -> None:
    """~/.ssh/id_ed25519, beside one that is protected."""
    folder = services.folder / ".ssh"
    folder.mkdir(mode=0o700)
    shutil.copy(sshd.identity, folder / "id_ed25519")
    shutil.copy(_key(services.folder, passphrase="sesame"), folder / "id_rsa")
    assert services.run("exec", pod.id, "--", "echo", "in").out == "in\n"


@pytest.mark.parametrize("named", [pytest.param(False, id="agent-alone"), pytest.param(True, id="with-identity")])
def test_the_agent_is_used(services: Services, sshd: Server, pod: SimPod, *, named: bool) -> None:
    """Also when it holds more keys than a server hears out, and the right one is named by its file."""
    socket = services.folder / "agent"
    keys = [_key(services.folder) for _ in range(7)] if named else []
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as agent:
        until(socket.exists, "no agent")
        environ = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", *map(str, keys), str(sshd.identity)], env=environ, check=True)
        more = ("-i", str(sshd.identity)) if named else ()
        result = services.run("exec", *more, pod.id, "--", "echo", "in", SSH_AUTH_SOCK=str(socket))
        agent.terminate()
    assert result.out == "in\n", result.err


# --- which pod -------------------------------------------------------------------------------------------------------


def test_a_pod_is_found_by_label_and_by_run(services: Services, sshd: Server, rented: Rented) -> None:
    """Each command takes them instead of an id; words before the dashes are not needed then."""
    wanted = rented("rp-2efdbb6a-abcdefgh-0-default", label="rp-wanted")
    rented("rp-2efdbb6a-zzzzzzzz-0-default", label="rp-other")
    ways = {"--label": "rp-wanted", "--run-id": "abcdefgh"}
    for option, value in ways.items():
        more = ("--owner", "x") if option == "--run-id" else ()
        if option == "--run-id":
            told = services.run("info", option, value, *more, "--no-ssh").err
            owner8 = told.partition("(owner ")[2][:8]
            wanted = rented(f"rp-{owner8}-abcdefgh-0-default", label="rp-third")
        result = services.run("exec", "-i", str(sshd.identity), option, value, *more, "--", "echo", "in")
        assert (result.code, result.out) == (0, "in\n"), result.err
        assert services.run("info", "--no-ssh", "--json", option, value, *more).data["id"] == wanted.id


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(("exec", "--", "true"), 2, "which pod?", id="none"),
        pytest.param(("exec", "ID", "--label", "rp-x", "--", "true"), 2, "only one of them", id="id-and-label"),
        pytest.param(("exec", "--label", "rp-x", "--", "true"), 6, "no running pod with the label rp-x", id="no-label"),
        pytest.param(("exec", "ID", "word", "--", "true"), 2, "word: only the pod's id", id="a-word-too-many"),
        pytest.param(("exec", "nobody", "--", "true"), 6, "no pod 'nobody'", id="no-such-id"),
        pytest.param(("cp", "here", "there"), 2, "one of the two is in the pod", id="both-here"),
        pytest.param(("cp", "ID:a", "ID:b"), 2, "one of the two is in the pod", id="both-there"),
        pytest.param(("cp", "./a:b", "c/d:e"), 2, "one of the two is in the pod", id="colons-in-names"),
    ],
)
def test_what_names_no_pod_is_said(
    services: Services, rented: Rented, words: tuple[str, ...], code: int, said: str
) -> None:
    """One line, and nothing is connected."""
    pod = rented()
    result = services.run(*(pod.id if word == "ID" else word.replace("ID:", f"{pod.id}:") for word in words))
    assert result.code == code, result.err
    assert said in result.errors[0]


def test_a_label_of_several_pods_names_them(services: Services, rented: Rented) -> None:
    """No guess."""
    pods = [rented(), rented("rp-00000000-2-1-default")]
    result = services.run("logs", "--label", "rp-one")
    assert result.code == 2
    assert all(one.id in result.errors[0] for one in pods)


# --- cp --------------------------------------------------------------------------------------------------------------

ODD = [b"plain", b"with space", b"-dash", b"new\nline", b"quote'\"", b"$(touch x)", b"*", b"\xff\xfe", "größe".encode()]


def _tree(folder: Path) -> dict[bytes, bytes | None]:
    """Every path below it, with what a file holds."""
    root = os.fsencode(folder)
    found: dict[bytes, bytes | None] = {}
    for top, folders, files in os.walk(root):
        for name in folders:
            found[os.path.relpath(os.path.join(top, name), root)] = None  # noqa: PTH118 - bytes
        for name in files:
            path = os.path.join(top, name)  # noqa: PTH118 - bytes
            found[os.path.relpath(path, root)] = Path(os.fsdecode(path)).read_bytes()
    return found


def test_cp_brings_folders_there_and_back_byte_for_byte(services: Services, sshd: Server, pod: SimPod) -> None:
    """Whatever the names; empty files and folders too."""
    source, there, back = (services.folder / name for name in ("source", "there", "back"))
    (source / "deep" / "empty").mkdir(parents=True)
    for name in ODD:
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(name * 1000)
    (source / "deep" / "big").write_bytes(secrets.token_bytes(3_000_001))
    (source / "none").touch()
    (source / "deep" / "run").write_text("#!/bin/sh\n")
    (source / "deep" / "run").chmod(0o755)
    login = ("-i", str(sshd.identity), "-r")
    assert services.run("cp", *login, str(source), f"{pod.id}:{there}").code == 0
    result = services.run("cp", *login, "--json", f"{pod.id}:{there}", str(back))
    assert result.code == 0, result.err
    assert _tree(source) == _tree(there) == _tree(back)
    assert (back / "deep" / "run").stat().st_mode & 0o777 == 0o755
    data = result.data
    assert data["files"] == len(ODD) + 3
    assert data["bytes"] == sum(len(content) for content in _tree(source).values() if content)


def test_cp_into_a_folder_keeps_the_name(services: Services, sshd: Server, pod: SimPod) -> None:
    """As cp does, both ways; a file is replaced whole, and its mode stays."""
    one, folder = services.folder / "one", services.folder / "folder"
    one.write_text("1")
    folder.mkdir()
    assert services.run("cp", "-i", str(sshd.identity), str(one), f"{pod.id}:{folder}").code == 0
    assert (folder / "one").read_text() == "1"
    (services.folder / "two").write_text("2")
    (folder / "two").write_text("a longer one that was there before")
    (folder / "two").chmod(0o640)
    assert services.run("cp", "-i", str(sshd.identity), f"{pod.id}:{services.folder}/two", str(folder)).code == 0
    assert (folder / "two").read_text() == "2"
    assert (folder / "two").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in folder.iterdir()) == ["one", "two"]


def test_cp_passes_over_links_that_lead_away(services: Services, sshd: Server, pod: SimPod) -> None:
    """Named, both ways; a link to a file is copied as the file; none is ever made."""
    source = services.folder / "source"
    source.mkdir()
    (source / "file").write_text("f")
    (source / "to-file").symlink_to("file")
    (source / "to-folder").symlink_to("/etc")
    (source / "to-nothing").symlink_to("nothing")
    os.mkfifo(source / "pipe")
    for words in ((str(source), f"{pod.id}:{services.folder}/up"), (f"{pod.id}:{source}", f"{services.folder}/down")):
        result = services.run("cp", "-r", "-i", str(sshd.identity), "--json", *words)
        assert result.code == 0, result.err
        assert {Path(path).name for path in result.data["passed-over"]} == {"to-folder", "to-nothing", "pipe"}
        assert "passed over" in result.err
    for copy in ("up", "down"):
        assert _tree(services.folder / copy) == {b"file": b"f", b"to-file": b"f"}
        assert not (services.folder / copy / "to-file").is_symlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("ID:/no/such", "here"), "no such file in the pod", id="not-there"),
        pytest.param(("no-such", "ID:/tmp"), "no such file here", id="not-here"),
        pytest.param(("ID:/etc", "here"), "--recursive", id="a-folder-there"),
        pytest.param((".", "ID:/tmp/x"), "--recursive", id="a-folder-here"),
        pytest.param(("ID:/etc/hostname", "no/such/place"), "no such folder here", id="no-place-here"),
        pytest.param(("file", "ID:/no/such/place"), "no such file in the pod", id="no-place-there"),
        pytest.param(("file", "ID:/tmp/no-folder/"), "no such folder in the pod", id="no-folder-there"),
        pytest.param(("ID:/dev/null", "here"), "neither a file nor a folder", id="a-device-there"),
        pytest.param(("ID:/etc/hostname", "/dev/null"), "/dev/null cannot be written", id="a-device-here"),
    ],
)
def test_cp_says_what_cannot_be_copied(
    services: Services, sshd: Server, pod: SimPod, words: tuple[str, ...], said: str
) -> None:
    """One line that names it; nothing is left half-way."""
    (services.folder / "file").write_text("x")
    before = sorted(services.folder.iterdir())
    result = services.run("cp", "-i", str(sshd.identity), *(word.replace("ID:", f"{pod.id}:") for word in words))
    assert result.code == 2, result.err
    assert said in result.errors[0]
    assert sorted(services.folder.iterdir()) == before
    assert Path("/dev/null").is_char_device()


# --- logs, wait, info ------------------------------------------------------------------------------------------------


def test_logs_shows_what_the_script_and_the_runner_said(
    services: Services, sshd: Server, pod: SimPod, state: Path
) -> None:
    """And with --diagnostics the runner's own files."""
    (state / "log").write_text("runner-provisioner: downloading\nrunner: Listening for Jobs\n")
    diagnostics = state.parent / "runner" / "_diag"
    diagnostics.mkdir(parents=True)
    (diagnostics / "Runner_1.log").write_text("[INFO] details\n")
    login = ("-i", str(sshd.identity), pod.id)
    assert services.run("logs", *login).out == (state / "log").read_text()
    assert services.run("logs", "--json", *login).data["log"] == (state / "log").read_text()
    both = services.run("logs", "--diagnostics", *login).out
    assert "Listening for Jobs" in both
    assert "[INFO] details" in both


def test_logs_follows_until_the_pod_ends(services: Services, sshd: Server, pod: SimPod, state: Path) -> None:
    """Lines come as they are written; the end of the pod is a success."""
    (state / "log").write_text("one\n")
    process = services.spawn("logs", "--follow", "-i", str(sshd.identity), pod.id)
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    with (state / "log").open("a") as log:
        log.write("two\n")
    assert process.stdout.readline() == "two\n"
    assert process.poll() is None
    services.run("pods", "terminate", pod.id)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert f"pod {pod.id} has ended" in err
    assert processes(f"runner-provisioner-{pod.id}") == []


def test_logs_goes_on_where_it_stopped(services: Services, sshd: Server, pod: SimPod, state: Path) -> None:
    """A connection that breaks while the pod lives costs neither a line nor a second copy of one."""
    (state / "log").write_text("one\n")
    process = services.spawn("logs", "--follow", "-i", str(sshd.identity), pod.id)
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    tails = subprocess.run(["pgrep", "-f", f"tail -c [+]1 -F .*{pod.id}"], capture_output=True, check=True, text=True)
    for number in tails.stdout.split():
        os.kill(int(number), signal.SIGKILL)
    with (state / "log").open("a") as log:
        log.write("two\n")
    assert process.stdout.readline() == "two\n"
    services.run("pods", "terminate", pod.id)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, ""), err


def test_logs_of_a_pod_without_our_script_says_where_to_look(services: Services, sshd: Server, pod: SimPod) -> None:
    """Not an empty success."""
    result = services.run("logs", "-i", str(sshd.identity), pod.id)
    assert result.code == 6
    assert "holds no log of a start script of ours" in result.errors[0]


def test_wait_for_ssh_and_for_the_end(services: Services, sshd: Server, pod: SimPod) -> None:
    """The first at once; the second when the pod is gone, also when it was gone before."""
    ready = services.run("wait", "--for", "ssh", "-i", str(sshd.identity), pod.id, "--json")
    assert (ready.code, ready.data["event"]) == (0, "ssh"), ready.err
    process = services.spawn("wait", "--for", "end", pod.id, "--json")
    time.sleep(0.5)
    assert process.poll() is None
    services.run("pods", "terminate", pod.id)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert '"state": "gone"' in out
    assert services.run("wait", "--for", "end", pod.id).code == 0
    assert services.run("wait", "--for", "ssh", pod.id).code == 6


def test_wait_for_the_runner(services: Services, pod: SimPod) -> None:
    """Until GitHub shows it online; 124 when it does not in time, 24 when the pod ends first."""
    late = services.run("wait", pod.id, "--timeout", "3s")
    assert late.code == 124
    assert "its runner is not registered" in late.errors[0]
    process = services.spawn("wait", pod.id)
    services.usher()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    (runner,) = services.github.runners()
    assert runner.name == pod.name
    ending = services.spawn("wait", pod.id, "--for", "ssh", "--timeout", "15s")
    services.run("pods", "terminate", pod.id)
    assert ending.wait(PATIENCE) in {2, 6, 24}  # it may have begun only now
    ending.communicate()


def test_info_shows_the_outside_and_the_inside(services: Services, sshd: Server, pod: SimPod, state: Path) -> None:
    """Addresses, price, and how far the script is; the JSON files that it wrote."""
    for name in ("began", "registered"):
        (state / name).touch()
    (state / "phase.json").write_text('{"phase": "gate", "error": null}\n')
    (state / "broken.json").write_text("{")
    (state.parent / "report.json").write_text('{"phase":"listening","reason":"","gate":{}}')
    data = services.run("info", "--json", "-i", str(sshd.identity), pod.id).data
    assert data["inside"] == {
        "phase": "listening",
        "report": {"phase": "listening", "reason": "", "gate": None},
        "files": {"phase.json": {"phase": "gate", "error": None}, "broken.json": None},
        "unknown": None,
    }
    assert (data["host"], data["port"], data["user"]) == ("127.0.0.1", sshd.port, "root")
    assert data["host-key"] == sshd.host_key
    assert data["label"] == "rp-one"
    assert data["price-per-hour"] == "0.2"
    assert data["ssh-proxy"].endswith("@ssh.runpod.io")
    shown = services.run("info", "-i", str(sshd.identity), pod.id).out
    assert "inside: listening" in shown
    assert "report: listening" in shown
    assert "cost-so-far: " in shown


def test_info_of_an_unreachable_inside_shows_the_outside(services: Services, pod: SimPod) -> None:
    """And why there is no more."""
    result = services.run("info", "--json", pod.id)
    assert result.code == 0
    assert "no SSH key to log in with" in result.data["inside"]["unknown"]
    assert services.run("info", "--no-ssh", "--json", pod.id).data["inside"]["unknown"] == "not asked"


# --- what is logged --------------------------------------------------------------------------------------------------


def test_the_log_holds_no_command_and_no_output(services: Services, sshd: Server, pod: SimPod) -> None:
    """The SSH library's own log stays silent at any level."""
    result = services.run(
        "exec", "--log", "json", "--debug", "-i", str(sshd.identity), pod.id, "--", "echo", "open", "sesame"
    )
    assert result.code == 0
    assert "sesame" not in result.err
    assert "asyncssh" not in result.err


def test_a_pod_without_a_public_port_has_the_proxy_for_a_terminal(services: Services) -> None:
    """`ssh --json` says how; a command and what is piped in are refused."""
    services.runpod.settings.inert_ssh = False
    pod = services.runpod.add_pod("rp-00000000-1-1-default")
    data = services.run("ssh", "--json", pod.id).data
    assert data["proxy"] is True
    assert data["ssh-command"] == f"ssh -p 22 {data['user']}@ssh.runpod.io"
    assert data["user"].startswith(pod.id)
    refused = services.run("ssh", pod.id, "--", "true")
    assert refused.code == 2
    assert "gives a terminal only" in refused.errors[0]
    assert services.run("exec", pod.id, "--", "true").code == 2


# --- hand-over -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(("nobody",), 6, "no pod 'nobody'", id="no-such-pod"),
        pytest.param(("--organization", "octo", "ID"), 2, "give --repository", id="no-repository"),
        pytest.param(("ID",), 6, "is not one that start rented", id="a-pod-without-nonce"),
    ],
)
def test_hand_over_says_what_it_cannot_serve(
    services: Services, pod: SimPod, words: tuple[str, ...], code: int, said: str
) -> None:
    """One line."""
    more = {"GITHUB_REPOSITORY": ""} if "--organization" in words else {}
    result = services.run("hand-over", *(pod.id if word == "ID" else word for word in words), **more)
    assert result.code == code, result.err
    assert said in result.errors[0]


def test_hand_over_is_for_pods_that_say_their_host_key(services: Services, rented: Rented) -> None:
    """As those of start do; nothing of a configuration goes to whoever answers there."""
    pod = rented(host_key="", nonce="ab")
    result = services.run("hand-over", pod.id)
    assert result.code == 6, result.err
    assert "is not one that start rented" in result.errors[0]


def test_hand_over_gives_through_the_pipe_and_goes_on_until_the_pod_ends(services: Services, sshd: Server) -> None:
    """Only while a job is queued; what is given is a line, and no file of it is ever made."""
    services.monkeypatch.setattr(
        "runner_provisioner.simulators.runpod.simulator.inert_address", lambda *_: ("127.0.0.1", sshd.port)
    )
    env = {
        "RP_OWNER": "0" * 8,
        "RP_CLASS": "runner",
        "RP_LABEL": "rp-one",
        "RP_NONCE": "ab",
        "RP_HOST_KEY": sshd.host_key,
    }
    pod = services.runpod.add_pod("rp-00000000-1-1-default", env=env)
    folder = Path("/tmp") / f"runner-provisioner-{pod.id}"  # noqa: S108 - the last of the script's own choices
    (folder / "state").mkdir(parents=True, mode=0o700)
    pipe = folder / "state" / "jit"
    authorized = sshd.identity.with_suffix(".pub")
    before = authorized.read_text()
    authorized.write_text(before + login_key(services.runpod.key, "ab").public + "\n")
    try:
        services.github.queue_job("octo/hello", ["rp-one"])
        assert services.run("hand-over", "--json", pod.id).data["handed-over"] == 0
        os.mkfifo(pipe, 0o600)
        process = services.spawn("hand-over", "--follow", "--json", pod.id)
        config = pipe.read_text()
        pipe.unlink()
        assert config.endswith("\n")
        assert len(config.splitlines()) == 1
        until(services.github.runners, "no runner")
        services.run("pods", "terminate", pod.id)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert '"handed-over": 1' in out
        assert config.strip() not in out + err
        assert not pipe.exists()
    finally:
        authorized.write_text(before)
        shutil.rmtree(folder)
