"""What Lium has for rent, which GPUs it knows, and the account's templates."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from contract.test_celium_contract import MODEL, CeliumWorld

from runner_provisioner.domain.ladder import ladder
from runner_provisioner.domain.markets import TemplateSpec
from runner_provisioner.domain.offers import Interruptible
from runner_provisioner.domain.pods import CloudType
from runner_provisioner.errors import InvalidRequest, PermissionDenied, ProtocolViolation, UnknownGpu
from runner_provisioner.providers.celium.models import find, short
from runner_provisioner.simulators.celium import executor_id, rows
from runner_provisioner.simulators.faults import Fault, FaultKind

RTX4090, H100, A100 = "NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"
NODE: dict[str, Any] = {"id": "n", "machine_name": MODEL, "price_per_gpu": 0.1, "gpu_count": 1}


async def ids(world: CeliumWorld, **wishes: Any) -> set[str]:  # noqa: ANN401 - fields of a request
    """The nodes that are offered."""
    return {offer.id for offer in await world.celium.offers(replace(world.request, **wishes))}


def nodes(*names: str) -> set[str]:
    """Their ids."""
    return {executor_id(name) for name in names}


async def test_a_spot_node_is_interruptible_and_its_price_its_floor(world: CeliumWorld) -> None:
    """Price per GPU times their number."""
    offers = {offer.interruptible: offer for offer in await world.celium.offers(replace(world.request, count=2))}
    secure, spot = offers[False], offers[True]
    assert (secure.id, secure.price, secure.minimum_bid) == (executor_id("a4000"), Decimal("0.24"), None)
    assert (spot.id, spot.price, spot.minimum_bid) == (executor_id("a4000-spot"), Decimal("0.12"), Decimal("0.12"))
    assert (spot.gpu_name, spot.memory_gb, spot.region) == ("RTX A4000", 16, "FI")
    assert spot.is_model("rtx a4000")


async def test_the_ladder_has_each_node_once_at_its_price(world: CeliumWorld) -> None:
    """Nobody bids for a spot node, so there is nothing to raise."""
    rungs = ladder(await world.celium.offers(world.request), world.request).rungs
    assert [(rung.id, rung.price, rung.on_demand) for rung in rungs] == [
        (executor_id("a4000-spot"), Decimal("0.06"), Decimal("0.12")),
        (executor_id("a4000"), Decimal("0.12"), None),
    ]
    pod = await world.celium.create(world.spec(), rungs[0])
    assert (pod.interruptible, pod.price) == (True, Decimal("0.06"))


@pytest.mark.parametrize(
    ("wishes", "found"),
    [
        pytest.param({"models": ("RTX 4090",)}, ("4090",), id="by its short name"),
        pytest.param({"models": ("geforce rtx 4090",)}, ("4090",), id="in any case"),
        pytest.param({"models": (RTX4090,), "count": 2}, ("4090",), id="two of two"),
        pytest.param({"models": (RTX4090,), "count": 3}, (), id="more than there are"),
        pytest.param({"models": (H100,), "count": 8}, ("h100",), id="a node that is rented whole"),
        pytest.param({"models": (H100,), "count": 4}, (), id="half of such a node"),
        pytest.param({"models": (MODEL, "NVIDIA RTX A5000")}, ("a4000", "a4000-spot"), id="one of two is unknown"),
        pytest.param({"models": (), "min_vram_gb": 20}, ("4090",), id="any of so much memory"),
        pytest.param({"models": (), "min_vram_gb": 200}, (), id="more memory than there is"),
        pytest.param({"models": (), "count": 1, "regions": ("us",)}, ("4090",), id="a country"),
        pytest.param({"regions": ("Uusimaa",)}, ("a4000", "a4000-spot"), id="a region"),
        pytest.param({"regions": ("US", "CA")}, (), id="elsewhere"),
        pytest.param({"cloud": CloudType.SECURE}, ("a4000",), id="secure nodes"),
        pytest.param({"cloud": CloudType.COMMUNITY}, ("a4000", "a4000-spot"), id="any node"),
        pytest.param({"cuda": "12.8"}, ("a4000", "a4000-spot"), id="a CUDA version"),
        pytest.param({"cuda": "12.9"}, (), id="a newer CUDA version"),
        pytest.param({"cuda": "13.0"}, (), id="the next CUDA"),
        pytest.param({"min_vcpus": 32, "min_memory_gb": 128, "disk_gb": 1000}, ("a4000", "a4000-spot"), id="enough"),
        pytest.param({"min_vcpus": 33}, (), id="too few CPUs"),
        pytest.param({"min_memory_gb": 129}, (), id="too little memory"),
        pytest.param({"disk_gb": 1001}, (), id="too small a disk"),
        pytest.param({"min_download": 900, "min_upload": 700}, ("a4000", "a4000-spot"), id="fast enough"),
        pytest.param({"min_download": 901}, (), id="too slow down"),
        pytest.param({"min_upload": 701}, (), id="too slow up"),
    ],
)
async def test_only_what_fits_is_offered(world: CeliumWorld, wishes: dict[str, Any], found: tuple[str, ...]) -> None:
    """By the node's own facts, whatever filters the server knows."""
    world.simulator.market.executor("4090-spot").taken = 1
    assert await ids(world, **wishes) == nodes(*found)


