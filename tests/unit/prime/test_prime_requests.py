"""The body of a create: every field, and what an offer or Prime Intellect cannot do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import PodClass, PodSpec, PodTags
from runner_provisioner.errors import InvalidRequest, OfferUnfit
from runner_provisioner.providers.prime.requests import create_input
from runner_provisioner.providers.prime.wire import WireOffer, parse

SPEC = PodSpec(name="rp-0123abcd-1-1-default", image="")
OFFER = Offer(
    provider="prime", id="x", gpu_model="H100_80GB", gpu_count=1, price=Decimal("3.00"), interruptible=False
)  # fmt: skip
TAGS = PodTags(owner="0123abcd", cls=PodClass.RUNNER, nonce="n", expires_at=datetime(2026, 11, 21, tzinfo=UTC))


def row(**fields: Any) -> WireOffer:  # noqa: ANN401 - fields of the wire
    """The offer on the wire."""
    disk = {"minCount": 10, "defaultCount": 100, "maxCount": 500, "pricePerUnit": 0.001, "step": 1}
    told = {
        "cloudId": "n3-H100x1", "gpuType": "H100_80GB", "socket": "PCIe", "provider": "hyperstack", "gpuCount": 1,
        "dataCenter": "CANADA-1", "country": "CA", "security": "secure_cloud", "prices": {"onDemand": 2.5},
        "images": ["cuda_12_4_pytorch_2_5", "ubuntu_22_cuda_12", "custom_template"], "disk": disk,
        "vcpu": {"minCount": 4, "defaultCount": 16, "maxCount": 32}, "memory": {"defaultCount": 128},
    }  # fmt: skip
    return parse(WireOffer, {**told, **fields}, "availability")


def wire(spec: PodSpec = SPEC, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the wire
    """What is sent."""
    return create_input(spec, OFFER, row(**fields)).to_wire()


def with_options(**options: object) -> PodSpec:
    """A spec with the provider's own fields."""
    return replace(SPEC, options=options)


def test_the_plain_body_names_the_offer_and_the_ceiling() -> None:
    """And nothing that was not asked for."""
    assert wire() == {
        "pod": {
            "name": SPEC.name,
            "cloudId": "n3-H100x1",
            "gpuType": "H100_80GB",
            "socket": "PCIe",
            "gpuCount": 1,
            "maxPrice": 3.0,
            "image": "ubuntu_22_cuda_12",
            "dataCenterId": "CANADA-1",
            "country": "CA",
            "security": "secure_cloud",
            "diskSize": 100,
            "vcpus": 16,
            "memory": 128,
            "autoRestart": False,
        },
        "provider": {"type": "hyperstack"},
    }


def test_every_other_field_can_be_given_under_its_own_name() -> None:
    """Also in Python's spelling."""
    spec = with_options(
        customTemplateId="tpl", jupyter_password="s3cr3t", sshKeyId="key", autoRestart=True, diskSize="200", vcpus=8,
        memory=64, maxPrice="2.75", disks=["d1", "d2"], team={"teamId": "t"}, sharedWithTeam=True,
        teamMemberIds="u1,u2", envVars=[{"key": "N", "value": 1}],
    )  # fmt: skip
    body = wire(spec)
    assert {name: body["pod"][name] for name in ("image", "customTemplateId", "jupyterPassword", "sshKeyId")} == {
        "image": "custom_template", "customTemplateId": "tpl", "jupyterPassword": "s3cr3t", "sshKeyId": "key",
    }  # fmt: skip
    assert [body["pod"][name] for name in ("autoRestart", "diskSize", "vcpus", "memory", "maxPrice")] == [
        True, 200, 8, 64, 2.75,
    ]  # fmt: skip
    assert body["pod"]["envVars"] == [{"key": "N", "value": "1"}]
    assert {name: body[name] for name in body if name not in {"pod", "provider"}} == {
        "disks": ["d1", "d2"], "team": {"teamId": "t"}, "sharedWithTeam": True, "teamMemberIds": ["u1", "u2"],
    }  # fmt: skip


