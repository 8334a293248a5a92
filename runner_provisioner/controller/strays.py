"""What a caller sends that nothing would read: a slip of the pen that must not pass as served."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fastapi import Request

from runner_provisioner.controller.failures import FieldRefused

KEY: Final = "Idempotency-Key"
_SHOWN = 80  # characters of a name that the caller has made up


def refuse_strays(request: Request, known: Collection[str]) -> None:
    """Raises FieldRefused for a query parameter that is none of `known`, and for a second idempotency key."""
    for name in request.query_params:
        if name not in known:
            there = f"this path knows {', '.join(known)}" if known else "this path knows none"
            raise FieldRefused(f"no such query parameter: {there}", place=("query", name[:_SHOWN]))
    if len(request.headers.getlist(KEY)) > 1:
        raise FieldRefused("one such header a request: which of several is meant cannot be told", place=("header", KEY))
