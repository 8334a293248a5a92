"""How the simulated RunPod behaves; everything can be changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from runner_provisioner.simulators.market import settings as market
from runner_provisioner.simulators.market.settings import Progress

__all__ = ["Progress", "Settings"]


@dataclass(kw_only=True)
class Settings(market.Settings):
    """What RunPod has beyond every market. `list_lag` is that of `myself.pods`."""

    go_times: bool = False
    """Whether times are written as `2026-11-01 12:00:00.0 +0000 UTC` (seen in RunPod's own smoke tests)."""
    spend_limit: Decimal = Decimal(80)
    """US dollars per hour over all pods."""
    public_keys: str = ""
    """The account's SSH keys, one a line."""
    secrets: dict[str, str] = field(default_factory=dict)
    """What `{{ RUNPOD_SECRET_name }}` in a pod's environment stands for."""
