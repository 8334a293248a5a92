"""One create of a pod of Lium rents once, however often and by whomever it is repeated, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from contract.test_celium_contract import MODEL, RENT, CeliumWorld

from runner_provisioner.domain.markets import TemplateSpec
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import PodSpec
from runner_provisioner.errors import (
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InsufficientFunds,
    InvalidRequest,
    OfferGone,
    OfferUnfit,
    PermissionDenied,
    RateLimited,
    Unreachable,
)
from runner_provisioner.providers.celium.requests import template_of
from runner_provisioner.providers.celium.templates import Templates
from runner_provisioner.simulators.celium import CeliumPod, rows
from runner_provisioner.simulators.celium.account import Template
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.testing.clock import FakeClock
from runner_provisioner.testing.provider_contract import OWNER, PLANTED

TEMPLATE = "templates.create"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAA"


async def on_demand(world: CeliumWorld) -> Offer:
    """The one secure node of the model."""
    [offer] = [one for one in await world.celium.offers(world.request) if not one.interruptible]
    return offer


def left(world: CeliumWorld) -> list[Template]:
    """Templates that were made here and are still there."""
    return [one for one in world.simulator.account.templates.values() if one.own]


def shown(world: CeliumWorld) -> str:
    """Everything that the templates which are left say."""
    return " ".join(f"{one.name} {one.startup_commands} {one.environment}" for one in left(world))


def pod_of(world: CeliumWorld) -> CeliumPod:
    """The only pod."""
    [pod] = world.simulator.live()
    return pod


async def test_a_pod_gets_its_command_environment_keys_and_end(world: CeliumWorld) -> None:
    """Through a one-time template, the node's shell, and the rent."""
    spec = replace(world.spec(), env={"PUBLIC_KEY": PUBLIC, "A": "it's", "B": "$HOME"})
    made = await world.celium.create(spec, await on_demand(world))
    await world.celium.get(made.id)
    pod = pod_of(world)
    assert pod.template.one_time
    assert pod.template.is_private
    assert pod.keys == (PUBLIC,)
    assert pod.docker is not None
    assert pod.docker.argv[:4] == ("bash", "-O", "lastpipe", "-c")
    assert {**pod.docker.env}["B"] == "$HOME"
    assert "A" not in pod.docker.env
    assert not pod.on_node
    assert pod.given["termination_hours"] == 6
    assert pod.terminate_after == spec.terminate_after
    assert (made.machine, made.image, made.interruptible) == (pod.machine.id, spec.image, False)


async def test_the_template_goes_with_its_pod(world: CeliumWorld) -> None:
    """Nothing is left on the account."""
    made = await world.celium.create(world.spec(), await on_demand(world))
    assert len(left(world)) == 1
    await world.celium.terminate(made.id)
    assert left(world) == []


async def test_the_key_is_the_same_for_the_same_create_and_no_other(world: CeliumWorld) -> None:
    """Made of the pod's nonce and the offer, in every process; another nonce, node or count has another."""
    offer = await on_demand(world)
    attempts = world.celium._renting._attempts
    again = world.again()._renting._attempts
    spec = world.spec()
    key = attempts.current(attempts.of(spec, offer)).key
    assert key == again.current(again.of(spec, offer)).key
    tags = spec.tags
    assert tags is not None
    others = [
        attempts.of(replace(spec, tags=replace(tags, nonce="other")), offer),
        attempts.of(replace(spec, name="other"), offer),
        attempts.of(spec, replace(offer, id="other")),
        attempts.of(spec, replace(offer, gpu_count=2)),
        attempts.of(replace(spec, tags=None), offer),
        attempts.of(replace(spec, tags=None), offer),
    ]
    assert len({attempts.current(other).key for other in others} | {key}) == 7


