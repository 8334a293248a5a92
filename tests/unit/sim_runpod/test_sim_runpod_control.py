"""`/_sim/`: the simulator from another process."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.runpod import RunPodSimulator
from runner_provisioner.testing.clock import FakeClock

A4000 = "NVIDIA RTX A4000"


async def test_the_state_is_told(web: httpx.AsyncClient, sim: RunPodSimulator, clock: FakeClock) -> None:
    """Pods with events, the bill, the balance, the calls."""
    sim.add_pod("x", pod_id="x1")
    clock.advance(3600)
    await web.post("/graphql", json={"query": "{ myself { id } }"})
    state = (await web.get("/_sim/state")).json()
    assert (state["mode"], state["live"], state["bill"]) == ("inert", ["x1"], "0.20")
    assert state["pods"][0]["events"][0]["what"] == "created"
    assert state["calls"][0]["operation"] == "myself"
    await web.delete("/v2/pods/x1")
    assert (await web.get("/_sim/state")).json()["pods"][0]["endedAt"] is not None


async def test_faults_are_ordered_and_withdrawn(web: httpx.AsyncClient) -> None:
    """By their fields or as a ready-made row."""
    ask = {"query": "{ myself { id } }"}
    fault = {"operation": "myself", "kind": "error", "status": 503, "times": None}
    assert (await web.post("/_sim/faults", json=fault)).status_code == 200
    assert (await web.post("/graphql", json=ask)).status_code == 503
    await web.delete("/_sim/faults")
    assert (await web.post("/graphql", json=ask)).status_code == 200
    await web.post("/_sim/faults", json={"row": "html_502", "operation": "myself"})
    assert (await web.post("/graphql", json=ask)).status_code == 502


async def test_held_requests_are_seen_and_released(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """`look` only tells which were reached."""
    order = {"operation": "myself", "kind": "hold_before"}
    number = (await web.post("/_sim/faults", json=order)).json()["fault"]
    assert (await web.post("/_sim/release", json={"look": True})).json() == {"reached": [False]}
    assert (await web.post("/_sim/release", json={"fault": number})).json() == {"reached": [False]}
    assert (await web.post("/graphql", json={"query": "{ myself { id } }"})).status_code == 200
    assert (await web.post("/_sim/release", json={"look": True})).json() == {"reached": [True]}
    assert sim.faults.pending == ()


async def test_pods_are_added_interrupted_and_finished(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """As by the methods of the simulator."""
    first = (await web.post("/_sim/pods", json={"name": "a"})).json()["id"]
    second = (await web.post("/_sim/pods", json={"name": "b"})).json()["id"]
    await web.post("/_sim/interrupt", json={"pod_id": first})
    await web.post("/_sim/finish", json={"pod_id": second, "code": 3})
    await web.post("/_sim/interrupt", json={"after": 0, "times": 1})
    assert sim.pod(first).status == "EXITED"
    assert sim.pod(second).exit_code == 3
    text = f'mutation {{ podFindAndDeployOnDemand(input: {{gpuTypeId: "{A4000}"}}) {{ id }} }}'
    made = (await web.post("/graphql", json={"query": text})).json()["data"]["podFindAndDeployOnDemand"]["id"]
    assert sim.pod(made).status == "EXITED"


async def test_the_market_is_changed(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """Spot on or off, lag, stock, prices, balance."""
    change = {"spot": False, "list_lag": 2, "stock": {A4000: 1}, "price": {A4000: "0.5"}, "balance": "7"}
    assert (await web.post("/_sim/market", json=change)).status_code == 200
    model = sim.market.model(A4000)
    assert model is not None
    assert (sim.market.spot, sim.settings.list_lag, float(sim.balance())) == (False, 2, 7)
    assert float(model.community_price or 0) == 0.5
    assert sum(host.free for host in sim.market.hosts(A4000)) == 2
    assert (await web.post("/_sim/market", json={})).status_code == 200


async def test_graphql_is_switched_off_and_on(web: httpx.AsyncClient) -> None:
    """For every call, or by a ready-made fault for one; REST goes on."""
    ask = {"query": "{ myself { id } }"}
    await web.post("/_sim/market", json={"graphql": False})
    assert (await web.post("/graphql", json=ask)).status_code == 410
    assert (await web.get("/v2/pods")).status_code == 200
    await web.post("/_sim/market", json={"graphql": True})
    assert (await web.post("/graphql", json=ask)).status_code == 200
    await web.post("/_sim/faults", json={"row": "retired", "operation": "myself", "times": 1})
    await web.post("/_sim/faults", json={"row": "problem", "operation": "rest.list", "status": 409, "detail": "no"})
    assert (await web.post("/graphql", json=ask)).status_code == 410
    assert (await web.get("/v2/pods")).json()["detail"] == "no"


async def test_logs_are_read(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """Empty when the pod wrote none."""
    pod = sim.add_pod("x")
    assert (await web.get(f"/_sim/log/{pod.id}")).text == ""
    sim.log_path(pod.id).write_text("hello\n")
    assert (await web.get(f"/_sim/log/{pod.id}")).text == "hello\n"
    sim.close()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("faults", {"operation": "x", "kind": "nonsense"}, 400, id="kind of fault"),
        pytest.param("faults", {"operation": "x", "kind": "error", "reached": 1}, 400, id="field of a fault"),
        pytest.param("faults", {"row": "none"}, 400, id="row"),
        pytest.param("interrupt", {"pod_id": "none"}, 400, id="pod"),
        pytest.param("market", {"balance": "much"}, 400, id="amount"),
        pytest.param("nothing", {}, 404, id="address"),
    ],
)
async def test_wrong_orders_are_refused(web: httpx.AsyncClient, path: str, body: dict[str, Any], status: int) -> None:
    """So that a test notices."""
    assert (await web.post(f"/_sim/{path}", json=body)).status_code == status


async def test_only_this_machine_may_ask(sim: RunPodSimulator) -> None:
    """403 for a client elsewhere."""
    transport = httpx.ASGITransport(sim.app, client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://sim") as web:
        assert (await web.get("/_sim/state")).status_code == 403
