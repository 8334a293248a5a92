"""One performance: queue the run, play the start jobs, let the GPU jobs run, play `stop`, look what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from runner_provisioner.simulators.demo.cast import Cast, StartRole, cast
from runner_provisioner.simulators.demo.files import read_pairs
from runner_provisioner.simulators.demo.output import Folded
from runner_provisioner.simulators.demo.processes import Commands, Program, Say, clean_environment
from runner_provisioner.simulators.demo.start_line import start_line
from runner_provisioner.simulators.demo.timeline import Moment, Timeline
from runner_provisioner.simulators.workflow import JobProgress, WorkflowError, load_workflow
from runner_provisioner.simulators.workflow.expressions import Scope, render
from runner_provisioner.simulators.workflow.steps import environment_of
from runner_provisioner.simulators.world import SimulatedWorld

TICK = 0.05
PATIENCE = 10.0  # seconds that a job may wait for a runner, or a runner's return, when nothing is under way


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a performance ended. `cost` in USD; `start_code` is the exit code of the first `start` that failed, or 0."""

    moments: list[Moment]
    jobs: Mapping[str, str]
    not_played: tuple[str, ...]
    cost: str
    gpu_seconds: int
    pods_left: list[str]
    runners_left: list[str]
    violations: list[str]
    problems: list[str]
    warnings: list[str]
    mode: str
    note: str
    start_code: int
    stop_code: int

    @property
    def clean(self) -> bool:
        """Whether nothing is left."""
        return not self.pods_left and not self.runners_left

    @property
    def passed(self) -> bool:
        """Whether every GPU job succeeded, or was skipped, which is as good to GitHub."""
        return not self.problems and set(self.jobs.values()) <= {"success", "skipped"}


