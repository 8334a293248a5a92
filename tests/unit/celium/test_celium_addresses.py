"""Where Lium answers, and where its pods do."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.pods import SshEndpoint
from runner_provisioner.providers.celium import DEFAULT_URL, FORMER_URL
from runner_provisioner.providers.celium.addresses import base_url, ssh_endpoint


@pytest.mark.parametrize(
    ("given_url", "asked"),
    [
        pytest.param("https://lium.io/api", DEFAULT_URL, id="today's"),
        pytest.param("https://celiumcompute.ai/api", FORMER_URL, id="the former one"),
        pytest.param("https://lium.io/api/", DEFAULT_URL, id="a slash too many"),
        pytest.param("https://lium.io", DEFAULT_URL, id="without /api"),
        pytest.param(" https://celiumcompute.ai/ ", FORMER_URL, id="the former one without /api"),
        pytest.param("http://127.0.0.1:8080/api", "http://127.0.0.1:8080/api", id="a simulator"),
        pytest.param("https://proxy.example.com", "https://proxy.example.com", id="another host is taken at its word"),
        pytest.param("https://[", "https://[", id="no address"),
    ],
)
def test_a_base_address_has_no_slash_at_its_end(given_url: str, asked: str) -> None:
    """Lium answers one with a redirect to plain http."""
    assert base_url(given_url) == asked


@pytest.mark.parametrize(
    ("command", "endpoint"),
    [
        pytest.param("ssh root@64.247.196.117 -p 9002", ("64.247.196.117", 9002, "root"), id="as documented"),
        pytest.param("ssh root@node.example.com", ("node.example.com", 22, "root"), id="without a port"),
        pytest.param("ssh ubuntu@10.0.0.1 -p 65535", ("10.0.0.1", 65535, "ubuntu"), id="another user"),
        pytest.param("ssh root@2001:db8::1 -p 22", ("2001:db8::1", 22, "root"), id="IPv6"),
        pytest.param(None, None, id="not yet"),
        pytest.param("", None, id="empty"),
        pytest.param("ssh root@1.2.3.4 -p 0", None, id="port 0"),
        pytest.param("ssh root@1.2.3.4 -p 65536", None, id="a port too high"),
        pytest.param("ssh root@1.2.3.4 -p 22; reboot", None, id="a second command"),
        pytest.param("ssh -o ProxyCommand=reboot root@1.2.3.4", None, id="an option"),
        pytest.param("ssh root@-oProxyCommand=reboot -p 22", None, id="a host that is an option"),
        pytest.param("ssh -root@1.2.3.4 -p 22", None, id="a user that is an option"),
        pytest.param("ssh root@1.2.3.4 -p 22 reboot", None, id="a remote command"),
        pytest.param("ssh root@$(reboot) -p 22", None, id="a substitution"),
        pytest.param("ssh root@1.2.3.4 -p 22\nreboot", None, id="a second line"),
        pytest.param("ssh root@1.2.3.4 -p 22\n", None, id="a line end"),
        pytest.param("ssh root@fe80::1%eth0 -p 22", None, id="a scope"),
        pytest.param("ssh root@1.2.3.4 -p ٢٢", None, id="other digits"),
        pytest.param("ssh root@" + "a" * 64 + ".com -p 22", None, id="a label too long"),
        pytest.param("rsh root@1.2.3.4 -p 22", None, id="another program"),
    ],
)
def test_only_an_address_is_read_as_one(command: str | None, endpoint: tuple[str, int, str] | None) -> None:
    """It is parsed and never run."""
    expected = endpoint and SshEndpoint(host=endpoint[0], port=endpoint[1], user=endpoint[2])
    assert ssh_endpoint(command) == expected


@given(st.ip_addresses(v=4), st.integers(1, 65535), st.from_regex(r"[a-z_][a-z0-9_-]{0,31}", fullmatch=True))
def test_every_address_of_the_documented_form_is_read(host: object, port: int, user: str) -> None:
    """Host, port and user come back."""
    assert ssh_endpoint(f"ssh {user}@{host} -p {port}") == SshEndpoint(host=str(host), port=port, user=user)


@given(st.text() | st.text(" -@.:;$&|'\"`()\\\nsh root1234p%"))
def test_whatever_is_read_could_be_handed_to_ssh(text: str) -> None:
    """No option, no blank, no shell's character in any part, however odd the answer."""
    for command in (
        text,
        f"ssh {text}",
        f"ssh root@{text} -p 22",
        f"ssh {text}@1.2.3.4 -p 22",
        f"ssh root@h -p {text}",
    ):
        found = ssh_endpoint(command)
        if found is not None:
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9A-Fa-f:.]+", found.host)
            assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9._-]*", found.user)
            assert 0 < found.port < 65536
            assert command.strip(" ") in {
                f"ssh {found.user}@{found.host}",
                *(f"ssh {found.user}@{found.host} -p {'0' * n}{found.port}" for n in range(5)),
            }
