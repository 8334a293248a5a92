"""What a pod of Lium is doing, in words that hold for every provider."""

from __future__ import annotations

from runner_provisioner.domain.pods import PodState

PROVIDER = "celium"

STARTING = frozenset({"PENDING", "REBOOT_PENDING"})
FAILED = frozenset({"CREATION_FAILED", "FAILED", "ERROR", "BROKEN", "REBOOT_FAILED"})
LEAVING = frozenset({"STOPPED", "DELETING"})
"""There, and not running; of a pod that nobody asked to end: taken."""
GONE = frozenset({"DELETED", "REMOVED", "TERMINATED", "CANCELLED"})


def state_of(status: str | None, *, reachable: bool, asked: bool) -> PodState | None:
    """The neutral state of a pod whose row says this; None = it is gone.

    `reachable`: whether it has an address to log in at. `asked`: whether its end, if it is one, was wanted.
    """
    word = (status or "").strip().upper()
    if word in FAILED:
        return PodState.FAILED
    if word in LEAVING:
        return PodState.STOPPED if asked else PodState.INTERRUPTED
    if word in GONE:
        return None if asked else PodState.INTERRUPTED
    if word == "RUNNING" and reachable:
        return PodState.RUNNING
    # PENDING, REBOOT_PENDING, RUNNING without an address, and a word not known here: it may cost money, and nothing
    # says that it failed.
    return PodState.STARTING


def is_over(status: str | None) -> bool:
    """Whether the row tells of an end, whose reason only the events know."""
    return (status or "").strip().upper() in LEAVING | GONE | FAILED


def is_deleting(status: str | None) -> bool:
    """Whether it is on its way out, and bills until it is gone."""
    return (status or "").strip().upper() == "DELETING"
