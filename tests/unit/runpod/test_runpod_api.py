"""The verbs on the wire: what is sent, what is read, and what an answer means."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from runner_provisioner import logging
from runner_provisioner._http import Plumbing
from runner_provisioner.errors import (
    ApiRetired,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InvalidRequest,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RunnerProvisionerError,
    ServerError,
    Unreachable,
)
from runner_provisioner.providers.runpod import RunPodApi
from runner_provisioner.providers.runpod.api import graphql_url, rest_url
from runner_provisioner.providers.runpod.inputs import (
    BidResumeInput,
    DeployInput,
    OnDemandInput,
    PriceInput,
    RentInput,
    ResumeInput,
    StopInput,
    build,
)
from runner_provisioner.testing.clock import FakeClock

if TYPE_CHECKING:
    from unit.runpod.conftest import Script

Build = Callable[..., dict[str, Any]]
KEY = "rpa_PLANTEDKEY0000"
LIMITED = "Rate limit exceeded"


async def test_every_request_is_named_keyed_and_holds_its_values_as_variables(
    api: RunPodApi, script: Script, pod_answer: Build
) -> None:
    """No value is ever spliced into the document."""
    script.data(pod=pod_answer())
    assert (await api.pod('p"1')) is not None
    [request], [body] = script.requests, script.bodies
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert body["operationName"] == "pod"
    assert body["query"].startswith("query pod(")
    assert body["variables"] == {"podId": 'p"1'}
    assert 'p"1' not in body["query"]
    assert "dockerArgs" not in body["query"]


async def test_the_account_is_read(api: RunPodApi, script: Script) -> None:
    """The check of the credential, the balance and the keys."""
    script.data(myself={"id": "u", "clientBalance": 12.34, "pubKey": "ssh-ed25519 A\n"})
    assert (await api.myself()).id == "u"
    assert await api.client_balance() == Decimal("12.34")
    assert await api.pub_key() == "ssh-ed25519 A\n"


async def test_an_account_without_balance_is_a_violation(api: RunPodApi, script: Script) -> None:
    """Not known is not zero."""
    script.data(myself={"id": "u", "clientBalance": None, "pubKey": None})
    with pytest.raises(ProtocolViolation, match="balance"):
        await api.client_balance()
    assert not await api.pub_key()


async def test_no_such_pod_is_none_in_both_forms(api: RunPodApi, script: Script) -> None:
    """The real service answers null, the specification an error."""
    script.data(pod=None)
    script.error("Pod not found", "NOT_FOUND")
    assert await api.pod("p") is None
    assert await api.pod("p") is None


async def test_all_pods_are_listed(api: RunPodApi, script: Script, pod_answer: Build) -> None:
    """`myself.pods`."""
    script.data(myself={"pods": [pod_answer(), pod_answer(id="pod2")]})
    assert [pod.id for pod in await api.my_pods()] == ["pod1", "pod2"]


@pytest.mark.parametrize("myself", [None, {}, {"pods": None}, {"pods": {}}], ids=["null", "empty", "pods-null", "map"])
async def test_a_list_that_is_none_is_no_empty_account(api: RunPodApi, script: Script, myself: object) -> None:
    """Clean-up must never believe that nothing is there."""
    script.data(myself=myself)
    with pytest.raises(ProtocolViolation):
        await api.my_pods()


async def test_several_pods_are_read_in_one_request(api: RunPodApi, script: Script, pod_answer: Build) -> None:
    """One alias and one variable each."""
    script.data(p0=pod_answer(), p1=None)
    found = await api.pods(["pod1", "pod2"])
    assert found["pod1"]
    assert found["pod2"] is None
    assert script.bodies[0]["variables"] == {"p0": "pod1", "p1": "pod2"}
    assert len(script.requests) == 1


async def test_many_pods_are_read_in_batches(api: RunPodApi, script: Script) -> None:
    """A long list is split; none of them is lost."""
    script.data(**{f"p{number}": None for number in range(50)})
    assert len(await api.pods([f"pod{number}" for number in range(60)])) == 60
    assert len(script.requests) == 2
    assert await api.pods([]) == {}


async def test_an_unknown_pod_in_a_batch_spoils_nothing(api: RunPodApi, script: Script, pod_answer: Build) -> None:
    """An error that only says "not found" leaves the others readable."""
    complaint = {"message": "Pod not found", "path": ["p1"], "extensions": {"code": "NOT_FOUND"}}
    answer = {"data": {"p0": pod_answer(), "p1": None}, "errors": [complaint]}
    script.steps.append(httpx.Response(200, json=answer))
    found = await api.pods(["pod1", "pod2"])
    assert found["pod1"]
    assert found["pod2"] is None


async def test_another_error_in_a_batch_is_raised(api: RunPodApi, script: Script) -> None:
    """What could not be looked at is not gone."""
    complaint = {"message": "Something went wrong", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}
    script.steps.append(httpx.Response(200, json={"data": {"p0": None}, "errors": [complaint]}))
    with pytest.raises(ServerError):
        await api.pods(["pod1"])


async def test_a_batch_without_data_is_an_error(api: RunPodApi, script: Script) -> None:
    """Without data, "not found" says nothing about the single pods."""
    script.error("Pod not found", "NOT_FOUND")
    with pytest.raises(NotFound):
        await api.pods(["pod1"])


async def test_a_batch_that_is_no_json_is_a_violation(api: RunPodApi, script: Script) -> None:
    """HTML with status 200 has been seen from proxies."""
    script.text(200, "<html>")
    with pytest.raises(ProtocolViolation):
        await api.pods(["pod1"])


@pytest.mark.parametrize(
    "body", ["[]", "null", '{"data": null}', '{"data": {}}'], ids=["list", "null", "none", "empty"]
)
async def test_an_answer_without_what_was_asked_is_a_violation(api: RunPodApi, script: Script, body: str) -> None:
    """Absence of an answer is no answer of absence."""
    script.text(200, body)
    with pytest.raises(ProtocolViolation):
        await api.pod("p")


async def test_gpu_types_and_prices_are_read(api: RunPodApi, script: Script) -> None:
    """Prices are asked for with the count, as the API demands."""
    gpu = {"id": "G", "displayName": "g", "memoryInGb": 24, "lowestPrice": {"minimumBidPrice": 0.2}}
    script.data(gpuTypes=[gpu], g0=[gpu], g1=[])
    assert [found.id for found in await api.gpu_types()] == ["G"]
    [priced] = await api.gpu_prices(PriceInput(gpu_count=2, secure_cloud=True))
    assert priced.lowest_price
    assert priced.lowest_price.minimum_bid_price == Decimal("0.2")
    assert script.bodies[-1]["variables"] == {"price": {"gpuCount": 2, "secureCloud": True}}
    assert [found.id for found in await api.gpu_prices_of(["G", "H"], PriceInput(gpu_count=1))] == ["G"]
    assert script.bodies[-1]["variables"] == {"price": {"gpuCount": 1}, "g0": "G", "g1": "H"}
    assert await api.gpu_prices_of([], PriceInput()) == ()


async def test_renting_sends_the_input_as_it_is_named_on_the_wire(
    api: RunPodApi, script: Script, pod_answer: Build
) -> None:
    """The bid is a number per GPU."""
    script.data(podRentInterruptable=pod_answer())
    rent = build(
        RentInput, {"name": "n", "bidPerGpu": Decimal("0.25"), "env": {"A": 1}, "ports": ["22/tcp", "80/http"]}
    )
    assert (await api.pod_rent_interruptable(rent)).id == "pod1"
    assert script.sent == {
        "name": "n",
        "bidPerGpu": 0.25,
        "env": [{"key": "A", "value": "1"}],
        "ports": "22/tcp,80/http",
    }


async def test_an_answer_that_names_the_pod_beside_a_complaint_is_a_pod(
    api: RunPodApi, script: Script, pod_answer: Build
) -> None:
    """The machine is rented; losing it over one unreadable field would leak it."""
    answer = {"data": {"podFindAndDeployOnDemand": pod_answer()}, "errors": [{"message": "machine is null"}]}
    script.steps.append(httpx.Response(200, json=answer))
    assert (await api.pod_find_and_deploy_on_demand(OnDemandInput(name="n"))).id == "pod1"


REQUEST = httpx.Request("POST", "http://127.0.0.1:9/graphql")
UNKNOWN: list[tuple[str, Callable[[Script], None]]] = [
    ("timeout", lambda script: script.fail(httpx.ReadTimeout("slow", request=REQUEST))),
    ("cut", lambda script: script.fail(httpx.ReadError("cut", request=REQUEST))),
    ("500", lambda script: script.text(500, "oops")),
    ("502-html", lambda script: script.text(502, "<html>")),
    ("internal", lambda script: script.error("Something went wrong", "INTERNAL_SERVER_ERROR")),
    ("html-200", lambda script: script.text(200, "<html>")),
    ("data-null", lambda script: script.text(200, '{"data": null}')),
    ("pod-null", lambda script: script.data(podFindAndDeployOnDemand=None)),
    ("pod-without-id", lambda script: script.data(podFindAndDeployOnDemand={"name": "n"})),
    ("unknown-refusal", lambda script: script.error("a sentence never seen")),
]


@pytest.mark.parametrize("arrange", [case[1] for case in UNKNOWN], ids=[case[0] for case in UNKNOWN])
async def test_a_create_whose_outcome_is_not_known_says_so_and_is_sent_once(
    api: RunPodApi, script: Script, arrange: Callable[[Script], None]
) -> None:
    """A create that is sent again is a second bill."""
    arrange(script)
    with pytest.raises(CreateOutcomeUnknown, match=r"'n'.*by name") as caught:
        await api.pod_find_and_deploy_on_demand(OnDemandInput(name="n"))
    assert len(script.requests) == 1
    assert caught.value.operation == "podFindAndDeployOnDemand"


async def test_a_create_that_never_arrived_is_sent_again(api: RunPodApi, script: Script, pod_answer: Build) -> None:
    """A refused connection and a 429 rented nothing."""
    script.fail(httpx.ConnectError("refused", request=REQUEST))
    script.error(LIMITED, "RATE_LIMITED", status=429)
    script.data(podFindAndDeployOnDemand=pod_answer())
    assert (await api.pod_find_and_deploy_on_demand(OnDemandInput(name="n"))).id == "pod1"
    assert len(script.requests) == 3


@pytest.mark.parametrize(
    ("arrange", "error"),
    [
        (lambda script: script.fail(httpx.ConnectError("refused", request=REQUEST)), Unreachable),
        (lambda script: script.error(LIMITED, "RATE_LIMITED"), RateLimited),
        (lambda script: script.error("There are no instances currently available."), CapacityUnavailable),
        (lambda script: script.error("Invalid input", "BAD_USER_INPUT", status=400), InvalidRequest),
    ],
    ids=["unreachable", "rate-limited", "no-stock", "invalid"],
)
async def test_a_create_that_surely_rented_nothing_is_no_unknown(
    api: RunPodApi, script: Script, arrange: Callable[[Script], None], error: type[RunnerProvisionerError]
) -> None:
    """The next offer may be tried at once."""
    arrange(script)
    with pytest.raises(error):
        await api.pod_find_and_deploy_on_demand(OnDemandInput(name="n"))


async def test_the_told_reset_is_waited_for(api: RunPodApi, script: Script, clock: FakeClock) -> None:
    """The specification's resetAt is honoured by the retries."""
    script.error(LIMITED, "RATE_LIMITED", resetAt="2026-11-01T12:00:30Z")
    script.data(pod=None)
    await api.pod("p")
    assert clock.monotonic() == pytest.approx(30, abs=1)


