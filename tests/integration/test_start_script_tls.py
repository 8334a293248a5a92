"""Each HTTPS client of the start script accepts a certificate that is trusted for the name, and no other."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.pod_stand_in import World, path_with, pod, script_for, world

SYSTEM = "/usr/bin:/bin"


def certificate(folder: Path, host: str) -> Path:
    """A self-signed certificate for this host, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    target = folder / f"{host}.pem"
    target.write_bytes(built.public_bytes(serialization.Encoding.PEM) + private)
    return target


def serve(host: str, folder: Path) -> Iterator[tuple[World, Path]]:
    """A World over https whose certificate is for `host`, and that certificate."""
    pem = certificate(folder, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    trust = folder / "trusted.pem"
    trust.write_bytes(pem.read_bytes().partition(b"-----BEGIN PRIVATE")[0])
    trust.chmod(0o644)
    with world(context) as state:
        yield state, trust


@pytest.fixture
def good(tmp_path: Path) -> Iterator[tuple[World, Path]]:
    """A certificate for the name that is asked for."""
    yield from serve("localhost", tmp_path)


@pytest.fixture
def misnamed(tmp_path: Path) -> Iterator[tuple[World, Path]]:
    """A certificate for another name."""
    yield from serve("elsewhere.example", tmp_path)


def environment(client: str, tmp_path: Path, trust: Path | None) -> dict[str, str]:
    """A PATH with this client alone, and what it trusts."""
    if not shutil.which(client, path=SYSTEM):
        pytest.skip(f"{client} is not installed")
    env = {"PATH": path_with(tmp_path, client)}
    return env | ({"SSL_CERT_FILE": str(trust)} if trust else {})


@pytest.mark.parametrize("client", ["curl", "python3", "openssl"])
def test_a_trusted_certificate_for_the_name_is_accepted(client: str, good: tuple[World, Path], tmp_path: Path) -> None:
    """Download and end, over TLS."""
    remote, trust = good
    with pod(script_for(remote), tmp_path / "pod", env=environment(client, tmp_path, trust)) as started:
        started.wait_for(remote.ended.is_set)
    assert remote.has("step-log")


@pytest.mark.parametrize("client", ["curl", "python3", "openssl"])
def test_a_redirect_of_the_download_is_followed(client: str, good: tuple[World, Path], tmp_path: Path) -> None:
    """GitHub's releases redirect to a storage host."""
    remote, trust = good
    script = script_for(remote)
    moved = dataclasses.replace(script.download, url=f"{remote.url}/moved.tar.gz")
    script = dataclasses.replace(script, download=moved)
    with pod(script, tmp_path / "pod", env=environment(client, tmp_path, trust)) as started:
        started.wait_for(remote.ended.is_set)
    assert remote.has("step-log")


@pytest.mark.parametrize(
    "client",
    [pytest.param("curl", marks=pytest.mark.full), pytest.param("wget", marks=pytest.mark.full), "python3", "openssl"],
)
def test_an_unknown_certificate_is_refused(client: str, good: tuple[World, Path], tmp_path: Path) -> None:
    """Nothing is sent."""
    remote, _ = good
    with pod(script_for(remote), tmp_path / "pod", env=environment(client, tmp_path, None)) as started:
        started.wait_for(lambda: started.text().count("ending by GraphQL") > 1)
    assert remote.requests == []


@pytest.mark.parametrize("client", ["curl", pytest.param("python3", marks=pytest.mark.full), "openssl"])
def test_a_certificate_for_another_name_is_refused(client: str, misnamed: tuple[World, Path], tmp_path: Path) -> None:
    """However much it is trusted."""
    remote, trust = misnamed
    with pod(script_for(remote), tmp_path / "pod", env=environment(client, tmp_path, trust)) as started:
        started.wait_for(lambda: started.text().count("ending by GraphQL") > 1)
    assert remote.requests == []
