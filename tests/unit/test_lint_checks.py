"""Each check of the workflow check: a workflow in which it finds its one thing, on the line marked `# HERE`."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from support.lint import CLEANUP, COMMANDS, GOOD, HERE, WHOLE, look, marked, spoil, spoil_last

from runner_provisioner.lint.findings import CHECKS
from runner_provisioner.lint.model import MARKETS
from runner_provisioner.providers import celium_plugin, prime_plugin, runpod_plugin
from runner_provisioner.providers.plugin import GROUP

TRAIN = "  train:\n    needs: start\n"
TRAIN_STEP = "      - run: nvidia-smi\n"
LABEL = "    runs-on: ${{ needs.start.outputs.label }}\n"
START_JOB = "  start:\n    runs-on: ubuntu-latest\n    environment: gpu\n"
LISTED = "    runs-on: ${{ fromJSON(format('WORDS', needs.start.outputs.label)) }}"
MATRIX = "    strategy:\n      matrix:\n        seed: [1, 2]\n"
STOP_USES = f"    steps:\n      - uses: octo/runner_provisioner@v1 {HERE}\n        with:\n          mode: stop\n"
STOP_STEP = "      - run: exec runner-provisioner stop\n"
ENV_STOP = f"      - run: 'runner-provisioner stop' {HERE}\n"
SETTLE = "        run: exec runner-provisioner stop\n"
CROSS = "    strategy:\n      matrix:\n        seed: [1, 2]\n        size: [small, large]\n"
HANDED = "    secrets: inherit\n"

OTHER_GPU_JOB = f"""\
  again:
    needs: start
    runs-on: ${{{{ needs.start.outputs.label }}}} {HERE}
    timeout-minutes: 5
    steps:
      - run: nvidia-smi
  stop:
    needs: [start, train, again]
"""
SECOND_START = f"""\
  other:
    runs-on: ubuntu-latest
    steps:
      - uses: octo/runner_provisioner@v1 {HERE}
        with:
          key: KEY
  stop:
"""

RERUN_JOB = f"""\
  again:
    runs-on: ubuntu-latest
    steps:
      - uses: octo/runner_provisioner@v1 {HERE}
        with:
          mode: rerun
          runpod-api-key: x
          celium-api-key: x
