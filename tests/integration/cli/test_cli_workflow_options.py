"""Options that a workflow needs: to settle one's own start, to tell a cost, to allow what strangers can shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner_provisioner.errors import InvalidRequest, StoreError, UntrustedEvent

if TYPE_CHECKING:
    from integration.cli.conftest import Services

REPOSITORY = "octo/hello"


def workflow(services: Services, number: int = 1) -> dict[str, str]:
    """The variables of a job in a run of its own; each job has a folder for its files."""
    temp = services.folder / f"temp{number}"
    temp.mkdir(exist_ok=True)
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "workflow_dispatch",
        "GITHUB_RUN_ID": "7000000001",
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_REPOSITORY": REPOSITORY,
        "RUNNER_TEMP": str(temp),
        "GITHUB_STEP_SUMMARY": str(temp / "page"),
    }


def state_of(environment: dict[str, str]) -> Path:
    """The state file of the one start of a job."""
    return next(Path(environment["RUNNER_TEMP"]).glob("runner-provisioner/*.json"))


def test_a_job_that_started_nothing_settles_nothing(services: Services) -> None:
    """Without a state file no credential is needed, and the pod of another job is left alone."""
    services.usher()
    assert services.run("start", **workflow(services)).code == 0
    result = services.run("stop", "--own", "--json", **workflow(services, 2), RUNPOD_API_KEY="", GITHUB_TOKEN="")
    assert result.code == 0, result.err
    assert result.data["ended"] == []
    assert len(services.runpod.live()) == 1


def test_what_this_job_started_is_ended(services: Services) -> None:
    """By its state file, which goes as well."""
    services.usher()
    environment = workflow(services)
    assert services.run("start", **environment).code == 0
    state = state_of(environment)
    result = services.run("stop", "--own", **environment)
    assert result.code == 0, result.err
    assert services.runpod.live() == []
    assert services.github.runners() == []
    assert not state.exists()


@pytest.mark.parametrize("words", [("--own", "--attempt", "2"), ("--attempt", "2")], ids=["settled", "stopped"])
def test_a_start_for_another_attempt_is_ended_under_that_attempt(services: Services, words: tuple[str, ...]) -> None:
    """Which its name holds; without being told, the stop of attempt 1 ends attempt 1."""
    services.usher()
    environment = workflow(services)
    assert services.run("start", "--attempt", "2", **environment).code == 0
    assert services.run("stop", words[0].replace("--attempt", "--json"), **environment).code == 0
    assert len(services.runpod.live()) == 1
    result = services.run("stop", *words, **environment)
    assert result.code == 0, result.err
    assert services.runpod.live() == []
    assert services.run("stop", "--run-id", "abc", "--attempt", "2").code == InvalidRequest.exit_code


def test_another_start_with_the_same_key_keeps_its_pod(services: Services) -> None:
    """The second job knows the name, not the nonce: it ends nothing and forgets its own."""
    services.usher()
    first, second = workflow(services), workflow(services, 2)
    assert services.run("start", **first).code == 0
    assert services.run("start", **second).code != 0
    result = services.run("stop", "--own", **second)
    assert result.code == 0, result.err
    assert len(services.runpod.live()) == 1
    assert len(services.github.runners()) == 1


LATER: dict[str, tuple[dict[str, Any], int]] = {
    "nothing": ({}, 1),
    "a pod": ({"made": [["runpod", "gone"]]}, 0),
    "unsure": ({"unsure": True}, 0),
}


@pytest.mark.parametrize("later", LATER)
def test_a_later_start_of_the_same_job_settles_only_what_it_may_have_rented(services: Services, later: str) -> None:
    """The action keeps what the state file said before; a start that took part and created nothing ends nothing."""
    changes, live = LATER[later]
    services.usher()
    environment = workflow(services)
    assert services.run("start", **environment).code == 0
    state = state_of(environment)
    state.with_suffix(".before").write_bytes(state.read_bytes())
    record = json.loads(state.read_text())
    record["creators"]["later"] = {"made": [], "ended": [], "unsure": False, "placed_at": None, **changes}
    state.write_text(json.dumps(record))
    result = services.run("stop", "--own", **environment)
    assert result.code == 0, result.err
    assert len(services.runpod.live()) == live
    assert state.exists() == bool(live)


def test_a_damaged_state_is_told(services: Services) -> None:
    """It is not taken for nothing."""
    services.usher()
    environment = workflow(services)
    assert services.run("start", **environment).code == 0
    state_of(environment).write_text("{")
    assert services.run("stop", "--own", **environment).code == StoreError.exit_code


def test_a_stop_tells_the_cost(services: Services) -> None:
    """As data, in words, and on the page; unknown when half of it is missing and nothing is on record."""
    services.usher()
    environment = workflow(services)
    started = services.run("start", "--json", **environment).data
    told = ("--price-per-hour", "3600", "--started-at", started["started-at"])
    stopped = services.run("stop", "--json", *told, **environment)
    assert 0 < float(stopped.data["cost-usd"]) < 60
    assert f"Cost: {stopped.data['cost-usd']} USD" in Path(environment["GITHUB_STEP_SUMMARY"]).read_text()
    again = services.run("stop", "--json", *told[:2], **environment, RUNNER_PROVISIONER_HISTORY="off")
    assert again.data["cost-usd"] is None


@pytest.mark.parametrize(
    ("option", "value"), [("--price-per-hour", "0,39"), ("--price-per-hour", "-1"), ("--started-at", "noon")]
)
def test_what_only_the_cost_needs_keeps_a_stop_from_nothing(services: Services, option: str, value: str) -> None:
    """The pod is ended; then there is a warning by the option's name, and the cost is unknown."""
    services.usher()
    environment = {**workflow(services), "RUNNER_PROVISIONER_HISTORY": "off"}
    assert services.run("start", **environment).code == 0
    result = services.run("stop", option, value, **environment)
    assert (result.code, result.errors) == (0, [])
    assert f"::warning title=runner-provisioner::{option}: " in result.err
    assert "cost: unknown" in result.out
    assert services.runpod.live() == []


@pytest.mark.parametrize("allowed", [False, True], ids=["refused", "allowed"])
def test_an_event_of_strangers_needs_leave(services: Services, *, allowed: bool) -> None:
    """It is refused before any credential is looked for: not even that there is none is noticed."""
    event = services.folder / "event.json"
    event.write_text(json.dumps({"pull_request": {"head": {"repo": {"full_name": "stranger/hello"}}}}))
    foreign = {**workflow(services), "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event)}
    if not allowed:
        own = ("rerun", "--own", "--run-id", "7000000001", "--attempt", "1")
        assert services.run(*own, **foreign).code == 0  # it only ends
        result = services.run("start", **foreign, RUNPOD_API_KEY="", GITHUB_TOKEN="")
        assert result.code == UntrustedEvent.exit_code
        assert "stranger/hello" in result.errors[0]
        assert "allow-untrusted" in result.errors[0]
        return
    services.usher()
    result = services.run("start", "--allow-untrusted", **foreign)
    assert result.code == 0, result.err
    assert services.run("stop", **foreign).code == 0
