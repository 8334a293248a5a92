"""The parts below the simulated GitHub: its line format, its archives, its scripts, its runner protocol's refusals."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from importlib import resources
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate

from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.github import lines, rest_apps, tarball
from runner_provisioner.simulators.github.entities import ApiError
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.testing.clock import FakeClock

SCRIPTS = sorted(tarball.STANDIN.rglob("*.sh"))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(texts, texts)
def test_lines_say_what_they_were_told(name: str, value: str) -> None:
    """Any text without NUL comes back as it was sent."""
    message = lines.Lines(lines.encode([("word", value), ("pair", name, value), ("flag", "1")]))
    assert message.get("word") == value
    assert message.pairs("pair") == {name: value}
    assert message.flag("flag")
    assert message.get("nothing", "default") == "default"


def test_a_lone_dash_is_not_the_empty_value() -> None:
    """`-` stands for nothing, so a dash is written out."""
    assert lines.encode([("a", "-"), ("b", "")]) == b"a \\x2d\nb -\n"
    assert lines.Lines(b"a \\x2d\nb -\n").get("a") == "-"


def test_bash_reads_and_writes_the_same_lines() -> None:
    """Pack and unpack of the stand-in are the inverse of each other and agree with the server's."""
    value = " a\\b\n\t\r- %s ü '\"$(x)`\\x41\\\\"
    word = lines.encode([("w", value)]).decode().rstrip("\n").partition(" ")[2]
    script = 'source "$1"; unpack "$2"; pack "$VALUE"; printf "%s\\n%s" "$PACKED" "$VALUE"'
    command = ["bash", "-c", script, "bash", str(tarball.STANDIN / "bin" / "http.sh"), word]
    packed, _, unpacked = subprocess.run(command, capture_output=True, check=True).stdout.decode().partition("\n")
    assert (packed, unpacked) == (word, value)