"""
ONE_KEY = "        env:\n          CELIUM_API_KEY: x\n"
BOTH_KEYS = "        env:\n          RUNPOD_KEY: x\n          CELIUM_API_KEY: x\n"


def spoil_stop(new: str) -> str:
    """The workflow of commands with another last step."""
    return spoil_last(COMMANDS, STOP_STEP, new)


def with_mark_on_last_uses() -> str:
    """The good workflow with the mark on its stop."""
    return spoil_last(GOOD, "- uses: octo/runner_provisioner@v1\n", f"- uses: octo/runner_provisioner@v1 {HERE}\n")


STARTS = {
    "of-nix": "exec nix run . -- start",
    "of-nix-elsewhere": "exec nix run github:acme/runner_provisioner -- start",
    "of-nix-at-a-version": "exec nix run 'github:acme/runner_provisioner/v1#default' -- --debug start",
    "of-nix-by-name": "exec nix run '.#start' -- --max-price 1",
    "after-an-option": "exec runner-provisioner --debug start",
    "of-a-module": "exec python3 -m runner_provisioner --debug start",
    "of-a-version": "exec uvx runner-provisioner@1.2 start",
}
PULL = "github.event.issue.pull_request"
HEAD = "github.event.workflow_run.head_repository"
LET_IN = {
    "comment-by-the-event": ("issue_comment", "github.event_name == 'issue_comment'"),
    "comment-on-a-pull-request": ("issue_comment", PULL),
    "comment-on-a-pull-request-in-braces": ("issue_comment", f"${{{{ {PULL} != null && startsWith(a, 'b') }}}}"),
    "comment-or-something": ("issue_comment", f"!{PULL} || inputs.all"),
    "comment-not-not": ("issue_comment", f"!(!{PULL})"),
    "comment-by-a-contributor": ("issue_comment", "github.event.comment.author_association != 'NONE'"),
    "comment-where-not-binds-first": ("issue_comment", "!github.event_name != 'push'"),
    "comment-as-a-text": ("issue_comment", f"'!{PULL}'"),
    "comment-by-nobody": ("issue_comment", "contains(fromJSON('[\"NONE\"]'), github.event.comment.author_association)"),
    "comment-in-two-expressions": ("issue_comment", f"${{{{ !{PULL} }}}} && ${{{{ inputs.a }}}}"),
    "comment-too-deep": ("issue_comment", "(" * 40 + f"!{PULL}" + ")" * 40),
    "comment-too-long": ("issue_comment", f"!{PULL} && {'a' * 4000}"),
    "run-by-the-event": ("workflow_run", "github.event_name == 'workflow_run'"),
    "run-of-a-pull-request": ("workflow_run", "github.event.workflow_run.event == 'pull_request'"),
    "run-of-a-fork": ("workflow_run", f"{HEAD}.fork"),
    "run-of-what-is-no-word": ("workflow_run", f"{HEAD}.fork != 'true'"),
    "run-of-a-target": ("workflow_run", "github.event.workflow_run.event == 'pull_request_target'"),
    "run-of-another": ("workflow_run", f"{HEAD}.full_name != github.repository"),
    "run-of-whatever": ("workflow_run", f"{HEAD}"),
    "run-of-what-is-computed": ("workflow_run", "github.event.workflow_run.event == inputs.event"),
}
SWALLOWED = {
    "or-something": "runner-provisioner stop || logger failed",
    "or-something-in-brackets": "runner-provisioner stop || { echo no; true; }",
    "or-true-after-and": "runner-provisioner stop && true || true",
    "and-then-or-true": "test -e x && runner-provisioner stop || true",
    "or-a-code-that-nobody-asks-for": "runner-provisioner stop || rc=$?; echo $rc",
    "subshell-or-true": "(runner-provisioner stop) || true",
    "subshell-in-a-subshell": "( (cd x; runner-provisioner stop);) || true",
    "group-or-true": "{ runner-provisioner stop; } || true",
    "group-that-goes-on": "{ runner-provisioner stop; echo done; } || exit 1",
    "group-in-a-test": "if { runner-provisioner stop; }; then echo done; fi",
    "group-in-a-pipe": "{ runner-provisioner stop; } | tee log",
    "result-or-true": "out=$(runner-provisioner stop) || true",
    "result-of-what-comes-after": "out=$(runner-provisioner stop; echo done)",
    "result-that-is-told": "echo $(runner-provisioner stop)",
    "result-that-is-told-in-quotes": 'echo "$(runner-provisioner stop)"',
    "result-in-a-declaration": "export OUT=$(runner-provisioner stop)",
    "never-closed": "{ runner-provisioner stop || true",
}

BAD = {
    "yaml": {
        "unclosed": f"jobs:\n  a: [1, 2\nb: c {HERE}\n",
        "key-twice": f"on: push\njobs:\n  a:\n    steps: []\n  a: {HERE}\n    steps: []\n",
        "key-is-a-list": f"jobs:\n  ? [a] {HERE}\n  : b\n",
    },
    "no-workflow": {
        "empty": f"{HERE}",
        "text": f"hello {HERE}",
        "composite-action": f"name: mine {HERE}\nruns:\n  using: composite\n",
        "jobs-is-a-list": f"on: push {HERE}\njobs: []\n",
    },
    "container": {
        "image": spoil(GOOD, (TRAIN, TRAIN + f"    container: python:3.12 {HERE}\n")),
        "mapping": spoil(GOOD, (TRAIN, TRAIN + f"    container: {HERE}\n      image: python:3.12\n")),
    },
    "services": {"redis": spoil(GOOD, (TRAIN, TRAIN + f"    services: {HERE}\n      redis:\n        image: redis\n"))},
    "docker-action": {
        "image": spoil(GOOD, (TRAIN_STEP, f"      - uses: docker://alpine:3.20 {HERE}\n")),
        "known": spoil(GOOD, (TRAIN_STEP, f"      - uses: docker/build-push-action@v6 {HERE}\n")),
        "linter": spoil(GOOD, (TRAIN_STEP, f"      - uses: super-linter/super-linter/slim@v7 {HERE}\n")),
    },
    "docker-command": {
        "build": spoil(GOOD, (TRAIN_STEP, f"      - run: | {HERE}\n          cd x\n          sudo docker build .\n")),
    },
    "no-timeout": {"missing": spoil(GOOD, ("    timeout-minutes: 60\n", ""), ("  train:\n", f"  train: {HERE}\n"))},
    "short-lifetime": {
        "of-the-action": spoil(
            GOOD, ("key: train\n", "key: train\n          lifetime: 45m\n"), ("minutes: 60\n", f"minutes: 60 {HERE}\n")
        ),
        "of-both": spoil(
            GOOD, ("key: train\n", "key: train\n          lifetime: 1h\n"), ("minutes: 60\n", f"minutes: 60 {HERE}\n")
        ),
        "by-default": spoil(GOOD, ("minutes: 60\n", f"minutes: 375 {HERE}\n")),
        "of-a-command": spoil(
            COMMANDS, ("--max-price 0.60", "--lifetime=50m"), ("minutes: 60\n", f"minutes: 60 {HERE}\n")
        ),
        "of-the-reusable": spoil(
            WHOLE, ("environment: gpu\n", f"timeout-minutes: 400 {HERE}\n      environment: gpu\n")
        ),
        "of-the-reusable-by-default": spoil(
            WHOLE, ("environment: gpu\n", "lifetime: 30m\n      environment: gpu\n"), ("@v1\n", f"@v1 {HERE}\n")
        ),
    },
    "gpu-environment": {
        "name": spoil(GOOD, (TRAIN, TRAIN + f"    environment: production {HERE}\n")),
        "mapping": spoil(GOOD, (TRAIN, TRAIN + f"    environment:\n      name: production {HERE}\n")),
    },
    "gpu-secrets": {
        "job": spoil(GOOD, (TRAIN, TRAIN + f"    env:\n      HF: ${{{{ secrets.HF_TOKEN }}}} {HERE}\n")),
        "step": spoil(
            GOOD, (TRAIN_STEP, TRAIN_STEP + f"        env:\n          HF: ${{{{ secrets['HF_TOKEN'] }}}} {HERE}\n")
        ),
        "all": spoil(GOOD, (TRAIN, TRAIN + f"    env:\n      ALL: ${{{{ toJSON(secrets) }}}} {HERE}\n")),
        "computed": spoil(
            GOOD, (TRAIN, TRAIN + f"    env:\n      ONE: ${{{{ secrets[format('{{0}}', matrix.a)] }}}} {HERE}\n")
        ),
        "input-of-start": spoil(
            GOOD, ("key: train\n", f"key: train\n          env: HF=${{{{ secrets.HF_TOKEN }}}} {HERE}\n")
        ),
        "input-of-the-called": spoil(
            WHOLE, ("      key: seed", f"      run: x ${{{{ secrets.A }}}} {HERE}\n      key: seed")
        ),
        "input-of-a-re-run": "on: push\njobs:\n  a:\n    steps:\n      - uses: octo/runner_provisioner@v1\n"
        f"        with: {{mode: rerun, env: 'A=${{{{ secrets.A }}}}'}} {HERE}\n",
        "workflow": spoil(GOOD, ("jobs:\n", f"env:\n  HF: ${{{{ secrets.HF_TOKEN }}}} {HERE}\njobs:\n")),
    },
    "call-environment": {
        "no-secrets": spoil(WHOLE, (HANDED, ""), ("environment: gpu\n", f"environment: gpu {HERE}\n")),
        "no-key-of-github": spoil(
            WHOLE,
            (HANDED, "    secrets:\n      RUNPOD_API_KEY: ${{ secrets.RUNPOD_API_KEY }}\n"),
            ("environment: gpu\n", f"environment: gpu {HERE}\n"),
        ),
        "only-of-the-stop": spoil(
            WHOLE,
            (HANDED, "    secrets:\n      GPU_GITHUB_TOKEN: ${{ secrets.PAT }}\n"),
            ("      environment: gpu\n", ""),
            ("environment: gpu-stop\n", f"environment: gpu-stop {HERE}\n"),
        ),
        "beside-uses": spoil(WHOLE, ("    uses: octo", f"    environment: gpu {HERE}\n    uses: octo")),
    },
    "no-stop": {
        "none": spoil(GOOD[: GOOD.index("  stop:\n")], ("- id: rent\n", f"- id: rent {HERE}\n")),
        "only-settled": spoil(
            COMMANDS[: COMMANDS.index("  stop:\n")],
            ("run: exec runner-provisioner start", f"run: >- {HERE}\n          exec runner-provisioner start"),
        ),
        **{
            name: spoil(
                COMMANDS[: COMMANDS.index("      - if:")],
                ("exec runner-provisioner start --max-price 0.60", f"{run} {HERE}"),
            )
            for name, run in STARTS.items()
        },
        "on-the-machine": spoil(
            GOOD[: GOOD.index("  stop:\n")],
            ("- id: rent\n", f"- id: rent {HERE}\n"),
            (TRAIN_STEP, TRAIN_STEP + "      - if: always()\n        run: exec runner-provisioner stop --key train\n"),
        ),
        "one-of-two": spoil(GOOD, ("  stop:\n", SECOND_START.replace("KEY", "other"))),
        "settled-without-a-gpu-job": f"""\
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    steps:
      - id: rent
        run: exec runner-provisioner start {HERE}
      - if: always() && steps.rent.outcome != 'success'
        run: exec runner-provisioner stop
