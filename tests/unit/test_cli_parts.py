"""The parts of the command line that need no service."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import click
import pytest

from runner_provisioner.cli import app, main, ssh, ssh_keys
from runner_provisioner.cli.actions import write_outputs
from runner_provisioner.cli.options import Duration, NameValue, Price
from runner_provisioner.cli.progress import Progress
from runner_provisioner.cli.session import Session, run, run_part, table, usd, when
from runner_provisioner.cli.start import after_cancel
from runner_provisioner.domain.events import Event
from runner_provisioner.errors import Cancelled, InvalidRequest, NotFound, OutputLost, StoreError
from runner_provisioner.settings import Settings
from runner_provisioner.testing.clock import FakeClock

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN me@here"


def _settings(tmp_path: Path, **environment: str) -> Settings:
    return Settings.read(environment, home=tmp_path, cwd=tmp_path)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A command without --json."""
    return Session(settings=_settings(tmp_path), as_json=False)


# -- the files of a step


def test_outputs_survive_values_of_several_lines(tmp_path: Path) -> None:
    """The delimiter is random, so that no value can end its own text."""
    path = tmp_path / "output"
    path.write_text("earlier=1\n")
    write_outputs(path, {"one": "a\nb", "two": ""})
    lines = path.read_text().splitlines()
    assert lines[0] == "earlier=1"
    delimiter = lines[1].removeprefix("one<<")
    assert len(delimiter) > 30
    assert lines[1:] == [f"one<<{delimiter}", "a", "b", delimiter, f"two<<{delimiter}", "", delimiter]


def test_an_output_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """The label would be lost."""
    with pytest.raises(StoreError, match=r"GITHUB_OUTPUT .* cannot be written: No such file"):
        write_outputs(tmp_path / "no" / "file", {"a": "b"})


# -- public keys


async def test_a_key_is_given_as_text_or_as_a_file(tmp_path: Path) -> None:
    """The first line of the file counts."""
    path = tmp_path / "id.pub"
    path.write_text(KEY + "\n")
    assert await ssh_keys.public_keys(KEY) == (KEY,)
    assert await ssh_keys.public_keys(str(path)) == (KEY,)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"-----BEGIN OPENSSH PRIVATE KEY-----", "is a private key"),
        (b"hello", "is no public SSH key"),
        (b"", "is no public SSH key"),
        (b"ssh-ed25519", "is no public SSH key"),
        (b"\xff\xfe", "cannot be read"),
    ],
    ids=["private", "text", "empty", "half", "binary"],
)
async def test_what_is_no_public_key_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    """Above all a private one."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=says):
        await ssh_keys.public_keys(str(path))


def _agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "ssh-add"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")


async def test_the_agents_keys_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them; lines that are no keys are left out."""
    _agent(tmp_path, monkeypatch, f"echo '{KEY}'; echo 'nonsense'; echo 'ecdsa-sha2-nistp256 AAAA x'")
    assert await ssh_keys.public_keys(None) == (KEY, "ecdsa-sha2-nistp256 AAAA x")


@pytest.mark.parametrize("script", ["echo 'The agent has no identities.'; exit 1", "sleep 5"], ids=["empty", "hangs"])
async def test_an_agent_without_keys_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """The account's keys serve then."""
    monkeypatch.setattr(ssh_keys, "_AGENT_SECONDS", 0.2)
    _agent(tmp_path, monkeypatch, script)
    assert await ssh_keys.public_keys(None) == ()


async def test_without_an_agent_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No SSH_AUTH_SOCK."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert await ssh_keys.public_keys(None) == ()


# -- options


