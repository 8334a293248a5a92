"""The pods of REST v2: create, list, read, change, act upon, end."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from runner_provisioner.simulators.runpod import rest_schemas as schemas
from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.fleet import Fleet
from runner_provisioner.simulators.runpod.pods import SimPod
from runner_provisioner.simulators.runpod.resolvers import Context, Resolvers
from runner_provisioner.simulators.runpod.rest_call import Problem, RestCall, RestReply, checked
from runner_provisioner.simulators.runpod.rest_rows import RestRows
from runner_provisioner.simulators.runpod.texts import HttpRefused, Refused

Row = dict[str, Any]
_NO_ACTION = "action {} is not valid for a pod that is {}"
_PAYMENT = frozenset({texts.LOW_BALANCE, texts.SPEND_LIMIT})


class RestPods:
    """Answers under the simulator's lock; refusals are Problems."""

    def __init__(self, fleet: Fleet, resolvers: Resolvers, rows: RestRows) -> None:
        self._fleet = fleet
        self._resolvers = resolvers
        self._rows = rows

    def create(self, call: RestCall) -> RestReply:
        """Rent; 400 in GraphQL's words when nothing fits."""
        call.caller.need_write()
        body = checked(call.body, schemas.create_pod(command=self._fleet.settings.rest_command))
        _check_rules(body)
        if "count" not in body["gpu"]:
            # The document says that it is 1 then; machines say that none matches (mcp-4.0.0, changelog 3.3.0).
            raise Problem(400, texts.NO_STOCK)
        try:
            made = self._resolvers.deploy(Context(call.caller), _as_graphql(body), spot=False)
        except Refused as error:
            raise Problem(_status(str(error)), str(error)) from error
        pod = self._fleet.pods[made["id"]]
        pod.public_ip = pod.machine.public_ip
        if self._fleet.settings.rest_price_factor != 1:
            pod.price_per_gpu *= self._fleet.settings.rest_price_factor
            pod.meter.switch(pod.rates(), pod.created_at)
        return RestReply(201, {**self._rows.pod(pod), "runtime": {}})

    def list(self, call: RestCall) -> RestReply:
        """Every pod of the account; there are no clusters."""
        call.caller.need_account()
        pods = self._fleet.listed()
        for pod in pods:
            self._fleet.look(pod)
        return RestReply(200, {"pods": [self._rows.pod(pod) for pod in pods]})

    def get(self, call: RestCall) -> RestReply:
        """One pod; `null` for a while after its end, when that is set."""
        call.caller.need_read(call.parts[0])
        ended = self._fleet.pods.get(call.parts[0])
        if ended is not None and ended.ended_at is not None:
            null = timedelta(seconds=self._fleet.settings.rest_null)
            if self._fleet.now() < ended.ended_at + null:
                return RestReply(200, None)
        pod = self._find(call)
        self._fleet.look(pod)
        return RestReply(200, self._rows.pod(pod))

    def update(self, call: RestCall) -> RestReply:
        """Change what its container is made from."""
        call.caller.need_write(call.parts[0])
        pod = self._find(call)
        body = checked(call.body, schemas.UPDATE_POD)
        pod.name = body.get("name", pod.name)
        self._resolvers.edit(Context(call.caller), {"podId": pod.id, **_as_graphql({**body, "gpu": {}}, partial=True)})
        return RestReply(200, self._rows.pod(pod))

    def delete(self, call: RestCall) -> RestReply:
        """End it for good."""
        call.caller.need_write(call.parts[0])
        if self._resolvers.end(call.parts[0], call.caller, ignored=call.ignored) is None:
            raise Problem(404, texts.NOT_FOUND)
        return RestReply(204)

    def act(self, call: RestCall) -> RestReply:
        """Start, stop, restart or terminate it, where its status allows that."""
        call.caller.need_write(call.parts[0])
        action = checked(call.body, schemas.ACTION)["action"]
        pod = self._find(call)
        row = self._rows.pod(pod)
        if action not in row["actions"]:
            raise Problem(409, _NO_ACTION.format(action, row["status"]))
        if action == "terminate":
            return self.delete(call)
        self._do(action, pod)
        return RestReply(200, self._rows.pod(pod))

    def _do(self, action: str, pod: SimPod) -> None:
        now = self._fleet.now()
        try:
            if action == "start":
                self._fleet.resume(pod, now)
            elif action == "stop":
                self._fleet.stop(pod, now)
            else:
                self._fleet.edit(pod, now)
        except Refused as error:
            raise Problem(_status(str(error)), str(error)) from error

    def _find(self, call: RestCall) -> SimPod:
        pod = self._fleet.find(call.parts[0])
        if pod is None:
            raise Problem(404, texts.NOT_FOUND)
        return pod


def _status(text: str) -> int:
    if text in _PAYMENT:
        return 402
    return 404 if text == "template not found" else 400


def _check_rules(body: Row) -> None:
    """What the schema cannot say."""
    if ("gpu" in body) == ("cpu" in body):
        raise Problem(400, "exactly one of gpu or cpu must be set")
    if "cpu" in body:
        raise HttpRefused(501, "CPU pods are not simulated over REST v2")
    if "image" not in body and "templateId" not in body:
        raise Problem(422, "Request validation failed.", ["$: missing property 'image'"])
    gpu, mounts = body["gpu"], body.get("mounts", {})
    if gpu.get("allowedCudaVersions") and "minCudaVersion" in gpu:
        raise Problem(400, "allowedCudaVersions and minCudaVersion are mutually exclusive")
    if "persistent" in mounts and "network" in mounts:
        raise Problem(400, "persistent and network mounts are mutually exclusive")


def _as_graphql(body: Row, *, partial: bool = False) -> Row:
    """The same in the input of the GraphQL mutations, which the market reads."""
    gpu, mounts = body["gpu"], body.get("mounts", {})
    count = gpu.get("count", 1)
    network: Row = next(iter(mounts.get("network", [])), {})
    persistent = mounts.get("persistent", {})
    env = body.get("env")
    given: Row = {
        "name": body.get("name"),
        "imageName": body.get("image"),
        "dockerArgs": _docker_args(body),
        "env": None if env is None else [{"key": name, "value": value} for name, value in env.items()],
        "ports": ",".join(body["ports"]) if "ports" in body else None,
        "containerDiskInGb": body.get("disk"),
        "volumeInGb": persistent.get("size"),
        "volumeMountPath": persistent.get("path") or network.get("path"),
        "containerRegistryAuthId": body.get("registry"),
    }
    if partial:
        return given
    return given | {
        "networkVolumeId": network.get("volumeId"),
        "cloudType": body.get("cloud", "SECURE"),
        "gpuTypeId": gpu["id"],
        "gpuCount": count,
        "dataCenterId": ",".join(body.get("dataCenterIds", [])),
        "minVcpuCount": gpu.get("minVcpuCountPerGpu", 0) * count,
        "minMemoryInGb": gpu.get("minRamPerGpu", 0) * count,
        "minCudaVersion": gpu.get("minCudaVersion"),
        "allowedCudaVersions": gpu.get("allowedCudaVersions"),
        "startSsh": body.get("startSsh", False),
        "templateId": body.get("templateId"),
    }


def _docker_args(body: Row) -> str | None:
    command = {name: body[name] for name in ("entrypoint", "cmd") if name in body}
    return json.dumps(command) if command else body.get("args")
