"""Workflow files: what is read, what is refused, and by which name."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.simulators.workflow import WorkflowError, load_workflow
from runner_provisioner.simulators.workflow.matrix import expand
from runner_provisioner.simulators.workflow.reading import read_yaml

JOB = "jobs:\n  gpu:\n    runs-on: x\n"
STEPS = "    steps:\n      - run: echo hi\n"


def test_on_is_a_key_and_not_true() -> None:
    """YAML 1.1 would read it as a boolean."""
    workflow = load_workflow("name: Mine\non: [push]\n" + JOB + STEPS)
    assert workflow.triggers == ["push"]
    assert workflow.name == "Mine"
    assert [job.id for job in workflow.jobs.values()] == ["gpu"]


def test_scalars_are_those_of_yaml_1_2() -> None:
    """No sexagesimal numbers, no dates, no yes and no; numbers in every base."""
    text = "a: 1:30\nb: 2026-11-20\nc: yes\nd: 010\ne: 0x1F\nf: 1.5e3\ng: ~\nh: True\ni:\nj: 0o17\nk: 3.10\n"
    assert read_yaml(text) == {
        "a": "1:30",
        "b": "2026-11-20",
        "c": "yes",
        "d": 10,
        "e": 31,
        "f": 1500,
        "g": None,
        "h": True,
        "i": None,
        "j": 15,
        "k": 3.1,
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("a: [", "no YAML", id="bad YAML"),
        pytest.param("a: 1\na: 2", "'a' is there twice .line 2.", id="duplicate key"),
        pytest.param("a: &x [*x]", "nested too deep", id="endless alias"),
        pytest.param("[" * 1200, "no workflow|no YAML", id="deep nesting"),
        pytest.param("a: !!python/object/apply:os.system [x]", "no YAML", id="python tag"),
        pytest.param("a: !!timestamp 2026-99-99", "no workflow", id="impossible date"),
        pytest.param("#" * 600_000, "longer than 512 KiB", id="huge"),
        pytest.param("x", "the workflow is no mapping", id="a word"),
        pytest.param("1: x\njobs: {}", "the workflow has no '1'", id="number as key"),
        pytest.param("on: push", "jobs is no mapping", id="no jobs"),
        pytest.param("jobs: {}", "no jobs", id="empty jobs"),
        pytest.param("colour: red\n" + JOB, "the workflow has no 'colour'", id="unknown key"),
        pytest.param("jobs: {gpu: 1}", "job 'gpu': the job is no mapping", id="job no mapping"),
        pytest.param("jobs: {1a: {runs-on: x, steps: [{run: x}]}}", "job '1a': a job id holds", id="bad job id"),
        pytest.param("jobs: {gpu: {steps: [{run: x}]}}", "job 'gpu': it has no runs-on", id="no runs-on"),
        pytest.param(JOB, "job 'gpu': it has no steps", id="no steps"),
        pytest.param(JOB + "    stepz: 1\n", "job 'gpu': the job has no 'stepz'", id="unknown job key"),
        pytest.param(JOB + "    steps: [{name: a}]", "step 'a': a step has either", id="neither run nor uses"),
        pytest.param(JOB + "    steps: [{run: a, id: '1'}]", "step '1': a step id", id="bad step id"),
        pytest.param(JOB + "    steps: [{run: null}]", "step 'number 1': 'run' is empty", id="empty run"),
        pytest.param(JOB + "    steps: [{run: [a]}]", "'run' is no text", id="run is a list"),
        pytest.param(JOB + "    steps: [1]", "step 'number 1': the step is no mapping", id="step no mapping"),
        pytest.param(
            JOB + "    steps: [{run: a, id: x}, {run: b, id: X}]", "two steps have the id", id="step ids alike"
        ),
        pytest.param(JOB + "    needs: me\n" + STEPS, "job 'gpu': it needs 'me'", id="unknown need"),
        pytest.param(JOB + "    needs: gpu\n" + STEPS, "job 'gpu': it needs itself", id="circle"),
        pytest.param(JOB + "    if: 1 +\n" + STEPS, "job 'gpu': '. ?' is no part", id="bad if"),
        pytest.param(JOB + "    steps: [{run: '${{ x( }}'}]", "job 'gpu', step 'number 1':", id="bad expression"),
        pytest.param(JOB + "    strategy: {matrix: 1}\n" + STEPS, "matrix is no mapping", id="matrix no mapping"),
        pytest.param(JOB + "    strategy: {matrix: {a: 1}}\n" + STEPS, "matrix.a is no list", id="vector no list"),
        pytest.param(JOB + "    strategy: {matrix: {a: [1, 1]}}\n" + STEPS, "two legs", id="legs alike"),
        pytest.param(JOB + "    strategy: {matrix: {include: x}}\n" + STEPS, "matrix.include", id="include no list"),
        pytest.param(
            JOB + "    strategy: {matrix: {a: [1], exclude: [{a: 1}]}}\n" + STEPS, "no job at all", id="all excluded"
        ),
        pytest.param(JOB + "    defaults: {run: {shel: x}}\n" + STEPS, "defaults.run has no 'shel'", id="bad default"),
    ],
)
def test_a_bad_file_is_refused_by_name(text: str, complaint: str) -> None:
    """With the job and the step in the message where there are any."""
    with pytest.raises(WorkflowError, match=complaint):
        load_workflow(text)


@pytest.mark.parametrize(
    ("job", "complaint"),
    [
        pytest.param("uses: ./.github/workflows/x.yml", "reusable workflow", id="reusable workflow"),
        pytest.param("runs-on: x\n    container: a\n" + STEPS, "'container'", id="container"),
        pytest.param("runs-on: x\n    services: {a: {image: b}}\n" + STEPS, "'services'", id="services"),
        pytest.param("runs-on: x\n    steps: [{uses: actions/cache@v4}]", "actions/cache@v4", id="action"),
        pytest.param("runs-on: x\n    steps: [{uses: actions/checkout}]", "uses: actions/checkout'", id="no version"),
        pytest.param("runs-on: x\n    steps: [{run: \"${{ hashFiles('a') }}\"}]", "hashFiles", id="hashFiles"),
        pytest.param("runs-on: x\n    steps: [{run: a, if: hashFiles('a') == ''}]", "hashFiles", id="hashFiles in if"),
        pytest.param(
            "runs-on: x\n    strategy: {matrix: '${{ fromJSON(vars.m) }}'}\n" + STEPS,
            "matrix made by",
            id="dynamic matrix",
        ),
        pytest.param(
            "runs-on: x\n    strategy: {matrix: {a: ['${{ vars.m }}']}}\n" + STEPS, "matrix made by", id="dynamic value"
        ),
    ],
)
def test_what_cannot_be_played_loads_and_is_refused_when_asked_for(job: str, complaint: str) -> None:
    """A hosted job may hold anything; a job that is to run here may not."""
    workflow = load_workflow(f"jobs:\n  gpu:\n    {job}\n")
    with pytest.raises(WorkflowError, match=rf"(?s)job 'gpu'.*{complaint}"):
        workflow.jobs["gpu"].check_playable()


def test_every_version_of_checkout_is_playable() -> None:
    """By tag, by branch and by commit."""
    steps = "[{uses: actions/checkout@v4}, {uses: Actions/Checkout@0123abc}, {run: ls}]"
    load_workflow(JOB + f"    steps: {steps}").jobs["gpu"].check_playable()


def test_a_matrix_becomes_legs_with_their_values_in_the_name() -> None:
    """Exclusions go, inclusions merge or come as legs of their own."""
    text = (
        "    strategy:\n      matrix:\n        gpu: [a, b]\n        n: [1, 2.0]\n"
        "        exclude: [{gpu: b, n: 2}]\n"
        "        include: [{gpu: a, colour: {x: red}}, {gpu: c}, {fast: true}]\n"
    )
    workflow = load_workflow(JOB + text + STEPS)
    assert list(workflow.jobs) == ["gpu (a, 1, red, true)", "gpu (a, 2, red, true)", "gpu (b, 1, true)", "gpu (c)"]
    assert {job.base for job in workflow.legs("gpu")} == {"gpu"}


def test_a_matrix_is_not_allowed_more_than_256_legs() -> None:
    """As at GitHub; neither by product nor by inclusion."""
    with pytest.raises(WorkflowError, match="256"):
        expand({"a": list(range(20)), "b": list(range(20))})
    with pytest.raises(WorkflowError, match="256"):
        expand({"include": [{"a": number} for number in range(300)]})


@given(st.text(max_size=60))
def test_no_text_crashes_the_loader(text: str) -> None:
    """A WorkflowError is the only way out."""
    with pytest.raises(WorkflowError):
        load_workflow(text)


_KEYS = "runs-on steps needs if env strategy matrix include run uses with outputs defaults id name timeout-minutes"
_YAML = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["x", "${{ github.x }}", "${{", "gpu", "a@v1"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(_KEYS.split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_YAML, _YAML)
def test_no_structure_crashes_the_loader(job: object, step: object) -> None:
    """Whatever stands where, a workflow or a WorkflowError comes out."""
    shaped = {"runs-on": "x", "steps": [step], **(job if isinstance(job, dict) else {})}
    for content in (job, shaped):
        with contextlib.suppress(WorkflowError):
            workflow = load_workflow(json.dumps({"jobs": {"gpu": content}}))
            for spec in workflow.jobs.values():
                spec.check_playable()
