"""What the service keeps, in a file and in a real PostgreSQL database alike."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import anyio
import pytest
from support.postgres import Server

from runner_provisioner.domain.api_keys import ApiKey, Permission, PlainKey
from runner_provisioner.domain.leases import PodRef
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import (
    Answer,
    AuditEntry,
    Claim,
    Contract,
    IdempotentRequest,
    PodOrder,
    PodQuery,
    RequestRef,
    ServedPod,
    Verdict,
)
from runner_provisioner.errors import BudgetExceeded, StaleWrite
from runner_provisioner.storage.recent import Recent
from runner_provisioner.storage.service import ServiceDatabase
from runner_provisioner.storage.service_pods import FRESH
from runner_provisioner.storage.sqlite import SqliteFile, SqlitePlace
from runner_provisioner.testing.clock import EPOCH, FakeClock

TESTS = str(Path(__file__).resolve().parents[1])
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
PLAIN = PlainKey.of(bytes(6), bytes(24))
KEY = ApiKey(
    id=PLAIN.id,
    name="ci",
    permission=Permission.WRITE,
    digest=PLAIN.digest,
    created_at=EPOCH,
    expires_at=EPOCH + DAY,
    budget=Decimal("10.0"),
)
REQUEST = IdempotentRequest(
    ref=RequestRef(KEY.id, "POST /api/cloud/pods", "abc"),
    digest="d1",
    pod_name="rpm-a",
    holder="first",
    held_until=EPOCH + MINUTE,
    begun_at=EPOCH,
)
POD = ServedPod(
    name="rpm-a",
    nonce="n1",
    contract=Contract.PODS,
    key_id=KEY.id,
    label="Träger ☃",
    requested_at=EPOCH,
    expires_at=EPOCH + DAY,
    reserved=Decimal("2.40"),
    image="ubuntu:22.04",
    facts={"socket": "PCIe", "resources": {"vcpus": 16}, "custom": None},
)
Opened = Callable[..., ServiceDatabase]


def rented(pod: ServedPod = POD, pod_id: str = "p1") -> ServedPod:
    """The same pod once its provider has answered."""
    return replace(
        pod,
        provider="runpod",
        id=PodId(pod_id),
        price=Decimal("0.1000"),
        gpu_model="NVIDIA A40",
        gpu_count=1,
        interruptible=False,
        created_at=pod.requested_at + timedelta(seconds=3, microseconds=7),
    )


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


async def test_keys_are_kept_and_revoked(opened: Opened) -> None:
    """As they were, for every process; a name is free again once its key is revoked."""
    here, there = opened(), opened()
    await here.keys.add(KEY)
    bare = replace(KEY, id="b" * 12, name="other", expires_at=None, budget=None, created_at=EPOCH + MINUTE)
    await there.keys.add(bare)
    assert list(await here.keys.all()) == [KEY, bare]
    for taken in (replace(KEY, name="more"), replace(KEY, id="c" * 12)):
        with pytest.raises(StaleWrite, match="give another name, or revoke that one"):
            await there.keys.add(taken)
    revoked = replace(KEY, revoked_at=EPOCH + MINUTE)
    assert await there.keys.revoke(KEY.id, EPOCH + MINUTE) == revoked
    assert await here.keys.revoke(KEY.id, EPOCH + DAY) == revoked
    assert await here.keys.revoke("nobody", EPOCH) is None
    await here.keys.add(replace(KEY, id="c" * 12))
    assert [one.id for one in await there.keys.all()] == [KEY.id, "c" * 12, bare.id]


async def test_one_request_is_served_by_one_process_after_the_other(opened: Opened) -> None:
    """Who comes second waits; who comes after the first has died goes on with its pod; then the answer is repeated."""
    here, there = opened().requests, opened().requests
    again = replace(REQUEST, pod_name="rpm-b", holder="second", held_until=EPOCH + 9 * MINUTE, begun_at=EPOCH + MINUTE)
    assert await here.claim(REQUEST, now=EPOCH) == Claim(verdict=Verdict.BEGIN, request=REQUEST)
    assert (await there.claim(again, now=EPOCH)).verdict is Verdict.BUSY
    other = replace(again, digest="d2")
    assert (await there.claim(other, now=EPOCH)).verdict is Verdict.MISMATCH
    await here.hold(REQUEST, EPOCH + 2 * MINUTE)
    assert (await there.claim(again, now=EPOCH + MINUTE)).retry_after == MINUTE
    assert await there.abandoned(EPOCH + MINUTE) == []
    taken = replace(REQUEST, holder="second", held_until=EPOCH + 9 * MINUTE)
    assert [one.pod_name for one in await there.abandoned(EPOCH + 2 * MINUTE)] == ["rpm-a"]
    assert await there.claim(again, now=EPOCH + 2 * MINUTE) == Claim(verdict=Verdict.RESUME, request=taken)
    for late in (
        here.hold(REQUEST, EPOCH + DAY),
        here.answer(REQUEST, Answer(status=201, body="{}")),
        here.withdraw(REQUEST),
    ):
        with pytest.raises(StaleWrite, match="another process has taken this request over"):
            await late
    answer = Answer(status=201, body='{"id": "☃"}')
    await there.answer(taken, answer)
    assert await here.claim(REQUEST, now=EPOCH + DAY) == Claim(
        verdict=Verdict.ANSWERED, request=replace(taken, answer=answer)
    )
    with pytest.raises(StaleWrite):
        await there.answer(taken, answer)
    assert await here.abandoned(EPOCH + DAY) == []


async def test_a_request_that_came_to_nothing_may_begin_anew(opened: Opened) -> None:
    """With another body, too; other callers' and other operations' keys are theirs."""
    state = opened().requests
    await state.claim(REQUEST, now=EPOCH)
    for ref in (REQUEST.ref._replace(caller=""), REQUEST.ref._replace(operation="x"), REQUEST.ref._replace(key="x")):
        assert (await state.claim(replace(REQUEST, ref=ref), now=EPOCH)).verdict is Verdict.BEGIN
    await state.withdraw(REQUEST)
    anew = replace(REQUEST, digest="d2", holder="second")
    assert (await state.claim(anew, now=EPOCH)).verdict is Verdict.BEGIN


async def test_of_requests_that_come_at_once_one_begins(opened: Opened) -> None:
    """From two processes; and of those that take it over one resumes."""
    states = [opened(), opened()]
    for expected, now in ((Verdict.BEGIN, EPOCH), (Verdict.RESUME, EPOCH + DAY)):
        found: list[Verdict] = []

        async def claim(number: int, now: timedelta, found: list[Verdict]) -> None:
            at = EPOCH + now
            wanted = replace(REQUEST, holder=f"{now}-{number}", held_until=at + MINUTE, begun_at=at)
            found.append((await states[number % 2].requests.claim(wanted, now=at)).verdict)

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(claim, number, now - EPOCH, found)
        assert sorted(found) == sorted([expected, *[Verdict.BUSY] * 11])


async def test_a_pod_is_kept_from_before_its_create_to_after_its_end(opened: Opened) -> None:
    """Every field comes back; the first end stays, and what it cost then counts."""
    here, there = opened().pods, opened().pods
    await here.intend(POD)
    with pytest.raises(StaleWrite, match="a pod named rpm-a was intended already"):
        await there.intend(POD)
    assert await there.named("rpm-a") == POD
    assert await there.get(PodId("p1")) is None
    assert (await there.list(PodQuery())).total == 0
    assert list(await there.unsettled(EPOCH + MINUTE)) == [POD]
    assert list(await there.unsettled(EPOCH)) == []
    await there.rented(rented())
    await here.withdraw("rpm-a")
    assert await here.get(PodId("p1"), provider="runpod") == rented()
    assert await here.get(PodId("p1"), provider="prime") is None
    assert list(await here.unsettled(EPOCH + MINUTE)) == []
    assert await here.counted(KEY.id) == Decimal("2.4")
    end = rented().created_at
    assert end is not None
    for later in (10 * MINUTE, 20 * MINUTE):
        await there.ended(PodRef("runpod", PodId("p1")), end + later)
    await there.ended(PodRef("runpod", PodId("of somebody else")), end)
    over = rented().over(end + 10 * MINUTE)
    assert (await here.named("rpm-a"), over.cost) == (over, Decimal("0.0167"))
    await here.rented(rented())  # a look that was late
    assert await here.named("rpm-a") == over
    assert await here.counted(KEY.id) == Decimal("0.0167")
    with pytest.raises(StaleWrite, match="no pod named rpm-z was intended"):
        await here.rented(replace(rented(), name="rpm-z"))


async def test_a_pod_that_was_not_rented_is_forgotten(opened: Opened) -> None:
    """It counts for nothing then; withdrawing it again is fine."""
    state = opened().pods
    await state.intend(POD)
    for _ in range(2):
        await state.withdraw("rpm-a")
    assert await state.named("rpm-a") is None
    assert await state.counted(KEY.id) == 0


async def test_of_pods_with_one_id_the_last_is_meant(opened: Opened) -> None:
    """A market may name its pods after their machines; an end ends what is alive."""
    state = opened().pods
    first, second = POD, replace(POD, name="rpm-b", requested_at=EPOCH + DAY, expires_at=EPOCH + 2 * DAY)
    await state.intend(first)
    await state.rented(rented(first))
    await state.ended(PodRef("runpod", PodId("p1")), EPOCH + MINUTE)
    await state.intend(second)
    await state.rented(rented(second))
    assert await state.get(PodId("p1")) == rented(second)
    await state.ended(PodRef("runpod", PodId("p1")), EPOCH + DAY + MINUTE)
    found = [await state.named(name) for name in ("rpm-a", "rpm-b")]
    assert [one and one.ended_at for one in found] == [EPOCH + MINUTE, EPOCH + DAY + MINUTE]


async def test_pods_are_listed_in_parts_and_in_order(opened: Opened) -> None:
    """By either moment in either direction, those without it last; of a key, of a contract, ended or not."""
    state = opened().pods
    for number in range(6):
        pod = replace(
            POD,
            name=f"rpm-{number}",
            requested_at=EPOCH + number * MINUTE,
            key_id=KEY.id if number % 2 else None,
            contract=Contract.CLOUD if number == 5 else Contract.PODS,
        )
        await state.intend(pod)
        await state.rented(rented(pod, f"p{number}"))
        if number < 3:
            await state.ended(PodRef("runpod", PodId(f"p{number}")), EPOCH + DAY - number * MINUTE)
    await state.intend(replace(POD, name="rpm-intended"))

    async def ids(**query: object) -> tuple[str, int]:
        page = await state.list(PodQuery(**query))  # type: ignore[arg-type] # one field each
        return "".join((one.id or "?")[1:] for one in page.pods), page.total

    by_end = PodOrder.ENDED
    assert await ids() == ("543210", 6)
    assert await ids(descending=False) == ("012345", 6)
    assert await ids(order=by_end) == ("012345", 6)
    assert await ids(order=by_end, descending=False) == ("210345", 6)
    assert await ids(limit=2, offset=3) == ("21", 6)
    assert await ids(limit=2, offset=9) == ("", 6)
    assert await ids(limit=0) == ("", 6)
    assert await ids(limit=10**30, offset=0) == ("543210", 6)
    assert await ids(ended=True) == ("210", 3)
    assert await ids(ended=False, key_id=KEY.id) == ("53", 2)
    assert await ids(contract=Contract.CLOUD) == ("5", 1)


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


async def test_creates_that_come_at_once_keep_to_the_budget_of_their_key(opened: Opened) -> None:
    """From two processes; what does not fit is not kept, what came to nothing or has ended makes room."""
    states = [opened(), opened()]
    await states[0].keys.add(KEY)
    refused: list[str] = []

    async def intend(number: int) -> None:
        try:
            await states[number % 2].pods.intend(replace(POD, name=f"rpm-{number}"), budget=KEY.budget)
        except BudgetExceeded as error:
            refused.append(str(error))

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(intend, number)
    assert (len(refused), await states[0].pods.counted(KEY.id)) == (6, Decimal("9.6"))
    (message,) = set(refused)
    assert message.startswith("key 'ci' has 0.40 USD left of its budget of 10.00 USD and this pod may cost 2.40 USD: ")
    kept = await states[0].pods.unsettled(EPOCH + MINUTE)
    await states[0].pods.withdraw(kept[0].name)
    await states[0].pods.intend(replace(POD, name="rpm-more"), budget=KEY.budget)
    await states[0].pods.rented(rented(replace(POD, name="rpm-more")))
    await states[0].pods.ended(PodRef("runpod", PodId("p1")), EPOCH + 70 * MINUTE)
    await states[1].pods.intend(replace(POD, name="rpm-last"), budget=KEY.budget)
    with pytest.raises(BudgetExceeded):
        await states[1].pods.intend(replace(POD, name="rpm-too-much"), budget=KEY.budget)
    await states[1].pods.intend(replace(POD, name="rpm-others", key_id="d" * 12), budget=KEY.budget)
    with pytest.raises(BudgetExceeded, match=r"this key has 0\.00 USD left"):
        await states[1].pods.intend(replace(POD, name="rpm-x", key_id="d" * 12), budget=Decimal(1))


async def test_every_write_is_in_the_audit_log(opened: Opened) -> None:
    """As it was told, oldest first, the latest where they are too many."""
    state = opened().audit
    full = AuditEntry(
        at=EPOCH,
        request_id="r1",
        operation="DELETE /api/cloud/pods/{pod_id}",
        key_id=KEY.id,
        target="p1",
        provider="runpod",
        status=502,
        error="ServerError",
        client="127.0.0.1",
    )
    bare = AuditEntry(at=EPOCH + MINUTE, request_id="r2", operation="POST /machines/")
    for entry in (bare, full):
        await state.note(entry)
    assert list(await state.entries(EPOCH)) == [full, bare]
    assert list(await state.entries(EPOCH + MINUTE)) == [bare]
    assert list(await state.entries(EPOCH, limit=1)) == [bare]


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
from integration.test_service_state import POD, REQUEST
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


async def test_several_processes_may_open_it_first(opened: Opened) -> None:
    """The tables are made once."""
    states = [opened() for _ in range(5)]
    async with anyio.create_task_group() as group:
        for number, state in enumerate(states):
            group.start_soon(partial(state.audit.note, AuditEntry(at=EPOCH, request_id=str(number), operation="x")))
    assert {one.request_id for one in await states[0].audit.entries(EPOCH)} == set("01234")
