"""Failures that any REST API can have, each an order for `faults.add`.

`times` is how many calls are hit (None = every one); nothing is done for those calls unless the row says so.
"""

from __future__ import annotations

from collections.abc import Callable

from runner_provisioner.simulators.faults import ANY, Fault, FaultKind


def html_502(operation: str = ANY, times: int | None = 1) -> Fault:
    """A proxy answers in the service's place."""
    body = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
    headers = {"content-type": "text/html"}
    return Fault(operation=operation, kind=FaultKind.ERROR, status=502, body=body, headers=headers, times=times)


def late_answer(operation: str, seconds: float, times: int | None = 1) -> Fault:
    """The operation is done at once; its answer comes so many seconds later."""
    return Fault(operation=operation, kind=FaultKind.DELAY_AFTER, seconds=seconds, times=times)


def lost_answer(operation: str, times: int | None = 1) -> Fault:
    """The operation is done; then the connection is cut."""
    return Fault(operation=operation, kind=FaultKind.DROP_AFTER, times=times)


def hang(operation: str = ANY, times: int | None = 1) -> Fault:
    """Nothing is done and never answered."""
    return Fault(operation=operation, kind=FaultKind.HANG, times=times)


def malformed(operation: str, body: str = "", times: int | None = 1) -> Fault:
    """The operation is done; the answer is this, or no JSON at all, with 200."""
    return Fault(operation=operation, kind=FaultKind.MALFORMED, body=body, times=times)


def redirect(operation: str, location: str, *, status: int = 307, times: int | None = 1) -> Fault:
    """Somewhere else is to be asked; nobody who holds a key should."""
    return Fault(operation=operation, kind=FaultKind.ERROR, status=status, headers={"location": location}, times=times)


def terminate_ignored(times: int | None = 1, *, operation: str = "pods.delete") -> Fault:
    """Accepted with the usual answer; the pod stays."""
    return Fault(operation=operation, kind=FaultKind.IGNORED, times=times)


ROWS: dict[str, Callable[..., Fault]] = {
    "html_502": html_502,
    "late_answer": late_answer,
    "lost_answer": lost_answer,
    "hang": hang,
    "malformed": malformed,
    "redirect": redirect,
    "terminate_ignored": terminate_ignored,
}
"""By name, for the control interface."""
