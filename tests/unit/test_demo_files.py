"""The files and lines by which a step tells its runner something."""

from __future__ import annotations

import pytest

from runner_provisioner.simulators.demo.files import Masks, read_pairs
from runner_provisioner.simulators.demo.output import Folded


def test_outputs_are_read_in_both_forms() -> None:
    """Lines, and blocks with a delimiter, in which anything may stand."""
    text = "label=rp-x\nempty=\nurl=a=b\nlong<<EOF_1\nfirst\nsecond=x\nEOF_1\n\nnone<<END\nEND\nodd=1<<2\n"
    assert read_pairs(text) == {
        "label": "rp-x",
        "empty": "",
        "url": "a=b",
        "long": "first\nsecond=x",
        "none": "",
        "odd": "1<<2",
    }


@pytest.mark.parametrize(
    "text", [pytest.param("nonsense", id="no value"), pytest.param("a<<E\nx\n", id="no end of a block")]
)
def test_bad_outputs_are_refused(text: str) -> None:
    """As the runner fails the step."""
    with pytest.raises(ValueError, match=r"no name=value|no end 'E'"):
        read_pairs(text)


def test_masked_values_are_never_shown() -> None:
    """Nor are the lines that name them, nor other commands to the runner."""
    masks = Masks()
    assert masks.shown("a hunter2 b") == "a hunter2 b"
    assert masks.shown("::add-mask::hunter2") is None
    assert masks.shown("::add-mask::one%0Atwo%25") is None
    assert masks.shown("::error title=x::hunter2 is gone") is None
    assert masks.shown("a hunter2 b two% one") == "a *** b *** ***"
    assert masks.shown("std::vector") == "std::vector"


def test_a_step_is_shown_by_its_heading_and_its_output() -> None:
    """Its script is folded away; a group that the job itself made is not."""
    folded = Folded()
    log = ["##[group]Train", "python train.py", "##[endgroup]", "loss 1", "##[group]Mine", "inside", "##[endgroup]"]
    shown = [line for each in [*log, "##[error]failed"] for line in folded.shown(each, ("Train",))]
    assert shown == ["--- Train", "loss 1", "--- Mine", "inside", "error: failed"]
