"""Speaking as a GitHub App: the statement, the installation, the token."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx
import jwt
import pytest
import respx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.domain.names import Scope
from runner_provisioner.errors import AuthenticationFailed, ConfigurationError, PermissionDenied, ProtocolViolation
from runner_provisioner.github.app import Access, AppClient, AppKey, Installation
from runner_provisioner.github.credentials import InstallationToken, PersonalToken, run_access, runner_access
from runner_provisioner.github.errors import ClockSkewed
from runner_provisioner.github.installation_cache import FILE_NAME, InstallationCache
from runner_provisioner.github.wire import GitHubApi
from runner_provisioner.logging import Redactor
from runner_provisioner.testing.clock import EPOCH, FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from jwt.types import Options

API = "https://api.github.com"
REPO = Scope.parse("octo/app")
ORG = Scope.parse("octo")
BASE = runner_access(REPO, None)
TOKEN = "ghs_12345_eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl"
PERMISSIONS = {"administration": "write", "actions": "write", "metadata": "read"}


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    """A private key as GitHub hands it out."""
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, lock).decode()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    """One key for all: making it is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def clock() -> FakeClock:
    """Time that jumps."""
    return FakeClock()


@pytest.fixture
def redactor() -> Redactor:
    """Knows no secret yet."""
    return Redactor()


@pytest.fixture
def github() -> Iterator[respx.MockRouter]:
    """A GitHub that answers what a test has laid out."""
    with respx.mock(base_url=API, assert_all_called=False, using=None) as router:
        yield router


@pytest.fixture
async def api(github: respx.MockRouter, clock: FakeClock, redactor: Redactor) -> AsyncIterator[GitHubApi]:
    """The wire to it."""
    plumbing = Plumbing(
        clock=clock,
        redactor=redactor,
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="runner-provisioner/test",
        transport=httpx.MockTransport(github.async_handler),
    )
    made = GitHubApi(api_url=API, plumbing=plumbing)
    yield made
    await made.aclose()


@pytest.fixture
def app(api: GitHubApi, key: rsa.RSAPrivateKey) -> AppClient:
    """An App that signs with the key."""
    return AppClient(api, AppKey(issuer="Iv23liABC", private_key=pem(key)))


def installed(**more: object) -> httpx.Response:
    """An installation as GitHub describes it."""
    return httpx.Response(200, json={"id": 99, "permissions": PERMISSIONS, "suspended_at": None, **more})


def granted(clock: FakeClock, token: str = TOKEN, seconds: float = 3600) -> httpx.Response:
    """A token that ends in an hour."""
    expires = clock.now() + timedelta(seconds=seconds)
    return httpx.Response(201, json={"token": token, "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%SZ")})


def claims_of(request: httpx.Request, key: rsa.RSAPrivateKey) -> dict[str, object]:
    """What the statement in a request says, its signature checked."""
    statement = request.headers["authorization"].removeprefix("Bearer ")
    options: Options = {"verify_exp": False, "verify_iat": False}
    return dict(jwt.decode(statement, key.public_key(), algorithms=["RS256"], options=options))


def test_the_statement_is_backdated_and_short(key: rsa.RSAPrivateKey) -> None:
    """RS256, a minute back, nine minutes ahead, the issuer as a string."""
    statement = AppKey(issuer=" 12345 ", private_key=pem(key)).statement(EPOCH)

    assert jwt.get_unverified_header(statement)["alg"] == "RS256"
    claims = jwt.decode(statement, options={"verify_signature": False})
    now = int(EPOCH.timestamp())
    assert claims == {"iat": now - 60, "exp": now + 540, "iss": "12345"}


def test_a_key_from_one_line_is_taken(key: rsa.RSAPrivateKey) -> None:
    """A secret whose line ends were written as backslash n still signs."""
    one_line = pem(key).replace("\n", "\\n")

    assert AppKey(issuer="1", private_key=one_line).statement(EPOCH)


