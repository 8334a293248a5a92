"""The gate in a pod: what a machine must have, what was found, and what the pod tells of itself.

The start script (bootstrap/start.sh) writes one small JSON file; whoever reads it reads the words of a machine that
others own, so everything about it is checked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from runner_provisioner.errors import InvalidRequest

GATE = "RP_GATE"
"""The variable of the pod that carries the gate, packed."""
REPORT_PATH = "/run/runner-provisioner.json"
"""Where a pod whose container starts as root tells how far it is; readable by everybody in the pod."""

_LONGEST_REPORT = 4096
_LONGEST_TEXT = 512
_MOST = 10**9
_MIB_PER_GB = 1024
_USABLE = 0.9  # nvidia-smi shows less than the label says: 23034 MiB of an L4's 24 GB, 46068 of an A40's 48 (ECC)
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,3}", re.ASCII)


class PodPhase(StrEnum):
    """How far a pod says that it is."""

    PREPARING = "preparing"
    GATE = "gate"
    DOWNLOADING = "downloading"
    REGISTERING = "registering"
    LISTENING = "listening"
    WORKING = "working"
    ENDING = "ending"
    GATE_FAILED = "gate-failed"  # it ends itself, and nothing was registered


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFloor:
    """What a machine must have before a runner is registered on it; 0 and "" are not checked.

    `count` GPUs of model `gpu`, each with `vram_mib` MiB or more; the `driver` and the `cuda` version it can do, or
    newer; `free_gb` GiB of free disk; `download_mbps` megabits per second for the runner's own download.
    """

    count: int = 0
    gpu: str = ""
    vram_mib: int = 0
    driver: str = "0"
    cuda: str = "0"
    free_gb: int = 0
    download_mbps: int = 0

    @classmethod
    def of(
        cls,
        *,
        model: str,
        count: int,
        memory_gb: int | None,
        driver: str | None = None,
        cuda: str | None = None,
        disk_gb: int = 0,
        download_mbps: int = 0,
    ) -> Self:
        """The floor of what was rented: a quarter of the disk must be free, of the VRAM nine tenths be usable.

        Where the model is none of NVIDIA's nothing can be asked of its GPUs.
        """
        other = model.casefold().startswith("amd ")
        return cls(
            count=0 if other else count,
            gpu="" if other else _model(model),
            vram_mib=int((memory_gb or 0) * _MIB_PER_GB * _USABLE),
            driver=driver or "0",
            cuda=cuda or "0",
            free_gb=disk_gb // 4,
            download_mbps=download_mbps,
        )


def _model(name: str) -> str:
    """The model without its maker and without what the gate could not print."""
    return re.sub(r"[^A-Za-z0-9 .-]", "", name.removeprefix("NVIDIA ")).strip()


def check_version(option: str, value: str | None) -> None:
    """Raise InvalidRequest when this is no version such as 550.54.15."""
    if value is not None and not _VERSION.fullmatch(value):
        raise InvalidRequest(f"{option} {value!r}: write a version such as 550.54 or 12.4")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What the gate found: the last GPU's name, memory (MiB) and driver, and GiB of free disk."""

    gpu: str
    count: int
    vram_mib: int
    driver: str
    cuda: str
    free_gb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReport:
    """What a pod tells of itself; `gate` is None until the gate was asked, and where it is off."""

    phase: PodPhase
    reason: str = ""
    gate: GateResult | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read the file; None for anything but a report, whatever it is. Never raises."""
        given = _object(text)
        if given is None or given.keys() != {"phase", "reason", "gate"}:
            return None
        phase, reason, gate = given["phase"], given["reason"], given["gate"]
        if not _is_text(phase) or phase not in set(PodPhase) or not _is_text(reason) or not isinstance(gate, dict):
            return None
        found = _result(gate) if gate else None
        if gate and found is None:
            return None
        return cls(phase=PodPhase(phase), reason=reason, gate=found)


def _object(text: str) -> dict[str, Any] | None:
    if len(text) > _LONGEST_REPORT:
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return given if isinstance(given, dict) else None


_TEXTS = {"gpu": "gpu", "driver": "driver", "cuda": "cuda"}
_NUMBERS = {"count": "count", "vram": "vram_mib", "free": "free_gb"}


def _result(gate: dict[str, Any]) -> GateResult | None:
    if gate.keys() != _TEXTS.keys() | _NUMBERS.keys():
        return None
    if not all(_is_text(gate[name]) for name in _TEXTS) or not all(_is_number(gate[name]) for name in _NUMBERS):
        return None
    return GateResult(**{field: gate[name] for name, field in (_TEXTS | _NUMBERS).items()})


def _is_text(value: object) -> bool:
    """Only what can be printed on any terminal: no control characters, none that change the direction of writing."""
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and value.isascii() and value.isprintable()


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST
