"""The adapter of Prime Intellect keeps the port's promises against its simulator, in process and over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import pytest

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer
from runner_provisioner.domain.pods import PodId, PodSpec, PodState
from runner_provisioner.errors import (
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InsufficientFunds,
    InvalidRequest,
    NotFound,
    OfferGone,
    OfferUnfit,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    ServerError,
)
from runner_provisioner.logging import Redactor
from runner_provisioner.ports import (
    HasAccountKeys,
    HasBalance,
    HasGpuTypes,
    HasHistory,
    HasKillTime,
    HasLogs,
    HasSshEndpoint,
    HasTemplates,
    Pausable,
    ReadsMany,
    has_kill_time,
    starts_over_ssh,
)
from runner_provisioner.providers.prime import PrimeApi, PrimeProvider
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.prime import Market, Permission, PrimeSimulator, Progress, rows
from runner_provisioner.simulators.prime import Offer as SimulatedOffer
from runner_provisioner.simulators.prime.catalog import default_offers
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock
from runner_provisioner.testing.provider_contract import OWNER, PLANTED, ProviderContract, ProviderWorld

MODEL = "RTXA4000_16GB"
TEMPLATE = "tpl1"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxvZ2lu me@here"


class PrimeWorld(ProviderWorld):
    """The adapter over the simulator; pods boot bare, or with a custom template that reads the environment."""

    def __init__(
        self, simulator: PrimeSimulator, clock: FakeClock, provider: PrimeProvider, *, template: bool = False
    ) -> None:
        self.simulator = simulator
        self.clock = self.time = clock
        self.provider = provider
        self.prime = provider
        self.template = template
        self.credential = simulator.key
        self.request = GpuRequest(models=(MODEL,), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(5))

    def rented(self) -> int:
        """By the simulator's own count."""
        return len(self.simulator.live())

    def run_out_of_stock(self) -> None:
        """No GPU of the model is free."""
        self.simulator.market.set_stock(MODEL, 0)

    def lose_next_create_answer(self) -> None:
        """Rented, then the connection is cut."""
        self.simulator.faults.add(Fault(operation=rows.CREATE, kind=FaultKind.DROP_AFTER))

    def fail_next_create(self) -> None:
        """500."""
        self.simulator.faults.add(rows.internal_error(rows.CREATE))

    def answer_nonsense(self) -> None:
        """A proxy's page with status 200."""
        self.simulator.faults.add(
            Fault(operation="*", kind=FaultKind.ERROR, status=200, body="<html>welcome</html>", times=None)
        )

    def revoke_credential(self) -> None:
        """The key was deleted."""
        self.simulator.account.revoke(self.simulator.key)

    def spec(self, run: str = "1", owner8: str = OWNER) -> PodSpec:
        """There is no start command; the environment goes with a template."""
        spec = replace(super().spec(run, owner8), command=None, image="", env={})
        if not self.template:
            return spec
        options = {"customTemplateId": TEMPLATE, "jupyterPassword": PLANTED}
        return replace(spec, env={"SOMETHING": PLANTED}, options=options)


async def worlds(*, real: bool = False, template: bool = False, team: str | None = None) -> AsyncIterator[PrimeWorld]:
    """One world; over a real server on loopback when asked for."""
    clock = FakeClock()
    pair = SimulatedOffer(
        id="a4000-2", cloud_id="a4000-2x", gpu_type=MODEL, gpu_memory=16, gpus=8, gpu_count=2, price=Decimal("0.34"),
        provider="datacrunch", data_center="FIN-01", country="FI", region="eu_north",
    )  # fmt: skip
    simulator = PrimeSimulator(clock, market=Market([*default_offers(), pair]))
    simulator.add_template("octo/runner:1", TEMPLATE)
    simulator.account.teams.add("team1")
    server = simulator.serve().start() if real else None
    plumbing = Plumbing(
        clock=clock,
        redactor=Redactor(),
        tempo=Tempo(),
        metrics=CallMetrics(),
        user_agent="test",
        transport=None if real else InProcess({"127.0.0.1": simulator.app}),
    )
    url = server.url if server else "http://127.0.0.1"
    api = PrimeApi.connect(url=url, api_key=simulator.key, plumbing=plumbing, team_id=team, pace=None)
    provider = PrimeProvider(api, clock=clock)
    try:
        yield PrimeWorld(simulator, clock, provider, template=template)
    finally:
        await provider.aclose()
        if server:
            server.stop()
        simulator.close()


