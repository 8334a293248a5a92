"""What becomes of an error: one status for each class, and one shape for each contract."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from runner_provisioner import errors
from runner_provisioner.controller.words import in_words_of, place_of
from runner_provisioner.domain.served import Contract
from runner_provisioner.errors import RunnerProvisionerError
from runner_provisioner.services.once import KeyReused, StillServed
from runner_provisioner.services.served import NotOurs

RETRY_AFTER = 10  # seconds, where nobody says how long an outage lasts
_UNREADABLE = "There was an error parsing the body"  # FastAPI's own words, where the body is no JSON for Python
INTERNAL = "internal error: the log of the service tells more"
_UNKNOWN_ADVICE = "repeat the request with the same Idempotency-Key, or look the pod up, before another create"

# The nearest class of an error decides. What was asked for and cannot be had is the caller's to change, so that 5xx
# always means an outage.
STATUSES: Mapping[type[BaseException], HTTPStatus] = {
    RunnerProvisionerError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ConfigurationError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MissingCredential: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.RemoteError: HTTPStatus.BAD_GATEWAY,
    errors.TransientError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ServerError: HTTPStatus.BAD_GATEWAY,
    errors.ProviderError: HTTPStatus.CONFLICT,
    errors.InsufficientFunds: HTTPStatus.PAYMENT_REQUIRED,
    errors.CreateOutcomeUnknown: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.OutOfTime: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ProvisioningFailed: HTTPStatus.CONFLICT,
    errors.BudgetExceeded: HTTPStatus.PAYMENT_REQUIRED,
    errors.LeftBehind: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    StillServed: HTTPStatus.CONFLICT,
    NotOurs: HTTPStatus.FORBIDDEN,
}
_KINDS = {404: "NotFound", 405: "MethodNotAllowed", 408: "TooSlow", 413: "TooLarge"}
_UNPROCESSABLE = HTTPStatus.UNPROCESSABLE_ENTITY
_WORTH_REPEATING = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE})


class RequestRefused(RunnerProvisionerError):
    """The service itself refuses the request, whatever a provider would say."""

    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """`retry_after` in seconds, where waiting helps."""
        super().__init__(message)
        self.retry_after = retry_after


class Unauthenticated(RequestRefused):
    """No key, or none that is good."""

    status = HTTPStatus.UNAUTHORIZED
    headers: ClassVar[Mapping[str, str]] = {"www-authenticate": 'Bearer realm="runner-provisioner"'}


class Forbidden(RequestRefused):
    """The key is good and lacks the permission, or the request comes from another site."""

    status = HTTPStatus.FORBIDDEN


class TooManyRequests(RequestRefused):
    """The key's rate limit."""

    status = HTTPStatus.TOO_MANY_REQUESTS


class FieldRefused(RequestRefused):
    """A value that cannot be; `place` leads to it in the body, the query or the path."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, message: str, *, place: Sequence[str]) -> None:
        """As FastAPI tells a place: "body", "pod", "gpuType"."""
        super().__init__(message)
        self.place = tuple(place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a caller is told of an error; `fields` are (place, message) where the request itself is wrong."""

    status: int
    message: str
    kind: str
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[tuple[tuple[str, ...], str], ...] = ()


def told(error: Exception, contract: Contract | None = None, redact: Callable[[str], str] = str) -> Told:
    """Status, message and headers, in the words of the contract; of what nobody expected only that it happened.

    `redact` comes before those words: a secret of which one is replaced is no longer known.
    """
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException) and error.detail == _UNREADABLE:
        why = "the body is no JSON that can be read"
        return Told(status=_UNPROCESSABLE, message=why, kind="InvalidRequest", fields=((("body",), why),))
    if isinstance(error, HTTPException):
        kind = _KINDS.get(error.status_code, "HTTP")
        return Told(status=error.status_code, message=error.detail, kind=kind, headers=dict(error.headers or {}))
    if isinstance(error, RequestRefused):
        return _refused(error)
    if isinstance(error, RunnerProvisionerError):
        return _known(error, contract, redact)
    return Told(status=HTTPStatus.INTERNAL_SERVER_ERROR, message=INTERNAL, kind="InternalError")


def status_of(error: RunnerProvisionerError) -> HTTPStatus:
    """That of the nearest class in the table; what the request names in vain is its own fault."""
    if isinstance(error, errors.NotFound) and error.about:
        return _UNPROCESSABLE
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def _known(error: RunnerProvisionerError, contract: Contract | None, redact: Callable[[str], str]) -> Told:
    status = status_of(error)
    message = in_words_of(contract, " ".join(redact(str(error)).split()))
    if isinstance(error, errors.CreateOutcomeUnknown):
        message = f"{message}; {_UNKNOWN_ADVICE}"
    headers = {}
    after = error.retry_after if isinstance(error, (errors.TransientError, StillServed)) else None
    if after is not None or status in _WORTH_REPEATING:
        headers["retry-after"] = _seconds(RETRY_AFTER if after is None else after)
    place = ("header", "Idempotency-Key") if isinstance(error, KeyReused) else place_of(contract, error)
    fields = ((place, message),) if status is _UNPROCESSABLE else ()
    return Told(status=status, message=message, kind=type(error).__name__, headers=headers, fields=fields)


def _refused(error: RequestRefused) -> Told:
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["retry-after"] = _seconds(error.retry_after)
    fields = ((error.place, str(error)),) if isinstance(error, FieldRefused) else ()
    return Told(status=error.status, message=str(error), kind=type(error).__name__, headers=headers, fields=fields)


def _invalid(error: RequestValidationError) -> Told:
    """Where and why, never what was sent: it may be a secret."""
    fields = tuple(map(_field, error.errors()))
    told = "; ".join(f"{'.'.join(place[1:]) or place[0]}: {message}" for place, message in fields[:3])
    message = f"the request cannot be served as it stands ({told}): see /docs"
    return Told(status=HTTPStatus.UNPROCESSABLE_ENTITY, message=message, kind="InvalidRequest", fields=fields)


def _field(one: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    if one["type"] == "json_invalid":
        # Its place is how far the body could be read.
        return ("body",), f"no JSON: {one['ctx']['error']} at character {one['loc'][-1]}"
    return tuple(map(str, one["loc"])), str(one["msg"])


def _seconds(after: float) -> str:
    return str(max(1, math.ceil(after)))


def contract_of(path: str) -> Contract | None:
    """Whose path it is; None for those of the service itself."""
    prefixes = {"/api/cloud": Contract.CLOUD, "/machines": Contract.MACHINES, "/api/v1": Contract.PODS}
    return next((one for prefix, one in prefixes.items() if f"{path}/".startswith(f"{prefix}/")), None)


def body_of(contract: Contract | None, error: Told) -> dict[str, Any]:
    """The error in the contract's own shape: `/api/cloud` has its envelope, the others FastAPI's `detail`."""
    if contract is Contract.CLOUD:
        fields = [{"field": ".".join(place[1:]) or place[0], "message": message} for place, message in error.fields]
        return {"data": None, "message": error.message, "error": {"type": error.kind, "fields": fields}}
    if error.fields:
        kind = "value_error"
        return {"detail": [{"loc": list(place), "msg": message, "type": kind} for place, message in error.fields]}
    return {"detail": error.message}
