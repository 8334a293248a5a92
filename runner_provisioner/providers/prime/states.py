"""What a pod is doing, told from what Prime Intellect says of it."""

from __future__ import annotations

from runner_provisioner.domain.pods import Pod, PodId, PodState, SshEndpoint
from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.providers.prime.wire import Connected, WirePod

PROVIDER = "prime"
_STARTING = frozenset({"PROVISIONING", "PENDING"})
# The clients look for FINISHED, the documentation says COMPLETE (prime 0.18).
_INSTALLED = frozenset({"FINISHED", "COMPLETE"})
_DONE = 100  # percent


def state_of(pod: WirePod, *, asked: bool = False, last: PodState | None = None) -> PodState | None:
    """The neutral state; None = the pod is gone.

    `asked` is whether this program asked to end it, `last` what it was doing at the last look: a status that tells
    nothing changes nothing, and a pod never seen before may cost money.
    """
    match _word(pod.status):
        case "TERMINATED":
            return None
        case "ACTIVE":
            return _active(pod)
        case "STOPPED":
            # Nobody can stop a pod but its upstream provider: the API has no such call.
            return PodState.INTERRUPTED if pod.is_spot and not asked else PodState.STOPPED
        case "DELETING":
            return PodState.STOPPED  # going, and it may bill until it is gone
        case "ERROR":
            return PodState.FAILED
        case word if word in _STARTING:
            return PodState.STARTING
        case _:
            return last or PodState.STARTING


def _active(pod: WirePod) -> PodState:
    if pod.installation_failure or _word(pod.installation_status) == "FAILED":
        return PodState.FAILED
    if not pod.ssh_connection or way_in(pod) is None:
        return PodState.STARTING
    return PodState.RUNNING if _installed(pod) else PodState.STARTING


def _installed(pod: WirePod) -> bool:
    """Some upstream providers leave both fields null: then the address alone tells."""
    word, progress = _word(pod.installation_status), pod.installation_progress
    if word in _INSTALLED:
        return True
    return progress >= _DONE if progress is not None else not word


def _word(text: str | None) -> str:
    return (text or "").strip().upper()


def way_in(pod: Connected) -> SshEndpoint | None:
    """Where its SSH server answers; None also for what is no address, so that one pod cannot hide the others."""
    try:
        return pod.endpoint()
    except ProtocolViolation:
        return None


def to_pod(pod: WirePod, *, asked: bool = False, last: PodState | None = None) -> Pod | None:
    """The pod in words that hold for every provider; None = it is gone.

    Prime Intellect returns no environment, so there are no tags: the name says whose pod it is. It names no machine.
    """
    state = state_of(pod, asked=asked, last=last)
    if state is None:
        return None
    return Pod(
        provider=PROVIDER,
        id=PodId(pod.id),
        name=pod.name or "",
        state=state,
        price=pod.price_hr,
        created_at=pod.created_at,
        image=pod.environment_type,
        gpu_model=pod.gpu_name,
        gpu_count=pod.gpu_count,
        interruptible=pod.is_spot,
        ssh=way_in(pod),
        public_ports=pod.open_ports(),
        hardware=pod.hardware(),
        status=pod.status or "",
        detail=_detail(pod),
    )


def _detail(pod: WirePod) -> str:
    if pod.installation_failure:
        return f"installation failed: {pod.installation_failure}"
    if pod.ssh_connection and way_in(pod) is None:
        return "its SSH address is not readable"
    return ""
