"""The CUDA version that a container needs its host's driver to serve."""

from __future__ import annotations

import re

from runner_provisioner.errors import InvalidRequest

ANY = "any"
_VERSION = re.compile(r"(\d{1,2})\.(\d{1,2})(?:\.\d{1,2})?", re.ASCII)
_TAGS = (
    re.compile(r"(?<![a-z0-9])cuda-?(\d{1,2})\.(\d{1,2})", re.ASCII),  # cuda11.8.0, cuda12.1-cudnn8
    re.compile(r"(?<![a-z0-9])cu(1\d)(\d)\d?(?!\d)", re.ASCII),  # cu121, and cu1281 for 12.8.1 (runpod/pytorch)
    re.compile(r"^(\d{1,2})\.(\d{1,2})(?:\.\d+)?-(?:cudnn\d*-)?(?:devel|runtime|base)", re.ASCII),  # nvidia/cuda
)


def cuda_of_image(image: str) -> str | None:
    """The version that the image's tag names, like "12.1"; None when it names none."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2].lower()
    for pattern in _TAGS:
        found = pattern.search(tag)
        if found is not None:
            return f"{int(found[1])}.{int(found[2])}"
    return None


def cuda_floor(wanted: str | None, image: str) -> str | None:
    """The version to ask for: the user's, else that of the image; None for "any". Raises InvalidRequest."""
    if wanted is None:
        return cuda_of_image(image)
    if wanted.strip().lower() == ANY:
        return None
    found = _VERSION.fullmatch(wanted.strip())
    if found is None:
        raise InvalidRequest(f"--cuda {wanted}: write a version such as 12.4, or any")
    return f"{int(found[1])}.{int(found[2])}"
