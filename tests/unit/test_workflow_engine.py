"""A run as a state machine: order, conditions, outputs, conclusions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.simulators.workflow import RunEngine, StepPlan, StepResult, WorkflowError, load_workflow
from runner_provisioner.simulators.workflow.plan import Outcome

GITHUB = {"repository": "o/r", "run_id": "7", "run_attempt": "1", "event": {"x": 1}, "sha": None}
RUNNER = {"name": "rp-1", "os": "Linux", "temp": "/t", "workspace": "/w/r"}
WORKFLOW = """
name: GPU
on: push
env: {WHO: world, RUN: "${{ github.run_id }}"}
jobs:
  start:
    runs-on: ubuntu-latest
    outputs: {label: "${{ steps.rent.outputs.label }}"}
    steps:
      - {id: rent, run: runner-provisioner start}
  gpu:
    needs: start
    runs-on: ${{ needs.start.outputs.label }}
    timeout-minutes: ${{ fromJSON('30') }}
    env: {JOB: "${{ needs.start.result }}"}
    defaults: {run: {shell: bash, working-directory: sub}}
    outputs: {answer: "${{ steps.think.outputs.answer }}", static: x}
    steps:
      - uses: actions/checkout@v4
        with: {path: "${{ github.job }}"}
      - id: think
        name: Think as ${{ github.job }}
        run: echo hello ${{ env.WHO }}
        env: {STEP: "${{ env.JOB }}-${{ runner.name }}"}
      - run: echo ${{ steps.think.outputs.answer }}
        shell: sh
        working-directory: other
        timeout-minutes: 2
      - if: failure()
        run: echo sad
      - if: always()
        run: echo ${{ job.status }} in ${{ github.workspace }}
  stop:
    needs: [start, gpu]
    if: always()
    runs-on: [ubuntu-latest]
    steps: [{run: runner-provisioner stop}]
