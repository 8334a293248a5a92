"""The two calls of REST v2 that a pod and its keeper need: read a pod, end a pod."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.account import Caller
from runner_provisioner.simulators.runpod.fleet import Fleet
from runner_provisioner.simulators.runpod.pods import EXITED, RUNNING, SimPod
from runner_provisioner.simulators.runpod.resolvers import Resolvers
from runner_provisioner.simulators.runpod.texts import HttpRefused
from runner_provisioner.simulators.runpod.views import Views

Row = dict[str, Any]
PROBLEM = {"content-type": "application/problem+json"}
_PODS = "/v2/pods/"


@dataclass(frozen=True)
class RestReply:
    """An answer: HTTP status and JSON body, None = empty."""

    status: int
    body: Row | None = None


def problem(status: int, detail: str) -> RestReply:
    """An error of REST v2."""
    return RestReply(status, {"title": HTTPStatus(status).phrase, "status": status, "detail": detail})


def operation(method: str, path: str) -> str | None:
    """The name of the call, `rest.get` or `rest.delete`; None when there is no such call."""
    named = path.startswith(_PODS) and path.removeprefix(_PODS).strip("/").count("/") == 0
    return {"GET": "rest.get", "DELETE": "rest.delete"}.get(method) if named else None


class Rest:
    """Answers under the simulator's lock."""

    def __init__(self, fleet: Fleet, resolvers: Resolvers, views: Views) -> None:
        self._fleet = fleet
        self._resolvers = resolvers
        self._views = views

    def answer(self, name: str, path: str, caller: Caller, *, ignored: bool) -> RestReply:
        """Do the call; refusals are problem documents."""
        pod_id = path.removeprefix(_PODS).strip("/")
        try:
            if name == "rest.get":
                caller.need_read(pod_id)
                return self._get(pod_id)
            caller.need_write(pod_id)
        except HttpRefused as error:
            return problem(error.status, "missing bearer token" if caller.anonymous else error.message)
        ended = self._resolvers.end(pod_id, caller, ignored=ignored)
        return RestReply(204) if ended else problem(404, texts.NOT_FOUND)

    def _get(self, pod_id: str) -> RestReply:
        pod = self._fleet.find(pod_id)
        if pod is None:
            return problem(404, texts.NOT_FOUND)
        self._fleet.look(pod)
        return RestReply(200, self._pod(pod))

    def _pod(self, pod: SimPod) -> Row:
        seen = self._views.pod(pod)
        return {
            "id": pod.id,
            "name": pod.name,
            "status": _status(pod),
            "actions": ["start", "terminate"] if pod.status == EXITED else ["stop", "restart", "terminate"],
            "image": pod.image,
            "args": pod.docker_args,
            "disk": pod.container_disk,
            "ports": [f"{number}/{kind}" for number, kind in pod.port_list],
            "env": dict(pod.env),
            "registry": pod.registry_auth_id,
            "mounts": self._mounts(pod),
            "gpu": {
                "id": pod.gpu_type_id,
                "count": pod.gpu_count,
                "memory": seen["memoryInGb"],
                "vcpuCount": seen["vcpuCount"],
            },
            "cpu": None,
            "cloud": "SECURE" if pod.machine.secure else "COMMUNITY",
            "dataCenterId": pod.machine.data_center_id,
            "cudaVersion": pod.machine.cuda,
            "ssh": {"proxy": None, "direct": self._direct(pod)},
            "cluster": None,
            "template": None,
            "cost": seen["costPerHr"],
            "locked": False,
            "runtime": self._runtime(pod, seen),
            "createdAt": seen["createdAt"],
            "startedAt": seen["lastStartedAt"] if pod.running_since else None,
        }

    def _mounts(self, pod: SimPod) -> Row:
        if pod.network_volume_id:
            return {"network": [{"volumeId": pod.network_volume_id, "path": pod.volume_mount}]}
        return {"persistent": {"size": pod.volume, "path": pod.volume_mount}} if pod.volume else {}

    def _direct(self, pod: SimPod) -> Row | None:
        for port in self._views.ports(pod) if pod.running_since else ():
            if port["privatePort"] == 22:  # noqa: PLR2004 - the port of SSH
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
        return {"uptime": seen["uptimeSeconds"], "ports": ports, "gpus": gpus, "cpu": 3, "memory": 7}


def _status(pod: SimPod) -> str:
    """v2 tells what is observed, not what is wished."""
    if pod.status != RUNNING:
        return pod.status
    if pod.running_since is not None:
        return "RUNNING"
    return "STARTING" if pod.booted else "PROVISIONING"
