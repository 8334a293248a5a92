"""Over real sockets: certificates, pins, TLS versions, kept connections, broken ones."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from runner_provisioner import _tls
from runner_provisioner._http import CallMetrics, HttpSession, Plumbing, Retry, Tempo
from runner_provisioner._tls import spki_pin, tls_context
from runner_provisioner.errors import InvalidRequest, Timeout, Unreachable
from runner_provisioner.logging import Redactor
from runner_provisioner.testing.clock import FakeClock

KEY = "opaque-credential-1"


class Authority:
    """A certificate authority of our own, and one server certificate for localhost."""

    def __init__(self, folder: Path) -> None:
        """Make keys and certificates in `folder`."""
        key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.root = self._certificate("the authority", key, key, None)
        self.leaf = self._certificate("localhost", leaf_key, key, self.root)
        self.chain = folder / "chain.pem"
        pem = serialization.Encoding.PEM
        self.chain.write_bytes(
            leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + self.leaf.public_bytes(pem)
            + self.root.public_bytes(pem)
        )

    @staticmethod
    def _certificate(
        name: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=issuer is None,
            crl_sign=issuer is None,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(names, critical=False)
            .sign(signer, hashes.SHA256())
        )

    def trust(self) -> ssl.SSLContext:
        """A client's context that trusts this authority alone."""
        pem = self.root.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)

    def pin(self, certificate: x509.Certificate) -> str:
        """The pin of its key."""
        return spki_pin(certificate.public_bytes(serialization.Encoding.DER))


class Answering(BaseHTTPRequestHandler):
    """Answers every request with the port it came from, so that connections can be told apart."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        body = str(self.client_address[1]).encode()
        self.server.seen.append(self.headers.get("authorization"))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Set-Cookie", f"session={KEY}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class QuietServer(ThreadingHTTPServer):
    """Takes refused handshakes calmly."""

    daemon_threads = True

    def __init__(self) -> None:
        """Any free port."""
        super().__init__(("127.0.0.1", 0), Answering)
        self.seen: list[str | None] = []

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(chain: Path | None = None, newest: ssl.TLSVersion | None = None) -> Iterator[QuietServer]:
    """A server, with TLS when there is a certificate."""
    server = QuietServer()
    if chain is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        if newest is not None:
            with pytest.warns(DeprecationWarning, match="TLS"):
                context.minimum_version, context.maximum_version = newest, newest
            context.set_ciphers("DEFAULT@SECLEVEL=0")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One authority for the module."""
    return Authority(tmp_path_factory.mktemp("authority"))


def session(server: QuietServer, scheme: str = "https", host: str = "localhost", **changes: Any) -> HttpSession:  # noqa: ANN401 - any field
    """A session with that server."""
    plumbing = Plumbing(
        clock=FakeClock(),
        redactor=Redactor(),
        tempo=changes.pop("tempo", Tempo()),
        metrics=CallMetrics(),
        user_agent="test",
        **changes,
    )
    return HttpSession(service="market", base_url=f"{scheme}://{host}:{server.server_port}", plumbing=plumbing)


async def ask(http: HttpSession, retry: Retry = Retry.NEVER) -> bytes:
    """One request with a credential."""
    answer = await http.send("op", "GET", "x", headers={"Authorization": f"Bearer {KEY}"}, retry=retry)
    return answer.body


async def test_connection_is_kept(authority: Authority) -> None:
    """Three requests, one connection, one handshake."""
    with serving(authority.chain) as server:
        async with session(server, verify=authority.trust()) as http:
            assert len({await ask(http) for _ in range(3)}) == 1


async def test_create_takes_a_connection_of_its_own(authority: Authority) -> None:
    """A kept connection that went stale would make its outcome unknown."""
    with serving(authority.chain) as server:
        async with session(server, verify=authority.trust()) as http:
            assert len({await ask(http), await ask(http, Retry.CREATE), await ask(http, Retry.CREATE)}) == 3


