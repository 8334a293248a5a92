"""The adapter keeps the port's promises over RunPod's verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer
from runner_provisioner.domain.pods import CloudType, PodClass, PodId, PodSpec, PodState, PodTags
from runner_provisioner.errors import (
    BidTooLow,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InvalidRequest,
    NotFound,
    SpotDiscontinued,
    UnknownGpu,
)
from runner_provisioner.ports import GpuProvider, HasAccountKeys, HasBalance, HasGpuTypes, Pausable
from runner_provisioner.providers.runpod import RunPodProvider

if TYPE_CHECKING:
    from unit.runpod.conftest import Script

Build = Callable[..., dict[str, Any]]

A4000: dict[str, Any] = {
    "id": "NVIDIA RTX A4000",
    "displayName": "RTX A4000",
    "memoryInGb": 16,
    "secureCloud": True,
    "communityCloud": True,
}
A5000 = {**A4000, "id": "NVIDIA RTX A5000", "displayName": "RTX A5000", "memoryInGb": 24}
PRICE = {"minimumBidPrice": 0.16, "uninterruptablePrice": 0.34, "stockStatus": "High"}
TAGS = PodTags(owner="0123abcd", cls=PodClass.RUNNER, nonce="n1")
END = datetime(2026, 11, 1, 18, 15, tzinfo=UTC)
SPEC = PodSpec(name="rp-0123abcd-1-1-default", image="img:1", tags=TAGS, command="echo $HOME", terminate_after=END)
ON_DEMAND = Offer(
    provider="runpod", id="o", gpu_model=A4000["id"], gpu_count=2, price=Decimal("0.68"), interruptible=False
)
SPOT = Offer(
    provider="runpod",
    id="s",
    gpu_model=A4000["id"],
    gpu_count=2,
    price=Decimal("0.5"),
    interruptible=True,
    minimum_bid=Decimal("0.4"),
)


def wanted(*models: str, count: int = 1) -> GpuRequest:
    """A request for these models."""
    return GpuRequest(models=models, count=count, interruptible=Interruptible.PREFER, max_price=Decimal(1))


async def test_it_is_all_that_it_says(provider: RunPodProvider) -> None:
    """The port and four capabilities."""
    port: GpuProvider = provider
    assert port.name == "runpod"
    for capability in (Pausable, HasBalance, HasGpuTypes, HasAccountKeys):
        assert isinstance(provider, capability)
    assert "rpa_" not in repr(provider)


async def test_offers_are_both_kinds_for_the_whole_count(provider: RunPodProvider, script: Script) -> None:
    """Names are taken by id or displayed name in any case, and each model once."""
    script.data(gpuTypes=[A4000, A5000])
    script.data(g0=[{**A4000, "lowestPrice": PRICE}], g1=[{**A5000, "lowestPrice": None}])
    offers = await provider.offers(wanted("rtx  a4000", "NVIDIA RTX A5000", "NVIDIA RTX A4000", count=2))
    assert [(offer.interruptible, offer.price, offer.minimum_bid, offer.gpu_count) for offer in offers] == [
        (False, Decimal("0.34"), None, 2),
        (True, Decimal("0.16"), Decimal("0.16"), 2),
    ]
    assert {offer.gpu_model for offer in offers} == {"NVIDIA RTX A4000"}
    assert {offer.stock for offer in offers} == {"High"}
    assert script.bodies[-1]["variables"]["price"] == {"gpuCount": 2}


@pytest.mark.parametrize(
    ("cloud", "secure"),
    [(CloudType.ALL, {}), (CloudType.SECURE, {"secureCloud": True}), (CloudType.COMMUNITY, {"secureCloud": False})],
    ids=["all", "secure", "community"],
)
async def test_prices_are_those_of_the_cloud_asked_for(
    provider: RunPodProvider, script: Script, cloud: CloudType, secure: dict[str, bool]
) -> None:
    """Else the ceiling of a secure pod would be the price of a community one."""
    script.data(gpuTypes=[A4000], g0=[{**A4000, "lowestPrice": PRICE}])
    await provider.offers(replace(wanted("RTX A4000"), cloud=cloud))
    assert script.bodies[-1]["variables"]["price"] == {"gpuCount": 1, **secure}


@pytest.mark.parametrize(
    ("price", "count"),
    [
        ({**PRICE, "stockStatus": None}, 0),
        ({**PRICE, "stockStatus": "None"}, 0),
        ({**PRICE, "stockStatus": "Low"}, 2),
        ({**PRICE, "minimumBidPrice": None}, 1),
        ({**PRICE, "uninterruptablePrice": 0}, 1),
        ({**PRICE, "uninterruptablePrice": -1}, 1),
    ],
    ids=["null-stock", "none-stock", "low-stock", "no-bid", "zero-price", "negative-price"],
)
async def test_what_cannot_be_rented_is_no_offer(
    provider: RunPodProvider, script: Script, price: dict[str, object], count: int
) -> None:
    """Empty is not an error."""
    script.data(gpuTypes=[A4000], g0=[{**A4000, "lowestPrice": price}])
    assert len(await provider.offers(wanted("RTX A4000"))) == count


async def test_an_unknown_gpu_is_refused_with_the_nearest_names(provider: RunPodProvider, script: Script) -> None:
    """The list is asked for once more before the refusal: a model may be newer than the cache."""
    script.data(gpuTypes=[A4000, A5000])
    with pytest.raises(UnknownGpu, match=r"A400'.*NVIDIA RTX A4000"):
        await provider.offers(wanted("A400"))
    assert len(script.requests) == 2


async def test_a_gpu_like_no_other_is_refused_with_three_names_all_the_same(
    provider: RunPodProvider, script: Script
) -> None:
    """And with the command that lists all."""
    script.data(gpuTypes=[{"id": f"GPU {number}"} for number in range(5)])
    with pytest.raises(
        UnknownGpu, match=r"'qqqqqqqqqqqq': did you mean GPU . or GPU . or GPU .\? 'gpu-types' lists all"
    ):
        await provider.offers(wanted("qqqqqqqqqqqq"))


async def test_where_there_are_no_gpus_none_is_named(provider: RunPodProvider, script: Script) -> None:
    """Only the command is."""
    script.data(gpuTypes=[])
    with pytest.raises(UnknownGpu, match="no GPU 'A4000': 'gpu-types' lists all"):
        await provider.offers(wanted("A4000"))


async def test_gpu_types_are_asked_for_once_an_hour(provider: RunPodProvider, script: Script) -> None:
    """The second look is the cache's."""
    script.data(gpuTypes=[A4000, {"id": "bare"}])
    first = await provider.gpu_types()
    assert [gpu.name for gpu in first] == ["RTX A4000", "bare"]
    assert tuple(await provider.gpu_types()) == tuple(first)
    assert len(script.requests) == 1


