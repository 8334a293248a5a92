"""Settings come from what is handed in, in a fixed order, and show no secret."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from runner_provisioner.errors import ConfigurationError, InvalidRequest, MissingCredential
from runner_provisioner.settings import GitHubApp, GitHubToken, Settings

KEY = "sesame-open-sesame"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----\n"
APP = {"GITHUB_APP_ID": "123", "GITHUB_APP_PRIVATE_KEY": PEM}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """An empty working folder."""
    (tmp_path / "cwd").mkdir()
    return tmp_path / "cwd"


@pytest.fixture
def read(home: Path, cwd: Path) -> Reader:
    """Reads settings from these folders."""
    return Reader(home, cwd)


class Reader:
    """Reads settings and writes the files they are read from."""

    def __init__(self, home: Path, cwd: Path) -> None:
        """Use these folders."""
        self.home, self.cwd = home, cwd

    def __call__(self, environ: Mapping[str, str] | None = None) -> Settings:
        """Read."""
        return Settings.read(environ or {}, home=self.home, cwd=self.cwd)

    def dotenv(self, text: str | bytes) -> None:
        """Write `.env`."""
        (self.cwd / ".env").write_bytes(text if isinstance(text, bytes) else text.encode())

    def runpod(self, text: str) -> None:
        """Write RunPod's file."""
        (self.home / ".runpod").mkdir(exist_ok=True)
        (self.home / ".runpod" / "config.toml").write_text(text)

    def cursor(self, content: object) -> None:
        """Write Cursor's file."""
        (self.home / ".cursor").mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (self.home / ".cursor" / "mcp.json").write_text(text)


def secret(value: SecretStr) -> str:
    """What it hides."""
    return value.get_secret_value()


def test_defaults_are_those_of_the_plan(read: Reader) -> None:
    """Without any variable everything has a value, and the process's own environment plays no part."""
    os.environ["RUNNER_PROVISIONER_SETTLE"] = "1"
    try:
        settings = read()
    finally:
        del os.environ["RUNNER_PROVISIONER_SETTLE"]
    assert (settings.settle, settings.poll_booting, settings.poll_running) == (30.0, 5.0, 1.0)
    assert (settings.rate_per_second, settings.rate_per_minute) == (10, 100)
    assert (settings.retry_base, settings.request_timeout, dict(settings.spki_pins)) == (5.0, 30.0, {})
    assert (settings.in_actions, settings.ci, settings.no_color) == (False, False, False)
    assert settings.runpod_api_url == "https://api.runpod.io/graphql"
    assert settings.runpod_rest_url == "https://api.runpod.io/v2"
    assert (settings.github_api_url, settings.github_server_url) == ("https://api.github.com", "https://github.com")
    assert settings.cache_dir == read.home / ".cache" / "runner-provisioner"
    assert settings.state_dir == read.home / ".local" / "state" / "runner-provisioner"
    assert (settings.credential_source, settings.notes, settings.proxy_exceptions) == (None, (), ())


