"""The small runner behaves as GitHub's does, as far as the action relies on it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.action_log import Log
from support.action_runner import CompositeAction, HostedJob
from support.action_stand_ins import Shelf
from support.e2e_steps import until

from runner_provisioner.simulators.workflow import WorkflowError
from runner_provisioner.simulators.workflow.values import Value

ACTION = """\
inputs:
  word:
    default: ${{ github.repository }}
  other: {}
outputs:
  said:
    value: ${{ steps.say.outputs.said }}
  unset:
    value: ${{ steps.never.outputs.said }}
runs:
  using: composite
  steps:
STEPS
"""


def job(folder: Path, steps: str = "", **more: Any) -> HostedJob:  # noqa: ANN401 - the fields of HostedJob
    """A job whose `./` is an action of these steps."""
    contexts: Mapping[str, Value] = {"github": {"repository": "o/r"}, "secrets": {"PIN": "s3cret-pin"}}
    lines = "\n".join(f"    {line}" for line in steps.splitlines())
    return HostedJob(
        folder=folder,
        contexts=contexts,
        environ={"PATH": os.environ["PATH"]},
        ours=folder,
        changed=ACTION.replace("STEPS", lines),
        **more,
    )


def test_inputs_outputs_and_files_of_an_action(tmp_path: Path) -> None:
    """Defaults are evaluated, outputs of many lines arrive, variables and paths hold for later steps."""
    steps = """\
- id: say
  shell: bash
  env: {WORD: "${{ inputs.word }}", NOTHING: "${{ inputs.other }}"}
  run: |
    { echo "said<<END"; echo "$WORD$NOTHING"; echo two; echo END; } >> "$GITHUB_OUTPUT"
    echo MOOD=good >> "$GITHUB_ENV"
    echo "$RUNNER_TEMP" >> "$GITHUB_PATH"
    echo "a *page*" >> "$GITHUB_STEP_SUMMARY"
- shell: bash
  run: echo "mood $MOOD"; case "$PATH" in "$RUNNER_TEMP:"*) echo path well;; esac
"""
    one = job(tmp_path, steps)
    assert one.run([{"uses": "./"}, {"run": 'echo "later $MOOD"'}]) == "success"
    assert one.ended[0].outputs == {"said": "o/r\ntwo", "unset": ""}
    for line in ("mood good", "path well", "later good"):
        assert line in one.log.text
    assert "a *page*" in one.summary


@pytest.mark.parametrize(
    ("condition", "runs"),
    [
        pytest.param("", False, id="none"),
        pytest.param("success()", False, id="success"),
        pytest.param("failure()", True, id="failure"),
        pytest.param("always()", True, id="always"),
        pytest.param("cancelled()", False, id="cancelled"),
        pytest.param("always() && steps.bad.outcome == 'failure'", True, id="outcome"),
        pytest.param("!cancelled() && inputs.word == 'O/R'", True, id="without-case"),
    ],
)
def test_conditions_after_a_failure(tmp_path: Path, condition: str, runs: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """As the documentation has them; without a status function success() is meant."""
    steps = (
        f"- {{id: bad, shell: bash, run: exit 3}}\n- {{name: next, shell: bash, run: 'true', if: \"{condition}\"}}\n"
    )
    one = job(tmp_path, steps)
    assert one.run([{"uses": "./"}]) == "failure"
    assert one.step("next").outcome == ("success" if runs else "skipped")
    assert one.log.of("error") == ["Process completed with exit code 3."]


def test_the_shell_is_githubs(tmp_path: Path) -> None:
    """A pipe's failure and any command's failure end a step."""
    one = job(tmp_path, "- {id: a, shell: bash, continue-on-error: true, run: 'false | true'}\n")
    assert one.run([{"uses": "./"}, {"name": "b", "run": "false\ntrue"}]) == "failure"
    assert one.ended[0].steps[0].outcome == "failure"
    assert one.ended[0].steps[0].conclusion == "success"
    assert one.step("b").code == 1


def test_masks_hold_from_where_they_are_set(tmp_path: Path) -> None:
    """From standard output and standard error alike, each line of a value, its base64; outputs are not spared."""
    script = r"""
