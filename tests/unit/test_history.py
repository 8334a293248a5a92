"""The history's file: what it remembers, that many may use it, and that nothing is lost when it cannot be used."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import stat
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from support.families import family

from runner_provisioner import storage
from runner_provisioner._redaction import Redactor
from runner_provisioner.domain.events import Event
from runner_provisioner.domain.history import BadMachine, Ending, Experience, Memory, OfferKind, PodRecord, Refused
from runner_provisioner.domain.leases import PodRef
from runner_provisioner.domain.pods import PodId
from runner_provisioner.errors import StoreError
from runner_provisioner.ports import History
from runner_provisioner.settings import Settings
from runner_provisioner.storage import sqlite, stores
from runner_provisioner.storage.history import HistoryFile
from runner_provisioner.storage.queries import BOOTS
from runner_provisioner.storage.tables import METADATA, REVISIONS
from runner_provisioner.testing.clock import EPOCH, FakeClock
from runner_provisioner.wiring import assemble

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = Path(storage.__file__).with_name("migrations")
KIND = OfferKind(provider="runpod", gpu_model="NVIDIA RTX A4000", gpu_count=1, interruptible=True)
EVERYWHERE = replace(KIND, region="EU-RO-1")
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
OF_0003 = ("api_keys", "idempotent_requests", "served_pods", "audit")


def record(pod_id: str = "p1", **more: Any) -> PodRecord:  # noqa: ANN401 - any field
    """A pod that was rented at the beginning of time."""
    values: dict[str, Any] = {
        "name": "rp-0123abcd-zz-1-default",
        "kind": KIND,
        "price": Decimal("0.1700"),
        "list_price": Decimal("0.17"),
        "created_at": EPOCH,
        "expires_at": EPOCH + 6 * HOUR,
        **more,
    }
    return PodRecord(provider="runpod", id=PodId(pod_id), **values)


def ref(pod_id: str = "p1") -> PodRef:
    """Its reference."""
    return PodRef("runpod", PodId(pod_id))


Opened = Callable[..., HistoryFile]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """A function that opens the file once more, as another process would."""
    found: list[HistoryFile] = []

    def one(path: Path | None = None, *, now: datetime = EPOCH) -> HistoryFile:
        found.append(HistoryFile(path or tmp_path / "state" / "history.sqlite3", clock=FakeClock(now)))
        return found[-1]

    yield one
    for history in found:
        await history.aclose()


async def test_what_was_told_is_asked_for_later(opened: Opened) -> None:
    """Each field comes back as it was, to the microsecond and the last zero, from another process too."""
    full = record(
        kind=EVERYWHERE,
        requested_at=EPOCH - MINUTE,
        machine="m1",
        repository="octo/gpu",
        online_at=EPOCH + MINUTE,
        job_at=EPOCH + 2 * MINUTE + timedelta(microseconds=1),
        job_ended_at=EPOCH + 3 * MINUTE,
        ended_at=EPOCH + 4 * MINUTE,
        ending=Ending.ITSELF,
    )
    bare = record("p2", created_at=EPOCH + HOUR)
    first = opened()
    await first.rented(bare)
    await first.rented(full)
    await first.aclose()
    assert list(await opened().pods(EPOCH)) == [full, bare]
    assert str((await opened().pods(EPOCH))[0].price) == "0.1700"


async def test_asking_an_empty_history_makes_no_file(opened: Opened) -> None:
    """Nor does noting something of a pod that is in none."""
    history = opened()
    assert await history.pods(EPOCH) == ()
    assert await history.memory(EPOCH) == Memory()
    assert await history.began(EPOCH) is None
    await history.online(ref(), EPOCH)
    await history.worked(ref(), EPOCH, None)
    await history.ended(ref(), EPOCH, Ending.ASKED)
    assert not history.path.parent.exists()


async def test_the_moments_of_a_pod_are_noted_once(opened: Opened) -> None:
    """The first moment and the first end stay; what is not known is filled in; an unknown pod changes nothing."""
    history = opened()
    await history.rented(record())
    await history.rented(record(machine="m1", price=Decimal(9)))
    await history.rented(record(machine="m2"))
    for moment in (EPOCH + MINUTE, EPOCH + 2 * MINUTE):
        await history.online(ref(), moment)
    await history.worked(ref(), EPOCH + 3 * MINUTE, None)
    await history.worked(ref(), None, EPOCH + 5 * MINUTE)
    await history.worked(ref(), EPOCH + 4 * MINUTE, EPOCH + 6 * MINUTE)
    await history.ended(ref(), EPOCH + 6 * MINUTE, Ending.INTERRUPTED)
    await history.ended(ref(), EPOCH + 9 * MINUTE, Ending.ASKED)
    await history.ended(ref("other"), EPOCH, Ending.ASKED)
    assert list(await history.pods(EPOCH)) == [
        record(
            machine="m1",
            online_at=EPOCH + MINUTE,
            job_at=EPOCH + 3 * MINUTE,
            job_ended_at=EPOCH + 5 * MINUTE,
            ended_at=EPOCH + 6 * MINUTE,
            ending=Ending.INTERRUPTED,
        )
    ]


async def test_only_pods_that_may_have_lived_since_then_are_given(opened: Opened) -> None:
    """One whose end is not confirmed counts, oldest first."""
    history = opened()
    await history.rented(record("late", created_at=EPOCH + HOUR, ended_at=EPOCH + 3 * HOUR, ending=Ending.ASKED))
    await history.rented(record("early", ended_at=EPOCH + HOUR, ending=Ending.ASKED))
    await history.rented(record("open", created_at=EPOCH + MINUTE))
    assert [one.id for one in await history.pods(EPOCH + 2 * HOUR)] == ["open", "late"]


async def test_experience_is_kept_apart_by_kind(opened: Opened) -> None:
    """Boots, hours, interruptions, rentals and refusals of each kind of offers."""
    history = opened()
    await history.rented(record("a", online_at=EPOCH + MINUTE, ended_at=EPOCH + 2 * HOUR, ending=Ending.INTERRUPTED))
    await history.rented(record("b", created_at=EPOCH + HOUR, online_at=EPOCH + HOUR + 2 * MINUTE))
    await history.rented(record("c", kind=EVERYWHERE, ended_at=EPOCH - MINUTE, ending=Ending.FAILED))
    refused = Refused(kind=replace(KIND, interruptible=False), at=EPOCH, reason="CapacityUnavailable")
    for _ in range(2):
        await history.refused(refused)
    await history.refused(replace(refused, at=EPOCH + MINUTE))
    memory = await history.memory(EPOCH + 3 * HOUR)
    assert memory.experience == {
        KIND: Experience(boots=(2 * MINUTE, MINUTE), hours=4.0, interruptions=1, rentals=2),
        EVERYWHERE: Experience(rentals=1),
        refused.kind: Experience(refusals=2),
    }


async def test_a_pod_without_an_end_has_lived_no_longer_than_it_may(opened: Opened) -> None:
    """Its end was lost, or it runs still."""
    history = opened()
    await history.rented(record())
    assert [one.hours for one in (await history.memory(EPOCH + HOUR)).experience.values()] == [1.0]
    assert [one.hours for one in (await history.memory(EPOCH + DAY)).experience.values()] == [6.0]


async def test_the_latest_boots_count(opened: Opened) -> None:
    """Only so many of them, and none that a clock set back made negative."""
    history = opened()
    for number in range(BOOTS + 5):
        created = EPOCH + number * HOUR
        await history.rented(record(str(number), created_at=created, online_at=created + number * MINUTE))
    await history.rented(record("odd", created_at=EPOCH + 99 * HOUR, online_at=EPOCH))
    (known,) = (await history.memory(EPOCH + 100 * HOUR)).experience.values()
    assert known.boots == tuple(number * MINUTE for number in range(BOOTS + 4, 4, -1))


async def test_bad_machines_are_forgotten_by_their_id_or_all_at_once(opened: Opened) -> None:
    """At whatever provider; nothing else is."""
    history = opened()
    assert await history.forget() == 0
    await history.rented(record())
    for machine, provider in (("m1", "runpod"), ("m1", "other"), ("m2", "runpod"), ("m3", "runpod")):
        for age in (0, 1):
            await history.bad(BadMachine(provider=provider, machine=machine, at=EPOCH + age * DAY, reason="gate"))
    assert await history.forget("m1") == 2
    assert await history.forget("m1") == 0
    assert {one.machine for one in (await history.memory(EPOCH + DAY)).bad_machines} == {"m2", "m3"}
    assert await history.forget() == 2
    assert (await history.memory(EPOCH + DAY)).bad_machines == ()
    assert len(await history.pods(EPOCH)) == 1


async def test_bad_machines_are_remembered_for_some_months(opened: Opened) -> None:
    """Each failure once; the market of long ago is no experience of today's."""
    history = opened()
    bad = BadMachine(provider="runpod", machine="m1", at=EPOCH, reason="driver")
    for one in (bad, bad, replace(bad, at=EPOCH + DAY)):
        await history.bad(one)
    await history.rented(record())
    assert (await history.memory(EPOCH + 2 * DAY)).bad_machines == (bad, replace(bad, at=EPOCH + DAY))
    assert await history.memory(EPOCH + 100 * DAY) == Memory()