def test_variables_are_read_and_blank_ones_are_absent(read: Reader) -> None:
    """What the workflow and the user say."""
    settings = read(
        {
            "GITHUB_ACTIONS": "true",
            "CI": "1",
            "NO_COLOR": "0",
            "GITHUB_REPOSITORY": "owner/name",
            "GITHUB_REPOSITORY_OWNER": "owner",
            "GITHUB_RUN_ID": "42",
            "GITHUB_RUN_ATTEMPT": "2",
            "RUNNER_TEMP": "/w/runner",
            "GITHUB_OUTPUT": "/w/out",
            "GITHUB_STEP_SUMMARY": "/w/summary",
            "GITHUB_ENV": "/w/env",
            "XDG_CACHE_HOME": "/w/cache",
            "XDG_STATE_HOME": "relative",
            "RUNNER_PROVISIONER_SETTLE": "0.1",
            "RUNNER_PROVISIONER_RATE_PER_MINUTE": " 50 ",
            "RUNNER_PROVISIONER_POLL_BOOTING": "",
            "https_proxy": "http://user:pw@proxy.example:3128",
            "NO_PROXY": "internal.example, .corp.example,",
        }
    )
    assert (settings.in_actions, settings.ci, settings.no_color) == (True, True, True)
    assert (settings.repository, settings.repository_owner) == ("owner/name", "owner")
    assert (settings.run_id, settings.run_attempt) == (42, 2)
    assert settings.github_output == Path("/w/out")
    assert settings.cache_dir == Path("/w/cache/runner-provisioner")
    assert settings.state_dir == Path("/w/runner/runner-provisioner")
    assert (settings.settle, settings.rate_per_minute, settings.poll_booting) == (0.1, 50, 5.0)
    assert settings.https_proxy is not None
    assert secret(settings.https_proxy) == "http://user:pw@proxy.example:3128"
    assert settings.proxy_exceptions == ("internal.example", ".corp.example")
    assert "pw" not in repr(settings)


def test_proxy_may_lack_its_scheme(read: Reader) -> None:
    """As curl takes it."""
    proxy = read({"HTTPS_PROXY": "proxy.example:3128"}).https_proxy
    assert proxy == SecretStr("http://proxy.example:3128")
    assert Settings(home=read.home, cwd=read.cwd, https_proxy=proxy).https_proxy == proxy


def test_relative_state_folder_is_ignored(read: Reader) -> None:
    """As the base directory specification asks."""
    assert read({"XDG_STATE_HOME": "relative"}).state_dir == read.home / ".local" / "state" / "runner-provisioner"
    assert read({"XDG_STATE_HOME": "/s", "RUNNER_TEMP": "/t"}).state_dir == Path("/s/runner-provisioner")


def test_the_service_keeps_its_state_where_it_is_said_to(read: Reader) -> None:
    """In a file by default, or a PostgreSQL database, which takes the history unless that has a place of its own."""
    name = "RUNNER_PROVISIONER_DATABASE"
    url = "postgresql://me:se%2Fsame@db.example:5432/pods?sslmode=require&password=ano%20ther"
    assert read().service_database == read.home / ".local/state/runner-provisioner/service.sqlite3"
    assert read({name: "~/s.db"}).service_database == read.home / "s.db"
    assert (read().history_url, read({name: "s.db"}).history_url) == (None, None)
    chosen = read({name: url})
    assert (chosen.service_database, chosen.history_url) == (url, url)
    assert {"se%2Fsame", "se/same", "ano%20ther", "ano ther"} <= set(chosen.secrets())
    assert "sesame" not in repr(chosen)
    assert "se%2Fsame" not in repr(chosen)
    assert set(read({name: "postgres://db.example/pods"}).secrets()) == set(read().secrets())
    for place in ("off", "h.db"):
        assert read({name: url, "RUNNER_PROVISIONER_HISTORY": place}).history_url is None


@pytest.mark.parametrize(
    "text",
    ["mysql://me:sesame@db/pods", "sqlite:///s.db", "postgresql://me:sesame@db:port/pods", "postgresql://a\x07b"],
    ids=["another engine", "another form", "no port", "unprintable"],
)
def test_a_database_that_can_be_none_is_refused(read: Reader, text: str) -> None:
    """With the two forms there are, and without what was given."""
    with pytest.raises(InvalidRequest, match=r"RUNNER_PROVISIONER_DATABASE must be the path .* postgresql://") as error:
        read({"RUNNER_PROVISIONER_DATABASE": text})
    assert "sesame" not in str(error.value)


