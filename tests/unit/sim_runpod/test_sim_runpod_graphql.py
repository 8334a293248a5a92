"""GraphQL as the service takes it: what is 400, what is 401 or 403, and what is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.runpod import Permission, RunPodSimulator, Settings
from runner_provisioner.simulators.runpod.graph import Graph
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock

Ask = Callable[..., Awaitable[httpx.Response]]
Create = Callable[..., Awaitable[dict[str, Any]]]
A4000 = "NVIDIA RTX A4000"
RENT = "mutation R($input: PodRentInterruptableInput!) { podRentInterruptable(input: $input) { id } }"


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        pytest.param("{ myself { id ", None, id="syntax error"),
        pytest.param("{ nothing }", None, id="unknown field"),
        pytest.param("{ myself { nothing } }", None, id="unknown nested field"),
        pytest.param("{ myself }", None, id="no selection"),
        pytest.param("mutation { podTerminate(input: {}) }", None, id="required field missing inline"),
        pytest.param('mutation { podStop(input: {podId: "x", what: 1}) { id } }', None, id="unknown key inline"),
        pytest.param('mutation { podRentInterruptable(input: {cloudType: "ALL"}) { id } }', None, id="string for enum"),
        pytest.param("mutation { podRentInterruptable(input: {cloudType: BOTH}) { id } }", None, id="bad enum"),
        pytest.param(RENT, {"input": {"startSSH": True}}, id="unknown key in variables"),
        pytest.param(RENT, {"input": {"cloudType": "BOTH"}}, id="bad enum in variables"),
        pytest.param(RENT, {"input": {"env": [{"key": "A"}]}}, id="required field missing in variables"),
        pytest.param(RENT, {"input": {"gpuCount": "one"}}, id="string for number"),
        pytest.param(RENT, {}, id="missing variable"),
        pytest.param(
            'mutation { podBidResume(input: {podId: "x", bidPerGpu: 0.2}) { id } }', None, id="bid resume without count"
        ),
        pytest.param("{ __schema { types { name } } }", None, id="introspection"),
        pytest.param("query A { myself { id } } query B { myself { id } }", None, id="several operations, no name"),
    ],
)
async def test_wrong_graphql_is_bad_request(ask: Ask, text: str, variables: dict[str, Any] | None) -> None:
    """HTTP 400 with `errors[]` and no data, for wrong literals and wrong variables alike."""
    answered = await ask(text, variables)
    assert answered.status_code == 400
    body = answered.json()
    assert body["errors"][0]["message"]
    assert "data" not in body


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"not json", id="no json"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="no query"),
        pytest.param(b'{"query": "{ myself { id } }", "variables": [1]}', id="variables are a list"),
    ],
)
async def test_bodies_that_are_no_request_are_bad_requests(web: httpx.AsyncClient, body: bytes) -> None:
    """HTTP 400 as well."""
    assert (await web.post("/graphql", content=body)).status_code == 400


async def test_a_time_that_is_none_is_bad_request(ask: Ask) -> None:
    """`terminateAfter` must be RFC 3339."""
    answered = await ask(RENT, {"input": {"gpuTypeId": A4000, "bidPerGpu": 1, "terminateAfter": "tomorrow"}})
    assert answered.status_code == 400


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        pytest.param("{ myself { id } }", None, id="anonymous, variables null"),
        pytest.param("query Me { myself { id } }", {}, id="named"),
        pytest.param("{ me: myself { id } again: myself { id } }", None, id="aliases"),
        pytest.param("query { ...F } fragment F on Query { myself { id } }", None, id="fragment"),
        pytest.param("query { ... on Query { myself { id } } }", None, id="inline fragment"),
    ],
)
async def test_every_style_of_query_is_taken(
    ask: Ask, sim: RunPodSimulator, text: str, variables: dict[str, Any] | None
) -> None:
    """Each request counts once for each root field."""
    answered = await ask(text, variables)
    assert answered.status_code == 200
    assert sim.faults.count("myself") == 1


async def test_one_of_several_operations_is_chosen_by_name(web: httpx.AsyncClient) -> None:
    """`operationName` is honoured."""
    text = "query A { a: myself { id } } query B { b: myself { id } }"
    answered = await web.post("/graphql", json={"query": text, "operationName": "B"})
    assert list(answered.json()["data"]) == ["b"]


async def test_several_pods_are_read_in_one_request(ask: Ask, create: Create) -> None:
    """By aliases; those that do not exist are null."""
    pod = await create()
    text = 'query P($a: String!) { a: pod(input: {podId: $a}) { id } b: pod(input: {podId: "none"}) { id } }'
    assert (await ask(text, {"a": pod["id"]})).json()["data"] == {"a": {"id": pod["id"]}, "b": None}


async def test_a_request_needs_a_known_key(ask: Ask) -> None:
    """401 for a wrong one, whatever is asked."""
    assert (await ask("{ myself { id } }", key="rpa_wrong")).status_code == 401
    assert (await ask("{ gpuTypes { id } }", key="rpa_wrong")).status_code == 401


async def test_only_the_market_is_public(sim: RunPodSimulator) -> None:
    """Without a key GPU types and data centres answer, everything else is 401."""
    async with httpx.AsyncClient(transport=InProcess({"api.runpod.io": sim.app})) as web:

        async def status(text: str) -> int:
            return (await web.post("https://api.runpod.io/graphql", json={"query": text})).status_code

        assert await status("{ gpuTypes { id } dataCenters { id } cpuFlavors { id } }") == 200
        assert await status("{ gpuTypes { id } myself { id } }") == 401
        assert await status('{ pod(input: {podId: "x"}) { id } }') == 401


async def test_the_key_may_be_in_the_address(sim: RunPodSimulator) -> None:
    """`?api_key=` works, though it lands in logs."""
    async with httpx.AsyncClient(transport=InProcess({"api.runpod.io": sim.app})) as web:
        url = f"https://api.runpod.io/graphql?api_key={sim.key}"
        assert (await web.post(url, json={"query": "{ myself { id } }"})).status_code == 200


async def test_a_read_only_key_changes_nothing(ask: Ask, sim: RunPodSimulator) -> None:
    """It reads; every mutation is 403."""
    key = sim.keys.add("rpa_reader", Permission.READ)
    assert (await ask("{ myself { id } }", key=key)).status_code == 200
    assert (await ask(RENT, {"input": {"gpuTypeId": A4000, "bidPerGpu": 1}}, key=key)).status_code == 403
    assert (await ask('mutation { deleteTemplate(templateName: "x") }', key=key)).status_code == 403
    assert sim.pods() == []


async def test_a_revoked_key_is_refused(ask: Ask, sim: RunPodSimulator) -> None:
    """401 from then on."""
    key = sim.keys.add()
    sim.keys.revoke(key)
    assert (await ask("{ myself { id } }", key=key)).status_code == 401


async def test_a_pods_key_acts_on_that_pod_alone(ask: Ask, create: Create, sim: RunPodSimulator) -> None:
    """It reads and ends its own pod; another pod, the account and creations are 403."""
    own, other = await create(), await create()
    key = sim.pod(own["id"]).key
    terminate = "mutation T($id: String!) { podTerminate(input: {podId: $id}) }"
    read = "query P($id: String!) { pod(input: {podId: $id}) { id } }"
    assert (await ask(read, {"id": own["id"]}, key)).status_code == 200
    for text, pod_id in ((read, other["id"]), (terminate, other["id"])):
        assert (await ask(text, {"id": pod_id}, key)).status_code == 403
    assert (await ask("{ myself { id } }", key=key)).status_code == 403
    assert (await ask(RENT, {"input": {"gpuTypeId": A4000, "bidPerGpu": 1}}, key=key)).status_code == 403
    assert (await ask(terminate, {"id": own["id"]}, key)).json() == {"data": {"podTerminate": None}}
    assert [pod.id for pod in sim.live()] == [other["id"]]
    assert (await ask(read, {"id": own["id"]}, key)).status_code == 401


async def test_the_account_shows_balance_spending_and_keys(ask: Ask, create: Create, sim: RunPodSimulator) -> None:
    """The spending counts GPUs and disks."""
    sim.settings.public_keys = "ssh-ed25519 AAAA"
    await create()
    answered = await ask("{ myself { clientBalance currentSpendPerHr spendLimit underBalance pubKey } }")
    assert answered.json()["data"]["myself"] == {
        "clientBalance": 100.0,
        "currentSpendPerHr": 0.17,
        "spendLimit": 80,
        "underBalance": False,
        "pubKey": "ssh-ed25519 AAAA",
    }


async def test_the_account_keeps_templates_logins_and_volumes(ask: Ask) -> None:
    """Saved, changed, listed and deleted by the names and ids the service uses."""

    async def told(text: str) -> dict[str, Any]:
        data: dict[str, Any] = (await ask(text)).json()["data"]
        return data

    template = 'containerDiskInGb: 5, dockerArgs: "", env: [], imageName: "i", name: "t", volumeInGb: 0'
    saved = await told(f"mutation {{ saveTemplate(input: {{{template}}}) {{ id name }} }}")
    template_id = saved["saveTemplate"]["id"]
    again = await told(f'mutation {{ saveTemplate(input: {{id: "{template_id}", {template}}}) {{ id }} }}')
    assert again["saveTemplate"]["id"] == template_id
    login = (await told('mutation { saveRegistryAuth(input: {name: "r", username: "u", password: "p"}) { id } }'))[
        "saveRegistryAuth"
    ]["id"]
    await told(f'mutation {{ updateRegistryAuth(input: {{id: "{login}", username: "u", password: "q"}}) {{ id }} }}')
    volume = (
        await told('mutation { createNetworkVolume(input: {name: "v", size: 10, dataCenterId: "EU-RO-1"}) { id } }')
    )["createNetworkVolume"]["id"]
    await told(f'mutation {{ updateNetworkVolume(input: {{id: "{volume}", size: 20}}) {{ size }} }}')
    await told('mutation { updateUserSettings(input: {pubKey: "ssh-rsa B"}) { id } }')
    shown = await told(
        "{ myself { pubKey podTemplates { name } containerRegistryCreds { id name } networkVolumes { id size } } }"
    )
    assert shown["myself"] == {
        "pubKey": "ssh-rsa B",
        "podTemplates": [{"name": "t"}],
        "containerRegistryCreds": [{"id": login, "name": "r"}],
        "networkVolumes": [{"id": volume, "size": 20}],
    }
    ended = await told(
        f'mutation {{ deleteTemplate(templateName: "t") deleteRegistryAuth(registryAuthId: "{login}") '
        f'deleteNetworkVolume(input: {{id: "{volume}"}}) }}'
    )
    assert ended == {"deleteTemplate": None, "deleteRegistryAuth": True, "deleteNetworkVolume": None}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('mutation { deleteTemplate(templateName: "none") }', id="template"),
        pytest.param('mutation { deleteRegistryAuth(registryAuthId: "none") }', id="login"),
        pytest.param(
            'mutation { updateRegistryAuth(input: {id: "none", username: "u", password: "p"}) { id } }', id="new login"
        ),
        pytest.param('mutation { deleteNetworkVolume(input: {id: "none"}) }', id="volume"),
        pytest.param('mutation { updateNetworkVolume(input: {id: "none"}) { id } }', id="new volume"),
        pytest.param('mutation { podStop(input: {podId: "none"}) { id } }', id="stop"),
        pytest.param('mutation { podResume(input: {podId: "none"}) { id } }', id="resume"),
        pytest.param('mutation { podEditJob(input: {podId: "none"}) { id } }', id="edit"),
        pytest.param('mutation { podTerminate(input: {podId: "none"}) }', id="terminate"),
        pytest.param('mutation { podFindAndDeployOnDemand(input: {templateId: "none"}) { id } }', id="deploy"),
    ],
)
async def test_unknown_things_are_business_errors(
    ask: Ask, refusal: Callable[[httpx.Response], str], text: str
) -> None:
    """HTTP 200 with "not found"."""
    assert "not found" in refusal(await ask(text))


async def test_a_template_name_is_unique(ask: Ask, refusal: Callable[[httpx.Response], str]) -> None:
    """A second one of the name is refused."""
    text = """mutation { saveTemplate(input: {
      containerDiskInGb: 5, dockerArgs: "", env: [], imageName: "i", name: "t", volumeInGb: 0 }) { id } }"""
    await ask(text)
    assert "unique" in refusal(await ask(text))


async def test_documents_are_parsed_once() -> None:
    """By their text, and the oldest are forgotten."""
    graph = Graph({})
    first = graph.read({"query": "{ myself { id } }"})
    assert graph.read({"query": "{ myself { id } }"}).document is first.document
    for number in range(600):
        graph.read({"query": f"{{ a{number}: myself {{ id }} }}"})
    assert "{ myself { id } }" not in graph._documents


async def test_a_mistake_of_the_simulator_is_no_answer(sim: RunPodSimulator, ask: Ask) -> None:
    """It is raised where a test sees it."""
    sim.market.catalog.models.append(None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        await ask("{ gpuTypes { id } }")


@pytest.mark.parametrize(
    ("go", "written"),
    [
        pytest.param(False, "2026-11-01T12:00:00.000Z", id="rfc 3339"),
        pytest.param(True, "2026-11-01 12:00:00.0 +0000 UTC", id="the other form"),
    ],
)
async def test_times_come_in_both_forms(clock: FakeClock, go: bool, written: str) -> None:  # noqa: FBT001 - a case
    """RunPod's own smoke tests read both."""
    sim = RunPodSimulator(clock, settings=Settings(go_times=go))
    pod = sim.add_pod("somebody's")
    async with httpx.AsyncClient(transport=InProcess({"api.runpod.io": sim.app})) as web:
        answered = await web.post(
            "https://api.runpod.io/graphql",
            json={"query": f'{{ pod(input: {{podId: "{pod.id}"}}) {{ createdAt }} }}'},
            headers={"Authorization": f"Bearer {sim.key}"},
        )
    assert answered.json()["data"]["pod"]["createdAt"] == written


async def test_other_addresses_do_not_exist(web: httpx.AsyncClient) -> None:
    """404 as a problem document."""
    answered = await web.get("/v1/pods")
    assert (answered.status_code, answered.headers["content-type"]) == (404, "application/problem+json")
