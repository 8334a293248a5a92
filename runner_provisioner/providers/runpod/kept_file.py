"""Small things that are kept on disk for a while, an entry for each address of the API."""

from __future__ import annotations

import errno
import json
from datetime import timedelta
from pathlib import Path

from runner_provisioner._files import write_private
from runner_provisioner.errors import StoreError
from runner_provisioner.logging import get_logger
from runner_provisioner.ports import Clock
from runner_provisioner.providers.runpod.moments import moment, stamp

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FETCHED_AT = "fetched_at"

log = get_logger(__name__)


class KeptFile:
    """One file in the user's cache folder, readable by the user alone.

    One that cannot be read or written is done without. Only a full disk is an error, because whatever comes next, such
    as the state file, would not be kept either.
    """

    def __init__(self, folder: Path | None, name: str, *, url: str, lifetime: timedelta, clock: Clock) -> None:
        """Keep the entry of `url` in the file `name` of `folder`; None keeps nothing."""
        self._path = folder / name if folder else None
        self._url = url
        self._lifetime = lifetime
        self._clock = clock

    def load(self) -> dict[str, object] | None:
        """The entry, or None when there is none or it is older than its lifetime."""
        entry = self._entries().get(self._url)
        return entry if isinstance(entry, dict) and self._fresh(entry) else None

    def save(self, entry: dict[str, object]) -> None:
        """Keep this from now on for a lifetime; raises StoreError when the disk is full."""
        if self._path is None:
            return
        kept = {url: entry for url, entry in self._entries().items() if isinstance(entry, dict) and self._fresh(entry)}
        kept[self._url] = {_FETCHED_AT: stamp(self._clock.now()), **entry}
        try:
            write_private(self._path, json.dumps(kept).encode())
        except StoreError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL:
                raise
            log.warning("cache_not_written", path=str(self._path), reason=str(error))

    def _entries(self) -> dict[str, object]:
        if self._path is None:
            return {}
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("cache_not_read", path=str(self._path), reason=str(error))
            return {}
        return found if isinstance(found, dict) else {}

    def _fresh(self, entry: dict[str, object]) -> bool:
        fetched_at = moment(entry.get(_FETCHED_AT))
        if fetched_at is None:
            return False
        # The stamp has whole seconds, so it may lie a moment back but never ahead.
        return timedelta() <= self._clock.now() - fetched_at < self._lifetime
