"""Workflows that are right, in the many ways there are: the workflow check finds nothing."""

from __future__ import annotations

import pytest
from support.lint import CLEANUP, COMMANDS, GOOD, WHOLE, look, spoil, spoil_last

from runner_provisioner.lint.checking import check_workflows

STOP_STEP = "      - run: exec runner-provisioner stop\n"
LABEL = "    runs-on: ${{ needs.start.outputs.label }}\n"
MATRIX = "    strategy:\n      matrix:\n        seed: [1, 2]\n"


def stop_by(run: str) -> str:
    """The workflow of commands with another stop."""
    lines = "".join(f"          {line}\n" for line in run.splitlines())
    return spoil_last(COMMANDS, STOP_STEP, f"      - run: |\n{lines}")


FINE = {
    "action": GOOD,
    "commands": COMMANDS,
    "reusable": WHOLE,
    "nothing-of-ours": "on: push\njobs:\n  test:\n    runs-on: [self-hosted, gpu]\n    container: x\n    steps: []\n",
    "foreign-action": "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: ./\n",
    "foreign-provisioner": GOOD.replace("octo/runner_provisioner@v1", "octo/other@v1"),
    "unknown-mode": "on: push\njobs:\n  a:\n    steps: [{uses: o/runner-provisioner@v1, with: {mode: x}}]\n",
    "computed-mode": "on: push\njobs:\n  a:\n    steps: [{uses: o/runner-provisioner@v1, with: {mode: '${{ x }}'}}]\n",
    "key-in-other-blanks": spoil(
        GOOD, ("key: train", "key: ${{ inputs.key }}-a"), ("key: train", "key: ' ${{inputs.key  }}-a'")
    ),
    "always-in-capitals": spoil(GOOD, ("always()", "ALWAYS()")),
    "always-in-blanks": spoil(GOOD, ("always()", "${{  Always( ) }}")),
    "always-or-more": spoil(GOOD, ("always()", "always() || inputs.a && inputs.b")),
    "more-or-always": spoil(GOOD, ("always()", "${{ inputs.a && inputs.b || always() }}")),
    "secrets-as-a-word": spoil(
        GOOD,
        ("      - run: nvidia-smi\n", "      - run: echo ${{ format('no secrets {0}', steps.a.outputs.secrets) }}\n"),
    ),
    "stop-in-the-same-place": spoil(
        GOOD,
        ("key: train", "key: train\n          organization: Octo"),
        ("mode: stop\n", "mode: stop\n          organization: octo\n"),
    ),
    "computed-in-the-same-way": spoil(
        GOOD,
        ("key: train", "key: train\n          organization: ${{ github.repository_owner }}"),
        ("mode: stop\n", "mode: stop\n          organization: ${{ github.repository_owner }}\n"),
    ),
    "repository-that-is-the-default": spoil(
        GOOD, ("key: train", "key: train\n          repository: ${{ github.repository }}")
    ),
    "both-lists-in-the-key": spoil(
        WHOLE,
        (MATRIX, MATRIX + "        size: [small, large]\n"),
        ("matrix.seed }}", "matrix.seed }}-${{ matrix.size }}"),
    ),
    "a-list-of-one": spoil(WHOLE, (MATRIX, MATRIX + "        size: [small]\n")),
    "a-list-that-cannot-be-known": spoil(WHOLE, (MATRIX, MATRIX + "        size: ${{ fromJSON(inputs.sizes) }}\n")),
    "the-whole-matrix": spoil(WHOLE, ("matrix.seed", "toJSON(matrix)"), (MATRIX, MATRIX + "        size: [a, b]\n")),
    "the-number-of-the-leg": spoil(
        WHOLE, ("matrix.seed", "strategy.job-index"), (MATRIX, MATRIX + "        size: [a, b]\n")
    ),
    "a-name-that-include-adds": spoil(
        WHOLE,
        (MATRIX, MATRIX + "        include: [{seed: 1, name: a}, {seed: 2, name: b}]\n"),
        ("matrix.seed", "matrix.name"),
    ),
    "legs-that-are-left-out": spoil(
        WHOLE,
        (MATRIX, MATRIX + "        size: [a, b]\n        exclude: [{seed: 1, size: a}, {seed: 2, size: b}]\n"),
    ),
    "a-list-made-by-format": spoil(
        GOOD, (LABEL, "    runs-on: ${{ fromJSON(format('[\"{0}\"]', needs.start.outputs.label)) }}\n")
    ),
    "a-computed-list": spoil(GOOD, (LABEL, "    runs-on: ${{ fromJSON(needs.start.outputs.label) }}\n")),
    "hosted-by-an-expression": spoil(
        GOOD,
        (
            "  stop:\n",
            "  note:\n    needs: start\n    runs-on: ${{ fromJSON('[\"ubuntu-latest\"]') }}\n    steps: []\n  stop:\n",
        ),
    ),
    "environment-and-a-token": spoil(
        WHOLE,
        (
            "    secrets: inherit\n",
            "    secrets:\n      RUNPOD_API_KEY: ${{ secrets.RUNPOD_API_KEY }}\n      GPU_GITHUB_TOKEN: x\n",
        ),
    ),
    "environment-and-another-market": spoil(
        WHOLE,
        (
            "    secrets: inherit\n",
            "    secrets:\n      PRIME_API_KEY: ${{ secrets.PRIME_API_KEY }}\n      GPU_GITHUB_TOKEN: x\n",
        ),
    ),
    "comment-that-is-on-no-pull-request": spoil(
        GOOD,
        ("on: workflow_dispatch", "on: issue_comment"),
        ("    environment: gpu\n", "    if: ${{ !github.event.issue.pull_request }}\n"),
    ),
    "run-of-this-repository": spoil(
        GOOD,
        ("on: workflow_dispatch", "on:\n  workflow_run:\n    workflows: [CI]"),
        (
            "    environment: gpu\n",
            "    if: github.event.workflow_run.head_repository.full_name == github.repository\n",
        ),
    ),
    "approved-comment": spoil(
        GOOD,
        ("on: workflow_dispatch", "on: issue_comment"),
        ("          key: train\n", "          key: train\n          allow-untrusted: true\n"),
    ),
    "this-repository-by-its-own-syntax": GOOD.replace("octo/runner_provisioner@v1", "$/"),
    "place-that-cannot-be-known": spoil(
        GOOD,
        ("key: train", "key: train\n          owner: a"),
        ("mode: stop\n", "mode: stop\n          owner: ${{ vars.OWNER }}\n"),
    ),
    "stop-ends-the-script": stop_by("runner-provisioner stop; true"),
    "stop-keeps-its-code": spoil_last(
        COMMANDS, STOP_STEP, "      - shell: bash {0}\n        run: runner-provisioner stop; rc=$?; exit $rc\n"
    ),
    "stop-in-a-shell-of-its-own": spoil_last(
        COMMANDS, STOP_STEP, "      - shell: bash -le {0}\n        run: runner-provisioner stop; true\n"
    ),
    "transitive-needs": spoil(
        GOOD,
        (
            "  stop:\n    needs: [start, train]\n",
            "  report:\n    needs: train\n    runs-on: ubuntu-latest\n  stop:\n    needs: report\n",
        ),
    ),
    "known-extra-label": spoil(
        GOOD,
        ("          key: train\n", "          key: train\n          labels: our-gpu\n"),
        (LABEL, "    runs-on: ['${{ needs.start.outputs.label }}', Our-GPU]\n"),
    ),
    "unknown-extra-label": spoil(
        GOOD,
        ("          key: train\n", "          key: train\n          labels: ${{ vars.L }}\n"),
        (LABEL, "    runs-on: ['${{ needs.start.outputs.label }}', our-gpu]\n"),
    ),
    "runner-group": spoil(
        GOOD, (LABEL, "    runs-on:\n      group: gpus\n      labels: ['${{ needs.start.outputs.label }}']\n")
    ),
    "larger-runner-after-start": spoil(
        GOOD, ("  stop:\n", "  note:\n    needs: start\n    runs-on: big-runner\n    steps: []\n  stop:\n")
    ),
    "own-token": spoil(
        GOOD, ("      - run: nvidia-smi\n", "      - run: gh\n        env:\n          T: ${{ secrets.GITHUB_TOKEN }}\n")
    ),
    "approved-target": spoil(
        GOOD,
        ("on: workflow_dispatch", "on: pull_request_target"),
        ("          key: train\n", "          key: train\n          allow-untrusted: true\n"),
    ),
    "other-stop-environment": spoil(GOOD, ("    if: always()\n", "    if: always()\n    environment: gpu-stop\n")),
    "docker-on-a-hosted-runner": spoil(
        GOOD,
        (
            "  stop:\n",
            "  image:\n    container: x\n    services: {}\n    steps: [{uses: docker/login-action@v3}]\n  stop:\n",
        ),
    ),
    "jobs-that-exclude-each-other": spoil(
        GOOD,
        (
            "  train:\n",
            "  again:\n    if: inputs.again\n    needs: start\n    timeout-minutes: 5\n"
            + LABEL
            + "  train:\n    if: '!inputs.again'\n",
        ),
        ("[start, train]", "[start, train, again]"),
    ),
    "label-of-the-leg": spoil(
        GOOD,
        (LABEL, MATRIX + "    runs-on: ${{ needs.start.outputs[matrix.seed] }}\n"),
    ),
    "stop-by-nix-and-a-word": stop_by("nix run . -- stop"),
    "stop-after-other-things-of-nix": stop_by("nix run . -- lint\nnix build .#start-page\nrunner-provisioner stop"),
    "stop-after-other-commands": stop_by(
        "pip install runner-provisioner\nrunner-provisioner status\nrunner-provisioner stop"
    ),
    "longer-lifetime": spoil(COMMANDS, ("--max-price 0.60", "--lifetime 61m")),
    "lifetime-that-cannot-be-known": spoil(GOOD, ("key: train\n", "key: train\n          lifetime: ${{ inputs.a }}\n")),
    "lifetime-that-is-computed": spoil(COMMANDS, ("--max-price 0.60", "--lifetime $(./long)")),
    "lifetime-that-is-none": spoil(COMMANDS, ("--max-price 0.60", "--lifetime 5x")),
    "lifetime-with-too-many-digits": spoil(COMMANDS, ("--max-price 0.60", f"--lifetime {'9' * 5000}m")),
    "timeout-that-cannot-be-known": spoil(GOOD, ("minutes: 60", "minutes: ${{ fromJSON(inputs.minutes) }}")),
    "stop-by-path": stop_by('"$RUNNER_TEMP/venv/bin/runner-provisioner" stop'),
    "stop-by-module": stop_by("python3 -m runner_provisioner stop --run-id 5"),
    "stop-by-nix": stop_by("nix run github:octo/runner_provisioner#stop -- --key default"),
    "stop-over-lines": stop_by("runner-provisioner \\\n  stop \\\n  --key default"),
    "stop-then-more": stop_by("runner-provisioner stop && echo stopped"),
    "stop-or-fail": stop_by("runner-provisioner stop || { echo '::error::left'; exit 1; }"),
    "stop-or-told": stop_by("runner-provisioner stop || echo left && exit 1"),
    "stop-if-not": stop_by("if ! runner-provisioner stop; then\n  exit 1\nfi"),
    "stop-in-a-subshell": stop_by("(cd tools; runner-provisioner stop; echo done)"),
    "stop-in-a-group": stop_by("{ runner-provisioner stop; echo done; }"),
    "stop-in-a-group-or-fail": stop_by("{\n  runner-provisioner stop\n} || { echo left; exit 1; }"),
    "stop-with-a-kept-result": stop_by('out="$(runner-provisioner stop)"\necho "$out"'),
    "stop-with-a-kept-code": stop_by("runner-provisioner stop || rc=$?\necho done\nexit ${rc:-0}"),
    "stop-or-pass-on": stop_by("runner-provisioner stop || exit"),
    "stop-or-once-more": stop_by("runner-provisioner stop || (sleep 9; runner-provisioner stop)"),
    "stop-if-not-in-brackets": stop_by("if ! out=$(runner-provisioner stop); then\n  exit 1\nfi"),
    "stop-after-brackets": stop_by("clean() { rm -f x || true; }\nclean || true\nrunner-provisioner stop"),
    "stop-with-a-case": stop_by("case $A in\n  b) echo c ;;\nesac\nrunner-provisioner stop"),
    "stop-after-a-step-that-cannot-fail": spoil_last(
        COMMANDS, STOP_STEP, "      - run: ./report\n        continue-on-error: true\n" + STOP_STEP
    ),
    "stop-always-after-a-step": spoil_last(
        COMMANDS, STOP_STEP, "      - run: ./report\n      - if: always()\n        run: exec runner-provisioner stop\n"
    ),
    "stop-pipefail": stop_by("set -o pipefail\nrunner-provisioner stop | tee log"),
    "stop-in-comment-and-talk": stop_by(
        "# runner-provisioner stop --key x\necho runner-provisioner stop --key y\nrunner-provisioner stop"
    ),
    "stop-with-open-quote": stop_by("echo 'two\nlines'; runner-provisioner stop"),
    "shell-bash-pipe": spoil_last(
        COMMANDS, STOP_STEP, "      - shell: bash\n        run: runner-provisioner stop | tee log\n"
    ),
    "key-by-variable": spoil_last(
        spoil(
            COMMANDS,
            ("start --max-price 0.60", 'start --key "$KEY"'),
            ("        run: exec runner-provisioner stop\n", "        run: exec runner-provisioner stop --key ${KEY}\n"),
            ("jobs:\n", "env:\n  KEY: a-${{ inputs.name }}\njobs:\n"),
        ),
        STOP_STEP,
        "      - run: exec runner-provisioner stop --key 'a-${{ inputs.name }}'\n",
    ),
    "key-that-cannot-be-known": spoil(COMMANDS, ("start --max-price 0.60", 'start --key "$(date +%s)"')),
    "key-of-an-unknown-variable": spoil(COMMANDS, ("start --max-price 0.60", 'start --key "$SOMETHING"')),
    "label-by-option": spoil(
        COMMANDS,
        ("start --max-price 0.60", "start --label our-gpu"),
        ('["${{ needs.start.outputs.label }}"]', '["${{ needs.start.outputs.label }}", our-gpu]'),
    ),
    "label-by-unknown-variable": spoil(
        COMMANDS,
        ("start --max-price 0.60", "start --label $L"),
        ('["${{ needs.start.outputs.label }}"]', '["${{ needs.start.outputs.label }}", our-gpu]'),
    ),
    "two-starts-in-one-job": """\
on: push
jobs:
  start:
    runs-on: ubuntu-latest
    outputs:
      a: ${{ steps.a.outputs.label }}
      b: ${{ steps.b.outputs.label }}
    steps:
      - id: a
        run: exec runner-provisioner start --key a
      - id: b
        run: exec runner-provisioner start --key b
  a:
    needs: start
    runs-on: ${{ needs.start.outputs.a }}
    timeout-minutes: 5
  b:
    needs: start
    runs-on: ${{ needs.start.outputs['b'] }}
    timeout-minutes: 5
  stop-a:
    needs: [start, a]
    if: always()
    steps:
      - run: exec runner-provisioner stop --key a
  stop-b:
    needs: [start, b]
    if: always()
    steps:
      - run: exec runner-provisioner stop --key b
""",
    "matrix-legs-tell-their-label": spoil(
        GOOD,
        ("    environment: gpu\n", "    environment: gpu\n" + MATRIX),
        (
            "      label: ${{ steps.rent.outputs.label }}",
            "      label: ${{ matrix.seed == 1 && steps.rent.outputs.label }}",
        ),
        ("key: train", "key: t-${{ matrix.seed }}"),
        ("    if: always()\n", "    if: always()\n" + MATRIX),
        ("key: train", "key: t-${{ matrix.seed }}"),
    ),
    "key-computed-for-each-leg": spoil(WHOLE, ("matrix.seed", "strategy.job-index")),
    "same-job": """\
on: push
jobs:
  all:
    steps:
      - run: exec runner-provisioner start
      - if: always()
        run: exec runner-provisioner stop
""",
    "stop-without-start": "on: push\njobs:\n  stop:\n    steps: [{run: runner-provisioner stop --key x}]\n",
    "two-ways-to-need": spoil(
        GOOD,
        (
            "  stop:\n    needs: [start, train]\n",
            "  a: {needs: start}\n  b: {needs: start}\n  stop:\n    needs: [train, a, b]\n",
        ),
    ),
    "looping-needs": spoil(GOOD, ("  train:\n    needs: start\n", "  train:\n    needs: [start, stop]\n")),
    "local-action": """\
on: push
jobs:
  all:
    steps:
      - uses: ./
        with: {runpod-api-key: x}
      - uses: ./vendor/runner-provisioner
        if: always()
        with: {mode: stop}
""",
}


