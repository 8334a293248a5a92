"""What happened, for whoever wants to tell a person about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened: its snake_case `name`, when, and plain values that may be printed.

    `failure` is what nobody expected, with its traceback, for whoever keeps a log.
    """

    name: str
    at: datetime
    fields: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    failure: Exception | None = field(default=None, repr=False)
