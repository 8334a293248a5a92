"""Prime Intellect's names for GPU models, found by the names that other markets and people use.

Prime writes `A4000_16GB` or `H100_80GB` where RunPod has "NVIDIA RTX A4000" and "NVIDIA H100 80GB HBM3".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from runner_provisioner.domain.gpu_names import GpuName
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