def test_a_ceiling_above_the_offer_is_the_offer_s() -> None:
    """Nobody pays more than what was accepted."""
    assert wire(with_options(maxPrice=50))["pod"]["maxPrice"] == 3.0


def test_the_team_and_the_network_volume_are_sent() -> None:
    """Unless options say otherwise."""
    spec = replace(SPEC, network_volume="d1")
    body = create_input(spec, OFFER, row(), team="mine").to_wire()
    assert (body["team"], body["disks"]) == ({"teamId": "mine"}, ["d1"])
    options = {"team": "theirs", "disks": "d2"}
    body = create_input(replace(spec, options=options), OFFER, row(), team="mine").to_wire()
    assert (body["team"], body["disks"]) == ({"teamId": "theirs"}, ["d2"])


def test_the_volume_is_part_of_the_disk() -> None:
    """A pod has one; what it costs more must have been offered."""
    assert wire(replace(SPEC, disk_gb=90, volume_gb=50))["pod"]["diskSize"] == 140
    with pytest.raises(OfferUnfit, match="offered at"):
        create_input(replace(SPEC, disk_gb=140), replace(OFFER, price=Decimal("2.5")), row())


def test_an_environment_goes_with_a_custom_template_and_the_tags_with_it() -> None:
    """What the request says wins over options."""
    env = {"A": "B", "RP_OWNER": "mine"}
    spec = replace(SPEC, env={"A": "C"}, tags=TAGS, options={"customTemplateId": "t", "envVars": env})
    sent = {pair["key"]: pair["value"] for pair in wire(spec)["pod"]["envVars"]}
    assert (sent["A"], sent["RP_OWNER"], sent["RP_NONCE"]) == ("C", "0123abcd", "n")


def test_without_a_template_tags_stay_here() -> None:
    """Nobody could read them back; another image may have variables."""
    assert "envVars" not in wire(replace(SPEC, tags=TAGS))["pod"]
    spec = replace(SPEC, tags=TAGS, image="cuda_12_4_pytorch_2_5", env={"A": "B"})
    assert wire(spec)["pod"]["envVars"] == [{"key": "A", "value": "B"}]


def test_the_bare_system_goes_without_tags_and_login_keys() -> None:
    """They are no variables of the user's; one that is cannot be passed on."""
    spec = replace(SPEC, tags=TAGS, env={**TAGS.to_env(), "PUBLIC_KEY": "ssh-ed25519 AAAA me"})
    assert "envVars" not in wire(spec)["pod"]
    with pytest.raises(InvalidRequest, match="passes no environment"):
        wire(replace(spec, env={**spec.env, "MODE": "test"}))


@pytest.mark.parametrize("name", ["dockerArgs", "docker_args"])
def test_a_start_command_is_refused_by_its_option(name: str) -> None:
    """With what there is instead, not with a field that sounds like it."""
    with pytest.raises(InvalidRequest, match=r"no start command \(--docker-args\).*customTemplateId"):
        wire(with_options(**{name: "sleep 1"}))


@pytest.mark.parametrize(
    ("images", "given", "chosen"),
    [
        pytest.param(["x", "ubuntu_22_cuda_12"], "", "ubuntu_22_cuda_12", id="the bare system"),
        pytest.param(["custom_template", "cuda_x"], "", "cuda_x", id="the first, where there is no bare one"),
        pytest.param(["x", "ubuntu_22_cuda_12"], "x", "x", id="the one asked for"),
    ],
)
def test_the_image_is_one_that_the_offer_has(images: list[str], given: str, chosen: str) -> None:
    """By default the bare system, where a runner is started over SSH."""
    assert wire(replace(SPEC, image=given), images=images)["pod"]["image"] == chosen
    if given:
        assert wire(with_options(image=given), images=images)["pod"]["image"] == chosen


