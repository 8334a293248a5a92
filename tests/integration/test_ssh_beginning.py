"""Starting a command in a machine over a real sshd: once, apart from the connection, and never half of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from support.sshd import Server, needs_sshd, serve

from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.bare import Inside, Stage
from runner_provisioner.domain.pods import Pod, PodId, PodSpec, PodState, SshEndpoint
from runner_provisioner.errors import HostKeyChanged, InvalidRequest, LoginRefused, SshFailed
from runner_provisioner.ssh import bare_door
from runner_provisioner.ssh.bare_door import SshBareDoor
from runner_provisioner.ssh.beginning import given, take_command
from runner_provisioner.ssh.commands import Streams, execute
from runner_provisioner.ssh.connection import Connection

pytestmark = [needs_sshd, pytest.mark.root, pytest.mark.usefixtures("unmeasured")]
SECRET = "AAAAplantedregistrationtoken"


class Kept:
    """`ports.HostKeys` in memory."""

    def __init__(self, other: str | None = None) -> None:
        """`other` is what somebody else pins just before us."""
        self.keys: dict[str, str] = {}
        self.other = other

    def known(self, pod: Pod) -> str | None:
        """The pod's."""
        return self.keys.get(pod.id)

    def pin(self, pod: Pod, host_key: str) -> str:
        """Keep it."""
        return self.keys.setdefault(pod.id, self.other or host_key)


class Scene:
    """A machine that booted bare; what is started in it lies in a folder of this machine, which is removed."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.kept = Kept()
        self.pod = Pod(
            provider="prime",
            id=PodId(f"test-{uuid.uuid4().hex}"),
            name="rp-0123abcd-zz-1-default",
            state=PodState.RUNNING,
            ssh=SshEndpoint(host="127.0.0.1", port=server.port),
        )
        self.base = Path(f"/opt/runner-provisioner-{self.pod.id}")
        self.door = self.knock(server.identity.read_text())

    def knock(self, key: str) -> SshBareDoor:
        """A door that this key opens."""
        return SshBareDoor(key, clock=SystemClock(), host_keys=self.kept)

    @property
    def spec(self) -> PodSpec:
        """Says that it began, looks at every command line, and stays."""
        shows = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
        command = (
            f"secret={SECRET};: $secret; {shows} >{self.folder}/shown; echo begun >>{self.folder}/began; exec sleep 600"
        )
        return PodSpec(name=self.pod.name, image="", command=command, env={"RP_X": "it's $x"})

    @property
    def began(self) -> int:
        """How often it began."""
        file = self.folder / "began"
        return len(file.read_text().splitlines()) if file.exists() else 0

    @property
    def process(self) -> int:
        """Who the mark names."""
        return int((self.base / "begun").read_text().split()[0])

    @property
    def environ(self) -> list[bytes]:
        """That of who the mark names."""
        return Path(f"/proc/{self.process}/environ").read_bytes().split(b"\0")

    async def look(self, stage: Stage) -> Inside:
        """Until it is so far."""
        with anyio.fail_after(30):
            while (found := await self.door.look(self.pod)).stage is not stage:  # noqa: ASYNC110 - another process
                await anyio.sleep(0.1)
        return found

    async def until_begun(self) -> None:
        """The command runs."""
        await self.look(Stage.BEGUN)
        with anyio.fail_after(30):
            while not self.began:  # noqa: ASYNC110 - another process
                await anyio.sleep(0.05)

    def end(self) -> None:
        """Leave nothing on this machine."""
        if (self.base / "begun").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
        shutil.rmtree(self.base, ignore_errors=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A machine's sshd."""
    (tmp_path / "sshd").mkdir()
    with serve(tmp_path / "sshd") as found:
        yield found


@pytest.fixture
async def scene(server: Server, tmp_path: Path) -> AsyncIterator[Scene]:
    """A machine."""
    made = Scene(server, tmp_path)
    yield made
    made.end()


async def test_it_begins_once_and_stays_when_the_connection_has_gone(scene: Scene) -> None:
    """The host key is pinned at the first look; no command line shows the secret, and its file is gone."""
    first = await scene.look(Stage.BARE)
    assert first.pinned is not None
    assert first.pinned.startswith("SHA256:")
    assert scene.kept.keys == {scene.pod.id: scene.server.host_key}
    await scene.door.begin(scene.pod, scene.spec)
    await scene.until_begun()
    assert (await scene.look(Stage.BEGUN)).pinned is None
    assert os.getsid(scene.process) == scene.process
    await scene.door.begin(scene.pod, scene.spec)
    await anyio.sleep(0.5)
    assert scene.began == 1
    shown = (scene.folder / "shown").read_text()
    assert "sleep" in shown or "sshd" in shown
    assert SECRET not in shown
    assert sorted(one.name for one in scene.base.iterdir()) == ["begun", "output"]
    environ = scene.environ
    assert b"RP_X=it's $x" in environ
    assert f"RUNPOD_POD_ID={scene.pod.id}".encode() in environ
    assert not [one for one in environ if one.startswith((b"SSH_", b"RUNNER_PROVISIONER_EXEC"))]


