"""Routes about what jobs have uploaded.

Operations: artifacts.list, artifact.download, and artifact.fetch for the archive itself.
"""

from __future__ import annotations

import hashlib

from runner_provisioner.simulators.github.artifacts import LIFE, Artifact
from runner_provisioner.simulators.github.entities import not_found
from runner_provisioner.simulators.github.rest import Exchange, Handler, Reply, Route
from runner_provisioner.simulators.github.shapes import stamp


def _shape(exchange: Exchange, artifact: Artifact) -> dict[str, object]:
    repository = artifact.run.repository
    url = f"{exchange.api}/repos/{repository.full_name}/actions/artifacts/{artifact.id}"
    return {
        "id": artifact.id,
        "node_id": f"A_{artifact.id}",
        "name": artifact.name,
        "size_in_bytes": len(artifact.archive),
        "url": url,
        "archive_download_url": f"{url}/zip",
        "expired": False,
        "digest": f"sha256:{hashlib.sha256(artifact.archive).hexdigest()}",
        "created_at": stamp(artifact.created_at),
        "updated_at": stamp(artifact.created_at),
        "expires_at": stamp(artifact.created_at + LIFE),
        "workflow_run": {
            "id": artifact.run.id,
            "repository_id": repository.id,
            "head_repository_id": repository.id,
            "head_branch": "main",
        },
    }


def list_artifacts(exchange: Exchange) -> Reply:
    """GET .../actions/runs/{run_id}/artifacts, of every attempt, of one name when one is given."""
    run = exchange.runs.run(exchange.number("run_id"), exchange.repository)
    wanted = exchange.argument("name")
    found = [one for one in exchange.runs.shelf.of(run) if wanted in (None, one.name)]
    return exchange.page("artifacts", [_shape(exchange, one) for one in found])


def download(exchange: Exchange) -> Reply:
    """GET .../actions/artifacts/{artifact_id}/zip: where to fetch it."""
    found = exchange.runs.shelf.artifacts.get(exchange.number("artifact_id"))
    if found is None or found.run.repository is not exchange.repository or exchange.params["archive_format"] != "zip":
        raise not_found()
    ticket = exchange.runs.shelf.ticket(found, exchange.world.clock.now())
    return Reply(status=302, headers={"location": exchange.origin + ticket})


_TABLE: tuple[tuple[str, str, Handler], ...] = (
    ("/runs/{run_id}/artifacts", "artifacts.list", list_artifacts),
    ("/artifacts/{artifact_id}/{archive_format}", "artifact.download", download),
)

ROUTES = tuple(
    Route(
        method="GET",
        template="/repos/{owner}/{repo}/actions" + rest,
        operation=operation,
        handler=handler,
        permission=("actions", "read"),
    )
    for rest, operation, handler in _TABLE
)
