"""The simulated Lium: credentials, envelopes, executors, templates, Idempotency-Keys, faults, slashes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.celium import CeliumSimulator, Envelope, executor_id, rows
from runner_provisioner.testing.clock import FakeClock

Send = Callable[..., Awaitable[httpx.Response]]
Rent = Callable[..., Awaitable[dict[str, Any]]]
Template = Callable[..., Awaitable[str]]


def code(answered: httpx.Response) -> str:
    """The error's code."""
    told: str = answered.json()["error"]["code"]
    return told


async def executors(web: httpx.AsyncClient, wanted: dict[str, Any] | None = None) -> list[str]:
    """Ids of the executors that a query finds."""
    answered = await web.get("/executors", params={"view": "summary", **(wanted or {})})
    return [each["id"] for each in answered.json()]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param({"machine_names": "NVIDIA RTX A4000"}, ["a4000", "a4000-spot"], id="name"),
        pytest.param({"machine_names": "NVIDIA H100 80GB HBM3, other"}, ["h100"], id="names"),
        pytest.param({"gpu_count_gte": 3, "gpu_count_lte": 4}, ["a4000", "a4000-spot"], id="GPUs"),
        pytest.param({"nvlink": "true"}, ["h100"], id="NVLink"),
        pytest.param({"min_download_mbps": 2000}, ["h100"], id="download"),
        pytest.param({"machine_names": "NVIDIA GeForce RTX 4090", "reliable_only": "true"}, ["4090"], id="reliable"),
        pytest.param({"lat": 45, "lon": -73, "max_distance_mile": 100}, ["h100"], id="near"),
    ],
)
async def test_executors_are_filtered(web: httpx.AsyncClient, wanted: dict[str, Any], found: list[str]) -> None:
    """By each parameter."""
    assert await executors(web, wanted) == [executor_id(name) for name in found]


async def test_an_executor_has_what_clients_read(web: httpx.AsyncClient, sim: CeliumSimulator) -> None:
    """Numbers as numbers; what is fully rented is not listed."""
    rows_ = {each["id"]: each for each in (await web.get("/executors")).json()}
    row = rows_[executor_id("a4000-spot")]
    assert (row["tier"], row["price_per_gpu"], row["max_cuda_version"]) == ("spot", 0.06, 12.8)
    assert row["specs"]["gpu"]["details"][0]["name"] == "NVIDIA RTX A4000"
    assert row["specs"]["ram"]["total"] == 128 * 1024 * 1024
    sim.market.set_stock("a4000-spot", 0)
    assert executor_id("a4000-spot") not in await executors(web)
    assert (await web.get(f"/executors/{executor_id('a4000-spot')}")).json()["status"] == "rented"
    assert (await web.get("/executors", params={"lat": "north"})).status_code == 422
    assert {"name": "NVIDIA RTX A4000"} in (await web.get("/machines")).json()


async def test_what_real_clients_ask_before_a_rent(web: httpx.AsyncClient) -> None:
    """Features, default image, estimate, quote."""
    assert "rent_idempotency" in (await web.get("/version", headers={"X-API-KEY": ""})).json()["features"]
    (image,) = (await web.get("/executors/default-docker-image")).json()
    templates = (await web.get("/templates")).json()
    assert image["docker_image"] in {each["docker_image"] for each in templates}
    asked = {"executor_id": executor_id("a4000"), "template_id": templates[0]["id"]}
    assert (await web.get("/executors/deployment-estimate", params=asked)).json()["estimated_seconds"] == 0
    quote = (await web.get(f"/executors/{executor_id('a4000')}/quote", params={"hours": 2, "gpu_count": 1})).json()
    assert (quote["total_usd"], quote["price_per_hour"]) == (0.24, 0.12)
    assert (await web.get("/executors/none/quote")).status_code == 404


async def test_keys_have_scopes(web: httpx.AsyncClient, sim: CeliumSimulator, send: Send, rent: Rent) -> None:
    """403 names the scope and the key; an unknown key is 401."""
    reader = sim.account.add_key(name="reader", scopes=frozenset({"read"}))
    assert (await web.get("/pods", headers={"X-API-KEY": reader})).status_code == 200
    refused = await send(key=reader)
    assert (refused.status_code, code(refused)) == (403, "missing_scope")
    assert "does not have the 'rent' scope" in refused.json()["message"]
    pod_id = (await rent())["id"]
    renter = sim.account.add_key(scopes=frozenset({"read", "rent"}))
    assert (await web.delete(f"/pods/{pod_id}", headers={"X-API-KEY": renter})).status_code == 403
    sim.account.revoke(reader)
    assert (await web.get("/pods", headers={"X-API-KEY": reader})).status_code == 401
    assert (await web.get("/pods", headers={"X-API-KEY": ""})).status_code == 401


