"""The simulated account: credentials, keys of SSH, teams, templates, disks; wrong input, wrong slashes, faults."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.pods.host import Image
from runner_provisioner.simulators.prime import Permission, PrimeSimulator, rows, texts

Create = Callable[..., Awaitable[dict[str, Any]]]
Order = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("value", ["", "Bearer nonsense", "Basic x"])
async def test_an_unknown_key_is_refused(web: httpx.AsyncClient, value: str) -> None:
    """401 in the usual envelope."""
    refused = await web.get("/pods", headers={"Authorization": value})
    assert (refused.status_code, refused.json()) == (401, {"detail": texts.UNAUTHORIZED})


async def test_a_reading_key_may_only_read(web: httpx.AsyncClient, sim: PrimeSimulator, order: Order) -> None:
    """403 names the permission; a revoked key is unknown."""
    key = sim.account.add_key(permission=Permission.READ)
    headers = {"Authorization": f"Bearer {key}"}
    assert (await web.get("/pods", headers=headers)).status_code == 200
    refused = await web.post("/pods", json=order(), headers=headers)
    assert refused.status_code == 403
    assert "Instances -> Read and write" in refused.json()["detail"]
    sim.account.revoke(key)
    assert (await web.get("/pods", headers=headers)).status_code == 401
    assert sim.live() == []


@pytest.mark.parametrize(
    ("body", "where"),
    [
        pytest.param(None, ["body"], id="nothing"),
        pytest.param({"provider": {"type": "x"}}, ["body", "pod"], id="no pod"),
        pytest.param({"pod": {}}, ["body", "provider", "type"], id="no provider"),
        pytest.param({"pod": {}, "provider": {"type": "x"}}, ["body", "pod", "name"], id="no name"),
    ],
)
async def test_a_body_without_the_needed_is_refused(web: httpx.AsyncClient, body: object, where: list[str]) -> None:
    """422 tells where."""
    refused = await web.post("/pods", json=body)
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == where


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"name": "two words"}, id="name"),
        pytest.param({"gpuCount": "1"}, id="text for a number"),
        pytest.param({"gpuCount": True}, id="truth for a number"),
        pytest.param({"envVars": [{"key": "A"}]}, id="half a variable"),
        pytest.param({"envVars": ["A=B"]}, id="text for a variable"),
        pytest.param({"autoRestart": "yes"}, id="text for a truth"),
        pytest.param({"maxPrice": "1"}, id="text for a price"),
    ],
)
async def test_a_field_of_the_wrong_kind_is_refused(
    web: httpx.AsyncClient, sim: PrimeSimulator, order: Order, fields: dict[str, Any]
) -> None:
    """422 names it, and nothing is rented."""
    refused = await web.post("/pods", json=order(**fields))
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"][:3] == ["body", "pod", *fields]
    assert sim.pods() == []


async def test_ssh_keys_come_and_go(web: httpx.AsyncClient) -> None:
    """The first is the primary, until another one is."""
    first = (await web.post("/ssh_keys", json={"name": "a", "publicKey": "ssh-ed25519 AAAA a"})).json()
    second = (await web.post("/ssh_keys", json={"name": "b", "publicKey": "ssh-ed25519 BBBB b"})).json()
    assert (first["isPrimary"], second["isPrimary"]) == (True, False)
    assert (await web.patch(f"/ssh_keys/{second['id']}/primary", json={"isPrimary": True})).json()["isPrimary"]
    keys = (await web.get("/ssh_keys")).json()
    assert [each["isPrimary"] for each in keys["data"]] == [False, True]
    assert (await web.delete(f"/ssh_keys/{first['id']}")).status_code == 200
    assert (await web.delete(f"/ssh_keys/{first['id']}")).status_code == 404
    assert (await web.post("/ssh_keys", json={"name": "c", "publicKey": "nonsense"})).status_code == 422


async def test_a_pod_admits_the_primary_key_or_the_one_it_names(
    web: httpx.AsyncClient, sim: PrimeSimulator, create: Create, order: Order
) -> None:
    """And none where there is none; an unknown one is refused."""
    assert sim.pod((await create())["id"]).keys == ()
    sim.account.add_ssh_key("a", "ssh-ed25519 AAAA a")
    other = sim.account.add_ssh_key("b", "ssh-ed25519 BBBB b")
    assert sim.pod((await create())["id"]).keys == ("ssh-ed25519 AAAA a",)
    assert sim.pod((await create(sshKeyId=other.id))["id"]).keys == ("ssh-ed25519 BBBB b",)
    assert (await web.post("/pods", json=order(sshKeyId="nothing"))).status_code == 404


async def test_teams(web: httpx.AsyncClient, sim: PrimeSimulator, create: Create, order: Order) -> None:
    """In the body or the header; only one's own."""
    sim.account.teams.add("team123")
    assert (await create(top={"team": {"teamId": "team123"}}))["teamId"] == "team123"
    told = await web.post("/pods", json=order(), headers={"X-Prime-Team-ID": "team123"})
    assert told.json()["teamId"] == "team123"
    refused = await web.post("/pods", json=order(top={"team": {"teamId": "other"}}))
    assert refused.status_code == 403