def test_options_read_what_they_made() -> None:
    """Click hands defaults through the same conversion."""
    assert Duration().convert(timedelta(minutes=1), None, None) == timedelta(minutes=1)
    assert Price().convert(Decimal("0.4"), None, None) == Decimal("0.4")
    assert NameValue().convert(("A", "b"), None, None) == ("A", "b")
    assert NameValue().convert("A=b=c", None, None) == ("A", "b=c")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Duration(), "soon"),
        (Price(), "cheap"),
        (Price(), "Infinity"),
        (Price(), "1e400"),
        (Price(), "-1"),
        (NameValue(), "A"),
        (NameValue(), "1A=b"),
    ],
    ids=["duration", "price", "infinite", "absurd", "negative", "no-sign", "name"],
)
def test_options_refuse_what_they_cannot_read(kind: click.ParamType[Any], text: str) -> None:
    """With the forms that exist."""
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)


# -- which run


@pytest.mark.parametrize(
    ("run_id", "environment", "part"),
    [
        (None, {}, None),
        (None, {"GITHUB_RUN_ID": "36", "GITHUB_RUN_ATTEMPT": "2"}, ("10", 2)),
        (None, {"GITHUB_RUN_ID": "36"}, ("10", 1)),
        ("36", {"GITHUB_RUN_ID": "36", "GITHUB_RUN_ATTEMPT": "3"}, ("10", 3)),
        ("36", {"GITHUB_RUN_ID": "37", "GITHUB_RUN_ATTEMPT": "3"}, ("10", 1)),
        ("qwertyui", {}, ("qwertyui", 0)),
    ],
    ids=["nowhere", "actions", "no-attempt", "same-run", "other-run", "local"],
)
def test_the_run_comes_from_the_option_or_from_actions(
    tmp_path: Path, run_id: str | None, environment: dict[str, str], part: tuple[str, int] | None
) -> None:
    """A number is a workflow's run, letters are a local one."""
    assert run_part(run_id, _settings(tmp_path, **environment)) == part


@pytest.mark.parametrize("run_id", ["1x", "Abc", "ä", "a-b", "0"], ids=["mixed", "upper", "not-ascii", "dash", "zero"])
def test_a_run_that_is_neither_is_refused(tmp_path: Path, run_id: str) -> None:
    """Before anything is looked up."""
    with pytest.raises(InvalidRequest, match="what a local start printed"):
        run_part(run_id, _settings(tmp_path))


# -- showing


@pytest.mark.parametrize(
    ("price", "text"),
    [("0.0990", "0.099"), ("0.2", "0.20"), ("1", "1.00"), ("10", "10.00"), ("0.1234", "0.1234"), (None, None)],
    ids=str,
)
def test_prices_have_cents_and_no_idle_zeros(price: str | None, text: str | None) -> None:
    """As people write them."""
    assert usd(Decimal(price) if price else None) == text


def test_moments_are_utc_in_seconds() -> None:
    """For people and for programs."""
    assert when(datetime(2026, 11, 1, 12, 0, 0, 5, tzinfo=UTC)) == "2026-11-01T12:00:00Z"
    assert when(None) is None


def test_tables_are_as_wide_as_they_must_be() -> None:
    """Nothing is a dash."""
    assert table(("a", "name"), [(1, "x"), (None, "long name")]) == ["a  name", "1  x", "-  long name"]


