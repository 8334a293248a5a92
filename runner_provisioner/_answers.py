"""What a service answered, and which error that is when nobody knows the service better."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner_provisioner._redaction import Redactor
from runner_provisioner.errors import (
    REMOTE_TEXT_LIMIT,
    ApiRetired,
    AuthenticationFailed,
    NotFound,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    ServerError,
    Timeout,
)

_EXCERPT_FROM = 16_384
_REFUSED, _FAILED = 400, 500
_REQUEST_IDS = ("x-request-id", "x-github-request-id", "cf-ray")

# Status -> class, code, what to do about it.
_BY_STATUS: Mapping[int, tuple[type[RemoteError], str, str]] = {
    401: (AuthenticationFailed, "UNAUTHENTICATED", "the credential was refused; check or replace it"),
    403: (PermissionDenied, "FORBIDDEN", "the credential lacks a permission for this"),
    404: (NotFound, "NOT_FOUND", "there is no such thing, or the credential may not see it"),
    408: (Timeout, "NETWORK_TIMEOUT", "the service gave up waiting; try again"),
    410: (ApiRetired, "API_RETIRED", "this version of the service's interface is gone; update this program"),
    429: (RateLimited, "RATE_LIMITED", "too many requests; wait and try again"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end; header names are in lower case. Its repr shows neither headers nor body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    service: str = ""
    operation: str = ""
    redactor: Redactor | None = field(default=None, repr=False, compare=False)

    def json(self) -> Any:  # noqa: ANN401 - JSON may be anything
        """The body as JSON; raises ProtocolViolation when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            what = f"the answer is no JSON: {self.excerpt()[:160]!r}; check the address of the service, or try later"
            raise self.error(ProtocolViolation, "MALFORMED_ANSWER", what) from None

    def excerpt(self) -> str:
        """The beginning of the body, redacted, on one line of at most `REMOTE_TEXT_LIMIT` characters."""
        text = self.body[:_EXCERPT_FROM].decode("utf-8", "replace")
        return (self.redactor or Redactor()).one_line(text, REMOTE_TEXT_LIMIT)

    @property
    def request_id(self) -> str | None:
        """The service's own name of this exchange, for its support."""
        return next((self.headers[name] for name in _REQUEST_IDS if name in self.headers), None)

    def error(self, kind: type[RemoteError], code: str, text: str) -> RemoteError:
        """An error of this exchange; `text` says what was wrong and what to do, the place is put in front."""
        return kind(
            f"{self.service} {self.operation}: {text}".strip(),
            service=self.service,
            operation=self.operation,
            request_id=self.request_id,
            code=code,
        )


def error_of_status(answer: Answer) -> RemoteError | None:
    """The typed error that the status alone stands for; None below 400."""
    if answer.status < _REFUSED:
        return None
    known = _BY_STATUS.get(answer.status)
    if known is not None:
        kind, code, advice = known
        return answer.error(kind, code, f"HTTP {answer.status}, {advice} ({answer.excerpt() or 'empty answer'})")
    if answer.status >= _FAILED:
        text = f"HTTP {answer.status}, the service failed; try again later"
        return answer.error(ServerError, "SERVER_ERROR", f"{text} ({answer.excerpt() or 'empty answer'})")
    text = f"HTTP {answer.status}, the service refused the request"
    return answer.error(RemoteError, f"HTTP_{answer.status}", f"{text} ({answer.excerpt() or 'empty answer'})")