KEPT_OUT = {
    "by-event": ("[push, issue_comment]", "github.event_name != 'issue_comment'"),
    "by-another-event": ("[push, issue_comment]", "github.event_name == 'push'"),
    "no-pull-request": ("issue_comment", "${{ github.event.issue.pull_request == null }}"),
    "only-members": (
        "issue_comment",
        'contains(fromJSON(\'["OWNER", "MEMBER"]\'), github.event.comment.author_association)',
    ),
    "only-the-owner": ("issue_comment", "github.event.comment.author_association == 'OWNER'"),
    "no-fork": ("workflow_run", "'!github.event.workflow_run.head_repository.fork'"),
    "fork-is-false": ("workflow_run", "github.event.workflow_run.head_repository.fork == false"),
    "after-a-push": ("workflow_run", "github.event.workflow_run.event == 'push' && inputs.a"),
    "in-brackets": (
        "[workflow_run, push]",
        (
            "github.event_name == 'push' || (github.event.workflow_run.head_repository.full_name == github.repository "
            "&& (success() || inputs.a))"
        ),
    ),
}


@pytest.mark.parametrize(("event", "condition"), KEPT_OUT.values(), ids=KEPT_OUT)
def test_a_condition_may_keep_strangers_out(event: str, condition: str) -> None:
    """In every spelling that people use."""
    text = spoil(GOOD, ("on: workflow_dispatch", f"on: {event}"), ("  start:\n", f"  start:\n    if: {condition}\n"))
    assert [str(one) for one in look(text)] == []


