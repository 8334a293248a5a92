"""What the service keeps: the same in a file, in a real PostgreSQL database, and in the memory of other tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from support.postgres import Server
from support.service_samples import DAY, KEY, MINUTE, POD, REQUEST, rented
from support.service_state import State

from runner_provisioner.domain.leases import PodRef
from runner_provisioner.domain.pods import PodId
from runner_provisioner.domain.served import (
    Answer,
    AuditEntry,
    Claim,
    PodOrder,
    PodQuery,
    ServedPod,
    Verdict,
)
from runner_provisioner.errors import BudgetExceeded, StaleWrite
from runner_provisioner.service_ports import ServiceState
from runner_provisioner.storage.service import ServiceDatabase
from runner_provisioner.testing.clock import EPOCH, FakeClock

Opened = Callable[..., ServiceState]


@pytest.fixture(params=["memory", "file", pytest.param("postgresql", marks=pytest.mark.full)])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    """A function that opens one place once more, as another process would; nothing has been kept there yet."""
    memory, found = State(), []
    where: Path | str = tmp_path / "service.sqlite3"
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        where = await server.new_database()

    def one() -> ServiceState:
        if request.param == "memory":
            return memory
        found.append(ServiceDatabase.at(where, variable="RUNNER_PROVISIONER_DATABASE", clock=FakeClock()))
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
    assert (await there.spent(), await here.spent()) == ({"runpod": Decimal("0.0167")},) * 2
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
    """By either moment in either direction, those without it last; ended or not."""
    state = opened().pods
    for number in range(6):
        pod = replace(POD, name=f"rpm-{number}", requested_at=EPOCH + number * MINUTE)
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
    assert await ids(ended=False) == ("543", 3)


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


async def test_of_being_rented_and_being_given_up_the_first_one_counts(opened: Opened) -> None:
    """What was given up is sent no create, counts for nothing, and is known once it comes all the same."""
    here, there = opened().pods, opened().pods
    assert not await here.sending("rpm-a", EPOCH, provider="celium")
    assert await here.give_up("rpm-a", EPOCH)
    await here.intend(POD)
    assert await there.sending("rpm-a", EPOCH + MINUTE, provider="celium")
    assert list(await here.unsettled(EPOCH + MINUTE)) == []
    assert list(await here.unsettled(EPOCH + 2 * MINUTE)) == [replace(POD, sent_at=EPOCH + MINUTE, provider="celium")]
    for later in (2 * MINUTE, 3 * MINUTE):
        assert await there.give_up("rpm-a", EPOCH + later)
    given_up = replace(
        POD, provider="celium", sent_at=EPOCH + MINUTE, given_up_at=EPOCH + 2 * MINUTE, reserved=Decimal(0)
    )
    assert await here.named("rpm-a") == given_up
    assert (await here.counted(KEY.id), list(await here.unsettled(EPOCH))) == (Decimal(0), [given_up])
    assert not await here.sending("rpm-a", EPOCH + 3 * MINUTE, provider="celium")
    assert not await here.rented(rented())
    assert await there.give_up("rpm-a", EPOCH + DAY)
    late = replace(rented(), sent_at=given_up.sent_at, given_up_at=given_up.given_up_at)
    assert (await there.named("rpm-a"), await there.counted(KEY.id)) == (late, Decimal("2.4"))
    assert list(await here.unsettled(EPOCH + DAY)) == []
    older = [replace(POD, name=name, requested_at=EPOCH - MINUTE) for name in ("rpm-z", "rpm-y")]
    for pod in older:
        await here.intend(pod)
    assert list(await here.unsettled(EPOCH + DAY)) == older[::-1]
    await here.intend(replace(POD, name="rpm-b"))
    assert await here.rented(rented(replace(POD, name="rpm-b"), "p2"))
    assert not await there.give_up("rpm-b", EPOCH + DAY)
    assert await here.named("rpm-b") == rented(replace(POD, name="rpm-b"), "p2")


async def test_a_pod_that_lives_though_its_end_was_noted_counts_again(opened: Opened) -> None:
    """From any process; its next end is noted like the first one."""
    here, there = opened().pods, opened().pods
    await here.intend(POD)
    await here.rented(rented())
    where = rented().ref
    assert where is not None
    assert not await here.spent()
    await here.ended(where, EPOCH + MINUTE)
    assert await there.counted(KEY.id) < rented().reserved
    await there.reopen(where)
    assert (await here.named("rpm-a"), await here.counted(KEY.id)) == (rented(), rented().reserved)
    assert list((await there.list(PodQuery(ended=False))).pods) == [rented()]
    await there.reopen(PodRef("celium", PodId("nobody")))
    await here.ended(where, EPOCH + DAY)
    assert [one.ended_at for one in (await here.list(PodQuery(ended=True))).pods] == [EPOCH + DAY]


async def test_of_those_who_rent_and_give_up_at_once_one_is_right(opened: Opened) -> None:
    """From two processes: never both, never neither."""
    states = [opened(), opened()]
    for number in range(12):
        pod = replace(POD, name=f"rpm-{number}")
        await states[0].pods.intend(pod)
        found: dict[str, bool] = {}

        async def rent(pod: ServedPod, found: dict[str, bool]) -> None:
            found["wanted"] = await states[0].pods.rented(rented(pod, pod.name))

        async def give_up(pod: ServedPod, found: dict[str, bool]) -> None:
            found["given up"] = await states[1].pods.give_up(pod.name, EPOCH)

        async with anyio.create_task_group() as group:
            for work in (rent, give_up) if number % 2 else (give_up, rent):
                group.start_soon(work, pod, found)
        assert found["wanted"] is not found["given up"]
