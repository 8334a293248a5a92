"""Pods of the simulated Prime Intellect and Lium as real processes: sshd, start commands, restarts, their end."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from runner_provisioner.simulators.celium import CeliumSimulator, executor_id
from runner_provisioner.simulators.pods.host import Image, PodHost, PodsUnavailable, best_host
from runner_provisioner.simulators.prime import PrimeSimulator

T = TypeVar("T")
SECONDS = 60.0
TOOLS = all(shutil.which(tool) for tool in ("ssh", "ssh-keygen", "ssh-keyscan"))
pytestmark = [pytest.mark.root, pytest.mark.skipif(not TOOLS, reason="OpenSSH's client is not installed here")]


@pytest.fixture
def host(tmp_path: Path) -> PodHost:
    """Runs confined pods with an sshd."""
    try:
        found = best_host(tmp_path / "pods", unconfined_ok=False)
    except PodsUnavailable as error:
        pytest.skip(str(error))
    if not found.offers_ssh:
        pytest.skip(found.note)
    return found


@dataclass(frozen=True)
class Key:
    """A key pair."""

    private: Path

    @property
    def public(self) -> str:
        """As accounts keep it."""
        return self.private.with_suffix(".pub").read_text(encoding="ascii").strip()


@pytest.fixture
def key(tmp_path: Path) -> Key:
    """Of whoever rents."""
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return Key(path)


def until(look: Callable[[], T | None], what: str) -> T:
    """The first answer that is not None."""
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit:
        found = look()
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen")


def ssh(key: Key, port: int, command: str) -> str | None:
    """What the command prints in the pod; None when nobody answers there or the key is not admitted."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
    done = subprocess.run(
        ["ssh", "-q", "-F", "none", *options, "-i", str(key.private), "-p", str(port), "root@127.0.0.1", command],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def _known(port: int) -> str | None:
    try:
        return host_key(port)
    except (subprocess.CalledProcessError, IndexError):
        return None


def host_key(port: int) -> str:
    """The pod's own."""
    found = subprocess.run(
        ["ssh-keyscan", "-t", "ed25519", "-p", str(port), "127.0.0.1"], capture_output=True, text=True, check=True
    )
    return found.stdout.split()[-1]


# -- Prime Intellect


@pytest.fixture
def prime(host: PodHost, key: Key, tmp_path: Path) -> Iterator[PrimeSimulator]:
    """With the account's key."""
    with PrimeSimulator(host=host, logs=tmp_path / "logs") as simulator:
        simulator.account.add_ssh_key("mine", key.public)
        yield simulator


@pytest.fixture
def prime_web(prime: PrimeSimulator) -> Iterator[httpx.Client]:
    """Over a real port."""
    with (
        prime.serve() as server,
        httpx.Client(
            base_url=f"{server.url}/api/v1", headers={"Authorization": f"Bearer {prime.key}"}, trust_env=False
        ) as web,
    ):
        yield web


def create(web: httpx.Client, **fields: object) -> str:
    """A pod; its id."""
    pod = {"name": "ci-1", "cloudId": "a4000-1x", "gpuType": "RTXA4000_16GB", "socket": "PCIe", "gpuCount": 1}
    answered = web.post("/pods", json={"pod": {**pod, **fields}, "provider": {"type": "datacrunch"}})
    assert answered.status_code == 200, answered.text
    return str(answered.json()["id"])


def prime_port(web: httpx.Client, pod_id: str) -> int:
    """Where its sshd answers, once the service says so."""

    def look() -> int | None:
        told = web.get("/pods/status", params={"pod_ids": pod_id}).json()["data"][0]["sshConnection"]
        return int(told.rpartition(" ")[2]) if told else None

    return until(look, "sshConnection")


def test_a_bare_pod_admits_the_accounts_key_alone(
    prime: PrimeSimulator, prime_web: httpx.Client, key: Key, tmp_path: Path
) -> None:
    """As root, with the GPU that was rented; each pod has a host key of its own; the end is the end."""
    pods = [create(prime_web), create(prime_web, name="ci-2")]
    ports = [prime_port(prime_web, pod_id) for pod_id in pods]
    told = until(lambda: ssh(key, ports[0], "whoami; nvidia-smi -L; echo A=$A"), "a login")
    assert told.splitlines()[0] == "root"
    assert "RTXA4000" in told
    until(lambda: ssh(key, ports[1], "true"), "a login")
    assert host_key(ports[0]) != host_key(ports[1])
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    assert ssh(Key(other), ports[0], "true") is None
    prime_web.delete(f"/pods/{pods[0]}")
    assert prime.wait_quiet()
    assert ssh(key, ports[0], "true") is None
    assert prime.processes() == {pods[1]}


def test_a_custom_template_runs_its_command_with_the_variables(
    prime: PrimeSimulator, prime_web: httpx.Client, key: Key
) -> None:
    """And sshd beside it."""
    image = Image(name="octo/runner", entrypoint=("/bin/bash", "-c"), cmd=('echo "A is $A"; exec sleep infinity',))
    template = prime.add_template(image)
    pod_id = create(
        prime_web, image="custom_template", customTemplateId=template, envVars=[{"key": "A", "value": "it's $B"}]
    )
    port = prime_port(prime_web, pod_id)
    log = until(lambda: prime_web.get(f"/pods/{pod_id}/logs").text or None, "output")
    assert log == "A is it's $B\n"
    assert until(lambda: ssh(key, port, "cat /proc/1/comm"), "a login") == "sleep\n"


# -- Lium


@pytest.fixture
def celium(host: PodHost, tmp_path: Path) -> Iterator[CeliumSimulator]:
    """The service."""
    with CeliumSimulator(host=host, logs=tmp_path / "logs") as simulator:
        simulator.settings.restart_delay = 0.1
        yield simulator


@pytest.fixture
def celium_web(celium: CeliumSimulator) -> Iterator[httpx.Client]:
    """Over a real port."""
    with (
        celium.serve() as server,
        httpx.Client(base_url=f"{server.url}/api", headers={"X-API-KEY": celium.key}, trust_env=False) as web,
    ):
        yield web


def rent(web: httpx.Client, key: Key, startup: str, **template: object) -> str:
    """A pod from a one-time template; its id."""
    body = {"name": "t", "docker_image": "octo/runner", "startup_commands": startup, "one_time_template": True}
    made = web.post("/templates", json={**body, **template})
    assert made.status_code == 200, made.text
    fields: dict[str, Any] = {"pod_name": "ci-1", "template_id": made.json()["id"], "user_public_key": [key.public]}
    answered = web.post(f"/executors/{executor_id('a4000')}/rent", json={**fields, "gpu_count": 1})
    assert answered.status_code == 200, answered.text
    return str(answered.json()["id"])


def packed(script: str) -> str:
    """As a caller must, so that no shell on the way changes it."""
    return f"bash -c 'echo {base64.b64encode(script.encode()).decode()}|base64 -d|bash'"


def test_a_start_command_goes_through_the_nodes_shell_and_runs_again(
    celium: CeliumSimulator, celium_web: httpx.Client, key: Key
) -> None:
    """The container keeps its disk from one start to the next; sshd answers beside it, with the rent's key."""
    script = 'n=$(cat /count 2>/dev/null || echo 0); echo $((n + 1)) >/count; echo "start $n in $A"; sleep 3'
    pod_id = rent(celium_web, key, packed(script), environment={"A": "a b", "EMPTY": ""})

    def look() -> int | None:
        told = celium_web.get(f"/pods/{pod_id}").json()["ssh_connect_cmd"]
        return int(told.rpartition(" ")[2]) if told else None

    def beside() -> str | None:
        port = look()
        return ssh(key, port, "cat /etc/environment") if port else None

    assert "A=a b" in until(beside, "a login")
    before = until(look, "an address")
    known = until(lambda: _known(before), "a host key")
    until(lambda: True if celium.pod(pod_id).restarts >= 1 else None, "a restart")
    log = until(lambda: text if "start 1" in (text := celium.log(pod_id)) else None, "a second start")
    assert log.splitlines()[:2] == ["start 0 in a b", "start 1 in a b"]
    assert celium.pod(pod_id).on_node == []
    assert look() == before
    assert until(lambda: _known(before), "a host key") == known
    celium_web.delete(f"/pods/{pod_id}")
    assert celium.wait_quiet()
    assert celium.processes() == frozenset()


def test_a_command_that_ends_at_once_is_a_failed_creation(
    celium: CeliumSimulator, celium_web: httpx.Client, key: Key
) -> None:
    """It is not started again, and bills no more."""
    pod_id = rent(celium_web, key, "bash -c 'echo no; exit 3'")
    until(
        lambda: True if celium_web.get(f"/pods/{pod_id}").json()["status"] == "CREATION_FAILED" else None, "the failure"
    )
    assert celium.pod(pod_id).restarts == 0
    assert not celium.bill().pods[pod_id].running
    until(lambda: True if not celium.processes() else None, "its end")
