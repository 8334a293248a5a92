"""What every command shares: settings, logging, output, and being cancelled properly."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runner_provisioner.cli.visible import visible
from runner_provisioner.errors import Cancelled, ConfigurationError, InvalidRequest, OutputLost, RunnerProvisionerError

if TYPE_CHECKING:
    from runner_provisioner._metrics import CallMetrics
    from runner_provisioner.logging import Redactor
    from runner_provisioner.settings import Settings
    from runner_provisioner.wiring import Place

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
SHOWN_HERE = "{shown here}"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_QUIET = frozenset({"off", "warnings"})


@functools.cache
def redactor() -> Redactor:
    """The process's one redactor; in Actions every secret becomes a mask before it is used."""
    from runner_provisioner.logging import Redactor, actions_mask  # noqa: PLC0415 - structlog is slow to import

    one = Redactor()
    if os.environ.get("GITHUB_ACTIONS") == "true":
        one.on_secret = actions_mask(sys.stderr)
    return one


@dataclass(kw_only=True)
class Session:
    """One command that runs: its settings, where data and talk go, and what was counted on the way.

    `providers` are those that it is narrowed to; none means every one whose key is there. `asked` are those that take
    part once the program is open.
    """

    settings: Settings
    as_json: bool
    timeline: list[dict[str, Any]] = field(default_factory=list)
    providers: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    metrics: CallMetrics | None = None
    _shown: bool = False

    @property
    def on_terminal(self) -> bool:
        """Whether somebody watches stderr, so that a line may be rewritten."""
        return sys.stderr.isatty() and not self.settings.ci and not self.settings.in_actions

    def talk(self, line: str) -> None:
        """Tell a person; stderr. Never raises: nobody listening is no reason to stop giving back what was rented."""
        with suppress(OSError, ValueError):
            click.echo(visible(redactor().redact(line)), err=True)

    def warn(self, line: str) -> None:
        """Tell a person that something is not as it should be; an annotation in Actions."""
        line = " ".join(line.split())
        self.talk(f"warning: {line}")
        if self.settings.in_actions:
            escaped = line.replace("%", "%25")
            self.talk(f"::warning title=runner-provisioner::{escaped}")

    def show(self, data: Mapping[str, Any], *, lines: Sequence[str] = (), reveals: str = "") -> None:
        """Give the result: JSON with everything, or the lines for a person. Raises OutputLost.

        Secrets are masked but for one that the command is there to show: it `reveals` what stands in
        SHOWN_HERE.
        """
        whole = dict(data)
        if self.metrics is not None:
            whole["calls"] = self.metrics.summary()
        text = json.dumps(whole, indent=2, default=str) if self.as_json else "\n".join(lines)
        self._shown = True
        if not text:
            return
        if sys.stdout is None:
            raise OutputLost("the result could not be written to standard output (it is closed): give it a reader")
        safe = redactor().redact(text) if self.as_json else visible(redactor().redact(text))
        try:
            click.echo(safe.replace(SHOWN_HERE, reveals) if reveals else safe)
        except OSError as error:
            raise OutputLost(
                f"the result could not be written to standard output ({error.strerror}): send it to a reader that stays"
            ) from error

    def show_failure(self, error: RunnerProvisionerError) -> None:
        """With --json, say what went wrong there too, unless a result was given already."""
        if not self.as_json or self._shown:
            return
        told = {"type": type(error).__name__, "message": str(error), "exit-code": error.exit_code}
        with suppress(OutputLost):
            self.show({"error": told, "timeline": self.timeline})

    def sound_alerts(self) -> None:
        """Warn about operations that fail too often."""
        for alert in self.metrics.alerts() if self.metrics is not None else ():
            self.warn(alert)


def command_options(command: F) -> F:
    """--json, --debug and the log options; the command gets a `session` instead of them."""
    log = click.option(
        "--log",
        "log_mode",
        type=click.Choice(["off", "console", "json"]),
        default="off",
        help="Log every remote call to stderr.",
    )
    return _with_session(command, log)


def service_options(command: F) -> F:
    """As `command_options`, for what runs unwatched: what goes wrong is logged unless nobody wants to know."""
    log = click.option(
        "--log",
        "log_mode",
        type=click.Choice(["off", "warnings", "console", "json"]),
        default="warnings",
        show_default=True,
        help="Log to stderr: warnings and errors alone, or every request and remote call.",
    )
    return _with_session(command, log)


def _with_session(command: F, log: Callable[[Callable[..., Any]], Callable[..., Any]]) -> F:
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @log
    @click.option("--debug", is_flag=True, help="Show tracebacks, and log to the console unless --log says otherwise.")
    @functools.wraps(command)
    def with_session(*args: Any, as_json: bool, log_mode: str, debug: bool, **values: Any) -> Any:  # noqa: ANN401 - whatever the command takes and gives
        from runner_provisioner.settings import Settings  # noqa: PLC0415 - pydantic-settings is slow to import

        settings = Settings.read(os.environ, home=Path.home(), cwd=working_folder())
        for secret in settings.secrets():
            redactor().add(secret)
        _configure_log("console" if debug and log_mode in _QUIET else log_mode)
        session = Session(settings=settings, as_json=as_json)
        for note in settings.notes:
            session.warn(note)
        try:
            return command(*args, session=session, **values)
        except Exception as error:
            cause = first(error)
            if isinstance(cause, RunnerProvisionerError):
                session.show_failure(cause)
            raise
        finally:
            session.sound_alerts()

    return with_session  # type: ignore[return-value] # click replaces the signature