""",
        "before-the-start": f"""\
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    steps:
      - if: always()
        run: exec runner-provisioner stop
      - run: exec runner-provisioner start {HERE}
""",
    },
    "stop-not-always": {
        "no-condition": spoil(with_mark_on_last_uses(), ("    if: always()\n", "")),
        "not-cancelled": spoil(with_mark_on_last_uses(), ("always()", "${{ !cancelled() }}")),
        "failure-alone": spoil(with_mark_on_last_uses(), ("always()", "failure()")),
        "and-a-result": spoil(
            with_mark_on_last_uses(), ("always()", "${{ always() && needs.start.result != 'skipped' }}")
        ),
        "and-a-label": spoil(with_mark_on_last_uses(), ("always()", "always() && needs.start.outputs.label != ''")),
        "not-when-skipped": spoil(with_mark_on_last_uses(), ("always()", "success() || failure() || cancelled()")),
        "in-brackets": spoil(with_mark_on_last_uses(), ("always()", "(inputs.a || always()) && inputs.b")),
        "as-a-word": spoil(with_mark_on_last_uses(), ("always()", "inputs.a == 'always()'")),
        "two-expressions": spoil(with_mark_on_last_uses(), ("always()", "${{ always() }} || ${{ inputs.a }}")),
        "negated": spoil(with_mark_on_last_uses(), ("always()", "${{ !always() }}")),
        "step-condition": spoil_stop(f"      - if: success()\n        run: exec runner-provisioner stop {HERE}\n"),
        "after-a-step-that-fails": spoil_stop(
            f"      - uses: actions/checkout@v4\n      - run: ./report\n      - run: 'runner-provisioner stop' {HERE}\n"
        ),
        "same-job": f"""\