class TestPrimeContract(ProviderContract):
    """The suite that every adapter passes."""

    @pytest.fixture(
        params=[(False, False), (False, True), (True, False)], ids=["in-process", "with a template", "loopback"]
    )
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[PrimeWorld]:
        """The adapter over the simulator."""
        real, template = request.param
        async for world in worlds(real=real, template=template):
            yield world

    async def test_its_capabilities_are_those_that_it_has(self, world: PrimeWorld) -> None:
        """It ends no pod by itself, pauses none, and lets nobody make templates."""
        assert starts_over_ssh(world.prime)
        has = (HasLogs, HasHistory, HasAccountKeys, HasSshEndpoint, ReadsMany, HasBalance, HasGpuTypes)
        assert all(isinstance(world.prime, each) for each in has)
        assert not any(isinstance(world.prime, each) for each in (HasKillTime, HasTemplates, Pausable))
        assert not has_kill_time(world.prime)

    async def test_ownership_is_by_name_alone(self, world: PrimeWorld) -> None:
        """No environment comes back, so there are no tags, and a stranger's name is a stranger's pod."""
        world.simulator.add_pod("my-own-pod")
        mine = await self._rent(world)
        assert mine.tags is None
        assert await self._listed(world) == [mine.id]
        assert len(await world.prime.list(None)) == 2


@pytest.fixture
async def world() -> AsyncIterator[PrimeWorld]:
    """In process, pods boot bare."""
    async for one in worlds():
        yield one


async def cheapest(world: PrimeWorld, *, spot: bool = False) -> Offer:
    """The cheapest offer of the model, of one kind."""
    offers = await world.prime.offers(world.request)
    return min((offer for offer in offers if offer.interruptible is spot), key=lambda offer: offer.price)


async def test_every_field_of_a_create_is_sent(world: PrimeWorld) -> None:
    """With the offer's own traits, the sizes, the ceiling, a login key, a template, disks and a team."""
    key = await world.prime.login_key(KEY, name="login")
    row = {"disk": {"size": 50, "dataCenterId": "FIN-01"}, "provider": {"type": "datacrunch"}}
    disk = (await world.prime.api._send("addDisk", "POST", "disks", body=row)).json()["id"]
    spec = replace(
        world.spec(), disk_gb=150, volume_gb=50, min_vcpus=8, min_memory_gb=32, network_volume=disk, env={"A": "B"},
        options={
            "customTemplateId": TEMPLATE, "jupyterPassword": "open sesame", "autoRestart": True, "sshKeyId": key,
            "team": {"teamId": "team1"}, "envVars": [{"key": "C", "value": "D"}],
        },
    )  # fmt: skip
    offer = await cheapest(world)
    pod = await world.prime.create(spec, replace(offer, price=Decimal("0.20")))
    kept = world.simulator.pod(pod.id)
    assert {**kept.given, "envVars": None} == {
        "name": spec.name,
        "cloudId": "a4000-1x",
        "gpuType": MODEL,
        "socket": "PCIe",
        "gpuCount": 1,
        "maxPrice": 0.2,
        "image": "custom_template",
        "customTemplateId": TEMPLATE,
        "dataCenterId": "FIN-01",
        "country": "FI",
        "security": "secure_cloud",
        "diskSize": 200,
        "vcpus": 8,
        "memory": 32,
        "envVars": None,
        "jupyterPassword": "open sesame",
        "sshKeyId": key,
        "autoRestart": True,
    }
    assert {"A": "B", "C": "D", "RP_OWNER": OWNER, "RP_NONCE": "n0nce"}.items() <= dict(kept.env).items()
    assert (kept.team_id, kept.disks, kept.keys) == ("team1", (disk,), (KEY,))
    assert pod.price == Decimal("0.19")


