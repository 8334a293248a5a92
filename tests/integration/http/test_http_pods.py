"""`/api/v1/pods`: the examples of the contract, over every provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.http_service import BOOT, Client, Scene, play
from support.stages import Provider

from runner_provisioner.simulators.prime.simulator import PrimeSimulator

PODS = "/api/v1/pods"
WISH: dict[str, Any] = {
    "pod": {
        "name": "My H100",
        "gpuType": "A4000_16GB",
        "gpuCount": 1,
        "image": "ubuntu_22_cuda_12",
        "security": "secure_cloud",
    },
}


def _wish(provider: str | None = None, **pod: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    where = {"provider": {"type": provider}} if provider is not None else {}
    return {**where, "pod": {**WISH["pod"], **pod}}


async def _until(scene: Scene, client: Client, pod_id: str, word: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for _ in range(20):
        row = await client.well("GET", f"{PODS}/{pod_id}")
        if row["status"] == word:
            return row
        await scene.wait(BOOT / 4)
    raise AssertionError(row)


@pytest.mark.parametrize(
    ("market", "provider"),
    [
        pytest.param(Provider.RUNPOD, "runpod", id="runpod"),
        pytest.param(Provider.LIUM, "celium", id="celium"),
        pytest.param(Provider.PRIME, "prime", id="prime"),
    ],
)
def test_the_life_of_a_pod_is_the_same_at_every_provider(tmp_path: Path, market: Provider, provider: str) -> None:
    """Created, listed, looked at, its status, its end, its history."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            made = await client.well("POST", PODS, json=_wish(provider))
            assert (made["name"], made["providerType"], made["gpuName"]) == ("My H100", provider, "A4000_16GB")
            assert (made["status"], made["installationStatus"]) in {
                ("PROVISIONING", "PENDING"),
                ("PROVISIONING", "IN_PROGRESS"),
            }
            row = await _until(scene, client, made["id"], "ACTIVE")
            assert (row["installationStatus"], row["installationProgress"]) == ("COMPLETE", 100)
            assert row["sshConnection"] == f"root@{row['ip']} -p {row['primePortMapping'][0]['external']}"
            assert row["primePortMapping"][0]["usedBy"] == "SSH"
            assert row["environmentType"] == "ubuntu_22_cuda_12"
            assert 0 < row["priceHr"] < 1
            listed = await client.well("GET", PODS)
            assert listed == {"data": [row], "total_count": 1, "offset": 0, "limit": 100}
            query = [("pod_ids", made["id"]), ("pod_ids", "stranger")]
            told = (await client.well("GET", f"{PODS}/status", params=query))["data"]
            assert [(one["podId"], one["status"]) for one in told] == [(made["id"], "ACTIVE"), ("stranger", "UNKNOWN")]
            assert told[0]["costPerHr"] == row["priceHr"]
            assert (await client.well("GET", f"{PODS}/history"))["data"] == []
            ended = await client.well("DELETE", f"{PODS}/{made['id']}")
            assert ended["podId"] == made["id"]
            assert (await client.ask("GET", f"{PODS}/{made['id']}")).status_code == 404
            told = (await client.well("GET", f"{PODS}/status", params=query))["data"]
            assert told[0]["status"] == "TERMINATED"
            past = await client.well("GET", f"{PODS}/history")
            assert (past["total_count"], past["data"][0]["name"]) == (1, "My H100")
            assert past["data"][0]["terminatedAt"] > past["data"][0]["createdAt"]
            assert past["data"][0]["totalBilledPrice"] >= 0

    scene = play(tmp_path, act, market)
    assert not scene.live()