on: push
jobs:
  all:
    runs-on: ubuntu-latest
    steps:
      - run: exec runner-provisioner start
      - run: exec runner-provisioner stop {HERE}
""",
    },
    "stop-too-early": {
        "not-the-gpu-job": spoil(with_mark_on_last_uses(), ("[start, train]", "[start]")),
        "nothing": spoil(with_mark_on_last_uses(), ("    needs: [start, train]\n", "")),
        "not-the-start": f"""\
on: push
jobs:
  start:
    runs-on: ubuntu-latest
    steps:
      - run: exec runner-provisioner start
  stop:
    if: always()
    runs-on: ubuntu-latest
    steps:
      - run: exec runner-provisioner stop {HERE}
""",
    },
    "stop-key": {
        "literal": spoil_last(with_mark_on_last_uses(), "key: train", "key: trian"),
        "missing": spoil_last(with_mark_on_last_uses(), "          key: train\n", ""),
        "expression": spoil(with_mark_on_last_uses(), ("key: train", "key: ${{ inputs.key }}")),
        "settling": spoil(
            COMMANDS,
            ("        run: exec runner-provisioner stop\n", f"        run: runner-provisioner stop --key=x {HERE}\n"),
        ),
        "another-owner": spoil_last(
            spoil(with_mark_on_last_uses(), ("key: train", "key: train\n          owner: a")),
            "mode: stop\n",
            "mode: stop\n          owner: b\n",
        ),
        "another-organisation": spoil_stop(ENV_STOP.replace("stop'", "stop --organization other'"))
        .replace("start --max-price", "start --organization=octo --max-price")
        .replace(SETTLE, SETTLE.replace("stop", "stop --organization Octo"), 1),
        "another-repository": spoil_stop(ENV_STOP.replace("stop'", "stop --repository o/b'"))
        .replace("start --max-price", "start --repository o/a --max-price")
        .replace(SETTLE, SETTLE.replace("stop", "stop --repository o/a"), 1),
        "no-organisation": spoil(with_mark_on_last_uses(), ("key: train", "key: train\n          organization: octo")),
        "no-organisation-where-the-start's-is-computed": spoil(
            with_mark_on_last_uses(),
            ("key: train", "key: train\n          organization: ${{ github.repository_owner }}"),
        ),
        "no-owner": spoil(with_mark_on_last_uses(), ("key: train", "key: train\n          owner: team")),
        "no-repository": spoil(with_mark_on_last_uses(), ("key: train", "key: train\n          repository: o/a")),
        "an-owner-that-the-start-has-not": spoil_last(
            with_mark_on_last_uses(), "mode: stop\n", "mode: stop\n          owner: team\n"
        ),
        "settling-elsewhere": spoil(
            COMMANDS,
            ("start --max-price", "start --owner=$MARK --max-price"),
            (SETTLE, f"{SETTLE[:-1]} {HERE}\n"),
        ).replace(STOP_STEP, STOP_STEP.replace("stop", "stop --owner team")),
        "another-run": spoil_stop(ENV_STOP.replace("stop'", "stop --run-id 8'")).replace(
            "start --max-price", "start --run-id 7 --max-price"
        ),
        "matrix-of-another-job": f"""\
on: push
jobs:
  train:
    strategy:
      matrix:
        seed: [1, 2]
    uses: ./.github/workflows/gpu-job.yml
    with:
      key: s-${{{{ matrix.seed }}}}
  stop:
    needs: train
    if: always()
    runs-on: ubuntu-latest
    steps:
      - run: runner-provisioner stop --key "$KEY" {HERE}
        env:
          KEY: s-${{{{ matrix.seed }}}}