async def test_unknown_authority_is_refused_at_once(authority: Authority) -> None:
    """Certificates are verified; waiting does not make them valid, so the request is not repeated."""
    with serving(authority.chain) as server:
        async with session(server) as http:
            with pytest.raises(Unreachable, match="the certificate of localhost was refused") as caught:
                await ask(http, Retry.IDEMPOTENT)
            assert http._plumbing.metrics.summary()[0]["calls"] == 1
    assert (caught.value.code, caught.value.arrived, server.seen) == ("CERTIFICATE_INVALID", False, [])


async def test_certificate_of_another_name_is_refused(authority: Authority) -> None:
    """Host names are checked."""
    with serving(authority.chain) as server:
        async with session(server, host="127.0.0.2", verify=authority.trust()) as http:
            with pytest.raises(Unreachable):
                await ask(http)
    assert server.seen == []


@pytest.mark.parametrize("whose", ["leaf", "root"])
async def test_pinned_key_of_the_leaf_or_its_issuer_is_accepted(authority: Authority, whose: str) -> None:
    """One match anywhere in the verified chain is enough."""
    pins = {"localhost": frozenset({authority.pin(getattr(authority, whose)), "A" * 43 + "="})}
    with serving(authority.chain) as server:
        async with session(server, verify=authority.trust(), pins=pins) as http:
            assert await ask(http)


async def test_pin_mismatch_is_refused_before_the_credential_leaves(authority: Authority) -> None:
    """The message says what it is; nothing is repeated and nothing was sent."""
    pins = {"localhost": frozenset({"A" * 43 + "="})}
    with serving(authority.chain) as server:
        async with session(server, verify=authority.trust(), pins=pins) as http:
            with pytest.raises(Unreachable, match="matches none of its pins") as caught:
                await ask(http, Retry.IDEMPOTENT)
    assert (caught.value.code, caught.value.arrived, server.seen) == ("PIN_MISMATCH", False, [])


async def test_pins_of_other_hosts_do_not_matter(authority: Authority) -> None:
    """Pins are by host."""
    pins = {"api.example": frozenset({"A" * 43 + "="})}
    with serving(authority.chain) as server:
        async with session(server, verify=authority.trust(), pins=pins) as http:
            assert await ask(http)


async def test_old_tls_is_refused(authority: Authority) -> None:
    """Nothing below TLS 1.2, even when the given context would take it."""
    trust = authority.trust()
    with pytest.warns(DeprecationWarning, match="TLS"):
        trust.minimum_version = ssl.TLSVersion.TLSv1
    trust.set_ciphers("DEFAULT@SECLEVEL=0")
    with serving(authority.chain, ssl.TLSVersion.TLSv1_1) as server:
        async with session(server, verify=trust) as http:
            with pytest.raises(Unreachable) as caught:
                await ask(http)
    assert (caught.value.code, caught.value.arrived) == ("TLS_ERROR", False)
    assert trust.minimum_version is ssl.TLSVersion.TLSv1_2


def test_context_that_does_not_verify_is_refused() -> None:
    """Nobody can switch the checks off by accident."""
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(InvalidRequest, match="must verify"):
        tls_context(context, {})


def test_default_context_is_made_once_and_never_shared_with_pins() -> None:
    """Loading the trust store is slow; pins belong to one program."""
    pins: Mapping[str, frozenset[str]] = {"a": frozenset({"x"})}
    assert tls_context(None, {}) is tls_context(None, {})
    pinned = tls_context(None, pins)
    assert pinned is not tls_context(None, {})
    assert tls_context(None, {}).sslobject_class is ssl.SSLObject
    assert pinned.minimum_version is ssl.TLSVersion.TLSv1_2


def test_chain_is_read_by_the_public_way_where_there_is_one() -> None:
    """Python 3.13 and later."""

    class Connection:
        """Stands for a newer SSLObject."""

        def get_verified_chain(self) -> list[bytes]:
            """In DER."""
            return [b"leaf", b"root"]

    assert _tls._chain(Connection()) == [b"leaf", b"root"]  # type: ignore[arg-type]