@pytest.mark.parametrize(
    ("cleanup", "gpu"),
    [
        pytest.param(CLEANUP + "    with:\n      environment: gpu-stop\n", WHOLE, id="its-own"),
        pytest.param(CLEANUP, GOOD, id="only-the-start-has-one"),
    ],
)
def test_a_clean_up_needs_an_environment_only_where_stops_have_one(cleanup: str, gpu: str) -> None:
    """An environment with reviewers for the start alone says nothing of where the secrets are."""
    files = {".github/workflows/clean.yml": cleanup, ".github/workflows/gpu.yml": gpu}
    assert [str(one) for one in check_workflows(files)] == []


def test_a_clean_up_in_a_workflow_of_ones_own_may_have_the_environment_there() -> None:
    """The schedule is in another file than the clean-up."""
    clock = "on:\n  schedule: [{cron: '7 * * * *'}]\njobs:\n  a:\n    uses: ./.github/workflows/tidy.yml\n"
    tidy = "on: workflow_call\njobs:\n  a:\n    environment: b\n    steps: [{run: runner-provisioner cleanup}]\n"
    files = {f".github/workflows/{name}.yml": text for name, text in (("clock", clock), ("tidy", tidy), ("gpu", WHOLE))}
    assert [str(one) for one in check_workflows(files)] == []


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_nothing_is_found_in_a_workflow_that_is_right(text: str) -> None:
    """No finding, not even a warning."""
    assert [str(one) for one in look(text)] == []


