"""What the documentation says about itself and about the command line."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import click
import pytest

from runner_provisioner.cli.app import cli
from runner_provisioner.errors import RunnerProvisionerError
from runner_provisioner.simulators.demo.cast import cast
from runner_provisioner.simulators.workflow import load_workflow

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
README_LINES = 60
PROGRAM = "runner-provisioner"

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(rf"(?:^|(?<=&& )|(?<=; )|(?<=exec )|(?<=run: )|/){PROGRAM}(?= |$)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced and the indented blocks of a page, as (language, content)."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = [line.strip() for line in rest.splitlines() if line.startswith("    ")]
    return [*fenced, ("sh", "\n".join(indented))]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    bare = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {heading.strip().replace(" ", "-") for heading in bare}


def commands(text: str) -> list[str]:
    """Every call of the program in blocks and in spans of code."""
    lines = [line for _, block in blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found = []
    for line in [*lines, *_SPAN.findall(prose)]:
        start = _COMMAND.search(line)
        if start:
            found.append(re.split(r" (?:>|\||&&) ", line[start.end() :])[0].strip())
    return found


CALLS = [(name, call) for name, page in zip(NAMES, PAGES, strict=True) for call in commands(page.read_text("utf-8"))]
SNIPPETS = [
    (name, code)
    for name, page in zip(NAMES, PAGES, strict=True)
    for language, code in blocks(page.read_text("utf-8"))
    if language == "python"
]


WORKFLOWS = [
    (name, text)
    for name, page in zip(NAMES, PAGES, strict=True)
    for language, text in blocks(page.read_text("utf-8"))
    if language == "yaml" and ".outputs.label" in text
]


def parse(arguments: list[str]) -> None:
    """Let click read the arguments as the program would, without running anything."""
    command: click.Command = cli
    context = click.Context(cli, info_name=PROGRAM)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        found = command.get_command(context, arguments[0])
        assert found is not None, f"there is no command {arguments[0]}"
        command, arguments = found, arguments[1:]
        context = click.Context(command, info_name=command.name, parent=context)
    if not isinstance(command, click.Group) and arguments:
        command.make_context(command.name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_resolve(page: Path) -> None:
    """Every link to another page or heading of the project leads somewhere."""
    for target in _LINK.findall(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(place.read_text("utf-8")), f"{target} is no heading"


@pytest.mark.parametrize(("page", "call"), CALLS, ids=[f"{page}: {call}" for page, call in CALLS])
def test_commands_parse(page: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command line shown is one that the program accepts."""
    monkeypatch.chdir(ROOT)
    # A file that a reader would have.
    call = call.replace("my-workflow.yml", "examples/gpu-job.yml")
    try:
        parse([word for word in shlex.split(call, comments=True) if word not in {"...", "…"}])
    except (click.ClickException, RunnerProvisionerError) as error:
        pytest.fail(f"{page}: {PROGRAM} {call}: {error}")
    except click.exceptions.Exit:
        return  # --help and --version end so


def test_commands_are_found() -> None:
    """The search for commands sees those in indented blocks, fenced blocks, workflows and prose."""
    assert {name for name, _ in CALLS} >= {"README.md", "docs/how-to/run-a-gpu-job.md", "docs/how-to/clean-up.md"}


def test_unknown_options_are_noticed() -> None:
    """The check can fail."""
    with pytest.raises(click.NoSuchOption):
        parse(["start", "--no-such-option"])


@pytest.mark.parametrize("code", [code for _, code in SNIPPETS], ids=[name for name, _ in SNIPPETS])
def test_python_examples_compile(code: str) -> None:
    """Every example in Python is Python."""
    ast.parse(code)


@pytest.mark.parametrize("text", [text for _, text in WORKFLOWS], ids=[name for name, _ in WORKFLOWS])
def test_workflows_can_be_played(text: str) -> None:
    """A workflow that is shown whole has a job that starts a GPU, one that runs there, and one that stops it."""
    roles = cast(load_workflow(text))
    assert roles.gpu_jobs
    assert roles.stops


def test_readme_fits_on_a_screen() -> None:
    """The README says what it is and how to begin, and leaves the rest to the other pages."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= README_LINES