@pytest.mark.parametrize("flaw", ["no-pem", "encrypted", "elliptic", "cut"])
def test_a_key_that_cannot_sign_is_a_configuration_error(flaw: str, key: rsa.RSAPrivateKey) -> None:
    """One line that names the App and shows nothing of the key."""
    given = {
        "no-pem": "hunter2hunter2",
        "encrypted": pem(key, b"password"),
        "elliptic": pem(ec.generate_private_key(ec.SECP256R1())),
        "cut": pem(key)[:400],
    }[flaw]

    with pytest.raises(ConfigurationError, match=r"the private key of GitHub App '77' .*\.pem") as caught:
        AppKey(issuer="77", private_key=given).statement(EPOCH)
    text = str(caught.value)
    assert "\n" not in text
    assert not any(line in text for line in given.splitlines() if len(line) > 6)
    assert caught.value.__cause__ is None


async def test_an_installation_is_looked_up_by_repository(
    app: AppClient, github: respx.MockRouter, key: rsa.RSAPrivateKey, redactor: Redactor
) -> None:
    """The request carries the statement and the API version, and the statement is known to the redactor."""
    route = github.get("/repos/octo/app/installation").mock(return_value=installed())

    found = await app.installation("octo", "octo/app")

    assert (found.id, found.granted) == (99, Access(permissions=PERMISSIONS))
    request = route.calls.last.request
    assert claims_of(request, key)["iss"] == "Iv23liABC"
    assert request.headers["x-github-api-version"] == "2022-11-28"
    assert request.headers["accept"] == "application/vnd.github+json"
    assert request.headers["user-agent"] == "runner-provisioner/test"
    assert "eyJ" not in redactor.redact(request.headers["authorization"])


async def test_a_renamed_repository_is_followed(app: AppClient, github: respx.MockRouter) -> None:
    """GitHub answers 301 for a renamed repository; the statement goes along on the same host."""
    github.get("/repos/octo/app/installation").mock(
        return_value=httpx.Response(301, headers={"location": f"{API}/repositories/5/installation"})
    )
    moved = github.get("/repositories/5/installation").mock(return_value=installed())

    assert (await app.installation("octo", "octo/app")).id == 99
    assert moved.calls.last.request.headers["authorization"].startswith("Bearer ")


async def test_a_redirect_to_another_host_is_not_followed(app: AppClient, github: respx.MockRouter) -> None:
    """The statement never leaves the host it was made for."""
    github.get("/repos/octo/app/installation").mock(
        return_value=httpx.Response(301, headers={"location": "https://evil.example/installation"})
    )

    with pytest.raises(ProtocolViolation):
        await app.installation("octo", "octo/app")


async def test_an_organisation_is_looked_up_and_then_a_user(app: AppClient, github: respx.MockRouter) -> None:
    """An account that is no organisation is a user's."""
    github.get("/orgs/octo/installation").mock(return_value=httpx.Response(404, json={"message": "Not Found"}))
    user = github.get("/users/octo/installation").mock(return_value=installed())

    assert (await app.installation("octo", None)).id == 99
    assert user.called


@pytest.mark.parametrize(
    ("repository", "told"),
    [
        pytest.param("octo/app", r"on octo/app: install it there, or check the name \(--repository\)", id="repository"),
        pytest.param(None, r"on octo: install it there, or check the name \(--organization\)", id="organisation"),
    ],
)
async def test_an_app_that_is_not_installed_says_where(
    app: AppClient, github: respx.MockRouter, repository: str | None, told: str
) -> None:
    """The message says what to install and where, and where that name was given."""
    github.get(path__regex="/installation$").mock(return_value=httpx.Response(404, json={"message": "Not Found"}))

    with pytest.raises(PermissionDenied, match=rf"'Iv23liABC' is not installed {told}") as caught:
        await app.installation("octo", repository)
    assert caught.value.code == "NOT_FOUND"


async def test_a_suspended_installation_is_refused_at_once(app: AppClient, github: respx.MockRouter) -> None:
    """No token is asked of it."""
    github.get("/orgs/octo/installation").mock(return_value=installed(suspended_at="2026-01-01T00:00:00Z"))

    with pytest.raises(PermissionDenied, match="unsuspend"):
        await app.installation("octo", None)


