"""The machines of a simulated market, and how one can be other than it was rented."""

from __future__ import annotations

import socket
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_INERT_PORT = 40000


class Defect(StrEnum):
    """How a machine can be other than it was rented."""

    NO_GPU_TOOL = "no nvidia-smi"
    ONE_GPU_LESS = "one GPU less"
    LITTLE_VRAM = "little VRAM"
    OLD_DRIVER = "old driver"
    OTHER_MODEL = "other model"


@dataclass(kw_only=True)
class Host:
    """A machine with GPUs of one model; `taken` of them are rented."""

    id: str
    gpus: int
    taken: int = 0
    cuda: str = "12.8"
    driver: str = "570.124.06"
    defect: Defect | None = None
    """What is wrong with it, though the market does not say so."""

    @property
    def free(self) -> int:
        """GPUs that can be rented."""
        return max(0, self.gpus - self.taken)


def real_gpus(host: Host, *, gpu: str, count: int, memory: int) -> dict[str, Any]:
    """What a pod on this host really has, as fields of a Launch; `memory` in MiB per GPU."""
    found: dict[str, Any] = {
        "gpu": gpu,
        "gpu_count": count,
        "gpu_memory": memory - memory // 16,  # what ECC and the driver leave
        "driver": host.driver,
        "cuda": host.cuda,
    }
    changed: dict[Defect | None, dict[str, Any]] = {
        Defect.NO_GPU_TOOL: {"nvidia_smi": False},
        Defect.ONE_GPU_LESS: {"gpu_count": count - 1},
        Defect.LITTLE_VRAM: {"gpu_memory": memory // 2},
        Defect.OLD_DRIVER: {"driver": "470.57.02", "cuda": "11.4"},
        Defect.OTHER_MODEL: {"gpu": "NVIDIA GeForce GTX 1060"},
    }
    return found | changed.get(host.defect, {})


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def inert_address(pod_id: str, number: int) -> tuple[str, int]:
    """A public port for a pod without process; nobody listens there."""
    return ("127.0.0.1", _INERT_PORT + zlib.crc32(f"{pod_id}:{number}".encode()) % 10000)
