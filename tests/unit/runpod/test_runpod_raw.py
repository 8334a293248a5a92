"""Pods made by hand: RunPod's fields in, RunPod's shape out, with an owner and an end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from runner_provisioner.domain.names import ManualName
from runner_provisioner.errors import BidTooLow, CreateOutcomeUnknown, InvalidRequest, NotFound, UnknownGpu
from runner_provisioner.providers.runpod import RunPodApi, RunPodProvider
from runner_provisioner.providers.runpod.raw import RawPods
from runner_provisioner.testing.clock import EPOCH, FakeClock

if TYPE_CHECKING:
    from unit.runpod.conftest import Script

Build = Callable[..., dict[str, Any]]
GPU = {"id": "NVIDIA RTX A4000", "displayName": "RTX A4000"}
ENV = ["RP_OWNER=0123abcd", "RP_CLASS=manual", "RP_EXPIRES=2026-11-02T12:00:00+00:00"]


@pytest.fixture
def pods(api: RunPodApi, provider: RunPodProvider, clock: FakeClock) -> RawPods:
    """The verbs under test."""
    return RawPods(api, provider, clock=clock, letters=lambda: "wxyz", owner8="0123abcd", settle=30.0)


def answered(script: Script, pod: dict[str, Any], **more: object) -> None:
    """Answer everything a create asks."""
    script.data(gpuTypes=[GPU], podFindAndDeployOnDemand=pod, podRentInterruptable=pod, **more)


async def test_a_pod_has_defaults_an_owner_and_an_end(pods: RawPods, script: Script, pod_answer: Build) -> None:
    """A day, unless said otherwise; the name says it too."""
    answered(script, pod_answer(env=ENV))
    made = await pods.create({"image_name": "img", "gpu_type_id": "rtx a4000"})
    sent = script.sent
    name = ManualName.parse(sent["name"])
    assert name
    assert (name.owner8, name.letters, name.expires_at) == ("0123abcd", "wxyz", EPOCH + timedelta(hours=24))
    env = {pair["key"]: pair["value"] for pair in sent["env"]}
    assert (env["RP_OWNER"], env["RP_CLASS"]) == ("0123abcd", "manual")
    assert sent["terminateAfter"] == "2026-11-02T12:00:00Z" == made["terminateAfter"]
    assert sent["gpuTypeId"] == "NVIDIA RTX A4000"
    assert sent["supportPublicIp"] is True
    assert (sent["minVcpuCount"], sent["minMemoryInGb"], sent["containerDiskInGb"]) == (1, 4, 40)
    assert (made["id"], made["desiredStatus"], made["status"]) == ("pod1", "RUNNING", "starting")
    assert (made["runtime"], made["costPerHr"]) == ({}, 0.34)


async def test_the_guides_arguments_are_taken(pods: RawPods, script: Script, pod_answer: Build) -> None:
    """The call of the guide, with env as a list."""
    answered(script, pod_answer())
    await pods.create(
        {
            "name": "my-training-pod",
            "gpu_type_id": "NVIDIA RTX A4000",
            "image_name": "runpod/pytorch",
            "gpu_count": 1,
            "volume_in_gb": 50,
            "container_disk_in_gb": 30,
            "volume_mount_path": "/workspace",
            "docker_args": "bash start.sh",
            "cloud_type": "SECURE",
            "env": [{"key": "PYTHONUNBUFFERED", "value": "1"}],
            "startSSH": True,
            "min_vcpu_count": None,
        }
    )
    sent = script.sent
    assert (sent["name"], sent["volumeInGb"], sent["dockerArgs"]) == ("my-training-pod", 50, "bash start.sh")
    assert {"key": "PYTHONUNBUFFERED", "value": "1"} in sent["env"]
    assert sent["startSsh"] is True
    assert sent["minVcpuCount"] == 1
    assert "supportPublicIp" not in sent


@pytest.mark.parametrize(
    ("fields", "lifetime", "end"),
    [
        ({}, timedelta(hours=1), "2026-11-01T13:00:00Z"),
        ({}, None, None),
        ({"terminateAfter": "2026-12-01T00:00:00Z"}, timedelta(hours=1), "2026-12-01T00:00:00Z"),
        ({"terminate_after": datetime(2026, 12, 1, tzinfo=UTC)}, None, "2026-12-01T00:00:00Z"),
    ],
    ids=["lifetime", "for-ever", "wire", "python"],
)
async def test_the_end_can_be_chosen(
    pods: RawPods,
    script: Script,
    pod_answer: Build,
    fields: dict[str, object],
    lifetime: timedelta | None,
    end: str | None,
) -> None:
    """A moment given as a field wins over the lifetime."""
    answered(script, pod_answer(env=None))
    made = await pods.create({"image_name": "img", **fields}, lifetime=lifetime)
    assert script.sent.get("terminateAfter") == end == made["terminateAfter"]


async def test_a_bid_rents_an_interruptible_pod(pods: RawPods, script: Script, pod_answer: Build) -> None:
    """At or above the market's floor for the whole count."""
    gpu = {**GPU, "lowestPrice": {"minimumBidPrice": 0.4}}
    answered(script, pod_answer(), g0=[gpu])
    fields = {"image_name": "img", "gpu_type_id": "RTX A4000", "gpu_count": 2}
    await pods.create({**fields, "bid_per_gpu": 0.2})
    assert script.sent["bidPerGpu"] == 0.2
    assert script.bodies[-1]["operationName"] == "podRentInterruptable"
    with pytest.raises(BidTooLow, match=r"0\.4"):
        await pods.create({**fields, "bidPerGpu": 0.19})


