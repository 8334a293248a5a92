"""Logs: structlog behind a redactor, as JSON lines or for a terminal.

Until `configure` is called nothing is written, so that a program that uses this package as a library hears nothing
it did not ask for. Every record passes `Redactor.scrub`, and the finished line passes `Redactor.redact_known` once
more.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

import structlog

from runner_provisioner._redaction import MASK, MIN_SECRET, Redactor, hide, hiding, looks_secret

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger

__all__ = [
    "MASK",
    "Redactor",
    "actions_mask",
    "configure",
    "get_logger",
    "hide",
    "hiding",
    "install_hooks",
    "looks_secret",
    "on_behalf_of",
]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_LIBRARIES = ("httpx", "httpcore", "urllib3", "requests", "github", "hpack", "asyncio")
_Event = MutableMapping[str, Any]
# Said by this program alone, never by anybody whose values are hidden: they can neither mask these nor break the line.
_OWN = ("timestamp", "level", "logger", "for_request", "for_key")


class _Output:
    """Where records go; one per process, because a log is one stream."""

    def __init__(self) -> None:
        self.level = _LEVELS["critical"] + 1
        self.stream: TextIO = io.StringIO()
        self.redactor = Redactor()
        self.now: Callable[[], datetime] = _utc_now
        self.render: Callable[[_Event], str] = _render_json
        self.handler: logging.Handler | None = None
        self.lock = threading.Lock()

    def write(self, name: str, event: _Event, *, own: tuple[str, ...] = _OWN) -> None:
        if _LEVELS.get(name, 0) < self.level:
            return
        record = {"timestamp": _iso(self.now()), "level": name, **event}
        failure = record.pop("exc_info", None)
        if failure:
            record["exception"] = self.redactor.redact_exception(_exception(failure))
        # Nothing is said of a request whose key nobody knows yet.
        said = {key: value for key in own if (value := record.pop(key, ""))}
        scrubbed = cast("_Event", self.redactor.scrub(record))
        line = self.redactor.redact_known(self.render({**said, **scrubbed}))
        # A log that cannot be written (closed pipe, full disk) must not end the work it tells about.
        with self.lock, contextlib.suppress(OSError, ValueError):
            self.stream.write(line + "\n")
            self.stream.flush()


def configure(
    *,
    mode: Literal["json", "console"],
    level: str,
    redactor: Redactor,
    stream: TextIO,
    now: Callable[[], datetime] | None = None,
    colors: bool = False,
) -> None:
    """Write records of `level` and above to `stream`; may be called again.

    Records of other libraries that use the standard library's logging go the same way from level warning on: what
    HTTP libraries write below that holds headers. Raises ValueError for an unknown level.
    """
    if level.lower() not in _LEVELS:
        raise ValueError(f"unknown log level; choose one of {', '.join(_LEVELS)}")
    _output.level, _output.stream, _output.redactor = _LEVELS[level.lower()], stream, redactor
    _output.now = now or _utc_now
    _output.render = _render_json if mode == "json" else _console(colors=colors)
    quiet_libraries()
    root = logging.getLogger()
    if _output.handler is not None:
        root.removeHandler(_output.handler)
    _output.handler = _Handler(level=logging.WARNING)
    root.addHandler(_output.handler)


def get_logger(name: str) -> FilteringBoundLogger:
    """A structlog logger; may be made before `configure` and then follows it."""
    logger = structlog.wrap_logger(
        _Sink(),
        processors=[structlog.contextvars.merge_contextvars, _hand_over],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
    )
    return cast("FilteringBoundLogger", logger.bind(logger=name))


@contextlib.contextmanager
def on_behalf_of(request: str) -> Iterator[Callable[[str], None]]:
    """Until its end every record of this task, and of those that it starts, names the request it was written for.

    Gives what names the key of that request, once it is known.
    """

    def with_key(key: str) -> None:
        structlog.contextvars.bind_contextvars(for_key=key)

    with structlog.contextvars.bound_contextvars(for_request=request, for_key=""):
        yield with_key


def quiet_libraries() -> None:
    """Keep HTTP libraries, whose debug records hold headers, at level warning unless somebody chose otherwise."""
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        if library.level == logging.NOTSET:
            library.setLevel(logging.WARNING)


def actions_mask(stream: TextIO) -> Callable[[str], None]:
    """A `Redactor.on_secret` that makes GitHub Actions mask the value: `::add-mask::`, on `stream` (stderr).

    A value of several lines is one command with its line ends escaped. Values of fewer than 6 characters are left
    out: a mask that is a common word blanks job outputs (GitHub docs, workflow commands).
    """

    def mask(secret: str) -> None:
        if len(secret) < MIN_SECRET:
            return
        escaped = secret.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        with contextlib.suppress(OSError, ValueError):
            stream.write(f"::add-mask::{escaped}\n")
            stream.flush()

    return mask


def install_hooks(redactor: Redactor, stream: TextIO) -> Callable[[], None]:
    """Redact the tracebacks of exceptions that nobody caught, in every thread; returns what puts the old hooks back."""
    before = sys.excepthook, threading.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        with contextlib.suppress(OSError, ValueError):
            stream.write(redactor.redact_exception(error.with_traceback(trace)))
            stream.flush()

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            hook(args.exc_type, args.exc_value, args.exc_traceback)

    def restore() -> None:
        sys.excepthook, threading.excepthook = before

    sys.excepthook, threading.excepthook = hook, thread_hook
    return restore


class _Handler(logging.Handler):
    """Takes what other libraries log."""

    def emit(self, record: logging.LogRecord) -> None:
        event: _Event = {**structlog.contextvars.get_contextvars(), "logger": record.name, "event": _message(record)}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        _output.write(record.levelname.lower(), event)


class _Sink:
    """The end of the structlog chain: everything was written by the processor before."""

    def msg(self, *_: object) -> None:
        """Nothing is left to do."""

    debug = info = warning = error = critical = msg


def _hand_over(_logger: object, name: str, event: _Event) -> _Event:
    _output.write(name, event, own=(*_OWN, "event"))
    raise structlog.DropEvent


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


def _exception(failure: object) -> BaseException:
    if isinstance(failure, BaseException):
        return failure
    found = failure[1] if isinstance(failure, tuple) else sys.exc_info()[1]
    return found if isinstance(found, BaseException) else RuntimeError("no exception to show")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _render_json(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False)


def _console(*, colors: bool) -> Callable[[_Event], str]:
    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    return lambda event: renderer(None, "", event)


_output = _Output()
