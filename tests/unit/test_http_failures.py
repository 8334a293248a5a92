"""Every error has a status and the shape of its contract; and the small parts of the service."""

from __future__ import annotations

import inspect
from decimal import Decimal

import pytest

from runner_provisioner import errors
from runner_provisioner.controller.failures import body_of, contract_of, status_of, told
from runner_provisioner.controller.limits import RateLimits
from runner_provisioner.controller.metrics import OTHER, MeteredCalls, Metrics
from runner_provisioner.domain.gpu_names import on_socket, same_models
from runner_provisioner.domain.offers import GpuType
from runner_provisioner.domain.pods import Pod, PodId, PodState, PublicPort, SshEndpoint
from runner_provisioner.domain.served import Contract
from runner_provisioner.errors import RunnerProvisionerError
from runner_provisioner.testing.clock import FakeClock

EXPECTED = {
    "InvalidRequest": 422,
    "UnknownGpu": 422,
    "UnknownProvider": 422,
    "MissingCredential": 503,
    "ServerError": 502,
    "Timeout": 503,
    "Unreachable": 503,
    "RateLimited": 503,
    "AuthenticationFailed": 502,
    "PermissionDenied": 502,
    "ProtocolViolation": 502,
    "ApiRetired": 502,
    "CapacityUnavailable": 409,
    "OfferGone": 409,
    "BidTooLow": 409,
    "SpotDiscontinued": 409,
    "InsufficientFunds": 402,
    "BudgetExceeded": 402,
    "CreateOutcomeUnknown": 503,
    "NotFound": 404,
    "AllOffersFailed": 409,
    "LeftBehind": 503,
    "StoreError": 503,
    "StaleWrite": 503,
}


def _kinds() -> list[type[RunnerProvisionerError]]:
    found = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, RunnerProvisionerError)]
    return sorted(found, key=lambda one: one.__name__)