@pytest.mark.parametrize(
    "looks", [["pod1"], [None, "pod1"], ["fails", "pod1"]], ids=["at-once", "later", "after-error"]
)
async def test_a_pod_whose_answer_was_lost_is_found_by_its_name(
    pods: RawPods, script: Script, pod_answer: Build, clock: FakeClock, looks: list[str | None]
) -> None:
    """And by its nonce: an older pod of that name is another one."""
    older = pod_answer(id="older", name="mine", env=[*ENV, "RP_NONCE=other"])
    foreign = pod_answer(id="foreign", name="mine", env=[])
    begun = clock.monotonic()
    script.fail(httpx.ReadError("cut"))
    for look in looks:
        if look == "fails":
            script.error("no such account", "FORBIDDEN", status=403)
            continue
        found = [pod_answer(name="mine", env=[*ENV, f"RP_NONCE={'wxyz' * 3}"])] if look else []
        script.data(myself={"pods": [older, foreign, *found]})
    made = await pods.create({"name": "mine", "image_name": "img"})
    assert made["id"] == "pod1"
    assert made["terminateAfter"] == "2026-11-02T12:00:00Z"
    assert clock.monotonic() - begun == 30.0 * (len(looks) - 1)


async def test_a_pod_that_two_looks_do_not_find_is_told_with_its_name(
    pods: RawPods, script: Script, clock: FakeClock
) -> None:
    """It may exist all the same."""
    begun = clock.monotonic()
    script.fail(httpx.ReadError("cut"))
    script.data(myself={"pods": []})
    with pytest.raises(CreateOutcomeUnknown, match="mine"):
        await pods.create({"name": "mine", "image_name": "img"})
    assert len(script.requests) == 3
    assert clock.monotonic() - begun == 30.0


@pytest.mark.parametrize("answer", [[], [GPU], [{**GPU, "lowestPrice": {}}]], ids=["none", "no-price", "no-bid"])
async def test_a_bid_without_a_known_floor_is_sent(
    pods: RawPods, script: Script, pod_answer: Build, answer: list[dict[str, object]]
) -> None:
    """RunPod decides then; a bid can also be left to a template or a list of models."""
    answered(script, pod_answer(), g0=answer)
    assert await pods.create({"image_name": "img", "gpu_type_id": "RTX A4000", "bid_per_gpu": 0.01})
    assert await pods.create({"image_name": "img", "bid_per_gpu": 0.01, "ports": "80/http"})
    assert "supportPublicIp" not in script.sent


