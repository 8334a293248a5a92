"""Pods of Lium as the adapter tells them: states, reasons of an end, tags, absence."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from contract.test_celium_contract import CeliumWorld
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import Pod, PodClass, PodId, PodState, PodTags
from runner_provisioner.errors import NotFound, PermissionDenied, ProtocolViolation, ServerError
from runner_provisioner.providers.celium.logs import MOST, unseen
from runner_provisioner.simulators.celium import Progress, RentAnswer, rows
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.market import rows as any_rows
from runner_provisioner.testing.provider_contract import OWNER

READ, LIST, EVENTS, LOGS = "pods.get", "pods.list", "pods.events", "pods.logs"


async def offer_of(world: CeliumWorld, *, spot: bool) -> Offer:
    """The node of the model that is interruptible, or the one that is not."""
    [offer] = [one for one in await world.celium.offers(world.request) if one.interruptible is spot]
    return offer


async def rent(world: CeliumWorld, *, spot: bool = False, cls: PodClass = PodClass.RUNNER) -> Pod:
    """A pod."""
    tags = PodTags(owner=OWNER, cls=cls, nonce=f"{cls}{spot}")
    return await world.celium.create(replace(world.spec(), tags=tags), await offer_of(world, spot=spot))


async def look(world: CeliumWorld, pod: Pod) -> Pod:
    """It is there."""
    found = await world.celium.get(pod.id)
    assert found is not None
    return found


async def test_a_pod_starts_gets_an_address_and_runs(world: CeliumWorld) -> None:
    """Each phase is told; without an address nobody can use it."""
    world.simulator.settings.progress = Progress.timed(20)
    world.simulator.settings.ssh_seconds = 10
    pod = await rent(world, spot=True)
    assert (pod.state, pod.ssh, pod.interruptible) == (PodState.STARTING, None, True)
    await world.clock.sleep(10)
    waiting = await look(world, pod)
    assert (waiting.state, waiting.status, waiting.detail) == (PodState.STARTING, "PENDING", "pulling image")
    await world.clock.sleep(15)
    assert (await look(world, pod)).state is PodState.STARTING
    await world.clock.sleep(10)
    running = await look(world, pod)
    assert running.state is PodState.RUNNING
    assert running.ssh is not None
    assert running.ssh == await world.celium.ssh_endpoint(pod.id)
    assert running.ssh.user == "root"
    assert running.machine == pod.machine


async def test_a_pod_that_is_not_listed_yet_is_starting(world: CeliumWorld) -> None:
    """For 20 seconds after the answer to its rent; then what Lium does not know is gone."""
    world.simulator.settings.rent_answer = RentAnswer.SHORT
    world.simulator.faults.add(rows.refused(READ, "Pod not found", status=404, code="pod_not_found", times=None))
    world.simulator.faults.add(
        Fault(operation=LIST, kind=FaultKind.ERROR, status=200, body="[]", times=None),
    )
    pod = await rent(world)
    assert (pod.state, pod.status) == (PodState.STARTING, "requested")
    assert pod.price is not None
    assert pod.created_at == world.clock.now()
    await world.clock.sleep(19)
    assert (await look(world, pod)).state is PodState.STARTING
    assert [one.id for one in await world.celium.list(OWNER)] == [pod.id]
    assert await world.celium.get_many([pod.id]) == {pod.id: pod}
    await world.clock.sleep(2)
    assert await world.celium.get(pod.id) is None
    assert await world.celium.list(OWNER) == []


async def test_a_new_pod_whose_first_look_fails_is_still_told(world: CeliumWorld) -> None:
    """It is rented, and whoever rented it needs its id."""
    world.simulator.settings.rent_answer = RentAnswer.SHORT
    world.simulator.faults.add(rows.refused(READ, "no", status=403, times=1))
    pod = await rent(world)
    assert pod.id == world.simulator.live()[0].id
    assert (await look(world, pod)).tags == pod.tags


async def test_a_pod_that_the_list_still_shows_is_gone(world: CeliumWorld) -> None:
    """Also where it is read beside another: a start would yield to it."""
    pod, gone = await rent(world), await rent(world, spot=True)
    await world.clock.sleep(30)
    world.simulator.settings.list_lag = 30
    await world.celium.terminate(gone.id)
    assert gone.id in {one.id for one in await world.celium.list(OWNER)}
    assert await world.celium.get_many([pod.id, gone.id]) == {pod.id: await look(world, pod), gone.id: None}


async def test_many_pods_are_read_by_one_list(world: CeliumWorld) -> None:
    """And those that it does not show one by one."""
    pods = [await rent(world), await rent(world, spot=True)]
    unknown = [PodId(f"unknown-{each}") for each in range(7)]
    asked = world.simulator.faults.count(READ)
    found = await world.celium.get_many([*(pod.id for pod in pods), *unknown])
    assert [pod_id for pod_id in found if found[pod_id]] == [pod.id for pod in pods]
    assert world.simulator.faults.count(READ) == asked + len(unknown)


async def test_a_pod_that_its_provider_takes_is_interrupted_and_says_why(world: CeliumWorld) -> None:
    """It is gone at once, and only its events know; once it was ended here too, it is gone for good."""
    pod = await rent(world, spot=True)
    await look(world, pod)
    world.simulator.interrupt(pod.id, reason="host needed")
    taken = await look(world, pod)
    assert taken.state is PodState.INTERRUPTED
    assert taken.detail == "provider_reclaimed: host needed"
    assert (taken.name, taken.tags, taken.ssh) == (pod.name, pod.tags, None)
    assert (await world.celium.get_many([pod.id]))[pod.id] == taken
    assert await world.celium.list(OWNER) == []
    elsewhere = await world.again().get(pod.id)
    assert elsewhere is not None
    assert (elsewhere.state, elsewhere.name, elsewhere.detail) == (PodState.INTERRUPTED, pod.name, taken.detail)
    await world.celium.terminate(pod.id)
    assert await world.celium.get(pod.id) is None


async def test_a_pod_that_is_taken_before_anybody_saw_it_is_interrupted(world: CeliumWorld) -> None:
    """Its events outweigh the 20 seconds in which a new pod may be missing."""
    world.simulator.interrupt_new()
    pod = await rent(world, spot=True)
    assert (await look(world, pod)).state is PodState.INTERRUPTED


@pytest.mark.parametrize("wanted", ["user", "schedule"])
async def test_an_end_that_somebody_wanted_is_no_interruption(world: CeliumWorld, wanted: str) -> None:
    """By another process with the account, or by the time that was set."""
    pod = await rent(world)
    await look(world, pod)
    if wanted == "user":
        await world.again().terminate(pod.id)
    else:
        await world.clock.sleep(timedelta(hours=6, minutes=1).total_seconds())
    assert await world.celium.get(pod.id) is None


async def test_an_end_for_want_of_money_is_a_failure_that_says_so(world: CeliumWorld) -> None:
    """No interruption: another pod would fare no better."""
    pod = await rent(world)
    await look(world, pod)
    world.simulator.set_balance(world.simulator.balance() * 0)
    await world.clock.sleep(60)
    broke = await look(world, pod)
    assert broke.state is PodState.FAILED
    assert "balance" in broke.detail


async def test_a_creation_that_failed_says_why(world: CeliumWorld) -> None:
    """While its row is there; afterwards it is gone."""
    world.simulator.settings.progress = Progress.timed(5)
    pod = await rent(world)
    world.simulator.fail(pod.id, "no such image")
    failed = await look(world, pod)
    assert (failed.state, failed.status) == (PodState.FAILED, "CREATION_FAILED")
    assert "no such image" in failed.detail
    world.simulator.faults.add(rows.internal_error(EVENTS, times=None))
    untold = await look(world, pod)
    assert (untold.state, untold.detail) == (PodState.FAILED, "")
    world.simulator.faults.clear()
    await world.clock.sleep(200)
    assert await world.celium.get(pod.id) is None


async def test_a_pod_that_is_being_deleted_is_there_until_it_is_not(world: CeliumWorld) -> None:
    """An end is confirmed by absence; another process takes it for what its events say."""
    world.simulator.settings.deletion_seconds = 30
    pod = await rent(world)
    await world.celium.terminate(pod.id)
    assert (await look(world, pod)).state is PodState.STOPPED
    assert [one.id for one in await world.celium.list(OWNER)] == [pod.id]
    await world.celium.terminate(pod.id)
    await world.clock.sleep(31)
    assert await world.celium.get(pod.id) is None
    assert world.rented() == 0


@pytest.mark.parametrize(
    ("cls", "status", "state"),
    [
        pytest.param(PodClass.RUNNER, "STOPPED", PodState.INTERRUPTED, id="a runner's, stopped"),
        pytest.param(PodClass.RUNNER, "DELETING", PodState.INTERRUPTED, id="a runner's, deleting"),
        pytest.param(PodClass.RUNNER, "REMOVED", PodState.INTERRUPTED, id="a runner's, removed"),
        pytest.param(PodClass.MANUAL, "STOPPED", PodState.STOPPED, id="made by hand, stopped"),
        pytest.param(PodClass.MANUAL, "DELETING", PodState.STOPPED, id="made by hand, deleting"),
        pytest.param(PodClass.MANUAL, "REMOVED", None, id="made by hand, removed"),
        pytest.param(PodClass.MANUAL, "BROKEN", PodState.FAILED, id="broken"),
    ],
)
async def test_an_end_without_a_reason_is_judged_by_whose_pod_it_is(
    world: CeliumWorld, cls: PodClass, status: str, state: PodState | None
) -> None:
    """A runner's pod is ended by us alone; one made by hand may have been ended by its user."""
    pod = await rent(world, cls=cls)
    world.simulator.set_status(pod.id, status)
    found = await world.celium.get(pod.id)
    assert (found.state if found else None) is state
    assert found is None or found.deleting is (status == "DELETING")
    listed = [one.state for one in await world.celium.list(OWNER)]
    assert listed == ([state] if state else [])


