"""Lium's own command line, in an environment of its own, against the simulator.

It reads LIUM_BASE_URL; what it can do with a pod it must be able to do here.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner_provisioner.clock import SystemClock
from runner_provisioner.simulators.celium import CeliumSimulator, executor_id, rows
from runner_provisioner.simulators.faults import Fault
from runner_provisioner.simulators.pods.host import PodHost, PodsUnavailable, best_host

CLIENT = "lium.io"
pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]
Lium = Callable[..., subprocess.CompletedProcess[str]]
A4000 = executor_id("a4000")
COMMAND = ("--image", "python:3.11", "--cmd", "python3 -c 'import time; print(1+1, flush=True); time.sleep(600)'")


@pytest.fixture(scope="session")
def program(install: Callable[[str], Path]) -> Path:
    """The program of a fresh environment that has the newest client."""
    return install(CLIENT) / "lium"


@pytest.fixture
def host(tmp_path: Path) -> PodHost | None:
    """Real pods where this machine allows them."""
    try:
        return best_host(tmp_path / "pods", unconfined_ok=False)
    except PodsUnavailable:
        return None


@pytest.fixture
def sim(host: PodHost | None, tmp_path: Path) -> Iterator[CeliumSimulator]:
    """An account with money."""
    with CeliumSimulator(SystemClock(), host, logs=tmp_path / "logs") as simulator:
        yield simulator


@pytest.fixture
def lium(program: Path, sim: CeliumSimulator, tmp_path: Path) -> Iterator[Lium]:
    """Call it with these arguments; keywords are variables of its environment."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")], check=True)
    with sim.serve() as server:

        def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "COLUMNS": "200",
                "LIUM_BASE_URL": f"{server.url}/api",
                "LIUM_API_KEY": sim.key,
                "LIUM_SSH_KEY_PATH": str(tmp_path / "id"),
                **variables,
            }
            return subprocess.run(
                [str(program), *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )

        yield call


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What it printed; it succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.does("availability")
def test_executors_and_balance_are_read(lium: Lium) -> None:
    """Spot and secure, with their numbers."""
    offers = said(lium("ls"))
    assert "spot" in offers
    assert "secure" in offers
    assert "RTX4090" in offers
    assert "100.0 USD" in said(lium("balance"))


@pytest.mark.does("create", "list", "terminate")
def test_a_pod_of_the_default_template(lium: Lium, sim: CeliumSimulator, host: PodHost | None) -> None:
    """Rented with a kill time, logged in to where pods are real, listed, ended."""
    done = lium("up", A4000, "--ttl", "2h", "--name", "ci-1", "-y")
    (pod,) = sim.live()
    assert pod.terminate_after is not None
    if host is not None and host.offers_ssh:
        assert done.returncode == 0, done.stdout + done.stderr
    listed = said(lium("ps"))
    assert "ci-1" in listed
    assert "RUNNING" in listed
    assert "removed ci-1" in said(lium("rm", "ci-1", "-y"))
    assert sim.live() == []


@pytest.mark.does("status", "ssh")
def test_where_ssh_goes(lium: Lium, sim: CeliumSimulator, tmp_path: Path) -> None:
    """It knows the pod by its name, and starts ssh with the address that the service tells."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ssh").write_text('#!/bin/sh\necho "ssh $*"\n', encoding="ascii")
    (tools / "ssh").chmod(0o755)
    lium("up", A4000, "--name", "ci-6", "-y")
    (pod,) = sim.live()
    described = said(lium("describe", "ci-6"))
    assert pod.id in described
    told = said(lium("ssh", "ci-6", PATH=f"{tools}:{os.environ['PATH']}"))
    assert "root@127.0.0.1" in told
    port = re.search(r"-p (\d+)", told)
    assert port
    assert port[1] in described


def test_a_command_with_a_one_time_template(lium: Lium, sim: CeliumSimulator, host: PodHost | None) -> None:
    """Its words arrive as they were written; the template goes with the pod."""
    kept = len(sim.account.templates)
    lium("up", A4000, *COMMAND, "-e", "A=B", "--name", "ci-2", "-y")
    (pod,) = sim.live()
    assert pod.docker is not None
    assert pod.docker.argv == ("python3", "-c", "import time; print(1+1, flush=True); time.sleep(600)")
    assert dict(pod.docker.env) == {"A": "B"}
    assert len(sim.account.templates) == kept + 1
    if host is not None:
        assert "2" in said(lium("logs", "ci-2"))
    said(lium("rm", "ci-2", "-y"))
    assert len(sim.account.templates) == kept


def test_the_cheapest_that_fits(lium: Lium, sim: CeliumSimulator) -> None:
    """Chosen by the service; it is a spot one."""
    lium("up", "--gpu", "A4000", "--name", "ci-3", "-y")
    (pod,) = sim.live()
    assert pod.spot


@pytest.mark.does("error")
@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        pytest.param(rows.low_balance(), 6, "Insufficient balance", id="no money"),
        pytest.param(rows.over_budget(), 6, "budget", id="no budget"),
        pytest.param(rows.no_stock(), 3, "already rented", id="no stock"),
    ],
)
def test_refusals_are_told(lium: Lium, sim: CeliumSimulator, fault: Fault, code: int, words: str) -> None:
    """Nothing is rented."""
    sim.faults.add(fault)
    done = lium("up", A4000, "--name", "ci-4", "-y")
    assert words in done.stdout + done.stderr
    assert done.returncode == code
    assert sim.pods() == []


def test_a_lost_answer_is_found_again(lium: Lium, sim: CeliumSimulator) -> None:
    """The client repeats the rent with the same key, or finds the pod by its name: one pod."""
    sim.faults.add(rows.ROWS["lost_answer"](operation=rows.RENT))
    lium("up", A4000, "--name", "ci-5", "-y")
    assert [pod.name for pod in sim.pods()] == ["ci-5"]


@pytest.mark.does("error")
def test_a_wrong_key(lium: Lium) -> None:
    """Is told so."""
    done = lium("ps", LIUM_API_KEY="sk_wrong")
    assert (done.returncode, "Invalid API key" in done.stdout + done.stderr) == (3, True)
