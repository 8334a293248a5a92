"""RunPod's GPU models, kept on disk for an hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from runner_provisioner.domain.offers import GpuType
from runner_provisioner.ports import Clock
from runner_provisioner.providers.runpod.kept_file import KeptFile

FILE_NAME = "runpod-gpu-types.json"
LIFETIME = timedelta(hours=1)


class GpuCache:
    """The models that an address of the API has listed; see KeptFile."""

    def __init__(self, folder: Path | None, *, url: str, clock: Clock) -> None:
        """Keep the entry of `url` in `folder`; None keeps nothing."""
        self._file = KeptFile(folder, FILE_NAME, url=url, lifetime=LIFETIME, clock=clock)

    def load(self) -> tuple[GpuType, ...] | None:
        """The models, or None when they are not known or older than an hour."""
        entry: dict[str, Any] = self._file.load() or {}
        try:
            return tuple(GpuType(**gpu) for gpu in entry["gpu_types"])
        except (KeyError, TypeError):
            return None

    def save(self, gpu_types: Sequence[GpuType]) -> None:
        """Keep these models; raises StoreError when the disk is full."""
        self._file.save({"gpu_types": [asdict(gpu) for gpu in gpu_types]})
