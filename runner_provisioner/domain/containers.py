"""What a pod's container is asked for: its image, its ports, where its volume goes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runner_provisioner.errors import InvalidRequest

_PORT = re.compile(r"([0-9]{1,5})/(tcp|http)")
_HIGHEST_PORT = 65535
_SYMMETRIC = range(70000, 80000)  # not a port: asks for the same number inside and outside (RunPod docs, expose ports)
_PATH = re.compile(r"/[A-Za-z0-9._+@/-]*")
# A volume over one of these, or beneath, hides what the container runs on, and the job's user would own it.
_SYSTEM = frozenset(
    ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "usr", "var")
)
# Folders in these are anybody's, but not these themselves: our own files lie there too, on the container's disk.
_SHARED = frozenset(("home", "opt", "root", "tmp"))


def check_image(option: str, image: str) -> str:
    """Give the image back. Raises InvalidRequest, naming the option, when it can be no image's name."""
    if not image or not image.isprintable() or " " in image:
        raise InvalidRequest(f"{option} {image!r}: give the name of a container image, without blanks")
    return image


def check_ports(option: str, ports: Iterable[str]) -> tuple[str, ...]:
    """The ports, one each: `22/tcp,80/http` is two. Raises InvalidRequest, naming the option."""
    single = tuple(port.strip() for group in ports for port in group.split(","))
    for port in single:
        if not _is_port(port):
            raise InvalidRequest(
                f"{option} {port!r}: write NUMBER/tcp or NUMBER/http with 1 to 65535, or from 70000/tcp on for a port"
                " that has the same number outside"
            )
    return single


def _is_port(port: str) -> bool:
    found = _PORT.fullmatch(port)
    if not found:
        return False
    number = int(found[1])
    return 0 < number <= _HIGHEST_PORT or (number in _SYMMETRIC and found[2] == "tcp")


def check_mount(option: str, path: str) -> str:
    """The mount point in its shortest form. Raises InvalidRequest, naming the option, for a system folder."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if not _PATH.fullmatch(path) or ".." in parts:
        raise InvalidRequest(
            f"{option} {path!r}: give an absolute path of letters, digits and ._+@- without '..', such as /workspace"
        )
    if not parts or parts[0] in _SYSTEM or (len(parts) == 1 and parts[0] in _SHARED):
        raise InvalidRequest(f"{option} {path!r}: a volume there would hide the system: give a folder like /workspace")
    return "/" + "/".join(parts)
