"""The simulated REST v2 takes what real clients send (RunPod's MCP server, dstack), and refuses like the real one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.runpod import Permission, Progress, RunPodSimulator, Settings, SimPod, texts
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock

GPU = "NVIDIA GeForce RTX 4090"
BODY: dict[str, Any] = {"name": "ci-1", "image": "img:1", "gpu": {"id": GPU, "count": 1}}
# Every field that the document requires of a pod.
_FIELDS = """
    id name status actions image args disk mounts ports env registry cloud dataCenterId cudaVersion ssh template cost
    locked runtime createdAt startedAt globalNetworking gpu
"""
REQUIRED = frozenset(_FIELDS.split())


@pytest.fixture
def clock() -> FakeClock:
    """Time that jumps."""
    return FakeClock()


@pytest.fixture
def sim(clock: FakeClock) -> RunPodSimulator:
    """A service without GraphQL."""
    return RunPodSimulator(clock, settings=Settings(graphql_retired=True))


@pytest.fixture
async def web(sim: RunPodSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client as RunPod's MCP server is one."""
    headers = {
        "User-Agent": "runpod-mcp-server/4.0.0 (node)",
        "X-Runpod-Session-Id": "s",
        "Authorization": f"Bearer {sim.key}",
        "Content-Type": "application/json",
    }
    transport = InProcess({"api.runpod.io": sim.app})
    async with httpx.AsyncClient(transport=transport, base_url="https://api.runpod.io", headers=headers) as session:
        yield session


def only(sim: RunPodSimulator) -> SimPod:
    """The one pod."""
    (pod,) = sim.live()
    return pod


async def detail(answered: httpx.Response, status: int) -> str:
    """What a problem document says."""
    assert answered.status_code == status, answered.text
    assert answered.headers["content-type"] == "application/problem+json"
    body = answered.json()
    assert body["status"] == status
    assert body["title"]
    return " / ".join([body["detail"], *body.get("errors", [])])


