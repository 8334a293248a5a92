"""The simulated GitHub's memory: who and what there is, and what time alone changes about it.

Timed things are evaluated lazily: `lapse` is called at the beginning of every operation. All methods expect the caller
to hold `lock`, except where they take it themselves.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from runner_provisioner.simulators.github.entities import (
    DEFAULT_GROUP,
    Account,
    ApiError,
    Group,
    Repository,
    RunnerRecord,
    not_found,
)
from runner_provisioner.simulators.github.tokens import Credentials

EPHEMERAL_LIFE = timedelta(days=1)
OTHER_LIFE = timedelta(days=14)
JIT_LIFE = timedelta(minutes=5)


class SimClock(Protocol):
    """The part of a clock that the simulator needs."""

    def now(self) -> datetime:
        """Aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(kw_only=True)
class Settings:
    """How this GitHub behaves where the real one varies.

    `release_lag`: seconds a runner stays registered and busy after its job. `shutdown_conclusion`: of a job whose
    runner was told to stop (both values are seen: paradedb#5305). `core_limit`: requests an hour; `secondary_points`:
    points a minute (None = not limited). `lock_minutes`: how long a job survives its runner (runner#3539).
    """

    release_lag: float = 0.0
    shutdown_conclusion: str = "failure"
    core_limit: int = 5000
    secondary_points: int | None = None
    lock_minutes: float = 10.0
    runner_version: str = "2.338.0"


class World:
    """Accounts, repositories, groups, runners and credentials."""

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.settings = Settings()
        self.origin = "http://github.test"
        self.credentials = Credentials(clock.now)
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, Repository] = {}
        self.groups: dict[str, list[Group]] = {}
        self.runners: dict[int, RunnerRecord] = {}
        self.violations: list[str] = []
        self._ids = itertools.count(1)

    def next_id(self) -> int:
        """A fresh number for anything."""
        return next(self._ids)

    # ------------------------------------------------------------------ accounts and repositories
    def account(self, login: str, *, organisation: bool = False) -> Account:
        """The account of this name, made when there is none."""
        found = self.accounts.get(login.lower())
        if found is None:
            found = Account(id=9000 + self.next_id(), login=login, organisation=organisation)
            self.accounts[login.lower()] = found
        if organisation and not found.organisation:
            found.organisation = True
        if found.organisation and login.lower() not in self.groups:
            self.groups[login.lower()] = [Group(id=DEFAULT_GROUP, name="Default")]
        return found

    def organisation(self, login: str) -> Account:
        """An organisation by name; 404."""
        found = self.accounts.get(login.lower())
        if found is None or not found.organisation:
            raise not_found()
        return found

    def repository(self, full_name: str) -> Repository:
        """A repository by its present name; 404."""
        found = self.repositories.get(full_name.lower())
        if found is None:
            raise not_found()
        return found

    def repository_by_id(self, repository_id: int) -> Repository:
        """A repository by number; 404."""
        for repository in self.repositories.values():
            if repository.id == repository_id:
                return repository
        raise not_found()

    def rename(self, repository: Repository, name: str) -> None:
        """Give it another name; the old one redirects."""
        self.renamed[repository.key] = repository
        del self.repositories[repository.key]
        repository.name = name
        self.repositories[repository.key] = repository

    def group(self, organisation: Account, group_id: int) -> Group:
        """A runner group; 404."""
        for group in self.groups[organisation.login.lower()]:
            if group.id == group_id:
                return group
        raise not_found()

    def group_named(self, organisation: Account, name: str) -> Group:
        """A runner group by name; 404."""
        for group in self.groups[organisation.login.lower()]:
            if group.name.lower() == name.lower():
                return group
        raise not_found()

    def scope_of_url(self, url_path: str) -> str:
        """`/owner/name` or `/org` of a registration URL as a scope; 404 when it is neither."""
        parts = [part for part in url_path.strip("/").split("/") if part]
        if len(parts) == 1:
            return self.organisation(parts[0]).login.lower()
        if len(parts) != 2:  # noqa: PLR2004 - owner and name
            raise not_found()
        return self.repository("/".join(parts)).key

    # ------------------------------------------------------------------ runners
    def runners_of(self, scope: str) -> list[RunnerRecord]:
        """Of exactly this scope, oldest first."""
        return [runner for runner in self.runners.values() if runner.scope == scope]

    def runner(self, scope: str, runner_id: int) -> RunnerRecord:
        """One of this scope by id; 404."""
        found = self.runners.get(runner_id)
        if found is None or found.scope != scope:
            raise not_found()
        return found

    def runner_of_credential(self, credential: str) -> RunnerRecord:
        """The runner that shows this secret; 401 when it is no longer registered."""
        for runner in self.runners.values():
            if secrets.compare_digest(runner.credential, credential):
                return runner
        raise ApiError(401, "The runner no longer exists on the server")

    def add_runner(
        self,
        scope: str,
        name: str,
        labels: tuple[str, ...],
        *,
        ephemeral: bool = True,
        group_id: int = DEFAULT_GROUP,
        work_folder: str = "_work",
        jit: bool = False,
    ) -> RunnerRecord:
        """Register; 409 when the name is taken in this scope."""
        if any(each.name.lower() == name.lower() for each in self.runners_of(scope)):
            raise ApiError(409, f"Already exists - A runner with the name {name} already exists.")
        now = self.clock.now()
        runner = RunnerRecord(
            id=self.next_id(),
            name=name,
            scope=scope,
            labels=labels,
            created_at=now,
            offline_since=now,
            credential=secrets.token_hex(24),
            group_id=group_id,
            ephemeral=ephemeral,
            work_folder=work_folder,
            usable_until=now + JIT_LIFE if jit else None,
        )
        self.runners[runner.id] = runner
        return runner

    def remove_runner(self, runner: RunnerRecord) -> None:
        """Delete a registration; 422 while it is busy."""
        if runner.busy:
            text = f"Bad request - Runner '{runner.name}' is still running a job"
            raise ApiError(422, text)
        self.forget(runner)

    def forget(self, runner: RunnerRecord) -> None:
        """Delete a registration, busy or not, and hang up on its listener."""
        self.runners.pop(runner.id, None)
        if runner.session is not None:
            runner.session.tell("gone")

    def sees(self, runner: RunnerRecord, repository: Repository) -> bool:
        """Whether jobs of the repository may land on this runner."""
        if "/" in runner.scope:
            return runner.scope == repository.key
        if runner.scope != repository.owner.login.lower():
            return False
        return self.group(repository.owner, runner.group_id).sees(repository)

    def went_offline(self, runner: RunnerRecord) -> None:
        """Its listener is gone; a job that it has keeps it busy until the lock runs out."""
        runner.session = None
        runner.played = False
        runner.offline_since = self.clock.now()

    def lapse(self) -> None:
        """Let time alone remove what it removes: long-offline runners, unused JIT runners, lagging registrations."""
        now = self.clock.now()
        for runner in list(self._lapsed(now)):
            self.forget(runner)

    def _lapsed(self, now: datetime) -> Iterator[RunnerRecord]:
        for runner in self.runners.values():
            if runner.release_at is not None and now >= runner.release_at:
                yield runner
            elif runner.online or runner.job is not None:
                continue
            elif runner.usable_until is not None and now >= runner.usable_until:
                # An idle JIT runner disappears within minutes (runner#4726, ubicloud#2957).
                yield runner
            elif now >= runner.offline_since + (EPHEMERAL_LIFE if runner.ephemeral else OTHER_LIFE):
                yield runner
