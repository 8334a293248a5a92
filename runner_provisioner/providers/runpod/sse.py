"""Server-sent events, as far as RunPod's logs need them (html.spec.whatwg.org, section 9.2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is the last one told, which a later request may go on from."""

    data: str
    id: str = ""
    kind: str = "message"


class EventReader:
    """Takes an answer's lines one by one and gives each event when it is complete."""

    def __init__(self) -> None:
        self._id = ""
        self._kind = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """Read one line, without its end; gives the event that an empty line completes."""
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "event":
            self._kind = value
        return None  # a comment (":"), "retry", or a field not known

    def _complete(self) -> Event | None:
        data, kind = self._data, self._kind
        self._data, self._kind = [], ""
        return Event(data="\n".join(data), id=self._id, kind=kind or "message") if data else None
