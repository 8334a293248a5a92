"""What ends a pod that everybody has forgotten, and when a market without a kill time may be rented from."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from enum import StrEnum

from runner_provisioner.domain.ladder import Ladder, Refusal
from runner_provisioner.errors import NoKillTime

QUIET = timedelta(hours=24)
"""How old the last scheduled clean-up may be that shows that the next one will come."""


class Layer(StrEnum):
    """One of the ways in which a pod ends, each of them without the others."""

    STOP = "stop"
    WATCH = "watch"
    SWITCH = "the switch in the pod"
    KILL_TIME = "the provider's kill time"
    CLEAN_UP = "the scheduled clean-up"


def layers(*, kill_time: bool, switch: bool) -> tuple[Layer, ...]:
    """Those that a pod has: `kill_time` where its provider ends it, `switch` where it can end itself."""
    have = {Layer.SWITCH: switch, Layer.KILL_TIME: kill_time}
    return tuple(layer for layer in Layer if have.get(layer, True))


def say_layers(found: Collection[Layer]) -> str:
    """In a few words for a person."""
    without = "" if Layer.KILL_TIME in found else "; its provider has no kill time"
    return ", ".join(found) + without


_NO_RUNNER = (
    "{} ends no pod by itself, and no scheduled clean-up is known to have succeeded in the last 24 hours: "
    "schedule 'cleanup', or give --accept-no-kill-time"
)
_BY_HAND = "{0} ends no pod by itself: give --provider {0} if you will end it"


def without_kill_time(found: Ladder, providers: Collection[str], *, by_hand: bool = False) -> Ladder:
    """The ladder without the rungs at these providers, which end no pod by themselves; each is refused, with why.

    `by_hand` says it for a pod that has no runner and that no clean-up of a repository need know of.
    """
    why = _BY_HAND if by_hand else _NO_RUNNER
    refusals = [
        Refusal(offer=offer, error=NoKillTime(why.format(offer.provider)))
        for offer in found.rungs
        if offer.provider in providers
    ]
    rungs = tuple(offer for offer in found.rungs if offer.provider not in providers)
    return Ladder(rungs=rungs, refusals=(*found.refusals, *refusals))