@dataclass(kw_only=True)
class Performance:
    """Plays a workflow in a simulated world; `say` gets (prefix, line) for everything there is to see.

    `patience` is how long (seconds) a job may wait when nothing is under way that could help it; `warnings` are said
    and belong to the outcome. Raises WorkflowError, by name, before anything is started, when the workflow cannot be
    played.
    """

    world: SimulatedWorld
    text: str
    environ: Mapping[str, str] = field(repr=False)
    say: Say
    folder: Path
    start_options: tuple[str, ...] = ()
    common_options: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    program: Commands | None = None
    patience: float = PATIENCE

    _problems: list[str] = field(default_factory=list)
    _unplayed: list[str] = field(default_factory=list)
    _keys: dict[str, str] = field(default_factory=dict)
    _codes: dict[str, int] = field(default_factory=dict)
    _under_way: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Read the workflow."""
        self.workflow = load_workflow(self.text)
        self.cast: Cast = cast(self.workflow)
        environ = clean_environment(self.environ)
        self._program: Commands = self.program or Program(environ=environ, say=self.say)

    async def run(self) -> Outcome:
        """Play it to the end."""
        github = self.world.github
        provided = {job: dict[str, str]() for job in (*self.cast.hosted, *self.cast.stops)}
        self.run_id = github.queue_run(self.world.plan.repository, self.text, provided=provided)
        self.timeline = Timeline(world=self.world, run_id=self.run_id)
        self._folded = {job: Folded() for job in self.cast.gpu_jobs}
        self.world.on_log(self._show_log)
        self._introduce()
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            await self._play_jobs()
            stop_code = await self._play_stops()
            if github.run(self.run_id).latest.status != "completed":
                github.complete_run(self.run_id, conclusion="failure")
            await anyio.to_thread.run_sync(self.world.wait_quiet)
            group.cancel_scope.cancel()
        self.timeline.look()
        return self._outcome(stop_code)

    def _introduce(self) -> None:
        repository = self.world.plan.repository
        self.say("demo", f"workflow '{self.workflow.name}' as run {self.run_id} of {repository}, all of it simulated")
        for role in self.cast.starts:
            self.say("demo", f"'{role.job}' rents the pod in which '{role.gpu_job}' runs")
        for job in self.cast.hosted:
            self.say("demo", f"'{job}' is not played: it counts as passed, without outputs")
        for warning in self.warnings:
            self.say("demo", f"warning: {warning}")
        if self.world.host.note:
            self.say("demo", self.world.host.note)

    def _show_log(self, job: str, line: str) -> None:
        if job not in self._folded:
            return
        steps = tuple(step.name for step in self._progress(job).steps)
        for shown in self._folded[job].shown(line, steps):
            self.say(job, shown)

    async def _watch(self) -> None:
        while True:
            self.timeline.look()
            await self.world.clock.sleep(TICK)

    # --- the jobs ----------------------------------------------------------------------------------------------------

    def _progress(self, job: str) -> JobProgress:
        return self.world.github.run(self.run_id).latest.engine.job(job)

    async def _play_jobs(self) -> None:
        idle_since: float | None = None
        async with anyio.create_task_group() as group:
            while not all(self._progress(role.gpu_job).status == "completed" for role in self.cast.starts):
                for role in self.cast.starts:
                    if self._progress(role.job).status == "queued":
                        self.world.github.hand_over(self.run_id, role.job)
                        self._under_way.add(role.job)
                        group.start_soon(self._play_start, role)
                await self.world.clock.sleep(TICK)
                now = self.world.clock.monotonic()
                idle_since = (idle_since or now) if self._stuck() else None
                if idle_since is not None and now - idle_since > self.patience:
                    self._give_up()
                    return

    def _stuck(self) -> bool:
        """Whether nobody does anything that could let a job go on."""
        if self._under_way:
            return False
        waiting = [role for role in self.cast.starts if self._progress(role.gpu_job).status != "completed"]
        return not any(self._hopeful(role) for role in waiting)

    def _hopeful(self, role: StartRole) -> bool:
        job = self.world.github.run(self.run_id).latest.jobs.get(role.gpu_job)
        if job is None:
            return False
        if job.runner is not None:
            return job.runner.online
        return any(runner.accepts(job.labels) for runner in self.world.github.runners() if runner.online)

    def _give_up(self) -> None:
        for role in self.cast.starts:
            progress = self._progress(role.gpu_job)
            if progress.status == "completed":
                continue
            what = "its runner was lost" if progress.status == "in_progress" else f"no runner for {_list(progress)}"
            self._problems.append(f"job '{role.gpu_job}': {what}")

    async def _play_start(self, role: StartRole) -> None:
        self.timeline.note("start called", role.job, self.world.clock.now())
        output = self._job_folder(f"start-{role.key}") / "output"
        code = await self._call("start", role, output, (*self._options(role), *self.start_options))
        self._codes[role.job] = code
        self.timeline.note("start done", role.job, self.world.clock.now())
        outputs: dict[str, str] = {}
        if code == 0:
            outputs = self._outputs_of(role, output)
        else:
            self._problems.append(f"job '{role.job}': start ended with exit code {code}")
        conclusion = "success" if code == 0 and outputs else "failure"
        self.world.github.provide(self.run_id, role.job, outputs, conclusion=conclusion)
        self._under_way.discard(role.job)

    def _options(self, role: StartRole) -> list[str]:
        """What the workflow itself gives `start`; what cannot be played of it is said."""
        line = start_line(self.workflow, self.workflow.legs(role.job)[0], self._github(role.job))
        self._keys[role.job] = line.key or role.key
        for part in line.unplayed:
            warning = f"job '{role.job}': not played: {part}"
            self._unplayed.append(warning)
            self.say("demo", f"warning: {warning}")
        return line.options

    def _outputs_of(self, role: StartRole, path: Path) -> dict[str, str]:
        """The job's outputs, made of what `start` wrote, whichever step's outputs they are taken from."""
        spec = self.workflow.legs(role.job)[0]
        try:
            written = read_pairs(path.read_text("utf-8"))
            step = {"outputs": written, "outcome": "success", "conclusion": "success"}
            contexts = {"steps": {each.id: step for each in spec.steps if each.id}, "github": self._github(role.job)}
            for name in ("needs", "env", "vars", "secrets", "inputs", "matrix", "strategy", "job", "runner"):
                contexts[name] = {}
            return {name: render(value, Scope(contexts=contexts)) for name, value in spec.outputs.items()}
        except (WorkflowError, ValueError, OSError) as error:
            self._problems.append(f"job '{role.job}': {error}")
            return {}

    # --- the program -------------------------------------------------------------------------------------------------

    async def _play_stops(self) -> int:
        worst = 0
        for role in self.cast.starts:
            if role.job not in self._codes:
                continue
            self.timeline.note("stop called", role.job, self.world.clock.now())
            output = self._job_folder(f"stop-{role.key}") / "output"
            worst = await self._call("stop", role, output, ()) or worst
            self.timeline.note("stop done", role.job, self.world.clock.now())
        return worst

    async def _call(self, command: str, role: StartRole, output: Path, options: tuple[str, ...]) -> int:
        folder = output.parent
        for name in ("output", "env", "path", "summary", "state"):
            (folder / name).touch()
        env = {**self.world.environment, **self._step_environment(role.job, folder)}
        arguments = (command, "--key", self._keys[role.job], *options, *self.common_options)
        return await self._program.run(arguments, prefix=command, env=env, folder=str(folder / "work"))

    def _job_folder(self, name: str) -> Path:
        folder = self.folder / name
        for part in ("work", "temp", "home"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        return folder

    def _github(self, job: str) -> dict[str, object]:
        runs = self.world.github.runs
        context = runs.context(self.world.github.run(self.run_id), 1)
        return {**context, "job": job, "workflow": self.workflow.name}

    def _step_environment(self, job: str, folder: Path) -> dict[str, str]:
        """What GitHub's runner gives a step of a hosted job."""
        runner = {"name": "GitHub Actions 1", "os": "Linux", "arch": "X64", "temp": str(folder / "temp")}
        github = {**self._github(job), "workspace": str(folder / "work")}
        addresses = dict.fromkeys(("GITHUB_API_URL", "GITHUB_SERVER_URL"), self.world.addresses["github"])
        return {
            **environment_of(github, {**runner, "environment": "github-hosted"}),
            **addresses,
            "HOME": str(folder / "home"),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_ENV": str(folder / "env"),
            "GITHUB_PATH": str(folder / "path"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_STATE": str(folder / "state"),
        }

    # --- the end -----------------------------------------------------------------------------------------------------

    def _outcome(self, stop_code: int) -> Outcome:
        bill = self.world.bill
        jobs = {role.gpu_job: self._conclusion(role.gpu_job) for role in self.cast.starts}
        return Outcome(
            moments=self.timeline.moments(),
            jobs=jobs,
            not_played=self.cast.hosted,
            cost=f"{bill.total:.6f}",
            gpu_seconds=sum(pod.gpu_seconds for pod in bill.pods.values()),
            pods_left=self.world.pods_left(),
            runners_left=self.world.runners_left(),
            violations=list(dict.fromkeys(self.world.github.violations)),
            problems=[*self._problems, *(text for job in jobs for text in self._progress(job).problems)],
            warnings=[*self.warnings, *self._unplayed],
            mode=self.world.host.mode,
            note=self.world.host.note,
            start_code=next((code for code in self._codes.values() if code), 0),
            stop_code=stop_code,
        )

    def _conclusion(self, job: str) -> str:
        return self._progress(job).conclusion or "failure"


def _list(progress: JobProgress) -> str:
    return f"[{', '.join(progress.labels)}]" if progress.labels else "it"