def test_nothing_is_shown_of_nothing(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    """No empty line."""
    session.show({}, lines=())
    assert capsys.readouterr().out == ""


class _Closed(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_talk_that_nobody_hears_is_no_failure(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving back goes on when the terminal has gone."""
    monkeypatch.setattr(sys, "stderr", _Closed())
    session.talk("hello")
    session.warn("hello")
    progress = Progress(session, FakeClock())
    progress.emit(Event(name="pod_rented", at=FakeClock().now(), fields={"pod": "x", "price": "0.2"}))


def test_a_result_that_nobody_reads_is_a_failure(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was what the command is for."""
    monkeypatch.setattr(sys, "stdout", _Closed())
    with pytest.raises(OutputLost, match="could not be written to standard output"):
        session.show({}, lines=["x"])


def test_a_failure_is_data_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON document, never two."""
    session = Session(settings=_settings(tmp_path), as_json=True)
    session.show({"a": 1})
    session.show_failure(NotFound("gone"))
    assert capsys.readouterr().out == '{\n  "a": 1\n}\n'


# -- progress


def _event(clock: FakeClock, name: str, **fields: str | float | None) -> Event:
    return Event(name=name, at=clock.now(), fields=fields)


def test_progress_says_what_happens_with_the_time(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing values are question marks; events without words are kept for --json alone."""
    clock = FakeClock()
    progress = Progress(session, clock, before_renting="to end it: stop")
    clock.advance(65)
    for name, fields in (
        ("offer_tried", {"offer": "the cheap one"}),
        ("offer_tried", {"offer": "the other"}),
        ("pod_rented", {"pod": "p1", "price": "0.36"}),
        ("lease_booting", {}),
        ("lease_placing", {}),
        ("look_failed", {"service": "github", "error": "no answer; try again later"}),
        ("look_failed", {"service": None, "error": "down", "patience_seconds": 120.0}),
        ("create_unanswered", {"error": "perhaps rented: look it up by name"}),
        ("lease_draining", {"outcome": "no-capacity"}),
        ("lease_draining", {"outcome": "cancelled"}),
        ("give_back_done", {"left": None}),
        ("give_back_done", {"left": "pod p1"}),
    ):
        progress.emit(_event(clock, name, **fields))
    assert capsys.readouterr().err.splitlines() == [
        "to end it: stop",
        "[  1m5s] trying the cheap one",
        "[  1m5s] trying the other",
        "[  1m5s] rented pod p1 at 0.36 USD/h",
        "[  1m5s] pod ? boots",
        "[  1m5s] GitHub could not be looked at: no answer: trying again",
        "[  1m5s] a service could not be looked at: down: trying again for 2m",
        "[  1m5s]   no answer to the create (perhaps rented): looking whether a pod exists",
        "[  1m5s] giving back (cancelled)",
        "[  1m5s] not seen gone yet: pod p1; 'stop' or 'cleanup' ends what is left",
    ]
    assert len(session.timeline) == 12


def test_the_line_holds_time_and_cost(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost grows with the time since the renting; the line is never wider than the terminal."""
    clock = FakeClock()
    progress = Progress(session, clock)
    assert progress.line() == "  0s  0 USD  asking for offers ..."
    clock.advance(10)
    progress.emit(_event(clock, "pod_rented", pod="p1", price="0.36"))
    clock.advance(100)
    assert progress.line() == "  1m50s  0.0100 USD  rented pod p1 at 0.36 USD/h ..."
    monkeypatch.setenv("COLUMNS", "30")
    assert len(progress.line()) == 29


async def test_the_line_is_rewritten_on_a_terminal_alone(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """And taken away before anything else is said."""
    clock = FakeClock()
    progress = Progress(session, clock)
    await progress.tick()
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", written)
    with anyio.move_on_after(0.2):
        await progress.tick()
    progress.clear()
    progress.clear()
    assert written.getvalue().startswith("\r\x1b[2K  0s  0 USD")
    assert written.getvalue().endswith("\r\x1b[2K")


# -- the outermost place


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Let every command raise the error that a test puts in the list."""
    errors: list[BaseException] = []

    def fail(*_: object, **__: object) -> None:
        raise errors[0]

    monkeypatch.setattr(app.cli, "main", fail)
    return errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (click.exceptions.Exit(3), 3),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
        (click.ClickException("no"), 2),
        (BrokenPipeError(), 74),
        (NotFound("gone"), 6),
        (ExceptionGroup("x", [ValueError(), NotFound("gone")]), 6),
        (ValueError("x"), 70),
    ],
    ids=["exit", "abort", "interrupt", "click", "pipe", "ours", "group", "bug"],
)
def test_every_end_has_its_code(broken: list[BaseException], error: BaseException, code: int) -> None:
    """Nothing escapes as a traceback."""
    broken.append(error)
    before = sys.stdout
    try:
        assert app.run(["x"]) == code
    finally:
        if sys.stdout is not before:
            sys.stdout.close()
            sys.stdout = before


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in app.COMMANDS), ["pods", "create", "--help"]],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """A command's libraries are imported when it runs."""
    code = f"import sys; from runner_provisioner.cli.app import run; run({arguments!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"httpx", "pydantic", "pydantic_settings", "github", "cryptography", "jwt", "structlog", "anyio", "asyncio"}
    heavy |= {"sqlalchemy", "alembic", "aiosqlite"}
    assert heavy & set(done.stdout.split()) == set()