"""


def engine_of(jobs: str, **options: object) -> RunEngine:
    """An engine for the jobs alone."""
    return RunEngine(load_workflow("jobs:\n" + jobs), github=GITHUB, **options)  # type: ignore[arg-type]


def play(engine: RunEngine, job_id: str, *outcomes: Outcome) -> list[str]:
    """Run a job to its end; the scripts that ran."""
    engine.start(job_id, runner=RUNNER)
    results = iter(outcomes)
    scripts: list[str] = []
    plan = engine.next_step(job_id, None)
    while plan:
        scripts.append(plan.script)
        plan = engine.next_step(job_id, StepResult(outcome=next(results, "success")))
    engine.finish(job_id)
    return scripts


def job(name: str, *lines: str, steps: str = "[{run: 'true'}]") -> str:
    """A job of a workflow file."""
    return "".join(f"    {line}\n" for line in (f"\b\b{name}:", "  runs-on: x", f"  steps: {steps}", *lines)).replace(
        "    \b\b", "  "
    )


def test_a_gpu_job_gets_its_label_and_plays_through() -> None:
    """Start, GPU and stop job in order, with everything a step sees evaluated."""
    engine = RunEngine(load_workflow(WORKFLOW), github=GITHUB)
    assert engine.advance() == ["start"]
    assert engine.job("start").steps[0].status == "queued"
    engine.hand_over("start")
    assert engine.job("start").status == "in_progress"
    engine.provide("start", {"label": "rp-abc"})
    assert engine.advance() == ["gpu"]
    assert engine.labels("gpu") == ("rp-abc",)
    assert engine.job("gpu").timeout_minutes == 30
    engine.start("gpu", runner=RUNNER)
    checkout = engine.next_step("gpu", None)
    assert checkout
    assert (checkout.kind, checkout.inputs, checkout.script) == ("checkout", {"path": "gpu"}, "")
    think = engine.next_step("gpu", StepResult(outcome="success"))
    assert think
    assert think == engine.next_step("gpu", None), "asking again changes nothing"
    assert (think.number, think.name, think.script) == (2, "Think as gpu", "echo hello world")
    assert think.shell == "bash --noprofile --norc -eo pipefail {0}"
    assert think.working_directory == "sub"
    assert think.env["STEP"] == "success-rp-1"
    assert think.env["RUN"] == think.env["GITHUB_RUN_ID"] == "7"
    assert think.env["GITHUB_WORKSPACE"] == "/w/r"
    assert think.env["GITHUB_JOB"] == "gpu"
    assert think.env["RUNNER_TEMP"] == "/t"
    assert "GITHUB_SHA" not in think.env
    third = engine.next_step(
        "gpu", StepResult(outcome="success", outputs={"answer": "42"}, env={"MORE": "1"}, path=["/a", "/b"])
    )
    assert third
    assert (third.script, third.shell, third.working_directory) == ("echo 42", "sh -e {0}", "other")
    assert third.timeout_minutes == 2
    assert third.env["MORE"] == "1"
    assert third.path == ("/b", "/a")
    last = engine.next_step("gpu", StepResult(outcome="success"))
    assert last
    assert last.script == "echo success in /w/r"
    assert engine.next_step("gpu", StepResult(outcome="success")) is None
    assert engine.finish("gpu") == "success"
    progress = engine.job("gpu")
    assert progress.outputs == {"answer": "42", "static": "x"}
    assert [step.conclusion for step in progress.steps] == ["success", "success", "success", "skipped", "success"]
    assert engine.advance() == ["stop"]
    assert engine.conclusion is None
    assert play(engine, "stop") == ["runner-provisioner stop"]
    assert engine.completed
    assert engine.conclusion == "success"


def test_provided_jobs_succeed_when_their_turn_comes() -> None:
    """With the outputs that were given for them."""
    provided = {"start": {"label": "l"}, "stop": {}}
    engine = RunEngine(load_workflow(WORKFLOW), github=GITHUB, provided=provided)
    assert engine.advance() == ["gpu"]
    engine.finish("gpu", forced="failure")
    assert engine.advance() == []
    assert engine.conclusion == "failure"
    assert engine.job("gpu").steps == ()


def test_a_failed_step_skips_the_rest_but_not_what_asks_for_it() -> None:
    """`failure()` and `always()` run, and the job fails."""
    engine = RunEngine(load_workflow(WORKFLOW), github=GITHUB, provided={"start": {"label": "l"}})
    engine.advance()
    scripts = play(engine, "gpu", "success", "failure")
    assert scripts == ["", "echo hello world", "echo sad", "echo failure in /w/r"]
    assert engine.job("gpu").conclusion == "failure"


def test_continue_on_error_forgives_a_step() -> None:
    """The outcome stays failure, the conclusion is success."""
    steps = "[{id: a, run: a, continue-on-error: true}, {run: '${{ steps.a.outcome }} ${{ steps.a.conclusion }}'}]"
    engine = engine_of(job("gpu", steps=steps))
    engine.advance()
    assert play(engine, "gpu", "failure") == ["a", "failure success"]
    assert engine.conclusion == "success"


def test_a_step_that_cannot_be_evaluated_fails_with_its_reason() -> None:
    """The job goes on with what runs always."""
    steps = "[{name: bad, run: \"${{ fromJSON('{') }}\"}, {run: b}, {if: always(), run: c}]"
    engine = engine_of(job("gpu", steps=steps))
    engine.advance()
    assert play(engine, "gpu") == ["c"]
    progress = engine.job("gpu")
    assert progress.conclusion == "failure"
    assert "job 'gpu', step 'bad': fromJSON" in progress.problems[0]


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("{run: a, timeout-minutes: -1}", id="timeout"),
        pytest.param("{run: a, shell: pwsh}", id="shell"),
        pytest.param("{run: a, env: [x]}", id="env"),
    ],
)
def test_an_impossible_step_fails_the_job(step: str) -> None:
    """Nothing is run with a guess."""
    engine = engine_of(job("gpu", steps=f"[{step}]"))
    engine.advance()
    assert play(engine, "gpu") == []
    assert engine.conclusion == "failure"
    assert engine.job("gpu").problems


def test_a_shell_of_ones_own_keeps_its_place_for_the_script() -> None:
    """As documented: `{0}` is the script's file."""
    engine = engine_of(job("gpu", steps="[{run: a, shell: 'perl {0}', timeout-minutes: ''}]"))
    engine.advance()
    engine.start("gpu", runner={})
    plan = engine.next_step("gpu", None)
    assert plan == StepPlan(  # noqa: S604 - no call of a shell
        number=1, name="Run a", kind="run", script="a", shell="perl {0}", env=plan.env if plan else {}
    )


def test_outputs_that_cannot_be_evaluated_fail_the_job() -> None:
    """And the others are kept."""
    engine = engine_of(job("gpu", "  outputs: {a: \"${{ fromJSON('{') }}\", b: x}"))
    engine.advance()
    play(engine, "gpu")
    assert engine.job("gpu").outputs == {"b": "x"}
    assert engine.conclusion == "failure"


def test_skipped_and_failed_jobs_skip_what_needs_them() -> None:
    """Through several generations, unless the condition asks for it."""
    engine = engine_of(
        job("a")
        + job("b", "  needs: a")
        + job("c", "  needs: b", "  if: always()")
        + job("d", "  needs: c")
        + job("e", "  needs: [a]", "  if: failure()")
        + job("f", "  needs: [b, c]", "  if: needs.b.result == 'skipped' && always()")
    )
    assert engine.advance() == ["a"]
    play(engine, "a", "failure")
    assert set(engine.advance()) == {"c", "e"}
    for name in ("c", "e"):
        play(engine, name)
    assert engine.advance() == ["f"]
    assert engine.job("d").conclusion == "skipped", "success() looks at every ancestor"
    play(engine, "f")
    assert engine.conclusion == "failure"


