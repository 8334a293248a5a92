"""Credentials: who is asking, and what they may do.

App JWTs are checked as the documentation of "generating a JSON web token" says; installation tokens have the long form
`ghs_<app id>_<JWT>` that GitHub issues since April 2026.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

import jwt
from cryptography.hazmat.primitives import serialization

from runner_provisioner.simulators.github.entities import Account, ApiError, Repository, not_found

INSTALLATION_TOKEN_LIFE = timedelta(hours=1)
RUNNER_TOKEN_LIFE = timedelta(hours=1)
LONGEST_JWT = 600
NEWEST_JWT_SLACK = 5
LEVELS = {"read": 1, "write": 2, "admin": 3}
OWNER_PERMISSIONS = {
    "administration": "write",
    "actions": "write",
    "contents": "write",
    "metadata": "read",
    "organization_self_hosted_runners": "write",
}


@dataclass(kw_only=True, eq=False)
class App:
    """A registered GitHub App."""

    id: int
    client_id: str
    slug: str
    public_key: str = field(repr=False)
    permissions: dict[str, str]
    created_at: datetime


@dataclass(kw_only=True, eq=False)
class Installation:
    """An App on an account; `repositories` (ids) is None when it covers all of them."""

    id: int
    app: App
    account: Account
    permissions: dict[str, str]
    repositories: set[int] | None
    created_at: datetime
    suspended_at: datetime | None = None

    def covers(self, repository: Repository) -> bool:
        """Whether the repository belongs to it."""
        if repository.owner is not self.account:
            return False
        return self.repositories is None or repository.id in self.repositories


@dataclass(kw_only=True, eq=False)
class Principal:
    """Somebody who showed a valid credential. `kind` is app, installation, fine, classic or job."""

    kind: str
    name: str
    permissions: dict[str, str] = field(default_factory=dict)
    repositories: frozenset[int] | None = None
    account: Account | None = None
    installation: Installation | None = None
    app: App | None = None
    expires_at: datetime | None = None
    revoked: bool = False

    def sees(self, repository: Repository) -> bool:
        """Whether the repository exists for the asker."""
        if self.account is not None and repository.owner is not self.account:
            return False
        return self.repositories is None or repository.id in self.repositories

    def sees_account(self, account: Account) -> bool:
        """Whether the asker has anything to do with this organisation."""
        return self.account is None or self.account is account

    def may(self, permission: str, level: str) -> bool:
        """Whether the permission is held at this level or above."""
        return LEVELS.get(self.permissions.get(permission, ""), 0) >= LEVELS[level]

    @property
    def refusal(self) -> str:
        """GitHub's sentence for a missing permission."""
        if self.kind == "fine":
            return "Resource not accessible by personal access token"
        if self.kind == "classic":
            return "Must have admin rights to Repository."
        return "Resource not accessible by integration"


@dataclass(frozen=True, kw_only=True)
class RunnerToken:
    """A registration or remove token of one scope."""

    value: str = field(repr=False)
    scope: str
    purpose: str
    expires_at: datetime


