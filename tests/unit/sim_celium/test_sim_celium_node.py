"""The node's unquoted shell: what becomes of a start command and of an environment on their way to docker."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.simulators.celium.node import (
    DockerRun,
    NodeAnswer,
    NodeRefused,
    Order,
    command_line,
    docker_run,
    on_node,
)


def run(startup: str, entrypoint: str = "", env: Mapping[str, str] | None = None) -> DockerRun:
    """What docker is told."""
    order = Order(name="c", image="octo/runner:1", startup=startup, entrypoint=entrypoint, env=env or {})
    return docker_run(on_node(command_line(order)))


@pytest.mark.parametrize(
    ("startup", "argv"),
    [
        pytest.param("", (), id="the image's own command"),
        pytest.param("python -c 'print(1+1)'", ("python", "-c", "print(1+1)"), id="quoted for the shell"),
        pytest.param(
            "bash -c 'echo ZWNobyBoaQo=|base64 -d|bash'", ("bash", "-c", "echo ZWNobyBoaQo=|base64 -d|bash"), id="safe"
        ),
        pytest.param('bash -c "echo $HOME"', ("bash", "-c", "echo /root"), id="the node's home, not the pod's"),
        pytest.param("bash -c 'echo $HOME'", ("bash", "-c", "echo $HOME"), id="single quotes keep it"),
        pytest.param('bash -c "echo $TOKEN"', ("bash", "-c", "echo "), id="the pod's variables are not there"),
        pytest.param("echo {a,b}", ("echo", "a", "b"), id="braces"),
        pytest.param("echo a  b", ("echo", "a", "b"), id="words"),
    ],
)
def test_a_start_command_is_read_by_the_node_first(startup: str, argv: tuple[str, ...]) -> None:
    """Its quotes go, its variables are the node's."""
    assert run(startup).argv == argv


@pytest.mark.parametrize(
    ("startup", "said"),
    [
        pytest.param("bash start.sh && cat", "cat: command not found", id="and"),
        pytest.param("bash start.sh ; cat", "cat: command not found", id="then"),
        pytest.param("bash -c x | base64", "base64: command not found", id="pipe"),
        pytest.param("bash 'open", "unexpected EOF", id="an open quote"),
        pytest.param("x >/tmp/log", "cannot redirect output", id="a redirection"),
        pytest.param("x; /bin/touch /tmp/y", "restricted", id="a path"),
        pytest.param("x \0", "null byte", id="a null byte"),
    ],
)
def test_what_leaks_out_of_the_command_is_the_nodes(startup: str, said: str) -> None:
    """It never runs here, the creation fails, and the shell's words are told."""
    answer = on_node(command_line(Order(name="c", image="i", startup=startup, entrypoint="", env={})))
    assert any(said in line for line in answer.said), answer
    with pytest.raises(NodeRefused, match="docker run failed on the node"):
        docker_run(answer)


def test_a_substitution_runs_on_the_node() -> None:
    """Where its program does not exist here; the container starts without its output."""
    order = Order(name="c", image="i", startup="echo `whoami`", entrypoint="", env={})
    answer = on_node(command_line(order))
    assert docker_run(answer).argv == ("echo",)
    assert any("whoami: command not found" in line for line in answer.said)


def test_the_environment_is_in_single_quotes_without_escaping() -> None:
    """Empty values are dropped; dollars survive; a quote ends the value."""
    told = run("x", env={"A": "b c $HOME", "EMPTY": "", "URL": "http://x?a=1&b=2"})
    assert told.env == {"A": "b c $HOME", "URL": "http://x?a=1&b=2"}
    assert run("x", env={"A": "it'$HOME'"}).env == {"A": "it/root"}
    with pytest.raises(NodeRefused):
        run("x", env={"A": "it's"})


def test_an_entrypoint_is_bare_too() -> None:
    """A second word of it is taken for the image."""
    assert run("-c x", entrypoint="/bin/bash").entrypoint == "/bin/bash"
    assert run("x", entrypoint="/bin/bash -e A=b other").image == "other"
    with pytest.raises(NodeRefused, match="unknown flag: --login"):
        run("x", entrypoint="/bin/bash --login")


def test_the_line_has_what_the_node_gives_every_container() -> None:
    """Ports, volume, runtime, GPUs, restart policy."""
    order = Order(
        name="c", image="i", startup="x", entrypoint="", env={}, ports=[(22, 9002)], volume="v:/workspace", sysbox=True
    )
    told = docker_run(on_node(command_line(order)))
    assert told.options[1:6] == ("--runtime=sysbox-runc", "-p", "9002:22", "-v", "v:/workspace")
    assert {"unless-stopped", "NET_ADMIN", "/dev/net/tun", "all"} <= set(told.options)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(None, id="not called"),
        pytest.param(("ps",), id="another command"),
        pytest.param((), id="no command"),
        pytest.param(("run", "--nonsense", "image"), id="an unknown flag"),
        pytest.param(("run", "-d"), id="no image"),
        pytest.param(("run", "-e"), id="a flag without its value"),
    ],
)
def test_docker_refuses_what_makes_no_container(words: tuple[str, ...] | None) -> None:
    """With its own words."""
    with pytest.raises(NodeRefused, match="docker"):
        docker_run(NodeAnswer(words, 0, ()))


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0\r\n'"), max_size=8), max_size=4))
def test_single_quotes_carry_anything_but_themselves(words: list[str]) -> None:
    """However odd the words are."""
    assert run(" ".join(f"'{word}'" for word in words)).argv == tuple(words)
