"""TLS as every connection uses it: 1.2 or newer, certificates and host names checked, optionally public keys pinned."""

from __future__ import annotations

import base64
import functools
import hashlib
import socket
import ssl
from collections.abc import Mapping

from runner_provisioner.errors import InvalidRequest

Pins = Mapping[str, frozenset[str]]


class PinMismatch(ssl.SSLError):
    """The peer's chain holds none of the keys that are pinned for its host."""


def tls_context(given: ssl.SSLContext | None, pins: Pins) -> ssl.SSLContext:
    """The context of a session: `given` (which must verify) or the default one, with `pins` checked on each handshake.

    Pins are the base64 of the SHA-256 of a SubjectPublicKeyInfo (RFC 7469), for the leaf or any issuer in the chain.
    """
    if given is not None and not (given.verify_mode is ssl.CERT_REQUIRED and given.check_hostname):
        raise InvalidRequest("a TLS context must verify certificates and host names")
    if given is None:
        context = _new_context() if pins else _default_context()
    else:
        context = given
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    if pins:
        context.sslobject_class = _pinned(pins)
    return context


@functools.cache
def _default_context() -> ssl.SSLContext:
    return _new_context()


def _new_context() -> ssl.SSLContext:
    import certifi  # noqa: PLC0415 - only a session that makes its own context needs it

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The system's store is empty on python.org's macOS builds and in slim containers.
    context.load_verify_locations(certifi.where())
    return context


def _pinned(pins: Pins) -> type[ssl.SSLObject]:
    class PinnedObject(ssl.SSLObject):
        """Refuses the connection before the first byte of a request leaves."""

        def do_handshake(self) -> None:
            super().do_handshake()
            wanted = pins.get(self.server_hostname or "")
            if wanted and not wanted & {spki_pin(certificate) for certificate in _chain(self)}:
                raise PinMismatch(f"no certificate of {self.server_hostname} has a pinned key")

    return PinnedObject


def _chain(connection: ssl.SSLObject) -> list[bytes]:
    """The verified chain in DER; public since Python 3.13, before that only on the object behind."""
    public = getattr(connection, "get_verified_chain", None)
    if public is not None:
        return list(public())
    inner = connection._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way before 3.13
    return [certificate.public_bytes(ssl._ssl.ENCODING_DER) for certificate in inner.get_verified_chain()]  # type: ignore[attr-defined]  # noqa: SLF001 - likewise


def spki_pin(certificate: bytes) -> str:
    """The pin of a DER certificate: base64 of the SHA-256 of its public key (SubjectPublicKeyInfo)."""
    from cryptography import x509  # noqa: PLC0415 - pins are off by default
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - likewise

    key = x509.load_der_x509_certificate(certificate).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()


def why_unconnected(error: BaseException, host: str) -> tuple[str, str]:
    """The code and the message of a connection that never came to be."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "DNS_ERROR", f"the name {host} cannot be resolved; check the address and the network"
        if isinstance(cause, PinMismatch):
            text = f"the public key of {host} matches none of its pins; renew the pins or find out who answers there"
            return "PIN_MISMATCH", text
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "CERTIFICATE_INVALID", f"the certificate of {host} was refused: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS_ERROR", f"no TLS connection to {host} ({cause.reason or 'handshake failed'})"
        cause = cause.__cause__ or cause.__context__
    return "CONNECTION_REFUSED", f"{host} cannot be reached; check the address and the network"
