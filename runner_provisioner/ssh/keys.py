"""The keys to log in with: those of the agent and the usual files, or one that was named; never a password."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from runner_provisioner.errors import InvalidRequest

_AGENT_ERRORS = (OSError, asyncssh.Error, ValueError)
# ssh_config(5), IdentityFile.
_USUAL = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where keys are looked for: one private key's `file`, else the `agent` (its socket) and `folder` (~/.ssh).

    `text` is a private key itself; then no other is looked for.
    """

    text: str | None = field(default=None, repr=False)
    file: Path | None = None
    agent: str | None = None
    folder: Path | None = None


@asynccontextmanager
async def client_keys(identity: Identity) -> AsyncIterator[list[asyncssh.SSHKeyPair]]:
    """What to offer, in the order in which OpenSSH offers it; the agent stays connected meanwhile.

    Raises InvalidRequest when the named file is no private key, when it has a passphrase and the agent does not hold
    it, and when there is no key at all.
    """
    if identity.text is not None:
        yield list(asyncssh.load_keypairs([asyncssh.import_private_key(identity.text)]))
        return
    named = _named(identity.file) if identity.file is not None else None
    agent = await _agent(identity.agent)
    try:
        held = list(await _held(agent))
        keys = _chosen(identity, named, held)
        if not keys:
            raise InvalidRequest(
                "no SSH key to log in with: name one with --identity, or start an agent and ssh-add one"
            )
        yield keys
    finally:
        if agent is not None:
            agent.close()


def _chosen(identity: Identity, named: _Named | None, held: Sequence[asyncssh.SSHKeyPair]) -> list[asyncssh.SSHKeyPair]:
    if named is None:
        return [*held, *_usual(identity.folder)]
    # Only this one: a server gives up after a few wrong keys.
    mine = [key for key in held if named.public is not None and key.public_data == named.public]
    if not mine and not named.pairs:
        raise InvalidRequest(
            f"--identity {identity.file} is protected by a passphrase: add it to your agent with ssh-add"
        )
    return [*mine, *named.pairs]


@dataclass(frozen=True, slots=True)
class _Named:
    pairs: Sequence[asyncssh.SSHKeyPair]
    public: bytes | None


def _named(path: Path) -> _Named:
    try:
        pairs = asyncssh.load_keypairs([str(path)])
    except asyncssh.KeyImportError as error:
        if "assphrase" not in str(error):
            raise InvalidRequest(f"--identity {path} is no private SSH key: give the file without .pub") from error
        return _Named((), _public_beside(path))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "unreadable"
        raise InvalidRequest(f"--identity {path} cannot be read ({why}): give a private key's file") from error
    return _Named(tuple(pairs), pairs[0].public_data if pairs else None)


def _public_beside(path: Path) -> bytes | None:
    try:
        return asyncssh.read_public_key(f"{path}.pub").public_data
    except (OSError, asyncssh.KeyImportError):
        return None  # the error about the passphrase says what to do


def _usual(folder: Path | None) -> list[asyncssh.SSHKeyPair]:
    """The key files that everybody has; one that is protected or damaged is passed over."""
    found: list[asyncssh.SSHKeyPair] = []
    for name in _USUAL if folder is not None else ():
        try:
            found += asyncssh.load_keypairs([f"{folder}/{name}"])
        except (OSError, ValueError):
            continue
    return found


async def _agent(path: str | None) -> asyncssh.SSHAgentClient | None:
    if not path:
        return None
    try:
        return await asyncssh.connect_agent(path)
    except _AGENT_ERRORS:
        return None  # an agent that does not answer holds no key for us


async def _held(agent: asyncssh.SSHAgentClient | None) -> Sequence[asyncssh.SSHKeyPair]:
    if agent is None:
        return ()
    try:
        return await agent.get_keys()
    except _AGENT_ERRORS:
        return ()