async def test_an_end_whose_reason_cannot_be_asked_is_unknown(world: CeliumWorld) -> None:
    """Neither an interruption nor none; where the key may not ask, the pod is just gone."""
    pod = await rent(world, spot=True)
    await look(world, pod)
    world.simulator.interrupt(pod.id)
    world.simulator.faults.add(rows.internal_error(EVENTS, times=None))
    with pytest.raises(ServerError):
        await world.celium.get(pod.id)
    world.simulator.faults.clear()
    world.simulator.faults.add(rows.refused(EVENTS, "no scope", status=403))
    assert await world.celium.get(pod.id) is None
    world.simulator.faults.add(rows.refused(EVENTS, "Not Found", status=404, code="not_found"))
    assert await world.celium.get(pod.id) is None


async def test_a_bare_404_is_no_absence_while_the_list_knows_the_pod(world: CeliumWorld) -> None:
    """It may be the address that is wrong: neither gone nor ended, unless the list does not know it either."""
    pod = await rent(world)
    for operation in (READ, "pods.delete"):
        world.simulator.faults.add(rows.refused(operation, "Not Found", status=404, code="not_found", times=None))
    with pytest.raises(ProtocolViolation, match="LIUM_BASE_URL"):
        await world.celium.get(pod.id)
    with pytest.raises(ProtocolViolation, match="LIUM_BASE_URL"):
        await world.celium.terminate(pod.id)
    assert world.rented() == 1
    assert await world.celium.get(PodId("never")) is None
    await world.celium.terminate(PodId("never"))


