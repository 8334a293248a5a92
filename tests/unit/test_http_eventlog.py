"""What happens to a service's pods is in its log, as loud as it is urgent, and for whom."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from runner_provisioner import logging as logs
from runner_provisioner._redaction import Redactor
from runner_provisioner.controller.eventlog import EventLog
from runner_provisioner.domain.events import Event
from runner_provisioner.testing.clock import EPOCH


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    """Leave no handler and no stream behind."""
    yield
    if logs._output.handler is not None:
        logging.getLogger().removeHandler(logs._output.handler)
    logs._output.__init__()  # type: ignore[misc]


def _told(
    event: str,
    *,
    level: str = "info",
    failure: Exception | None = None,
    **fields: Any,  # noqa: ANN401 - plain values
) -> list[dict[str, Any]]:
    stream = io.StringIO()
    redactor = Redactor()
    redactor.add("hunter2-hunter2")
    logs.configure(mode="json", level=level, redactor=redactor, stream=stream)
    with logs.on_behalf_of("r-1"):
        EventLog().emit(Event(name=event, at=EPOCH, fields=fields, failure=failure))
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_a_record_with_the_request_it_happened_for() -> None:
    """Its fields beside it, without what nobody knows, and no secret."""
    (record,) = _told("pod_given_up", provider="runpod", id="p1", error="key hunter2-hunter2", about=None)
    assert record.pop("timestamp")
    assert record == {
        "level": "info",
        "logger": "pods",
        "event": "pod_given_up",
        "for_request": "r-1",
        "provider": "runpod",
        "id": "p1",
        "error": f"key {logs.MASK}",
    }


def test_what_nobody_expected_comes_with_its_traceback() -> None:
    """As an error, and without its secrets."""
    try:
        _told("", level="hunter2-hunter2")
    except ValueError as error:
        (record,) = _told("round_failed", failure=error, what="p1")
    assert (record["level"], record["event"], record["what"]) == ("error", "round_failed", "p1")
    assert "Traceback" in record["exception"]
    assert "ValueError: unknown log level" in record["exception"]
    assert "hunter2-hunter2" not in record["exception"]


@pytest.mark.parametrize(
    ("event", "fields", "level"),
    [
        ("round_failed", {"what": "x", "error": "down"}, "warning"),
        ("history_failed", {"error": "full"}, "warning"),
        ("state_not_written", {"error": "full"}, "warning"),
        ("kill_time_not_set", {"error": "down"}, "warning"),
        ("pods_without_key", {"provider": "runpod", "pods": 2}, "warning"),
        ("provider_passed_over", {"provider": "runpod", "error": "down"}, "warning"),
        ("provider_passed_over", {"provider": "runpod", "error": "no volume 'x'", "about": "network-volume"}, "info"),
        ("pod_seen_again", {"provider": "runpod", "id": "p1"}, "info"),
    ],
)
def test_it_warns_of_what_an_operator_may_have_to_mend(event: str, fields: dict[str, Any], level: str) -> None:
    """Not of what a caller has asked for in vain."""
    assert [record["level"] for record in _told(event, **fields)] == [level]
    assert bool(_told(event, level="warning", **fields)) == (level == "warning")
