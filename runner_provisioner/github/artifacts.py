"""Small files that jobs of a run have uploaded."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner_provisioner._http import HttpSession
from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.github.addresses import repository_path
from runner_provisioner.github.credentials import run_access
from runner_provisioner.github.errors import SERVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner_provisioner._http import Plumbing
    from runner_provisioner.github.credentials import Credential
    from runner_provisioner.github.wire import GitHubApi

MOST_FILES = 100  # of one run: whoever can upload may upload many
LARGEST = 64 * 1024  # bytes, of the archive as of the file in it
_ZIP = b"PK"  # what every archive begins with (APPNOTE.TXT, 4.3)
_FOUND = 302
_GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An upload of a run; `size` is that of the archive in bytes."""

    id: int
    name: str
    size: int


class GitHubArtifacts:
    """`ports.RunFiles`. What lies in an artifact is whatever some job put there: nothing of it is believed here."""

    def __init__(self, *, api: GitHubApi, credential: Credential, plumbing: Plumbing) -> None:
        """`plumbing` carries the downloads, which come from another host and get no credential."""
        self._api = api
        self._credential = credential
        self._plumbing = plumbing

    async def small_files(self, repository: str, run_id: int, prefix: str) -> Sequence[bytes]:
        """See the port."""
        found = await self.list(repository, run_id)
        wanted = [one for one in found if one.name.startswith(prefix) and one.size <= LARGEST]
        files = [await self._file(repository, one) for one in wanted[:MOST_FILES]]
        return [content for content in files if content is not None]

    async def list(self, repository: str, run_id: int) -> Sequence[Artifact]:
        """All uploads of every attempt that have not expired."""
        bearer = await self._credential.bearer(run_access(repository))
        path = f"{repository_path(repository)}/actions/runs/{run_id:d}/artifacts"
        found = await self._api.pages("listArtifacts", path, "artifacts", bearer=bearer)
        return [
            Artifact(id=one.number("id"), name=one.text("name"), size=one.number("size_in_bytes"))
            for one in found
            if not one.flag("expired")
        ]

    async def _file(self, repository: str, artifact: Artifact) -> bytes | None:
        bearer = await self._credential.bearer(run_access(repository))
        operation = "downloadArtifact"
        path = f"{repository_path(repository)}/actions/artifacts/{artifact.id:d}/zip"
        answer = await self._api.call(operation, "GET", path, bearer=bearer, accepted={_FOUND, _GONE}, follow=False)
        if answer.status == _GONE:
            return None
        location = answer.headers.get("location", "")
        if answer.status != _FOUND or not location:
            message = "GitHub does not say where an artifact lies: report this"
            raise ProtocolViolation(message, service=SERVICE, operation=operation, request_id=answer.request_id)
        archive = await self._fetch(location)
        if not archive.startswith(_ZIP):
            # Not a bad file but no file: somebody between answered. To take it for "no record" would hide a record.
            message = f"the artifact {artifact.name} did not arrive as an archive: try again"
            raise ProtocolViolation(message, service=SERVICE, operation=operation, request_id=answer.request_id)
        return only_file(archive)

    async def _fetch(self, location: str) -> bytes:
        parts = urlsplit(location)
        # The address is as good as a password for a minute, and is another host's: no token goes there.
        self._plumbing.redactor.add(location)
        base = f"{parts.scheme}://{parts.netloc}"
        async with HttpSession(service="github artifacts", base_url=base, plumbing=self._plumbing) as session:
            answer = await session.send("fetchArtifact", "GET", location)
        return answer.body


def only_file(archive: bytes) -> bytes | None:
    """The one small file in a zip archive; None for anything else. Nothing is written to a disk."""
    if len(archive) > LARGEST:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            members = opened.infolist()
            if len(members) != 1 or members[0].is_dir() or members[0].flag_bits & 1:
                return None
            with opened.open(members[0]) as file:
                # The size in its head is whatever the archive says: what is read is what counts.
                content = file.read(LARGEST + 1)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError, OSError):
        return None
    return content if len(content) <= LARGEST else None