async def test_the_mcp_server_makes_reads_stops_and_deletes_a_pod(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """Its five requests, as captured."""
    body = {
        "name": "ci-1",
        "image": "img:1",
        "gpu": {"id": GPU, "count": 1},
        "cloud": "COMMUNITY",
        "args": "bash -c 'echo hi'",
        "disk": 20,
        "ports": ["22/tcp"],
        "env": {"A": "B"},
        "startSsh": True,
    }
    made = await web.post("/v2/pods", content=json.dumps(body))
    assert made.status_code == 201
    pod = made.json()
    assert pod.keys() >= REQUIRED
    assert (pod["cloud"], pod["args"], pod["disk"], pod["env"]) == ("COMMUNITY", body["args"], 20, {"A": "B"})
    assert (pod["status"], pod["runtime"], pod["cost"]) == ("PROVISIONING", {}, 0.34)
    assert sim.launch_of(only(sim)).argv == ("bash", "-c", "echo hi")
    listed = (await web.get("/v2/pods")).json()["pods"]
    assert [each["id"] for each in listed] == [pod["id"]]
    read = (await web.get(f"/v2/pods/{pod['id']}")).json()
    assert (read["status"], read["actions"]) == ("RUNNING", ["stop", "restart", "terminate"])
    assert read["ssh"]["proxy"]["host"] == "ssh.runpod.io"
    assert (read["runtime"]["cpu"], read["runtime"]["memory"]) == ({"util": 3}, {"util": 7})
    stopped = await web.post(f"/v2/pods/{pod['id']}/action", json={"action": "stop"})
    assert (stopped.json()["status"], stopped.json()["cost"]) == ("EXITED", 0.0)
    assert (await web.delete(f"/v2/pods/{pod['id']}")).status_code == 204
    assert sim.live() == []
    assert len((await web.get("/v2/catalog/gpus")).json()["gpus"]) == len(sim.market.catalog.models)


async def test_dstack_checks_its_key_makes_reads_and_deletes_a_pod(
    web: httpx.AsyncClient, sim: RunPodSimulator
) -> None:
    """Its four requests, as captured: an entrypoint of its own, a data centre, floors per GPU."""
    assert (await web.get("/v2/account/ssh-keys")).json() == {"keys": []}
    body = {
        "name": "ci-1",
        "cloud": "SECURE",
        "image": "img:1",
        "entrypoint": ["/bin/sh"],
        "cmd": ["-c", "echo hi"],
        "disk": 20,
        "gpu": {"id": GPU, "minCudaVersion": "12.8", "count": 1, "minVcpuCountPerGpu": 8, "minRamPerGpu": 32},
        "dataCenterIds": ["US-TX-3"],
        "ports": ["22/tcp"],
        "env": {"RUNPOD_POD_USER": "0"},
    }
    made = await web.post("/v2/pods", json=body)
    assert made.status_code == 201
    assert (made.json()["dataCenterId"], made.json()["args"]) == ("US-TX-3", "")
    assert sim.launch_of(only(sim)).argv == ("/bin/sh", "-c", "echo hi")
    pod_id = made.json()["id"]
    ports = (await web.get(f"/v2/pods/{pod_id}")).json()["runtime"]["ports"]
    assert [(each["private"], each["type"]) for each in ports] == [(22, "tcp")]
    assert ports[0]["public"]
    assert (await web.delete(f"/v2/pods/{pod_id}")).status_code == 204
    assert "pod not found" in await detail(await web.get(f"/v2/pods/{pod_id}"), 404)


async def test_graphql_is_gone(web: httpx.AsyncClient) -> None:
    """410 for every operation."""
    answered = await web.post("/graphql", json={"query": "query { myself { id } }"})
    assert answered.status_code == 410


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"gpu": {"id": GPU}}, 400, texts.NO_STOCK),
        ({"gpu": {"id": GPU, "count": 9}}, 400, "no longer any instances"),
        ({"gpu": {"id": GPU, "count": 1, "minRamPerGpu": 4096}}, 400, "could not find any pods"),
        ({"gpu": {"id": GPU, "count": 0}}, 422, "$.gpu.count: minimum"),
        ({"gpu": {"id": GPU, "count": True}}, 422, "$.gpu.count: expected integer"),
        ({"gpu": {"id": GPU, "count": 1, "minCudaVersion": "12"}}, 422, "$.gpu.minCudaVersion"),
        (
            {"gpu": {"id": GPU, "count": 1, "minCudaVersion": "12.1", "allowedCudaVersions": ["12.4"]}},
            400,
            "mutually exclusive",
        ),
        ({"bogus": 1}, 422, "additional properties 'bogus' not allowed"),
        ({"interruptible": True}, 422, "interruptible"),
        ({"name": ""}, 422, "$.name: minLength"),
        ({"name": None}, 422, "$.name: expected string"),
        ({"image": None}, 422, "$.image: expected string"),
        ({"cloud": "ALL"}, 422, "$.cloud: value must be one of SECURE, COMMUNITY"),
        ({"disk": 0}, 422, "$.disk: minimum"),
        ({"env": {"A": 1}}, 422, "$.env.A: expected string"),
        ({"ports": "22/tcp"}, 422, "$.ports: expected array"),
        ({"mounts": {"persistent": {"size": 5, "path": "/w"}}}, 422, "$.mounts.persistent.size: minimum"),
        ({"mounts": {"network": [{"volumeId": "v", "path": "/"}] * 2}}, 422, "maxItems"),
        ({"cpu": {"id": "cpu3c", "vcpuCount": 2}}, 400, "exactly one of gpu or cpu"),
        ({"templateId": "none"}, 404, "template not found"),
        ({"env": {f"E{n}": "" for n in range(51)}}, 400, "50 environment variables"),
    ],
)
async def test_a_create_that_does_not_fit_is_refused_by_name(
    web: httpx.AsyncClient, sim: RunPodSimulator, changes: dict[str, Any], status: int, said: str
) -> None:
    """422 for what the schema forbids, 400 for rules and for capacity, in the service's words."""
    assert said in await detail(await web.post("/v2/pods", json={**BODY, **changes}), status)
    assert not sim.live()


async def test_a_create_needs_a_body_and_an_image(web: httpx.AsyncClient) -> None:
    """Or a template that has one."""
    assert "expected object" in await detail(await web.post("/v2/pods", content=b"nonsense"), 422)
    assert "'image'" in await detail(await web.post("/v2/pods", json={"name": "x", "gpu": BODY["gpu"]}), 422)
    made = await web.post("/v2/templates", json={"name": "t", "image": "img:2", "env": {"A": "1", "B": "1"}})
    body = {"name": "x", "gpu": BODY["gpu"], "templateId": made.json()["id"], "env": {"B": "2"}}
    pod = (await web.post("/v2/pods", json=body)).json()
    assert (pod["image"], pod["env"], pod["template"]) == ("img:2", {"A": "1", "B": "2"}, None)