def test_a_run_of_skipped_jobs_is_skipped() -> None:
    """Nothing ran, nothing failed."""
    engine = engine_of(job("a", "  if: false"))
    assert engine.advance() == []
    assert engine.conclusion == "skipped"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("  if: env.X == 1", id="env in a job's if"),
        pytest.param("  timeout-minutes: ${{ vars.none || 'x' }}", id="timeout no number"),
    ],
)
def test_a_job_that_cannot_be_evaluated_fails_with_its_reason(line: str) -> None:
    """Before any runner is asked for."""
    engine = engine_of(job("a", line))
    assert engine.advance() == []
    assert engine.job("a").conclusion == "failure"
    assert engine.job("a").problems


@pytest.mark.parametrize(
    ("runs_on", "labels"),
    [
        pytest.param("[a, b]", ("a", "b"), id="list"),
        pytest.param("{group: g, labels: a}", ("a",), id="group"),
        pytest.param("${{ fromJSON('[\"a\"]') }}", ("a",), id="expression"),
        pytest.param("${{ github.nothing }}", (), id="empty"),
        pytest.param("{group: g}", (), id="group alone"),
    ],
)
def test_labels_are_evaluated(runs_on: str, labels: tuple[str, ...]) -> None:
    """A job without any is failed, for no runner could take it."""
    engine = engine_of(
        "  a: {runs-on: 0, steps: [{run: x}]}\n".replace("0", f"'{runs_on}'")
        if "$" in runs_on and "'" not in runs_on
        else f"  a:\n    runs-on: {runs_on}\n    steps: [{{run: x}}]\n"
    )
    engine.advance()
    assert engine.labels("a") == labels
    assert (engine.job("a").conclusion == "failure") is (not labels)


def test_a_failed_leg_ends_its_siblings() -> None:
    """Queued ones are cancelled, running ones are told to stop; needs sees a failure."""
    engine = engine_of(job("gpu", "  strategy: {matrix: {n: [1, 2, 3]}}") + job("after", "  needs: gpu"))
    assert engine.advance() == ["gpu (1)", "gpu (2)", "gpu (3)"]
    engine.start("gpu (2)", runner=RUNNER)
    assert engine.next_step("gpu (2)", None)
    play(engine, "gpu (1)", "failure")
    assert engine.job("gpu (3)").conclusion == "cancelled"
    assert engine.job("gpu (2)").cancelled
    assert engine.next_step("gpu (2)", StepResult(outcome="cancelled")) is None
    assert engine.finish("gpu (2)") == "cancelled"
    engine.advance()
    assert engine.job("after").conclusion == "skipped"
    assert engine.conclusion == "failure"


def test_fail_fast_off_and_max_parallel_keep_the_legs_apart() -> None:
    """One after the other, each to its own end; outputs of later legs win, empty ones do not."""
    engine = engine_of(
        job(
            "gpu",
            "  name: N ${{ matrix.n }} of ${{ strategy.job-total }}",
            "  strategy: {fail-fast: false, max-parallel: 1, matrix: {n: [1, '', 3]}}",
            "  outputs: {last: '${{ matrix.n }}'}",
        )
        + job(
            "after",
            "  needs: gpu",
            "  if: always()",
            steps="[{run: '${{ needs.gpu.outputs.last }} ${{ needs.gpu.result }}'}]",
        )
    )
    assert engine.job("gpu (1)").name == "N ${{ matrix.n }} of ${{ strategy.job-total }}"
    assert engine.advance() == ["gpu (1)"]
    assert engine.job("gpu (1)").name == "N 1 of 3"
    play(engine, "gpu (1)", "failure")
    assert engine.advance() == ["gpu ()"]
    play(engine, "gpu ()")
    assert engine.advance() == ["gpu (3)"]
    play(engine, "gpu (3)")
    assert engine.advance() == ["after"]
    assert play(engine, "after") == ["3 failure"]


def test_a_job_may_be_forgiven() -> None:
    """continue-on-error of a job: it is red, the run is green, and what needs it runs."""
    engine = engine_of(job("a", "  continue-on-error: true") + job("b", "  needs: a"))
    engine.advance()
    play(engine, "a", "failure")
    assert engine.advance() == ["b"]
    play(engine, "b")
    assert engine.job("a").conclusion == "failure"
    assert engine.conclusion == "success"


