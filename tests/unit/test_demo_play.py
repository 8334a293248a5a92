"""A performance from its first to its last moment, with pods that run nothing and commands that are played."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from runner_provisioner.errors import JobFailed, LeftBehind, OutsideSchema
from runner_provisioner.simulators.demo import report
from runner_provisioner.simulators.demo.play import Outcome, Performance
from runner_provisioner.simulators.demo.processes import Program, clean_environment
from runner_provisioner.simulators.workflow import WorkflowError
from runner_provisioner.simulators.world import SimulatedWorld, WorldPlan

WORKFLOW = """
name: Demo
jobs:
  lint: {runs-on: ubuntu-latest, steps: [{run: make lint}]}
  start:
    needs: lint
    runs-on: ubuntu-latest
    outputs: {label: "${{ steps.rent.outputs.label }}"}
    steps: [{id: rent, run: runner-provisioner start}]
  gpu:
    needs: start
    runs-on: ${{ needs.start.outputs.label }}
    steps: [{run: nvidia-smi}]
  stop: {needs: [start, gpu], if: always(), runs-on: ubuntu-latest, steps: [{run: runner-provisioner stop}]}
"""


@dataclass
class PlayedCommands:
    """Commands that do nothing but what a test says, in the world they were given."""

    world: SimulatedWorld
    outputs: str = "label=rp-abc\n"
    code: int = 0
    stop_code: int = 0
    registers: bool = True
    ends: bool = True
    calls: list[tuple[list[str], Mapping[str, str]]] = field(default_factory=list)

    async def run(self, arguments: Sequence[str], *, prefix: str, env: Mapping[str, str], folder: str) -> int:
        """Play `start` or `stop`."""
        self.calls.append((list(arguments), env))
        assert await anyio.Path(folder).is_dir()
        if prefix == "stop":
            return self.stop()
        await anyio.Path(env["GITHUB_OUTPUT"]).write_text(self.outputs)
        self.world.runpod.add_pod("rp-1", price=Decimal("3.60"))
        if self.registers:
            self.world.github.play_runner(env["GITHUB_REPOSITORY"], "rp-1", ("rp-abc",))
        return self.code

    def stop(self) -> int:
        """End everything, if that is what the test wants."""
        if self.ends:
            with self.world.runpod.lock:
                for pod in self.world.runpod.live():
                    self.world.runpod.fleet.terminate(pod, self.world.clock.now())
            for runner in self.world.github.runners():
                self.world.github.world.forget(runner)
        return self.stop_code


@dataclass
class Stage:
    """A performance and what was said in it."""

    world: SimulatedWorld
    folder: Path
    said: list[tuple[str, str]] = field(default_factory=list)

    def say(self, prefix: str, line: str) -> None:
        """Remember it."""
        self.said.append((prefix, line))

    async def play(
        self,
        commands: PlayedCommands,
        *,
        runner: Callable[[], Coroutine[None, None, None]] | None = None,
        text: str = WORKFLOW,
    ) -> Outcome:
        """Play to the end, with somebody who plays the runner's part."""
        performance = Performance(
            world=self.world,
            text=text,
            environ={"PATH": "/bin", "GITHUB_TOKEN": "secret"},
            say=self.say,
            folder=self.folder,
            start_options=("--gpu", "x"),
            program=commands,
            patience=0.3,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(runner or self.run_job)
            outcome = await performance.run()
            group.cancel_scope.cancel()
        return outcome

    async def run_job(self, conclusion: str = "success") -> None:
        """A runner takes the job, prints a line and ends it."""
        while True:
            for runner in self.world.github.runners():
                if runner.job is None and (job := self.world.github.play_take(runner)):
                    await anyio.sleep(0.1)
                    self.world.github.runs.write(job, "GPU 0: something")
                    self.world.github.play_finish(runner, conclusion)
            await anyio.sleep(0.02)

    async def run_failing_job(self) -> None:
        """A job that fails."""
        await self.run_job("failure")

    async def lose_job(self) -> None:
        """A runner takes the job and vanishes."""
        while True:
            for runner in self.world.github.runners():
                if runner.job is None and self.world.github.play_take(runner):
                    await anyio.sleep(0.1)
                    self.world.github.play_loss(runner)
            await anyio.sleep(0.02)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A world on loopback in which pods run nothing."""
    with SimulatedWorld(tmp_path, plan=WorldPlan(boot_seconds=0.0)) as world:
        yield Stage(world, tmp_path / "play")


async def test_a_run_is_played_from_start_to_stop(stage: Stage) -> None:
    """Everything is timed, the job's output is shown, nothing is left, and the exit code is 0."""
    commands = PlayedCommands(stage.world)
    outcome = await stage.play(commands)
    assert outcome.jobs == {"gpu": "success"}
    assert outcome.not_played == ("lint",)
    assert [moment.what for moment in outcome.moments if moment.who == "start"] == [
        "start called",
        "start done",
        "stop called",
        "stop done",
    ]
    happened = [moment.what for moment in outcome.moments]
    for what in ("runner online", "job started", "job ended: success", "runner gone", "pod gone"):
        assert what in happened
    assert happened.index("job started") < happened.index("job ended: success") < happened.index("stop done")
    assert ("gpu", "GPU 0: something") in stage.said
    assert Decimal(outcome.cost) > 0
    assert report.exit_code(outcome) == 0
    assert report.data(outcome)["pods_left"] == []
    text = "\n".join(report.lines(outcome))
    for line in ("pods left     0", "runners left  0", "job lint      not played", "pod mode      inert: "):
        assert line in text


async def test_start_gets_what_a_step_of_a_workflow_gets(stage: Stage) -> None:
    """The variables of Actions, the simulators' addresses, an empty home, a key of its own and the options given."""
    commands = PlayedCommands(stage.world)
    await stage.play(commands)
    (start, env), (stop, stop_env) = commands.calls
    assert start == ["start", "--key", "start", "--gpu", "x"]
    assert stop == ["stop", "--key", "start"]
    for name in ("GITHUB_ACTIONS", "CI"):
        assert env[name] == "true"
    assert env["GITHUB_REPOSITORY"] == "octocat/gpu-demo"
    assert env["GITHUB_RUN_ATTEMPT"] == "1"
    assert int(env["GITHUB_RUN_ID"])
    assert env["GITHUB_API_URL"] == env["GITHUB_SERVER_URL"] == stage.world.addresses["github"]
    assert env["RUNPOD_API_URL"].startswith(stage.world.addresses["runpod"])
    assert [entry async for entry in anyio.Path(env["HOME"]).iterdir()] == []
    for name in ("RUNNER_TEMP", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV"):
        assert await anyio.Path(env[name]).exists()
        assert env[name] != stop_env[name]


async def test_a_failed_job_has_an_exit_code_of_its_own(stage: Stage) -> None:
    """And is stopped like any other."""
    outcome = await stage.play(PlayedCommands(stage.world), runner=stage.run_failing_job)
    assert outcome.jobs == {"gpu": "failure"}
    assert outcome.clean
    assert report.exit_code(outcome) == JobFailed.exit_code


async def test_what_is_left_is_named_and_decides_the_exit_code(stage: Stage) -> None:
    """A green job does not hide a pod that bills on."""
    outcome = await stage.play(PlayedCommands(stage.world, ends=False))
    assert outcome.jobs == {"gpu": "success"}
    assert outcome.pods_left[0].startswith("rp-1 (")
    assert report.exit_code(outcome) == LeftBehind.exit_code
    assert "pods left     1: rp-1 (" in "\n".join(report.lines(outcome))


async def test_a_failed_start_decides_the_exit_code(stage: Stage) -> None:
    """The GPU job is skipped, and stop is played all the same."""
    commands = PlayedCommands(stage.world, code=20)
    outcome = await stage.play(commands)
    assert outcome.jobs == {"gpu": "skipped"}
    assert report.exit_code(outcome) == 20
    assert len(commands.calls) == 2
    assert "start ended with exit code 20" in "\n".join(report.lines(outcome))


async def test_a_failed_stop_decides_the_exit_code(stage: Stage) -> None:
    """When nothing else does."""
    outcome = await stage.play(PlayedCommands(stage.world, stop_code=12))
    assert report.exit_code(outcome) == 12


@pytest.mark.parametrize("outputs", ["nonsense\n", "other=1\n"], ids=["unreadable", "no label"])
async def test_a_start_that_gives_no_label_fails_the_run(stage: Stage, outputs: str) -> None:
    """At GitHub too the GPU job would fail, for want of a label."""
    outcome = await stage.play(PlayedCommands(stage.world, outputs=outputs))
    assert outcome.problems
    assert report.exit_code(outcome) == JobFailed.exit_code


async def test_a_job_that_nobody_takes_is_given_up(stage: Stage) -> None:
    """GitHub would wait for a day; the demo says which label it was."""
    outcome = await stage.play(PlayedCommands(stage.world, registers=False))
    assert outcome.problems == ["job 'gpu': no runner for [rp-abc]"]
    assert report.exit_code(outcome) == JobFailed.exit_code


async def test_a_lost_runner_is_given_up(stage: Stage) -> None:
    """GitHub would fail the job after ten minutes."""
    outcome = await stage.play(PlayedCommands(stage.world), runner=stage.lose_job)
    assert outcome.problems == ["job 'gpu': its runner was lost"]


async def test_a_skipped_job_is_no_failure(stage: Stage) -> None:
    """GitHub's run is green too; what was rented for it is stopped."""
    commands = PlayedCommands(stage.world)
    outcome = await stage.play(commands, text=WORKFLOW.replace("  gpu:\n", "  gpu:\n    if: false\n"))
    assert outcome.jobs == {"gpu": "skipped"}
    assert [call[0] for call, _ in commands.calls] == ["start", "stop"]
    assert report.exit_code(outcome) == 0


async def test_a_call_outside_the_schema_fails_the_demo(stage: Stage) -> None:
    """With an exit code of its own, however green the job was."""
    stage.world.github.violations.append("request GET /x: bad")
    outcome = await stage.play(PlayedCommands(stage.world))
    assert report.exit_code(outcome) == OutsideSchema.exit_code
    assert "outside GitHub's schema  request GET /x: bad" in "\n".join(report.lines(outcome))


async def test_start_is_called_as_the_workflow_calls_it(stage: Stage) -> None:
    """Its key too, which stop gets as well; what is not known is said and belongs to the result."""
    line = 'run: "runner-provisioner start --gpu H100 --key train --image ${{ inputs.image }}"'
    commands = PlayedCommands(stage.world)
    outcome = await stage.play(commands, text=WORKFLOW.replace("run: runner-provisioner start", line))
    (start, _), (stop, _) = commands.calls
    assert start == ["start", "--key", "train", "--gpu=H100", "--gpu", "x"]
    assert stop == ["stop", "--key", "train"]
    warning = "job 'start': not played: '--image ${{inputs.image}}': its value is not known here"
    assert outcome.warnings == report.data(outcome)["warnings"] == [warning]
    assert ("demo", f"warning: {warning}") in stage.said


async def test_two_starts_of_one_run_have_their_own_keys(stage: Stage) -> None:
    """One after the other when the second needs the first one's job."""
    more = """
  start2:
    needs: gpu
    runs-on: ubuntu-latest
    outputs: {label: "${{ steps.rent.outputs.label }}"}
    steps: [{id: rent, run: runner-provisioner start}]
  gpu2:
    needs: start2
    runs-on: ${{ needs.start2.outputs.label }}
    steps: [{run: nvidia-smi}]
"""
    commands = PlayedCommands(stage.world)
    outcome = await stage.play(commands, text=WORKFLOW + more)
    assert outcome.jobs == {"gpu": "success", "gpu2": "success"}
    assert [call[:3] for call, _ in commands.calls] == [
        ["start", "--key", "start"],
        ["start", "--key", "start2"],
        ["stop", "--key", "start"],
        ["stop", "--key", "start2"],
    ]


def test_a_workflow_that_cannot_be_played_is_refused_at_once(stage: Stage) -> None:
    """No run is queued."""
    text = WORKFLOW.replace("run: nvidia-smi", "uses: actions/cache@v4")
    with pytest.raises(WorkflowError, match="actions/cache@v4"):
        Performance(world=stage.world, text=text, environ={}, say=stage.say, folder=stage.folder)


# --- commands as processes -------------------------------------------------------------------------------------------


def program(stage_said: list[tuple[str, str]], script: str) -> Program:
    """A program that is a script of the test."""
    return Program(
        environ={"PATH": "/bin:/usr/bin"},
        say=lambda prefix, line: stage_said.append((prefix, line)),
        arguments=(sys.executable, "-c", script),
    )


async def test_a_command_is_shown_line_by_line_without_masked_values(tmp_path: Path) -> None:
    """Both streams, the last line without its end too, and with nothing of our own environment."""
    said: list[tuple[str, str]] = []
    script = (
        "import os, sys; print('::add-mask::hunter2', flush=True); print('pass hunter2', flush=True);"
        "sys.stderr.write('no end'); sys.exit(3 if set(os.environ) - {'LC_CTYPE'} == {'PATH', 'X'} else 4)"
    )
    code = await program(said, script).run((), prefix="start", env={"X": "1"}, folder=str(tmp_path))
    assert code == 3
    assert set(said) == {("start", "pass ***"), ("start", "no end")}


async def test_a_cancelled_command_gets_the_signals_of_a_cancelled_step(tmp_path: Path) -> None:
    """SIGINT first; it may say goodbye."""
    marker = tmp_path / "marker"
    script = (
        "import pathlib, sys, time\n"
        "try:\n print('ready', flush=True); time.sleep(60)\n"
        f"except KeyboardInterrupt:\n pathlib.Path({str(marker)!r}).touch()\n"
    )
    said: list[tuple[str, str]] = []
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: program(said, script).run((), prefix="start", env={}, folder=str(tmp_path)))
        while not said:  # noqa: ASYNC110 - the process says when it is ready
            await anyio.sleep(0.02)
        group.cancel_scope.cancel()
    assert marker.exists()


def test_nothing_that_could_hold_a_credential_is_inherited() -> None:
    """The search path and the language are; tokens, keys, homes and agents are not."""
    environ = {
        "PATH": "/bin",
        "LANG": "C",
        "HOME": "/root",
        "SSH_AUTH_SOCK": "/x",
        "GH_TOKEN": "x",
        "RUNPOD_API_KEY": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "HTTPS_PROXY": "x",
    }
    assert clean_environment(environ) == {"PATH": "/bin", "LANG": "C"}