@pytest.mark.parametrize("kind", _kinds(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_its_contracts_shape(kind: type[RunnerProvisionerError]) -> None:
    """What can be repeated later says when; the message is one line; what is the request's fault has a place."""
    error = kind("it\nfailed: do this")
    assert status_of(error) == EXPECTED.get(kind.__name__, status_of(error))
    found = told(error)
    assert found.message.startswith("it failed: do this")
    assert ("retry-after" in found.headers) == (found.status in {502, 503})
    cloud = body_of(Contract.CLOUD, found)
    assert (cloud["data"], cloud["message"], cloud["error"]["type"]) == (None, found.message, kind.__name__)
    for contract in (Contract.MACHINES, Contract.PODS, None):
        detail = body_of(contract, found)["detail"]
        assert (detail[0]["msg"] if found.status == 422 else detail) == found.message


def test_the_time_to_wait_is_the_providers_own_where_it_names_one() -> None:
    """In whole seconds, one at least."""
    assert told(errors.RateLimited("slow", retry_after=2.1)).headers["retry-after"] == "3"
    assert told(errors.RateLimited("slow", retry_after=0)).headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("path", "contract"),
    [
        ("/api/cloud/pods", Contract.CLOUD),
        ("/machines", Contract.MACHINES),
        ("/machines/", Contract.MACHINES),
        ("/machinesx", None),
        ("/api/v1/pods", Contract.PODS),
        ("/healthz", None),
    ],
    ids=str,
)
def test_a_path_tells_its_contract(path: str, contract: Contract | None) -> None:
    """By whole segments."""
    assert contract_of(path) is contract


def test_a_limit_forgets_who_was_not_there_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is flat whoever comes; nobody is limited by 0."""
    monkeypatch.setattr("runner_provisioner.controller.limits._MOST_CALLERS", 2)
    limits = RateLimits(FakeClock(), per_minute=1)
    assert [limits.take(caller) is None for caller in ("a", "b", "c", "a", "a")] == [True, True, True, True, False]
    free = RateLimits(FakeClock(), per_minute=0)
    assert [free.take("a"), free.take("a")] == [None, None]


def test_the_numbers_have_no_series_for_a_pod_and_no_end_of_words() -> None:
    """Outcomes beyond so many are one."""
    metrics = Metrics()
    calls = MeteredCalls(metrics)
    for number in range(300):
        calls.record("runpod", "myPods", f"CODE_{number}", 0.1)
    calls.limited("runpod", 7)
    metrics.request("cloud.list_pods", 200, 0.01)
    metrics.request("cloud.list_pods", 502, 0.01, "ServerError")
    metrics.spend(pods={"runpod": 2}, hourly={"runpod": Decimal("0.5")}, spent={"runpod": Decimal(3)})
    text = metrics.text().decode()
    outcomes = {line for line in text.splitlines() if "provider_call_seconds_count" in line}
    assert len(outcomes) == 201
    assert any(OTHER in line for line in outcomes)
    assert 'runner_provisioner_errors_total{error="ServerError",operation="cloud.list_pods"} 1.0' in text
    assert 'runner_provisioner_rate_limit_remaining{service="runpod"} 7.0' in text
    assert 'runner_provisioner_spend_usd_per_hour{provider="runpod"} 0.5' in text
    metrics.spend(pods={}, hourly={}, spent={})
    assert 'runner_provisioner_pods{provider="runpod"}' not in metrics.text().decode()


def _type(name: str, memory: int = 0) -> GpuType:
    return GpuType(id=name, name=name, memory_gb=memory, secure=True, community=True)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA A100 80GB PCIe", ["NVIDIA A100 80GB PCIe"]),
        ("nvidia a100 80gb pcie", ["NVIDIA A100 80GB PCIe"]),
        ("A100_80GB", ["NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB"]),
        ("A100_80GB PCIe", ["NVIDIA A100 80GB PCIe"]),
        ("A100_80GB SXM4", ["NVIDIA A100-SXM4-80GB"]),
        ("A100_40GB", []),
        ("RTX4090_24GB", ["NVIDIA GeForce RTX 4090"]),
        ("RTX4090_48GB", []),
        ("H100", []),
    ],
    ids=str,
)
def test_a_gpu_is_found_by_any_markets_name(name: str, found: list[str]) -> None:
    """Model, memory and socket tell it from others."""
    known = [
        _type("NVIDIA A100 80GB PCIe", 80),
        _type("NVIDIA A100-SXM4-80GB", 80),
        _type("NVIDIA GeForce RTX 4090", 24),
    ]
    assert same_models(name, known) == found


@pytest.mark.parametrize(
    ("model", "socket", "sits"),
    [
        ("NVIDIA A100 80GB PCIe", "PCIe", True),
        ("NVIDIA A100 80GB PCIe", "SXM4", False),
        ("NVIDIA A100-SXM4-80GB", "sxm4", True),
        ("NVIDIA A100-SXM4-80GB", "SXM5", False),
        ("NVIDIA H100 80GB HBM3", "SXM5", True),
        ("NVIDIA H100 80GB HBM3", "SXM", True),
        ("NVIDIA H100 80GB HBM3", "SXM4", False),
        ("NVIDIA H100 80GB HBM3", "SXM9", False),
        ("NVIDIA H100 NVL", "SXM5", False),
        ("NVIDIA H200", "SXM5", True),
        ("NVIDIA H200", "SXM6", False),
        ("Tesla V100-SXM2-16GB", "SXM2", True),
        ("Tesla V100-SXM2-16GB", "SXM3", False),
        ("NVIDIA GH200 480GB", "SXM5", False),
        ("AMD Instinct MI300X OAM", "OAM", True),
        ("AMD Instinct MI300X OAM", "PCIe", False),
        ("NVIDIA B200", "SXM6", True),
        ("NVIDIA RTX A4000", "PCIe", True),
        ("NVIDIA RTX A4000", "SXM9", False),
    ],
    ids=str,
)
def test_a_gpu_sits_on_the_socket_that_its_name_tells(model: str, socket: str, sits: bool) -> None:  # noqa: FBT001 - a table
    """A card whose name tells none is a PCIe card, save modules, which sit on the generation they were made for."""
    assert on_socket(model, socket) is sits


def test_the_ports_of_a_pod_are_those_told_else_that_of_its_ssh_server() -> None:
    """And none where nothing is told."""
    bare = Pod(provider="x", id=PodId("p"), name="n", state=PodState.RUNNING)
    assert bare.open_ports == ()
    ssh = SshEndpoint(host="h", port=1022)
    told_ssh = Pod(provider="x", id=PodId("p"), name="n", state=PodState.RUNNING, ssh=ssh)
    assert told_ssh.open_ports == (PublicPort(private=22, public=1022, host="h"),)
    port = PublicPort(private=80, public=8080, host="h")
    assert Pod(
        provider="x", id=PodId("p"), name="n", state=PodState.RUNNING, ssh=ssh, public_ports=(port,)
    ).open_ports == (port,)
