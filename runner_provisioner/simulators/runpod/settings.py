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
    graphql_retired: bool = False
    """Whether GraphQL answers 410, as it will from early 2027 on."""
    rest_limits: dict[str, int] = field(default_factory=lambda: {"minute": 60, "hour": 3000, "day": 50_000})
    """Requests that REST v2 allows the account in each window; empty for one that is exempt."""
    rest_command: bool = True
    """Whether a create over REST v2 takes `entrypoint` and `cmd` (newer than its document of September 2026)."""
    rest_price_factor: Decimal = Decimal(1)
    """What a pod made over REST v2 costs, as a multiple of the catalogue's price."""
    rest_null: float = 0.0
    """How long an ended pod is answered as 200 `null` instead of 404 (seen while a pod is torn down)."""
