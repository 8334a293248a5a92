"""Idempotency-Keys: the same create gets the same key, also in another process, until its outcome is known."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from runner_provisioner.domain.offers import Offer
from runner_provisioner.domain.pods import PodSpec

_NAMESPACE = uuid.UUID("5b0b0f3e-6b0f-5a0e-9a86-6c69756d2e69")


@dataclass
class Attempt:
    """One rent: its key, and what is sent with it once it is made."""

    key: str
    template_id: str | None = None
    body: dict[str, object] | None = field(default=None, repr=False)


class Attempts:
    """For each create of this process the attempt that is under way.

    A create is known by its pod's nonce and name and by its offer. Its first attempt has the same key in every process,
    so that a program that is started again finds the pod that was rented for its predecessor; the next key follows when
    the outcome of the one before is known, since Lium answers a used key with that outcome for a day.
    """

    def __init__(self) -> None:
        self._now: dict[str, tuple[int, Attempt]] = {}

    def of(self, spec: PodSpec, offer: Offer) -> str:
        """What this create is known by. Without a nonce nobody can repeat it, and it is known to this call alone."""
        nonce = spec.tags.nonce if spec.tags else None
        return f"{nonce or uuid.uuid4()}:{spec.name}:{offer.id}:{offer.gpu_count}"

    def current(self, create: str) -> Attempt:
        """The attempt under way, or a new one."""
        if create not in self._now:
            self._now[create] = (0, _attempt(create, 0))
        return self._now[create][1]

    def settled(self, create: str) -> None:
        """Its outcome is known: the next attempt has another key."""
        number = self._now[create][0] + 1
        self._now[create] = (number, _attempt(create, number))


def _attempt(create: str, number: int) -> Attempt:
    return Attempt(key=str(uuid.uuid5(_NAMESPACE, f"{create}:{number}")))