async def test_an_on_demand_create_says_everything(provider: RunPodProvider, script: Script, pod_answer: Build) -> None:
    """Every field of the spec reaches the wire under its own name, with the price as the ceiling."""
    script.data(podFindAndDeployOnDemand=pod_answer())
    pod = await provider.create(SPEC, ON_DEMAND)
    assert (pod.id, pod.state) == ("pod1", PodState.STARTING)
    sent = script.sent
    env = {pair["key"]: pair["value"] for pair in sent.pop("env")}
    assert env == {"RP_OWNER": "0123abcd", "RP_CLASS": "runner", "RP_NONCE": "n1"}
    assert json.loads(sent.pop("dockerArgs")) == {"cmd": ["echo $HOME"], "entrypoint": ["bash", "-c"]}
    assert sent == {
        "name": SPEC.name,
        "imageName": "img:1",
        "gpuTypeId": "NVIDIA RTX A4000",
        "gpuCount": 2,
        "cloudType": "ALL",
        "containerDiskInGb": 40,
        "volumeInGb": 0,
        "volumeMountPath": "/workspace",
        "ports": "22/tcp",
        "minVcpuCount": 1,
        "minMemoryInGb": 4,
        "startSsh": True,
        "supportPublicIp": True,
        "terminateAfter": "2026-11-01T18:15:00Z",
        "deployCost": 0.68,
    }


