"""Pods of Prime Intellect boot bare: `start` starts the runner over SSH, once, whatever breaks on the way."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.e2e import Place, SetUp, Stage
from support.e2e_pods import ActingHost, idles, real_host
from support.e2e_steps import PATIENCE, Done, Step, plain_lines, until

from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.market.hosts import Defect
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
    host: ActingHost
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
    host = ActingHost(host=real_host(stage.folder / "prime"))
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


@pytest.mark.full
def test_a_start_that_is_killed_before_it_started_its_pod_is_repeated(prime: PrimeStage) -> None:
    """The second finds the pod, starts it with a registration of its own, and rents none; no key piles up."""
    run_id = prime.stage.queue("true")
    place = prime.job(run_id)
    held = prime.prime.faults.add(Fault(operation="pods.create", kind=FaultKind.HOLD_AFTER))
    first = begin(place)
    until(held.reached.is_set, "the pod is rented")
    until(prime.prime.live, "the pod is there")
    first.kill()
    held.release.set()
    done = well(begin(place))
    assert done.data["pod-id"] == prime.pod.id
    place.provide(done.data["label"])
    assert prime.stage.job_ended(run_id) == "success"
    assert len(prime.prime.account.ssh_keys) == 1
    place.call("stop").well()
    prime.gone()


@pytest.mark.full
def test_a_pod_without_an_sshd_is_given_back(prime: PrimeStage) -> None:
    """At the end of its boot timeout; nothing else is for rent."""
    prime.host.acts += [idles]
    prime.prime.market.set_stock("RTXA4000_16GB", 1)
    place = prime.job(prime.stage.queue("true"))
    done = begin(place, "--boot-timeout", "5s", "--interruptible", "never").wait(120)
    assert done.code == 24, done.told
    assert "no runner came online in time" in done.told
    prime.gone()


@pytest.mark.full
def test_a_machine_that_fails_its_gate_is_given_back_at_once(prime: PrimeStage) -> None:
    """The pod cannot end itself, and says over SSH what is wrong; the next offer serves."""
    prime.prime.market.offer("a4000-spot").defect = Defect.NO_GPU_TOOL
    run_id = prime.stage.queue("true")
    place = prime.job(run_id)
    done = well(begin(place))
    assert any("nvidia-smi" in one["reason"] for one in done.data["refused"]), done.told
    place.provide(done.data["label"])
    assert prime.stage.job_ended(run_id) == "success"
    place.call("stop").well()
    prime.gone(pods=2)


@pytest.mark.full
@pytest.mark.parametrize("registration", ["token", "jit"])
def test_the_users_own_key_is_let_in_and_the_host_key_is_checked(
    prime: PrimeStage, tmp_path: Path, registration: str
) -> None:
    """Also where the runner waits for its configuration; logs and info are those of any pod."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")], check=True)
    run_id = prime.stage.queue("true")
    place = prime.job(run_id)
    done = well(begin(place, "--ssh-key", str(tmp_path / "id.pub"), "--registration", registration))
    identity = ("--identity", str(tmp_path / "id"))
    info = place.call("info", "--json", *identity, "--label", done.data["label"]).well().data
    assert info["host-key-trusted"] == "at first sight"
    assert info["host-key"].startswith("ssh-ed25519 ")
    assert info["inside"]["report"]["phase"] == "listening"
    assert "registered, listening" in place.call("logs", *identity, prime.pod.id).well().stdout
    said = place.call("exec", *identity, prime.pod.id, "--", "id -un").well()
    assert said.stdout.strip() == "root"
    assert "saw first" in said.stderr
    place.provide(done.data["label"])
    assert prime.stage.job_ended(run_id) == "success"
    place.call("stop").well()
    prime.gone()


@pytest.mark.full
def test_without_proof_of_a_clean_up_nothing_is_rented(prime: PrimeStage) -> None:
    """And the start says what would do."""
    place = prime.job(prime.stage.queue("true"))
    done = place.begin_start("--json", *OPTIONS[:-1]).wait(120)
    assert done.code == 20, done.told
    assert "--accept-no-kill-time" in done.told
    assert prime.prime.pods() == []
