"""What every route of the three contracts does beside its work: keys, limits, the audit log, errors, counts."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from runner_provisioner.controller.access import Caller
from runner_provisioner.controller.failures import (
    Told,
    TooManyRequests,
    Unauthenticated,
    body_of,
    contract_of,
    told,
)
from runner_provisioner.controller.parts import Parts, parts_of
from runner_provisioner.controller.strays import refuse_strays
from runner_provisioner.domain.api_keys import Permission
from runner_provisioner.domain.served import AuditEntry
from runner_provisioner.errors import StoreError
from runner_provisioner.logging import get_logger, hiding, on_behalf_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
LONGEST_READ = 45.0
"""Seconds, whatever a read is made of: a proxy in between gives up after a minute."""
READING = frozenset({"GET", "HEAD"})
_STRANGERS = "?"  # all who have no good key are one caller
# What anybody can send without end must not fill the database: such a request is counted, and in the log.
_UNRECORDED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS})

log = get_logger("controller")


class ContractRoute(APIRoute):
    """A route behind keys; a write is in the audit log before it is done and after."""

    def get_route_handler(self) -> Handler:
        """FastAPI's own handler, wrapped."""
        served = super().get_route_handler()
        known = tuple(one.alias for one in self.dependant.query_params)
        operation = f"{self.tags[0]}.{self.name}" if self.tags else self.name

        async def work(request: Request) -> Response:
            refuse_strays(request, known)
            return await served(request)

        async def handler(request: Request) -> Response:
            parts = parts_of(request)
            request.state.request_id = uuid.uuid4().hex
            begun = parts.clock.monotonic()
            with hiding(), on_behalf_of(request.state.request_id) as with_key:
                request.state.with_key = with_key
                response, error = await _answered(parts, request, operation, work)
            parts.metrics.request(operation, response.status_code, parts.clock.monotonic() - begun, error)
            response.headers["x-request-id"] = request.state.request_id
            return response

        return handler


async def _answered(parts: Parts, request: Request, operation: str, work: Handler) -> tuple[Response, str]:
    """The answer, and the class of the error that it tells, "" where all went well."""
    request.state.caller = Caller()
    try:
        await _admit(parts, request)
        if request.method not in READING:
            await _audited(parts, request, operation)
        with parts.closing.under_way(LONGEST_READ if request.method in READING else math.inf):
            response = await work(request)
        error = ""
    except Exception as failure:  # noqa: BLE001 - whatever it is, it ends as an answer in the contract's shape
        said = told(failure, contract_of(request.url.path), parts.redact)
        response, error = response_of(request, said, parts.redact), said.kind
        log_failure(operation, failure, said)
    if request.method not in READING and response.status_code not in _UNRECORDED:
        try:
            await _audited(parts, request, operation, status=response.status_code, error=error)
        except StoreError as failure:  # it is done, and its answer must not be lost
            log.warning("audit_not_written", operation=operation, reason=str(failure))
    return response, error


async def _admit(parts: Parts, request: Request) -> None:
    try:
        caller = await parts.access.admit(request.headers.get("authorization"))
    except Unauthenticated:
        _count(parts, _STRANGERS)
        raise
    request.state.caller = caller
    request.state.with_key(caller.id)
    _count(parts, caller.id)
    caller.check(Permission.READ if request.method in READING else Permission.WRITE)


def _count(parts: Parts, caller: str) -> None:
    wait = parts.limits.take(caller)
    if wait is not None:
        raise TooManyRequests("too many requests with this key: wait as Retry-After says", retry_after=wait)


async def _audited(
    parts: Parts, request: Request, operation: str, *, status: int | None = None, error: str = ""
) -> None:
    key = request.state.caller.key
    path = request.path_params
    entry = AuditEntry(
        at=parts.clock.now(),
        request_id=request.state.request_id,
        operation=operation,
        key_id=key.id if key is not None else None,
        target=str(path.get("pod_id") or path.get("template_id") or getattr(request.state, "target", ""))[:100],
        provider=getattr(request.state, "provider", ""),
        status=status,
        error=error,
        client=request.client.host if request.client is not None else "",
    )
    await parts.state.audit.note(entry)


def response_of(request: Request, error: Told, redact: Callable[[str], str]) -> JSONResponse:
    """The error in the shape of the contract that the path belongs to; what providers said is redacted once more."""
    body = _redacted(body_of(contract_of(request.url.path), error), redact)
    return JSONResponse(body, status_code=error.status, headers=dict(error.headers))


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redacted(one, redact) for name, one in value.items()}
    if isinstance(value, list):
        return [_redacted(one, redact) for one in value]
    return value


def log_failure(operation: str, failure: Exception, said: Told) -> None:
    """A refusal is a fact, an outage a warning; what nobody expected comes with its traceback."""
    if said.kind == "InternalError":
        log.error("request_failed", operation=operation, exc_info=failure)
    else:
        log_refusal(operation, said)


def log_refusal(operation: str, said: Told) -> None:
    """An outage is worth a line for whoever runs the service; the others are for a log that is asked for."""
    tell = log.warning if said.status >= HTTPStatus.INTERNAL_SERVER_ERROR else log.info
    tell("request_refused", operation=operation, status=int(said.status), error=said.kind, message=said.message)
