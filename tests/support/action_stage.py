"""The action on a stage: jobs on GitHub's machines that use it, in a world of simulated services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from support.action_runner import CompositeAction, HostedJob, StepEnd
from support.action_stand_ins import Shelf
from support.e2e import QUICK, Stage
from support.e2e_steps import until

from runner_provisioner.cli.demo import start_options
from runner_provisioner.simulators.demo.processes import clean_environment
from runner_provisioner.simulators.runpod.pods import SimPod
from runner_provisioner.simulators.workflow.values import Value
from runner_provisioner.simulators.world import APP_ID, REPOSITORY

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "Run the program"
SETTLE = "Settle a start that did not succeed"
INSTALL = "Install the program"
CHECK = "Check the inputs"
PEM_NAME = "GITHUB_APP_PRIVATE_KEY_PATH"
CREDENTIALS = {
    "runpod-api-key": "${{ secrets.RUNPOD_API_KEY }}",
    "github-app-id": str(APP_ID),
    "github-app-private-key": "${{ secrets.APP_PRIVATE_KEY }}",
}


@dataclass(kw_only=True)
class Use:
    """One use of the action in a job of its own, under way in a thread or over."""

    job: HostedJob
    steps: list[Mapping[str, Value]]
    conclusion: str = ""
    _thread: threading.Thread | None = field(default=None, repr=False)

    def begin(self) -> Use:
        """Start the job."""
        self._thread = threading.Thread(target=self.play, daemon=True)
        self._thread.start()
        return self

    def play(self) -> Use:
        """Run the job to its end."""
        self.conclusion = self.job.run(self.steps)
        return self

    def join(self, seconds: float = 60.0) -> Use:
        """Wait for its end."""
        assert self._thread is not None
        self._thread.join(seconds)
        assert not self._thread.is_alive(), self.told
        return self

    def cancel(self) -> Use:
        """Cancel the run and wait for the job's end."""
        self.job.cancel()
        return self.join()

    def well(self) -> Use:
        """Itself, when the job succeeded."""
        assert self.conclusion == "success", self.told
        return self

    @property
    def told(self) -> str:
        """Everything, for a failure's message."""
        return f"{self.conclusion}\n{self.job.log.text}\n{self.job.ended}"

    @property
    def outputs(self) -> Mapping[str, str]:
        """The outputs of the action, as steps of the job see them."""
        return self.job.ended[0].outputs

    def step(self, name: str) -> StepEnd:
        """A step of the action."""
        return self.job.step(name)