async def test_the_start_command_is_compact(provider: RunPodProvider, script: Script, pod_answer: Build) -> None:
    """Every byte of the 8 KiB counts."""
    script.data(podFindAndDeployOnDemand=pod_answer())
    await provider.create(SPEC, ON_DEMAND)
    assert script.sent["dockerArgs"] == '{"cmd":["echo $HOME"],"entrypoint":["bash","-c"]}'


async def test_a_spec_without_extras_sends_none(provider: RunPodProvider, script: Script, pod_answer: Build) -> None:
    """The image's own command stays, and a secure pod has its address anyway."""
    script.data(podFindAndDeployOnDemand=pod_answer())
    await provider.create(PodSpec(name="mine", image="img", cloud=CloudType.SECURE), ON_DEMAND)
    assert {"dockerArgs", "supportPublicIp", "terminateAfter", "bidPerGpu"}.isdisjoint(script.sent)


async def test_a_bid_is_per_gpu(provider: RunPodProvider, script: Script, pod_answer: Build) -> None:
    """The offer's price is the bid for the whole pod."""
    script.data(podRentInterruptable=pod_answer(podType="INTERRUPTABLE"))
    pod = await provider.create(SPEC, SPOT)
    assert script.sent["bidPerGpu"] == 0.25
    assert "deployCost" not in script.sent
    assert pod.interruptible is True


async def test_a_bid_below_the_minimum_is_never_sent(provider: RunPodProvider, script: Script) -> None:
    """RunPod has no message of its own for it."""
    cheap = Offer(
        provider="runpod",
        id="s",
        gpu_model="G",
        gpu_count=1,
        price=Decimal("0.1"),
        interruptible=True,
        minimum_bid=Decimal("0.16"),
    )
    with pytest.raises(BidTooLow, match=r"0\.16"):
        await provider.create(SPEC, cheap)
    assert script.requests == []


async def test_options_reach_every_field_and_win(provider: RunPodProvider, script: Script, pod_answer: Build) -> None:
    """Under the wire's names or Python's; tags stay."""
    script.data(podFindAndDeployOnDemand=pod_answer())
    options = {"deployCost": 9, "country_code": "DE", "startSSH": False, "env": {"A": "1", "RP_OWNER": "forged"}}
    await provider.create(PodSpec(name="n", image="i", tags=TAGS, terminate_after=END, options=options), ON_DEMAND)
    sent = script.sent
    assert (sent["deployCost"], sent["countryCode"], sent["startSsh"]) == (9, "DE", False)
    env = {pair["key"]: pair["value"] for pair in sent["env"]}
    assert (env["A"], env["RP_OWNER"]) == ("1", "0123abcd")


@pytest.mark.parametrize(
    "options",
    [{"name": "x"}, {"gpuTypeId": "x"}, {"gpu_count": 1}, {"dockerArgs": "x"}, {"nonsense": 1}],
    ids=["name", "gpu", "count", "command", "unknown"],
)
async def test_an_option_that_would_lose_the_pod_is_refused(
    provider: RunPodProvider, script: Script, options: dict[str, object]
) -> None:
    """Name, model, count and start command are not options."""
    spec = PodSpec(name="n", image="i", command="c", terminate_after=END, options=options)
    with pytest.raises(InvalidRequest):
        await provider.create(spec, ON_DEMAND)
    assert script.requests == []


async def test_the_command_may_be_an_option_where_there_is_none(
    provider: RunPodProvider, script: Script, pod_answer: Build
) -> None:
    """A pod made by hand starts as its user says."""
    script.data(podFindAndDeployOnDemand=pod_answer())
    await provider.create(PodSpec(name="n", image="i", options={"docker_args": "bash x.sh"}), ON_DEMAND)
    assert script.sent["dockerArgs"] == "bash x.sh"


async def test_a_runner_pod_without_an_end_is_refused(provider: RunPodProvider, script: Script) -> None:
    """The server-side kill time is the last line of defence."""
    with pytest.raises(InvalidRequest, match="terminate_after"):
        await provider.create(PodSpec(name="n", image="i", tags=TAGS), ON_DEMAND)
    assert script.requests == []


