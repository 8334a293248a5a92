"""GitHub's request limits: a budget per hour and, when it is switched on, points per minute."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from runner_provisioner.simulators.github.entities import ApiError
from runner_provisioner.simulators.github.state import Settings

HOUR = 3600
MINUTE = 60
WRITE_POINTS = 5


@dataclass
class _Budget:
    reset: float
    used: int = 0
    points: deque[tuple[float, int]] = field(default_factory=deque)


class Limits:
    """What each credential has used up."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._budgets: dict[str, _Budget] = {}

    def spend(self, name: str, method: str, now: datetime) -> None:
        """Count a request; 403 when a limit is passed (docs: rate limits for the REST API)."""
        budget = self._budget(name, now)
        if budget.used >= self._settings.core_limit:
            raise ApiError(403, f"API rate limit exceeded for {name}.")
        budget.used += 1
        if self._settings.secondary_points is None:
            return
        budget.points.append((now.timestamp(), 1 if method == "GET" else WRITE_POINTS))
        while budget.points and budget.points[0][0] <= now.timestamp() - MINUTE:
            budget.points.popleft()
        if sum(points for _, points in budget.points) > self._settings.secondary_points:
            text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
            raise ApiError(403, text, headers={"retry-after": str(MINUTE)})

    def figures(self, name: str, now: datetime) -> dict[str, int]:
        """limit, remaining, reset and used of a credential."""
        budget = self._budget(name, now)
        limit = self._settings.core_limit
        return {
            "limit": limit,
            "remaining": max(0, limit - budget.used),
            "reset": int(budget.reset),
            "used": budget.used,
        }

    def headers(self, name: str, now: datetime) -> dict[str, str]:
        """The same as headers."""
        figures = self.figures(name, now)
        return {f"x-ratelimit-{key}": str(value) for key, value in figures.items()} | {"x-ratelimit-resource": "core"}

    def _budget(self, name: str, now: datetime) -> _Budget:
        budget = self._budgets.get(name)
        if budget is None or now.timestamp() >= budget.reset:
            budget = self._budgets[name] = _Budget(reset=now.timestamp() + HOUR)
        return budget
