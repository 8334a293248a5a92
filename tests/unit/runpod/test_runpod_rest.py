"""REST v2 on the wire: what is sent, what is understood, and when it is sent again."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from runner_provisioner import logging
from runner_provisioner._http import Plumbing
from runner_provisioner.domain.offers import GpuRequest, Interruptible, Offer
from runner_provisioner.domain.pods import CloudType, PodClass, PodId, PodSpec, PodState, PodTags
from runner_provisioner.errors import (
    ApiRetired,
    CapacityUnavailable,
    CreateOutcomeUnknown,
    InvalidRequest,
    NotFound,
    OfferGone,
    ProtocolViolation,
    RateLimited,
    ServerError,
    Unreachable,
)
from runner_provisioner.ports import (
    BillsPerPod,
    HasHistory,
    HasKillTime,
    HasLogs,
    HasSshEndpoint,
    HasTemplates,
    ReadsMany,
    has_kill_time,
)
from runner_provisioner.providers.runpod import Api, RunPodApi, RunPodProvider
from runner_provisioner.providers.runpod.rest_requests import create_input
from runner_provisioner.providers.runpod.rest_states import state_of, to_pod
from runner_provisioner.providers.runpod.rest_wire import RestPod
from runner_provisioner.testing.clock import FakeClock

if TYPE_CHECKING:
    from unit.runpod.conftest import Script

MODEL = "NVIDIA RTX A4000"
END = datetime(2026, 11, 1, 18, 15, tzinfo=UTC)
TAGS = PodTags(owner="0123abcd", cls=PodClass.RUNNER, nonce="n1")
SPEC = PodSpec(
    name="rp-0123abcd-1-1-default",
    image="img:1",
    tags=TAGS,
    command="echo $HOME 'x'",
    env={"PUBLIC_KEY": "ssh-ed25519 AAAA"},
)
OFFER = Offer(
    provider="runpod",
    id="o",
    gpu_model=MODEL,
    gpu_count=2,
    price=Decimal("0.34"),
    interruptible=False,
    cloud=CloudType.COMMUNITY,
)


def row(**changes: object) -> dict[str, Any]:
    """A pod as REST v2 answers it."""
    pod: dict[str, Any] = {
        "id": "pod1",
        "name": SPEC.name,
        "status": "RUNNING",
        "actions": ["stop", "restart", "terminate"],
        "image": "img:1",
        "args": "planted",
        "disk": 40,
        "ports": ["22/tcp"],
        "env": {"RP_OWNER": "0123abcd", "RP_CLASS": "runner", "A": "b=c", "N": None},
        "gpu": {"id": MODEL, "count": 2, "vcpuCount": 16.0, "memory": 64.5},
        "cloud": "COMMUNITY",
        "ssh": {
            "proxy": {"host": "ssh.runpod.io", "port": 22, "username": "pod1-64411eb2", "command": "ssh"},
            "direct": {"host": "195.26.233.3", "port": 34446, "username": "root", "command": "ssh"},
        },
        "cost": 0.34,
        "runtime": {
            "uptime": 60.0,
            "cpu": {"util": 45},
            "memory": 7,
            "gpus": [{"util": 94, "memoryUtil": 78}],
            "ports": [{"private": 22, "public": 34446, "type": "tcp", "ip": "195.26.233.3"}],
        },
        "createdAt": "2026-11-01T12:00:00Z",
        "startedAt": None,
        "somethingNew": {"x": 1},
    }
    return pod | changes


def answer(script: Script, status: int, body: object, **headers: str) -> None:
    """Answer this next."""
    script.steps.append(httpx.Response(status, text=json.dumps(body), headers=headers))


@pytest.fixture
def rest(api: RunPodApi, clock: FakeClock) -> RunPodProvider:
    """An adapter that prefers REST; nothing here needs an end."""
    return RunPodProvider(api, clock=clock, prefer=Api.REST)


async def test_it_is_all_that_it_says(rest: RunPodProvider) -> None:
    """The capabilities beside those of GraphQL, and one that can be lost."""
    for capability in (HasKillTime, HasLogs, HasHistory, HasTemplates, HasSshEndpoint, BillsPerPod, ReadsMany):
        assert isinstance(rest, capability)
    assert has_kill_time(rest)
    rest.routes.note_graphql_retired()
    assert not has_kill_time(rest)
    assert not has_kill_time(object())


def test_a_pod_is_read_whole() -> None:
    """In words that hold for every provider; a number may come in either form."""
    pod = to_pod(RestPod.model_validate(row()))
    assert pod
    assert (pod.state, pod.price, pod.gpu_model, pod.gpu_count) == (PodState.RUNNING, Decimal("0.34"), MODEL, 2)
    assert pod.tags == PodTags(owner="0123abcd", cls=PodClass.RUNNER)
    assert pod.ssh
    assert (pod.ssh.host, pod.ssh.port, pod.ssh.user) == ("195.26.233.3", 34446, "root")
    assert pod.ssh_proxy
    assert pod.ssh_proxy.user == "pod1-64411eb2"
    assert pod.telemetry
    assert (pod.telemetry.cpu_percent, pod.telemetry.memory_percent) == (45, 7)
    assert pod.telemetry.gpus[0].memory_percent == 78
    assert (pod.uptime_seconds, pod.machine, pod.interruptible) == (60, None, None)
    assert "planted" not in repr(pod)


def test_a_pod_that_says_little_is_read_too() -> None:
    """Whatever is not told is not known, and the pod may cost money."""
    pod = to_pod(RestPod.model_validate({"id": "p"}))
    assert pod
    assert (pod.state, pod.price, pod.ssh, pod.telemetry, pod.tags) == (PodState.STARTING, None, None, None, None)
    assert RestPod.model_validate({"id": "p", "ssh": {"direct": {"host": "h"}}}).endpoint() is None


RUNNER = {"RP_OWNER": "0123abcd", "RP_CLASS": "runner"}
MANUAL = {"RP_OWNER": "0123abcd", "RP_CLASS": "manual"}
NO_WAY_IN: dict[str, object] = {"ssh": {"proxy": None, "direct": None}, "runtime": {"ports": []}}


@pytest.mark.parametrize(
    ("changes", "asked", "state"),
    [
        ({"status": "PROVISIONING", "runtime": {}}, False, PodState.STARTING),
        ({"status": "STARTING"}, False, PodState.STARTING),
        ({"status": "running"}, False, PodState.RUNNING),
        (NO_WAY_IN, False, PodState.STARTING),
        ({**NO_WAY_IN, "ports": ["8888/http"]}, False, PodState.RUNNING),
        ({"ssh": None}, False, PodState.RUNNING),
        ({"status": "EXITED", "env": RUNNER}, False, PodState.INTERRUPTED),
        ({"status": "EXITED", "env": RUNNER}, True, PodState.STOPPED),
        ({"status": "EXITED", "env": MANUAL}, False, PodState.STOPPED),
        ({"status": "EXITED", "env": {}}, False, PodState.STOPPED),
        ({"status": "ERROR"}, False, PodState.FAILED),
        ({"status": "SOMETHING_NEW"}, False, PodState.STARTING),
        ({"status": None}, False, PodState.STARTING),
        ({"status": "TERMINATED"}, False, None),
    ],
)
def test_states(changes: dict[str, object], asked: bool, state: PodState | None) -> None:  # noqa: FBT001 - a case
    """The table of the reference; a word not known may cost money."""
    pod = RestPod.model_validate(row(**changes))
    assert state_of(pod, asked_to_stop={"pod1"} if asked else ()) is state


def test_everything_of_a_spec_is_sent_under_its_name() -> None:
    """The count always; floors per GPU, rounded up."""
    spec = replace(
        SPEC, min_memory_gb=15, min_vcpus=3, cuda="12", volume_gb=20, cloud=CloudType.ALL, ports=("22/tcp", "80/http")
    )
    assert create_input(spec, replace(OFFER, region="EU-RO-1"), whole_command=True).to_wire() == {
        "name": SPEC.name,
        "image": "img:1",
        "cloud": "COMMUNITY",
        "gpu": {"id": MODEL, "count": 2, "minRamPerGpu": 8, "minVcpuCountPerGpu": 2, "minCudaVersion": "12.0"},
        "entrypoint": ["bash", "-c"],
        "cmd": [SPEC.command],
        "disk": 40,
        "ports": ["22/tcp", "80/http"],
        "env": {"PUBLIC_KEY": "ssh-ed25519 AAAA", **TAGS.to_env()},
        "dataCenterIds": ["EU-RO-1"],
        "startSsh": True,
        "mounts": {"persistent": {"size": 20, "path": "/workspace"}},
    }


def test_one_gpu_is_counted_too() -> None:
    """Left out it matches nothing (mcp-4.0.0)."""
    sent = create_input(SPEC, replace(OFFER, gpu_count=1, cloud=None), whole_command=False).to_wire()
    assert sent["gpu"] == {"id": MODEL, "count": 1, "minRamPerGpu": 4, "minVcpuCountPerGpu": 1}
    assert sent["cloud"] == "SECURE"
    assert sent["args"] == """bash -c 'echo $HOME '"'"'x'"'"''"""
    assert "entrypoint" not in sent


def test_options_go_under_either_api_s_names() -> None:
    """Tags win over an environment of the user's."""
    options = {
        "containerRegistryAuthId": "reg",
        "templateId": "t",
        "dataCenterId": "EU-RO-1",
        "allowedCudaVersions": "12.4,12.8",
        "globalNetworking": True,
        "env": [{"key": "RP_OWNER", "value": "ffffffff"}, {"key": "X", "value": "1"}],
    }
    sent = create_input(replace(SPEC, options=options, network_volume="v"), OFFER, whole_command=True).to_wire()
    assert (sent["registry"], sent["templateId"], sent["dataCenterIds"]) == ("reg", "t", ["EU-RO-1"])
    assert sent["globalNetworking"] is True
    gpu, env = sent["gpu"], sent["env"]
    assert isinstance(gpu, dict)
    assert isinstance(env, dict)
    assert gpu["allowedCudaVersions"] == ["12.4", "12.8"]
    assert (env["RP_OWNER"], env["X"]) == ("0123abcd", "1")
    assert sent["mounts"] == {"network": [{"volumeId": "v", "path": "/workspace"}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"options": {"bogus": 1}}, "bogus"),
        ({"options": {"gpu": {}}}, "'gpu' is no option"),
        ({"options": {"dockerArgs": "x"}}, "'args' is no option"),
        ({"options": {"env": ["x"]}}, "env"),
        ({"options": {"env": 7}}, "env"),
        ({"options": {"disk": "big"}}, "disk"),
        ({"volume_gb": 5}, "least of 10 GB"),
        ({"env": {f"E{n}": "" for n in range(50)}}, "environment variables"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_sent(changes: dict[str, Any], said: str) -> None:
    """By name."""
    with pytest.raises(InvalidRequest, match=said):
        create_input(replace(SPEC, **changes), OFFER, whole_command=True)


async def test_a_refused_command_goes_as_arguments_from_then_on(rest: RunPodProvider, script: Script) -> None:
    """A 422 has rented nothing; what it complains of decides."""
    answer(script, 422, {"title": "x", "errors": ["$: additional properties 'entrypoint', 'cmd' not allowed"]})
    answer(script, 201, row())
    answer(script, 201, row())
    assert (await rest.create(SPEC, OFFER)).price == Decimal("0.34")
    await rest.create(SPEC, OFFER)
    assert ["entrypoint" in body for body in script.bodies] == [True, False, False]
    assert ["args" in body for body in script.bodies] == [False, True, True]


async def test_another_refusal_is_no_reason_to_ask_again(rest: RunPodProvider, script: Script) -> None:
    """Nor is the command's refusal where there is none."""
    answer(script, 422, {"title": "x", "errors": ["$.disk: minimum: got 0, want 1"]})
    with pytest.raises(InvalidRequest, match=r"\$\.disk"):
        await rest.create(SPEC, OFFER)
    script.steps.clear()
    answer(script, 422, {"title": "x", "errors": ["$.cmd: odd"]})
    with pytest.raises(InvalidRequest, match="cmd"):
        await rest.create(replace(SPEC, command=None), OFFER)
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, {"title": "x", "detail": "Something went wrong."}, CreateOutcomeUnknown),
        (502, {"x": 1}, CreateOutcomeUnknown),
        (201, None, CreateOutcomeUnknown),
        (201, {"name": "no id"}, CreateOutcomeUnknown),
        (201, row(status="TERMINATED"), CreateOutcomeUnknown),
        (400, {"title": "Bad Request", "detail": "There are no instances currently available."}, CapacityUnavailable),
        (404, {"title": "Not Found", "detail": "template not found"}, NotFound),
        (410, {}, ApiRetired),
    ],
)
async def test_a_create_is_refused_or_of_unknown_outcome(
    rest: RunPodProvider, script: Script, status: int, body: object, error: type[Exception]
) -> None:
    """And sent once."""
    answer(script, status, body)
    with pytest.raises(error):
        await rest.create(SPEC, OFFER)
    assert len(script.requests) == 1


