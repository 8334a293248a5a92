"""`watch`, `rerun`, and what start and stop do for them, on the command line."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner_provisioner.domain.interruptions import LABEL, decode, seal_key
from runner_provisioner.domain.names import RunKey
from runner_provisioner.errors import (
    BudgetExceeded,
    InvalidRequest,
    JobStillRunning,
    PodInterrupted,
    StoreError,
    UntrustedEvent,
)
from runner_provisioner.simulators.demo.files import read_pairs
from runner_provisioner.simulators.github.entities import RunnerRecord
from runner_provisioner.simulators.runpod.pods import SimPod

if TYPE_CHECKING:
    from integration.cli.conftest import Result, Services

REPOSITORY = "octo/hello"
WORKFLOW = {
    "name": "Train",
    "on": "push",
    "jobs": {
        "start": {"runs-on": "ubuntu-latest", "steps": [{"run": "true"}]},
        "gpu": {"needs": "start", "runs-on": "${{ needs.start.outputs.label }}", "steps": [{"run": "true"}]},
    },
}


@dataclass
class Train:
    """A run with a GPU job."""

    services: Services
    run_id: int = 0
    jobs: int = 0
    outputs: dict[str, str] = field(default_factory=dict)

    def environment(self, *, run_id: int | None = None) -> dict[str, str]:
        """A job's: a folder of its own."""
        self.jobs += 1
        temp = self.services.folder / f"job{self.jobs}"
        temp.mkdir()
        (temp / "output").touch()
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_RUN_ID": str(run_id or self.run_id),
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_OUTPUT": str(temp / "output"),
            "GITHUB_STEP_SUMMARY": str(temp / "page"),
            "RUNNER_TEMP": str(temp),
        }

    def start(self) -> tuple[SimPod, RunnerRecord]:
        """The machine of the first attempt, at work."""
        github = self.services.github
        self.services.usher()
        self.run_id = github.queue_run(REPOSITORY, json.dumps(WORKFLOW))
        github.hand_over(self.run_id, "start")
        environment = self.environment()
        assert self.services.run("start", **environment).code == 0
        self.outputs = read_pairs(Path(environment["GITHUB_OUTPUT"]).read_text())
        github.provide(self.run_id, "start", self.outputs)
        (runner,) = github.runners()
        assert github.play_take(runner) is not None
        return self.services.runpod.live()[0], runner

    def lose(self) -> SimPod:
        """The machine of the first attempt is taken back, and its job fails."""
        pod, runner = self.start()
        self.services.runpod.interrupt(pod.id)
        self.services.github.play_loss(runner)
        assert runner.job is not None
        assert runner.job.renewed_at is not None
        runner.job.renewed_at -= timedelta(minutes=11)
        return pod

    def keep(self, environment: dict[str, str]) -> str:
        """What the action does with the record; its name."""
        outputs = read_pairs(Path(environment["GITHUB_OUTPUT"]).read_text())
        data = Path(outputs["record"]).read_bytes()
        self.services.github.upload(self.run_id, outputs["record-name"], {"record.json": data})
        return outputs["record-name"]

    def stop(self) -> Result:
        """Its stop, with the record kept."""
        environment = self.environment()
        result = self.services.run("stop", "--json", **environment)
        assert result.code == 0, result.err
        if result.data["interruption"]:
            assert self.keep(environment) == "runner-provisioner-interruption-default-1"
        return result

    def rerun(self, *more: str, **environment: str) -> Result:
        """The run that follows."""
        given = {**self.environment(run_id=7_999), **environment}
        return self.services.run("rerun", "--run-id", str(self.run_id), "--attempt", "1", "--json", *more, **given)


def test_what_was_interrupted_is_repeated(services: Services) -> None:
    """From the record of stop to the machine of the second attempt, which bears the first one's label."""
    train = Train(services)
    pod = train.lose()
    told: dict[str, Any] = train.stop().data["interruption"]
    assert (told["pod"], told["label"]) == (pod.id, train.outputs["label"])
    again = train.rerun(RUNNER_PROVISIONER_WORKFLOW_TOKEN=services.github.run(train.run_id).token)
    assert again.code == 0, again.err
    assert again.data["attempt"] == 2
    assert services.github.run(train.run_id).latest.number == 2
    (second,) = services.runpod.live()
    assert RunKey.parse(second.name) == _next(pod.name)
    assert second.env["RP_LABEL"] == train.outputs["label"]
    assert services.run("stop", "--run-id", str(train.run_id)).code == 0
    assert services.runpod.live() == []
    assert services.github.violations == []


def _next(name: str) -> RunKey:
    key = RunKey.parse(name)
    assert key is not None
    return RunKey(owner8=key.owner8, run=key.run, attempt=key.attempt + 1, key=key.key)


