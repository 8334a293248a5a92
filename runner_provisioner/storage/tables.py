"""The history's tables, as the newest migration leaves them. `migrations/` makes them; a test holds both together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Boolean, Column, Index, Integer, MetaData, String, Table, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

REVISIONS = ("0001", "0002")  # of migrations/versions, oldest first; a file at any other is a newer program's
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware moment, kept as microseconds since 1970, so that moments can be compared and subtracted in SQL."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """To the file."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ANN401, ARG002 - whatever the file holds; SQLAlchemy's signature
        """From the file. Raises ValueError when it holds no moment there."""
        if value is None:
            return None
        if not isinstance(value, int):
            raise ValueError("no moment")  # noqa: TRY004 - the file's fault, like a number that is out of range
        return _EPOCH + value * _MICROSECOND


class Usd(TypeDecorator[Decimal]):
    """US dollars, kept as text: exact."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """To the file."""
        return None if value is None else f"{value:f}"

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:  # noqa: ANN401, ARG002 - whatever the file holds; SQLAlchemy's signature
        """From the file. Raises ValueError when it holds no price there."""
        if value is None:
            return None
        try:
            price = Decimal(value)
        except ArithmeticError:
            raise ValueError("no price") from None
        if not price.is_finite() or price < 0:
            raise ValueError("no price")
        return price


METADATA = MetaData()


def _kind() -> tuple[Column[Any], ...]:
    """The columns of an OfferKind; no region is the empty text, since no NULL equals another in a unique key."""
    return (
        Column("provider", String, nullable=False),
        Column("gpu_model", String, nullable=False),
        Column("gpu_count", Integer, nullable=False),
        Column("interruptible", Boolean, nullable=False),
        Column("region", String, nullable=False),
    )


PODS = Table(
    "pods",
    METADATA,
    *_kind(),
    Column("id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("price", Usd, nullable=False),
    Column("list_price", Usd, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("requested_at", Moment),
    Column("machine", String),
    Column("repository", String),
    Column("online_at", Moment),
    Column("job_at", Moment),
    Column("job_ended_at", Moment),
    Column("ended_at", Moment),
    Column("ending", String),
    UniqueConstraint("provider", "id", name="pods_identity"),
    Index("pods_created_at", "created_at"),
)

REFUSALS = Table(
    "refusals",
    METADATA,
    *_kind(),
    Column("at", Moment, nullable=False),
    Column("reason", String, nullable=False),
    UniqueConstraint(
        "provider", "gpu_model", "gpu_count", "interruptible", "region", "at", "reason", name="refusals_identity"
    ),
    Index("refusals_at", "at"),
)

BAD_MACHINES = Table(
    "bad_machines",
    METADATA,
    Column("provider", String, nullable=False),
    Column("machine", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("reason", String, nullable=False),
    UniqueConstraint("provider", "machine", "at", "reason", name="bad_machines_identity"),
    Index("bad_machines_at", "at"),
)

BEGINNINGS = Table("beginnings", METADATA, Column("at", Moment, nullable=False))  # one row at most
