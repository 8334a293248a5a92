"""Failures of Prime Intellect, each an order for `faults.add`; with those of every REST API."""

from __future__ import annotations

import json
from collections.abc import Callable

from runner_provisioner.simulators.faults import ANY, Fault, FaultKind
from runner_provisioner.simulators.market import rows as market
from runner_provisioner.simulators.prime import texts

CREATE = "pods.create"
DELETE = "pods.delete"
LIST = "pods.list"


def refused(operation: str, detail: object, *, status: int = 400, times: int | None = 1) -> Fault:
    """An error in the service's envelope."""
    body = json.dumps({"detail": detail})
    return Fault(operation=operation, kind=FaultKind.ERROR, status=status, body=body, times=times)


def no_stock(times: int | None = 1, *, detail: str = texts.NO_CAPACITY) -> Fault:
    """The offer is gone; `detail` is one of several wordings that are known."""
    return refused(CREATE, detail, times=times)


def low_balance(times: int | None = 1) -> Fault:
    """The wallet is empty."""
    return refused(CREATE, texts.NO_FUNDS, status=402, times=times)


def rate_limited(operation: str = ANY, *, retry_after: float | None = 1, times: int | None = 1) -> Fault:
    """429, with Retry-After (seconds) or without."""
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    body = json.dumps({"detail": texts.TOO_MANY})
    return Fault(operation=operation, kind=FaultKind.ERROR, status=429, body=body, headers=headers, times=times)


def internal_error(operation: str = ANY, times: int | None = 1) -> Fault:
    """500."""
    return refused(operation, texts.INTERNAL, status=500, times=times)


ROWS: dict[str, Callable[..., Fault]] = {
    **market.ROWS,
    "refused": refused,
    "no_stock": no_stock,
    "low_balance": low_balance,
    "rate_limited": rate_limited,
    "internal_error": internal_error,
}
"""By name, for the control interface."""
