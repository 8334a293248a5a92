"""`runner-provisioner lint` on files: what it prints, where, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from support.lint import CLEANUP, COMMANDS, GOOD, spoil

from runner_provisioner.cli import app

Lint = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]
BAD = spoil(GOOD, ("    timeout-minutes: 60\n", ""))


@pytest.fixture
def lint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lint:
    """Run the command in an empty repository; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    (tmp_path / ".github/workflows").mkdir(parents=True)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = app.run(["lint", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def write(folder: Path, **files: str) -> None:
    """Put workflows where GitHub looks for them."""
    for name, text in files.items():
        (folder / ".github/workflows" / f"{name}.yml").write_text(text, "utf-8")


def test_workflows_that_are_right_end_with_zero(lint: Lint, tmp_path: Path) -> None:
    """Nothing on stdout, the count on stderr."""
    write(tmp_path, train=GOOD, cleanup=CLEANUP)
    assert lint() == (0, "", "0 errors and 0 warnings in 2 files\n")


def test_faults_end_with_a_code_of_their_own(lint: Lint, tmp_path: Path) -> None:
    """Each finding is a line on stdout; the error says what to do."""
    write(tmp_path, train=BAD, cleanup=CLEANUP)
    code, out, err = lint()
    assert code == 60
    assert out.startswith(".github/workflows/train.yml:15: error: job 'train'")
    assert out.endswith("[no-timeout]\n")
    assert out.count("\n") == 1
    assert err.splitlines()[0] == "1 errors and 0 warnings in 2 files"
    assert err.splitlines()[1].startswith("error: ")


def test_warnings_alone_end_with_zero(lint: Lint, tmp_path: Path) -> None:
    """They are shown and fail nothing."""
    write(tmp_path, train=GOOD)
    code, out, _ = lint()
    assert code == 0
    assert "[no-cleanup]" in out
    assert "[rerun-failed]" in out


def test_other_workflows_of_the_repository_are_looked_at(lint: Lint, tmp_path: Path) -> None:
    """A named file is judged with the clean-up that stands beside it or in .github/workflows, which is not judged."""
    write(tmp_path, cleanup=CLEANUP, broken="[")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/train.yaml").write_text(COMMANDS, "utf-8")
    assert lint("examples/train.yaml")[0:2] == (0, "")
    assert lint("./.github/workflows/cleanup.yml")[0:2] == (0, "")


def test_json_holds_everything(lint: Lint, tmp_path: Path) -> None:
    """Files, counts and findings with id, severity, message, file and line."""
    write(tmp_path, train=BAD)
    code, out, _ = lint("--json")
    data = json.loads(out)
    assert code == 60
    assert data["files"] == [".github/workflows/train.yml"]
    assert (data["errors"], data["warnings"]) == (1, 2)
    assert [(one["id"], one["severity"], one["line"]) for one in data["findings"]] == [
        ("no-cleanup", "warning", 10),
        ("no-timeout", "error", 15),
        ("rerun-failed", "warning", 15),
    ]
    assert all(one["file"] == ".github/workflows/train.yml" and one["message"] for one in data["findings"])


def test_json_of_nothing_is_an_empty_list(lint: Lint, tmp_path: Path) -> None:
    """Also when all is well there is one object."""
    write(tmp_path, cleanup=CLEANUP)
    assert json.loads(lint("--json")[1])["findings"] == []


def test_in_actions_findings_are_annotations(lint: Lint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each on stderr with its file and line, so that --json stays JSON."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    write(tmp_path, train=BAD)
    _, out, err = lint("--json")
    json.loads(out)
    place = "file=.github/workflows/train.yml,line="
    assert f"::error {place}15,title=no-timeout::job 'train'" in err
    assert f"::warning {place}10,title=no-cleanup::" in err


def test_a_file_name_cannot_say_anything_to_the_runner(
    lint: Lint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull request may bring a file whose name holds a line of its own."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    write(tmp_path, **{"a\n::stop-commands::x\n": "["})
    code, out, err = lint()
    assert code == 60
    assert not [line for line in (out + err).splitlines() if line.startswith("::stop-commands")]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"a: \xe4\n", b"a: [\n", b""], ids=["utf-16", "latin-1", "cut", "empty"]
)
def test_a_malformed_file_is_one_finding(lint: Lint, tmp_path: Path, content: bytes) -> None:
    """It names the file and a line."""
    (tmp_path / "bad.yml").write_bytes(content)
    code, out, _ = lint("bad.yml")
    assert code == 60
    assert len(out.splitlines()) == 1
    assert out.startswith("bad.yml:")


def test_a_byte_order_mark_is_no_fault(lint: Lint, tmp_path: Path) -> None:
    """Windows editors write one."""
    write(tmp_path, cleanup=CLEANUP)
    (tmp_path / "train.yml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert lint("train.yml")[0:2] == (0, "")


def test_without_workflows_it_says_where_to_go(lint: Lint) -> None:
    """Nothing to check is a mistake of the caller."""
    code, out, err = lint()
    assert (code, out) == (2, "")
    assert "name the files" in err


def test_a_missing_file_is_the_callers_mistake(lint: Lint) -> None:
    """As with every other argument."""
    code, _, err = lint("nowhere.yml")
    assert code == 2
    assert "nowhere.yml" in err


def test_a_file_that_cannot_be_read_is_named(lint: Lint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, no traceback."""
    write(tmp_path, train=GOOD)

    def refuse(_path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, _, err = lint()
    assert code == 2
    assert err.startswith("error: .github/workflows/train.yml cannot be read: Input/output error")


def test_a_full_disk_is_said(lint: Lint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings that nobody gets are no success."""
    write(tmp_path, train=GOOD)
    echo = click.echo

    def full(message: str, *, err: bool = False) -> None:
        if not err:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        echo(message, err=err)

    monkeypatch.setattr(click, "echo", full)
    monkeypatch.setattr(app, "_drop_stdout", lambda: None)  # pytest's own stdout goes on
    code, _, err = lint()
    assert code == 74
    assert "No space left" in err


def test_without_its_reader_of_yaml_it_says_what_to_install(lint: Lint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is one line."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    code, _, err = lint()
    assert code == 2
    assert (
        err == "error: lint needs the package PyYAML, which is missing: install runner-provisioner again, or PyYAML\n"
    )


def test_the_projects_own_workflows_are_right() -> None:
    """What the project ships breaks none of its own rules, seen from a process of its own."""
    files = [
        str(path) for folder in ("examples", ".github/workflows") for path in sorted((ROOT / folder).glob("*.yml"))
    ]
    done = subprocess.run(
        [sys.executable, "-m", "runner_provisioner", "lint", *files],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
