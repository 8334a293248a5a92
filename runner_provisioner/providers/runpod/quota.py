"""How many requests REST v2 still allows, as its answers tell (docs.runpod.io, RateLimit headers)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from runner_provisioner.ports import Clock

# "minute";r=0;t=12, "hour";r=2800;t=1812: r requests are left in a window that begins anew in t seconds.
_MEMBER = re.compile(r'"?([\w-]+)"?((?:\s*;\s*[\w-]+=[\d.]+)+)')
_PARAMETER = re.compile(r";\s*([\w-]+)=([\d.]+)")


@dataclass(frozen=True, slots=True)
class Window:
    """One of the windows in which requests are counted; seconds."""

    name: str
    remaining: int
    resets_in: float


def windows(header: str) -> tuple[Window, ...]:
    """What a `RateLimit` header says; members that cannot be read are left out."""
    found = []
    for name, rest in _MEMBER.findall(header):
        told = dict(_PARAMETER.findall(rest))
        try:
            found.append(Window(name=name, remaining=int(told["r"]), resets_in=float(told["t"])))
        except (KeyError, ValueError):
            continue
    return tuple(found)


class Quota:
    """The last state of each window."""

    def __init__(self, clock: Clock) -> None:
        """Count on `clock`."""
        self._clock = clock
        self._windows: dict[str, tuple[int, float]] = {}

    def note(self, headers: Mapping[str, str]) -> None:
        """Take what an answer's headers say (names in lower case)."""
        for window in windows(headers.get("ratelimit", "")):
            self._windows[window.name] = (window.remaining, self._clock.monotonic() + window.resets_in)

    def wait(self, *, spare: int = 0) -> float:
        """Seconds until a request is allowed again that leaves `spare` others in each window; 0 when it is now."""
        now = self._clock.monotonic()
        return max([0.0, *(until - now for remaining, until in self._windows.values() if remaining <= spare)])