async def test_a_create_that_never_left_is_sent_again(rest: RunPodProvider, script: Script) -> None:
    """A refused connection has rented nothing."""
    script.fail(httpx.ConnectError("refused"))
    with pytest.raises(Unreachable):
        await rest.create(SPEC, OFFER)
    assert len(script.requests) > 1


async def test_a_price_that_is_told_late_is_waited_for(rest: RunPodProvider, script: Script) -> None:
    """0 is what a pod that is off costs."""
    answer(script, 201, row(cost=0.0))
    answer(script, 200, None)
    answer(script, 500, {})
    for _ in range(4):
        answer(script, 500, {})
    answer(script, 200, row(cost=0.9))
    script.steps.append(httpx.Response(204))
    with pytest.raises(OfferGone, match="given back"):
        await rest.create(SPEC, OFFER)
    assert script.requests[-1].method == "DELETE"


async def test_a_price_that_is_never_told_is_not_known(rest: RunPodProvider, script: Script) -> None:
    """Whoever watches the pod looks at it again."""
    answer(script, 201, row(cost=None))
    answer(script, 200, row(cost=None))
    assert (await rest.create(SPEC, OFFER)).price is None


async def test_a_pod_is_gone_by_404_and_by_null(rest: RunPodProvider, script: Script) -> None:
    """Nothing else is an absence."""
    answer(script, 200, None)
    assert await rest.get(PodId("p")) is None
    script.steps.clear()
    answer(script, 404, {"title": "Not Found", "status": 404, "detail": "pod not found"})
    assert await rest.get(PodId("p")) is None
    script.steps[:] = [httpx.Response(404, text="<html>")]
    with pytest.raises(ProtocolViolation):
        await rest.get(PodId("p"))


