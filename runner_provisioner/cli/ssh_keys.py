"""Whose public key may log in to the pod."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import anyio

from runner_provisioner.errors import InvalidRequest

_AGENT_SECONDS = 5
_KINDS = ("ssh-", "ecdsa-", "sk-")


async def public_keys(given: str | None) -> tuple[str, ...]:
    """The key that was given (text or file), else those of the SSH agent; none: the account's.

    Raises InvalidRequest when what was given is no public key.
    """
    if given:
        return (_public(given),)
    if not os.environ.get("SSH_AUTH_SOCK") or not shutil.which("ssh-add"):
        return ()
    return await anyio.to_thread.run_sync(_agent_keys)


def _public(given: str) -> str:
    text = given.strip()
    if not text.startswith(_KINDS):
        text = _from_file(Path(text).expanduser())
    if "PRIVATE KEY" in text:
        raise InvalidRequest("--ssh-key is a private key: give the public one, the file that ends in .pub")
    line = text.strip().splitlines()[0].strip() if text.strip() else ""
    if not line.startswith(_KINDS) or len(line.split()) < 2:  # noqa: PLR2004 - kind and key
        raise InvalidRequest("--ssh-key is no public SSH key: it begins with ssh-ed25519, ssh-rsa or ecdsa-")
    return line


def _from_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--ssh-key {path} cannot be read: give a public key or its file") from error


def _agent_keys() -> tuple[str, ...]:
    try:
        listing = subprocess.run(
            ["ssh-add", "-L"],  # noqa: S607 - the user's own agent program
            capture_output=True,
            text=True,
            timeout=_AGENT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()  # an agent that does not answer holds no key for us
    lines = listing.stdout.splitlines() if listing.returncode == 0 else []
    return tuple(line.strip() for line in lines if line.startswith(_KINDS))
