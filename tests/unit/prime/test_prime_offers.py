"""Offers of Prime Intellect: which fit, what they cost with everything, where they are."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.domain.pods import CloudType
from runner_provisioner.errors import NotFound, OfferUnfit, UnknownGpu
from runner_provisioner.providers.prime import PrimeProvider
from runner_provisioner.providers.prime.amounts import Wanted, sizes
from runner_provisioner.providers.prime.wire import WireAmount, WireOffer, parse

if TYPE_CHECKING:
    from unit.prime.conftest import Script

WISH = GpuRequest(
    models=("NVIDIA GeForce RTX 4090",), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(5)
)


def row(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the wire
    """An offer as it is answered."""
    return {
        "cloudId": "c1",
        "gpuType": "RTX4090_24GB",
        "socket": "PCIe",
        "provider": "hyperstack",
        "region": "united_states",
        "dataCenter": "US-KS-2",
        "country": "US",
        "gpuCount": 1,
        "gpuMemory": 24,
        # The forms of the documentation's example: what is included is told of the disk alone.
        "disk": {
            "minCount": 80, "defaultCount": 80, "maxCount": 1000, "pricePerUnit": 0.0001, "step": 10,
            "defaultIncludedInPrice": False, "additionalInfo": None,
        },
        "vcpu": {"defaultCount": 16},
        "memory": {"defaultCount": 251},
        "stockStatus": "Low",
        "security": "secure_cloud",
        "prices": {"onDemand": 0.5, "communityPrice": None, "isVariable": False, "currency": "USD"},
        "images": ["ubuntu_22_cuda_12", "custom_template"],
        **fields,
    }  # fmt: skip


def page(*rows: dict[str, Any], total: int | None = None) -> dict[str, Any]:
    """One page of offers."""
    return {"items": list(rows), "totalCount": len(rows) if total is None else total}


def offer(**fields: Any) -> WireOffer:  # noqa: ANN401 - fields of the wire
    """An offer as it is read."""
    return parse(WireOffer, row(**fields), "availability")


async def test_an_offer_is_told_with_everything_that_it_costs(prime: PrimeProvider, script: Script) -> None:
    """The least disk is not free here; the name is the one that was asked for."""
    script.say(page(row()))
    [found] = await prime.offers(WISH)
    assert found.price == Decimal("0.508")
    assert (found.gpu_model, found.gpu_name, found.memory_gb) == ("RTX4090_24GB", WISH.models[0], 24)
    assert (found.region, found.stock, found.cloud) == ("US-KS-2", "Low", CloudType.SECURE)
    assert found.is_model("NVIDIA GeForce RTX 4090")
    assert (found.interruptible, found.minimum_bid) == (False, None)
    [dearer] = await prime.offers(replace(WISH, disk_gb=95))
    assert dearer.price == Decimal("0.510")


async def test_a_community_price_comes_first_and_spot_is_interruptible(prime: PrimeProvider, script: Script) -> None:
    """The price asked is the least that buys it."""
    prices = {"onDemand": 0.9, "communityPrice": 0.2}
    script.say(page(row(isSpot=True, prices=prices, security="community_cloud", disk=None)))
    [found] = await prime.offers(WISH)
    assert (found.price, found.minimum_bid, found.interruptible) == (Decimal("0.2"), Decimal("0.2"), True)
    assert not found.bids
    assert found.cloud is CloudType.COMMUNITY


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"stockStatus": "Unavailable"}, id="sold out"),
        pytest.param({"stockStatus": None}, id="no stock told"),
        pytest.param({"prepaidTime": 24}, id="paid in advance"),
        pytest.param({"gpuCount": 2}, id="another count"),
        pytest.param({"gpuType": "A100_80GB"}, id="another model"),
        pytest.param({"prices": None}, id="no prices"),
        pytest.param({"prices": {"onDemand": 0}}, id="no price"),
        pytest.param({"prices": {"onDemand": -1}}, id="a price below zero"),
        pytest.param({"security": "community_cloud"}, id="another cloud"),
        pytest.param({"disk": {"minCount": 10, "defaultCount": 20, "maxCount": 30}}, id="disk too small"),
        pytest.param({"vcpu": {"defaultCount": 4, "maxCount": 4}}, id="too few CPUs"),
        pytest.param({"memory": {"defaultCount": 4, "maxCount": 4}}, id="too little memory"),
    ],
)
async def test_what_does_not_fit_is_no_offer(prime: PrimeProvider, script: Script, fields: dict[str, object]) -> None:
    """And no error."""
    script.say(page(row(**fields)))
    wish = replace(WISH, cloud=CloudType.SECURE, disk_gb=40, min_vcpus=8, min_memory_gb=16)
    assert await prime.offers(wish) == []
    script.steps = []
    script.say(page(row()))
    assert len(await prime.offers(wish)) == 1


@pytest.mark.parametrize(
    ("regions", "told", "query"),
    [
        pytest.param(("us",), "US", "", id="country"),
        pytest.param(("CA", "us-ks-2"), "US-KS-2", "", id="data center"),
        pytest.param(("United_States", "canada"), "united_states", "regions=united_states&regions=canada", id="region"),
        pytest.param(("DE",), None, "", id="elsewhere"),
    ],
)
async def test_a_place_is_told_in_the_words_of_the_request(
    prime: PrimeProvider, script: Script, regions: tuple[str, ...], told: str | None, query: str
) -> None:
    """The ladder compares it with them; regions alone are a filter of the service."""
    script.say(page(row()))
    found = await prime.offers(replace(WISH, regions=regions))
    assert [one.region for one in found] == ([told] if told else [])
    assert query in script.asked[0]
    assert ("regions" in script.asked[0]) is bool(query)


async def test_the_service_s_filters_are_used(prime: PrimeProvider, script: Script) -> None:
    """Count, cloud and disk."""
    script.say(page(row(gpuCount=2)))
    await prime.offers(replace(WISH, count=2, cloud=CloudType.COMMUNITY, network_volume="d 1"))
    [asked] = script.requests
    assert dict(asked.url.params) == {
        "gpu_count": "2", "security": "community_cloud", "disks": "d 1", "page": "1", "page_size": "100",
    }  # fmt: skip
    assert asked.headers["x-prime-team-id"] == "team1"


async def test_every_page_is_read(prime: PrimeProvider, script: Script) -> None:
    """Until there are as many as were told, or a page is short."""
    script.say(page(*[row(cloudId=f"a{n}") for n in range(100)], total=101))
    script.say(page(row(cloudId="b"), total=101))
    assert len(await prime.offers(WISH)) == 101
    script.requests.clear()
    script.steps = []
    script.say({"items": [row(cloudId=f"a{n}") for n in range(100)]})
    script.say({"items": [row(cloudId="b")]})
    assert len(await prime.offers(WISH)) == 101
    assert len(script.requests) == 2


async def test_nothing_at_all_is_asked_again(prime: PrimeProvider, script: Script) -> None:
    """A replica has said so and taken it back; said twice it is true."""
    script.say(page())
    script.say(page(row()))
    assert len(await prime.offers(WISH)) == 1
    script.steps = []
    script.requests.clear()
    script.say(page())
    assert await prime.offers(WISH) == []
    assert len(script.requests) == 2


async def test_one_configuration_listed_twice_is_one_offer(prime: PrimeProvider, script: Script) -> None:
    """The cheaper."""
    script.say(page(row(), row(prices={"onDemand": 0.4})))
    [found] = await prime.offers(WISH)
    assert found.price == Decimal("0.408")


async def test_models_by_memory_alone(prime: PrimeProvider, script: Script) -> None:
    """That of one GPU: the type says it, for `gpuMemory` may be that of all."""
    rows = (row(gpuCount=2, gpuMemory=48), row(cloudId="c2", gpuCount=2, gpuType="NEW", gpuMemory=96))
    script.say(page(*rows))
    wish = replace(WISH, models=(), min_vram_gb=40, count=2)
    assert [(one.gpu_model, one.memory_gb, one.gpu_name) for one in await prime.offers(wish)] == [("NEW", 48, None)]


async def test_a_model_that_is_only_priced_is_known(prime: PrimeProvider, script: Script) -> None:
    """And nothing of it is offered now; one that is nowhere is refused."""
    summary = {"X9000_99GB": {"1": {"cheapest": {"onDemand": 1.35}}}}
    for answer in (page(row()), summary, page(row()), summary):
        script.say(answer)
    assert await prime.offers(replace(WISH, models=("X9000",))) == []
    with pytest.raises(UnknownGpu, match="Voodoo"):
        await prime.offers(replace(WISH, models=("RTX 4090", "Voodoo")))


async def test_gpu_models_are_listed(prime: PrimeProvider, script: Script) -> None:
    """The priced ones and the documented ones."""
    script.say({"X9000_99GB": []})
    found = {gpu.id: gpu.memory_gb for gpu in await prime.gpu_types()}
    assert found["X9000_99GB"] == 99
    assert found["A4000_16GB"] == 16


async def test_a_disk_that_is_not_there_is_named(prime: PrimeProvider, script: Script) -> None:
    """With those that are; a 404 without a disk is another matter."""
    script.say({"detail": "Disk d1 not found"}, 404)
    script.say({"data": [{"id": "d2"}], "total_count": 1})
    with pytest.raises(NotFound, match="one of them \\(d2\\)"):
        await prime.offers(replace(WISH, network_volume="d1"))
    script.steps = []
    script.say({"detail": "Nothing here"}, 404)
    with pytest.raises(NotFound, match="Nothing here"):
        await prime.offers(WISH)


async def test_what_cannot_be_asked_for_is_said(prime: PrimeProvider, script: Script, log: io.StringIO) -> None:
    """CUDA and speeds are the gate's to check."""
    script.say(page(row()))
    await prime.offers(replace(WISH, cuda="12.4", min_download=100))
    [said] = [line for line in log.getvalue().splitlines() if "prime_not_asked_for" in line]
    assert json.loads(said)["what"] == ["cuda", "min_download"]


