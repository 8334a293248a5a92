"""What RunPod's refusals mean: one table from what arrives to one class of our errors.

GraphQL refuses with status 200 and `errors[]`, mostly under the code RUNPOD, so the text decides first, then the
code, then the status (runpod-python#239, go-sdk). Both the texts seen in the wild and the codes of the GraphQL
integration specification are rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from runner_provisioner.errors import (
    REMOTE_TEXT_LIMIT,
    ApiRetired,
    AuthenticationFailed,
    BidTooLow,
    CapacityUnavailable,
    InsufficientFunds,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProtocolViolation,
    ProviderError,
    RateLimited,
    RemoteError,
    RunnerProvisionerError,
    ServerError,
    SpotDiscontinued,
)
from runner_provisioner.providers.runpod.moments import moment

if TYPE_CHECKING:
    from runner_provisioner._http import Answer

SERVICE = "runpod"
_INVALID = 422

_KEY = "RunPod refused the API key: set RUNPOD_API_KEY to a valid key from the console's settings page"
_PERMISSION = "the RunPod API key lacks a permission: give it access to pods (All, or Restricted with GraphQL write)"
_STOCK = "RunPod has nothing to rent that fits right now: try another GPU, a smaller disk, another cloud, or later"
_FILTER = "no RunPod machine meets all filters: relax the region, CPU, memory, disk or CUDA filter"
_HOST_FULL = "the pod's RunPod host has no free GPU left: end this pod and rent a new one"
_SPOT = "RunPod no longer offers interruptible pods: use --interruptible prefer or never"
_SPOT_RESUME = (
    "RunPod resumes an interruptible pod with a bid and an on-demand pod without: give a bid per GPU, or none"
)
_BID = "the bid is below RunPod's minimum: raise the bid or the maximum price"
_FUNDS = "the RunPod account's balance or spend limit does not allow this: add funds or raise the limit"
_GONE = "RunPod knows no such pod: look the id up in the list of pods"
_TEMPLATE = "RunPod knows no such template: look its id up in the list of templates"
_INPUT = "RunPod does not accept the request as it stands: correct the field that it names"
_STATE = "the pod's state at RunPod does not allow this action: look at its state first"
_PACE = "too many requests to RunPod: wait and try again"
_INTERNAL = "RunPod failed internally: try again later, see its status page"
_RETIRED = "this RunPod API has been switched off: upgrade runner-provisioner"
_NO_API = "no RunPod API answers at this address: check RUNPOD_API_URL and RUNPOD_REST_URL"
_UNKNOWN = "RunPod refused for a reason not known here: read what it said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One condition; exactly one of `text` (a pattern), `code` and `status` is set."""

    id: str
    error: type[RunnerProvisionerError]
    advice: str
    text: str | None = None
    code: str | None = None
    status: int | None = None


def _said(name: str, pattern: str, error: type[RunnerProvisionerError], advice: str) -> Row:
    return Row(id=name, text=pattern, error=error, advice=advice)


def _coded(code: str, error: type[RunnerProvisionerError], advice: str) -> Row:
    return Row(id=code.lower(), code=code, error=error, advice=advice)


def _answered(status: int, error: type[RunnerProvisionerError], advice: str) -> Row:
    return Row(id=f"status_{status}", status=status, error=error, advice=advice)


