"""Routes about Apps, installations, repositories and limits.

Operations: app, installation, installation.repo, installation.org, installation.user, access_tokens, repo, rate_limit.
"""

from __future__ import annotations

from runner_provisioner.simulators.github.entities import Account, ApiError, Repository, not_found
from runner_provisioner.simulators.github.rest import Exchange, Reply, Route
from runner_provisioner.simulators.github.shapes import stamp
from runner_provisioner.simulators.github.tokens import App, Installation

MOST_REPOSITORIES = 500


def _app(exchange: Exchange) -> App:
    if exchange.principal.app is None:
        raise not_found()
    return exchange.principal.app


def show_app(exchange: Exchange) -> Reply:
    """GET /app."""
    return Reply(value=exchange.shapes.app(_app(exchange)))


def show_installation(exchange: Exchange) -> Reply:
    """GET /app/installations/{installation_id}."""
    found = exchange.world.credentials.installation(_app(exchange), exchange.number("installation_id"))
    return Reply(value=exchange.shapes.installation(found))


def installation_of_repository(exchange: Exchange) -> Reply:
    """GET /repos/{owner}/{repo}/installation."""
    for installation in exchange.world.credentials.installations_of(_app(exchange)):
        if installation.covers(exchange.repository):
            return Reply(value=exchange.shapes.installation(installation))
    raise not_found()


def installation_of_account(exchange: Exchange) -> Reply:
    """GET /orgs/{org}/installation and /users/{username}/installation."""
    login = exchange.params.get("org", exchange.params.get("username", ""))
    account: Account | None = exchange.world.accounts.get(login.lower())
    for installation in exchange.world.credentials.installations_of(_app(exchange)):
        if installation.account is account:
            return Reply(value=exchange.shapes.installation(installation))
    raise not_found()


def create_access_token(exchange: Exchange) -> Reply:
    """POST /app/installations/{installation_id}/access_tokens."""
    credentials = exchange.world.credentials
    installation = credentials.installation(_app(exchange), exchange.number("installation_id"))
    content = exchange.content()
    chosen = _chosen(exchange, installation)
    ids = None if chosen is None else frozenset(repository.id for repository in chosen)
    token, principal = credentials.issue_installation_token(installation, ids, content.get("permissions"))
    ends = principal.expires_at or exchange.world.clock.now()
    value: dict[str, object] = {
        "token": token,
        "expires_at": stamp(ends),
        "permissions": principal.permissions,
        "repository_selection": "all" if principal.repositories is None else "selected",
    }
    if chosen is not None:
        value["repositories"] = [exchange.shapes.full_repository(repository) for repository in chosen]
    return Reply(status=201, value=value)


def _chosen(exchange: Exchange, installation: Installation) -> list[Repository] | None:
    content, world = exchange.content(), exchange.world
    names, ids = content.get("repositories") or [], content.get("repository_ids") or []
    if not names and not ids:
        return None
    if len(names) + len(ids) > MOST_REPOSITORIES:
        raise ApiError(422, f"At most {MOST_REPOSITORIES} repositories can be named.")
    try:
        found = [world.repository(f"{installation.account.login}/{name}") for name in names]
        found += [world.repository_by_id(number) for number in ids]
    except ApiError:
        found = []
    if not found or not all(installation.covers(repository) for repository in found):
        text = "There is at least one repository that does not exist or is not accessible to the parent installation."
        raise ApiError(422, text)
    return found


def show_repository(exchange: Exchange) -> Reply:
    """GET /repos/{owner}/{repo}."""
    return Reply(value=exchange.shapes.full_repository(exchange.repository))


def show_limits(exchange: Exchange) -> Reply:
    """GET /rate_limit; answered by the server itself, which keeps the figures."""
    raise ApiError(500, f"{exchange.path} is answered elsewhere")


ROUTES = (
    Route(method="GET", template="/app", operation="app", handler=show_app, caller="app"),
    Route(
        method="GET",
        template="/app/installations/{installation_id}",
        operation="installation",
        handler=show_installation,
        caller="app",
    ),
    Route(
        method="POST",
        template="/app/installations/{installation_id}/access_tokens",
        operation="access_tokens",
        handler=create_access_token,
        caller="app",
    ),
    Route(
        method="GET",
        template="/repos/{owner}/{repo}/installation",
        operation="installation.repo",
        handler=installation_of_repository,
        caller="app",
    ),
    Route(
        method="GET",
        template="/orgs/{org}/installation",
        operation="installation.org",
        handler=installation_of_account,
        caller="app",
    ),
    Route(
        method="GET",
        template="/users/{username}/installation",
        operation="installation.user",
        handler=installation_of_account,
        caller="app",
    ),
    Route(
        method="GET",
        template="/repos/{owner}/{repo}",
        operation="repo",
        handler=show_repository,
        permission=("metadata", "read"),
    ),
    Route(method="GET", template="/rate_limit", operation="rate_limit", handler=show_limits, caller="any", free=True),
)
