"""Failures a test orders in advance: what goes wrong, at which operation, and how many times."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum


class FaultKind(StrEnum):
    """What goes wrong with one call."""

    ERROR = "error"
    """The ordered status and body are answered; the operation is not done."""
    DROP_BEFORE = "drop_before"
    """The connection is cut; the operation is not done."""
    DROP_AFTER = "drop_after"
    """The operation is done, then the connection is cut: the answer is lost."""
    HANG = "hang"
    """Nothing is done and nothing answered until the client gives up."""
    HANG_AFTER = "hang_after"
    """The operation is done, and never answered."""
    HOLD_BEFORE = "hold_before"
    """Waits for `release`, then goes on as if nothing had been."""
    HOLD_AFTER = "hold_after"
    """Does the operation, waits for `release`, then answers."""
    MALFORMED = "malformed"
    """Does the operation and answers something that is no JSON, with 200."""
    DELAY = "delay"
    """Waits `seconds` on the simulator's clock, then goes on."""
    DELAY_AFTER = "delay_after"
    """Does the operation, waits `seconds` on the simulator's clock, then answers."""
    IGNORED = "ignored"
    """Answered as if done, but not done (where the simulator knows how: the ending of pods)."""

    @property
    def done(self) -> bool:
        """Whether the operation takes place before things go wrong."""
        return self in _DONE


_DONE = frozenset(
    {
        FaultKind.DROP_AFTER,
        FaultKind.HANG_AFTER,
        FaultKind.HOLD_AFTER,
        FaultKind.MALFORMED,
        FaultKind.DELAY_AFTER,
    }
)

ANY = "*"
NOT_JSON = "<html>not json"


@dataclass(kw_only=True, eq=False)
class Fault:
    """One ordered failure.

    `operation` is the name the simulator gives the call (`*` = any); `skip` calls pass untouched first, then `times`
    calls are hit (None = every one from then on). `seconds` are seconds on the simulator's clock. `reached` is set as
    soon as a call is hit; the hold kinds then wait for `release`.
    """

    operation: str
    kind: FaultKind
    status: int = 500
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    skip: int = 0
    times: int | None = 1
    seconds: float = 0.0
    reached: threading.Event = field(default_factory=threading.Event, repr=False)
    release: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def spent(self) -> bool:
        """Whether it will never hit again."""
        return self.times is not None and self.times <= 0

    def concerns(self, operation: str) -> bool:
        """Whether a call of that operation is counted."""
        return not self.spent and self.operation in (ANY, operation)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call that arrived, faulty or not: the operation, when, and with which credential."""

    operation: str
    at: datetime
    key: str = ""


def _utc_now() -> datetime:
    return datetime.now(tz=UTC)


class Faults:
    """The ordered failures of one simulator and the record of its calls; safe to use from several threads."""

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        """`now` dates the calls; wall time when left out."""
        self._now = now or _utc_now
        self._lock = threading.RLock()
        self._ordered: list[Fault] = []
        self._calls: list[Call] = []

    def add(self, fault: Fault) -> Fault:
        """Order a failure; earlier ones of the same operation come first."""
        with self._lock:
            self._ordered.append(fault)
        return fault

    def clear(self) -> None:
        """Forget every ordered failure and let go of those who wait in one; the record of calls stays."""
        with self._lock:
            ordered, self._ordered = self._ordered, []
        for fault in ordered:
            fault.release.set()

    @property
    def pending(self) -> tuple[Fault, ...]:
        """Ordered failures that can still hit."""
        with self._lock:
            return tuple(fault for fault in self._ordered if not fault.spent)

    def take(self, operation: str, key: str = "") -> Fault | None:
        """Note the call of `operation` and give the failure that is due for it, if any."""
        with self._lock:
            self._calls.append(Call(operation=operation, at=self._now(), key=key))
            fault = next((each for each in self._ordered if each.concerns(operation)), None)
            if fault is None:
                return None
            if fault.skip > 0:
                fault.skip -= 1
                return None
            if fault.times is not None:
                fault.times -= 1
        fault.reached.set()
        return fault

    @property
    def calls(self) -> list[Call]:
        """Every call so far, in order of arrival."""
        with self._lock:
            return list(self._calls)

    def count(self, operation: str = ANY) -> int:
        """How many calls of this operation arrived."""
        with self._lock:
            return sum(1 for call in self._calls if operation in (ANY, call.operation))