async def test_the_team_of_the_account_pays() -> None:
    """In the body and in the header of every request."""
    async for world in worlds(team="team1"):
        pod = await world.prime.create(world.spec(), await cheapest(world))
        assert world.simulator.pod(pod.id).team_id == "team1"
    async for world in worlds(team="strangers"):
        with pytest.raises(PermissionDenied, match="PRIME_TEAM_ID"):
            await world.prime.create(world.spec(), await cheapest(world))


async def test_a_spot_pod_is_rented_with_the_bid_as_the_ceiling(world: PrimeWorld) -> None:
    """And pays what everybody pays."""
    spot = await cheapest(world, spot=True)
    assert (spot.price, spot.minimum_bid) == (Decimal("0.07"), Decimal("0.07"))
    pod = await world.prime.create(world.spec(), replace(spot, price=Decimal("0.5")))
    assert (pod.price, pod.interruptible) == (Decimal("0.07"), True)
    assert world.simulator.pod(pod.id).given["maxPrice"] == 0.5


@pytest.mark.parametrize(("spot", "state"), [(True, PodState.INTERRUPTED), (False, PodState.STOPPED)])
async def test_a_pod_that_its_provider_stopped(world: PrimeWorld, *, spot: bool, state: PodState) -> None:
    """Interrupted when it is a spot pod, stopped when not; it still bills, and is ended."""
    pod = await world.prime.create(world.spec(), await cheapest(world, spot=spot))
    world.simulator.interrupt(pod.id)
    assert (await world.prime.get_many([pod.id]))[pod.id] == await world.prime.get(pod.id)
    [seen] = await world.prime.list(OWNER)
    assert seen.state is state
    await world.prime.terminate(pod.id)
    assert world.rented() == 0


async def test_a_pod_that_its_provider_removed_has_vanished(world: PrimeWorld) -> None:
    """Nothing is left to tell of it but the history."""
    world.simulator.settings.interruption_removes = True
    pod = await world.prime.create(world.spec(), await cheapest(world, spot=True))
    world.simulator.interrupt(pod.id)
    assert await world.prime.get(pod.id) is None
    assert await world.prime.get_many([pod.id]) == {pod.id: None}
    assert [one.id for one in await world.prime.history()] == [pod.id]


async def test_a_pod_goes_through_its_stages(world: PrimeWorld) -> None:
    """Provisioning and installing are starting, whichever request tells it."""
    world.simulator.settings.progress = Progress.after_polls(4)
    pod = await world.prime.create(world.spec(), await cheapest(world))
    seen = []
    for _ in range(5):
        told = (await world.prime.get_many([pod.id]))[pod.id]
        assert told
        seen.append((told.state, told.ssh is not None))
    assert seen == [(PodState.STARTING, False)] * 4 + [(PodState.RUNNING, True)]
    assert world.simulator.faults.count("pods.status") == 5
    assert world.simulator.faults.count("pods.get") == 0


@pytest.mark.parametrize("shown", [True, False], ids=["with installation", "without"])
async def test_the_other_forms_of_an_answer_are_read(world: PrimeWorld, *, shown: bool) -> None:
    """Lists as for several nodes, fields that an upstream provider leaves out, the documentation's word."""
    world.simulator.settings.connections_as_lists = True
    world.simulator.settings.installation_shown = shown
    world.simulator.settings.finished_word = "COMPLETE"
    pod = await world.prime.create(world.spec(), await cheapest(world))
    assert (pod.state, pod.ssh) == (PodState.STARTING, None)
    found = await world.prime.get(pod.id)
    assert found
    assert found.state is PodState.RUNNING
    assert found.ssh == await world.prime.ssh_endpoint(pod.id)


