"""The reference documentation of the command line says what the code does.

`UPDATE_DOCS=1 pytest tests/unit/test_cli_docs.py` writes the generated parts anew.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from runner_provisioner import _credentials as credentials
from runner_provisioner import errors
from runner_provisioner.cli import app
from runner_provisioner.cli.inputs import IN_ACTION
from runner_provisioner.settings import Settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
OWN_CODES = {
    0: "Done.",
    app.INTERNAL_ERROR: "A mistake of this program; please report it.",
}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(app.cli)
    for name in app.COMMANDS:
        command = app.cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", command.commands[sub]) for sub in command.commands)


def _describe(name: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    help_text = inspect.cleandoc((command.help or "").replace("\b", ""))
    lines = [f"## {name}", "", f"Usage: `{name} {usage}`", "", *help_text.splitlines(), ""]
    rows = [row for parameter in command.get_params(context) if (row := parameter.get_help_record(context))]
    if not rows:
        return lines
    return [
        *lines,
        "| option | meaning |",
        "|---|---|",
        # click remembers the names of a command's help option from its first use, whoever that was.
        *(
            f"| `{_cell('-h, --help' if option.endswith('--help') else option)}` | {_cell(text)} |"
            for option, text in rows
        ),
        "",
    ]


def _reference() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        return "\n".join(line for name, command in _commands() for line in _describe(name, command)).rstrip()


def _classes(cls: type[errors.RunnerProvisionerError]) -> Iterator[type[errors.RunnerProvisionerError]]:
    yield cls
    for one in cls.__subclasses__():
        yield from _classes(one)


def _exit_codes() -> str:
    by_code: dict[int, list[str]] = {}
    for cls in dict.fromkeys(_classes(errors.RunnerProvisionerError)):
        if cls.__module__ == errors.__name__:
            meaning = (inspect.getdoc(cls) or "").splitlines()[0]
            by_code.setdefault(cls.exit_code, []).append(f"`{cls.__name__}`: {meaning}")
    rows = {code: f"| {code} | {text} |" for code, text in OWN_CODES.items()}
    rows |= {code: f"| {code} | {'<br>'.join(texts)} |" for code, texts in by_code.items()}
    return "\n".join(["| code | what happened |", "|---|---|", *(rows[code] for code in sorted(rows))])


GENERATED = {"cli.md": _reference, "exit-codes.md": _exit_codes}
BEGIN, END = "<!-- generated from the code: begin -->\n", "\n<!-- generated from the code: end -->"


@pytest.mark.parametrize("name", GENERATED)
def test_the_generated_part_is_what_the_code_says(name: str) -> None:
    """Options with their defaults, exit codes with their errors."""
    path = REFERENCE / name
    text = path.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    written, _, after = rest.partition(END)
    wanted = GENERATED[name]()
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(before + BEGIN + wanted + END + after, "utf-8")
        written = wanted
    assert written == wanted


def test_no_two_kinds_of_trouble_share_a_code_by_accident() -> None:
    """The codes a script tells apart are apart."""
    distinct = (
        errors.ConfigurationError,
        errors.MissingCredential,
        errors.AuthenticationFailed,
        errors.PermissionDenied,
        errors.NotFound,
        errors.UnknownGpu,
        errors.RemoteError,
        errors.TransientError,
        errors.ProtocolViolation,
        errors.AllOffersFailed,
        errors.BidTooLow,
        errors.InsufficientFunds,
        errors.SpotDiscontinued,
        errors.BootTimeout,
        errors.BudgetExceeded,
        errors.KeyInUse,
        errors.LeftBehind,
        errors.SshFailed,
        errors.OutOfTime,
        errors.StoreError,
        errors.JobFailed,
        errors.OutsideSchema,
        errors.WorkflowFaults,
        errors.OutputLost,
        errors.Cancelled,
    )
    codes = [one.exit_code for one in distinct]
    assert len(set(codes)) == len(codes)
    assert {0, app.INTERNAL_ERROR}.isdisjoint(codes)


def _variables() -> set[str]:
    names = {field.alias for field in Settings.model_fields.values() if field.alias is not None}
    names |= {
        *credentials.PRIME_NAMES,
        *credentials.CELIUM_NAMES,
        *credentials.RUNPOD_NAMES,
        *credentials.GITHUB_NAMES,
        *credentials.APP_ID_NAMES,
    }
    return names | {credentials.APP_KEY, credentials.APP_KEY_PATH, credentials.APP_INSTALLATION}


def test_every_variable_that_is_read_is_documented() -> None:
    """And none that is not."""
    text = (REFERENCE / "environment.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `([A-Z_0-9]+)`", text, re.MULTILINE))
    assert documented == _variables() | {"SSH_AUTH_SOCK", IN_ACTION}


def test_the_defaults_of_the_variables_are_true() -> None:
    """Numbers in the table are those of the settings."""
    text = (REFERENCE / "environment.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(RUNNER_PROVISIONER_[A-Z_]+)` \| ([^|]*) \|", text, re.MULTILINE))
    for field in Settings.model_fields.values():
        if field.alias in rows and isinstance(field.default, int | float):
            assert rows[field.alias].strip() == f"{field.default:g}"


def test_every_command_has_json() -> None:
    """Data for programs, always."""
    without = [name for name, command in _commands() if not isinstance(command, click.Group) and not _has_json(command)]
    assert without == []


def _has_json(command: click.Command) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)
