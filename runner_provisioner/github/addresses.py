"""Where GitHub's API lies, and the paths of scopes and repositories in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner_provisioner.errors import InvalidRequest

if TYPE_CHECKING:
    from runner_provisioner.domain.names import Scope

_PUBLIC_HOSTS = frozenset({"github.com", "github.localhost"})
_PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]+")


def api_url_of(server_url: str) -> str:
    """The API of the GitHub at `server_url`, for when `GITHUB_API_URL` does not say.

    github.com and data residency (`*.ghe.com`) answer at `api.HOST`, an Enterprise Server at `/api/v3` of its own host.
    Source: actions/scaleset, config.go.
    """
    parts = urlsplit(server_url)
    host = (parts.hostname or "").removeprefix("www.")
    if host in _PUBLIC_HOSTS or host.endswith(".ghe.com"):
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://api.{host}{port}"
    return f"{server_url.rstrip('/')}/api/v3"


def repository_path(repository: str) -> str:
    """`/repos/OWNER/NAME`; InvalidRequest when `repository` is not `owner/name`."""
    owner, _, name = repository.partition("/")
    if not _PART.fullmatch(owner) or not _PART.fullmatch(name):
        raise InvalidRequest(f"'{repository}' is not a repository: write owner/name")
    return f"/repos/{owner}/{name}"


def scope_path(scope: Scope) -> str:
    """`/repos/OWNER/NAME` or `/orgs/OWNER`; InvalidRequest when a part could leave its place in the path."""
    if scope.repository is not None:
        return repository_path(scope.path)
    if not _PART.fullmatch(scope.owner):
        raise InvalidRequest(f"'{scope.owner}' is not the name of an organisation")
    return f"/orgs/{scope.owner}"
