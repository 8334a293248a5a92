"""What is asked of Lium: templates and rents, checked before anything is made."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from runner_provisioner.domain.markets import TemplateSpec
from runner_provisioner.domain.pods import PodClass, PodSpec, PodTags
from runner_provisioner.errors import InvalidRequest
from runner_provisioner.providers.celium.requests import (
    Order,
    emptied,
    image_parts,
    nobodys_key,
    order_of,
    public_keys,
    template_of,
)
from runner_provisioner.providers.celium.start_command import PLACES, start_line
from runner_provisioner.testing.clock import EPOCH

ED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAA"
RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB"
TAGS = PodTags(owner="0123abcd", cls=PodClass.RUNNER, nonce="n0nce")
SPEC = PodSpec(
    name="rp-0123abcd-1-1-default",
    image="nvidia/cuda:12.4.1-base-ubuntu22.04",
    tags=TAGS,
    command="echo hi",
    env={"A": "b", "PUBLIC_KEY": f"{ED} me@home\n{RSA}\n"},
    ports=("22/tcp", "8888/http"),
    terminate_after=EPOCH + timedelta(hours=6, minutes=15),
)


def order(spec: PodSpec = SPEC, **options: object) -> Order:
    """For one GPU, now."""
    return order_of(replace(spec, options=options), count=1, now=EPOCH)


def contents(spec: PodSpec = SPEC, **options: object) -> dict[str, Any]:
    """Of its template."""
    found = order(spec, **options).template
    assert found is not None
    return dict(found)


def test_a_pod_is_a_private_template_that_goes_with_it() -> None:
    """Image, command, environment and tags are the template's; sshd's port is always open."""
    line = start_line("echo hi", {"A": "b", **TAGS.to_env()}, places=(*PLACES, "/workspace"))
    assert contents() == {
        "docker_image": "nvidia/cuda",
        "docker_image_tag": "12.4.1-base-ubuntu22.04",
        "docker_image_digest": "",
        "category": "UBUNTU",
        "internal_ports": [22, 8888],
        "startup_commands": line.startup,
        "entrypoint": "env",
        "environment": {"A": "b", "RP_OWNER": "0123abcd", "RP_CLASS": "runner", "RP_NONCE": "n0nce"},
        "volumes": ["/workspace"],
        "container_start_immediately": True,
        "is_private": True,
        "one_time_template": True,
        "is_temporary": False,
    }


def test_a_start_is_not_remembered_on_a_volume_that_outlives_the_pod() -> None:
    """It is its user's; the pod's own volume survives a reboot, and goes with the pod."""
    line = start_line("echo hi", {"A": "b", **TAGS.to_env()})
    assert contents(replace(SPEC, network_volume="v"))["startup_commands"] == line.startup
    assert contents(volume_id="v")["startup_commands"] == line.startup
    assert contents(volumes=["/data"])["startup_commands"] != contents()["startup_commands"] != line.startup


def test_a_rent_says_the_end_in_whole_hours() -> None:
    """Rounded up; the exact moment is said afterwards. Longer than Lium takes is said afterwards only."""
    assert order().rent == {"pod_name": SPEC.name, "gpu_count": 1, "termination_hours": 7}
    for hours, said in ((1, 1), (720, 720), (721, None)):
        rent = order(replace(SPEC, terminate_after=EPOCH + timedelta(hours=hours))).rent
        assert rent.get("termination_hours") == said
    assert "termination_hours" not in order(replace(SPEC, terminate_after=None)).rent
    with pytest.raises(InvalidRequest, match="is over"):
        order(replace(SPEC, terminate_after=EPOCH))


def test_keys_come_from_the_request_and_lose_their_comments() -> None:
    """A comment is free text on its way to a node's shell; the variable itself stays here."""
    assert order().keys == (ED, RSA)
    assert "PUBLIC_KEY" not in contents()["environment"]
    assert order(user_public_key=f"{RSA}\n{RSA} twice").keys == (RSA,)
    assert order(ssh_key=ED).keys == (ED,)
    assert order(replace(SPEC, env={})).keys == ()


@pytest.mark.parametrize("line", ["nonsense", "ssh-ed25519 AAAA;reboot", "ssh-ed25519", "'; reboot #", "a\tb"])
def test_what_is_no_public_key_is_refused(line: str) -> None:
    """Before it is sent anywhere."""
    with pytest.raises(InvalidRequest, match="SSH key"):
        public_keys([line])


def test_nobody_has_nobodys_key() -> None:
    """But it is of the right form, and the same for the same pod, or a repeat would not be the same request."""
    key = nobodys_key("pod")
    assert public_keys([key]) == (key,)
    assert key == nobodys_key("pod") != nobodys_key("other")
    blob = base64.b64decode(key.split()[1])
    assert (len(blob), blob[:19]) == (51, b"\0\0\0\x0bssh-ed25519\0\0\0 ")


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        pytest.param("ubuntu", ("ubuntu", "latest", ""), id="bare"),
        pytest.param("octo/runner:1", ("octo/runner", "1", ""), id="a tag"),
        pytest.param("host:5000/octo/runner", ("host:5000/octo/runner", "latest", ""), id="a registry with a port"),
        pytest.param("host:5000/r:1@sha256:ab", ("host:5000/r", "1", "sha256:ab"), id="everything"),
        pytest.param("r@sha256:ab", ("r", "", "sha256:ab"), id="a digest alone"),
    ],
)
def test_an_image_has_three_parts(image: str, parts: tuple[str, str, str]) -> None:
    """As the template's fields have it."""
    assert image_parts(image) == parts