async def test_keys_have_budgets(sim: CeliumSimulator, clock: FakeClock, send: Send) -> None:
    """402 with what was spent."""
    key = sim.account.add_key(budget=Decimal("0.25"))
    assert (await send(key=key)).status_code == 200
    clock.advance(5400)
    refused = await send(key=key)
    assert (refused.status_code, code(refused)) == (402, "API_KEY_BUDGET_EXCEEDED")
    assert refused.json()["message"] | {"message": ""} == {
        "message": "",
        "window": "max",
        "budget_usd": 0.25,
        "spent_usd": 0.18,
        "api_key_id": sim.account.keys[key].id,
    }


async def test_a_low_balance_is_refused_in_both_envelopes(sim: CeliumSimulator, send: Send) -> None:
    """By its code, or only by its words."""
    sim.set_balance(Decimal("0.05"))
    refused = await send()
    assert (refused.status_code, code(refused)) == (403, "insufficient_balance")
    sim.settings.envelope = Envelope.DETAIL
    refused = await send()
    assert "error" not in refused.json()
    assert "Insufficient balance" in refused.json()["detail"]["message"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"pod_name": None}, "pod_name", id="no name"),
        pytest.param({"user_public_key": []}, "user_public_key", id="no key"),
        pytest.param({"user_public_key": "ssh-ed25519 AAAA"}, "user_public_key", id="a key alone"),
        pytest.param({"gpu_count": 0}, "gpu_count", id="no GPU"),
        pytest.param({"gpu_count": True}, "gpu_count", id="a truth"),
        pytest.param({"termination_hours": 721}, "termination_hours", id="too long"),
        pytest.param({"template_id": "x", "dockerfile_content": "FROM y"}, "template_id", id="both"),
    ],
)
async def test_a_wrong_field_is_refused(sim: CeliumSimulator, send: Send, fields: dict[str, Any], field: str) -> None:
    """422 names it in both envelopes, and nothing is rented."""
    refused = await send(**fields)
    assert (refused.status_code, refused.json()["validation_errors"][0]["field"]) == (422, field)
    sim.settings.envelope = Envelope.DETAIL
    assert (await send(**fields)).json()["detail"][0]["loc"] == ["body", field]
    assert sim.pods() == []


async def test_what_cannot_be_rented(sim: CeliumSimulator, send: Send) -> None:
    """Unknown, taken, too small a part of a machine that rents whole, unknown template or volume."""
    assert code(await send("nowhere")) == "executor_not_found"
    assert (await send("h100", gpu_count=2)).status_code == 422
    assert (await send("a4000", gpu_count=5)).status_code == 400
    sim.market.set_stock("NVIDIA RTX A4000", 0)
    refused = await send()
    assert (refused.status_code, "already rented" in refused.json()["message"]) == (400, True)
    assert code(await send("4090", template_id="none")) == "template_not_found"
    assert code(await send("4090", volume_id="none")) == "volume_not_found"
    assert (await send("h100", gpu_count=None)).json()["gpu_count"] == 8


async def test_a_rent_by_specification(web: httpx.AsyncClient, sim: CeliumSimulator) -> None:
    """The cheapest that fits; a dry run rents nothing."""
    body: dict[str, Any] = {
        "gpu_type": "A4000",
        "gpu_count": 1,
        "min_cpus": 8,
        "country": "FI",
        "pod_name": "ci",
        "user_public_key": ["ssh-ed25519 AAAA"],
        "max_price_per_gpu_hour": 0.1,
        "dry_run": True,
    }
    told = (await web.post("/executors/rent-by-spec", json=body)).json()
    assert (told["selected_executor"]["id"], told["pod_id"], told["candidates"]) == (
        executor_id("a4000-spot"),
        None,
        1,
    )
    body |= {"dry_run": False, "max_price_per_gpu_hour": None}
    told = (await web.post("/executors/rent-by-spec", json=body)).json()
    assert (told["price_per_hour"], len(told["alternatives_considered"]), told["attempts"]) == (0.06, 1, 1)
    assert sim.pod(told["pod_id"]).spot
    for more in ({"min_vram_gb": 1000}, {"docker_in_docker": True}, {"gpu_type": "B200"}):
        assert (await web.post("/executors/rent-by-spec", json=body | more)).status_code == 404


async def test_the_same_idempotency_key_rents_once(sim: CeliumSimulator, send: Send) -> None:
    """And gets the same answer, marked as repeated; for another request it is refused."""
    first, second = await send(token="t1"), await send(token="t1")
    assert first.json() == second.json()
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    assert len(sim.pods()) == 1
    assert code(await send(token="t1", pod_name="other")) == "idempotency_key_reused"
    assert (await send(token="t2")).json()["id"] != first.json()["id"]