@pytest.mark.parametrize("region", ["FI", "Uusimaa"])
async def test_a_place_is_told_in_the_words_of_the_request(world: CeliumWorld, region: str) -> None:
    """So that who asked for a region finds it, though a country names the same node."""
    offers = await world.celium.offers(replace(world.request, regions=(region,)))
    assert {offer.region for offer in offers} == {region}


async def test_a_whole_node_that_is_partly_rented_is_not_offered(world: CeliumWorld) -> None:
    """A node without a least count is rented as it is or not at all."""
    assert await ids(world, models=(RTX4090,)) == nodes("4090", "4090-spot")
    world.simulator.market.executor("h100").taken = 1
    assert await ids(world, models=(H100,), count=7) == set()


async def test_odd_nodes_are_left_out(world: CeliumWorld) -> None:
    """What a stranger's node says about itself must not hide the others; but an answer without any is wrong."""

    def answers(rows_: object) -> None:
        body = json.dumps(rows_)
        world.simulator.faults.add(Fault(operation="executors.list", kind=FaultKind.MALFORMED, body=body))

    odd: list[object] = [
        {**NODE, "id": None}, "text", {**NODE, "price_per_gpu": "much"}, {**NODE, "price_per_gpu": 0},
        {**NODE, "machine_name": None}, {**NODE, "gpu_count": None}, {**NODE, "machine_name": "Voodoo"},
    ]  # fmt: skip
    good = {**NODE, "gpu_count": "1", "specs": {"gpu": {"details": [1]}, "ram": 5}, "location": "here", "tier": None}
    answers([*odd, good])
    [offer] = await world.celium.offers(world.request)
    assert (offer.id, offer.interruptible, offer.memory_gb, offer.region) == ("n", False, None, None)
    answers(odd[:2])
    with pytest.raises(ProtocolViolation, match="no node can be read"):
        await world.celium.offers(world.request)
    answers({"detail": "x"})
    with pytest.raises(ProtocolViolation, match="no list"):
        await world.celium.offers(world.request)
    specs = {"gpu": {"details": [{"capacity": "16376"}]}, "cpu": {"count": "32"}, "ram": {"total": True}}
    answers([{**NODE, "specs": specs}])
    wish = replace(world.request, models=(), min_vram_gb=16, min_vcpus=32)
    assert len(await world.celium.offers(wish)) == 1
    for floor in ({"min_memory_gb": 1}, {"disk_gb": 1}, {"min_download": 1}, {"cuda": "11.0"}):
        answers([{**NODE, "specs": {**specs, "hard_disk": {"total": "none"}}}])
        assert await ids(world, **floor) == set()


