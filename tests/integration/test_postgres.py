"""PostgreSQL as it is: the same history as in a file, migrations, and everything that a server may say no to."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from support.postgres import PASSWORD, Server

from runner_provisioner import storage
from runner_provisioner.domain.history import BadMachine, Ending, OfferKind, PodRecord, Refused
from runner_provisioner.domain.leases import PodRef
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import AuditEntry
from runner_provisioner.errors import StoreError
from runner_provisioner.ports import History
from runner_provisioner.settings import Settings
from runner_provisioner.storage import postgres as engine
from runner_provisioner.storage import stores
from runner_provisioner.storage.history import HistoryDatabase, HistoryFile
from runner_provisioner.storage.postgres import SCHEMA, PostgresDatabase, PostgresPlace
from runner_provisioner.storage.service import ServiceDatabase
from runner_provisioner.storage.tables import METADATA, REVISIONS
from runner_provisioner.testing.clock import EPOCH, FakeClock
from runner_provisioner.wiring import history_of, key_ring_of, service_state_of

VARIABLE = "RUNNER_PROVISIONER_DATABASE"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
KIND = OfferKind(provider="runpod", gpu_model="NVIDIA RTX A4000", gpu_count=1, interruptible=True)
OLD_POD = """
INSERT INTO runner_provisioner.pods (provider, gpu_model, gpu_count, interruptible, region, id, name, price, list_price,
    created_at, expires_at)
VALUES ('runpod', 'NVIDIA RTX A4000', 1, true, '', 'a', 'n', '0.17', '0.17', 1793534400000000, 1793541600000000)
"""
ENTRY = AuditEntry(at=EPOCH, request_id="r", operation="x")


def record(pod_id: str, **more: Any) -> PodRecord:  # noqa: ANN401 - any field
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


def state_at(url: str) -> ServiceDatabase:
    """The service's state there."""
    return ServiceDatabase.at(url, variable=VARIABLE, clock=FakeClock())


async def refusal(url: str) -> str:
    """What one is told who wants to keep something there."""
    state = state_at(url)
    with pytest.raises(StoreError) as error:
        await state.check()
    await state.aclose()
    message = str(error.value)
    assert "\n" not in message
    for secret in (PASSWORD, "wrong-Pa55"):
        assert secret not in message
    return message


async def live(history: History) -> list[object]:
    """A life of an installation; everything that can be asked of it afterwards."""
    told: list[object] = [await history.began(EPOCH), await history.forget()]
    elsewhere = replace(KIND, region="EU-RO-1")
    await history.refused(Refused(kind=KIND, at=EPOCH, reason="OfferGone"))
    await history.refused(Refused(kind=KIND, at=EPOCH, reason="OfferGone"))
    await history.rented(record("a", online_at=EPOCH + MINUTE))
    await history.rented(record("a", machine="m1", online_at=EPOCH + HOUR, price=Decimal(9)))
    await history.rented(record("b", kind=elsewhere, created_at=EPOCH + HOUR, requested_at=EPOCH))
    await history.rented(record("odd", created_at=EPOCH + 5 * HOUR, expires_at=EPOCH))
    await history.online(PodRef("runpod", PodId("b")), EPOCH + HOUR + MINUTE)
    await history.worked(PodRef("runpod", PodId("b")), EPOCH + 2 * HOUR, None)
    await history.worked(PodRef("runpod", PodId("b")), None, EPOCH + 3 * HOUR)
    for at, ending in ((EPOCH + 2 * HOUR, Ending.INTERRUPTED), (EPOCH + 3 * HOUR, Ending.ASKED)):
        await history.ended(PodRef("runpod", PodId("a")), at, ending)
    for machine in ("m1", "m2", "m2"):
        await history.bad(BadMachine(provider="runpod", machine=machine, at=EPOCH, reason="driver"))
    await history.begin(EPOCH + 3 * HOUR)
    await history.begin(EPOCH + 4 * HOUR)
    told += [await history.began(EPOCH - HOUR), await history.began(EPOCH)]
    told += [await history.memory(EPOCH + 4 * HOUR), list(await history.pods(EPOCH + 2 * HOUR))]
    told += [await history.forget("m1"), await history.memory(EPOCH + 200 * DAY), await history.forget()]
    return told


async def test_the_history_is_the_same_in_a_file_and_in_a_database(postgres: Server, tmp_path: Path) -> None:
    """Every question has one answer, and so has the one of the tables' form; what is old goes when it is opened."""
    url = await postgres.new_database()
    file = HistoryFile(tmp_path / "h.sqlite3", clock=FakeClock())
    database = HistoryDatabase(url, variable=VARIABLE, clock=FakeClock())
    try:
        told = await live(database)
        assert told == await live(file)
        assert len(told) == 9
    finally:
        await file.aclose()
        await database.aclose()
    late = HistoryDatabase(url, variable=VARIABLE, clock=FakeClock(EPOCH + 400 * DAY + 2 * HOUR))
    assert [one.id for one in await late.pods(EPOCH)] == ["odd"]
    await late.aclose()
    store = await PostgresDatabase.open(PostgresPlace(url=url, variable=VARIABLE))
    async with store.reading() as connection:
        await connection.run_sync(_compare)
    await store.aclose()


