"""The simulator takes what real clients send: requests in the shapes of dstack, SkyPilot, runpodctl and the SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from runner_provisioner.simulators.runpod import RunPodSimulator, SimPod
from runner_provisioner.simulators.transport import InProcess
from runner_provisioner.testing.clock import FakeClock

GPU = "NVIDIA GeForce RTX 4090"
POD = "pod0abc123"


@pytest.fixture
def sim() -> RunPodSimulator:
    """With spot pods, hosts in the US and a pod of the captures' id."""
    simulator = RunPodSimulator(FakeClock())
    simulator.market.spot = True
    return simulator


@pytest.fixture
async def web(sim: RunPodSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the account's key in the Authorization header."""
    headers = {"Authorization": f"Bearer {sim.key}", "Content-Type": "application/json"}
    transport = InProcess({"api.runpod.io": sim.app})
    async with httpx.AsyncClient(transport=transport, base_url="https://api.runpod.io", headers=headers) as session:
        yield session


async def data(web: httpx.AsyncClient, query: str, *variables: object) -> dict[str, Any]:
    """The answer's data; `variables` is left out of the body when it is not given."""
    body: dict[str, object] = {"query": query}
    if variables:
        body["variables"] = variables[0]
    answered = await web.post("/graphql", content=json.dumps(body))
    assert answered.status_code == 200, answered.text
    assert "errors" not in answered.json(), answered.text
    told: dict[str, Any] = answered.json()["data"]
    return told


def only(sim: RunPodSimulator) -> SimPod:
    """The one pod."""
    (pod,) = sim.live()
    return pod


async def test_dstack_rents_a_spot_pod_with_inline_literals(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """An anonymous mutation, an unquoted enum, a JSON command escaped twice."""
    told = await data(
        web,
        r"""
        mutation {
          podRentInterruptable(
            input: {
              name: "job-7", imageName: "dstackai/base:1", gpuTypeId: "NVIDIA GeForce RTX 4090", cloudType: COMMUNITY,
              minCudaVersion: "12.8", startSsh: true, supportPublicIp: true, bidPerGpu: 0.25, countryCode: "US",
              gpuCount: 1, volumeInGb: 0, containerDiskInGb: 20, minVcpuCount: 1, minMemoryInGb: 1,
              dockerArgs: "{\"cmd\": [\"echo \\\"hello\\\" && sleep 2\"], \"entrypoint\": [\"/bin/sh\", \"-c\"]}",
              ports: "10022/tcp", env: [{ key: "RUNPOD_POD_USER", value: "0" }]
            }
          ) { id lastStatusChange imageName machine { podHostId } }
        }
        """,
    )
    pod = only(sim)
    assert told["podRentInterruptable"]["machine"]["podHostId"].startswith(pod.id)
    assert (pod.pod_type, pod.machine.country, str(pod.price)) == ("INTERRUPTABLE", "US", "0.25")
    assert sim.launch_of(pod).argv == ("/bin/sh", "-c", 'echo "hello" && sleep 2')
    assert pod.env == {"RUNPOD_POD_USER": "0"}


async def test_dstack_reads_and_ends_its_pod_by_rest(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """GET and DELETE of v2; gone already is 404."""
    sim.add_pod("job-7", pod_id=POD)
    assert (await web.get(f"/v2/pods/{POD}")).json()["status"] == "RUNNING"
    assert (await web.delete(f"/v2/pods/{POD}")).status_code == 204
    assert (await web.delete(f"/v2/pods/{POD}")).status_code == 404


async def test_skypilot_rents_a_spot_pod(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """After a look at the models; its script travels in base64."""
    listed = await data(web, "query GpuTypes { gpuTypes { id displayName memoryInGb } }")
    assert GPU in [each["id"] for each in listed["gpuTypes"]]
    told = await data(
        web,
        """
        mutation {
          podRentInterruptable(
            input: {
              name: "sky-head", imageName: "berkeleyskypilot/base", gpuTypeId: "NVIDIA GeForce RTX 4090",
              bidPerGpu: 0.25, volumeMountPath: "/runpod-volume", cloudType: COMMUNITY, startSsh: true,
              supportPublicIp: true, gpuCount: 1, minMemoryInGb: 24, minVcpuCount: 4, containerDiskInGb: 20,
              volumeInGb: 0, ports: "22/tcp,8265/http",
              dockerArgs: "bash -c 'echo aGVsbG8= | base64 --decode > init.sh; bash init.sh'", countryCode: "US"
            }
          ) { id desiredStatus imageName env machineId machine { podHostId } }
        }
        """,
    )
    rented = told["podRentInterruptable"]
    assert (rented["desiredStatus"], rented["env"]) == ("RUNNING", [])
    command = "echo aGVsbG8= | base64 --decode > init.sh; bash init.sh"
    assert sim.launch_of(only(sim)).argv[-3:] == ("bash", "-c", command)


async def test_runpodctl_shows_the_account_and_the_market(web: httpx.AsyncClient) -> None:
    """With `variables: null`."""
    fields = "id email clientBalance currentSpendPerHr spendLimit notifyPodsStale notifyPodsGeneral notifyLowBalance"
    account = await data(web, f"\n\t\tquery {{\n\t\t\tmyself {{ {fields} }}\n\t\t}}", None)
    assert account["myself"]["spendLimit"] == 80
    await data(web, "query { gpuTypes { id displayName memoryInGb secureCloud communityCloud } }", None)
    text = "query { dataCenters { id name location gpuAvailability { gpuTypeId displayName stockStatus } } }"
    assert (await data(web, text, None))["dataCenters"][0]["gpuAvailability"]


async def test_runpodctl_creates_a_pod_from_variables(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """The whole input is one variable; the times end the pod."""
    text = """
        mutation createPod($input: PodFindAndDeployOnDemandInput!) {
            podFindAndDeployOnDemand(input: $input) {
                id name imageName desiredStatus costPerHr containerDiskInGb volumeInGb volumeMountPath gpuCount
                memoryInGb vcpuCount ports lastStatusChange env machine { gpuDisplayName location }
            }
        }"""
    given = {
        "cloudType": "COMMUNITY",
        "containerDiskInGb": 30,
        "env": [{"key": "A", "value": "B"}],
        "gpuCount": 1,
        "gpuTypeId": GPU,
        "imageName": "runpod/base:1.0.0",
        "name": "from-ctl",
        "ports": "22/tcp,8888/http",
        "startSsh": True,
        "supportPublicIp": True,
        "volumeMountPath": "/workspace",
        "minCudaVersion": "12.4",
        "dockerArgs": "bash -c 'echo hello'",
        "countryCode": "US",
        "stopAfter": "2026-11-30T00:00:00Z",
        "terminateAfter": "2026-12-01T00:00:00Z",
    }
    created = (await data(web, text, {"input": given}))["podFindAndDeployOnDemand"]
    assert (created["env"], created["desiredStatus"], created["machine"]["gpuDisplayName"]) == (
        ["A=B"],
        "RUNNING",
        "RTX 4090",
    )
    assert only(sim).terminate_after is not None


async def test_runpodctls_older_command_sends_empty_strings(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """They mean nothing; `deployCost` is a ceiling."""
    text = """mutation createPod($input: PodFindAndDeployOnDemandInput!) {
        podFindAndDeployOnDemand(input: $input) { id costPerHr desiredStatus lastStatusChange } }"""
    given = {
        "cloudType": "COMMUNITY",
        "containerDiskInGb": 20,
        "deployCost": 0.5,
        "dockerArgs": "bash -c 'sleep 1'",
        "dataCenterId": "",
        "env": [{"key": "A", "value": "B"}],
        "gpuCount": 1,
        "gpuTypeId": GPU,
        "imageName": "img:2",
        "minMemoryInGb": 20,
        "minVcpuCount": 1,
        "name": "from-old-ctl",
        "networkVolumeId": "",
        "ports": "22/tcp",
        "supportPublicIp": False,
        "startSsh": False,
        "templateId": "",
        "volumeInGb": 1,
        "volumeMountPath": "/runpod",
    }
    created = (await data(web, text, {"input": given}))["podFindAndDeployOnDemand"]
    assert created["costPerHr"] == 0.34
    assert only(sim).network_volume_id is None


async def test_runpodctl_lists_stops_resumes_and_ends(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """A nested `{podId: $podId}`, the alias `PortType`, EXITED from `podStop`, null from `podTerminate`."""
    sim.add_pod("mine", pod_id=POD, env={"A": "B"})
    sim.add_pod("spot", pod_id="spot0", spot=True)
    listing = """query myPods { myself { pods {
        id containerDiskInGb costPerHr desiredStatus dockerArgs dockerId env gpuCount imageName lastStatusChange
        machineId memoryInGb name podType port ports uptimeSeconds vcpuCount volumeInGb volumeMountPath
        machine { gpuDisplayName location }
        runtime { ports { ip isIpPublic privatePort publicPort PortType: type } }
    } } }"""
    mine = (await data(web, listing, {}))["myself"]["pods"][0]
    assert (mine["env"], mine["runtime"]["ports"][0]["PortType"]) == (["A=B"], "tcp")
    stop = (
        "mutation stopPod($podId: String!) { podStop(input: {podId:  $podId}) { id desiredStatus lastStatusChange } }"
    )
    for pod_id in (POD, "spot0"):
        assert (await data(web, stop, {"podId": pod_id}))["podStop"]["desiredStatus"] == "EXITED"
    resume = """mutation podResume($podId: String!) { podResume(input: {podId: $podId}) {
        id costPerHr desiredStatus lastStatusChange } }"""
    assert (await data(web, resume, {"podId": POD}))["podResume"]["desiredStatus"] == "RUNNING"
    bid = """mutation Mutation($podId: String!, $bidPerGpu: Float!, $gpuCount: Int!) {
        podBidResume(input: {podId: $podId, bidPerGpu: $bidPerGpu, gpuCount: $gpuCount}) {
            id costPerHr desiredStatus lastStatusChange } }"""
    resumed = await data(web, bid, {"bidPerGpu": 0.25, "gpuCount": 1, "podId": "spot0"})
    assert resumed["podBidResume"]["costPerHr"] == 0.25
    end = "mutation terminatePod($podId: String!) { podTerminate(input: {podId:  $podId}) }"
    assert await data(web, end, {"podId": POD}) == {"podTerminate": None}


async def test_the_sdk_looks_at_the_account_and_at_a_model(web: httpx.AsyncClient) -> None:
    """The body has no `variables` at all."""
    await data(web, "query myself { myself { id pubKey networkVolumes { id name size dataCenterId } } }")
    told = await data(
        web,
        """query GpuTypes { gpuTypes(input: {id: "NVIDIA GeForce RTX 4090"}) {
            maxGpuCount id displayName manufacturer memoryInGb cudaCores secureCloud communityCloud securePrice
            communityPrice oneMonthPrice threeMonthPrice oneWeekPrice communitySpotPrice secureSpotPrice
            lowestPrice(input: {gpuCount: 1}) { minimumBidPrice uninterruptablePrice }
        } }""",
    )
    assert told["gpuTypes"][0]["lowestPrice"] == {"minimumBidPrice": 0.2, "uninterruptablePrice": 0.34}


async def test_the_sdk_creates_reads_stops_resumes_and_ends(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """Everything inline, a literal null for no data centre."""
    create = """mutation { podFindAndDeployOnDemand( input: {
          name: "from-sdk", imageName: "runpod/base:1.0.0", cloudType: ALL, startSsh: true,
          gpuTypeId: "NVIDIA GeForce RTX 4090", supportPublicIp: true, gpuCount: 1, volumeInGb: 0, minVcpuCount: 1,
          minMemoryInGb: 1, allowedCudaVersions: ["12.8"], dataCenterId: null, dockerArgs: "bash -c 'echo hello'",
          containerDiskInGb: 20, ports: "22/tcp,8888/http", volumeMountPath: "/runpod-volume",
          env: [{ key: "A", value: "B" }] } ) { id imageName env machineId machine { podHostId } } }"""
    pod_id = (await data(web, create))["podFindAndDeployOnDemand"]["id"]
    read = f"""query pod {{ pod(input: {{podId: "{pod_id}"}}) {{
            id containerDiskInGb costPerHr desiredStatus dockerArgs dockerId env gpuCount imageName lastStatusChange
            machineId memoryInGb name podType port ports uptimeSeconds vcpuCount volumeInGb volumeMountPath
            runtime {{ ports {{ ip isIpPublic privatePort publicPort type }} }} machine {{ gpuDisplayName }} }} }}"""
    assert (await data(web, read))["pod"]["runtime"]["ports"][0]["privatePort"] == 22
    stopped = await data(web, f'mutation {{ podStop(input: {{ podId: "{pod_id}" }}) {{ id desiredStatus }} }}')
    assert stopped["podStop"]["desiredStatus"] == "EXITED"
    resume = f"""mutation {{ podResume(input: {{ podId: "{pod_id}", gpuCount: 1 }}) {{
            id desiredStatus imageName env machineId machine {{ podHostId }} }} }}"""
    assert (await data(web, resume))["podResume"]["desiredStatus"] == "RUNNING"
    ended = await data(web, f'mutation {{ podTerminate(input: {{ podId: "{pod_id}" }}) }}')
    assert ended == {"podTerminate": None}
    assert sim.live() == []


async def test_the_sdks_unescaped_quotes_are_refused(web: httpx.AsyncClient, sim: RunPodSimulator) -> None:
    """It splices values into the text; the service answers 400, and so does the simulator."""
    text = """mutation { podFindAndDeployOnDemand( input: { name: "q", imageName: "i", cloudType: ALL,
          gpuTypeId: "NVIDIA GeForce RTX 4090", dockerArgs: "bash -c "echo hello"" } ) { id } }"""
    answered = await web.post("/graphql", json={"query": text})
    assert answered.status_code == 400
    assert answered.json()["errors"]
    assert sim.pods() == []
