"""Failures of Lium, each an order for `faults.add`; with those of every REST API."""

from __future__ import annotations

import json
from collections.abc import Callable

from runner_provisioner.simulators.celium import texts
from runner_provisioner.simulators.celium.settings import Envelope
from runner_provisioner.simulators.celium.texts import Refused, body_of
from runner_provisioner.simulators.faults import ANY, Fault, FaultKind
from runner_provisioner.simulators.market import rows as market

RENT = "pods.rent"
DELETE = "pods.delete"
LIST = "pods.list"


def refused(
    operation: str,
    message: str,
    *,
    status: int = 400,
    code: str = "bad_request",
    envelope: str = Envelope.ERROR,
    times: int | None = 1,
) -> Fault:
    """An error in one of the two envelopes."""
    body = json.dumps(body_of(Refused(status, code, message), Envelope(envelope)))
    return Fault(operation=operation, kind=FaultKind.ERROR, status=status, body=body, times=times)


def no_stock(times: int | None = 1, *, status: int = 400) -> Fault:
    """The executor is taken: as 400, as 404 or as 409."""
    return refused(RENT, texts.RENTED, status=status, code="executor_not_available", times=times)


def low_balance(times: int | None = 1, *, envelope: str = Envelope.ERROR) -> Fault:
    """403, told by its code or by its words."""
    message = texts.NO_BALANCE.format("1.00", "0.10")
    return refused(RENT, message, status=403, code="insufficient_balance", envelope=envelope, times=times)


def over_budget(times: int | None = 1) -> Fault:
    """402: the key may not spend more."""
    facts = {"window": "daily", "budget_usd": 5.0, "spent_usd": 4.9}
    body = json.dumps(body_of(Refused(402, "API_KEY_BUDGET_EXCEEDED", texts.OVER_BUDGET, data=facts), Envelope.ERROR))
    return Fault(operation=RENT, kind=FaultKind.ERROR, status=402, body=body, times=times)


def in_progress(times: int | None = 1) -> Fault:
    """409: the first request with this Idempotency-Key is being worked on."""
    return refused(RENT, texts.IN_PROGRESS, status=409, code="idempotency_in_progress", times=times)


def outcome_unknown(times: int | None = 1) -> Fault:
    """409: nobody knows what became of the first request with this Idempotency-Key."""
    return refused(RENT, texts.UNKNOWN, status=409, code="idempotency_outcome_unknown", times=times)


def rate_limited(operation: str = ANY, *, retry_after: float | None = 1, times: int | None = 1) -> Fault:
    """429, with Retry-After (seconds) or without."""
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    body = json.dumps(body_of(Refused(429, "rate_limited", texts.TOO_MANY), Envelope.ERROR))
    return Fault(operation=operation, kind=FaultKind.ERROR, status=429, body=body, headers=headers, times=times)


def internal_error(operation: str = ANY, times: int | None = 1) -> Fault:
    """500; nothing was done."""
    return refused(operation, texts.INTERNAL, status=500, code="internal_error", times=times)


ROWS: dict[str, Callable[..., Fault]] = {
    **market.ROWS,
    "refused": refused,
    "no_stock": no_stock,
    "low_balance": low_balance,
    "over_budget": over_budget,
    "in_progress": in_progress,
    "outcome_unknown": outcome_unknown,
    "rate_limited": rate_limited,
    "internal_error": internal_error,
}
"""By name, for the control interface."""
