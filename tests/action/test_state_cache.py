"""`state-cache`: the history travels from job to job, and is never in the way."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.action_runner import HostedJob
from support.action_stage import PROGRAM, ActionStage, SetUpAction, Use, queue

from runner_provisioner.domain.names import RunKey, Scope, base36
from runner_provisioner.simulators.workflow import WorkflowError
from runner_provisioner.simulators.workflow.values import Value
from runner_provisioner.simulators.world import REPOSITORY

FIND = "Find the history"
RESTORE = "Restore the history"
SAVE = "Save the history"

# What a start has written: a pod that nobody ended yet.
REMEMBER = """
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
import anyio
from runner_provisioner.clock import SystemClock
from runner_provisioner.domain.history import OfferKind, PodRecord
from runner_provisioner.domain.pods import PodId
from runner_provisioner.storage.history import HistoryFile

async def main(path, name):
    now = datetime.now(UTC) - timedelta(minutes=5)
    kind = OfferKind(provider="runpod", gpu_model="NVIDIA RTX A4000", gpu_count=1, interruptible=False)
    record = PodRecord(provider="runpod", id=PodId(name), name=name, kind=kind, price=Decimal("0.17"),
        list_price=Decimal("0.17"), created_at=now, expires_at=now + timedelta(hours=6))
    history = HistoryFile(Path(path), clock=SystemClock())
    await history.rented(record)
    await history.aclose()

anyio.run(main, *sys.argv[1:])
"""


def remember(name: str) -> Mapping[str, Value]:
    """A step that writes a pod of this name into the job's history."""
    path = '"$RUNNER_TEMP/runner-provisioner-history/history.sqlite3"'
    return {"run": f'{sys.executable} - {path} {name} <<"EOF"\n{REMEMBER}\nEOF'}


def history(use: Use) -> Path:
    """The job's history."""
    return use.job.temp / "runner-provisioner-history" / "history.sqlite3"


def pods(use: Use) -> set[str]:
    """The names of the pods in it that have not ended, or `-` and the name."""
    with sqlite3.connect(history(use)) as plain:
        rows = plain.execute("SELECT name, ended_at FROM pods").fetchall()
    plain.close()
    return {name if ended is None else f"-{name}" for name, ended in rows}


def name_of(stage: ActionStage, run_id: int) -> str:
    """The name of the pod of a run."""
    scope = Scope.parse(REPOSITORY, server_url=stage.world.addresses["github"])
    return RunKey(owner8=scope.owner8, run=base36(run_id), attempt=1, key="default").name


def stopping(stage: ActionStage, run_id: int, *before: Mapping[str, Value], **inputs: Any) -> Use:  # noqa: ANN401 - inputs
    """A job that stops what a run has started, after other steps."""
    use = stage.use(run_id, "stop", **{"state_cache": "true", **inputs})
    use.steps = [*before, *use.steps]
    return use


def test_a_second_job_finds_what_the_first_has_learned(set_up_action: SetUpAction) -> None:
    """The newest history is restored, and saved again only when there is news."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    name = name_of(stage, run_id)
    first = stopping(stage, run_id, remember(name)).play().well()
    assert (first.step(RESTORE).outcome, first.step(SAVE).outcome) == ("skipped", "success")
    (saved,) = stage.shelf.caches
    assert f"-{run_id}-1-" in saved.key
    second = stopping(stage, run_id).play().well()
    assert second.step(SAVE).outcome == "skipped"
    assert pods(first) == pods(second) == {f"-{name}"}
    assert "at list price" in second.job.summary


@pytest.mark.full
def test_there_is_no_history_before_the_first_and_none_of_another_owner(set_up_action: SetUpAction) -> None:
    """Nothing is made of nothing, and what an installation has learned is for itself."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    empty = stopping(stage, run_id).play().well()
    assert (empty.step(RESTORE).outcome, empty.step(SAVE).outcome) == ("success", "skipped")
    assert not history(empty).exists()
    stopping(stage, run_id, remember(name_of(stage, run_id))).play().well()
    assert stage.shelf.caches
    other = stopping(stage, run_id, owner="another").play().well()
    assert not history(other).exists()


