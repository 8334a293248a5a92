"""Addresses: Lium's own, and those of its pods."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from runner_provisioner.domain.pods import SshEndpoint

DEFAULT_URL = "https://lium.io/api"
FORMER_URL = "https://celiumcompute.ai/api"
_HOSTS = frozenset(urlsplit(url).hostname for url in (DEFAULT_URL, FORMER_URL))

# `ssh root@IP -p PORT` and nothing else (lium.io 0.32.0, ssh_target): a line with another option, a quote or a second
# command is not an address but somebody's attempt.
_COMMAND = re.compile(r"ssh ([a-zA-Z_][a-zA-Z0-9._-]{0,31})@(\S{1,253})(?: -p ([0-9]{1,5}))?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*")
_LABEL = 63
_HIGHEST_PORT = 65535
_SSH_PORT = 22


def base_url(url: str) -> str:
    """The address without slashes at its end; `/api` is added where one of Lium's own hosts is named without it."""
    bare = url.strip().rstrip("/")
    try:
        parts = urlsplit(bare)
    except ValueError:
        return bare  # whoever opens a session with it says what is wrong
    return f"{bare}/api" if parts.hostname in _HOSTS and not parts.path else bare


def ssh_endpoint(command: str | None) -> SshEndpoint | None:
    """Where a pod's `ssh_connect_cmd` leads; None when there is none, or it is anything but that."""
    found = _COMMAND.fullmatch(command.strip(" ")) if command and command.isascii() else None
    if found is None or not _is_host(found[2]):
        return None
    port = int(found[3]) if found[3] else _SSH_PORT
    return SshEndpoint(host=found[2], port=port, user=found[1]) if 0 < port <= _HIGHEST_PORT else None


def _is_host(text: str) -> bool:
    if _HOST.fullmatch(text):
        return all(len(label) <= _LABEL for label in text.split("."))
    try:
        return "%" not in text and ipaddress.ip_address(text).version == 6  # noqa: PLR2004 - of IPv6
    except ValueError:
        return False