@pytest.mark.parametrize(
    ("spec", "options", "names"),
    [
        pytest.param(replace(SPEC, image="x;reboot"), {}, "image", id="an image that is a command"),
        pytest.param(replace(SPEC, image="--privileged"), {}, "image", id="an image that is an option"),
        pytest.param(replace(SPEC, image=""), {}, "image", id="no image"),
        pytest.param(replace(SPEC, volume_mount="/a b"), {}, "volumes", id="a mount of two words"),
        pytest.param(replace(SPEC, ports=("0/tcp",)), {}, "port '0/tcp'", id="port 0"),
        pytest.param(replace(SPEC, ports=("70000/tcp",)), {}, "port '70000/tcp'", id="a symmetric port"),
        pytest.param(SPEC, {"gpu_cuont": 1}, "gpu_cuont", id="an unknown field"),
        pytest.param(SPEC, {"enable_backup": True}, "did you mean 'enable_backups'", id="a misspelt field"),
        pytest.param(SPEC, {"pod_name": "x"}, "'pod_name' is no option", id="a field of the request"),
        pytest.param(SPEC, {"executor_id": "x"}, "'executor_id' is no option", id="a field of the offer"),
        pytest.param(SPEC, {"initial_port_count": "many"}, "initial_port_count", id="a wrong kind"),
        pytest.param(SPEC, {"ssh_key": ED, "user_public_key": ED}, "given twice", id="a synonym beside it"),
        pytest.param(SPEC, {"docker_image_digest": "sha256:a;id"}, "docker_image_digest", id="a digest with a command"),
        pytest.param(SPEC, {"docker_image_tag": "1 --privileged"}, "docker_image_tag", id="a tag of two words"),
        pytest.param(SPEC, {"startup_commands": "x"}, "startup_commands", id="a second start command"),
        pytest.param(SPEC, {"entrypoint": "sh"}, "entrypoint", id="an entrypoint in front"),
        pytest.param(SPEC, {"template_id": "t"}, "'template_id' brings", id="a template beside a command"),
        pytest.param(
            replace(SPEC, command=None), {"template_id": "t"}, "own environment", id="a template beside variables"
        ),
        pytest.param(
            replace(SPEC, command=None), {"template_id": "t", "dockerfile_content": "FROM x"}, "not both", id="both"
        ),
        pytest.param(replace(SPEC, command=None), {"entrypoint": "a b"}, "entrypoint", id="an entrypoint of two words"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(spec: PodSpec, options: dict[str, object], names: str) -> None:
    """Before anything is made or sent."""
    with pytest.raises(InvalidRequest, match=names):
        order(spec, **options)


def test_the_words_of_the_specification_still_work() -> None:
    """`port_mapping` and `ssh_key` of the Celium service, and docker's arguments as another provider calls them."""
    manual = replace(SPEC, command=None)
    made = contents(manual, port_mapping=[22, 8000], dockerArgs="sleep infinity", category="PYTORCH")
    assert made["internal_ports"] == [22, 8888, 8000]
    assert (made["startup_commands"], made["entrypoint"]) == ("sleep infinity", "")
    assert made["category"] == "PYTORCH"
    assert contents(manual, internal_ports=8000)["internal_ports"] == [22, 8888, 8000]


def test_fields_of_the_rent_go_into_the_rent() -> None:
    """Also a network volume, which is the same as `volume_id`."""
    rent = order(replace(SPEC, network_volume="v1"), enable_backups=False, initial_port_count=3).rent
    assert (rent["volume_id"], rent["enable_backups"], rent["initial_port_count"]) == ("v1", False, 3)
    assert order(SPEC, volume_id="v2").rent["volume_id"] == "v2"


def test_a_template_or_a_dockerfile_of_the_user_s_own_is_taken_as_it_is() -> None:
    """Nothing of ours gets into it."""
    manual = replace(SPEC, command=None, env={"PUBLIC_KEY": ED})
    own = order(manual, template_id="t1")
    assert (own.template, own.template_id, own.keys) == (None, "t1", (ED,))
    built = order(manual, dockerfile_content="FROM ubuntu")
    assert (built.template, built.template_id) == (None, None)
    assert built.rent["dockerfile_content"] == "FROM ubuntu"


def test_a_users_template_is_private_and_stays_unless_told() -> None:
    """And its command is as safe as a pod's."""
    made = template_of(TemplateSpec(name="mine", image="ubuntu:24.04", command="echo $HOME", env={"A": "b"}))
    assert (made["name"], made["one_time_template"], made["is_private"]) == ("mine", False, True)
    assert made["startup_commands"] == start_line("echo $HOME", {"A": "b"}).startup
    assert template_of(TemplateSpec(name="mine", image="ubuntu", once=True))["one_time_template"] is True


def test_an_emptied_template_says_nothing() -> None:
    """Neither a command nor a variable, nor whose it was."""
    left = emptied("octo/runner:1")
    assert (left["startup_commands"], left["environment"], left["entrypoint"]) == ("", {}, "")
    assert left["name"] == "runner-provisioner-removed"
    assert emptied(None)["docker_image"]


def test_nothing_secret_is_in_a_repr() -> None:
    """The command and the variables are in what is sent, and in no text."""
    made = order(replace(SPEC, command="echo planted", env={"A": "planted"}))
    assert "planted" not in repr(made)
    assert made.template is not None
    assert str(made.template["startup_commands"]) not in repr(made)
