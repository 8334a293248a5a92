"""The logs of REST v2: what a pod's container writes, as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from runner_provisioner.simulators.runpod.fleet import Fleet
from runner_provisioner.simulators.runpod.rest_call import Problem, RestCall

_TAIL, _MOST = 100, 5000


@dataclass(frozen=True)
class LogEvent:
    """One line of a log; its `id` in the stream is its moment."""

    at: datetime
    source: str
    line: str

    @property
    def id(self) -> str:
        """RFC 3339 with microseconds."""
        return self.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def wire(self) -> bytes:
        """As it is sent."""
        data = json.dumps({"source": self.source, "line": self.line, "ts": self.id})
        return f"id: {self.id}\ndata: {data}\n\n".encode()


class Output(Protocol):
    """Who has the containers' output."""

    def log(self, pod_id: str) -> str:
        """Everything so far."""


@dataclass
class _Kept:
    lines: list[LogEvent] = field(default_factory=list)
    events: int = 0
    written: int = 0


class Streams:
    """Dates each line when it is seen first; called under the simulator's lock."""

    def __init__(self, fleet: Fleet, output: Output, now: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._output = output
        self._now = now
        self._kept: dict[str, _Kept] = {}

    def alive(self, pod_id: str) -> bool:
        """Whether more may come."""
        return self._fleet.find(pod_id) is not None

    def begin(self, call: RestCall) -> tuple[list[LogEvent], int]:
        """What the stream begins with, and the number of the first line that is new after it. Raises Problem."""
        pod_id = call.parts[0]
        call.caller.need_read(pod_id)
        if self._fleet.find(pod_id) is None:
            raise Problem(404, "pod not found")
        every = self._lines(pod_id)
        chosen = _of_source(every, call.query)
        since = _since(call)
        if since is not None:
            return [event for event in chosen if event.at >= since], len(every)
        tail = _tail(call.query)
        return chosen[-tail:] if tail else [], len(every)

    def more(self, call: RestCall, number: int) -> tuple[list[LogEvent], int]:
        """What has come since line `number`, and the number to ask with next."""
        every = self._lines(call.parts[0])
        return _of_source(every[number:], call.query), len(every)

    def _lines(self, pod_id: str) -> list[LogEvent]:
        kept = self._kept.setdefault(pod_id, _Kept())
        pod = self._fleet.pods[pod_id]
        for event in pod.events[kept.events :]:
            kept.lines.append(LogEvent(event.at, "system", event.what))
        kept.events = len(pod.events)
        written = self._output.log(pod_id)
        whole = written[: written.rfind("\n") + 1]
        for line in whole[kept.written :].splitlines():
            kept.lines.append(LogEvent(self._now(), "container", line))
        kept.written = len(whole)
        return kept.lines


def _of_source(events: list[LogEvent], query: Mapping[str, str]) -> list[LogEvent]:
    source = query.get("source")
    if source not in {None, "container", "system"}:
        raise Problem(422, "Request validation failed.", ["source: value must be one of container, system"])
    return [event for event in events if source in {None, event.source}]


def _since(call: RestCall) -> datetime | None:
    text = call.headers.get("last-event-id") or call.query.get("since")
    if not text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise Problem(422, "Request validation failed.", ["since: is not a date-time"]) from error


def _tail(query: Mapping[str, str]) -> int:
    text = query.get("tail", str(_TAIL))
    if not text.isdigit() or int(text) > _MOST:
        raise Problem(422, "Request validation failed.", [f"tail: must be between 0 and {_MOST}"])
    return int(text)
