"""What jobs have uploaded, and the place where it is fetched.

An archive lies at an address of its own that is good for a minute and asks for no credential (docs: download an
artifact).
"""

from __future__ import annotations

import io
import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from runner_provisioner.simulators.github.entities import ApiError, not_found

if TYPE_CHECKING:
    from runner_provisioner.simulators.github.runs import Run

PLACE = "/_artifacts/"
LIFE = timedelta(days=90)
TICKET_LIFE = timedelta(minutes=1)
PACKED_AT = (2026, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Artifact:
    """One upload of one run: a zip archive."""

    id: int
    run: Run
    name: str
    archive: bytes = field(repr=False)
    created_at: datetime


def packed(files: Mapping[str, bytes]) -> bytes:
    """Files as the archive that an upload makes of them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, PACKED_AT), content)
    return buffer.getvalue()


class Shelf:
    """The artifacts of all runs, and the tickets with which they are fetched. Callers hold `World.lock`."""

    def __init__(self) -> None:
        self.artifacts: dict[int, Artifact] = {}
        self._tickets: dict[str, tuple[int, datetime]] = {}

    def put(self, artifact: Artifact, *, overwrite: bool = False) -> None:
        """Keep it; 409 when the run has one of that name, unless that is to be replaced."""
        for same in [one for one in self.of(artifact.run) if one.name == artifact.name]:
            if not overwrite:
                raise ApiError(409, "an artifact with this name already exists on the workflow run")
            del self.artifacts[same.id]
        self.artifacts[artifact.id] = artifact

    def of(self, run: Run) -> list[Artifact]:
        """Of one run, newest first."""
        return [one for one in reversed(self.artifacts.values()) if one.run is run]

    def ticket(self, artifact: Artifact, now: datetime) -> str:
        """The path at which it can be fetched for a minute."""
        word = secrets.token_hex(16)
        self._tickets[word] = (artifact.id, now + TICKET_LIFE)
        return PLACE + word

    def fetch(self, path: str, now: datetime) -> bytes:
        """What a ticket is for; 404."""
        number, until = self._tickets.get(path.removeprefix(PLACE), (0, now))
        found = self.artifacts.get(number)
        if found is None or now >= until:
            raise not_found()
        return found.archive
