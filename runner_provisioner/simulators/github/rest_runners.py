"""Routes about self-hosted runners, of repositories and of organisations, and runner groups.

Operations: registration-token, remove-token, generate-jitconfig, runners.list, runners.get, runners.delete,
runners.labels, downloads, groups.list, groups.get, groups.runners.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from runner_provisioner.simulators.github.entities import DEFAULT_GROUP, Group, RunnerRecord
from runner_provisioner.simulators.github.rest import Exchange, Handler, Reply, Route
from runner_provisioner.simulators.github.shapes import stamp
from runner_provisioner.simulators.github.tarball import runner_archive

ARCHITECTURES = ("x64", "arm64")


def _issue(exchange: Exchange, purpose: str) -> Reply:
    token = exchange.world.credentials.issue_runner_token(exchange.scope, purpose)
    return Reply(status=201, value={"token": token.value, "expires_at": stamp(token.expires_at)})


def registration_token(exchange: Exchange) -> Reply:
    """POST .../registration-token."""
    return _issue(exchange, "registration")


def remove_token(exchange: Exchange) -> Reply:
    """POST .../remove-token."""
    return _issue(exchange, "remove")


def generate_jitconfig(exchange: Exchange) -> Reply:
    """POST .../generate-jitconfig: not idempotent, a taken name is 409 (ubicloud#692)."""
    content, world = exchange.content(), exchange.world
    group = int(content["runner_group_id"])
    if exchange.found_organisation is not None:
        world.group(exchange.found_organisation, group)
    runner = world.add_runner(
        exchange.scope,
        str(content["name"]),
        tuple(str(label) for label in content["labels"]),
        group_id=group,
        work_folder=str(content.get("work_folder", "_work")),
        jit=True,
    )
    value = {"runner": exchange.shapes.runner(runner), "encoded_jit_config": _jit_config(exchange, runner)}
    return Reply(status=201, value=value)


def _jit_config(exchange: Exchange, runner: RunnerRecord) -> str:
    scope = exchange.found_organisation.login if exchange.found_organisation else exchange.repository.full_name
    settings = {
        "AgentId": str(runner.id),
        "AgentName": runner.name,
        "PoolId": "1",
        "PoolName": "Default",
        "Ephemeral": "true",
        "ServerUrl": exchange.origin,
        "GitHubUrl": f"{exchange.origin}/{scope}",
        "WorkFolder": runner.work_folder,
        "UseV2Flow": "true",
    }
    credentials = {"scheme": "OAuth", "data": {"clientId": runner.credential}}
    files = {".runner": settings, ".credentials": credentials, ".credentials_rsaparams": {}}
    encoded = {name: _base64(json.dumps(value)) for name, value in files.items()}
    return _base64(json.dumps(encoded))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def list_runners(exchange: Exchange) -> Reply:
    """GET .../runners, filtered by the whole name when one is given."""
    wanted = exchange.argument("name")
    runners = [each for each in exchange.world.runners_of(exchange.scope) if wanted in (None, each.name)]
    return exchange.page("runners", [exchange.shapes.runner(runner) for runner in runners])


def _runner(exchange: Exchange) -> RunnerRecord:
    return exchange.world.runner(exchange.scope, exchange.number("runner_id"))


def show_runner(exchange: Exchange) -> Reply:
    """GET .../runners/{runner_id}."""
    return Reply(value=exchange.shapes.runner(_runner(exchange)))


def delete_runner(exchange: Exchange) -> Reply:
    """DELETE .../runners/{runner_id}: 422 while it is busy (ec2-github-runner#23)."""
    exchange.world.remove_runner(_runner(exchange))
    return Reply(status=204)


def list_labels(exchange: Exchange) -> Reply:
    """GET .../runners/{runner_id}/labels."""
    labels = exchange.shapes.labels(_runner(exchange))
    return Reply(value={"total_count": len(labels), "labels": labels})


def list_downloads(exchange: Exchange) -> Reply:
    """GET .../runners/downloads: the stand-in runner for Linux."""
    version = exchange.world.settings.runner_version
    archives = [(architecture, runner_archive(version, architecture)) for architecture in ARCHITECTURES]
    folder = f"{exchange.origin}/actions/runner/releases/download/v{version}"
    return Reply(
        value=[
            {
                "os": "linux",
                "architecture": architecture,
                "download_url": f"{folder}/{archive.name}",
                "filename": archive.name,
                "sha256_checksum": archive.sha256,
            }
            for architecture, archive in archives
        ]
    )


def _groups(exchange: Exchange) -> list[Group]:
    return exchange.world.groups[exchange.scope]


def list_groups(exchange: Exchange) -> Reply:
    """GET /orgs/{org}/actions/runner-groups, those visible to one repository when it is named."""
    groups, name = _groups(exchange), exchange.argument("visible_to_repository")
    if name is not None:
        repository = exchange.world.repository(f"{exchange.scope}/{name.rpartition('/')[2]}")
        groups = [group for group in groups if group.sees(repository)]
    shapes, scope = exchange.shapes, exchange.scope
    return exchange.page("runner_groups", [shapes.group(scope, group) for group in groups])


def show_group(exchange: Exchange) -> Reply:
    """GET /orgs/{org}/actions/runner-groups/{runner_group_id}."""
    organisation = exchange.world.organisation(exchange.params["org"])
    group = exchange.world.group(organisation, exchange.number("runner_group_id"))
    return Reply(value=exchange.shapes.group(exchange.scope, group))


def list_group_runners(exchange: Exchange) -> Reply:
    """GET /orgs/{org}/actions/runner-groups/{runner_group_id}/runners."""
    group_id = exchange.number("runner_group_id") or DEFAULT_GROUP
    runners = [each for each in exchange.world.runners_of(exchange.scope) if each.group_id == group_id]
    return exchange.page("runners", [exchange.shapes.runner(runner) for runner in runners])


_TWICE: tuple[tuple[str, str, str, Handler, str], ...] = (
    ("POST", "/registration-token", "registration-token", registration_token, "write"),
    ("POST", "/remove-token", "remove-token", remove_token, "write"),
    ("POST", "/generate-jitconfig", "generate-jitconfig", generate_jitconfig, "write"),
    ("GET", "/downloads", "downloads", list_downloads, "read"),
    ("GET", "", "runners.list", list_runners, "read"),
    ("GET", "/{runner_id}", "runners.get", show_runner, "read"),
    ("DELETE", "/{runner_id}", "runners.delete", delete_runner, "write"),
    ("GET", "/{runner_id}/labels", "runners.labels", list_labels, "read"),
)
_PLACES = (
    ("/repos/{owner}/{repo}/actions/runners", "administration"),
    ("/orgs/{org}/actions/runners", "organization_self_hosted_runners"),
)
_GROUPS: tuple[tuple[str, str, Handler], ...] = (
    ("", "groups.list", list_groups),
    ("/{runner_group_id}", "groups.get", show_group),
    ("/{runner_group_id}/runners", "groups.runners", list_group_runners),
)


def _routes() -> Iterator[Route]:
    for place, permission in _PLACES:
        for method, rest, operation, handler, level in _TWICE:
            yield Route(
                method=method,
                template=place + rest,
                operation=operation,
                handler=handler,
                permission=(permission, level),
            )
    for rest, operation, handler in _GROUPS:
        yield Route(
            method="GET",
            template="/orgs/{org}/actions/runner-groups" + rest,
            operation=operation,
            handler=handler,
            permission=("organization_self_hosted_runners", "read"),
        )


ROUTES = tuple(_routes())
