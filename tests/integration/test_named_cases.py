"""The cases that have a name of their own, in one process and in virtual time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from support import virtual_time
from support.fakes import FakeHistory
from support.families import family
from support.inprocess import GPU, OTHER_GPU, POLL, SETTLE, TOKEN, Process, World, small_request
from support.product import LAG
from support.wire import RUNPOD, Kind, Sent, at

from runner_provisioner.domain.bids import RAISES
from runner_provisioner.domain.budget import Strictness
from runner_provisioner.domain.names import base36
from runner_provisioner.domain.offers import Interruptible
from runner_provisioner.errors import (
    AllOffersFailed,
    AuthenticationFailed,
    BootTimeout,
    BudgetExceeded,
    CapacityUnavailable,
    KeyInUse,
    LeftBehind,
    PermissionDenied,
    ProvisioningFailed,
    Stopped,
    StoreError,
)
from runner_provisioner.services.provision import CANCEL_WINDOW
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod import texts
from runner_provisioner.simulators.runpod.settings import Progress

pytestmark = pytest.mark.usefixtures("unmeasured")
NEW_TOKEN = "ghp_RotatedPersonalToken0123456789abcdefgh"
CREATES = ("podRentInterruptable", "podFindAndDeployOnDemand")
Scene = Callable[[World], Awaitable[None]]


def act(folder: Path, scene: Scene, **world: object) -> None:
    """Play a scene in a world of its own, and look for secrets afterwards."""

    async def main(loop: virtual_time.VirtualLoop) -> None:
        made = World(folder, loop, **world)  # type: ignore[arg-type]
        await scene(made)
        made.check_secrets()

    virtual_time.run(main)


def creates(world: World) -> int:
    """How many creates arrived at the provider."""
    return sum(world.runpod.faults.count(name) for name in CREATES)


async def gone(world: World, process: Process | None = None) -> None:
    """Stop, and see that nothing is left."""
    outcome = await (process or Process(world=world)).stop()
    assert outcome.ok, repr(outcome.error)
    assert not world.live()
    assert not world.github.runners()


def when(operation: str, kind: Kind) -> Callable[[Sent], Kind]:
    """Strike every call of an operation."""
    return lambda sent: kind if sent.operation == operation else Kind.PASS


@pytest.mark.parametrize("kind", [Kind.DROP_AFTER, Kind.HANG_AFTER, Kind.ERROR_AFTER, Kind.MALFORMED])
def test_a_create_whose_answer_is_lost_is_adopted(tmp_path: Path, kind: Kind) -> None:
    """It is never sent a second time: the pod is found by its name."""

    async def scene(world: World) -> None:
        outcome = await Process(world=world, rule=when(CREATES[0], kind)).start()
        assert outcome.ok, repr(outcome.error)
        assert creates(world) == 1
        await gone(world)

    act(tmp_path, scene, list_lag=LAG)


def test_a_create_that_never_arrived_is_followed_by_the_next_offer(tmp_path: Path) -> None:
    """Seen absent twice, `settle` apart, and not a moment earlier."""

    async def scene(world: World) -> None:
        outcome = await Process(world=world, rule=at(6, Kind.DROP_BEFORE)).start()
        assert outcome.ok
        assert creates(world) == 1
        assert outcome.result.pod.gpu_model == OTHER_GPU
        assert world.clock.monotonic() >= 2 * SETTLE
        await gone(world)

    act(tmp_path, scene)


@pytest.mark.parametrize("offset", family([0.0, 0.05, 0.2, 1.0, 2.6, 5.0, 9.0], daily={0.05, 2.6}))
def test_two_starts_of_one_key_share_one_pod(tmp_path: Path, offset: float) -> None:
    """Whatever the list hides: both report the same pod and label."""

    async def scene(world: World) -> None:
        found = []

        async def start(wait: float) -> None:
            await anyio.sleep(wait)
            found.append(await Process(world=world, latency=0.02 + wait / 100).start())

        async with anyio.create_task_group() as group:
            group.start_soon(start, 0.0)
            group.start_soon(start, offset)
        assert [one.error for one in found] == [None, None]
        assert len({(one.result.pod.id, one.result.label) for one in found}) == 1
        assert len(world.live()) == 1
        await gone(world)

    act(tmp_path, scene, list_lag=LAG)


def test_after_a_boot_timeout_with_list_lag_the_second_offer_survives(tmp_path: Path) -> None:
    """The ended pod that the list still shows is not taken for the new one, nor ends it."""

    async def scene(world: World) -> None:
        world.mute = 1
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        first, second = world.runpod.pods()
        assert (first.live, second.id) == (False, outcome.result.pod.id)
        assert first.gpu_type_id == GPU
        assert world.longest_overlap() == 0
        assert "boot-timeout" in outcome.result.refusals[0][1]
        await anyio.sleep(2 * LAG)
        assert [pod.id for pod in world.live()] == [second.id]
        await gone(world)

    act(tmp_path, scene, list_lag=LAG)


@pytest.mark.parametrize("offset", family([0.0, 0.05, 0.15, 0.3, 1.0, 2.0, 4.0, 8.0], daily={0.15, 2.0}))
def test_a_matrix_leg_without_its_own_key_fails_and_ends_nothing(tmp_path: Path, offset: float) -> None:
    """One of the two keeps its pod; the other says what to do."""

    async def scene(world: World) -> None:
        found = []

        async def start(folder: str, wait: float) -> None:
            await anyio.sleep(wait)
            found.append(await Process(world=world, state=folder).start())

        async with anyio.create_task_group() as group:
            group.start_soon(start, "leg one", 0.0)
            group.start_soon(start, "leg two", offset)
        kept = [one for one in found if one.ok]
        refused = [one.error for one in found if not one.ok]
        assert len(kept) == 1, found
        assert [type(error) for error in refused] == [KeyInUse]
        assert "give each start its own key" in str(refused[0])
        assert [pod.id for pod in world.live()] == [kept[0].result.pod.id]
        assert [runner.online for runner in world.github.runners()] == [True]
        await gone(world)

    act(tmp_path, scene, list_lag=LAG)


def test_adoption_survives_a_rotated_credential(tmp_path: Path) -> None:
    """No credential enters the label or the name."""

    async def scene(world: World) -> None:
        first = await Process(world=world, rule=at(7, Kind.CRASH_BEFORE)).start()
        assert first.crashed
        (pod,) = world.live()
        world.github.revoke_token(TOKEN)
        world.github.add_token(NEW_TOKEN)
        process = Process(world=world, token=NEW_TOKEN)
        outcome = await process.start()
        assert outcome.ok, repr(outcome.error)
        assert (outcome.result.pod.id, outcome.result.label) == (pod.id, pod.env["RP_LABEL"])
        assert creates(world) == 1
        await gone(world, process)

    act(tmp_path, scene)


@pytest.mark.parametrize("organization", [None, "octo"], ids=["repository scopes", "organisation scope"])
def test_clean_up_of_one_repository_leaves_the_others_pod_alone(tmp_path: Path, organization: str | None) -> None:
    """Also where both share the organisation's scope: each pod is judged by the run of its own repository."""

    async def scene(world: World) -> None:
        world.github.add_organisation("octo")
        other_run = world.github.queue_job("octo/two", ["no-such-label"])
        one = Process(world=world, repository="octo/one", organization=organization)
        two = Process(world=world, repository="octo/two", organization=organization, run=base36(other_run))
        assert (await one.start()).ok
        other = await two.start()
        assert other.ok
        world.github.complete_run(world.run_id)
        swept = await one.cleanup()
        assert swept.ok
        assert len(swept.result.ended) == 1
        assert [pod.id for pod in world.live()] == [other.result.pod.id]
        assert [(runner.name, runner.online) for runner in world.github.runners()] == [(other.result.name, True)]
        await gone(world, two)

    act(tmp_path, scene, repositories=("octo/one", "octo/two"))


