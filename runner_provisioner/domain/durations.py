"""Durations as people write them: 90, 90s, 10m, 6h15m, 1d."""

from __future__ import annotations

import re
from datetime import timedelta

from runner_provisioner.errors import InvalidRequest

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_FORM = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_duration(text: str) -> timedelta:
    """Read a duration; a bare number is seconds. Raises InvalidRequest."""
    text = text.strip().lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return _bounded(text, float(text))
    found = _FORM.fullmatch(text)
    if not found or not any(found.groups()):
        raise InvalidRequest(f"'{text}' is not a duration: write 90s, 10m, 6h15m or 1d")
    return _bounded(
        text, sum(int(part or 0) * size for part, size in zip(found.groups(), _UNITS.values(), strict=True))
    )


def _bounded(text: str, seconds: float) -> timedelta:
    if seconds > 366 * 86400:
        raise InvalidRequest(f"'{text}' is longer than a year")
    return timedelta(seconds=seconds)


def show_duration(duration: timedelta) -> str:
    """Write it shortly, without the parts that are nothing; fractions of a second are dropped."""
    rest = int(duration.total_seconds())
    parts = []
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
