"""Names by which everything is found again without stored state."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from runner_provisioner.errors import InvalidRequest

MANUAL_LETTERS = 8
"""Random letters of a manual name: of a thousand pods that end in one minute no two may share theirs."""
NAME_LIMIT = 60  # longest pod name known to work at RunPod (dstack uses as many)
_KEY = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_NAME = re.compile(r"rp-([0-9a-f]{8})-([0-9a-z]+)-([0-9]+)-([a-z0-9][a-z0-9-]*)")
_MANUAL = re.compile(r"rpm-([0-9a-f]{8})-([0-9a-z]{1,9})-([a-z]{4,12})")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int) -> str:
    """Write a whole number of at least zero in base 36."""
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
    return digits or "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where runners are registered: a repository, or a whole organisation when `repository` is None."""

    server_url: str
    owner: str
    repository: str | None = None

    @classmethod
    def parse(cls, text: str, *, server_url: str = "https://github.com") -> Self:
        """Read `owner` or `owner/repository`."""
        owner, _, repository = text.partition("/")
        good = re.compile(r"[A-Za-z0-9_.-]+")
        if not good.fullmatch(owner) or (repository and not good.fullmatch(repository)) or text.endswith("/"):
            message = f"'{text}' is neither an organisation nor owner/repository"
            raise InvalidRequest(message)
        return cls(server_url=server_url.rstrip("/"), owner=owner, repository=repository or None)

    @property
    def path(self) -> str:
        """`owner/repository`, or `owner` for an organisation."""
        return f"{self.owner}/{self.repository}" if self.repository else self.owner

    @property
    def url(self) -> str:
        """The address runners register with, in lower case only for the digest."""
        return f"{self.server_url.rstrip('/')}/{self.path}"

    @property
    def owner8(self) -> str:
        """The eight hexadecimal digits that stand for this scope in every name."""
        return self.owner8_of(None)

    def owner8_of(self, owner: str | None) -> str:
        """The digits for an owner that the user named instead, or for this scope."""
        return hashlib.sha256((owner or self.url).lower().encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """One place in one attempt of one run: what a pod and its runner are named after.

    Outside Actions `run` is a random part and `attempt` is 0.
    """

    owner8: str
    run: str
    attempt: int
    key: str

    def __post_init__(self) -> None:
        """Refuse a key that would make an invalid or too long name."""
        if not _KEY.fullmatch(self.key):
            message = f"--key '{self.key}' may hold a-z, 0-9 and inner dashes only"
            raise InvalidRequest(message)
        if len(self.name) > NAME_LIMIT:
            message = f"--key '{self.key}' is too long: shorten it by {len(self.name) - NAME_LIMIT}"
            raise InvalidRequest(message)

    @property
    def name(self) -> str:
        """The name of the pod and of its runner."""
        return f"rp-{self.owner8}-{self.run}-{self.attempt}-{self.key}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Read a name back; None when it is not one of a runner pod."""
        found = _NAME.fullmatch(name)
        if not found or not _KEY.fullmatch(found[4]) or len(name) > NAME_LIMIT:
            return None
        return cls(owner8=found[1], run=found[2], attempt=int(found[3]), key=found[4])

    @property
    def run_id(self) -> int | None:
        """The workflow run's id; None for a start outside Actions."""
        return int(self.run, 36) if self.attempt > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualName:
    """What the name of a pod made by hand says: whose it is and, to the minute, until when it may live."""

    owner8: str
    expires_at: datetime
    letters: str

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Read a name back; None when it is not one that `manual_name` gave."""
        found = _MANUAL.fullmatch(name)
        if not found:
            return None
        try:
            expires_at = datetime.fromtimestamp(int(found[2], 36) * 60, UTC)
        except (OverflowError, ValueError):
            return None
        return cls(owner8=found[1], expires_at=expires_at, letters=found[3])


def manual_name(owner8: str, expires_at: datetime, letters: str) -> str:
    """Name a pod made by hand by its owner, its end rounded up to the minute, and `MANUAL_LETTERS` random letters.

    Raises InvalidRequest when the owner or the letters do not fit.
    """
    minutes = -int(-expires_at.timestamp() // 60)
    name = f"rpm-{owner8}-{base36(max(0, minutes))}-{letters}"
    if not _MANUAL.fullmatch(name):
        message = (
            f"'{name}' is no name for a pod made by hand: owner is 8 hexadecimal digits, letters are 4 to 12 of a-z"
        )
        raise InvalidRequest(message)
    return name
