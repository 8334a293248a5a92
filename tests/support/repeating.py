"""A run whose GPU job loses its machine, in the in-process world: attempts, records and re-runs."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from support.handing import WayIn
from support.inprocess import REPOSITORY, Outcome, Process, World

from runner_provisioner.cli.interruption import found_by_stop
from runner_provisioner.cli.repeating import rentals_of, rerun_of, seal_of, settle, watch_of
from runner_provisioner.domain.interruptions import Interruption, artifact_name, encode
from runner_provisioner.domain.names import RunKey, base36
from runner_provisioner.domain.request import StartRequest
from runner_provisioner.services.jit import JitHandOver
from runner_provisioner.services.provision import Started
from runner_provisioner.services.rerun import Survey
from runner_provisioner.services.watch import Watched
from runner_provisioner.simulators.github.runs import Job
from runner_provisioner.simulators.market.pods import RentedPod
from runner_provisioner.wiring import Program

LOCK = 11 * 60.0  # seconds: longer than a job outlives its runner
WORKFLOW = {
    "name": "Train",
    "on": "push",
    "jobs": {
        "start": {"runs-on": "ubuntu-latest", "steps": [{"run": "true"}]},
        "gpu": {"needs": "start", "runs-on": "${{ needs.start.outputs.label }}", "steps": [{"run": "true"}]},
        "stop": {"needs": ["start", "gpu"], "if": "always()", "runs-on": "ubuntu-latest", "steps": [{"run": "true"}]},
    },
}
WATCHED = {
    **WORKFLOW,
    "jobs": {
        **WORKFLOW["jobs"],  # type: ignore[dict-item]
        "watch": {"needs": "start", "runs-on": "ubuntu-latest", "steps": [{"run": "true"}]},
    },
}


class Repeating:
    """One run from its first start to its last stop; each command is a process of its own, as in a workflow."""

    def __init__(self, world: World, *, watched: bool = False) -> None:
        self.world = world
        self.run_id = world.github.queue_run(REPOSITORY, json.dumps(WATCHED if watched else WORKFLOW))
        self.watched = watched

    def process(self, attempt: int, **more: object) -> Process:
        """A command of a job of this attempt."""
        values = {"run": base36(self.run_id), "attempt": attempt, "state": f"job-{attempt}", **more}
        return Process(world=self.world, **values)  # type: ignore[arg-type]

    def name(self, attempt: int) -> str:
        """What pod and runner of an attempt are called."""
        process = self.process(attempt)
        return process.run_key(process.program()).name

    # --- the jobs of an attempt

    async def start(self, request: StartRequest | None = None) -> Started:
        """The job `start` of the first attempt: the GPU job waits for its label."""
        self.world.github.hand_over(self.run_id, "start")
        outcome = await self.process(1).start(request or self.world.wish())
        assert outcome.ok, repr(outcome.error)
        started: Started = outcome.result
        self.world.github.provide(self.run_id, "start", {"label": started.label})
        return started

    def take(self) -> Any:  # noqa: ANN401 - a pod of its market
        """The pod's runner takes the GPU job."""
        (pod,) = self.world.live()
        runner = self.world.runner_of(pod.id)
        assert runner is not None
        assert self.world.github.play_take(runner) is not None
        return pod

    def interrupt(self, pod: RentedPod) -> None:
        """The provider takes the machine back."""
        self.world.interrupt(pod)

    async def fail(self) -> None:
        """GitHub notices that the machine is gone."""
        await anyio.sleep(LOCK)
        assert self.job().conclusion == "failure"

    def job(self, key: str = "gpu") -> Job:
        """A job of the latest attempt."""
        return self.world.github.job(self.run_id, key)

    async def stop(self, attempt: int, process: Process | None = None) -> tuple[Outcome, Interruption | None]:
        """The job `stop` of an attempt, with its record kept for the run."""
        process = process or self.process(attempt)
        self.world.github.hand_over(self.run_id, "stop")

        async def work() -> tuple[object, Interruption | None]:
            program = process.program()
            key = process.run_key(program)
            ended = await program.ending().stop(key)
            assert program.place is not None
            return ended, await found_by_stop(program, program.place, key, ended)

        outcome = await process._run("stop", work)
        record = outcome.result[1] if outcome.ok else None
        if record is not None:
            self.keep(process, record)
        self.world.github.provide(self.run_id, "stop", {}, conclusion="success" if outcome.ok else "failure")
        return outcome, record

    async def watch(self, attempt: int, process: Process | None = None) -> Watched:
        """The job `watch` of an attempt, with its record kept for the run."""
        process = process or self.process(attempt)
        self.world.github.hand_over(self.run_id, "watch")

        async def work() -> Watched:
            program = process.program()
            assert program.place is not None
            program.jit = partial(_jit, program, WayIn(process.wire))  # type: ignore[method-assign] # no real SSH
            return await watch_of(program, program.place).follow(process.run_key(program))

        outcome = await process._run("watch", work)
        assert outcome.ok, repr(outcome.error)
        watched: Watched = outcome.result
        if watched.interruption is not None:
            self.keep(process, watched.interruption)
        conclusion = "failure" if watched.interruption or watched.error else "success"
        self.world.github.provide(self.run_id, "watch", {}, conclusion=conclusion)
        return watched

    def keep(self, process: Process, record: Interruption, *, seal: bytes | None = None) -> None:
        """What the action does with a record."""
        key = RunKey.parse(record.name)
        assert key is not None
        data = encode(record, seal or seal_of(process.settings))
        self.world.github.upload(self.run_id, artifact_name(key), {"record.json": data}, overwrite=True)

    # --- the workflow that follows the run

    async def rerun(
        self, attempt: int, process: Process | None = None, *, most: int = 3, request: StartRequest | None = None
    ) -> Outcome:
        """`rerun` of the attempt that has ended; its result is (Survey, what was started)."""
        process = process or self.process(attempt, state="rerun")

        async def work() -> tuple[Survey, list[Started]]:
            program = process.program()
            assert program.place is not None
            again = rerun_of(program, program.place, self.run_id, attempt)
            survey = await again.survey(most_attempts=most)
            folder = self.world.folder / process.state
            rentals = rentals_of(program, request or self.world.wish(), survey.jobs, folder=folder, ssh_keys=())
            return survey, await again.carry_out(rentals) if rentals else []

        return await process._run("rerun", work)

    async def settle(self, attempt: int) -> Outcome:
        """`rerun --own`."""
        process = self.process(attempt, state="rerun")

        async def work() -> list[str]:
            program = process.program()
            assert program.place is not None
            if await rerun_of(program, program.place, self.run_id, attempt).has_begun():
                return []
            names = []
            for path in sorted((self.world.folder / "rerun").glob("rp-*.json")):
                key = RunKey.parse(Path(path).stem)
                assert key is not None
                if (key.run_id, key.attempt) == (self.run_id, attempt + 1):
                    names += [one.name for one in await settle(program, path, replace(key))]
            return names

        return await process._run("settle", work)

    def used(self) -> Decimal:
        """What the pods must have cost: each from its creation until it was given back or taken."""
        total = Decimal(0)
        for pod in self.world.pods():
            ends = [event.at for event in pod.events if event.what.startswith(("terminated", "interrupted", "stopped"))]
            total += pod.price * -((pod.created_at - min(ends)) // timedelta(seconds=1)) / 3600
        return total

    @property
    def attempts(self) -> int:
        """How many there are."""
        return self.world.github.run(self.run_id).latest.number

    async def first_attempt(self, request: StartRequest | None = None) -> None:
        """Start, take, lose the machine, fail, stop: all that comes before a re-run."""
        await self.start(request)
        self.interrupt(self.take())
        await self.fail()
        _, record = await self.stop(1)
        assert record is not None
        assert self.world.github.run(self.run_id).latest.conclusion == "failure"

    async def finish(self, attempt: int) -> None:
        """The GPU job of a later attempt succeeds on its pod, and is followed by its stop."""
        pod = self.take()
        runner = self.world.runner_of(pod.id)
        assert runner is not None
        self.world.github.play_finish(runner)
        assert self.job().conclusion == "success"
        outcome, record = await self.stop(attempt)
        assert outcome.ok, repr(outcome.error)
        assert record is None
        if self.watched:  # it, too, may be ending the pod, and outlast `stop`
            with anyio.fail_after(LOCK):
                while self.job("watch").conclusion is None:  # noqa: ASYNC110 - virtual time
                    await anyio.sleep(1)
        assert self.world.github.run(self.run_id).latest.conclusion == "success"


def _jit(program: Program, way_in: WayIn, _nonce: str, *, labels: tuple[str, ...]) -> JitHandOver:
    assert program.github is not None
    return JitHandOver(registry=program.github.runners, way_in=way_in, labels=labels)
