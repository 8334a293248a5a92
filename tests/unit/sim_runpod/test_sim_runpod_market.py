"""The simulated market: prices, stock, filters, bids, and the words of a refusal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.runpod import RunPodSimulator, texts

Ask = Callable[..., Awaitable[httpx.Response]]
Create = Callable[..., Awaitable[dict[str, Any]]]
Refusal = Callable[[httpx.Response], str]
A4000 = "NVIDIA RTX A4000"
A5000 = "NVIDIA RTX A5000"
MIG = "NVIDIA A100-SXM4-80GB MIG 1g.10gb"
DEPLOY = "mutation D($input: PodFindAndDeployOnDemandInput) { podFindAndDeployOnDemand(input: $input) { id } }"
RENT = "mutation R($input: PodRentInterruptableInput!) { podRentInterruptable(input: $input) { id } }"
PRICES = """query P($id: String, $input: GpuLowestPriceInput) { gpuTypes(input: {id: $id}) {
  id securePrice communityPrice secureSpotPrice communitySpotPrice secureCloud communityCloud
  lowestPrice(input: $input) { minimumBidPrice uninterruptablePrice stockStatus rentedCount maxUnreservedGpuCount
    availableGpuCounts gpuTypeCudaVersions { cudaVersion availability } }
} }"""


@pytest.fixture
def prices(ask: Ask) -> Callable[..., Awaitable[dict[str, Any]]]:
    """`lowestPrice` of a model with this input."""

    async def read(gpu_type_id: str = A4000, **given: object) -> dict[str, Any]:
        answered = await ask(PRICES, {"id": gpu_type_id, "input": given})
        lowest: dict[str, Any] = answered.json()["data"]["gpuTypes"][0]["lowestPrice"]
        return lowest

    return read


async def test_prices_are_for_the_whole_count(prices: Callable[..., Awaitable[dict[str, Any]]]) -> None:
    """Both the price and the lowest bid, of the cheapest cloud."""
    one, four = await prices(gpuCount=1), await prices(gpuCount=4)
    assert (one["minimumBidPrice"], one["uninterruptablePrice"], one["stockStatus"]) == (0.09, 0.17, "High")
    assert (four["minimumBidPrice"], four["uninterruptablePrice"]) == (0.36, 0.68)


async def test_prices_follow_the_filters(prices: Callable[..., Awaitable[dict[str, Any]]]) -> None:
    """One cloud, a list of data centres, a country; nothing that fits is null."""
    assert (await prices(secureCloud=True))["uninterruptablePrice"] == 0.25
    assert (await prices(dataCenterId="XX-1, EU-RO-1"))["uninterruptablePrice"] == 0.17
    nowhere = await prices(countryCode="ZZ")
    assert (nowhere["uninterruptablePrice"], nowhere["minimumBidPrice"], nowhere["stockStatus"]) == (None, None, None)
    assert (await prices(gpuCount=9))["stockStatus"] is None
    assert (await prices(minDisk=5000))["stockStatus"] is None


@pytest.mark.parametrize(
    ("free", "status"),
    [
        pytest.param(0, None, id="none"),
        pytest.param(1, "Low", id="low"),
        pytest.param(4, "Medium", id="medium"),
        pytest.param(20, "High", id="high"),
    ],
)
async def test_stock_shows_as_a_word(
    prices: Callable[..., Awaitable[dict[str, Any]]], sim: RunPodSimulator, free: int, status: str | None
) -> None:
    """Null is not rentable."""
    sim.market.set_stock(A4000, 0)
    sim.market.set_stock(A4000, free, secure=True)
    assert (await prices())["stockStatus"] == status


async def test_list_prices_of_spot_pods_end_with_them(ask: Ask, sim: RunPodSimulator) -> None:
    """The floor may stay a number, or not."""
    sim.market.spot = False
    model = (await ask(PRICES, {"id": A4000})).json()["data"]["gpuTypes"][0]
    assert (model["secureSpotPrice"], model["lowestPrice"]["minimumBidPrice"]) == (None, 0.09)
    sim.market.bids_listed = False
    model = (await ask(PRICES, {"id": A4000})).json()["data"]["gpuTypes"][0]
    assert model["lowestPrice"]["minimumBidPrice"] is None


async def test_models_are_listed_by_id(ask: Ask) -> None:
    """One, several, all; an unknown id gives an empty list."""

    async def ids(**given: object) -> list[str]:
        text = "query G($input: GpuTypeFilter) { gpuTypes(input: $input) { id } }"
        return [each["id"] for each in (await ask(text, {"input": given})).json()["data"]["gpuTypes"]]

    assert await ids(id=A4000) == [A4000]
    assert await ids(ids=[A5000, A4000]) == [A4000, A5000]
    assert MIG in await ids()
    assert await ids(id="none") == []


async def test_data_centres_show_their_stock(ask: Ask, sim: RunPodSimulator) -> None:
    """For each model."""
    sim.market.set_stock(A4000, 0)
    text = """{ cpuTypes { id }
      dataCenters { id gpuAvailability(input: {gpuCount: 1}) { gpuTypeId available stockStatus } } }"""
    center = (await ask(text)).json()["data"]["dataCenters"][0]
    rows = {row["gpuTypeId"]: row for row in center["gpuAvailability"]}
    assert rows[A4000]["available"] is False
    assert rows[A5000]["stockStatus"] == "High"


async def test_an_on_demand_pod_costs_the_cheapest_price(create: Create, sim: RunPodSimulator) -> None:
    """For all its GPUs, which are taken from the host's stock."""
    pod = await create(gpuCount=2)
    assert (pod["costPerHr"], pod["podType"]) == (0.34, "RESERVED")
    assert sim.pod(pod["id"]).machine.taken == 2