async def test_what_was_spent_is_known_from_an_older_pod_or_from_what_was_said(opened: Opened) -> None:
    """A refusal, a bad machine or a pod of the same span proves nothing; the first moment that was said stays."""
    history = opened()
    await history.refused(Refused(kind=KIND, at=EPOCH, reason="OfferGone"))
    await history.bad(BadMachine(provider="runpod", machine="m", at=EPOCH, reason="x"))
    await history.rented(record(created_at=EPOCH + HOUR))
    assert await history.began(EPOCH) is None
    assert await history.began(EPOCH + HOUR) == EPOCH + HOUR
    await history.begin(EPOCH + 3 * HOUR)
    await history.begin(EPOCH + 4 * HOUR)
    assert await history.began(EPOCH) == EPOCH + 3 * HOUR
    assert await history.began(EPOCH + 2 * HOUR) == EPOCH + HOUR


async def test_a_file_of_the_first_form_is_trusted_from_its_oldest_pod_on(opened: Opened) -> None:
    """Whoever kept to a budget with it goes on; one without pods proves nothing."""
    history = opened()
    await history.rented(record(created_at=EPOCH + HOUR))
    await history.aclose()
    for gone, wanted in (("", EPOCH + HOUR), ("DELETE FROM pods", None)):
        _run(
            history.path,
            *(f"DROP TABLE {name}" for name in ("beginnings", *OF_0003)),
            "UPDATE alembic_version SET version_num = '0001'",
            *([gone] if gone else []),
        )
        later = opened()
        assert await later.began(EPOCH) == wanted
        await later.aclose()