async def test_a_terminate_that_did_nothing_is_seen(world: CeliumWorld) -> None:
    """The answer was as good as ever; the pod runs on, and is told as running."""
    pod = await rent(world)
    world.simulator.faults.add(any_rows.terminate_ignored())
    await world.celium.terminate(pod.id)
    assert (await look(world, pod)).alive


async def test_tags_are_read_from_the_template_where_the_row_has_none(world: CeliumWorld) -> None:
    """Once for each template; one that is away has none, one that cannot be asked is unknown."""
    pod = await rent(world)
    bare = [
        {"id": pod.id, "pod_name": "anything", "status": "RUNNING", "template": {"id": one.template.id, "name": "t"}}
        for one in world.simulator.live()
    ]
    answer = Fault(operation=LIST, kind=FaultKind.MALFORMED, body=json.dumps(bare), times=None)
    world.simulator.faults.add(answer)
    again = world.again()
    world.simulator.faults.add(rows.internal_error("templates.get", times=5))
    with pytest.raises(ServerError):
        await again.list(OWNER)
    for _ in range(3):
        [found] = await again.list(OWNER)
        assert found.tags == pod.tags
    assert world.simulator.faults.count("templates.get") == 6
    world.simulator.account.templates.clear()
    assert await world.again().list(OWNER) == []
    assert [one.tags for one in await world.again().list(None)] == [None]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"price": "much"}, id="price"),
        pytest.param({"executor": "gone", "gpu_count": [], "gpu_name": 5}, id="machine"),
        pytest.param({"ssh_connect_cmd": 22}, id="address"),
    ],
)
async def test_a_pod_that_can_be_read_in_part_is_a_pod(world: CeliumWorld, odd: dict[str, object]) -> None:
    """It bills all the same, and the others must not be hidden by it."""
    pods = [await rent(world), await rent(world, spot=True)]
    rows_ = [pod_row(one) for one in pods]
    rows_[0] |= odd
    world.simulator.faults.add(Fault(operation=LIST, kind=FaultKind.MALFORMED, body=json.dumps(rows_)))
    assert [(one.id, one.alive) for one in await world.celium.list(None)] == [(one.id, True) for one in pods]
    world.simulator.faults.add(Fault(operation=READ, kind=FaultKind.MALFORMED, body=json.dumps(rows_[0])))
    assert (await look(world, pods[0])).alive


