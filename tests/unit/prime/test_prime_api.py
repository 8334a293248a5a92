"""Prime Intellect's verbs on the wire: addresses, headers, pages, redirects, broken connections."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import respx

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import PodId, PodSpec, PodState
from runner_provisioner.errors import (
    CreateOutcomeUnknown,
    InvalidRequest,
    ProtocolViolation,
    RateLimited,
    ServerError,
    Timeout,
    Unreachable,
)
from runner_provisioner.logging import Redactor
from runner_provisioner.providers.prime import DEFAULT_URL, PrimeApi, PrimeProvider
from runner_provisioner.providers.prime.api import OfferFilter, api_url
from runner_provisioner.testing.clock import FakeClock

if TYPE_CHECKING:
    from unit.prime.conftest import Script

BASE = "https://prime.test/api/v1"
ROW = {
    "cloudId": "c1", "gpuType": "RTX4090_24GB", "socket": "PCIe", "provider": "hyperstack", "gpuCount": 1,
    "prices": {"onDemand": 0.5}, "images": ["ubuntu_22_cuda_12"], "stockStatus": "High", "security": "secure_cloud",
    "dataCenter": "US-1",
}  # fmt: skip
SPEC = PodSpec(name="rp-0123abcd-1-1-default", image="", options={"jupyterPassword": "open-sesame"})
OFFER = Offer(
    provider="prime", id="hyperstack:c1:RTX4090_24GB:1:on-demand:US-1:PCIe:secure_cloud", gpu_model="RTX4090_24GB",
    gpu_count=1, price=Decimal("0.5"), interruptible=False,
)  # fmt: skip
POD = {"id": "p1", "name": SPEC.name, "status": "PROVISIONING", "priceHr": 0.5}


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://api.primeintellect.ai", "https://api.primeintellect.ai/api/v1"),
        ("https://api.primeintellect.ai/", "https://api.primeintellect.ai/api/v1"),
        (" https://h/api/v1/ ", "https://h/api/v1"),
        ("https://h/api", "https://h/api/v1"),
        ("http://127.0.0.1:8/prefix", "http://127.0.0.1:8/prefix/api/v1"),
    ],
)
def test_the_prefix_is_added_where_it_is_missing(given: str, used: str) -> None:
    """As the prime CLI does with PRIME_API_BASE_URL."""
    assert api_url(given) == used


@pytest.mark.parametrize("url", ["http://api.primeintellect.ai", "ftp://h", "", "https://u:p@h", "https://h/?a=b"])
def test_an_address_that_would_show_the_key_is_refused(url: str) -> None:
    """Plain http is for loopback alone."""
    plumbing = Plumbing(clock=FakeClock(), redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="t")
    with pytest.raises(InvalidRequest):
        PrimeApi.connect(url=url, api_key="k", plumbing=plumbing)
    assert api_url(DEFAULT_URL).startswith("https://")


async def test_requests_are_those_of_the_prime_cli(api: PrimeApi, script: Script) -> None:
    """No slash at the end, repeated parameters, the key in the header alone."""
    script.say({"data": [], "items": [], "total_count": 0, "id": "p1", "balance_usd": 1})
    await api.pods()
    await api.pod("a/b?c")
    await api.statuses(["p1", "p 2"])
    await api.history(sort_by="createdAt", sort_order="asc")
    await api.delete_pod("p1")
    await api.ssh_keys()
    await api.add_ssh_key("me", " ssh-ed25519 A \n")
    await api.make_primary("k1")
    await api.delete_ssh_key("k1")
    await api.disks()
    assert await api.balance() == 1
    wanted = OfferFilter(
        regions=("canada", "eu_west"), gpu_count=2, gpu_type="H100_80GB", socket="SXM5", security="secure_cloud",
        data_center_id="D", cloud_id="C", disks=("d1", "d2"),
    )  # fmt: skip
    assert await api.offers(wanted) == ()
    filters = (
        "regions=canada&regions=eu_west&gpu_count=2&gpu_type=H100_80GB&socket=SXM5&security=secure_cloud"
        "&data_center_id=D&cloud_id=C&disks=d1&disks=d2&page=1&page_size=100"
    )
    assert script.asked == [
        f"GET {BASE}/pods?offset=0&limit=100",
        f"GET {BASE}/pods/a%2Fb%3Fc",
        f"GET {BASE}/pods/status?pod_ids=p1&pod_ids=p+2",
        f"GET {BASE}/pods/history?offset=0&limit=100&sort_by=createdAt&sort_order=asc",
        f"DELETE {BASE}/pods/p1",
        f"GET {BASE}/ssh_keys?offset=0&limit=100",
        f"POST {BASE}/ssh_keys",
        f"PATCH {BASE}/ssh_keys/k1/primary",
        f"DELETE {BASE}/ssh_keys/k1",
        f"GET {BASE}/disks?offset=0&limit=100",
        f"GET {BASE}/billing/wallet",
        f"GET {BASE}/availability/gpus?{filters}",
        f"GET {BASE}/availability/gpus?{filters}",
    ]
    assert script.bodies == [{"name": "me", "publicKey": "ssh-ed25519 A"}, {"isPrimary": True}]
    assert {request.headers["authorization"] for request in script.requests} == {"Bearer pit_PLANTEDKEY0000"}
    assert {request.headers["x-prime-team-id"] for request in script.requests} == {"team1"}
    assert "PLANTED" not in repr(api)


async def test_the_log_of_a_create_has_no_secret(prime: PrimeProvider, script: Script, log: io.StringIO) -> None:
    """Names of variables are shown, values and the password are not, nor the key."""
    script.say({"items": [{**ROW, "images": ["custom_template"]}], "totalCount": 1})
    script.say({**POD, "jupyterPassword": "open-sesame"})
    options = {"customTemplateId": "tpl1", "jupyterPassword": "open-sesame"}
    await prime.create(replace(SPEC, env={"A_NAME": "a-planted-value"}, options=options), OFFER)
    shown = log.getvalue()
    assert {"A_NAME", "tpl1", "createPod", "pod_rented"} <= {
        word for word in ("A_NAME", "tpl1", "createPod", "pod_rented") if word in shown
    }
    assert not [word for word in ("a-planted-value", "open-sesame", "PLANTEDKEY") if word in shown]


async def test_a_create_is_sent_once_with_its_ceiling(prime: PrimeProvider, script: Script, redactor: Redactor) -> None:
    """The password is known to the redactor before it is sent."""
    script.say({"items": [ROW], "totalCount": 1})
    script.say(POD)
    pod = await prime.create(SPEC, OFFER)
    assert (pod.id, pod.price) == ("p1", Decimal("0.5"))
    assert script.asked[0].endswith("gpu_count=1&gpu_type=RTX4090_24GB&page=1&page_size=100")
    [body] = script.bodies
    assert (body["pod"]["maxPrice"], body["team"]) == (0.5, {"teamId": "team1"})
    assert redactor.redact("open-sesame") != "open-sesame"


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(httpx.ReadError("cut"), id="connection cut"),
        pytest.param(httpx.ReadTimeout("slow"), id="no answer"),
        pytest.param(httpx.RemoteProtocolError("half"), id="half an answer"),
        pytest.param(httpx.Response(500, json={"detail": "Internal server error"}), id="500"),
        pytest.param(httpx.Response(502, text="<html>bad gateway"), id="502"),
        pytest.param(httpx.Response(200, text="<html>hello"), id="a page"),
        pytest.param(httpx.Response(200, json={"name": "x"}), id="a pod without an id"),
        pytest.param(httpx.Response(200, json=[]), id="a list"),
        pytest.param(httpx.Response(404, text="<html>nothing here"), id="a gateway's 404"),
        pytest.param(httpx.Response(307, headers={"location": f"{BASE}/pods/"}), id="redirect"),
        pytest.param(httpx.Response(418, json={"detail": "teapot"}), id="a status not known here"),
    ],
)
async def test_an_outcome_that_nobody_knows_is_told_as_such(
    prime: PrimeProvider, script: Script, step: httpx.Response | Exception
) -> None:
    """And never sent again."""
    script.say({"items": [ROW], "totalCount": 1})
    script.steps.append(step)
    with pytest.raises(CreateOutcomeUnknown, match=SPEC.name) as caught:
        await prime.create(SPEC, OFFER)
    assert "look it up by name" in str(caught.value)
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(httpx.ConnectError("refused"), id="refused"),
        pytest.param(httpx.ConnectTimeout("no connection"), id="no connection"),
        pytest.param(httpx.Response(429, json={"detail": "slow down"}), id="too many"),
    ],
)
async def test_a_create_that_never_arrived_is_sent_again(
    prime: PrimeProvider, script: Script, step: httpx.Response | Exception
) -> None:
    """Nothing was rented by it; for ever is an error that says so."""
    script.say({"items": [ROW], "totalCount": 1})
    script.steps.append(step)
    script.say(POD)
    assert (await prime.create(SPEC, OFFER)).id == "p1"
    assert len(script.requests) == 3
    script.steps = []
    script.say({"items": [ROW], "totalCount": 1})
    script.steps.append(step)
    with pytest.raises((Unreachable, RateLimited)):
        await prime.create(SPEC, OFFER)
    assert len(script.requests) == 9


@pytest.mark.parametrize(
    "target",
    [
        "http://prime.test/api/v1/pods/p1",
        "https://evil.test/api/v1/pods/p1",
        "//evil.test/x",
        "https://prime.test:444/x",
    ],
)
async def test_no_redirect_leaves_the_host_or_the_scheme(api: PrimeApi, script: Script, target: str) -> None:
    """The key would go along."""
    script.steps.append(httpx.Response(307, headers={"location": target}))
    script.say({"id": "p1"})
    with pytest.raises(ProtocolViolation, match="not followed"):
        await api.pod("p1")
    assert len(script.requests) == 1
    script.steps = [httpx.Response(308, headers={"location": target})]
    with pytest.raises(ProtocolViolation):
        await api.delete_pod("p1")
    assert {request.url.host for request in script.requests} == {"prime.test"}


@respx.mock(assert_all_called=False)
async def test_a_redirect_to_another_slash_is_followed_at_home(respx_mock: respx.MockRouter) -> None:
    """As the service redirects `/pods` to `/pods/`; the other host gets no request."""
    respx_mock.get(f"{BASE}/pods/p1").respond(307, headers={"location": f"{BASE}/pods/p1/"})
    respx_mock.get(f"{BASE}/pods/p1/").respond(json=POD)
    respx_mock.get(f"{BASE}/pods/p2").respond(307, headers={"location": "https://evil.test/p2"})
    evil = respx_mock.get("https://evil.test/p2").respond(json=POD)
    plumbing = Plumbing(clock=FakeClock(), redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="t")
    api = PrimeApi.connect(url="https://prime.test", api_key="pit_x", plumbing=plumbing)
    assert (await api.pod("p1")).id == "p1"
    with pytest.raises(ProtocolViolation):
        await api.pod("p2")
    assert not evil.called
    await api.aclose()


async def test_a_list_that_changes_while_it_is_read_is_read_again(api: PrimeApi, script: Script) -> None:
    """A row that moved to the page before would be missed, and its pod would live on."""

    def page(first: int, last: int, total: int) -> dict[str, Any]:
        return {"data": [{"id": f"p{n}"} for n in range(first, last)], "total_count": total}

    script.say(page(0, 100, 150))
    script.say(page(101, 150, 149))
    script.say(page(1, 101, 149))
    script.say(page(101, 150, 149))
    assert [pod.id for pod in await api.pods()] == [f"p{n}" for n in range(1, 150)]
    script.steps = []
    for total in (150, 149) * 3:
        script.say(page(0, 100, total))
    with pytest.raises(ProtocolViolation, match="changes"):
        await api.pods()


async def test_a_list_without_a_total_ends_with_a_short_page(api: PrimeApi, script: Script) -> None:
    """And one that never ends is refused."""
    script.say({"data": [{"id": f"p{n}"} for n in range(100)]})
    script.say({"data": [{"id": "last"}]})
    assert len(await api.pods()) == 101
    script.steps = []
    script.say({"data": [{"id": f"p{n}"} for n in range(100)]})
    with pytest.raises(ProtocolViolation, match="pages"):
        await api.pods()


async def test_the_history_has_only_pods_that_have_ended(api: PrimeApi, script: Script) -> None:
    """As many as were asked for, over pages."""
    ended = [{"id": f"e{n}", "terminatedAt": "2026-11-01T00:00:00Z"} for n in range(60)]
    live = [{"id": f"l{n}"} for n in range(40)]
    script.say({"data": [*live, *ended]})
    script.say({"data": ended})
    assert len(await api.history(limit=70)) == 70
    script.requests.clear()
    assert await api.history(limit=0) == ()


async def test_pages_that_never_end_are_left(api: PrimeApi, script: Script) -> None:
    """After ten thousand rows."""
    script.say({"items": [ROW] * 100, "data": [{"id": "live"}] * 100})
    assert len(await api.offers(OfferFilter())) == 10_000
    assert await api.history() == ()
    assert len(script.requests) == 200


async def test_failing_reads_are_tried_again(api: PrimeApi, script: Script) -> None:
    """Ends too; after some attempts the error is told."""
    script.say({"detail": "x"}, 503)
    script.fail(httpx.ReadTimeout("slow"))
    script.say({"id": "p1"})
    assert (await api.pod("p1")).id == "p1"
    script.steps = []
    script.say({"detail": "x"}, 503)
    with pytest.raises(ServerError):
        await api.delete_pod("p1")
    script.steps = [httpx.ReadTimeout("slow")]
    with pytest.raises(Timeout):
        await api.pods()


@pytest.mark.parametrize(
    "body",
    [[], {"data": {}}, {"data": [1]}, {"data": [{"name": "no id"}]}, "text", None],
    ids=["list", "object", "numbers", "no id", "text", "null"],
)
async def test_a_list_of_another_shape_is_never_an_empty_one(
    prime: PrimeProvider, script: Script, body: object
) -> None:
    """Or pods would be forgotten."""
    script.say(body)
    with pytest.raises(ProtocolViolation):
        await prime.list(None)
    with pytest.raises(ProtocolViolation):
        await prime.api.statuses(["p1"])
    with pytest.raises(ProtocolViolation):
        await prime.history()


@pytest.mark.parametrize("body", [{"a": 5}, [], "x"], ids=["number", "list", "text"])
async def test_gpu_types_of_another_shape_are_refused(api: PrimeApi, script: Script, body: object) -> None:
    """Also an error's document with status 200."""
    script.say(body)
    with pytest.raises(ProtocolViolation):
        await api.gpu_types()