echo "pin s3cret-pin"
echo "::add-mask::first%0Asecond line" >&2
echo "here is second line"
printf %s "xx second line" | base64
echo "word=second line" >> "$GITHUB_OUTPUT"
echo "::error title=A%2CB::bad%0Afirst"
"""
    one = job(tmp_path)
    assert one.run([{"id": "s", "run": script}]) == "success"
    assert "s3cret-pin" not in one.log.text
    assert "here is ***" in one.log.text
    assert "::add-mask::first%0Asecond line" not in one.log.lines
    assert one.outputs({"word": "${{ steps.s.outputs.word }}", "fine": "x"}) == {"fine": "x"}
    assert one.log.of("warning") == ["Skip output 'word' since it may contain secret."]
    assert (one.log.annotations[0].title, one.log.annotations[0].message) == ("A,B", "bad\n***")


def test_commands_can_be_stopped() -> None:
    """Between the two lines everything is text."""
    log = Log()
    for line in ("::stop-commands::pause", "::error::no", "::pause::", "::error::yes", "::add-mask:: "):
        log.write(line)
    assert log.of("error") == ["yes"]
    assert "::error::no" in log.lines
    assert len(log.of("warning")) == 1


def test_a_malformed_file_fails_its_step(tmp_path: Path) -> None:
    """A line of GITHUB_OUTPUT that says nothing."""
    one = job(tmp_path)
    assert one.run([{"run": 'echo nonsense >> "$GITHUB_OUTPUT"'}]) == "failure"


@pytest.mark.parametrize("exec_", ["exec ", pytest.param("", marks=pytest.mark.full)], ids=["exec", "no-exec"])
def test_a_cancellation_reaches_the_direct_child_alone(tmp_path: Path, exec_: str) -> None:
    """What the shell started is told only where it has taken the shell's place."""
    told = tmp_path / "told"
    child = f"trap 'echo told > {told}; exit 0' INT; echo ready; for i in $(seq 400); do sleep 0.05; done"
    (tmp_path / "child.sh").write_text(child)
    last = "- {name: z, shell: bash, if: always(), run: 'true'}\n"
    steps = f"- {{id: a, shell: bash, run: '{exec_}bash {tmp_path}/child.sh'}}\n{last}"
    one = job(tmp_path / "job", steps)
    thread = threading.Thread(target=one.run, args=([{"uses": "./"}, {"name": "never", "run": "true"}],))
    thread.start()
    until(lambda: "ready" in one.log.lines, "the child runs")
    one.cancel()
    thread.join()
    assert told.exists() is bool(exec_)
    assert bool(one.orphans) is not bool(exec_)
    assert one.ended[0].outcome == "cancelled"
    assert [one.step("z").outcome, one.step("never").outcome] == ["success", "skipped"]


def test_the_time_of_a_use_is_that_of_all_its_steps(tmp_path: Path) -> None:
    """When it is over even a step that always runs does not (actions/runner: one deadline for all)."""
    steps = "- {name: a, shell: bash, run: exec sleep 30}\n- {name: z, shell: bash, if: always(), run: 'true'}\n"
    one = job(tmp_path, steps)
    assert one.run([{"uses": "./", "timeout-minutes": 0.01}]) == "failure"
    assert [one.step(name).outcome for name in "az"] == ["failure", "failure"]
    assert one.step("z").code is None


def test_stand_ins_for_actions_of_others(tmp_path: Path) -> None:
    """Files of the repository, artifacts and caches go from job to job; what is unknown fails by name."""
    shelf = Shelf(tmp_path / "shelf", tree=Path(__file__).parents[2])
    first, second = (job(tmp_path / name, stand_ins=shelf.stand_ins) for name in ("one", "two"))
    artifact: dict[str, Value] = {"name": "n", "path": "out"}
    cache = {"id": "c", "uses": "actions/cache@abc", "with": {"path": "store", "key": "k"}}
    steps: list[Mapping[str, Value]] = [
        {"uses": "actions/checkout@v4"},
        {"run": "test -f pyproject.toml; mkdir out; echo hello > out/file"},
        {"uses": "actions/upload-artifact@v4", "with": artifact},
        cache,
    ]
    assert first.run(steps) == "success", first.log.text
    assert first.frame.steps["c"]["outputs"] == {"cache-hit": "false"}
    later: list[Mapping[str, Value]] = [
        {"uses": "actions/download-artifact@v4", "with": artifact},
        {"run": "cat out/file"},
        {"uses": "somebody/else@v1"},
    ]
    assert second.run(later) == "failure"
    assert "hello" in second.log.lines
    assert second.log.of("error") == ["'uses: somebody/else@v1' has no stand-in"]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param("- {run: 'true'}", id="no-shell"),
        pytest.param("- {run: 'true', shell: bash, timeout-minutes: 1}", id="timeout"),
    ],
)
def test_what_an_action_may_not_have_is_refused(tmp_path: Path, steps: str) -> None:
    """As GitHub's schema does."""
    with pytest.raises(WorkflowError):
        CompositeAction.load(tmp_path, text=ACTION.replace("STEPS", "    " + steps))