@pytest.mark.parametrize("odd", [{"id": None}, {"pod_name": 5}, {"status": {}}, {"template": "none"}], ids=str)
async def test_a_pod_without_what_tells_whose_it_is_is_no_answer(world: CeliumWorld, odd: dict[str, object]) -> None:
    """Left out it would be a pod that nobody ends."""
    pod = await rent(world)
    body = json.dumps([{**pod_row(pod), **odd}])
    world.simulator.faults.add(Fault(operation=LIST, kind=FaultKind.MALFORMED, body=body, times=None))
    with pytest.raises(ProtocolViolation):
        await world.celium.list(None)


def pod_row(pod: Pod) -> dict[str, object]:
    """What a list says of it."""
    return {"id": pod.id, "pod_name": pod.name, "status": "RUNNING", "template": None, "gpu_count": "1"}


async def test_a_pod_belongs_to_its_tags_and_without_tags_to_its_name(world: CeliumWorld) -> None:
    """A name can be anybody's choice."""
    tags = PodTags(owner="89abcdef", cls=PodClass.RUNNER)
    theirs = world.simulator.add_pod(f"rp-{OWNER}-1-1-default")
    mine = world.simulator.add_pod(f"rpm-{OWNER}-1-abcd")
    tagged = await world.celium.create(replace(world.spec(), tags=tags), await offer_of(world, spot=False))
    listed = {one.id for one in await world.celium.list(OWNER)}
    assert listed == {theirs.id, mine.id}
    assert {one.id for one in await world.celium.list("89abcdef")} == {tagged.id}
    assert {one.id for one in await world.celium.list(None)} == {theirs.id, mine.id, tagged.id}


async def test_the_balance_is_told(world: CeliumWorld) -> None:
    """In US dollars; an account without one is a wrong answer."""
    assert await world.celium.balance() == 100
    world.simulator.faults.add(Fault(operation="users.me", kind=FaultKind.MALFORMED, body='{"id": "x"}'))
    with pytest.raises(ProtocolViolation, match="no balance"):
        await world.celium.balance()


