"""What Prime Intellect's refusals mean: one table from what arrives to one class of our errors.

The status decides; where one status means several things (400, 403, 404) the words of `detail` do. Which words those
are is what SkyPilot 0.14.1 and the prime CLI 0.18 look for: the service documents none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner_provisioner.errors import (
    REMOTE_TEXT_LIMIT,
    ApiRetired,
    AuthenticationFailed,
    CapacityUnavailable,
    InsufficientFunds,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    RunnerProvisionerError,
    ServerError,
    Timeout,
)

if TYPE_CHECKING:
    from runner_provisioner._http import Answer

SERVICE = "prime"
NO_SUCH_ROUTE = "NO_SUCH_ROUTE"
"""The code of a 404 that does not say what is missing: an unknown address, or an unknown thing without words."""

_KEY = "Prime Intellect refused the API key: set PRIME_API_KEY to a valid key from the dashboard's page of API keys"
_PERMISSION = "the Prime Intellect API key lacks a permission: give it Instances -> Read and write"
_TEAM = "the Prime Intellect account is no member of this team: check PRIME_TEAM_ID"
_FUNDS = "the Prime Intellect wallet does not allow this: add funds"
_STOCK = "Prime Intellect has nothing of this to rent right now: try another offer or GPU, or later"
_INPUT = "Prime Intellect does not accept the request as it stands: correct the field that it names"
_GONE = "Prime Intellect knows no such thing: look the id up in its list"
_NO_API = "Prime Intellect's API does not answer at this address: check PRIME_API_BASE_URL"
_RETIRED = "this Prime Intellect API has been switched off: upgrade runner-provisioner"
_PACE = "too many requests to Prime Intellect: wait and try again"
_INTERNAL = "Prime Intellect failed internally: try again later, see its status page"
_SLOW = "Prime Intellect gave up waiting: try again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One condition: a status (or a status and above), and the words in it that decide, where any do."""

    id: str
    status: int
    error: type[RunnerProvisionerError]
    advice: str
    code: str
    text: str | None = None
    and_above: bool = False

    def applies(self, status: int, said: str) -> bool:
        """Whether an answer is this condition."""
        same = status == self.status or (self.and_above and status > self.status)
        return same and (self.text is None or re.search(self.text, said, re.IGNORECASE) is not None)


_MONEY = r"\b(funds|balance|credits?|payment|billing|spend(ing)? limit)\b"
_CAPACITY = r"capacity|unavailable|out of stock|insufficient|not available|quota exceeded|limit exceeded"


def _row(
    name: str, status: int, error: type[RunnerProvisionerError], advice: str, code: str, *, text: str | None = None
) -> Row:
    return Row(id=name, status=status, error=error, advice=advice, code=code, text=text)


TABLE: tuple[Row, ...] = (
    _row("key", 401, AuthenticationFailed, _KEY, "UNAUTHENTICATED"),
    _row("funds", 402, InsufficientFunds, _FUNDS, "INSUFFICIENT_CREDITS"),
    _row("funds_403", 403, InsufficientFunds, _FUNDS, "INSUFFICIENT_CREDITS", text=_MONEY),
    _row("team", 403, PermissionDenied, _TEAM, "FORBIDDEN", text=r"\bteam\b"),
    _row("permission", 403, PermissionDenied, _PERMISSION, "FORBIDDEN", text=r"\bpermissions?\b"),
    _row("forbidden", 403, AuthenticationFailed, _KEY, "UNAUTHENTICATED"),
    # FastAPI says exactly "Not Found" of an unknown route: that must never pass for "gone already".
    _row("no_route", 404, ProtocolViolation, _NO_API, NO_SUCH_ROUTE, text=r"^(not found)?$"),
    _row("gone", 404, NotFound, _GONE, "NOT_FOUND"),
    # "Insufficient funds" is no lack of machines.
    _row("funds_400", 400, InsufficientFunds, _FUNDS, "INSUFFICIENT_CREDITS", text=_MONEY),
    _row("capacity", 400, CapacityUnavailable, _STOCK, "RESOURCE_UNAVAILABLE", text=_CAPACITY),
    _row("input", 400, InvalidRequest, _INPUT, "BAD_USER_INPUT"),
    _row("method", 405, InvalidRequest, _INPUT, "BAD_USER_INPUT"),
    _row("slow", 408, Timeout, _SLOW, "NETWORK_TIMEOUT"),
    _row("state", 409, InvalidRequest, _INPUT, "BAD_USER_INPUT"),
    _row("retired", 410, ApiRetired, _RETIRED, "API_RETIRED"),
    _row("fields", 422, InvalidRequest, _INPUT, "BAD_USER_INPUT"),
    _row("pace", 429, RateLimited, _PACE, "RATE_LIMITED"),
    Row(
        id="internal",
        status=500,
        error=ServerError,
        advice=_INTERNAL,
        code="INTERNAL_SERVER_ERROR",
        and_above=True,
    ),
)
_OTHER = _row("other", 0, ProtocolViolation, _NO_API, "MALFORMED_ANSWER")
# A list is always there: whoever has none is not this service.
_LISTS = frozenset({"listPods", "listSshKeys", "podHistory", "gpuSummary"})
_NO_LIST = _row("no_list", 404, ProtocolViolation, _NO_API, NO_SUCH_ROUTE)
_GOOD = range(200, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Turns an answer into the error it stands for; `redact` cleans whatever Prime Intellect said."""

    redact: Callable[[str], str]

    def error(self, answer: Answer, operation: str) -> RunnerProvisionerError | None:
        """The error that this answer means, or None when it is none."""
        if answer.status in _GOOD:
            return None
        said = detail(answer.body)
        row = row_of(answer.status, said)
        if row.error is NotFound and operation in _LISTS:
            row = _NO_LIST
        message = f"{row.advice} {self._quote(answer.status, said)}"
        if issubclass(row.error, RemoteError):
            return row.error(message, service=SERVICE, operation=operation, request_id=answer.request_id, code=row.code)
        return row.error(message)

    def _quote(self, status: int, said: str) -> str:
        clean = self.redact(" ".join(said.split()))[:REMOTE_TEXT_LIMIT]
        return f"(it said: {clean})" if clean else f"(status {status})"


def row_of(status: int, said: str) -> Row:
    """The first row of the table that applies."""
    return next((row for row in TABLE if row.applies(status, said.strip())), _OTHER)


def detail(body: bytes) -> str:
    """What an error's body says, in one string; "" when it is no document of this service.

    A validation error names each field and what is wrong with it, never the value that was sent.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    said = next((found[name] for name in ("detail", "error", "message") if found.get(name)), "")
    parts = said if isinstance(said, list) else [said]
    return " / ".join(text for text in map(_complaint, parts) if text)


def _complaint(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    message = next((part[name] for name in ("msg", "message", "detail") if isinstance(part.get(name), str)), "")
    place = part.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, (list, tuple)) else ""
    return ": ".join(text for text in (where, message) if text)


def malformed(operation: str, what: str) -> ProtocolViolation:
    """The error of an answer that is not as documented."""
    message = f"Prime Intellect's answer to {operation} is not as documented ({what}): try again later"
    return ProtocolViolation(message, service=SERVICE, operation=operation, code="MALFORMED_ANSWER")


def no_such_pod(pod_id: str, operation: str) -> NotFound:
    """The error of a pod that does not exist."""
    message = f"Prime Intellect knows no pod {pod_id}: look the id up in the list of pods"
    return NotFound(message, service=SERVICE, operation=operation, code="NOT_FOUND")
