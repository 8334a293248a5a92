"""A machine is taken back, and the job succeeds on another one: by the workflow files as they stand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from support.action_stage import PROGRAM, ROOT, ActionStage, SetUpAction, queue
from support.action_workflow import Playing, called
from support.e2e import QUICK
from support.e2e_steps import until

from runner_provisioner.cli.demo import start_options
from runner_provisioner.errors import PodInterrupted, UntrustedEvent
from runner_provisioner.simulators.celium.simulator import CeliumSimulator
from runner_provisioner.simulators.faults import Fault, FaultKind
from runner_provisioner.simulators.github.entities import RunnerRecord
from runner_provisioner.simulators.github.runs import Job
from runner_provisioner.simulators.prime import texts
from runner_provisioner.simulators.prime.simulator import PrimeSimulator
from runner_provisioner.simulators.runpod.pods import SimPod
from runner_provisioner.simulators.workflow.values import Value
from runner_provisioner.simulators.world import APP_ID, REPOSITORY

ONE = {"start": "success", "gpu": "success", "watch": "skipped", "stop": "success"}
VARIABLES = {"GPU_APP_ID": str(APP_ID)}
WORK = """\
echo "attempt ${RUNNER_PROVISIONER_ATTEMPT:-1}, resume ${RUNNER_PROVISIONER_RESUME:-0}"
if [ "${RUNNER_PROVISIONER_ATTEMPT:-1}" -lt ENOUGH ]; then echo working; sleep 60; fi
echo done
"""
RERUN = (ROOT / ".github/workflows/rerun.yml").read_text("utf-8")
CALLER = (ROOT / "examples/rerun-interrupted.yml").read_text("utf-8")
CALLERS_KEY = "      RUNPOD_API_KEY: ${{ secrets.RUNPOD_API_KEY }}\n"
CALLERS_KEYS = "".join(CALLERS_KEY.replace("RUNPOD", name) for name in ("RUNPOD", "PRIME", "CELIUM"))
GPU = "NVIDIA RTX A4000"
NOTHING_LEFT = json.dumps({"detail": texts.NO_CAPACITY})


def secrets_of(stage: ActionStage) -> dict[str, str]:
    """What a reader has stored."""
    keys = {name: value for name, value in stage.secrets.items() if name != "APP_PRIVATE_KEY"}
    return {**keys, "GPU_APP_PRIVATE_KEY": stage.secrets["APP_PRIVATE_KEY"]}


def needed_here(stage: ActionStage) -> dict[str, Value]:
    """What pods of this machine need of a start."""
    options = start_options(stage.world.host)
    return {"run-as": options[1]} if options else {}


def train(stage: ActionStage, *, enough: int = 2, spot: bool = True, **inputs: Value) -> Playing:
    """The reusable workflow with a job that succeeds once it has been tried often enough."""
    stage.world.runpod.market.spot = spot
    text = (ROOT / ".github/workflows/gpu-job.yml").read_text("utf-8")
    given: dict[str, Value] = {
        "run": WORK.replace("ENOUGH", str(enough)),
        "checkout": False,
        **needed_here(stage),
        **inputs,
    }
    return Playing(stage=stage, text=text, inputs=given, secrets=secrets_of(stage), variables=VARIABLES)


@contextmanager
def beside(act: Callable[[], object]) -> Iterator[None]:
    """Do something while a run is played; its failure is the test's."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        if failures:
            raise failures[0]
    assert not thread.is_alive()


def working(playing: Playing, attempt: int) -> SimPod:
    """Wait until the job of an attempt is at work; its pod."""
    github = playing.stage.world.github

    def is_working() -> bool:
        run = github.run(playing.run_id) if playing.run_id else None
        if run is None or run.latest.number != attempt or "gpu" not in run.latest.jobs:
            return False
        return "\nworking" in github.job_log(playing.run_id, "gpu")

    until(is_working, f"the job of attempt {attempt} works", seconds=60)
    return playing.stage.stage.live[-1]


def followed(playing: Playing, **event: Value) -> dict[str, Value]:
    """What GitHub tells the workflow that follows the run."""
    latest = playing.stage.world.github.run(playing.run_id).latest
    run = {
        "id": playing.run_id,
        "run_attempt": latest.number,
        "conclusion": latest.conclusion,
        "head_repository": {"full_name": REPOSITORY},
        **event,
    }
    return {"event_name": "workflow_run", "event": {"action": "completed", "workflow_run": run}}


def rerun_of(
    playing: Playing, context: Mapping[str, Value] | None = None, *, caller: str = CALLER, **inputs: Value
) -> Playing:
    """The workflow that follows it, called as the example does."""
    stage = playing.stage
    (found,) = called(stage, caller, secrets=secrets_of(stage), variables=VARIABLES).values()
    found.inputs = {**found.inputs, **needed_here(stage), **inputs}
    found.context = context or followed(playing)
    found.play()
    return found


def interrupt_at_work(playing: Playing, attempt: int) -> None:
    """The provider takes the machine back while the job works."""
    pod = working(playing, attempt)
    playing.stage.world.runpod.interrupt(pod.id)


def log_of(playing: Playing) -> str:
    """What the GPU job of the latest attempt wrote."""
    return playing.stage.world.github.job_log(playing.run_id, "gpu")


def test_a_job_that_lost_its_machine_succeeds_on_a_second_one(set_up_action: SetUpAction) -> None:
    """Stop leaves a record, the next workflow rents under the same label, and the job knows that it is a re-run."""
    stage = set_up_action()
    playing = train(stage)
    with beside(lambda: interrupt_at_work(playing, 1)):
        ends = playing.play()
    assert ends == {**ONE, "gpu": "failure"}, playing.told
    assert "lost its machine" in playing.jobs["stop"].log.text
    again = rerun_of(playing)
    assert again.ends == {"rerun": "success"}, again.told
    ends = playing.follow()
    assert ends["gpu"] == "success", playing.told
    assert ends["stop"] == "success"
    assert "attempt 2, resume 1" in log_of(playing)
    names = [pod.name for pod in stage.stage.pods]
    assert [name.rsplit("-", 2)[1] for name in names] == ["1", "2"]
    stage.stage.gone(pods=2)


def taken_back_by_lium(playing: Playing) -> None:
    """Lium takes its machine while the job works, and has no other one."""
    world = playing.stage.world
    lium = world.market(CeliumSimulator)
    until(lambda: playing.run_id and "gpu" in world.github.run(playing.run_id).latest.jobs, "the run has a GPU job")
    until(lambda: "\nworking" in log_of(playing), "the job works", seconds=60)
    (pod,) = lium.live()
    looks = lium.faults.count("pods.list")
    until(lambda: lium.faults.count("pods.list") > looks + 1, "watch has seen the pod")
    with lium.lock:
        lium.interrupt(pod.id)
        lium.market.set_stock(GPU, 0)


@pytest.mark.full
@pytest.mark.timeout(360)  # two starts, a watch and a re-run, each with processes of its own
def test_a_job_goes_from_market_to_market(set_up_action: SetUpAction) -> None:
    """The cheapest has none left when asked, the second takes its machine back, the third finishes the job."""
    stage = set_up_action(markets=("prime", "celium", "runpod"))
    prime = stage.world.market(PrimeSimulator)
    prime.market.set_price("RTXA4000_16GB", Decimal("0.05"))
    refused = Fault(operation="pods.create", kind=FaultKind.ERROR, status=400, body=NOTHING_LEFT, times=None)
    prime.faults.add(refused)
    everywhere: dict[str, Any] = {"gpu": GPU, "accept-no-kill-time": "true"}
    # At Lium nothing is left of a pod that was taken: only who watched it has seen why it ended.
    playing = train(stage, spot=False, watch="true", **everywhere)
    with beside(lambda: taken_back_by_lium(playing)):
        ends = playing.play(180)
    assert ends == {**ONE, "gpu": "failure", "watch": "failure"}, playing.told
    assert "lost its machine" in playing.jobs["watch"].log.text
    again = rerun_of(playing, caller=CALLER.replace(CALLERS_KEY, CALLERS_KEYS), **everywhere)
    assert again.ends == {"rerun": "success"}, again.told
    assert playing.follow(180)["gpu"] == "success", playing.told
    assert "attempt 2, resume 1" in log_of(playing)
    first, second = stage.world.pods()
    assert stage.world.market(CeliumSimulator).pods() == [first]
    assert stage.world.runpod.pods() == [second]
    assert (first.spot, first.happened("interrupted")) == (True, True)
    assert first.env["RP_LABEL"] == second.env["RP_LABEL"]
    assert refused.reached.is_set()
    stage.stage.gone(pods=2)


@pytest.mark.full
def test_two_interruptions_in_a_row(set_up_action: SetUpAction) -> None:
    """The third machine is one that the provider cannot take back."""
    stage = set_up_action()
    playing = train(stage, enough=3)
    with beside(lambda: interrupt_at_work(playing, 1)):
        playing.play()
    assert rerun_of(playing).ends == {"rerun": "success"}
    with beside(lambda: interrupt_at_work(playing, 2)):
        playing.follow()
    assert rerun_of(playing).ends == {"rerun": "success"}
    assert playing.follow()["gpu"] == "success", playing.told
    assert [pod.pod_type for pod in stage.stage.pods] == ["INTERRUPTABLE", "INTERRUPTABLE", "RESERVED"]
    stage.stage.gone(pods=3)


@pytest.mark.full
def test_a_pod_that_is_taken_while_it_boots(set_up_action: SetUpAction) -> None:
    """The start itself goes on to a second pod."""
    stage = set_up_action()
    stage.world.runpod.interrupt_new()
    playing = train(stage, enough=1)
    assert playing.play() == ONE, playing.told
    stage.stage.gone(pods=2)


def serve(stage: ActionStage, attempt: int = 1) -> tuple[SimPod, RunnerRecord]:
    """The next pod's runner comes online: pods have no processes here."""
    pod = until(lambda: [one for one in stage.stage.live if one.name.split("-")[3] == str(attempt)], "a pod")[-1]
    return pod, stage.world.github.play_runner(REPOSITORY, pod.name, (pod.env["RP_LABEL"],))


def outlived(stage: ActionStage, runner: RunnerRecord) -> None:
    """Ten minutes have passed since the runner was lost: GitHub fails its job."""
    with stage.world.github.world.lock:
        assert runner.job is not None
        assert runner.job.renewed_at is not None
        runner.job.renewed_at -= timedelta(minutes=11)


def queued(playing: Playing) -> Job:
    """Wait until the GPU job waits for its machine."""

    def waits() -> Job | None:
        run = playing.stage.world.github.run(playing.run_id) if playing.run_id else None
        job = run.latest.jobs.get("gpu") if run is not None else None
        return job if job is not None and job.status == "queued" else None

    found: Job = until(waits, "the GPU job is queued")
    return found


def repeated(playing: Playing, attempt: int = 2) -> None:
    """The re-run succeeds, and so does the job, on the pod of that attempt."""
    stage = playing.stage
    served: list[RunnerRecord] = []
    with beside(lambda: served.append(serve(stage, attempt)[1])):
        again = rerun_of(playing)
    assert again.ends == {"rerun": "success"}, again.told

    def work() -> None:
        queued(playing)
        assert stage.world.github.play_take(served[0]) is not None
        stage.world.github.play_finish(served[0])

    with beside(work):
        assert playing.follow()["gpu"] == "success", playing.told


@pytest.mark.full
def test_a_pod_that_is_taken_while_idle(set_up_action: SetUpAction) -> None:
    """Its job waits in vain until clean-up cancels the run; the re-run has it succeed on a second pod."""
    stage = set_up_action(inert=True)
    playing = train(stage)
    github = stage.world.github

    def lose() -> None:
        pod, runner = serve(stage)
        job = queued(playing)
        stage.world.runpod.interrupt(pod.id)
        github.play_loss(runner)
        job.created_at -= timedelta(minutes=6)
        stage.use(queue(stage.stage), "cleanup", cancel_stuck="true").play().well()

    with beside(lose):
        ends = playing.play()
    assert ends == {**ONE, "gpu": "cancelled"}, playing.told
    repeated(playing)
    stage.stage.gone(pods=2)


@pytest.mark.full
def test_a_pod_that_is_taken_during_stop(set_up_action: SetUpAction) -> None:
    """RunPod says so only when stop has looked already; the job succeeds on a second pod."""
    stage = set_up_action(inert=True)
    playing = train(stage)
    github = stage.world.github

    def lose() -> None:
        pod, runner = serve(stage)
        queued(playing)
        assert github.play_take(runner) is not None
        stage.stage.strike("runpod", Fault(operation="pod", kind=FaultKind.ERROR, status=500, times=4))
        github.play_loss(runner)
        outlived(stage, runner)
        until(lambda: "stop" in playing.jobs, "stop begins")
        stage.world.runpod.interrupt(pod.id)

    with beside(lose):
        ends = playing.play()
    assert ends == {**ONE, "gpu": "failure"}, playing.told
    repeated(playing)
    stage.stage.gone(pods=2)


