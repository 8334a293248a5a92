"""The service's own keys: who may ask what of it, and how a key is told from any other text.

A plain key is `rpk_<id>_<secret>`. Only the id and a digest of the secret are kept; the secret has 192 random bits, so
that no digest of it can be turned back by trying, and none has to be slow.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Self

from runner_provisioner.domain.money import check_amount
from runner_provisioner.errors import InvalidRequest

ID_BYTES = 6
SECRET_BYTES = 24
NAME_LIMIT = 60
_PLAIN = re.compile(rf"rpk_([0-9a-f]{{{2 * ID_BYTES}}})_([0-9a-f]{{{2 * SECRET_BYTES}}})")
_NO_DIGEST = bytes(32)  # of nothing that anybody could send
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._@-]*[A-Za-z0-9])?")


class Permission(StrEnum):
    """What a key is good for."""

    READ = "read"
    WRITE = "read+write"

    def covers(self, needed: Permission) -> bool:
        """Whether who has this may do what needs that."""
        return self is Permission.WRITE or needed is Permission.READ


class KeyStatus(StrEnum):
    """Whether a key is good now."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is kept of a key.

    `budget` is what all pods that were made with it may cost together in its life, in US dollars; None: any sum.
    Raises InvalidRequest for a name, a budget or an expiry that can be none.
    """

    id: str
    name: str
    permission: Permission
    digest: bytes = field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    budget: Decimal | None = None

    def __post_init__(self) -> None:
        """Check what a user gave."""
        if len(self.name) > NAME_LIMIT or not _NAME.fullmatch(self.name):
            raise InvalidRequest(
                f"--name {self.name!r}: give 1 to {NAME_LIMIT} letters, digits, blanks or ._@-, at its ends no sign"
            )
        if self.budget is not None:
            check_amount("--budget", self.budget)
        if self.expires_at is not None and self.expires_at <= self.created_at:
            raise InvalidRequest("--expires-in: a key has to be good for some time")

    def status(self, now: datetime) -> KeyStatus:
        """Whether it is good at that moment."""
        if self.revoked_at is not None:
            return KeyStatus.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return KeyStatus.EXPIRED
        return KeyStatus.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainKey:
    """A key as its user has it. Shown once, when it is made; never kept."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def of(cls, key_id: bytes, secret: bytes) -> Self:
        """The key made of `ID_BYTES` and `SECRET_BYTES` random bytes."""
        return cls(id=key_id.hex(), secret=secret.hex())

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a bearer token; None when it cannot be a key of ours."""
        found = _PLAIN.fullmatch(text)
        return cls(id=found[1], secret=found[2]) if found else None

    @property
    def text(self) -> str:
        """What its user sends."""
        return f"rpk_{self.id}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What is kept of it."""
        return hashlib.sha256(self.text.encode()).digest()

    def opens(self, kept: ApiKey | None) -> bool:
        """Whether it is the kept key, found out in the same time whatever differs; nothing opens None."""
        return hmac.compare_digest(self.digest, kept.digest if kept is not None else _NO_DIGEST)