def test_a_local_start_has_no_run_and_is_nobodys_orphan(tmp_path: Path) -> None:
    """Clean-up leaves it alone; `stop` with its run part ends it."""

    async def scene(world: World) -> None:
        process = Process(world=world, run="abcdefgh", attempt=0)
        outcome = await process.start()
        assert outcome.ok
        run_id = world.work(outcome.result.pod.id, [outcome.result.label])
        swept = await Process(world=world).cleanup()
        assert (swept.ok, swept.result.ended) == (True, ())
        runner = world.runner_of(outcome.result.pod.id)
        assert runner is not None
        world.github.play_finish(runner)
        assert world.github.job(run_id).conclusion == "success"
        await gone(world, process)

    act(tmp_path, scene)


def test_clean_up_in_a_loop_touches_nothing_of_a_slow_start(tmp_path: Path) -> None:
    """Not the pod that boots, not the runner that just came."""

    async def scene(world: World) -> None:
        world.runpod.settings.progress = Progress.timed(200)
        world.register_delay = 60
        sweeps = []

        async def sweep() -> None:
            while True:
                sweeps.append(await Process(world=world).cleanup())
                await anyio.sleep(11)

        async with anyio.create_task_group() as group:
            group.start_soon(sweep)
            request = small_request(boot_timeout=timedelta(minutes=8))
            outcome = await Process(world=world).start(request)
            group.cancel_scope.cancel()
        assert outcome.ok, repr(outcome.error)
        assert len(sweeps) > 15
        assert all(one.ok and not one.result.ended for one in sweeps)
        assert len(world.runpod.pods()) == 1
        await gone(world)

    act(tmp_path, scene)


