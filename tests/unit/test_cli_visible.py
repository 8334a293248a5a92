"""What is printed shows all of itself, and in the action speaks of inputs."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import click
import pytest

from runner_provisioner.cli.app import cli, run, say_error
from runner_provisioner.cli.inputs import IN_ACTION, with_inputs
from runner_provisioner.cli.session import Session
from runner_provisioner.cli.visible import visible
from runner_provisioner.domain.bids import Bid, BidForm
from runner_provisioner.domain.ladder import check
from runner_provisioner.domain.offers import GpuRequest, Interruptible
from runner_provisioner.errors import InvalidRequest, KeyInUse, RunnerGroupInvisible, UnknownGpu
from runner_provisioner.settings import Settings

HOSTILE = {
    "bidi": ("host \u202egnp.exe", "host \ufffdgnp.exe"),
    "isolate": ("\u2066a\u2069", "\ufffda\ufffd"),
    "zero-width": ("a\u200bb\u200dc", "a\ufffdb\ufffdc"),
    "escape": ("\x1b]0;title\x07", "\ufffd]0;title\ufffd"),
    "carriage-return": ("all well\rfailed", "all well\ufffdfailed"),
    "next-line": ("a\x85b\u2028c", "a\ufffdb\ufffdc"),
    "command": ("##[add-mask]label", "## [add-mask]label"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_what_hides_or_turns_text_is_shown_as_a_sign(text: str, shown: str) -> None:
    """And nothing else is changed."""
    assert visible(text) == shown
    assert visible("Größe 3 °C\n\t漢字 ok") == "Größe 3 °C\n\t漢字 ok"


@pytest.mark.parametrize(("text", "_shown"), HOSTILE.values(), ids=HOSTILE)
def test_annotations_and_talk_hide_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str, _shown: str
) -> None:
    """Errors, warnings, lines of progress and results."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    session = Session(settings=Settings.read({"GITHUB_ACTIONS": "true"}, home=tmp_path, cwd=tmp_path), as_json=False)
    session.warn(f"one: {text}\n::error::forged")
    session.talk(f"two: {text}")
    session.show({}, lines=[f"three: {text}"])
    say_error(f"four: {text}")
    told = capsys.readouterr()
    for bad in ("\u202e", "\u2066", "\u200b", "\x1b", "\r", "\x85", "\u2028", "##["):
        assert bad not in told.out + told.err
    assert "\n::error::forged" not in told.err
    assert [line for line in told.err.splitlines() if line.startswith("::")] == [
        line for line in told.err.splitlines() if line.startswith("::") and " title=runner-provisioner::" in line
    ]


START = cli.get_command(click.Context(cli), "start")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        pytest.param("Invalid value for '--max-price': x", "Invalid value for input 'max-price': x", id="click"),
        pytest.param("--disk 0: give at least 1", "input 'disk' 0: give at least 1", id="request"),
        pytest.param("--label 'a,b': no", "input 'extra-labels' 'a,b': no", id="renamed"),
        pytest.param("set RUNPOD_API_KEY now", "set input 'runpod-api-key' now", id="credential"),
        pytest.param("lower --bid or raise --max-price", "lower input 'bid' or raise input 'max-price'", id="two"),
        pytest.param("image 'a--bid' and --unheard", "image 'a--bid' and --unheard", id="no option of start"),
        pytest.param("GITHUB_APP_ID_X and X--bid", "GITHUB_APP_ID_X and X--bid", id="part of a word"),
    ],
)
def test_messages_name_inputs(message: str, told: str) -> None:
    """Options of the command that was called, and the variables of credentials."""
    assert with_inputs(message, START) == told


@pytest.mark.parametrize(
    ("error", "name"),
    [
        pytest.param(UnknownGpu("RunPod has no GPU 'x'"), "gpu", id="gpu"),
        pytest.param(RunnerGroupInvisible("acme may not use a runner group 'x'"), "runner-group", id="group"),
        pytest.param(KeyInUse("this run has it: give another (--key)"), "key", id="key"),
    ],
)
def test_what_a_service_says_no_to_names_its_input(error: Exception, name: str) -> None:
    """Once, where the message itself names none."""
    assert with_inputs(str(error), START, error).count(f"input '{name}'") == 1


def test_an_unknown_command_has_no_options() -> None:
    """And its message stays."""
    assert with_inputs("--bid 1", None) == "--bid 1"


@pytest.mark.parametrize("in_action", [True, False], ids=["action", "terminal"])
def test_the_command_line_keeps_its_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, in_action: bool
) -> None:
    """Only the scripts of the action change the words."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv(IN_ACTION, "true" if in_action else "")
    assert run(["start", "--max-price=cheap"]) == 2
    line = next(one for one in capsys.readouterr().err.splitlines() if one.startswith("::error"))
    assert ("input 'max-price'" in line) is in_action
    assert ("--max-price" in line) is not in_action
    assert ("--help" in line) is not in_action


WISH = GpuRequest(models=("A4000",), count=1, interruptible=Interruptible.PREFER, max_price=Decimal(1))


@pytest.mark.parametrize(
    ("wish", "option"),
    [
        pytest.param(replace(WISH, count=0), "--gpu-count", id="count"),
        pytest.param(replace(WISH, max_price=Decimal(0)), "--max-price", id="price"),
        pytest.param(replace(WISH, bid=Bid(form=BidForm.ABSOLUTE, amount=Decimal(0))), "--bid", id="bid"),
    ],
)
def test_what_no_market_can_serve_names_its_option(wish: GpuRequest, option: str) -> None:
    """As the other refusals do."""
    with pytest.raises(InvalidRequest, match=f"^{option} "):
        check(wish)