def test_the_history_is_where_it_is_said_to_be(read: Reader) -> None:
    """By itself beside the state files; from the working directory, the home or the root; nowhere when off."""
    assert read().history_file == read.home / ".local/state/runner-provisioner/history.sqlite3"
    job = {"GITHUB_ACTIONS": "true", "RUNNER_TEMP": "/t"}
    assert read(job).history_file == Path("/t/runner-provisioner/history.sqlite3")
    places = {"/a/b": Path("/a/b"), "~/b": read.home / "b", "b": read.cwd / "b", "off": None, "OFF": None}
    for text, wanted in places.items():
        assert read({**job, "RUNNER_PROVISIONER_HISTORY": text}).history_file == wanted


@pytest.mark.parametrize("value", ["false", "0", "", "no", "False"])
def test_flags_can_be_switched_off(read: Reader, value: str) -> None:
    """A variable that says no means no."""
    assert not read({"CI": value, "GITHUB_ACTIONS": value}).ci


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUNNER_PROVISIONER_SETTLE", "soon"),
        ("RUNNER_PROVISIONER_SETTLE", "-1"),
        ("RUNNER_PROVISIONER_SETTLE", "nan"),
        ("RUNNER_PROVISIONER_SETTLE", "inf"),
        ("RUNNER_PROVISIONER_SETTLE", "3601"),
        ("RUNNER_PROVISIONER_POLL_BOOTING", "0"),
        ("RUNNER_PROVISIONER_POLL_RUNNING", "x"),
        ("RUNNER_PROVISIONER_RATE_PER_SECOND", "0"),
        ("RUNNER_PROVISIONER_RATE_PER_MINUTE", "1.5"),
        ("RUNNER_PROVISIONER_BUDGET_DAY", "1e400"),
        ("RUNNER_PROVISIONER_BUDGET_MONTH", "1e-30"),
        ("RUNNER_PROVISIONER_RETRY_BASE", "five"),
        ("RUNNER_PROVISIONER_REQUEST_TIMEOUT", "0"),
        ("RUNNER_PROVISIONER_SPKI_PINS", "api.runpod.io"),
        ("RUNNER_PROVISIONER_SPKI_PINS", "api.runpod.io=AAAA"),
        ("RUNNER_PROVISIONER_SPKI_PINS", "api.runpod.io=no base 64"),
        ("RUNNER_PROVISIONER_SPKI_PINS", "=" + "A" * 43 + "="),
        ("GITHUB_REPOSITORY", "no-slash"),
        ("GITHUB_REPOSITORY", "a/b/c"),
        ("GITHUB_REPOSITORY_OWNER", "a/b"),
        ("GITHUB_RUN_ID", "x"),
        ("GITHUB_RUN_ATTEMPT", "0"),
        ("HTTPS_PROXY", "socks5://proxy:1080"),
        ("HTTPS_PROXY", "http://[proxy"),
        ("HTTPS_PROXY", "http://proxy:port"),
        ("HTTPS_PROXY", "http://"),
        ("RUNPOD_API_URL", "http://api.runpod.io/graphql"),
        ("RUNPOD_REST_URL", "api.runpod.io"),
        ("GITHUB_API_URL", "ftp://x"),
        ("GITHUB_SERVER_URL", "https://user:pw@github.com"),
    ],
)
def test_malformed_value_is_one_line_that_names_the_variable(read: Reader, name: str, value: str) -> None:
    """Neither a dump of pydantic's nor the value, which may be a secret in the wrong place."""
    with pytest.raises(InvalidRequest) as caught:
        read({name: value})
    text = str(caught.value)
    assert text.startswith(f"{name} ")
    assert "\n" not in text
    assert "pydantic" not in text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_pins_are_read_by_host(read: Reader) -> None:
    """Several per host, with or without curl's prefix."""
    first, second = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    pins = f"API.runpod.io=sha256//{first}, api.runpod.io={second},api.github.com=sha256/{first}"
    assert read({"RUNNER_PROVISIONER_SPKI_PINS": pins}).spki_pins == {
        "api.runpod.io": frozenset({first, second}),
        "api.github.com": frozenset({first}),
    }