async def test_custom_templates(web: httpx.AsyncClient, sim: PrimeSimulator, create: Create, order: Order) -> None:
    """Made in the dashboard; their image's command reads the environment."""
    image = Image(name="octo/runner:1", entrypoint=("/entry",), cmd=("now",))
    template = sim.add_template(image, "tpl1")
    variables = [{"key": "A", "value": "B"}]
    pod = await create(image="custom_template", customTemplateId=template, envVars=variables)
    assert (pod["environmentType"], pod["customTemplateId"]) == ("custom_template", "tpl1")
    launch = sim.launch_of(sim.pod(pod["id"]))
    assert (launch.argv, launch.env) == (("/entry", "now"), {"A": "B"})
    for fields in ({"customTemplateId": "other"}, {}):
        refused = await web.post("/pods", json=order(image="custom_template", **fields))
        assert (refused.status_code, "template" in refused.json()["detail"]) == (400, True)
    refused = await web.post("/pods", json=order(image="windows"))
    assert refused.json() == {"detail": "Image windows is not supported by datacrunch"}


async def test_a_bare_pod_gets_no_environment(sim: PrimeSimulator, create: Create) -> None:
    """Clients leave those images out when they have variables."""
    pod = sim.pod((await create(envVars=[{"key": "A", "value": "B"}]))["id"])
    launch = sim.launch_of(pod)
    assert (launch.argv, launch.env, pod.env) == (("/bin/sleep", "infinity"), {}, {"A": "B"})


async def test_images_can_be_checked(web: httpx.AsyncClient, sim: PrimeSimulator) -> None:
    """Whether a registry has them."""
    sim.settings.unpullable.add("gone")
    for image, found in (("gone", False), ("there", True)):
        told = (await web.post("/templates/check-image", json={"image": image})).json()
        assert told["accessible"] is found
    assert (await web.post("/templates/check-image", json={})).status_code == 422
    assert (await web.get("/templates/registry-credentials")).status_code == 200


async def test_disks(web: httpx.AsyncClient, create: Create, order: Order) -> None:
    """Made, named, attached where they are, and not deleted while a pod has them."""
    given = {"disk": {"size": 50, "dataCenterId": "FIN-01"}, "provider": {"type": "datacrunch"}}
    disk = (await web.post("/disks", json=given)).json()
    away = (await web.post("/disks", json={"size": 10, "dataCenterId": "US-TX-1"})).json()
    assert (await web.post("/disks", json={})).status_code == 422
    assert (await web.patch(f"/disks/{disk['id']}", json={"name": "data"})).json()["name"] == "data"
    pod = await create(top={"disks": [disk["id"]]})
    assert [each["id"] for each in pod["attachedResources"]] == [disk["id"]]
    assert (await web.get(f"/disks/{disk['id']}")).json()["pods"] == [pod["id"]]
    assert (await web.delete(f"/disks/{disk['id']}")).status_code == 400
    assert (await web.post("/pods", json=order(top={"disks": [away["id"]]}))).status_code == 400
    assert (await web.post("/pods", json=order(top={"disks": ["none"]}))).status_code == 404
    near = (await web.get("/availability/gpus", params={"disks": disk["id"]})).json()["items"]
    assert {each["dataCenter"] for each in near} == {"FIN-01"}
    assert (await web.get("/availability/gpus", params={"disks": "none"})).status_code == 404
    await web.delete(f"/pods/{pod['id']}")
    assert (await web.delete(f"/disks/{disk['id']}")).status_code == 200
    assert [each["id"] for each in (await web.get("/disks")).json()["data"]] == [away["id"]]
    assert (await web.get(f"/disks/{disk['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        pytest.param("/pods/", "/pods", id="a slash too many"),
        pytest.param("/availability", "/availability/", id="a slash too few"),
        pytest.param("/pods/history/?limit=1", "/pods/history?limit=1", id="with a query"),
    ],
)
async def test_a_wrong_slash_is_redirected_to_http(web: httpx.AsyncClient, asked: str, sent: str) -> None:
    """With nothing in the body; who follows shows the key to everybody on the way."""
    told = await web.get(asked)
    assert (told.status_code, told.content) == (307, b"")
    assert told.headers["location"] == f"http://api.primeintellect.ai/api/v1{sent}"