async def test_a_repeat_after_a_lost_answer_finds_the_pod(world: CeliumWorld) -> None:
    """It says exactly the same, so it rents nothing more."""
    offer = await on_demand(world)
    world.lose_next_create_answer()
    with pytest.raises(CreateOutcomeUnknown, match="look it up by name"):
        await world.celium.create(world.spec(), offer)
    await world.clock.sleep(90)
    made = await world.celium.create(replace(world.spec(), command="another token"), offer)
    assert made.id == pod_of(world).id
    assert len(left(world)) == 1


async def test_the_next_process_finds_the_pod_too(world: CeliumWorld) -> None:
    """A program that was killed in the middle of its rent, and started again with the same nonce."""
    offer = await on_demand(world)
    world.lose_next_create_answer()
    with pytest.raises(CreateOutcomeUnknown):
        await world.celium.create(world.spec(), offer)
    made = await world.again().create(world.spec(), offer)
    assert made.id == pod_of(world).id
    assert len(left(world)) == 1


async def test_the_next_process_rents_anew_when_the_first_pod_is_over(world: CeliumWorld) -> None:
    """What is replayed is an answer of old: its pod has been ended, with its template."""
    offer = await on_demand(world)
    first = await world.celium.create(world.spec(), offer)
    await world.celium.terminate(first.id)
    second = await world.again().create(world.spec(), offer)
    assert second.id != first.id
    assert second.id == pod_of(world).id


async def test_the_next_process_is_not_refused_for_an_old_refusal(world: CeliumWorld) -> None:
    """The node was taken then, and is free now."""
    offer = await on_demand(world)
    world.run_out_of_stock()
    with pytest.raises(OfferGone):
        await world.celium.create(world.spec(), offer)
    world.simulator.market.set_stock(MODEL, 4)
    assert (await world.again().create(world.spec(), offer)).alive
    assert world.rented() == 1


async def test_a_refusal_that_is_only_repeated_is_passed_over(world: CeliumWorld) -> None:
    """Lium marks it as replayed: it tells of the first request, and nothing of now."""
    offer = await on_demand(world)
    own = world.simulator.account.default_template()
    spec = replace(world.spec(), command=None, env={}, options={"template_id": own.id})
    world.run_out_of_stock()
    with pytest.raises(OfferGone):
        await world.celium.create(spec, offer)
    world.simulator.market.set_stock(MODEL, 4)
    asked = world.simulator.faults.count(RENT)
    assert (await world.again().create(spec, offer)).alive
    assert world.simulator.faults.count(RENT) == asked + 2


async def test_the_same_process_is_not_refused_for_an_old_refusal(world: CeliumWorld) -> None:
    """Its next request has another key."""
    offer = await on_demand(world)
    world.run_out_of_stock()
    with pytest.raises(OfferGone):
        await world.celium.create(world.spec(), offer)
    world.simulator.market.set_stock(MODEL, 4)
    assert (await world.celium.create(world.spec(), offer)).alive


async def test_a_rent_in_progress_is_of_unknown_outcome_and_keeps_its_key(world: CeliumWorld) -> None:
    """Whoever repeats it meanwhile is told so, and rents nothing more."""
    offer = await on_demand(world)
    world.simulator.settings.rent_seconds = 60
    world.lose_next_create_answer()
    for _ in range(3):
        with pytest.raises(CreateOutcomeUnknown):
            await world.celium.create(world.spec(), offer)
    assert world.rented() == 1
    await world.clock.sleep(61)
    made = await world.celium.create(world.spec(), offer)
    assert made.id == pod_of(world).id


async def test_a_rent_whose_outcome_nobody_knows_is_told_and_the_next_has_another_key(world: CeliumWorld) -> None:
    """409: the pod is to be looked up by its name, and only then may another be rented."""
    offer = await on_demand(world)
    world.simulator.break_rents(1)
    for told in ("failed internally", "does not know what became"):
        with pytest.raises(CreateOutcomeUnknown, match=told):
            await world.celium.create(world.spec(), offer)
    [pod] = await world.celium.list(OWNER)
    assert pod.name == world.spec().name
    await world.celium.terminate(pod.id)
    second = await world.celium.create(world.spec(), offer)
    assert second.id == pod_of(world).id