""",
    },
    "stop-swallowed": {
        "step": spoil(
            GOOD,
            (
                STOP_USES.replace(f" {HERE}", ""),
                STOP_USES.replace(f" {HERE}", "").replace(
                    "        with", f"        continue-on-error: true {HERE}\n        with"
                ),
            ),
        ),
        "job": spoil(GOOD, ("    if: always()\n", f"    if: always()\n    continue-on-error: true {HERE}\n")),
        "or-true": spoil_stop(f"      - run: runner-provisioner stop || true {HERE}\n"),
        "or-colon": spoil_stop(f"      - run: 'runner-provisioner stop || :' {HERE}\n"),
        "or-echo": spoil_stop(f"      - run: 'runner-provisioner stop || echo failed' {HERE}\n"),
        "or-exit-0": spoil_stop(f"      - run: runner-provisioner stop || exit 0 {HERE}\n"),
        **{name: spoil_stop(f"      - run: '{run}' {HERE}\n") for name, run in SWALLOWED.items()},
        "then-true": spoil_stop(f"      - shell: bash {{0}}\n        run: 'runner-provisioner stop; true' {HERE}\n"),
        "pipe": spoil_stop(f"      - run: runner-provisioner stop --json | tee stopped.json {HERE}\n"),
        "background": spoil_stop(f"      - run: 'runner-provisioner stop &' {HERE}\n"),
        "set-plus-e": spoil_stop(f"      - run: | {HERE}\n          set +e\n          runner-provisioner stop\n"),
        "if-not": spoil_stop(
            f"      - run: | {HERE}\n          if ! runner-provisioner stop; then\n            true\n          fi\n"
        ),
    },
    "stop-environment": {
        "same": spoil(GOOD, ("    if: always()\n", f"    if: always()\n    environment: gpu {HERE}\n")),
        "mapping": spoil(
            GOOD, ("    if: always()\n", f"    if: always()\n    environment:\n      url: x\n      name: gpu {HERE}\n")
        ),
        "reusable": spoil(WHOLE, ("stop-environment: gpu-stop", f"stop-environment: gpu {HERE}")),
        "other-case": spoil(GOOD, ("    if: always()\n", f"    if: always()\n    environment: GPU {HERE}\n")),
        "other-blanks": spoil(
            GOOD,
            ("environment: gpu\n", "environment: ${{ inputs.where }}\n"),
            ("    if: always()\n", f"    if: always()\n    environment: ${{{{inputs.Where}}}} {HERE}\n"),
        ),
        "reusable-other-case": spoil(WHOLE, ("stop-environment: gpu-stop", f"stop-environment: Gpu {HERE}")),
    },
    "stop-provider": {
        "action": spoil(
            with_mark_on_last_uses(),
            ("          key: train\n", "          key: train\n          prime-api-key: ${{ secrets.PRIME_API_KEY }}\n"),
        ),
        "rerun": GOOD + RERUN_JOB,
        "commands": spoil(
            COMMANDS,
            ("        run: exec runner-provisioner start", f"{BOTH_KEYS}        run: exec runner-provisioner start"),
            ("        run: exec runner-provisioner stop\n", f"{BOTH_KEYS}        run: exec runner-provisioner stop\n"),
            (STOP_STEP, f"      - run: exec runner-provisioner stop {HERE}\n        env:\n          LIUM_API_KEY: x\n"),
        ),
    },
    "same-key": {
        "start": spoil(GOOD, ("  stop:\n", SECOND_START.replace("KEY", "train"))),
        "called-twice": f"""\
on: push
jobs:
  one:
    uses: ./.github/workflows/gpu-job.yml
  two:
    uses: ./.github/workflows/gpu-job.yml {HERE}
