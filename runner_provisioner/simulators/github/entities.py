"""What the simulated GitHub keeps: accounts, repositories, runner groups and runners, and the errors it answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner_provisioner.simulators.github.runs import Job

DEFAULT_GROUP = 1
READ_ONLY_LABELS = frozenset({"self-hosted", "linux", "windows", "macos", "x64", "arm", "arm64"})


class ApiError(Exception):
    """An answer that is not a success: status, GitHub's message, and headers that explain it."""

    def __init__(
        self, status: int, message: str, *, headers: Mapping[str, str] | None = None, url: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        self.url = url


def not_found() -> ApiError:
    """What GitHub says of things that are not there, or not for the asker to know of."""
    return ApiError(404, "Not Found")


@dataclass(kw_only=True, eq=False)
class Account:
    """A user or an organisation."""

    id: int
    login: str
    organisation: bool = False


@dataclass(kw_only=True, eq=False)
class Repository:
    """A repository; `workspace` is the local folder that `actions/checkout` copies."""

    id: int
    owner: Account
    name: str
    private: bool = True
    workspace: Path | None = None
    created_at: datetime

    @property
    def full_name(self) -> str:
        """`owner/name`."""
        return f"{self.owner.login}/{self.name}"

    @property
    def key(self) -> str:
        """Names are compared in lower case."""
        return self.full_name.lower()


@dataclass(kw_only=True, eq=False)
class Group:
    """A runner group of an organisation; `repositories` (ids) count when the visibility is `selected`."""

    id: int
    name: str
    visibility: str = "all"
    repositories: set[int] = field(default_factory=set)
    allows_public: bool = True

    @property
    def default(self) -> bool:
        """Whether runners land here when they name no group."""
        return self.id == DEFAULT_GROUP

    def sees(self, repository: Repository) -> bool:
        """Whether jobs of this repository may use the group's runners."""
        if not repository.private and not self.allows_public:
            return False
        if self.visibility == "selected":
            return repository.id in self.repositories
        return self.visibility == "all" or repository.private


@dataclass(kw_only=True, eq=False)
class Session:
    """A listener's open connection; `messages` are the lines that it has yet to be told."""

    messages: deque[str] = field(default_factory=deque)
    open: bool = True

    def tell(self, message: str) -> None:
        """Queue a line."""
        self.messages.append(message)


@dataclass(kw_only=True, eq=False)
class RunnerRecord:
    """A registered runner.

    `scope` is `owner/name` or `org` in lower case; `usable_until` limits an unused JIT config; a `played` one has no
    process behind it and is connected as long as that is set.
    """

    id: int
    name: str
    scope: str
    labels: tuple[str, ...]
    created_at: datetime
    offline_since: datetime
    credential: str = field(repr=False)
    group_id: int = DEFAULT_GROUP
    ephemeral: bool = True
    version: str | None = None
    work_folder: str = "_work"
    work_root: str = "/runner/_work"
    session: Session | None = None
    job: Job | None = None
    usable_until: datetime | None = None
    release_at: datetime | None = None
    played: bool = False

    @property
    def online(self) -> bool:
        """Whether its listener is connected."""
        return self.played or (self.session is not None and self.session.open)

    @property
    def busy(self) -> bool:
        """Whether GitHub believes that it has a job."""
        return self.job is not None or self.release_at is not None

    def accepts(self, labels: tuple[str, ...]) -> bool:
        """Whether a job that asks for `labels` may run here: a subset is enough, and case does not count."""
        own = {label.lower() for label in self.labels}
        return {label.lower() for label in labels} <= own
