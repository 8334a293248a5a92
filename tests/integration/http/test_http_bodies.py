"""Every field and example of the three contracts: taken, done, or refused with its field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.http_service import Scene, play
from support.stages import PrimeStage, Provider

from runner_provisioner.simulators.prime.account import Template
from runner_provisioner.simulators.prime.simulator import PrimeSimulator

PODS, CLOUD, MACHINES = "/api/v1/pods", "/api/cloud/pods", "/machines/"
ALL = (Provider.RUNPOD, Provider.LIUM, Provider.PRIME)
TEAM, DISK = "team_id", "disk_id_1"
WHOLE: dict[str, Any] = {
    "pod": {
        "name": "My pod",
        "cloudId": "n3-RTX-4090x1",
        "gpuType": "RTX4090_24GB",
        "socket": "PCIe",
        "gpuCount": 1,
        "image": "ubuntu_22_cuda_12",
        "dataCenterId": "US-TX-1",
        "country": "US",
        "security": "secure_cloud",
        "diskSize": 200,
        "vcpus": 8,
        "memory": 32,
        "maxPrice": 3.00,
        "jupyterPassword": "secret",
        "autoRestart": True,
    },
    "provider": {"type": "hyperstack"},
    "team": {"teamId": TEAM},
}
SMALL = {"pod": {"name": "mine", "gpuType": "A4000_16GB"}}
AT_PRIME = {**SMALL, "provider": {"type": "prime"}}
AT_RUNPOD = {**SMALL, "provider": {"type": "runpod"}}


def _pod(body: dict[str, Any], **more: object) -> dict[str, Any]:
    return {**body, "pod": {**body["pod"], **more}}


def _prime(scene: Scene) -> PrimeSimulator:
    return next(stage.sim for stage in scene.stages if isinstance(stage, PrimeStage))


def test_the_whole_body_is_taken_and_passed_on(tmp_path: Path) -> None:
    """Every field of a pod that Prime Intellect can do, and a team; what comes back is the pod's own."""

    async def act(scene: Scene) -> None:
        sim = _prime(scene)
        sim.account.teams.add(TEAM)
        async with scene.served() as client:
            made = await client.well("POST", PODS, json=WHOLE)
            assert (made["socket"], made["autoRestart"], made["resources"]["disk"]) == ("PCIe", True, "200")

    scene = play(tmp_path, act, *ALL)
    (pod,) = scene.live()
    assert (pod.team_id, pod.machine.cloud_id, pod.auto_restart) == (TEAM, "n3-RTX-4090x1", True)


def test_the_body_of_a_custom_template_is_enough(tmp_path: Path) -> None:
    """As the contract's example has it: two fields, and variables, which its image can read."""

    async def act(scene: Scene) -> None:
        _prime(scene).account.templates["tpl1"] = Template(id="tpl1", image="x/y")
        async with scene.served() as client:
            body = {"pod": {"image": "custom_template", "customTemplateId": "tpl1"}}
            made = await client.well("POST", PODS, json=_pod(body, envVars=[{"key": "FOO", "value": "bar"}]))
            assert (made["environmentType"], made["name"][:4]) == ("custom_template", "rpm-")
            other = await client.ask("POST", PODS, json=_pod(body, customTemplateId="none"))
            assert (other.status_code, other.json()["detail"][0]["loc"][-1]) == (422, "customTemplateId"), other.text

    scene = play(tmp_path, act, *ALL)
    (pod,) = scene.live()
    assert pod.env["FOO"] == "bar"


def test_a_template_of_another_provider_brings_its_image(tmp_path: Path) -> None:
    """It is found where it is, and not rented with a stock image instead."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            made = await client.well("POST", "/machines/template", json={"name": "t", "docker_image": "x/y"})
            body = {"pod": {**SMALL["pod"], "image": "custom_template", "customTemplateId": made["id"]}}
            pod = await client.well("POST", PODS, json=body)
            assert pod["providerType"] == "celium"
            for more in ({"provider": {"type": "runpod"}}, {"pod": {**body["pod"], "customTemplateId": "none"}}):
                refused = await client.ask("POST", PODS, json={**body, **more})
                assert refused.status_code == 422, refused.text
                assert refused.json()["detail"][0]["loc"] == ["body", "pod", "customTemplateId"]

    scene = play(tmp_path, act, Provider.RUNPOD, Provider.LIUM)
    assert len(scene.live()) == 1


def test_a_template_at_runpod_runs_its_own_image(tmp_path: Path) -> None:
    """What the create says of an image would go before the template's."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            made = await client.well("POST", "/machines/template", json={"name": "t", "docker_image": "own/image"})
            body = {"pod": {**SMALL["pod"], "image": "custom_template", "customTemplateId": made["id"]}}
            await client.well("POST", PODS, json=body)

    scene = play(tmp_path, act)
    (pod,) = scene.live()
    assert "own/image" in repr(vars(pod))