@pytest.mark.parametrize(
    ("spec", "fields", "match"),
    [
        pytest.param(replace(SPEC, needs_kill_time=True), {}, "kill time", id="kill time"),
        pytest.param(replace(SPEC, image="octo/image:1"), {}, "no image 'octo/image:1'", id="a container image"),
        pytest.param(SPEC, {"images": ["custom_template"]}, "no image ''", id="only templates"),
        pytest.param(SPEC, {"images": None}, "it has none", id="no images"),
        pytest.param(with_options(customTemplateId="t"), {"images": ["x"]}, "custom_template", id="no templates"),
        pytest.param(replace(SPEC, disk_gb=501), {}, "10 to 500 GB", id="disk"),
        pytest.param(with_options(vcpus=2), {}, "4 to 32 CPUs", id="too few CPUs by option"),
        pytest.param(
            replace(SPEC, env={"A": "B"}, options={"customTemplateId": "t"}),
            {"provider": "runpod"},
            "passes no environment",
            id="upstream without environment",
        ),
    ],
)
def test_what_this_offer_cannot_do_leaves_the_next(spec: PodSpec, fields: dict[str, Any], match: str) -> None:
    """OfferUnfit, and nothing is sent."""
    with pytest.raises(OfferUnfit, match=match):
        create_input(spec, OFFER, row(**fields))


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        pytest.param(replace(SPEC, command="true"), "over SSH", id="command"),
        pytest.param(replace(SPEC, name="My pod"), "letters, digits and dashes", id="name"),
        pytest.param(replace(SPEC, name="pod\n"), "letters, digits and dashes", id="name with a line end"),
        pytest.param(replace(SPEC, env={"A": "B"}), "passes no environment", id="environment without a template"),
        pytest.param(with_options(image="custom_template"), "customTemplateId", id="template without its id"),
        pytest.param(with_options(jupyterPasswort="x"), "did you mean 'jupyterPassword'", id="a slip"),
        pytest.param(with_options(prepaidForHr=24), "knows no field", id="paid in advance"),
        pytest.param(with_options(cloudId="x"), "set by the request", id="the offer's"),
        pytest.param(with_options(provider={"type": "x"}), "set by the request", id="the provider"),
        pytest.param(with_options(sshKeyId="a", ssh_key_id="b"), "given twice", id="twice"),
        pytest.param(with_options(diskSize="lots"), "whole number", id="size"),
        pytest.param(with_options(diskSize=True), "whole number", id="size by truth"),
        pytest.param(with_options(diskSize=-1), "whole number|10 to 500", id="size below zero"),
        pytest.param(with_options(maxPrice="free"), "USD per hour", id="ceiling"),
        pytest.param(with_options(maxPrice=0), "USD per hour", id="no ceiling"),
        pytest.param(with_options(maxPrice="NaN"), "USD per hour", id="no number"),
        pytest.param(with_options(autoRestart="perhaps"), "autoRestart", id="truth"),
        pytest.param(with_options(team=5), "team", id="team"),
        pytest.param(with_options(customTemplateId="t", envVars=["A=B"]), "envVars", id="variables"),
        pytest.param(with_options(customTemplateId="t", envVars="A=B"), "envVars", id="variables as text"),
    ],
)
def test_what_nobody_can_do_is_refused_by_name(spec: PodSpec, match: str) -> None:
    """One line, with the remedy; OfferUnfit where a size is below the offer's."""
    with pytest.raises((InvalidRequest, OfferUnfit), match=match):
        create_input(spec, OFFER, row())


def test_no_secret_is_shown() -> None:
    """Neither in a repr, nor in what is logged, nor in a refusal."""
    secret = "s3cr3t-value"
    options = {"customTemplateId": "t", "jupyterPassword": secret}
    body = create_input(replace(SPEC, env={"TOKEN": secret}, options=options), OFFER, row())
    assert secret in str(body.to_wire())
    shown = body.shown()
    assert "TOKEN" in str(shown)
    assert "'maxPrice': 3.0" in str(shown)
    for text in (repr(body), str(body), str(shown), repr(body.pod), repr(body.pod.env_vars)):
        assert secret not in text
    with pytest.raises(InvalidRequest) as caught:
        create_input(with_options(autoRestart=secret), OFFER, row())
    assert secret not in str(caught.value)