async def test_a_failed_installation_is_a_failed_pod(world: PrimeWorld) -> None:
    """With its reason; it bills until it is ended."""
    pod = await world.prime.create(world.spec(), await cheapest(world))
    world.simulator.fail(pod.id, "driver mismatch")
    for found in (await world.prime.get(pod.id), (await world.prime.get_many([pod.id]))[pod.id]):
        assert found
        assert (found.state, found.detail) == (PodState.FAILED, "installation failed: driver mismatch")


async def test_a_word_that_tells_nothing_changes_nothing(world: PrimeWorld) -> None:
    """UNKNOWN keeps what was seen last."""
    pod = await world.prime.create(world.spec(), await cheapest(world))
    for status, state in [("UNKNOWN", PodState.STARTING), (None, PodState.RUNNING), ("REPAIRING", PodState.RUNNING)]:
        world.simulator.set_status(pod.id, status)
        found = await world.prime.get(pod.id)
        assert found
        assert found.state is state


async def test_an_end_that_takes_a_while_is_watched(world: PrimeWorld) -> None:
    """Until it is gone; one that takes longer is still listed, since it bills."""
    world.simulator.settings.deletion_seconds = 3
    pod = await world.prime.create(world.spec(), await cheapest(world))
    await world.prime.terminate(pod.id)
    assert world.rented() == 0
    world.simulator.settings.deletion_seconds = 60
    slow = await world.prime.create(world.spec(), await cheapest(world))
    await world.prime.terminate(slow.id)
    [left] = await world.prime.list(OWNER)
    assert (left.state, left.status) == (PodState.STOPPED, "DELETING")
    await world.clock.sleep(60)
    world.simulator.settings.shows_terminated = True
    assert await world.prime.get(slow.id) is None


async def test_a_spot_pod_that_stops_on_its_way_out_is_not_interrupted(world: PrimeWorld) -> None:
    """It was asked to end; whoever did not ask cannot know."""
    world.simulator.settings.deletion_seconds = 600
    pod = await world.prime.create(world.spec(), await cheapest(world, spot=True))
    await world.prime.terminate(pod.id)
    world.simulator.interrupt(pod.id)
    mine, other = await world.prime.get(pod.id), await PrimeProvider(world.prime.api, clock=world.clock).get(pod.id)
    assert mine
    assert other
    assert (mine.state, other.state) == (PodState.STOPPED, PodState.INTERRUPTED)


@pytest.mark.parametrize("kind", [FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER, FaultKind.HANG_AFTER])
async def test_an_end_whose_answer_is_lost_is_sent_again(world: PrimeWorld, kind: FaultKind) -> None:
    """The second time it finds nothing, or ends it."""
    pod = await world.prime.create(world.spec(), await cheapest(world))
    world.simulator.faults.add(Fault(operation=rows.DELETE, kind=kind))
    await world.prime.terminate(pod.id)
    assert world.rented() == 0
    assert world.simulator.faults.count(rows.DELETE) == 2


async def test_an_end_that_nobody_carries_out_is_an_error(world: PrimeWorld) -> None:
    """However good the answer was; in a hurry the next look tells."""
    pod = await world.prime.create(world.spec(), await cheapest(world))
    world.simulator.faults.add(Fault(operation=rows.DELETE, kind=FaultKind.IGNORED, times=2))
    with pytest.raises(ServerError, match="still shows it as ACTIVE"):
        await world.prime.terminate(pod.id)
    world.prime.api.plumbing.tempo.hurry()
    await world.prime.terminate(pod.id)
    assert world.rented() == 1
    await world.prime.terminate(pod.id)
    assert world.rented() == 0


async def test_a_pod_that_costs_more_than_offered_is_given_back(world: PrimeWorld) -> None:
    """Should the service not keep to the ceiling."""
    offer = await cheapest(world)
    dear = '{"id": "%s", "name": "rp-0123abcd-1-1-default", "status": "PROVISIONING", "priceHr": 9}'
    for kind, expected in ((OfferGone, 0), (CreateOutcomeUnknown, 1)):
        pod = world.simulator.add_pod("rp-0123abcd-1-1-default")
        world.simulator.faults.add(Fault(operation=rows.CREATE, kind=FaultKind.ERROR, status=200, body=dear % pod.id))
        if kind is CreateOutcomeUnknown:
            world.simulator.faults.add(rows.refused(rows.DELETE, "no", status=403))
        with pytest.raises(kind):
            await world.prime.create(world.spec(), offer)
        assert world.rented() == expected