async def test_what_is_not_served(web: httpx.AsyncClient) -> None:
    """Pods have no start and no stop."""
    assert (await web.post("/pods/x/stop")).status_code == 404
    assert (await web.put("/pods")).json() == {"detail": "Method Not Allowed"}


async def test_ordered_faults(web: httpx.AsyncClient, sim: PrimeSimulator, create: Create, order: Order) -> None:
    """No stock, an empty wallet, a limit with a date, an error, a lost answer, a redirect, an ignored end."""
    for fault, status in (
        (rows.no_stock(detail="out of stock"), 400),
        (rows.low_balance(), 402),
        (rows.rate_limited("pods.create", retry_after=7), 429),
        (rows.rate_limited("pods.create", retry_after=None), 429),
        (rows.internal_error("pods.create"), 500),
        (rows.ROWS["redirect"](operation="pods.create", location="http://elsewhere.example/"), 307),
        (rows.ROWS["html_502"](operation="pods.create"), 502),
    ):
        sim.faults.add(fault)
        assert (await web.post("/pods", json=order())).status_code == status
    assert sim.pods() == []
    sim.faults.add(rows.ROWS["hang"](operation="pods.create"))
    with pytest.raises(httpx.ReadTimeout):
        await web.post("/pods", json=order())
    assert sim.pods() == []
    sim.faults.add(rows.ROWS["lost_answer"](operation="pods.create"))
    with pytest.raises(httpx.ReadError):
        await web.post("/pods", json=order())
    (pod,) = sim.live()
    sim.faults.add(rows.ROWS["malformed"](operation="pods.get"))
    assert (await web.get(f"/pods/{pod.id}")).text == "<html>not json"
    sim.faults.add(rows.ROWS["terminate_ignored"]())
    assert (await web.delete(f"/pods/{pod.id}")).status_code == 200
    assert (await web.get(f"/pods/{pod.id}")).status_code == 200
    assert sim.pod(pod.id).happened("terminate ignored")


async def test_the_control_interface(web: httpx.AsyncClient, sim: PrimeSimulator, create: Create) -> None:
    """The same from another process."""
    at = "https://api.primeintellect.ai/_sim"
    pod_id = (await create())["id"]
    change = {
        "stock": {"4090": 0},
        "price": {"a100": "9.5"},
        "defect": {"a4000": "old driver"},
        "status": {pod_id: "ERROR"},
        "failure": {pod_id: "no driver"},
        "ssh_keys": {"mine": "ssh-ed25519 AAAA me"},
        "teams": ["team1"],
        "templates": {"tpl1": "octo/runner"},
        "settings": {"deletion_seconds": 5, "progress": {"polls": 2}, "max_price_required": True},
        "list_lag": 3,
        "balance": "12.5",
    }
    assert (await web.post(f"{at}/market", json=change)).status_code == 200
    assert sim.market.offer("4090").stock == "Unavailable"
    assert sim.market.offer("a100").price == Decimal("9.5")
    assert sim.launch_of(sim.pod(pod_id)).driver == "470.57.02"
    assert (sim.account.templates["tpl1"].image, sim.account.teams) == ("octo/runner", {"team1"})
    assert (sim.settings.deletion_seconds, sim.settings.progress.polls) == (5.0, 2)
    for wrong in ({"nothing": 1}, {"progress": {"nothing": 1}}, {"list_lag": "soon"}):
        assert (await web.post(f"{at}/market", json={"settings": wrong})).status_code == 400
    told = (await web.get(f"{at}/state")).json()
    assert (float(told["balance"]), told["pods"][0]["isSpot"], told["live"]) == (12.5, False, [pod_id])
    assert (await web.get(f"/pods/{pod_id}")).json()["status"] == "ERROR"
    added = (await web.post(f"{at}/pods", json={"name": "x", "price": "0.4"})).json()["id"]
    assert sim.pod(added).foreign
    await web.post(f"{at}/faults", json={"row": "no_stock"})
    assert len(sim.faults.pending) == 1
