"""The commands of the container and the unit as they stand: for nobody of note, with the state alone to write."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

import pytest
from support.deploy import PROGRAM, SECRETS, UID, Recipe, compose, of_unit, unit_environment
from support.read_only_root import Place, Running, running, why_not

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be done"),
    pytest.mark.usefixtures("unmeasured"),
]

KEY = "rpa_PLANTED0123456789abcdefghijklmnop"
RECIPE = Recipe.read()
SERVICE = compose()["services"]["service"]
# Nobody is called: there is a network of its own, and nobody on it.
NOWHERE = {"RUNPOD_API_URL": "http://127.0.0.1:9/graphql"}
READ_ONLY = "Read-only file system"
ASK = """
import sys
from http.client import HTTPConnection
connection = HTTPConnection("127.0.0.1", 8000, timeout=20)
connection.request("GET", sys.argv[1])
print(connection.getresponse().status)
"""


def owned(path: Path, uid: int) -> Path:
    """A folder, or a file that its owner alone can read, given to that user."""
    if path.is_dir():
        path.chmod(0o700)
    else:
        path.chmod(0o400)
    os.chown(path, uid, uid)
    return path


def folder(path: Path, uid: int) -> Path:
    """A new folder of that user's."""
    path.mkdir()
    return owned(path, uid)


def secret_files(path: Path, names: list[str], uid: int) -> Path:
    """A folder with RunPod's key, and blank files for the rest."""
    path.mkdir()
    for name in names:
        (path / name).write_text(f"{KEY}\n" if name == "runpod-key" else "\n", "utf-8")
        owned(path / name, uid)
    return path


def asked(service: Running, path: str) -> str:
    """The status that a request from inside gets."""
    done = service.inside("python", "-I", "-c", ASK, path)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused(service: Running, place: str) -> str:
    """Why its user cannot write there; empty when it can."""
    return service.inside("touch", f"{place}/new").stderr.strip().rpartition(": ")[2]


def looks_after_its_key(service: Running, state: Path) -> None:
    """The key is in no variable, argument, output or file but its own."""
    for name in ("environ", "cmdline"):
        assert KEY.encode() not in Path(f"/proc/{service.pid}/{name}").read_bytes()
    assert KEY not in service.said.read_text("utf-8")
    assert [one for one in state.rglob("*") if one.is_file() and KEY.encode() in one.read_bytes()] == []


def test_the_container_serves_on_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    """Entry point and command of the image and the compose file; the health check; keys made inside; SIGTERM."""
    state = folder(tmp_path / "state", UID)
    secrets = secret_files(tmp_path / "secrets", SERVICE["secrets"], UID)
    given = {name: value for name, value in SERVICE["environment"].items() if not value.startswith("${")}
    place = Place(
        uid=UID,
        environment={**RECIPE.last.environment, **given, **NOWHERE},
        written={"/state": state},
        read={f"{SECRETS}/{name}": secrets / name for name in SERVICE["secrets"]},
    )
    command = [*RECIPE.words("ENTRYPOINT"), *SERVICE["command"]]
    with running(place, tmp_path, command) as service:
        assert service.inside(*RECIPE.words("HEALTHCHECK")).returncode == 0
        assert (asked(service, "/healthz"), asked(service, "/readyz"), asked(service, "/docs")) == ("200", "200", "200")
        for name in ("", "/etc", PROGRAM, SECRETS):
            assert refused(service, name) == READ_ONLY
        assert (refused(service, "/state"), refused(service, "/tmp")) == ("", "")  # noqa: S108 - of the container
        kept = state / "runner-provisioner/service.sqlite3"
        assert (kept.stat().st_uid, kept.stat().st_mode & 0o777) == (UID, 0o600)
        assert asked(service, "/api/v1/pods/history") == "200", "without keys, whoever is on this machine"
        made = service.inside("runner-provisioner", "keys", "create", "--name", "mine")
        assert made.stdout.startswith("rpk_"), made.stderr
        deadline = time.monotonic() + 20
        while asked(service, "/api/v1/pods/history") != "401":
            assert time.monotonic() < deadline, "the first key did not close the service"
        assert service.inside(*RECIPE.words("HEALTHCHECK")).returncode == 0, "health is nobody's secret"
        looks_after_its_key(service, state)
        assert service.stop() == 0


@pytest.mark.full
def test_the_container_alone_wants_a_key_first(tmp_path: Path) -> None:
    """The image's own command listens for everybody, and so begins only when there is a key."""
    state = folder(tmp_path / "state", UID)
    place = Place(
        uid=UID,
        environment={**RECIPE.last.environment, **NOWHERE, "RUNPOD_API_KEY_FILE": f"{SECRETS}/runpod-key"},
        written={"/state": state},
        read={f"{SECRETS}/runpod-key": secret_files(tmp_path / "secrets", ["runpod-key"], UID) / "runpod-key"},
    )
    with (
        pytest.raises(AssertionError, match="keys create"),
        running(place, tmp_path, [*RECIPE.words("ENTRYPOINT"), *RECIPE.words("CMD")]),
    ):
        pytest.fail("it began")


@pytest.mark.full
def test_a_secret_that_the_user_cannot_read_is_said(tmp_path: Path) -> None:
    """The commonest slip: a file of root's. One line names the variable."""
    state = folder(tmp_path / "state", UID)
    place = Place(
        uid=UID,
        environment={**RECIPE.last.environment, **NOWHERE, "RUNPOD_API_KEY_FILE": f"{SECRETS}/runpod-key"},
        written={"/state": state},
        read={f"{SECRETS}/runpod-key": secret_files(tmp_path / "secrets", ["runpod-key"], 0) / "runpod-key"},
    )
    with (
        pytest.raises(AssertionError, match=r"RUNPOD_API_KEY_FILE names cannot be read .Permission denied"),
        running(place, tmp_path, [*RECIPE.words("ENTRYPOINT"), *SERVICE["command"]]),
    ):
        pytest.fail("it began")


@pytest.mark.full
def test_the_unit_serves_with_its_credentials_as_files(tmp_path: Path) -> None:
    """ExecStart as it stands, with the folders and the credentials that systemd would give it."""
    uid, home, handed = 10002, "/var/lib/runner-provisioner", "/run/credentials/runner-provisioner.service"
    state, cache = folder(tmp_path / "state", uid), folder(tmp_path / "cache", uid)
    names = [one.partition(":")[0] for one in of_unit("LoadCredential")]
    environment = {name: value.replace("%d", handed) for name, value in unit_environment().items()}
    place = Place(
        uid=uid,
        environment={"PATH": f"{PROGRAM}/bin:/usr/bin", **environment, **NOWHERE},
        written={home: state, "/var/cache/runner-provisioner": cache},
        read={handed: owned(secret_files(tmp_path / "handed", names, uid), uid)},
    )
    with running(place, tmp_path, shlex.split(of_unit("ExecStart")[0])) as service:
        assert (asked(service, "/healthz"), asked(service, "/readyz")) == ("200", "200")
        assert [refused(service, name) for name in (home, "/var/lib", handed)] == ["", READ_ONLY, READ_ONLY]
        assert (state / "service.sqlite3").stat().st_mode & 0o777 == 0o600
        looks_after_its_key(service, state)
        assert service.stop() == 0