async def test_old_rows_are_removed_when_the_file_is_opened(opened: Opened) -> None:
    """After 400 days."""
    history = opened()
    for at, pod_id in ((EPOCH, "old"), (EPOCH + 10 * DAY, "new")):
        await history.rented(record(pod_id, created_at=at))
        await history.bad(BadMachine(provider="runpod", machine=pod_id, at=at, reason="x"))
        await history.refused(Refused(kind=KIND, at=at, reason="OfferGone"))
    await history.aclose()
    assert len(await opened(now=EPOCH + 400 * DAY).pods(EPOCH)) == 2
    later = opened(now=EPOCH + 401 * DAY)
    assert [one.id for one in await later.pods(EPOCH)] == ["new"]
    assert await later.began(EPOCH + 10 * DAY) == EPOCH + 10 * DAY


# --- the file


async def test_nobody_else_can_read_it(opened: Opened, tmp_path: Path) -> None:
    """The file, its companions and the folders that were made for it; after closing it is one file again."""
    history = opened(tmp_path / "a" / "b" / "h.sqlite3")
    await history.rented(record())
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "a").rglob("*")}
    assert modes == {
        "b": 0o700,
        **dict.fromkeys(("h.sqlite3", "h.sqlite3.lock", "h.sqlite3-wal", "h.sqlite3-shm"), 0o600),
    }
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    await history.aclose()
    assert {one.name for one in (tmp_path / "a" / "b").iterdir()} == {"h.sqlite3", "h.sqlite3.lock"}


async def test_an_unusual_path_is_fine(opened: Opened, tmp_path: Path) -> None:
    """What means something to a URL or to a configuration file is a letter like others."""
    history = opened(tmp_path / "100% of ?mode=ro&x#y" / "h i.sqlite3")
    await history.rented(record())
    assert len(await history.pods(EPOCH)) == 1
    assert history.path.is_file()