STARTS = """\
on:
  workflow_call:
    outputs:
      label:
        value: ${{ jobs.start.outputs.label }}
jobs:
  start:
    runs-on: ubuntu-latest
    outputs:
      label: ${{ steps.rent.outputs.label }}
    steps:
      - id: rent
        uses: octo/runner_provisioner@v1
        with:
          key: ${{ inputs.key }}
      - if: always() && steps.rent.outcome != 'success'
        uses: octo/runner_provisioner@v1
        with:
          mode: stop
          key: ${{ inputs.key }}
"""
STOPS = """\
on: workflow_call
jobs:
  stop:
    runs-on: ubuntu-latest
    steps:
      - uses: octo/runner_provisioner@v1
        with:
          mode: stop
          key: ${{ inputs.key }}
"""
CALLER = """\
on: push
jobs:
  rent:
    uses: ./.github/workflows/starts.yml
  train:
    needs: rent
    runs-on: ${{ needs.rent.outputs.label }}
    timeout-minutes: 5
  give-back:
    needs: [rent, train]
    if: always()
    uses: ./.github/workflows/stops.yml
"""


def test_starts_and_stops_of_called_workflows_count() -> None:
    """A workflow that calls one for the start and one for the stop is judged with what they do."""
    assert look(CALLER, starts=STARTS, stops=STOPS) == []
    without = CALLER[: CALLER.index("  give-back")]
    assert [(one.check.id, one.line) for one in look(without, starts=STARTS, stops=STOPS)] == [("no-stop", 4)]


