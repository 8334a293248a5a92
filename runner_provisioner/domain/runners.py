"""A runner's registration, as GitHub keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NewType

RunnerId = NewType("RunnerId", int)


_CREATOR = "rp-pod-"
_ENDS = "rp-ends-"
_PROVIDER = "rp-at-"
_MINUTE = "%Y%m%dt%H%Mz"


def creator_label(creator: str) -> str:
    """The label by which a runner tells who rented its pod: two starts of one key share its name."""
    return _CREATOR + creator


def end_label(expires_at: datetime) -> str:
    """The label by which a runner tells to the minute when its pod ends itself: the pod cannot say it any more."""
    return _ENDS + expires_at.astimezone(UTC).strftime(_MINUTE)


def provider_label(provider: str) -> str:
    """The label by which a runner tells where its pod is, to who has no key of that provider and sees no pod."""
    return _PROVIDER + provider


class RunnerState(StrEnum):
    """What GitHub believes a runner is doing."""

    OFFLINE = "offline"
    IDLE = "idle"
    BUSY = "busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A registered runner. A runner can be busy and offline: GitHub says busy until the job's lock has run out."""

    id: RunnerId
    name: str
    state: RunnerState
    labels: tuple[str, ...] = ()
    online: bool = True

    @property
    def creator(self) -> str | None:
        """Who rented its pod; None where its labels do not say."""
        return self._told(_CREATOR)

    @property
    def provider(self) -> str | None:
        """Where its pod is; None where its labels do not say."""
        return self._told(_PROVIDER)

    @property
    def pod_ends_at(self) -> datetime | None:
        """When its pod ends itself; None where its labels do not say."""
        told = self._told(_ENDS)
        try:
            return datetime.strptime(told, _MINUTE).replace(tzinfo=UTC) if told is not None else None
        except ValueError:
            return None

    def _told(self, kind: str) -> str | None:
        found = (label.removeprefix(kind) for label in self.labels if label.startswith(kind))
        return next(found, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerDownload:
    """Where the runner's program lies and what it must hash to (SHA-256, lower-case hexadecimal)."""

    version: str
    url: str
    sha256: str
    architecture: str = "x64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a pod needs to register one runner; the token is good for an hour and for any number of runners."""

    url: str
    token: str = field(repr=False)
    expires_at: datetime


class RunStatus(StrEnum):
    """How far an attempt of a workflow run has come."""

    ACTIVE = "active"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job of one attempt; `runner_name` and the times are None until a runner has taken it."""

    id: int
    name: str
    status: str
    conclusion: str | None
    labels: tuple[str, ...]
    runner_name: str | None
    started_at: datetime | None = None
    completed_at: datetime | None = None
