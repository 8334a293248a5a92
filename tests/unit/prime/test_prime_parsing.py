"""What Prime Intellect writes as addresses and ports is read strictly: nothing but an address comes of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.addresses import checked
from runner_provisioner.domain.pods import SshEndpoint
from runner_provisioner.errors import ProtocolViolation
from runner_provisioner.providers.prime.states import way_in
from runner_provisioner.providers.prime.wire import WireAmount, WireOffer, WirePod, WireStatus, moment, parse, rows_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
HOSTS = st.ip_addresses(v=4).map(str) | st.from_regex(r"[a-z][a-z0-9]{0,10}(\.[a-z][a-z0-9]{0,8}){1,3}", fullmatch=True)
PORTS = st.integers(1, 65535)
USERS = st.sampled_from(["root", "ubuntu", "user_1"])


def pod(**fields: Any) -> WirePod:  # noqa: ANN401 - fields of the wire
    """A pod as it is answered."""
    return parse(WirePod, {"id": "p", **fields}, "getPod")


@given(user=USERS, host=HOSTS, port=PORTS, nodes=st.sampled_from(["text", "list", "list with null"]))
def test_a_connection_is_read_in_each_of_its_forms(user: str, host: str, port: int, nodes: str) -> None:
    """Of several nodes the first that is known."""
    written = f"{user}@{host} -p {port}"
    told: object = {"text": written, "list": [written, "x@y"], "list with null": [None, written]}[nodes]
    assert pod(sshConnection=told).endpoint() == SshEndpoint(host=host, port=port, user=user)


@given(text=st.text(max_size=60))
def test_no_text_smuggles_anything_in(text: str) -> None:
    """It is an address that may be connected to, or none."""
    found = way_in(pod(sshConnection=text))
    if found is not None:
        assert checked(found) == found
        assert not found.host.startswith("-")
        assert not found.user.startswith("-")


@pytest.mark.parametrize(
    "text",
    [
        "root@1.2.3.4 -p 22 -o ProxyCommand=evil",
        "root@-oProxyCommand=evil",
        "-p 22 root",
        "installing",
        "root@1.2.3.4 -p 99999",
        "root@1.2.3.4 -p 22; id",
        "root@$(id) -p 22",
        "root@1.2.3 -p 22",
        "root@host -p",
        "'",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """By the strict reading, and is nothing to the lenient one."""
    with pytest.raises(ProtocolViolation):
        pod(sshConnection=text).endpoint()
    assert way_in(pod(sshConnection=text)) is None


@given(
    host=st.ip_addresses().map(str), port=PORTS, listed=st.booleans(), protocol=st.sampled_from(["TCP", "tcp", None])
)
def test_a_port_mapping_is_a_way_in_without_a_connection(
    host: str, port: int, *, listed: bool, protocol: str | None
) -> None:
    """Numbers come as texts; the address stands in `ip`."""
    mapping = [
        {"internal": "8888", "external": "1", "protocol": "TCP", "usedBy": "JUPYTER", "description": None},
        {"internal": "22", "external": str(port), "protocol": protocol, "usedBy": "SSH", "description": None},
    ]
    found = pod(ip=[host] if listed else host, primePortMapping=mapping).endpoint()
    assert found == SshEndpoint(host=host, port=port)


@given(external=st.text(max_size=8) | st.integers() | st.none(), ip=st.text(max_size=20))
def test_a_mapping_is_a_way_in_or_none(external: object, ip: str) -> None:
    """Whatever stands in it."""
    mapping = [{"internal": 22, "external": external, "protocol": "TCP", "description": None}]
    found = way_in(pod(ip=ip, primePortMapping=mapping))
    assert found is None or (checked(found) == found and str(found.port) == str(external))


@pytest.mark.parametrize(
    "mapping",
    [
        pytest.param([], id="none"),
        pytest.param(None, id="null"),
        pytest.param([{"internal": "22", "external": "7", "protocol": "UDP"}], id="another protocol"),
        pytest.param([{"internal": "2222", "external": "7", "protocol": "TCP"}], id="another port"),
    ],
)
def test_no_mapping_of_ssh_is_no_way_in(mapping: object) -> None:
    """And no error."""
    assert pod(ip="1.2.3.4", primePortMapping=mapping).endpoint() is None
    assert pod(ip=None, primePortMapping=[{"internal": "22", "external": "7"}]).endpoint() is None


@given(value=JSON)
def test_any_answer_is_read_or_refused(value: object) -> None:
    """With ProtocolViolation and nothing else."""
    for model in (WirePod, WireStatus, WireOffer, WireAmount):
        with suppress(ProtocolViolation):
            assert isinstance(parse(model, value, "getPod"), model)
    with suppress(ProtocolViolation):
        rows, _ = rows_of(WirePod, value, "data", "listPods")
        assert isinstance(value, dict)
        assert len(rows) == len(value["data"])


@pytest.mark.parametrize("value", [5, {"a": 1}, [1], [["a"]], True])
def test_an_address_of_another_kind_is_none(value: object) -> None:
    """It is a text, or a list of texts and null; the pod is there all the same, and its short form is refused."""
    assert pod(sshConnection=value).endpoint() is None
    with pytest.raises(ProtocolViolation, match="sshConnection"):
        parse(WireStatus, {"podId": "x", "sshConnection": value}, "podStatus")


def test_a_refused_answer_names_the_place_and_not_the_value() -> None:
    """A value may be a secret."""
    with pytest.raises(ProtocolViolation) as caught:
        parse(WireStatus, {"podId": "x", "priceHr": "s3cr3t"}, "podStatus")
    assert "priceHr" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@given(text=st.text(max_size=40))
def test_any_time_is_a_moment_or_not_known(text: str) -> None:
    """In UTC."""
    found = moment(text)
    assert found is None or found.utcoffset() is not None


def test_a_time_without_a_zone_is_utc() -> None:
    """As the service writes some."""
    found = moment("2026-05-01T10:00:00")
    assert found
    assert found.isoformat() == "2026-05-01T10:00:00+00:00"
