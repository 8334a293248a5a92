"""The SSH keys of one pod: its host key, known before the first connection, and the one that hands over to it."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """An Ed25519 key pair: `private` is an OpenSSH private key file, `public` one line without a comment."""

    private: str = field(repr=False)
    public: str


def new_host_key() -> HostKey:
    """Make a fresh key pair from the system's randomness."""
    # cryptography takes a tenth of a second to import.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    return _pair(Ed25519PrivateKey.generate())


def login_key(secret: str, nonce: str) -> HostKey:
    """The key pair that logs in to the one pod of this nonce.

    It follows from `secret`, which only the account's owner has, so that another process of theirs can hand over to the
    pod too, and nobody has to keep it in a file.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    seed = hmac.digest(secret.encode(), f"runner-provisioner hand-over {nonce}".encode(), "sha256")
    return _pair(Ed25519PrivateKey.from_private_bytes(seed))


def _pair(key: Ed25519PrivateKey) -> HostKey:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return HostKey(private=private.decode().strip(), public=public.decode())