async def test_a_wrong_clock_is_corrected_once_by_githubs(
    app: AppClient, github: respx.MockRouter, clock: FakeClock, key: rsa.RSAPrivateKey
) -> None:
    """The second statement is dated by the answer's Date; later ones stay so."""
    refused = httpx.Response(
        401,
        json={"message": "'Issued at' claim ('iat') must be an Integer representing the time"},
        headers={"date": "Sun, 01 Nov 2026 13:00:00 GMT"},
    )
    route = github.get("/repos/octo/app/installation").mock(side_effect=[refused, installed()])

    await app.installation("octo", "octo/app")

    first, second = (claims_of(call.request, key) for call in route.calls)
    assert second["iat"] == int(EPOCH.timestamp()) + 3600 - 60
    assert first["iat"] == int(EPOCH.timestamp()) - 60
    assert app.now() == clock.now() + timedelta(hours=1)


@pytest.mark.parametrize("date", [{}, {"date": "Sun, 01 Nov 2026 13:00:00 GMT"}], ids=["undated", "dated"])
async def test_a_clock_that_cannot_be_corrected_is_an_error(
    app: AppClient, github: respx.MockRouter, date: dict[str, str]
) -> None:
    """No Date, or refused again: no third try."""
    answer = httpx.Response(401, json={"message": "'Expiration time' claim ('exp') is too far"}, headers=date)
    route = github.get("/repos/octo/app/installation").mock(return_value=answer)

    with pytest.raises(ClockSkewed, match="clock is wrong"):
        await app.installation("octo", "octo/app")
    assert route.call_count == 1 + len(date)


async def test_a_refused_key_says_what_to_renew(app: AppClient, github: respx.MockRouter) -> None:
    """Also when the refusal is a page that is no JSON."""
    github.get("/repos/octo/app/installation").mock(return_value=httpx.Response(401, text="<html>no</html>"))

    with pytest.raises(
        AuthenticationFailed, match=r"GitHub App 'Iv23liABC' \(<html>no</html>\).*id \(GITHUB_APP_ID\).*new private key"
    ):
        await app.installation("octo", "octo/app")


async def test_a_token_is_narrowed(
    app: AppClient, github: respx.MockRouter, clock: FakeClock, redactor: Redactor
) -> None:
    """The body names the one repository and the permissions needed, and the token is a secret at once."""
    route = github.post("/app/installations/99/access_tokens").mock(return_value=granted(clock))

    grant = await app.grant(Installation(id=99), BASE)

    assert json.loads(route.calls.last.request.content) == {
        "permissions": {"administration": "write", "actions": "read"},
        "repositories": ["app"],
    }
    assert grant.token == TOKEN
    assert TOKEN not in repr(grant)
    assert TOKEN not in redactor.redact(f"x{TOKEN}x")


async def test_a_token_for_a_whole_organisation_is_narrowed_to_permissions(
    app: AppClient, github: respx.MockRouter, clock: FakeClock
) -> None:
    """Without a known repository only the permissions are narrowed."""
    route = github.post("/app/installations/99/access_tokens").mock(return_value=granted(clock))

    await app.grant(Installation(id=99), runner_access(ORG, None))

    assert json.loads(route.calls.last.request.content) == {
        "permissions": {"organization_self_hosted_runners": "write", "actions": "read"}
    }


@pytest.mark.parametrize(
    ("had", "says"),
    [
        pytest.param(Access(permissions={"actions": "read"}), "lacks the permission administration: write", id="known"),
        pytest.param(Access(permissions=PERMISSIONS), "may lack, or does not reach octo/app with,", id="not-reached"),
        pytest.param(None, "may lack, or does not reach octo/app with,", id="not-asked"),
    ],
)
async def test_a_refused_grant_names_what_is_missing(
    app: AppClient, github: respx.MockRouter, had: Access | None, says: str
) -> None:
    """GitHub's 422 is explained by what the installation is known to have."""
    message = "The permissions requested are not granted to this installation."
    github.post("/app/installations/99/access_tokens").mock(return_value=httpx.Response(422, json={"message": message}))

    with pytest.raises(PermissionDenied) as caught:
        await app.grant(Installation(id=99, granted=had), BASE)
    assert says in str(caught.value)
    assert message in str(caught.value)


async def test_a_wrong_installation_id_is_named(app: AppClient, github: respx.MockRouter) -> None:
    """It was given by hand; without it the installation would be looked up."""
    github.post("/app/installations/1/access_tokens").mock(return_value=httpx.Response(404, json={}))

    with pytest.raises(PermissionDenied, match="has no installation 1: leave the id out"):
        await app.grant(Installation(id=1), BASE)


