"""What the database of the service does beyond keeping: lists that are read again, kills, odd words, old rows."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from support.postgres import Server
from support.service_samples import DAY, KEY, MINUTE, POD, REQUEST, rented

from runner_provisioner.domain.leases import PodRef
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import (
    AuditEntry,
    PodQuery,
    RequestRef,
    Verdict,
)
from runner_provisioner.errors import StoreError
from runner_provisioner.storage import sqlite
from runner_provisioner.storage.recent import Recent
from runner_provisioner.storage.service import ServiceDatabase
from runner_provisioner.storage.service_pods import FRESH
from runner_provisioner.storage.sqlite import SqliteFile, SqlitePlace
from runner_provisioner.storage.tables import REQUESTS
from runner_provisioner.testing.clock import EPOCH, FakeClock

TESTS = str(Path(__file__).resolve().parents[1])
Opened = Callable[..., ServiceDatabase]


@pytest.fixture(params=["file", pytest.param("postgresql", marks=pytest.mark.full)])
async def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A place where nothing has been kept yet."""
    if request.param == "file":
        return tmp_path / "service.sqlite3"
    server: Server = request.getfixturevalue("postgres")
    return await server.new_database()


@pytest.fixture
async def opened(where: Path | str) -> AsyncIterator[Opened]:
    """A function that opens it once more, as another process would."""
    found: list[ServiceDatabase] = []

    def one(clock: FakeClock | None = None) -> ServiceDatabase:
        variable = "RUNNER_PROVISIONER_DATABASE"
        found.append(ServiceDatabase.at(where, variable=variable, clock=clock or FakeClock()))
        return found[-1]

    yield one
    for state in found:
        await state.aclose()


async def test_a_list_is_read_again_after_a_change_or_a_moment(opened: Opened) -> None:
    """One's own changes are in it at once, those of others a second later."""
    clock = FakeClock()
    here, there = opened(clock).pods, opened(clock).pods
    assert (await here.list(PodQuery())).total == 0
    await here.intend(POD)
    await here.rented(rented())
    page = await here.list(PodQuery())
    assert page.total == 1
    await there.ended(PodRef("runpod", PodId("p1")), EPOCH + MINUTE)
    assert await here.list(PodQuery()) is page
    assert (await here.list(PodQuery(ended=True))).total == 1
    clock.advance(FRESH)
    assert (await here.list(PodQuery())).pods[0].ended_at == EPOCH + MINUTE


async def test_what_was_asked_before_a_change_is_not_kept() -> None:
    """Though its answer comes after it."""
    recent: Recent[str, int] = Recent(FakeClock(), seconds=1, most=2)

    async def ask() -> int:
        recent.forget()
        return 1

    async def ask_again() -> int:
        return 2

    assert await recent.get("q", ask) == 1
    assert await recent.get("q", ask_again) == 2
    assert await recent.get("q", ask) == 2
    for number in range(9):
        await recent.get(str(number), ask_again)
        assert len(recent._kept) <= 2


async def test_what_no_database_can_hold_is_replaced(opened: Opened) -> None:
    """Anybody may send a zero byte or half a character; both engines give the same answer to it."""
    state = opened()
    odd = "a\0b\ud800c"
    await state.audit.note(AuditEntry(at=EPOCH, request_id=odd, operation="x"))
    assert [one.request_id for one in await state.audit.entries(EPOCH)] == ["a\ufffdb?c"]
    assert await state.pods.get(PodId(odd)) is None
    assert await state.pods.named(odd) is None
    await state.pods.intend(replace(POD, label=odd, facts={"x": odd}))
    kept = await state.pods.named(POD.name)
    assert kept is not None
    assert (kept.label, kept.facts) == ("a\ufffdb?c", {"x": odd})
    assert await state.keys.revoke(odd, EPOCH) is None
    wanted = replace(REQUEST, ref=RequestRef("", "x", odd))
    assert (await state.requests.claim(wanted, now=EPOCH)).verdict is Verdict.BEGIN
    assert (await state.requests.claim(wanted, now=EPOCH)).verdict is Verdict.BUSY


async def test_what_is_told_while_being_cancelled_is_kept(opened: Opened) -> None:
    """A client that hangs up loses no pod."""
    state = opened()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await state.pods.intend(POD)
        await state.pods.rented(rented())
        await state.check()
        await state.aclose()
    assert await opened().pods.named(POD.name) == rented()