# -- sizes


def test_what_is_included_is_free_and_more_costs_by_the_unit() -> None:
    """In the offer's steps, and never above its most."""
    disk = {"minCount": 20, "defaultCount": 100, "maxCount": 125, "pricePerUnit": 0.01, "step": 10}
    one = offer(disk={**disk, "defaultIncludedInPrice": True})
    for wanted, got, price in [(None, 100, "0.5"), (30, 100, "0.5"), (101, 110, "0.6"), (125, 125, "0.75")]:
        chosen = sizes(one, Wanted(disk_gb=wanted))
        assert (chosen.disk_size, chosen.price) == (got, Decimal(price))
    with pytest.raises(OfferUnfit, match="20 to 125 GB of disk, not 126"):
        sizes(one, Wanted(disk_gb=126))


def test_sizes_that_are_named_are_taken_as_they_are() -> None:
    """Within what the offer can have."""
    exact = frozenset({"disk_gb", "vcpus", "memory_gb"})
    one = offer(memory=None)
    chosen = sizes(one, Wanted(disk_gb=81, vcpus=2, memory_gb=7, exact=exact))
    assert (chosen.disk_size, chosen.vcpus, chosen.memory) == (81, 2, 7)
    with pytest.raises(OfferUnfit, match="80 to 1000"):
        sizes(one, Wanted(disk_gb=79, exact=exact))
    with pytest.raises(OfferUnfit, match="at least 80"):
        sizes(offer(disk={"minCount": 80}), Wanted(disk_gb=79, exact=exact))


