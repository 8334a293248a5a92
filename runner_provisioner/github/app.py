"""Speaking as a GitHub App: its signed statement, its installations, the tokens they grant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from runner_provisioner.errors import ConfigurationError, GitHubError, PermissionDenied
from runner_provisioner.github.addresses import repository_path
from runner_provisioner.github.errors import ABSENT, SERVICE, ClockSkewed, Speaker, suspended_message
from runner_provisioner.github.wire import Bearer, read

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from runner_provisioner._http import Answer
    from runner_provisioner.github.fields import Fields
    from runner_provisioner.github.wire import GitHubApi

_BACKDATED = timedelta(seconds=60)
_VALID = timedelta(minutes=9)
_LEVELS = {"read": 1, "write": 2, "admin": 3}
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a token must be allowed, by GitHub's names and levels, and in which repository (None = in all it sees)."""

    permissions: Mapping[str, str]
    repository: str | None = None

    def covers(self, other: Access) -> bool:
        """Whether a token for this serves for the other."""
        narrow = self.repository is not None and self.repository.lower() != (other.repository or "").lower()
        return not narrow and not self.lacks(other)

    def lacks(self, other: Access) -> list[str]:
        """The other's permissions that this does not have, as `name: level`."""
        return [f"{name}: {level}" for name, level in other.permissions.items() if not self._allows(name, level)]

    def _allows(self, name: str, level: str) -> bool:
        return _LEVELS.get(self.permissions.get(name, ""), 0) >= _LEVELS[level]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where an App is installed; `granted` is None when GitHub was not asked."""

    id: int
    granted: Access | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """An installation's token."""

    token: str = field(repr=False)
    expires_at: datetime
    access: Access


class AppKey:
    """An App's private key: signs the statement that proves who is asking."""

    def __init__(self, *, issuer: str, private_key: str) -> None:
        """`issuer` is the App's client id or its id; `private_key` is PEM, line ends may be written as backslash n."""
        self.issuer = issuer.strip()
        self._private_key = private_key.strip().replace("\\n", "\n")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be printed."""
        return (self._private_key,)

    def statement(self, now: datetime) -> str:
        """The JWT, good from a minute before `now` to nine minutes after (docs: generating a JWT; at most ten).

        ConfigurationError when the key is none that can sign.
        """
        import jwt  # noqa: PLC0415 - heavy: only who speaks as an App pays for it

        claims = {
            "iat": int((now - _BACKDATED).timestamp()),
            "exp": int((now + _VALID).timestamp()),
            "iss": self.issuer,
        }
        return jwt.encode(claims, self._signing_key(), algorithm="RS256")

    def _signing_key(self) -> RSAPrivateKey:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - heavy, like jwt
        from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - likewise
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - likewise

        try:
            key = load_pem_private_key(self._private_key.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The cause is left out: it may quote the key.
            raise _unusable(self.issuer, "cannot be read as PEM without a password") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise _unusable(self.issuer, "is not an RSA key")
        return key


def _unusable(issuer: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the private key of GitHub App '{issuer}' {why}: give the whole .pem file that GitHub made for the App"
    )


class AppClient:
    """The calls that only an App may make, in its own name."""

    def __init__(self, api: GitHubApi, key: AppKey) -> None:
        """Nothing is sent and nothing is signed yet."""
        self._api = api
        self._key = key
        # GitHub's clock minus ours, once GitHub has said that ours is wrong.
        self._ahead = timedelta()
        self.speaker = Speaker(
            label=f"GitHub App '{key.issuer}'",
            remedy="check its id (GITHUB_APP_ID), and make a new private key in its settings",
            permission_remedy="grant it in the App's settings and let the owner of the account accept it",
            is_app=True,
        )
        for secret in key.secrets:
            api.redactor.add(secret)

    def now(self) -> datetime:
        """The time by GitHub's clock, as far as it is known."""
        return self._api.clock.now() + self._ahead

    async def installation(self, owner: str, repository: str | None) -> Installation:
        """Where the App is installed for `owner/name`, or for the organisation (else the user) `owner`.

        PermissionDenied when it is not, or is suspended.
        """
        for path in _places(owner, repository):
            answer = await self._call("findInstallation", "GET", f"{path}/installation", accepted={_NOT_FOUND})
            if answer.status != _NOT_FOUND:
                return self._installed(read("findInstallation", answer))
        where, option = (repository, "--repository") if repository else (owner, "--organization")
        message = f"{self.speaker.label} is not installed on {where}: install it there, or check the name ({option})"
        raise self._denied(message, "findInstallation", ABSENT)

    async def grant(self, installation: Installation, access: Access) -> Grant:
        """A token with this access and no more; PermissionDenied naming what the installation lacks."""
        body: dict[str, object] = {"permissions": dict(access.permissions)}
        if access.repository is not None:
            body["repositories"] = [access.repository.partition("/")[2]]
        path = f"/app/installations/{installation.id}/access_tokens"
        try:
            answer = await self._call("createInstallationToken", "POST", path, json=body)
        except GitHubError as error:
            raise self._refused(installation, access, error) from error
        except PermissionDenied as error:
            if error.code != ABSENT:
                raise
            message = f"{self.speaker.label} has no installation {installation.id}: leave the id out to have it found"
            raise self._denied(message, error.operation, ABSENT) from error
        found = read("createInstallationToken", answer)
        token = found.text("token")
        self._api.redactor.add(token)
        return Grant(token=token, expires_at=found.time("expires_at"), access=access)

    def _installed(self, found: Fields) -> Installation:
        if found.text_or_none("suspended_at"):
            raise self._denied(suspended_message(self.speaker.label), "findInstallation", "SUSPENDED")
        return Installation(id=found.number("id"), granted=Access(permissions=found.words("permissions")))

    def _refused(self, installation: Installation, access: Access, error: GitHubError) -> PermissionDenied:
        where = access.repository or "its account"
        lacking = installation.granted.lacks(access) if installation.granted else []
        what = ", ".join(lacking or [f"{name}: {level}" for name, level in access.permissions.items()])
        doubt = "lacks" if lacking else f"may lack, or does not reach {where} with,"
        message = f"{self.speaker.label} {doubt} the permission {what} ({error}): {self.speaker.permission_remedy}"
        return self._denied(message, error.operation, error.code)

    def _denied(self, message: str, operation: str, code: str | None) -> PermissionDenied:
        return PermissionDenied(message, service=SERVICE, operation=operation, code=code)

    async def _call(
        self, operation: str, method: str, path: str, *, json: object | None = None, accepted: Collection[int] = ()
    ) -> Answer:
        try:
            return await self._api.call(operation, method, path, bearer=self._bearer(), json=json, accepted=accepted)
        except ClockSkewed as error:
            if error.server_time is None:
                raise
            self._ahead = error.server_time - self._api.clock.now()
            return await self._api.call(operation, method, path, bearer=self._bearer(), json=json, accepted=accepted)

    def _bearer(self) -> Bearer:
        statement = self._key.statement(self.now())
        self._api.redactor.add(statement)
        return Bearer(token=statement, speaker=self.speaker)


def _places(owner: str, repository: str | None) -> tuple[str, ...]:
    if repository is not None:
        return (repository_path(repository),)
    return (f"/orgs/{owner}", f"/users/{owner}")