""",
    },
    "matrix-key": {
        "reusable": spoil(WHOLE, ("seed-${{ matrix.seed }}", "seed"), ("@v1\n", f"@v1 {HERE}\n")),
        "default": spoil(WHOLE, ("      key: seed-${{ matrix.seed }}\n", ""), ("@v1\n", f"@v1 {HERE}\n")),
        "one-list-of-two": spoil(WHOLE, (MATRIX, CROSS), ("@v1\n", f"@v1 {HERE}\n")),
        "one-list-of-two-in-a-job": spoil(
            GOOD[: GOOD.index("  train:\n")] + GOOD[GOOD.index("  stop:\n") :],
            (START_JOB, START_JOB + CROSS),
            ("- id: rent\n", f"- id: rent {HERE}\n"),
            ("key: train", "key: s-${{ matrix.seed }}"),
            ("[start, train]", "[start]"),
            ("    if: always()\n", "    if: always()\n" + CROSS),
            ("key: train", "key: s-${{ matrix.seed }}"),
        ),
        "of-a-list-of-objects": spoil(
            WHOLE,
            (MATRIX, "    strategy:\n      matrix:\n        leg: [{seed: 1, size: a}, {seed: 1, size: b}]\n"),
            ("matrix.seed", "matrix.leg.seed"),
            ("@v1\n", f"@v1 {HERE}\n"),
        ),
        "included-legs": spoil(
            WHOLE,
            (MATRIX, "    strategy:\n      matrix:\n        include: [{seed: 1, size: a}, {seed: 1, size: b}]\n"),
            ("@v1\n", f"@v1 {HERE}\n"),
        ),
        "an-included-leg-beside-a-list": spoil(
            WHOLE,
            (MATRIX, MATRIX + "        include: [{seed: 1, size: a}, {size: b}, {seed: 3}, {seed: 3, size: c}]\n"),
            ("@v1\n", f"@v1 {HERE}\n"),
        ),
        "of-the-run": spoil(WHOLE, ("matrix.seed", "github.run_id"), ("@v1\n", f"@v1 {HERE}\n")),
    },
    "key-varies": {
        "job": spoil(
            WHOLE, ("seed-${{ matrix.seed }}", "${{ github.job }}-${{ matrix.seed }}"), ("@v1\n", f"@v1 {HERE}\n")
        ),
        "attempt": spoil(WHOLE, ("seed-", "${{ github.run_attempt }}-"), ("@v1\n", f"@v1 {HERE}\n")),
    },
    "bad-key": {
        "of-a-watch": f"on: push\njobs:\n  a:\n    steps:\n      - run: runner-provisioner watch --key A {HERE}\n",
        "upper-case": spoil(
            WHOLE[: WHOLE.index("      environment")],
            (MATRIX, ""),
            ("seed-${{ matrix.seed }}", "Train_1"),
            ("@v1\n", f"@v1 {HERE}\n"),
        ),
    },
    "fixed-label": {
        "rp": spoil(GOOD, (LABEL, f"    runs-on: rp-abc {HERE}\n")),
        "static": spoil(GOOD, (LABEL, f"    runs-on: [self-hosted, gpu] {HERE}\n")),
        "group": spoil(GOOD, (LABEL, f"    runs-on:\n      group: gpus\n      labels: [gpu] {HERE}\n")),
        "made-by-an-expression": spoil(
            GOOD, (LABEL, f'    runs-on: ${{{{ fromJSON(\'["self-hosted", "gpu"]\') }}}} {HERE}\n')
        ),
        "extra-alone": spoil(
            GOOD,
            ("          key: train\n", "          key: train\n          labels: a, Our-GPU\n"),
            (LABEL, f"    runs-on: our-gpu {HERE}\n"),
        ),
    },
    "other-label": {
        "self-hosted": spoil(
            GOOD, (LABEL, f"    runs-on:\n      - self-hosted {HERE}\n      - ${{{{ needs.start.outputs.label }}}}\n")
        ),
        "made-by-format": spoil(
            GOOD,
            (
                LABEL,
                LISTED.replace("WORDS", '["self-hosted", "{0}"]') + f" {HERE}\n",
            ),
        ),
        "made-by-format-with-a-group": spoil(
            GOOD,
            (
                LABEL,
                LISTED.replace("WORDS", '{{"group": "g", "labels": ["{0}", "gpu"]}').replace(
                    "runs-on: ", f"runs-on: >- {HERE}\n      "
                )
                + "\n",
            ),
        ),
        "not-added": spoil(
            GOOD, (LABEL, f"    runs-on:\n      - ${{{{ needs.start.outputs.label }}}}\n      - our-gpu {HERE}\n")
        ),
        "unknown-labels": spoil(
            GOOD,
            ("          key: train\n", "          key: train\n          labels: ${{ vars.LABELS }}\n"),
            (LABEL, f"    runs-on:\n      - x\n      - Linux {HERE}\n      - ${{{{ needs.start.outputs.label }}}}\n"),
        ),
    },
    "matrix-label": {
        "legs-share": spoil(GOOD, (LABEL, MATRIX + LABEL.replace("\n", f" {HERE}\n"))),
        "legs-overwrite": spoil(
            GOOD,
            (START_JOB, START_JOB + MATRIX),
            ("key: train", "key: train-${{ matrix.seed }}"),
            ("    if: always()\n", "    if: always()\n" + MATRIX),
            ("key: train\n", "key: train-${{ matrix.seed }}\n"),
            (LABEL, LABEL.replace("\n", f" {HERE}\n")),
        ),
        "two-jobs": spoil(GOOD, ("  stop:\n    needs: [start, train]\n", OTHER_GPU_JOB)),
    },
    "step-timeout": {
        "start": spoil(GOOD, ("- id: rent\n", f"- id: rent\n        timeout-minutes: 20 {HERE}\n")),
        **{
            mode: f"on: push\njobs:\n  a:\n    steps:\n      - uses: octo/runner_provisioner@v1\n"
            f"        timeout-minutes: 5 {HERE}\n        with: {{mode: {mode}}}\n"
            for mode in ("rerun", "watch", "cleanup")
        },
        "stop": spoil_last(GOOD, "        with:\n", f"        timeout-minutes: 5 {HERE}\n        with:\n"),
    },
    "no-exec": {
        "rerun": f"on: push\njobs:\n  a:\n    steps:\n      - run: runner-provisioner rerun --attempt 1 {HERE}\n",
        "plain": spoil(
            COMMANDS, ("run: exec runner-provisioner start --max-price 0.60", f"run: runner-provisioner start {HERE}")
        ),
        "not-last": spoil(
            COMMANDS,
            (
                "run: exec runner-provisioner start --max-price 0.60",
                f"run: | {HERE}\n          exec runner-provisioner start\n          echo x",
            ),
        ),
    },
    "pull-request-target": {
        "rerun": f"on: pull_request_target {HERE}\njobs:\n  a:\n    steps:\n"
        "      - run: exec runner-provisioner rerun --attempt 1\n",
        "list": spoil(GOOD, ("on: workflow_dispatch", f"on: [push, pull_request_target] {HERE}")),
        "mapping": spoil(GOOD, ("on: workflow_dispatch", f"on:\n  pull_request_target: {HERE}\n    types: [labeled]")),
        "reusable": spoil(WHOLE, ("on: push", f"on: pull_request_target {HERE}")),
        "allowed-without-environment": spoil(
            GOOD,
            ("on: workflow_dispatch", f"on: pull_request_target {HERE}"),
            ("    environment: gpu\n", ""),
            ("          key: train\n", "          key: train\n          allow-untrusted: true\n"),
        ),
    },
    "stranger-trigger": {
        "comment": spoil(GOOD, ("on: workflow_dispatch", f"on: [push, issue_comment] {HERE}")),
        "comment-mapping": spoil(
            GOOD, ("on: workflow_dispatch", f"on:\n  issue_comment: {HERE}\n    types: [created]")
        ),
        "run": spoil(GOOD, ("on: workflow_dispatch", f"on:\n  workflow_run: {HERE}\n    workflows: [CI]")),
        "run-whole": spoil(WHOLE, ("on: push", f"on:\n  workflow_run: {HERE}\n    workflows: [CI]")),
        **{
            name: spoil(
                GOOD,
                ("on: workflow_dispatch", f"on: [{event}] {HERE}"),
                (START_JOB, START_JOB + f"    if: >-\n      {condition}\n"),
            )
            for name, (event, condition) in LET_IN.items()
        },
        "run-that-asks-something-else": spoil(
            GOOD,
            ("on: workflow_dispatch", f"on:\n  workflow_run: {HERE}\n    workflows: [CI]"),
            (START_JOB, START_JOB + "    if: github.event.workflow_run.conclusion == 'success'\n"),
        ),
    },
    "no-cleanup": {
        "unscheduled": "on: push\njobs:\n  cleanup:\n    uses: ./.github/workflows/cleanup.yml\n"
        + spoil(WHOLE, ("on: push\njobs:\n", ""), ("@v1\n", f"@v1 {HERE}\n")),
    },
    "cleanup-environment": {
        "reusable": CLEANUP.replace("@v1\n", f"@v1 {HERE}\n") + WHOLE[WHOLE.index("  train:") :],
        "step": CLEANUP[: CLEANUP.index("    uses")]
        + f"    steps:\n      - run: runner-provisioner cleanup {HERE}\n"
        + WHOLE[WHOLE.index("  train:") :],
        "beside-a-stop": CLEANUP.replace("@v1\n", f"@v1 {HERE}\n")
        + spoil(
            GOOD[GOOD.index("  start:") :], ("    if: always()\n", "    if: always()\n    environment: gpu-stop\n")
        ),
    },
    "cleanup-provider": {
        "narrowed": CLEANUP[: CLEANUP.index("    uses")]
        + f"    steps:\n      - run: runner-provisioner cleanup --provider celium {HERE}\n"
        + BOTH_KEYS
        + GOOD[GOOD.index("  start:") :],
        "step": CLEANUP[: CLEANUP.index("    uses")]
        + f"    steps:\n      - run: runner-provisioner cleanup {HERE}\n{ONE_KEY}"
        + GOOD[GOOD.index("  start:") :],
        "reusable": CLEANUP.replace("@v1\n", f"@v1 {HERE}\n    secrets:\n      PRIME_API_KEY: x\n")
        + WHOLE[WHOLE.index("  train:") :]
        .replace(HANDED, "    secrets:\n      RUNPOD_API_KEY: x\n")
        .replace("      stop-environment: gpu-stop\n", "")
        .replace("      environment: gpu\n", ""),
    },
    "rerun-failed": {
        "first-attempt": spoil(GOOD, (START_JOB, START_JOB + f"    if: github.run_attempt == 1 {HERE}\n")),
        "first-attempt-step": spoil(
            GOOD, ("- id: rent\n", f"- id: rent\n        if: ${{{{ github.run_attempt == 1 }}}} {HERE}\n")
        ),
    },
}
CASES = [(check, name) for check, cases in BAD.items() for name in cases]


@pytest.mark.parametrize(("check", "name"), CASES, ids=[f"{check}-{name}" for check, name in CASES])
def test_a_fault_is_found_where_it_is(check: str, name: str) -> None:
    """The one thing that is wrong is found once, on its line, and nothing else."""
    text = BAD[check][name]
    found = [
        one
        for one in look(text, cleanup=check not in {"no-cleanup", "cleanup-provider"})
        if (check, one.check.id) != ("no-cleanup", "rerun-failed")
    ]
    assert [(one.check.id, one.line) for one in found] == [(check, line) for line in marked(text)]


EXTRA_LABEL_ALONE = """\
on: push
jobs:
  start:
    runs-on: ubuntu-latest
    steps:
      - run: exec runner-provisioner start --label our-gpu
      - if: always()
        run: exec runner-provisioner stop
  train:
    runs-on: our-gpu
    timeout-minutes: 5
    container: x