def test_a_terminate_that_is_ignored_is_repeated(tmp_path: Path) -> None:
    """Accepted is not done: only a look counts."""

    async def scene(world: World) -> None:
        assert (await Process(world=world).start()).ok
        world.runpod.faults.add(Fault(operation="podTerminate", kind=FaultKind.IGNORED, times=5))
        await gone(world)
        assert world.runpod.faults.count("podTerminate") == 6

    act(tmp_path, scene)


def test_a_terminate_that_is_always_ignored_is_reported(tmp_path: Path) -> None:
    """With the pod's id and an exit code of its own."""

    async def scene(world: World) -> None:
        started = await Process(world=world).start()
        world.runpod.faults.add(Fault(operation="podTerminate", kind=FaultKind.IGNORED, times=None))
        outcome = await Process(world=world).stop()
        assert isinstance(outcome.error, LeftBehind)
        assert outcome.error.what == (f"pod {started.result.pod.id} at runpod",)
        world.runpod.faults.clear()
        await gone(world)

    act(tmp_path, scene)


def test_a_busy_runner_is_left_to_its_lock_while_its_pod_ends_at_once(tmp_path: Path) -> None:
    """GitHub refuses to delete it (422) until the lock of its job has run out; the next stop finishes."""

    async def scene(world: World) -> None:
        started = await Process(world=world).start()
        world.work(started.result.pod.id, [started.result.label])
        outcome = await Process(world=world).stop()
        assert [one.ghost for one in outcome.result] == [True]
        assert world.clock.monotonic() < 4 * SETTLE
        (pod,) = world.runpod.pods()
        assert pod.ended_at is not None
        assert (pod.ended_at - started.result.started_at).total_seconds() < 1
        await anyio.sleep(600)
        await gone(world)

    act(tmp_path, scene)


@pytest.mark.parametrize("state", ["state", "laptop"], ids=["same folder", "other folder"])
@pytest.mark.parametrize(
    ("after", "boot"), [(0.7, 60.0), (6.0, 60.0), (6.0, 1.5)], ids=["not listed", "not running", "runs"]
)
def test_a_stop_while_a_pod_boots_ends_the_start_as_well(tmp_path: Path, state: str, after: float, boot: float) -> None:
    """No pod bills after a stop that said so, and a start that can tell takes no healthy machine for a bad one."""

    async def scene(world: World) -> None:
        world.runpod.settings.progress = Progress(seconds=boot)
        world.register_delay = 60.0
        starts, stops = [], []

        async def start() -> None:
            starts.append(await Process(world=world).start())

        async with anyio.create_task_group() as group:
            group.start_soon(start)
            await anyio.sleep(after)
            stops.append(await Process(world=world, state=state).stop_for_good())
            pods = world.runpod.pods()
            assert not world.live()
            over = world.clock.now()
        (started,), (stopped,) = starts, stops
        assert stopped.ok, repr(stopped.error)
        assert isinstance(started.error, ProvisioningFailed), repr(started)
        assert not world.live()
        for pod in world.runpod.pods():
            # What lands on a machine that is kept out by now is given back by the start itself, at once.
            ended = pod.ended_at or world.clock.now()
            assert ended <= over or ended - pod.created_at < timedelta(seconds=1), "the start rented after the stop"
        assert {pod.id for pod in pods} >= set(stopped.result[0].pods)
        if state == "state":
            assert isinstance(started.error, Stopped)
            assert len(pods) == 1
        if state == "state" or boot > after:
            assert not world.history.machines

    act(tmp_path, scene, list_lag=LAG)


