"""Where a GitHub App is installed, kept on disk for an hour: a `stop` soon after its `start` need not ask again."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

from runner_provisioner._files import write_private
from runner_provisioner.errors import StoreError
from runner_provisioner.logging import get_logger
from runner_provisioner.ports import Clock

FILE_NAME = "github-installations.json"
LIFETIME = timedelta(hours=1)

log = get_logger(__name__)


class InstallationCache:
    """One file in the user's cache folder, readable by the user alone, that holds no secret.

    A cache that cannot be read or written is done without, whatever the reason: nothing is to keep a stop from ending.
    """

    def __init__(self, folder: Path, *, app: str, clock: Clock) -> None:
        """`app` tells Apps of all servers apart."""
        self._path = folder / FILE_NAME
        self._app = app
        self._clock = clock

    def load(self, place: str) -> int | None:
        """The id of the installation for `owner` or `owner/name`; None when it is not known or older than an hour."""
        entry = self._entries().get(self._key(place))
        return entry[0] if entry is not None else None

    def save(self, place: str, installation: int) -> None:
        """Keep this id."""
        entries = {**self._entries(), self._key(place): (installation, self._clock.now())}
        kept = {key: {"id": number, "at": at.isoformat()} for key, (number, at) in entries.items()}
        try:
            write_private(self._path, json.dumps(kept).encode())
        except StoreError as error:
            log.warning("installation_cache_not_written", path=str(self._path), reason=str(error))

    def _key(self, place: str) -> str:
        return f"{self._app} {place.lower()}"

    def _entries(self) -> dict[str, tuple[int, datetime]]:
        """What is fresh; an entry from the future is not."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            read = {str(key): (int(one["id"]), datetime.fromisoformat(one["at"])) for key, one in found.items()}
            now = self._clock.now()
            return {key: entry for key, entry in read.items() if timedelta() <= now - entry[1] < LIFETIME}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("installation_cache_not_read", path=str(self._path), reason=str(error))
            return {}
