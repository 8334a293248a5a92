"""Prime Intellect's names for GPU models, found by the names that other markets and people use.

Prime writes `A4000_16GB` or `H100_80GB` where RunPod has "NVIDIA RTX A4000" and "NVIDIA H100 80GB HBM3".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from runner_provisioner.errors import UnknownGpu

# The types that the API's documentation names; others appear without notice.
KNOWN: tuple[str, ...] = (
    "A10_24GB", "A100_40GB", "A100_80GB", "A30_24GB", "A40_48GB", "B200_180GB", "B300_262GB", "RTX3070_8GB",
    "RTX3080_10GB", "RTX3080Ti_12GB", "RTX3090_24GB", "RTX3090Ti_24GB", "RTX4070Ti_12GB", "RTX4080_16GB",
    "RTX4080Ti_16GB", "RTX4090_24GB", "RTX5090_32GB", "H100_80GB", "H200_96GB", "GH200_96GB", "H200_141GB",
    "GH200_480GB", "GH200_624GB", "L4_24GB", "L40_48GB", "L40S_48GB", "RTX4000_8GB", "RTX5000_16GB", "RTX6000_24GB",
    "RTX8000_48GB", "RTX2000Ada_16GB", "RTX4000Ada_20GB", "RTX5000Ada_32GB", "RTX6000Ada_48GB", "A2000_6GB",
    "A4000_16GB", "A4500_20GB", "A5000_24GB", "A6000_48GB", "V100_16GB", "V100_32GB", "P100_16GB", "T4_16GB", "P4_8GB",
    "P40_24GB", "RTX_PRO_6000B_96GB",
)  # fmt: skip
_PARTS = re.compile(r"[A-Za-z0-9]+")
_MEMORY = re.compile(r"(\d+)gb")
_SOCKET = re.compile(r"pcie|sxm\d?")
_ON_SXM = frozenset({"hbm3", "hbm3e"})  # how the driver names the modules of H100 and newer
_EMPTY = frozenset({"nvidia", "amd", "geforce", "tesla", "quadro", "instinct", "rtx", "generation", "edition", "server",
                    "workstation", "blackwell", "gb"})  # fmt: skip
_SYNONYMS = {"pro6000": "pro6000b"}


@dataclass(frozen=True, slots=True)
class GpuName:
    """A model taken apart: `a100`, 80 GB, on SXM; None where the name does not say."""

    model: str
    memory_gb: int | None = None
    socket: str | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Take any market's name apart."""
        words = [word.lower() for word in _PARTS.findall(text)]
        kept: list[str] = []
        memory: int | None = None
        socket: str | None = None
        for word in words:
            if found := _MEMORY.fullmatch(word):
                memory = int(found[1])
            elif _SOCKET.fullmatch(word):
                socket = word[:3]
            elif word in _ON_SXM:
                socket = socket or "sxm"
            elif word not in _EMPTY:
                kept.append(word.removeprefix("rtx"))
        model = "".join(kept)
        return cls(_SYNONYMS.get(model, model), memory, socket)

    def fits(self, gpu_type: str, socket: str | None = None) -> bool:
        """Whether Prime's type, on this socket where that is known, is such a GPU."""
        other = GpuName.read(gpu_type)
        if not self.model or self.model != other.model:
            return False
        same = self.memory_gb is None or other.memory_gb is None or self.memory_gb == other.memory_gb
        return same and (self.socket is None or socket is None or socket.lower().startswith(self.socket))


def named(gpu_type: str, socket: str | None, names: Sequence[str]) -> str | None:
    """The first of the wanted names that means this GPU."""
    return next((name for name in names if _is(name, gpu_type, socket)), None)


def unknown(names: Iterable[str], types: Iterable[str]) -> list[str]:
    """The names that mean none of these types."""
    known = list(types)
    return [name for name in names if not any(_is(name, each, None) for each in known)]


def refusal(name: str, types: Iterable[str]) -> UnknownGpu:
    """The error of a model that nobody knows; it names the nearest."""
    near = difflib.get_close_matches(name, sorted(set(types)), n=3, cutoff=0.4)
    hint = f": did you mean {' or '.join(near)}?" if near else ": see the list of GPU models"
    return UnknownGpu(f"Prime Intellect knows no GPU '{name}'{hint}")


def memory_of(gpu_type: str) -> int:
    """GB of one GPU, as the type says; 0 when it does not."""
    return GpuName.read(gpu_type).memory_gb or 0


def _is(name: str, gpu_type: str, socket: str | None) -> bool:
    return name.casefold() == gpu_type.casefold() or GpuName.read(name).fits(gpu_type, socket)
