"""How the simulated Lium (formerly Celium) behaves; everything can be changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runner_provisioner.simulators.market import settings as market
from runner_provisioner.simulators.market.settings import Progress

__all__ = ["Envelope", "Progress", "RentAnswer", "Settings"]


class Envelope(StrEnum):
    """What an error looks like."""

    ERROR = "error"
    """`{"error": {code, message, hint, request_id}, "message": ...}`."""
    DETAIL = "detail"
    """`{"detail": ...}`, as older servers have it."""


class RentAnswer(StrEnum):
    """What the answer to a rent is."""

    POD = "pod"
    SHORT = "short"
    """`{success, pod_id}`."""


@dataclass(kw_only=True)
class Settings(market.Settings):
    """What Lium has beyond every market. A pod that the provider takes is gone, and only its events tell why."""

    restart_delay: float = 1.0
    interruption_removes: bool = True
    envelope: Envelope = Envelope.ERROR
    rent_answer: RentAnswer = RentAnswer.POD
    rent_seconds: float = 0.0
    """How long a rent is worked on: a repeat with the same Idempotency-Key is refused as in progress until then."""
    template_statuses: tuple[str, ...] = ("CREATED",)
    """What a new template shows at each look, the last one for good; a template that is VERIFY_FAILED rents nothing."""
    ssh_seconds: float = 0.0
    """How long a pod that runs has no `ssh_connect_cmd` yet."""
    failed_seconds: float = 180.0
    """How long the row of a failed creation is listed."""
    deletion_seconds: float = 0.0
    """How long an ended pod stays DELETING, and bills."""
    up_seconds: float = 1.0
    """A container that ends sooner than this after its first start is a failed creation."""
    polls_per_minute: int | None = None
    """How many lists and details of pods an account may read in a minute (the service: 60)."""