def test_called_workflows_are_right_by_themselves() -> None:
    """What hands its label to its caller, and what only stops, need not do the other."""
    assert look(STARTS) == []
    assert look(STOPS) == []


def test_a_called_workflow_that_is_whole_stops_by_itself() -> None:
    """Its callers need no stop, but keys."""
    twice = (
        "on: push\njobs:\n  a:\n    uses: ./.github/workflows/all.yml\n  b:\n    uses: ./.github/workflows/all.yml\n"
    )
    assert [(one.check.id, one.line) for one in look(twice, all=GOOD)] == [("same-key", 6)]
    assert look(twice, all=GOOD.replace("key: train", "key: ${{ inputs.key }}")) == []


def test_a_called_workflow_that_is_not_there_is_nobodys_start() -> None:
    """What cannot be read is not judged."""
    assert look(CALLER) == []


def test_a_clean_up_may_be_called_or_written_out() -> None:
    """A scheduled workflow that cleans up in any way silences the warnings about its lack."""
    written = spoil(
        CLEANUP,
        (
            "    uses: octo/runner_provisioner/.github/workflows/cleanup.yml@v1\n",
            "    steps:\n      - run: exec runner-provisioner cleanup\n",
        ),
    )
    assert look(GOOD, cleanup=False, any=written) == []
    by_action = written.replace(
        "run: exec runner-provisioner cleanup", "uses: o/runner_provisioner@v1\n        with: {mode: cleanup}"
    )
    assert look(GOOD, cleanup=False, any=by_action) == []
    assert look(GOOD, cleanup=False, any="[") != []