def test_a_stop_elsewhere_is_no_slower_when_the_start_is_over(tmp_path: Path) -> None:
    """The runner is online: nobody waits for this pod."""

    async def scene(world: World) -> None:
        started = await Process(world=world).start()
        await anyio.sleep(4 * POLL)
        before = world.clock.monotonic()
        outcome = await Process(world=world, state="laptop").stop_for_good()
        assert outcome.ok, repr(outcome.error)
        assert [one.pods for one in outcome.result] == [(started.result.pod.id,)]
        assert world.clock.monotonic() - before < SETTLE

    act(tmp_path, scene)


def test_a_refused_github_credential_does_not_keep_pods_from_ending(tmp_path: Path) -> None:
    """Stop ends the pods, then says within seconds that the credential was refused."""

    async def scene(world: World) -> None:
        assert (await Process(world=world).start()).ok
        world.github.revoke_token(TOKEN)
        before = world.clock.monotonic()
        outcome = await Process(world=world).stop()
        assert isinstance(outcome.error, AuthenticationFailed | LeftBehind)
        assert "GITHUB_TOKEN" in str(outcome.error) or "credential" in str(outcome.error)
        assert world.clock.monotonic() - before < 20
        assert not world.live()

    act(tmp_path, scene)


def test_a_refused_provider_credential_is_reported_within_seconds(tmp_path: Path) -> None:
    """Nothing can be ended; waiting would not help."""

    async def scene(world: World) -> None:
        assert (await Process(world=world).start()).ok
        before = world.clock.monotonic()
        outcome = await Process(world=world, account_key="rpa_WRONGKEY0123456789").stop()
        assert isinstance(outcome.error, AuthenticationFailed), repr(outcome.error)
        assert world.clock.monotonic() - before < 20
        await gone(world)

    act(tmp_path, scene)


@pytest.mark.parametrize("seconds", [5.0, 40.0, 90.0])
def test_a_provider_that_is_down_during_a_stop_is_waited_for(tmp_path: Path, seconds: float) -> None:
    """The drain is patient for two minutes."""

    async def scene(world: World) -> None:
        assert (await Process(world=world).start()).ok
        until = world.clock.monotonic() + seconds

        def down(sent: Sent) -> Kind:
            return Kind.ERROR if sent.service == "runpod" and sent.at < until else Kind.PASS

        await gone(world, Process(world=world, rule=down))

    act(tmp_path, scene)


def test_a_provider_that_stays_down_is_reported(tmp_path: Path) -> None:
    """That nothing could be seen is not that nothing is there."""

    async def scene(world: World) -> None:
        assert (await Process(world=world).start()).ok
        outcome = await Process(
            world=world, rule=lambda sent: Kind.REFUSED if sent.service == "runpod" else Kind.PASS
        ).stop()
        assert isinstance(outcome.error, LeftBehind)
        assert "perhaps something named rp-" in str(outcome.error)
        swept = await Process(
            world=world, rule=lambda sent: Kind.REFUSED if sent.service == "runpod" else Kind.PASS
        ).cleanup()
        assert swept.result.errors
        await gone(world)

    act(tmp_path, scene)


@pytest.mark.parametrize("step", range(17))
def test_a_cancelled_start_is_over_in_seven_seconds_also_when_nobody_answers(tmp_path: Path, step: int) -> None:
    """GitHub's runner kills the step ten seconds after its first signal."""

    async def scene(world: World) -> None:
        def rule(sent: Sent) -> Kind:
            if sent.number == step:
                return Kind.CANCEL_AFTER
            return Kind.HANG if sent.number > step else Kind.PASS

        outcome = await Process(world=world, rule=rule, environ={"RUNNER_PROVISIONER_SETTLE": "30"}).start()
        assert outcome.cancelled_after is not None
        assert outcome.cancelled_after <= CANCEL_WINDOW + 0.1
        await gone(world)

    act(tmp_path, scene)


@pytest.mark.parametrize("step", range(17))
def test_a_cancelled_start_asks_every_known_pod_to_end_within_seven_seconds(tmp_path: Path, step: int) -> None:
    """With the real settle time, which is longer than the whole window."""

    async def scene(world: World) -> None:
        process = Process(world=world, rule=at(step, Kind.CANCEL_BEFORE), environ={"RUNNER_PROVISIONER_SETTLE": "30"})
        outcome = await process.start()
        assert outcome.cancelled_after is not None
        assert outcome.cancelled_after <= CANCEL_WINDOW + 0.1
        assert not world.live()
        await gone(world)

    act(tmp_path, scene)


