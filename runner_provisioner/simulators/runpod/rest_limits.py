"""The per-account limits of REST v2 and the headers that tell of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from runner_provisioner.simulators.runpod.settings import Settings

_LENGTHS = {"minute": 60, "hour": 3600, "day": 86400}


@dataclass
class _Window:
    began: float
    used: int = 0


class Limits:
    """Counts the requests of the account in fixed windows."""

    def __init__(self, settings: Settings, monotonic: Callable[[], float]) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._windows: dict[str, _Window] = {}

    def take(self) -> tuple[str, int] | None:
        """Count a request; the exceeded window and the seconds until it ends when it is one too many."""
        for name, most in self._settings.rest_limits.items():
            if self._window(name).used >= most:
                return name, max(1, math.ceil(self._left(name)))
        for name in self._settings.rest_limits:
            self._window(name).used += 1
        return None

    def headers(self) -> dict[str, str]:
        """Remaining requests and seconds to go, and the policy; none for an account without limits."""
        limits = self._settings.rest_limits
        if not limits:
            return {}
        left = [
            f'"{name}";r={max(0, most - self._window(name).used)};t={math.ceil(self._left(name))}'
            for name, most in limits.items()
        ]
        policy = [f'"{name}";q={most};w={_LENGTHS[name]}' for name, most in limits.items()]
        return {"RateLimit": ", ".join(left), "RateLimit-Policy": ", ".join(policy)}

    def _window(self, name: str) -> _Window:
        now = self._monotonic()
        window = self._windows.get(name)
        if window is None or now - window.began >= _LENGTHS[name]:
            window = self._windows[name] = _Window(began=now)
        return window

    def _left(self, name: str) -> float:
        return self._window(name).began + _LENGTHS[name] - self._monotonic()