async def test_what_can_never_work_is_refused_before_it_is_sent(pods: RawPods, script: Script) -> None:
    """By name."""
    script.data(gpuTypes=[GPU])
    with pytest.raises(InvalidRequest, match="image_name"):
        await pods.create({"gpu_type_id": "RTX A4000"})
    with pytest.raises(InvalidRequest, match="image_nam"):
        await pods.create({"image_nam": "x"})
    with pytest.raises(UnknownGpu, match="NVIDIA RTX A4000"):
        await pods.create({"image_name": "img", "gpu_type_id": "A4000x"})
    assert all(body["operationName"] == "gpuTypes" for body in script.bodies)


async def test_a_template_stands_for_an_image(pods: RawPods, script: Script, pod_answer: Build) -> None:
    """RunPod takes the image from it."""
    answered(script, pod_answer())
    assert await pods.create({"template_id": "t", "gpu_type_id_list": "NVIDIA RTX A4000,NVIDIA RTX A5000"})
    assert script.sent["gpuTypeIdList"] == ["NVIDIA RTX A4000", "NVIDIA RTX A5000"]


async def test_a_pod_is_shown_in_runpods_shape(pods: RawPods, script: Script, pod_answer: Build) -> None:
    """Telemetry and all; the guide's loops work on it."""
    runtime = {"uptimeInSeconds": 3, "gpus": [{"id": "g", "gpuUtilPercent": 85.5, "memoryUtilPercent": 1}]}
    script.data(pod=pod_answer(runtime=runtime, ports="", env=ENV))
    shown = await pods.get("pod1")
    assert shown["runtime"]["gpus"][0]["gpuUtilPercent"] == 85.5
    assert (shown["status"], shown["terminateAfter"]) == ("running", "2026-11-02T12:00:00Z")


async def test_a_pod_that_is_not_there_is_not_found(pods: RawPods, script: Script, pod_answer: Build) -> None:
    """Neither unknown nor terminated."""
    script.data(pod=None)
    script.data(pod=pod_answer(desiredStatus="TERMINATED"))
    for _ in range(2):
        with pytest.raises(NotFound, match="pod1"):
            await pods.get("pod1")


async def test_all_pods_are_listed_but_the_ended(pods: RawPods, script: Script, pod_answer: Build) -> None:
    """Whoever made them."""
    script.data(myself={"pods": [pod_answer(), pod_answer(id="pod2", desiredStatus="TERMINATED")]})
    assert [pod["id"] for pod in await pods.list()] == ["pod1"]


async def test_stop_shows_stopped_and_resume_running(pods: RawPods, script: Script, pod_answer: Build) -> None:
    """As the guides show it, although RunPod's word is EXITED."""
    exited = pod_answer(desiredStatus="EXITED", podType="INTERRUPTABLE", lastStatusChange=None)
    script.data(podStop=exited, pod=exited, podResume=pod_answer(), podBidResume=pod_answer())
    stopped = await pods.stop("pod1")
    assert (stopped["desiredStatus"], stopped["status"]) == ("STOPPED", "stopped")
    assert (await pods.get("pod1"))["desiredStatus"] == "STOPPED"
    assert (await pods.resume("pod1", gpu_count=1))["desiredStatus"] == "RUNNING"
    interrupted = await pods.get("pod1")
    assert (interrupted["desiredStatus"], interrupted["status"]) == ("EXITED", "interrupted")
    assert (await pods.resume("pod1", bid_per_gpu=Decimal("0.3")))["status"] == "starting"


async def test_terminate_tells_success(pods: RawPods, script: Script) -> None:
    """In the shape of the HTTP guide."""
    script.data(podTerminate=None)
    assert await pods.terminate("pod1") == {"success": True, "podId": "pod1"}


async def test_gpu_types_have_prices(pods: RawPods, script: Script) -> None:
    """For the count asked for."""
    script.data(gpuTypes=[{**GPU, "memoryInGb": 16, "lowestPrice": {"minimumBidPrice": 0.1, "stockStatus": "Low"}}])
    [gpu] = await pods.gpu_types(2)
    assert gpu["lowestPrice"] == {"minimumBidPrice": 0.1, "uninterruptablePrice": None, "stockStatus": "Low"}
    assert script.bodies[0]["variables"] == {"price": {"gpuCount": 2}}
