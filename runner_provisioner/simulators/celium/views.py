"""Executors, pods, templates and events as Lium's answers show them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from runner_provisioner.simulators.celium.account import USER, Account, Template
from runner_provisioner.simulators.celium.catalog import Executor
from runner_provisioner.simulators.celium.fleet import SCHEDULED
from runner_provisioner.simulators.celium.pods import CeliumPod
from runner_provisioner.simulators.celium.settings import Settings
from runner_provisioner.simulators.market.pods import EXITED, RUNNING, PodEvent

Row = dict[str, Any]
Address = Callable[[str, int], "tuple[str, int] | None"]
_SSH = 22
_KIB_PER_GB = 1024 * 1024
_PHASES = ("queued", "preparing node", "connecting to node", "pulling image", "creating volume", "starting container")
_LAST_PHASE = "configuring ssh"
# Event of the simulator -> the `reason` on the wire. The service's own words for a reclaim are not known.
_REASONS = (
    ("interrupted", "provider_reclaimed"),
    (f"terminated by {SCHEDULED}", "scheduled_removal"),
    ("terminated by User", "user_request"),
    ("terminated by Lium: balance", "insufficient_balance"),
    ("terminated by", "platform"),
)


def written_time(at: datetime | None) -> str | None:
    """ISO 8601 in UTC without an offset, as in the documentation."""
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%S.%f}"


class Views:
    """Draws answers from the state; changes nothing."""

    def __init__(self, settings: Settings, account: Account, now: Callable[[], datetime], address: Address) -> None:
        """`address` tells where a port of a pod's container answers."""
        self._settings = settings
        self._account = account
        self._now = now
        self._address = address

    def status(self, pod: CeliumPod) -> str:
        """What the service says of it now."""
        if pod.forced:
            return pod.forced
        if pod.status != RUNNING:
            return "STOPPED" if pod.status == EXITED else "DELETED"
        if pod.deleting_since is not None:
            return "DELETING"
        if pod.failure:
            return "CREATION_FAILED"
        if pod.running_since is None and pod.exited_at is None:
            return "REBOOT_PENDING" if pod.rebooting else "PENDING"
        return "RUNNING" if not pod.rebooting else "REBOOT_PENDING"

    def _share(self, pod: CeliumPod) -> float:
        """How much of its booting is done, below 1."""
        progress = self._settings.progress
        if pod.booted:
            return 1.0
        if pod.image in self._settings.unpullable:
            return 0.5  # pulling, for ever
        shares = [0.0 if pod.looks == 0 else 0.99]
        if progress.polls:
            shares.append(max(0, pod.looks - 1) / progress.polls)
        if progress.seconds:
            shares.append((self._now() - pod.last_started_at).total_seconds() / progress.seconds)
        return min(shares)

    def _starting(self, pod: CeliumPod) -> Row:
        share = self._share(pod)
        phase = _LAST_PHASE if share >= 1 else _PHASES[int(share * len(_PHASES))]
        left = math.ceil(round((1 - share) * self._settings.progress.seconds, 3))
        return {"phase": phase, "estimated_ready_seconds": max(0, left), "eta_basis": "executor_history"}

    def _ssh(self, pod: CeliumPod, status: str) -> str | None:
        since = pod.running_since
        if status != "RUNNING" or since is None:
            return None
        if (self._now() - since).total_seconds() < self._settings.ssh_seconds:
            return None
        found = self._address(pod.id, _SSH)
        return f"ssh root@{found[0]} -p {found[1]}" if found else None

    def _ports(self, pod: CeliumPod) -> dict[str, int]:
        places = {port: self._address(pod.id, port) for port in pod.template.internal_ports}
        return {str(port): place[1] for port, place in places.items() if place is not None}

    def pod(self, pod: CeliumPod) -> Row:
        """Every field of a pod; `price` is for the whole pod."""
        status = self.status(pod)
        key = self._account.keys.get(pod.rented_with)
        waiting = status in ("PENDING", "REBOOT_PENDING")
        idle = {"phase": None, "estimated_ready_seconds": None, "eta_basis": None}
        return {
            "id": pod.id,
            "pod_name": pod.name,
            "status": status,
            "ssh_connect_cmd": self._ssh(pod, status),
            "ports_mapping": self._ports(pod) if status == "RUNNING" else {},
            "created_at": written_time(pod.created_at),
            "updated_at": written_time(pod.events[-1].at if pod.events else pod.created_at),
            "executor": executor_row(pod.machine),
            "executor_id": pod.machine.id,
            "executor_ip_address": pod.machine.ip,
            "template": template_row(pod.template),
            "gpu_name": pod.machine.machine_name,
            "gpu_count": pod.gpu_count,
            "price": float(pod.price),
            "cpu_name": pod.machine.cpu_name,
            "ram_total": pod.machine.ram_gb * _KIB_PER_GB,
            "removal_scheduled_at": written_time(pod.terminate_after),
            **(self._starting(pod) if waiting else idle),
            "workspace_id": None,
            "cluster_id": None,
            "cluster_node_index": None,
            "cluster_overlay_ip": None,
            "api_key_id": key.id if key else None,
            "api_key_name": key.name if key else None,
            "local_volume_path": next(iter(pod.template.volumes), None),
            "enable_volume_encryption": False,
            "volume_encryption_status": None,
            "jupyter_installation_status": None,
            "jupyter_url": None,
        }

    def record(self, pod: CeliumPod) -> Row:
        """What is kept of a pod that may be gone."""
        cost = pod.meter.cost(self._now())
        return {
            "pod_id": pod.id,
            "pod_name": pod.name,
            "executor_id": pod.machine.id,
            "gpu_name": pod.machine.machine_name,
            "gpu_count": pod.gpu_count,
            "price_per_hour": float(pod.price),
            "created_at": written_time(pod.created_at),
            "ended_at": written_time(pod.ended_at),
            "billed_seconds": pod.meter.seconds(self._now()),
            "total_usd": float(cost),
        }


