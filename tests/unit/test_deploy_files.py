"""The files of the deployment: what they promise is in them, and what they name exists."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from support.deploy import (
    PROGRAM,
    ROOT,
    SECRETS,
    UID,
    UNIT,
    Recipe,
    compose,
    of_unit,
    seconds,
    unit_environment,
)

from runner_provisioner import _credentials as credentials
from runner_provisioner import errors
from runner_provisioner.cli.app import cli
from runner_provisioner.controller.serving import GRACE
from runner_provisioner.settings import IN_FILES, Settings

BIN = Path(sys.executable).parent
RECIPE = Recipe.read()
COMPOSE = compose()
SERVICE: dict[str, Any] = COMPOSE["services"]["service"]
SERVICES = sorted(COMPOSE["services"])
# The system's own, and the interpreter's.
FOREIGN = {"HOME", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
CREDENTIALS = {
    *credentials.RUNPOD_NAMES,
    *credentials.PRIME_NAMES,
    *credentials.CELIUM_NAMES,
    *credentials.GITHUB_NAMES,
    credentials.APP_KEY,
    *IN_FILES,
}


def tool(name: str) -> str:
    """A program of the development environment; skips where it is not installed."""
    found = shutil.which(name, path=f"{BIN}:/usr/local/bin:/usr/bin:/bin")
    if found is None:
        pytest.skip(f"there is no {name} here: `make setup` installs it")
    return found


def unknown(variables: set[str]) -> set[str]:
    """Those of the variables that the program does not read."""
    read = {field.alias for field in Settings.model_fields.values()} | CREDENTIALS | FOREIGN
    return {name for name in variables if name.removesuffix(credentials.IN_FILE) not in read}


def parsed(arguments: list[str]) -> dict[str, Any]:
    """What `serve` understands of these arguments. Raises a UsageError for one that it does not have."""
    assert arguments[0] == "serve"
    command = cli.get_command(click.Context(cli), "serve")
    assert command is not None
    return command.make_context("serve", arguments[1:]).params


# The container


def test_hadolint_finds_nothing() -> None:
    """Of all its rules."""
    done = subprocess.run(
        [tool("hadolint"), "--no-color", "--failure-threshold", "style", str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_is_heard(tmp_path: Path) -> None:
    """The check can fail."""
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN pip install x\n")
    command = [tool("hadolint"), str(tmp_path / "Dockerfile")]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_the_image_runs_as_somebody_without_rights() -> None:
    """By a number, so that an engine can check it and secrets can be given to it, and nobody becomes root later."""
    assert RECIPE.last.one("USER") == f"{UID}:{UID}"
    assert RECIPE.last.one("VOLUME") == '["/state"]'
    order = [word for word, _ in RECIPE.last.steps]
    assert "RUN" not in order[order.index("USER") :]
    assert f"--uid {UID}" in " ".join(RECIPE.last.all("RUN"))
    assert f"install -d -m 0700 -o {UID} -g {UID} /state" in " ".join(RECIPE.last.all("RUN"))


def test_everything_in_the_image_is_locked_by_hash() -> None:
    """Nothing is installed but by hash, or from what was built before."""
    installs = re.findall(r"(?:pip|python) install(.*?)(?=&&|$)", " ".join(RECIPE.all("RUN")))
    assert len(installs) == 3
    for options in installs:
        assert {"--require-hashes", "--no-index"} & set(options.split())
        assert {"--only-binary", "--no-deps"} & set(options.split())


@pytest.mark.parametrize("name", ["requirements-controller.lock", "requirements-build.lock"])
def test_the_images_locks_are_parts_of_the_one_that_the_tests_run_with(name: str) -> None:
    """The same versions and hashes."""

    def pins(text: str) -> dict[str, tuple[str, frozenset[str]]]:
        found = re.findall(r"^([\w.-]+)==(\S+)(.*?)(?=^[\w.-]+==|\Z)", text, re.MULTILINE | re.DOTALL)
        return {one: (version, frozenset(re.findall(r"sha256:\w{64}", rest))) for one, version, rest in found}

    mine, theirs = (pins((ROOT / one).read_text("utf-8")) for one in (name, "requirements-dev.lock"))
    assert len(mine) > 4
    assert all(hashes for _, hashes in mine.values())
    assert mine.items() <= theirs.items()
    served = {"asyncpg", "fastapi", "fastapi-swagger", "prometheus-client", "uvicorn"}
    assert (served if "controller" in name else {"hatchling"}) <= set(mine)


def test_no_secret_can_get_into_a_layer() -> None:
    """The build sees what it copies and nothing else, is handed no credential, and the image sets none."""
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in ignored if not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {line[1:] for line in rules if line.startswith("!")}
    copied = {word for rest in RECIPE.all("COPY") if "--from" not in rest for word in rest.split()[:-1]}
    assert let_in == copied
    assert not [one for one in let_in if fnmatch.fnmatch(one, "*secret*") or one in {".", "*", ".env"}]
    assert [rest for rest in RECIPE.all("ARG") if not rest.startswith("PYTHON=")] == []
    assert "secret" not in " ".join(RECIPE.all("RUN"))
    assert not set(RECIPE.environment) & CREDENTIALS
    assert unknown(set(RECIPE.last.environment)) == set()


def test_the_program_is_built_from_what_the_build_sees(tmp_path: Path) -> None:
    """The wheel of exactly those files has the package, its markets, and the workflow of the demonstration."""
    for rest in RECIPE.all("COPY"):
        if "--from" not in rest:
            *sources, _ = rest.split()
            for name in sources:
                target = tmp_path / "source" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / name, target)
    (build,) = [one for one in RECIPE.all("RUN") if "hatchling" in one and "require-hashes" not in one]
    assert "-m hatchling build -t wheel -d /dist" in build
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path / "source", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    listed = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(wheel)], capture_output=True, text=True, check=True
    ).stdout
    for name in ("controller/app.py", "storage/", "simulators/examples/gpu-job.yml", "entry_points.txt"):
        assert name in listed


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that gives every request this answer; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)], ids=["well", "ill", "gone"])
def test_the_health_check_tells_a_service_that_is_well_from_one_that_is_not(status: int | None, code: int) -> None:
    """It needs nothing but Python, and no proxy leads it astray."""
    health = RECIPE.words("HEALTHCHECK")
    assert health[:3] == ["python", "-I", "-c"]
    assert ["CMD", *health] == SERVICE["healthcheck"]["test"]
    with answering(status or 200) as port:
        target = port if status else 9
        done = subprocess.run(
            [sys.executable, "-I", "-c", health[3].replace("8000", str(target))],
            env={"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
            capture_output=True,
            check=False,
        )
    assert done.returncode == code


# Compose


def test_compose_file_is_what_the_specification_allows() -> None:
    """By the specification's schema, which check-jsonschema carries."""
    schema = ["--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run(
        [tool("check-jsonschema"), *schema, str(ROOT / "compose.yaml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_goes_without_what_it_does_not_need(name: str) -> None:
    """A root file system that cannot be written, no rights, and none to be had; it is looked at, and started again."""
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    user, group = service["user"].split(":")
    assert "0" not in {user, group}
    assert service["init"] is True
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    for one in service["tmpfs"]:
        assert {"noexec", "nosuid", "nodev"} <= set(one.partition(":")[2].split(","))
    assert all(":" in one and not one.startswith((".", "/")) for one in service["volumes"])


def test_the_port_is_published_on_loopback_alone() -> None:
    """And the database's nowhere, on a network that leads nowhere."""
    assert SERVICE["ports"] == ["127.0.0.1:8000:8000"]
    assert [name for name in SERVICES if name != "service" and "ports" in COMPOSE["services"][name]] == []
    assert all("network_mode" not in COMPOSE["services"][name] for name in SERVICES)
    assert COMPOSE["services"]["postgres"]["networks"] == ["database"]
    assert COMPOSE["networks"]["database"] == {"internal": True}


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_are_files_and_never_variables(name: str) -> None:
    """Each that a variable names is handed over, and each that is handed over is named; git does not see them."""
    service = COMPOSE["services"][name]
    named = {one.removeprefix(f"{SECRETS}/") for one in service["environment"].values() if one.startswith(SECRETS)}
    assert named == set(service["secrets"])
    for one in named:
        assert COMPOSE["secrets"][one] == {"file": f"./secrets/{one}"}
    for variable in service["environment"]:
        assert variable not in CREDENTIALS
        assert variable.endswith("_FILE") or not re.search(r"KEY|TOKEN|PASSWORD|SECRET", variable)
    assert "/secrets/" in (ROOT / ".gitignore").read_text("utf-8").split()


def test_the_container_knows_its_command_and_its_variables() -> None:
    """Options and variables are those that the program has; the user and the state are the image's."""
    assert RECIPE.words("ENTRYPOINT") == ["runner-provisioner"]
    values = parsed(SERVICE["command"])
    assert (values["host"], values["port"], values["allow_unauthenticated"]) == ("0.0.0.0", 8000, True)  # noqa: S104 - in a container
    alone = parsed(RECIPE.words("CMD"))
    assert (alone["host"], alone["port"], alone["allow_unauthenticated"]) == ("0.0.0.0", 8000, False)  # noqa: S104 - likewise
    assert RECIPE.last.one("EXPOSE") == "8000"
    assert unknown(set(SERVICE["environment"])) == set()
    assert SERVICE["user"] == RECIPE.last.one("USER")
    assert SERVICE["volumes"] == [f"state:{RECIPE.last.environment['XDG_STATE_HOME']}"]
    assert SERVICE["tmpfs"][0].startswith(f"{RECIPE.last.environment['XDG_CACHE_HOME']}:")


def test_every_market_of_the_project_can_be_given_its_key() -> None:
    """In the container and in the unit."""
    entries = [(name, values) for name, values in (("compose", SERVICE["environment"]), ("unit", unit_environment()))]
    for name, environment in entries:
        for names in (credentials.RUNPOD_NAMES, credentials.PRIME_NAMES, credentials.CELIUM_NAMES):
            assert {f"{one}_FILE" for one in names} & set(environment), name
        assert "RUNNER_PROVISIONER_DATABASE_FILE" in environment, name


def test_a_stop_waits_longer_than_the_service_does() -> None:
    """Requests under way have their time, and what they keep is written."""
    assert seconds(SERVICE["stop_grace_period"]) >= GRACE + 10
    assert seconds(of_unit("TimeoutStopSec")[0]) >= GRACE + 10


def test_options_that_are_none_are_noticed() -> None:
    """The checks can fail."""
    with pytest.raises(click.NoSuchOption):
        parsed(["serve", "--no-such-option"])
    assert unknown({"NO_SUCH_VARIABLE", "RUNPOD_API_KEY_FILE"}) == {"NO_SUCH_VARIABLE"}


# systemd


def test_the_unit_knows_its_command_and_its_variables() -> None:
    """On loopback; every option is one of `serve`, every variable one that the program reads."""
    program, *arguments = shlex.split(of_unit("ExecStart")[0])
    assert program == f"{PROGRAM}/bin/runner-provisioner"
    values = parsed(arguments)
    assert (values["host"], values["port"], values["allow_unauthenticated"]) == ("127.0.0.1", 8000, False)
    assert unknown(set(unit_environment())) == set()


def test_the_units_secrets_are_credentials() -> None:
    """Each variable names one that systemd hands over, or the blank that stands for a file that is not there."""
    loaded = dict(one.split(":", 1) for one in of_unit("LoadCredential"))
    named = {value.removeprefix("%d/") for value in unit_environment().values() if value.startswith("%d/")}
    assert named == set(loaded)
    assert {one.split(":", 1)[0]: one.split(":", 1)[1] for one in of_unit("SetCredential")} == dict.fromkeys(
        loaded, r"\n"
    )
    assert all(path == f"/etc/runner-provisioner/{name}" for name, path in loaded.items())
    assert not set(unit_environment()) & CREDENTIALS


def test_the_unit_is_not_started_again_for_what_stays_wrong() -> None:
    """For a missing or a wrong setting; a database that is out of order for a moment is another matter."""
    kept = {int(one) for one in of_unit("RestartPreventExitStatus")[0].split()}
    assert errors.ConfigurationError.exit_code in kept
    assert errors.MissingCredential.exit_code in kept
    assert errors.StoreError.exit_code not in kept
    assert of_unit("Type") == ["exec"], "notify would wait for a message that the program does not send"


def test_systemd_knows_every_setting(tmp_path: Path) -> None:
    """`systemd-analyze` finds nothing unknown in the unit, and calls the service well protected."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze program here")
    # Here nothing is installed where the unit says.
    text = UNIT.read_text("utf-8").replace(f"{PROGRAM}/bin/runner-provisioner", "/bin/true")
    unit = tmp_path / UNIT.name
    unit.write_text(text, "utf-8")
    verified = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if UNIT.stem in line] == []
    unit.write_text(text + "NoSuchSetting=1\nSetCredential=nothing\n", "utf-8")
    refused = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "NoSuchSetting" in refused.stderr, "the check can fail"
    unit.write_text(text, "utf-8")
    command = [analyze, "security", "--offline=true", "--threshold=20", str(unit)]
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout + rated.stderr
