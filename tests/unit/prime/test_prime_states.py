"""Every status of Prime Intellect is one of our states, whatever its installation says."""

from __future__ import annotations

from typing import Any

import pytest

from runner_provisioner.domain.pods import PodState, SshEndpoint
from runner_provisioner.providers.prime.states import state_of, to_pod
from runner_provisioner.providers.prime.wire import WirePod, parse

SSH = "root@135.23.125.123 -p 2222"


def pod(**fields: Any) -> WirePod:  # noqa: ANN401 - fields of the wire
    """A pod as it is answered."""
    return parse(WirePod, {"id": "p1", "name": "ci-1", "status": "ACTIVE", **fields}, "getPod")


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        pytest.param({"status": "PROVISIONING"}, PodState.STARTING, id="provisioning"),
        pytest.param({"status": "PENDING", "sshConnection": SSH}, PodState.STARTING, id="pending"),
        pytest.param({"installationProgress": 40, "sshConnection": SSH}, PodState.STARTING, id="installing"),
        pytest.param({"installationProgress": 100}, PodState.STARTING, id="no address"),
        pytest.param({"installationProgress": 100, "sshConnection": [None]}, PodState.STARTING, id="no address yet"),
        pytest.param(
            {
                "installationProgress": 100,
                "ip": "1.2.3.4",
                "primePortMapping": [{"internal": "22", "external": "22", "protocol": "TCP"}],
            },
            PodState.STARTING,
            id="a port and no connection",
        ),
        pytest.param({"installationStatus": "IN_PROGRESS", "sshConnection": SSH}, PodState.STARTING, id="in progress"),
        pytest.param({"installationStatus": "PENDING", "sshConnection": SSH}, PodState.STARTING, id="pending install"),
        pytest.param({"installationProgress": 100, "sshConnection": SSH}, PodState.RUNNING, id="progress 100"),
        pytest.param({"installationStatus": "FINISHED", "sshConnection": SSH}, PodState.RUNNING, id="finished"),
        pytest.param({"installationStatus": "COMPLETE", "sshConnection": SSH}, PodState.RUNNING, id="complete"),
        pytest.param(
            {"installationStatus": "FINISHED", "installationProgress": 99, "sshConnection": SSH},
            PodState.RUNNING,
            id="finished before progress",
        ),
        pytest.param(
            {"installationStatus": "PENDING", "installationProgress": 100, "sshConnection": SSH},
            PodState.RUNNING,
            id="progress before the word",
        ),
        pytest.param({"sshConnection": SSH}, PodState.RUNNING, id="fields null with an address"),
        pytest.param({"status": "active", "sshConnection": SSH}, PodState.RUNNING, id="lower case"),
        pytest.param({"installationFailure": "no driver", "sshConnection": SSH}, PodState.FAILED, id="failure"),
        pytest.param({"installationStatus": "FAILED", "sshConnection": SSH}, PodState.FAILED, id="failed"),
        pytest.param({"sshConnection": "root@1.2.3.4 -o ProxyCommand=x"}, PodState.STARTING, id="no readable address"),
        pytest.param({"status": "STOPPED", "isSpot": True}, PodState.INTERRUPTED, id="stopped spot"),
        pytest.param({"status": "STOPPED", "isSpot": False}, PodState.STOPPED, id="stopped"),
        pytest.param({"status": "STOPPED"}, PodState.STOPPED, id="stopped, kind not told"),
        pytest.param({"status": "ERROR", "sshConnection": SSH}, PodState.FAILED, id="error"),
        pytest.param({"status": "DELETING", "isSpot": True}, PodState.STOPPED, id="deleting"),
        pytest.param({"status": "TERMINATED"}, None, id="terminated"),
        pytest.param({"status": "UNKNOWN"}, PodState.STARTING, id="unknown, never seen"),
        pytest.param({"status": "REPAIRING"}, PodState.STARTING, id="a new word, never seen"),
        pytest.param({"status": None}, PodState.STARTING, id="no status"),
    ],
)
def test_each_status_is_a_state(fields: dict[str, object], state: PodState | None) -> None:
    """The rows of the reference's table, and what lies between them."""
    assert state_of(pod(**fields)) is state


@pytest.mark.parametrize("status", ["UNKNOWN", "REPAIRING", None])
@pytest.mark.parametrize("last", list(PodState))
def test_a_word_that_tells_nothing_keeps_the_last_state(status: str | None, last: PodState) -> None:
    """Until the next look."""
    assert state_of(pod(status=status), last=last) is last


def test_a_spot_pod_that_was_asked_to_end_is_not_interrupted() -> None:
    """It stops on its way out."""
    assert state_of(pod(status="STOPPED", isSpot=True), asked=True) is PodState.STOPPED


def test_a_pod_is_told_in_the_domain_s_words() -> None:
    """Without tags and without a machine, for Prime Intellect tells neither."""
    found = to_pod(
        pod(
            sshConnection=SSH, ip="135.23.125.123", gpuName="H100_80GB", gpuCount=2, priceHr=2.69, isSpot=True,
            createdAt="2026-11-21T10:00:00.123456789Z", environmentType="ubuntu_22_cuda_12", teamId="t",
            jupyterPassword="s3cr3t",
        )
    )  # fmt: skip
    assert found
    assert (found.provider, found.id, found.name, found.status) == ("prime", "p1", "ci-1", "ACTIVE")
    assert found.ssh == SshEndpoint(host="135.23.125.123", port=2222)
    assert (found.gpu_model, found.gpu_count, found.interruptible) == ("H100_80GB", 2, True)
    assert str(found.price) == "2.69"
    assert found.created_at
    assert found.created_at.isoformat() == "2026-11-21T10:00:00.123456+00:00"
    assert (found.tags, found.machine, found.image) == (None, None, "ubuntu_22_cuda_12")
    assert "s3cr3t" not in repr(found)


def test_an_address_that_cannot_be_read_is_said() -> None:
    """One such pod hides no other."""
    found = to_pod(pod(sshConnection="nonsense -o x"))
    assert found
    assert found.ssh is None
    assert "not readable" in found.detail


def test_a_time_that_cannot_be_read_is_not_known() -> None:
    """It must not hide a pod."""
    for written in ("soon", 5, "0001-01-01T00:00:00+14:00"):
        found = to_pod(pod(createdAt=written))
        assert found
        assert found.created_at is None
