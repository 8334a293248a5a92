"""Offers, pods and history as Prime Intellect's answers show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.market.pods import EXITED, RUNNING
from runner_provisioner.simulators.prime.account import USER, WALLET, Disk
from runner_provisioner.simulators.prime.catalog import Amount, Offer
from runner_provisioner.simulators.prime.pods import PrimePod
from runner_provisioner.simulators.prime.settings import Settings

Row = dict[str, Any]
Address = Callable[[str, int], "tuple[str, int] | None"]
_SSH = 22
_HALF = 0.5
_DONE = 100


def written_time(at: datetime | None) -> str | None:
    """RFC 3339 with milliseconds."""
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How far a pod is: its status and that of its installation."""

    status: str
    installation: str
    progress: int
    failure: str | None = None


class Views:
    """Draws answers from the state; changes nothing."""

    def __init__(self, settings: Settings, now: Callable[[], datetime], address: Address) -> None:
        """`address` tells where a port of a pod's container answers."""
        self._settings = settings
        self._now = now
        self._address = address

    # -- pods

    def stage(self, pod: PrimePod) -> Stage:
        """What the service says of it now."""
        found = self._stage(pod)
        if pod.forced:
            return Stage(status=pod.forced, installation=found.installation, progress=found.progress)
        return found

    def _stage(self, pod: PrimePod) -> Stage:
        done = self._settings.finished_word
        if pod.status != RUNNING:
            return Stage(status="STOPPED" if pod.status == EXITED else "TERMINATED", installation=done, progress=_DONE)
        if pod.deleting_since is not None:
            return Stage(status="DELETING", installation=done, progress=_DONE)
        if pod.failure:
            return Stage(status="ACTIVE", installation="FAILED", progress=_DONE // 2, failure=pod.failure)
        if pod.running_since is not None or pod.exited_at is not None:
            return Stage(status="ACTIVE", installation=done, progress=_DONE)
        share = self._share(pod)
        if share < _HALF:
            return Stage(status="PROVISIONING", installation="PENDING", progress=0)
        progress = min(_DONE - 1, int((share - _HALF) / _HALF * _DONE))
        return Stage(status="ACTIVE", installation="IN_PROGRESS", progress=progress)

    def _share(self, pod: PrimePod) -> float:
        """How much of its booting is done, below 1."""
        progress = self._settings.progress
        if pod.image in self._settings.unpullable:
            return 0.0
        if pod.booted:
            return 0.99
        shares = [0.0 if pod.looks == 0 else 0.99]
        if progress.polls:
            shares.append(max(0, pod.looks - 1) / progress.polls)
        if progress.seconds:
            shares.append((self._now() - pod.last_started_at).total_seconds() / progress.seconds)
        return min(shares)

    def _ssh(self, pod: PrimePod) -> tuple[str, int] | None:
        up = pod.status == RUNNING and pod.running_since is not None
        return self._address(pod.id, _SSH) if up else None

    def _maybe_list(self, value: str | None) -> object:
        return [value] if self._settings.connections_as_lists else value

    def _connection(self, pod: PrimePod) -> Row:
        ssh = self._ssh(pod)
        ports = None
        if ssh is not None:
            ports = [
                {
                    "internal": str(_SSH),
                    "external": str(ssh[1]),
                    "protocol": "TCP",
                    "usedBy": "SSH",
                    "description": None,
                }
            ]
        return {
            "ip": self._maybe_list(ssh[0] if ssh else None),
            "sshConnection": self._maybe_list(f"root@{ssh[0]} -p {ssh[1]}" if ssh else None),
            "primePortMapping": ports,
        }

    def _installation(self, pod: PrimePod) -> Row:
        stage = self.stage(pod)
        if not self._settings.installation_shown:
            return {"installationFailure": stage.failure, "installationProgress": None}
        return {"installationFailure": stage.failure, "installationProgress": stage.progress}

    def pod(self, pod: PrimePod) -> Row:
        """Every field of a pod."""
        stage = self.stage(pod)
        return {
            "id": pod.id,
            "userId": USER,
            "teamId": pod.team_id,
            "walletId": WALLET,
            "name": pod.name,
            "type": "HOSTED",
            "providerType": pod.machine.provider,
            "status": stage.status,
            "installationStatus": stage.installation if self._settings.installation_shown else None,
            **self._installation(pod),
            "createdAt": written_time(pod.created_at),
            "updatedAt": written_time(pod.events[-1].at if pod.events else pod.created_at),
            "terminatedAt": written_time(pod.ended_at),
            "gpuName": pod.machine.gpu_type,
            "gpuCount": pod.gpu_count,
            "socket": pod.machine.socket,
            "priceHr": float(pod.price_hr),
            "stoppedPriceHr": float(pod.stopped_price_hr),
            "provisioningPriceHr": float(pod.price_hr),
            "basePriceHr": float(pod.price_hr),
            "baseCurrency": "USD",
            **self._connection(pod),
            "environmentType": pod.environment,
            "customTemplateId": pod.template_id,
            "clusterId": None,
            "resources": {"memory": str(pod.memory), "disk": str(pod.disk_size), "vcpus": str(pod.vcpus)},
            "attachedResources": [
                {"id": disk, "type": "DISK", "status": "ACTIVE", "size": None, "mountPath": "/mnt/disk"}
                for disk in pod.disks
            ],
            "jupyterPassword": pod.given.get("jupyterPassword"),
            "isSpot": pod.spot,
            "autoRestart": pod.auto_restart,
            "finalizerStatus": None,
        }

    def status(self, pod: PrimePod) -> Row:
        """The short form; the price stands under the name of the clients and under that of the documentation."""
        return {
            "podId": pod.id,
            "providerType": pod.machine.provider,
            "status": self.stage(pod).status,
            "priceHr": float(pod.price_hr),
            "costPerHr": float(pod.price_hr),
            **self._connection(pod),
            **self._installation(pod),
        }

    def past(self, pod: PrimePod, billed: Decimal) -> Row:
        """A pod of the history."""
        return {
            "id": pod.id,
            "name": pod.name,
            "providerType": pod.machine.provider,
            "provisionedBy": USER,
            "type": "HOSTED",
            "createdAt": written_time(pod.created_at),
            "terminatedAt": written_time(pod.ended_at),
            "gpuName": pod.machine.gpu_type,
            "gpuCount": pod.gpu_count,
            "socket": pod.machine.socket,
            "priceHr": float(pod.price_hr),
            "userId": USER,
            "teamId": pod.team_id,
            "totalBilledPrice": float(billed),
        }


def offer_row(offer: Offer) -> Row:
    """An offer; prices are for all its GPUs."""
    price = float(offer.price)
    return {
        "cloudId": offer.cloud_id,
        "gpuType": offer.gpu_type,
        "socket": offer.socket,
        "provider": offer.provider,
        "region": offer.region,
        "dataCenter": offer.data_center,
        "country": offer.country,
        "gpuCount": offer.gpu_count,
        "gpuMemory": offer.gpu_memory,
        "disk": _amount(offer.disk),
        "vcpu": _amount(offer.vcpu),
        "memory": _amount(offer.memory),
        "internetSpeed": None,
        "interconnect": None,
        "interconnectType": None,
        "provisioningTime": 5,
        "stockStatus": offer.stock,
        "security": offer.security,
        "prices": {
            "onDemand": None if offer.community else price,
            "communityPrice": price if offer.community else None,
            "isVariable": False,
            "currency": "USD",
        },
        "images": list(offer.images),
        "isSpot": offer.spot,
        "prepaidTime": None,
    }


def _amount(amount: Amount) -> Row:
    return {
        "minCount": amount.least,
        "defaultCount": amount.included,
        "maxCount": amount.most,
        "pricePerUnit": float(amount.price),
        "step": amount.step,
        "defaultIncludedInPrice": True,
        "additionalInfo": None,
    }


def disk_offer_row(offer: Offer) -> Row:
    """Where a disk of one's own can be had."""
    return {
        "cloudId": offer.cloud_id,
        "provider": offer.provider,
        "dataCenter": offer.data_center,
        "country": offer.country,
        "region": offer.region,
        "spec": _amount(offer.disk),
        "stockStatus": "Available",
        "security": offer.security,
        "isMultinode": False,
    }


def disk_row(disk: Disk) -> Row:
    """A disk of one's own."""
    at = written_time(disk.created_at)
    return {
        "id": disk.id,
        "name": disk.name,
        "createdAt": at,
        "updatedAt": at,
        "terminatedAt": None,
        "status": "ACTIVE",
        "providerType": disk.provider,
        "size": disk.size,
        "info": {
            "country": disk.country,
            "dataCenterId": disk.data_center,
            "cloudId": disk.cloud_id,
            "isMultinode": False,
        },
        "priceHr": 0.0,
        "stoppedPriceHr": 0.0,
        "provisioningPriceHr": 0.0,
        "userId": USER,
        "teamId": disk.team_id,
        "walletId": WALLET,
        "pods": list(disk.pods),
        "clusters": [],
    }
