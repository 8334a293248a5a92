"""Prime Intellect's own command line, in an environment of its own, against the simulator.

It reads PRIME_API_BASE_URL; what it can do with a pod it must be able to do here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner_provisioner.clock import SystemClock
from runner_provisioner.simulators.faults import Fault
from runner_provisioner.simulators.prime import PrimeSimulator, rows

CLIENT = "prime"
pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]
Prime = Callable[..., subprocess.CompletedProcess[str]]
CREATE = (
    *("pods", "create", "--cloud-id", "a4000-1x", "--gpu-type", "RTXA4000_16GB", "--gpu-count", "1", "--name", "ci-1"),
    *("--disk-size", "100", "--vcpus", "8", "--memory", "32", "--yes"),
)
TEMPLATE = ("--image", "custom_template", "--custom-template-id", "tpl1", "--env", "A=B")


@pytest.fixture(scope="session")
def program(install: Callable[[str], Path]) -> Path:
    """The program of a fresh environment that has the newest client."""
    return install(CLIENT) / "prime"


@pytest.fixture
def sim() -> Iterator[PrimeSimulator]:
    """An account with money, a key and a template."""
    with PrimeSimulator(SystemClock()) as simulator:
        simulator.account.add_ssh_key("mine", "ssh-ed25519 AAAA me")
        simulator.account.teams.add("team123")
        simulator.add_template("octo/runner:1", "tpl1")
        yield simulator


@pytest.fixture
def prime(program: Path, sim: PrimeSimulator, tmp_path: Path) -> Iterator[Prime]:
    """Call it with these arguments; keywords are variables of its environment."""
    with sim.serve() as server:

        def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "COLUMNS": "200",
                "PRIME_API_BASE_URL": server.url,
                "PRIME_API_KEY": sim.key,
                **variables,
            }
            return subprocess.run(
                [str(program), *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
            )

        yield call


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What it printed; it succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.does("availability")
def test_offers_are_read(prime: Prime) -> None:
    """GPUs, spot ones marked; types; places for disks."""
    offers = said(prime("availability", "list", "--plain"))
    assert "(Spot)" in offers
    assert "lambdalabs" in offers
    assert "H100_80GB" in said(prime("availability", "gpu-types", "--plain"))
    assert "datacrunch" in said(prime("availability", "disks", "--plain"))


@pytest.mark.does("create", "list", "status", "terminate")
def test_the_life_of_a_pod(prime: Prime, sim: PrimeSimulator) -> None:
    """Created with a template and variables, listed, looked at, ended, and in the history."""
    said(prime(*CREATE, *TEMPLATE, PRIME_TEAM_ID="team123"))
    (pod,) = sim.live()
    assert (dict(pod.env), pod.template_id, pod.team_id) == ({"A": "B"}, "tpl1", "team123")
    assert pod.id in said(prime("pods", "list", "--plain"))
    told = said(prime("pods", "status", pod.id, "--plain"))
    assert "root@127.0.0.1 -p" in told
    assert "FINISHED" in told
    said(prime("pods", "terminate", pod.id, "--yes"))
    assert sim.live() == []
    assert pod.id in said(prime("pods", "history", "--plain"))


@pytest.mark.does("ssh")
def test_where_ssh_goes(prime: Prime, sim: PrimeSimulator, tmp_path: Path) -> None:
    """It starts ssh with the address that the service tells."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ssh").write_text('#!/bin/sh\necho "ssh $*"\n', encoding="ascii")
    (tools / "ssh").chmod(0o755)
    (tmp_path / "id").touch()
    said(prime(*CREATE, "--image", "ubuntu_22_cuda_12"))
    (pod,) = sim.live()
    told = said(
        prime(*("pods", "ssh", pod.id), PATH=f"{tools}:{os.environ['PATH']}", PRIME_SSH_KEY_PATH=str(tmp_path / "id"))
    )
    _, port = sim.nowhere(pod.id, 22)
    assert f"-p {port} root@127.0.0.1" in told


@pytest.mark.does("error")
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(rows.no_stock(), "not available", id="no stock"),
        pytest.param(rows.low_balance(), "Payment required", id="no money"),
        pytest.param(rows.rate_limited(rows.CREATE), "429", id="too often"),
        pytest.param(rows.internal_error(rows.CREATE), "500", id="broken"),
    ],
)
def test_refusals_are_told(prime: Prime, sim: PrimeSimulator, fault: Fault, words: str) -> None:
    """Nothing is rented."""
    sim.faults.add(fault)
    done = prime(*CREATE, "--image", "ubuntu_22_cuda_12")
    assert done.returncode == 1
    assert words in done.stdout + done.stderr
    assert sim.pods() == []


@pytest.mark.does("error")
def test_errors_of_an_account(prime: Prime) -> None:
    """A wrong key, and a pod that does not exist."""
    assert "unauthorized" in prime("pods", "list", "--plain", PRIME_API_KEY="pit_wrong").stdout.lower()
    done = prime("pods", "terminate", "nothing", "--yes")
    assert (done.returncode, "404" in done.stdout + done.stderr) == (1, True)