async def test_what_is_old_is_removed_once_a_day(opened: Opened) -> None:
    """Requests after a week, the rest after 400 days; what a key with a budget has spent only once it is revoked."""
    clock = FakeClock()
    state = opened(clock)
    await state.keys.add(KEY)
    await state.requests.claim(REQUEST, now=EPOCH)
    await state.audit.note(AuditEntry(at=EPOCH, request_id="r", operation="x"))
    for name, key_id in (("rpm-a", KEY.id), ("rpm-b", None)):
        await state.pods.intend(replace(POD, name=name, key_id=key_id))

    async def left() -> list[int]:
        pods = len(await state.pods.unsettled(EPOCH + MINUTE))
        return [pods, len(await state.audit.entries(EPOCH)), len(await state.requests.abandoned(EPOCH + DAY))]

    clock.advance(7 * DAY.total_seconds())
    assert await left() == [2, 1, 1]
    clock.advance(DAY.total_seconds())
    assert await left() == [2, 1, 0]
    clock.advance(394 * DAY.total_seconds())
    assert await left() == [1, 0, 0]
    await state.keys.revoke(KEY.id, EPOCH)
    assert await left() == [1, 0, 0]
    clock.advance(DAY.total_seconds())
    assert await left() == [0, 0, 0]


CHILD = """
import sys
from pathlib import Path
import anyio
sys.path[:0] = [{tests!r}]
from support.service_samples import POD, REQUEST
from runner_provisioner.storage.service import ServiceDatabase
from runner_provisioner.storage.tables import AUDIT
from runner_provisioner.testing.clock import EPOCH, FakeClock

async def main(where):
    place = where if "://" in where else Path(where)
    state = ServiceDatabase.at(place, variable="RUNNER_PROVISIONER_DATABASE", clock=FakeClock())
    await state.requests.claim(REQUEST, now=EPOCH)
    await state.pods.intend(POD)
    async with state._opened() as store, store.writing() as connection:
        words = dict.fromkeys(("request_id", "operation", "target", "provider", "error", "client"), "half")
        await connection.execute(AUDIT.insert().values(at=EPOCH, **words))
        print("half way", flush=True)
        await anyio.sleep_forever()

anyio.run(main, sys.argv[1])
"""


async def test_what_was_written_before_a_kill_is_there_and_nothing_is_half_written(
    opened: Opened, where: Path | str, tmp_path: Path
) -> None:
    """A process is killed in the middle of a write: the next one goes on with its request, and waits for nothing."""
    child = await anyio.open_process(
        [sys.executable, "-c", CHILD.format(tests=TESTS), str(where)], cwd=tmp_path, stderr=None
    )
    assert child.stdout is not None
    assert (await child.stdout.receive()).startswith(b"half way")
    child.kill()
    await child.wait()
    await child.aclose()
    state = opened()
    again = replace(REQUEST, pod_name="rpm-b", holder="second", held_until=EPOCH + 9 * MINUTE)
    claim = await state.requests.claim(again, now=EPOCH + MINUTE)
    assert (claim.verdict, claim.request.pod_name) == (Verdict.RESUME, POD.name)
    assert await state.pods.named(claim.request.pod_name) == POD
    assert list(await state.audit.entries(EPOCH)) == []
    await state.audit.note(AuditEntry(at=EPOCH, request_id="r", operation="x"))


@pytest.mark.parametrize(("durable", "wanted"), [(True, 2), (False, 1)], ids=["the service", "the history"])
async def test_what_must_not_be_lost_waits_for_the_disk(tmp_path: Path, durable: bool, wanted: int) -> None:  # noqa: FBT001 - a parameter
    """FULL, where a record is what keeps a pod from being rented twice; NORMAL where its loss costs little."""
    place = SqlitePlace(path=tmp_path / "s.db", what="database", instead="use another", durable=durable)
    store = await SqliteFile.open(place)
    async with store.reading() as connection:
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == wanted
    await store.aclose()


async def test_a_file_that_another_process_holds_can_keep_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is noticed soon and writes nothing; reading goes on, and with the other gone all is well again."""
    monkeypatch.setattr(sqlite, "TRY_SECONDS", 0.05)
    path = tmp_path / "service.sqlite3"
    state = ServiceDatabase.at(path, variable="RUNNER_PROVISIONER_DATABASE", clock=FakeClock())
    await state.check()
    await state.keys.add(KEY)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        version = other.execute("PRAGMA data_version").fetchone()
        with anyio.fail_after(2), pytest.raises(StoreError, match="held by another process"):
            await state.check()
        assert list(await state.keys.all()) == [KEY]
        other.execute("ROLLBACK")
        await state.check()
        assert other.execute("PRAGMA data_version").fetchone() == version
        await state.audit.note(AuditEntry(at=EPOCH, request_id="r", operation="x"))
        other.execute(f"DROP TABLE {REQUESTS.name}")
    with pytest.raises(StoreError, match="no such table"):
        await state.check()
    await state.aclose()


async def test_several_processes_may_open_it_first(opened: Opened) -> None:
    """The tables are made once."""
    states = [opened() for _ in range(5)]
    async with anyio.create_task_group() as group:
        for number, state in enumerate(states):
            group.start_soon(partial(state.audit.note, AuditEntry(at=EPOCH, request_id=str(number), operation="x")))
    assert {one.request_id for one in await states[0].audit.entries(EPOCH)} == set("01234")
