"""The first form: pods, refusals and bad machines. Money is text, moments are microseconds since 1970."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

MOMENT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0001"
down_revision = None


def upgrade() -> None:
    """From the empty file."""
    op.create_table(
        "pods",
        *_kind(),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("price", sa.String, nullable=False),
        sa.Column("list_price", sa.String, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("requested_at", MOMENT),
        sa.Column("machine", sa.String),
        sa.Column("repository", sa.String),
        sa.Column("online_at", MOMENT),
        sa.Column("job_at", MOMENT),
        sa.Column("job_ended_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("ending", sa.String),
        sa.UniqueConstraint("provider", "id", name="pods_identity"),
    )
    op.create_index("pods_created_at", "pods", ["created_at"])
    op.create_table(
        "refusals",
        *_kind(),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.UniqueConstraint(
            "provider", "gpu_model", "gpu_count", "interruptible", "region", "at", "reason", name="refusals_identity"
        ),
    )
    op.create_index("refusals_at", "refusals", ["at"])
    op.create_table(
        "bad_machines",
        sa.Column("provider", sa.String, nullable=False),
        sa.Column("machine", sa.String, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.UniqueConstraint("provider", "machine", "at", "reason", name="bad_machines_identity"),
    )
    op.create_index("bad_machines_at", "bad_machines", ["at"])


def _kind() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("provider", sa.String, nullable=False),
        sa.Column("gpu_model", sa.String, nullable=False),
        sa.Column("gpu_count", sa.Integer, nullable=False),
        sa.Column("interruptible", sa.Boolean, nullable=False),
        sa.Column("region", sa.String, nullable=False),
    )