async def test_a_pod_that_is_gone_at_once_is_of_unknown_outcome(world: PrimeWorld) -> None:
    """Whoever looks it up by name knows more."""
    offer = await cheapest(world)
    gone = '{"id": "x", "name": "n", "status": "TERMINATED"}'
    world.simulator.faults.add(Fault(operation=rows.CREATE, kind=FaultKind.ERROR, status=200, body=gone))
    with pytest.raises(CreateOutcomeUnknown, match="at once"):
        await world.prime.create(world.spec(), offer)


async def test_an_offer_is_rented_by_another_process(world: PrimeWorld) -> None:
    """Which asks for it again, and says so when it is gone."""
    offer = await cheapest(world)
    other = PrimeProvider(world.prime.api, clock=world.clock)
    assert (await other.create(world.spec(), offer)).price == offer.price
    world.run_out_of_stock()
    third = PrimeProvider(world.prime.api, clock=world.clock)
    with pytest.raises(OfferGone):
        await third.create(world.spec(), offer)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(rows.low_balance(), InsufficientFunds, id="no money"),
        pytest.param(rows.no_stock(), CapacityUnavailable, id="no stock"),
        pytest.param(rows.no_stock(detail="quota exceeded for region"), CapacityUnavailable, id="quota"),
        pytest.param(rows.rate_limited(rows.CREATE, retry_after=600), RateLimited, id="too often"),
        pytest.param(rows.refused(rows.CREATE, "Missing field: max_price not specified"), InvalidRequest, id="field"),
    ],
)
async def test_a_refused_create_has_rented_nothing(world: PrimeWorld, fault: Fault, error: type[Exception]) -> None:
    """And is told as what it is."""
    offer = await cheapest(world)
    world.simulator.faults.add(fault)
    with pytest.raises(error):
        await world.prime.create(world.spec(), offer)
    assert world.rented() == 0


async def test_a_request_too_many_is_sent_again_as_told(world: PrimeWorld) -> None:
    """A refused one has rented nothing."""
    offer = await cheapest(world)
    world.simulator.faults.add(rows.rate_limited(rows.CREATE, retry_after=3))
    before = world.clock.now()
    await world.prime.create(world.spec(), offer)
    assert (world.clock.now() - before).total_seconds() == 3
    assert world.rented() == 1


async def test_a_price_that_rose_meanwhile_is_a_capacity_error(world: PrimeWorld) -> None:
    """The ceiling is always sent."""
    world.simulator.settings.max_price_required = True
    offer = await cheapest(world)
    world.simulator.market.set_price("a4000", Decimal("0.30"))
    with pytest.raises(CapacityUnavailable):
        await world.prime.create(world.spec(), offer)


async def test_a_full_market_rents_no_more(world: PrimeWorld) -> None:
    """What was offered before is a capacity error then, and is offered no more."""
    offer = await cheapest(world)
    for number in range(8):
        await world.prime.create(world.spec(str(number)), offer)
    with pytest.raises(CapacityUnavailable):
        await world.prime.create(world.spec("9"), offer)
    assert world.rented() == 8
    assert offer.id not in {one.id for one in await world.prime.offers(world.request)}


async def test_a_key_that_may_only_look_is_told_so(world: PrimeWorld) -> None:
    """A missing permission is another refusal than a bad key."""
    offer = await cheapest(world)
    world.simulator.account.add_key(world.simulator.key, Permission.READ)
    with pytest.raises(PermissionDenied, match="Read and write"):
        await world.prime.create(world.spec(), offer)