async def test_a_spot_pod_costs_its_bid(create: Create) -> None:
    """Per GPU."""
    pod = await create(spot=True, bidPerGpu=0.15, gpuCount=2)
    assert (pod["costPerHr"], pod["podType"]) == (0.3, "INTERRUPTABLE")


async def test_the_cloud_is_as_asked(create: Create, sim: RunPodSimulator) -> None:
    """SECURE costs more."""
    pod = await create(cloudType="SECURE")
    assert pod["costPerHr"] == 0.25
    assert sim.pod(pod["id"]).machine.secure


async def test_models_are_tried_in_their_order(create: Create, sim: RunPodSimulator) -> None:
    """`gpuTypeIdList` is a ladder."""
    sim.market.set_stock(A4000, 0)
    pod = await create(gpuTypeId=None, gpuTypeIdList=["none", A4000, A5000])
    assert sim.pod(pod["id"]).gpu_type_id == A5000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"gpuCount": 9}, texts.NO_STOCK, id="more GPUs than a host has"),
        pytest.param({"deployCost": 0.1}, texts.NO_STOCK, id="ceiling below the price"),
        pytest.param({"gpuTypeId": "none"}, texts.OVER_CONSTRAINED, id="unknown model"),
        pytest.param({"countryCode": "ZZ"}, texts.OVER_CONSTRAINED, id="country"),
        pytest.param({"dataCenterId": "XX-1"}, texts.OVER_CONSTRAINED, id="data centre"),
        pytest.param({"minVcpuCount": 99}, texts.OVER_CONSTRAINED, id="vcpus"),
        pytest.param({"minMemoryInGb": 999}, texts.OVER_CONSTRAINED, id="memory"),
        pytest.param({"minDownload": 9999}, texts.OVER_CONSTRAINED, id="download"),
        pytest.param({"minUpload": 9999}, texts.OVER_CONSTRAINED, id="upload"),
        pytest.param({"minCudaVersion": "13.0"}, texts.OVER_CONSTRAINED, id="cuda at least"),
        pytest.param({"allowedCudaVersions": ["11.8"]}, texts.OVER_CONSTRAINED, id="cuda one of"),
        pytest.param({"cudaVersion": "11.8"}, texts.OVER_CONSTRAINED, id="cuda exactly"),
        pytest.param({"minDisk": 5000}, texts.NO_DISK, id="disk"),
        pytest.param(
            {"env": [{"key": f"K{number}", "value": ""} for number in range(51)]}, texts.TOO_MUCH_ENV, id="environment"
        ),
    ],
)
async def test_what_cannot_be_had_is_refused_in_the_services_words(
    ask: Ask, refusal: Refusal, sim: RunPodSimulator, given: dict[str, Any], message: str
) -> None:
    """Nothing is rented."""
    answered = await ask(DEPLOY, {"input": {"gpuTypeId": A4000, "imageName": "i", **given}})
    assert refusal(answered) == message
    assert sim.pods() == []


async def test_a_public_address_is_a_condition(ask: Ask, refusal: Refusal, sim: RunPodSimulator) -> None:
    """`supportPublicIp` excludes hosts without one."""
    for host in sim.market.hosts(A4000):
        host.public_ip = False
    answered = await ask(DEPLOY, {"input": {"gpuTypeId": A4000, "supportPublicIp": True}})
    assert refusal(answered) == texts.OVER_CONSTRAINED


async def test_empty_strings_and_null_ask_for_nothing(create: Create) -> None:
    """Legacy clients send them."""
    given = {"dataCenterId": "", "countryCode": None, "networkVolumeId": "", "templateId": "", "cudaVersion": ""}
    assert (await create(**given))["id"]


