"""Pods that the adapter of Prime Intellect rents as real processes: the way in, the login key, the output, the end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from runner_provisioner._http import CallMetrics, Plumbing, Tempo
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.domain.pods import Pod, PodClass, PodId, PodSpec, PodState, PodTags, SshEndpoint
from runner_provisioner.logging import Redactor
from runner_provisioner.providers.prime import PrimeApi, PrimeProvider
from runner_provisioner.simulators.pods.host import Image, PodsUnavailable, best_host
from runner_provisioner.simulators.prime import PrimeSimulator

TOOLS = all(shutil.which(tool) for tool in ("ssh", "ssh-keygen"))
pytestmark = [pytest.mark.root, pytest.mark.skipif(not TOOLS, reason="OpenSSH's client is not installed here")]
SECONDS = 60.0
WISH = GpuRequest(
    models=("NVIDIA RTX A4000",), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(1), disk_gb=40
)
SPEC = PodSpec(name="rp-0123abcd-1-1-default", image="", tags=PodTags(owner="0123abcd", cls=PodClass.RUNNER))


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[PrimeSimulator]:
    """The service, whose pods are confined processes with an sshd."""
    try:
        host = best_host(tmp_path / "pods", unconfined_ok=False)
    except PodsUnavailable as error:
        pytest.skip(str(error))
    if not host.offers_ssh:
        pytest.skip(host.note)
    with PrimeSimulator(host=host, logs=tmp_path / "logs") as made:
        yield made


@pytest.fixture
async def prime(simulator: PrimeSimulator) -> AsyncIterator[PrimeProvider]:
    """The adapter, over a real port."""
    clock = SystemClock()
    plumbing = Plumbing(clock=clock, redactor=Redactor(), tempo=Tempo(), metrics=CallMetrics(), user_agent="test")
    with simulator.serve() as server:
        provider = PrimeProvider(
            PrimeApi.connect(url=server.url, api_key=simulator.key, plumbing=plumbing, pace=None), clock=clock
        )
        yield provider
        await provider.aclose()


def new_key(path: Path) -> str:
    """Make a key pair; its public line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text(encoding="ascii").strip()


async def login(key: Path, at: SshEndpoint, command: str) -> str | None:
    """What the command prints in the pod; None when it lets nobody in."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
    words = ["ssh", "-q", "-F", "none", *options, "-i", str(key), "-p", str(at.port), f"{at.user}@{at.host}", command]
    done = await anyio.run_process(words, check=False)
    return done.stdout.decode() if done.returncode == 0 else None


async def up(prime: PrimeProvider, pod_id: PodId) -> Pod:
    """The pod once it runs."""
    with anyio.fail_after(SECONDS):
        while True:
            pod = (await prime.get_many([pod_id]))[pod_id]
            if pod is not None and pod.state is PodState.RUNNING:
                return pod
            await anyio.sleep(0.1)


async def let_in(key: Path, at: SshEndpoint, command: str) -> str:
    """The same once its sshd answers."""
    with anyio.fail_after(SECONDS):
        while True:
            told = await login(key, at, command)
            if told is not None:
                return told
            await anyio.sleep(0.2)


async def test_a_bare_pod_is_entered_with_its_login_key_until_it_is_taken(
    prime: PrimeProvider, simulator: PrimeSimulator, tmp_path: Path
) -> None:
    """With the key that the create named and with no other; the end is the end."""
    mine, primary = tmp_path / "mine", tmp_path / "primary"
    await prime.login_key(new_key(primary), name="primary")
    key_id = await prime.login_key(new_key(mine), name="runner-provisioner")
    offer = next(each for each in await prime.offers(WISH) if each.interruptible)
    pod = await prime.create(replace(SPEC, options={"sshKeyId": key_id}), offer)
    found = await up(prime, pod.id)
    assert found.ssh is not None
    assert found.ssh == await prime.ssh_endpoint(pod.id)
    assert "A4000" in await let_in(mine, found.ssh, "nvidia-smi -L")
    assert await login(primary, found.ssh, "true") is None
    await prime.delete_login_key(key_id)
    simulator.interrupt(pod.id)
    [taken] = await prime.list("0123abcd")
    assert (taken.state, taken.ssh) == (PodState.INTERRUPTED, None)
    await prime.terminate(pod.id)
    assert simulator.wait_quiet()
    assert await prime.list(None) == []


async def test_a_custom_template_reads_what_the_spec_says_and_its_output_is_followed(
    prime: PrimeProvider, simulator: PrimeSimulator
) -> None:
    """Variables and tags arrive as they are; the log ends with the pod."""
    script = 'echo "A is $A, owner $RP_OWNER"; for n in 1 2 3; do sleep 0.5; echo "line $n"; done; exec sleep infinity'
    template = simulator.add_template(Image(name="octo/runner", entrypoint=("/bin/bash", "-c"), cmd=(script,)))
    offer = next(each for each in await prime.offers(WISH) if not each.interruptible)
    options = {"customTemplateId": template}
    pod = await prime.create(replace(SPEC, env={"A": "it's $B"}, options=options), offer)
    await up(prime, pod.id)
    lines = []
    with anyio.fail_after(SECONDS):
        async for line in prime.logs(pod.id, follow=True):
            lines.append(line.text)
            if line.text == "line 3":
                await prime.terminate(pod.id)
    assert lines == ["A is it's $B, owner 0123abcd", "line 1", "line 2", "line 3"]
