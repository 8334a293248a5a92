"""How the simulated Prime Intellect behaves; everything can be changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from runner_provisioner.simulators.market import settings as market
from runner_provisioner.simulators.market.settings import Progress

__all__ = ["Progress", "Settings"]


@dataclass(kw_only=True)
class Settings(market.Settings):
    """What Prime Intellect has beyond every market.

    A pod that boots shows PROVISIONING for the first half of `progress` and ACTIVE with its installation's progress for
    the second. `restart` is only for pods with `autoRestart`.
    """

    finished_word: str = "FINISHED"
    """The installation status of a pod that is up: the CLI looks for FINISHED, the documentation says COMPLETE."""
    installation_shown: bool = True
    """Whether the installation's fields are there at all; some providers leave them null."""
    connections_as_lists: bool = False
    """Whether `ip` and `sshConnection` are lists, as for several nodes: `[null]` until they are known."""
    deletion_seconds: float = 0.0
    """How long an ended pod stays DELETING, and bills."""
    shows_terminated: bool = False
    """Whether details of an ended pod are TERMINATED and not 404."""
    max_price_required: bool = False
    """Whether a creation without `maxPrice` is refused, as the service did for a while (prime#141)."""
    stopped_share: float = 0.1
    """What a stopped pod costs, as a share of its price."""
