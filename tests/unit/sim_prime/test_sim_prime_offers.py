"""Offers of the simulated Prime Intellect: shapes, filters, pages, stock, prices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.prime import PrimeSimulator, texts

Create = Callable[..., Awaitable[dict[str, Any]]]
Order = Callable[..., dict[str, Any]]


async def gpus(web: httpx.AsyncClient, **wanted: object) -> list[dict[str, Any]]:
    """The offers that a query finds."""
    answered = (await web.get("/availability/gpus", params=wanted)).json()  # type: ignore[arg-type]
    found: list[dict[str, Any]] = answered["items"]
    assert answered["totalCount"] == len(found)
    return found


async def test_an_offer_has_what_clients_read(web: httpx.AsyncClient) -> None:
    """Price of all GPUs, included and possible resources, the word for the stock, whether it is spot."""
    spot, plain = sorted(await gpus(web, gpu_type="RTXA4000_16GB"), key=lambda each: not each["isSpot"])
    assert (spot["isSpot"], spot["prices"]["onDemand"], spot["stockStatus"]) == (True, 0.07, "High")
    assert plain["prices"] == {"onDemand": 0.17, "communityPrice": None, "isVariable": False, "currency": "USD"}
    assert plain["disk"]["minCount"] <= plain["disk"]["defaultCount"] <= plain["disk"]["maxCount"]
    assert plain["disk"]["step"] == 1
    assert set(plain) >= {"cloudId", "socket", "security", "images", "gpuMemory", "interconnect", "country"}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param({"gpu_count": 8}, {"gpu_8x_h100_sxm5"}, id="GPUs"),
        pytest.param({"socket": "SXM4"}, {"a100-80gb-1x"}, id="socket"),
        pytest.param({"security": "community_cloud"}, {"NVIDIA GeForce RTX 4090"}, id="security"),
        pytest.param({"data_center_id": "us-central-3"}, {"a100-80gb-1x"}, id="data center"),
        pytest.param({"cloud_id": "a4000-1x-spot"}, {"a4000-1x-spot"}, id="cloud id"),
        pytest.param(
            {"regions": ["canada", "eu_north"]}, {"NVIDIA GeForce RTX 4090", "a4000-1x", "a4000-1x-spot"}, id="regions"
        ),
        pytest.param({"gpu_type": "none"}, set(), id="nothing"),
    ],
)
async def test_offers_are_filtered(web: httpx.AsyncClient, wanted: dict[str, Any], found: set[str]) -> None:
    """By each parameter."""
    assert {each["cloudId"] for each in await gpus(web, **wanted)} == found


async def test_offers_come_in_pages(web: httpx.AsyncClient) -> None:
    """`totalCount` is that of all pages."""
    first = (await web.get("/availability/gpus", params={"page": 1, "page_size": 4})).json()
    second = (await web.get("/availability/gpus", params={"page": 2, "page_size": 4})).json()
    assert (len(first["items"]), len(second["items"]), first["totalCount"]) == (4, 3, 7)
    refused = await web.get("/availability/gpus", params={"page_size": 101})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["query", "page_size"]


async def test_the_other_lists_have_their_shapes(web: httpx.AsyncClient) -> None:
    """Clusters are none; disks have a `spec`; the older form and the summary are maps by type."""
    assert (await web.get("/availability/multi-node")).json() == {"items": [], "totalCount": 0}
    disks = (await web.get("/availability/disks")).json()
    assert disks["items"][0]["spec"]["pricePerUnit"] == 0.0002
    for path in ("/availability/gpu-summary", "/availability/"):
        assert len((await web.get(path)).json()["RTX4090_24GB"]) == 3
    assert (await web.get("/availability/clusters")).json() == {}


async def test_what_is_sold_out_is_shown_and_refused(
    web: httpx.AsyncClient, sim: PrimeSimulator, order: Order, create: Create
) -> None:
    """The word is Unavailable; a creation is refused in words that clients know; an ended pod frees its place."""
    sim.market.set_stock("a4000", 1)
    pod = await create()
    (offer,) = await gpus(web, cloud_id="a4000-1x")
    assert offer["stockStatus"] == "Unavailable"
    refused = await web.post("/pods", json=order())
    assert (refused.status_code, refused.json()) == (400, {"detail": texts.NO_CAPACITY})
    await web.delete(f"/pods/{pod['id']}")
    await create()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"cloudId": "elsewhere"}, id="cloud"),
        pytest.param({"gpuType": "H100_80GB"}, id="type"),
        pytest.param({"gpuCount": 2}, id="count"),
        pytest.param({"socket": "SXM5"}, id="socket"),
        pytest.param({"dataCenterId": "US-TX-1"}, id="data center"),
        pytest.param({"country": "US"}, id="country"),
        pytest.param({"security": "community_cloud"}, id="security"),
        pytest.param({"provider": "hyperstack"}, id="provider"),
    ],
)
async def test_a_creation_must_name_an_offer_exactly(
    web: httpx.AsyncClient, order: Order, fields: dict[str, Any]
) -> None:
    """Anything else is not available."""
    refused = await web.post("/pods", json=order(**fields))
    assert (refused.status_code, refused.json()["detail"]) == (400, texts.NO_CAPACITY)


async def test_resources_beyond_the_included_cost_more(web: httpx.AsyncClient, order: Order, create: Create) -> None:
    """And what the offer cannot have is refused."""
    assert (await create(diskSize=100))["priceHr"] == 0.17
    assert (await create(diskSize=600))["priceHr"] == pytest.approx(0.27)
    refused = await web.post("/pods", json=order(diskSize=5000))
    assert refused.json() == {"detail": "diskSize must be between 20 and 2000"}


@pytest.mark.parametrize(("ceiling", "status"), [(0.16, 400), (0.17, 200), (None, 200), (0, 200)])
async def test_the_ceiling_counts(web: httpx.AsyncClient, order: Order, ceiling: float | None, status: int) -> None:
    """A dearer pod is refused as not available; null and 0 are no ceiling."""
    answered = await web.post("/pods", json=order(maxPrice=ceiling))
    assert answered.status_code == status
    if status == 400:
        assert "not available at max price" in answered.json()["detail"]


async def test_a_ceiling_can_be_demanded(web: httpx.AsyncClient, sim: PrimeSimulator, order: Order) -> None:
    """As the service did for a while."""
    sim.settings.max_price_required = True
    refused = await web.post("/pods", json=order(maxPrice=None))
    assert (refused.status_code, refused.json()) == (400, {"detail": texts.MAX_PRICE_MISSING})


async def test_the_market_can_be_changed(sim: PrimeSimulator, create: Create) -> None:
    """Price and stock, by offer or by GPU type; nothing unknown."""
    sim.market.set_price("RTXA4000_16GB", Decimal("0.99"))
    assert (await create())["priceHr"] == 0.99
    with pytest.raises(KeyError):
        sim.market.set_stock("nothing", 1)
    with pytest.raises(KeyError):
        sim.market.offer("nothing")