async def test_an_ended_pod_answers_with_nothing_or_with_a_document(prime: PrimeProvider, script: Script) -> None:
    """Both are good; then it is looked at until it is gone."""
    for first in (httpx.Response(204), httpx.Response(200, json={"status": "DELETING"}), httpx.Response(200)):
        script.steps = [first]
        script.say({"id": "p1", "status": "ACTIVE"})
        script.say({"detail": "Pod not found"}, 404)
        await prime.terminate(PodId("p1"))


async def test_statuses_are_asked_in_batches(api: PrimeApi, script: Script) -> None:
    """An address must not become too long."""
    script.say({"data": [{"podId": "p0", "status": "ACTIVE", "costPerHr": 3.52}]})
    found = await api.statuses([f"p{n}" for n in range(120)])
    assert found["p0"].cost_per_hr == Decimal("3.52")
    assert [len(request.url.params.get_list("pod_ids")) for request in script.requests] == [50, 50, 20]


async def test_a_pod_without_a_status_is_read_by_itself(prime: PrimeProvider, script: Script) -> None:
    """A pod never read before too; the price of the short form stands under either name."""
    script.say({"data": [{**POD, "isSpot": True}], "total_count": 1})
    [pod] = await prime.list(None)
    script.steps = []
    script.say({"data": [{"podId": "p1", "status": "ACTIVE", "ip": None, "costPerHr": 0.4}]})
    script.say({"detail": "Pod not found"}, 404)
    found = await prime.get_many([pod.id, PodId("p2")])
    told = found[pod.id]
    assert told
    assert (told.name, told.price, told.interruptible) == (SPEC.name, Decimal("0.4"), True)
    assert found[PodId("p2")] is None