def executor_row(executor: Executor) -> Row:
    """An executor."""
    gpu = {"name": executor.machine_name, "capacity": executor.gpu_memory * 1024}
    return {
        "id": executor.id,
        "machine_name": executor.machine_name,
        "executor_ip_address": executor.ip,
        "price_per_gpu": float(executor.price),
        "gpu_count": executor.gpus,
        "available_gpu_count": executor.free,
        "min_gpu_count_for_rental": executor.least,
        "location": {
            "country": executor.country,
            "country_code": executor.country,
            "region": executor.region,
            "lat": executor.latitude,
            "lon": executor.longitude,
        },
        "specs": {
            "gpu": {"count": executor.gpus, "driver": executor.driver, "details": [gpu] * executor.gpus},
            "cpu": {"count": executor.cpus, "model": executor.cpu_name},
            "ram": {"total": executor.ram_gb * _KIB_PER_GB, "free": executor.ram_gb * _KIB_PER_GB},
            "hard_disk": {"total": executor.disk_gb * _KIB_PER_GB, "free": executor.disk_gb * _KIB_PER_GB},
            "sysbox_runtime": executor.sysbox,
            "available_port_count": executor.ports,
            "network": {"upload_speed": executor.upload_mbps, "download_speed": executor.download_mbps},
        },
        "status": "available" if executor.free else "rented",
        "effective_upload_speed_mbps": executor.upload_mbps,
        "effective_download_speed_mbps": executor.download_mbps,
        "max_cuda_version": executor.max_cuda,
        "tier": executor.tier,
        "nvlink": executor.nvlink,
        "interconnect": None,
        "gpu_power_limited": False,
        "frequent_rent_failures": not executor.reliable,
        "last_verified_at": None,
        "reliability_score": 97.0 if executor.reliable else 61.0,
        "available_port_count": executor.ports,
    }


def template_row(template: Template) -> Row:
    """A template."""
    return {
        "id": template.id,
        "name": template.name,
        "docker_image": template.docker_image,
        "docker_image_tag": template.docker_image_tag,
        "docker_image_digest": template.docker_image_digest,
        "category": template.category,
        "internal_ports": list(template.internal_ports),
        "startup_commands": template.startup_commands,
        "entrypoint": template.entrypoint,
        "environment": dict(template.environment),
        "is_private": template.is_private,
        "one_time_template": template.one_time,
        "is_temporary": False,
        "container_start_immediately": True,
        "description": template.description,
        "readme": template.readme,
        "volumes": list(template.volumes),
        "status": template.status,
        "user_id": USER if template.own else None,
        "supports_volume_encryption": False,
        "created_at": written_time(template.created_at),
    }


def event_row(pod: CeliumPod, event: PodEvent) -> Row:
    """Something that happened to a pod: failures have an `error`, ends a `reason`."""
    reason = next((word for what, word in _REASONS if event.what.startswith(what)), None)
    failed = event.what.startswith("error creating container")
    detail = event.what.partition(": ")[2] if reason else None
    return {
        "pod_id": pod.id,
        "pod_name": pod.name,
        "event": "pod_removed" if reason else "creation_failed" if failed else event.what,
        "created_at": written_time(event.at),
        "error": event.what.partition(": ")[2] if failed else None,
        "reason": reason,
        "detail": detail or None,
        "actor": None,
    }
