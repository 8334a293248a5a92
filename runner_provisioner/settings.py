"""Everything that is configured from outside, read once from what it is handed: variables, home and working folder.

Nothing here looks at the process's own environment. Credentials are opaque; their places are listed in
`Settings.read`. Addresses are taken from the variables alone.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from runner_provisioner._credentials import (
    APP_KEY,
    GITHUB_NAMES,
    RUNPOD_NAMES,
    Found,
    GitHubApp,
    GitHubToken,
    Sources,
)
from runner_provisioner._urls import check_base_url
from runner_provisioner.domain.money import BID_STEP, MOST
from runner_provisioner.errors import ConfigurationError, InvalidRequest, MissingCredential
from runner_provisioner.github.addresses import api_url_of

__all__ = ["GitHubApp", "GitHubToken", "Settings"]

_PROGRAM = "runner-provisioner"
_RUNPOD_GRAPHQL = "https://api.runpod.io/graphql"
_GITHUB = "https://github.com"
_MAX_SECONDS = 3600.0
DATABASE = "RUNNER_PROVISIONER_DATABASE"
IN_FILES = (DATABASE, "RUNNER_PROVISIONER_WORKFLOW_TOKEN", "HTTPS_PROXY")
"""Of the fields those that may hold a secret, so that NAME_FILE may name the file that it is in."""
_POSTGRES = ("postgresql://", "postgres://")
_ADDRESSES = (
    "RUNPOD_API_URL",
    "RUNPOD_REST_URL",
    "PRIME_API_BASE_URL",
    "LIUM_BASE_URL",
    "GITHUB_API_URL",
    "GITHUB_SERVER_URL",
)


def _seconds(value: float) -> float:
    if not math.isfinite(value) or not 0.0 <= value <= _MAX_SECONDS:
        raise ValueError
    return value


def _positive_seconds(value: float) -> float:
    if _seconds(value) == 0.0:
        raise ValueError
    return value


def _flag(value: object) -> object:
    return value if isinstance(value, bool) else str(value).lower() not in {"", "0", "false", "no"}


def _pins(value: object) -> object:
    """`host=PIN` separated by commas; a PIN is the base64 of a SHA-256, curl's `sha256//` in front is taken off."""
    if not isinstance(value, str):
        return value
    pins: dict[str, frozenset[str]] = {}
    for entry in filter(None, map(str.strip, value.split(","))):
        host, _, pin = entry.partition("=")
        digest = re.sub(r"^sha256/{1,2}", "", pin.strip())
        try:
            length = len(base64.b64decode(digest, validate=True))
        except binascii.Error:
            length = 0
        if not host.strip() or length != 32:  # noqa: PLR2004 - the length of a SHA-256
            raise ValueError
        pins[host.strip().lower()] = pins.get(host.strip().lower(), frozenset()) | {digest}
    return pins


def _proxy(value: object) -> object:
    if not isinstance(value, str):
        return value
    url = value if "://" in value else f"http://{value}"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or (parts.port or 1) < 1 or not url.isprintable():
        raise ValueError
    return url


def _database(value: object) -> object:
    """A PostgreSQL URL, or a path; an SQLite URL would be taken for a path that nobody meant."""
    if not isinstance(value, str) or ("://" not in value and value.isprintable()):
        return value
    urlsplit(value).port  # noqa: B018 - raises ValueError for one that is none
    if not value.startswith(_POSTGRES) or not value.isprintable():
        raise ValueError
    return value


