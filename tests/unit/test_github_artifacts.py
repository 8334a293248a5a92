"""Files that jobs have left: what is fetched, from where, and what is refused unread."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

import httpx
import pytest

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.domain.names import Scope
from runner_provisioner.errors import InvalidRequest, NotFound, PermissionDenied, ProtocolViolation
from runner_provisioner.github.artifacts import LARGEST, GitHubArtifacts, only_file
from runner_provisioner.github.connect import TokenCredential, connect
from runner_provisioner.logging import Redactor
from runner_provisioner.simulators.github.artifacts import packed
from runner_provisioner.simulators.github.entities import ApiError
from runner_provisioner.simulators.github.server import GitHubSimulator
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock

REPO = "octo/app"
TOKEN = "ghp_plantedtoken1234"
PREFIX = "records-"


def adapter(transport: httpx.AsyncBaseTransport) -> GitHubArtifacts:
    """The adapter over this network."""
    plumbing = Plumbing(
        clock=FakeClock(),
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="runner-provisioner/test",
        transport=transport,
    )
    return connect(Scope.parse(REPO), TokenCredential(token=TOKEN), plumbing=plumbing).artifacts


@pytest.fixture
def sim() -> GitHubSimulator:
    """One repository."""
    made = GitHubSimulator(FakeClock())
    made.add_repository(REPO)
    made.add_token(TOKEN)
    return made


def simulated(sim: GitHubSimulator) -> GitHubArtifacts:
    """The adapter against the simulator."""
    return adapter(InProcess({"api.github.com": sim.app}))


async def test_the_one_small_file_of_each_upload(sim: GitHubSimulator) -> None:
    """Of this run, of these names; others and what has several files are left out."""
    run_id = sim.queue_job(REPO, ["x"])
    other = sim.queue_job(REPO, ["x"])
    for name, files in {
        "records-a": {"a.json": b"1"},
        "records-two": {"a": b"1", "b": b"2"},
        "records-big": {"a": b"x" * (LARGEST + 1)},
        "else": {"a": b"no"},
    }.items():
        sim.upload(run_id, name, files)
    sim.upload(other, "records-a", {"a": b"other"})
    artifacts = simulated(sim)
    assert await artifacts.small_files(REPO, run_id, PREFIX) == [b"1"]
    assert len(await artifacts.list(REPO, run_id)) == 4
    with pytest.raises(ApiError):
        sim.upload(run_id, "records-a", {"a.json": b"2"})
    sim.upload(run_id, "records-a", {"a.json": b"2"}, overwrite=True)
    assert await artifacts.small_files(REPO, run_id, PREFIX) == [b"2"]
    assert sim.violations == []


async def test_a_run_that_does_not_exist_is_an_error(sim: GitHubSimulator) -> None:
    """Nothing is no answer to that."""
    with pytest.raises(PermissionDenied):
        await simulated(sim).small_files(REPO, 1, PREFIX)


class Elsewhere(httpx.AsyncBaseTransport):
    """GitHub, and the host where archives lie."""

    def __init__(self, answer: httpx.Response, *, archive: int = 200) -> None:
        """`answer` is GitHub's to the download; `archive` the status of the other host."""
        self._answer = answer
        self._archive = archive
        self.seen: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        self.seen.append(request)
        if request.url.path.endswith("/artifacts"):
            one = {"id": 5, "name": "records-a", "size_in_bytes": 9, "expired": False}
            body = {"total_count": 2, "artifacts": [one, {**one, "id": 6, "expired": True}]}
            return httpx.Response(200, json=body, request=request)
        if request.url.host == "api.github.com":
            self._answer.request = request
            return self._answer
        return httpx.Response(self._archive, content=packed({"a": b"there"}), request=request)


def to(address: str) -> httpx.Response:
    """A redirect."""
    return httpx.Response(302, headers={"location": address})


async def test_no_token_goes_to_the_host_of_the_archives() -> None:
    """It is another one, and its address is its own password."""
    network = Elsewhere(to("https://blobs.example/x?sig=abc"))
    assert await adapter(network).small_files(REPO, 1, PREFIX) == [b"there"]
    assert network.seen[-1].url.query == b"sig=abc"
    assert "authorization" not in network.seen[-1].headers
    assert "authorization" in network.seen[0].headers
    assert sum(one.url.path.endswith("/zip") for one in network.seen) == 1


async def test_an_archive_that_has_expired_is_left_out() -> None:
    """As is one that expired before."""
    assert await adapter(Elsewhere(httpx.Response(410, json={"message": "gone"}))).small_files(REPO, 1, PREFIX) == []


@pytest.mark.parametrize(
    ("answer", "archive", "kind"),
    [
        (to(""), 200, ProtocolViolation),
        (httpx.Response(200, content=b"PK"), 200, ProtocolViolation),
        (to("http://blobs.example/x"), 200, InvalidRequest),
        (to("https://blobs.example/x"), 404, NotFound),
    ],
    ids=["no address", "no redirect", "no https", "not there"],
)
async def test_a_download_that_fails_is_an_error(answer: httpx.Response, archive: int, kind: type[Exception]) -> None:
    """What could not be looked at is not absent."""
    with pytest.raises(kind):
        await adapter(Elsewhere(answer, archive=archive)).small_files(REPO, 1, PREFIX)


def zipped(files: Mapping[str, bytes]) -> bytes:
    """An archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_small_file_is_read() -> None:
    """Whatever it is called: it is never written."""
    assert only_file(zipped({"../../etc/passwd": b"x"})) == b"x"


def test_a_file_that_unpacks_to_much_is_refused() -> None:
    """Also when its head says otherwise."""
    bomb = zipped({"a": b"\0" * (LARGEST * 40)})
    assert len(bomb) < LARGEST
    assert only_file(bomb) is None
    lying = bomb.replace(struct.pack("<L", LARGEST * 40), struct.pack("<L", 10))
    found = only_file(lying)
    assert found is None or len(found) <= 10


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"x" * (LARGEST + 1),
        zipped({}),
        zipped({"a/": b""}),
        zipped({"a": b"hello"})[:-30],
        zipped({"a": b"hello"}).replace(b"PK\x03\x04", b"PK\x03\x05"),
        zipped({"a": b"hello" * 9}).replace(b"\x08\x00", b"\x63\x00"),
    ],
    ids=["empty", "cut", "large", "no file", "a folder", "no end", "no head", "another method"],
)
def test_what_is_no_archive_of_one_file_is_none(data: bytes) -> None:
    """Nothing is raised for what somebody has uploaded."""
    assert only_file(data) is None
