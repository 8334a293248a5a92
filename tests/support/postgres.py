"""A real PostgreSQL server for tests, from the binaries that are there; its files and its user are its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

PASSWORD = "planted-Pa55-of-postgres"
WHY_NONE = "no PostgreSQL server on this machine: `make system` installs Debian's"
_SWIFT = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "jit": "off",
}
_PATIENCE = 60.0  # seconds


@dataclass(kw_only=True)
class Server:
    """A server on loopback that is running, unless it was stopped."""

    binaries: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    made: int = field(default=0)

    def url(
        self, database: str = "postgres", *, user: str = "tester", password: str = PASSWORD, host: str | None = None
    ) -> str:
        """The address of one of its databases."""
        place = f"127.0.0.1:{self.port}" if host is None else host
        return f"postgresql://{user}:{password}@{place}/{database}"

    async def new_database(self) -> str:
        """The URL of one that is empty."""
        self.made += 1
        name = f"test_{self.made}"
        await self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    async def run(self, *statements: str, url: str = "") -> list[asyncpg.Record]:
        """Run them one by one, without anything of ours; gives what the last one gave."""
        connection = await asyncpg.connect(url or self.url(), timeout=30)
        try:
            found: list[asyncpg.Record] = []
            for one in statements:
                found = await connection.fetch(one)
            return found
        finally:
            await connection.close()

    def start(self) -> None:
        """Begin, and wait until it answers."""
        options = [part for name, value in _SWIFT.items() for part in ("-c", f"{name}={value}")]
        user, group = _account()
        where = ("-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.binaries / "postgres"), *where, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=_environment(),
                user=user,
                group=group,
                extra_groups=None if user is None else [],
            )
        end = time.monotonic() + _PATIENCE
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "log").read_text("utf-8"))
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it, and every connection with it: by SIGINT in order, by SIGQUIT as a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(_PATIENCE)
            self.process = None

    def _ready(self) -> bool:
        check = [str(self.binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(check, check=False, env=_environment()).returncode == 0


def binaries() -> Path | None:
    """Where the newest server's programs are; None where there is none."""
    found = shutil.which("postgres")
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name), reverse=True)
    places = [*([Path(found).resolve().parent] if found else []), *newest]
    return next((one for one in places if (one / "initdb").exists() and (one / "pg_isready").exists()), None)


@contextmanager
def server(programs: Path) -> Iterator[Server]:
    """A new one, gone with all that was in it at the end."""
    # Not below pytest's folder: another user cannot reach in there.
    folder = Path(tempfile.mkdtemp(prefix="rp-pg-", dir="/tmp"))
    try:
        one = Server(binaries=programs, folder=folder, port=_free_port())
        _initialise(one)
        one.start()
        try:
            yield one
        finally:
            one.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder)


def _initialise(one: Server) -> None:
    secret = one.folder / "password"
    secret.write_text(PASSWORD, "utf-8")
    user, group = _account()
    if user is not None:
        for path in (one.folder, secret):
            shutil.chown(path, user=user)
    options = ["-U", "tester", "-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(
        [str(one.binaries / "initdb"), "-D", str(one.folder / "data"), *options],
        check=True,
        capture_output=True,
        cwd=one.folder,
        env=_environment(),
        user=user,
        group=group,
        extra_groups=None if user is None else [],
    )


def _account() -> tuple[int, int] | tuple[None, None]:
    """Whose process it is: the server refuses to run as root."""
    if os.geteuid() != 0:
        return None, None
    known = {one.pw_name: one for one in pwd.getpwall()}
    account = known.get("postgres") or known["nobody"]
    return account.pw_uid, account.pw_gid


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
