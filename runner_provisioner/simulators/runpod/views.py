"""Pods, users and GPU types as GraphQL answers show them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.runpod.catalog import Center, GpuModel, Machine
from runner_provisioner.simulators.runpod.market import Market, Wish
from runner_provisioner.simulators.runpod.pods import INTERRUPTABLE, RUNNING, SimPod
from runner_provisioner.simulators.runpod.settings import Settings

Row = dict[str, Any]
Address = Callable[[str, int], "tuple[str, int] | None"]
_PROXY_PORT = 60000


def written_time(at: datetime, *, go: bool) -> str:
    """RFC 3339, or the other form that RunPod is known to answer (containers smoke tests)."""
    if go:
        return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000} +0000 UTC"
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


class Views:
    """Draws answers from the state; changes nothing."""

    def __init__(self, settings: Settings, market: Market, now: Callable[[], datetime], address: Address) -> None:
        """`address` tells where a port of a pod's container answers."""
        self._settings = settings
        self._market = market
        self._now = now
        self._address = address

    def _time(self, at: datetime | None) -> str | None:
        return None if at is None else written_time(at, go=self._settings.go_times)

    # -- pods

    def pod(self, pod: SimPod) -> Row:
        """Every field of a pod; those that are not simulated are null."""
        spot = pod.pod_type == INTERRUPTABLE
        return {
            "id": pod.id,
            "name": pod.name,
            "imageName": pod.image,
            "dockerArgs": pod.docker_args,
            "dockerId": pod.id if pod.running_since else None,
            "templateId": pod.template_id,
            "containerRegistryAuthId": pod.registry_auth_id,
            "desiredStatus": pod.status,
            "lastStatusChange": pod.last_status_change,
            "lastStartedAt": self._time(pod.last_started_at),
            "createdAt": self._time(pod.created_at),
            "podType": pod.pod_type,
            "version": pod.version,
            "locked": False,
            "costPerHr": float(pod.price),
            "adjustedCostPerHr": float(sum(pod.rates().values(), Decimal(0))),
            "costMultiplier": 1.0,
            "lowestBidPriceToResume": float(pod.price_per_gpu) if spot else None,
            "env": [f"{name}={value}" for name, value in pod.env.items()],
            "ports": pod.ports or None,
            "gpuCount": pod.gpu_count,
            "gpus": [{"id": f"{pod.machine.id}-{index}", "podId": pod.id} for index in range(pod.gpu_count)],
            "vcpuCount": float(pod.machine.vcpus_per_gpu * max(1, pod.gpu_count)),
            "memoryInGb": float(pod.machine.memory_per_gpu * max(1, pod.gpu_count)),
            "containerDiskInGb": pod.container_disk,
            "volumeInGb": float(pod.volume),
            "volumeMountPath": pod.volume_mount,
            "volumeEncrypted": False,
            "networkVolumeId": pod.network_volume_id,
            "machineId": pod.machine.id,
            "machineType": None,
            "machine": self._machine(pod.machine, pod),
            "uptimeSeconds": self._uptime(pod),
            "runtime": self._runtime(pod),
            "latestTelemetry": self._telemetry(pod),
        }

    def _uptime(self, pod: SimPod) -> int:
        return 0 if pod.running_since is None else int((self._now() - pod.running_since).total_seconds())

    def _runtime(self, pod: SimPod) -> Row | None:
        if pod.status != RUNNING or pod.running_since is None:
            return None
        return {
            "uptimeInSeconds": self._uptime(pod),
            "container": {"cpuPercent": 3, "memoryPercent": 7},
            "gpus": [
                {"id": f"{pod.machine.id}-{index}", "gpuUtilPercent": 42, "memoryUtilPercent": 17}
                for index in range(pod.gpu_count)
            ],
            "ports": self.ports(pod),
        }

    def ports(self, pod: SimPod) -> list[Row]:
        """`runtime.ports`: tcp ports in public on loopback, http ports behind the proxy."""
        rows: list[Row] = []
        for number, kind in pod.port_list:
            public = self._public(pod, number) if kind == "tcp" else None
            if kind == "http":
                rows.append(_port("100.65.0.1", number, _PROXY_PORT + len(rows), "http", public=False))
            elif public is not None:
                rows.append(_port(public[0], number, public[1], "tcp", public=True))
        return rows

    def _public(self, pod: SimPod, number: int) -> tuple[str, int] | None:
        return self._address(pod.id, number) if pod.public_ip else None

    def _telemetry(self, pod: SimPod) -> Row | None:
        if pod.running_since is None and pod.exited_at is None:
            return None
        running = pod.running_since is not None
        changed = pod.running_since or pod.exited_at or self._now()
        gpus = [
            {
                "id": f"{pod.machine.id}-{index}",
                "percentUtilization": 42.0,
                "temperatureCelcius": 51.0,
                "memoryUtilization": 17.0,
                "powerWatts": 88.0,
            }
            for index in range(pod.gpu_count)
        ]
        return {
            "state": "running" if running else "exited",
            "time": self._time(self._now() if running else pod.exited_at),
            "lastStateTransitionTimestamp": int(changed.timestamp()),
            "cpuUtilization": 3.0,
            "memoryUtilization": 7.0,
            "averageGpuMetrics": gpus[0] if gpus else None,
            "individualGpuMetrics": gpus,
        }

    def _machine(self, machine: Machine, pod: SimPod) -> Row:
        model = self._market.model(machine.gpu_type_id)
        return {
            "id": machine.id,
            "podHostId": f"{pod.id}-{machine.id}",
            "gpuTypeId": machine.gpu_type_id,
            "gpuDisplayName": model.display_name if model else "unknown",
            "gpuType": self.gpu_type(model) if model else None,
            "costPerHr": float(pod.price),
            "currentPricePerGpu": float(pod.price_per_gpu),
            "gpuAvailable": machine.free,
            "minPodGpuCount": 1,
            "location": machine.country,
            "dataCenterId": machine.data_center_id,
            "secureCloud": machine.secure,
            "supportPublicIp": machine.public_ip,
            "runpodIp": "127.0.0.1",
            "listed": True,
            "maxDownloadSpeedMbps": machine.download_mbps,
            "maxUploadSpeedMbps": machine.upload_mbps,
            "vcpuTotal": machine.vcpus_per_gpu * machine.gpus,
            "vcpuReserved": machine.vcpus_per_gpu * machine.taken,
            "memoryTotal": machine.memory_per_gpu * machine.gpus,
            "memoryReserved": machine.memory_per_gpu * machine.taken,
            "machineSystem": {
                "os": "Ubuntu 22.04",
                "cudaVersion": machine.cuda,
                "diskTotal": float(machine.disk_in_gb),
            },
        }

    # -- the market

    def gpu_type(self, model: GpuModel) -> Row:
        """A GPU type; `lowestPrice` is worked out when it is asked for."""
        prices = {secure: model.price(secure=secure) for secure in (True, False)}
        bids = {secure: model.minimum_bid(secure=secure) if self._market.spot else None for secure in (True, False)}

        def lowest_price(_info: object, **arguments: Row | None) -> Row:
            given = dict(arguments.get("input") or {})
            return self._market.lowest_price(model, Wish.read([model.id], given, secure=given.get("secureCloud")))

        return {
            "id": model.id,
            "displayName": model.display_name,
            "manufacturer": model.manufacturer,
            "memoryInGb": model.memory_in_gb,
            "cudaCores": model.cuda_cores,
            "maxGpuCount": model.max_count,
            "maxGpuCountCommunityCloud": model.max_count,
            "maxGpuCountSecureCloud": model.max_count,
            "minPodGpuCount": 1,
            "secureCloud": prices[True] is not None,
            "communityCloud": prices[False] is not None,
            "securePrice": _number(prices[True]) or 0.0,
            "communityPrice": _number(prices[False]) or 0.0,
            "secureSpotPrice": _number(bids[True]),
            "communitySpotPrice": _number(bids[False]),
            "lowestPrice": lowest_price,
        }

    def data_center(self, center: Center) -> Row:
        """A data centre with what is free there."""

        def availability(_info: object, **arguments: Row | None) -> list[Row]:
            given = {**(arguments.get("input") or {}), "dataCenterId": center.id}
            return [self._availability(model, given) for model in self._market.catalog.models]

        return {
            "id": center.id,
            "name": center.name,
            "location": center.location,
            "storageSupport": True,
            "listed": True,
            "globalNetwork": False,
            "compliance": [],
            "gpuAvailability": availability,
        }

    def _availability(self, model: GpuModel, given: dict[str, Any]) -> Row:
        lowest = self._market.lowest_price(model, Wish.read([model.id], given, secure=given.get("secureCloud")))
        status = lowest["stockStatus"]
        return {
            "id": model.id,
            "gpuTypeId": model.id,
            "gpuTypeDisplayName": model.display_name,
            "displayName": model.display_name,
            "available": status is not None,
            "stockStatus": status,
        }


def _port(ip: str, private: int, public_port: int, kind: str, *, public: bool) -> Row:
    return {"ip": ip, "isIpPublic": public, "privatePort": private, "publicPort": public_port, "type": kind}


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
