"""What the action can be given: the command line's own options, and one clear error for what cannot be."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import MISSING
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from support.action_stage import CHECK, INSTALL, PROGRAM, ROOT, SETTLE, SetUpAction, action, queue
from support.families import family

from runner_provisioner.cli.app import cli
from runner_provisioner.domain.durations import parse_duration
from runner_provisioner.domain.request import StartRequest, options

CREDENTIALS = {
    "runpod-api-key",
    "prime-api-key",
    "prime-team-id",
    "celium-api-key",
    "github-app-id",
    "github-app-private-key",
    "github-token",
    "workflow-token",
}
OUTPUTS = (
    "label",
    "runner-name",
    "pod-id",
    "provider",
    "gpu-type",
    "price-per-hour",
    "interruptible",
    "ssh-command",
    "started-at",
)
RENAMED = {"label": "extra-labels"}  # beside the output `label` an input of that name would mislead
NOT_FOR_WORKFLOWS = {"json", "log", "debug", "help", "own"}
TEXT = (ROOT / "action.yml").read_text("utf-8")


def of_command(name: str) -> set[str]:
    """The options of a command, as inputs are called."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    names = {option.removeprefix("--") for one in command.params for option in one.opts if option.startswith("--")}
    return {RENAMED.get(one, one) for one in names} - NOT_FOR_WORKFLOWS


def test_every_option_that_suits_a_workflow_is_an_input() -> None:
    """And there is no input without an option behind it."""
    modes = ("start", "stop", "watch", "rerun", "cleanup")
    wanted = set[str]().union(*map(of_command, modes)) | CREDENTIALS | {"mode", "state-cache"}
    assert set(action().inputs) == wanted


@pytest.mark.parametrize("field", options(StartRequest), ids=lambda field: field.name)
def test_the_defaults_are_those_of_the_command_line(field: object) -> None:
    """Written out in action.yml for whoever reads it, equal to the one declaration."""
    name = field.name.replace("_", "-")  # type: ignore[attr-defined] # a dataclass field
    given = str(action().inputs[RENAMED.get(name, name)]["default"])
    default = field.default  # type: ignore[attr-defined] # a dataclass field
    if default is MISSING or default is None:
        assert given == ""
    elif isinstance(default, bool):
        assert given == str(default).lower()
    elif isinstance(default, tuple):
        assert tuple(given.splitlines()) == default
    elif isinstance(default, timedelta):
        assert parse_duration(given) == default
    else:
        assert given == str(default)


def test_all_is_described_and_nothing_is_demanded() -> None:
    """Each input and output says what it is; what is needed is checked by the action itself."""
    for one in (*action().inputs.values(), *action().outputs.values()):
        assert len(str(one["description"])) > 10
        assert "required" not in one
    assert tuple(action().outputs) == OUTPUTS


def test_no_expression_stands_in_a_script() -> None:
    """Inputs reach scripts by the environment alone; the other steps are other actions, pinned."""
    others = [str(step.uses) for step in action().steps if step.run is None]
    named = {"actions/upload-artifact", "actions/cache/restore", "actions/cache/save"}
    assert {one.partition("@")[0] for one in others} == named
    assert all(re.fullmatch(r"\S+@[0-9a-f]{40}", one) for one in others)
    for step in action().steps:
        if step.run is None:
            continue
        assert "${{" not in step.run
        assert re.fullmatch(r'(exec )?bash "\$GITHUB_ACTION_PATH/action/[a-z]+\.sh"', step.run)


def test_every_input_reaches_a_script() -> None:
    """None is declared and forgotten."""
    used = set(re.findall(r"\$\{\{ inputs\.([a-z-]+)", TEXT))
    assert used == set(action().inputs)


@pytest.mark.parametrize("script", ["check", "history", "run", "settle"])
def test_every_variable_of_a_script_is_handed_over(script: str) -> None:
    """And no script is handed what it does not read."""
    read = set(re.findall(r"\b((?:INPUT|HAS)_[A-Z_]+)", (ROOT / "action" / f"{script}.sh").read_text()))
    step = next(one for one in action().steps if f"/{script}.sh" in str(one.run))
    given = {name for name in step.env if name.startswith(("INPUT_", "HAS_"))}
    assert read == given