async def test_a_key_that_said_something_else_before_rents_nothing_beside_a_live_pod(world: CeliumWorld) -> None:
    """Another process's pod of the same name is there: that is what the caller has to look at."""
    offer = await on_demand(world)
    first = await world.celium.create(world.spec(), offer)
    longer = replace(world.spec(), terminate_after=world.clock.now() + timedelta(hours=40))
    with pytest.raises(CreateOutcomeUnknown, match="other values"):
        await world.again().create(longer, offer)
    assert pod_of(world).id == first.id


async def test_a_request_that_never_arrived_is_sent_again_as_it_was(world: CeliumWorld) -> None:
    """429 and a refused connection: nothing was done, and the next try says the same."""
    offer = await on_demand(world)
    world.simulator.faults.add(rows.rate_limited(RENT, retry_after=400, times=1))
    with pytest.raises(RateLimited):
        await world.celium.create(world.spec(), offer)
    await world.clock.sleep(401)
    later = replace(world.spec(), terminate_after=world.clock.now() + timedelta(hours=6))
    assert (await world.celium.create(later, offer)).alive
    assert (world.rented(), len(left(world))) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        pytest.param(rows.no_stock(status=400), CapacityUnavailable, id="taken: 400"),
        pytest.param(rows.no_stock(status=404), CapacityUnavailable, id="taken: 404"),
        pytest.param(rows.no_stock(status=409), CapacityUnavailable, id="taken: 409"),
        pytest.param(rows.low_balance(), InsufficientFunds, id="no money"),
        pytest.param(rows.low_balance(envelope="detail"), InsufficientFunds, id="no money, in words"),
        pytest.param(rows.over_budget(), InsufficientFunds, id="no budget"),
        pytest.param(rows.refused(RENT, "does not have the 'rent' scope", status=403), PermissionDenied, id="no scope"),
        pytest.param(rows.refused(RENT, "Validation failed", status=422), InvalidRequest, id="no such field"),
    ],
)
async def test_a_refused_rent_leaves_no_secret_behind(world: CeliumWorld, fault: Fault, kind: type[Exception]) -> None:
    """Lium's API removes no template, so it is emptied: no token, no variable, not even its name stays."""
    offer = await on_demand(world)
    world.simulator.faults.add(fault)
    spec = replace(world.spec(), env={"A": PLANTED})
    with pytest.raises(kind):
        await world.celium.create(spec, offer)
    assert PLANTED not in shown(world)
    assert "bash" not in shown(world)
    assert {one.name for one in left(world)} == {"runner-provisioner-removed"}
    assert world.rented() == 0
    assert (await world.celium.create(spec, offer)).alive


async def test_a_template_that_cannot_be_emptied_is_no_other_error(world: CeliumWorld) -> None:
    """The refusal of the rent is what counts."""
    offer = await on_demand(world)
    world.run_out_of_stock()
    world.simulator.faults.add(rows.refused("templates.update", "no", status=403, times=None))
    with pytest.raises(OfferGone):
        await world.celium.create(world.spec(), offer)


async def test_a_lost_answer_to_the_template_makes_no_second_one(world: CeliumWorld) -> None:
    """It is found by its name, which is made of the key."""
    offer = await on_demand(world)
    world.simulator.faults.add(Fault(operation=TEMPLATE, kind=FaultKind.DROP_AFTER))
    with pytest.raises(CreateOutcomeUnknown):
        await world.celium.create(world.spec(), offer)
    assert world.rented() == 0
    assert (await world.celium.create(world.spec(), offer)).alive
    assert len(left(world)) == 1


async def test_a_template_is_waited_for(world: CeliumWorld) -> None:
    """While it is being verified; as soon as it is usable the pod is rented."""
    world.simulator.settings.template_statuses = ("VERIFY_PENDING",) * 60 + ("VERIFY_SUCCESS",)
    before = world.clock.monotonic()
    assert (await world.celium.create(replace(world.spec(), terminate_after=None), await on_demand(world))).alive
    assert 60 < world.clock.monotonic() - before < 120