"""


def test_a_job_with_a_fixed_label_is_a_gpu_job_too() -> None:
    """What asks for the further label of a start runs on its machine."""
    found = [(one.check.id, one.line) for one in look(EXTRA_LABEL_ALONE)]
    assert found == [("fixed-label", 10), ("container", 12)]


OTHER_STOP = GOOD.replace("name: train", "name: bake").replace("runpod-api-key", "prime-api-key")
BOTH_AT_STOP = GOOD.replace("          runpod-api-key", "          celium-api-key: x\n          runpod-api-key")
WHOLE_JOB = WHOLE.replace(HANDED, "      provider: PROVIDER\n    secrets:\n      RUNPOD_API_KEY: x\nMORE")


@pytest.mark.parametrize(
    ("followed", "others", "found"),
    [
        pytest.param("[train]", {"mine": GOOD, "bake": OTHER_STOP}, "CELIUM_API_KEY", id="by-name"),
        pytest.param("train", {"mine": GOOD, "bake": OTHER_STOP}, "CELIUM_API_KEY", id="a-single-name"),
        pytest.param(
            "[.github/workflows/mine.yml]",
            {"mine": GOOD.replace("name: train\n", ""), "bake": OTHER_STOP},
            "CELIUM_API_KEY",
            id="by-file",
        ),
        pytest.param("[train]", {"mine": BOTH_AT_STOP, "bake": OTHER_STOP}, None, id="others-stop-their-own"),
        pytest.param("[nobody]", {"mine": GOOD, "bake": OTHER_STOP}, None, id="one-that-is-not-there"),
        pytest.param(
            None, {"mine": BOTH_AT_STOP, "bake": OTHER_STOP}, "CELIUM_API_KEY and RUNPOD_API_KEY", id="any-run"
        ),
        pytest.param(
            "[whole]",
            {"whole": "name: whole\n" + WHOLE_JOB.replace("PROVIDER", "").replace("MORE", "")},
            "CELIUM_API_KEY",
            id="a-whole-job",
        ),
        pytest.param(
            "[whole]",
            {
                "whole": "name: whole\n"
                + WHOLE_JOB.replace("PROVIDER", "runpod").replace("MORE", "      CELIUM_API_KEY: x\n")
            },
            None,
            id="a-whole-job-stops-with-all-its-keys",
        ),
    ],
)
def test_a_rerun_is_held_against_the_stops_of_the_runs_that_it_follows(
    followed: str | None, others: dict[str, str], found: str | None
) -> None:
    """Those of other workflows never see what it rents."""
    trigger = "on: workflow_dispatch" if followed is None else f"on:\n  workflow_run:\n    workflows: {followed}"
    text = f"name: again\n{trigger}\njobs:\n{RERUN_JOB}"
    said = [one.message for one in look(text, cleanup=True, **others) if one.check.id == "stop-provider"]
    assert [f"give the stop {found} too" in one for one in said] == [True] * (found is not None)


def test_the_variables_of_keys_are_those_of_the_plug_ins() -> None:
    """All of them, the one that a message names first."""
    plugins = (runpod_plugin.PLUGIN, prime_plugin.PLUGIN, celium_plugin.PLUGIN)
    assert {one.name: one.credentials for one in plugins} == MARKETS
    own = {point.name for point in entry_points(group=GROUP) if point.value.startswith("runner_provisioner.")}
    assert own == MARKETS.keys()


def test_every_check_is_tried() -> None:
    """The table above leaves out no check."""
    assert set(BAD) == {check.id for check in CHECKS}


@pytest.mark.parametrize(("check", "name"), CASES, ids=[f"{check}-{name}" for check, name in CASES])
def test_a_finding_says_what_to_do(check: str, name: str) -> None:
    """One line that can be printed anywhere, with a remedy after the last colon, semicolon or comma."""
    for finding in look(BAD[check][name], cleanup=False):
        assert len(finding.message.splitlines()) == 1
        assert any(sign in finding.message for sign in ":;,")
        assert not finding.message.endswith(".")


def test_a_failed_job_cannot_be_run_again_alone() -> None:
    """Without a clean-up that would cancel it, 'Re-run failed jobs' waits for a runner that is gone."""
    for text, line in ((GOOD, GOOD.splitlines().index("  train:") + 1), (WHOLE, 3)):
        found = look(text, cleanup=False)
        assert ("rerun-failed", line) in [(one.check.id, one.line) for one in found]
        assert {one.check.id for one in found} == {"rerun-failed", "no-cleanup"}