@pytest.mark.parametrize("path", sorted((ROOT / "action").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_keep_to_the_bash_of_macos(path: object) -> None:
    """No construct that came after bash 3.2."""
    text = path.read_text()  # type: ignore[attr-defined] # a path
    later = r"\$\{\w+(?:\^\^?|,,?)|\$\{\w+@|declare -A|local -n|mapfile|readarray|&>>|\|&|\bcoproc\b|\[\[ -v "
    assert re.search(later, text) is None


CASES = {
    "unknown mode": ({"mode": "strat"}, "mode"),
    "no key of RunPod": ({"runpod-api-key": ""}, "runpod-api-key"),
    "no GitHub credential": ({"github-app-id": "", "github-app-private-key": ""}, "github-token"),
    "half an App, the id": ({"github-app-private-key": ""}, "github-app-private-key"),
    "half an App, the key": ({"github-app-id": ""}, "github-app-id"),
    "an App and a token": ({"github-token": "ghp_x"}, "github-token"),
    "half an App and a token": ({"github-token": "ghp_x", "github-app-id": ""}, "github-app-private-key"),
    "a malformed key": ({"key": "Leg_1"}, "key"),
    "a key of two lines": ({"key": "leg\n::notice::hello"}, "key"),
    "an image of two lines": ({"image": "x\n::notice::hello"}, "image"),
    "a carriage return": ({"disk": "40\r::notice::hello"}, "disk"),
    "a line that is a command": ({"env": "A=1\n  ::add-mask::a\n"}, "env"),
    "a control character in a line": ({"gpu": "A4000\r::notice::hello"}, "gpu"),
    "no flag": ({"allow-untrusted": "yes"}, "allow-untrusted"),
    "a cache or none": ({"state-cache": "sometimes"}, "state-cache"),
    "a budget without records": ({"budget-day": "5"}, "budget-day"),
    "a budget of a rerun without records": (
        {"mode": "rerun", "run-id": "7", "attempt": "1", "budget-month": "5"},
        "budget-month",
    ),
    "all in start": ({"all": "true"}, "all"),
    "dry run in start": ({"dry-run": "true"}, "dry-run"),
    "allowed in clean-up": ({"mode": "cleanup", "allow-untrusted": "true"}, "allow-untrusted"),
    "a label in clean-up": ({"mode": "cleanup", "unique-label": "gpu"}, "unique-label"),
    "which attempts to stop": ({"mode": "stop", "attempt": "last"}, "attempt"),
    "whether to stop all": ({"mode": "stop", "all": "yes"}, "all"),
    "a bid that cannot be": ({"bid": "0.2", "interruptible": "never"}, "bid"),
    "a key that is too long": ({"key": "k" * 50}, "key"),
    "no number": ({"gpu-count": "two"}, "gpu-count"),
    "no price": ({"max-price": "cheap"}, "max-price"),
    "no such choice": ({"interruptible": "maybe"}, "interruptible"),
    "no duration": ({"idle": "soon"}, "idle"),
    "no variable": ({"env": "1=2"}, "env"),
    "too long a start": ({"start-timeout": "2h"}, "start-timeout"),
    "no place": ({"repository": "nobody"}, "repository"),
    "no run": ({"mode": "stop", "run-id": "?"}, "run-id"),
    "no attempt": ({"attempt": "first"}, "attempt"),
    "no label of ours": ({"unique-label": "gpu"}, "unique-label"),
    "a rerun of nothing": ({"mode": "rerun", "attempt": "1"}, "run-id"),
    "a label with a comma": ({"extra-labels": "a,b"}, "extra-labels"),
    "no private key": ({"github-app-private-key": "hello there"}, "github-app-private-key"),
    "no price at all": ({"max-price": "0"}, "max-price"),
    "no GPU": ({"gpu-count": "0"}, "gpu-count"),
    "no such GPU": ({"gpu": "Abacus"}, "gpu"),
    "a group without an organisation": ({"runner-group": "gpu"}, "runner-group"),
    "no such organisation": ({"organization": "nobody"}, "organization"),
    "an organisation of another name": ({"organization": "no/body"}, "organization"),
    "no such repository": ({"repository": "nobody/nothing"}, "repository"),
    "no such repository of ours": ({"repository": "octo/nothing"}, "repository"),
    "no such App": ({"github-app-id": "999999"}, "github-app-id"),
    "no such volume": ({"network-volume": "nothing"}, "network-volume"),
    "a day that is used up": ({"budget-day": "0.001"}, "budget-day"),
    "a variable of GitHub's": ({"env": "GITHUB_TOKEN=x"}, "env"),
    "two SSH keys": ({"ssh-key": "ssh-ed25519 AAAA a\nssh-ed25519 AAAA b\n"}, "ssh-key"),
}
# One of each kind in every run of the tests: refused by the action, by click, by a request, by a credential.
ALWAYS = {
    "unknown mode",
    "a key of two lines",
    "an image of two lines",
    "a line that is a command",
    "no GitHub credential",
    "no number",
    "no price",
    "no such GPU",
    "two SSH keys",
}


@pytest.mark.parametrize("case", family(CASES, daily=ALWAYS))
def test_a_wrong_input_gives_one_error_that_names_it(set_up_action: SetUpAction, case: str) -> None:
    """Once on the page of the run, with nothing rented and nothing installed for what can be seen at once."""
    wrong, name = CASES[case]
    inputs: dict[str, Any] = {"mode": "start", **wrong}
    stage = set_up_action(inert=True)
    use = stage.use(queue(stage.stage), **inputs).play()
    ours = [one for one in use.job.log.annotations if one.title == "runner-provisioner" and one.level == "error"]
    assert len(ours) == 1, use.told
    assert re.search(rf"inputs? '{name}'|'{name}' are empty|inputs .* and '{name}'", ours[0].message)
    assert "--" not in ours[0].message
    assert use.conclusion == "failure"
    assert [one.message for one in use.job.log.annotations if one.level == "notice"] == []
    if use.step(CHECK).outcome == "failure":
        assert [use.step(one).outcome for one in (INSTALL, PROGRAM, SETTLE)] == ["skipped"] * 3
    assert stage.stage.pods == []


@pytest.mark.parametrize(
    ("given", "environment", "code"),
    [
        pytest.param({}, {}, 2, id="nothing"),
        pytest.param({"STATE_CACHE": "true"}, {}, 0, id="a-cache"),
        pytest.param({"BUDGET": "advisory"}, {}, 0, id="advisory"),
        pytest.param({"MODE": "stop"}, {}, 0, id="stop"),
        pytest.param({}, {"RUNNER_PROVISIONER_HISTORY": "/var/lib/h.sqlite3"}, 0, id="a-file-that-lasts"),
        pytest.param({}, {"RUNNER_PROVISIONER_HISTORY": "off"}, 2, id="off"),
    ],
)
def test_a_budget_needs_the_records_of_earlier_runs(
    given: dict[str, str], environment: dict[str, str], code: int
) -> None:
    """Refused at once: on a new machine no start could ever be reckoned."""
    read = set(re.findall(r"\b((?:INPUT|HAS)_[A-Z_]+)", (ROOT / "action" / "check.sh").read_text()))
    inputs = {"MODE": "start", "BUDGET": "enforce", "BUDGET_DAY": "5", **given}
    done = subprocess.run(
        ["bash", str(ROOT / "action" / "check.sh")],
        env={
            "PATH": os.environ["PATH"],
            "GITHUB_ACTION_PATH": str(ROOT),
            **dict.fromkeys(read, ""),
            **{f"INPUT_{name}": value for name, value in inputs.items()},
            "HAS_RUNPOD_API_KEY": "true",
            "HAS_GITHUB_APP_ID": "false",
            "HAS_GITHUB_APP_PRIVATE_KEY": "false",
            "HAS_GITHUB_TOKEN": "true",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert ("input 'budget-day'" in done.stdout) is (code == 2)


def test_a_stop_goes_on_without_what_it_does_not_need(set_up_action: SetUpAction) -> None:
    """One warning for each such input, which names it: the machine bills until the stop has run."""
    stage = set_up_action(inert=True)
    wrong: dict[str, Any] = {
        "price-per-hour": "0,39",
        "started-at": "yester\nday",
        "dry-run": "true",
        "allow-untrusted": "true",
        "unique-label": "gpu",
        "state-cache": "some\rtimes",
        "env": "A=1\n::notice::hello",
    }
    use = stage.use(queue(stage.stage), "stop", **wrong).play().well()
    warnings = use.job.log.of("warning")
    assert all(any(f"input '{name}'" in text for text in warnings) for name in wrong), warnings
    assert [one for one in use.job.log.annotations if one.level != "warning"] == []
    assert "Cost: unknown" in use.job.summary


ATTEMPT = {"INPUT_MODE": "stop", "INPUT_RUN_ID": "4711", "INPUT_ATTEMPT": "2", "INPUT_KEY": "leg"}


@pytest.mark.parametrize(
    ("script", "mode", "words"),
    [
        pytest.param("run", "stop", ["stop", "--key=leg", "--run-id=4711", "--attempt=2"], id="stop"),
        pytest.param("settle", "start", ["stop", "--own", "--run-id=4711", "--attempt=2", "--key=leg"], id="start"),
        pytest.param("settle", "rerun", ["rerun", "--own", "--run-id=4711", "--attempt=2"], id="rerun"),
    ],
)
def test_the_attempt_is_handed_on(tmp_path: Path, script: str, mode: str, words: list[str]) -> None:
    """A start of another attempt is ended under the name that it has."""
    state = tmp_path / "runner-provisioner" / "rp-00000000-1-2-leg.json"
    state.parent.mkdir()
    state.write_text("{}")
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nprintf "> %s\\n" "$@"\n')
    program.chmod(0o755)
    text = (ROOT / "action" / f"{script}.sh").read_text()
    blank = dict.fromkeys(re.findall(r"\bINPUT_[A-Z_]+", text), "")
    given = {"PROGRAM": str(program), "HISTORY": "", "GITHUB_ACTION_PATH": str(ROOT), "RUNNER_TEMP": str(tmp_path)}
    environ = {"PATH": os.environ["PATH"], **blank, **given, **ATTEMPT, "INPUT_MODE": mode}
    called = subprocess.run(
        ["bash", ROOT / "action" / f"{script}.sh"], env=environ, capture_output=True, text=True, check=True
    )
    assert [line[2:] for line in called.stdout.splitlines() if line.startswith("> ")] == words


def test_a_line_end_after_a_value_is_no_part_of_it(set_up_action: SetUpAction) -> None:
    """YAML's `|` leaves one, under lines and under single words alike; the settling still knows its start."""
    stage = set_up_action(inert=True)
    given: dict[str, Any] = {
        "mode": "start\n",
        "ssh_key": "ssh-ed25519 AAAA me\r\n",
        "max_price": "0.01\n\n",
        "allow_untrusted": "false\n",
    }
    use = stage.use(queue(stage.stage), **given).play()
    called = use.job.log.text.split("as it is called", 1)[1].partition("endgroup")[0]
    assert "--ssh-key=ssh-ed25519 AAAA me\n" in called
    assert "--max-price=0.01\n" in called
    assert "\r" not in called
    assert use.step(CHECK).outcome == "success"
    assert use.step(SETTLE).outcome == "success"


def test_what_is_printed_of_the_inputs_is_no_command(set_up_action: SetUpAction) -> None:
    """GitHub also takes `##[warning]` for a command, wherever in a line it stands."""
    stage = set_up_action(inert=True)
    use = stage.use(queue(stage.stage), max_price="0.01", env="A=hello\nc2VjcmV0==", image="a/b##[warning]c").play()
    printed = use.job.log.text.split("as it is called", 1)[1].partition("endgroup")[0]
    assert "--env=A=...\n" in printed
    assert "--image=...\n" in printed
    assert "hello" not in printed
    assert "c2VjcmV0" not in printed


def test_an_input_that_does_not_exist_is_told(set_up_action: SetUpAction) -> None:
    """As GitHub does it: a warning that lists what there is."""
    stage = set_up_action(inert=True)
    use = stage.use(queue(stage.stage), "stop", gpus="all").play().well()
    assert any("Unexpected input(s) 'gpus'" in text for text in use.job.log.of("warning"))