ENV = [{"key": "FOO", "value": "bar"}]
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "variables of the bare system": (PODS, _pod(WHOLE, envVars=ENV), "pod.envVars"),
    "a disk that is not there": (PODS, {**AT_PRIME, "disks": [DISK]}, "disks"),
    "a strange team": (PODS, {**AT_PRIME, "team": {"teamId": "none"}}, "team.teamId"),
    "a team elsewhere": (PODS, {**AT_RUNPOD, "team": {"teamId": TEAM}}, "team"),
    "a restart elsewhere": (PODS, _pod(AT_RUNPOD, autoRestart=True), "pod.autoRestart"),
    "no GPU and nothing else": (PODS, {"pod": {"name": "mine"}}, "pod.gpuType"),
    "an unknown GPU": (PODS, _pod(SMALL, gpuType="ABACUS"), "pod.gpuType"),
    "a price above the service's": (PODS, _pod(SMALL, maxPrice=1000), "pod.maxPrice"),
    "a disk that RunPod has not": (PODS, {**AT_RUNPOD, "disks": [DISK]}, "disks"),
    "a disk that Lium has not": (PODS, {**SMALL, "provider": {"type": "celium"}, "disks": [DISK]}, "disks"),
    "a template that RunPod has not": (
        PODS,
        _pod(AT_RUNPOD, image="custom_template", customTemplateId="none"),
        "pod.customTemplateId",
    ),
    "cloud: an unknown GPU": (CLOUD, {"name": "a", "image_name": "x/y", "gpu_type_id": "ABACUS"}, "gpu_type_id"),
    "cloud: a volume at Lium": (
        CLOUD,
        {"name": "a", "image_name": "x/y", "gpu_type_id": "A4000", "provider": "celium", "volume_in_gb": 10},
        "volume_in_gb",
    ),
    "cloud: a mount at Lium": (
        CLOUD,
        {"name": "a", "image_name": "x/y", "gpu_type_id": "A4000", "provider": "celium", "volume_mount_path": "/d"},
        "volume_mount_path",
    ),
    "cloud: a proxy at Lium": (
        CLOUD,
        {"name": "a", "image_name": "x/y", "gpu_type_id": "A4000", "provider": "celium", "ports": "8888/http"},
        "ports",
    ),
    **{
        f"cloud: ports '{ports}'": (
            CLOUD,
            {"name": "a", "image_name": "x/y", "gpu_type_id": "A4000", "ports": ports},
            "ports",
        )
        for ports in (",", "22/tcp,", "22/tcp,,80/http")
    },
    "template: two tags": (
        "/machines/template",
        {"name": "a", "docker_image": "x/y:1", "docker_image_tag": "latest"},
        "docker_image_tag",
    ),
    "template: an image for a shell": ("/machines/template", {"name": "a", "docker_image": "x/y;ls"}, "docker_image"),
}


def test_what_cannot_be_done_is_refused_with_its_field(tmp_path: Path) -> None:
    """Never a 5xx, and nothing is rented."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            for name, (path, body, field) in REFUSED.items():
                answer = await client.ask("POST", path, json=body)
                assert answer.status_code == 422, (name, answer.text)
                told = answer.json()
                fields = told["error"]["fields"] if path == CLOUD else told["detail"]
                place = fields[0]["field"] if path == CLOUD else ".".join(fields[0]["loc"][1:])
                assert place == field, (name, told)

    scene = play(tmp_path, act, *ALL)
    assert not scene.pods()


def test_where_no_provider_stops_pods_one_has_to_be_named(tmp_path: Path) -> None:
    """It would serve what it cannot do."""
    body = {"name": "a", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            refused = await client.ask("POST", CLOUD, json=body)
            assert (refused.status_code, refused.json()["error"]["fields"][0]["field"]) == (422, "provider")
            await client.well("POST", CLOUD, json={**body, "provider": "celium"})

    assert len(play(tmp_path, act, Provider.LIUM).live()) == 1


def test_what_the_markets_have_not_is_not_promised(tmp_path: Path) -> None:
    """A socket that the GPU has not, a data centre in another country."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            elsewhere = _pod(AT_RUNPOD, country="CA", dataCenterId="EU-RO-1")
            for body, status in (
                (elsewhere, 409),
                # RunPod tells which models there are: with this socket there will be none later, either.
                (_pod(AT_RUNPOD, socket="SXM9"), 422),
                (_pod(WHOLE, country="CA"), 409),
                (_pod(WHOLE, socket="SXM5"), 409),
            ):
                answer = await client.ask("POST", PODS, json={**body, "team": None})
                assert answer.status_code == status, answer.text

    scene = play(tmp_path, act, *ALL)
    assert not scene.pods()


