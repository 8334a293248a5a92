"""Pods as `/api/v1/pods` shows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from runner_provisioner.controller.pods_create import PRIME
from runner_provisioner.domain.gpu_names import sockets_of
from runner_provisioner.domain.pods import Pod, PodState
from runner_provisioner.domain.served import ServedPod
from runner_provisioner.services.served import Known

Row = dict[str, Any]
_KIB_PER_GB = 1024 * 1024
STATES = {
    PodState.STARTING: "PROVISIONING",
    PodState.RUNNING: "ACTIVE",
    PodState.STOPPED: "STOPPED",
    PodState.INTERRUPTED: "STOPPED",
    PodState.FAILED: "ERROR",
}
TERMINATED, UNKNOWN = "TERMINATED", "UNKNOWN"
INSTALLATION = {
    PodState.STARTING: "IN_PROGRESS",
    PodState.RUNNING: "COMPLETE",
    PodState.STOPPED: "COMPLETE",
    PodState.INTERRUPTED: "COMPLETE",
    PodState.FAILED: "FAILED",
}
PROGRESS: Mapping[str | None, int] = {"PENDING": 0, "IN_PROGRESS": 50, "COMPLETE": 100, "FAILED": 0}


def pod_row(known: Known) -> Row:
    """A pod with all that is told of it."""
    pod, served = known.pod, known.served
    has = pod.hardware
    facts = served.facts if served is not None else {}
    installation = _installation(known)
    return {
        "id": pod.id,
        "userId": (served.key_id if served is not None else None) or "",
        "name": known.label,
        "providerType": pod.provider,
        "gpuName": facts.get("gpu_type") or pod.gpu_model,
        "gpuCount": pod.gpu_count,
        "socket": has.socket or _socket(pod.provider, pod.gpu_model, facts),
        "priceHr": _number(pod.price),
        "status": UNKNOWN if known.unseen else STATES[pod.state],
        "installationStatus": installation,
        "installationProgress": PROGRESS.get(installation),
        "installationFailure": (pod.detail or None) if pod.state is PodState.FAILED else None,
        **_connection(pod),
        "environmentType": facts.get("image") or pod.image,
        "resources": {
            "memory": _text(has.memory_kib // _KIB_PER_GB if has.memory_kib is not None else None),
            "disk": _text(has.disk_gb if has.disk_gb is not None else facts.get("disk")),
            "vcpus": _text(has.vcpus),
        },
        "isSpot": bool(pod.interruptible),
        "autoRestart": bool(facts.get("auto_restart", False)),
        "createdAt": moment(pod.created_at),
        "expiresAt": moment(known.expires_at),
    }


def status_row(known: Known) -> Row:
    """The short form."""
    pod = known.pod
    if known.unseen:
        return unknown_row(str(pod.id), known.served)
    installation = _installation(known)
    connection = _connection(pod)
    del connection["primePortMapping"]
    return {
        "podId": pod.id,
        "providerType": pod.provider,
        "status": STATES[pod.state],
        **connection,
        "costPerHr": _number(pod.price),
        "installationStatus": installation,
        "installationProgress": PROGRESS.get(installation),
    }


def terminated_row(served: ServedPod) -> Row:
    """The short form of a pod that has ended."""
    return _bare(str(served.id), served, TERMINATED)


def unknown_row(pod_id: str, served: ServedPod | None) -> Row:
    """The short form of a pod of which nobody can tell."""
    return _bare(pod_id, served, UNKNOWN)


def _bare(pod_id: str, served: ServedPod | None, status: str) -> Row:
    return {
        "podId": pod_id,
        "providerType": served.provider if served is not None else None,
        "status": status,
        "sshConnection": None,
        "ip": None,
        "costPerHr": _number(served.price) if served is not None else None,
        "installationStatus": None,
        "installationProgress": None,
    }


def past_row(served: ServedPod) -> Row:
    """A pod of the history."""
    return {
        "id": served.id,
        "name": served.label or served.name,
        "providerType": served.provider,
        "userId": served.key_id or "",
        "gpuName": served.facts.get("gpu_type") or served.gpu_model,
        "gpuCount": served.gpu_count,
        "socket": _socket(served.provider, served.gpu_model, served.facts),
        "priceHr": _number(served.price),
        "totalBilledPrice": _number(served.cost),
        "isSpot": bool(served.interruptible),
        "status": TERMINATED,
        "createdAt": moment(served.created_at or served.requested_at),
        "terminatedAt": moment(served.ended_at),
    }


def _installation(known: Known) -> str | None:
    """PENDING before a machine is known, which no provider tells for long; None where nobody can look."""
    pod = known.pod
    if known.unseen:
        return None
    if pod.state is PodState.STARTING and pod.machine is None and pod.uptime_seconds is None:
        return "PENDING"
    return INSTALLATION[pod.state]


def _connection(pod: Pod) -> Row:
    ssh = pod.ssh
    return {
        "sshConnection": f"{ssh.user}@{ssh.host} -p {ssh.port}" if ssh is not None else None,
        "ip": (ssh.host if ssh is not None else None) or pod.hardware.address,
        "primePortMapping": [
            {
                "internal": str(one.private),
                "external": str(one.public),
                "protocol": one.protocol.upper(),
                "usedBy": "SSH" if one.private == 22 else None,  # noqa: PLR2004 - the port of SSH
            }
            for one in pod.open_ports
        ],
    }


def _socket(provider: str | None, model: str | None, facts: Mapping[str, Any]) -> str | None:
    """Elsewhere than at Prime Intellect the model tells; there nothing is rented on another one than was asked for."""
    if provider == PRIME:
        socket: str | None = facts.get("socket")
        return socket
    known = sockets_of(model) if model else ()
    return known[0] if len(known) == 1 else None


def _number(amount: Decimal | None) -> float | None:
    return float(amount) if amount is not None else None


def _text(value: object) -> str | None:
    return str(value) if value is not None else None


def moment(at: datetime | None) -> str | None:
    """RFC 3339 with milliseconds, UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z" if at is not None else None