def credential(
    app: AppClient, api: GitHubApi, scope: Scope = REPO, repository: str | None = None, installation_id: int | None = 99
) -> InstallationToken:
    """Tokens of installation 99."""
    base = runner_access(scope, repository)
    return InstallationToken(app, api=api, scope=scope, base=base, installation_id=installation_id)


def remembering(app: AppClient, api: GitHubApi, folder: Path, name: str = "app-1") -> InstallationToken:
    """Tokens of an installation that is looked for in a cache first."""
    cache = InstallationCache(folder, app=name, clock=api.clock)
    return InstallationToken(app, api=api, scope=REPO, base=BASE, cache=cache)


async def test_an_installation_is_known_for_an_hour(
    app: AppClient, api: GitHubApi, github: respx.MockRouter, clock: FakeClock, tmp_path: Path
) -> None:
    """Whoever comes next need not ask; another App, a damaged file and an hour later have to."""
    lookup = github.get("/repos/octo/app/installation").mock(return_value=installed())
    github.post("/app/installations/99/access_tokens").mock(side_effect=lambda _request: granted(clock))
    await remembering(app, api, tmp_path).bearer(BASE)
    await remembering(app, api, tmp_path).bearer(BASE)
    assert lookup.call_count == 1
    file = tmp_path / FILE_NAME
    assert file.stat().st_mode & 0o777 == 0o600
    assert "ghs_" not in file.read_text()
    await remembering(app, api, tmp_path, "app-2").bearer(BASE)
    assert lookup.call_count == 2
    for damage in ("{", "[1]", '{"app-1 octo/app": {"id": 99, "at": "yesterday"}}', '{"app-1 octo/app": 99}'):
        file.write_text(damage)
        before = lookup.call_count
        await remembering(app, api, tmp_path).bearer(BASE)
        assert lookup.call_count == before + 1
    before = lookup.call_count
    clock.advance(3601)
    await remembering(app, api, tmp_path).bearer(BASE)
    assert lookup.call_count == before + 1


async def test_an_installation_that_is_gone_is_looked_up_anew(
    app: AppClient, api: GitHubApi, github: respx.MockRouter, clock: FakeClock, tmp_path: Path
) -> None:
    """The App was removed and installed again; the cache learns of it."""
    InstallationCache(tmp_path, app="app-1", clock=clock).save("octo/app", 7)
    old = github.post("/app/installations/7/access_tokens").mock(return_value=httpx.Response(404, json={}))
    lookup = github.get("/repos/octo/app/installation").mock(return_value=installed())
    github.post("/app/installations/99/access_tokens").mock(side_effect=lambda _request: granted(clock))
    await remembering(app, api, tmp_path).bearer(BASE)
    await remembering(app, api, tmp_path).bearer(BASE)
    assert (old.call_count, lookup.call_count) == (1, 1)


async def test_a_cache_that_cannot_be_written_is_done_without(
    app: AppClient, api: GitHubApi, github: respx.MockRouter, clock: FakeClock, tmp_path: Path
) -> None:
    """A stop ends pods also when the disk is full."""
    github.get("/repos/octo/app/installation").mock(return_value=installed())
    github.post("/app/installations/99/access_tokens").mock(side_effect=lambda _request: granted(clock))
    (tmp_path / "file").write_text("x")
    assert (await remembering(app, api, tmp_path / "file").bearer(BASE)).token


async def test_a_token_is_kept_and_renewed_before_it_ends(
    app: AppClient, api: GitHubApi, github: respx.MockRouter, clock: FakeClock
) -> None:
    """One request for 55 minutes, and a new one in the last five."""
    tokens = credential(app, api)
    route = github.post("/app/installations/99/access_tokens").mock(return_value=granted(clock))
    first = await tokens.bearer(BASE)
    clock.advance(3299)
    assert (await tokens.bearer(BASE)).token == first.token
    route.mock(return_value=granted(clock, "ghs_second"))
    clock.advance(2)

    assert (await tokens.bearer(BASE)).token == "ghs_second"
    assert route.call_count == 2
    assert "ghs_second" not in repr(await tokens.bearer(BASE))


