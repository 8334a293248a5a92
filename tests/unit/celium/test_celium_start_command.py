"""The start command of a pod of Lium: through the node's shell into a real bash, and never twice."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner_provisioner.errors import InvalidRequest
from runner_provisioner.providers.celium.start_command import (
    LINE_LIMIT,
    StartLine,
    bare_environment,
    start_line,
)
from runner_provisioner.simulators.celium.node import DockerRun, Order, command_line, docker_run, on_node

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
NAMES = st.from_regex(r"X_[A-Z0-9_]{0,8}", fullmatch=True)
SECRET = "planted-registration-token"


def through_node(line: StartLine) -> DockerRun:
    """What docker is told after the node's shell has had it."""
    order = Order(
        name="c", image="octo/runner:1", startup=line.startup, entrypoint=line.entrypoint, env=line.environment
    )
    answer = on_node(command_line(order))
    assert not answer.said
    return docker_run(answer)


class Container:
    """A process that is started as docker starts a container's first one."""

    def __init__(self, run: DockerRun, env: Mapping[str, str]) -> None:
        argv = [*([run.entrypoint] if run.entrypoint else []), *run.argv]
        self.process = subprocess.Popen(
            argv,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **run.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def says(self, what: str) -> str:
        """Everything up to the line that holds this."""
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if what in line:
                return said
        raise AssertionError(f"never said {what!r}: {said}")

    def shown(self) -> str:
        """The command line that anybody in the container can read."""
        return Path(f"/proc/{self.process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()

    def stop(self) -> int:
        """`docker stop`."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@contextmanager
def started(line: StartLine, env: Mapping[str, str] | None = None) -> Iterator[Container]:
    """A container of this template; stopped afterwards."""
    container = Container(through_node(line), env or {})
    try:
        yield container
    finally:
        if container.process.poll() is None:
            container.stop()
        assert container.process.stdout is not None
        container.process.stdout.close()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The container's own disk, which a restart keeps."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def test_nothing_that_a_shell_reads_is_in_the_line() -> None:
    """Letters, digits, base64, a pipe, and one pair of single quotes around it."""
    line = start_line("echo \"$HOME\"; echo 'x' && `true` | cat > /dev/null & # \\ \n!", {"A": "it's"})
    assert re.fullmatch(r"bash -O lastpipe -c 'echo [A-Za-z0-9+/=]+\|base64 -d\|exec bash'", line.startup)
    assert line.entrypoint == "env"


def test_the_same_command_gives_the_same_line() -> None:
    """A repeat of a request has to say exactly the same."""
    assert start_line("x", {"A": "b"}) == start_line("x", {"A": "b"})
    assert start_line("x", {}).startup != start_line("y", {}).startup


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=TEXT, env=st.dictionaries(NAMES, TEXT, max_size=3))
def test_any_command_and_any_environment_arrive_unharmed_and_once(text: str, env: dict[str, str]) -> None:
    """Through the node's shell and a real bash; and a container that is started again runs nothing."""
    with tempfile.TemporaryDirectory() as folder:
        told, disk = Path(folder) / "told", Path(folder) / "disk"
        disk.mkdir()
        wanted = [text, *env.values()]
        shown = " ".join([shlex.quote(text), *(f'"${name}"' for name in env)])
        line = start_line(f"printf '%s\\0' {shown} >>{told}", env, places=(str(disk),))
        with started(line) as first:
            first.says("has ended with 0: idle until this pod is removed")
            assert first.process.poll() is None
            assert told.read_bytes() == b"".join(one.encode() + b"\0" for one in wanted)
            assert first.stop() == 143
        told.unlink()
        with started(line) as second:
            second.says("the container has started before: idle")
            assert not told.exists()


@pytest.mark.parametrize(
    ("end", "says"),
    [
        pytest.param("true", "ended with 0", id="it returns"),
        pytest.param("exit 3", "ended with 3", id="it exits"),
        pytest.param("exec false", "ended with 1", id="it becomes a program that ends"),
        pytest.param("kill -KILL $BASHPID", "ended with 137", id="it is killed"),
        pytest.param("if then", "ended with", id="it is no command"),
        pytest.param("set -e; false; true", "ended with 1", id="it gives up"),
    ],
)
def test_however_the_command_ends_nothing_runs_twice(disk: Path, end: str, says: str) -> None:
    """The container stays up, since one that ends at once is a creation that failed, and never runs it again."""
    told = disk / "told"
    line = start_line(f"echo ran >>{told}\n{end} # {SECRET}", {}, places=(str(disk),))
    with started(line) as first:
        assert SECRET not in re.sub(r"syntax error.*|.*`if then.*", "", first.says(says))
        time.sleep(0.05)
        assert first.process.poll() is None
    for _ in range(2):
        with started(line) as again:
            again.says("has started before")
    assert not told.exists() or told.read_text() == "ran\n"


def test_a_container_that_is_cut_down_in_the_middle_does_not_begin_again(disk: Path) -> None:
    """A reboot of the node while the runner works: the job is lost, and no second runner comes."""
    line = start_line(f"echo ran >>{disk}/told; sleep 60 & echo up; wait", {}, places=(str(disk),))
    with started(line) as first:
        first.says("up")
    with started(line) as again:
        again.says("has started before")
    assert (disk / "told").read_text() == "ran\n"


def test_no_command_line_shows_the_command(disk: Path) -> None:
    """Neither the first process nor the command's own: what a job could read there is just bash."""
    script = "tr '\\0' ' ' </proc/$BASHPID/cmdline; echo; tr '\\0' ' ' </proc/$$/cmdline; echo; echo seen"
    with started(start_line(f"{script} # {SECRET}", {"A": f"'{SECRET}"}, places=(str(disk),))) as first:
        said = first.says("seen")
        assert first.shown() == "bash"
        assert "base64" not in said
        assert SECRET not in said
        assert "bash" in said
    with started(start_line(f"{script} # {SECRET}", {"A": f"'{SECRET}"}, places=(str(disk),))) as again:
        again.says("before")
        assert again.shown() == "bash"


def test_the_command_can_hear_both_signals(disk: Path) -> None:
    """SIGTERM is passed on and waited for; SIGINT is not ignored, or no runner could be stopped by it."""
    command = "trap 'echo interrupted' INT; trap 'echo told to stop; exit 5' TERM; kill -INT $BASHPID; echo ready; "
    with started(start_line(command + "while :; do sleep 0.05; done", {}, places=(str(disk),))) as first:
        assert "interrupted" in first.says("ready")
        first.process.send_signal(signal.SIGTERM)
        first.says("told to stop")
        assert first.process.wait(10) == 143


def test_without_a_place_to_remember_nothing_runs(disk: Path) -> None:
    """Rather no runner than two."""
    with started(start_line(f"echo ran >{disk}/told", {}, places=("/proc/nowhere",))) as first:
        first.says("no folder can be written to: idle")
    assert not (disk / "told").exists()


def test_the_start_is_remembered_in_the_first_place_that_takes_it(disk: Path) -> None:
    """And found in any of them; a home folder is asked of the container."""
    places = ("/proc/nowhere", '"${HOME:-/root}"')
    line = start_line("echo ran", {}, places=places)
    with started(line, {"HOME": str(disk)}) as first:
        first.says("has ended")
    with started(line, {"HOME": str(disk)}) as again:
        again.says("has started before")


def test_a_new_container_finds_the_start_where_it_outlived_the_old_one(disk: Path, tmp_path: Path) -> None:
    """On the pod's volume, when its own disk is a new one; another pod with the same volume is another start."""
    fresh, volume = tmp_path / "fresh", disk
    env = {"RP_NONCE": "one"}
    for place, nonce, says in ((fresh, "one", "has ended"), (fresh, "one", "before"), (fresh, "two", "has ended")):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        env["RP_NONCE"] = nonce
        with started(start_line("echo ran", env, places=(str(place), str(volume)))) as container:
            container.says(says)
    assert len(list(volume.iterdir())) == 2


def test_what_the_node_would_spoil_travels_with_the_command() -> None:
    """A quote, a line end, nothing at all; the rest is plain to see in the template, where the tags are read back."""
    env = {"RP_OWNER": "0123abcd", "Q": "it's", "L": "a\nb", "E": "", "D": '$HOME `x` "y"'}
    line = start_line("x", env)
    assert line.environment == {"RP_OWNER": "0123abcd", "D": env["D"]}
    assert through_node(line).env == line.environment


@pytest.mark.parametrize(
    ("command", "env", "names"),
    [
        pytest.param("x", {"A B": "c"}, "A B", id="a name with a blank"),
        pytest.param("x", {"A;reboot": "c"}, "A;reboot", id="a name that is a command"),
        pytest.param("x\0", {}, "null character", id="a null character in the command"),
        pytest.param("x", {"A": "b\0"}, "'A'", id="a null character in a value"),
        pytest.param("x" * LINE_LIMIT, {}, "too long", id="a long command"),
        pytest.param("x", {"A": "b" * LINE_LIMIT}, "too long", id="a long value"),
    ],
)
def test_what_cannot_travel_is_refused_by_name(command: str, env: dict[str, str], names: str) -> None:
    """Before anything is made, and without the value."""
    with pytest.raises(InvalidRequest, match=names) as caught:
        start_line(command, env)
    assert "bbbb" not in str(caught.value)


def test_a_pod_without_a_start_command_takes_plain_values_only() -> None:
    """Nobody could hand it the others; an empty one is no loss."""
    assert bare_environment({"A": "b c", "E": ""}) == {"A": "b c"}
    with pytest.raises(InvalidRequest, match="'A'"):
        bare_environment({"A": "it's"})
