"""Workflows for the tests of the workflow check: one that is right, and ways to spoil it."""

from __future__ import annotations

from runner_provisioner.lint.checking import check_workflows
from runner_provisioner.lint.findings import Finding

HERE = "# HERE"
ACTION = "octo/runner_provisioner@v1"

GOOD = """\
name: train
on: workflow_dispatch
jobs:
  start:
    runs-on: ubuntu-latest
    environment: gpu
    outputs:
      label: ${{ steps.rent.outputs.label }}
    steps:
      - id: rent
        uses: octo/runner_provisioner@v1
        with:
          key: train
          runpod-api-key: ${{ secrets.RUNPOD_API_KEY }}
  train:
    needs: start
    runs-on: ${{ needs.start.outputs.label }}
    timeout-minutes: 60
    steps:
      - uses: actions/checkout@v4
      - run: nvidia-smi
  stop:
    needs: [start, train]
    if: always()
    runs-on: ubuntu-latest
    steps:
      - uses: octo/runner_provisioner@v1
        with:
          mode: stop
          key: train
          runpod-api-key: ${{ secrets.RUNPOD_API_KEY }}
"""

COMMANDS = """\
name: train
on: [workflow_dispatch]
jobs:
  start:
    runs-on: ubuntu-latest
    outputs:
      label: ${{ steps.rent.outputs.label }}
    steps:
      - id: rent
        run: exec runner-provisioner start --max-price 0.60
      - if: ${{ always() && steps.rent.outcome != 'success' }}
        run: exec runner-provisioner stop
  train:
    needs: [start]
    runs-on: ["${{ needs.start.outputs.label }}"]
    timeout-minutes: 60
    steps:
      - run: nvidia-smi
  stop:
    needs: [start, train]
    if: ${{ always() }}
    runs-on: ubuntu-latest
    steps:
      - run: exec runner-provisioner stop
"""

WHOLE = """\
on: push
jobs:
  train:
    strategy:
      matrix:
        seed: [1, 2]
    uses: octo/runner_provisioner/.github/workflows/gpu-job.yml@v1
    with:
      key: seed-${{ matrix.seed }}
      environment: gpu
      stop-environment: gpu-stop
    secrets: inherit
"""

CLEANUP = """\
on:
  schedule:
    - cron: "17 * * * *"
jobs:
  cleanup:
    uses: octo/runner_provisioner/.github/workflows/cleanup.yml@v1
"""


def spoil(text: str, *changes: tuple[str, str]) -> str:
    """The text with each first occurrence replaced; what is not there is a mistake in the test."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def spoil_last(text: str, old: str, new: str) -> str:
    """The text with the last occurrence replaced."""
    before, found, after = text.rpartition(old)
    assert found, old
    return before + new + after


def look(text: str, *, cleanup: bool = True, **others: str) -> list[Finding]:
    """The findings in one workflow of a repository that cleans up; `others` are its further workflows, by name."""
    context = {f".github/workflows/{name}.yml": other for name, other in others.items()}
    if cleanup:
        context[".github/workflows/gpu-cleanup.yml"] = CLEANUP
    return check_workflows({".github/workflows/train.yml": text}, context=context)


def marked(text: str) -> list[int]:
    """The lines that bear the mark."""
    return [number for number, line in enumerate(text.splitlines(), 1) if HERE in line]
