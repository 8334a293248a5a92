"""RunPod's GPU models, kept on disk for an hour."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from runner_provisioner._files import write_private
from runner_provisioner.domain.offers import GpuType
from runner_provisioner.errors import StoreError
from runner_provisioner.logging import get_logger
from runner_provisioner.ports import Clock
from runner_provisioner.providers.runpod.moments import moment, stamp

FILE_NAME = "runpod-gpu-types.json"
LIFETIME = timedelta(hours=1)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

log = get_logger(__name__)


class GpuCache:
    """One file in the user's cache folder, readable by the user alone, with an entry for each API address.

    A cache that cannot be read or written is done without: the next look asks RunPod. Only a full disk is an error,
    because whatever comes next, such as the state file, would not be kept either.
    """

    def __init__(self, folder: Path | None, *, url: str, clock: Clock) -> None:
        """Keep the entry of `url` in `folder`; None keeps nothing."""
        self._path = folder / FILE_NAME if folder else None
        self._url = url
        self._clock = clock

    def load(self) -> tuple[GpuType, ...] | None:
        """The models, or None when they are not known or older than an hour."""
        entry = self._entries().get(self._url)
        if not isinstance(entry, dict) or not self._fresh(entry):
            return None
        try:
            return tuple(GpuType(**gpu) for gpu in entry["gpu_types"])
        except (KeyError, TypeError):
            return None

    def save(self, gpu_types: Sequence[GpuType]) -> None:
        """Keep these models; raises StoreError when the disk is full."""
        if self._path is None:
            return
        kept = {url: entry for url, entry in self._entries().items() if isinstance(entry, dict) and self._fresh(entry)}
        kept[self._url] = {"fetched_at": stamp(self._clock.now()), "gpu_types": [asdict(gpu) for gpu in gpu_types]}
        try:
            write_private(self._path, json.dumps(kept).encode())
        except StoreError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL:
                raise
            log.warning("gpu_cache_not_written", path=str(self._path), reason=str(error))

    def _entries(self) -> dict[str, object]:
        if self._path is None:
            return {}
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("gpu_cache_not_read", path=str(self._path), reason=str(error))
            return {}
        return found if isinstance(found, dict) else {}

    def _fresh(self, entry: dict[str, object]) -> bool:
        fetched_at = moment(entry.get("fetched_at"))
        if fetched_at is None:
            return False
        # The stamp has whole seconds, so it may lie a moment back but never ahead.
        return timedelta() <= self._clock.now() - fetched_at < LIFETIME
