"""A start command is read back from the line that it was made into."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner_provisioner.providers.celium.start_command import ENTRYPOINT, StartLine, command_of, start_line


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_command_comes_back(command: str) -> None:
    """As it was given."""
    assert command_of(start_line(command, {})) == command


def test_one_that_hides_a_variable_does_not_come_back_without_it() -> None:
    """It would be another start elsewhere."""
    assert command_of(start_line("run", {"A": "it's"})) is None


@pytest.mark.parametrize(
    ("entrypoint", "startup"),
    [
        pytest.param("", "python -m http.server", id="a line of somebody else"),
        pytest.param("sh", start_line("run", {}).startup, id="another entrypoint"),
        pytest.param(ENTRYPOINT, "bash -O lastpipe -c 'echo Zm9v|base64 -d|exec bash'", id="another script"),
        pytest.param(ENTRYPOINT, "bash -O lastpipe -c 'echo /|base64 -d|exec bash'", id="no base64"),
        pytest.param(
            ENTRYPOINT,
            f"bash -O lastpipe -c 'echo {base64.b64encode(bytes([255])).decode()}|base64 -d|exec bash'",
            id="no text",
        ),
    ],
)
def test_what_was_made_by_others_is_not_guessed_at(entrypoint: str, startup: str) -> None:
    """None."""
    assert command_of(StartLine(entrypoint=entrypoint, startup=startup, environment={})) is None