async def test_a_list_of_many_pods_is_read_to_its_end(world: PrimeWorld) -> None:
    """Page by page."""
    made = {world.simulator.add_pod(f"rp-{OWNER}-{number}-1-default").id for number in range(230)}
    assert {pod.id for pod in await world.prime.list(OWNER)} == made
    assert world.simulator.faults.count("pods.list") == 3
    many = await world.prime.get_many([PodId(each) for each in made])
    assert all(many.values())
    assert world.simulator.faults.count("pods.status") == 5


async def test_the_history_is_the_latest_first(world: PrimeWorld) -> None:
    """With names, prices, bills and times."""
    offer = await cheapest(world)
    ended = []
    for run in "123":
        pod = await world.prime.create(world.spec(run), offer)
        await world.clock.sleep(3600)
        await world.prime.terminate(pod.id)
        ended.append(pod.id)
    told = await world.prime.history(limit=2)
    assert [one.id for one in told] == ended[:0:-1]
    [latest, _] = told
    assert (latest.price, latest.cost, latest.gpu_model) == (Decimal("0.17"), Decimal("0.17"), MODEL)
    assert latest.ended_at
    assert latest.created_at
    assert (latest.ended_at - latest.created_at).total_seconds() == 3600
    oldest = await world.prime.api.history(sort_by="createdAt", sort_order="asc")
    assert [row.id for row in oldest] == ended


async def test_keys_come_and_go(world: PrimeWorld) -> None:
    """A login key is added once; one can be the primary; gone already is success."""
    first = await world.prime.login_key(KEY, name="login")
    assert await world.prime.login_key(KEY.replace("me@here", "me@there"), name="again") == first
    second = await world.prime.login_key("ssh-rsa BBBB you", name="other")
    assert await world.prime.ssh_keys() == [KEY, "ssh-rsa BBBB you"]
    await world.prime.api.make_primary(second)
    assert {key.id: key.is_primary for key in await world.prime.api.ssh_keys()} == {first: False, second: True}
    await world.prime.delete_login_key(first)
    await world.prime.delete_login_key(first)
    assert await world.prime.ssh_keys() == ["ssh-rsa BBBB you"]
    with pytest.raises(NotFound):
        await world.prime.api.make_primary(first)


async def test_the_last_lines_of_a_log_are_given(world: PrimeWorld) -> None:
    """Oldest first, also one without its end, and without the credential."""
    pod = await world.prime.create(world.spec(), await cheapest(world))
    world.simulator.say(pod.id, f"one\ntwo {world.credential}\r\nthree")
    lines = [line.text async for line in world.prime.logs(pod.id, tail=2)]
    assert lines == ["two [MASKED]", "three"]
    assert [line async for line in world.prime.logs(pod.id, tail=0)] == []
    assert len([line async for line in world.prime.logs(pod.id)]) == 3


async def test_a_followed_log_gives_each_line_once(world: PrimeWorld) -> None:
    """Until the pod is gone, whatever fails for a moment."""
    pod = await world.prime.create(world.spec(), await cheapest(world))
    world.simulator.say(pod.id, "one\ntwo\ntwo\nthr")
    seen: list[str] = []
    async for line in world.prime.logs(pod.id, follow=True):
        seen.append(line.text)
        if seen == ["one", "two", "two"]:
            world.simulator.faults.add(rows.internal_error("pods.logs", times=6))
            world.simulator.faults.add(rows.internal_error("pods.get", times=6))
            world.simulator.say(pod.id, "ee\nfour")
        if line.text == "three":
            await world.prime.terminate(pod.id)
    assert seen == ["one", "two", "two", "three"]


async def test_a_disk_decides_where_a_pod_can_be(world: PrimeWorld) -> None:
    """Only offers beside it fit; one that is not there is named with those that are."""
    row = {"disk": {"size": 50, "dataCenterId": "US-TX-1"}, "provider": {"type": "hyperstack"}}
    disk = (await world.prime.api._send("addDisk", "POST", "disks", body=row)).json()["id"]
    request = replace(world.request, models=("RTX 4090",))
    assert {offer.region for offer in await world.prime.offers(request)} == {"US-TX-1", "CA-MTL-1"}
    assert {offer.region for offer in await world.prime.offers(replace(request, network_volume=disk))} == {"US-TX-1"}
    with pytest.raises(NotFound, match=disk):
        await world.prime.offers(replace(request, network_volume="nothing"))