async def test_spot_discontinued_is_remembered(provider: RunPodProvider, script: Script) -> None:
    """Neither asked for again nor offered again."""
    script.error("Spot pods are no longer offered")
    script.data(gpuTypes=[A4000], g0=[{**A4000, "lowestPrice": PRICE}])
    for _ in range(2):
        with pytest.raises(SpotDiscontinued):
            await provider.create(SPEC, SPOT)
    assert len(script.requests) == 1
    assert [offer.interruptible for offer in await provider.offers(wanted("RTX A4000"))] == [False]


async def test_no_stock_is_not_remembered(provider: RunPodProvider, script: Script, pod_answer: Build) -> None:
    """The next try may succeed."""
    script.error("There are no instances currently available.")
    script.data(podRentInterruptable=pod_answer())
    with pytest.raises(CapacityUnavailable):
        await provider.create(SPEC, SPOT)
    assert (await provider.create(SPEC, SPOT)).id == "pod1"


async def test_a_pod_ended_at_birth_is_an_unknown_outcome(
    provider: RunPodProvider, script: Script, pod_answer: Build
) -> None:
    """Whether it costs anything is for the look by name to tell."""
    script.data(podFindAndDeployOnDemand=pod_answer(desiredStatus="TERMINATED"))
    with pytest.raises(CreateOutcomeUnknown):
        await provider.create(SPEC, ON_DEMAND)


async def test_get_reads_one_pod_or_none(provider: RunPodProvider, script: Script, pod_answer: Build) -> None:
    """Terminated and unknown are both nothing."""
    script.data(pod=pod_answer())
    script.data(pod=pod_answer(desiredStatus="TERMINATED"))
    script.data(pod=None)
    found = await provider.get(PodId("pod1"))
    assert found
    assert found.tags
    assert await provider.get(PodId("pod1")) is None
    assert await provider.get(PodId("pod1")) is None


async def test_list_is_by_name_or_tag(provider: RunPodProvider, script: Script, pod_answer: Build) -> None:
    """A prefix of another owner is another owner."""
    script.data(
        myself={
            "pods": [
                pod_answer(id="a", env=[]),
                pod_answer(id="b", name="rpm-0123abcd-abc-wxyz", env=None),
                pod_answer(id="c", name="mine"),
                pod_answer(id="d", name="rp-99999999-1-1-default", env=[]),
                pod_answer(id="e", name=None, env=None),
                pod_answer(id="f", desiredStatus="TERMINATED"),
            ]
        }
    )
    assert [pod.id for pod in await provider.list("0123abcd")] == ["a", "b", "c"]
    assert [pod.id for pod in await provider.list(None)] == ["a", "b", "c", "d", "e"]


async def test_terminate_twice_is_success(provider: RunPodProvider, script: Script) -> None:
    """Gone already is what was wanted."""
    script.data(podTerminate=None)
    script.error("pod not found to terminate")
    await provider.terminate(PodId("p"))
    await provider.terminate(PodId("p"))


@pytest.mark.parametrize(
    ("status", "body"), [(204, ""), (404, '{"title": "Not Found", "detail": "pod not found"}')], ids=["done", "gone"]
)
async def test_terminate_goes_over_rest_where_graphql_is_gone(
    provider: RunPodProvider, script: Script, status: int, body: str
) -> None:
    """A pod must end whatever generation of the API is left."""
    script.text(410, "Gone")
    script.text(status, body)
    await provider.terminate(PodId("p"))
    assert [request.method for request in script.requests] == ["POST", "DELETE"]


async def test_a_stop_that_was_asked_for_is_no_interruption(
    provider: RunPodProvider, script: Script, pod_answer: Build
) -> None:
    """Until it is resumed."""
    exited = pod_answer(desiredStatus="EXITED", podType="INTERRUPTABLE")
    script.data(podStop=exited, pod=exited, podResume=pod_answer())
    assert (await provider.stop(PodId("pod1"))).state is PodState.STOPPED
    found = await provider.get(PodId("pod1"))
    assert found
    assert found.state is PodState.STOPPED
    assert (await provider.resume(PodId("pod1"))).state is PodState.STARTING
    found = await provider.get(PodId("pod1"))
    assert found
    assert found.state is PodState.INTERRUPTED


