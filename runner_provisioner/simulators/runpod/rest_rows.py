"""Pods and GPU models as REST v2 shows them."""

from __future__ import annotations

from typing import Any

from runner_provisioner.simulators.runpod.catalog import GpuModel
from runner_provisioner.simulators.runpod.command import override
from runner_provisioner.simulators.runpod.pods import EXITED, RUNNING, SimPod
from runner_provisioner.simulators.runpod.settings import Settings
from runner_provisioner.simulators.runpod.views import Views

Row = dict[str, Any]
_SSH = 22
_ACTIONS = {
    "RUNNING": ["stop", "restart", "terminate"],
    "EXITED": ["start", "terminate"],
    "ERROR": ["start", "terminate"],
    "PROVISIONING": ["stop", "terminate"],
    "STARTING": ["stop", "terminate"],
    "TERMINATED": [],
}


class RestRows:
    """Draws answers from the state; changes nothing."""

    def __init__(self, views: Views, settings: Settings) -> None:
        self._views = views
        self._settings = settings

    def pod(self, pod: SimPod) -> Row:
        """Every field; `cpu` and `cluster` are left out of a GPU pod that stands alone."""
        seen = self._views.pod(pod)
        status = self.status(pod)
        return {
            "id": pod.id,
            "name": pod.name,
            "status": status,
            "actions": _ACTIONS[status],
            "image": pod.image,
            "args": "" if override(pod.docker_args) is not None else pod.docker_args,
            "disk": pod.container_disk,
            "ports": [f"{number}/{kind}" for number, kind in pod.port_list],
            "env": dict(pod.env),
            "registry": pod.registry_auth_id,
            "mounts": _mounts(pod),
            "gpu": {
                "id": pod.gpu_type_id,
                "count": pod.gpu_count,
                "memory": seen["memoryInGb"],
                "vcpuCount": seen["vcpuCount"],
            },
            "cloud": "SECURE" if pod.machine.secure else "COMMUNITY",
            "dataCenterId": pod.machine.data_center_id,
            "cudaVersion": pod.machine.cuda,
            "ssh": {"proxy": self._proxy(pod, seen), "direct": self._direct(pod)},
            "template": None,
            "cost": 0.0 if status == EXITED else seen["costPerHr"],
            "locked": False,
            "globalNetworking": {"enabled": False},
            "runtime": self._runtime(pod, seen),
            "createdAt": seen["createdAt"],
            "startedAt": seen["lastStartedAt"] if pod.running_since else None,
        }

    def status(self, pod: SimPod) -> str:
        """v2 tells what is observed, not what is wished."""
        if pod.status != RUNNING:
            return pod.status
        if pod.running_since is not None:
            return "RUNNING"
        if pod.exited_at is not None and pod.restart_at is None and pod.booted:
            return EXITED  # its command ended, and nobody starts it again
        return "STARTING" if pod.booted else "PROVISIONING"

    def _proxy(self, pod: SimPod, seen: Row) -> Row | None:
        if not pod.booted:
            return None
        user = seen["machine"]["podHostId"]
        return {"host": "ssh.runpod.io", "port": _SSH, "username": user, "command": f"ssh {user}@ssh.runpod.io"}

    def _direct(self, pod: SimPod) -> Row | None:
        for port in self._views.ports(pod) if pod.running_since else ():
            if port["privatePort"] == _SSH:
                host, number = port["ip"], port["publicPort"]
                return {"host": host, "port": number, "username": "root", "command": f"ssh root@{host} -p {number}"}
        return None

    def _runtime(self, pod: SimPod, seen: Row) -> Row | None:
        if seen["runtime"] is None:
            return None
        ports = [
            {
                "private": each["privatePort"],
                "public": each["publicPort"] if each["isIpPublic"] else None,
                "type": each["type"],
                "ip": each["ip"] if each["isIpPublic"] else None,
            }
            for each in self._views.ports(pod)
        ]
        gpus = [{"util": 42, "memoryUtil": 17} for _ in range(pod.gpu_count)]
        return {
            "uptime": seen["uptimeSeconds"],
            "ports": ports,
            "gpus": gpus,
            "cpu": {"util": 3},
            "memory": {"util": 7},
        }


def gpu_row(model: GpuModel) -> Row:
    """A GPU model with its list prices per GPU; 0 where a cloud does not have it."""
    secure, community = model.price(secure=True), model.price(secure=False)
    return {
        "id": model.id,
        "name": model.display_name,
        "pool": None,
        "manufacturer": model.manufacturer.upper(),
        "memory": model.memory_in_gb,
        "secure": secure is not None,
        "community": community is not None,
        "price": {"secure": float(secure or 0), "community": float(community or 0)},
        "maxCount": {
            "secure": model.max_count if secure is not None else 0,
            "community": model.max_count if community is not None else 0,
        },
    }


def _mounts(pod: SimPod) -> Row:
    if pod.network_volume_id:
        return {"network": [{"volumeId": pod.network_volume_id, "path": pod.volume_mount}]}
    return {"persistent": {"size": pod.volume, "path": pod.volume_mount}} if pod.volume else {}