NULLS: dict[str, tuple[str, dict[str, Any]]] = {
    "pods": (
        PODS,
        {
            "pod": {
                **SMALL["pod"],
                **dict.fromkeys(WHOLE["pod"].keys() - {"name", "gpuType", "jupyterPassword", "maxPrice"}),
                "envVars": None,
                "customTemplateId": None,
                "maxPrice": 0,
                "jupyterPassword": "",
            },
            "provider": None,
            "disks": None,
            "team": None,
        },
    ),
    "cloud": (
        CLOUD,
        {
            "name": "a",
            "image_name": "x/y",
            "gpu_type_id": "NVIDIA RTX A4000",
            **dict.fromkeys(("cloud_type", "volume_in_gb", "container_disk_in_gb", "ports", "env", "gpu_count")),
        },
    ),
    "template": (
        "/machines/template",
        {
            "name": "a",
            "docker_image": "x/y",
            **dict.fromkeys(("docker_image_tag", "docker_image_digest", "startup_commands", "port_mapping")),
        },
    ),
}


def test_a_field_that_is_null_is_one_that_was_not_sent(tmp_path: Path) -> None:
    """Every optional one; a price of 0, as SkyPilot sends it, is none; an empty password is none."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            for name, (path, body) in NULLS.items():
                answer = await client.ask("POST", path, json=body)
                assert answer.status_code == 200, (name, answer.text)

    play(tmp_path, act, Provider.RUNPOD, Provider.LIUM)


UNREADABLE: dict[str, bytes] = {
    "no JSON": b"{",
    "no UTF-8": b'{"name": "\xff"}',
    "a number too long": b'{"name": ' + b"1" * 10_000 + b"}",
    "too deep": b"[" * 200_000,
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_a_body_that_is_no_json_is_a_422(tmp_path: Path, body: bytes) -> None:
    """Whatever Python's reader thinks of it."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            answer = await client.ask("POST", PODS, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 422, answer.text
            (told,) = answer.json()["detail"]
            assert told["loc"] == ["body"]
            assert "JSON" in told["msg"]

    play(tmp_path, act)


def test_a_key_that_came_with_another_body_has_its_place(tmp_path: Path) -> None:
    """The header."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            key = {"idempotency-key": "k"}
            await client.well("POST", PODS, json=SMALL, headers=key)
            answer = await client.ask("POST", PODS, json=_pod(SMALL, gpuCount=2), headers=key)
            assert answer.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]

    play(tmp_path, act)


PATHS: Sequence[tuple[str, str]] = (
    ("GET", "/machines"),
    ("GET", "/machines/x"),
    ("GET", "/machines/template/x"),
    ("GET", "/api/cloud/pods"),
    ("GET", "/api/cloud/pods/x"),
    ("POST", "/api/cloud/pods/x/stop"),
    ("DELETE", "/api/cloud/pods/x"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/pods/x"),
    ("GET", "/api/v1/pods/history"),
    ("GET", "/api/v1/pods/x/logs"),
)


def test_a_slash_at_the_end_of_a_path_is_nothing(tmp_path: Path) -> None:
    """Both forms have the same answer, and neither is a redirection: a plain client follows none."""

    async def act(scene: Scene) -> None:
        async with scene.served() as client:
            for method, path in PATHS:
                plain, slashed = [await client.ask(method, one) for one in (path, f"{path}/")]
                assert plain.status_code in {200, 404}, path
                assert slashed.status_code == plain.status_code, path
                assert slashed.json() == plain.json(), path

    play(tmp_path, act, Provider.RUNPOD, Provider.LIUM)
