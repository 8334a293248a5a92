"""Pods of Prime Intellect boot bare: `start` starts the runner over SSH, once, whatever breaks on the way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.e2e import Place, SetUp, Stage
from support.e2e_pods import real_host
from support.e2e_steps import PATIENCE, Done, Step, plain_lines, until

from runner_provisioner.simulators.pods.host import PodHost
from runner_provisioner.simulators.prime import PrimeSimulator
from runner_provisioner.simulators.prime.pods import PrimePod

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("confined"),
    pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="there is no /usr/sbin/sshd"),
    pytest.mark.skipif(not shutil.which("ssh"), reason="there is no ssh"),
]
OPTIONS = ("--provider", "prime", "--gpu", "NVIDIA RTX A4000", "--accept-no-kill-time")


@dataclass(kw_only=True)
class PrimeStage:
    """The usual stage, whose installation has a key of Prime Intellect's alone."""

    stage: Stage
    prime: PrimeSimulator
    host: PodHost
    url: str

    def job(self, run_id: int) -> Place:
        """A job of this run."""
        place = self.stage.job(run_id)
        for name in [name for name in place.environ if name.startswith("RUNPOD_")]:
            del place.environ[name]
        place.environ |= {"PRIME_API_KEY": self.prime.key, "PRIME_API_BASE_URL": self.url}
        return place

    @property
    def pod(self) -> PrimePod:
        """The only one there is."""
        (pod,) = self.prime.live()
        return pod

    def gone(self, *, pods: int = 1) -> None:
        """Nothing is left, and there were so many."""
        self.prime.wait_quiet()
        assert not self.prime.live()
        assert not self.prime.processes()
        assert len(self.prime.pods()) == pods
        assert not any(one.running for one in self.prime.bill().pods.values())
        until(lambda: not self.stage.runners, "no runner is left", seconds=10)
        assert not self.stage.world.github.violations


@pytest.fixture
def prime(set_up: SetUp) -> Iterator[PrimeStage]:
    """With pods that are real processes."""
    stage = set_up()
    host = real_host(stage.folder / "prime")
    with (
        PrimeSimulator(stage.world.clock, host, logs=stage.folder / "prime-logs") as simulator,
        simulator.serve() as at,
    ):
        yield PrimeStage(stage=stage, prime=simulator, host=host, url=at.url)
        simulator.faults.clear()


def begin(place: Place, *more: str) -> Step:
    """A start at Prime Intellect."""
    return place.begin_start("--json", *OPTIONS, *more)


def well(step: Step) -> Done:
    """Its good end; a pass logs in each time, which takes a busy machine long."""
    return step.wait(2 * PATIENCE).well()


def test_a_job_runs_and_stop_leaves_nothing(prime: PrimeStage) -> None:
    """The user is told that nothing ends the pod by itself and that its host key was trusted at first sight."""
    run_id = prime.stage.queue("echo by-$RUNNER_NAME", "echo as $(id -un)")
    place = prime.job(run_id)
    done = well(begin(place))
    said = "\n".join(plain_lines(done.stderr))
    assert "has no kill time" in said
    assert "trusted at first sight" in said
    assert said.count("started the runner in pod") == 1
    place.provide(done.data["label"])
    assert prime.stage.job_ended(run_id) == "success"
    log = prime.stage.world.github.job_log(run_id, "gpu")
    assert f"by-{done.data['runner-name']}" in log
    assert "as rp-runner" in log
    assert [key.name for key in prime.prime.account.ssh_keys.values()] == ["runner-provisioner"]
    place.call("stop").well()
    prime.gone()
