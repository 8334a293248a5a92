"""What became of a create: refused, or of an outcome that nobody knows."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import NoReturn, TypeVar

from runner_provisioner.errors import (
    CreateOutcomeUnknown,
    ProtocolViolation,
    ProviderError,
    RemoteError,
    ServiceUnavailable,
    Unreachable,
)
from runner_provisioner.providers.runpod.failures import SERVICE

_HINT = re.compile(r"[:;] (?:check the network|try again|wait and try)")

T = TypeVar("T")


async def created(call: Awaitable[T], *, operation: str, name: str | None) -> T:
    """What the call gives; raises CreateOutcomeUnknown where a pod may exist although the call failed."""
    try:
        return await call
    except Unreachable as error:
        if not error.arrived:
            raise
        _outcome_unknown(operation, name, error)
    except (ServiceUnavailable, ProtocolViolation) as error:
        _outcome_unknown(operation, name, error)
    except ProviderError as error:
        if type(error) is ProviderError:  # a refusal that no row of the table knows
            _outcome_unknown(operation, name, error)
        raise


def _outcome_unknown(operation: str, name: str | None, cause: RemoteError) -> NoReturn:
    why = _HINT.split(str(cause))[0]
    message = f"RunPod may or may not have rented '{name}' ({why}): look it up by name before renting again"
    raise CreateOutcomeUnknown(
        message, service=SERVICE, operation=operation, request_id=cause.request_id, code=cause.code
    ) from cause