@pytest.mark.parametrize("bid", [pytest.param(0.08, id="below the minimum"), pytest.param(None, id="none")])
async def test_a_low_bid_shows_as_no_stock(ask: Ask, refusal: Refusal, bid: float | None) -> None:
    """No message of its own is known."""
    answered = await ask(RENT, {"input": {"gpuTypeId": A4000, "bidPerGpu": bid}})
    assert refusal(answered) == texts.NO_STOCK_SPOT


async def test_a_cloud_that_does_not_sell_a_model_has_no_stock(ask: Ask, refusal: Refusal) -> None:
    """A40 is in the secure cloud alone."""
    answered = await ask(DEPLOY, {"input": {"gpuTypeId": "NVIDIA A40", "cloudType": "COMMUNITY"}})
    assert refusal(answered) == texts.NO_STOCK


async def test_spot_pods_are_no_longer_offered(ask: Ask, refusal: Refusal, sim: RunPodSimulator) -> None:
    """Today's service, which is the simulator's default."""
    assert RunPodSimulator().market.spot is False
    sim.market.spot = False
    answered = await ask(RENT, {"input": {"gpuTypeId": A4000, "bidPerGpu": 1}})
    assert refusal(answered) == texts.SPOT_GONE


async def test_mig_variants_are_listed_and_refused(ask: Ask) -> None:
    """Creation answers 400."""
    answered = await ask(DEPLOY, {"input": {"gpuTypeId": MIG}})
    assert answered.status_code == 400
    assert "MIG" in answered.json()["errors"][0]["message"]


async def test_an_hour_must_be_on_the_account(ask: Ask, refusal: Refusal, sim: RunPodSimulator) -> None:
    """The pod's price for one hour."""
    sim.set_balance(Decimal("0.16"))
    answered = await ask(DEPLOY, {"input": {"gpuTypeId": A4000}})
    assert refusal(answered) == texts.LOW_BALANCE


async def test_the_spend_limit_holds_over_all_pods(
    ask: Ask, refusal: Refusal, create: Create, sim: RunPodSimulator
) -> None:
    """USD per hour."""
    sim.settings.spend_limit = Decimal("0.30")
    await create()
    assert refusal(await ask(DEPLOY, {"input": {"gpuTypeId": A4000}})) == texts.SPEND_LIMIT


async def test_prices_can_be_changed(create: Create, sim: RunPodSimulator) -> None:
    """Per cloud; an unknown model is a mistake of the test."""
    sim.market.set_price(A4000, on_demand=Decimal("0.11"), bid=Decimal("0.30"))
    sim.market.set_price(A4000, on_demand=Decimal("0.99"), secure=True)
    assert (await create())["costPerHr"] == 0.11
    with pytest.raises(KeyError):
        sim.market.set_price("none")


async def test_a_template_fills_what_the_input_leaves_open(ask: Ask, create: Create, sim: RunPodSimulator) -> None:
    """Environment is merged key by key, the input wins."""
    text = """mutation { saveTemplate(input: {containerDiskInGb: 5, dockerArgs: "sleep 1", imageName: "from/template",
      name: "t", volumeInGb: 0, ports: "22/tcp", env: [{key: "A", value: "t"}, {key: "B", value: "t"}]}) { id } }"""
    template_id = (await ask(text)).json()["data"]["saveTemplate"]["id"]
    pod = sim.pod((await create(templateId=template_id, imageName="", env=[{"key": "A", "value": "i"}]))["id"])
    assert (pod.image, pod.docker_args, pod.ports, pod.container_disk) == ("from/template", "sleep 1", "22/tcp", 5)
    assert pod.env == {"A": "i", "B": "t"}


async def test_a_pod_without_gpu_can_be_had(ask: Ask, sim: RunPodSimulator) -> None:
    """Its size is in the instance's name."""
    text = """mutation { deployCpuPod(input: {instanceId: "cpu3c-4-8", imageName: "i"}) {
      id vcpuCount memoryInGb gpuCount } }"""
    pod = (await ask(text)).json()["data"]["deployCpuPod"]
    assert (pod["vcpuCount"], pod["memoryInGb"], pod["gpuCount"]) == (4, 8, 0)
    assert sim.pod(pod["id"]).price == Decimal("0.12")
    shown = await ask(
        f'{{ pod(input: {{podId: "{pod["id"]}"}}) {{ machine {{ gpuDisplayName }} latestTelemetry {{ state }} }} }}'
    )
    assert shown.json()["data"]["pod"]["machine"] == {"gpuDisplayName": "unknown"}
