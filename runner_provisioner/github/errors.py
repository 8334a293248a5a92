"""What GitHub's refusals mean, in the words of `runner_provisioner.errors`.

One reading serves both transports: the answers of our own HTTP session and the exceptions of PyGithub.
Sources: GitHub docs, "Rate limits for the REST API", "Troubleshooting the REST API", and the source tags on the lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from runner_provisioner.errors import (
    ApiRetired,
    AuthenticationFailed,
    GitHubError,
    JobStillRunning,
    PermissionDenied,
    RateLimited,
    RemoteError,
    RunnerBusy,
    RunnerNameTaken,
    ServerError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = "github"
UNTOLD_WAIT = 60.0  # seconds after a secondary limit that names no time (docs: rate limits)
LONGEST_WAIT = 3600.0  # the primary limit's window: whatever is told beyond it is a mistake
ABSENT = "NOT_FOUND"

_STILL_RUNS = re.compile(r"already running|in progress|still running|not (?:been )?completed", re.IGNORECASE)
_LIMIT = re.compile(r"rate limit|abuse detection", re.IGNORECASE)
_NO_ACCESS = re.compile(r"not accessible by|must have admin", re.IGNORECASE)
_CLOCK = re.compile(r"'(?:issued at|expiration time)' claim", re.IGNORECASE)
_SSO_PAGE = re.compile(r"url=(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What matters of an answer: header names in lower case, the message redacted and cut."""

    operation: str
    status: int
    headers: Mapping[str, str]
    message: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Who asked: what the reader calls the credential, and how it is put right."""

    label: str
    remedy: str
    permission_remedy: str
    is_app: bool = False


class ClockSkewed(AuthenticationFailed):
    """The App's signed statement was refused for its times; `server_time` is what GitHub's clock says."""

    def __init__(self, message: str, *, operation: str, request_id: str | None, server_time: datetime | None) -> None:
        """`server_time` is None when the answer had no Date."""
        super().__init__(message, service=SERVICE, operation=operation, request_id=request_id, code="CLOCK_SKEW")
        self.server_time = server_time


def error_of(reply: Reply, *, speaker: Speaker, now: datetime) -> RemoteError | None:
    """The error that this answer means; None for success."""
    if reply.status < 300:  # noqa: PLR2004 - the end of HTTP's success class
        return None
    if _is_rate_limit(reply):
        return _rate_limited(reply, speaker, now)
    reading = _BY_STATUS.get(reply.status)
    if reading is not None:
        return reading(reply, speaker)
    return _by_class(reply)


def told_wait(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds to wait after a limit: `retry-after`, else the reset of an empty budget, else a minute."""
    told = _seconds(headers.get("retry-after"))
    if told is None and headers.get("x-ratelimit-remaining") == "0":
        reset = _seconds(headers.get("x-ratelimit-reset"))
        # One second on top: the header's resolution.
        told = None if reset is None else reset - now.timestamp() + 1.0
    return UNTOLD_WAIT if told is None else min(max(told, 1.0), LONGEST_WAIT)


def _seconds(text: str | None) -> float | None:
    # PyGithub#2697: whole numbers are expected, and fractions were seen.
    return float(text) if text and re.fullmatch(r"\d{1,12}(?:\.\d+)?", text) else None


def _is_rate_limit(reply: Reply) -> bool:
    if reply.status == 429:  # noqa: PLR2004 - HTTP's own number
        return True
    if reply.status != 403 or _NO_ACCESS.search(reply.message):  # noqa: PLR2004 - HTTP's own number
        return False
    told = "retry-after" in reply.headers or reply.headers.get("x-ratelimit-remaining") == "0"
    return told or bool(_LIMIT.search(reply.message))


def _rate_limited(reply: Reply, speaker: Speaker, now: datetime) -> RateLimited:
    wait = told_wait(reply.headers, now)
    other = "" if speaker.is_app else ", or use a GitHub App, whose limit is its own"
    message = f"GitHub's rate limit is used up ({reply.message}): wait {wait:.0f} s{other}"
    return RateLimited(
        message, service=SERVICE, operation=reply.operation, request_id=reply.request_id, retry_after=wait
    )


def _make(kind: type[RemoteError], message: str, reply: Reply, code: str | None = None) -> RemoteError:
    return kind(message, service=SERVICE, operation=reply.operation, request_id=reply.request_id, code=code)


