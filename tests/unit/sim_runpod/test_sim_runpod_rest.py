"""REST v2: reading a pod and ending it, as a pod does with its own key."""

from __future__ import annotations

import httpx
import pytest

from runner_provisioner.simulators.runpod import Permission, Progress, RunPodSimulator
from runner_provisioner.testing.clock import FakeClock


def bearer(key: str) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {key}"}


async def test_a_pod_ends_itself_with_its_own_key(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """204 without a body; after that its key is worth nothing."""
    pod = sim.add_pod("x")
    ended = await web.delete(f"/v2/pods/{pod.id}", headers=bearer(pod.key))
    assert (ended.status_code, ended.content) == (204, b"")
    assert sim.live() == []
    assert (await web.delete(f"/v2/pods/{pod.id}", headers=bearer(pod.key))).status_code == 401


async def test_refusals_are_problem_documents(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """404 for an unknown pod, 401 without or with a wrong key, 403 for another's pod or a reader's key."""
    pod, other = sim.add_pod("x"), sim.add_pod("y")
    reader = sim.keys.add("rpa_reader", Permission.READ)
    unknown = await web.delete("/v2/pods/none")
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "pod not found")
    assert unknown.headers["content-type"] == "application/problem+json"
    assert (await web.get("/v2/pods/none")).status_code == 404
    missing = await web.delete(f"/v2/pods/{pod.id}", headers={"Authorization": ""})
    assert (missing.status_code, missing.json()["detail"]) == (401, "missing bearer token")
    assert (await web.delete(f"/v2/pods/{pod.id}", headers=bearer("wrong"))).status_code == 401
    assert (await web.delete(f"/v2/pods/{pod.id}", headers=bearer(other.key))).status_code == 403
    assert (await web.delete(f"/v2/pods/{pod.id}", headers=bearer(reader))).status_code == 403
    assert (await web.get(f"/v2/pods/{pod.id}", headers=bearer(other.key))).status_code == 403
    assert (await web.get(f"/v2/pods/{pod.id}", headers=bearer(reader))).status_code == 200
    assert len(sim.live()) == 2


async def test_the_status_is_what_is_observed(web: httpx.AsyncClient, sim: RunPodSimulator, clock: FakeClock) -> None:
    """PROVISIONING, RUNNING, STARTING after an exit, EXITED."""
    sim.settings.progress = Progress.timed(10)
    pod = sim.add_pod("x", volume=20, env={"A": "B"})

    async def told() -> dict[str, object]:
        answer: dict[str, object] = (await web.get(f"/v2/pods/{pod.id}")).json()
        return answer

    fresh = await told()
    assert (fresh["status"], fresh["runtime"], fresh["ssh"]) == ("PROVISIONING", None, {"proxy": None, "direct": None})
    clock.advance(10)
    running = await told()
    assert running["status"] == "RUNNING"
    assert running["env"] == {"A": "B"}
    assert running["mounts"] == {"persistent": {"size": 20, "path": None}}
    sim.finish(pod.id)
    assert (await told())["status"] == "STARTING"
    sim.interrupt(pod.id)
    assert (await told())["status"] == "EXITED"


@pytest.mark.parametrize(
    ("ports", "direct"), [pytest.param("22/tcp", True, id="ssh"), pytest.param("80/tcp,8888/http", False, id="no ssh")]
)
async def test_ssh_is_told_when_its_port_is_public(
    web: httpx.AsyncClient,
    sim: RunPodSimulator,
    ports: str,
    direct: bool,  # noqa: FBT001 - a case
) -> None:
    """Host, port and command."""
    pod = sim.add_pod("x")
    pod.ports, pod.network_volume_id = ports, "vol"
    answer = (await web.get(f"/v2/pods/{pod.id}")).json()
    assert (answer["ssh"]["direct"] is not None) is direct
    assert answer["mounts"]["network"][0]["volumeId"] == "vol"
    assert [each["type"] for each in answer["runtime"]["ports"]] == [each.split("/")[1] for each in ports.split(",")]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("POST", "/v2/pods/x", 405, id="method"),
        pytest.param("GET", "/v2/pods/x/files", 404, id="below a pod"),
        pytest.param("GET", "/v2/serverless", 404, id="elsewhere"),
        pytest.param("GET", "/graphql", 404, id="graphql by GET"),
    ],
)
async def test_other_calls_are_not_simulated(web: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """404, or 405 for another method."""
    assert (await web.request(method, path)).status_code == status