# -- logs


async def lines(world: CeliumWorld, pod: Pod, **more: int | None) -> list[str]:
    """What is there now."""
    return [line.text async for line in world.celium.logs(pod.id, tail=more.get("tail"))]


async def test_the_last_lines_of_a_log_are_given(world: CeliumWorld) -> None:
    """Whole ones, oldest first, and without the credential."""
    pod = await rent(world)
    world.simulator.say(pod.id, f"one\r\ntwo {world.credential}\n\nthree\nhalf")
    assert await lines(world, pod) == ["one", "two [MASKED]", "", "three"]
    assert await lines(world, pod, tail=2) == ["", "three"]
    assert await lines(world, pod, tail=0) == []
    assert await lines(world, pod, tail=99) == ["one", "two [MASKED]", "", "three"]


async def test_a_followed_log_gives_each_line_once_until_the_pod_is_gone(world: CeliumWorld) -> None:
    """Also when a look fails in between, and when the container begins anew."""
    pod = await rent(world)
    world.simulator.say(pod.id, "one\ntwo\ntwo\n")
    seen: list[str] = []
    async for line in world.celium.logs(pod.id, follow=True):
        seen.append(line.text)
        if seen == ["one", "two", "two"]:
            world.simulator.faults.add(rows.internal_error(LOGS, times=12))
            world.simulator.faults.add(rows.internal_error(READ, times=7))
            world.simulator.say(pod.id, "two\nthree\n")
        if line.text == "three":
            world.simulator.log_path(pod.id).write_text("four\n")
        if line.text == "four":
            await world.celium.terminate(pod.id)
    assert seen == ["one", "two", "two", "two", "three", "four"]


async def test_a_log_follows_to_the_last_line_of_a_pod_that_failed(world: CeliumWorld) -> None:
    """What was written at the end is given before the iteration ends."""
    pod = await rent(world)
    world.simulator.say(pod.id, "one\n")
    seen: list[str] = []
    async for line in world.celium.logs(pod.id, follow=True):
        seen.append(line.text)
        if line.text == "one":
            world.simulator.set_status(pod.id, "BROKEN")
            world.simulator.say(pod.id, "last words\n")
    assert seen == ["one", "last words"]


async def test_a_log_that_never_comes_is_an_error(world: CeliumWorld) -> None:
    """Not an end of the log; nor is a pod that never was."""
    pod = await rent(world)
    follow = world.celium.logs(pod.id, follow=True)
    world.simulator.say(pod.id, "one\n")
    assert (await anext(follow)).text == "one"
    world.simulator.faults.add(rows.internal_error(LOGS, times=None))
    with pytest.raises(ServerError):
        await anext(follow)
    world.simulator.faults.clear()
    world.simulator.faults.add(rows.refused(LOGS, "no scope", status=403))
    with pytest.raises(PermissionDenied):
        await lines(world, pod)
    with pytest.raises(NotFound):
        await world.celium.ssh_endpoint(PodId("never"))


@given(st.lists(st.sampled_from("ab"), max_size=12), st.lists(st.sampled_from("abc"), max_size=6), st.integers(1, 8))
def test_what_a_growing_log_added_is_found(before: list[str], added: list[str], most: int) -> None:
    """Exactly while it is whole; of a log that is cut off never more than was added, up to its end."""
    then, now = before[-most:], (before + added)[-most:]
    found = list(unseen(then, now, most=most))
    assert now[len(now) - len(found) :] == found
    assert len(found) <= len(added)
    if len(before) + len(added) <= most:
        assert found == added


def test_a_long_log_is_cut_where_its_lines_differ() -> None:
    """As a log of numbered lines is."""
    numbered = [str(number) for number in range(MOST + 10)]
    assert list(unseen(numbered[:MOST], numbered[10:])) == numbered[MOST:]
    assert list(unseen(numbered[:MOST], ["new"])) == ["new"]