@pytest.mark.parametrize(
    "nothing",
    [httpx.Response(200, json={"data": []}), httpx.Response(404, json={"detail": "Pod p1 not found"})],
    ids=["left out", "404 for all"],
)
async def test_a_known_pod_without_a_status_is_read_by_itself(
    prime: PrimeProvider, script: Script, nothing: httpx.Response
) -> None:
    """Only that look tells whether it is gone."""
    script.say(POD)
    pod_id = PodId("p1")
    assert await prime.get(pod_id)
    script.steps = [nothing]
    script.say(POD)
    assert await prime.get_many([pod_id]) == {pod_id: await prime.get(pod_id)}
    script.steps = [nothing]
    script.say({**POD, "status": "TERMINATED"})
    assert await prime.get_many([pod_id]) == {pod_id: None}


async def test_a_status_is_not_mixed_with_an_older_word(prime: PrimeProvider, script: Script) -> None:
    """The short form leaves the installation's word out: what it was earlier says nothing of now."""
    script.say({**POD, "status": "ACTIVE", "installationStatus": "IN_PROGRESS", "installationProgress": 40})
    first = await prime.get(PodId("p1"))
    script.steps = []
    script.say({"data": [{"podId": "p1", "status": "ACTIVE", "sshConnection": "root@1.2.3.4 -p 22"}]})
    found = (await prime.get_many([PodId("p1")]))[PodId("p1")]
    assert first
    assert found
    assert (first.state, found.state) == (PodState.STARTING, PodState.RUNNING)


