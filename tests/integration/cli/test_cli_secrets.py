"""Secrets planted in every place that can be logged are in no output, whatever goes wrong, however much is logged."""

from __future__ import annotations

import base64
import json
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, quote_plus

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support.families import family

from runner_provisioner.simulators.faults import Fault, FaultKind

if TYPE_CHECKING:
    from integration.cli.conftest import Result, Services

pytestmark = pytest.mark.usefixtures("unmeasured")
WEBHOOK = 'whsec "quoted" + / ünï = secret'
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
JOB_SECRET = "a plain job secret, with = and / and +"
TOKENS = {
    "classic": "ghp_" + "Zy9" * 12,
    "fine": "github_pat_" + "11ABCDE" * 11,
    "oauth": "gho_" + "Qw8" * 12,
    "user": "ghu_" + "Er7" * 12,
    "server": "ghs_" + "Ty6" * 12,
    "long": "ghs_4711_eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0" * 4 + "." + "s1g-natur_" * 4,
    "refresh": "ghr_" + "Ui5" * 12,
    "opaque": "no known form at all 12345",
}
MORE = (("--log", "json"), ("--log", "console"), ("--debug", "--log", "json"), ("--debug", "--log", "console"))


def _forms(secret: str) -> Iterator[str]:
    raw = secret.encode()
    yield secret
    yield raw.hex()
    yield raw.hex().upper()
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield from {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    for shift in range(3):
        # Base64 of something longer that holds it: the characters that depend on the secret alone.
        coded = base64.b64encode(b"x" * shift + raw).decode().rstrip("=")
        kept = coded[-(-shift * 8 // 6) : -1]
        yield from {kept, kept.replace("+", "-").replace("/", "_")}


def _spellings(secret: str) -> Iterator[str]:
    """The ways in which another program may write it whole."""
    raw = secret.encode()
    yield from (secret, raw.hex(), raw.hex().upper(), json.dumps(secret), quote(secret, safe=""), quote_plus(secret))
    for before in ("", "x", "xy"):
        for after in ("", "y", "yz"):
            coded = base64.b64encode(before.encode() + raw + after.encode())
            yield from {coded.decode(), coded.decode().rstrip("="), coded.translate(_URL_SAFE).decode()}


def _assert_clean(text: str, secrets: dict[str, str], where: str) -> None:
    for name, secret in secrets.items():
        for form in _forms(secret):
            assert form not in text, f"{name} in {where}, as {form[:24]}..."


def _pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


class Watch:
    """Notes the command line of every process of this program, and of its children, while the test runs."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.005):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
                except OSError:
                    continue


def _planted(services: Services, token: str) -> dict[str, str]:
    """Everything that must not be seen; the registration tokens and installation tokens are read from the simulator."""
    credentials = services.github.world.credentials
    secrets = {"runpod key": services.runpod.key, "token": token, "webhook": WEBHOOK}
    secrets |= {f"registration {index}": value for index, value in enumerate(credentials._runner_tokens)}
    secrets |= {f"github {index}": value for index, value in enumerate(credentials._tokens)}
    for pod in services.runpod.pods():
        secrets[f"key of {pod.id}"] = pod.key
    return secrets


def _check(services: Services, result: Result, token: str, extra: dict[str, str] | None = None) -> None:
    secrets = _planted(services, token) | (extra or {})
    err = "\n".join(line for line in result.err.splitlines() if not line.startswith("::add-mask::"))
    _assert_clean(result.out, secrets, "stdout")
    _assert_clean(err, secrets, "stderr")
    for path in services.folder.rglob("*"):
        if path.is_file() and not path.name.startswith("planted"):
            _assert_clean(path.read_text(errors="replace"), secrets, str(path))


def _workflow(services: Services) -> dict[str, str]:
    output = services.folder / "output"
    output.touch()
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "workflow_dispatch",
        "GITHUB_RUN_ID": str(services.github.queue_job("octo/hello", ["nobody"])),
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_OUTPUT": str(output),
        "RUNNER_TEMP": str(services.folder / "temp"),
        "WEBHOOK_SECRET": WEBHOOK,
    }


@pytest.mark.parametrize("form", family(TOKENS, daily={"classic", "long", "opaque"}))
def test_start_and_stop_show_no_secret(services: Services, form: str) -> None:
    """Every form of token, everything logged, in Actions: outputs, state, cache, both streams."""
    token = TOKENS[form]
    services.github.add_token(token)
    services.usher()
    environment = _workflow(services) | {"GITHUB_TOKEN": token}
    for command in ("start", "status", "stop"):
        result = services.run(command, "--debug", "--log", "json", "--json", **environment)
        assert result.code == 0, result.err
        assert '"type": "request"' in result.err
        _check(services, result, token)
    for pod in services.runpod.pods():
        # The start command holds the registration token and the host key: no part of it is logged.
        assert pod.docker_args is not None
        script = max(re.findall(r"[A-Za-z0-9+/=]{100,}", pod.docker_args), key=len)
        assert script[:200] not in result.err


@pytest.mark.parametrize("more", family(MORE, daily=MORE[2:3]))
def test_a_github_app_shows_no_secret(services: Services, more: tuple[str, ...]) -> None:
    """Neither its key nor the tokens made with it; the key comes as text and as a file."""
    pem = _pem()
    services.github.add_app(4711, "Iv1.abc", pem)
    services.github.install_app(4711, "octo")
    services.usher()
    (services.folder / "planted.pem").write_text(pem)
    body = "".join(pem.splitlines()[1:-1])
    given = ({"GITHUB_APP_PRIVATE_KEY": pem}, {"GITHUB_APP_PRIVATE_KEY_PATH": str(services.folder / "planted.pem")})
    for key in given:
        environment = _workflow(services) | {"GITHUB_TOKEN": "", "GITHUB_APP_ID": "4711", **key}
        result = services.run("start", *more, **environment)
        assert result.code == 0, result.err
        _check(services, result, "unused token", {"pem": pem, "body": body, "line": pem.splitlines()[3]})


@pytest.mark.parametrize("more", family(MORE[2:], daily=MORE[3:]))
@pytest.mark.parametrize("service", ["runpod", "github"])
@pytest.mark.parametrize("status", [200, 401, 500], ids=str)
def test_a_service_that_echoes_secrets_is_not_echoed(
    services: Services, more: tuple[str, ...], service: str, status: int
) -> None:
    """Error bodies, messages, tracebacks: the remote repeats the credential in every form there is."""
    token = TOKENS["long"]
    services.github.add_token(token)
    secrets = (services.runpod.key, token)
    echoed = " | ".join(form for secret in secrets for form in _spellings(secret))
    body = json.dumps({"message": echoed, "errors": [{"message": echoed, "extensions": {"code": echoed}}]})
    faults = services.runpod.faults if service == "runpod" else services.github.faults
    for text in (body, f"<html>{echoed}", f'"{echoed}"'):
        faults.clear()
        faults.add(Fault(operation="*", kind=FaultKind.ERROR, status=status, body=text, times=None))
        result = services.run("start", *more, "--json", **_workflow(services), GITHUB_TOKEN=token)
        assert result.code != 0
        _check(services, result, token)


def test_credentials_in_files_are_kept_as_well(services: Services) -> None:
    """Those that are found and not used, too."""
    planted = {name: f"key-of-{name}-0123456789abcdef" for name in ("runpod", "cursor", "dotenv")}
    (services.folder / ".runpod").mkdir()
    (services.folder / ".runpod" / "config.toml").write_text(f'apikey = "{planted["runpod"]}"')
    (services.folder / ".cursor").mkdir()
    mcp = {"mcpServers": {"runpod": {"env": {"RUNPOD_API_KEY": planted["cursor"]}}}}
    (services.folder / ".cursor" / "mcp.json").write_text(json.dumps(mcp))
    (services.folder / ".env").write_text(f"RUNPOD_API_KEY={planted['dotenv']}\n")
    for path in services.folder.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
    body = json.dumps({"errors": [{"message": " ".join(planted.values())}]})
    services.runpod.faults.add(Fault(operation="*", kind=FaultKind.ERROR, status=401, body=body, times=None))
    for given in ("", services.runpod.key):
        result = services.run("pods", "list", "--debug", "--log", "json", RUNPOD_API_KEY=given)
        assert result.code == 4, result.err
        secrets = planted if not given else {"dotenv": planted["dotenv"]}
        used = secrets if given else {"dotenv": planted["dotenv"]}
        _assert_clean(result.err + result.out, used, "output")


def test_a_traceback_shows_no_secret(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of our own that holds one in its text, its cause and its locals."""
    key = services.runpod.key

    def refuse() -> None:
        raise ValueError(f"while sending Authorization: Bearer {key}")

    async def broken(*_: object) -> None:
        try:
            refuse()
        except ValueError as error:
            raise RuntimeError(base64.b64encode(f"key={key}".encode()).decode()) from error

    monkeypatch.setattr("runner_provisioner.services.manual.ManualPods.look", broken)
    for mode in ("json", "console"):
        result = services.run("pods", "list", "--debug", "--log", mode)
        assert result.code == 70
        assert "Traceback" in result.err
        _check(services, result, TOKENS["classic"])


def test_values_of_variables_are_masked(services: Services) -> None:
    """What a user gives the pod as environment or command is logged by name only where its name sounds secret."""
    command = (
        *("pods", "create", "--gpu-type", "RTX 4090", "--image", "x"),
        *("--env", f"HF_TOKEN={JOB_SECRET}", "--env", f"DB_PASSWORD={JOB_SECRET}", "--env", f"API_KEY={WEBHOOK}"),
        *("--docker-args", f"bash -c 'login {JOB_SECRET}'"),
    )
    for more in MORE:
        result = services.run(*command, *more)
        assert result.code == 0, result.err
        _check(services, result, TOKENS["classic"], {"job secret": JOB_SECRET})


def test_no_child_is_given_a_secret_as_an_argument(services: Services) -> None:
    """Whoever lists the machine's processes learns nothing."""
    services.usher()
    environment = _workflow(services)
    with Watch() as watch, services.spawn("start", environment=environment) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert any("runner_provisioner start" in line for line in watch.seen)
    secrets = _planted(services, services.environment["GITHUB_TOKEN"])
    ours = "\n".join(line for line in watch.seen if "pytest" not in line)
    _assert_clean(ours, secrets, "a command line")
    _assert_clean(out, secrets, "stdout")


def test_every_secret_is_masked_in_actions_before_it_is_used(services: Services) -> None:
    """The mask lines are on stderr: on stdout they would be part of what another program reads."""
    services.usher()
    result = services.run("start", "--json", **_workflow(services))
    masks = [line.removeprefix("::add-mask::") for line in result.err.splitlines() if line.startswith("::add-mask::")]
    assert {services.runpod.key, services.environment["GITHUB_TOKEN"]} <= set(masks)
    assert set(services.github.world.credentials._runner_tokens) <= set(masks)
    assert "::add-mask::" not in result.out
    label = result.data["label"]
    assert not any(mask in label for mask in masks)


def test_everything_written_is_private(services: Services) -> None:
    """State and cache: mode 0600 in folders of mode 0700."""
    services.usher()
    assert services.run("start", **_workflow(services)).code == 0
    written = [path for path in services.folder.rglob("runner-provisioner/*") if path.is_file()]
    assert written
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in written} == {0o700}
