"""Connecting and copying, against SSH servers that come up late, hang up, or lie."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

from runner_provisioner.domain.pods import SshEndpoint
from runner_provisioner.errors import (
    HostKeyChanged,
    InvalidRequest,
    LoginRefused,
    OutOfTime,
    ProtocolViolation,
    SshFailed,
)
from runner_provisioner.ssh import copying
from runner_provisioner.ssh.commands import Streams, answer, execute
from runner_provisioner.ssh.connection import Connection, Patience, connected
from runner_provisioner.ssh.keys import Identity
from runner_provisioner.ssh.targets import Target
from runner_provisioner.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = asyncssh.generate_private_key("ssh-ed25519")
USER = asyncssh.generate_private_key("ssh-ed25519")
QUICK = Patience(coming_up=60, connect=5, login=5, keep_alive=0.2)


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    """The user's key in a file."""
    USER.write_private_key(tmp_path / "id")
    return Identity(file=tmp_path / "id")


def free_port() -> int:
    """One on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def say_hello(process: asyncssh.SSHServerProcess[str]) -> None:
    """What the server runs, whatever it is asked."""
    process.stdout.write("hello\n")
    process.exit(0)


async def serve(port: int = 0, *, host: asyncssh.SSHKey = HOST, **more: object) -> asyncssh.SSHAcceptor:
    """A server that lets the user in."""
    options: dict[str, object] = {"process_factory": say_hello, "allow_scp": False, **more}
    return await asyncssh.listen(
        "127.0.0.1",
        port,
        server_host_keys=[host],
        authorized_client_keys=asyncssh.import_authorized_keys(USER.export_public_key().decode()),
        **options,
    )


def target(port: int, key: asyncssh.SSHKey | None = HOST) -> Target:
    """The server there, with the key that it ought to have."""
    text = key.export_public_key().decode().strip() if key else None
    return Target(pod_id="pod1", endpoint=SshEndpoint(host="127.0.0.1", port=port), host_key=text)


class Late(FakeClock):
    """A clock with which somebody does something after so many sleeps."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        super().__init__()
        self.slept: list[float] = []
        self._after = after
        self._act = act

    async def sleep(self, seconds: float) -> None:
        """Count."""
        self.slept.append(seconds)
        await super().sleep(seconds)
        if len(self.slept) == self._after:
            done = self._act()
            if asyncio.iscoroutine(done):
                await done


async def test_a_server_that_comes_up_late_is_waited_for(identity: Identity) -> None:
    """Longer each time."""
    port = free_port()
    servers: list[asyncssh.SSHAcceptor] = []

    async def start() -> None:
        servers.append(await serve(port))

    clock = Late(3, start)
    async with connected(target(port), identity, clock=clock, patience=QUICK) as connection:
        assert await answer(connection, "x") == (0, "hello\n")
    assert clock.slept == [0.5, 1.0, 2.0]
    servers[0].close()


async def test_waiting_has_an_end(identity: Identity) -> None:
    """To the second, and the error says what was seen."""
    clock = FakeClock()
    with pytest.raises(SshFailed, match="the connection is refused") as caught:
        async with connected(target(free_port()), identity, clock=clock, patience=QUICK):
            pass
    assert type(caught.value) is SshFailed
    assert clock.monotonic() == pytest.approx(QUICK.coming_up)


async def test_a_server_that_says_nothing_is_given_up(identity: Identity) -> None:
    """A port that accepts and stays silent."""
    patience = Patience(coming_up=0, connect=0.3, login=0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(SshFailed):
        async with connected(target(silent.getsockname()[1]), identity, clock=FakeClock(), patience=patience):
            pass


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param(asyncssh.generate_private_key("ssh-ed25519"), id="another-key"),
        pytest.param(asyncssh.generate_private_key("ecdsa-sha2-nistp256"), id="another-kind"),
    ],
)
async def test_another_host_key_is_refused_at_once(identity: Identity, expected: asyncssh.SSHKey) -> None:
    """No second try, and no login is attempted there."""
    server = await serve()
    clock = FakeClock()
    with pytest.raises(HostKeyChanged, match="another host key than pod pod1"):
        async with connected(target(server.get_port(), expected), identity, clock=clock):
            pass
    assert clock.monotonic() == 0
    server.close()