async def test_an_unreadable_address_is_told_to_who_wants_to_connect(prime: PrimeProvider, script: Script) -> None:
    """Not by the list, which must show the pod."""
    script.say({**POD, "status": "ACTIVE", "sshConnection": "root@1.2.3.4 -o x"})
    with pytest.raises(ProtocolViolation, match="not connecting"):
        await prime.ssh_endpoint(PodId("p1"))
    found = await prime.get(PodId("p1"))
    assert found
    assert found.ssh is None


async def test_names_alone_say_whose_a_pod_is(prime: PrimeProvider, script: Script) -> None:
    """Runner pods and those made by hand; nothing that only looks alike."""
    names = [
        "rp-0123abcd-1-1-x",
        "rpm-0123abcd-zz-abcd",
        "rp-0123abcdef-1-1-x",
        "xrp-0123abcd-1-1-x",
        "rp-0123abcd",
        None,
    ]
    script.say({"data": [{"id": str(n), "name": name} for n, name in enumerate(names)], "total_count": len(names)})
    assert [pod.id for pod in await prime.list("0123abcd")] == ["0", "1"]
    assert len(await prime.list(None)) == len(names)


async def test_ports_beyond_ssh_are_not_asked_for(prime: PrimeProvider, script: Script) -> None:
    """The upstream provider decides."""
    script.say({"items": [ROW], "totalCount": 1})
    script.say(POD)
    await prime.create(replace(SPEC, ports=("22/tcp", "8888/http")), OFFER)
    assert "ports" not in str(script.bodies)
    assert "PrimeProvider(https://prime.test/api/v1)" in repr(prime)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"priceHr": "much"}, id="price"),
        pytest.param({"ip": 5, "sshConnection": {}, "primePortMapping": "none"}, id="address"),
        pytest.param({"gpuCount": [], "socket": 7, "isSpot": "perhaps"}, id="machine"),
    ],
)
async def test_a_pod_that_can_be_read_in_part_is_a_pod(
    prime: PrimeProvider, script: Script, odd: dict[str, object]
) -> None:
    """It bills all the same, and the others must not be hidden by it."""
    rows = [{**POD, **odd}, {**POD, "id": "p2", "status": "ACTIVE"}]
    script.say({"data": rows, "total_count": 2})
    first, second = await prime.list(None)
    assert (first.id, first.name, first.alive, second.id) == ("p1", SPEC.name, True, "p2")
    script.steps = []
    script.say(rows[0])
    found = await prime.get(PodId("p1"))
    assert found is not None
    assert found.alive


