"""What a pod is doing, told from what RunPod says of it."""

from __future__ import annotations

import re
from collections.abc import Container
from datetime import datetime

from runner_provisioner.domain.pods import Pod, PodId, PodState, PodTags
from runner_provisioner.providers.runpod.wire import WirePod, WireTelemetry

PROVIDER = "runpod"
TERMINATED = "TERMINATED"
_SPOT_TYPES = frozenset({"INTERRUPTABLE", "BID"})
_BY_USER = re.compile(r"\b(exited|stopped|paused)\b.*\bby user\b", re.IGNORECASE)
_BY_RUNPOD = re.compile(r"run ?pod|\bhost\b", re.IGNORECASE)  # free text such as "Exited by Runpod: ..." (docs)
# With the moment as JavaScript writes it.
_EXITED_AT = re.compile(r"\bexited\b.*?\b(\w{3} \w{3} \d\d \d{4} \d\d:\d\d:\d\d GMT[+-]\d{4})\b", re.IGNORECASE)
_ENDED = {"PAUSED": PodState.STOPPED, "DEAD": PodState.FAILED}


def state_of(pod: WirePod, *, asked_to_stop: Container[str] = ()) -> PodState | None:
    """The neutral state; None = the pod is gone. `asked_to_stop` holds the ids of pods that we stopped."""
    status = (pod.desired_status or "").upper()
    if status == TERMINATED:
        return None
    if status == "EXITED":
        return _exited(pod, asked=pod.id in asked_to_stop)
    if status in _ENDED:
        return _ENDED[status]
    if status == "RUNNING":
        return _running(pod)
    # CREATED, RESTARTING, and a word not known here: it may cost money and nothing says that it failed.
    return PodState.STARTING


def _running(pod: WirePod) -> PodState:
    if _container_ended(pod):
        return PodState.FAILED
    # RUNNING is set at creation; only the runtime shows that a container runs (docs).
    if pod.runtime is None or (pod.wants_ssh and pod.ssh() is None):
        return PodState.STARTING
    return PodState.RUNNING


def _container_ended(pod: WirePod) -> bool:
    seen = pod.latest_telemetry or WireTelemetry()
    if (seen.state or "").lower() != "exited":
        return False
    when = seen.time or seen.last_state_transition_timestamp
    return when is None or pod.last_started_at is None or when >= pod.last_started_at


def _exited(pod: WirePod, *, asked: bool) -> PodState:
    said = pod.last_status_change or ""
    if asked or _BY_USER.search(said):
        return PodState.STOPPED
    taken = is_interruptible(pod) or bool(_BY_RUNPOD.search(said))
    return PodState.INTERRUPTED if taken else PodState.FAILED


def _stopped_at(pod: WirePod) -> datetime | None:
    exited = (pod.desired_status or "").upper() == "EXITED"
    found = _EXITED_AT.search(pod.last_status_change or "") if exited else None
    try:
        return datetime.strptime(found[1], "%a %b %d %Y %H:%M:%S GMT%z") if found else None
    except ValueError:
        return None


def is_interruptible(pod: WirePod) -> bool | None:
    """Whether RunPod may take the machine back; None when it does not say."""
    return pod.pod_type.upper() in _SPOT_TYPES if pod.pod_type else None


def to_pod(pod: WirePod, *, asked_to_stop: Container[str] = ()) -> Pod | None:
    """The pod in words that hold for every provider; None = it is gone."""
    state = state_of(pod, asked_to_stop=asked_to_stop)
    if state is None:
        return None
    machine = pod.machine
    return Pod(
        provider=PROVIDER,
        id=PodId(pod.id),
        name=pod.name or "",
        state=state,
        price=pod.cost_per_hr,
        created_at=pod.created_at,
        tags=PodTags.from_env(pod.environment()),
        image=pod.image_name,
        gpu_model=(machine.gpu_type_id or machine.gpu_display_name) if machine else None,
        gpu_count=pod.gpu_count,
        interruptible=is_interruptible(pod),
        ssh=pod.ssh(),
        ssh_proxy=pod.ssh_proxy(),
        uptime_seconds=pod.runtime.uptime_in_seconds if pod.runtime else None,
        stopped_at=_stopped_at(pod),
        machine=pod.machine_id,
        telemetry=pod.telemetry(),
        public_ports=pod.open_ports(),
        hardware=pod.hardware(),
        status=pod.desired_status or "",
        detail=pod.last_status_change or "",
    )
