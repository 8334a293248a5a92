"""A pod that the adapter rents at the simulated Lium is a real process: its command, its restarts, the way in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import anyio
import httpx
import pytest

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.domain.pods import Pod, PodClass, PodSpec, PodState, PodTags, SshEndpoint
from runner_provisioner.logging import Redactor
from runner_provisioner.providers.celium import CeliumApi, CeliumProvider
from runner_provisioner.simulators.celium import CeliumSimulator
from runner_provisioner.simulators.pods.host import PodHost, PodsUnavailable, best_host

SECONDS = 60.0
OWNER = "0123abcd"
MODEL = "NVIDIA RTX A4000"
TOOLS = all(shutil.which(tool) for tool in ("ssh", "ssh-keygen"))
pytestmark = [pytest.mark.root, pytest.mark.skipif(not TOOLS, reason="OpenSSH's client is not installed here")]


@dataclass(frozen=True)
class World:
    """The adapter, the service, and a key that may log in."""

    celium: CeliumProvider
    simulator: CeliumSimulator
    url: str
    key: Path

    async def rent(self, command: str, **env: str) -> Pod:
        """A runner's pod with this command, on whatever is cheapest."""
        now = SystemClock().now()
        env["PUBLIC_KEY"] = self.key.with_suffix(".pub").read_text("ascii")
        request = GpuRequest(
            models=(), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(5), min_vram_gb=1
        )
        offer = min(await self.celium.offers(request), key=lambda one: one.price)
        spec = PodSpec(
            name=f"rp-{OWNER}-1-1-default",
            image="octo/runner:1",
            tags=PodTags(owner=OWNER, cls=PodClass.RUNNER, nonce="n0nce"),
            command=command,
            env=env,
            terminate_after=now + timedelta(hours=1),
        )
        return await self.celium.create(spec, offer)

    async def until(self, pod: Pod, what: str, *, times: int = 1) -> list[str]:
        """The pod's log, once so many lines of it hold this."""
        with anyio.fail_after(SECONDS):
            while True:
                lines = [line.text async for line in self.celium.logs(pod.id)]
                if sum(what in line for line in lines) >= times:
                    return lines
                await anyio.sleep(0.2)

    async def way_in(self, pod: Pod) -> SshEndpoint:
        """Where its SSH server answers."""
        with anyio.fail_after(SECONDS):
            while True:
                found = await self.celium.ssh_endpoint(pod.id)
                if found is not None:
                    return found
                await anyio.sleep(0.2)

    async def inside(self, pod: Pod, command: str) -> str:
        """What the command prints there."""
        place = await self.way_in(pod)
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
        argv = ["ssh", "-q", "-F", "none", *options, "-i", str(self.key), "-p", str(place.port)]
        with anyio.fail_after(SECONDS):
            while True:
                done = await anyio.run_process([*argv, f"{place.user}@{place.host}", command], check=False)
                if done.returncode == 0:
                    return done.stdout.decode()
                await anyio.sleep(0.2)


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


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Of whoever rents; the public one lies beside it."""
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
async def world(host: PodHost, key: Path, tmp_path: Path) -> AsyncIterator[World]:
    """Over a real port, in real time."""
    with CeliumSimulator(host=host, logs=tmp_path / "logs") as simulator, simulator.serve() as server:
        plumbing = Plumbing(
            clock=SystemClock(), redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="test"
        )
        url = f"{server.url}/api"
        api = CeliumApi.connect(url=url, api_key=simulator.key, plumbing=plumbing)
        try:
            yield World(CeliumProvider(api, clock=SystemClock()), simulator, url, key)
        finally:
            await api.aclose()


async def test_a_command_runs_once_through_every_restart_of_its_container(world: World) -> None:
    """With its environment, shown by no command line; a restart, and a reboot with a new disk, start nothing."""
    # The simulator's own shell beside the command, which sets up sshd, shows the whole line for a moment.
    shown = "sleep 2; for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; done; echo"
    command = f'echo "token: $TOKEN"; echo ran >>/workspace/ran; {shown}; exit 7'
    pod = await world.rent(f"{command} # planted-in-the-command", TOKEN="it's $HOME", PLAIN="`x` $PATH")
    lines = await world.until(pod, "has ended with 7: idle until this pod is removed")
    assert "token: it's $HOME" in lines
    assert not any("planted-in-the-command" in line or "base64" in line for line in lines)
    running = await world.celium.get(pod.id)
    assert running is not None
    assert running.alive
    assert await world.inside(pod, "cat /workspace/ran; tr '\\0' ' ' </proc/1/cmdline") == "ran\nbash "
    assert (await world.inside(pod, ". /etc/environment 2>/dev/null; grep ^PLAIN= /etc/environment")).strip() == (
        "PLAIN=`x` $PATH"
    )
    await world.inside(pod, "kill 1; true")
    await world.until(pod, "the container has started before: idle")
    assert world.simulator.pod(pod.id).restarts >= 1
    async with httpx.AsyncClient(headers={"X-API-KEY": world.simulator.key}, trust_env=False) as web:
        (await web.post(f"{world.url}/pods/{pod.id}/reboot", json={})).raise_for_status()
    await world.until(pod, "the container has started before: idle", times=2)
    assert await world.inside(pod, "cat /workspace/ran") == "ran\n"
    assert len([line async for line in world.celium.logs(pod.id) if line.text.startswith("token:")]) == 1


async def test_a_pod_that_is_ended_takes_everything_along(world: World) -> None:
    """Its process, its template, and its place in the list; a reclaimed one says why."""
    pod = await world.rent("sleep 600")
    assert await world.inside(pod, "echo in") == "in\n"
    running = await world.celium.get(pod.id)
    assert running is not None
    assert running.state is PodState.RUNNING
    await world.celium.terminate(pod.id)
    assert await world.celium.get(pod.id) is None
    assert await world.celium.list(OWNER) == []
    assert await anyio.to_thread.run_sync(world.simulator.wait_quiet)
    assert not world.simulator.processes()
    assert not [one for one in world.simulator.account.templates.values() if one.own]
    second = await world.rent("sleep 600")
    await world.way_in(second)
    world.simulator.interrupt(second.id, reason="wanted by its owner")
    taken = await world.celium.get(second.id)
    assert taken is not None
    assert (taken.state, taken.detail) == (PodState.INTERRUPTED, "provider_reclaimed: wanted by its owner")