async def test_a_refusal_is_repeated_too(sim: CeliumSimulator, send: Send) -> None:
    """Though the reason is gone meanwhile."""
    sim.set_balance(Decimal(0))
    await send(token="t1")
    sim.set_balance(Decimal(10))
    refused = await send(token="t1")
    assert (refused.status_code, refused.headers["idempotent-replayed"]) == (403, "true")
    assert sim.pods() == []


async def test_a_rent_in_progress(sim: CeliumSimulator, clock: FakeClock, send: Send) -> None:
    """409 until it is over; then the answer."""
    sim.settings.rent_seconds = 10
    first = await send(token="t1")
    refused = await send(token="t1")
    assert (refused.status_code, code(refused)) == (409, "idempotency_in_progress")
    clock.advance(10)
    assert (await send(token="t1")).json() == first.json()


async def test_a_rent_whose_outcome_is_unknown(sim: CeliumSimulator, send: Send) -> None:
    """500 after the pod was made; the key stays without an answer for good."""
    sim.break_rents(1)
    assert (await send(token="t1")).status_code == 500
    assert len(sim.live()) == 1
    for _ in range(2):
        refused = await send(token="t1")
        assert (refused.status_code, code(refused)) == (409, "idempotency_outcome_unknown")
    assert len(sim.live()) == 1
    assert (await send(token="t2")).status_code == 200


async def test_a_lost_answer_is_found_with_the_key(sim: CeliumSimulator, send: Send) -> None:
    """The repeat is told the pod."""
    sim.faults.add(rows.ROWS["lost_answer"](operation="pods.rent"))
    with pytest.raises(httpx.ReadError):
        await send(token="t1")
    (pod,) = sim.live()
    assert (await send(token="t1")).json()["id"] == pod.id
    assert len(sim.pods()) == 1


async def test_templates(web: httpx.AsyncClient, sim: CeliumSimulator, template: Template, send: Send) -> None:
    """Created, changed, looked at until they are verified, or failed."""
    body = {"name": "t", "docker_image": "ghcr.io/octo/runner:1", "docker_image_tag": "", "internal_ports": [22, 8000]}
    made = (await web.post("/templates", json=body)).json()
    assert (made["docker_image"], made["docker_image_tag"], made["status"]) == ("ghcr.io/octo/runner", "1", "CREATED")
    changed = await web.put(f"/templates/{made['id']}", json={"startup_commands": "x"})
    assert (changed.json()["startup_commands"], changed.json()["status"]) == ("x", "UPDATED")
    for wrong in ({"name": "t"}, {**body, "internal_ports": 22}, {"docker_image": "x"}):
        assert (await web.post("/templates", json=wrong)).status_code == 422
    public = next(each["id"] for each in (await web.get("/templates")).json() if each["user_id"] is None)
    assert (await web.put(f"/templates/{public}", json={})).status_code == 403
    sim.settings.template_statuses = ("CREATED", "VERIFY_PENDING", "VERIFY_FAILED")
    slow = await template()
    seen = [(await web.get(f"/templates/{slow}")).json()["status"] for _ in range(3)]
    assert seen == ["VERIFY_PENDING", "VERIFY_FAILED", "VERIFY_FAILED"]
    assert code(await send(template_id=slow)) == "template_not_verified"


async def test_the_output_of_a_pod(web: httpx.AsyncClient, sim: CeliumSimulator, rent: Rent) -> None:
    """Its last lines, or all."""
    pod_id = (await rent())["id"]
    assert (await web.get(f"/pods/{pod_id}/logs")).text == ""
    sim.say(pod_id, "one\ntwo\nthree\n")
    assert (await web.get(f"/pods/{pod_id}/logs", params={"tail": 2, "follow": "false"})).text == "two\nthree\n"
    assert (await web.get(f"/pods/{pod_id}/logs", params={"tail": 0})).text == "one\ntwo\nthree\n"
    assert (await web.get("/pods/none/logs")).status_code == 404


async def test_keys_of_ssh_and_volumes(web: httpx.AsyncClient, rent: Rent) -> None:
    """Made, listed, deleted; not a volume that a pod has."""
    key = (await web.post("/ssh-keys", json={"name": "a", "public_key": "ssh-ed25519 AAAA"})).json()
    assert [each["id"] for each in (await web.get("/ssh-keys")).json()] == [key["id"]]
    assert (await web.delete(f"/ssh-keys/{key['id']}")).status_code == 200
    assert (await web.delete(f"/ssh-keys/{key['id']}")).status_code == 404
    assert (await web.post("/ssh-keys", json={"public_key": "x"})).status_code == 422
    volume = (await web.post("/volumes", json={"name": "v"})).json()
    pod_id = (await rent(volume_id=volume["id"]))["id"]
    assert code(await web.delete(f"/volumes/{volume['id']}")) == "volume_in_use"
    await web.delete(f"/pods/{pod_id}")
    assert (await web.put(f"/volumes/{volume['id']}", json={"name": "w"})).json()["name"] == "w"
    assert [each["name"] for each in (await web.get("/volumes")).json()] == ["w"]
    assert (await web.delete(f"/volumes/{volume['id']}")).status_code == 200
    assert (await web.get(f"/volumes/{volume['id']}")).status_code == 404
    assert (await web.post("/volumes", json={})).status_code == 422


