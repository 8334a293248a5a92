"""Why a pod of Lium ended: its events survive it.

The service's own words for a reclaim are not known (they are not documented, and no pod was lost for this program), so
the words of ends that were wanted are what is looked for, and any other end of a pod is its provider's doing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner_provisioner.providers.celium.wire import WireEvent

_MONEY = re.compile(r"balance|budget|fund|credit|payment|billing", re.IGNORECASE)
_TAKEN = re.compile(r"provider|reclaim|interrupt|preempt|evict|host|node|miner|executor", re.IGNORECASE)
_WANTED = re.compile(r"user|owner|renter|unrent|schedul|terminat|expir|ttl", re.IGNORECASE)


class EndKind(StrEnum):
    """Whose doing an end was."""

    WANTED = "wanted"  # somebody with the account, or the time that they had set
    MONEY = "money"
    TAKEN = "taken"  # the node's provider


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The last word of the events; `text` is for people. `kind` None: they tell of a failure, or of nothing."""

    kind: EndKind | None = None
    text: str = ""
    pod_name: str = ""


def end_of(events: Sequence[WireEvent]) -> End:
    """What the latest event with a reason or an error says."""
    name = next((event.pod_name for event in reversed(events) if event.pod_name), "")
    for event in reversed(events):
        if event.reason:
            text = f"{event.reason}: {event.detail}" if event.detail else event.reason
            return End(kind=_kind(event.reason), text=text, pod_name=name)
        if event.error:
            return End(text=event.error, pod_name=name)
    return End(pod_name=name)


def _kind(reason: str) -> EndKind:
    if _MONEY.search(reason):
        return EndKind.MONEY
    if _TAKEN.search(reason):
        return EndKind.TAKEN
    return EndKind.WANTED if _WANTED.search(reason) else EndKind.TAKEN