@pytest.mark.parametrize("status", ["CREATED", "UPDATED", "VERIFY_SUCCESS"])
async def test_a_usable_template_is_not_waited_for(world: CeliumWorld, status: str) -> None:
    """The service no longer verifies what users make."""
    world.simulator.settings.template_statuses = (status,)
    before = world.clock.monotonic()
    assert (await world.celium.create(world.spec(), await on_demand(world))).alive
    assert world.clock.monotonic() - before < 1


async def test_an_image_that_fails_its_verification_is_told(world: CeliumWorld) -> None:
    """Nothing is rented, nothing stays, and the same request would not succeed."""
    world.simulator.settings.template_statuses = ("VERIFY_PENDING", "VERIFY_FAILED")
    with pytest.raises(InvalidRequest, match="could not verify the image"):
        await world.celium.create(world.spec(), await on_demand(world))
    assert PLANTED not in shown(world)
    assert world.simulator.faults.count(RENT) == 0


async def test_a_verification_without_end_is_given_up(world: CeliumWorld) -> None:
    """After a quarter of an hour."""
    world.simulator.settings.template_statuses = ("VERIFY_PENDING",)
    before = world.clock.monotonic()
    spec = replace(world.spec(), terminate_after=world.clock.now() + timedelta(hours=9))
    with pytest.raises(CreateOutcomeUnknown, match="not verified"):
        await world.celium.create(spec, await on_demand(world))
    assert 900 <= world.clock.monotonic() - before < 960
    assert world.rented() == 0


async def test_a_node_that_asks_for_more_than_its_offer_is_given_back(world: CeliumWorld) -> None:
    """A rent takes no ceiling, so the price is looked at afterwards."""
    offer = await on_demand(world)
    world.simulator.market.set_price("a4000", Decimal("0.50"))
    with pytest.raises(OfferGone, match="given back"):
        await world.celium.create(world.spec(), offer)
    assert world.rented() == 0


async def test_a_dear_pod_that_cannot_be_given_back_is_of_unknown_outcome(world: CeliumWorld) -> None:
    """Then it is there, and whoever looks it up finds it."""
    offer = await on_demand(world)
    world.simulator.market.set_price("a4000", Decimal("0.50"))
    world.simulator.faults.add(rows.refused("pods.delete", "no", status=403, times=None))
    with pytest.raises(CreateOutcomeUnknown, match="could not be ended"):
        await world.celium.create(world.spec(), offer)
    assert world.rented() == 1


async def test_one_of_the_two_kill_times_is_enough(world: CeliumWorld) -> None:
    """Where the exact moment is refused, the hours of the rent stand; a pod that needs an end goes back without."""
    offer = await on_demand(world)
    world.simulator.faults.add(rows.refused("pods.schedule", "no", times=None))
    spec = replace(world.spec(), needs_kill_time=True)
    made = await world.celium.create(spec, offer)
    assert world.simulator.pod(made.id).terminate_after == spec.terminate_after
    long = replace(spec, terminate_after=world.clock.now() + timedelta(hours=800))
    with pytest.raises(OfferUnfit, match="no kill time"):
        await world.celium.create(long, offer)
    assert pod_of(world).id == made.id
    assert (await world.celium.create(replace(long, needs_kill_time=False), offer)).alive


async def test_the_account_s_keys_are_those_of_a_pod_that_names_none(world: CeliumWorld) -> None:
    """Readable ones; without any, or where nobody is to log in, one whose private part nobody has."""
    offer = await on_demand(world)
    spec = world.spec()

    async def keys(spec: PodSpec) -> tuple[str, ...]:
        made = await world.celium.create(spec, offer)
        pod = world.simulator.pod(made.id)
        await world.celium.terminate(made.id)
        return pod.keys

    [nobody] = await keys(spec)
    world.simulator.account.add_ssh_key("me", f"{PUBLIC} me@home")
    world.simulator.account.add_ssh_key("odd", "not a-key;really")
    assert await keys(spec) == (PUBLIC,)
    assert await keys(replace(spec, start_ssh=False)) == (nobody,)
    assert await world.celium.ssh_keys() == [f"{PUBLIC} me@home", "not a-key;really"]


