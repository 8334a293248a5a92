"""A stage for end-to-end tests: both simulators on loopback, and the program as real processes."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from support.e2e_pods import Act
from support.e2e_steps import Done, Step, until

from runner_provisioner.cli.demo import start_options
from runner_provisioner.simulators.demo.files import read_pairs
from runner_provisioner.simulators.demo.processes import clean_environment
from runner_provisioner.simulators.faults import Fault
from runner_provisioner.simulators.github.entities import RunnerRecord
from runner_provisioner.simulators.market.pods import RentedPod
from runner_provisioner.simulators.pods.host import PodHost
from runner_provisioner.simulators.runpod.pods import SimPod
from runner_provisioner.simulators.world import REPOSITORY, SimulatedWorld, WorldPlan

PROGRAM = (sys.executable, "-m", "runner_provisioner")
QUICK = {
    "RUNNER_PROVISIONER_SETTLE": "0.3",
    "RUNNER_PROVISIONER_POLL_BOOTING": "0.2",
    "RUNNER_PROVISIONER_POLL_RUNNING": "0.1",
    "RUNNER_PROVISIONER_RETRY_BASE": "0.1",
    "RUNNER_PROVISIONER_RATE_PER_SECOND": "100",
    "RUNNER_PROVISIONER_RATE_PER_MINUTE": "5000",
}
CREATES = ("podFindAndDeployOnDemand", "podRentInterruptable")


@dataclass(kw_only=True)
class Place:
    """Where commands are called: a job of a run with folders of its own, or somebody's laptop."""

    stage: Stage
    folder: Path
    run_id: int | None
    environ: dict[str, str] = field(repr=False)
    _count: int = 0

    def begin(self, *arguments: str) -> Step:
        """Start a command as a step does: by a script of which it is the last line, exec'd."""
        self._count += 1
        folder = self.folder / f"step{self._count}"
        folder.mkdir()
        (folder / "output").touch()
        script = folder / "script.sh"
        script.write_text(f"exec {shlex.join((*PROGRAM, *arguments))}\n")
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
                env={**self.environ, **({"GITHUB_OUTPUT": str(folder / "output")} if self.run_id else {})},
                cwd=self.folder / "work",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        step = Step(process=process, folder=folder)
        self.stage.steps.append(step)
        return step

    def call(self, *arguments: str) -> Done:
        """Run a command to its end."""
        return self.begin(*arguments).wait()

    def begin_start(self, *arguments: str) -> Step:
        """Start a `start`, with what the pods of this machine need."""
        return self.begin("start", *start_options(self.stage.world.host), *arguments)

    def start(self, *arguments: str) -> dict[str, str]:
        """Run a `start` of a workflow that succeeds; what it wrote to GITHUB_OUTPUT, which it also printed."""
        step = self.begin_start("--json", *arguments)
        done = step.wait().well()
        written = read_pairs((step.folder / "output").read_text())
        assert written.items() <= done.data.items()
        return written

    def provide(self, label: str) -> None:
        """The job that started ends well with the label as its output: the GPU job is queued."""
        assert self.run_id is not None
        self.stage.world.github.provide(self.run_id, "start", {"label": label})