def _compare(connection: Connection) -> None:
    context = MigrationContext.configure(connection)
    assert compare_metadata(context, METADATA) == []
    assert context.get_current_revision() == REVISIONS[-1]


@pytest.mark.full
async def test_an_older_form_is_migrated_with_what_is_in_it(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One revision after the other, by whoever opens it first."""
    url = await postgres.new_database()
    with monkeypatch.context() as patch:
        patch.setattr(stores, "upgrade", _first_form)
        patch.setattr(engine, "REVISIONS", ("0001",))
        old = await PostgresDatabase.open(PostgresPlace(url=url, variable=VARIABLE))
        await old.aclose()
    await postgres.run(OLD_POD, url=url)
    histories = [HistoryDatabase(url, variable=VARIABLE, clock=FakeClock()) for _ in range(3)]
    found: list[int] = []

    async def look(history: HistoryDatabase) -> None:
        found.append(len(await history.pods(EPOCH)))

    async with anyio.create_task_group() as group:
        for one in histories:
            group.start_soon(look, one)
    assert found == [1, 1, 1]
    assert await histories[0].began(EPOCH - DAY) == EPOCH
    for one in histories:
        await one.aclose()


def _first_form(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(storage.__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")


@pytest.mark.full
async def test_a_migration_that_breaks_off_leaves_the_database_as_it_was(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one who comes migrates it."""

    def broken(connection: Connection) -> None:
        whole(connection)
        raise RuntimeError("migrating it failed: no")

    url = await postgres.new_database()
    whole = stores.upgrade
    monkeypatch.setattr(stores, "upgrade", broken)
    assert "cannot be used (migrating it failed: no)" in await refusal(url)
    monkeypatch.undo()
    (found,) = await postgres.run("SELECT count(*) FROM pg_namespace WHERE nspname = 'runner_provisioner'", url=url)
    assert found["count"] == 0
    state = state_at(url)
    await state.check()
    await state.aclose()


@pytest.mark.full
async def test_what_a_server_refuses_is_told_with_the_remedy(postgres: Server) -> None:
    """One line that names the server and the variable, and neither user nor password."""
    where = f"database postgresql://127.0.0.1:{postgres.port}"
    wrong = await refusal(postgres.url(password="wrong-Pa55"))
    assert (
        wrong
        == f"{where}/postgres cannot be used, it refuses the user or the password: check them; {VARIABLE} names it"
    )
    assert "there is no such database: create it" in await refusal(postgres.url("nowhere"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"postgresql://tester:{PASSWORD}@127.0.0.1:{free.getsockname()[1]}/postgres"
        assert "cannot be reached" in await refusal(url)
        assert f"start it, or check {VARIABLE}" in await refusal(url)
    assert "cannot be reached" in await refusal(f"postgresql://tester:{PASSWORD}@no-such-host.invalid/postgres")
    odd = await refusal(f"{postgres.url()}?sslmode=perhaps")
    assert f"check the server and {VARIABLE}" in odd


@pytest.mark.full
async def test_the_url_is_what_other_programs_take(postgres: Server, tmp_path: Path) -> None:
    """The password in a file, the server by its socket: neither is in the environment then."""
    secret = tmp_path / "pgpass"
    secret.write_text(f"*:*:*:tester:{PASSWORD}\n", "utf-8")
    secret.chmod(0o600)
    bare = postgres.url().replace(f":{PASSWORD}", "")
    for url in (f"{bare}?passfile={secret}", f"{postgres.url(host='')}?host={postgres.folder}&port={postgres.port}"):
        state = state_at(url)
        await state.check()
        await state.aclose()
    assert "refuses the user or the password" in await refusal(bare)


@pytest.mark.full
async def test_a_server_that_says_nothing_is_not_waited_for(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever listens there."""
    monkeypatch.setattr(engine, "CONNECT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        told = await refusal(f"postgresql://tester:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/postgres")
    assert "cannot be reached (no answer in time)" in told


@pytest.mark.full
async def test_a_user_needs_no_more_than_the_schema(postgres: Server) -> None:
    """One who may not make it is told; one whom it was given can use it; other tables there do not matter."""
    url = await postgres.new_database()
    name = url.rpartition("/")[2]
    own = postgres.url(name, user=name, password="planted-of-user")
    await postgres.run(
        f"CREATE ROLE {name} LOGIN PASSWORD 'planted-of-user'", "CREATE TABLE pods (another text)", url=url
    )
    assert f"let it own the database, or a schema named {SCHEMA}" in await refusal(own)
    await postgres.run(f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {name}", url=url)
    state = state_at(own)
    await state.audit.note(ENTRY)
    assert list(await state.audit.entries(EPOCH)) == [ENTRY]
    await state.aclose()


@pytest.mark.full
async def test_what_a_newer_program_wrote_is_left_alone(postgres: Server) -> None:
    """By every call."""
    url = await postgres.new_database()
    state = state_at(url)
    await state.check()
    await state.aclose()
    await postgres.run("UPDATE runner_provisioner.alembic_version SET version_num = '9999'", url=url)
    assert "was written by a newer runner-provisioner: install that one" in await refusal(url)


@pytest.mark.full
async def test_a_database_that_can_only_be_read_can_keep_nothing(postgres: Server) -> None:
    """A replica for one: who asks whether something could be kept hears it before a write fails."""
    url = await postgres.new_database()
    state = state_at(url)
    await state.check()
    await state.aclose()
    name = url.rpartition("/")[2]
    await postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    state = state_at(url)
    state._tidied = EPOCH  # what is done once a day has been done
    with pytest.raises(StoreError, match="it can only be read: name the primary server"):
        await state.check()
    await state.aclose()


@pytest.mark.full
async def test_nonsense_in_the_database_is_told(postgres: Server) -> None:
    """Rows that nobody of us wrote so."""
    url = await postgres.new_database()
    history = HistoryDatabase(url, variable=VARIABLE, clock=FakeClock())
    await history.rented(record("a"))
    await postgres.run("UPDATE runner_provisioner.pods SET price = 'free'", url=url)
    with pytest.raises(StoreError, match="holds what no runner-provisioner writes: restore a backup"):
        await history.pods(EPOCH)
    await postgres.run("DROP TABLE runner_provisioner.pods", url=url)
    with pytest.raises(StoreError, match=r"cannot be used \(relation \"pods\" does not exist\): check the server"):
        await history.pods(EPOCH)
    await history.aclose()


async def test_a_database_that_comes_back_empty_is_used_again(postgres: Server) -> None:
    """One call says so, and the next one finds new tables."""
    state = state_at(await postgres.new_database())
    await state.audit.note(ENTRY)
    async with state._opened() as store, store.writing() as connection:
        await connection.exec_driver_sql("DROP SCHEMA runner_provisioner CASCADE")
    with pytest.raises(StoreError):
        await state.check()
    await state.check()
    assert list(await state.audit.entries(EPOCH)) == []
    await state.aclose()


@pytest.mark.full
async def test_a_server_that_was_restarted_is_used_again(postgres: Server) -> None:
    """Without a restart of ours; while it is down that is said, to the history's users as well."""
    url = await postgres.new_database()
    state, history = state_at(url), HistoryDatabase(url, variable=VARIABLE, clock=FakeClock())
    await state.audit.note(ENTRY)
    postgres.stop()
    try:
        for call in (state.check(), history.pods(EPOCH), state.keys.all()):
            with pytest.raises(StoreError, match="cannot be reached"):
                await call
    finally:
        postgres.start()
    assert list(await state.audit.entries(EPOCH)) == [ENTRY]
    assert list(await history.pods(EPOCH)) == []
    await state.aclose()
    await history.aclose()


async def test_without_its_driver_postgresql_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one is said."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    told = await refusal("postgresql://db.example/pods")
    assert told == "PostgreSQL needs asyncpg: install the extra 'controller'"
    history = HistoryDatabase("postgresql://db.example/pods", variable=VARIABLE, clock=FakeClock())
    with pytest.raises(StoreError, match="this Python lacks asyncpg; install the extra 'controller'"):
        await history.pods(EPOCH)


@pytest.mark.full
@pytest.mark.parametrize("in_file", [False, True], ids=["variable", "file"])
async def test_a_program_is_wired_to_the_database_of_its_variable(
    postgres: Server, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, *, in_file: bool
) -> None:
    """Keys and history are in it, and no file is made; the URL may be in a file, as a container has it."""
    url = await postgres.new_database()
    secret = tmp_path_factory.mktemp("secrets") / "database"
    secret.write_text(f"{url}\n", "utf-8")
    environ = {f"{VARIABLE}_FILE": str(secret)} if in_file else {VARIABLE: url}
    settings = Settings.read(environ, home=tmp_path, cwd=tmp_path)
    clock = FakeClock()
    state, history = service_state_of(settings, clock), history_of(settings, clock)
    assert isinstance(history, HistoryDatabase)
    await history.rented(record("a"))
    assert not await key_ring_of(state, clock).all()
    (found,) = await postgres.run("SELECT count(*) FROM runner_provisioner.pods", url=url)
    assert found["count"] == 1
    await state.aclose()
    await history.aclose()
    assert not any(await anyio.to_thread.run_sync(lambda: list(tmp_path.iterdir())))