def test_the_lack_of_a_clean_up_is_said_once() -> None:
    """It is one thing of the whole repository, not one of each file."""
    found = check_workflows({"a.yml": GOOD, "b.yml": COMMANDS})
    assert [(one.file, one.check.id) for one in found if one.check.id == "no-cleanup"] == [("a.yml", "no-cleanup")]


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        pytest.param("runpod-api-key: a\n          prime-api-key: b", "", id="none-that-can-be-seen"),
        pytest.param("runpod-api-key: a\n          prime-api-key: ''", "runpod-api-key: a", id="an-empty-one"),
        pytest.param("runpod-api-key: a", "runpod-api-key: a\n          celium-api-key: b", id="more-than-needed"),
        pytest.param(
            "runpod-api-key: a\n          prime-api-key: b\n          provider: runpod",
            "runpod-api-key: a",
            id="narrowed",
        ),
    ],
)
def test_a_stop_has_the_keys_of_its_start(start: str, stop: str) -> None:
    """What cannot be seen here is not judged."""
    key = "runpod-api-key: ${{ secrets.RUNPOD_API_KEY }}"
    assert look(spoil_last(spoil(GOOD, (key, start)), key, stop or "gpu-count: 1")) == []


def test_several_clean_ups_share_the_providers() -> None:
    """Each has the keys of some; one without any that can be seen may have all."""
    keys = "      - uses: octo/runner_provisioner@v1\n        with:\n          mode: cleanup\n          KEY: x\n"
    job = CLEANUP[CLEANUP.index("  cleanup:") : CLEANUP.index("    uses")] + "    runs-on: ubuntu-latest\n    steps:\n"
    both = spoil(GOOD, ("          key: train\n", "          key: train\n          prime-api-key: x\n"))
    both = spoil_last(both, "          key: train\n", "          key: train\n          prime-api-key: x\n")
    begin = CLEANUP[: CLEANUP.index("  cleanup:")]
    shared = job + keys.replace("KEY", "runpod-api-key") + keys.replace("KEY", "prime-api-key")
    assert look(begin + shared + both[both.index("  start:") :], cleanup=False) == []
    called = both.replace("on: workflow_dispatch", "on: workflow_call")
    cleanup = begin + job + keys.replace("KEY", "runpod-api-key")
    assert check_workflows({"called.yml": called, "cleanup.yml": cleanup}) == []
    assert [one.check.id for one in check_workflows({"mine.yml": both, "cleanup.yml": cleanup})] == ["cleanup-provider"]
    unseen = job + keys.replace("KEY", "runpod-api-key") + keys.replace("          KEY: x\n", "")
    assert look(begin + unseen + both[both.index("  start:") :], cleanup=False) == []
