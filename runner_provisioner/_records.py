"""The request, response and error records of every remote call, and their count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner_provisioner._answers import Answer
from runner_provisioner._metrics import SUCCESS, CallMetrics
from runner_provisioner.errors import CreateOutcomeUnknown, GitHubError, ProviderError, RemoteError
from runner_provisioner.logging import Redactor, get_logger

_log = get_logger("http")


@dataclass(frozen=True)
class CallRecords:
    """Writes what one service's calls did; values are masked here already, whatever the log does later."""

    service: str
    redactor: Redactor
    metrics: CallMetrics

    def request(
        self, operation: str, method: str, variables: Mapping[str, object] | None, headers: Mapping[str, str]
    ) -> None:
        """A request is about to leave."""
        _log.debug(
            "http_request",
            type="request",
            service=self.service,
            operation=operation,
            method=method,
            variables=self.redactor.scrub(variables or {}),
            headers=self.redactor.scrub(headers),
        )

    def success(self, answer: Answer, seconds: float) -> None:
        """An answer with which nothing is wrong."""
        self._count(answer.operation, SUCCESS, seconds, failed=False)
        remaining = answer.headers.get("x-ratelimit-remaining", answer.headers.get("ratelimit-remaining", ""))
        if remaining.isdecimal():
            self.metrics.limited(self.service, int(remaining))
        _log.debug(
            "http_response",
            type="response",
            service=self.service,
            operation=answer.operation,
            status=SUCCESS,
            duration_ms=round(1000 * seconds),
            http_status=answer.status,
            request_id=answer.request_id,
            bytes=len(answer.body),
        )

    def failure(self, error: RemoteError, operation: str, seconds: float, *, again: bool = False) -> None:
        """No answer, or one that is an error; `again`: the call goes on with another attempt.

        A market or GitHub saying no to a good request is a fact, not a fault: it is logged quietly and raises no alert.
        So is an attempt that is followed by another, though it counts: what warns is the end of the call.
        """
        refused = isinstance(error, ProviderError | GitHubError) and not isinstance(error, CreateOutcomeUnknown)
        code = error.code or type(error).__name__
        self._count(operation, code, seconds, failed=not refused)
        write = _log.info if refused or again else _log.warning
        write(
            "http_error",
            type="error",
            service=self.service,
            operation=operation,
            status="failed",
            duration_ms=round(1000 * seconds),
            code=code,
            error={"code": code, "class": type(error).__name__, "message": str(error)},
            **({"request_id": error.request_id} if error.request_id else {}),
            **({"again": True} if again else {}),
        )

    def _count(self, operation: str, outcome: str, seconds: float, *, failed: bool) -> None:
        alert = self.metrics.record(self.service, operation, outcome, seconds, failed=failed)
        if alert is not None:
            _log.error("alert", type="alert", service=self.service, operation=operation, message=alert)
