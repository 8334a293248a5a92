"""Starting a stopped pod again: RunPod has one verb for each kind of pod."""

from __future__ import annotations

from decimal import Decimal
from typing import NoReturn

from runner_provisioner.errors import InvalidRequest, NotFound
from runner_provisioner.providers.runpod.api import RunPodApi
from runner_provisioner.providers.runpod.failures import SERVICE
from runner_provisioner.providers.runpod.inputs import BidResumeInput, ResumeInput
from runner_provisioner.providers.runpod.states import is_interruptible
from runner_provisioner.providers.runpod.wire import WirePod


async def resume(
    api: RunPodApi, pod_id: str, *, gpu_count: int | None = None, bid_per_gpu: Decimal | None = None
) -> WirePod:
    """Resume with a bid when one is given, else on demand. The count of a bid is the pod's own unless given.

    Raises NotFound, InvalidRequest when the bid does not suit the pod, CapacityUnavailable when its host is full.
    """
    if bid_per_gpu is None:
        return await api.pod_resume(ResumeInput(pod_id=pod_id, gpu_count=gpu_count))
    count = gpu_count or await _gpu_count(api, pod_id)
    bid = BidResumeInput(pod_id=pod_id, gpu_count=count, bid_per_gpu=float(bid_per_gpu))
    return await api.pod_bid_resume(bid)


def no_such_pod(pod_id: str, operation: str) -> NoReturn:
    """Raise NotFound."""
    message = f"RunPod knows no pod {pod_id}: look the id up in the list of pods"
    raise NotFound(message, service=SERVICE, operation=operation, code="NOT_FOUND")


async def _gpu_count(api: RunPodApi, pod_id: str) -> int:
    pod = await api.pod(pod_id) or no_such_pod(pod_id, "pod")
    if is_interruptible(pod) is False:
        raise InvalidRequest(f"pod {pod_id} is on-demand: resume it without a bid")
    return pod.gpu_count or 1
