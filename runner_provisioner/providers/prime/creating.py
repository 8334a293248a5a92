"""What became of a create: refused, or of an outcome that nobody knows."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import NoReturn, TypeVar

from runner_provisioner.errors import (
    CreateOutcomeUnknown,
    ProtocolViolation,
    RemoteError,
    ServiceUnavailable,
    Unreachable,
)
from runner_provisioner.providers.prime.failures import SERVICE

_HINT = re.compile(r"[:;] (?:check the network|check PRIME_API_BASE_URL|try again|wait and try)")

T = TypeVar("T")


async def created(call: Awaitable[T], *, operation: str, name: str) -> T:
    """What the call gives; raises CreateOutcomeUnknown where a pod may exist although the call failed."""
    try:
        return await call
    except Unreachable as error:
        if not error.arrived:
            raise
        outcome_unknown(operation, name, error)
    except (ServiceUnavailable, ProtocolViolation) as error:
        outcome_unknown(operation, name, error)


def outcome_unknown(operation: str, name: str, cause: RemoteError) -> NoReturn:
    """Raise CreateOutcomeUnknown for this reason."""
    why = _HINT.split(str(cause))[0]
    message = f"Prime Intellect may or may not have rented '{name}' ({why}): look it up by name before renting again"
    raise CreateOutcomeUnknown(
        message, service=SERVICE, operation=operation, request_id=cause.request_id, code=cause.code
    ) from cause
