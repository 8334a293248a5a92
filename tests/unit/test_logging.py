"""Records are complete, in their form, and free of secrets."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from runner_provisioner import logging as logs
from runner_provisioner.logging import MASK, Redactor, actions_mask, configure, get_logger, install_hooks
from runner_provisioner.testing.clock import FakeClock

SECRET = "sesame-open-sesame"


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Leave no handler and no stream behind."""
    levels = {name: logging.getLogger(name).level for name in logs._LIBRARIES}
    yield
    if logs._output.handler is not None:
        logging.getLogger().removeHandler(logs._output.handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logs._output.__init__()  # type: ignore[misc]


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    """Every record written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_record_has_a_utc_timestamp_a_level_and_its_fields() -> None:
    """What a machine reads is one JSON object per line."""
    stream = io.StringIO()
    configure(mode="json", level="info", redactor=Redactor(), stream=stream, now=FakeClock().now)
    get_logger("services").info("pod_created", pod_id="p1", price=1)
    assert read(stream) == [
        {
            "timestamp": "2026-11-01T12:00:00.000Z",
            "level": "info",
            "logger": "services",
            "pod_id": "p1",
            "price": 1,
            "event": "pod_created",
        }
    ]


def test_nothing_is_written_before_configure_and_below_the_level() -> None:
    """A library is silent until asked; a level is a threshold."""
    stream = io.StringIO()
    log = get_logger("early")
    log.error("nobody hears this")
    configure(mode="json", level="warning", redactor=Redactor(), stream=stream)
    log.info("too quiet")
    log.warning("heard")
    assert [record["event"] for record in read(stream)] == ["heard"]


def test_unknown_level_is_refused() -> None:
    """A misspelled level must not silence the log."""
    with pytest.raises(ValueError, match="unknown log level"):
        configure(mode="json", level="loud", redactor=Redactor(), stream=io.StringIO())


@pytest.mark.parametrize("mode", ["json", "console"])
def test_secret_is_masked_wherever_it_is_put(mode: Literal["json", "console"]) -> None:
    """Event, fields, keys, bound values, context, objects, exceptions, tracebacks and other libraries' records."""
    stream = io.StringIO()
    configure(mode=mode, level="debug", redactor=Redactor([SECRET]), stream=stream)
    log = get_logger("x").bind(bound=SECRET)
    event = f"event {SECRET}"
    log.info(event, field=SECRET, nested=[{"a": {SECRET: (SECRET,)}}], dockerArgs={"cmd": ["opaque-1"]})
    with structlog.contextvars.bound_contextvars(context=SECRET):
        log.warning("context", error=ValueError(SECRET), raw=SECRET.encode())
    try:
        raise RuntimeError(SECRET) from KeyError(SECRET)  # noqa: TRY301 - it is the traceback that is looked at
    except RuntimeError as error:
        log.exception("failed")
        log.critical("failed", exc_info=error)
        logging.getLogger("foreign").exception("with %s", SECRET)
    text = stream.getvalue()
    assert SECRET not in text
    assert "opaque-1" not in text
    assert text.count("Traceback") >= 3
    assert MASK in text


def test_exc_info_without_an_exception_is_survived() -> None:
    """A careless call loses nothing but the traceback that was not there."""
    stream = io.StringIO()
    configure(mode="json", level="debug", redactor=Redactor(), stream=stream)
    get_logger("x").error("odd", exc_info=True)
    assert "no exception to show" in read(stream)[0]["exception"]


def test_console_is_plain_unless_colours_are_asked_for() -> None:
    """A log file holds no escape sequences."""
    plain, coloured = io.StringIO(), io.StringIO()
    configure(mode="console", level="debug", redactor=Redactor(), stream=plain)
    get_logger("x").info("hello")
    configure(mode="console", level="debug", redactor=Redactor(), stream=coloured, colors=True)
    get_logger("x").info("hello")
    assert "\x1b[" not in plain.getvalue()
    assert "\x1b[" in coloured.getvalue()


def test_other_libraries_are_heard_from_warning_on_and_once() -> None:
    """Their records take the same way; HTTP libraries' chatter, which holds headers, is off."""
    stream = io.StringIO()
    for _ in range(2):
        configure(mode="json", level="debug", redactor=Redactor(), stream=stream)
    logging.getLogger("httpcore.http11").debug("send_request_headers")
    logging.getLogger("urllib3.connectionpool").warning("retrying %d", 3)
    broken = logging.LogRecord("other", logging.WARNING, __file__, 1, "bad %d %d", (1,), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logs._Handler):
            handler.handle(broken)
    assert [(record["logger"], record["event"]) for record in read(stream)] == [
        ("urllib3.connectionpool", "retrying 3"),
        ("other", "bad %d %d"),
    ]
    assert not logging.getLogger("httpcore.http11").isEnabledFor(logging.DEBUG)


def test_chosen_library_level_is_kept() -> None:
    """Who asks for a library's debug records gets them."""
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    logs.quiet_libraries()
    assert logging.getLogger("urllib3").level == logging.DEBUG


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, _text: str) -> int:
        """Refuse."""
        raise OSError(28, "No space left on device")


def test_log_that_cannot_be_written_does_not_stop_the_work() -> None:
    """A full disk or a closed pipe loses records, not pods."""
    redactor = Redactor(on_secret=actions_mask(Full()))
    configure(mode="json", level="debug", redactor=redactor, stream=Full())
    get_logger("x").error("lost")
    redactor.add(SECRET)
    closed = io.StringIO()
    closed.close()
    configure(mode="json", level="debug", redactor=redactor, stream=closed)
    get_logger("x").error("lost")


def test_actions_are_told_to_mask_in_one_command_per_secret() -> None:
    """Line ends and percent signs are escaped; a short value would blank job outputs and is left out."""
    stream = io.StringIO()
    redactor = Redactor(on_secret=actions_mask(stream))
    for secret in ("sesame-open", "short", "first 100%\r\nsecond", "sesame-open"):
        redactor.add(secret)
    assert stream.getvalue() == "::add-mask::sesame-open\n::add-mask::first 100%25%0D%0Asecond\n"


def test_uncaught_exceptions_are_redacted_in_every_thread() -> None:
    """The interpreter's last words are logs too."""
    stream = io.StringIO()
    before = sys.excepthook, threading.excepthook
    restore = install_hooks(Redactor([SECRET]), stream)
    try:
        error = ValueError(SECRET)
        sys.excepthook(ValueError, error, None)
        sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
        thread = threading.Thread(target=int, args=(SECRET,))
        thread.start()
        thread.join()
        threading.excepthook(threading.ExceptHookArgs((SystemExit, None, None, None)))
    finally:
        restore()
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count("ValueError") == 2
    assert (sys.excepthook, threading.excepthook) == before