async def test_a_template_of_the_user_s_own_is_rented_and_kept(world: CeliumWorld) -> None:
    """Also when the rent is refused."""
    own = world.simulator.account.default_template()
    offer = await on_demand(world)
    spec = replace(world.spec(), command=None, env={}, tags=None, options={"template_id": own.id})
    world.simulator.faults.add(rows.no_stock())
    with pytest.raises(OfferGone):
        await world.celium.create(spec, offer)
    made = await world.celium.create(spec, offer)
    assert world.simulator.pod(made.id).template is own
    assert (await world.celium.list(OWNER))[0].id == made.id
    assert left(world) == []


async def test_a_connection_that_is_refused_rents_nothing_and_may_be_repeated(world: CeliumWorld) -> None:
    """It provably never arrived, so its outcome is known."""
    offer = await on_demand(world)

    async def refuse(*_args: object, **_more: object) -> None:
        raise Unreachable("refused", service="celium", arrived=False)

    rent = world.api.rent
    world.api.rent = refuse  # type: ignore[assignment,method-assign]
    with pytest.raises(Unreachable):
        await world.celium.create(world.spec(), offer)
    world.api.rent = rent  # type: ignore[method-assign]
    assert (await world.celium.create(world.spec(), offer)).alive
    assert (world.rented(), len(left(world))) == (1, 1)


async def test_what_a_start_that_died_has_left_is_found_and_removed(world: CeliumWorld) -> None:
    """Its own alone, and nothing that a pod runs from."""
    offer = await on_demand(world)
    world.simulator.faults.add(Fault(operation="pods.rent", kind=FaultKind.DROP_BEFORE, times=9))
    with pytest.raises(CreateOutcomeUnknown):
        await world.celium.create(world.spec(), offer)
    world.simulator.faults.clear()
    spec = world.spec()
    assert spec.tags is not None
    await world.celium.create(replace(spec, name=f"{spec.name}2", tags=replace(spec.tags, nonce="another")), offer)
    assert len(left(world)) == 2
    assert await world.celium.left_templates("00000000") == []
    [found] = await world.celium.left_templates(spec.tags.owner)
    assert found.tags.expires_at == spec.tags.expires_at
    await world.celium.delete_template(found.id)
    assert await world.celium.left_templates(spec.tags.owner) == []
    assert len(world.simulator.live()) == 1


async def test_a_strangers_template_that_bears_our_tags_is_left_alone(world: CeliumWorld) -> None:
    """Anybody can publish one: nobody here may remove it, and a clean-up that tried would fail for ever."""
    spec = world.spec()
    assert spec.tags is not None
    own = world.simulator.account.default_template()
    planted = replace(
        own,
        id="planted",
        name="runner-provisioner-planted",
        environment=dict(spec.tags.to_env()),
        is_private=False,
        own=False,
    )
    world.simulator.account.templates[planted.id] = planted
    assert await world.celium.left_templates(spec.tags.owner) == []


async def test_nothing_is_rented_from_a_strangers_template_of_the_same_name(world: CeliumWorld) -> None:
    """It would run what the stranger wants."""
    own = world.simulator.account.default_template()
    planted = replace(own, id="planted", name="runner-provisioner-0", is_private=False, own=False)
    world.simulator.account.templates[planted.id] = planted
    contents = template_of(TemplateSpec(name=planted.name, image="ubuntu:24.04"))
    templates = Templates(world.api, clock=FakeClock())
    made = [await templates.once(planted.name, contents) for _ in range(2)]
    assert made[0] == made[1] != planted.id
