"""Ready-made faults: the rows of RunPod's table of errors, each as an order for `faults.add`.

`times` is how many calls are hit (None = every one); nothing is done for those calls unless the row says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

from runner_provisioner.simulators.faults import ANY, Fault, FaultKind
from runner_provisioner.simulators.runpod import texts

ON_DEMAND = "podFindAndDeployOnDemand"
SPOT = "podRentInterruptable"
TERMINATE = "podTerminate"
LIST = "myself.pods"


def refused(operation: str, message: str, *, code: str = texts.RUNPOD_CODE, times: int | None = 1) -> Fault:
    """A business error: HTTP 200 with `errors[]`."""
    errors = [{"message": message, "path": [operation], "extensions": {"code": code}}]
    body = json.dumps({"errors": errors, "data": {operation: None}})
    return Fault(operation=operation, kind=FaultKind.ERROR, status=200, body=body, times=times)


def no_stock(times: int | None = 1, *, operation: str = ON_DEMAND) -> Fault:
    """Nothing to be had, in the words of the operation."""
    return refused(operation, texts.NO_STOCK_SPOT if operation == SPOT else texts.NO_STOCK, times=times)


def spot_discontinued(times: int | None = 1) -> Fault:
    """As today's service refuses a spot pod."""
    return refused(SPOT, texts.SPOT_GONE, times=times)


def host_full(times: int | None = 1, *, operation: str = "podResume") -> Fault:
    """The host of a stopped pod has no free GPU."""
    return refused(operation, texts.HOST_FULL, times=times)


def low_balance(times: int | None = 1, *, operation: str = ON_DEMAND) -> Fault:
    """The account cannot pay for an hour."""
    return refused(operation, texts.LOW_BALANCE, times=times)


def internal_error(operation: str, times: int | None = 1) -> Fault:
    """An error inside RunPod that comes as HTTP 200."""
    return refused(operation, texts.INTERNAL, code=texts.INTERNAL_CODE, times=times)


def rate_limited(operation: str = ANY, *, retry_after: float = 1, times: int | None = 1) -> Fault:
    """429 with Retry-After (seconds)."""
    headers = {"retry-after": f"{retry_after:g}"}
    body = json.dumps({"errors": [{"message": texts.TOO_MANY}]})
    return Fault(operation=operation, kind=FaultKind.ERROR, status=429, body=body, headers=headers, times=times)


def rate_limited_until(operation: str, reset_at: datetime, *, times: int | None = 1) -> Fault:
    """HTTP 200 with code RATE_LIMITED and the moment in `resetAt`."""
    extensions = {"code": "RATE_LIMITED", "resetAt": reset_at.isoformat().replace("+00:00", "Z")}
    body = json.dumps({"errors": [{"message": texts.TOO_MANY, "extensions": extensions}], "data": None})
    return Fault(operation=operation, kind=FaultKind.ERROR, status=200, body=body, times=times)


def html_502(operation: str = ANY, times: int | None = 1) -> Fault:
    """A proxy answers in RunPod's place."""
    body = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
    headers = {"content-type": "text/html"}
    return Fault(operation=operation, kind=FaultKind.ERROR, status=502, body=body, headers=headers, times=times)


def null_200(operation: str, times: int | None = 1) -> Fault:
    """The operation is done; the whole answer is `null`."""
    return Fault(operation=operation, kind=FaultKind.MALFORMED, body="null", times=times)


def late_answer(operation: str, seconds: float, times: int | None = 1) -> Fault:
    """The operation is done at once; its answer comes so many seconds later."""
    return Fault(operation=operation, kind=FaultKind.DELAY_AFTER, seconds=seconds, times=times)


def lost_answer(operation: str, times: int | None = 1) -> Fault:
    """The operation is done; then the connection is cut."""
    return Fault(operation=operation, kind=FaultKind.DROP_AFTER, times=times)


def terminate_ignored(times: int | None = 1, *, operation: str = TERMINATE) -> Fault:
    """Accepted with the usual answer; the pod stays. Also for `rest.delete`."""
    return Fault(operation=operation, kind=FaultKind.IGNORED, times=times)


def problem(operation: str, status: int, detail: str, *, times: int | None = 1) -> Fault:
    """A refusal of REST v2 (`rest.create` and so on)."""
    body = json.dumps({"title": "Refused", "status": status, "detail": detail})
    headers = {"content-type": "application/problem+json"}
    return Fault(operation=operation, kind=FaultKind.ERROR, status=status, body=body, headers=headers, times=times)


def retired(operation: str = ANY, times: int | None = None) -> Fault:
    """410: this generation of the API is gone (a name of one operation: of that alone)."""
    body = json.dumps({"error": texts.RETIRED})
    return Fault(operation=operation, kind=FaultKind.ERROR, status=410, body=body, times=times)


ROWS: dict[str, Callable[..., Fault]] = {
    "refused": refused,
    "no_stock": no_stock,
    "spot_discontinued": spot_discontinued,
    "host_full": host_full,
    "low_balance": low_balance,
    "internal_error": internal_error,
    "rate_limited": rate_limited,
    "html_502": html_502,
    "null_200": null_200,
    "late_answer": late_answer,
    "lost_answer": lost_answer,
    "terminate_ignored": terminate_ignored,
    "problem": problem,
    "retired": retired,
}
"""By name, for the control interface."""
