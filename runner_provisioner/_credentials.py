"""Where credentials are found: variables, `.env`, and the files that RunPod's and Cursor's own tools keep.

A file of another tool that cannot be read or understood is skipped with a note that names the file and never repeats
what is in it.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import logging
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from runner_provisioner.errors import ConfigurationError, MissingCredential

RUNPOD_NAMES = ("RUNPOD_API_KEY", "RUNPOD_KEY")
PRIME_NAMES = ("PRIME_API_KEY",)
CELIUM_NAMES = ("CELIUM_API_KEY", "LIUM_API_KEY")
GITHUB_NAMES = ("RUNNER_PROVISIONER_GITHUB_TOKEN", "GITHUB_TOKEN", "GH_TOKEN")
APP_ID_NAMES = ("GITHUB_APP_CLIENT_ID", "GITHUB_APP_ID")
APP_KEY, APP_KEY_PATH, APP_INSTALLATION = (
    "GITHUB_APP_PRIVATE_KEY",
    "GITHUB_APP_PRIVATE_KEY_PATH",
    "GITHUB_APP_INSTALLATION_ID",
)
IN_FILE = "_FILE"
"""A credential's variable with this behind it names the file that holds the credential."""

_MAX_FILE = 1024 * 1024
_MAX_DEPTH = 8
_PLACEHOLDER = re.compile(r"\$\{.*\}|<.*>|\$[A-Z_]+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """A credential and the name of the place it was found in."""

    value: SecretStr
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubToken:
    """A personal access token, or another token that somebody else renews."""

    token: SecretStr
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubApp:
    """A GitHub App: its client id or id, its private key as PEM, its installation where it was given."""

    issuer: str
    private_key: SecretStr
    installation_id: int | None = None
    source: str = APP_KEY


@dataclass
class Sources:
    """Every place that is looked at, in order; `notes` says which files were skipped."""

    environ: Mapping[str, str] = field(repr=False)
    home: Path
    cwd: Path
    in_actions: bool
    notes: list[str] = field(default_factory=list)
    _files: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Read `.env`, unless the working directory may be a stranger's pull request."""
        self._dotenv = {} if self.in_actions else self._load(self.cwd / ".env", "./.env", _parse_dotenv)

    def runpod(self) -> Found | None:
        """The first RunPod key found."""
        found = self.first(RUNPOD_NAMES)
        if found is not None:
            return found
        config = self._load(self.home / ".runpod" / "config.toml", "~/.runpod/config.toml", tomllib.loads)
        key = _first_text(_config_keys(config))
        if key:
            return Found(SecretStr(key), "~/.runpod/config.toml")
        servers = self._load(self.home / ".cursor" / "mcp.json", "~/.cursor/mcp.json", _parse_json)
        key = _first_text(_named(servers, RUNPOD_NAMES, 0))
        return Found(SecretStr(key), "~/.cursor/mcp.json") if key else None

    def first(self, names: tuple[str, ...]) -> Found | None:
        """The first of these that the environment has, else that `.env` has; blank is absent.

        For credentials, and what belongs to one: an address in `.env` would send the credential wherever the working
        directory says. Raises ConfigurationError for a file that is named and cannot be read.
        """
        for name in names:
            found = self.given(name)
            if found is not None:
                return found
        for name in names:
            value = self._dotenv.get(name)
            if isinstance(value, str) and value.strip():
                return Found(SecretStr(value.strip()), f"{name} in ./.env")
        return None

    def given(self, name: str) -> Found | None:
        """What the environment has under this name, or what is in the file that it has under NAME_FILE.

        Raises ConfigurationError for both at once, and for a file that cannot be read.
        """
        value, path = self.environ.get(name, "").strip(), self.environ.get(name + IN_FILE, "").strip()
        if value and path:
            raise ConfigurationError(f"{name} and {name}{IN_FILE} are both set: unset one of them")
        if path:
            value = self._in_file(name + IN_FILE, path)
        return Found(SecretStr(value), name + IN_FILE if path else name) if value else None

    def secrets(self) -> tuple[str, ...]:
        """Every secret that stands in the environment, in a file that it names, or in `.env`, used or not."""
        names = (*RUNPOD_NAMES, *PRIME_NAMES, *CELIUM_NAMES, *GITHUB_NAMES, APP_KEY)
        values = [source.get(name) for source in (self.environ, self._dotenv) for name in names]
        in_files = [self.given(name) for name in names if self.environ.get(name + IN_FILE)]
        values += [found.value.get_secret_value() for found in in_files if found is not None]
        return tuple(value for value in values if isinstance(value, str) and value.strip())

    def app(self) -> GitHubApp | None:
        """The GitHub App, None when nothing of one is given.

        Raises MissingCredential for half of one, ConfigurationError for a key or an installation that cannot be right.
        """
        issuer, key, path = self.first(APP_ID_NAMES), self.first((APP_KEY,)), self.first((APP_KEY_PATH,))
        if issuer is None and key is None and path is None:
            return None
        if issuer is None:
            raise MissingCredential(
                f"a GitHub App's key is set without its id: set {APP_ID_NAMES[1]}, or unset the key"
            )
        held = key or (self._content(path) if path is not None else None)
        if held is None:
            raise MissingCredential(f"{issuer.source} is set without the App's key: set {APP_KEY} or {APP_KEY_PATH}")
        return GitHubApp(
            issuer=issuer.value.get_secret_value(),
            private_key=SecretStr(_pem(held)),
            installation_id=self._installation(),
            source=held.source,
        )

    def _installation(self) -> int | None:
        found = self.first((APP_INSTALLATION,))
        if found is None:
            return None
        text = found.value.get_secret_value()
        if not (text.isascii() and text.isdecimal()):
            raise ConfigurationError(f"{found.source} must be a number, as in the address of the installation's page")
        return int(text)

    def _in_file(self, variable: str, path: str) -> str:
        # Once: what a shell's <(...) stands for can be read a single time.
        if variable not in self._files:
            self._files[variable] = self._content(Found(SecretStr(path), variable)).value.get_secret_value().strip()
        return self._files[variable]

    def _content(self, path: Found) -> Found:
        """What is in the file that a variable names."""
        text = path.value.get_secret_value()
        place = self.home / text[2:] if text.startswith("~/") else self.cwd / text
        try:
            return Found(SecretStr(_read(place)), path.source)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            raise ConfigurationError(
                f"the file that {path.source} names cannot be read ({why or 'not a text file'}); correct the path"
            ) from None

    def _load(self, path: Path, label: str, parse: Callable[[str], object]) -> Mapping[str, object]:
        try:
            if not path.is_file():
                return {}
            content = parse(_read(path))
        except OSError as error:
            self.notes.append(f"{label} was skipped: {(error.strerror or 'it cannot be read').lower()}")
        except (ValueError, RecursionError):
            # Neither the text of the error nor its cause: both quote the file.
            self.notes.append(f"{label} was skipped: it is malformed")
        else:
            if isinstance(content, Mapping):
                return content
            self.notes.append(f"{label} was skipped: it is malformed")
        return {}


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        raise ValueError("too long")
    return content.decode("utf-8-sig")


def _parse_json(text: str) -> object:
    return json.loads(text)


def _parse_dotenv(text: str) -> Mapping[str, object]:
    from dotenv.main import DotEnv  # noqa: PLC0415 - most runs have no `.env`

    # Its warnings name lines of the file; they would be the first thing a user sees for a comment in the wrong place.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)
    return dict(DotEnv(dotenv_path=None, stream=io.StringIO(text), interpolate=False).dict())


def _config_keys(config: Mapping[str, object]) -> Iterator[object]:
    """`apikey`, `apiKey` or `api_key`, at the top (runpodctl) or in a table such as [default] (the Python SDK)."""
    tables = [config, config.get("default"), *config.values()]
    for table in tables:
        if isinstance(table, Mapping):
            yield from (value for name, value in table.items() if re.sub(r"[_-]", "", str(name)).lower() == "apikey")


def _named(value: object, names: tuple[str, ...], depth: int) -> Iterator[object]:
    """Whatever stands under one of `names` at any depth: the shapes of editors' server lists differ."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        yield from (value[name] for name in names if name in value)
        for inner in value.values():
            yield from _named(inner, names, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, names, depth + 1)


def _first_text(values: Iterator[object]) -> str | None:
    texts = (value.strip() for value in values if isinstance(value, str))
    return next((text for text in texts if text and not _PLACEHOLDER.fullmatch(text)), None)


def _pem(found: Found) -> str:
    text = found.value.get_secret_value()
    if "-----BEGIN" not in text:
        try:
            text = base64.b64decode("".join(text.split()), validate=True).decode()
        except (binascii.Error, ValueError):
            text = ""
    text = text.replace("\\r", "").replace("\\n", "\n").replace("\r\n", "\n").strip()
    if not re.match(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n", text) or "-----END" not in text:
        raise ConfigurationError(
            f"{found.source} holds no private key in PEM form (nor its base64): give the .pem file that GitHub made"
        )
    return text + "\n"