async def test_refused_connection_never_arrived() -> None:
    """Nobody listens there."""
    with serving() as server:
        pass
    async with session(server, "http") as http:
        with pytest.raises(Unreachable, match="localhost cannot be reached") as caught:
            await ask(http)
    assert (caught.value.code, caught.value.arrived) == ("CONNECTION_REFUSED", False)


async def test_name_that_does_not_resolve_is_a_dns_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the guide, and certainly nothing was sent."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    plumbing = Plumbing(clock=FakeClock(), redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="test")
    async with HttpSession(service="market", base_url="https://nowhere.invalid", plumbing=plumbing) as http:
        with pytest.raises(Unreachable, match=r"the name nowhere.invalid cannot be resolved") as caught:
            await ask(http)
    assert (caught.value.code, caught.value.arrived) == ("DNS_ERROR", False)


@contextlib.contextmanager
def raw(answer: bytes, *, hang: bool = False) -> Iterator[int]:
    """A port that reads a request, answers these bytes, and hangs or hangs up."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                if hang:
                    done.wait(10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        done.set()
        thread.join(5)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", id="half a body"),
        pytest.param(b"nonsense\r\n\r\n", id="no HTTP"),
    ],
)
async def test_broken_connection_may_have_arrived(answer: bytes) -> None:
    """The request left; whether it was carried out, nobody knows."""
    plumbing = Plumbing(clock=FakeClock(), redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="test")
    with raw(answer) as port:
        async with HttpSession(service="market", base_url=f"http://127.0.0.1:{port}", plumbing=plumbing) as http:
            with pytest.raises(Unreachable) as caught:
                await ask(http)
    assert (caught.value.code, caught.value.arrived) == ("CONNECTION_BROKEN", True)


async def test_hanging_service_is_a_timeout() -> None:
    """It took the request and says nothing."""
    tempo = Tempo(request_timeout=0.1)
    plumbing = Plumbing(clock=FakeClock(), redactor=Redactor(), tempo=tempo, metrics=CallMetrics(), user_agent="test")
    with raw(b"", hang=True) as port:
        async with HttpSession(service="market", base_url=f"http://127.0.0.1:{port}", plumbing=plumbing) as http:
            with pytest.raises(Timeout) as caught:
                await ask(http)
    assert caught.value.code == "NETWORK_TIMEOUT"


async def test_libraries_do_not_log_headers(caplog: pytest.LogCaptureFixture) -> None:
    """Even a program that logs everything at level debug sees neither the credential nor the cookie."""
    caplog.set_level(logging.DEBUG)
    with serving() as server:
        async with session(server, "http") as http:
            await ask(http)
    assert server.seen == [f"Bearer {KEY}"]
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("host", "no_proxy", "proxied"),
    [
        pytest.param("api.example", (), True, id="elsewhere"),
        pytest.param("api.example", ("other.example",), True, id="another exception"),
        pytest.param("api.example", (".example",), False, id="by suffix"),
        pytest.param("api.example", ("api.example",), False, id="by name"),
        pytest.param("myapi.example", ("api.example",), True, id="no half names"),
        pytest.param("api.example", ("*",), False, id="all"),
        pytest.param("localhost", (), False, id="loopback"),
    ],
)
async def test_proxy_is_used_where_it_should_be(host: str, no_proxy: tuple[str, ...], proxied: bool) -> None:  # noqa: FBT001 - what the table says
    """Not for loopback, nor for the exceptions."""
    plumbing = Plumbing(
        clock=FakeClock(),
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="test",
        proxy="http://proxy.example:3128",
        no_proxy=no_proxy,
    )
    async with HttpSession(service="market", base_url=f"https://{host}", plumbing=plumbing) as http:
        pool = http._kept._transport._pool  # type: ignore[attr-defined]
        assert (type(pool).__name__ == "AsyncHTTPProxy") is proxied
