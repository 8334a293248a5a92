"""What Lium's refusals mean: one table from what arrives to one class of our errors.

An error comes as `{"error": {code, message, hint, request_id}}`, beside or instead of `message`, `detail` and
`validation_errors` (lium.io 0.32.0). Its status, its code, its words and whether it was a rent choose the row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner_provisioner.errors import (
    REMOTE_TEXT_LIMIT,
    ApiRetired,
    AuthenticationFailed,
    CreateOutcomeUnknown,
    InsufficientFunds,
    InvalidRequest,
    NotFound,
    OfferGone,
    PermissionDenied,
    ProtocolViolation,
    ProviderError,
    RateLimited,
    RemoteError,
    RunnerProvisionerError,
    ServerError,
    about,
)

if TYPE_CHECKING:
    from runner_provisioner._http import Answer

SERVICE = "celium"
"""As the user calls it."""
RENT = "rentExecutor"
IN_PROGRESS = "IDEMPOTENCY_IN_PROGRESS"
UNKNOWN_OUTCOME = "IDEMPOTENCY_OUTCOME_UNKNOWN"
NO_ROUTE = "NO_ROUTE"
"""Code of a 404 that may be of the address and not of the thing."""
NO_METHOD = "NO_METHOD"


class KeyReused(InvalidRequest):
    """The Idempotency-Key has rented something else before."""


_KEY = "Lium refused the API key: set LIUM_API_KEY (or CELIUM_API_KEY) to a valid one"
_SCOPE = "the Lium API key may not do this: give it the scope that is named, out of read, rent, manage and billing"
_FUNDS = "the Lium account's balance does not allow this: add funds"
_BUDGET = "the Lium API key's budget is used up: raise it, or use another key"
_PROGRESS = "Lium still works on the first request for this pod: look it up by name"
_OUTCOME = "Lium does not know what became of the first request for this pod: look it up by name"
_REUSED = "this request for a pod was made with other values before: look the pod up by name"
_TAKEN = "this Lium node is taken or gone: take another offer"
_VOLUME = "Lium has no such volume: look its id up in the account"
_INPUT = "Lium does not accept the request as it stands: correct the field that it names"
_STATE = "the state at Lium does not allow this: look at it first"
_GONE = "Lium knows no such thing: look the id up"
_PACE = "too many requests to Lium: wait and try again"
_INTERNAL = "Lium failed internally: try again later"
_RETIRED = "this Lium API has been switched off: upgrade runner-provisioner"
_NO_API = "no Lium API answers at this address: check LIUM_BASE_URL, which ends in /api"
_UNKNOWN = "Lium refused for a reason not known here: read what it said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One condition: everything that is set has to hold. `text` is a pattern, `rent` is of renting alone.

    `about` is the option that the error is about.
    """

    id: str
    error: type[RunnerProvisionerError]
    advice: str
    statuses: tuple[int, ...] = ()
    code: str | None = None
    text: str | None = None
    rent: bool = False
    shown: str | None = None
    about: str = ""

    def fits(self, refusal: Refusal) -> bool:
        """Whether it says what this refusal is."""
        return (
            (not self.statuses or refusal.status in self.statuses)
            and (self.code is None or refusal.code == self.code)
            and (self.text is None or re.search(self.text, refusal.text, re.IGNORECASE) is not None)
            and (not self.rent or refusal.operation == RENT)
        )


def _status(status: int, error: type[RunnerProvisionerError], advice: str, shown: str | None = None) -> Row:
    return Row(id=f"status_{status}", statuses=(status,), error=error, advice=advice, shown=shown)