async def test_money_is_a_402(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """Less than an hour of the price, or above the spend limit."""
    sim.set_balance(Decimal("0.1"))
    assert "balance" in await detail(await web.post("/v2/pods", json=BODY), 402)
    sim.set_balance(Decimal(100))
    sim.settings.spend_limit = Decimal("0.1")
    assert "spend limit" in await detail(await web.post("/v2/pods", json=BODY), 402)


async def test_actions_follow_the_status(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """409 where the status does not allow them, 204 for an end, 404 for an unknown pod."""
    sim.settings.progress = Progress.timed(10)
    pod = (await web.post("/v2/pods", json=BODY)).json()

    async def act(name: str) -> httpx.Response:
        return await web.post(f"/v2/pods/{pod['id']}/action", json={"action": name})

    assert "not valid" in await detail(await act("restart"), 409)
    assert "value must be one of" in await detail(await act("explode"), 422)
    assert (await act("stop")).json()["status"] == "EXITED"
    assert "not valid" in await detail(await act("stop"), 409)
    sim.pod(pod["id"]).machine.taken = sim.pod(pod["id"]).machine.gpus
    assert texts.HOST_FULL in await detail(await act("start"), 400)
    sim.pod(pod["id"]).machine.taken = 0
    assert (await act("start")).json()["status"] == "PROVISIONING"
    sim.settings.progress = Progress.immediate()
    assert (await act("restart")).status_code == 200
    assert (await act("terminate")).status_code == 204
    assert "pod not found" in await detail(await act("stop"), 404)


async def test_a_pod_is_changed(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """What is named is changed, and its container made anew."""
    pod = (await web.post("/v2/pods", json=BODY)).json()
    changed = await web.patch(f"/v2/pods/{pod['id']}", json={"name": "new", "image": "img:9", "ports": ["80/http"]})
    assert (changed.json()["name"], changed.json()["image"], changed.json()["ports"]) == ("new", "img:9", ["80/http"])
    assert changed.json()["gpu"]["id"] == GPU
    assert "bogus" in await detail(await web.patch(f"/v2/pods/{pod['id']}", json={"bogus": 1}), 422)
    assert "pod not found" in await detail(await web.patch("/v2/pods/none", json={}), 404)


async def test_the_catalogue_tells_what_is_free(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """Overall, by data centre and CUDA version; without `include` only list prices."""
    plain = (await web.get(f"/v2/catalog/gpus/{GPU}")).json()
    assert "availability" not in plain
    assert (plain["price"], plain["maxCount"]) == ({"secure": 0.59, "community": 0.34}, {"secure": 8, "community": 8})
    asked = {"include": "AVAILABILITY", "product": "POD", "count": "2", "cloud": "SECURE"}
    free = (await web.get(f"/v2/catalog/gpus/{GPU}", params=asked)).json()
    assert free["availability"] == "HIGH"
    assert [each["id"] for each in free["dataCenters"]] == ["US-TX-3", "EU-RO-1"]
    assert free["cudaVersions"] == [{"version": "12.8", "available": True}]
    there = (await web.get("/v2/catalog/gpus", params={**asked, "countryCodes": "RO,CA"})).json()["gpus"]
    assert {each["id"] for row in there for each in row["dataCenters"]} == {"EU-RO-1"}
    sim.market.set_stock(GPU, 0)
    none = (await web.get(f"/v2/catalog/gpus/{GPU}", params={**asked, "countryCodes": "RO"})).json()
    assert (none["availability"], "dataCenters" in none) == ("NONE", False)
    assert "GPU type not found" in await detail(await web.get("/v2/catalog/gpus/none"), 404)
    centers = (
        await web.get("/v2/catalog/datacenters", params={"regions": "EUROPE", "include": "GPU_AVAILABILITY"})
    ).json()
    assert [each["id"] for each in centers["dataCenters"]] == ["EU-RO-1"]
    assert {"id": GPU, "name": "RTX 4090", "availability": "NONE"} in centers["dataCenters"][0]["gpuAvailability"]
    assert len((await web.get("/v2/catalog/datacenters")).json()["dataCenters"]) == 3
    assert (await web.get("/v2/catalog/cpus")).json()["cpus"]
    assert (await web.get("/v2/catalog/templates")).json() == {"templates": []}


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ({"include": "AVAILABILITY"}, 400, "product is required"),
        ({"product": "POD"}, 400, "product is valid only with"),
        ({"count": "2"}, 400, "count is valid only with"),
        ({"include": "PRICES", "product": "POD"}, 422, "include"),
        ({"include": "AVAILABILITY", "product": "BOAT"}, 422, "product"),
        ({"include": "AVAILABILITY", "product": "POD", "countryCodes": "ro"}, 422, "countryCodes"),
        ({"include": "AVAILABILITY", "product": "POD", "cudaVersions": "12"}, 422, "cudaVersions"),
        (
            {"include": "AVAILABILITY", "product": "POD", "cudaVersions": "12.8", "minCudaVersion": "12"},
            400,
            "mutually exclusive",
        ),
    ],
)
async def test_filters_that_do_not_go_together_are_refused(
    web: httpx.AsyncClient, query: dict[str, str], status: int, said: str
) -> None:
    """The product above all: there is no default."""
    assert said in await detail(await web.get("/v2/catalog/gpus", params=query), status)


async def test_the_account_is_kept(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """SSH keys as a whole; templates, volumes and registries one by one."""
    keys = {"keys": ["ssh-ed25519 AAAA me"]}
    assert (await web.put("/v2/account/ssh-keys", json=keys)).json() == keys
    assert "does not match pattern" in await detail(await web.put("/v2/account/ssh-keys", json={"keys": ["x"]}), 422)
    assert sim.settings.public_keys == "ssh-ed25519 AAAA me"
    made = (await web.post("/v2/templates", json={"name": "t", "image": "i", "ports": ["1/tcp"], "disk": 5})).json()
    assert (made["ports"], made["disk"], made["startSsh"]) == (["1/tcp"], 5, True)
    assert "unique" in await detail(await web.post("/v2/templates", json={"name": "t", "image": "i"}), 400)
    changed = await web.patch(f"/v2/templates/{made['id']}", json={"image": "j"})
    assert (changed.json()["image"], changed.json()["disk"]) == ("j", 5)
    assert (await web.get(f"/v2/templates/{made['id']}")).json() == changed.json()
    assert (await web.get("/v2/templates")).json() == {"templates": [changed.json()]}
    assert (await web.delete(f"/v2/templates/{made['id']}")).status_code == 204
    assert "not found" in await detail(await web.delete(f"/v2/templates/{made['id']}"), 404)
    volume = (await web.post("/v2/network-volumes", json={"name": "v", "size": 10, "dataCenter": "EU-RO-1"})).json()
    path = f"/v2/network-volumes/{volume['id']}"
    assert (await web.patch(path, json={"size": 20})).json()["size"] == 20
    assert (await web.get(path)).json()["dataCenter"] == "EU-RO-1"
    assert len((await web.get("/v2/network-volumes")).json()["networkVolumes"]) == 1
    assert (await web.delete(path)).status_code == 204
    assert "not found" in await detail(await web.get(path), 404)
    login = {"name": "r", "username": "u", "password": "p"}
    registry = (await web.post("/v2/registries", json=login)).json()
    assert (await web.get("/v2/registries")).json() == {"registries": [{"id": registry["id"], "name": "r"}]}
    assert (await web.delete(f"/v2/registries/{registry['id']}")).status_code == 204
    assert "not found" in await detail(await web.delete(f"/v2/registries/{registry['id']}"), 400)


async def test_bills_are_by_pod_and_hour(web: httpx.AsyncClient, sim: RunPodSimulator, clock: FakeClock) -> None:
    """Whole buckets, and together what the pod cost."""
    pod = (await web.post("/v2/pods", json=BODY)).json()
    other = (await web.post("/v2/pods", json=BODY)).json()
    clock.advance(2.5 * 3600)
    await web.delete(f"/v2/pods/{other['id']}")
    told = (await web.get("/v2/billing/pods", params={"bucketSize": "hour", "podId": pod["id"]})).json()
    assert len(told["records"]) == 3
    assert told["metadata"]["uniquePodCount"] == 1
    cost = float(sim.bill().pods[pod["id"]].total)
    assert told["metadata"]["totals"]["totalAmount"] == pytest.approx(cost)
    assert sum(each["totalAmount"] for each in told["records"]) == pytest.approx(cost)
    days = (await web.get("/v2/billing/pods", params={"lastN": "2"})).json()
    assert {each["podId"] for each in days["records"]} == {pod["id"], other["id"]}
    assert days["records"][0]["startTime"].endswith("T00:00:00Z")
    whole = (await web.get("/v2/billing", params={"startTime": "2026-01-01T00:00:00Z", "bucketSize": "month"})).json()
    assert whole["metadata"]["totals"]["totalAmount"] == pytest.approx(float(sim.bill().total))
    early = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-02T00:00:00Z"}
    assert (await web.get("/v2/billing/pods", params=early)).json()["records"] == []
    for wrong in ({"bucketSize": "minute"}, {"startTime": "soon"}):
        assert await detail(await web.get("/v2/billing/pods", params=wrong), 422)
    both = {"lastN": "1", "startTime": "2026-01-01T00:00:00Z"}
    assert "mutually exclusive" in await detail(await web.get("/v2/billing/pods", params=both), 400)


async def test_a_log_is_a_stream_of_events(web: httpx.AsyncClient, sim: RunPodSimulator, clock: FakeClock) -> None:
    """Each with its moment as its id, from which it may be resumed."""
    pod = (await web.post("/v2/pods", json=BODY)).json()
    path = f"/v2/pods/{pod['id']}/logs"
    sim.say(pod["id"], "one\ntwo\n")
    first = await web.get(path, params={"source": "container"})
    assert first.headers["content-type"] == "text/event-stream"
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in first.text.strip().split("\n\n")]
    assert [json.loads(each["data"])["line"] for each in events] == ["one", "two"]
    assert json.loads(events[0]["data"])["ts"] == events[0]["id"]
    clock.advance(5)
    sim.say(pod["id"], "three\n")
    query = {"tail": "0", "source": "container"}
    again = await web.get(path, params=query, headers={"Last-Event-ID": events[-1]["id"]})
    assert again.text.count("data: ") == 3
    clock.advance(1)
    later = await web.get(path, params={"since": clock.now().isoformat()})
    assert later.text == ""
    system = await web.get(path, params={"source": "system", "tail": "1"})
    assert '"source": "system"' in system.text
    for wrong in ({"tail": "5001"}, {"since": "soon"}, {"source": "moon"}):
        assert await detail(await web.get(path, params=wrong), 422)
    assert "pod not found" in await detail(await web.get("/v2/pods/none/logs"), 404)


async def test_every_answer_tells_the_quota(web: httpx.AsyncClient, sim: RunPodSimulator, clock: FakeClock) -> None:
    """And a request too many is told how long to wait; windows begin anew."""
    sim.settings.rest_limits = {"minute": 2, "day": 100}
    first = await web.get("/v2/pods")
    assert first.headers["ratelimit"] == '"minute";r=1;t=60, "day";r=99;t=86400'
    assert first.headers["ratelimit-policy"] == '"minute";q=2;w=60, "day";q=100;w=86400'
    clock.advance(48)
    await web.get("/v2/pods/none")
    refused = await web.get("/v2/pods")
    assert "minute window" in await detail(refused, 429)
    assert refused.headers["retry-after"] == "12"
    assert (await web.get("/v2/pods/none/logs")).status_code == 429
    clock.advance(12)
    assert (await web.get("/v2/pods")).status_code == 200
    sim.settings.rest_limits = {}
    assert "ratelimit" not in (await web.get("/v2/pods")).headers


async def test_a_key_does_what_it_may(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """None: 401; one that reads: no create; a pod's own: nothing of the account."""
    reader = {"Authorization": f"Bearer {sim.keys.add('rpa_reader', Permission.READ)}"}
    pod = sim.add_pod("x")
    own = {"Authorization": f"Bearer {pod.key}"}
    for path in ("/v2/pods", "/v2/catalog/gpus", "/v2/account/ssh-keys", "/v2/billing/pods", f"/v2/pods/{pod.id}/logs"):
        assert "missing bearer token" in await detail(await web.get(path, headers={"Authorization": ""}), 401)
        assert (await web.get(path, headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await web.get(path, headers=reader)).status_code == 200
    assert "permission" in await detail(await web.post("/v2/pods", json=BODY, headers=reader), 403)
    assert "permission" in await detail(await web.get("/v2/pods", headers=own), 403)
    assert (await web.get(f"/v2/pods/{pod.id}/logs", headers=own)).status_code == 200