def test_main_exits_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the installed command calls."""
    monkeypatch.setattr(sys, "argv", ["runner-provisioner", "frob"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2


# -- being cancelled


@pytest.fixture
def handlers() -> Iterator[None]:
    """After a signal a command hears no other; the tests go on hearing."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.usefixtures("handlers")
def test_a_signal_cancels_and_says_so() -> None:
    """What the command wants its reader to know is added."""

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep_forever()

    with pytest.raises(Cancelled, match=r"^cancelled by SIGTERM; look there$"):
        run(work, after_cancel="look there")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    with pytest.raises(Cancelled, match=r"^cancelled by SIGTERM; seen$"):
        run(work, after_cancel=lambda: "seen")
    with pytest.raises(Cancelled, match=r"^cancelled by SIGTERM$"):
        run(work)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([], "nothing was rented"),
        ([{"event": "give_back_done", "complete": True, "left": None}], "nothing was rented"),
        ([{"event": "offer_tried"}, {"event": "give_back_done", "complete": True, "left": None}], "nothing is left"),
        (
            [{"event": "pod_rented"}, {"event": "give_back_done", "complete": False, "left": "pod p1"}],
            "not seen gone: pod p1; 'stop' or 'cleanup' ends what is left",
        ),
        ([{"event": "pod_rented"}], "not seen gone: what was rented; 'stop' or 'cleanup' ends what is left"),
    ],
    ids=["at-once", "before-an-offer", "given-back", "left", "unknown"],
)
def test_a_cancelled_start_says_what_is_left(events: list[dict[str, Any]], says: str) -> None:
    """And claims nothing else."""
    assert after_cancel(events) == says


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_comes_too_late_changes_nothing() -> None:
    """The work had its result."""

    async def work() -> int:
        with anyio.CancelScope(shield=True):
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(0.05)
        return 7

    assert run(work) == 7


def test_ctrl_c_is_left_to_ssh() -> None:
    """The child decides; its end is ours."""
    assert ssh._run_in_foreground(["sh", "-c", "sleep 0.2; kill -INT $PPID; sleep 0.2; exit 5"]) == 5


def test_a_killed_child_is_waited_for() -> None:
    """SIGTERM to us ends it."""
    with pytest.raises(SystemExit) as end, ssh._signals_as_exits():
        ssh._run_in_foreground(["sh", "-c", "sleep 0.2; kill -TERM $PPID; exec sleep 30"])
    assert end.value.code == 143


def test_known_hosts_are_for_the_port() -> None:
    """In OpenSSH's form for a port that is not 22; empty without a key."""
    from runner_provisioner.domain.pods import SshEndpoint  # noqa: PLC0415 - beside its one use

    endpoint = SshEndpoint(host="192.0.2.1", port=4022)
    assert ssh._known_host(endpoint, "ssh-ed25519 AAAA") == "[192.0.2.1]:4022 ssh-ed25519 AAAA\n"
    assert ssh._known_host(endpoint, None) == ""


def test_the_state_folder_is_private(tmp_path: Path) -> None:
    """What the settings name is made with mode 0700."""
    from runner_provisioner._files import write_private  # noqa: PLC0415 - beside its one use

    path = _settings(tmp_path).state_dir / "x.json"
    write_private(path, b"{}")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
