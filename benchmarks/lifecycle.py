"""What `start` and `stop` take once the machine is there: seconds after "runner is online", and calls to GitHub.

Both services are the simulators on loopback and the pods are inert; this module registers a runner for each pod. All
intervals are the program's defaults except `settle`, which is small: it runs from the creation of the pod and has
passed before a real pod has booted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.measure import Figure
from runner_provisioner.simulators.github.entities import RunnerRecord
from runner_provisioner.simulators.world import SimulatedWorld, WorldPlan

ROUNDS = 5
SECONDS_GOAL, CALLS_GOAL = 1.5, 8
# Besides: whether somebody cleans up, and the installation once more, since the stop is on another machine.
WORKFLOW_CALLS_GOAL = CALLS_GOAL + 2
BOOT_SECONDS = 2.0
# The first look for a runner by its name is counted; each process then repeats it until it sees what it waits for.
WAITING_POLL = "runners.list"
LIMIT = 60.0


@dataclass(frozen=True, kw_only=True)
class Life:
    """One start and one stop."""

    seconds: float
    start: Counter[str]
    stop: Counter[str]

    @property
    def calls(self) -> int:
        """Calls to GitHub's API besides the waiting polls."""
        return sum(_beside_polls(one) for one in (self.start, self.stop))


def figures(rounds: int = ROUNDS) -> list[Figure]:
    """The median delay, and the calls of the worst round; once more with a runner to which no job came."""
    lives = []
    for number in range(rounds):
        with _world() as (world, environment):
            lives.append(_live(world, environment, delay=number / rounds))
    with _world() as (world, environment):
        jobless = _live(world, environment, delay=0, job=False)
    with _world() as (world, environment), tempfile.TemporaryDirectory() as temp:
        actions = {**environment, "GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "RUNNER_TEMP": temp}
        workflow = _live(world, actions, delay=0, stop_home=temp)
    worst = max(lives, key=lambda life: life.calls)
    longest = max(life.seconds for life in lives)
    return [
        Figure(
            name="runner online -> end of start",
            value=median(life.seconds for life in lives),
            goal=SECONDS_GOAL,
            unit="s",
            detail=f"median of {rounds} starts; longest {longest:.2f} s",
        ),
        Figure(
            name="GitHub calls of start + stop",
            value=worst.calls,
            goal=CALLS_GOAL,
            unit="calls",
            detail=f"App credentials, two processes, worst of {rounds}; beside repeated looks for the runner "
            f"({jobless.calls} when no job came and stop removes the runner itself)",
            binding=True,
        ),
        Figure(
            name="the same in a workflow",
            value=workflow.calls,
            goal=WORKFLOW_CALLS_GOAL,
            unit="calls",
            detail="start and stop on two machines; one more where a scheduled clean-up has run",
            binding=True,
        ),
    ]


@contextmanager
def _world() -> Iterator[tuple[SimulatedWorld, dict[str, str]]]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        with SimulatedWorld(Path(folder), plan=WorldPlan(boot_seconds=BOOT_SECONDS)) as world:
            given = {
                name: value
                for name, value in world.environment.items()
                if not name.startswith("RUNNER_PROVISIONER_") or name == "RUNNER_PROVISIONER_SETTLE"
            }
            run_id = world.github.queue_job(world.plan.repository, ["nobody"])
            yield (
                world,
                {
                    **given,
                    "PATH": os.environ["PATH"],
                    "HOME": str(home),
                    "CI": "true",
                    "GITHUB_RUN_ID": str(run_id),
                    "GITHUB_RUN_ATTEMPT": "1",
                },
            )


def _live(
    world: SimulatedWorld, environment: dict[str, str], *, delay: float, job: bool = True, stop_home: str | None = None
) -> Life:
    with _spawn("start", environment) as process:
        runner = _bring_online(world, delay)
        online = time.monotonic()
        process.wait(LIMIT)
        seconds = time.monotonic() - online
        _check(process)
    start = Counter(call.operation for call in world.github.calls)
    if job:
        # An ephemeral runner is gone once its one job is done; stop then ends the pod.
        world.github.queue_job(world.plan.repository, runner.labels)
        world.github.play_take(runner)
        world.github.play_finish(runner)
    with _spawn("stop", {**environment, "HOME": stop_home or environment["HOME"]}) as process:
        process.wait(LIMIT)
        _check(process)
    if world.pods_left() or world.runners_left():
        raise RuntimeError(f"left behind: {world.pods_left()} {world.runners_left()}")
    return Life(seconds=seconds, start=start, stop=Counter(call.operation for call in world.github.calls) - start)


def _bring_online(world: SimulatedWorld, delay: float) -> RunnerRecord:
    """Register the runner of the first pod, `delay` seconds after it has booted; anywhere between two looks."""
    limit = time.monotonic() + LIMIT
    while not (pods := world.runpod.live()):
        if time.monotonic() > limit:
            raise RuntimeError("no pod was rented")
        time.sleep(0.01)
    time.sleep(BOOT_SECONDS + 4 + delay)
    return world.github.play_runner(world.plan.repository, pods[0].name, (pods[0].env["RP_LABEL"],))


def _spawn(command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "runner_provisioner", command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _check(process: subprocess.Popen[bytes]) -> None:
    if process.returncode:
        said = process.stderr.read().decode() if process.stderr else ""
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {said}")


def _beside_polls(calls: Counter[str]) -> int:
    return calls.total() - max(0, calls[WAITING_POLL] - 1)