class Stage:
    """One world for one test, with real servers and, unless the host is inert, real pods."""

    def __init__(self, folder: Path, host: PodHost, plan: WorldPlan | None = None) -> None:
        self.folder = folder
        self.world = SimulatedWorld(folder / "world", host=host, plan=plan or WorldPlan(boot_seconds=0.2))
        self.steps: list[Step] = []
        self.pace = dict(QUICK)
        self._places = 0

    def close(self) -> None:
        """Kill what a failed test has left running."""
        for market in self.world.markets:
            market.simulator.faults.clear()
        self.world.github.faults.clear()
        for step in self.steps:
            if step.running:
                step.process.kill()
                step.process.wait()

    # --- who calls the program ---------------------------------------------------------------------------------------

    def queue(self, *steps: str, repository: str = REPOSITORY) -> int:
        """A run whose job `start` somebody plays and whose job `gpu` wants the label that this job gives."""
        gpu = {
            "needs": "start",
            "runs-on": "${{ needs.start.outputs.label }}",
            "steps": [{"run": one} for one in steps],
        }
        start = {"runs-on": "ubuntu-latest", "steps": [{"run": "true"}]}
        workflow = {"name": "gpu", "on": "push", "jobs": {"start": start, "gpu": gpu}}
        run_id = self.world.github.queue_run(repository, json.dumps(workflow))
        self.world.github.hand_over(run_id, "start")
        return run_id

    def job(self, run_id: int, *, repository: str = REPOSITORY) -> Place:
        """A job of this run on a machine of GitHub's: its own RUNNER_TEMP, and a home with nothing in it."""
        folder = self._place()
        given = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": "workflow_dispatch",
            "CI": "true",
            "GITHUB_RUN_ID": str(run_id),
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_JOB": "start",
            "GITHUB_REPOSITORY": repository,
            "GITHUB_REPOSITORY_OWNER": repository.partition("/")[0],
            "RUNNER_TEMP": str(folder / "temp"),
        }
        return Place(stage=self, folder=folder, run_id=run_id, environ=self._environ(folder, **given))

    def laptop(self) -> Place:
        """Somebody outside of any workflow."""
        folder = self._place()
        environ = self._environ(folder)
        del environ["GITHUB_REPOSITORY"]
        return Place(stage=self, folder=folder, run_id=None, environ=environ)

    def _place(self) -> Path:
        self._places += 1
        folder = self.folder / f"place{self._places}"
        for name in ("temp", "work", "home"):
            (folder / name).mkdir(parents=True)
        return folder

    def _environ(self, folder: Path, **given: str) -> dict[str, str]:
        inherited = clean_environment(os.environ)
        return {**inherited, **self.world.environment, **self.pace, "HOME": str(folder / "home"), **given}

    # --- what is there -----------------------------------------------------------------------------------------------

    @property
    def pods(self) -> list[SimPod]:
        """Every pod there ever was at RunPod."""
        return self.world.runpod.pods()

    @property
    def live(self) -> list[SimPod]:
        """Every pod of RunPod's that was not terminated."""
        return self.world.runpod.live()

    @property
    def runners(self) -> list[RunnerRecord]:
        """Every registration."""
        return self.world.github.runners()

    def online(self) -> bool:
        """Whether a runner is connected."""
        return any(runner.online for runner in self.runners)

    def job_ended(self, run_id: int, key: str = "gpu") -> str:
        """Wait for the end of a job; its conclusion."""
        job = self.world.github.job
        until(lambda: job(run_id, key).status == "completed", f"job {key} of run {run_id} ends")
        return str(job(run_id, key).conclusion)

    def strike(self, service: str, fault: Fault) -> Fault:
        """Order a failure of `runpod` or `github`."""
        simulator = self.world.runpod if service == "runpod" else self.world.github
        return simulator.faults.add(fault)

    def creates(self) -> int:
        """How many creates arrived."""
        return sum(self.world.runpod.faults.count(name) for name in CREATES)

    # --- what must be so at the end ----------------------------------------------------------------------------------

    def gone(self, *, pods: int | None = None) -> None:
        """Neither pod nor process nor runner is left, and the bill is what was used; `pods` is how many there were."""
        self.world.wait_quiet()
        until(lambda: not self.runners, "no runner is left", seconds=10)
        assert not self.world.pods_left(), self.world.pods_left()
        made = self.world.pods()
        assert pods is None or len(made) == pods, [(pod.name, pod.events) for pod in made]
        self.check_bill()
        assert not self.world.github.violations, "\n".join(dict.fromkeys(self.world.github.violations))

    def check_bill(self) -> None:
        """Each pod is billed from its creation to its end, once, and nothing else is."""
        bill = self.world.bill
        assert set(bill.pods) == {pod.id for pod in self.world.pods()}
        for pod in self.world.pods():
            assert pod.ended_at is not None
            used = _seconds_used(pod)
            billed = bill.pods[pod.id]
            assert not billed.running
            assert billed.gpu_seconds == used, (billed, used, pod.events)
            assert billed.gpu == pod.price * used / Decimal(3600)
        assert bill.gpu == sum((one.gpu for one in bill.pods.values()), Decimal(0))


class SetUp(Protocol):
    """How a test sets up its stage: a plan for the world, and the acts that the first pods play."""

    def __call__(self, plan: WorldPlan | None = None, *, acts: Sequence[Act] = ()) -> Stage:
        """A stage that is open."""
        ...


def _seconds_used(pod: RentedPod) -> int:
    """From its creation to when its GPU was given back: terminated or interrupted, whichever was first."""
    ends = [event.at for event in pod.events if event.what.startswith(("terminated", "interrupted", "stopped"))]
    return max(0, math.ceil((min(ends) - pod.created_at).total_seconds()))