@pytest.mark.parametrize(
    ("given", "api", "server"),
    [
        pytest.param(
            {"GITHUB_SERVER_URL": "https://github.com/"}, "https://api.github.com", "https://github.com", id="public"
        ),
        pytest.param(
            {"GITHUB_SERVER_URL": "https://sub.ghe.com"},
            "https://api.sub.ghe.com",
            "https://sub.ghe.com",
            id="residency",
        ),
        pytest.param(
            {"GITHUB_SERVER_URL": "https://git.corp"}, "https://git.corp/api/v3", "https://git.corp", id="enterprise"
        ),
        pytest.param(
            {"GITHUB_API_URL": "https://api.github.com"}, "https://api.github.com", "https://github.com", id="api"
        ),
        pytest.param(
            {"GITHUB_API_URL": "https://api.sub.ghe.com"},
            "https://api.sub.ghe.com",
            "https://sub.ghe.com",
            id="its api",
        ),
        pytest.param(
            {"GITHUB_API_URL": "https://git.corp/api/v3"}, "https://git.corp/api/v3", "https://git.corp", id="its v3"
        ),
        pytest.param(
            {"GITHUB_API_URL": "http://127.0.0.1:1", "GITHUB_SERVER_URL": "http://127.0.0.1:2"},
            "http://127.0.0.1:1",
            "http://127.0.0.1:2",
            id="both",
        ),
    ],
)
def test_github_addresses_are_derived_from_each_other(
    read: Reader, given: dict[str, str], api: str, server: str
) -> None:
    """The rule of actions/scaleset, both ways."""
    settings = read(given)
    assert (settings.github_api_url, settings.github_server_url) == (api, server)


def test_runpod_rest_address_is_the_sibling_of_graphql(read: Reader) -> None:
    """A simulator serves both; each can be set on its own."""
    assert read({"RUNPOD_API_URL": "http://127.0.0.1:8/graphql"}).runpod_rest_url == "http://127.0.0.1:8/v2"
    assert read({"RUNPOD_REST_URL": "https://x.example/v2/"}).runpod_rest_url == "https://x.example/v2"


def test_runpod_key_is_found_in_order(read: Reader) -> None:
    """Each source is used when those before it have nothing; which one it was is kept."""
    environ = {"RUNPOD_API_KEY": f" {KEY}-1\n", "RUNPOD_KEY": KEY + "-2"}
    read.dotenv(f"RUNPOD_KEY={KEY}-3")
    read.runpod(f'apikey = "{KEY}-4"')
    read.cursor({"mcpServers": {"runpod": {"env": {"RUNPOD_API_KEY": KEY + "-5"}}}})
    found = []
    for remove in (
        lambda: environ.update(RUNPOD_API_KEY="  "),
        lambda: environ.pop("RUNPOD_KEY"),
        (read.cwd / ".env").unlink,
        (read.home / ".runpod" / "config.toml").unlink,
        (read.home / ".cursor" / "mcp.json").unlink,
    ):
        settings = read(environ)
        found.append((secret(settings.runpod_key()), settings.credential_source))
        assert KEY not in repr(settings)
        assert KEY not in str(settings)
        remove()
    assert found == [
        (KEY + "-1", "RUNPOD_API_KEY"),
        (KEY + "-2", "RUNPOD_KEY"),
        (KEY + "-3", "RUNPOD_KEY in ./.env"),
        (KEY + "-4", "~/.runpod/config.toml"),
        (KEY + "-5", "~/.cursor/mcp.json"),
    ]
    with pytest.raises(MissingCredential, match="set RUNPOD_API_KEY"):
        read(environ).runpod_key()