async def test_a_read_is_tried_again_on_an_internal_error(api: RunPodApi, script: Script) -> None:
    """An internal error in a 200 is as transient as a 500."""
    script.error("Something went wrong", "INTERNAL_SERVER_ERROR")
    script.text(503, "")
    script.data(pod=None)
    assert await api.pod("p") is None
    assert len(script.requests) == 3


async def test_stop_and_both_resumes(api: RunPodApi, script: Script, pod_answer: Build) -> None:
    """Each verb has its input."""
    script.data(podStop=pod_answer(), podResume=pod_answer(), podBidResume=pod_answer())
    await api.pod_stop(StopInput(pod_id="p"))
    assert script.sent == {"podId": "p"}
    await api.pod_resume(ResumeInput(pod_id="p", gpu_count=1))
    assert script.sent == {"podId": "p", "gpuCount": 1}
    await api.pod_bid_resume(BidResumeInput(pod_id="p", bid_per_gpu=0.2, gpu_count=1))
    assert script.sent == {"podId": "p", "gpuCount": 1, "bidPerGpu": 0.2}


async def test_terminate_takes_null_for_done(api: RunPodApi, script: Script) -> None:
    """The mutation is void."""
    script.data(podTerminate=None)
    await api.pod_terminate("p")
    assert script.bodies[0]["operationName"] == "podTerminate"