@pytest.mark.parametrize("odd", [{"id": None}, {"id": 5}, {"name": []}, {"status": {}}], ids=str)
async def test_a_pod_without_its_id_name_or_state_is_no_answer(
    prime: PrimeProvider, script: Script, odd: dict[str, object]
) -> None:
    """Left out it would be a pod that nobody ends."""
    script.say({"data": [POD, {**POD, **odd}], "total_count": 2})
    with pytest.raises(ProtocolViolation):
        await prime.list(None)


async def test_an_offer_that_cannot_be_read_hides_no_other(api: PrimeApi, script: Script) -> None:
    """It is counted as read, so that no page is missed; an answer without any that can be read is wrong."""
    odd: list[object] = [{**ROW, "prices": "free"}, "text", {**ROW, "cloudId": None}]
    script.say({"items": [*odd, ROW], "totalCount": 5})
    script.say({"items": [{**ROW, "cloudId": "c2"}], "totalCount": 5})
    assert [one.cloud_id for one in await api.offers(OfferFilter(gpu_count=1))] == ["c1", "c2"]
    assert len(script.requests) == 2
    script.steps = []
    script.say({"items": odd, "totalCount": 3})
    with pytest.raises(ProtocolViolation):
        await api.offers(OfferFilter(gpu_count=1))