async def test_without_a_host_key_any_is_taken(identity: Identity) -> None:
    """Who asked for it gets it."""
    server = await serve()
    async with connected(target(server.get_port(), None), identity, clock=FakeClock()) as connection:
        assert await answer(connection, "x") == (0, "hello\n")
    server.close()


async def test_a_stranger_is_refused_at_once_and_no_password_is_tried(tmp_path: Path) -> None:
    """Also by a server that would take any password."""
    tried = []

    class Open(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            tried.append((username, password))
            return True

    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "other")
    server = await serve(server_factory=Open)
    with pytest.raises(LoginRefused):
        async with connected(target(server.get_port()), Identity(file=tmp_path / "other"), clock=FakeClock()):
            pass
    assert tried == []
    server.close()


async def test_a_broken_host_key_is_named(identity: Identity) -> None:
    """Before anything is connected."""
    broken = Target(pod_id="pod1", endpoint=SshEndpoint(host="127.0.0.1", port=1), host_key="ssh-ed25519 AAAA")
    with pytest.raises(ProtocolViolation, match="host key"):
        async with connected(broken, identity, clock=FakeClock()):
            pass


async def test_a_peer_that_falls_silent_is_noticed(identity: Identity) -> None:
    """By the sign of life that it does not give; a hung machine sends no reset."""

    async def hang(process: asyncssh.SSHServerProcess[str]) -> None:
        await asyncio.sleep(3600)
        process.exit(0)

    server = await serve(process_factory=hang)
    frozen = asyncio.Event()
    relay = await asyncio.start_server(_relay(server.get_port(), frozen), "127.0.0.1", 0)
    port = relay.sockets[0].getsockname()[1]
    with pytest.raises(SshFailed, match="broke"):
        async with connected(target(port), identity, clock=FakeClock(), patience=QUICK) as connection:
            await answer(_frozen(connection, frozen), "x", limit=30)
    relay.close()
    server.close()


def _frozen(connection: Connection, frozen: asyncio.Event) -> Connection:
    frozen.set()
    return connection


def _relay(port: int, frozen: asyncio.Event) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            if frozen.is_set():
                await asyncio.sleep(3600)
            writer.write(piece)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer))
        finally:
            there_writer.close()
            writer.close()

    return handle