def test_a_record_is_for_its_owner_alone(services: Services) -> None:
    """It can be read by who has the RunPod key, and its file by nobody else of the machine."""
    train = Train(services)
    pod = train.lose()
    environment = train.environment()
    result = services.run("stop", **environment)
    assert "lost its machine" in result.err
    path = Path(read_pairs(Path(environment["GITHUB_OUTPUT"]).read_text())["record"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert services.runpod.key not in path.read_text()
    record = decode(path.read_bytes(), seal_key(services.runpod.key))
    assert record is not None
    assert record.name == pod.name


def test_a_run_that_failed_by_itself_is_left_alone(services: Services) -> None:
    """The reason is told, and the exit code is 0."""
    train = Train(services)
    _, runner = train.start()
    services.github.play_finish(runner, "failure")
    assert train.stop().data["interruption"] is None
    again = train.rerun()
    assert again.code == 0
    assert "failed by itself" in again.data["why-not"]
    assert again.data["attempt"] is None
    assert services.runpod.live() == []


def test_an_attempt_that_runs_is_an_error(services: Services) -> None:
    """One line."""
    train = Train(services)
    _, runner = train.start()
    again = train.rerun()
    assert again.code == JobStillRunning.exit_code
    assert len(again.errors) == 1
    services.github.play_finish(runner)
    train.stop()


def test_a_rerun_that_rents_nothing_says_why(services: Services) -> None:
    """As start does; nothing is left to settle."""
    train = Train(services)
    train.lose()
    train.stop()
    again = train.rerun("--max-price", "0.01")
    assert again.code == BudgetExceeded.exit_code
    own = train.rerun("--own", RUNPOD_API_KEY="", GITHUB_TOKEN="")
    assert own.code == 0
    assert own.data["ended"] == []


def test_a_rerun_that_was_cut_off_is_settled(services: Services) -> None:
    """Its machine is ended by its state file, unless the new attempt exists; a damaged file is told."""
    train = Train(services)
    train.lose()
    train.stop()
    environment = train.environment(run_id=7_999)
    wanted = ("--run-id", str(train.run_id), "--attempt", "2", "--unique-label", train.outputs["label"])
    assert services.run("start", *wanted, **environment).code == 0
    (pod,) = services.runpod.live()
    own = ("rerun", "--own", "--run-id", str(train.run_id), "--attempt", "1", "--json")
    settled = services.run(*own, **environment)
    assert settled.code == 0, settled.err
    assert settled.data["ended"] == [pod.name]
    assert services.runpod.live() == []
    state = Path(environment["RUNNER_TEMP"]) / "runner-provisioner" / f"{pod.name}.json"
    state.write_text("{")
    assert services.run(*own, **environment).code == StoreError.exit_code
    services.github.rerun(train.run_id, failed_only=True)
    assert services.run(*own, **environment).data["ended"] == []


def test_a_foreign_event_is_refused(services: Services) -> None:
    """Before a credential is read."""
    event = services.folder / "event.json"
    event.write_text(json.dumps({"workflow_run": {"head_repository": {"full_name": "stranger/hello"}}}))
    told = {"GITHUB_EVENT_NAME": "workflow_run", "GITHUB_EVENT_PATH": str(event), "GITHUB_ACTIONS": "true"}
    refused = services.run("rerun", "--run-id", "1", "--attempt", "1", **told, RUNPOD_API_KEY="", GITHUB_TOKEN="")
    assert refused.code == UntrustedEvent.exit_code


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("start", "--unique-label", "gpu"), "--unique-label gpu: give what a start printed"),
        (("start", "--attempt", "2"), "--attempt 2: only a workflow run has attempts"),
        (("start", "--attempt", "0", "--run-id", "5"), "--attempt"),
        (("rerun", "--attempt", "1"), "--run-id"),
        (("rerun", "--run-id", "x", "--attempt", "1"), "--run-id"),
        (("rerun", "--run-id", "1", "--attempt", "1", "--max-attempts", "0"), "--max-attempts"),
        (("rerun", "--run-id", "1", "--attempt", "1", "--organization", "octo"), "give --repository"),
        (("watch",), "which run? give --run-id"),
    ],
)
def test_bad_input_is_one_line(services: Services, arguments: tuple[str, ...], says: str) -> None:
    """It names the input."""
    missing = {"GITHUB_REPOSITORY": ""} if "--organization" in arguments else {}
    result = services.run(*arguments, **missing)
    assert result.code == InvalidRequest.exit_code
    (line,) = result.errors
    assert says in line


def test_another_label_than_the_state_file_has(services: Services) -> None:
    """A start goes on where it was, or not at all."""
    services.usher()
    one, other = ("rp-" + letter * 26 for letter in "ab")
    assert LABEL.fullmatch(one)
    wanted = ("start", "--run-id", "77", "--attempt", "2", "--unique-label")
    assert services.run(*wanted, one).code == 0
    refused = services.run(*wanted, other)
    assert refused.code == InvalidRequest.exit_code
    assert one in refused.err
    assert services.run("stop", "--run-id", "77", "--all").code == 0


def test_watch_fails_when_the_pod_is_taken_back(services: Services) -> None:
    """With its own error, the record written and the pod ended; and ends well with the job."""
    train = Train(services)
    pod, runner = train.start()
    timer = threading.Timer(0.6, lambda: services.runpod.interrupt(pod.id))
    timer.start()
    environment = train.environment()
    watched = services.run("watch", "--json", **environment)
    timer.join()
    assert watched.code == PodInterrupted.exit_code == 1
    assert watched.data["interruption"]["pod"] == pod.id
    assert train.keep(environment) == "runner-provisioner-interruption-default-1"
    assert services.runpod.live() == []
    assert "took its machine back" in Path(environment["GITHUB_STEP_SUMMARY"]).read_text()
    services.github.play_finish(runner, "failure")
    over = services.run("watch", **train.environment())
    assert over.code == 0
    assert "its job is over" in over.out
