"""What Lium says when it refuses.

Codes and the words "insufficient balance", "does not have the 'rent' scope", "already rented" and "not available" are
what clients look for (lium.io 0.32.0); the rest of the sentences is not relied on.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from runner_provisioner.simulators.celium.settings import Envelope
from runner_provisioner.simulators.market.rest import Answer, Refusal

RENTED = "Executor is not available: it is already rented"
NO_BALANCE = "Insufficient balance: renting this machine needs {} USD, you have {} USD"
NO_SCOPE = "API key '{}' does not have the '{}' scope"
OVER_BUDGET = "API key budget exceeded"
UNAUTHORIZED = "Invalid API key"
TOO_MANY = "Rate limit exceeded"
INTERNAL = "Internal server error"
IN_PROGRESS = "A request with this Idempotency-Key is in progress"
UNKNOWN = "The outcome of the first request with this Idempotency-Key is unknown"


class Refused(Refusal):
    """An error; the service draws its envelope."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        data: Mapping[str, Any] | None = None,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`data` are more facts; `fields` what is wrong with which field."""
        super().__init__(status, None)
        self.status = status
        self.code = code
        self.message = message
        self.data = dict(data or {})
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})


def body_of(refused: Refused, envelope: Envelope) -> dict[str, Any]:
    """As it is sent."""
    facts: Any = {"message": refused.message, **refused.data} if refused.data else refused.message
    if envelope is Envelope.DETAIL:
        if refused.fields:
            return {"detail": [{"loc": ["body", name], "msg": text} for name, text in refused.fields.items()]}
        return {"detail": facts}
    error = {"code": refused.code, "message": refused.message, "hint": None, "request_id": secrets.token_hex(8)}
    body: dict[str, Any] = {"success": False, "error": error, "message": facts}
    if refused.fields:
        body["validation_errors"] = [{"field": name, "message": text} for name, text in refused.fields.items()]
    return body


def answer_of(refused: Refused, envelope: Envelope) -> Answer:
    """As it is sent."""
    return Answer(body_of(refused, envelope), refused.status, refused.headers)


def invalid(field: str, message: str) -> Refused:
    """422: this field is wrong."""
    return Refused(422, "validation_error", "Validation failed", fields={field: message})


def missing(what: str) -> Refused:
    """404."""
    return Refused(404, f"{what.lower()}_not_found", f"{what} not found")
