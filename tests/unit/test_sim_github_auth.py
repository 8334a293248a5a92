"""Who may do what at the simulated GitHub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from runner_provisioner.simulators.github.entities import ApiError
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.testing.clock import FakeClock

REGISTRATION = "/repos/octo/hello/actions/runners/registration-token"


def _private_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


KEY = _private_pem()
OTHER_KEY = _private_pem()


@pytest.fixture
def clock() -> FakeClock:
    """Time of the simulated world."""
    return FakeClock()


@pytest.fixture
def sim(clock: FakeClock) -> GitHubSimulator:
    """A GitHub with an App on one user and on one organisation."""
    sim = GitHubSimulator(clock)
    sim.add_organisation("acme")
    for name in ("octo/hello", "octo/other", "acme/tool"):
        sim.add_repository(name)
    sim.add_app(77, "Iv23abc", KEY)
    sim.install_app(77, "octo", repositories=["octo/hello"])
    sim.install_app(77, "acme")
    return sim


@pytest.fixture
async def client(sim: GitHubSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a credential."""
    transport = httpx.ASGITransport(app=sim.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://github.test") as client:
        yield client


def _app_jwt(
    clock: FakeClock, *, key: str = KEY, issuer: object = "Iv23abc", begins: int = -60, ends: int = 540
) -> str:
    now = int(clock.now().timestamp())
    claims = {"iat": now + begins, "exp": now + ends, "iss": issuer}
    given = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(given, _read(key), algorithm="RS256")


@lru_cache
def _read(key: str) -> rsa.RSAPrivateKey:
    found = serialization.load_pem_private_key(key.encode(), password=None)
    assert isinstance(found, rsa.RSAPrivateKey)
    return found


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def _installation_token(
    client: httpx.AsyncClient, clock: FakeClock, body: object, path: str = "/repos/octo/hello/installation"
) -> httpx.Response:
    found = await client.get(path, headers=_bearer(_app_jwt(clock)))
    address = f"/app/installations/{found.json()['id']}/access_tokens"
    return await client.post(address, headers=_bearer(_app_jwt(clock)), json=body)


@pytest.mark.parametrize("issuer", ["Iv23abc", "77"], ids=["client-id", "app-id"])
async def test_an_app_is_known_by_its_client_id_and_by_its_number(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock, issuer: str
) -> None:
    """Both forms of `iss` are accepted as strings."""
    answer = await client.get("/app", headers=_bearer(_app_jwt(clock, issuer=issuer)))
    assert answer.json()["id"] == 77
    assert sim.violations == []


@pytest.mark.parametrize(
    ("claims", "word"),
    [
        ({"ends": 601}, "too far"),
        ({"ends": -1}, "future"),
        ({"begins": 60}, "Issued at"),
        ({"issuer": "nobody"}, "Integration not found"),
        ({"issuer": None}, "Issuer"),
        ({"key": OTHER_KEY}, "could not be decoded"),
    ],
    ids=["eleven-minutes", "over", "from-the-future", "unknown-app", "no-issuer", "foreign-key"],
)
async def test_a_bad_app_jwt_is_refused(
    client: httpx.AsyncClient, clock: FakeClock, claims: dict[str, Any], word: str
) -> None:
    """Signature, times and issuer are all looked at."""
    answer = await client.get("/app", headers=_bearer(_app_jwt(clock, **claims)))
    assert answer.status_code == 401
    assert word in answer.json()["message"]


@pytest.mark.parametrize(
    "header",
    [{}, {"authorization": "Basic eDp5"}, {"authorization": "Bearer ghp_unknown"}, {"authorization": "Bearer eyJ.a.b"}],
    ids=["none", "basic", "unknown", "broken-jwt"],
)
async def test_without_a_valid_credential_nothing_is_told(client: httpx.AsyncClient, header: dict[str, str]) -> None:
    """Nobody in particular is 401."""
    answer = await client.get("/repos/octo/hello", headers=header)
    assert answer.status_code == 401


async def test_installations_are_found_by_repository_organisation_and_user(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """Each look-up leads to the same installation; the installation can be read by id."""
    head = _bearer(_app_jwt(clock))
    by_repository = (await client.get("/repos/octo/hello/installation", headers=head)).json()
    by_user = (await client.get("/users/octo/installation", headers=head)).json()
    by_organisation = (await client.get("/orgs/acme/installation", headers=head)).json()
    by_id = (await client.get(f"/app/installations/{by_user['id']}", headers=head)).json()
    assert by_repository["id"] == by_user["id"] == by_id["id"] != by_organisation["id"]
    assert sim.violations == []


@pytest.mark.parametrize(
    "path",
    [
        "/repos/octo/other/installation",
        "/repos/octo/nothing/installation",
        "/orgs/octo/installation",
        "/users/nobody/installation",
        "/app/installations/1",
    ],
)
async def test_where_the_app_is_not_installed_is_404(client: httpx.AsyncClient, clock: FakeClock, path: str) -> None:
    """Not installed and not there look alike."""
    assert (await client.get(path, headers=_bearer(_app_jwt(clock)))).status_code == 404


async def test_an_installation_token_has_the_long_form_and_an_hour(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """`ghs_<app id>_<JWT>`, good until the hour is over."""
    token = (await _installation_token(client, clock, {})).json()["token"]
    assert token.startswith("ghs_77_")
    assert token.count(".") == 2
    assert (await client.post(REGISTRATION, headers=_bearer(token))).status_code == 201
    clock.advance(3600)
    assert (await client.post(REGISTRATION, headers=_bearer(token))).json()["message"] == "Bad credentials"
    assert sim.violations == []


async def test_a_narrowed_token_keeps_to_its_permissions_and_repositories(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """What was left out is 403 with the permission named, or 404."""
    body = {"repositories": ["hello"], "permissions": {"actions": "read"}}
    made = await _installation_token(client, clock, body)
    assert made.json()["repositories"][0]["full_name"] == "octo/hello"
    head = _bearer(made.json()["token"])
    refused = await client.post(REGISTRATION, headers=head)
    assert refused.status_code == 403
    assert refused.json()["message"] == "Resource not accessible by integration"
    assert refused.headers["x-accepted-github-permissions"] == "administration=write"
    assert (await client.get("/repos/octo/other", headers=head)).status_code == 404
    assert (await client.get("/repos/acme/tool", headers=head)).status_code == 404
    assert (await client.get("/orgs/acme/actions/runners", headers=head)).status_code == 404
    assert sim.violations == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"permissions": {"contents": "write"}}, 422),
        ({"repositories": ["other"]}, 422),
        ({"repositories": ["nothing"]}, 422),
        ({"repository_ids": [1]}, 422),
        ({"repository_ids": list(range(501))}, 422),
    ],
    ids=["permission", "repository", "no-repository", "id", "too-many"],
)
async def test_a_token_cannot_be_wider_than_its_installation(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock, body: object, status: int
) -> None:
    """More than was granted is an error, in GitHub's own shape."""
    assert (await _installation_token(client, clock, body)).status_code == status
    assert sim.violations == []


