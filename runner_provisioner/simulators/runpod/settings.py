"""How the simulated service behaves; everything can be changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Progress:
    """When the container of a new pod runs: after so many looks and so many seconds since the creation."""

    polls: int = 0
    seconds: float = 0.0

    @classmethod
    def immediate(cls) -> Self:
        """Right after the answer to the creation."""
        return cls()

    @classmethod
    def after_polls(cls, polls: int) -> Self:
        """The first `polls` looks show no runtime."""
        return cls(polls=polls)

    @classmethod
    def timed(cls, seconds: float) -> Self:
        """So many seconds after the creation, on the simulator's clock."""
        return cls(seconds=seconds)


@dataclass(kw_only=True)
class Settings:
    """All times in seconds on the simulator's clock."""

    progress: Progress = field(default_factory=Progress)
    list_lag: float = 0.0
    """How long `myself.pods` does not know new pods and still knows ended ones."""
    restart: bool = True
    """Whether a container whose command ended is started again."""
    restart_delay: float = 5.0
    interruption_grace: float = 5.0
    """From SIGTERM to SIGKILL when RunPod takes the pod away."""
    terminate_grace: float = 5.0
    """From SIGTERM to SIGKILL when the user stops or terminates it."""
    inert_ssh: bool = True
    """Whether pods without a process show a public port for every tcp port they asked for."""
    go_times: bool = False
    """Whether times are written as `2026-11-01 12:00:00.0 +0000 UTC` (seen in RunPod's own smoke tests)."""
    spend_limit: Decimal = Decimal(80)
    """US dollars per hour over all pods."""
    public_keys: str = ""
    """The account's SSH keys, one a line."""
    secrets: dict[str, str] = field(default_factory=dict)
    """What `{{ RUNPOD_SECRET_name }}` in a pod's environment stands for."""
    unpullable: set[str] = field(default_factory=set)
    """Images that no registry has: their pods never get a runtime."""
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
