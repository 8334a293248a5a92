"""The service's failures in its own shapes, by GraphQL field and REST call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.runpod import RunPodSimulator, rows, texts
from runner_provisioner.testing.clock import EPOCH, FakeClock

Ask = Callable[..., Awaitable[httpx.Response]]
Create = Callable[..., Awaitable[dict[str, Any]]]
Refusal = Callable[[httpx.Response], str]
A4000 = "NVIDIA RTX A4000"
DEPLOY = "mutation D($input: PodFindAndDeployOnDemandInput) { podFindAndDeployOnDemand(input: $input) { id } }"
RENT = "mutation R($input: PodRentInterruptableInput!) { podRentInterruptable(input: $input) { id } }"
INPUT = {"input": {"gpuTypeId": A4000, "imageName": "i"}}
BID = {"input": {"gpuTypeId": A4000, "imageName": "i", "bidPerGpu": 1}}
TERMINATE = "mutation T($id: String!) { podTerminate(input: {podId: $id}) }"


@pytest.mark.parametrize(
    ("fault", "text", "given", "message"),
    [
        pytest.param(rows.no_stock(), DEPLOY, INPUT, texts.NO_STOCK, id="no stock"),
        pytest.param(rows.no_stock(operation=rows.SPOT), RENT, BID, texts.NO_STOCK_SPOT, id="no spot stock"),
        pytest.param(rows.spot_discontinued(), RENT, BID, texts.SPOT_GONE, id="spot discontinued"),
        pytest.param(rows.low_balance(), DEPLOY, INPUT, texts.LOW_BALANCE, id="balance"),
        pytest.param(
            rows.refused(rows.ON_DEMAND, texts.NO_INSTANCES), DEPLOY, INPUT, texts.NO_INSTANCES, id="any text"
        ),
        pytest.param(
            rows.host_full(),
            "mutation R($input: PodResumeInput!) { podResume(input: $input) { id } }",
            {"input": {"podId": "x"}},
            texts.HOST_FULL,
            id="host full",
        ),
    ],
)
async def test_refusals_are_business_errors(
    ask: Ask, refusal: Refusal, sim: RunPodSimulator, fault: Fault, text: str, given: dict[str, Any], message: str
) -> None:
    """Once, then the service works again."""
    sim.faults.add(Fault(operation=fault.operation, kind=fault.kind, status=fault.status, body=fault.body))
    assert refusal(await ask(text, given)) == message
    assert sim.pods() == []


async def test_an_internal_error_has_its_own_code(ask: Ask, sim: RunPodSimulator) -> None:
    """HTTP 200 all the same."""
    sim.faults.add(rows.internal_error(rows.ON_DEMAND))
    answered = await ask(DEPLOY, INPUT)
    assert answered.status_code == 200
    assert answered.json()["errors"][0]["extensions"]["code"] == texts.INTERNAL_CODE


async def test_too_many_requests_tell_how_long_to_wait(ask: Ask, sim: RunPodSimulator) -> None:
    """By header with 429, or by `resetAt` with 200."""
    sim.faults.add(rows.rate_limited(retry_after=3))
    answered = await ask("{ myself { id } }")
    assert (answered.status_code, answered.headers["retry-after"]) == (429, "3")
    sim.faults.add(rows.rate_limited_until("myself", EPOCH + timedelta(seconds=5)))
    extensions = (await ask("{ myself { id } }")).json()["errors"][0]["extensions"]
    assert extensions == {"code": "RATE_LIMITED", "resetAt": "2026-11-01T12:00:05Z"}


async def test_a_proxy_may_answer_in_html(ask: Ask, sim: RunPodSimulator) -> None:
    """502, and nothing is done."""
    sim.faults.add(rows.html_502(rows.ON_DEMAND))
    answered = await ask(DEPLOY, INPUT)
    assert (answered.status_code, answered.headers["content-type"]) == (502, "text/html")
    assert sim.pods() == []


async def test_a_null_answer_hides_what_was_done(ask: Ask, sim: RunPodSimulator) -> None:
    """HTTP 200 `null`, and a pod."""
    sim.faults.add(rows.null_200(rows.ON_DEMAND))
    answered = await ask(DEPLOY, INPUT)
    assert (answered.status_code, answered.text, len(sim.live())) == (200, "null", 1)


async def test_a_lost_answer_leaves_a_pod(ask: Ask, sim: RunPodSimulator) -> None:
    """Rented, and nobody was told."""
    sim.faults.add(rows.lost_answer(rows.ON_DEMAND))
    with pytest.raises(httpx.ReadError):
        await ask(DEPLOY, INPUT)
    assert len(sim.live()) == 1


async def test_an_answer_may_come_late(ask: Ask, sim: RunPodSimulator, clock: FakeClock) -> None:
    """The pod is there from the beginning."""
    sim.faults.add(rows.late_answer(rows.ON_DEMAND, 45))
    assert (await ask(DEPLOY, INPUT)).status_code == 200
    assert clock.monotonic() == 45
    assert sim.live()[0].created_at == EPOCH


async def test_an_ignored_end_is_accepted(ask: Ask, create: Create, sim: RunPodSimulator) -> None:
    """The usual answer; the pod stays, until it is told again."""
    pod_id = (await create())["id"]
    sim.faults.add(rows.terminate_ignored())
    accepted = (await ask(TERMINATE, {"id": pod_id})).json()
    assert accepted == {"data": {"podTerminate": None}}
    assert [pod.id for pod in sim.live()] == [pod_id]
    assert sim.pod(pod_id).happened("terminate ignored")
    await ask(TERMINATE, {"id": pod_id})
    assert sim.live() == []


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        pytest.param("{ myself { pods { id } } }", "myself.pods", id="list"),
        pytest.param("{ me: myself { id } }", "myself", id="account"),
        pytest.param('{ a: pod(input: {podId: "x"}) { id } }', "pod", id="pod by alias"),
        pytest.param("{ gpuTypes { id } }", "gpuTypes", id="market"),
    ],
)
async def test_faults_are_ordered_by_field(ask: Ask, sim: RunPodSimulator, text: str, operation: str) -> None:
    """By its name, not its alias; the list of pods is an operation of its own."""
    sim.faults.add(Fault(operation=operation, kind=FaultKind.ERROR, status=503, body="{}"))
    assert (await ask(text)).status_code == 503
    assert (await ask(text)).status_code == 200
    assert sim.faults.count(operation) == 2
    assert sim.calls[-1].key == sim.key


async def test_the_rest_calls_have_faults_of_their_own(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """`rest.get` and `rest.delete`."""
    pod = sim.add_pod("x")
    sim.faults.add(Fault(operation="rest.get", kind=FaultKind.ERROR, status=500, body="{}"))
    sim.faults.add(rows.null_200("rest.get"))
    sim.faults.add(rows.terminate_ignored(operation="rest.delete"))
    assert (await web.get(f"/v2/pods/{pod.id}")).status_code == 500
    assert (await web.get(f"/v2/pods/{pod.id}")).text == "null"
    assert (await web.delete(f"/v2/pods/{pod.id}")).status_code == 204
    assert [each.id for each in sim.live()] == [pod.id]
