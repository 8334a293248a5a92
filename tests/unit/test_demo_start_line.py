"""Which options of a workflow's own start the demo plays."""

from __future__ import annotations

import textwrap

import pytest

from runner_provisioner.simulators.demo.start_line import StartLine, start_line
from runner_provisioner.simulators.workflow import load_workflow


def line_of(steps: str, *, more: str = "", top: str = "on: push") -> StartLine:
    """What is made of the steps of a job."""
    body = textwrap.indent(textwrap.dedent(steps).strip("\n"), "      ")
    workflow = load_workflow(f"{top}\njobs:\n  start:\n    runs-on: ubuntu-latest\n{more}    steps:\n{body}\n")
    return start_line(workflow, workflow.jobs["start"], {"ref_name": "main"})


@pytest.mark.parametrize(
    ("run", "options"),
    [
        pytest.param(
            "exec runner-provisioner start --gpu 'NVIDIA L4' --disk=80", ["--gpu=NVIDIA L4", "--disk=80"], id="plain"
        ),
        pytest.param(
            "python -m runner_provisioner start --json --idle 5m >start.json", ["--json", "--idle=5m"], id="redirected"
        ),
        pytest.param(
            "make; runner-provisioner start --allow-untrusted && ls", ["--allow-untrusted"], id="among others"
        ),
        pytest.param("runner-provisioner start --env B=${{ github.ref_name }}", ["--env=B=main"], id="expression"),
        pytest.param('runner-provisioner start --image "$IMAGE"', ["--image=acme/app:1"], id="variable"),
    ],
)
def test_a_command_is_played_as_it_is_written(run: str, options: list[str]) -> None:
    """Words as the shell would make them, expressions and variables put in where they are known."""
    line = line_of(f"- run: |\n    {run}\n", more="    env: {IMAGE: acme/app:1}\n")
    assert line == StartLine(options=options)


def test_an_action_is_played_by_its_inputs() -> None:
    """Lists line by line, flags when they are true; credentials are the simulators'."""
    line = line_of("""
        - uses: actions/checkout@v4
        - uses: acme/runner_provisioner@v0
          with:
            runpod-api-key: ${{ secrets.RUNPOD_API_KEY }}
            key: train
            gpu: |
              NVIDIA L4
              NVIDIA A40
            extra-labels: big
            allow-untrusted: "true"
            disk: 80
    """)
    options = ["--gpu=NVIDIA L4", "--gpu=NVIDIA A40", "--label=big", "--allow-untrusted", "--disk=80"]
    assert line == StartLine(options=options, key="train")


def test_defaults_of_inputs_are_known() -> None:
    """A run by hand has them unless somebody changes one."""
    top = "on: {workflow_dispatch: {inputs: {gpu: {default: NVIDIA L4}, disk: {type: number}}}}"
    line = line_of("- run: runner-provisioner start --gpu '${{ inputs.gpu }}' --disk ${{ inputs.disk }}", top=top)
    assert line.options == ["--gpu=NVIDIA L4"]
    assert line.unplayed == ["'--disk ${{inputs.disk}}': its value is not known here"]


def test_what_cannot_be_played_is_named() -> None:
    """Secrets, variables of the shell, words of no option, and what the simulated world has of its own."""
    line = line_of(
        "- run: runner-provisioner start $MORE --env T=${{ secrets.T }} --owner me --image $HERE\n",
        more='    env: {HERE: "${{ needs.x.outputs.y }}"}\n',
    )
    assert line.options == []
    assert line.unplayed == [
        "'$MORE': its value is not known here",
        "'--env T=${{secrets.T}}': its value is not known here",
        "'--owner me': the simulated world has its own",
        "'--image $HERE': its value is not known here",
    ]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param("- run: ./rent.sh", id="a script"),
        pytest.param("- {uses: acme/runner_provisioner@v0, with: {mode: stop}}", id="a stop"),
        pytest.param(
            "- {uses: acme/runner_provisioner@v0, with: {mode: cleanup, allow-untrusted: false}}", id="a clean-up"
        ),
    ],
)
def test_without_a_start_in_sight_the_defaults_are_played(steps: str) -> None:
    """And that is said."""
    assert line_of(steps).unplayed == ["no step calls start where the demo can see it: its defaults are played"]


def test_a_flag_of_the_action_that_is_not_set_is_left_out() -> None:
    """As the action itself does it."""
    assert line_of("- {uses: ./, with: {allow-untrusted: false}}") == StartLine()