class Credentials:
    """Every credential of the simulated world, and how to tell a good one."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._apps: list[App] = []
        self._installations: list[Installation] = []
        self._tokens: dict[str, Principal] = {}
        self._runner_tokens: dict[str, RunnerToken] = {}

    def add_app(self, app_id: int, client_id: str, key_pem: str, permissions: Mapping[str, str]) -> App:
        """Register an App by its public or its private key (PEM)."""
        app = App(
            id=app_id,
            client_id=client_id,
            slug=f"app-{app_id}",
            public_key=_public_pem(key_pem),
            permissions={"metadata": "read", **permissions},
            created_at=self._now(),
        )
        with self._lock:
            self._apps.append(app)
        return app

    def install(
        self, app_id: int, account: Account, repositories: Iterable[int] | None, permissions: Mapping[str, str] | None
    ) -> Installation:
        """Install a registered App on an account; KeyError when there is no such App."""
        app = next((each for each in self._apps if each.id == app_id), None)
        if app is None:
            raise KeyError(app_id)
        with self._lock:
            installation = Installation(
                id=5000 + len(self._installations),
                app=app,
                account=account,
                permissions=dict(permissions) if permissions is not None else dict(app.permissions),
                repositories=None if repositories is None else set(repositories),
                created_at=self._now(),
            )
            self._installations.append(installation)
        return installation

    def add_token(self, token: str, principal: Principal) -> Principal:
        """Make a token valid."""
        with self._lock:
            self._tokens[token] = principal
        return principal

    def revoke(self, token: str) -> None:
        """End a token."""
        with self._lock:
            self._tokens[token].revoked = True

    def installations_of(self, app: App) -> list[Installation]:
        """Those of one App."""
        with self._lock:
            return [each for each in self._installations if each.app is app]

    def installation(self, app: App, installation_id: int) -> Installation:
        """By id, for its own App only; 404 otherwise."""
        found = next((each for each in self.installations_of(app) if each.id == installation_id), None)
        if found is None:
            raise not_found()
        return found

    def issue_installation_token(
        self, installation: Installation, repositories: frozenset[int] | None, permissions: Mapping[str, str] | None
    ) -> tuple[str, Principal]:
        """An hour of access, narrowed as asked; 403 when suspended, 422 for more than was granted."""
        if installation.suspended_at is not None:
            raise ApiError(403, "This installation has been suspended")
        granted = installation.permissions
        for permission, level in (permissions or {}).items():
            if LEVELS.get(granted.get(permission, ""), 0) < LEVELS[level]:
                raise ApiError(422, "The permissions requested are not granted to this installation.")
        whole = None if installation.repositories is None else frozenset(installation.repositories)
        principal = Principal(
            kind="installation",
            name=f"installation ID {installation.id}",
            permissions={"metadata": "read", **(granted if permissions is None else permissions)},
            repositories=whole if repositories is None else repositories,
            account=installation.account,
            installation=installation,
            expires_at=self._now() + INSTALLATION_TOKEN_LIFE,
        )
        token = _long_token(installation.app.id, principal.expires_at or self._now())
        return token, self.add_token(token, principal)

    def issue_job_token(self, repository: Repository) -> str:
        """What `github.token` is in a job: no administration, ever."""
        token = _long_token(15368, self._now())
        name = f"job token of {repository.full_name}"
        permissions = {"actions": "write", "contents": "read", "metadata": "read"}
        repositories = frozenset({repository.id})
        self.add_token(token, Principal(kind="job", name=name, permissions=permissions, repositories=repositories))
        return token

    def issue_runner_token(self, scope: str, purpose: str) -> RunnerToken:
        """For `registration` or `remove`; good for an hour and for any number of runners of the scope."""
        value = "A" + base64.b32encode(secrets.token_bytes(18)).decode().rstrip("=")[:28]
        expires_at = self._now() + RUNNER_TOKEN_LIFE
        token = RunnerToken(value=value, scope=scope, purpose=purpose, expires_at=expires_at)
        with self._lock:
            self._runner_tokens[value] = token
        return token

    def runner_token(self, value: str, purpose: str) -> RunnerToken:
        """Check one; 401 when it is unknown, of another purpose or expired."""
        token = self._runner_tokens.get(value)
        if token is None or token.purpose != purpose or token.expires_at <= self._now():
            raise ApiError(401, "Bad credentials")
        return token

    def authenticate(self, header: str) -> Principal:
        """Who sends this Authorization header; 401 for nobody."""
        scheme, _, value = header.partition(" ")
        value = value.strip()
        if not value or scheme.lower() not in ("bearer", "token"):
            raise ApiError(401, "Requires authentication")
        if value in self._tokens:
            return self._known(self._tokens[value])
        if value.startswith("eyJ") and value.count(".") == 2:  # noqa: PLR2004 - a JWT has three parts
            return self._by_jwt(value)
        raise ApiError(401, "Bad credentials")

    def _known(self, principal: Principal) -> Principal:
        expired = principal.expires_at is not None and principal.expires_at <= self._now()
        if principal.revoked or expired:
            raise ApiError(401, "Bad credentials")
        if principal.installation is not None and principal.installation.suspended_at is not None:
            raise ApiError(403, "This installation has been suspended")
        return principal

    def _by_jwt(self, value: str) -> Principal:
        try:
            claims = jwt.decode(value, options={"verify_signature": False})
        except jwt.PyJWTError as error:
            raise ApiError(401, "A JSON web token could not be decoded") from error
        app = self._app_of(claims.get("iss"))
        try:
            unchecked = dict.fromkeys(("verify_exp", "verify_iat", "verify_nbf", "verify_iss", "verify_aud"), False)
            jwt.decode(value, app.public_key, algorithms=["RS256"], options=unchecked)  # type: ignore[arg-type]
        except jwt.PyJWTError as error:
            raise ApiError(401, "A JSON web token could not be decoded") from error
        self._check_times(claims)
        return Principal(kind="app", name=f"app {app.id}", app=app)

    def _app_of(self, issuer: object) -> App:
        if not isinstance(issuer, str):
            raise ApiError(401, "'Issuer' claim ('iss') must be a String")
        app = next((each for each in self._apps if issuer in (each.client_id, str(each.id))), None)
        if app is None:
            raise ApiError(401, "Integration not found")
        return app

    def _check_times(self, claims: Mapping[str, object]) -> None:
        now = self._now().timestamp()
        issued, ends = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or issued > now + NEWEST_JWT_SLACK:
            text = "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
            raise ApiError(401, text)
        if not isinstance(ends, int) or ends <= now:
            text = "'Expiration time' claim ('exp') must be a numeric value representing the future time"
            raise ApiError(401, f"{text} at which the assertion expires")
        if ends > now + LONGEST_JWT:
            raise ApiError(401, "'Expiration time' claim ('exp') is too far in the future")


@lru_cache(maxsize=16)  # reading a private key checks it, which takes 40 ms
def _public_pem(key_pem: str) -> str:
    if "PRIVATE KEY" not in key_pem:
        return key_pem
    private = serialization.load_pem_private_key(key_pem.encode(), password=None)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def _long_token(app_id: int, expires_at: datetime) -> str:
    head = _segment(json.dumps({"alg": "ES256", "typ": "JWT"}).encode())
    claims = {"iss": str(app_id), "exp": int(expires_at.timestamp()), "jti": secrets.token_hex(16)}
    return f"ghs_{app_id}_{head}.{_segment(json.dumps(claims).encode())}.{_segment(secrets.token_bytes(64))}"


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