TABLE: tuple[Row, ...] = (
    Row(
        id="in_progress", code="idempotency_in_progress", error=CreateOutcomeUnknown, advice=_PROGRESS,
        shown=IN_PROGRESS,
    ),
    Row(
        id="in_progress_said", statuses=(409,), text=r"idempotency-key.*in progress", error=CreateOutcomeUnknown,
        advice=_PROGRESS, shown=IN_PROGRESS,
    ),
    Row(
        id="outcome_unknown", code="idempotency_outcome_unknown", error=CreateOutcomeUnknown, advice=_OUTCOME,
        shown=UNKNOWN_OUTCOME,
    ),
    Row(
        id="outcome_unknown_said", statuses=(409,), text=r"outcome.*unknown", error=CreateOutcomeUnknown,
        advice=_OUTCOME, shown=UNKNOWN_OUTCOME,
    ),
    Row(id="key_reused", code="idempotency_key_reused", error=KeyReused, advice=_REUSED),
    Row(
        id="key_reused_said", statuses=(400, 409, 422), text=r"idempotency-key (was|is|has been) (already )?used",
        error=KeyReused, advice=_REUSED,
    ),
    Row(id="unauthorized", statuses=(401,), error=AuthenticationFailed, advice=_KEY, shown="UNAUTHENTICATED"),
    Row(id="budget", code="API_KEY_BUDGET_EXCEEDED", error=InsufficientFunds, advice=_BUDGET),
    Row(id="payment", statuses=(402,), error=InsufficientFunds, advice=_FUNDS),
    Row(id="balance", code="insufficient_balance", error=InsufficientFunds, advice=_FUNDS),
    Row(
        id="balance_said", statuses=(403,), text=r"insufficient[ _]balance", error=InsufficientFunds, advice=_FUNDS
    ),
    # The key is a good one that may not do this; any other 403 says nothing good of it.
    Row(
        id="scope", statuses=(403,), text=r"\b(scopes?|permissions?)\b", error=PermissionDenied, advice=_SCOPE,
        shown="FORBIDDEN",
    ),
    Row(id="forbidden", statuses=(403,), error=AuthenticationFailed, advice=_KEY, shown="UNAUTHENTICATED"),
    Row(
        id="no_volume", statuses=(404,), text=r"\bvolume\b", rent=True, error=InvalidRequest, advice=_VOLUME,
        about="network-volume",
    ),
    Row(id="node_gone", statuses=(404,), text=r"\w", rent=True, error=OfferGone, advice=_TAKEN),
    Row(id="node_conflict", statuses=(409,), rent=True, error=OfferGone, advice=_TAKEN),
    Row(
        id="node_taken", statuses=(400,), text=r"not available|unavailable|no longer available|already rented",
        rent=True, error=OfferGone, advice=_TAKEN,
    ),
    # FastAPI's own words for an address without a route: they must never pass for "gone already".
    Row(
        id="no_route", statuses=(404,), text=r"^\W*(not found\W*(:.*)?)?$", error=ProtocolViolation, advice=_NO_API,
        shown=NO_ROUTE,
    ),
    _status(400, InvalidRequest, _INPUT),
    _status(404, NotFound, _GONE, "NOT_FOUND"),
    _status(405, ProtocolViolation, _NO_API, NO_METHOD),
    _status(409, InvalidRequest, _STATE),
    _status(410, ApiRetired, _RETIRED, "API_RETIRED"),
    _status(422, InvalidRequest, _INPUT),
    _status(429, RateLimited, _PACE, "RATE_LIMITED"),
)  # fmt: skip
_OTHER_5XX = Row(id="status_5xx", error=ServerError, advice=_INTERNAL, shown="SERVER_ERROR")
_OTHER = Row(id="status_other", error=ProtocolViolation, advice=_NO_API, shown="MALFORMED_ANSWER")
_REFUSED = Row(id="refused", error=ProviderError, advice=_UNKNOWN)
_GOOD = range(200, 300)
_FAILED = 500
_FACTS = ("window", "budget_usd", "spent_usd", "required", "available")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What an answer says against the request, before it is understood."""

    status: int
    operation: str
    code: str | None = None
    texts: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    request_id: str | None = None

    @property
    def text(self) -> str:
        """All that was said."""
        return " / ".join(self.texts)

    @property
    def row(self) -> Row:
        """The first row of the table that applies."""
        if self.status in _GOOD:
            return _REFUSED
        if self.status >= _FAILED:
            return _OTHER_5XX
        return next((row for row in TABLE if row.fits(self)), _OTHER)


def read(answer: Answer, operation: str) -> Refusal | None:
    """Find what an answer says against the request; None when nothing."""
    body = _json(answer.body)
    row = body if isinstance(body, dict) else {}
    if answer.status in _GOOD and row.get("success") is not False:
        return None
    error = _row(row.get("error"))
    detail = _row(row.get("detail"))
    code = error.get("code") or detail.get("code") or row.get("code")
    return Refusal(
        status=answer.status,
        operation=operation,
        code=code if isinstance(code, str) else None,
        texts=tuple(dict.fromkeys(_texts(row))),
        facts=tuple(_facts(error, detail, _row(row.get("message")))),
        request_id=error.get("request_id") if isinstance(error.get("request_id"), str) else answer.request_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Turns an answer into the error it stands for; `redact` cleans whatever Lium said."""

    redact: Callable[[str], str]

    def error(self, answer: Answer, operation: str) -> RunnerProvisionerError | None:
        """The error that this answer means, or None when it is none."""
        refusal = read(answer, operation)
        return None if refusal is None else self.explain(refusal)

    def explain(self, refusal: Refusal) -> RunnerProvisionerError:
        """Build the error of a refusal: one line, what to do first, then what Lium said."""
        row = refusal.row
        message = row.advice + self._quote(refusal)
        if not issubclass(row.error, RemoteError):
            return about(row.about, row.error(message))
        code = row.shown or self.redact(refusal.code or f"HTTP_{refusal.status}")
        return row.error(
            message, service=SERVICE, operation=refusal.operation, request_id=refusal.request_id, code=code
        )

    def _quote(self, refusal: Refusal) -> str:
        said = " ".join((*refusal.texts[:3], *refusal.facts))
        said = self.redact(" ".join(said.split()))
        return f" (it said: {said[:REMOTE_TEXT_LIMIT]})" if said else f" (status {refusal.status})"


def _texts(body: dict[str, Any]) -> list[str]:
    found: list[object] = []
    for part in (body.get("error"), body.get("message"), body.get("detail")):
        found += [part.get("message"), part.get("hint")] if isinstance(part, dict) else [part]
    for name, field, text in (("validation_errors", "field", "message"), ("detail", "loc", "msg")):
        listed = body.get(name)
        found += [_complaint(item, field, text) for item in listed] if isinstance(listed, list) else []
    return [text for text in found if isinstance(text, str) and text]


def _complaint(item: object, field: str, text: str) -> str | None:
    row = _row(item)
    place = row.get(field)
    where = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else place
    return f"{where}: {row[text]}" if where and row.get(text) else None


def _facts(*rows: dict[str, Any]) -> list[str]:
    found = {name: row[name] for row in rows for name in _FACTS if isinstance(row.get(name), (str, int, float))}
    return [f"{name}={value}" for name, value in found.items()]


def _row(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