async def test_a_good_answer_that_is_no_ones_ends_nothing(rest: RunPodProvider, script: Script) -> None:
    """A proxy's page with status 200."""
    script.text(200, "<html>welcome</html>")
    with pytest.raises(ProtocolViolation):
        await rest.terminate(PodId("p"))


async def test_many_pods_are_read_by_one_list(rest: RunPodProvider, script: Script) -> None:
    """And those that it does not show one by one."""
    answer(script, 200, {"pods": [row(id=each) for each in "abcdefgh"]})
    answer(script, 200, row(id="i"))
    found = await rest.get_many([PodId(each) for each in "abcdefghi"])
    assert [pod.id for pod in found.values() if pod] == list("abcdefghi")
    assert [request.url.path for request in script.requests] == ["/v2/pods", "/v2/pods/i"]


async def test_a_list_of_another_shape_is_no_empty_list(rest: RunPodProvider, script: Script) -> None:
    """An error."""
    answer(script, 200, {"items": []})
    with pytest.raises(ProtocolViolation):
        await rest.list(None)
    script.steps.clear()
    answer(script, 200, {"keys": "ssh-ed25519 AAAA"})
    with pytest.raises(ProtocolViolation):
        await rest.ssh_keys()


async def test_the_next_request_waits_until_one_is_left(rest: RunPodProvider, script: Script, clock: FakeClock) -> None:
    """As the headers say, before RunPod has to refuse it."""
    answer(script, 200, row(), RateLimit='"minute";r=0;t=20, "hour";r=10;t=900')
    answer(script, 200, row(), RateLimit='"minute";r=59;t=60, "hour";r=9;t=880')
    began = clock.monotonic()
    await rest.get(PodId("p"))
    assert clock.monotonic() == began
    await rest.get(PodId("p"))
    assert clock.monotonic() == began + 20
    await rest.get(PodId("p"))
    assert clock.monotonic() == began + 20