class ActionStage:
    """A stage whose commands are uses of the action; the runtime is the tests' own, unless it is to be installed."""

    def __init__(self, stage: Stage) -> None:
        """`stage` is set up already."""
        self.stage = stage
        self.world = stage.world
        self.world.github.violations.clear()
        self.shelf = Shelf(stage.folder / "shelf", tree=ROOT, uploaded=self._upload)
        self.changed: str | None = None
        self.machine: dict[str, str] = {}
        self.secrets = {
            **{market.key_variable: market.key for market in self.world.markets},
            "APP_PRIVATE_KEY": Path(self.world.environment[PEM_NAME]).read_text(),
        }
        self._count = 0

    def context(self, run_id: int, **more: Value) -> dict[str, Value]:
        """The github context of a run's first attempt."""
        run = self.world.github.run(run_id)
        address = self.world.addresses["github"]
        found = self.world.github.runs.context(run, run.latest.number)
        return {**found, "workflow": run.workflow.name, "api_url": address, "server_url": address, **more}

    def hosted(self, run_id: int, *, ready: bool = True, **contexts: Value) -> HostedJob:
        """A job of this run on a machine of GitHub's."""
        self._count += 1
        folder = self.stage.folder / f"hosted{self._count}"
        github = {"job": "start", **self.context(run_id), **(contexts.pop("github", None) or {})}
        job = HostedJob(
            folder=folder,
            contexts={"secrets": self.secrets, **contexts, "github": github},
            environ={**self._environ(), **self.machine},
            ours=ROOT,
            changed=self.changed,
            stand_ins=self.shelf.stand_ins,
        )
        event = job.temp / "event.json"
        event.write_text(json.dumps(github.get("event") or {}))
        github["event_path"] = str(event)
        if ready:
            ready_runtime(job)
        return job

    def use(self, run_id: int, mode: str = "start", *, ready: bool = True, **inputs: Any) -> Use:  # noqa: ANN401 - inputs
        """A job that uses the action once. Names are written with _ for -."""
        given = {**CREDENTIALS, **{name.replace("_", "-"): value for name, value in inputs.items()}}
        if mode == "start":
            options = start_options(self.world.host)
            given = {"gpu-count": "1", **({"run-as": options[1]} if options else {}), **given}
        step = {"id": "gpu", "uses": "./", "with": {"mode": mode, **given}}
        return Use(job=self.hosted(run_id, ready=ready), steps=[step])

    def _upload(self, job: HostedJob, name: str, files: Mapping[str, bytes]) -> None:
        """GitHub knows of each artifact."""
        run_id = int(job.contexts["github"]["run_id"])
        self.world.github.upload(run_id, name, files, overwrite=True)

    def _environ(self) -> dict[str, str]:
        """What the machine has: addresses, which at the real services are known, and the tests' pace."""
        pace = {name: value for name, value in self.world.environment.items() if name.startswith("RUNNER_PROV")}
        leading = {name: value for market in self.world.markets for name, value in market.environment.items()}
        addresses = {name: value for name, value in leading.items() if name not in self.secrets}
        return {**clean_environment(os.environ), **addresses, **pace, **QUICK, **self.stage.pace}

    def provide(self, run_id: int, use: Use, key: str = "start") -> None:
        """The job that started ends, with the label among its outputs: the GPU job is queued."""
        outputs = use.job.outputs({"label": "${{ steps.gpu.outputs.label }}"})
        self.world.github.provide(run_id, key, outputs, conclusion=use.conclusion)

    def rented(self) -> SimPod:
        """Wait until there is a pod; the newest."""
        found: SimPod = until(lambda: self.stage.live, "a pod is rented")[-1]
        return found

    def start(self, run_id: int, **inputs: Any) -> Use:  # noqa: ANN401 - inputs
        """A start that succeeds though pods are inert: the runner of its pod is played."""
        pods = len(self.stage.live)
        use = self.use(run_id, **inputs).begin()
        until(lambda: len(self.stage.live) > pods, "a pod is rented")
        pod = self.stage.live[-1]
        self.world.github.play_runner(REPOSITORY, pod.name, (pod.env["RP_LABEL"],))
        return use.join().well()


class SetUpAction(Protocol):
    """How a test sets up its stage: with real pods or (`inert`) pods without processes."""

    def __call__(
        self, *, inert: bool = False, boot_seconds: float = 0.2, markets: tuple[str, ...] = ("runpod",)
    ) -> ActionStage:
        """The stage."""
        ...


def ready_runtime(job: HostedJob) -> None:
    """Put the tests' own runtime where the action would install one."""
    text = (ROOT / "action" / "install.sh").read_text()
    rule = next(line for line in text.splitlines() if line.startswith("mark="))
    version = next(line for line in text.splitlines() if line.startswith("version="))
    names = f'action={ROOT}; lock=$action/requirements.lock; {version}; {rule}; echo "$mark"'
    mark = subprocess.run(["bash", "-c", names], capture_output=True, text=True, check=True).stdout.strip()
    program = job.temp / "runner-provisioner" / f"runtime-{mark}" / "bin" / "runner-provisioner"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -m runner_provisioner "$@"\n')
    program.chmod(0o755)


def action() -> CompositeAction:
    """The project's action."""
    return CompositeAction.load(ROOT)


def queue(stage: Stage, *steps: str, keys: tuple[str, ...] = ("start",)) -> int:
    """A run in which each of `keys` is a job that starts a machine for a job `<key>-gpu`."""
    if keys == ("start",):
        return stage.queue(*(steps or ("true",)))
    jobs: dict[str, Any] = {}
    for key in keys:
        jobs[key] = {"runs-on": "ubuntu-latest", "steps": [{"run": "true"}]}
        jobs[f"{key}-gpu"] = {
            "needs": key,
            "runs-on": f"${{{{ needs.{key}.outputs.label }}}}",
            "steps": [{"run": one} for one in steps],
        }
    run_id = stage.world.github.queue_run(REPOSITORY, json.dumps({"name": "legs", "on": "push", "jobs": jobs}))
    for key in keys:
        stage.world.github.hand_over(run_id, key)
    return run_id
