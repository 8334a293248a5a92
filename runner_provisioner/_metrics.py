"""How often each remote operation was called, how long it took, and what came of it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

SUCCESS = "success"
WINDOW = 100
ALERT_ABOVE = 10


@dataclass
class _Tally:
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def recent_failures(self) -> int:
        return sum(self.recent)


class CallMetrics:
    """Durations and outcomes by service and operation, for `--json` and for alerts."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def record(
        self, service: str, operation: str, outcome: str, seconds: float, *, failed: bool | None = None
    ) -> str | None:
        """Count one call; `outcome` is "success" or an error's code.

        `failed` says whether it counts towards an alert (default: whatever is no success). Returns the alert line when
        this very call is the one that raised the alert.
        """
        tally = self._tallies.setdefault((service, operation), _Tally())
        quiet = tally.recent_failures <= ALERT_ABOVE
        bad = outcome != SUCCESS if failed is None else failed
        tally.outcomes[outcome] += 1
        tally.failures += bad
        tally.seconds += seconds
        tally.longest = max(tally.longest, seconds)
        tally.recent.append(bad)
        return _alert(service, operation, tally) if quiet and tally.recent_failures > ALERT_ABOVE else None

    def limited(self, service: str, remaining: int) -> None:
        """Take note of how many more calls a service says it allows; nobody needs that here."""

    def summary(self) -> list[dict[str, object]]:
        """One dictionary per operation: service, operation, calls, failures, outcomes, mean_ms, max_ms."""
        return [
            {
                "service": service,
                "operation": operation,
                "calls": (calls := tally.outcomes.total()),
                "failures": tally.failures,
                "outcomes": dict(sorted(tally.outcomes.items())),
                "mean_ms": round(1000 * tally.seconds / calls),
                "max_ms": round(1000 * tally.longest),
            }
            for (service, operation), tally in sorted(self._tallies.items())
        ]

    def alerts(self) -> list[str]:
        """One line for each operation of whose last 100 calls more than 10 failed."""
        return [
            _alert(service, operation, tally)
            for (service, operation), tally in sorted(self._tallies.items())
            if tally.recent_failures > ALERT_ABOVE
        ]


def _alert(service: str, operation: str, tally: _Tally) -> str:
    return f"{service} {operation}: {tally.recent_failures} of the last {len(tally.recent)} calls failed"