def test_pods_of_all_providers_are_listed_by_page(tmp_path: Path) -> None:
    """The latest first; history is sorted as asked, and one that is behind Prime Intellect can be named."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            ids = []
            for provider in ("runpod", "celium", "hyperstack"):
                made = await client.ask("POST", PODS, json=_wish(provider, name=f"at {provider}"))
                if made.status_code != 200:
                    assert provider == "hyperstack", made.text
                    continue
                ids.append(made.json()["id"])
                await scene.wait(5)
            assert len(ids) >= 2
            page = await client.well("GET", PODS, params={"offset": 1, "limit": 1})
            assert (page["total_count"], page["offset"], page["limit"], len(page["data"])) == (len(ids), 1, 1, 1)
            assert page["data"][0]["id"] == ids[-2]
            for pod_id in reversed(ids):
                await client.well("DELETE", f"{PODS}/{pod_id}")
                await scene.wait(5)

            async def past(**query: str) -> list[str]:
                rows = (await client.well("GET", f"{PODS}/history", params=query))["data"]
                return [row["id"] for row in rows]

            assert await past() == ids
            assert await past(sort_by="createdAt") == ids[::-1]
            assert await past(sort_by="createdAt", sort_order="asc") == ids
            assert await past(sort_order="asc", limit="1", offset="1") == [ids[-2]]
            assert (await client.ask("GET", f"{PODS}/history", params={"sort_by": "name"})).status_code == 422

    play(tmp_path, act, Provider.RUNPOD, Provider.LIUM, Provider.PRIME)


def test_a_providers_log_is_passed_on_without_secrets(tmp_path: Path) -> None:
    """Where the provider gives one."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            made = await client.well("POST", PODS, json=_wish("prime"))
            await _until(scene, client, made["id"], "ACTIVE")
            told = await client.well("GET", f"{PODS}/{made['id']}/logs")
            assert told["podId"] == made["id"]
            assert isinstance(told["logs"], str)
            assert (await client.ask("GET", f"{PODS}/none/logs")).status_code == 404

    play(tmp_path, act, Provider.PRIME)


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no body": ({}, ["body", "pod"]),
    "a name that is not known": (_wish(maxprice=1), ["body", "pod", "maxprice"]),
    "snake case": (_wish(gpu_count=2), ["body", "pod", "gpu_count"]),
    "no number": (_wish(gpuCount="one"), ["body", "pod", "gpuCount"]),
    "negative": (_wish(diskSize=-1), ["body", "pod", "diskSize"]),
    "template without an id": (_wish(image="custom_template"), ["body", "pod", "customTemplateId"]),
    "provider that is none": (_wish("nowhere"), ["body", "provider", "type"]),
    "price below nothing": (_wish(maxPrice=-1), ["body", "pod", "maxPrice"]),
    "variable that is none": (_wish(envVars=[{"key": "A=B", "value": "x"}]), ["body", "pod", "envVars", "0", "key"]),
}


def test_a_bad_body_is_told_with_its_field(tmp_path: Path) -> None:
    """422 in FastAPI's shape; what was sent is not repeated."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            for name, (body, place) in BAD.items():
                answer = await client.ask("POST", PODS, json=body)
                assert answer.status_code == 422, name
                assert answer.json()["detail"][0]["loc"] == place, name
            above = await client.ask("POST", PODS, json=_wish(maxPrice=1000))
            assert above.status_code == 422
            assert "at most 25" in above.text
            unknown = await client.ask("POST", PODS, json=_wish(gpuType="RTX 9999"))
            assert unknown.status_code == 422
            assert "9999" in unknown.text

    scene = play(tmp_path, act)
    assert not scene.pods()


@pytest.mark.parametrize(("asked", "shown"), [("SXM", "SXM5"), ("sxm5", "SXM5"), (None, "SXM5")], ids=str)
def test_the_socket_that_is_shown_is_the_pods_own(tmp_path: Path, asked: str | None, shown: str) -> None:
    """Never the request's word for it, nor nothing where the request has none; in the history, too."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            made = await client.well("POST", PODS, json=_wish(gpuType="H100_80GB", socket=asked))
            assert made["socket"] == shown
            await client.well("DELETE", f"{PODS}/{made['id']}")
            past = await client.well("GET", f"{PODS}/history")
            assert [one["socket"] for one in past["data"]] == [shown]

    play(tmp_path, act)


def test_prime_intellects_own_words_are_passed_on(tmp_path: Path) -> None:
    """Its cloudId, socket, password and sizes; a provider that is behind it."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            first = scene.stages[0].sim
            assert isinstance(first, PrimeSimulator)
            offers = [one for one in first.market.offers if one.gpu_type == "RTXA4000_16GB" and not one.spot]
            one = offers[0]
            body = _wish(
                one.provider,
                gpuType=one.gpu_type,
                cloudId=one.cloud_id,
                socket=one.socket,
                security=one.security,
                diskSize=one.disk.included or 40,
            )
            made = await client.well("POST", PODS, json=body)
            assert (made["socket"], made["providerType"]) == (one.socket, "prime")
            other = await client.ask("POST", PODS, json={**body, "pod": {**body["pod"], "cloudId": "none"}})
            assert other.status_code == 409

    scene = play(tmp_path, act, Provider.PRIME)
    assert len(scene.pods()) == 1