def test_an_interruption_before_the_runner_is_online_leads_to_the_next_offer(tmp_path: Path) -> None:
    """The interrupted pod is ended, since it bills its disk."""

    async def scene(world: World) -> None:
        world.runpod.interrupt_new(after=1.0)
        outcome = await Process(world=world).start()
        assert outcome.ok, repr(outcome.error)
        assert "took the pod back" in outcome.result.refusals[0][1]
        assert len(world.live()) == 1
        await gone(world)

    act(tmp_path, scene)


@pytest.mark.full
def test_when_no_pod_ever_serves_every_one_is_given_back(tmp_path: Path) -> None:
    """And the error says that it was the boot."""

    async def scene(world: World) -> None:
        world.mute = 100
        outcome = await Process(world=world).start(small_request(start_timeout=timedelta(minutes=5)))
        assert isinstance(outcome.error, BootTimeout | AllOffersFailed)
        assert len(world.runpod.pods()) > 1
        assert not world.live()
        assert world.longest_overlap() == 0

    act(tmp_path, scene)


def test_no_stock_anywhere_is_one_line_that_names_every_attempt(tmp_path: Path) -> None:
    """Nothing was rented."""

    async def scene(world: World) -> None:
        body = json.dumps({"errors": [{"message": texts.NO_STOCK, "extensions": {"code": "RUNPOD"}}], "data": None})
        for name in CREATES:
            world.runpod.faults.add(Fault(operation=name, kind=FaultKind.ERROR, status=200, body=body, times=None))
        outcome = await Process(world=world).start()
        assert isinstance(outcome.error, AllOffersFailed)
        assert len(outcome.error.attempts) == 4 + 2 * RAISES
        assert not world.runpod.pods()

    act(tmp_path, scene)


def test_a_missing_permission_fails_before_anything_is_rented(tmp_path: Path) -> None:
    """Also without a look at the market."""

    async def scene(world: World) -> None:
        world.github.add_token(NEW_TOKEN, {"metadata": "read"})
        outcome = await Process(world=world, token=NEW_TOKEN).start()
        assert isinstance(outcome.error, PermissionDenied)
        assert not world.runpod.calls

    act(tmp_path, scene)


def test_a_full_disk_ends_the_start_before_it_rents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be remembered is not done."""

    async def scene(world: World) -> None:
        process = Process(world=world)
        (world.folder / "state").write_text("a file where the folder should be")
        outcome = await process.start()
        assert isinstance(outcome.error, StoreError)
        assert not world.runpod.pods()

    act(tmp_path, scene)


def test_a_disk_that_fills_up_while_a_pod_boots_gives_the_pod_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state file can no longer be written; the pod is still known and ends."""

    async def scene(world: World) -> None:
        world.mute = 1
        process = Process(world=world)

        def rule(sent: Sent) -> Kind:
            if sent.number == 9:
                for path in (world.folder / "state").glob("*.json"):
                    path.unlink()
                    path.mkdir()
            return Kind.PASS

        process.wire.rule = rule
        outcome = await process.start(small_request(boot_timeout=timedelta(seconds=20)))
        assert isinstance(outcome.error, StoreError)
        assert not world.live()

    act(tmp_path, scene)


def test_a_cap_below_every_offer_names_the_cheapest(tmp_path: Path) -> None:
    """Nothing was rented."""

    async def scene(world: World) -> None:
        outcome = await Process(world=world).start(small_request(max_price=small_request().max_price / 1000))
        assert isinstance(outcome.error, BudgetExceeded)
        assert "cheapest" in str(outcome.error)
        assert not world.runpod.pods()

    act(tmp_path, scene)


def test_a_bid_that_finds_no_stock_is_raised_until_it_does(tmp_path: Path) -> None:
    """Both models' first bids are refused; the cheapest raise is tried next, each create once."""

    async def scene(world: World) -> None:
        world.runpod.market.set_price(GPU, bid=Decimal("0.15"), secure=False)
        body = json.dumps({"errors": [{"message": texts.NO_STOCK, "extensions": {"code": "RUNPOD"}}], "data": None})
        world.runpod.faults.add(Fault(operation=CREATES[0], kind=FaultKind.ERROR, status=200, body=body, times=2))
        outcome = await Process(world=world).start(small_request(interruptible=Interruptible.REQUIRE))
        assert outcome.ok, repr(outcome.error)
        told = [event.fields for event in world.events if event.name == "bid_raised"]
        assert [fields["step"] for fields in told] == [1]
        assert creates(world) == 3
        assert str(outcome.result.pod.price) == told[0]["bid"]
        await gone(world)

    act(tmp_path, scene)