@pytest.mark.full
async def test_of_many_at_once_one_begins(scene: Scene) -> None:
    """Two starts with one state file, and a pass that was cut off and repeated."""
    await scene.look(Stage.BARE)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(scene.door.begin, scene.pod, scene.spec)
    await scene.until_begun()
    await anyio.sleep(0.5)
    assert scene.began == 1
    assert sorted(one.name for one in scene.base.iterdir()) == ["begun", "output"]


@pytest.mark.parametrize(
    "part", [pytest.param(0.0, marks=pytest.mark.full), 0.5, pytest.param(0.98, marks=pytest.mark.full)]
)
async def test_a_part_of_it_begins_nothing(scene: Scene, part: float) -> None:
    """As where the connection drops before the delivery is over; then all is delivered."""
    text = given(scene.pod.id, scene.spec.command or "", scene.spec.env)

    async def some() -> AsyncIterator[bytes]:
        yield text[: int(len(text) * part)].encode()

    streams = Streams(stdout=bare_door._nowhere, stderr=bare_door._nowhere, stdin=some())
    async with scene.door._connected(scene.pod) as (connection, _):
        assert await execute(connection, take_command(scene.pod.id), streams, limit=10) != 0
    await scene.look(Stage.BARE)
    assert scene.began == 0
    assert list(scene.base.iterdir()) == []
    await scene.door.begin(scene.pod, scene.spec)
    await scene.until_begun()
    assert scene.began == 1


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.full), "after"])
async def test_a_connection_that_breaks_is_an_error_and_begins_at_most_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Cut off right before the pod got it, or right after."""
    whole = execute

    async def cut(connection: Connection, command: str, streams: Streams, *, limit: float | None = None) -> int:
        if when == "before":
            connection.abort()
        status = await whole(connection, command, streams, limit=limit)
        assert when == "after"
        assert status == 0
        raise SshFailed("broke")

    await scene.look(Stage.BARE)
    monkeypatch.setattr(bare_door, "execute", cut)
    with pytest.raises(SshFailed):
        await scene.door.begin(scene.pod, scene.spec)
    monkeypatch.setattr(bare_door, "execute", whole)
    if when == "before":
        assert (await scene.look(Stage.BARE)).stage is Stage.BARE
    await scene.door.begin(scene.pod, scene.spec)
    await scene.until_begun()
    await anyio.sleep(0.3)
    assert scene.began == 1


@pytest.mark.full
async def test_what_has_ended_never_begins_again(scene: Scene) -> None:
    """As after a restart of the machine; another process with its number is not taken for it."""
    await scene.door.begin(scene.pod, scene.spec)
    await scene.until_begun()
    process = scene.process
    (scene.base / "begun").write_text(f"{os.getpid()} 1\n")
    await scene.look(Stage.OVER)
    (scene.base / "begun").write_text(f"{process} 1\n")
    os.kill(process, signal.SIGKILL)
    await scene.look(Stage.OVER)
    await scene.door.begin(scene.pod, scene.spec)
    await anyio.sleep(0.3)
    assert scene.began == 1


@pytest.mark.full
async def test_nobody_answering_is_no_error(scene: Scene) -> None:
    """The pod boots."""
    closed = replace(scene.pod, ssh=SshEndpoint(host="127.0.0.1", port=1))
    assert (await scene.door.look(closed)).stage is Stage.SHUT


@pytest.mark.full
async def test_a_host_key_that_is_not_the_first_is_refused(scene: Scene) -> None:
    """Also one that somebody else was shown differently a moment ago; nothing is sent."""
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqRCRvUgG2kPqJ8NHVg5e5lzJcGVGGx2yKjWmOBMZrF"
    scene.kept.other = other
    with pytest.raises(HostKeyChanged, match="than to somebody else"):
        await scene.door.begin(scene.pod, scene.spec)
    for call in (scene.door.look(scene.pod), scene.door.begin(scene.pod, scene.spec)):
        with pytest.raises(HostKeyChanged, match="host key verification failed"):
            await call
    assert not scene.base.exists()


@pytest.mark.full
async def test_a_key_that_is_not_let_in_is_said(scene: Scene, tmp_path: Path) -> None:
    """It is no pod that boots still."""
    await anyio.run_process(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")])
    with pytest.raises(LoginRefused):
        await scene.knock((tmp_path / "other").read_text()).look(scene.pod)


async def test_a_spec_without_a_command_is_refused(scene: Scene) -> None:
    """Nothing would begin."""
    with pytest.raises(InvalidRequest, match="nothing to start"):
        await scene.door.begin(scene.pod, PodSpec(name="a", image=""))
