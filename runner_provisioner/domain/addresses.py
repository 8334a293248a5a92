"""Addresses of SSH servers, as providers write them: read strictly, because they end up in what connects."""

from __future__ import annotations

import ipaddress
import re
import shlex

from runner_provisioner.domain.pods import SshEndpoint
from runner_provisioner.errors import ProtocolViolation

# RFC 1123, with the underscore that real names have.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
# A user may not begin with a dash, nor hold what a shell or a log could take for something else.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
# Numbers and dots that are no address, such as 1.2.3, 010.0.0.1 and 0x7f000001: resolvers differ about them.
_NUMBERS = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]*|[0-9]+))*\.?", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_LONGEST_HOST = 253
_LAST_PORT = 65535
_SSH_PORT = 22


def checked(endpoint: SshEndpoint) -> SshEndpoint:
    """The endpoint, when it is one that may be connected to; raises ProtocolViolation."""
    host = endpoint.host
    if not _is_host(host):
        raise _refusal("host", host)
    if not 1 <= endpoint.port <= _LAST_PORT:
        raise _refusal("port", str(endpoint.port))
    if not _USER.fullmatch(endpoint.user):
        raise _refusal("user", endpoint.user)
    return endpoint


def parse_ssh(text: str) -> SshEndpoint:
    """Read `[ssh] user@host [-p port]` or `user@host:port`; an IPv6 host with a port stands in brackets.

    Raises ProtocolViolation for anything else, so that no option can be smuggled in.
    """
    try:
        words = shlex.split(text)
    except ValueError:
        raise _refusal("address", text) from None
    if words[:1] == ["ssh"]:
        words = words[1:]
    port = None
    if "-p" in words:
        at = words.index("-p")
        port = _port("".join(words[at + 1 : at + 2]))
        del words[at : at + 2]
    if len(words) != 1:
        raise _refusal("address", text)
    user, _, rest = words[0].rpartition("@")
    host, own_port = _split_port(rest)
    if port is not None and own_port is not None:
        raise _refusal("address", text)
    return checked(SshEndpoint(host=host, port=port or own_port or _SSH_PORT, user=user or "root"))


def bracketed(endpoint: SshEndpoint) -> str:
    """The host with its port, for a person: an IPv6 address in brackets."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


def _split_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise _refusal("address", text)
        return host, _port(rest[1:]) if rest else None
    if text.count(":") != 1:
        return text, None
    host, _, port = text.partition(":")
    return host, _port(port)


def _port(text: str) -> int:
    if not _PORT.fullmatch(text):
        raise _refusal("port", text)
    return int(text)


def _is_host(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= _LONGEST_HOST and bool(_HOST.fullmatch(text)) and not _NUMBERS.fullmatch(text)
    # A scope id could be any text.
    return getattr(address, "scope_id", None) is None


def _refusal(what: str, text: str) -> ProtocolViolation:
    return ProtocolViolation(
        f"the provider's SSH {what} {text[:64]!r} is none: not connecting; look at the pod in the provider's console"
    )