def test_a_pod_dearer_than_its_offer_is_replaced_so_that_the_max_cost_holds(tmp_path: Path) -> None:
    """It is given back; the next offer's pod gets the lifetime that its own price allows."""

    async def scene(world: World) -> None:
        world.dearer = 1
        outcome = await Process(world=world).start(small_request(max_cost=Decimal("0.05")))
        assert outcome.ok, repr(outcome.error)
        first, second = world.runpod.pods()
        assert (first.live, second.id) == (False, outcome.result.pod.id)
        assert "more than --max-price" in outcome.result.refusals[-1][1]
        assert world.longest_overlap() == 0
        left = datetime.fromisoformat(second.env["RP_EXPIRES"]) - second.created_at
        assert second.price * Decimal(str(left.total_seconds())) / 3600 <= Decimal("0.05")
        await gone(world)

    act(tmp_path, scene)


def test_twenty_dead_offers_are_twenty_creates_and_no_look_between_them(tmp_path: Path) -> None:
    """Each refusal leads to the next offer at once."""

    async def scene(world: World) -> None:
        body = json.dumps({"errors": [{"message": texts.NO_STOCK, "extensions": {"code": "RUNPOD"}}], "data": None})
        world.runpod.faults.add(Fault(operation=CREATES[1], kind=FaultKind.ERROR, status=200, body=body, times=None))
        models = tuple(model.id for model in world.runpod.market.catalog.models if not model.mig)[:10]
        request = small_request(
            gpu=models, region=("US-TX-3", "EU-RO-1"), interruptible=Interruptible.NEVER, max_price=Decimal(10)
        )
        begin = world.clock.monotonic()
        outcome = await Process(world=world).start(request)
        assert isinstance(outcome.error, AllOffersFailed)
        assert creates(world) == 20
        assert world.runpod.faults.count("myself.pods") <= 2
        assert world.clock.monotonic() - begin < 20 * POLL

    act(tmp_path, scene)


def test_of_two_starts_that_share_a_days_budget_one_gives_its_pod_back(tmp_path: Path) -> None:
    """Each saw enough for itself. They share no records: the provider's list shows the other's pod."""

    async def scene(world: World) -> None:
        found = []

        async def start(key: str, wait: float) -> None:
            await anyio.sleep(wait)
            request = small_request(budget_day=Decimal(1), budget=Strictness.ENFORCE)
            process = Process(world=world, state=key)
            process.history = FakeHistory()
            found.append(await process.start(request, key=key))

        async with anyio.create_task_group() as group:
            group.start_soon(start, "one", 0.0)
            group.start_soon(start, "two", 0.5)
        refused = [one.error for one in found if not one.ok]
        assert [type(error) for error in refused] == [BudgetExceeded]
        assert "another start" in str(refused[0])
        (kept,) = [one for one in found if one.ok]
        assert [pod.id for pod in world.live()] == [kept.result.pod.id]
        assert kept.result.pod.created_at == min(pod.created_at for pod in world.runpod.pods())

    act(tmp_path, scene, list_lag=LAG)


def test_stop_of_a_later_attempt_ends_the_earlier_ones_too(tmp_path: Path) -> None:
    """A re-run that begins while an old pod lives takes it away."""

    async def scene(world: World) -> None:
        first = await Process(world=world).start()
        assert first.ok
        world.github.complete_run(world.run_id)
        world.github.rerun(world.run_id)
        process = Process(world=world, attempt=2)
        second = await process.start()
        assert second.ok, repr(second.error)
        assert len(world.live()) == 2
        await gone(world, process)

    act(tmp_path, scene)


def test_stop_needs_no_state_and_no_pod(tmp_path: Path) -> None:
    """Nothing there is success, after two looks."""

    async def scene(world: World) -> None:
        await gone(world)
        await gone(world)
        assert RUNPOD not in world.log.getvalue()
        assert issubclass(AllOffersFailed, ProvisioningFailed)
        assert CapacityUnavailable.exit_code == AllOffersFailed.exit_code

    act(tmp_path, scene)