def test_cancelling_a_run_stops_what_does_not_ask_to_go_on() -> None:
    """Queued jobs end, running ones get their always() steps, waiting ones with always() still begin."""
    steps = "[{run: a}, {run: b}, {if: cancelled(), run: c}]"
    engine = engine_of(
        job("busy", steps=steps)
        + job("queued")
        + job("stubborn", "  if: always()")
        + job("later", "  needs: busy")
        + job("stop", "  needs: busy", "  if: always()")
    )
    engine.advance()
    engine.start("busy", runner=RUNNER)
    engine.next_step("busy", None)
    engine.cancel()
    assert engine.job("queued").conclusion == "cancelled"
    assert engine.job("stubborn").status == "queued"
    assert engine.job("busy").cancelled
    plan = engine.next_step("busy", StepResult(outcome="cancelled"))
    assert plan
    assert plan.script == "c"
    engine.next_step("busy", StepResult(outcome="success"))
    assert engine.finish("busy") == "cancelled"
    assert engine.advance() == ["stop"]
    assert engine.job("later").conclusion == "cancelled"
    play(engine, "stop")
    play(engine, "stubborn")
    assert engine.conclusion == "cancelled"


def test_a_job_can_be_ended_from_outside_at_any_moment() -> None:
    """Its running step ends with it, the rest is skipped; giving up half-way is a cancellation."""
    engine = engine_of(job("a", steps="[{run: x}, {run: y}]") + job("b", steps="[{run: x}, {run: y}]") + job("c"))
    engine.advance()
    engine.start("a", runner=RUNNER)
    engine.next_step("a", None)
    assert engine.finish("a", forced="failure") == "failure"
    assert [step.conclusion for step in engine.job("a").steps] == ["failure", "skipped"]
    engine.start("b", runner=RUNNER)
    engine.next_step("b", None)
    assert engine.finish("b") == "cancelled"
    assert engine.finish("c") == "failure", "nobody ran it"


def test_a_job_that_cannot_be_played_fails_at_its_start() -> None:
    """By name, before its first step, and so does an env that cannot be evaluated."""
    engine = engine_of(job("a", steps="[{run: x}, {uses: a/b@v1}]") + job("b", "  env: \"${{ fromJSON('{') }}\""))
    engine.advance()
    with pytest.raises(WorkflowError, match=r"job 'a', step 'Run a/b@v1': 'uses: a/b@v1'"):
        engine.start("a", runner=RUNNER)
    with pytest.raises(WorkflowError, match="job 'b': fromJSON"):
        engine.start("b", runner=RUNNER)
    assert engine.job("a").conclusion == "failure"
    assert engine.job("a").problems
    assert engine.completed


def test_calls_out_of_turn_are_refused() -> None:
    """With the state the job is in; an unknown job is a KeyError."""
    engine = engine_of(job("a") + job("b", "  needs: a"))
    engine.advance()
    with pytest.raises(WorkflowError, match="job 'b': it is waiting"):
        engine.start("b", runner=RUNNER)
    engine.hand_over("a")
    with pytest.raises(WorkflowError, match="played elsewhere"):
        engine.next_step("a", None)
    engine.provide("a", {}, conclusion="failure")
    with pytest.raises(WorkflowError, match="it is completed"):
        engine.finish("a")
    with pytest.raises(KeyError):
        engine.job("nobody")
    assert engine.advance() == []


def test_a_plain_name_carries_the_values_of_the_leg() -> None:
    """And a name that cannot be evaluated is shown as written."""
    engine = engine_of(
        job("a", "  name: Train", "  strategy: {matrix: {n: [1]}}") + job("b", "  name: \"${{ fromJSON('{') }}\"")
    )
    engine.advance()
    assert engine.job("a (1)").name == "Train (1)"
    assert engine.job("b").name == "${{ fromJSON('{') }}"


@given(st.data())
def test_every_run_comes_to_an_end(data: st.DataObject) -> None:
    """Whatever the graph, the conditions and the outcomes: no job is left behind and none runs twice."""
    conditions = ["", "  if: always()", "  if: failure()", "  if: cancelled()", "  if: success()"]
    text = ""
    for number in range(data.draw(st.integers(1, 5))):
        needs = data.draw(st.lists(st.integers(0, number - 1), unique=True)) if number else []
        line = data.draw(st.sampled_from(conditions))
        text += job(f"j{number}", f"  needs: [{', '.join(f'j{need}' for need in needs)}]", *filter(None, [line]))
    engine = engine_of(text)
    seen: list[str] = []
    while ready := engine.advance():
        seen += ready
        for job_id in ready:
            if engine.job(job_id).status == "queued":
                play(engine, job_id, data.draw(st.sampled_from(["success", "failure", "cancelled"])))
        if data.draw(st.booleans()):
            engine.cancel()
    assert engine.completed
    assert engine.conclusion is not None
    assert len(seen) == len(set(seen))