def test_a_line_with_too_many_values_is_refused() -> None:
    """A word takes two values at most."""
    with pytest.raises(ApiError):
        lines.Lines(b"word a b c")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_clean(script: Path) -> None:
    """Shellcheck has nothing to say."""
    checker = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run([checker, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_runner_archive_is_reproducible() -> None:
    """The same bytes each time; programs can be executed; the version is inside."""
    first = tarball.runner_archive("2.338.0")
    tarball.runner_archive.cache_clear()
    again = tarball.runner_archive("2.338.0")
    assert first == again
    assert hashlib.sha256(first.content).hexdigest() == first.sha256
    with tarfile.open(fileobj=io.BytesIO(first.content)) as tar:
        assert {entry.mtime for entry in tar.getmembers()} == {0}
        assert tar.getmember("./run.sh").mode == 0o755
        version = tar.extractfile("./bin/version")
        assert version is not None
        assert version.read() == b"2.338.0\nx64\n"


def test_a_folder_that_is_no_git_tree_is_taken_whole(tmp_path: Path) -> None:
    """Files and inner links, no link out of it, nothing from a broken `.git`."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("x")
    (tmp_path / "out").symlink_to(tmp_path.parent)
    (tmp_path / "in").symlink_to("a/file")
    (tmp_path / "absolute").symlink_to(tmp_path / "a" / "file")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("[core]")
    with tarfile.open(fileobj=io.BytesIO(tarball.workspace_archive(tmp_path))) as tar:
        assert tar.getnames() == ["a/file", "in"]


def test_a_file_that_git_knows_and_nobody_has_is_left_out(tmp_path: Path) -> None:
    """A tracked file that was deleted does not stop a checkout."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in ("kept", "gone"):
        (tmp_path / name).write_text(name)
    subprocess.run(["git", "-C", str(tmp_path), "add", "."], check=True)
    (tmp_path / "gone").unlink()
    with tarfile.open(fileobj=io.BytesIO(tarball.workspace_archive(tmp_path))) as tar:
        assert tar.getnames() == ["kept"]


@pytest.fixture
def sim() -> GitHubSimulator:
    """One repository, one connected runner that no process stands behind."""
    sim = GitHubSimulator(FakeClock())
    sim.add_repository("octo/hello")
    sim.play_runner("octo/hello", "r", ["x"])
    return sim


@pytest.mark.parametrize(
    ("verb", "scheme", "status"),
    [
        ("register", "RemoteAuth", 401),
        ("remove", "RemoteAuth", 401),
        ("job", "Bearer", 401),
        ("session", "Bearer", 401),
        ("workspace", "Bearer", 401),
        ("job", "Basic", 401),
    ],
)
async def test_the_runner_protocol_wants_a_credential(
    sim: GitHubSimulator, verb: str, scheme: str, status: int
) -> None:
    """An unknown token or runner is 401 everywhere."""
    transport = httpx.ASGITransport(app=sim.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://github.test") as client:
        answer = await client.post(f"/_runner/{verb}", headers={"authorization": f"{scheme} unknown"})
    assert answer.status_code == status


async def test_a_runner_without_a_job_is_told_so(sim: GitHubSimulator) -> None:
    """404 for what belongs to a job and for verbs that do not exist; faults hit by name."""
    transport = httpx.ASGITransport(app=sim.app)
    head = {"authorization": f"Bearer {sim.runners()[0].credential}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://github.test", headers=head) as client:
        statuses = [(await client.post(f"/_runner/{verb}")).status_code for verb in ("next", "nothing", "workspace")]
        assert statuses == [404, 404, 404]
        assert (await client.post("/_runner/renew")).status_code == 200
        sim.order(Fault(operation="_runner.renew", kind=FaultKind.ERROR, status=503))
        assert (await client.post("/_runner/renew")).status_code == 503
        sim.order(Fault(operation="_runner.renew", kind=FaultKind.MALFORMED))
        assert "html" in (await client.post("/_runner/renew")).text
        for kind in (FaultKind.ERROR, FaultKind.MALFORMED):
            sim.order(Fault(operation="download", kind=kind))
            path = f"/actions/runner/releases/download/v2/{tarball.runner_archive('2.338.0').name}"
            assert b"\x1f\x8b" not in (await client.get(path)).content


async def test_a_remove_token_of_nobody_is_404(sim: GitHubSimulator) -> None:
    """Only a registered name can be removed."""
    token = sim.world.credentials.issue_runner_token("octo/hello", "remove").value
    transport = httpx.ASGITransport(app=sim.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://github.test") as client:
        head = {"authorization": f"RemoteAuth {token}"}
        answer = await client.post("/_runner/remove", headers=head, content=lines.encode([("name", "nobody")]))
    assert answer.status_code == 404


def test_scopes_are_repositories_or_organisations(sim: GitHubSimulator) -> None:
    """A registration URL with three parts names nothing; a user is no organisation."""
    for path in ("/octo/hello/more", "/octo", "/nobody"):
        with pytest.raises(ApiError):
            sim.world.scope_of_url(path)
    assert sim.world.scope_of_url("/Octo/Hello/") == "octo/hello"
    with pytest.raises(ApiError):
        sim.world.repository_by_id(1)
    sim.add_repository("acme/tool")
    sim.add_organisation("acme")
    with pytest.raises(ApiError):
        sim.world.group_named(sim.world.organisation("acme"), "none")


def test_limits_are_answered_by_the_server_itself(sim: GitHubSimulator) -> None:
    """The route of the limits has no handler of its own."""
    exchange = sim._rest.exchange("GET", "/rate_limit", "", {}, b"", "http://github.test")
    with pytest.raises(ApiError):
        rest_apps.show_limits(exchange)


def test_the_schema_that_every_exchange_is_held_against_is_one() -> None:
    """The simulator does not look at each of its starts."""
    text = (resources.files("runner_provisioner.simulators") / "data" / "github-openapi-subset.json").read_text("utf-8")
    validate(json.loads(text))
