"""What markets and rules refuse is told in the words of each contract, over real adapters and simulators."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.http_service import Scene, play
from support.stages import Provider

CLOUD: dict[str, Any] = {"name": "mine", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}
POD: dict[str, Any] = {"name": "mine", "gpuType": "A4000_16GB"}
REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "cloud, too dear": ("/api/cloud/pods", {**CLOUD, "max_price": "0.01"}, 402, "raise max_price"),
    "cloud, too big": ("/api/cloud/pods", {**CLOUD, "gpu_count": 60}, 409, "gpu_count 60"),
    "cloud, unknown model": ("/api/cloud/pods", {**CLOUD, "gpu_type_id": "ABACUS"}, 422, "ABACUS"),
    "pods, too dear": ("/api/v1/pods", {"pod": {**POD, "maxPrice": "0.01"}}, 402, "raise pod.maxPrice"),
    "pods, elsewhere": ("/api/v1/pods", {"pod": {**POD, "country": "AQ"}}, 409, "loosen pod.country AQ, take"),
    "pods, no such data centre": (
        "/api/v1/pods",
        {"pod": {**POD, "dataCenterId": "AQ-1"}},
        409,
        "loosen pod.dataCenterId AQ-1, take",
    ),
    "pods, no such offer": ("/api/v1/pods", {"pod": {**POD, "cloudId": "nope"}}, 409, "loosen pod.cloudId nope, take"),
    "pods, no such offer of any GPU": (
        "/api/v1/pods",
        {"pod": {"name": "mine", "cloudId": "nope"}},
        409,
        "no on-demand offer for 1 x any GPU right now: loosen pod.cloudId nope, or try again later",
    ),
    "pods, too many CPUs": ("/api/v1/pods", {"pod": {**POD, "vcpus": 4000}}, 409, "right now: loosen pod.vcpus 4000,"),
    "pods, too much memory": ("/api/v1/pods", {"pod": {**POD, "memory": 90000}}, 409, "loosen pod.memory 90000, take"),
    "pods, too much disk": ("/api/v1/pods", {"pod": {**POD, "diskSize": 90000}}, 409, "loosen pod.diskSize, take"),
    "pods, no such upstream": (
        "/api/v1/pods",
        {"pod": POD, "provider": {"type": "hyperstak"}},
        409,
        "loosen provider.type hyperstak, take",
    ),
    "pods, no such socket upstream": (
        "/api/v1/pods",
        {"pod": {**POD, "socket": "SXM5"}, "provider": {"type": "prime"}},
        409,
        "loosen pod.socket SXM5, take",
    ),
    "cloud, too many CPUs": (
        "/api/cloud/pods",
        {**CLOUD, "min_vcpu_count": 1000},
        409,
        "right now: loosen min_vcpu_count 1000, take",
    ),
    "pods, no such socket": ("/api/v1/pods", {"pod": {**POD, "socket": "SXM9"}}, 422, '["body","pod","socket"]'),
    "pods, no such generation": (
        "/api/v1/pods",
        {"pod": {**POD, "gpuType": "H100_80GB", "socket": "SXM9"}},
        422,
        "no H100_80GB is on a socket 'SXM9'",
    ),
    "pods, another model's generation": (
        "/api/v1/pods",
        {"pod": {**POD, "gpuType": "H100", "socket": "SXM4"}},
        422,
        '["body","pod","socket"]',
    ),
    "pods, no kill time": ("/api/v1/pods", {"pod": POD}, 409, "give provider.type prime"),
}


@pytest.mark.parametrize(("path", "body", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_of_the_markets_names_the_callers_field(
    tmp_path: Path, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    """And no option of a command that the caller has not called."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            answer = await client.ask("POST", path, json=body)
            assert answer.status_code == status, answer.text
            assert words in answer.text
            assert not re.search(r"(?<![\w-])--[a-z]", answer.text), answer.text
        assert not scene.pods()

    play(tmp_path, act, Provider.PRIME if "provider" in words or "provider" in body else Provider.RUNPOD)
