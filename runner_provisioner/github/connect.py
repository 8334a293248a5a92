"""Putting the GitHub adapter together: what the composition root calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner_provisioner.errors import InvalidRequest
from runner_provisioner.github.addresses import api_url_of, repository_path, scope_path
from runner_provisioner.github.app import AppClient, AppKey
from runner_provisioner.github.artifacts import GitHubArtifacts
from runner_provisioner.github.credentials import InstallationToken, PersonalToken, runner_access
from runner_provisioner.github.installation_cache import InstallationCache
from runner_provisioner.github.queue import GitHubQueue
from runner_provisioner.github.runners import GitHubRunners
from runner_provisioner.github.runs import GitHubRuns
from runner_provisioner.github.wire import GitHubApi

if TYPE_CHECKING:
    from pathlib import Path

    from runner_provisioner._http import Plumbing
    from runner_provisioner.domain.names import Scope
    from runner_provisioner.github.credentials import Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCredential:
    """A personal access token and where it was found (`GITHUB_TOKEN`)."""

    token: str = field(repr=False)
    origin: str = "GITHUB_TOKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppCredential:
    """A GitHub App: its client id or id, its private key in PEM, and its installation where that is known."""

    app_id: str
    private_key: str = field(repr=False)
    installation_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHub:
    """One scope of one GitHub, seen through one credential."""

    runners: GitHubRunners
    runs: GitHubRuns
    queue: GitHubQueue
    artifacts: GitHubArtifacts
    _api: GitHubApi

    async def aclose(self) -> None:
        """Close the connections."""
        await self._api.aclose()


def connect(
    scope: Scope,
    credential: TokenCredential | AppCredential,
    *,
    plumbing: Plumbing,
    api_url: str | None = None,
    runner_group: str | None = None,
    repository: str | None = None,
    cache_dir: Path | None = None,
) -> GitHub:
    """Build the adapter; nothing is sent yet.

    `api_url` is by default that of the scope's server. `repository` (owner/name) is the one whose jobs the runners
    are for: at organisation scope an App's token is narrowed to it and the runner group must be visible to it.
    `cache_dir` holds for an hour where an App is installed; None keeps nothing. InvalidRequest for an address or a name
    that cannot be.
    """
    scope_path(scope)
    api = GitHubApi(api_url=api_url or api_url_of(scope.server_url), plumbing=plumbing)
    known = _served(scope, repository)
    speaks = _credential(credential, api=api, scope=scope, repository=known, cache_dir=cache_dir)
    runners = GitHubRunners(scope, api=api, credential=speaks, runner_group=runner_group, repository=known)
    runs = GitHubRuns(api=api, credential=speaks)
    queue = GitHubQueue(api=api, credential=speaks, runs=runs)
    artifacts = GitHubArtifacts(api=api, credential=speaks, plumbing=plumbing)
    return GitHub(runners=runners, runs=runs, queue=queue, artifacts=artifacts, _api=api)


def _served(scope: Scope, repository: str | None) -> str | None:
    """The repository whose jobs the runners are for, where it is known."""
    if scope.repository is not None:
        return scope.path
    if repository is None:
        return None
    repository_path(repository)
    if repository.partition("/")[0].lower() != scope.owner.lower():
        raise InvalidRequest(
            f"runners of '{scope.owner}' cannot run jobs of {repository}: give another --organization, or --repository"
        )
    return repository


def _credential(
    credential: TokenCredential | AppCredential,
    *,
    api: GitHubApi,
    scope: Scope,
    repository: str | None,
    cache_dir: Path | None,
) -> Credential:
    if isinstance(credential, TokenCredential):
        return PersonalToken(credential.token, api=api, origin=credential.origin)
    app = f"{api.url} {credential.app_id}"
    cache = InstallationCache(cache_dir, app=app, clock=api.clock) if cache_dir is not None else None
    key = AppKey(issuer=credential.app_id, private_key=credential.private_key)
    return InstallationToken(
        AppClient(api, key),
        api=api,
        scope=scope,
        base=runner_access(scope, repository),
        installation_id=credential.installation_id,
        cache=cache,
    )
