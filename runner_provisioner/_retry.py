"""Which failed calls are sent again, and when."""

from __future__ import annotations

import email.utils
import enum
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tenacity import AsyncRetrying, RetryCallState

from runner_provisioner.errors import RateLimited, RemoteError, TransientError, Unreachable
from runner_provisioner.ports import Clock

ATTEMPTS = 5
# Neither becomes right by waiting.
NOT_WORTH_REPEATING = frozenset({"PIN_MISMATCH", "CERTIFICATE_INVALID"})


class Retry(enum.Enum):
    """What sending a request twice would do."""

    IDEMPOTENT = "idempotent"
    CREATE = "create"
    NEVER = "never"


@dataclass
class Tempo:
    """How patient every session of one program is, in seconds; `hurry` changes it for all of them at once."""

    request_timeout: float = 30.0
    max_backoff: float = 60.0
    retry_base: float = 5.0
    max_told_delay: float = 60.0
    attempts: int = ATTEMPTS
    hurried: bool = False

    def hurry(self) -> None:
        """From now on: timeouts of 2 s, no back-off above 0.5 s, at most one retry, no pacing (cancellation)."""
        self.request_timeout = min(self.request_timeout, 2.0)
        self.max_backoff = min(self.max_backoff, 0.5)
        self.max_told_delay = min(self.max_told_delay, 0.5)
        self.attempts = min(self.attempts, 2)
        self.hurried = True


def told_delay(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or a date (RFC 9110); None when absent or unreadable."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(int(text)))
    except ValueError:
        pass_until = _http_date(text)
    return None if pass_until is None else max(0.0, (pass_until - now).total_seconds())


def retrying(retry: Retry, tempo: Tempo, clock: Clock) -> AsyncRetrying:
    """The tenacity loop for one call: full jitter, told delays honoured, at once over when told to wait too long."""

    def wanted(state: RetryCallState) -> bool:
        error = _error(state)
        return error is not None and is_repeated(retry, tempo, error, state.attempt_number)

    def wait(state: RetryCallState) -> float:
        told = _told(_error(state))
        if told is not None:
            return told
        ceiling = min(tempo.max_backoff, tempo.retry_base * 2.0 ** (state.attempt_number - 1))
        return random.uniform(0.0, ceiling)  # noqa: S311 - spreads load, protects nothing

    return AsyncRetrying(
        sleep=clock.sleep,
        wait=wait,
        retry=wanted,
        reraise=True,
    )


def is_repeated(retry: Retry, tempo: Tempo, error: BaseException, attempt: int) -> bool:
    """Whether an attempt, the first being 1, that ended with this error is followed by another."""
    patient = attempt < tempo.attempts and (_told(error) or 0.0) <= tempo.max_told_delay
    return patient and may_repeat(retry, error)


def may_repeat(retry: Retry, error: BaseException) -> bool:
    """Whether this error allows sending the request again at all."""
    if not isinstance(error, TransientError) or error.code in NOT_WORTH_REPEATING:
        return False
    if retry is Retry.IDEMPOTENT:
        return True
    never_done = isinstance(error, RateLimited) or (isinstance(error, Unreachable) and not error.arrived)
    return retry is Retry.CREATE and never_done


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _told(error: BaseException | None) -> float | None:
    return getattr(error, "retry_after", None) if isinstance(error, RemoteError) else None


def _http_date(text: str) -> datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