@pytest.mark.full
def test_a_later_step_of_a_job_goes_on_with_its_history(set_up_action: SetUpAction) -> None:
    """It is not overwritten by an older cache, and each step saves under a key of its own."""
    stage = set_up_action(inert=True)
    one, two = queue(stage.stage), queue(stage.stage)
    use = stopping(stage, one, remember(name_of(stage, one)))
    given: Any = use.steps[-1]["with"]
    use.steps += [remember(name_of(stage, two)), {**use.steps[-1], "id": "again", "with": {**given, "run-id": two}}]
    use.play().well()
    assert pods(use) == {f"-{name_of(stage, one)}", f"-{name_of(stage, two)}"}
    assert len({saved.key for saved in stage.shelf.caches}) == 2
    assert pods(stopping(stage, one).play().well()) == pods(use)


def test_without_the_input_nothing_is_cached(set_up_action: SetUpAction) -> None:
    """Nor is the path that the job itself has set changed."""
    stage = set_up_action(inert=True)
    use = stage.use(queue(stage.stage), "stop")
    own = use.job.temp / "own.sqlite3"
    use.job.env = {"RUNNER_PROVISIONER_HISTORY": str(own)}
    own.write_text("no database" * 99)
    use.play().well()
    assert [use.step(name).outcome for name in (FIND, RESTORE, SAVE)] == ["skipped"] * 3
    assert f"history {own} is damaged" in use.job.log.text


@pytest.mark.full
def test_a_damaged_history_is_replaced_and_fails_no_start(set_up_action: SetUpAction) -> None:
    """It would otherwise come back for ever."""
    stage = set_up_action(inert=True)
    _spoil(stage)
    run_id = queue(stage.stage)
    start = stage.start(run_id, state_cache="true")
    warnings = [one.message for one in start.job.log.annotations if one.level == "warning"]
    assert "the history from the cache is damaged: a new one is begun" in warnings
    assert start.job.log.of("error") == []
    aside = start.job.temp / "runner-provisioner-history.damaged"
    assert aside.read_text().startswith("no database")
    use = stopping(stage, run_id, remember(name_of(stage, run_id))).play().well()
    assert pods(use) == {f"-{name_of(stage, run_id)}"}
    stage.stage.gone(pods=1)


def down(_job: HostedJob, _inputs: Mapping[str, str]) -> Mapping[str, str]:
    """A cache that does not answer."""
    raise WorkflowError("Cache service responded with 503")


@pytest.mark.full
def test_a_cache_that_cannot_be_restored_fails_no_start(set_up_action: SetUpAction) -> None:
    """It is as if it were empty."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    use = stage.use(run_id, state_cache="true")
    use.job.stand_ins = {**use.job.stand_ins, "actions/cache/restore": down}
    use.begin()
    pod = stage.rented()
    stage.world.github.play_runner(REPOSITORY, pod.name, (pod.env["RP_LABEL"],))
    use.join().well()
    assert (use.step(RESTORE).outcome, use.step(PROGRAM).outcome) == ("failure", "success")
    stage.use(run_id, "stop").play().well()
    stage.stage.gone(pods=1)


@pytest.mark.full
def test_a_cache_that_cannot_be_saved_fails_no_job(set_up_action: SetUpAction) -> None:
    """What was learned is lost."""
    stage = set_up_action(inert=True)
    run_id = queue(stage.stage)
    use = stopping(stage, run_id, remember(name_of(stage, run_id)))
    use.job.stand_ins = {**use.job.stand_ins, "actions/cache/save": down}
    assert use.play().well().step(SAVE).outcome == "failure"


def _spoil(stage: ActionStage) -> None:
    """Let the newest cache hold no history."""
    run_id = queue(stage.stage)
    stopping(stage, run_id, remember(name_of(stage, run_id))).play().well()
    (saved,) = stage.shelf.caches
    shutil.rmtree(saved.place)
    saved.place.mkdir()
    (saved.place / "history.sqlite3").write_text("no database" * 99)