def _unauthenticated(reply: Reply, speaker: Speaker) -> RemoteError:
    if _CLOCK.search(reply.message):
        message = f"GitHub refused {speaker.label}: this machine's clock is wrong ({reply.message}): set it"
        return ClockSkewed(
            message, operation=reply.operation, request_id=reply.request_id, server_time=_date(reply.headers)
        )
    message = f"GitHub refused {speaker.label} ({reply.message}): {speaker.remedy}"
    return _make(AuthenticationFailed, message, reply, "UNAUTHENTICATED")


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers.get("date", "")).astimezone(UTC)
    except (TypeError, ValueError):
        return None


def _forbidden(reply: Reply, speaker: Speaker) -> RemoteError:
    if "suspended" in reply.message.lower():
        return _make(PermissionDenied, suspended_message(speaker.label), reply, "SUSPENDED")
    if reply.headers.get("x-github-sso", "").startswith("required"):
        return _make(PermissionDenied, _sso_message(reply, speaker), reply, "SAML_SSO")
    if _STILL_RUNS.search(reply.message):
        message = f"the run's attempt has not ended yet ({reply.message}): ask again when it has"
        return _make(JobStillRunning, message, reply)
    return _make(PermissionDenied, _permission_message(reply, speaker), reply, "FORBIDDEN")


def suspended_message(label: str) -> str:
    """What to do about a suspended installation."""
    return f"the installation of {label} is suspended: unsuspend it in the settings of that account"


def _sso_message(reply: Reply, speaker: Speaker) -> str:
    page = _SSO_PAGE.search(reply.headers["x-github-sso"])
    where = f" at {page[1]}" if page else ""
    return f"the organisation asks for single sign-on: authorise {speaker.label} for it{where}"


def _permission_message(reply: Reply, speaker: Speaker) -> str:
    return f"{speaker.label} may not do this ({reply.message}){_needed(reply.headers)}: {speaker.permission_remedy}"


def _needed(headers: Mapping[str, str]) -> str:
    permissions = headers.get("x-accepted-github-permissions", "").strip()
    if permissions:
        either = [part.strip().replace(",", " and ").replace("=", ": ") for part in permissions.split(";")]
        return f"; it needs the permission {' or '.join(either)}"
    scopes = headers.get("x-accepted-oauth-scopes", "").strip()
    return f"; it needs one of the scopes {scopes}" if scopes else ""


def _absent(reply: Reply, speaker: Speaker) -> RemoteError:
    # GitHub hides what a credential may not see behind 404 (docs: troubleshooting the REST API).
    message = (
        f"GitHub knows no such repository or organisation, or {speaker.label} cannot see or administer it"
        f"{_needed(reply.headers)}: check the name (--repository or --organization), and {speaker.permission_remedy}"
    )
    return _make(PermissionDenied, message, reply, ABSENT)


def _conflict(reply: Reply, _speaker: Speaker) -> RemoteError:
    if "already exists" in reply.message.lower():
        message = f"a runner of that name is registered already ({reply.message}): remove it first"
        return _make(RunnerNameTaken, message, reply)
    return _make(GitHubError, f"GitHub cannot do this now: {reply.message}", reply, "CONFLICT")


def _retired(reply: Reply, _speaker: Speaker) -> RemoteError:
    return _make(ApiRetired, f"GitHub no longer offers this ({reply.message}): update this program", reply)


def _unprocessable(reply: Reply, _speaker: Speaker) -> RemoteError:
    if reply.operation == "removeRunner":
        message = f"the runner still runs a job ({reply.message}): end the job, or wait until GitHub sees its end"
        return _make(RunnerBusy, message, reply)
    return _make(GitHubError, f"GitHub refused the request: {reply.message}", reply, "UNPROCESSABLE")


def _by_class(reply: Reply) -> RemoteError:
    if reply.status >= 500:  # noqa: PLR2004 - HTTP's server errors
        return _make(ServerError, f"GitHub failed with {reply.status} ({reply.message}): try again later", reply)
    if reply.status < 400:  # noqa: PLR2004 - HTTP's redirections
        message = "the repository was renamed or transferred: use its present name"
        return _make(GitHubError, message, reply, "MOVED")
    return _make(GitHubError, f"GitHub answered {reply.status}: {reply.message}", reply, str(reply.status))


_BY_STATUS = {
    401: _unauthenticated,
    403: _forbidden,
    404: _absent,
    409: _conflict,
    410: _retired,
    422: _unprocessable,
}