async def test_the_migrations_make_the_tables(opened: Opened) -> None:
    """What they leave is what the queries expect, and every revision is one that is known."""
    history = opened()
    await history.rented(record())
    await history.aclose()
    engine = create_engine(f"sqlite:///{history.path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, METADATA) == []
        assert context.get_current_revision() == REVISIONS[-1]
    engine.dispose()
    script = ScriptDirectory(str(MIGRATIONS))
    assert tuple(one.revision for one in script.walk_revisions())[::-1] == REVISIONS
    assert script.get_current_head() == REVISIONS[-1]


async def test_a_migration_that_breaks_off_leaves_the_file_as_it_was(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next start migrates it."""

    def broken(connection: Any) -> None:  # noqa: ANN401 - a connection
        whole(connection)
        raise OSError(28, "No space left on device")

    whole = stores.upgrade
    monkeypatch.setattr(stores, "upgrade", broken)
    with pytest.raises(StoreError, match="the disk is full"):
        await opened().rented(record())
    monkeypatch.undo()
    history = opened()
    with sqlite3.connect(history.path) as plain:
        assert plain.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    plain.close()
    await history.rented(record())
    assert len(await history.pods(EPOCH)) == 1


async def _made(opened: Opened) -> Path:
    history = opened()
    for number in range(200):
        await history.refused(Refused(kind=KIND, at=EPOCH + number * MINUTE, reason="CapacityUnavailable"))
    await history.rented(record())
    await history.aclose()
    return history.path


def _run(path: Path, *statements: str) -> None:
    plain = sqlite3.connect(path)
    with plain:
        for one in statements:
            plain.execute(one)
    plain.close()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def _scribble(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:8192] + b"\xff" * 8192 + path.read_bytes()[16384:])


SPOILERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no database": (lambda path: path.write_text("<html>404</html>" * 99), "is damaged"),
    "a part": (_truncate, "is damaged"),
    "a page of rubbish": (_scribble, "is damaged"),
    "newer": (lambda path: _run(path, "UPDATE alembic_version SET version_num = '9999'"), "by a newer"),
    "another program's": (lambda path: _run(path, "DROP TABLE alembic_version"), "of another program"),
}


@pytest.mark.parametrize("spoiler", family(SPOILERS, daily={"newer", "a page of rubbish"}))
async def test_a_file_that_cannot_be_used_is_left_alone(opened: Opened, spoiler: str) -> None:
    """One line that names it and what to do, the same for every call, and no byte of it changes."""
    path = await _made(opened)
    spoil, wanted = SPOILERS[spoiler]
    spoil(path)
    before = path.read_bytes()
    history = opened()
    messages = set()
    for call in (history.rented(record("p9")), history.pods(EPOCH), history.memory(EPOCH), history.began(EPOCH)):
        with pytest.raises(StoreError, match=wanted) as error:
            await call
        messages.add(str(error.value))
    (message,) = messages
    assert str(path) in message
    assert "RUNNER_PROVISIONER_HISTORY" in message
    assert "\n" not in message
    await history.aclose()
    assert path.read_bytes() == before


NONSENSE = {
    "price": "UPDATE pods SET price = 'free'",
    "negative price": "UPDATE pods SET price = '-1'",
    "endless price": "UPDATE pods SET price = 'Infinity'",
    "moment": "UPDATE pods SET created_at = 'noon'",
    "moment out of range": "UPDATE pods SET expires_at = 9000000000000000000",
    "ending": "UPDATE pods SET ending = 'happily'",
}


@pytest.mark.parametrize("nonsense", family(NONSENSE, daily={"endless price", "moment"}))
async def test_nonsense_in_the_file_is_told(opened: Opened, nonsense: str) -> None:
    """A whole database whose rows nobody wrote so."""
    path = await _made(opened)
    _run(path, NONSENSE[nonsense])
    with pytest.raises(StoreError, match="is damaged"):
        await opened().pods(EPOCH)


async def test_a_place_that_cannot_be_written_is_told(opened: Opened, tmp_path: Path) -> None:
    """The folder is a file, or the file a folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a part of the path is a file"):
        await opened(tmp_path / "file" / "h.sqlite3").rented(record())
    with pytest.raises(StoreError, match="a folder is in its place"):
        await opened(tmp_path).rented(record())


async def test_a_python_without_sqlite_has_no_history(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said like other trouble with it, each time."""
    monkeypatch.setitem(sys.modules, "runner_provisioner.storage.database", None)
    history = opened()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"this Python lacks .*RUNNER_PROVISIONER_HISTORY to off"):
            await history.rented(record())


async def test_an_installation_without_migrations_is_told(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Alembic says is part of the line."""
    monkeypatch.setattr(stores, "__file__", str(tmp_path / "stores.py"))
    with pytest.raises(StoreError, match=r"migrating it failed: .*migrations"):
        await opened().rented(record())


async def test_a_file_that_others_hold_is_waited_for(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is free, or for a few seconds; then what was to be written can be tried again."""
    path = await _made(opened)
    plain = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    plain.execute("BEGIN IMMEDIATE")
    asyncio.get_running_loop().call_later(0.3, plain.execute, "COMMIT")
    await opened().rented(record("p2"))
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    plain.execute("BEGIN IMMEDIATE")
    history = opened()
    assert len(await history.pods(EPOCH)) == 2
    with pytest.raises(StoreError, match="held by another process"):
        await history.rented(record("p3"))
    plain.execute("COMMIT")
    plain.close()
    await history.rented(record("p3"))
    assert len(await history.pods(EPOCH)) == 3


async def test_a_preparation_that_never_ends_is_not_waited_for(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the lock of a file that has yet to be made."""
    monkeypatch.setattr(sqlite, "_LOCK_TRIES", 2)
    path = tmp_path / "h.sqlite3"
    place = sqlite.SqlitePlace(path=path, what="history", instead="use another", durable=False)
    async with sqlite._locked(place):
        with pytest.raises(StoreError, match="held by another process"):
            await opened(path).rented(record())
    await opened(path).rented(record())


async def test_what_is_told_while_being_cancelled_is_kept(opened: Opened) -> None:
    """A cancelled start still notes what it rented, and closes the file."""
    history = opened()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await history.rented(record())
        await history.aclose()
    assert len(await opened().pods(EPOCH)) == 1


async def test_the_program_has_a_history_and_closes_it(tmp_path: Path) -> None:
    """Opened by whoever asks first; none when it is off."""
    environ = {"RUNPOD_API_KEY": "k", "RUNNER_PROVISIONER_HISTORY": "h.sqlite3"}

    async def program(**more: str) -> History | None:
        settings = Settings.read({**environ, **more}, home=tmp_path, cwd=tmp_path)
        async with assemble(settings, events=Silent(), redactor=Redactor(), needs_github=False) as one:
            if one.history is not None:
                await one.history.rented(record(created_at=datetime.now(UTC)))
                assert (tmp_path / "h.sqlite3-wal").exists()
        return one.history

    assert await program(RUNNER_PROVISIONER_HISTORY="off") is None
    assert names(tmp_path) == set()
    history = await program()
    assert names(tmp_path) == {"h.sqlite3", "h.sqlite3.lock"}
    assert history is not None
    assert len(await history.pods(EPOCH)) == 1
    assert isinstance(history, HistoryFile)
    await history.aclose()


def names(folder: Path) -> set[str]:
    """What is in a folder."""
    return {one.name for one in folder.iterdir()}


class Silent:
    """Nobody listens."""

    def emit(self, event: Event) -> None:
        """Take no note."""


CHILD = """
import sys
from datetime import timedelta
from pathlib import Path
import anyio
sys.path[:0] = [{tests!r}]
from unit.test_history import KIND, record
from runner_provisioner.domain.history import Refused
from runner_provisioner.storage.history import HistoryFile
from runner_provisioner.testing.clock import EPOCH, FakeClock

async def main(path, mark):
    history = HistoryFile(Path(path), clock=FakeClock(EPOCH))
    sys.stdin.readline()
    for number in range(20):
        await history.rented(record(f"{{mark}}-{{number}}"))
        await history.refused(Refused(kind=KIND, at=EPOCH + timedelta(seconds=number), reason=mark))
    await history.aclose()

anyio.run(main, *sys.argv[1:])
"""


async def test_several_processes_make_and_fill_it_at_once(opened: Opened, tmp_path: Path) -> None:
    """The file is made once, and no row of anybody is lost."""
    path = tmp_path / "h.sqlite3"
    code = CHILD.format(tests=str(ROOT / "tests"))
    children = [
        subprocess.Popen(  # noqa: ASYNC220 - they are let go all at once
            [sys.executable, "-c", code, str(path), mark], stdin=subprocess.PIPE, text=True, cwd=tmp_path
        )
        for mark in "ab"
    ]
    for one in children:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.close()
    assert [one.wait(60) for one in children] == [0, 0]
    history = opened(path)
    assert len(await history.pods(EPOCH)) == 40
    assert (await history.memory(EPOCH)).experience[KIND].refusals == 40


def test_the_wheel_holds_the_migrations(tmp_path: Path) -> None:
    """What is installed can migrate."""
    build = f"WheelBuilder({str(ROOT)!r}).build(directory={str(tmp_path)!r})"
    code = f"from hatchling.builders.wheel import WheelBuilder; print(*{build})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {str(one.relative_to(ROOT)) for one in MIGRATIONS.rglob("*.py")} | {
        "runner_provisioner/storage/migrations/script.py.mako"
    }
    assert len(wanted) == 4 + len(REVISIONS)
    assert wanted <= names


async def test_a_folder_that_nobody_may_look_into_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the remedy; not the error of the system."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    history = HistoryFile(tmp_path / "h.sqlite3", clock=FakeClock())
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(StoreError, match="check who owns the folder"):
        await history.memory(EPOCH)
