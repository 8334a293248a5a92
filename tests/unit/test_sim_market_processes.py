"""Pods of Prime Intellect and Lium on a host: what their containers are started with, and what becomes of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from runner_provisioner.simulators.celium import CeliumSimulator, executor_id
from runner_provisioner.simulators.market.sshd import with_sshd
from runner_provisioner.simulators.pods.host import InertContainer, InertHost
from runner_provisioner.simulators.prime import PrimeSimulator
from runner_provisioner.simulators.transport import InProcess

PUBLIC = "ssh-ed25519 AAAA it's me"


class NoSsh(InertHost):
    """A host that cannot run an sshd, and tells no address."""

    offers_ssh = False


@pytest.fixture
def host() -> InertHost:
    """The host."""
    return InertHost()


@pytest.fixture
def prime(host: InertHost, tmp_path: Path) -> Iterator[PrimeSimulator]:
    """Prime Intellect on it."""
    with PrimeSimulator(host=host, logs=tmp_path / "logs") as simulator:
        simulator.account.add_ssh_key("mine", PUBLIC)
        yield simulator


@pytest.fixture
def celium(host: InertHost) -> Iterator[CeliumSimulator]:
    """Lium on it."""
    with CeliumSimulator(host=host) as simulator:
        yield simulator


async def post(app: PrimeSimulator | CeliumSimulator, path: str, body: dict[str, object]) -> str:
    """Rent something; the pod's id."""
    headers = {"Authorization": f"Bearer {app.key}", "X-API-KEY": app.key}
    transport = InProcess({"service": app.app})
    async with httpx.AsyncClient(transport=transport, base_url="https://service", headers=headers) as web:
        answered = await web.post(path, json=body)
    assert answered.status_code == 200, answered.text
    return str(answered.json()["id"])


async def rent_prime(prime: PrimeSimulator) -> str:
    """A bare pod."""
    pod = {"name": "ci-1", "cloudId": "a4000-1x", "gpuType": "RTXA4000_16GB", "socket": "PCIe", "gpuCount": 1}
    return await post(prime, "/api/v1/pods", {"pod": pod, "provider": {"type": "datacrunch"}})


async def rent_celium(celium: CeliumSimulator, **more: object) -> str:
    """A pod of the default template."""
    body: dict[str, object] = {"pod_name": "ci-1", "user_public_key": [PUBLIC], "gpu_count": 1, **more}
    return await post(celium, f"/api/executors/{executor_id('a4000')}/rent", body)


def eventually(true: Callable[[], object]) -> None:
    """Wait for it."""
    limit = time.monotonic() + 10
    while not true() and time.monotonic() < limit:
        time.sleep(0.01)
    assert true()


async def test_a_bare_machine_is_idle_behind_sshd(prime: PrimeSimulator, host: InertHost) -> None:
    """The account's key is in, nothing else runs."""
    pod_id = await rent_prime(prime)
    eventually(lambda: prime.pod(pod_id).running_since)
    (container,) = host.containers
    assert container.launch.argv[-2:] == ("/bin/sleep", "infinity")
    assert "AAAA it" in container.launch.argv[2]
    assert container.launch.ssh_port == prime.pod(pod_id).ssh_port
    assert container.launch.log.name == f"{pod_id}.log"
    assert prime.processes() == {pod_id}
    prime.interrupt(pod_id)
    assert prime.wait_quiet()


async def test_a_dead_container_is_only_started_again_where_the_market_does(
    celium: CeliumSimulator, host: InertHost
) -> None:
    """Lium does, and first looks whether it stays up."""
    celium.settings.up_seconds = 0.0
    celium.settings.restart_delay = 0.01
    pod_id = await rent_celium(celium)
    eventually(lambda: celium.pod(pod_id).running_since)
    host.containers[0].finish(0)
    eventually(lambda: len(host.containers) == 2)
    first, second = (container.launch for container in host.containers)
    assert first.ssh_port == second.ssh_port == celium.pod(pod_id).ssh_port
    assert celium.pod(pod_id).restarts == 1


async def test_a_failed_creation_leaves_no_process(celium: CeliumSimulator, host: InertHost) -> None:
    """Its container is removed."""
    pod_id = await rent_celium(celium)
    eventually(lambda: celium.pod(pod_id).running_since)
    host.containers[0].finish(1)
    eventually(lambda: celium.pod(pod_id).failure)
    eventually(lambda: not celium.processes())
    assert isinstance(host.containers[0], InertContainer)


async def test_a_dockerfile_runs_its_own_command(celium: CeliumSimulator, host: InertHost) -> None:
    """No template says otherwise."""
    pod_id = await rent_celium(celium, dockerfile_content="FROM x")
    eventually(lambda: host.containers)
    assert host.containers[0].launch.argv[-1] == "/start.sh"
    assert celium.pod(pod_id).dockerfile == "FROM x"


async def test_without_an_sshd_a_pod_still_has_an_address(tmp_path: Path) -> None:
    """As every pod that is up; nobody listens there."""
    with PrimeSimulator(host=NoSsh(), logs=tmp_path) as prime:
        pod_id = await rent_prime(prime)
        eventually(lambda: prime.pod(pod_id).running_since)
        assert prime.pod(pod_id).ssh_port is None
        assert prime.launch_of(prime.pod(pod_id)).argv == ("/bin/sleep", "infinity")


@pytest.mark.parametrize("later", [0.0, 0.1])
def test_the_command_keeps_its_own_words(later: float) -> None:
    """Behind whatever sets up sshd; keys and environment are words of that script, whatever is in them."""
    argv = with_sshd(["/bin/echo", "a b", "$HOME"], [PUBLIC, "x; y"], later=later, environment={"A": "it's"})
    assert argv[-3:] == ("/bin/echo", "a b", "$HOME")
    script = argv[2]
    assert script.endswith('exec "$@"')
    assert "'ssh-ed25519 AAAA it'\"'\"'s me' 'x; y' >/root/.ssh/authorized_keys" in script
    assert "'A=it'\"'\"'s' >>/etc/environment" in script
    # Never run here: it writes where a pod may and this machine's tests may not.
    assert subprocess.run(["/bin/bash", "-n", "-c", script], check=False).returncode == 0