async def test_a_connection_that_breaks_is_no_exit_code(identity: Identity) -> None:
    """The command may have done anything."""

    async def cut(process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write("half")
        process.channel.get_connection().abort()

    server = await serve(process_factory=cut)
    with pytest.raises(SshFailed, match="broke before the command ended"):
        async with connected(target(server.get_port()), identity, clock=FakeClock()) as connection:
            await answer(connection, "x")
    server.close()


async def test_a_server_that_refuses_commands_is_said(identity: Identity) -> None:
    """A channel that does not open is a broken connection to us."""
    server = await serve(process_factory=None)
    with pytest.raises(SshFailed):
        async with connected(target(server.get_port()), identity, clock=FakeClock()) as connection:
            await answer(connection, "x")
    server.close()


async def test_a_command_without_an_end_runs_out_of_time(identity: Identity) -> None:
    """Whether or not the pod knows how to end it."""

    async def hang(_process: asyncssh.SSHServerProcess[str]) -> None:
        await asyncio.sleep(3600)

    server = await serve(process_factory=hang)
    with pytest.raises(OutOfTime, match=r"within 0\.2 s"):
        async with connected(target(server.get_port()), identity, clock=FakeClock()) as connection:
            await execute(connection, "x", Streams(stdout=_drop, stderr=_drop), limit=0.2)
    server.close()


def names(folder: Path) -> list[str]:
    """What is in there."""
    return sorted(path.name for path in folder.iterdir())


async def _drop(_piece: bytes) -> None:
    pass


async def test_the_librarys_log_stays_silent(identity: Identity, caplog: pytest.LogCaptureFixture) -> None:
    """At any level of ours."""
    server = await serve()
    with caplog.at_level(logging.DEBUG):
        async with connected(target(server.get_port()), identity, clock=FakeClock()) as connection:
            await answer(connection, "sesame")
    assert [record for record in caplog.records if record.name.startswith("asyncssh")] == []
    server.close()


# --- a pod that lies about its files ---------------------------------------------------------------------------------


class Liar(asyncssh.SFTPServer):
    """Lists a file under a name that leads elsewhere."""

    name = b"../../evil"

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """One honest name, and the lie."""
        attrs = asyncssh.SFTPAttrs(permissions=0o100644, size=4)
        for name in (b"honest", type(self).name):
            yield asyncssh.SFTPName(name, attrs=attrs)


@asynccontextmanager
async def sftp_of(server_class: type[asyncssh.SFTPServer], identity: Identity) -> AsyncIterator[asyncssh.SFTPClient]:
    """A client of such a server."""
    server = await serve(sftp_factory=server_class)
    async with (
        connected(target(server.get_port()), identity, clock=FakeClock()) as connection,
        copying.file_transfer(connection, "pod1") as client,
    ):
        yield client
    server.close()


@pytest.mark.parametrize("name", [b"../../evil", b"/etc/evil", b"a/b", b"a\0b", b""])
async def test_a_name_that_leads_out_of_the_target_is_refused(identity: Identity, tmp_path: Path, name: bytes) -> None:
    """Before a byte is written."""
    (tmp_path / "source").mkdir()
    liar = type("OneLiar", (Liar,), {"name": name})
    async with sftp_of(liar, identity) as client:
        with pytest.raises(SshFailed, match="impossible name"):
            await copying.plan_download(client, str(tmp_path / "source"), tmp_path / "here", recursive=True)
    assert names(tmp_path) == ["id", "source"]


async def test_a_pod_without_sftp_is_said(identity: Identity) -> None:
    """And what to do."""
    server = await serve()
    with pytest.raises(SshFailed, match="openssh-sftp-server"):
        async with (
            connected(target(server.get_port()), identity, clock=FakeClock()) as connection,
            copying.file_transfer(connection, "pod1"),
        ):
            pass
    server.close()


async def test_a_copy_that_breaks_leaves_no_part(identity: Identity, tmp_path: Path) -> None:
    """Neither under the target's name nor under another."""

    class Broken(asyncssh.SFTPServer):
        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            raise asyncssh.SFTPFailure("disk")

    (tmp_path / "source").write_bytes(b"x" * 100_000)
    (tmp_path / "target").write_text("as it was")
    async with sftp_of(Broken, identity) as client:
        plan = await copying.plan_download(client, str(tmp_path / "source"), tmp_path / "target", recursive=False)
        with pytest.raises(InvalidRequest, match="refused"):
            await copying.download(client, plan, lambda _count: None)
    assert (tmp_path / "target").read_text() == "as it was"
    assert names(tmp_path) == ["id", "source", "target"]


async def test_progress_adds_up_to_the_size(identity: Identity, tmp_path: Path) -> None:
    """Both ways."""
    (tmp_path / "source").write_bytes(b"x" * 3_000_000)
    async with sftp_of(asyncssh.SFTPServer, identity) as client:
        down: list[int] = []
        plan = await copying.plan_download(client, str(tmp_path / "source"), tmp_path / "down", recursive=False)
        await copying.download(client, plan, down.append)
        up: list[int] = []
        plan = await copying.plan_upload(client, tmp_path / "source", str(tmp_path / "up"), recursive=False)
        await copying.upload(client, plan, up.append)
    assert sum(down) == sum(up) == plan.size == 3_000_000
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes() == (tmp_path / "source").read_bytes()
