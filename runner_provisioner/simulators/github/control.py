"""Control from other processes: JSON under `/_sim/`, the same things that the Python interface does.

GET health, runs/ID, runs/ID/log, runners, violations, calls; POST repositories, runs, jobs, runs/ID/complete,
runs/ID/cancel, faults, clock; DELETE faults. It asks for no credential: a simulator listens on loopback alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.github.entities import ApiError, not_found
from runner_provisioner.simulators.workflow import WorkflowError

if TYPE_CHECKING:
    from runner_provisioner.simulators.github.server import GitHubSimulator

Json = dict[str, Any]
Action = Callable[["GitHubSimulator", Mapping[str, str], Json], object]


def _health(sim: GitHubSimulator, _params: Mapping[str, str], _body: Json) -> object:
    return {"ok": True, "now": sim.clock.now().isoformat()}


def _repository(sim: GitHubSimulator, _params: Mapping[str, str], body: Json) -> object:
    workspace = body.get("workspace")
    repository = sim.add_repository(
        body["repository"], private=body.get("private", True), workspace=Path(workspace) if workspace else None
    )
    return {"id": repository.id}


def _queue_run(sim: GitHubSimulator, _params: Mapping[str, str], body: Json) -> object:
    return {"run_id": sim.queue_run(body["repository"], body["workflow"], provided=body.get("provided"))}


def _queue_job(sim: GitHubSimulator, _params: Mapping[str, str], body: Json) -> object:
    return {"run_id": sim.queue_job(body["repository"], body["labels"], steps=body.get("steps", ["true"]))}


def _run(sim: GitHubSimulator, params: Mapping[str, str], _body: Json) -> object:
    return sim.describe_run(int(params["run_id"]))


def _log(sim: GitHubSimulator, params: Mapping[str, str], body: Json) -> object:
    return {"log": sim.job_log(int(params["run_id"]), body.get("job"))}


def _complete(sim: GitHubSimulator, params: Mapping[str, str], body: Json) -> object:
    sim.complete_run(int(params["run_id"]), body.get("attempt"), conclusion=body.get("conclusion", "success"))
    return {}


def _cancel(sim: GitHubSimulator, params: Mapping[str, str], _body: Json) -> object:
    sim.cancel(int(params["run_id"]))
    return {}


def _runners(sim: GitHubSimulator, _params: Mapping[str, str], body: Json) -> object:
    return {"runners": [sim.describe_runner(runner) for runner in sim.runners(body.get("scope"))]}


def _violations(sim: GitHubSimulator, _params: Mapping[str, str], _body: Json) -> object:
    return {"violations": list(sim.violations)}


def _calls(sim: GitHubSimulator, _params: Mapping[str, str], _body: Json) -> object:
    return {"calls": [{"operation": call.operation, "at": call.at.isoformat()} for call in sim.faults.calls]}


def _order_fault(sim: GitHubSimulator, _params: Mapping[str, str], body: Json) -> object:
    sim.faults.add(Fault(**{**body, "kind": FaultKind(body["kind"])}))
    return {}


def _clear_faults(sim: GitHubSimulator, _params: Mapping[str, str], _body: Json) -> object:
    sim.faults.clear()
    return {}


def _advance(sim: GitHubSimulator, _params: Mapping[str, str], body: Json) -> object:
    advance = getattr(sim.clock, "advance", None)
    if advance is None:
        raise ApiError(409, "this simulator runs on a clock that cannot be moved")
    advance(float(body["seconds"]))
    return {"now": sim.clock.now().isoformat()}


_TABLE: tuple[tuple[str, str, Action], ...] = (
    ("GET", r"health", _health),
    ("POST", r"repositories", _repository),
    ("POST", r"runs", _queue_run),
    ("POST", r"jobs", _queue_job),
    ("GET", r"runs/(?P<run_id>\d+)", _run),
    ("GET", r"runs/(?P<run_id>\d+)/log", _log),
    ("POST", r"runs/(?P<run_id>\d+)/complete", _complete),
    ("POST", r"runs/(?P<run_id>\d+)/cancel", _cancel),
    ("GET", r"runners", _runners),
    ("GET", r"violations", _violations),
    ("GET", r"calls", _calls),
    ("POST", r"faults", _order_fault),
    ("DELETE", r"faults", _clear_faults),
    ("POST", r"clock", _advance),
)


def respond(sim: GitHubSimulator, method: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    """Do what is asked under `/_sim/` (`path` is the rest); status and JSON."""
    try:
        content = json.loads(body) if body else dict(query)
        return 200, json.dumps(_find(method, path, sim, content)).encode()
    except ApiError as error:
        return error.status, json.dumps({"message": error.message}).encode()
    except (WorkflowError, ValueError, TypeError, KeyError) as error:
        return 400, json.dumps({"message": f"{type(error).__name__}: {error}"}).encode()


def _find(method: str, path: str, sim: GitHubSimulator, content: Json) -> object:
    for wanted, pattern, action in _TABLE:
        match = re.fullmatch(pattern, path)
        if match is not None and wanted == method:
            return action(sim, match.groupdict(), content)
    raise not_found()
