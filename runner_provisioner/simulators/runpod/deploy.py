"""From the input of a creation to a pod."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from runner_provisioner.simulators.market.hosts import real_gpus
from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.account import Keys, Shelf
from runner_provisioner.simulators.runpod.catalog import GpuModel
from runner_provisioner.simulators.runpod.command import base_environment, tcp_ports, with_secrets
from runner_provisioner.simulators.runpod.market import Market, Placement, Wish
from runner_provisioner.simulators.runpod.pods import INTERRUPTABLE, RESERVED, SimPod
from runner_provisioner.simulators.runpod.settings import Settings
from runner_provisioner.simulators.runpod.texts import HttpRefused, Refused

_MOST_ENV = 50
_FROM_TEMPLATE = ("imageName", "dockerArgs", "ports", "containerDiskInGb", "volumeInGb", "volumeMountPath", "startSsh")
_CLOUDS = {"SECURE": True, "COMMUNITY": False}


def money(value: float | None) -> Decimal | None:
    """A price from the wire, as it was written."""
    return None if value is None else Decimal(str(value))


def moment(value: str | None) -> datetime | None:
    """A time from the wire; HttpRefused (400) when it is none."""
    if not value:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        raise HttpRefused(400, f"DateTime cannot represent an invalid date-time-string {value}.") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def new_pod_id() -> str:
    """As long as RunPod's."""
    return secrets.token_hex(7)


def environment(rows: list[dict[str, str]] | None) -> dict[str, str]:
    """The list of keys and values as a mapping; Refused when there are too many."""
    env = {row["key"]: row["value"] for row in rows or () if row}
    if len(env) > _MOST_ENV:
        raise Refused(texts.TOO_MUCH_ENV)
    return env


def with_template(given: Mapping[str, Any], shelf: Shelf) -> dict[str, Any]:
    """The input with the template's settings where it says nothing; env is merged key by key."""
    merged = dict(given)
    if not given.get("templateId"):
        return merged
    template = shelf.template(given["templateId"])
    for name in _FROM_TEMPLATE:
        if given.get(name) in (None, ""):
            merged[name] = template.get(name)
    env = {**environment(template.get("env")), **environment(given.get("env"))}
    merged["env"] = [{"key": key, "value": value} for key, value in env.items()]
    return merged


def find_place(market: Market, given: Mapping[str, Any], *, spot: bool) -> Placement:
    """Where the pod goes. Raises Refused or HttpRefused with the service's own text."""
    if spot and not market.spot:
        raise Refused(texts.SPOT_GONE)
    ids = [each for each in [given.get("gpuTypeId"), *(given.get("gpuTypeIdList") or ())] if each]
    secure = _CLOUDS.get(given.get("cloudType") or "ALL")
    wish = Wish.read(ids, dict(given), secure=secure)
    bid = (money(given.get("bidPerGpu")) or Decimal(0)) if spot else None
    return market.place(wish, bid=bid, ceiling=money(given.get("deployCost")) or None)


def build_pod(given: Mapping[str, Any], place: Placement, *, spot: bool, now: datetime, keys: Keys) -> SimPod:
    """The pod that this input and this place make."""
    pod_id = new_pod_id()
    machine = place.machine
    return SimPod(
        id=pod_id,
        name=given.get("name") or pod_id,
        image=given.get("imageName") or "",
        docker_args=given.get("dockerArgs") or "",
        env=environment(given.get("env")),
        ports=given.get("ports") or "",
        gpu_type_id=place.model.id,
        gpu_count=given.get("gpuCount") or 1,
        machine=machine,
        price_per_gpu=place.price,
        pod_type=INTERRUPTABLE if spot else RESERVED,
        container_disk=given.get("containerDiskInGb") or 0,
        volume=given.get("volumeInGb") or 0,
        volume_mount=given.get("volumeMountPath") or None,
        network_volume_id=given.get("networkVolumeId") or None,
        public_ip=machine.secure or bool(given.get("supportPublicIp")),
        start_ssh=bool(given.get("startSsh")),
        template_id=given.get("templateId") or None,
        registry_auth_id=given.get("containerRegistryAuthId") or None,
        given=dict(given),
        key=keys.for_pod(pod_id),
        created_at=now,
        last_started_at=now,
        terminate_after=moment(given.get("terminateAfter")),
        stop_after=moment(given.get("stopAfter")),
    )


def pod_environment(pod: SimPod, settings: Settings) -> dict[str, str]:
    """Everything the pod's container starts with; what the user gave wins over the account's keys only."""
    env = base_environment(cuda=pod.machine.cuda)
    if pod.start_ssh and settings.public_keys:
        env["PUBLIC_KEY"] = settings.public_keys
    env |= {name: with_secrets(value, settings.secrets) for name, value in pod.env.items()}
    env |= {
        "RUNPOD_POD_ID": pod.id,
        "RUNPOD_API_KEY": pod.key,
        "RUNPOD_POD_HOSTNAME": f"{pod.id}-{pod.machine.id}",
        "RUNPOD_DC_ID": pod.machine.data_center_id,
        "RUNPOD_GPU_COUNT": str(pod.gpu_count),
        "RUNPOD_CPU_COUNT": str(pod.machine.vcpus_per_gpu * max(1, pod.gpu_count)),
        "RUNPOD_PUBLIC_IP": "127.0.0.1",
        "RUNPOD_VOLUME_ID": pod.network_volume_id or pod.id,
    }
    for port in tcp_ports(pod.ports):
        public = pod.ssh_port if port == 22 else port  # noqa: PLR2004 - the port of SSH
        if public is not None:
            env[f"RUNPOD_TCP_PORT_{port}"] = str(public)
    return env


def gpus_of(pod: SimPod, model: GpuModel | None) -> dict[str, Any]:
    """What the pod's machine really has, as fields of a Launch."""
    memory = (model.memory_in_gb if model else 16) * 1024
    return real_gpus(pod.machine, gpu=pod.gpu_type_id or "", count=pod.gpu_count, memory=memory)