async def test_terminate_says_when_there_is_no_such_pod(api: RunPodApi, script: Script) -> None:
    """The caller decides that this is success."""
    script.error("pod not found to terminate")
    with pytest.raises(NotFound):
        await api.pod_terminate("p")


async def test_a_bare_404_never_passes_for_a_pod_that_is_gone(api: RunPodApi, script: Script) -> None:
    """A wrong address must not look like a successful end (measured with the official SDK)."""
    script.text(404, "<html>not here</html>")
    with pytest.raises(ProtocolViolation, match="RUNPOD_API_URL"):
        await api.pod_terminate("p")


async def test_rest_ends_a_pod(api: RunPodApi, script: Script) -> None:
    """DELETE on REST v2, beside the GraphQL address."""
    script.text(204, "")
    await api.rest.delete_pod("a/b")
    [request] = script.requests
    assert (request.method, request.url.raw_path) == ("DELETE", b"/v2/pods/a%2Fb")
    assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, '{"title": "Not Found", "status": 404}', NotFound),
        (404, '{"title": "Not Found", "detail": "pod not found"}', NotFound),
        (404, "<html>", ProtocolViolation),
        (404, '{"message": "Not Found"}', ProtocolViolation),
        (404, '{"title": "Not Found", "detail": "no route for DELETE /v2/pods/p"}', ProtocolViolation),
        (409, '{"detail": "not now"}', InvalidRequest),
        (410, "", ApiRetired),
    ],
    ids=["title", "detail", "html", "gateway", "no-route", "conflict", "gone"],
)
async def test_rest_refusals_are_typed(
    api: RunPodApi, script: Script, status: int, body: str, error: type[RunnerProvisionerError]
) -> None:
    """Only a 404 that speaks REST v2 means that the pod is gone."""
    script.text(status, body)
    with pytest.raises(error):
        await api.rest.delete_pod("p")


