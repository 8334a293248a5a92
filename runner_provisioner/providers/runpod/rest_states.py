"""What a pod is doing, told from what REST v2 observes of it."""

from __future__ import annotations

from collections.abc import Container

from runner_provisioner.domain.pods import Hardware, Pod, PodClass, PodId, PodState, PodTags
from runner_provisioner.providers.runpod.rest_wire import RestPod
from runner_provisioner.providers.runpod.states import PROVIDER, TERMINATED


def state_of(pod: RestPod, *, asked_to_stop: Container[str] = ()) -> PodState | None:
    """The neutral state; None = the pod is gone. `asked_to_stop` holds the ids of pods that we stopped."""
    status = (pod.status or "").upper()
    if status == TERMINATED:
        return None
    if status == "EXITED":
        return _exited(pod, asked=pod.id in asked_to_stop)
    if status == "ERROR":
        return PodState.FAILED
    if status == "RUNNING" and not (pod.wants_ssh and pod.endpoint() is None):
        return PodState.RUNNING
    # PROVISIONING, STARTING, and a word not known here: it may cost money and nothing says that it failed.
    return PodState.STARTING


def _exited(pod: RestPod, *, asked: bool) -> PodState:
    """REST does not say who ended it. Nobody but RunPod stops a runner's pod; one made by hand may be its user's."""
    tags = PodTags.from_env(pod.environment())
    runner = tags is not None and tags.cls is PodClass.RUNNER
    return PodState.INTERRUPTED if runner and not asked else PodState.STOPPED


def to_pod(pod: RestPod, *, asked_to_stop: Container[str] = ()) -> Pod | None:
    """The pod in words that hold for every provider; None = it is gone. REST v2 names no machine."""
    state = state_of(pod, asked_to_stop=asked_to_stop)
    if state is None:
        return None
    return Pod(
        provider=PROVIDER,
        id=PodId(pod.id),
        name=pod.name or "",
        state=state,
        price=pod.price,
        created_at=pod.created_at,
        tags=PodTags.from_env(pod.environment()),
        image=pod.image,
        gpu_model=pod.gpu.id if pod.gpu else None,
        gpu_count=pod.gpu.count if pod.gpu else None,
        ssh=pod.endpoint(),
        ssh_proxy=pod.proxy(),
        uptime_seconds=pod.runtime.uptime if pod.runtime else None,
        telemetry=pod.telemetry(),
        public_ports=pod.open_ports(),
        hardware=Hardware(disk_gb=pod.disk),
        status=pod.status or "",
    )
