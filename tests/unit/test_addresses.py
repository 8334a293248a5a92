"""Reading SSH addresses strictly."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.addresses import bracketed, checked, parse_ssh
from runner_provisioner.domain.pods import SshEndpoint
from runner_provisioner.errors import ProtocolViolation


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param("ssh root@203.0.113.7 -p 2222", ("203.0.113.7", 2222, "root"), id="a-command"),
        pytest.param("ubuntu@pod.example.org -p 22", ("pod.example.org", 22, "ubuntu"), id="options-after"),
        pytest.param("ssh -p 40022 root@pod.example.org", ("pod.example.org", 40022, "root"), id="options-before"),
        pytest.param("pod.example.org", ("pod.example.org", 22, "root"), id="a-host-alone"),
        pytest.param("pod.example.org:2022", ("pod.example.org", 2022, "root"), id="host-and-port"),
        pytest.param("root@2001:db8::7", ("2001:db8::7", 22, "root"), id="ipv6"),
        pytest.param("root@[2001:db8::7]:2022", ("2001:db8::7", 2022, "root"), id="ipv6-and-port"),
        pytest.param("[2001:db8::7]", ("2001:db8::7", 22, "root"), id="ipv6-in-brackets"),
        pytest.param("abc-64410d9a@ssh.runpod.io", ("ssh.runpod.io", 22, "abc-64410d9a"), id="runpods-proxy"),
    ],
)
def test_what_providers_write_is_read(text: str, wanted: tuple[str, int, str]) -> None:
    """Host, port and user."""
    host, port, user = wanted
    assert parse_ssh(text) == SshEndpoint(host=host, port=port, user=user)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh",
        "root@",
        "-oProxyCommand=touch x",
        "ssh -oProxyCommand=x root@host",
        "root@-oProxyCommand=x",
        "-lroot@host",
        "root@host; reboot",
        "root@$(reboot)",
        "root@host -p",
        "root@host -p 0",
        "root@host -p 65536",
        "root@host -p 22x",
        "root@host -p -1",
        "root@host -p ٢٢",
        "root@host:22 -p 22",
        "root@host -p 22 reboot",
        "root@host 'unfinished",
        "root@host\nreboot",
        "root@[2001:db8::7",
        "root@[2001:db8::7]x",
        "root@[2001:db8::7]:",
        "root@fe80::1%eth0",
        "root@1.2.3",
        "root@010.0.0.1",
        "root@0x7f000001",
        "root@127.1",
        "root@2130706433",
        "root@host..name",
        "root@.host",
        "root@ho st",
        "root@hóst",
        "ro ot@host",
        "a@b@host",
        "root@" + "a." * 130 + "b",
        "root@" + "a" * 64,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """In one line that shows what it was, without control characters."""
    with pytest.raises(ProtocolViolation) as caught:
        parse_ssh(text)
    assert str(caught.value).isprintable()


@given(st.text(max_size=60))
def test_no_text_becomes_an_option_or_a_second_word(text: str) -> None:
    """Whatever is accepted is one plain word of a command line."""
    try:
        found = parse_ssh(text)
    except ProtocolViolation:
        return
    word = f"{found.user}@{found.host}"
    assert shlex.split(word) == [word]
    assert not word.startswith("-")
    assert not found.host.startswith("-")
    assert 1 <= found.port <= 65535
    assert checked(found) == found


@given(st.ip_addresses(), st.integers(1, 65535))
def test_what_is_shown_reads_back(address: object, port: int) -> None:
    """Both kinds of addresses."""
    endpoint = SshEndpoint(host=str(address), port=port)
    assert parse_ssh(bracketed(endpoint)) == endpoint


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_an_impossible_port_is_refused(port: int) -> None:
    """Also when a provider's JSON holds it."""
    with pytest.raises(ProtocolViolation, match="port"):
        checked(SshEndpoint(host="host", port=port))