async def test_looking_leaves_some_requests_for_renting(rest: RunPodProvider, script: Script, clock: FakeClock) -> None:
    """A read waits for the next window while a create still goes."""
    answer(script, 200, row(), RateLimit='"minute";r=5;t=20')
    answer(script, 201, row(), RateLimit='"minute";r=4;t=20')
    answer(script, 200, row())
    began = clock.monotonic()
    await rest.get(PodId("p"))
    await rest.create(SPEC, OFFER)
    assert clock.monotonic() == began
    await rest.get(PodId("p"))
    assert clock.monotonic() == began + 20


async def test_a_wait_that_is_too_long_is_an_error_and_no_end_waits(
    rest: RunPodProvider, script: Script, clock: FakeClock, plumbing: Plumbing
) -> None:
    """A pod that is to be ended must not bill because others have asked too much."""
    answer(script, 200, row(), RateLimit='"hour";r=0;t=1800')
    answer(script, 204, None)
    await rest.get(PodId("p"))
    with pytest.raises(RateLimited) as caught:
        await rest.get(PodId("p"))
    assert caught.value.retry_after == pytest.approx(1800)
    assert len(script.requests) == 1
    began = clock.monotonic()
    await rest.terminate(PodId("p"))
    assert clock.monotonic() == began
    script.steps.clear()
    answer(script, 200, row())
    plumbing.tempo.hurry()
    assert await rest.get(PodId("p"))


