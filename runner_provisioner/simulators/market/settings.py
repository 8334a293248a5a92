"""How a simulated market behaves; everything can be changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
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
        """The first `polls` looks show a pod that is not up yet."""
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
    """How long the list of pods does not know new pods and still knows ended ones."""
    restart: bool = True
    """Whether a container whose command ended is started again."""
    restart_delay: float = 5.0
    interruption_grace: float = 5.0
    """From SIGTERM to SIGKILL when the provider takes the pod away."""
    interruption_removes: bool = False
    """Whether a pod that the provider takes is gone, and not just stopped."""
    terminate_grace: float = 5.0
    """From SIGTERM to SIGKILL when the user stops or terminates it."""
    inert_ssh: bool = True
    """Whether pods without a process show a public port for what they expose."""
    unpullable: set[str] = field(default_factory=set)
    """Images that no registry has: their pods never come up."""
