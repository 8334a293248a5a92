"""The SSH host key that a pod is given, so that it is known before the first connection."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """An Ed25519 key pair: `private` is an OpenSSH private key file, `public` one line without a comment."""

    private: str = field(repr=False)
    public: str


def new_host_key() -> HostKey:
    """Make a fresh key pair from the system's randomness."""
    # cryptography takes a tenth of a second to import.
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return HostKey(private=private.decode().strip(), public=public.decode())