def test_dotenv_holds_credentials_only(read: Reader) -> None:
    """An address in the working folder would send the key to a stranger; nothing is interpolated."""
    read.dotenv(
        "export RUNPOD_API_KEY='$HOME-${X}'\nRUNPOD_API_URL=https://evil.example/graphql\n"
        "GITHUB_API_URL=https://evil.example\nRUNNER_PROVISIONER_SETTLE=1\nGH_TOKEN=t1\nGITHUB_TOKEN\nnot a line = = \n"
    )
    settings = read()
    assert secret(settings.runpod_key()) == "$HOME-${X}"
    assert settings.runpod_api_url == "https://api.runpod.io/graphql"
    assert settings.github_api_url == "https://api.github.com"
    assert settings.settle == 30.0
    assert settings.github_credential() == GitHubToken(token=SecretStr("t1"), source="GH_TOKEN in ./.env")


def test_dotenv_is_not_read_in_actions(read: Reader) -> None:
    """The working folder may be a stranger's pull request."""
    read.dotenv(f"RUNPOD_API_KEY={KEY}\nGITHUB_TOKEN=x")
    settings = read({"GITHUB_ACTIONS": "true"})
    assert settings.credential_source is None
    with pytest.raises(MissingCredential):
        settings.github_credential()


@pytest.mark.parametrize(
    "text",
    [
        f'apiKey = "{KEY}"',
        f'[default]\napi_key = "{KEY}"',
        f'[work]\napikey = " {KEY} "',
        f'x = 1\napiKey = ""\n[default]\napikey="{KEY}"',
    ],
    ids=["runpodctl", "python sdk", "a profile", "empty above"],
)
def test_config_of_runpods_tools_is_understood(read: Reader, text: str) -> None:
    """Runpodctl and the Python SDK write it differently."""
    read.runpod(text)
    assert secret(read().runpod_key()) == KEY


@pytest.mark.parametrize(
    "content",
    [
        {"mcpServers": {"a": {"command": "x", "env": {}}, "b": {"env": {"RUNPOD_API_KEY": KEY}}}},
        {"mcpServers": {"a": {"env": {"RUNPOD_KEY": KEY}}}},
        {"servers": {"a": {"env": {"RUNPOD_API_KEY": KEY}}}},
        {"mcp": {"servers": [{"env": {"RUNPOD_API_KEY": KEY}}]}},
        {"mcpServers": {"a": {"env": {"RUNPOD_API_KEY": "${env:X}"}}, "b": {"env": {"RUNPOD_API_KEY": KEY}}}},
    ],
    ids=["cursor", "other name", "vs code", "list", "placeholder first"],
)
def test_server_lists_of_editors_are_understood(read: Reader, content: object) -> None:
    """The key stands in a server's environment, wherever that is."""
    read.cursor(content)
    assert secret(read().runpod_key()) == KEY


@pytest.mark.parametrize(
    ("runpod", "cursor"),
    [
        pytest.param(f"apikey = {KEY}", "{" + KEY, id="no syntax"),
        pytest.param("apikey = 1", {"mcpServers": {"a": {"env": {"RUNPOD_API_KEY": 5}}}}, id="no text"),
        pytest.param("", f'["{KEY}"]', id="another shape"),
        pytest.param("", "[" * 100_000, id="endless nesting"),
        pytest.param("", '{"a":' * 20 + f'{{"RUNPOD_API_KEY": "{KEY}"}}' + "}" * 20, id="too deep"),
    ],
)
def test_malformed_files_of_other_tools_are_skipped(read: Reader, runpod: str, cursor: object) -> None:
    """A note names the file, never what is in it; nothing crashes."""
    read.runpod(runpod)
    read.cursor(cursor)
    settings = read()
    assert settings.credential_source is None
    assert KEY not in "".join(settings.notes)
    with pytest.raises(MissingCredential) as caught:
        settings.runpod_key()
    assert KEY not in str(caught.value)


