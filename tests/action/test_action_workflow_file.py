"""The workflow that tries the action on GitHub's machines, tried here."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from support.action_runner import HostedJob, step_of
from support.action_stage import ROOT, ActionStage, SetUpAction, queue
from support.e2e_pods import real_host
from support.families import family

from runner_provisioner.cli.demo import start_options
from runner_provisioner.simulators.workflow.expressions import Scope, resolve
from runner_provisioner.simulators.workflow.reading import read_yaml
from runner_provisioner.simulators.workflow.values import Value

SETTING_UP = ("actions/", "make ")


def hosted(stage: ActionStage, **contexts: Value) -> HostedJob:
    """A job in a checkout of the project that is set up."""
    job = stage.hosted(queue(stage.stage), **contexts)
    for name in (".github", "action.yml", "action"):
        (job.workspace / name).symlink_to(ROOT / name)
    (job.workspace / ".venv").symlink_to(sys.prefix)
    return job


def steps(name: str) -> list[dict[str, Any]]:
    """The steps of a job of that workflow, without those that set it up."""
    raw: Any = read_yaml((ROOT / ".github/workflows/action.yml").read_text("utf-8"))
    found = raw["jobs"][name]["steps"]
    return [one for one in found if not str(one.get("uses", one.get("run"))).startswith(SETTING_UP)]


@pytest.mark.parametrize("name", family(["linux", "macos"], daily={"macos"}))
def test_the_action_is_used_against_the_simulated_services(set_up_action: SetUpAction, name: str) -> None:
    """Its steps lead to the simulators that it starts itself, not to where GitHub's own variables point."""
    stage = set_up_action(inert=True)
    job = hosted(stage, matrix={"machine": "ubuntu-latest", "key": "x64"})
    todo = steps(name)
    for step in todo:
        if step.get("with", {}).get("mode") == "start":
            options = start_options(real_host(stage.stage.folder / "like-theirs"))
            step["with"]["run-as"] = options[1] if options else "user"
    conclusion = job.run([step_of(number, one) for number, one in enumerate(todo, 1)])
    assert conclusion == "success", job.log.text
    assert {one.outcome for one in job.ended} == {"success"}
    assert stage.stage.pods == []
    assert any("simulate" in one for one in job.orphans.values())


@pytest.mark.parametrize("token", ["", "ghp_x"], ids=["an App", "a token beside it"])
@pytest.mark.parametrize("name", ["gpu-job", "cleanup"])
def test_a_token_takes_the_place_of_the_whole_app(name: str, token: str) -> None:
    """So that having both is no contradiction; the App's id and key go or stay together."""
    raw: Any = read_yaml((ROOT / f".github/workflows/{name}.yml").read_text("utf-8"))
    uses = [step["with"] for job in raw["jobs"].values() for step in job["steps"] if "mode" in step.get("with", {})]
    secrets: dict[str, Value] = {"GPU_APP_PRIVATE_KEY": "pem", "GPU_GITHUB_TOKEN": token}
    scope = Scope(contexts={"secrets": secrets, "vars": {"GPU_APP_ID": "4711"}, "inputs": {"github-app-id": ""}})
    keys = ("github-app-id", "github-app-private-key", "github-token")
    given = [tuple(resolve(one[key], scope) for key in keys) for one in uses]
    assert set(given) == {("", "", token) if token else ("4711", "pem", "")}