async def test_a_wrong_address_ends_nothing_and_says_so(world: PrimeWorld) -> None:
    """A 404 of a gateway is no absence; one without words is, once the list answers without the pod."""
    pod = await world.prime.create(world.spec(), await cheapest(world))
    world.simulator.faults.add(rows.refused(rows.DELETE, "Not Found", status=404))
    with pytest.raises(ProtocolViolation):
        await world.prime.terminate(pod.id)
    world.simulator.faults.add(rows.refused("*", "Not Found", status=404, times=2))
    with pytest.raises(ProtocolViolation):
        await world.prime.get(PodId("neverwas"))
    world.simulator.faults.add(rows.refused("pods.get", "Not Found", status=404))
    assert await world.prime.get(PodId("neverwas")) is None
    assert world.rented() == 1


async def test_what_does_not_fit_is_refused_before_it_is_sent(world: PrimeWorld) -> None:
    """A command, an unknown option, an offer that passes no environment on."""
    offer = await cheapest(world)
    with pytest.raises(InvalidRequest, match="over SSH"):
        await world.prime.create(replace(world.spec(), command="true"), offer)
    with pytest.raises(InvalidRequest, match="customTemplateId"):
        await world.prime.create(replace(world.spec(), options={"customTemplate": "x"}), offer)
    offers = await world.prime.offers(replace(world.request, models=("NVIDIA GeForce RTX 4090",)))
    [passes_none] = [offer for offer in offers if offer.id.startswith("runpod:")]
    options = {"customTemplateId": TEMPLATE}
    with pytest.raises(OfferUnfit, match="no environment"):
        await world.prime.create(replace(world.spec(), env={"A": "B"}, options=options), passes_none)
    assert world.simulator.faults.count(rows.CREATE) == 0


async def test_every_pod_lets_the_one_key_of_the_account_in(world: PrimeWorld) -> None:
    """It is added once, under a name that says whose it is, and reused; the user's own choice goes before it."""
    offer = await cheapest(world)
    world.simulator.account.add_ssh_key("mine", "ssh-rsa BBBB me")
    for run in "12":
        await world.prime.create(replace(world.spec(run), login_key=KEY), offer)
    own = await world.prime.login_key("ssh-rsa CCCC me", name="chosen")
    await world.prime.create(replace(world.spec("3"), login_key=KEY, options={"sshKeyId": own}), offer)
    assert [pod.keys for pod in world.simulator.live()] == [(KEY,), (KEY,), ("ssh-rsa CCCC me",)]
    assert [key.name for key in await world.prime.api.ssh_keys()] == ["mine", "runner-provisioner", "chosen"]


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        pytest.param("ssh_keys.list", FaultKind.ERROR, id="not-listed"),
        pytest.param("ssh_keys.create", FaultKind.ERROR, id="not-added"),
        pytest.param("ssh_keys.create", FaultKind.DROP_AFTER, id="answer-lost"),
        pytest.param("ssh_keys.list", FaultKind.MALFORMED, id="nonsense"),
    ],
)
async def test_a_key_that_cannot_be_let_in_rents_nothing(world: PrimeWorld, operation: str, kind: FaultKind) -> None:
    """The next offer is tried, and no key is added twice."""
    offer = await cheapest(world)
    spec = replace(world.spec(), login_key=KEY)
    world.simulator.faults.add(Fault(operation=operation, kind=kind, status=500, times=None))
    with pytest.raises(OfferUnfit, match="takes no key"):
        await world.prime.create(spec, offer)
    assert world.rented() == 0
    world.simulator.faults.clear()
    await world.prime.create(spec, offer)
    assert world.rented() == 1
    assert len(await world.prime.ssh_keys()) == 1