@pytest.mark.parametrize(
    ("given", "graphql", "rest"),
    [
        ("https://api.runpod.io/graphql", "https://api.runpod.io/graphql", "https://api.runpod.io/v2"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80/graphql", "http://127.0.0.1:80/v2"),
        (" http://127.0.0.1:80/a/graphql/ ", "http://127.0.0.1:80/a/graphql", "http://127.0.0.1:80/a/v2"),
    ],
    ids=["default", "bare-host", "folder"],
)
def test_addresses_are_told_from_one_another(given: str, graphql: str, rest: str) -> None:
    """REST v2 lies beside GraphQL."""
    assert graphql_url(given) == graphql
    assert rest_url(given) == rest


async def test_neither_key_nor_contents_reach_a_log_or_a_repr(
    api: RunPodApi, script: Script, plumbing: Plumbing, pod_answer: Build
) -> None:
    """Of the environment only names are logged, of the start command only its length."""
    stream = io.StringIO()
    logging.configure(mode="json", level="debug", redactor=plumbing.redactor, stream=stream)
    script.data(podFindAndDeployOnDemand=pod_answer())
    pod = build(OnDemandInput, {"name": "n", "dockerArgs": "planted-args", "env": {"TOKEN_X": "planted-value"}})
    await api.pod_find_and_deploy_on_demand(pod)
    await api.aclose()
    shown = stream.getvalue() + repr(api) + repr(pod) + str(pod) + repr(pod.env)
    logging.configure(mode="json", level="critical", redactor=plumbing.redactor, stream=io.StringIO())
    assert '"podFindAndDeployOnDemand"' in shown
    assert "TOKEN_X" in shown
    for secret in (KEY, "planted-args", "planted-value"):
        assert secret not in shown


WIRE_NAMES = [
    "bidPerGpu",
    "cloudType",
    "name",
    "imageName",
    "gpuTypeId",
    "gpuCount",
    "containerDiskInGb",
    "volumeInGb",
    "volumeMountPath",
    "volumeKey",
    "networkVolumeId",
    "dockerArgs",
    "env",
    "ports",
    "port",
    "templateId",
    "containerRegistryAuthId",
    "startSsh",
    "startJupyter",
    "supportPublicIp",
    "dataCenterId",
    "countryCode",
    "minVcpuCount",
    "minMemoryInGb",
    "minDisk",
    "minDownload",
    "minUpload",
    "cudaVersion",
    "allowedCudaVersions",
    "minCudaVersion",
    "stopAfter",
    "terminateAfter",
]
ON_DEMAND_NAMES = [
    "deployCost",
    "gpuTypeIdList",
    "aiApiId",
    "instanceIds",
    "computeType",
    "savingsPlan",
    "globalNetwork",
    "compliance",
]


@pytest.mark.parametrize(
    ("model", "names"),
    [(RentInput, WIRE_NAMES), (OnDemandInput, [*WIRE_NAMES[1:], *ON_DEMAND_NAMES])],
    ids=["interruptible", "on-demand"],
)
def test_every_documented_field_is_reachable(model: type[DeployInput], names: list[str]) -> None:
    """The models hold exactly the reference's fields."""
    assert {field.alias for field in model.model_fields.values()} == set(names)


def test_a_field_is_taken_under_all_its_names() -> None:
    """The specification's startSSH is sent as startSsh."""
    for name in ("startSSH", "start_ssh", "startSsh"):
        assert build(RentInput, {name: True}).to_wire() == {"startSsh": True}


def test_values_are_written_as_the_wire_wants_them() -> None:
    """Moments without fractions, enumerations in upper case, nested objects by their names."""
    pod = build(
        OnDemandInput,
        {
            "terminateAfter": datetime(2026, 12, 1, tzinfo=UTC),
            "stopAfter": "2026-11-30T00:00:00Z",
            "cloudType": "secure",
            "savingsPlan": {"plan_length": "1w", "upfrontCost": 1},
            "compliance": ["GDPR"],
            "env": [{"key": "A", "value": "B"}],
            "ports": "22/tcp",
        },
    )
    assert pod.to_wire() == {
        "terminateAfter": "2026-12-01T00:00:00Z",
        "stopAfter": "2026-11-30T00:00:00Z",
        "cloudType": "SECURE",
        "savingsPlan": {"planLength": "1w", "upfrontCost": 1.0},
        "compliance": ["GDPR"],
        "env": [{"key": "A", "value": "B"}],
        "ports": "22/tcp",
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gpuTypId": "x"}, "'gpuTypId': did you mean 'gpuTypeId'"),
        ({"zzz": 1}, "'zzz': see the list"),
        ({"name": "a", "startSsh": True, "start_ssh": True}, "given twice"),
        ({"gpuCount": "many"}, "'gpuCount' does not fit"),
        ({"cloudType": "MOON"}, "'cloudType' does not fit"),
        ({"cloudType": 7}, "'cloudType' does not fit"),
        ({"env": "A=planted"}, "'env' does not fit"),
        (
            {"env": {f"V{number}": "" for number in range(51)}},
            "50 environment variables, this program",
        ),
        ({"deployCost": 1}, "'deployCost'"),
    ],
    ids=["misspelt", "strange", "twice", "number", "enum", "enum-type", "env", "too-many", "on-demand-only"],
)
def test_a_field_that_does_not_fit_is_refused_by_name(fields: dict[str, object], said: str) -> None:
    """The message names the field, and none of the values."""
    with pytest.raises(InvalidRequest) as caught:
        build(RentInput, fields)
    assert said in str(caught.value)
    assert "planted" not in str(caught.value)


def test_a_plain_address_elsewhere_is_refused(plumbing: Plumbing) -> None:
    """The key travels over TLS or not at all."""
    with pytest.raises(InvalidRequest):
        RunPodApi.connect(url="http://api.runpod.io/graphql", api_key=KEY, plumbing=plumbing)
