"""Whole workflows that use the action, each job where it belongs."""

from __future__ import annotations

from support.action_stage import SetUpAction
from support.action_workflow import Playing

from runner_provisioner.cli.demo import start_options

MATRIX = """\
name: matrix
on: workflow_dispatch
env:
  KEY_PREFIX: leg
jobs:
  start-small: &start
    runs-on: ubuntu-latest
    outputs:
      label: ${{ steps.gpu.outputs.label }}
    steps:
      - uses: actions/checkout@v4
      - id: gpu
        uses: ./
        with:
          runpod-api-key: ${{ secrets.RUNPOD_API_KEY }}
          github-app-id: ${{ vars.APP_ID }}
          github-app-private-key: ${{ secrets.APP_PRIVATE_KEY }}
          key: ${{ env.KEY_PREFIX }}-${{ github.job == 'start-small' && 'a' || 'b' }}
          RUN_AS
  gpu:
    needs: start-small
    runs-on: ${{ needs.start-small.outputs.label }}
    outputs:
      loss: ${{ steps.fit.outputs.loss }}
    steps:
      - id: fit
        run: echo "loss=0.03" >> "$GITHUB_OUTPUT"
  report:
    needs: gpu
    runs-on: ubuntu-latest
    steps:
      - env:
          LOSS: ${{ needs.gpu.outputs.loss }}
        run: echo "the loss is $LOSS"
  stop:
    needs: [start-small, gpu]
    if: always()
    runs-on: ubuntu-latest
    steps:
      - uses: ./
        with:
          mode: stop
          runpod-api-key: ${{ secrets.RUNPOD_API_KEY }}
          github-app-id: ${{ vars.APP_ID }}
          github-app-private-key: ${{ secrets.APP_PRIVATE_KEY }}
          key: ${{ env.KEY_PREFIX }}-a
"""


def test_a_workflow_from_its_first_job_to_its_last(set_up_action: SetUpAction) -> None:
    """Outputs travel from the start to the GPU job and on; nothing is left at the end."""
    stage = set_up_action()
    options = start_options(stage.world.host)
    text = MATRIX.replace("&start", "").replace("RUN_AS", f"run-as: {options[1] if options else 'user'}")
    playing = Playing(stage=stage, text=text, secrets=stage.secrets, variables={"APP_ID": "4711"})
    ends = playing.play()
    assert set(ends.values()) == {"success"}, playing.told
    assert "the loss is 0.03" in playing.jobs["report"].log.text
    assert (playing.jobs["start-small"].workspace / "action.yml").is_file()
    stage.stage.gone(pods=1)
