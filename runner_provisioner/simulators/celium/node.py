"""The machine that runs a pod's container, as its provider's software drives it: one line for an unquoted shell.

The node is told over SSH to run `docker run ... IMAGE STARTUP_COMMANDS` (Datura-ai/lium-io a2df68a, docker service).
What the template says is spliced in as it is, so the node's own shell expands and splits it first. Here that shell is a
real bash, in restricted mode and with no program in its PATH: it expands, splits and chains as it would there, and what
it takes for commands of its own does not run, but is reported. It cannot redirect output either, as on the node.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_BASH = shutil.which("bash") or "/bin/bash"
_DOCKER = """docker() { printf '%s\\0' "$#" "$@"; }\n"""
_TIMEOUT = 10.0
# What a login of root on a node has; PATH is the one difference.
_NODE = {"PATH": "/nonexistent", "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash"}
_VALUED = frozenset(["-p", "-v", "-e", "--entrypoint", "--shm-size", "--gpus", "--restart", "--name", "--cap-add"])
_VALUED_TOO = frozenset(["--device", "--runtime"])


class NodeRefused(Exception):
    """No container came of it; the message is the node's."""


@dataclass(frozen=True)
class DockerRun:
    """What docker was really told."""

    image: str
    entrypoint: str | None
    argv: tuple[str, ...]
    """The words after the image."""
    env: Mapping[str, str] = field(repr=False)
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeAnswer:
    """What the node's shell did: docker's words (None: it was not called), its status, what it said."""

    words: tuple[str, ...] | None
    status: int
    said: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the container is to be, before any shell has seen it."""

    name: str
    image: str
    startup: str
    entrypoint: str
    env: Mapping[str, str] = field(repr=False)
    ports: Sequence[tuple[int, int]] = ()
    volume: str = ""
    sysbox: bool = False


def command_line(order: Order) -> str:
    """The line for the node: environment in single quotes without escaping, empty values left out, the rest bare."""
    parts = ["docker run -d"]
    if order.sysbox:
        parts.append("--runtime=sysbox-runc")
    parts += [f"-p {public}:{private}" for private, public in order.ports]
    if order.volume:
        parts.append(f"-v {order.volume}")
    if order.entrypoint:
        parts.append(f"--entrypoint {order.entrypoint}")
    parts += [f"-e '{name}={value}'" for name, value in order.env.items() if value]
    parts.append("--cap-add NET_ADMIN --device /dev/net/tun --shm-size 1g --gpus all --restart unless-stopped")
    parts.append(f"--name {order.name} {order.image} {order.startup}")
    return " ".join(parts).rstrip()


@functools.lru_cache(maxsize=256)
def on_node(line: str) -> NodeAnswer:
    """Let the node's shell have the line."""
    with tempfile.TemporaryDirectory(prefix="simulated-node-") as folder:
        try:
            done = subprocess.run(
                [_BASH, "--noprofile", "--norc", "-r", "-c", _DOCKER + line],
                env=_NODE,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
            )
        except (subprocess.TimeoutExpired, ValueError, OSError) as error:
            return NodeAnswer(None, 1, (str(error),))
    said = tuple(text.partition(": ")[2] for text in done.stderr.decode("utf-8", "replace").splitlines())
    return NodeAnswer(_words(done.stdout), done.returncode, said)


def _words(told: bytes) -> tuple[str, ...] | None:
    count, _, rest = told.partition(b"\0")
    if not count.isdigit():
        return None
    return tuple(word.decode("utf-8", "replace") for word in rest.split(b"\0")[: int(count)])


def docker_run(answer: NodeAnswer) -> DockerRun:
    """What docker makes of its words; NodeRefused when there were none, or no container comes of them."""
    if answer.words is None or answer.status != 0:
        reason = "; ".join(answer.said) or f"exit status {answer.status}"
        raise NodeRefused(f"docker run failed on the node: {reason}")
    words = list(answer.words)
    if not words or words.pop(0) != "run":
        raise NodeRefused("docker: unknown command")
    options: list[str] = []
    env: dict[str, str] = {}
    entrypoint = None
    while words and words[0].startswith("-"):
        option = words.pop(0)
        options.append(option)
        if option in _VALUED | _VALUED_TOO:
            value = words.pop(0) if words else ""
            options.append(value)
            if option == "-e":
                name, _, text = value.partition("=")
                env[name] = text
            entrypoint = value if option == "--entrypoint" else entrypoint
        elif option != "-d" and "=" not in option:
            raise NodeRefused(f"docker: unknown flag: {option}")
    if not words:
        raise NodeRefused("docker: 'docker run' requires at least 1 argument")
    return DockerRun(words[0], entrypoint, tuple(words[1:]), env, tuple(options))