async def test_a_slash_too_many_is_redirected_to_http(web: httpx.AsyncClient) -> None:
    """Who follows shows the key to everybody on the way."""
    told = await web.get("/pods/?x=1")
    assert (told.status_code, told.headers["location"]) == (307, "http://lium.io/api/pods?x=1")
    assert (await web.get("/nothing")).status_code == 404
    assert (await web.put("/pods")).status_code == 405


async def test_polls_are_capped(web: httpx.AsyncClient, sim: CeliumSimulator, clock: FakeClock) -> None:
    """429 tells when to come again."""
    sim.settings.polls_per_minute = 2
    for _ in range(2):
        clock.advance(10)
        assert (await web.get("/pods")).status_code == 200
    refused = await web.get("/pods")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "50")
    clock.advance(50)
    assert (await web.get("/pods")).status_code == 200


async def test_ordered_faults(web: httpx.AsyncClient, sim: CeliumSimulator, send: Send) -> None:
    """Each row is what a client meets, and rents nothing."""
    for fault, status in (
        (rows.no_stock(), 400),
        (rows.no_stock(status=409), 409),
        (rows.low_balance(envelope="detail"), 403),
        (rows.over_budget(), 402),
        (rows.in_progress(), 409),
        (rows.outcome_unknown(), 409),
        (rows.rate_limited("pods.rent", retry_after=5), 429),
        (rows.rate_limited("pods.rent", retry_after=None), 429),
        (rows.internal_error("pods.rent"), 500),
        (rows.ROWS["redirect"](operation="pods.rent", location="http://elsewhere.example/"), 307),
    ):
        sim.faults.add(fault)
        assert (await send()).status_code == status
    assert sim.pods() == []
    pod_id = (await send()).json()["id"]
    sim.faults.add(rows.ROWS["terminate_ignored"]())
    assert (await web.delete(f"/pods/{pod_id}")).status_code == 200
    assert sim.pod(pod_id).happened("terminate ignored")
    sim.faults.add(rows.ROWS["malformed"](operation="pods.list", body="null"))
    assert (await web.get("/pods")).json() is None
    sim.faults.add(rows.ROWS["late_answer"](operation="pods.list", seconds=5))
    assert (await web.get("/pods")).status_code == 200


async def test_the_control_interface(web: httpx.AsyncClient, sim: CeliumSimulator, rent: Rent) -> None:
    """The same from another process."""
    at = "https://lium.io/_sim"
    pod_id, other = (await rent())["id"], (await rent())["id"]
    change = {
        "stock": {"4090": 0},
        "price": {"NVIDIA RTX A4000": "9.5"},
        "defect": {"a4000": "little VRAM"},
        "status": {pod_id: "BROKEN"},
        "failure": {other: "no such image"},
        "breaking": 1,
        "settings": {"envelope": "detail", "polls_per_minute": 60, "template_statuses": ["CREATED", "VERIFY_PENDING"]},
        "balance": "12.5",
    }
    assert (await web.post(f"{at}/market", json=change)).status_code == 200
    assert (sim.market.executor("4090").free, sim.market.executor("a4000-spot").price) == (0, Decimal("9.5"))
    assert sim.launch_of(sim.pod(pod_id)).gpu_memory == 8192
    assert (sim.settings.envelope, sim.settings.polls_per_minute) == (Envelope.DETAIL, 60)
    assert sim.settings.template_statuses == ("CREATED", "VERIFY_PENDING")
    told = (await web.get(f"{at}/state")).json()
    assert (told["pods"][0]["tier"], told["pods"][0]["executorId"]) == ("secure", executor_id("a4000"))
    assert (await web.get(f"/pods/{pod_id}")).json()["status"] == "BROKEN"
    assert (await web.get(f"/pods/{other}")).json()["status"] == "CREATION_FAILED"
    added = (await web.post(f"{at}/pods", json={"name": "x", "price": "0.4"})).json()["id"]
    assert sim.pod(added).foreign
    assert (await web.post(f"{at}/market", json={"stock": {"nothing": 1}})).status_code == 400