def test_an_offer_that_says_nothing_of_a_size_is_not_asked_for_one() -> None:
    """What the spec needs is only sent where the offer has such a field."""
    chosen = sizes(offer(disk=None, vcpu={}, memory={}), Wanted(disk_gb=40, vcpus=3))
    assert (chosen.disk_size, chosen.vcpus, chosen.memory) == (None, 3, None)


def test_an_offer_without_a_price_is_none() -> None:
    """Nothing is free."""
    with pytest.raises(OfferUnfit, match="no price"):
        sizes(offer(prices=None), Wanted())


@given(
    included=st.integers(1, 500),
    spare=st.integers(0, 500),
    step=st.integers(1, 50),
    wanted=st.integers(1, 1200),
    free=st.booleans(),
)
def test_a_size_is_enough_and_possible(included: int, spare: int, step: int, wanted: int, *, free: bool) -> None:
    """Or the offer does not fit; it never costs less than the offer."""
    most = included + spare
    one = offer(vcpu=None, memory=None).model_copy(
        update={
            "disk": WireAmount(
                min_count=included, default_count=included, max_count=most, price_per_unit=Decimal("0.01"), step=step,
                default_included_in_price=free,
            )
        }
    )  # fmt: skip
    if wanted > most:
        with pytest.raises(OfferUnfit):
            sizes(one, Wanted(disk_gb=wanted))
        return
    chosen = sizes(one, Wanted(disk_gb=wanted))
    assert chosen.disk_size is not None
    assert max(wanted, included) <= chosen.disk_size <= most
    beyond = chosen.disk_size - (included if free else 0)
    assert chosen.price == Decimal("0.5") + beyond * Decimal("0.01")
