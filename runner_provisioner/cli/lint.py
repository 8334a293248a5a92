"""`lint`: find what breaks or leaks in workflows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from runner_provisioner.errors import ConfigurationError, InvalidRequest, OutputLost, WorkflowFaults

if TYPE_CHECKING:
    from runner_provisioner.lint.findings import Finding

WORKFLOWS: Final = Path(".github", "workflows")


@click.command("lint")
@click.argument("files", type=click.Path(path_type=Path, dir_okay=False, exists=True), nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(*, files: tuple[Path, ...], as_json: bool, debug: bool) -> None:  # noqa: ARG001 - read where errors are shown
    """Find what breaks or leaks in workflow FILES (default: those of .github/workflows).

    Needs no account and changes nothing. Exit code 0: no errors, perhaps warnings. 60: errors were found.
    """
    _need_yaml()
    from runner_provisioner.lint.checking import check_workflows  # noqa: PLC0415 - not needed for --help

    chosen = list(files) or _workflows_in(WORKFLOWS)
    if not chosen:
        raise InvalidRequest(f"there are no workflows in {WORKFLOWS}: go to the repository's folder, or name the files")
    folders = dict.fromkeys([*(path.parent for path in chosen), WORKFLOWS])
    others = [path for folder in folders for path in _workflows_in(folder)]
    findings = check_workflows(_texts(chosen), context=_texts(_new(others, chosen)))
    _show(findings, chosen, as_json=as_json)
    if errors := sum(one.severity == "error" for one in findings):
        raise WorkflowFaults(f"{errors} of the findings break or leak: correct them as their lines say")


def _need_yaml() -> None:
    try:
        import yaml  # noqa: F401, PLC0415 - looked for, not used
    except ImportError:
        raise ConfigurationError(
            "lint needs the package PyYAML, which is missing: install runner-provisioner again, or PyYAML"
        ) from None


def _workflows_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in {".yml", ".yaml"} and path.is_file())


def _new(paths: Iterable[Path], known: Sequence[Path]) -> list[Path]:
    places = {path.resolve() for path in known}
    return [path for path in paths if path.resolve() not in places]


def _texts(paths: Iterable[Path]) -> dict[str, str]:
    return {_shown(path): _text(path) for path in paths}


def _shown(path: Path) -> str:
    """The name as it can be printed on one line: in Actions a line of its own could be a workflow command."""
    return "".join(letter if letter.isprintable() else "?" for letter in path.as_posix())


def _text(path: Path) -> str:
    try:
        # What is not UTF-8 becomes a character that YAML forbids, and so a finding like other malformed files.
        return path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from None


def _show(findings: Sequence[Finding], files: Sequence[Path], *, as_json: bool) -> None:
    import json  # noqa: PLC0415 - not needed for --help

    errors = sum(one.severity == "error" for one in findings)
    if as_json:
        data = {
            "files": [_shown(path) for path in files],
            "errors": errors,
            "warnings": len(findings) - errors,
            "findings": [
                {
                    "id": one.check.id,
                    "severity": one.severity.value,
                    "message": one.message,
                    "file": one.file,
                    "line": one.line,
                }
                for one in findings
            ],
        }
        _print([json.dumps(data, indent=2)])
    else:
        _print([str(one) for one in findings])
    click.echo(f"{errors} errors and {len(findings) - errors} warnings in {len(files)} files", err=True)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for one in findings:
            click.echo(one.annotation, err=True)


def _print(lines: Sequence[str]) -> None:
    try:
        for line in lines:
            click.echo(line)
    except OSError as error:
        raise OutputLost(f"the findings could not be written to standard output ({error.strerror})") from error