def test_files_that_cannot_be_read_are_noted(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too long, not UTF-8, forbidden: each is a note, shown when no key was found."""
    read.dotenv(b"RUNPOD_KEY=\xff\xfe")
    read.runpod("x" * (1024 * 1024 + 1))
    read.cursor({})
    real = Path.open

    def forbidden(path: Path, mode: str) -> object:
        if path.name == "mcp.json":
            raise PermissionError(13, "Permission denied")
        return real(path, mode)

    monkeypatch.setattr(Path, "open", forbidden)
    settings = read()
    assert settings.notes == (
        "./.env was skipped: it is malformed",
        "~/.runpod/config.toml was skipped: it is malformed",
        "~/.cursor/mcp.json was skipped: permission denied",
    )
    with pytest.raises(MissingCredential, match="permission denied"):
        settings.runpod_key()


def test_fifo_in_the_place_of_dotenv_is_not_waited_for(read: Reader) -> None:
    """A stranger's folder may hold anything."""
    os.mkfifo(read.cwd / ".env")
    (read.home / ".cursor").write_text("a file, not a folder")
    assert read().credential_source is None


def test_github_token_is_found_in_order(read: Reader) -> None:
    """Our own variable first, then the usual two, then `.env`."""
    environ = {"RUNNER_PROVISIONER_GITHUB_TOKEN": "t1", "GITHUB_TOKEN": "t2", "GH_TOKEN": "t3"}
    read.dotenv("RUNNER_PROVISIONER_GITHUB_TOKEN=t4")
    sources = []
    for name in [*environ]:
        sources.append(read(environ).github_credential().source)
        del environ[name]
    sources.append(read(environ).github_credential().source)
    assert sources == [
        "RUNNER_PROVISIONER_GITHUB_TOKEN",
        "GITHUB_TOKEN",
        "GH_TOKEN",
        "RUNNER_PROVISIONER_GITHUB_TOKEN in ./.env",
    ]
    (read.cwd / ".env").unlink()
    with pytest.raises(MissingCredential, match="no GitHub credential found"):
        read().github_credential()


@pytest.mark.parametrize(
    "key",
    [
        PEM,
        PEM.replace("\n", "\\n"),
        PEM.replace("\n", "\r\n"),
        base64.b64encode(PEM.encode()).decode(),
        base64.encodebytes(PEM.encode()).decode(),
        PEM.replace("RSA ", ""),
    ],
    ids=["pem", "literal line ends", "windows line ends", "base64", "wrapped base64", "pkcs8"],
)
def test_app_wins_and_its_key_may_have_any_usual_form(read: Reader, key: str) -> None:
    """PEM as it is, with escaped line ends, or in base64."""
    app = read({**APP, "GITHUB_APP_PRIVATE_KEY": key, "GITHUB_TOKEN": "t", "GITHUB_APP_INSTALLATION_ID": "7"})
    credential = app.github_credential()
    assert isinstance(credential, GitHubApp)
    assert (credential.issuer, credential.installation_id) == ("123", 7)
    assert secret(credential.private_key) in {PEM, PEM.replace("RSA ", "")}
    assert "MIIEp" not in repr(credential)


@pytest.mark.parametrize("place", ["key.pem", "~/key.pem", "absolute"])
def test_app_key_may_be_a_file(read: Reader, place: str) -> None:
    """Relative to the working folder, to the home, or absolute."""
    (read.home / "key.pem").write_text(PEM)
    (read.cwd / "key.pem").write_text(PEM)
    path = str(read.home / "key.pem") if place == "absolute" else place
    credential = read({"GITHUB_APP_CLIENT_ID": "Iv1", "GITHUB_APP_PRIVATE_KEY_PATH": path}).github_credential()
    assert isinstance(credential, GitHubApp)
    assert (credential.issuer, credential.source, credential.installation_id) == (
        "Iv1",
        "GITHUB_APP_PRIVATE_KEY_PATH",
        None,
    )


@pytest.mark.parametrize(
    ("environ", "kind", "says"),
    [
        pytest.param(
            {"GITHUB_APP_ID": "1", "GH_TOKEN": "t"}, MissingCredential, "set GITHUB_APP_PRIVATE_KEY", id="no key"
        ),
        pytest.param({"GITHUB_APP_PRIVATE_KEY": PEM}, MissingCredential, "set GITHUB_APP_ID", id="no id"),
        pytest.param({"GITHUB_APP_PRIVATE_KEY_PATH": "x"}, MissingCredential, "set GITHUB_APP_ID", id="path, no id"),
        pytest.param(
            {**APP, "GITHUB_APP_PRIVATE_KEY": KEY}, ConfigurationError, "no private key in PEM", id="nonsense"
        ),
        pytest.param(
            {**APP, "GITHUB_APP_PRIVATE_KEY": PEM.replace("PRIVATE", "PUBLIC")},
            ConfigurationError,
            "no private key",
            id="public",
        ),
        pytest.param({**APP, "GITHUB_APP_PRIVATE_KEY": PEM[:50]}, ConfigurationError, "no private key", id="cut"),
        pytest.param(
            {**APP, "GITHUB_APP_INSTALLATION_ID": "x7"}, ConfigurationError, "must be a number", id="installation"
        ),
        pytest.param(
            {"GITHUB_APP_ID": "1", "GITHUB_APP_PRIVATE_KEY_PATH": "nowhere.pem"},
            ConfigurationError,
            "cannot be read",
            id="no file",
        ),
        pytest.param(
            {"GITHUB_APP_ID": "1", "GITHUB_APP_PRIVATE_KEY_PATH": "binary.pem"},
            ConfigurationError,
            "not a text file",
            id="binary",
        ),
    ],
)
def test_half_an_app_is_an_error_even_with_a_token(
    read: Reader, environ: dict[str, str], kind: type[ConfigurationError], says: str
) -> None:
    """One line that names what is missing; reading the settings alone does not fail."""
    (read.cwd / "binary.pem").write_bytes(b"\xff\xfe")
    settings = read(environ)
    with pytest.raises(kind, match=says) as caught:
        settings.github_credential()
    assert "\n" not in str(caught.value)
    assert "MIIE" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_settings_made_by_hand_have_no_github_credential(read: Reader) -> None:
    """Without `read` there are no places to look at."""
    with pytest.raises(MissingCredential):
        Settings(home=read.home, cwd=read.cwd).github_credential()


def test_every_secret_is_told_to_the_redactor(read: Reader) -> None:
    """Also those that were found and not used."""
    read.dotenv("GH_TOKEN=t3")
    read.runpod(f'apikey = "{KEY}"')
    given = {"GITHUB_TOKEN": "t1", "GITHUB_APP_PRIVATE_KEY": PEM, "HTTPS_PROXY": "http://user:pw@proxy.example:3128"}
    assert set(read(given).secrets()) == {"t1", "t3", PEM, KEY, "pw"}
    assert Settings(home=read.home, cwd=read.cwd).secrets() == ()


IN_FILES: dict[str, Callable[[Any], str]] = {
    "RUNPOD_API_KEY": lambda one: secret(one.runpod_key()),
    "RUNPOD_KEY": lambda one: secret(one.runpod_key()),
    "PRIME_API_KEY": lambda one: secret(one.held(("PRIME_API_KEY",)).value),
    "CELIUM_API_KEY": lambda one: secret(one.held(("CELIUM_API_KEY", "LIUM_API_KEY")).value),
    "LIUM_API_KEY": lambda one: secret(one.held(("CELIUM_API_KEY", "LIUM_API_KEY")).value),
    "RUNNER_PROVISIONER_GITHUB_TOKEN": lambda one: secret(one.github_credential().token),
    "GITHUB_TOKEN": lambda one: secret(one.github_credential().token),
    "GH_TOKEN": lambda one: secret(one.github_credential().token),
    "RUNNER_PROVISIONER_WORKFLOW_TOKEN": lambda one: secret(one.workflow_token),
    "MARKET_OF_A_PLUGIN_KEY": lambda one: secret(one.held(("MARKET_OF_A_PLUGIN_KEY",)).value),
}


@pytest.mark.parametrize("name", sorted(IN_FILES))
def test_every_credential_may_be_in_a_file(read: Reader, name: str) -> None:
    """NAME_FILE names it; the file's last line break is not part of it, and the redactor knows what is in it."""
    place = read.cwd / "secret"
    place.write_text(f"{KEY}\n")
    place.chmod(0o400)
    settings = read({f"{name}_FILE": str(place)})
    assert IN_FILES[name](settings) == KEY
    assert KEY not in repr(settings)
    if not name.startswith("MARKET"):
        assert KEY in settings.secrets()


def test_an_apps_key_the_database_and_the_proxy_may_be_in_files(read: Reader) -> None:
    """The passwords of addresses are told to the redactor as they are of variables."""
    held = {
        "GITHUB_APP_PRIVATE_KEY": PEM,
        "RUNNER_PROVISIONER_DATABASE": "postgresql://us:data-pass@db.example/one\n",
        "HTTPS_PROXY": "http://user:proxy-pass@proxy.example:3128\n",
    }
    for name, text in held.items():
        (read.home / name).write_text(text)
    settings = read({"GITHUB_APP_ID": "1", **{f"{name}_FILE": f"~/{name}" for name in held}})
    credential = settings.github_credential()
    assert isinstance(credential, GitHubApp)
    assert (secret(credential.private_key), credential.source) == (PEM, "GITHUB_APP_PRIVATE_KEY_FILE")
    assert settings.service_database == held["RUNNER_PROVISIONER_DATABASE"].strip()
    assert {"data-pass", "proxy-pass", PEM.strip()} <= set(settings.secrets())


def test_an_empty_file_is_an_absent_credential(read: Reader) -> None:
    """As an empty variable is, so that a service may name the files of every market."""
    (read.cwd / "none").write_text(" \n")
    (read.cwd / "key").write_text(KEY)
    files = {"RUNPOD_API_KEY_FILE": "none", "RUNNER_PROVISIONER_DATABASE_FILE": "none", "PRIME_API_KEY_FILE": ""}
    settings = read({**files, "RUNPOD_KEY_FILE": "key"})
    assert settings.credential_source == "RUNPOD_KEY_FILE"
    assert isinstance(settings.service_database, Path)
    assert settings.credential(("PRIME_API_KEY",)) is None


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"RUNPOD_API_KEY_FILE": "nowhere"}, "RUNPOD_API_KEY_FILE names cannot be read"),
        ({"RUNNER_PROVISIONER_DATABASE_FILE": "."}, "RUNNER_PROVISIONER_DATABASE_FILE names cannot be read"),
        ({"RUNPOD_API_KEY_FILE": "key", "RUNPOD_API_KEY": "x"}, "RUNPOD_API_KEY and RUNPOD_API_KEY_FILE are both set"),
        ({"PRIME_API_KEY_FILE": "binary"}, "PRIME_API_KEY_FILE names cannot be read .not a text file"),
    ],
    ids=["no file", "a folder", "both", "no text"],
)
def test_a_named_file_that_is_not_there_is_an_error_in_one_line(
    read: Reader, environ: dict[str, str], says: str
) -> None:
    """Never a service that runs without the key that it was given; said before anything is done."""
    (read.cwd / "key").write_text(KEY)
    (read.cwd / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=says) as caught:
        read(environ).secrets()
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_dotenv_names_no_files(read: Reader) -> None:
    """A working directory chooses no file of the user's to be sent as a key."""
    (read.home / "private").write_text(KEY)
    read.dotenv("RUNPOD_API_KEY_FILE=~/private\nGITHUB_TOKEN_FILE=~/private")
    assert read().credential_source is None
    assert read().secrets() == ()
