"""Which jobs of a workflow the demo plays, and which files it refuses by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner_provisioner.cli.demo import example
from runner_provisioner.simulators.demo.cast import cast
from runner_provisioner.simulators.workflow import WorkflowError, load_workflow

START = """
  {0}:
    runs-on: ubuntu-latest
    outputs: {{label: "${{{{ steps.rent.outputs.label }}}}"}}
    steps: [{{id: rent, run: runner-provisioner start}}]
"""
GPU = """
  {0}:
    needs: [{1}]
    runs-on: ${{{{ needs.{1}.outputs.label }}}}
    steps: [{{run: nvidia-smi}}]
"""


def start(name: str = "start") -> str:
    """A job that rents."""
    return START.format(name)


def gpu(name: str = "gpu", start_job: str = "start") -> str:
    """A job that runs on what the other one has rented."""
    return GPU.format(name, start_job)


def roles(text: str) -> list[tuple[str, str, str]]:
    """The start jobs with their keys and GPU jobs."""
    return [(role.job, role.key, role.gpu_job) for role in cast(load_workflow("jobs:" + text)).starts]


def test_the_example_is_cast_completely() -> None:
    """One start, one GPU job, one stop, nothing left to a hosted machine."""
    found = cast(load_workflow(example().read_text("utf-8")))
    assert [(role.job, role.gpu_job) for role in found.starts] == [("start", "train")]
    assert found.gpu_jobs == ("train",)
    assert found.stops == ("stop",)
    assert found.hosted == ()


def test_the_example_is_in_the_checkout() -> None:
    """Where people look for it."""
    assert example() == Path(__file__).parents[2] / "examples" / "gpu-job.yml"


def test_other_jobs_are_hosted_and_stop_jobs_are_recognised() -> None:
    """By the command, or by an action that is told to stop; whatever else they hold."""
    text = (
        start()
        + gpu()
        + """
  lint: {runs-on: ubuntu-latest, steps: [{uses: actions/setup-python@v5}, {run: make}]}
  end: {runs-on: ubuntu-latest, needs: gpu, steps: [{run: "exec runner-provisioner  stop --all"}]}
  finish: {runs-on: ubuntu-latest, needs: gpu, steps: [{uses: owner/action@v1, with: {command: Stop}}]}
  deploy: {uses: ./.github/workflows/deploy.yml}
"""
    )
    found = cast(load_workflow("jobs:" + text))
    assert found.stops == ("end", "finish")
    assert found.hosted == ("lint", "deploy")


def test_every_start_job_has_a_key_of_its_own() -> None:
    """Made of its id: lower case, no underscores, not too long, never twice."""
    names = ["Big_GPU", "big-gpu", "_", "a" * 60, "a" * 61]
    text = "".join(start(name) + gpu(f"run{place}", name) for place, name in enumerate(names))
    assert [key for _, key, _ in roles(text)] == ["big-gpu", "big-gpu-2", "start", "a" * 24, "a" * 24 + "-2"]


def test_labels_may_come_in_a_list_or_a_group() -> None:
    """As long as they come from one job."""
    lists = gpu().replace("runs-on: ${{ needs.start.outputs.label }}", "runs-on: ['${{ needs.start.outputs.label }}']")
    group = gpu().replace(
        "runs-on: ${{ needs.start.outputs.label }}", "runs-on: {labels: '${{ needs.start.outputs.label }}'}"
    )
    assert roles(start() + lists) == roles(start() + group) == [("start", "start", "gpu")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(start(), "no job runs on a rented GPU", id="no GPU job"),
        pytest.param(
            start() + gpu("a") + gpu("b"),
            "job 'b': it runs on the label of 'start', and so does 'a'",
            id="shared label",
        ),
        pytest.param(
            start() + gpu() + "    strategy: {matrix: {n: [1, 2]}}\n", r"job 'gpu \(2\)'.*ephemeral", id="GPU matrix"
        ),
        pytest.param(
            start() + "    strategy: {matrix: {n: [1, 2]}}\n" + gpu(), "job 'start'.*has a matrix", id="start matrix"
        ),
        pytest.param(start() + gpu().replace("needs: [start]", ""), "which it does not need", id="not needed"),
        pytest.param(start() + gpu().replace("outputs.label", "outputs.lable"), "'lable', which", id="no such output"),
        pytest.param(
            start() + gpu("a") + "    outputs: {label: x}\n" + gpu("b", "a"),
            "job 'a'.*runs on one",
            id="start on a GPU",
        ),
        pytest.param(
            start("s") + start("t") + gpu("g", "s").replace("label }}", "label }}${{ needs.t.outputs.label }}"),
            "more than one job's output",
            id="two labels",
        ),
        pytest.param(
            start() + gpu().replace("run: nvidia-smi", "uses: actions/cache@v4"), "actions/cache@v4", id="action"
        ),
        pytest.param(start() + gpu() + "    container: ubuntu\n", "'container' is not supported", id="container"),
    ],
)
def test_what_cannot_be_played_is_refused_by_name(text: str, complaint: str) -> None:
    """Before anything is started."""
    with pytest.raises(WorkflowError, match=complaint):
        roles(text)