async def test_a_429_is_sent_again_when_it_says(rest: RunPodProvider, script: Script, clock: FakeClock) -> None:
    """Also a create: nothing was done."""
    answer(script, 429, {"title": "x", "detail": "rate limit exceeded"}, **{"Retry-After": "12"})
    answer(script, 201, row())
    began = clock.monotonic()
    await rest.create(SPEC, OFFER)
    assert clock.monotonic() == began + 12


@pytest.mark.parametrize("error", [(500, ServerError), (503, ServerError)])
async def test_reads_are_sent_again_on_failures(
    rest: RunPodProvider, script: Script, error: tuple[int, type[Exception]]
) -> None:
    """And raise the last one."""
    answer(script, error[0], {"detail": "x"})
    with pytest.raises(error[1]):
        await rest.get(PodId("p"))
    assert len(script.requests) == 5


async def test_offers_are_asked_for_by_cloud_with_their_product(rest: RunPodProvider, script: Script) -> None:
    """Prices for the whole count; none for what is not sold, not free, or too many for one machine."""
    rest.routes.note_graphql_retired()
    plain = {"id": MODEL, "name": "RTX A4000", "memory": 16, "secure": True, "community": True}
    full = {**plain, "price": {"secure": 0.25, "community": 0.17}, "maxCount": {"secure": 8, "community": 1}}
    others = [
        {**full, "id": "none free", "availability": "NONE"},
        {**full, "id": "not told", "availability": None},
        {**full, "id": "not sold", "secure": False, "availability": "HIGH"},
        {**full, "id": "no price", "price": {"secure": 0}, "availability": "HIGH"},
    ]
    names = [MODEL, *(str(other["id"]) for other in others)]
    answer(script, 200, {"gpus": [full, *others]})
    answer(script, 200, {"gpus": [{**full, "availability": "LOW"}, *others]})
    request = GpuRequest(
        models=tuple(names), count=2, interruptible=Interruptible.PREFER, max_price=Decimal(1), cuda="12", min_upload=10
    )
    [offer] = await rest.offers(request)
    assert (offer.price, offer.cloud, offer.stock, offer.region) == (Decimal("0.50"), CloudType.SECURE, "LOW", None)
    assert [dict(sent.url.params) for sent in script.requests[1:]] == [
        {"include": "AVAILABILITY", "product": "POD", "count": "2", "cloud": cloud, "minCudaVersion": "12.0"}
        for cloud in ("SECURE", "COMMUNITY")
    ]


async def test_neither_key_nor_contents_reach_a_log(
    rest: RunPodProvider, script: Script, plumbing: Plumbing, build_log: Callable[[], str]
) -> None:
    """Of the environment only names are logged, of the command nothing."""
    answer(script, 201, row(env={"SECRET": "planted-answer"}))
    spec = replace(SPEC, command="planted-command", env={"TOKEN_X": "planted-value"})
    await rest.create(spec, OFFER)
    shown = build_log() + repr(rest) + repr(create_input(spec, OFFER, whole_command=True)) + repr(plumbing.redactor)
    assert "createPod" in shown
    assert "TOKEN_X" in shown
    for secret in ("rpa_PLANTED", "planted-command", "planted-value", "planted-answer"):
        assert secret not in shown


@pytest.fixture
def build_log(plumbing: Plumbing) -> Callable[[], str]:
    """Everything that has been logged."""
    stream = io.StringIO()
    logging.configure(mode="json", level="debug", redactor=plumbing.redactor, stream=stream)

    def shown() -> str:
        logging.configure(mode="json", level="critical", redactor=plumbing.redactor, stream=io.StringIO())
        assert all(json.loads(line) for line in stream.getvalue().splitlines())
        return stream.getvalue()

    return shown