TABLE: tuple[Row, ...] = (
    _said("spot_discontinued", r"spot pods are no longer offered", SpotDiscontinued, _SPOT),
    _said("spot_field", r"cannot query field .?pod(rentinterruptable|bidresume)\b", SpotDiscontinued, _SPOT),
    _said("spot_type", r"unknown type .?pod(rentinterruptable|bidresume)input\b", SpotDiscontinued, _SPOT),
    _said("spot_mutation", r"unknown mutation\W*(pod(rentinterruptable|bidresume)\b.*)?$", SpotDiscontinued, _SPOT),
    _said("spot_resumed_as_on_demand", r"cannot resume an? (spot|on[- ]demand) pod", InvalidRequest, _SPOT_RESUME),
    _said("key_refused", r"invalid (authorization token|api key)|missing bearer token", AuthenticationFailed, _KEY),
    _said("key_expired", r"token has expired|not authenticated", AuthenticationFailed, _KEY),
    _said("no_permission", r"does not have (the )?permission", PermissionDenied, _PERMISSION),
    _said("host_full", r"not enough free gpus on the host", CapacityUnavailable, _HOST_FULL),
    _said("over_constrained", r"could not find any pods with required spec", CapacityUnavailable, _FILTER),
    _said("no_stock", r"no (longer any )?instances( currently)? available", CapacityUnavailable, _STOCK),
    _said("no_gpus", r"no gpus available", CapacityUnavailable, _STOCK),
    _said("not_placed", r"could not be placed", CapacityUnavailable, _STOCK),
    _said("host_too_small", r"does not have the resources to deploy", CapacityUnavailable, _STOCK),
    _said("bid_too_low", r"bid (price )?(is )?(too low|below|under)", BidTooLow, _BID),
    _said("funds", r"\b(balance|funds|spend(ing)? limit|insufficient credits?)\b", InsufficientFunds, _FUNDS),
    _said("unknown_template", r"\btemplate not found|\btemplate does not exist", InvalidRequest, _TEMPLATE),
    _said("unknown_pod", r"\bpod not found|\bpod does not exist", NotFound, _GONE),
    _said("pace", r"rate limit|too many requests", RateLimited, _PACE),
    _said("internal", r"something went wrong", ServerError, _INTERNAL),
    _coded("UNAUTHENTICATED", AuthenticationFailed, _KEY),
    _coded("FORBIDDEN", PermissionDenied, _PERMISSION),
    _coded("INSUFFICIENT_CREDITS", InsufficientFunds, _FUNDS),
    _coded("RESOURCE_UNAVAILABLE", CapacityUnavailable, _STOCK),
    _coded("BID_TOO_LOW", BidTooLow, _BID),
    _coded("NOT_FOUND", NotFound, _GONE),
    _coded("BAD_USER_INPUT", InvalidRequest, _INPUT),
    _coded("GRAPHQL_VALIDATION_FAILED", InvalidRequest, _INPUT),
    _coded("RATE_LIMITED", RateLimited, _PACE),
    _coded("INTERNAL_SERVER_ERROR", ServerError, _INTERNAL),
    _answered(400, InvalidRequest, _INPUT),
    _answered(401, AuthenticationFailed, _KEY),
    _answered(402, InsufficientFunds, _FUNDS),
    _answered(403, PermissionDenied, _PERMISSION),
    # A bare 404 names no pod: it must never pass for "gone already" (measured with the official SDK).
    _answered(404, ProtocolViolation, _NO_API),
    _answered(405, ProtocolViolation, _NO_API),
    _answered(409, InvalidRequest, _STATE),
    _answered(410, ApiRetired, _RETIRED),
    _answered(422, InvalidRequest, _INPUT),
    _answered(429, RateLimited, _PACE),
)
# RunPod's own code is nearly always RUNPOD, which tells nothing: logs and metrics get the specification's.
_CODES: dict[type[RunnerProvisionerError], str] = {
    AuthenticationFailed: "UNAUTHENTICATED",
    PermissionDenied: "FORBIDDEN",
    InsufficientFunds: "INSUFFICIENT_CREDITS",
    CapacityUnavailable: "RESOURCE_UNAVAILABLE",
    BidTooLow: "BID_TOO_LOW",
    SpotDiscontinued: "SPOT_DISCONTINUED",
    NotFound: "NOT_FOUND",
    RateLimited: "RATE_LIMITED",
    ServerError: "INTERNAL_SERVER_ERROR",
    ApiRetired: "API_RETIRED",
    ProtocolViolation: "MALFORMED_ANSWER",
}
_OTHER_5XX = Row(id="status_5xx", status=500, error=ServerError, advice=_INTERNAL)
_OTHER_STATUS = Row(id="status_other", status=0, error=ProtocolViolation, advice=_NO_API)
_REFUSED = Row(id="refused", error=ProviderError, advice=_UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What an answer says against the request, before it is understood."""

    status: int
    texts: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    resets_at: datetime | None = None
    each: tuple[Refusal, ...] = ()

    @property
    def row(self) -> Row:
        """The first row of the table that applies: by text, then by code, then by status.

        A 422 repeats fields and values of the request, whose words mean nothing.
        """
        found = None if self.status == _INVALID else self._by_text() or self._by_code()
        if found:
            return found
        if 200 <= self.status < 300:  # noqa: PLR2004 - the range of success in HTTP
            return _REFUSED
        named = next((row for row in TABLE if row.status == self.status), None)
        return named or (_OTHER_5XX if self.status >= 500 else _OTHER_STATUS)  # noqa: PLR2004 - server errors in HTTP

    def parts(self) -> tuple[Refusal, ...]:
        """Each complaint on its own."""
        return self.each or (self,)

    def _by_text(self) -> Row | None:
        # The code field has been seen carrying the sentence itself ("Cluster not found", go-sdk).
        said = (*self.texts, *self.codes)
        rows = (row for row in TABLE if row.text and any(re.search(row.text, text, re.IGNORECASE) for text in said))
        return next(rows, None)

    def _by_code(self) -> Row | None:
        return next((row for row in TABLE if row.code in self.codes), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Turns an answer into the error it stands for; `redact` cleans whatever RunPod said."""

    redact: Callable[[str], str]
    now: Callable[[], datetime]

    def error(self, answer: Answer, operation: str) -> RunnerProvisionerError | None:
        """The error that this answer means, or None when it is none."""
        refusal = read(answer)
        return self.explain(refusal, answer, operation) if refusal else None

    def explain(self, refusal: Refusal, answer: Answer, operation: str) -> RunnerProvisionerError:
        """Build the error of a refusal: one line, what to do first, then what RunPod said."""
        row = refusal.row
        message = row.advice + self._quote(refusal)
        code = _CODES.get(row.error) or self.redact(next(iter(refusal.codes), f"HTTP_{refusal.status}"))
        if issubclass(row.error, RateLimited):
            return RateLimited(
                message,
                service=SERVICE,
                operation=operation,
                request_id=answer.request_id,
                code=code,
                retry_after=self._wait(refusal),
            )
        if issubclass(row.error, RemoteError):
            return row.error(message, service=SERVICE, operation=operation, request_id=answer.request_id, code=code)
        return row.error(message)

    def _quote(self, refusal: Refusal) -> str:
        said = self.redact(" ".join(" / ".join(refusal.texts).split()))
        return f" (it said: {said[:REMOTE_TEXT_LIMIT]})" if said else f" (status {refusal.status})"

    def _wait(self, refusal: Refusal) -> float | None:
        # Retry-After is honoured for every service in _http; the specification's resetAt is RunPod's own.
        return max(0.0, (refusal.resets_at - self.now()).total_seconds()) if refusal.resets_at else None


def read(answer: Answer) -> Refusal | None:
    """Find what an answer says against the request, in any of RunPod's three shapes; None when nothing."""
    body = _json(answer.body)
    errors = body.get("errors") if isinstance(body, dict) else None
    good = 200 <= answer.status < 300  # noqa: PLR2004 - the range of success in HTTP
    if good and not errors:
        return None
    if not isinstance(body, dict):
        return Refusal(status=answer.status)
    items = errors if isinstance(errors, list) else [errors] if errors else []
    notes = [note for note in map(_extensions, items) if note]
    return Refusal(
        status=answer.status,
        texts=tuple(_texts(body, items)),
        codes=tuple(str(note["code"]) for note in notes if note.get("code")),
        each=tuple(_complaint(answer.status, item) for item in items),
        resets_at=next((when for when in (moment(note.get("resetAt")) for note in notes) if when), None),
    )


def _complaint(status: int, item: object) -> Refusal:
    code = _extensions(item).get("code")
    return Refusal(status=status, texts=tuple(_texts({}, [item])), codes=(str(code),) if code else ())


def _texts(body: dict[str, object], items: list[object]) -> list[str]:
    # GraphQL says errors[].message, REST v1 "error", REST v2 a problem with "detail" and errors[] of its own.
    whole = [body.get(name) for name in ("error", "detail", "message")]
    parts = [_complained(item) if isinstance(item, dict) else item for item in items]
    found = [text for text in (*parts, *whole) if isinstance(text, str) and text]
    title = body.get("title")
    return found or ([title] if isinstance(title, str) else [])


def _complained(item: dict[str, object]) -> object:
    said = item.get("message") or item.get("detail")
    field = item.get("field") or item.get("pointer")
    return f"{field}: {said}" if isinstance(field, str) and isinstance(said, str) and field not in said else said


def _extensions(item: object) -> dict[str, object]:
    found = item.get("extensions") if isinstance(item, dict) else None
    return found if isinstance(found, dict) else {}


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