@pytest.mark.full
def test_a_forged_record_rents_nothing(set_up_action: SetUpAction) -> None:
    """The job failed by itself; what somebody has uploaded for it is not believed."""
    stage = set_up_action(inert=True)
    playing = train(stage)
    github = stage.world.github

    def fail() -> None:
        pod, runner = serve(stage)
        queued(playing)
        assert github.play_take(runner) is not None
        record = {"version": 1, "name": pod.name, "label": pod.env["RP_LABEL"], "provider": "runpod", "pod": pod.id}
        text = json.dumps({**record, "machine": None, "reason": "interrupted", "at": "2026-11-21T00:00:00+00:00"})
        name = "runner-provisioner-interruption-default-1"
        github.upload(playing.run_id, name, {"record.json": text.encode()})
        github.play_finish(runner, "failure")

    with beside(fail):
        assert playing.play()["gpu"] == "failure"
    again = rerun_of(playing)
    assert again.ends == {"rerun": "success"}, again.told
    assert "failed by itself" in again.jobs["rerun"].log.text
    assert github.run(playing.run_id).latest.number == 1
    stage.stage.gone(pods=1)


@pytest.mark.full
def test_a_foreign_head_is_refused_before_anything_is_read(set_up_action: SetUpAction) -> None:
    """By the workflow, and without it by the program: nothing is asked of GitHub or the provider."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    stage.world.github.complete_run(run_id, conclusion="failure")
    playing = Playing(stage=stage, text="", run_id=run_id)
    context = followed(playing, head_repository={"full_name": "stranger/gpu-demo"})
    assert rerun_of(playing, context).ends == {"rerun": "skipped"}
    of: dict[str, Any] = {"run-id": str(run_id), "attempt": "1"}
    job = stage.use(run_id, "rerun", **of)
    job.job = stage.hosted(run_id, github=context)
    calls = len(stage.world.github.calls) + len(stage.world.runpod.faults.calls)
    job.play()
    assert job.conclusion == "failure"
    assert job.step(PROGRAM).code == UntrustedEvent.exit_code
    assert len(stage.world.github.calls) + len(stage.world.runpod.faults.calls) == calls


@pytest.mark.full
def test_a_rerun_that_is_cancelled_leaves_nothing(set_up_action: SetUpAction) -> None:
    """Between the rental and the order: the settling step finds nothing to do."""
    stage = set_up_action(inert=True)
    playing = train(stage)

    def lose() -> None:
        pod, runner = serve(stage)
        queued(playing)
        assert stage.world.github.play_take(runner) is not None
        stage.world.runpod.interrupt(pod.id)
        stage.world.github.play_loss(runner)
        outlived(stage, runner)

    with beside(lose):
        assert playing.play()["stop"] == "success", playing.told
    of: dict[str, Any] = {"run-id": str(playing.run_id), "attempt": "1"}
    use = stage.use(playing.run_id, "rerun", **of)
    use.job = stage.hosted(queue(stage.stage), github=followed(playing))
    use.begin()
    until(lambda: stage.stage.live, "the second machine is rented")
    use.cancel()
    assert use.conclusion == "cancelled"
    assert stage.world.github.run(playing.run_id).latest.number == 1
    stage.stage.gone(pods=2)


@pytest.mark.full
def test_watch_ends_the_pod_at_once_and_is_repeated(set_up_action: SetUpAction) -> None:
    """It fails with its own code, keeps the record, and belongs to the next attempt as well."""
    stage = set_up_action()
    stage.world.runpod.market.spot = True
    run_id = stage.stage.queue("sleep 60")
    start = stage.use(run_id).play().well()
    stage.provide(run_id, start)
    pod = stage.stage.live[-1]
    until(lambda: stage.world.github.job(run_id, "gpu").status == "in_progress", "the job works")
    looks = stage.world.runpod.faults.count("pod")
    watch = stage.use(run_id, "watch").begin()
    until(lambda: stage.world.runpod.faults.count("pod") > looks + 2, "watch has seen the pod")
    stage.world.runpod.interrupt(pod.id)
    watch.join()
    assert watch.step(PROGRAM).code == PodInterrupted.exit_code == 1
    assert pod.ended_at is not None
    ends = {event.what.split()[0]: event.at for event in pod.events}
    assert (ends["terminated"] - ends["interrupted"]).total_seconds() <= float(
        QUICK["RUNNER_PROVISIONER_POLL_BOOTING"]
    ) + 2
    names = [one.name for one in stage.world.github.runs.shelf.artifacts.values()]
    assert names == ["runner-provisioner-interruption-default-1"]
    stage.use(run_id, "stop").play().well()
    stage.stage.gone(pods=1)


def test_a_rerun_needs_to_know_of_what(set_up_action: SetUpAction) -> None:
    """One error that names the inputs."""
    stage = set_up_action(inert=True)
    use = stage.use(queue(stage.stage), "rerun").play()
    assert use.conclusion == "failure"
    assert any("'run-id' and 'attempt'" in text for text in use.job.log.of("error"))
