"""Which GPU a user means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NoReturn

from runner_provisioner.domain.offers import GpuType
from runner_provisioner.errors import UnknownGpu

_NEAREST = 3


def find(name: str, known: Sequence[GpuType]) -> GpuType | None:
    """The model of that id or displayed name, in any case."""
    wanted = _plain(name)
    by_id = next((gpu for gpu in known if _plain(gpu.id) == wanted), None)
    return by_id or next((gpu for gpu in known if _plain(gpu.name) == wanted), None)


def refuse(name: str, known: Sequence[GpuType]) -> NoReturn:
    """Raise UnknownGpu with the nearest names."""
    near = nearest(name, known)
    hint = f": did you mean {' or '.join(near)}?" if near else ":"
    raise UnknownGpu(f"RunPod has no GPU '{name}'{hint} 'gpu-types' lists all")


def nearest(name: str, known: Sequence[GpuType]) -> list[str]:
    """The three ids most like the name, however little: those that contain it, then by their spelling."""
    wanted = _plain(name)
    spelt = {_plain(text): gpu.id for gpu in known for text in (gpu.id, gpu.name)}
    inside = [gpu_id for text, gpu_id in spelt.items() if wanted and wanted in text]
    alike = [spelt[text] for text in difflib.get_close_matches(wanted, spelt, n=len(spelt) + 1, cutoff=0.0)]
    return list(dict.fromkeys(inside + alike))[:_NEAREST]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
