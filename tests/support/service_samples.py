"""What a service keeps, for tests of whatever keeps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from runner_provisioner.domain.api_keys import ApiKey, Permission, PlainKey
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import Contract, IdempotentRequest, RequestRef, ServedPod
from runner_provisioner.testing.clock import EPOCH

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
PLAIN = PlainKey.of(bytes(6), bytes(24))
KEY = ApiKey(
    id=PLAIN.id,
    name="ci",
    permission=Permission.WRITE,
    digest=PLAIN.digest,
    created_at=EPOCH,
    expires_at=EPOCH + DAY,
    budget=Decimal("10.0"),
)
REQUEST = IdempotentRequest(
    ref=RequestRef(KEY.id, "POST /api/cloud/pods", "abc"),
    digest="d1",
    pod_name="rpm-a",
    holder="first",
    held_until=EPOCH + MINUTE,
    begun_at=EPOCH,
)
POD = ServedPod(
    name="rpm-a",
    nonce="n1",
    contract=Contract.PODS,
    key_id=KEY.id,
    label="Träger ☃",
    requested_at=EPOCH,
    expires_at=EPOCH + DAY,
    reserved=Decimal("2.40"),
    image="ubuntu:22.04",
    facts={"socket": "PCIe", "resources": {"vcpus": 16}, "custom": None},
)


def rented(pod: ServedPod = POD, pod_id: str = "p1") -> ServedPod:
    """The same pod once its provider has answered."""
    return replace(
        pod,
        provider="runpod",
        id=PodId(pod_id),
        price=Decimal("0.1000"),
        gpu_model="NVIDIA A40",
        gpu_count=1,
        interruptible=False,
        created_at=pod.requested_at + timedelta(seconds=3, microseconds=7),
    )
