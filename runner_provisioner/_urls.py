"""Which addresses may be talked to."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from runner_provisioner.errors import InvalidRequest


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine: `localhost` or a loopback address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_base_url(url: str, *, name: str) -> str:
    """`url` without a trailing slash; InvalidRequest, naming `name`, unless it is https, or http to loopback.

    The address itself is not repeated in the message: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidRequest(f"{name} is no address; write it like https://host/path") from None
    if parts.username is not None or parts.query or parts.fragment or any(mark.isspace() for mark in url):
        raise InvalidRequest(f"{name} must hold no user, query, fragment or space; write it like https://host/path")
    if not host or parts.scheme not in {"https", "http"}:
        raise InvalidRequest(f"{name} is no https address; write it like https://host/path")
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidRequest(f"{name} must begin with https:// (plain http is for loopback alone)")
    return url.rstrip("/")