async def test_many_who_ask_at_once_cause_one_request(
    app: AppClient, api: GitHubApi, github: respx.MockRouter, clock: FakeClock
) -> None:
    """Ten callers, one installation look-up, one token."""
    lookup = github.get("/repos/octo/app/installation").mock(return_value=installed())
    route = github.post("/app/installations/99/access_tokens").mock(return_value=granted(clock))
    tokens = credential(app, api, installation_id=None)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(tokens.bearer, BASE)

    assert (lookup.call_count, route.call_count) == (1, 1)


async def test_a_lesser_need_is_served_by_the_same_token(
    app: AppClient, api: GitHubApi, github: respx.MockRouter, clock: FakeClock
) -> None:
    """Reading runs of the same repository needs no token of its own, whichever is asked first; writing does."""
    route = github.post("/app/installations/99/access_tokens").mock(return_value=granted(clock))
    tokens = credential(app, api)

    await tokens.bearer(run_access("Octo/App"))
    await tokens.bearer(BASE)
    assert route.call_count == 1
    await tokens.bearer(run_access("octo/app", "write"))
    assert json.loads(route.calls.last.request.content)["permissions"] == {"actions": "write"}


async def test_another_repository_of_the_organisation_gets_a_token_of_its_own(
    app: AppClient, api: GitHubApi, github: respx.MockRouter, clock: FakeClock
) -> None:
    """A token narrowed to one repository does not read another's runs; the installation is the same."""
    github.get("/orgs/octo/installation").mock(return_value=installed())
    route = github.post("/app/installations/99/access_tokens").mock(return_value=granted(clock))
    tokens = credential(app, api, ORG, "octo/app", None)

    await tokens.bearer(runner_access(ORG, "octo/app"))
    await tokens.bearer(run_access("octo/other"))

    assert [json.loads(call.request.content)["repositories"] for call in route.calls] == [["app"], ["other"]]


async def test_another_owners_repository_is_looked_up_there(
    app: AppClient, api: GitHubApi, github: respx.MockRouter, clock: FakeClock
) -> None:
    """An installation belongs to one account: another account has its own."""
    github.get("/repos/other/app/installation").mock(return_value=installed(id=5))
    route = github.post("/app/installations/5/access_tokens").mock(return_value=granted(clock))
    tokens = credential(app, api, ORG)

    await tokens.bearer(run_access("other/app"))

    assert route.call_count == 1


async def test_a_new_token_that_is_not_known_everywhere_yet_is_tried_again(
    app: AppClient, api: GitHubApi, github: respx.MockRouter, clock: FakeClock
) -> None:
    """A 401 within the first seconds of a token passes; later it means what it says."""
    github.post("/app/installations/99/access_tokens").mock(return_value=granted(clock))
    bad = httpx.Response(401, json={"message": "Bad credentials"})
    route = github.get("/x").mock(side_effect=[bad, httpx.Response(200, json={})])
    bearer = await credential(app, api).bearer(BASE)

    assert (await api.call("x", "GET", "/x", bearer=bearer)).status == 200
    clock.advance(6)
    route.mock(return_value=bad)
    with pytest.raises(AuthenticationFailed):
        await api.call("x", "GET", "/x", bearer=bearer)


@pytest.mark.parametrize(
    ("token", "says"),
    [
        pytest.param("ghp_classic1234", "scope repo", id="classic"),
        pytest.param("github_pat_fine1234", "Administration: write", id="fine-grained"),
        pytest.param("ghs_workflow1234", "can never register runners", id="workflow"),
    ],
)
async def test_a_personal_token_is_used_as_it_is(
    api: GitHubApi, github: respx.MockRouter, redactor: Redactor, token: str, says: str
) -> None:
    """It is a secret from the start, and a refusal says what that kind of token needs."""
    route = github.get("/x").mock(
        return_value=httpx.Response(403, json={"message": f"Resource not accessible by integration {token}"})
    )
    bearer = await PersonalToken(f" {token}\n", api=api, origin="GH_PAT").bearer(BASE)

    with pytest.raises(PermissionDenied, match="the token in GH_PAT") as caught:
        await api.call("x", "GET", "/x", bearer=bearer)
    assert route.calls.last.request.headers["authorization"] == f"Bearer {token}"
    assert says in str(caught.value)
    assert token not in str(caught.value)
    assert token not in redactor.redact(token)
