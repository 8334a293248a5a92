"""A whole workflow is played: GitHub's machines by the small runner, GPU jobs by simulated pods."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.action_runner import HostedJob
from support.action_stage import ROOT, ActionStage

from runner_provisioner.simulators.github.runs import Job
from runner_provisioner.simulators.workflow import WorkflowError
from runner_provisioner.simulators.workflow.expressions import Scope, resolve
from runner_provisioner.simulators.workflow.reading import read_yaml
from runner_provisioner.simulators.workflow.values import Value
from runner_provisioner.simulators.world import REPOSITORY

HOSTED = ("ubuntu-", "macos-")
TICK = 0.02


@dataclass(kw_only=True)
class Playing:
    """One run of a workflow; `inputs` are those of workflow_call or workflow_dispatch, with their defaults."""

    stage: ActionStage
    text: str
    inputs: Mapping[str, Value] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, Value] = field(default_factory=dict)
    jobs: dict[str, HostedJob] = field(default_factory=dict)
    run_id: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)
    _failures: list[BaseException] = field(default_factory=list)

    def play(self, seconds: float = 90.0) -> dict[str, str]:
        """Play it to its end; how each job ended. What cannot be played is a WorkflowError."""
        github = self.stage.world.github
        self.run_id = github.queue_run(
            REPOSITORY,
            self.text,
            context=self.context,
            secrets=self.secrets,
            given={"inputs": {**self._defaults(), **self.inputs}, "vars": self.variables},
        )
        return self.follow(seconds)

    def follow(self, seconds: float = 90.0) -> dict[str, str]:
        """Play the latest attempt to its end; how each job ended."""
        github = self.stage.world.github
        deadline = time.monotonic() + seconds
        while github.run(self.run_id).latest.status != "completed":
            if self._failures:
                raise self._failures[0]
            assert time.monotonic() < deadline, f"still running: {self.ends}"
            for job in list(github.run(self.run_id).latest.jobs.values()):
                if job.status == "queued" and job.labels and all(name.startswith(HOSTED) for name in job.labels):
                    self._take(job)
            time.sleep(TICK)
        for thread in self._threads:
            thread.join()
        return self.ends

    def cancel(self) -> None:
        """Cancel the run, as its user would."""
        self.stage.world.github.cancel(self.run_id)
        for job in self.jobs.values():
            job.cancel()

    @property
    def ends(self) -> dict[str, str]:
        """The conclusion of each job, or its status."""
        jobs = self.stage.world.github.run(self.run_id).latest.jobs
        return {key: str(job.conclusion or job.status) for key, job in jobs.items()}

    @property
    def told(self) -> str:
        """The logs of all jobs on GitHub's machines."""
        return "\n".join(f"==== {key}\n{job.log.text}" for key, job in self.jobs.items())

    def _defaults(self) -> dict[str, Value]:
        raw: Any = read_yaml(self.text)
        triggers = raw.get("on") if isinstance(raw.get("on"), Mapping) else {}
        for trigger in ("workflow_call", "workflow_dispatch"):
            declared = (triggers.get(trigger) or {}).get("inputs")
            if declared:
                return {name: _default(one or {}) for name, one in declared.items()}
        return {}

    def _take(self, job: Job) -> None:
        self.stage.world.github.hand_over(self.run_id, job.key)
        thread = threading.Thread(target=self._play_job, args=(job,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _play_job(self, job: Job) -> None:
        try:
            self._play_hosted(job)
        except BaseException as error:  # noqa: BLE001 - told in the thread that waits
            self._failures.append(error)

    def _play_hosted(self, job: Job) -> None:
        workflow = job.run.workflow
        spec = workflow.jobs[job.key]
        contexts = job.attempt.engine._contexts(spec)
        github = {**self.stage.context(self.run_id), **self.context, "job": spec.base}
        contexts.pop("github")
        hosted = self.stage.hosted(self.run_id, github=github, **contexts)
        hosted.env = {**(workflow.env or {}), **(spec.env or {})}
        self.jobs[job.key] = hosted
        conclusion = hosted.run(spec.steps)
        self.stage.world.github.provide(self.run_id, job.key, hosted.outputs(spec.outputs), conclusion=conclusion)


def _default(declared: Mapping[str, Value]) -> Value:
    absent: Mapping[str, Value] = {"boolean": False, "number": 0}
    return declared.get("default", absent.get(str(declared.get("type")), ""))


def called(stage: ActionStage, caller: str, *, secrets: Mapping[str, str], **playing: Any) -> dict[str, Playing]:  # noqa: ANN401 - the fields of Playing
    """The reusable workflows of this project that a workflow calls, by job, each ready to be played as a run.

    Their inputs and secrets are those that the caller hands over; `secrets: inherit` hands over all. Jobs that need
    others are not supported here.
    """
    raw: Any = read_yaml(caller)
    found = {}
    for name, job in raw["jobs"].items():
        if "uses" not in job:
            continue
        path = Path(str(job["uses"]).partition("@")[0])
        file = ROOT.joinpath(*path.parts[path.parts.index(".github") :])
        if not file.is_file():
            raise WorkflowError(f"'uses: {job['uses']}' is no workflow of this project")
        scope = Scope(contexts={"secrets": secrets, "vars": playing.get("variables", {}), "github": {}, "matrix": {}})
        given = job.get("secrets") or {}
        handed = dict(secrets) if given == "inherit" else resolve(given, scope)
        found[name] = Playing(
            stage=stage,
            text=file.read_text("utf-8"),
            inputs=resolve(job.get("with") or {}, scope),
            secrets=handed,
            **playing,
        )
    return found