async def test_a_suspended_installation_gives_no_token(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """Neither a new one nor the use of an old one."""
    token = (await _installation_token(client, clock, {})).json()["token"]
    for installation in sim.world.credentials._installations:
        installation.suspended_at = clock.now()
    assert (await _installation_token(client, clock, {})).status_code == 403
    assert (await client.post(REGISTRATION, headers=_bearer(token))).status_code == 403


async def test_an_app_jwt_is_no_token_and_a_token_is_no_app(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """Each kind of credential has its own endpoints."""
    sim.add_token("ghp_owner")
    assert (await client.post(REGISTRATION, headers=_bearer(_app_jwt(clock)))).status_code == 401
    assert (await client.get("/app", headers=_bearer("ghp_owner"))).status_code == 401


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("github_pat_x", "Resource not accessible by personal access token"),
        ("ghp_x", "Must have admin rights to Repository."),
    ],
    ids=["fine-grained", "classic"],
)
async def test_a_personal_token_without_the_permission_is_refused(
    client: httpx.AsyncClient, sim: GitHubSimulator, token: str, message: str
) -> None:
    """The sentence tells what kind of token it was."""
    sim.add_token(token, {"actions": "read", "administration": "read"})
    answer = await client.post(REGISTRATION, headers={"authorization": f"token {token}"})
    assert answer.status_code == 403
    assert answer.json()["message"] == message
    assert ("x-oauth-scopes" in answer.headers) == token.startswith("ghp_")


async def test_a_personal_token_can_expire_be_revoked_and_be_limited_to_repositories(
    client: httpx.AsyncClient, sim: GitHubSimulator, clock: FakeClock
) -> None:
    """Expired and revoked are "Bad credentials", another repository does not exist."""
    sim.add_token("github_pat_short", expires_in=60, repositories=["octo/hello"])
    sim.add_token("ghp_gone")
    head = _bearer("github_pat_short")
    assert (await client.get("/repos/octo/hello", headers=head)).status_code == 200
    assert (await client.get("/repos/octo/other", headers=head)).status_code == 404
    clock.advance(60)
    assert (await client.get("/repos/octo/hello", headers=head)).status_code == 401
    sim.revoke_token("ghp_gone")
    assert (await client.get("/repos/octo/hello", headers=_bearer("ghp_gone"))).status_code == 401


def test_a_job_token_never_administers(sim: GitHubSimulator) -> None:
    """`github.token` reruns jobs, and registers no runner."""
    repository = sim.world.repository("octo/hello")
    principal = sim.world.credentials.authenticate(f"Bearer {sim.world.credentials.issue_job_token(repository)}")
    assert principal.may("actions", "write")
    assert not principal.may("administration", "read")


def test_a_public_key_is_taken_as_it_is_and_an_unknown_app_cannot_be_installed(sim: GitHubSimulator) -> None:
    """The PEM of either half of the key registers an App."""
    public = sim.world.credentials._apps[0].public_key
    assert sim.add_app(78, "Iv78", public).public_key == public
    with pytest.raises(KeyError):
        sim.install_app(99, "octo")


def test_an_issuer_must_be_text(sim: GitHubSimulator) -> None:
    """A number as `iss` is refused, as newer libraries do."""
    with pytest.raises(ApiError) as caught:
        sim.world.credentials._app_of(77)
    assert caught.value.status == 401
