"""What proves to GitHub that we may: a personal token, or an App's installation."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import anyio

from runner_provisioner.errors import GitHubError, PermissionDenied
from runner_provisioner.github.app import Access, AppClient, Grant, Installation
from runner_provisioner.github.errors import Speaker
from runner_provisioner.github.wire import Bearer

if TYPE_CHECKING:
    from runner_provisioner.domain.names import Scope
    from runner_provisioner.github.installation_cache import InstallationCache
    from runner_provisioner.github.wire import GitHubApi

_RENEWED_BEFORE = timedelta(minutes=5)
_SETTLES = 5.0  # seconds, as octokit/auth-app.js waits for a new token to be known everywhere


class Credential(Protocol):
    """Whoever hands out tokens; every token is known to the redactor before it is handed out."""

    proves_access: bool
    """Whether getting a token already proves that GitHub grants the access asked for."""

    async def bearer(self, access: Access) -> Bearer:
        """A token that is allowed at least this, as far as the credential can be."""
        ...


def runner_access(scope: Scope, repository: str | None) -> Access:
    """What registering and removing runners takes, and reading the runs they serve.

    At organisation scope `repository` (owner/name), where it is known, is all that an App's token will reach.
    """
    if scope.repository is not None:
        return Access(permissions={"administration": "write", "actions": "read"}, repository=scope.path)
    permissions = {"organization_self_hosted_runners": "write", "actions": "read"}
    return Access(permissions=permissions, repository=repository)


def run_access(repository: str, level: str = "read") -> Access:
    """What reading (`read`) or repeating and cancelling (`write`) the runs of `owner/name` takes."""
    return Access(permissions={"actions": level}, repository=repository)


class PersonalToken:
    """A classic or fine-grained personal access token, or any other token that somebody else renews."""

    proves_access = False

    def __init__(self, token: str, *, api: GitHubApi, origin: str) -> None:
        """`origin` says where the token came from, for messages: `GITHUB_TOKEN`."""
        self._token = token.strip()
        self._speaker = Speaker(
            label=f"the token in {origin}",
            remedy=f"make a new one and set {origin}",
            permission_remedy=_permission_remedy(self._token),
        )
        api.redactor.add(self._token)

    async def bearer(self, access: Access) -> Bearer:  # noqa: ARG002 - what a personal token may do is fixed
        """The token itself."""
        return Bearer(token=self._token, speaker=self._speaker)


def _permission_remedy(token: str) -> str:
    if token.startswith("ghs_"):
        return "a workflow's own GITHUB_TOKEN can never register runners, use a personal token or a GitHub App"
    if token.startswith("github_pat_"):
        return (
            "give the fine-grained token this repository with Administration: write and Actions: read"
            " (an organisation: Self-hosted runners: write)"
        )
    return "give the classic token the scope repo (an organisation: admin:org)"


class InstallationToken:
    """Tokens of an App's installation: narrowed, kept in memory, renewed five minutes before they end."""

    proves_access = True

    def __init__(
        self,
        app: AppClient,
        *,
        api: GitHubApi,
        scope: Scope,
        base: Access,
        installation_id: int | None = None,
        cache: InstallationCache | None = None,
    ) -> None:
        """`base` is what is asked for whenever it is enough; `installation_id` is looked up when not given.

        `cache` is what earlier processes have found; what GitHub refuses of it is looked up anew.
        """
        self._app = app
        self._api = api
        self._base = base
        self._scope = scope
        self._lock = anyio.Lock()
        self._grants: list[tuple[str, Grant, float]] = []
        self._cache = cache
        self._installations: dict[str, Installation] = {}
        if installation_id is not None:
            self._installations[scope.owner.lower()] = Installation(id=installation_id)

    async def bearer(self, access: Access) -> Bearer:
        """A kept token that is allowed this, else a new one; many who ask at once cause one request."""
        async with self._lock:
            return self._kept(access) or await self._new(access)

    def _kept(self, access: Access) -> Bearer | None:
        limit = self._app.now() + _RENEWED_BEFORE
        self._grants = [kept for kept in self._grants if kept[1].expires_at > limit]
        owner = self._owner_of(access)
        for granted_to, grant, settled_at in self._grants:
            if granted_to == owner and grant.access.covers(access):
                return self._bearer(grant, settled_at)
        return None

    async def _new(self, access: Access) -> Bearer:
        owner = self._owner_of(access)
        same_account = owner == self._scope.owner.lower()
        wanted = self._base if same_account and self._base.covers(access) else access
        grant = await self._granted(owner, wanted)
        settled_at = self._api.clock.monotonic() + _SETTLES
        self._grants.append((owner, grant, settled_at))
        return self._bearer(grant, settled_at)

    async def _granted(self, owner: str, access: Access) -> Grant:
        known = self._installations.get(owner)
        place = self._place(owner, access)
        cached = self._cache.load(place or owner) if self._cache is not None and known is None else None
        if cached is None:
            return await self._app.grant(known or await self._look_up(owner, place), access)
        try:
            grant = await self._app.grant(Installation(id=cached), access)
        except (GitHubError, PermissionDenied):
            # Perhaps the App was installed anew; if not, what is looked up can say what is wrong.
            return await self._app.grant(await self._look_up(owner, place), access)
        self._installations[owner] = Installation(id=cached)
        return grant

    def _place(self, owner: str, access: Access) -> str | None:
        """The repository by which the installation is found; None: by its owner."""
        by_repository = self._scope.repository is not None or owner != self._scope.owner.lower()
        return access.repository if by_repository else None

    async def _look_up(self, owner: str, place: str | None) -> Installation:
        found = await self._app.installation(self._scope.owner, place)
        self._installations[owner] = found
        if self._cache is not None:
            self._cache.save(place or owner, found.id)
        return found

    def _owner_of(self, access: Access) -> str:
        return (access.repository or self._scope.owner).partition("/")[0].lower()

    def _bearer(self, grant: Grant, settled_at: float) -> Bearer:
        return Bearer(token=grant.token, speaker=self._app.speaker, settled_at=settled_at)