async def test_a_gpu_that_nobody_sells_is_refused_with_the_nearest(world: CeliumWorld) -> None:
    """When none of the models is known; a market without stock still knows its models."""
    with pytest.raises(UnknownGpu, match=r"RTX 4009.*did you mean NVIDIA GeForce RTX 4090"):
        await ids(world, models=("RTX 4009",))
    world.simulator.market.set_stock(RTX4090, 0)
    assert await ids(world, models=(RTX4090,)) == set()
    world.simulator.market.executors.clear()
    with pytest.raises(UnknownGpu, match="'gpu-types' lists all"):
        await ids(world)


async def test_kinds_are_told_with_what_is_known_of_them(world: CeliumWorld) -> None:
    """The memory of a model of which nothing is free is not told."""
    world.simulator.market.set_stock(H100, 0)
    kinds = {kind.id: kind for kind in await world.celium.gpu_types()}
    assert set(kinds) == {MODEL, RTX4090, H100, A100}
    assert (kinds[MODEL].name, kinds[MODEL].memory_gb, kinds[MODEL].secure) == ("RTX A4000", 16, True)
    assert (kinds[H100].memory_gb, kinds[H100].secure, kinds[H100].community) == (0, False, False)


def test_short_names_are_of_models() -> None:
    """Without their makers; a name of makers alone stays."""
    assert short(RTX4090) == "RTX 4090"
    assert short("NVIDIA") == "NVIDIA"
    assert find("NVIDIA RTX 4090", [RTX4090]) == RTX4090
    assert find("RTX 4090", []) is None


async def test_a_spot_request_finds_only_spot(world: CeliumWorld) -> None:
    """The ladder's business; the market lists both."""
    request = replace(world.request, interruptible=Interruptible.REQUIRE)
    assert {offer.interruptible for offer in ladder(await world.celium.offers(request), request).rungs} == {True}


# -- templates


async def test_templates_are_those_of_the_account(world: CeliumWorld) -> None:
    """The public ones are left out; the account is asked who it is at most once."""
    made = await world.celium.create_template(TemplateSpec(name="mine", image="ubuntu:24.04", command="true"))
    assert (made.image, made.status, made.usable) == ("ubuntu:24.04", "CREATED", True)
    for _ in range(2):
        assert [one.name for one in await world.celium.templates()] == ["mine"]
    assert world.simulator.faults.count("users.me") == 1
    rows_ = [{"id": "a", "name": "public", "is_private": False}, {"id": "b", "name": "own", "is_private": True}]
    body = json.dumps(rows_)
    world.simulator.faults.add(Fault(operation="templates.list", kind=FaultKind.MALFORMED, body=body))
    assert [(one.id, one.usable) for one in await world.celium.templates()] == [("b", False)]


async def test_a_template_of_a_pod_is_not_removed_under_it(world: CeliumWorld) -> None:
    """Changing it would reboot the pod."""
    [offer, *_] = await world.celium.offers(world.request)
    await world.celium.create(world.spec(), offer)
    [template] = await world.celium.templates()
    with pytest.raises(InvalidRequest, match=world.spec().name):
        await world.celium.delete_template(template.id)


async def test_where_templates_can_be_removed_they_are(world: CeliumWorld) -> None:
    """Asked once; where it answers that there is no such call, they are emptied from then on."""
    made = [
        await world.celium.create_template(TemplateSpec(name=name, image="ubuntu", env={"A": "planted"}))
        for name in ("a", "b", "c")
    ]
    gone = rows.refused("templates.update", "Template not found", status=404, code="template_not_found")
    deleted: list[str] = []

    async def delete(template_id: str) -> bool:
        deleted.append(template_id)
        return len(deleted) == 1

    world.api.delete_template = delete  # type: ignore[method-assign]
    for one in made[:2]:
        await world.celium.delete_template(one.id)
    world.simulator.faults.add(gone)
    await world.celium.delete_template(made[2].id)
    assert deleted == [made[0].id, made[1].id]
    assert "planted" not in str(world.simulator.account.templates[made[1].id].environment)


async def test_a_refused_removal_is_told(world: CeliumWorld) -> None:
    """It is still there then."""
    made = await world.celium.create_template(TemplateSpec(name="mine", image="ubuntu"))
    world.simulator.faults.add(rows.refused("templates.update", "no scope", status=403))
    with pytest.raises(PermissionDenied):
        await world.celium.delete_template(made.id)
