"""The tables of the history and of the service, as the newest migration leaves them.

`migrations/` makes them; a test holds both together.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

REVISIONS = ("0001", "0002", "0003", "0004")
"""Of migrations/versions, oldest first; a file at any other is a newer program's."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MILLION = 1_000_000


class Moment(TypeDecorator[datetime]):
    """An aware moment, kept as microseconds since 1970, so that moments can be compared and subtracted in SQL."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite's integers have as many bits as they need, and one name."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """To the database."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ANN401, ARG002 - whatever it holds; SQLAlchemy's signature
        """From the database. Raises ValueError when it holds no moment there."""
        if value is None:
            return None
        if not isinstance(value, int):
            raise ValueError("no moment")  # noqa: TRY004 - the database's fault, like a number that is out of range
        return _EPOCH + value * _MICROSECOND


class Usd(TypeDecorator[Decimal]):
    """US dollars, kept as text: exact."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """To the database."""
        return None if value is None else f"{value:f}"

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:  # noqa: ANN401, ARG002 - whatever it holds; SQLAlchemy's signature
        """From the database. Raises ValueError when it holds no price there."""
        if value is None:
            return None
        try:
            price = Decimal(value)
        except ArithmeticError:
            raise ValueError("no price") from None
        if not price.is_finite() or price < 0:
            raise ValueError("no price")
        return price


class Millionths(TypeDecorator[Decimal]):
    """US dollars that are summed up by the database: whole millionths, rounded up."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """See `Moment`."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else BigInteger())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """To the database."""
        return None if value is None else int((value * _MILLION).to_integral_value(ROUND_CEILING))

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:  # noqa: ANN401, ARG002 - whatever it holds; SQLAlchemy's signature
        """From the database; a sum may come as a decimal. Raises ValueError when it holds no price there."""
        return None if value is None else Decimal(int(value)) / _MILLION


class Words(TypeDecorator[str]):
    """Text that may have come from anybody: what PostgreSQL or UTF-8 cannot hold is replaced."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """To the database."""
        return None if value is None else value.encode(errors="replace").decode().replace("\0", "\ufffd")


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

BEGINNINGS = Table("beginnings", METADATA, Column("at", Moment, nullable=False))  # the first one counts

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("permission", Words, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("budget", Usd),
    # Of several keys of one name all but one are revoked.
    Index(
        "api_keys_name",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

REQUESTS = Table(
    "idempotent_requests",
    METADATA,
    Column("caller", Words, primary_key=True),
    Column("operation", Words, primary_key=True),
    Column("key", Words, primary_key=True),
    Column("digest", Words, nullable=False),
    Column("pod_name", Words, nullable=False),
    Column("holder", Words, nullable=False),
    Column("held_until", Moment, nullable=False),
    Column("begun_at", Moment, nullable=False),
    Column("status", Integer),
    Column("body", Words),
    Index("idempotent_requests_begun_at", "begun_at"),
)

SERVED_PODS = Table(
    "served_pods",
    METADATA,
    Column("name", Words, primary_key=True),
    Column("nonce", Words),
    Column("contract", Words, nullable=False),
    Column("key_id", Words),
    Column("label", Words, nullable=False),
    Column("requested_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("reserved", Usd, nullable=False),
    Column("provider", Words),
    Column("id", Words),
    Column("price", Usd),
    Column("gpu_model", Words),
    Column("gpu_count", Integer),
    Column("interruptible", Boolean),
    Column("image", Words),
    Column("facts", Words, nullable=False),
    Column("created_at", Moment),
    Column("ended_at", Moment),
    Column("cost", Usd),
    Column("counted", Millionths, nullable=False),
    Column("sent_at", Moment),
    Column("given_up_at", Moment),
    Index("served_pods_id", "id"),  # may come again: a market may name its pods after their machines
    Index("served_pods_key_id", "key_id"),
    Index("served_pods_created_at", "created_at"),
    Index("served_pods_ended_at", "ended_at"),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("at", Moment, nullable=False),
    Column("request_id", Words, nullable=False),
    Column("operation", Words, nullable=False),
    Column("key_id", Words),
    Column("target", Words, nullable=False),
    Column("provider", Words, nullable=False),
    Column("status", Integer),
    Column("error", Words, nullable=False),
    Column("client", Words, nullable=False),
    Index("audit_at", "at"),
)