Seconds = Annotated[float, AfterValidator(_seconds)]
PositiveSeconds = Annotated[float, AfterValidator(_positive_seconds)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Dollars = Annotated[Decimal, Field(ge=BID_STEP, le=MOST, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=100_000)]

_ANY_SECONDS = "must be a number of seconds from 0 to 3600, like 30"
_SOME_SECONDS = "must be a number of seconds above 0 and up to 3600, like 5"
_USD = f"must be an amount of US dollars from {BID_STEP} to {MOST}, like 25"
_COUNT = "must be a whole number from 1 to 100000, like 10"


class Settings(BaseSettings):
    """What the user and the workflow chose; times are in seconds. Its repr shows no secret."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, arbitrary_types_allowed=True)

    settle: Seconds = Field(30.0, alias="RUNNER_PROVISIONER_SETTLE", description=_ANY_SECONDS)
    poll_booting: PositiveSeconds = Field(5.0, alias="RUNNER_PROVISIONER_POLL_BOOTING", description=_SOME_SECONDS)
    poll_running: PositiveSeconds = Field(1.0, alias="RUNNER_PROVISIONER_POLL_RUNNING", description=_SOME_SECONDS)
    rate_per_second: Count = Field(10, alias="RUNNER_PROVISIONER_RATE_PER_SECOND", description=_COUNT)
    rate_per_minute: Count = Field(100, alias="RUNNER_PROVISIONER_RATE_PER_MINUTE", description=_COUNT)
    retry_base: Seconds = Field(5.0, alias="RUNNER_PROVISIONER_RETRY_BASE", description=_ANY_SECONDS)
    request_timeout: PositiveSeconds = Field(
        30.0, alias="RUNNER_PROVISIONER_REQUEST_TIMEOUT", description=_SOME_SECONDS
    )
    spki_pins: Annotated[Mapping[str, frozenset[str]], BeforeValidator(_pins)] = Field(
        default_factory=dict,
        alias="RUNNER_PROVISIONER_SPKI_PINS",
        description="must look like HOST=BASE64 of a SHA-256, with commas between, like api.runpod.io=47DE...Uo=",
    )

    budget_day: Dollars | None = Field(default=None, alias="RUNNER_PROVISIONER_BUDGET_DAY", description=_USD)
    budget_month: Dollars | None = Field(default=None, alias="RUNNER_PROVISIONER_BUDGET_MONTH", description=_USD)

    in_actions: Flag = Field(default=False, alias="GITHUB_ACTIONS")
    ci: Flag = Field(default=False, alias="CI")
    no_color: Annotated[bool, BeforeValidator(bool)] = Field(default=False, alias="NO_COLOR")
    repository: str | None = Field(
        default=None,
        alias="GITHUB_REPOSITORY",
        pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$",
        description="must look like owner/name",
    )
    repository_owner: str | None = Field(
        default=None,
        alias="GITHUB_REPOSITORY_OWNER",
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="must be the name of a user or an organisation",
    )
    run_id: int | None = Field(default=None, alias="GITHUB_RUN_ID", ge=1, description="must be the number of a run")
    run_attempt: int | None = Field(default=None, alias="GITHUB_RUN_ATTEMPT", ge=1, description="must be 1 or more")
    runner_temp: Path | None = Field(default=None, alias="RUNNER_TEMP")
    github_output: Path | None = Field(default=None, alias="GITHUB_OUTPUT")
    github_step_summary: Path | None = Field(default=None, alias="GITHUB_STEP_SUMMARY")
    github_env: Path | None = Field(default=None, alias="GITHUB_ENV")

    runpod_api_url: str = Field(_RUNPOD_GRAPHQL, alias="RUNPOD_API_URL")
    runpod_rest_url: str = Field("", alias="RUNPOD_REST_URL")
    runpod_api: Literal["graphql", "rest"] = Field(
        "graphql", alias="RUNPOD_API", description="must be graphql or rest: which of RunPod's APIs is preferred"
    )
    prime_api_url: str = Field("", alias="PRIME_API_BASE_URL")
    prime_team_id: str = Field("", alias="PRIME_TEAM_ID")
    lium_base_url: str = Field("", alias="LIUM_BASE_URL")
    github_api_url: str = Field("", alias="GITHUB_API_URL")
    github_server_url: str = Field("", alias="GITHUB_SERVER_URL")
    https_proxy: Annotated[SecretStr | None, BeforeValidator(_proxy)] = Field(
        default=None, alias="HTTPS_PROXY", description="must look like http://host:port"
    )
    no_proxy: str = Field("", alias="NO_PROXY")
    workflow_token: SecretStr | None = Field(default=None, alias="RUNNER_PROVISIONER_WORKFLOW_TOKEN")
    xdg_cache_home: Path | None = Field(default=None, alias="XDG_CACHE_HOME")
    xdg_state_home: Path | None = Field(default=None, alias="XDG_STATE_HOME")
    history: str = Field("", alias="RUNNER_PROVISIONER_HISTORY")
    database: Annotated[SecretStr | None, BeforeValidator(_database)] = Field(
        default=None,
        alias=DATABASE,
        description="must be the path of a file, or look like postgresql://user:password@host:port/name",
    )

    home: Path
    cwd: Path
    runpod: Found | None = None
    notes: tuple[str, ...] = ()

    _sources: Sources | None = PrivateAttr(default=None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings gives all by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - it would read the process's own environment
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - `.env` is for credentials alone
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there is no such folder
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `read` was handed."""
        return (init_settings,)

    @classmethod
    def read(cls, environ: Mapping[str, str], *, home: Path, cwd: Path) -> Self:
        """Read everything once.

        RunPod's key, first found wins: RUNPOD_API_KEY, RUNPOD_KEY, the same in `.env` of `cwd` (not in Actions),
        `~/.runpod/config.toml`, `~/.cursor/mcp.json`; every credential's variable may be NAME_FILE instead, the path of
        a file with what it holds. Raises InvalidRequest, one line with the variable and the remedy, for a value that
        cannot be, ConfigurationError for such a file that cannot be read; a malformed file of another tool becomes one
        of `notes`.
        """
        given = _given(cls, environ)
        in_actions = bool(_flag(given.get("GITHUB_ACTIONS", "")))
        sources = Sources(environ=environ, home=home, cwd=cwd, in_actions=in_actions)
        in_files = {name: sources.given(name) for name in IN_FILES}
        given |= {name: found.value.get_secret_value() for name, found in in_files.items() if found is not None}
        runpod = sources.runpod()
        addresses = _addresses(given)
        try:
            settings = cls(**{**given, **addresses}, home=home, cwd=cwd, runpod=runpod, notes=tuple(sources.notes))
        except ValidationError as error:
            _refuse(cls, error)
        settings._sources = sources
        return settings

    @property
    def credential_source(self) -> str | None:
        """Where RunPod's key was found, for messages."""
        return self.runpod.source if self.runpod is not None else None

    def secrets(self) -> tuple[str, ...]:
        """Every secret that was found, used or not, for the redactor to know before anything is printed."""
        found = list(self._sources.secrets()) if self._sources is not None else []
        if self.runpod is not None:
            found.append(self.runpod.value.get_secret_value())
        if self.workflow_token is not None:
            found.append(self.workflow_token.get_secret_value())
        password = urlsplit(self.https_proxy.get_secret_value()).password if self.https_proxy is not None else None
        found += [password] if password else []
        return (*found, *_passwords(self.database.get_secret_value() if self.database is not None else ""))

    def credential(self, names: tuple[str, ...]) -> Found | None:
        """The first of these variables that is set, also in `.env`; RunPod's is looked for in its tools' files too."""
        if names == RUNPOD_NAMES:
            return self.runpod
        return self._sources.first(names) if self._sources is not None else None

    def held(self, names: tuple[str, ...]) -> Found:
        """The same where it is known to be there. Raises ConfigurationError for one that no request can carry."""
        found = self.credential(names)
        if found is None:
            raise MissingCredential(f"no key found: set {names[0]}")
        return _one_word(found)

    def address(self, name: str) -> str:
        """An address by its variable, from the real environment alone; empty where it is not set.

        Raises InvalidRequest for one that is neither https nor on loopback.
        """
        known = self._of_alias(name)
        if known is not None:
            return known
        given = self._sources.environ.get(name, "").strip() if self._sources is not None else ""
        return check_base_url(given, name=name) if given else ""

    def variable(self, name: str) -> str:
        """A variable that belongs to a credential, also one in `.env`; empty where it is not set."""
        known = self._of_alias(name)
        if known:
            return _one_word(Found(SecretStr(known), name)).value.get_secret_value()
        found = self._sources.first((name,)) if self._sources is not None else None
        return _one_word(found).value.get_secret_value() if found is not None else ""

    def _of_alias(self, alias: str) -> str | None:
        """One of our own variables, its default filled in; None for another."""
        fields = type(self).model_fields
        return next((str(getattr(self, name)) for name, one in fields.items() if one.alias == alias), None)

    def runpod_key(self) -> SecretStr:
        """RunPod's key; raises MissingCredential, which names the places that were looked at."""
        if self.runpod is None:
            places = "RUNPOD_API_KEY, RUNPOD_KEY, .env, ~/.runpod/config.toml, ~/.cursor/mcp.json"
            notes = f" ({'; '.join(self.notes)})" if self.notes else ""
            raise MissingCredential(f"no RunPod key found: set RUNPOD_API_KEY (looked at {places}){notes}")
        return _one_word(self.runpod).value

    def github_credential(self) -> GitHubApp | GitHubToken:
        """The GitHub App when one is complete, else the token.

        Raises MissingCredential when there is neither, or half an App; ConfigurationError when the App's key is none.
        """
        sources = self._sources
        app = sources.app() if sources is not None else None
        if app is not None:
            return app
        found = sources.first(GITHUB_NAMES) if sources is not None else None
        if found is None:
            raise MissingCredential(
                f"no GitHub credential found: set {GITHUB_NAMES[0]} (or GITHUB_TOKEN, GH_TOKEN), "
                f"or GITHUB_APP_ID and {APP_KEY}"
            )
        return GitHubToken(token=_one_word(found).value, source=found.source)

    @property
    def cache_dir(self) -> Path:
        """The user's cache folder of this program; may not exist."""
        return _xdg(self.xdg_cache_home, self.home / ".cache")

    @property
    def state_dir(self) -> Path:
        """Where `start` keeps its state file: the job's own folder in Actions, else the user's state folder."""
        if self.in_actions and self.runner_temp is not None:
            return self.runner_temp / _PROGRAM
        return _xdg(self.xdg_state_home, self.home / ".local" / "state")

    @property
    def history_file(self) -> Path | None:
        """Where the installation remembers what it rented; None when it shall not."""
        if self.history.lower() == "off":
            return None
        return self._path(self.history) if self.history else self.state_dir / "history.sqlite3"

    @property
    def history_url(self) -> str | None:
        """The PostgreSQL database that takes the history too, unless that has a place of its own or is off."""
        where = self.service_database
        return where if isinstance(where, str) and not self.history else None

    @property
    def service_database(self) -> Path | str:
        """Where the service keeps its state: a file, or the URL of a PostgreSQL database, which is a secret."""
        chosen = self.database.get_secret_value() if self.database is not None else ""
        if chosen.startswith(_POSTGRES):
            return chosen
        return self._path(chosen) if chosen else self.state_dir / "service.sqlite3"

    def _path(self, text: str) -> Path:
        return self.home / text[2:] if text.startswith("~/") else self.cwd / text

    @property
    def proxy_exceptions(self) -> tuple[str, ...]:
        """The suffixes of NO_PROXY; `*` becomes the empty suffix, which every host has."""
        return tuple(entry.strip() for entry in self.no_proxy.split(",") if entry.strip())


def _given(settings: type[BaseSettings], environ: Mapping[str, str]) -> dict[str, Any]:
    """The variables that are ours and not blank; an empty variable is an absent one."""
    names = [field.alias for field in settings.model_fields.values() if field.alias is not None]
    given = {name: environ.get(name, "").strip() for name in names}
    for name in ("HTTPS_PROXY", "NO_PROXY"):
        given[name] = given[name] or environ.get(name.lower(), "").strip()
    return {name: value for name, value in given.items() if value}


def _passwords(url: str) -> tuple[str, ...]:
    """What is secret in a database's URL, as it is written and as it is meant."""
    if not url.startswith(_POSTGRES):
        return ()
    parts = urlsplit(url)
    written = [parts.password or "", *re.findall(r"(?:^|&)password=([^&]*)", parts.query)]
    return tuple(dict.fromkeys(one for text in written if text for one in (text, unquote(text))))


def _addresses(given: Mapping[str, str]) -> dict[str, str]:
    """The addresses, GitHub's and RunPod's that were not given derived from those that were."""
    checked = {name: check_base_url(given[name], name=name) for name in _ADDRESSES if name in given}
    runpod = checked.get("RUNPOD_API_URL", _RUNPOD_GRAPHQL)
    parts = urlsplit(runpod)
    api = checked.get("GITHUB_API_URL")
    server = checked.get("GITHUB_SERVER_URL") or (_server_url_of(api) if api else _GITHUB)
    return {
        **checked,
        "RUNPOD_API_URL": runpod,
        "RUNPOD_REST_URL": checked.get("RUNPOD_REST_URL") or f"{parts.scheme}://{parts.netloc}/v2",
        "GITHUB_API_URL": api or api_url_of(server),
        "GITHUB_SERVER_URL": server,
    }


def _server_url_of(api_url: str) -> str:
    """The reverse of `api_url_of`, for when only the API's address is given."""
    parts = urlsplit(api_url)
    host = parts.netloc
    bare = host.removeprefix("api.")
    if bare.partition(":")[0] in {"github.com", "github.localhost"} or bare.endswith(".ghe.com"):
        host = bare
    return f"{parts.scheme}://{host}{parts.path.removesuffix('/api/v3')}"


def _xdg(chosen: Path | None, default: Path) -> Path:
    # A relative path is to be ignored (XDG base directory specification).
    return (chosen if chosen is not None and chosen.is_absolute() else default) / _PROGRAM


def _refuse(settings: type[BaseSettings], error: ValidationError) -> NoReturn:
    """Raise one line: the variable and what it must be, never what it was."""
    name = str(error.errors(include_input=False, include_url=False, include_context=False)[0]["loc"][0])
    remedies = {field.alias: field.description for field in settings.model_fields.values()}
    raise InvalidRequest(f"{name} {remedies.get(name) or 'has a value that cannot be used'}") from None


def _one_word(found: Found) -> Found:
    """The credential, or what belongs to it, when a request can carry it. ConfigurationError names its place."""
    if not all(" " <= letter <= "~" for letter in found.value.get_secret_value()):
        raise ConfigurationError(
            f"{found.source} holds a line break or another character that no key has: paste it again"
        )
    return found
