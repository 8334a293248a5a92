"""RunPod's ways to write a moment."""

from __future__ import annotations

import re
from datetime import UTC, datetime

# "2026-05-01 10:20:30.123456789 +0000 UTC" is Go's default form, seen beside RFC 3339 (containers smoke tests).
_GO_FORM = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)? ([+-]\d\d)(\d\d)(?: [A-Z]+)?")
_FRACTION = re.compile(r"\.(\d{1,6})\d*")


def moment(value: object) -> datetime | None:
    """Read a moment in either of RunPod's forms, as UTC; None when it is not one."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    go = _GO_FORM.fullmatch(text)
    if go:
        text = f"{go[1]}T{go[2]}{go[3] or ''}{go[4]}:{go[5]}"
    try:
        found = datetime.fromisoformat(_FRACTION.sub(lambda part: "." + part[1].ljust(6, "0"), text))
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def stamp(when: datetime) -> str:
    """Write a moment as RunPod takes it: RFC 3339, whole seconds, UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
