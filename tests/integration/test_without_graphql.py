"""The whole program against a RunPod whose GraphQL API has been switched off, in one process and in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from support import virtual_time
from support.inprocess import GPU, OTHER_GPU, Process, World, small_request
from support.product import LAG
from support.wire import Kind, Sent

from runner_provisioner import wiring
from runner_provisioner.domain.offers import Interruptible
from runner_provisioner.errors import AllOffersFailed, BudgetExceeded
from runner_provisioner.simulators.runpod import rows, texts

pytestmark = pytest.mark.usefixtures("unmeasured")
Scene = Callable[[World], Awaitable[None]]
CREATE = "POST /v2/pods"
ACCEPTED = small_request(accept_no_kill_time=True)


def act(folder: Path, scene: Scene, *, retired: bool = True, **world: object) -> None:
    """Play a scene in a world of its own, and look for secrets afterwards."""

    async def main(loop: virtual_time.VirtualLoop) -> None:
        made = World(folder, loop, **world)  # type: ignore[arg-type]
        made.runpod.settings.graphql_retired = retired
        await scene(made)
        made.check_secrets()

    virtual_time.run(main)


def creates(world: World) -> int:
    """How many creates arrived."""
    return world.runpod.faults.count("rest.create")


async def gone(world: World) -> None:
    """Stop, and see that nothing is left."""
    outcome = await Process(world=world).stop()
    assert outcome.ok, repr(outcome.error)
    assert not world.live()
    assert not world.github.runners()


def test_without_proof_of_a_clean_up_nothing_is_rented_that_ends_by_nobody(tmp_path: Path) -> None:
    """RunPod has no kill time without GraphQL: no create is sent, and the remedy is named."""

    async def scene(world: World) -> None:
        outcome = await Process(world=world).start()
        assert isinstance(outcome.error, AllOffersFailed), repr(outcome.error)
        assert "--accept-no-kill-time" in str(outcome.error)
        assert "ends no pod by itself" in outcome.error.attempts[0][1]
        assert creates(world) == 0

    act(tmp_path, scene)


@pytest.mark.parametrize("proof", [True, False, None], ids=["cleaned", "not cleaned", "unknown"])
def test_a_recent_clean_up_is_proof_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, proof: bool | None
) -> None:
    """What cannot be told is no proof."""

    async def cleaned(_program: wiring.Program) -> bool | None:
        return proof

    monkeypatch.setattr(wiring.Program, "cleaned", cleaned)

    async def scene(world: World) -> None:
        outcome = await Process(world=world).start()
        assert outcome.ok is bool(proof), repr(outcome.error)
        layers = [event.fields["layers"] for event in world.events if event.name == "pod_layers"]
        assert len(layers) == creates(world) == int(bool(proof))
        assert all(str(one).endswith("its provider has no kill time") for one in layers)

    act(tmp_path, scene)


def test_a_runner_comes_and_goes(tmp_path: Path) -> None:
    """GraphQL is asked once by the first command, and by no later one."""

    async def scene(world: World) -> None:
        outcome = await Process(world=world).start(ACCEPTED)
        assert outcome.ok, repr(outcome.error)
        [pod] = world.live()
        assert (pod.id, creates(world)) == (outcome.result.pod.id, 1)
        assert pod.terminate_after is None
        await gone(world)
        assert sum(not call.operation.startswith("rest.") for call in world.runpod.calls) == 1

    act(tmp_path, scene)


def test_the_switch_off_in_the_middle_of_a_start_is_survived(tmp_path: Path) -> None:
    """Rented over GraphQL, watched and ended over REST."""

    async def scene(world: World) -> None:
        outcome = await Process(world=world).start(ACCEPTED)
        assert outcome.ok, repr(outcome.error)
        assert creates(world) == 0
        world.runpod.settings.graphql_retired = True
        await gone(world)

    act(tmp_path, scene, retired=False, spot=False)


@pytest.mark.parametrize("kind", [Kind.DROP_AFTER, Kind.HANG_AFTER, Kind.ERROR_AFTER, Kind.MALFORMED])
def test_a_create_whose_answer_is_lost_is_adopted(tmp_path: Path, kind: Kind) -> None:
    """It is never sent a second time: the pod is found by its name."""

    def rule(sent: Sent) -> Kind:
        return kind if sent.operation == CREATE else Kind.PASS

    async def scene(world: World) -> None:
        outcome = await Process(world=world, rule=rule).start(ACCEPTED)
        assert outcome.ok, repr(outcome.error)
        assert creates(world) == 1
        await gone(world)

    act(tmp_path, scene, list_lag=LAG)


def test_a_dearer_pod_is_given_back_for_the_next_offer(tmp_path: Path) -> None:
    """There is no ceiling to send, so the answer is looked at."""

    async def scene(world: World) -> None:
        world.runpod.settings.rest_price_factor = Decimal(2)
        outcome = await Process(world=world).start(ACCEPTED)
        assert isinstance(outcome.error, (AllOffersFailed, BudgetExceeded))
        assert creates(world) >= 2
        assert not world.live()

    act(tmp_path, scene)


def test_without_stock_the_next_model_is_rented(tmp_path: Path) -> None:
    """Also where the catalogue says that there is some."""

    async def scene(world: World) -> None:
        first = rows.problem("rest.create", 400, texts.NO_STOCK)
        world.runpod.faults.add(first)
        world.runpod.market.set_stock(OTHER_GPU, 1)
        outcome = await Process(world=world).start(ACCEPTED)
        assert outcome.ok, repr(outcome.error)
        assert first.reached.is_set()
        assert outcome.result.pod.gpu_model in {GPU, OTHER_GPU}
        assert creates(world) == 2
        await gone(world)

    act(tmp_path, scene)


@pytest.mark.parametrize("region", ["RO", "EU-RO-1", "ro"])
def test_a_country_is_rented_in_one_of_its_data_centres(tmp_path: Path, region: str) -> None:
    """REST takes nothing larger than a data centre."""

    async def scene(world: World) -> None:
        outcome = await Process(world=world).start(small_request(accept_no_kill_time=True, region=(region,)))
        assert outcome.ok, repr(outcome.error)
        assert outcome.result.offer.region == "EU-RO-1"
        [pod] = world.live()
        assert pod.machine.data_center_id == "EU-RO-1"
        await gone(world)

    act(tmp_path, scene)


def test_interruptible_pods_alone_are_nowhere(tmp_path: Path) -> None:
    """REST sells none; nothing is rented."""

    async def scene(world: World) -> None:
        outcome = await Process(world=world).start(
            small_request(interruptible=Interruptible.REQUIRE, accept_no_kill_time=True)
        )
        assert isinstance(outcome.error, AllOffersFailed), repr(outcome.error)
        assert creates(world) == 0

    act(tmp_path, scene)


def test_cleanup_ends_what_a_crash_left(tmp_path: Path) -> None:
    """The pod's tags come back from REST, so it is known whose it is."""

    def rule(sent: Sent) -> Kind:
        return Kind.CRASH_AFTER if sent.operation == CREATE else Kind.PASS

    async def scene(world: World) -> None:
        world.mute = 1
        outcome = await Process(world=world, rule=rule).start(ACCEPTED)
        assert outcome.crashed
        assert len(world.live()) == 1
        await anyio.sleep(7 * 3600)
        swept = await Process(world=world).cleanup()
        assert swept.ok, repr(swept.error)
        assert not world.live()

    act(tmp_path, scene)