async def test_stopping_a_pod_that_is_gone_says_so(provider: RunPodProvider, script: Script, pod_answer: Build) -> None:
    """Both as an error and as a terminated pod."""
    script.error("Pod not found", "NOT_FOUND")
    script.data(podStop=pod_answer(desiredStatus="TERMINATED"))
    for _ in range(2):
        with pytest.raises(NotFound):
            await provider.stop(PodId("pod1"))


async def test_a_bid_resume_takes_the_pods_own_count(
    provider: RunPodProvider, script: Script, pod_answer: Build
) -> None:
    """Without the count the API answers 400."""
    script.data(pod=pod_answer(gpuCount=4, podType="INTERRUPTABLE"), podBidResume=pod_answer())
    await provider.resume(PodId("pod1"), bid_per_gpu=Decimal("0.2"))
    assert script.sent == {"podId": "pod1", "bidPerGpu": 0.2, "gpuCount": 4}
    await provider.resume(PodId("pod1"), bid_per_gpu=Decimal("0.2"), gpu_count=2)
    assert script.sent["gpuCount"] == 2


async def test_a_bid_for_an_on_demand_pod_is_refused(
    provider: RunPodProvider, script: Script, pod_answer: Build
) -> None:
    """It would be resumed as something that it is not."""
    script.data(pod=pod_answer(podType="RESERVED"))
    with pytest.raises(InvalidRequest, match="without a bid"):
        await provider.resume(PodId("pod1"), bid_per_gpu=Decimal("0.2"))


async def test_a_bid_for_no_pod_is_not_found(provider: RunPodProvider, script: Script) -> None:
    """The count cannot be read."""
    script.data(pod=None)
    with pytest.raises(NotFound):
        await provider.resume(PodId("pod1"), bid_per_gpu=Decimal("0.2"))


async def test_balance_and_keys(provider: RunPodProvider, script: Script) -> None:
    """Keys are one a line; blank lines are none."""
    script.data(myself={"id": "u", "clientBalance": "5.5", "pubKey": "ssh-ed25519 A me\n\n  ssh-rsa B \n"})
    assert await provider.balance() == Decimal("5.5")
    assert await provider.ssh_keys() == ["ssh-ed25519 A me", "ssh-rsa B"]
    await provider.aclose()


async def test_prices_are_asked_for_what_a_create_will_ask_for(provider: RunPodProvider, script: Script) -> None:
    """Region by region; nothing that was not wished for is sent."""
    script.data(gpuTypes=[A4000])
    for _ in range(2):
        script.data(g0=[{**A4000, "lowestPrice": PRICE}])
    wish = replace(
        wanted("RTX A4000"), regions=("EU-RO-1", "us"), cuda="12.4", disk_gb=60, min_vcpus=4, min_download=500
    )
    offers = await provider.offers(wish)
    assert [(one.region, one.gpu_name) for one in offers[::2]] == [("EU-RO-1", "RTX A4000"), ("us", "RTX A4000")]
    assert len({one.id for one in offers}) == 4
    prices = [one["variables"]["price"] for one in script.bodies[1:]]
    common = {"gpuCount": 1, "minDisk": 60, "minVcpuCount": 4, "minDownload": 500, "minCudaVersion": "12.4"}
    assert prices == [{**common, "dataCenterId": "EU-RO-1"}, {**common, "countryCode": "US"}]


async def test_a_create_says_all_that_can_be_said(provider: RunPodProvider, script: Script, pod_answer: Build) -> None:
    """The place of the offer, the floors of the spec, and the volume."""
    script.data(podFindAndDeployOnDemand=pod_answer())
    spec = replace(SPEC, cuda="12.4", min_disk_gb=60, min_download=500, min_upload=100, network_volume="vol1")
    await provider.create(spec, replace(ON_DEMAND, region="EU-RO-1"))
    sent = script.sent
    assert {
        "minCudaVersion": "12.4",
        "minDisk": 60,
        "minDownload": 500,
        "minUpload": 100,
        "networkVolumeId": "vol1",
        "dataCenterId": "EU-RO-1",
    }.items() <= sent.items()
    assert "countryCode" not in sent