def working_folder() -> Path:
    """Where the program was called. Raises ConfigurationError when it is no longer there."""
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigurationError(
            f"the working directory cannot be used ({error.strerror}): change to one that is there"
        ) from None


def narrowable(command: F) -> F:
    """--provider, for the session of the command below; to be written under `command_options`."""

    @click.option(
        "--provider",
        multiple=True,
        metavar="NAME",
        help="Only at this provider; may be repeated; default: every one whose key is there.",
    )
    @functools.wraps(command)
    def narrowed(*args: Any, session: Session, provider: tuple[str, ...], **values: Any) -> Any:  # noqa: ANN401 - whatever the command takes and gives
        session.providers = provider
        return command(*args, session=session, **values)

    return narrowed  # type: ignore[return-value] # click replaces the signature


def place_options(command: F) -> F:
    """--repository, --organization, --owner; the command gets them as they are."""
    decorators = (
        click.option("--repository", metavar="OWNER/NAME", help="Whose jobs; default: GITHUB_REPOSITORY."),
        click.option(
            "--organization", metavar="NAME", help="Register with this organisation instead of the repository."
        ),
        click.option(
            "--owner", metavar="TEXT", help="Another owner mark in the names of pods, to keep installations apart."
        ),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def place_of(session: Session, repository: str | None, organization: str | None, owner: str | None) -> Place:
    """Where runners are registered; said on stderr, since names and clean-up depend on it."""
    from runner_provisioner.wiring import Place  # noqa: PLC0415 - imports everything

    place = Place.of(session.settings, repository=repository, organization=organization, owner=owner)
    session.talk(f"scope {place.scope.url} (owner {place.owner8})")
    return place


def first(error: BaseException) -> BaseException:
    """The error inside a group of errors that a reader can do something about."""
    while isinstance(error, BaseExceptionGroup):
        ours = [one for one in error.exceptions if isinstance(first(one), RunnerProvisionerError)]
        error = (ours or list(error.exceptions))[0]
    return error


def run(work: Callable[[], Awaitable[T]], *, after_cancel: str | Callable[[], str] = "") -> T:
    """Run to the end, or until a signal; then `work` is cancelled, cleans up, and Cancelled is raised.

    `after_cancel` is what a cancelled reader should know or do, or tells it once all has been cleaned up. The receiver
    stands outside what it cancels: a second signal must not end the clean-up.
    """
    import anyio  # noqa: PLC0415 - slow to import

    return anyio.run(_cancellable, work, after_cancel)


async def _cancellable(work: Callable[[], Awaitable[T]], after_cancel: str | Callable[[], str]) -> T:
    import anyio  # noqa: PLC0415 - slow to import

    caught: list[signal.Signals] = []
    results: list[T] = []
    with anyio.open_signal_receiver(*_ENDING) as signals:
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def watch() -> None:
                async for one in signals:
                    caught.append(one)
                    scope.cancel()

            group.start_soon(watch)
            with scope:
                results.append(await work())
            group.cancel_scope.cancel()
    if caught:
        # GitHub's SIGTERM comes 7.5 s after its SIGINT, when all is done but the exit.
        for one in _ENDING:
            signal.signal(one, signal.SIG_IGN)
    if not results:
        name = caught[0].name if caught else "a signal"
        more = after_cancel if isinstance(after_cancel, str) else after_cancel()
        raise Cancelled(f"cancelled by {name}" + (f"; {more}" if more else ""))
    return results[0]


def usd(price: Decimal | None) -> str | None:
    """A price for a person: at least two decimals, no zeros beyond them."""
    if price is None:
        return None
    text = f"{price.normalize():f}"
    decimals = len(text.partition(".")[2])
    return text if decimals >= 2 else f"{price:.2f}"  # noqa: PLR2004 - cents


def when(moment: datetime | None) -> str | None:
    """A moment for a person, or for JSON: UTC, whole seconds."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else None


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Columns in plain text, each as wide as it must be."""
    cells = [[str(cell) if cell is not None else "-" for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def run_part(run_id: str | None, settings: Settings) -> tuple[str, int] | None:
    """The run part of names and the attempt: from --run-id, else from Actions; None outside both.

    Raises InvalidRequest when --run-id is neither a run's number nor what a local start printed.
    """
    from runner_provisioner.domain.names import base36  # noqa: PLC0415 - keeps the start of --help short

    if run_id is None:
        if settings.run_id is None:
            return None
        return base36(settings.run_id), settings.run_attempt or 1
    if run_id.isdecimal() and int(run_id):
        attempt = settings.run_attempt if settings.run_id == int(run_id) else None
        return base36(int(run_id)), attempt or 1
    if not run_id.isalpha() or not run_id.islower() or not run_id.isascii():
        raise InvalidRequest(f"--run-id {run_id}: give the number of a workflow run, or what a local start printed")
    return run_id, 0


def attempt_of(attempt: int | None, current: int) -> int:
    """The attempt that was given, else the one that `run_part` has told. InvalidRequest where a run has none."""
    if attempt is not None and current == 0:
        raise InvalidRequest(f"--attempt {attempt}: only a workflow run has attempts; give its number with --run-id")
    return attempt or current


def _configure_log(mode: str) -> None:
    from runner_provisioner.logging import configure, install_hooks  # noqa: PLC0415 - structlog is slow to import

    install_hooks(redactor(), sys.stderr)
    if mode != "off":
        level = "warning" if mode == "warnings" else "debug"
        configure(mode="json" if mode == "json" else "console", level=level, redactor=redactor(), stream=sys.stderr)
