"""How a pod's start command and environment come about."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence

_SECRET = re.compile(r"\{\{\s*RUNPOD_SECRET_(\w+)\s*\}\}")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def override(docker_args: str) -> dict[str, list[str]] | None:
    """The JSON form of dockerArgs (seen in dstack's requests), or None when it is a plain command line."""
    try:
        given = json.loads(docker_args)
    except ValueError:
        return None
    if not isinstance(given, dict) or not given.keys() <= {"cmd", "entrypoint"}:
        return None
    return {name: [str(each) for each in words] for name, words in given.items() if isinstance(words, list)}


def _words(line: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(line))
    except ValueError:
        return tuple(line.split())


def argv(docker_args: str | None, *, entrypoint: Sequence[str], cmd: Sequence[str]) -> tuple[str, ...]:
    """What the container runs: a plain string replaces CMD alone, the JSON form what it names."""
    if not docker_args:
        return (*entrypoint, *cmd)
    given = override(docker_args)
    if given is None:
        return (*entrypoint, *_words(docker_args))
    return (*given.get("entrypoint", entrypoint), *given.get("cmd", cmd))


def with_secrets(value: str, secrets: Mapping[str, str]) -> str:
    """The value with every `{{ RUNPOD_SECRET_name }}` that is known filled in."""
    return _SECRET.sub(lambda found: secrets.get(found[1], found[0]), value)


def tcp_ports(ports: str) -> list[int]:
    """The tcp ports of `22/tcp,8888/http`."""
    return [number for number, kind in parse_ports(ports) if kind == "tcp"]


def parse_ports(ports: str) -> list[tuple[int, str]]:
    """Every well-formed entry of `22/tcp,8888/http`; others are dropped."""
    entries = [each.strip().partition("/") for each in ports.split(",")]
    return [(int(number), kind or "tcp") for number, _, kind in entries if number.isdigit()]


def base_environment(*, cuda: str) -> dict[str, str]:
    """What the image itself sets."""
    return {
        "PATH": _PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "CUDA_VERSION": f"{cuda}.0",
        "PYTORCH_VERSION": "2.8.0",
        "NVIDIA_VISIBLE_DEVICES": "all",
    }
